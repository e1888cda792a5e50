//! What the parts below measure, under the names of the metrics page; and the broker's view of other
//! nodes for operators.

use crate::broker::Broker;
use broker_model::catalog::CatalogCommand;
use broker_model::ids::NodeId;
use consensus::{Connectivity, LATENCY_BOUNDS_MICROS};
use std::sync::atomic::Ordering;
use std::time::Duration;
use storage::metrics::HistogramSnapshot;

/// How long the removal of a node from all groups may take.
const REMOVAL: Duration = Duration::from_secs(600);

/// A distribution, cumulative.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Distribution {
    /// Name of the metric.
    pub name: &'static str,
    /// What it is.
    pub help: &'static str,
    /// Labels that all of it has, as they stand on the page.
    pub labels: &'static str,
    /// Upper bounds and how many values were at or below them.
    pub buckets: Vec<(f64, u64)>,
    /// Sum of all values.
    pub sum: f64,
    /// Number of all values.
    pub count: u64,
}

/// Everything that is measured.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Measured {
    /// Distributions.
    pub histograms: Vec<Distribution>,
    /// Name, help, value.
    pub gauges: Vec<(&'static str, &'static str, f64)>,
}

/// Why a node was not removed.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// Its groups.
    #[error(transparent)]
    Groups(#[from] consensus::AdminError),
    /// Its record.
    #[error(transparent)]
    Record(#[from] crate::catalog::writer::WriteError),
}

fn measure_log(log: &storage::LogStore, measured: &mut Measured) {
    let metrics = log.metrics();
    let load = |value: &std::sync::atomic::AtomicU64| value.load(Ordering::Relaxed) as f64;
    measured.histograms.extend([
        from_snapshot(
            "warren_log_fsync_seconds",
            "Time of one synced write of the log",
            &metrics.sync_us.snapshot(),
            1e-6,
        ),
        from_snapshot(
            "warren_log_batch_commands",
            "Commands of all groups in one synced write",
            &metrics.batch_commands.snapshot(),
            1.0,
        ),
    ]);
    measured.gauges.extend([
        (
            "warren_log_entries_written",
            "Entries written to the log since the start",
            load(&metrics.entries),
        ),
        (
            "warren_log_bytes_written",
            "Bytes of entries written since the start",
            load(&metrics.bytes),
        ),
        (
            "warren_log_queued_bytes",
            "Bytes that wait for the log's writer",
            load(&metrics.queued_bytes),
        ),
        (
            "warren_log_disk_bytes",
            "Disk space of the log",
            log.disk_usage() as f64,
        ),
    ]);
}

impl Broker {
    /// Reads what stores and groups of this node have measured since its start.
    #[must_use]
    pub fn measured(&self) -> Measured {
        let mut measured = Measured {
            histograms: vec![
                self.commit_latency(),
                self.metrics().message_sizes.distribution(),
            ],
            gauges: Vec::new(),
        };
        if let Some(log) = self.log_store() {
            measure_log(log, &mut measured);
        }
        measured
    }

    /// Time from proposing to applied, over all groups that this node leads.
    fn commit_latency(&self) -> Distribution {
        let mut buckets = [0; LATENCY_BOUNDS_MICROS.len() + 1];
        let mut sum_micros = 0;
        for group in self.consensus().groups() {
            let latencies = group.commit_latencies();
            for (sum, count) in buckets.iter_mut().zip(latencies.buckets) {
                *sum += count;
            }
            sum_micros += latencies.sum_micros;
        }
        cumulative(
            "rabbitmq_raft_commit_latency_seconds",
            "Time from proposing an entry to its being applied",
            &LATENCY_BOUNDS_MICROS,
            &buckets,
            sum_micros,
            1e-6,
        )
    }

    /// Whether a node answers now; this one does.
    #[must_use]
    pub fn is_alive(&self, node: NodeId) -> bool {
        node == self.origin().node
            || self
                .consensus()
                .peers()
                .connectivity()
                .borrow()
                .get(&node.0)
                == Some(&Connectivity::Connected)
    }

    /// Removes a node for good: from all groups, then its record.
    ///
    /// # Errors
    /// A group could not be changed in time, or the record not removed.
    pub async fn remove_node(&self, node: NodeId) -> Result<(), RemoveError> {
        // Only its record may be left of it.
        if self.consensus().is_known(node.0) {
            self.consensus().remove_node(node.0, REMOVAL).await?;
        }
        self.catalog_write(CatalogCommand::RemoveNode { node })
            .await?;
        Ok(())
    }
}

fn from_snapshot(
    name: &'static str,
    help: &'static str,
    snapshot: &HistogramSnapshot,
    unit: f64,
) -> Distribution {
    cumulative(
        name,
        help,
        snapshot.bounds,
        &snapshot.buckets,
        snapshot.sum,
        unit,
    )
}

/// Adds the counts of the buckets up, and turns bounds and sum into another unit.
pub(crate) fn cumulative(
    name: &'static str,
    help: &'static str,
    bounds: &[u64],
    counts: &[u64],
    sum: u64,
    unit: f64,
) -> Distribution {
    let mut seen = 0;
    let buckets = bounds
        .iter()
        .zip(counts)
        .map(|(bound, count)| {
            seen += count;
            (*bound as f64 * unit, seen)
        })
        .collect();
    Distribution {
        name,
        help,
        labels: "",
        buckets,
        sum: sum as f64 * unit,
        count: counts.iter().sum(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_added_up() {
        let made = cumulative("n", "h", &[10, 100], &[2, 3, 4], 900, 0.5);
        assert_eq!(made.buckets, [(5.0, 2), (50.0, 5)]);
        assert_eq!((made.count, made.sum), (9, 450.0));
    }
}
