//! Local queues, which have no log: what memory has no room for moves to a store that ends with the process.
//!
//! A *spill* is a checkpoint of messages alone. It begins, is written and ends as one (`checkpoint`), but takes no more than
//! it is told to, of the queues that have most in memory and of these the oldest: small queues, whose messages are gone
//! again soon, stay in memory.

use super::ShardMachine;
use super::checkpoint::{CheckpointDelta, CheckpointToken, DeadRange, Stretch};
use crate::ids::QueueId;
use bytes::Bytes;
use std::cmp::Reverse;

impl ShardMachine {
    /// Begins to move messages of about `room` bytes to the store, and takes what the store may delete. O(queues
    /// that have messages).
    ///
    /// # Panics
    /// If the last one has not ended.
    pub fn begin_spill(&mut self, mut room: usize) -> CheckpointDelta {
        assert!(self.running.is_none(), "one spill at a time");
        let dirty = self.take_dirty();
        let weight = |queue: &QueueId| self.queue(*queue).map(|state| state.weight_in_memory());
        let mut by_weight: Vec<_> = dirty
            .iter()
            .filter_map(|queue| Some((Reverse(weight(queue)?), *queue)))
            .collect();
        by_weight.sort_unstable();
        let before = room;
        let mut stretches = Vec::new();
        let mut deletes = Vec::new();
        let mut spilled = Vec::new();
        for (_, queue) in by_weight {
            let Some(state) = self.existing(queue) else {
                continue;
            };
            let known = stretches.len();
            state.begin_spill(
                &mut room,
                |from, to| stretches.push(Stretch { queue, from, to }),
                |from, to| {
                    deletes.push(DeadRange {
                        queue,
                        level: from.level(),
                        from,
                        to,
                    });
                },
            );
            if stretches.len() > known {
                spilled.push(queue);
            }
        }
        stretches.sort_unstable();
        deletes.sort_unstable();
        self.dirty = dirty;
        self.checkpoints += 1;
        self.running = Some((self.checkpoints, spilled));
        self.storing_bytes = (before - room).min(self.tail_bytes);
        CheckpointDelta {
            token: CheckpointToken(self.checkpoints),
            dropped_queues: self.take_dropped(),
            stretches,
            deletes,
            queue_records: Vec::new(),
            origins: Bytes::new(),
        }
    }

    /// Gives back memory that queues changed since the last call do not need now, and forgets of which of them the store
    /// has nothing to do. Returns whether there is anything that a spill would delete.
    pub fn trim(&mut self) -> bool {
        self.dropped.retain(|(_, was_stored)| *was_stored);
        let mut has_garbage = !self.dropped.is_empty();
        let mut dirty = self.take_dirty();
        dirty.retain(|queue| {
            let Some(state) = self.existing(*queue) else {
                return false;
            };
            state.trim();
            state.dirty = state.concerns_store();
            has_garbage |= state.has_dead();
            state.dirty
        });
        self.dirty = dirty;
        has_garbage
    }

    /// Changed queues, each once.
    pub(super) fn take_dirty(&mut self) -> Vec<QueueId> {
        let mut queues = std::mem::take(&mut self.dirty);
        queues.sort_unstable();
        // A queue that was deleted and came back may be listed twice.
        queues.dedup();
        queues
    }
}
