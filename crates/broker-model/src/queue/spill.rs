//! Moving messages of a queue without a log out of memory, the oldest first.

use super::QueueState;
use crate::ids::Sequence;
use crate::message::Message;

impl QueueState {
    /// Bytes that its messages in memory take, about: names and properties do not count.
    pub(crate) fn weight_in_memory(&self) -> usize {
        let bodies = usize::try_from(self.memory_bytes).unwrap_or(usize::MAX);
        bodies.saturating_add(self.count_in_memory() * Message::OVERHEAD)
    }

    fn count_in_memory(&self) -> usize {
        self.levels.iter().map(|level| level.tail.len()).sum()
    }

    /// Whether anything of it was ever written to the store.
    pub(crate) fn was_stored(&self) -> bool {
        self.levels.iter().any(|level| level.storing > 0)
    }

    /// Whether stored messages have died that are still in the store.
    pub(crate) fn has_dead(&self) -> bool {
        self.levels.iter().any(|level| !level.dead.is_empty())
    }

    /// Whether it has anything for the store: messages to write, or dead ones to delete.
    pub(crate) fn concerns_store(&self) -> bool {
        self.has_dead() || self.count_in_memory() > 0
    }

    /// The spill that begins deletes what is dead (`delete`), and stores messages from the oldest on, as many as have
    /// `room` bytes, which are counted down by about what they take; `put` gets them in order.
    pub(crate) fn begin_spill(
        &mut self,
        room: &mut usize,
        mut put: impl FnMut(Sequence, Sequence),
        delete: impl FnMut(Sequence, Sequence),
    ) {
        self.take_dead(delete);
        let mean = self.weight_in_memory() / self.count_in_memory().max(1);
        let mean = mean.max(Message::OVERHEAD);
        for level in &mut self.levels {
            let Some(first) = level.tail.first() else {
                continue;
            };
            // At least one: messages may be larger than all the room.
            let fits = room.div_ceil(mean) as u64;
            let last = (level.next - 1).min(first.saturating_add(fits) - 1);
            if fits == 0 || last < first {
                continue;
            }
            level.storing = last;
            let taken = usize::try_from(last - first + 1).unwrap_or(usize::MAX);
            *room = room.saturating_sub(taken.saturating_mul(mean));
            let name = level.level;
            put(Sequence::new(name, first), Sequence::new(name, last));
        }
    }
}
