//! The log store on disk.

use super::backend::{Done, GroupLog, LogBackend};
use super::entry::LogEntry;
use super::journal::{Journal, SharedIndex};
use super::options::LogOptions;
use super::queue::{Command, Item, Queue, Shared};
use super::record::{self, MAX_PAYLOAD};
use super::recover::recover;
use super::view::{Run, View};
use super::witness::Witness;
use super::writer::Writer;
use crate::disk;
use crate::error::StorageError;
use crate::metrics::LogMetrics;
use bytes::Bytes;
use std::fs::{File, TryLockError};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

/// The logs of all groups of a node, on disk.
///
/// One thread owns all writes: it takes everything that all groups have queued, writes it as one
/// batch with one sync, and reports in order. What was queued can be read at once. Dropping the
/// store writes what is queued and waits for it (but for a completion that drops the last handle:
/// it runs on the writer, which goes on after it).
pub struct LogStore {
    shared: Arc<Shared>,
    index: Arc<SharedIndex>,
    metrics: Arc<LogMetrics>,
    dir: PathBuf,
    writer: Option<JoinHandle<()>>,
}

impl LogStore {
    /// Opens or creates the log in `dir` and checks all of it.
    ///
    /// # Errors
    /// The directory cannot be used, or acknowledged writes are missing or damaged: the message
    /// says where and what to do. Nothing is repaired or cut on its own.
    pub fn open(dir: impl AsRef<Path>, options: LogOptions) -> Result<Self, StorageError> {
        let dir = dir.as_ref();
        let io = |error: std::io::Error| disk::open_error(dir, &error.to_string());
        let segments = dir.join("segments");
        disk::create_dir_all(&segments).map_err(io)?;
        // The names of the directories; those of the files in them are synced when the files are begun.
        let place = dir.canonicalize().map_err(io)?;
        for dir in [Some(place.as_path()), place.parent()]
            .into_iter()
            .flatten()
        {
            File::open(dir).and_then(|dir| dir.sync_all()).map_err(io)?;
        }
        let lock = File::create(dir.join("lock")).map_err(io)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(disk::open_error(dir, "another process holds its lock"));
            }
            Err(TryLockError::Error(error)) => return Err(io(error)),
        }
        if dir.join("db").exists() {
            return Err(StorageError::Refused(format!(
                "{} holds a log in the form of an earlier development version, which this one does not read; nothing was \
                 changed. In a cluster, update one node after the other: stop it, move its data directory away and start it; \
                 it rejoins as a fresh replica and copies the data from the other nodes. A single node's queues have to be \
                 emptied with the version that wrote them",
                dir.display()
            )));
        }
        let (witness, synced) = Witness::open(&dir.join("synced")).map_err(io)?;
        let (queue, found) = recover(&segments, synced.as_ref())?;
        if synced.is_none() && found.batch > 0 {
            tracing::warn!(
                dir = %dir.display(),
                "the note of how far the log was synced is missing: a damaged end of the log \
                 cannot be told from writes that were never acknowledged"
            );
        }
        let shared = Arc::new(Shared::new(queue));
        let index = Arc::clone(&found.index);
        let metrics = Arc::new(LogMetrics::new());
        let writer = Writer {
            shared: Arc::clone(&shared),
            metrics: Arc::clone(&metrics),
            witness,
            is_unnoted: false,
            batch_bytes: options.batch_bytes,
            journal: Journal::new(&segments, options, found, lock).map_err(io)?,
        };
        let thread = std::thread::Builder::new().name("log-writer".to_owned());
        let writer = thread.spawn(move || writer.run()).map_err(io)?;
        Ok(Self {
            shared,
            index,
            metrics,
            dir: dir.to_owned(),
            writer: Some(writer),
        })
    }

    /// Counters and histograms.
    #[must_use]
    pub fn metrics(&self) -> &LogMetrics {
        &self.metrics
    }

    /// Bytes of disk that the store occupies.
    #[must_use]
    pub fn disk_usage(&self) -> u64 {
        disk::usage(&self.dir)
    }

    /// Bytes that are free where the store lies.
    ///
    /// # Errors
    /// The file system cannot be asked.
    pub fn free_bytes(&self) -> Result<u64, StorageError> {
        disk::free_bytes(&self.dir)
    }

    /// Calls `done` when everything queued so far is on disk.
    pub fn barrier(&self, done: Done) {
        self.submit(0, done, |_, _| Ok(Command::Nothing));
    }

    /// Queues what `command` makes of the queue and a ticket, or reports why not.
    fn submit(
        &self,
        bytes: usize,
        done: Done,
        command: impl FnOnce(&mut Queue, u64) -> Result<Command, StorageError>,
    ) {
        let mut queue = self.shared.lock();
        let made = match usable(&queue) {
            Ok(()) => {
                let ticket = queue.next_ticket();
                command(&mut queue, ticket).map(|command| (ticket, command))
            }
            Err(error) => Err(error),
        };
        match made {
            Ok((ticket, command)) => {
                self.metrics
                    .queued_bytes
                    .fetch_add(bytes as u64, Ordering::Relaxed);
                let item = Item {
                    ticket,
                    bytes,
                    command,
                    done,
                };
                self.shared.push(queue, item);
            }
            Err(error) => {
                drop(queue);
                done(Err(error));
            }
        }
    }

    /// Where the entries in `range` are now; `None` if there are none.
    fn see(&self, group: u32, range: &Range<u64>) -> Result<Option<Seen>, StorageError> {
        let queue = self.shared.lock();
        usable(&queue)?;
        let Some(view) = queue.views.get(&group) else {
            return Ok(None);
        };
        let range = range.start..range.end.min(view.next);
        if range.is_empty() {
            return Ok(None);
        }
        if range.start < view.first {
            return Err(match &view.purged {
                Some((upto, _)) => StorageError::Purged { group, upto: *upto },
                None => StorageError::Refused(format!(
                    "entry {} of group {group} never existed: the log begins at {}",
                    range.start, view.first
                )),
            });
        }
        let (in_memory_from, runs) = view.pending(&range);
        Ok(Some(Seen {
            range,
            in_memory_from,
            runs,
            cut: view.last_cut,
        }))
    }

    /// Reads what was seen, until `max_bytes` are reached.
    fn read_seen(
        &self,
        group: u32,
        seen: &Seen,
        max_bytes: usize,
    ) -> Result<Vec<(u64, LogEntry)>, StorageError> {
        fail::fail_point!("log-read-begun");
        let range = &seen.range;
        let mut out = Vec::new();
        let written = range.start..range.end.min(seen.in_memory_from);
        let wanted = usize::try_from(written.end.saturating_sub(written.start)).unwrap_or(0);
        self.read_written(group, written, max_bytes, &mut out)?;
        if out.len() < wanted {
            return Ok(out);
        }
        let mut bytes: usize = out.iter().map(|(_, entry)| entry.len_bytes()).sum();
        let in_memory = seen.runs.iter().flat_map(|run| run.entries(range.clone()));
        for (index, entry) in in_memory {
            bytes += entry.len_bytes();
            if bytes > max_bytes && !out.is_empty() {
                break;
            }
            out.push((index, entry.clone()));
        }
        Ok(out)
    }

    /// Reads `range`, which is known to have been written, until `max_bytes` are reached.
    fn read_written(
        &self,
        group: u32,
        range: Range<u64>,
        max_bytes: usize,
        out: &mut Vec<(u64, LogEntry)>,
    ) -> Result<(), StorageError> {
        if range.is_empty() {
            return Ok(());
        }
        let mut bytes = 0;
        let mut places = Vec::new();
        {
            let index = self.index.lock();
            let log = index.groups.get(&group);
            for at in range {
                let Some(place) = log.and_then(|log| log.place(at)) else {
                    drop(index);
                    return Err(self.missing(group, at));
                };
                bytes += place.len as usize;
                if bytes > max_bytes && !places.is_empty() {
                    break;
                }
                let used = index.segments.get(&place.segment);
                places.push((at, place, used.map(|used| Arc::clone(&used.segment))));
            }
        }
        for (at, place, segment) in places {
            // Nothing is known of an entry without knowing its segment.
            let segment = segment.ok_or_else(|| self.missing(group, at))?;
            out.push((at, segment.read(group, at, place.offset, place.len)?));
        }
        Ok(())
    }

    /// Why an entry that was there a moment ago is not.
    fn missing(&self, group: u32, index: u64) -> StorageError {
        let queue = self.shared.lock();
        let purged = queue
            .views
            .get(&group)
            .and_then(|view| view.purged.as_ref());
        match purged {
            Some((upto, _)) if *upto >= index => StorageError::Purged { group, upto: *upto },
            _ => StorageError::Hole {
                group,
                index,
                context: "it was written, but it cannot be read back".to_owned(),
            },
        }
    }

    fn with_view<T>(&self, group: u32, read: impl FnOnce(&View) -> T) -> Option<T> {
        self.shared.lock().views.get(&group).map(read)
    }
}

