//! The contract of a log store, kept by [`LogStore`](super::LogStore) on disk and by
//! [`MemoryLog`](crate::memory::MemoryLog) in simulations.

use super::entry::LogEntry;
use crate::error::StorageError;
use bytes::Bytes;
use std::ops::Range;
use std::time::Duration;

/// Called once, when a write is on disk or has failed. It runs on the writer's thread in the order
/// of the writes, so it must be short and must not block.
pub type Done = Box<dyn FnOnce(Result<(), StorageError>) + Send>;

/// What a group's log holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupLog {
    /// First index that can be read.
    pub first: Option<u64>,
    /// Last index that can be read.
    pub last: Option<u64>,
    /// Highest purged index and what was saved with the purge.
    pub purged: Option<(u64, Bytes)>,
    /// The saved vote.
    pub vote: Option<Bytes>,
    /// The saved committed position; may be older than what was last saved, never newer.
    pub committed: Option<Bytes>,
}

/// The logs of all groups of a node.
///
/// Writes of all kinds and groups take effect in the order of the calls; calls return at once and
/// `done` reports the sync. What was written can be read back as soon as the call has returned. An
/// error that reaches `done` is final for the store, except [`StorageError::Refused`].
pub trait LogBackend: Send + Sync + 'static {
    /// Appends entries from `first_index` on, which must follow the last entry (or the purge mark).
    fn append(&self, group: u32, first_index: u64, entries: Vec<LogEntry>, done: Done);

    /// Saves the vote.
    fn save_vote(&self, group: u32, vote: Bytes, done: Done);

    /// Removes all entries after `after`; `None` removes all entries.
    fn truncate_after(&self, group: u32, after: Option<u64>, done: Done);

    /// Removes all entries up to and including `upto` (which may lie behind the last entry, after
    /// a snapshot was installed) and remembers `meta`. The mark is on disk before entries go.
    fn purge(&self, group: u32, upto: u64, meta: Bytes, done: Done);

    /// Saves the committed position with the next write; not synced for its own sake.
    fn save_committed(&self, group: u32, committed: Bytes);

    /// Forgets everything about a group, the vote included: for a replica that was removed.
    fn remove_group(&self, group: u32, done: Done);

    /// Reads entries from `range.start` on: at least one, then as many as fit `max_bytes`, without
    /// a hole. Blocking. An index in `range` that does not exist yet ends the result; the result is
    /// empty only if `range` is empty or starts behind the last entry.
    ///
    /// # Errors
    /// [`StorageError::Purged`], or the store cannot be read.
    fn read(
        &self,
        group: u32,
        range: Range<u64>,
        max_bytes: usize,
    ) -> Result<Vec<(u64, LogEntry)>, StorageError>;

    /// What the group holds now (at start: what was recovered). An unknown group is empty.
    ///
    /// # Errors
    /// The store has failed.
    fn group(&self, group: u32) -> Result<GroupLog, StorageError>;

    /// Groups of which anything is stored, ascending.
    fn groups(&self) -> Vec<u32>;

    /// Highest index up to which the group's log is on this disk (purged entries count).
    fn synced(&self, group: u32) -> Option<u64>;

    /// Bytes of entries that the group holds, counted roughly.
    fn retained_bytes(&self, group: u32) -> u64;

    /// The same over all groups.
    fn retained_bytes_of_all(&self) -> u64;

    /// The highest index that can be purged so that about `keep_bytes` of entries stay; `None` if
    /// the whole log is smaller.
    fn purge_candidate(&self, group: u32, keep_bytes: u64) -> Option<u64>;

    /// For how long the write that is under way has been, and its bytes; `None`: nothing is being written. A store
    /// without a disk is never slow.
    fn under_way(&self) -> Option<(Duration, usize)> {
        None
    }

    /// The failure that stopped this store, if any.
    fn poisoned(&self) -> Option<StorageError>;

    /// Calls `callback` once when a write fails (at once if one has), so that the node can stop.
    fn on_poison(&self, callback: Box<dyn FnOnce(StorageError) + Send>);
}
