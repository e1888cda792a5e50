//! The log store: entries, votes and purge marks of all Raft groups of a node.
//!
//! Owns a row of append-only files (`journal`, `segment`, `record`), the index of what stands where, and the single thread that
//! writes them. Entries are opaque; what a vote or a committed position means is the caller's business.
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