/// What a read has seen of a log.
struct Seen {
    /// What of the wanted range is there.
    range: Range<u64>,
    /// From here on it is taken from `runs`.
    in_memory_from: u64,
    runs: Vec<Run>,
    /// [`View::last_cut`].
    cut: u64,
}

fn usable(queue: &MutexGuard<'_, Queue>) -> Result<(), StorageError> {
    match &queue.failure {
        Some(error) => Err(error.clone()),
        None if queue.closing => Err(StorageError::Closed),
        None => Ok(()),
    }
}

fn weight(entries: &[LogEntry]) -> usize {
    entries.iter().map(|entry| entry.len_bytes() + 32).sum()
}

impl LogBackend for LogStore {
    fn append(&self, group: u32, first_index: u64, entries: Vec<LogEntry>, done: Done) {
        let bytes = weight(&entries);
        self.submit(bytes, done, |queue, ticket| {
            let too_long = |entry: &LogEntry| record::entry_len(entry) > MAX_PAYLOAD;
            if entries.iter().any(too_long) {
                return Err(StorageError::Refused(format!(
                    "an entry of group {group} is longer than {MAX_PAYLOAD} bytes"
                )));
            }
            if group == u32::MAX || first_index.checked_add(entries.len() as u64).is_none() {
                return Err(StorageError::Refused(format!(
                    "group {group} or index {first_index} is out of range"
                )));
            }
            if entries.is_empty() {
                return Ok(Command::Nothing);
            }
            let view = queue.view(group);
            if !view.fits(first_index) {
                return Err(StorageError::Refused(format!(
                    "append to group {group} at {first_index}, but the next index is {}",
                    view.next
                )));
            }
            let entries = Arc::new(entries);
            view.append(ticket, first_index, &entries);
            Ok(Command::Append {
                group,
                first: first_index,
                entries,
            })
        });
    }

