//! What a group drives: the state machine that the caller brings.
//!
//! Not here: how entries get committed (`group`), how checkpoints are scheduled (`checkpoint`).

use crate::types::Payload;
use bytes::Bytes;

/// A committed entry, in log order. Entries that carry no payload (a leader's first entry, a
/// change of members) are not shown to the machine, so indices may skip.
#[derive(Debug, Clone)]
pub struct Committed {
    /// Index in the group's log.
    pub index: u64,
    /// Term of the leader that proposed it.
    pub term: u64,
    /// As it was proposed.
    pub payload: Payload,
}

/// A failure of the machine. It is final: the group stops and the process is told to end.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct MachineError(pub String);

impl MachineError {
    /// From any message.
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

/// Writes a checkpoint: gets the opaque applied state to store with it, and returns when all is
/// on disk. Runs on a blocking thread, concurrently with later applies.
pub type CheckpointJob = Box<dyn FnOnce(Bytes) -> Result<(), MachineError> + Send>;

/// A replicated state machine.
///
/// Every replica is shown the same entries in the same order, and must come to the same state:
/// no clock, no random number, no configuration in [`apply`](Machine::apply).
pub trait Machine: Send + Sync + 'static {
    /// The opaque applied state that came with the last durable checkpoint, which the machine has
    /// loaded before it was handed over. `None`: an empty machine.
    fn restored(&self) -> Option<Bytes>;

    /// Applies committed entries in memory and returns one reply for each.
    ///
    /// # Errors
    /// Only when the bytes cannot be an entry (a corrupt log): the group stops for good. A command
    /// that is refused is a reply, not an error.
    fn apply(&self, entries: &[Committed]) -> Result<Vec<Bytes>, MachineError>;

    /// Captures what the next checkpoint has to write. Called in order with `apply`: the job
    /// writes the state as of the entries applied so far, whatever is applied later.
    ///
    /// # Errors
    /// Final, like those of the job.
    fn begin_checkpoint(&self) -> Result<CheckpointJob, MachineError>;

    /// Bytes of memory, roughly, taken by what no checkpoint has stored and none is about to store. Asked after each
    /// [`apply`](Machine::apply); by default nothing.
    fn held_bytes(&self) -> u64 {
        0
    }

    /// The highest generation of a node's disk that this machine knows to have been in use, also of a node that was
    /// removed since; `None`: none. Asked of the catalog's machine, where a node with an empty disk is given the next one.
    fn generation_of(&self, _node: u64) -> Option<u64> {
        None
    }

    /// A consistent view of the last durable checkpoint, for a follower that is too far behind.
    ///
    /// # Errors
    /// When the state store cannot be read.
    fn snapshot_view(&self) -> Result<Box<dyn SnapshotReader>, MachineError>;

    /// Receives such a view. Until [`SnapshotWriter::finish`] nothing may change.
    ///
    /// # Errors
    /// When the state store cannot be written.
    fn snapshot_sink(&self) -> Result<Box<dyn SnapshotWriter>, MachineError>;
}

/// Reads a consistent view of a checkpoint chunk by chunk. Blocking; used on blocking threads.
pub trait SnapshotReader: Send + 'static {
    /// The opaque applied state of the checkpoint that this is a view of.
    fn applied(&self) -> Bytes;

    /// The next chunk, of 1 MiB at most; `None` at the end.
    ///
    /// # Errors
    /// When the state store cannot be read.
    fn next_chunk(&mut self) -> Result<Option<Bytes>, MachineError>;
}

/// Receives a view. Dropping it without `finish` leaves the machine as it was. Blocking.
pub trait SnapshotWriter: Send + 'static {
    /// Stores the next chunk aside.
    ///
    /// # Errors
    /// When the state store cannot be written or the chunk is malformed.
    fn write(&mut self, chunk: Bytes) -> Result<(), MachineError>;

    /// Switches to the received state, in the store (durably, atomically, with `applied`) and in
    /// memory. Called in order with `apply`.
    ///
    /// # Errors
    /// When the state store cannot be written; the group stops then.
    fn finish(self: Box<Self>, applied: Bytes) -> Result<(), MachineError>;
}
