//! The log store: entries, votes and purge marks of all Raft groups of a node.

mod backend;
mod entry;

pub use backend::{Done, GroupLog, LogBackend};
pub use entry::LogEntry;
