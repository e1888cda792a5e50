//! Gives disk space back while there is little of it.
//!
//! What is consumed or dropped frees its space by and by, when files are dropped or merged for other reasons. Where nothing more is
//! written, because publishers are blocked or there are none, nothing else happens: then it has to be asked for.

use super::StateStore;
use super::options::{BODIES, FAMILIES, MESSAGES};
use crate::disk::free_bytes;
use crate::error::StorageError;
use rocksdb::{BottommostLevelCompaction, ColumnFamily, CompactOptions};
use std::sync::atomic::{AtomicU8, Ordering};

/// Whether values of large messages are moved out of files that are mostly dead.
const MOVES_VALUES: &str = "enable_blob_garbage_collection";
/// Bytes of sorted files, without the values that are kept apart.
const IN_FILES: &str = "rocksdb.live-sst-files-size";
/// Bytes that are not in files yet.
const IN_MEMORY: &str = "rocksdb.cur-size-all-mem-tables";

/// What was deleted and may not have been given back: bits of what has not looked at it yet.
pub(crate) struct Garbage(AtomicU8);

/// Looks that take little, and thorough ones.
const LIGHT: u8 = 1;
const THOROUGH: u8 = 2;

impl Default for Garbage {
    /// What a process before this one has left is not known.
    fn default() -> Self {
        Self(AtomicU8::new(LIGHT | THOROUGH))
    }
}

impl Garbage {
    pub(crate) fn add(&self) {
        self.0.fetch_or(LIGHT | THOROUGH, Ordering::AcqRel);
    }

    /// Whether there is any for such a look, which is about to be taken; a thorough one does what the other does.
    fn take(&self, thorough: bool) -> bool {
        let (seen, wanted) = if thorough {
            (LIGHT | THOROUGH, THOROUGH)
        } else {
            (LIGHT, LIGHT)
        };
        self.0.fetch_and(!seen, Ordering::AcqRel) & wanted != 0
    }
}

impl StateStore {
    /// Gives back the space of what was deleted, as far as that takes little itself: files of small messages that are dead as
    /// a whole, files of large ones of which nothing is alive, and, if `thorough`, what else is dead among the small ones, where
    /// twice their size is free. Blocks for as long as it takes; does nothing if nothing was deleted since the last time.
    ///
    /// # Errors
    /// The store has failed, now or before.
    pub fn give_back_space(&self, thorough: bool) -> Result<(), StorageError> {
        let inner = &self.inner;
        if !inner.garbage.take(thorough) {
            return Ok(());
        }
        let given_back = self.try_give_back(thorough);
        if !matches!(given_back, Ok(true)) {
            inner.garbage.add();
        }
        given_back.map(|_| ())
    }

    /// Whether nothing had to be left for another time.
    fn try_give_back(&self, thorough: bool) -> Result<bool, StorageError> {
        let inner = &self.inner;
        // A write that fails is the end of the store: rather nothing is given back yet.
        let mut in_memory = 0;
        for family in FAMILIES {
            in_memory += self.size(family, IN_MEMORY)?;
        }
        if !self.is_little(in_memory)? {
            return Ok(false);
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
        // The newest files are never dropped as a whole. Merging writes what is alive once more.
        let mut done = true;
        if thorough {
            done = self.is_little(self.size(MESSAGES, IN_FILES)?)?;
            if done {
                compact(inner.family(MESSAGES)?);
            }
        }
        if !self.is_little(self.size(BODIES, IN_FILES)?)? {
            return Ok(false);
        }
        let family = inner.family(BODIES)?;
        let moves = |moves: &str| {
            let set = inner.db.set_options_cf(family, &[(MOVES_VALUES, moves)]);
            set.map_err(|error| StorageError::Refused(error.to_string()))
        };
        moves("false")?;
        compact(family);
        moves("true")?;
        Ok(done)
    }

    fn size(&self, family: &'static str, property: &str) -> Result<u64, StorageError> {
        let family = self.inner.family(family)?;
        let size = self.inner.db.property_int_value_cf(family, property);
        Ok(size
            .map_err(|error| StorageError::read(&error))?
            .unwrap_or(0))
    }

    /// Whether so many bytes may be written on the way to having more space.
    fn is_little(&self, bytes: u64) -> Result<bool, StorageError> {
        Ok(bytes < free_bytes(&self.inner.dir)? / 2)
    }
}
