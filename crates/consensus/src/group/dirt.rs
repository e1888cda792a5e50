//! When the groups of a node checkpoint: together.
//!
//! They share one log and one state store. Log that no checkpoint covers yet is read again at the next start,
//! whichever group it is of, what it brought and is still needed takes memory, and a checkpoint of one group costs a flush of the whole state store,
//! which may as well take the others along. So both are counted over all groups, and when either passes its
//! limit every group with a share worth mentioning checkpoints at once. What was needed for a moment only costs
//! nothing then: the limit of the log is the larger one.

use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::watch;

/// A group with less than this part of a limit waits for the next time.
const WORTH: u64 = 64;

/// What a group would be rid of by a checkpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Share {
    /// Bytes of log applied since its last one began.
    pub(crate) log: u64,
    /// Bytes of memory.
    pub(crate) held: u64,
}

/// The sums over all groups.
pub(crate) struct Dirt {
    limits: Share,
    log: AtomicU64,
    held: AtomicU64,
    /// How often a limit was passed.
    passed: watch::Sender<u64>,
}

impl Dirt {
    pub(crate) fn new(limits: Share) -> Self {
        Self {
            limits,
            log: AtomicU64::new(0),
            held: AtomicU64::new(0),
            passed: watch::Sender::new(0),
        }
    }

    /// A group's share changes.
    pub(crate) fn change(&self, before: Share, now: Share) {
        let log = shift(&self.log, before.log, now.log, self.limits.log);
        let held = shift(&self.held, before.held, now.held, self.limits.held);
        if log || held {
            self.passed.send_modify(|times| *times += 1);
        }
    }

    /// What the next checkpoints of all groups write, in bytes, before the log of the same can go.
    pub(crate) fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// Changes when a limit is passed.
    pub(crate) fn passed(&self) -> watch::Receiver<u64> {
        self.passed.subscribe()
    }

    /// A limit is passed, and a checkpoint of a group with this share helps.
    pub(crate) fn is_due(&self, own: Share) -> bool {
        let log = self.log.load(Ordering::Relaxed) >= self.limits.log;
        let held = self.held.load(Ordering::Relaxed) >= self.limits.held;
        (log || held) && self.is_worth(own)
    }

    /// Whether a group with this share takes part.
    pub(crate) fn is_worth(&self, own: Share) -> bool {
        let worth = |own, limit: u64| own >= (limit / WORTH).max(1);
        worth(own.log, self.limits.log) || worth(own.held, self.limits.held)
    }
}

/// Changes a sum; whether it passes `limit` by that.
fn shift(sum: &AtomicU64, before: u64, now: u64, limit: u64) -> bool {
    let Some(more) = now.checked_sub(before) else {
        // Whatever is taken away was added before.
        sum.fetch_sub(before - now, Ordering::Relaxed);
        return false;
    };
    if more == 0 {
        return false;
    }
    let was = sum.fetch_add(more, Ordering::Relaxed);
    was < limit && was.saturating_add(more) >= limit
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(log: u64) -> Share {
        Share { log, held: 0 }
    }

    #[test]
    fn all_groups_are_told_once_when_the_sum_passes_the_limit() {
        let dirt = Dirt::new(Share {
            log: 6400,
            held: 640,
        });
        let mut passed = dirt.passed();
        dirt.change(log(0), log(6000));
        assert!(!passed.has_changed().unwrap());
        dirt.change(log(0), log(400));
        dirt.change(log(400), log(800));
        assert!(passed.has_changed().unwrap());
        assert_eq!(*passed.borrow_and_update(), 1);
        assert!(dirt.is_due(log(400)));
        assert!(!dirt.is_due(log(99)), "too little to be worth a checkpoint");
        dirt.change(log(6000), log(0));
        assert!(!dirt.is_due(log(800)));
        dirt.change(log(0), log(6000));
        assert_eq!(*passed.borrow_and_update(), 2);
    }

    #[test]
    fn memory_counts_by_itself() {
        let dirt = Dirt::new(Share {
            log: 6400,
            held: 640,
        });
        let passed = dirt.passed();
        let (one, other) = (Share { log: 1, held: 600 }, Share { log: 9, held: 0 });
        dirt.change(Share::default(), one);
        dirt.change(Share::default(), other);
        assert!(!passed.has_changed().unwrap() && !dirt.is_due(one));
        dirt.change(one, Share { log: 2, held: 640 });
        assert!(passed.has_changed().unwrap());
        assert!(dirt.is_due(one) && !dirt.is_due(other));
        dirt.change(Share { log: 2, held: 640 }, Share { log: 3, held: 639 });
        assert!(!dirt.is_due(one));
    }
}