    fn save_vote(&self, group: u32, vote: Bytes, done: Done) {
        self.submit(vote.len(), done, |queue, _| {
            queue.view(group).vote = Some(vote.clone());
            Ok(Command::Vote { group, vote })
        });
    }

    fn truncate_after(&self, group: u32, after: Option<u64>, done: Done) {
        self.submit(0, done, |queue, ticket| {
            queue.view(group).truncate(ticket, after);
            Ok(Command::Truncate { group, after })
        });
    }

    fn purge(&self, group: u32, upto: u64, meta: Bytes, done: Done) {
        self.submit(meta.len(), done, |queue, _| {
            Ok(if queue.view(group).purge(upto, meta.clone()) {
                Command::Purge { group, upto, meta }
            } else {
                Command::Nothing
            })
        });
    }

    fn save_committed(&self, group: u32, committed: Bytes) {
        let mut queue = self.shared.lock();
        if usable(&queue).is_ok() {
            queue.view(group).committed = Some(committed.clone());
            queue.committed.insert(group, committed);
        }
    }

    fn remove_group(&self, group: u32, done: Done) {
        self.submit(0, done, |queue, ticket| {
            queue.views.insert(group, View::removed(ticket));
            queue.committed.remove(&group);
            Ok(Command::Remove { group })
        });
    }

    fn read(
        &self,
        group: u32,
        range: Range<u64>,
        max_bytes: usize,
    ) -> Result<Vec<(u64, LogEntry)>, StorageError> {
        loop {
            let Some(seen) = self.see(group, &range)? else {
                return Ok(Vec::new());
            };
            let read = self.read_seen(group, &seen, max_bytes);
            // A truncation may have taken entries away meanwhile, and others may stand in their places.
            if self.with_view(group, |view| view.last_cut) == Some(seen.cut) {
                return read;
            }
        }
    }

    fn group(&self, group: u32) -> Result<GroupLog, StorageError> {
        let queue = self.shared.lock();
        usable(&queue)?;
        Ok(queue
            .views
            .get(&group)
            .map_or_else(GroupLog::default, View::group_log))
    }

    fn groups(&self) -> Vec<u32> {
        let queue = self.shared.lock();
        let known = queue.views.iter().filter(|(_, view)| !view.is_blank());
        known.map(|(group, _)| *group).collect()
    }

    fn synced(&self, group: u32) -> Option<u64> {
        self.with_view(group, View::synced).flatten()
    }

    fn retained_bytes(&self, group: u32) -> u64 {
        self.with_view(group, |view| view.sizes.total())
            .unwrap_or(0)
    }

    fn retained_bytes_of_all(&self) -> u64 {
        let queue = self.shared.lock();
        queue.views.values().map(|view| view.sizes.total()).sum()
    }

    fn purge_candidate(&self, group: u32, keep_bytes: u64) -> Option<u64> {
        self.with_view(group, |view| view.sizes.before_tail(keep_bytes))
            .flatten()
    }

    fn poisoned(&self) -> Option<StorageError> {
        self.shared.lock().failure.clone()
    }

    fn under_way(&self) -> Option<(Duration, usize)> {
        let under_way = self.shared.lock().under_way;
        under_way.map(|(since, bytes)| (since.elapsed(), bytes))
    }

    fn on_poison(&self, callback: Box<dyn FnOnce(StorageError) + Send>) {
        let mut queue = self.shared.lock();
        match queue.failure.clone() {
            Some(error) => {
                drop(queue);
                callback(error);
            }
            None => queue.watchers.push(callback),
        }
    }
}

impl Drop for LogStore {
    fn drop(&mut self) {
        self.shared.close();
        let Some(writer) = self.writer.take() else {
            return;
        };
        if writer.thread().id() == std::thread::current().id() {
            // A completion held the last handle, so this is the writer, which cannot wait for
            // itself. It writes what is queued and ends when the completion returns.
            return;
        }
        if writer.join().is_err() {
            tracing::error!("the writer of the log had panicked");
        }
    }
}
