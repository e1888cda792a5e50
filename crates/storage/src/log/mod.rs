//! The log store: entries, votes and purge marks of all Raft groups of a node.
//!
//! Owns one database with a write-ahead log and the single thread that writes it. Entries are
//! opaque; what a vote or a committed position means is the caller's business.
//!
//! Not here: caching of entries for replication (`consensus` keeps its tail), when to purge.

mod backend;
mod entry;
mod keys;
pub(crate) mod options;
mod queue;
mod recover;
mod sizes;
mod store;
mod value;
mod view;
mod witness;
mod writer;

pub use backend::{Done, GroupLog, LogBackend};
pub use entry::LogEntry;
pub use options::LogOptions;
pub use store::LogStore;
