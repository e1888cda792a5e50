//! What can go wrong in a store, and what the operator is to do about it.

use rocksdb::ErrorKind;
use std::path::PathBuf;

/// A failure of a store. Cheap to clone: one failure may answer many waiting writers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StorageError {
    /// A write or sync failed. Nothing is written any more: what the page cache holds is unknown.
    #[error(
        "a write or sync failed earlier, so this store takes no more writes; restart the node \
         (after freeing space or replacing the disk): {cause}"
    )]
    Poisoned {
        /// The first failure.
        cause: String,
    },
    /// The database directory cannot be opened or used.
    #[error("cannot open the database in {}: {cause}; {advice}", path.display())]
    Open {
        /// Directory of the database.
        path: PathBuf,
        /// What was reported.
        cause: String,
        /// What to do.
        advice: &'static str,
    },
    /// An index that must be there is not.
    #[error(
        "the log of group {group} has a hole: entry {index} is missing ({context}). Writes that \
         were acknowledged are gone, so this node must not vote with this disk. Check the disk; \
         then stop the node, move its data directory away and start it again: it rejoins as a \
         fresh replica and copies the data from the other nodes"
    )]
    Hole {
        /// Raft group.
        group: u32,
        /// The missing index.
        index: u64,
        /// How it was noticed.
        context: String,
    },
    /// A stored value is not what was written.
    #[error(
        "corrupt data: {what} ({problem}). Check the disk; then stop the node, move its data \
         directory away and start it again: it rejoins as a fresh replica and copies the data \
         from the other nodes"
    )]
    Corrupt {
        /// Which value, with group and index or shard and queue.
        what: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A file of the log has a format that is not known here.
    #[error(
        "{} was written by a newer version (format {found}, this one knows {known}); nothing was changed. Start that \
         version again; or stop the node, move its data directory away and start it: it rejoins as a fresh replica and \
         copies the data from the other nodes", path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u8,
        /// The newest format that this version reads.
        known: u8,
    },
    /// Acknowledged writes are missing, and no group can be named.
    #[error(
        "the log ends at write {found}, but write {expected} had been synced: acknowledged \
         writes are gone ({detail}). The write-ahead log was damaged or files of the data \
         directory were removed or restored from an older copy. This node must not vote with this \
         disk: stop it, move its data directory away and start it again: it rejoins as a fresh \
         replica and copies the data from the other nodes"
    )]
    LostWrites {
        /// Last write that recovery found.
        found: u64,
        /// Last write known to have been synced.
        expected: u64,
        /// Groups that end too early, with the first missing index.
        detail: String,
    },
    /// Entries were asked for that a purge has removed.
    #[error("entries of group {group} up to {upto} were purged; a snapshot is needed instead")]
    Purged {
        /// Raft group.
        group: u32,
        /// Highest purged index.
        upto: u64,
    },
    /// The caller broke the contract of the store: nothing was written.
    #[error("refused by the store, nothing was written: {0}")]
    Refused(String),
    /// A read failed.
    #[error("cannot read from the database: {0}; check the disk and restart the node")]
    Read(String),
    /// Too little space is left.
    #[error(
        "only {free} bytes are free on the disk, {reserve} are kept in reserve; free some space"
    )]
    DiskFull {
        /// Bytes that are free.
        free: u64,
        /// Bytes that must stay free.
        reserve: u64,
    },
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

impl StorageError {
    /// A failed read. What is damaged stays so, however often it is read.
    pub(crate) fn read(error: &rocksdb::Error) -> Self {
        if error.kind() == ErrorKind::Corruption {
            Self::damaged_file(error.to_string())
        } else {
            Self::Read(error.to_string())
        }
    }

    /// A failed write, as RocksDB tells it. It may have found damage while it merged files: that stays, also when the
    /// node is started again.
    pub(crate) fn write(cause: String) -> Self {
        if cause.starts_with("Corruption") {
            Self::damaged_file(cause)
        } else {
            Self::Poisoned { cause }
        }
    }

    fn damaged_file(problem: String) -> Self {
        Self::Corrupt {
            what: "a file of the database".to_owned(),
            problem,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_that_a_write_finds_is_not_cured_by_a_restart() {
        let damaged = StorageError::write("Corruption: block checksum mismatch".to_owned());
        let advice = damaged.to_string();
        assert!(advice.contains("move its data directory away"), "{advice}");
        let full = StorageError::write("IO error: No space left on device".to_owned());
        assert!(matches!(full, StorageError::Poisoned { .. }), "{full:?}");
    }
}
