//! Gives disk space of consumed messages back at once, by dropping whole sorted files.
//!
//! Range deletions alone free space only when compaction comes by. What was consumed is
//! remembered per level as one growing range, so that a file that several checkpoints consumed
//! together is dropped as well.

use super::inner::Inner;
use super::message_key::{MessageKey, Scope};
use super::messages::DeadRange;
use super::options::MESSAGES;
use super::whole_files::{self, Keys};
use crate::error::StorageError;
use std::collections::HashMap;
use std::sync::atomic::Ordering;

/// Consumed positions of a level that are worth a look for whole files.
const WORTHWHILE: u64 = 2048;
/// Levels remembered; beyond them space comes back by compaction.
const MAX_LEVELS: usize = 4096;

#[derive(Default)]
pub(crate) struct Reclaim {
    levels: HashMap<(Scope, u64, u8), Consumed>,
    /// Ranges of keys to be looked at when no view is being streamed.
    due: Vec<Due>,
}

struct Due {
    /// The queue whose messages are meant; `None` for whole epochs.
    queue: Option<(Scope, u64)>,
    from: Vec<u8>,
    end: Vec<u8>,
}

struct Consumed {
    from: u64,
    to: u64,
    /// Positions since the last look.
    fresh: u64,
}

impl Reclaim {
    /// Notes that a range was deleted.
    pub(crate) fn consumed(&mut self, scope: Scope, range: DeadRange) {
        let key = (scope, range.queue, range.level);
        if self.levels.len() >= MAX_LEVELS && !self.levels.contains_key(&key) {
            return;
        }
        let consumed = self.levels.entry(key).or_insert(Consumed {
            from: range.from,
            to: range.from.saturating_sub(1),
            fresh: 0,
        });
        let touches = range.from <= consumed.to.saturating_add(1)
            && range.to.saturating_add(1) >= consumed.from;
        if touches {
            consumed.from = consumed.from.min(range.from);
            consumed.to = consumed.to.max(range.to);
        } else if range.to > consumed.to {
            // Something alive lies between: begin anew behind it.
            *consumed = Consumed {
                from: range.from,
                to: range.to,
                fresh: consumed.fresh,
            };
        } else {
            return;
        }
        consumed.fresh = consumed.fresh.saturating_add(range.len());
        if consumed.fresh >= WORTHWHILE {
            consumed.fresh = 0;
            let dead = DeadRange {
                from: consumed.from,
                to: consumed.to,
                ..range
            };
            let from = dead.first().to_bytes(scope).to_vec();
            self.due(Some((scope, range.queue)), from, dead.last().after(scope));
        }
    }

    /// All that was consumed is looked at next, however little it is.
    pub(crate) fn all_due(&mut self) {
        let mut ranges = Vec::new();
        for ((scope, queue, level), consumed) in &mut self.levels {
            if std::mem::take(&mut consumed.fresh) > 0 {
                let dead = DeadRange {
                    queue: *queue,
                    level: *level,
                    from: consumed.from,
                    to: consumed.to,
                };
                ranges.push((*scope, dead));
            }
        }
        for (scope, dead) in ranges {
            let from = dead.first().to_bytes(scope).to_vec();
            self.due(Some((scope, dead.queue)), from, dead.last().after(scope));
        }
    }

    /// Notes that a queue was dropped.
    pub(crate) fn dropped(&mut self, scope: Scope, queue: u64) {
        self.levels
            .retain(|(in_scope, of, _), _| (*in_scope, *of) != (scope, queue));
        let (from, end) = MessageKey::queue_range(scope, queue);
        self.due(Some((scope, queue)), from, end);
    }

    /// Notes that whole epochs were dropped.
    pub(crate) fn dropped_scopes(&mut self, from: Scope, end: Scope) {
        self.levels
            .retain(|(scope, ..), _| *scope < from || *scope >= end);
        self.due(None, from.to_bytes().to_vec(), end.to_bytes().to_vec());
    }

    /// Notes that messages of `queue` are stored: a dropped queue may have come back, and its
    /// files must not be dropped by a look that was put off.
    pub(crate) fn stored(&mut self, scope: Scope, queue: u64) {
        self.due.retain(|due| due.queue != Some((scope, queue)));
    }

    fn due(&mut self, queue: Option<(Scope, u64)>, from: Vec<u8>, end: Vec<u8>) {
        if self.due.len() < MAX_LEVELS {
            self.due.push(Due { queue, from, end });
        }
    }

    /// Drops files. Only after the deletions were flushed: files are gone at once, and a crash must
    /// not bring the deletions back out of what remains.
    pub(crate) fn run(&mut self, inner: &Inner) {
        if self.due.is_empty() || inner.views.load(Ordering::Acquire) > 0 {
            return;
        }
        if let Err(error) = drop_files(inner, self.due.drain(..)) {
            tracing::warn!(%error, "cannot drop files of consumed messages");
        }
    }
}

