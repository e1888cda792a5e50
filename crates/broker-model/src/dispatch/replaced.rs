//! Queues that were deleted of late and declared again: they as they were refuse what is published to them.
//!
//! A node that stood still or was cut off does not know that a queue has another id now. What its clients publish would be
//! taken, confirmed, and forgotten with what is left of the old one. Ids are never used again. What is for a queue that is
//! deleted and not declared again is taken and forgotten, as what has nowhere to go.

use crate::ids::QueueId;
use crate::op::Target;
use std::collections::{HashSet, VecDeque};

/// How long a former id is remembered: longer than a publish waits at a node that is cut off. As long as there are none
/// batches are not even read.
const REMEMBERED_MS: u64 = 600_000;
/// Queues remembered, at most, the latest.
const REMEMBERED: usize = 4096;

/// Those that are remembered, with the times until which they are.
#[derive(Debug, Clone, Default)]
pub struct Replaced {
    order: VecDeque<(u64, QueueId)>,
    known: HashSet<QueueId>,
}

impl Replaced {
    /// A queue has another id now.
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

    /// Whether the queue of this target has another id now.
    pub(super) fn is(&self, target: &Target) -> bool {
        self.known.contains(&target.queue)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_replaced(replaced: &Replaced, queue: u64) -> bool {
        replaced.is(&Target::plain(QueueId(queue)))
    }

    #[test]
    fn remembered_for_a_time() {
        let mut replaced = Replaced::default();
        replaced.note(1_000, QueueId(1));
        replaced.note(2_000, QueueId(2));
        replaced.note(3_000, QueueId(1));
        for (queue, expected) in [(1, true), (2, true), (3, false)] {
            assert_eq!(is_replaced(&replaced, queue), expected, "{queue}");
        }
        replaced.forget(1_000 + REMEMBERED_MS);
        assert!(!is_replaced(&replaced, 1) && is_replaced(&replaced, 2));
        replaced.forget(2_000 + REMEMBERED_MS);
        assert!(replaced.is_empty() && replaced.known.is_empty());
    }

    #[test]
    fn no_more_than_so_many() {
        let mut replaced = Replaced::default();
        for id in 0..2 * REMEMBERED as u64 {
            replaced.note(1, QueueId(id));
        }
        assert_eq!(
            (replaced.order.len(), replaced.known.len()),
            (REMEMBERED, REMEMBERED)
        );
        assert!(is_replaced(&replaced, 2 * REMEMBERED as u64 - 1) && !is_replaced(&replaced, 0));
    }
}
