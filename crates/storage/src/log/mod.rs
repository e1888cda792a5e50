//! The log store: entries, votes and purge marks of all Raft groups of a node.
//!
//! Owns a row of append-only files and the single thread that writes them. Entries are
//! opaque; what a vote or a committed position means is the caller's business.
//!
//! Files of our own rather than a database: in RocksDB a body was copied seven times on its way to the disk, and whatever was
//! not purged when the write buffer was full was written once more.
//!
//! Not here: caching of entries for replication (`consensus` keeps its tail), when to purge.

mod backend;
mod entry;
mod index;
mod journal;
mod options;
mod queue;
mod record;
mod recover;
mod segment;
mod sizes;
mod store;
mod view;
mod witness;
mod writer;

pub use backend::{Done, GroupLog, LogBackend};
pub use entry::LogEntry;
pub use options::LogOptions;
pub use store::LogStore;
