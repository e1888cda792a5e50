//! A disk that takes long: this node hands its leaderships over, and takes none, until it is swift again.
//!
//! What a group has on a majority of disks is committed, also where this node's is not among them; but a leader whose own log
//! stands still keeps those waiting who look at it, and cannot even learn that it was followed by another.
//!
//! The same holds for good where the state store was found damaged before: whoever leads meets the damage again, and ends.
//!
//! Nothing moves unless some other node says that it is well: a disk that is slow for all gains nothing by it.

use super::hearing;
use super::syncs::{Counted, Syncs};
use crate::broker::Broker;
use broker_model::ids::NodeId;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tracing::{info, warn};

/// How often the log's write is looked at.
const LOOK: Duration = Duration::from_millis(400);
/// Looks that are so far apart say nothing.
const LATE: Duration = Duration::from_secs(1);
/// A write of the log that takes longer has met a disk that stands still: a sync takes milliseconds.
const LONG: Duration = Duration::from_millis(1500);
/// Slowest disk on which bytes are waited for, in bytes per millisecond.
const SLOWEST: u64 = 8 << 10;
/// A disk counts as well again when so much time has passed without such a write.
const WELL_AGAIN: Duration = Duration::from_secs(30);
/// How long leaderships may take to move.
const TRANSFER: Duration = Duration::from_secs(1);

/// Whether this node's disk has stood still lately, or its store is damaged.
#[derive(Debug, Default)]
pub(crate) struct Stall {
    last: Mutex<Option<Instant>>,
    damaged: bool,
}

impl Stall {
    /// Of a node whose state store was found damaged before, or was not.
    pub(crate) fn new(damaged: bool) -> Self {
        Self {
            damaged,
            ..Self::default()
        }
    }

    /// Whether no write took long lately, and the store is not known to be damaged.
    pub(crate) fn is_over(&self) -> bool {
        !self.damaged && self.is_swift()
    }

    fn is_swift(&self) -> bool {
        self.last
            .lock()
            .is_none_or(|last| last.elapsed() > WELL_AGAIN)
    }

    /// A write is taking long; whether that is news.
    fn begins(&self) -> bool {
        let news = self.is_swift();
        *self.last.lock() = Some(Instant::now());
        news
    }
}

/// Whether a write of so many bytes should have ended.
fn is_long((so_far, bytes): (Duration, usize)) -> bool {
    so_far > LONG + Duration::from_millis(bytes as u64 / SLOWEST)
}

/// What the log has counted until now; nothing where there is none on a disk.
fn counted(broker: &Broker) -> Counted {
    let counted = broker.log.as_ref().map(|log| {
        let times = log.metrics().sync_us.snapshot();
        Counted {
            syncs: times.count(),
            micros: times.sum,
        }
    });
    counted.unwrap_or_default()
}

/// Runs until the node stops. Notes in `syncs` how long they take, too.
pub(crate) async fn watch(broker: Arc<Broker>, stall: Arc<Stall>, syncs: Arc<Syncs>) {
    let mut ticks = consensus::ticks::every(LOOK);
    let mut last = Instant::now();
    loop {
        ticks.tick().await;
        // Where the process has stood still, the disk was not asked.
        let late = std::mem::replace(&mut last, Instant::now()).elapsed() > LATE;
        if late {
            continue;
        }
        let write = broker.consensus.log_write();
        let under_way = write.map_or(Duration::ZERO, |(so_far, _)| so_far);
        syncs.look(counted(&broker), under_way);
        let write = write.filter(|write| is_long(*write));
        let news = write.is_some() && stall.begins();
        if let Some((so_far, bytes)) = write.filter(|_| news) {
            warn!(
                for_ms = so_far.as_millis(),
                bytes,
                "the disk of this node takes long to write the log: other nodes lead until it is well again"
            );
        }
        let is_unfit = write.is_some() || stall.damaged;
        if !is_unfit || !hearing::leads_any(&broker) {
            continue;
        }
        let well = hearing::well_others(&broker).await;
        if !well.is_empty() {
            let wanted = |node| well.contains(&NodeId(node));
            broker.consensus.hand_over_to(wanted, TRANSFER).await;
        } else if news {
            info!("no other node is well: this one goes on leading");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_may_take_the_longer_the_more_it_is() {
        for (ms, bytes, long) in [
            (1_400, 0, false),
            (1_600, 0, true),
            (1_600, 8 << 20, false),
            (2_600, 8 << 20, true),
            (10_000, 128 << 20, false),
            (18_000, 128 << 20, true),
        ] {
            assert_eq!(
                is_long((Duration::from_millis(ms), bytes)),
                long,
                "{ms} {bytes}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_damaged_store_is_never_well() {
        let stall = Stall::new(true);
        assert!(!stall.is_over());
        assert!(stall.begins(), "a slow disk is news beside");
        tokio::time::sleep(WELL_AGAIN * 2).await;
        assert!(!stall.is_over());
    }

    #[tokio::test(start_paused = true)]
    async fn a_stall_is_remembered_for_a_while() {
        let stall = Stall::default();
        assert!(stall.is_over());
        assert!(stall.begins());
        assert!(!stall.begins());
        tokio::time::sleep(WELL_AGAIN / 2).await;
        assert!(!stall.begins());
        tokio::time::sleep(WELL_AGAIN + Duration::from_millis(1)).await;
        assert!(stall.is_over());
        assert!(stall.begins());
    }
}