fn drop_files(inner: &Inner, due: impl Iterator<Item = Due>) -> Result<(), StorageError> {
    let before = whole_files::list(inner)?;
    let family = inner.family(MESSAGES)?;
    let mut dropped = Vec::new();
    for Due { from, end, .. } in due {
        // RocksDB takes the end as inclusive: no message's key equals one of these ends.
        let dead = Keys {
            first: from,
            last: end,
        };
        if let Some(keys) = whole_files::droppable(&before, dead) {
            let (from, end) = (&keys.first, &keys.last);
            inner
                .db
                .delete_file_in_range_cf(family, from, end)
                .map_err(|error| StorageError::read(&error))?;
            dropped.push(keys);
        }
    }
    if dropped.is_empty() {
        return Ok(());
    }
    // Files that are being merged stay: what is in them is deleted anew.
    let after = whole_files::list(inner)?;
    let mut again = inner.batch();
    for keys in &dropped {
        for Keys { first, mut last } in whole_files::come_back(&before, &after, keys) {
            // The end of a deletion is not deleted; that of `keys` is no message's key.
            if last < keys.last {
                last.push(0);
            }
            again.delete_range(MESSAGES, &first, &last)?;
        }
    }
    if again.is_empty() {
        return Ok(());
    }
    inner.write(again)?;
    inner.flush()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::options::{BODIES, StateOptions};
    use super::super::{Checkpoint, StateStore};
    use super::*;
    use bytes::Bytes;
    use rocksdb::WaitForCompactOptions;
    use std::sync::atomic::AtomicU64;
    use tempfile::TempDir;

    /// A store of one shard whose files are so small that they are merged in tests.
    pub(crate) struct Store {
        store: Option<StateStore>,
        dir: TempDir,
        applied: AtomicU64,
    }

    pub(crate) fn body(sequence: u64, size: usize) -> Bytes {
        // Not compressible, so that files get as large as what they hold.
        let mut word = sequence.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let words = std::iter::repeat_with(|| {
            word ^= word << 13;
            word ^= word >> 7;
            word ^= word << 17;
            word.to_le_bytes()
        });
        words.flatten().take(size).collect()
    }

    impl Store {
        pub(crate) fn new() -> Self {
            let mut store = Self {
                store: None,
                dir: tempfile::tempdir().unwrap(),
                applied: AtomicU64::new(0),
            };
            store.open_again();
            store
        }

        pub(crate) fn close(&mut self) {
            self.store = None;
        }

        pub(crate) fn files(&self, of_kind: &str) -> Vec<std::path::PathBuf> {
            let files = std::fs::read_dir(self.dir.path()).unwrap();
            let files = files.map(|file| file.unwrap().path());
            files
                .filter(|path| path.extension().is_some_and(|kind| kind == of_kind))
                .collect()
        }

        pub(crate) fn open_again(&mut self) {
            self.close();
            let options = StateOptions {
                write_buffer_bytes: 1 << 20,
                block_cache_bytes: 1 << 20,
                batch_bytes: 64 << 10,
                file_bytes: 256 << 10,
                ..StateOptions::default()
            };
            self.store = Some(StateStore::open(self.dir.path(), options).unwrap());
        }

        pub(crate) fn store(&self) -> &StateStore {
            self.store.as_ref().unwrap()
        }

        pub(crate) fn inner(&self) -> &Inner {
            &self.store().inner
        }

        pub(crate) fn scope(&self) -> Scope {
            self.inner().scope(1).unwrap()
        }

        /// Stores messages of queues.
        pub(crate) fn put(&self, runs: &[(u64, u64, u64)], size: usize) {
            let puts = runs.iter().flat_map(|&(queue, from, to)| {
                (from..=to).map(move |sequence| {
                    let key = MessageKey {
                        queue,
                        level: 0,
                        sequence,
                    };
                    (key, body(sequence, size))
                })
            });
            self.write(puts, Vec::new());
        }

        pub(crate) fn delete(&self, queue: u64, from: u64, to: u64) {
            let dead = DeadRange {
                queue,
                level: 0,
                from,
                to,
            };
            self.write(None, vec![dead]);
        }

        fn write(
            &self,
            puts: impl IntoIterator<Item = (MessageKey, Bytes)>,
            deletes: Vec<DeadRange>,
        ) {
            let applied = self.applied.fetch_add(1, Ordering::Relaxed);
            let checkpoint = Checkpoint {
                puts,
                deletes,
                dropped_queues: Vec::new(),
                queue_records: Vec::new(),
                origins: Bytes::new(),
            };
            self.store()
                .write_checkpoint(1, checkpoint, &applied.to_le_bytes())
                .unwrap();
        }

        /// Leaves a message without its body.
        pub(crate) fn take_body(&self, queue: u64, sequence: u64) {
            let key = MessageKey {
                queue,
                level: 0,
                sequence,
            };
            let mut batch = self.inner().batch();
            batch.delete(BODIES, &key.to_bytes(self.scope())).unwrap();
            self.inner().write(batch).unwrap();
        }

        pub(crate) fn read(&self, queue: u64) -> Result<Vec<(u64, Bytes)>, StorageError> {
            self.store()
                .read_messages(1, queue, 0, 0..=u64::MAX, usize::MAX, usize::MAX)
        }

        fn merged(&self) {
            self.inner()
                .db
                .wait_for_compact(&WaitForCompactOptions::default())
                .unwrap();
        }
    }

    /// A queue beside others, consumed a little at a time, while files are merged on several levels.
    #[test]
    fn nothing_that_was_consumed_comes_back() {
        for (size, step) in [(300, 300), (5000, 300)] {
            let store = Store::new();
            // One that is idle, in the same files.
            store.put(&[(9, 1, 3), (10, 1, 500)], size);
            for from in (501..4000).step_by(500) {
                store.put(&[(10, from, from + 499)], size);
                store.merged();
            }
            // More levels.
            for from in (1..6000).step_by(500) {
                store.put(&[(20, from, from + 499)], 1000);
                store.merged();
            }
            for from in (1..=3600).step_by(step) {
                let to = from + u64::try_from(step).unwrap() - 1;
                store.delete(10, from, to);
                store.merged();
                let read = store.read(10).unwrap();
                let first = read.first().map(|(sequence, _)| *sequence);
                assert_eq!(first, Some(to + 1), "of {size} bytes, {step} at a time");
            }
        }
    }
}
