//! The one thread that writes the log: everything queued becomes one batch with one sync.
//!
//! While a batch syncs the next one queues up, so batches grow with load and no timer is needed.
//! With nothing queued the thread sleeps on a condition variable.

use super::keys::{EntryKey, MetaKey, MetaKind};
use super::queue::{Command, Item, Shared, Taken};
use super::value;
use super::witness::Witness;
use crate::error::StorageError;
use crate::metrics::LogMetrics;
use crate::sealed;
use bytes::Bytes;
use rocksdb::{DB, WriteBatch, WriteOptions};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

pub(crate) struct Writer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) db: Arc<DB>,
    pub(crate) metrics: Arc<LogMetrics>,
    pub(crate) witness: Witness,
    /// Number of the last batch written.
    pub(crate) batch: u64,
    pub(crate) batch_bytes: usize,
}

impl Writer {
    /// Runs until the store is closed or fails.
    pub(crate) fn run(mut self) {
        // A completion that panics must not leave a store that looks alive and writes nothing.
        let mut guard = FailOnPanic(Some(Arc::clone(&self.shared)));
        let mut scratch = Vec::new();
        while let Some(taken) = self.shared.take(self.batch_bytes) {
            let Taken {
                items,
                committed,
                bytes,
            } = taken;
            let started = Instant::now();
            let written = self
                .write(&items, &committed, true, &mut scratch)
                .and_then(|()| {
                    self.count(&items, bytes, started);
                    self.note(&items)
                });
            match written {
                Ok(()) => {
                    for item in items {
                        (item.done)(Ok(()));
                    }
                }
                Err(cause) => {
                    let error = StorageError::Poisoned { cause };
                    tracing::error!(%error, "the log cannot be written");
                    poison(&self.shared, &error);
                    for item in items {
                        (item.done)(Err(error.clone()));
                    }
                    break;
                }
            }
            // One huge entry must not pin its size for ever.
            if scratch.capacity() > 2 * self.batch_bytes {
                scratch = Vec::new();
            }
        }
        guard.0 = None;
        self.end(&mut scratch);
    }

    fn write(
        &mut self,
        items: &[Item],
        committed: &BTreeMap<u32, Bytes>,
        sync: bool,
        scratch: &mut Vec<u8>,
    ) -> Result<(), String> {
        let room = items
            .iter()
            .map(|item| room_for(&item.command) + item.bytes + 128);
        let capacity = room.sum::<usize>() + committed.len() * 64 + 256;
        let mut batch = WriteBatch::with_capacity_bytes(capacity);
        for item in items {
            put_command(&mut batch, &item.command, scratch);
        }
        for (group, position) in committed {
            put_meta(
                &mut batch,
                MetaKey::new(*group, MetaKind::Committed),
                position,
                scratch,
            );
        }
        let number = self.batch + 1;
        let key = MetaKey::new(MetaKey::STORE, MetaKind::Batch);
        put_meta(&mut batch, key, &number.to_le_bytes(), scratch);

        crate::failpoint!("log-before-write");
        let mut options = WriteOptions::default();
        options.set_sync(sync);
        self.db
            .write_opt(batch, &options)
            .map_err(|error| error.to_string())?;
        self.batch = number;
        crate::failpoint!("log-after-sync");
        Ok(())
    }

    fn count(&self, items: &[Item], bytes: usize, started: Instant) {
        let metrics = &self.metrics;
        metrics.sync_us.record_time(started.elapsed());
        metrics.batch_commands.record(items.len() as u64);
        metrics.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        metrics
            .queued_bytes
            .fetch_sub(bytes as u64, Ordering::Relaxed);
        let entries = items.iter().map(|item| match &item.command {
            Command::Append { entries, .. } => entries.len() as u64,
            _ => 0,
        });
        metrics.entries.fetch_add(entries.sum(), Ordering::Relaxed);
    }

    /// Notes what is on disk, before it is reported.
    fn note(&mut self, items: &[Item]) -> Result<(), String> {
        let ends: Vec<(u32, u64)> = {
            let mut queue = self.shared.lock();
            for item in items {
                match &item.command {
                    Command::Append {
                        group,
                        first,
                        entries,
                        ..
                    } => {
                        let end = first + entries.len() as u64;
                        if let Some(view) = queue.views.get_mut(group) {
                            view.append_synced(item.ticket, end);
                        }
                    }
                    Command::Truncate { group, .. } | Command::Remove { group } => {
                        if let Some(view) = queue.views.get_mut(group) {
                            view.write_synced(item.ticket);
                        }
                    }
                    _ => {}
                }
            }
            let ends = queue.views.iter();
            ends.filter_map(|(group, view)| Some((*group, view.synced()?)))
                .collect()
        };
        match self.witness.write(self.batch, ends.into_iter()) {
            Ok(()) => Ok(()),
            // It only weakens the check at the next start; the log itself is synced.
            Err(error) if error.kind() == std::io::ErrorKind::StorageFull => {
                tracing::warn!(%error, "cannot note how far the log is synced");
                Ok(())
            }
            // A disk that fails may have failed during the sync, and have said nothing.
            Err(error) => Err(format!("cannot note how far the log is synced: {error}")),
        }
    }

