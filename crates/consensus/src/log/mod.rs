//! A group's log as openraft wants it: entries in memory first, the node's log store behind.

mod entry;
mod store;
mod tail;

pub(crate) use entry::{entry_from_wire, entry_to_wire};
pub(crate) use store::{GroupLog, RaftLog};
pub(crate) use tail::{TailBudget, cost};
