//! Gives disk space back while there is little of it.
//!
//! What is consumed or dropped frees its space by and by, when files are dropped or merged for other reasons. Where nothing more is
//! written, because publishers are blocked or there are none, nothing else happens: then it has to be asked for.

use super::StateStore;
use super::options::{BODIES, MESSAGES};
use crate::disk::free_bytes;
use crate::error::StorageError;
use rocksdb::{BottommostLevelCompaction, ColumnFamily, CompactOptions};
use std::sync::atomic::Ordering;

/// Whether values of large messages are moved out of files that are mostly dead.
const MOVES_VALUES: &str = "enable_blob_garbage_collection";
/// Bytes of sorted files.
const SIZE: &str = "rocksdb.live-sst-files-size";

impl StateStore {
    /// Gives back the space of what was deleted, as far as that takes little itself: files of small messages that are dead as
    /// a whole, files of large ones of which nothing is alive, and, if `thorough`, what else is dead among the small ones, where
    /// twice their size is free. Blocks for as long as it takes; does nothing if nothing was deleted since the last time.
    ///
    /// # Errors
    /// The store has failed, now or before.
    pub fn give_back_space(&self, thorough: bool) -> Result<(), StorageError> {
        let inner = &self.inner;
        if !inner.garbage.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        {
            let mut writer = inner.writer()?;
            // Files go at once: a crash must not bring back what was deleted out of others.
            inner.flush()?;
            writer.reclaim.all_due();
            writer.reclaim.run(inner);
        }
        let mut options = CompactOptions::default();
        options.set_exclusive_manual_compaction(false);
        options.set_bottommost_level_compaction(BottommostLevelCompaction::ForceOptimized);
        let compact = |family: &ColumnFamily| {
            inner
                .db
                .compact_range_cf_opt(family, None::<&[u8]>, None::<&[u8]>, &options);
        };
        let family = inner.family(MESSAGES)?;
        let size = inner
            .db
            .property_int_value_cf(family, SIZE)
            .map_err(|error| StorageError::read(&error))?;
        // The newest files are never dropped as a whole. Merging writes what is alive once more.
        if thorough && size.unwrap_or(0) < free_bytes(&inner.dir)? / 2 {
            compact(family);
        }
        let family = inner.family(BODIES)?;
        let moves = |moves: &str| {
            let set = inner.db.set_options_cf(family, &[(MOVES_VALUES, moves)]);
            set.map_err(|error| StorageError::Refused(error.to_string()))
        };
        moves("false")?;
        compact(family);
        moves("true")
    }
}
