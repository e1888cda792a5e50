//! The state store: its public face.

use super::checkpoint::Checkpoint;
use super::damage;
use super::inner::Inner;
use super::install::ShardInstall;
use super::load::ShardState;
use super::message_key::{MessageKey, Scope};
use super::options::StateOptions;
use super::view::{self, Existing, ShardView};
use crate::disk;
use crate::error::StorageError;
use crate::metrics::StateMetrics;
use bytes::Bytes;
use rocksdb::DB;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What checkpoints leave of all shards of a node, and the catalog's snapshot.
///
/// Everything that returns `Ok` after writing is on disk. Writers take turns; reading messages
/// and records does not wait for them. A checkpoint and an install of the *same* shard must not overlap: whoever drives the
/// shard's state machine does one or the other.
pub struct StateStore {
    pub(super) inner: Arc<Inner>,
}

impl Drop for StateStore {
    /// A thread that still uses the database while the process ends would make it crash.
    fn drop(&mut self) {
        self.inner.await_views();
    }
}

impl StateStore {
    /// Opens or creates the store in `dir` and removes what a crash has left half done.
    ///
    /// # Errors
    /// The directory cannot be used or what is in it is damaged; the message says what to do.
    pub fn open(dir: impl AsRef<Path>, options: StateOptions) -> Result<Self, StorageError> {
        let dir = dir.as_ref();
        let failed = |error: &dyn std::fmt::Display| disk::open_error(dir, &error.to_string());
        std::fs::create_dir_all(dir).map_err(|error| failed(&error))?;
        let db = DB::open_cf_descriptors(&options.database(), dir, options.families())
            .map_err(|error| failed(&error))?;
        let inner = Inner::new(db, dir.to_owned(), options);
        inner.tidy()?;
        inner.tidy_blobs()?;
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Writes a checkpoint of `shard` and waits until it is on disk. After a crash either all of it
    /// is found or none. `applied` comes back from [`StateStore::load_shard`].
    ///
    /// # Errors
    /// The write failed: the store takes no more.
    pub fn write_checkpoint<P>(
        &self,
        shard: u32,
        checkpoint: Checkpoint<P>,
        applied: &[u8],
    ) -> Result<(), StorageError>
    where
        P: IntoIterator<Item = (MessageKey, Bytes)>,
    {
        self.inner.write_checkpoint(shard, checkpoint, applied)
    }

    /// The records of `shard`; `None` if it has no checkpoint.
    ///
    /// # Errors
    /// They cannot be read or are damaged.
    pub fn load_shard(&self, shard: u32) -> Result<Option<ShardState>, StorageError> {
        self.inner.load(shard)
    }

    /// Shards that have a checkpoint, ascending.
    #[must_use]
    pub fn shards(&self) -> Vec<u32> {
        let epochs = self.inner.epochs();
        let current = epochs.iter().filter(|(_, epochs)| epochs.current.is_some());
        current.map(|(shard, _)| *shard).collect()
    }

    /// Reads stored messages of one level in order, from `range.start()` on: at least one if there
    /// is one, at most `max_count`, and no more than fit `max_bytes`. Begin at the first message
    /// that is alive: what was deleted in front of it is not visited then. Positions that are dead
    /// but not yet deleted may be among the result.
    ///
    /// # Errors
    /// They cannot be read or are damaged.
    pub fn read_messages(
        &self,
        shard: u32,
        queue: u64,
        level: u8,
        range: RangeInclusive<u64>,
        max_count: usize,
        max_bytes: usize,
    ) -> Result<Vec<(u64, Bytes)>, StorageError> {
        let Some(scope) = self.inner.scope(shard) else {
            return Ok(Vec::new());
        };
        let read = self
            .inner
            .read_messages(scope, (queue, level), range, max_count, max_bytes)?;
        self.inner
            .metrics
            .reads
            .fetch_add(read.len() as u64, Ordering::Relaxed);
        Ok(read)
    }

    /// A consistent view of `shard` to send to another replica; `None` if it has no checkpoint.
    ///
    /// `existing` is asked once for each queue of which anything is stored, with its record, if it has one: only
    /// messages that exist by it are in the view. What is dead may be stored still, without its body.
    ///
    /// # Errors
    /// The shard cannot be read.
    pub fn view<F>(&self, shard: u32, existing: F) -> Result<Option<ShardView>, StorageError>
    where
        F: Fn(u64, Option<Bytes>) -> Result<Existing, StorageError> + Send + 'static,
    {
        view::open(&self.inner, shard, existing)
    }

    /// Begins to replace `shard` by what another replica sends.
    ///
    /// # Errors
    /// The store has failed before.
    pub fn install(&self, shard: u32) -> Result<ShardInstall, StorageError> {
        self.inner.poison.check()?;
        Ok(ShardInstall::new(Arc::clone(&self.inner), shard))
    }

    /// Removes everything of `shard`: for a replica that was taken away from this node.
    ///
    /// # Errors
    /// The write failed: the store takes no more.
    pub fn remove_shard(&self, shard: u32) -> Result<(), StorageError> {
        let inner = &self.inner;
        let mut writer = inner.writer()?;
        let all = Scope { shard, epoch: 0 };
        let last = Scope {
            shard,
            epoch: u32::MAX,
        };
        let mut batch = inner.batch();
        batch.delete_scopes(all, &last.end())?;
        inner.garbage.add();
        inner.write(batch)?;
        inner.flush()?;
        if let Some(epochs) = inner.epochs().get_mut(&shard) {
            epochs.current = None;
        }
        writer.reclaim.dropped_scopes(all, last);
        writer.reclaim.run(inner);
        Ok(())
    }

    /// Stores a named value of `group`, in place of the one before, and waits until it is on disk.
    ///
    /// # Errors
    /// The write failed: the store takes no more. Or the name is longer than 255 bytes.
    pub fn put_blob(&self, group: u32, name: &str, chunks: &[Bytes]) -> Result<(), StorageError> {
        self.inner.put_blob(group, name, chunks)
    }

    /// The chunks of a named value, as they were stored.
    ///
    /// # Errors
    /// They cannot be read or are damaged.
    pub fn get_blob(&self, group: u32, name: &str) -> Result<Option<Vec<Bytes>>, StorageError> {
        self.inner.get_blob(group, name)
    }

    /// Counters and histograms.
    #[must_use]
    pub fn metrics(&self) -> &StateMetrics {
        &self.inner.metrics
    }

    /// Bytes of disk that the store occupies.
    #[must_use]
    pub fn disk_usage(&self) -> u64 {
        disk::usage(&self.inner.dir)
    }

    /// Bytes that are free where the store lies.
    ///
    /// # Errors
    /// The file system cannot be asked.
    pub fn free_bytes(&self) -> Result<u64, StorageError> {
        disk::free_bytes(&self.inner.dir)
    }

    /// The failure that stopped this store, if any.
    #[must_use]
    pub fn poisoned(&self) -> Option<StorageError> {
        self.inner.poison.failure()
    }

    /// Notes, beside the store's files, that they are damaged: `what` says where. The first finding stays, until the directory
    /// is moved away or its file `DAMAGED` removed.
    ///
    /// # Errors
    /// The note cannot be written.
    pub fn note_damage(&self, what: &str) -> std::io::Result<()> {
        damage::note(&self.inner.dir, what)
    }

    /// What [`StateStore::note_damage`] was told, now or before this start, if anything.
    #[must_use]
    pub fn noted_damage(&self) -> Option<String> {
        damage::read(&self.inner.dir)
    }

    /// Calls `callback` once when a write fails (at once if one has), so that the node can stop.
    pub fn on_poison(&self, callback: Box<dyn FnOnce(StorageError) + Send>) {
        self.inner.poison.watch(callback);
    }
}
