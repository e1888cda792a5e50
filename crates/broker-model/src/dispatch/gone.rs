//! Queues that were deleted of late: a publish that is for none but them is refused.
//!
//! A node that stood still or was cut off does not know that a queue was deleted, and maybe declared again under
//! another id. What its clients publish would be taken, confirmed, and forgotten with what is left of the old one.
//! Ids are never used again.

use crate::ids::QueueId;
use crate::op::Target;
use std::collections::{HashSet, VecDeque};

/// How long a deleted queue is remembered: longer than a publish waits at a node that is cut off. As long as there are none
/// batches are not even read.
const REMEMBERED_MS: u64 = 600_000;
/// Queues remembered, at most, the latest.
const REMEMBERED: usize = 4096;

/// Those that are remembered, with the times until which they are.
#[derive(Debug, Clone, Default)]
pub struct Gone {
    order: VecDeque<(u64, QueueId)>,
    known: HashSet<QueueId>,
}

impl Gone {
    /// A queue was deleted.
    pub fn note(&mut self, now_ms: u64, queue: QueueId) {
        self.forget(now_ms);
        if !self.known.insert(queue) {
            return;
        }
        self.order
            .push_back((now_ms.saturating_add(REMEMBERED_MS), queue));
        if self.order.len() > REMEMBERED
            && let Some((_, oldest)) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    /// Forgets those whose time is over.
    pub(super) fn forget(&mut self, now_ms: u64) {
        while let Some((_, queue)) = self.order.pop_front_if(|(until_ms, _)| *until_ms <= now_ms) {
            self.known.remove(&queue);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Whether a message has nowhere to go any more.
    pub(super) fn are_all(&self, targets: &[Target]) -> bool {
        !targets.is_empty()
            && targets
                .iter()
                .all(|target| self.known.contains(&target.queue))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_gone(gone: &Gone, queues: &[u64]) -> bool {
        let targets: Vec<_> = queues
            .iter()
            .map(|id| Target::plain(QueueId(*id)))
            .collect();
        gone.are_all(&targets)
    }

    #[test]
    fn remembered_for_a_time() {
        let mut gone = Gone::default();
        gone.note(1_000, QueueId(1));
        gone.note(2_000, QueueId(2));
        gone.note(3_000, QueueId(1));
        for (queues, expected) in [
            (&[1][..], true),
            (&[1, 2], true),
            (&[1, 3], false),
            (&[3], false),
            (&[], false),
        ] {
            assert_eq!(is_gone(&gone, queues), expected, "{queues:?}");
        }
        gone.forget(1_000 + REMEMBERED_MS);
        assert!(!is_gone(&gone, &[1]) && is_gone(&gone, &[2]));
        gone.forget(2_000 + REMEMBERED_MS);
        assert!(gone.is_empty() && gone.known.is_empty());
    }

    #[test]
    fn no_more_than_so_many() {
        let mut gone = Gone::default();
        for id in 0..2 * REMEMBERED as u64 {
            gone.note(1, QueueId(id));
        }
        assert_eq!(
            (gone.order.len(), gone.known.len()),
            (REMEMBERED, REMEMBERED)
        );
        assert!(is_gone(&gone, &[2 * REMEMBERED as u64 - 1]) && !is_gone(&gone, &[0]));
    }
}
