//! Counters and histograms of a store, as plain atomics.
//!
//! Not here: names and formats of any monitoring system; whoever exports them reads a snapshot.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of latency buckets in microseconds; the last bucket of a histogram has none.
pub const LATENCY_BOUNDS_US: [u64; 14] = [
    50, 100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 51_200, 102_400, 409_600,
    1_638_400,
];

/// Upper bounds of batch size buckets in items.
pub const SIZE_BOUNDS: [u64; 14] = [
    1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024, 2_048, 4_096, 8_192,
];

/// Counts of values by size.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [u64; 14],
    buckets: [AtomicU64; 15],
    sum: AtomicU64,
}

/// What a [`Histogram`] had counted at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistogramSnapshot {
    /// Upper bounds, inclusive, of all buckets but the last.
    pub bounds: &'static [u64; 14],
    /// Values per bucket (not cumulative).
    pub buckets: [u64; 15],
    /// Sum of all values.
    pub sum: u64,
}

impl Histogram {
    pub(crate) fn new(bounds: &'static [u64; 14]) -> Self {
        Self {
            bounds,
            buckets: Default::default(),
            sum: AtomicU64::new(0),
        }
    }

    pub(crate) fn record(&self, value: u64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        if let Some(bucket) = self.buckets.get(bucket) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    pub(crate) fn record_time(&self, elapsed: Duration) {
        self.record(u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX));
    }

    /// What has been counted so far.
    #[must_use]
    pub fn snapshot(&self) -> HistogramSnapshot {
        HistogramSnapshot {
            bounds: self.bounds,
            buckets: std::array::from_fn(|at| {
                self.buckets
                    .get(at)
                    .map_or(0, |count| count.load(Ordering::Relaxed))
            }),
            sum: self.sum.load(Ordering::Relaxed),
        }
    }
}

impl HistogramSnapshot {
    /// Number of values.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The upper bound of the bucket in which the quantile `q` (0.0 to 1.0) lies; `None` without
    /// values or when it lies behind the last bound.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<u64> {
        let total = self.count();
        #[allow(clippy::cast_precision_loss)] // Counts are far below 2^52.
        let wanted = q * total as f64;
        let mut seen = 0;
        for (bound, count) in self.bounds.iter().zip(self.buckets) {
            seen += count;
            #[allow(clippy::cast_precision_loss)]
            if total > 0 && seen as f64 >= wanted {
                return Some(*bound);
            }
        }
        None
    }
}

/// What a log store counts.
#[derive(Debug)]
pub struct LogMetrics {
    /// Microseconds that one synced write took.
    pub sync_us: Histogram,
    /// Commands of all groups per synced write.
    pub batch_commands: Histogram,
    /// Entries written.
    pub entries: AtomicU64,
    /// Bytes of entries written.
    pub bytes: AtomicU64,
    /// Bytes of entries that wait for the writer now.
    pub queued_bytes: AtomicU64,
}

impl LogMetrics {
    pub(crate) fn new() -> Self {
        Self {
            sync_us: Histogram::new(&LATENCY_BOUNDS_US),
            batch_commands: Histogram::new(&SIZE_BOUNDS),
            entries: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            queued_bytes: AtomicU64::new(0),
        }
    }
}

/// What a state store counts.
#[derive(Debug)]
pub struct StateMetrics {
    /// Microseconds that one checkpoint took, its flush included.
    pub checkpoint_us: Histogram,
    /// Bytes of messages written by checkpoints and installs.
    pub bytes: AtomicU64,
    /// Messages written by checkpoints and installs.
    pub messages: AtomicU64,
    /// Messages read.
    pub reads: AtomicU64,
}

impl StateMetrics {
    pub(crate) fn new() -> Self {
        Self {
            checkpoint_us: Histogram::new(&LATENCY_BOUNDS_US),
            bytes: AtomicU64::new(0),
            messages: AtomicU64::new(0),
            reads: AtomicU64::new(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_fall_into_the_bucket_whose_bound_they_do_not_exceed() {
        let histogram = Histogram::new(&LATENCY_BOUNDS_US);
        for value in [0, 50, 51, 100, u64::MAX >> 1] {
            histogram.record(value);
        }
        let seen = histogram.snapshot();
        assert_eq!(seen.buckets[0], 2);
        assert_eq!(seen.buckets[1], 2);
        assert_eq!(seen.buckets[14], 1);
        assert_eq!(seen.count(), 5);
        assert_eq!(seen.quantile(0.5), Some(100));
        assert_eq!(seen.quantile(1.0), None);
        assert_eq!(Histogram::new(&SIZE_BOUNDS).snapshot().quantile(0.5), None);
    }
}
