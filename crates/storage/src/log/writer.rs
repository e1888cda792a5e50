//! The one thread that writes the log: everything queued becomes one batch with one sync.
//!
//! While a batch syncs the next one queues up, so batches grow with load and no timer is needed.
//! With nothing queued the thread sleeps on a condition variable.

use super::journal::Journal;
use super::queue::{Command, Item, Shared, Taken};
use super::witness::Witness;
use crate::error::StorageError;
use crate::metrics::LogMetrics;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

pub(crate) struct Writer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) journal: Journal,
    pub(crate) metrics: Arc<LogMetrics>,
    pub(crate) witness: Witness,
    /// There was no space for the last note.
    pub(crate) is_unnoted: bool,
    pub(crate) batch_bytes: usize,
}

impl Writer {
    /// Runs until the store is closed or fails.
    pub(crate) fn run(mut self) {
        // A completion that panics must not leave a store that looks alive and writes nothing.
        let mut guard = FailOnPanic(Some(Arc::clone(&self.shared)));
        while let Some(taken) = self.shared.take(self.batch_bytes) {
            let Taken {
                items,
                committed,
                bytes,
            } = taken;
            let started = Instant::now();
            match self.write(&items, &committed) {
                Ok(()) => {
                    self.count(&items, bytes, started);
                    self.see_synced(&items);
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
            // Nobody waits for what follows.
            if let Err(cause) = self.note().and_then(|()| self.journal.tidy()) {
                let error = StorageError::Poisoned { cause };
                tracing::error!(%error, "the files of the log cannot be kept in order");
                poison(&self.shared, &error);
                break;
            }
        }
        guard.0 = None;
        self.end();
    }

    fn write(&mut self, items: &[Item], committed: &BTreeMap<u32, Bytes>) -> Result<(), String> {
        crate::failpoint!("log-before-write");
        self.journal.write(items, committed)?;
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

    /// Tells the views what is on disk, before it is reported.
    fn see_synced(&self, items: &[Item]) {
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
    }

    /// Notes what is on disk. A process that is killed before it does has its log all the same, in the page cache at least.
    fn note(&mut self) -> Result<(), String> {
        let ends: Vec<(u32, u64)> = {
            let queue = self.shared.lock();
            let ends = queue.views.iter();
            ends.filter_map(|(group, view)| Some((*group, view.synced()?)))
                .collect()
        };
        match self.witness.write(self.journal.batch(), ends.into_iter()) {
            Ok(()) => {
                self.is_unnoted = false;
                Ok(())
            }
            // It only weakens the check at the next start; the log itself is synced. Said once until there is space again.
            Err(error) if error.kind() == std::io::ErrorKind::StorageFull => {
                if !std::mem::replace(&mut self.is_unnoted, true) {
                    tracing::warn!(%error, "cannot note how far the log is synced");
                }
                Ok(())
            }
            // A disk that fails may have failed during the sync, and have said nothing.
            Err(error) => Err(format!("cannot note how far the log is synced: {error}")),
        }
    }

    /// The last writes of a clean end, and what a failure leaves in the queue.
    fn end(mut self) {
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
                && let Err(error) = self.write(&[], &committed).and_then(|()| self.note())
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
