//! The open database of the state store, and what its parts share.

use super::message_key::Scope;
use super::options::{FAMILIES, StateOptions};
use super::reclaim::Reclaim;
use super::record_key::RecordKey;
use super::shared_flush::SharedFlushes;
use super::space::Garbage;
use crate::error::StorageError;
use crate::metrics::StateMetrics;
use crate::poison::Poison;
use crate::sealed;
use bytes::Bytes;
use rocksdb::{ColumnFamily, DB, DBRawIterator, FlushOptions, ReadOptions, Snapshot, WriteBatch};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long the threads of views are waited for at the end.
const VIEWS_END_WITHIN: Duration = Duration::from_secs(2);

/// Epochs of a shard in use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Epochs {
    /// The valid one, if the shard has a checkpoint.
    pub(crate) current: Option<u32>,
    /// Highest that anything was written under.
    pub(crate) used: u32,
}

impl Epochs {
    /// The epoch that checkpoints go to.
    pub(crate) fn for_checkpoint(self) -> u32 {
        self.current.unwrap_or(self.used.saturating_add(1))
    }
}

/// What only one writer at a time may touch. One at a time also bounds memory.
#[derive(Default)]
pub(crate) struct WriterState {
    pub(crate) reclaim: Reclaim,
}

pub(crate) struct Inner {
    pub(crate) db: DB,
    pub(crate) dir: PathBuf,
    pub(crate) options: StateOptions,
    pub(crate) metrics: StateMetrics,
    pub(crate) poison: Poison,
    /// Whether any large message may be stored: without, deletions need not care for them.
    pub(crate) has_bodies: AtomicBool,
    /// What was deleted and not given back yet.
    pub(crate) garbage: Garbage,
    /// Views being streamed; while there are any, no files are dropped under them.
    pub(crate) views: AtomicUsize,
    /// Their threads, as far as they have not ended.
    view_threads: Mutex<Vec<JoinHandle<()>>>,
    /// Checkpoints that share a flush.
    pub(crate) flushes: SharedFlushes,
    epochs: Mutex<BTreeMap<u32, Epochs>>,
    writer: Mutex<WriterState>,
}

impl Inner {
    pub(crate) fn new(db: DB, dir: PathBuf, options: StateOptions) -> Self {
        Self {
            db,
            dir,
            options,
            metrics: StateMetrics::new(),
            poison: Poison::default(),
            has_bodies: AtomicBool::new(false),
            garbage: Garbage::default(),
            views: AtomicUsize::new(0),
            view_threads: Mutex::default(),
            flushes: SharedFlushes::default(),
            epochs: Mutex::default(),
            writer: Mutex::default(),
        }
    }

    pub(crate) fn family(&self, name: &'static str) -> Result<&ColumnFamily, StorageError> {
        // Every family was opened; a missing one would be a fault of this crate.
        self.db
            .cf_handle(name)
            .ok_or_else(|| StorageError::Read(format!("family {name} is not open")))
    }

