//! When the groups of a node checkpoint: together.
//!
//! They share one log and one state store. Log that no checkpoint covers yet fills the log's write buffer,
//! whichever group it is of, and a checkpoint of one group costs a flush of the whole state store, which
//! may as well take the others along. So bytes are counted over all groups, and when they pass the limit
//! every group with a share worth mentioning checkpoints at once.

use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::watch;

/// A group with less than this part of the limit waits for the next time.
const WORTH: u64 = 64;

/// Bytes applied, over all groups, since each one's last checkpoint began.
pub(crate) struct Dirt {
    limit: u64,
    total: AtomicU64,
    /// How often the limit was passed.
    passed: watch::Sender<u64>,
}

impl Dirt {
    pub(crate) fn new(limit: u64) -> Self {
        Self {
            limit,
            total: AtomicU64::new(0),
            passed: watch::Sender::new(0),
        }
    }

    /// A group has applied so much more.
    pub(crate) fn add(&self, bytes: u64) {
        let before = self.total.fetch_add(bytes, Ordering::Relaxed);
        if before < self.limit && before.saturating_add(bytes) >= self.limit {
            self.passed.send_modify(|times| *times += 1);
        }
    }

    /// A group that had so much begins anew.
    pub(crate) fn remove(&self, bytes: u64) {
        // Whatever is removed was added before.
        self.total.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Changes when the limit is passed.
    pub(crate) fn passed(&self) -> watch::Receiver<u64> {
        self.passed.subscribe()
    }

    /// The limit is passed, and a checkpoint of a group with so much helps.
    pub(crate) fn is_due(&self, own: u64) -> bool {
        self.total.load(Ordering::Relaxed) >= self.limit && self.is_worth(own)
    }

    /// Whether a group with so much takes part.
    pub(crate) fn is_worth(&self, own: u64) -> bool {
        own >= (self.limit / WORTH).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_groups_are_told_once_when_the_sum_passes_the_limit() {
        let dirt = Dirt::new(6400);
        let mut passed = dirt.passed();
        dirt.add(6000);
        assert!(!passed.has_changed().unwrap());
        dirt.add(400);
        dirt.add(400);
        assert!(passed.has_changed().unwrap());
        assert_eq!(*passed.borrow_and_update(), 1);
        assert!(dirt.is_due(400));
        assert!(!dirt.is_due(99), "too little to be worth a checkpoint");
        dirt.remove(6000);
        assert!(!dirt.is_due(800));
        dirt.add(6000);
        assert_eq!(*passed.borrow_and_update(), 2);
    }
}