    /// The last writes of a clean end, and what a failure leaves in the queue.
    fn end(mut self, scratch: &mut Vec<u8>) {
        let (failure, left, committed) = {
            let mut queue = self.shared.lock();
            queue.closing = true;
            let failure = queue.failure.clone();
            let left: Vec<Item> = queue.items.drain(..).collect();
            (failure, left, std::mem::take(&mut queue.committed))
        };
        let refusal = failure.clone().unwrap_or(StorageError::Closed);
        for item in left {
            (item.done)(Err(refusal.clone()));
        }
        if failure.is_none() {
            if !committed.is_empty()
                && let Err(error) = self.write(&[], &committed, true, scratch)
            {
                tracing::warn!(%error, "cannot save committed positions");
            }
            if let Err(error) = self.witness.sync() {
                tracing::warn!(%error, "cannot sync the note of how far the log is synced");
            }
        }
    }
}

/// Stops the store: all later calls fail, and whoever watches is told.
pub(crate) fn poison(shared: &Shared, error: &StorageError) {
    let watchers = {
        let mut queue = shared.lock();
        queue.failure.get_or_insert(error.clone());
        std::mem::take(&mut queue.watchers)
    };
    for watcher in watchers {
        watcher(error.clone());
    }
}

struct FailOnPanic(Option<Arc<Shared>>);

impl Drop for FailOnPanic {
    fn drop(&mut self) {
        let Some(shared) = self.0.take() else {
            return;
        };
        let error = StorageError::Poisoned {
            cause: "the writer of the log panicked".to_owned(),
        };
        poison(&shared, &error);
        let left: Vec<Item> = shared.lock().items.drain(..).collect();
        for item in left {
            (item.done)(Err(error.clone()));
        }
    }
}

/// What a command takes in a batch beyond its bytes, at most: a batch that outgrows its room is copied as a whole.
fn room_for(command: &Command) -> usize {
    match command {
        Command::Append { entries, .. } => entries
            .iter()
            .map(|entry| 64 + 8 * entry.segments.len())
            .sum(),
        _ => 0,
    }
}

fn put_command(batch: &mut WriteBatch, command: &Command, scratch: &mut Vec<u8>) {
    match command {
        Command::Append {
            group,
            first,
            entries,
            placing,
        } => {
            if *placing {
                let key = MetaKey::new(*group, MetaKind::Start);
                put_meta(batch, key, &first.to_le_bytes(), scratch);
            }
            for (index, entry) in (*first..).zip(entries.iter()) {
                let key = EntryKey::new(*group, index).to_bytes();
                value::encode(&key, entry, scratch);
                batch.put(key, &scratch);
            }
        }
        Command::Vote { group, vote } => {
            put_meta(batch, MetaKey::new(*group, MetaKind::Vote), vote, scratch);
        }
        Command::Truncate { group, after } => {
            if let Some(from) = after.map_or(Some(0), |after| after.checked_add(1)) {
                let from = EntryKey::new(*group, from).to_bytes();
                batch.delete_range(from.as_slice(), &EntryKey::group_end(*group));
            }
        }
        Command::Purge {
            group,
            upto,
            meta,
            delete,
        } => {
            let key = MetaKey::new(*group, MetaKind::Purged).to_bytes();
            sealed::begin(scratch);
            scratch.extend_from_slice(&upto.to_le_bytes());
            scratch.extend_from_slice(meta);
            sealed::finish(&key, scratch);
            batch.put(key, &scratch);
            // The batch is atomic: the mark can never be missing when entries are.
            if *delete {
                delete_upto(batch, *group, *upto);
            }
        }
        Command::Remove { group } => {
            let from = EntryKey::new(*group, 0).to_bytes();
            batch.delete_range(from.as_slice(), &EntryKey::group_end(*group));
            let (from, to) = MetaKey::group_range(*group);
            batch.delete_range(from, to);
        }
        Command::Nothing => {}
    }
}

/// Always from the group's first possible key: later tombstones swallow earlier ones.
pub(crate) fn delete_upto(batch: &mut WriteBatch, group: u32, upto: u64) {
    let from = EntryKey::new(group, 0).to_bytes();
    let to = match upto.checked_add(1) {
        Some(end) => EntryKey::new(group, end).to_bytes().to_vec(),
        None => EntryKey::group_end(group),
    };
    batch.delete_range(from.as_slice(), &to);
}

fn put_meta(batch: &mut WriteBatch, key: MetaKey, payload: &[u8], scratch: &mut Vec<u8>) {
    let key = key.to_bytes();
    sealed::seal(&key, payload, scratch);
    batch.put(key, &scratch);
}