    /// The right to write. Refused after a failure.
    pub(crate) fn writer(&self) -> Result<MutexGuard<'_, WriterState>, StorageError> {
        let guard = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        self.poison.check()?;
        Ok(guard)
    }

    pub(crate) fn epochs(&self) -> MutexGuard<'_, BTreeMap<u32, Epochs>> {
        self.epochs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn epochs_of(&self, shard: u32) -> Epochs {
        self.epochs().get(&shard).copied().unwrap_or_default()
    }

    /// The scope of the valid data of `shard`, if it has any.
    pub(crate) fn scope(&self, shard: u32) -> Option<Scope> {
        let epoch = self.epochs_of(shard).current?;
        Some(Scope { shard, epoch })
    }

    /// Writes without flushing. A failure is final.
    pub(crate) fn write(&self, batch: Batch<'_>) -> Result<(), StorageError> {
        let write = || {
            crate::failpoint!("state-write");
            self.db
                .write_without_wal(batch.batch)
                .map_err(|error| error.to_string())
        };
        write().map_err(|cause| self.fail(cause))
    }

    /// Makes everything written so far durable, all families at one moment. The caller has the
    /// right to write, so nothing else is written meanwhile.
    ///
    /// RocksDB 11.8.1 may return from an atomic flush of several families before all of them are
    /// flushed: `DBImpl::AtomicFlushMemTables` takes the memtable ids to wait for from an unordered
    /// map and compares them with the families in another order. So each family is then waited for
    /// by a flush of its own, which has nothing left to write and cannot mix anything up. The crash
    /// tests of this crate fail without it.
    pub(crate) fn flush(&self) -> Result<(), StorageError> {
        let flush = || {
            crate::failpoint!("state-flush");
            let families = FAMILIES.map(|name| self.db.cf_handle(name));
            let families: Vec<&ColumnFamily> = families.into_iter().flatten().collect();
            let mut options = FlushOptions::default();
            options.set_wait(true);
            let flushed = self.db.flush_cfs_opt(&families, &options).and_then(|()| {
                families
                    .iter()
                    .try_for_each(|family| self.db.flush_cf_opt(*family, &options))
            });
            flushed.map_err(|error| error.to_string())
        };
        flush().map_err(|cause| self.fail(cause))
    }

    fn view_threads(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.view_threads
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers the thread of a view.
    pub(crate) fn note_view(&self, thread: JoinHandle<()>) {
        let mut threads = self.view_threads();
        threads.retain(|thread| !thread.is_finished());
        threads.push(thread);
    }

    /// Waits until the threads of views have ended; for a while only, because a view that somebody holds goes on.
    pub(crate) fn await_views(&self) {
        let until = Instant::now() + VIEWS_END_WITHIN;
        for thread in self.view_threads().drain(..) {
            while !thread.is_finished() && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(1));
            }
            if thread.is_finished() {
                let _ = thread.join();
            }
        }
    }

    fn fail(&self, cause: String) -> StorageError {
        tracing::error!(%cause, "the state cannot be written");
        self.poison.fail(StorageError::write(cause))
    }

    /// Reads and checks the value under `key`.
    pub(crate) fn get(
        &self,
        family: &'static str,
        key: &[u8],
        what: impl FnOnce() -> String,
    ) -> Result<Option<Bytes>, StorageError> {
        let value = self
            .db
            .get_cf(self.family(family)?, key)
            .map_err(|error| StorageError::read(&error))?;
        value
            .map(|value| sealed::open(key, Bytes::from(value), what))
            .transpose()
    }

    /// As [`Self::get`], as of a moment.
    pub(crate) fn get_at(
        &self,
        moment: &Snapshot<'_>,
        family: &'static str,
        key: &[u8],
        what: impl FnOnce() -> String,
    ) -> Result<Option<Bytes>, StorageError> {
        let value = moment
            .get_cf(self.family(family)?, key)
            .map_err(|error| StorageError::read(&error))?;
        value
            .map(|value| sealed::open(key, Bytes::from(value), what))
            .transpose()
    }

    /// An iterator over `from..end`, positioned at the first key.
    pub(crate) fn iterate(
        &self,
        family: &'static str,
        from: Vec<u8>,
        end: Vec<u8>,
        mut options: ReadOptions,
    ) -> Result<DBRawIterator<'_>, StorageError> {
        options.set_iterate_lower_bound(from.clone());
        options.set_iterate_upper_bound(end);
        let mut iterator = self.db.raw_iterator_cf_opt(self.family(family)?, options);
        iterator.seek(from);
        Ok(iterator)
    }

    /// Notes the epoch that is current from now on.
    pub(crate) fn switched(&self, scope: Scope) {
        let mut epochs = self.epochs();
        let epochs = epochs.entry(scope.shard).or_default();
        epochs.current = Some(scope.epoch);
        epochs.used = epochs.used.max(scope.epoch);
    }

    /// An epoch of `shard` that was never used before.
    pub(crate) fn unused_epoch(&self, shard: u32) -> Scope {
        let mut epochs = self.epochs();
        let epochs = epochs.entry(shard).or_default();
        epochs.used = epochs.used.saturating_add(1);
        Scope {
            shard,
            epoch: epochs.used,
        }
    }

    /// A batch that will be full: it has its room from the beginning.
    pub(crate) fn full_batch(&self) -> Batch<'_> {
        let room = self.options.batch_bytes + self.options.batch_bytes / 8;
        Batch {
            batch: WriteBatch::with_capacity_bytes(room),
            ..self.batch()
        }
    }

    pub(crate) fn batch(&self) -> Batch<'_> {
        Batch {
            inner: self,
            batch: WriteBatch::default(),
            scratch: Vec::new(),
        }
    }
}

/// Calls `visit` for every entry of a positioned iterator.
pub(crate) fn for_each(
    mut iterator: DBRawIterator<'_>,
    mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), StorageError>,
) -> Result<(), StorageError> {
    while let Some((key, value)) = iterator.item() {
        visit(key, value)?;
        iterator.next();
    }
    iterator
        .status()
        .map_err(|error| StorageError::read(&error))
}

/// A write in the making. All of it becomes visible at once.
pub(crate) struct Batch<'a> {
    inner: &'a Inner,
    batch: WriteBatch,
    scratch: Vec<u8>,
}

impl Batch<'_> {
    pub(crate) fn len_bytes(&self) -> usize {
        self.batch.size_in_bytes()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }

    /// Puts a value made of several parts under its own checksum.
    pub(crate) fn put(
        &mut self,
        family: &'static str,
        key: &[u8],
        payload: &[&[u8]],
    ) -> Result<(), StorageError> {
        sealed::begin(&mut self.scratch);
        for part in payload {
            self.scratch.extend_from_slice(part);
        }
        sealed::finish(key, &mut self.scratch);
        self.batch
            .put_cf(self.inner.family(family)?, key, &self.scratch);
        Ok(())
    }

    pub(crate) fn delete(&mut self, family: &'static str, key: &[u8]) -> Result<(), StorageError> {
        self.batch.delete_cf(self.inner.family(family)?, key);
        Ok(())
    }

    /// Deletes `from..end`.
    pub(crate) fn delete_range(
        &mut self,
        family: &'static str,
        from: &[u8],
        end: &[u8],
    ) -> Result<(), StorageError> {
        if from < end {
            self.batch
                .delete_range_cf(self.inner.family(family)?, from, end);
        }
        Ok(())
    }

    pub(crate) fn put_epoch(&mut self, scope: Scope) -> Result<(), StorageError> {
        let key = RecordKey::current_epoch(scope.shard);
        self.put(super::options::RECORDS, &key, &[&scope.epoch.to_le_bytes()])
    }

    pub(crate) fn has_bodies(&self) -> bool {
        self.inner.has_bodies.load(Ordering::Relaxed)
    }

    pub(crate) fn note_body(&self) {
        self.inner.has_bodies.store(true, Ordering::Relaxed);
    }
}
