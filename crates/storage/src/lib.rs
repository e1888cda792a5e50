//! Disks: the log of all Raft groups, and the state that checkpoints leave.
//!
//! Owns the log's files and the state's RocksDB database, their formats, the sync policy, and the refusal
//! to go on after a failed write. Nothing of RocksDB crosses the border of this crate. All calls
//! that read or flush block: never make them on an async worker thread.
//!
//! Not here: what entries, votes and messages mean (`consensus`, `broker-model`).

pub mod disk;
pub mod error;
mod failpoint;
pub mod log;
pub mod memory;
pub mod metrics;
mod poison;
mod sealed;
pub mod state;

pub use disk::Reserve;
pub use error::StorageError;
pub use log::{Done, GroupLog, LogBackend, LogEntry, LogOptions, LogStore};
pub use memory::MemoryLog;
pub use state::{
    Checkpoint, DeadRange, Existing, MessageKey, ShardInstall, ShardState, ShardView, StateOptions,
    StateStore,
};
