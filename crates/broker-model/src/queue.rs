//! The replicated state of one queue (skeleton of the interface).

use crate::ids::Sequence;
use crate::wire::StoredMessage;

/// The replicated state of one queue.
#[derive(Debug, Default)]
pub struct QueueState {}

impl QueueState {
    /// Messages that exist and are not dying, handed out or not.
    #[must_use]
    pub fn alive(&self) -> u64 {
        unimplemented!()
    }
    /// Messages kept for the dead letter publisher.
    #[must_use]
    pub fn dying(&self) -> u64 {
        unimplemented!()
    }
    /// Body bytes of alive messages. Exact for those in memory, by average for stored ones.
    #[must_use]
    pub fn alive_bytes(&self) -> u64 {
        unimplemented!()
    }
    /// A message that is in memory.
    #[must_use]
    pub fn in_memory(&self, sequence: Sequence) -> Option<&StoredMessage> {
        unimplemented!()
    }
}
