//! A consistent view of a shard, streamed in chunks.
//!
//! A view is a RocksDB snapshot, which borrows the database; a thread of its own holds it and reads
//! ahead by one chunk. Dropping the view ends the thread.

use super::chunk::{ChunkWriter, ItemKey};
use super::inner::Inner;
use super::load::open_queue_record;
use super::message_key::{MessageKey, Scope};
use super::messages::{Stored, check_body, name, open_message, unknown_key};
use super::options::{BODIES, MESSAGES, RECORDS};
use super::record_key::{Record, RecordKey};
use crate::error::StorageError;
use bytes::Bytes;
use rocksdb::{DBRawIterator, ReadOptions, Snapshot};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// A shard as a checkpoint left it, unaffected by later ones, to be sent to another replica.
///
/// While a view exists, the space of what is deleted meanwhile stays occupied.
pub struct ShardView {
    applied: Bytes,
    chunks: Receiver<Result<Bytes, StorageError>>,
    failed: Option<StorageError>,
}

impl ShardView {
    /// What the checkpoint was told to remember as applied.
    #[must_use]
    pub fn applied(&self) -> &Bytes {
        &self.applied
    }

    /// The next chunk, of at most [`MAX_CHUNK_BYTES`](super::MAX_CHUNK_BYTES); `None` behind the
    /// last. Blocks while it is read.
    ///
    /// # Errors
    /// The shard cannot be read, or is damaged.
    pub fn next_chunk(&mut self) -> Result<Option<Bytes>, StorageError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        match self.chunks.recv() {
            Ok(Ok(chunk)) => Ok(Some(chunk)),
            Ok(Err(error)) => {
                self.failed = Some(error.clone());
                Err(error)
            }
            Err(_) => Ok(None),
        }
    }
}

/// Whether a stored message of a queue exists.
pub type Existing = Box<dyn Fn(MessageKey) -> bool>;

/// Makes that of a queue and its record.
pub(crate) trait ExistingOf:
    Fn(u64, Option<Bytes>) -> Result<Existing, StorageError>
{
}
impl<F: Fn(u64, Option<Bytes>) -> Result<Existing, StorageError>> ExistingOf for F {}

/// Counts a view, so that no files are dropped under it.
struct Counted(Arc<Inner>);

impl Counted {
    fn new(inner: Arc<Inner>) -> Self {
        inner.views.fetch_add(1, Ordering::AcqRel);
        Self(inner)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.views.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Opens a view; `None` if the shard has no checkpoint.
pub(crate) fn open(
    inner: &Arc<Inner>,
    shard: u32,
    existing: impl ExistingOf + Send + 'static,
) -> Result<Option<ShardView>, StorageError> {
    let (ready, opened) = sync_channel(1);
    let (chunks, received) = sync_channel(1);
    let counted = Counted::new(Arc::clone(inner));
    let thread = std::thread::Builder::new().name(format!("view-{shard}"));
    let thread = thread
        .spawn(move || stream(&counted, shard, &existing, &ready, &chunks))
        .map_err(|error| StorageError::Read(format!("no thread for a view: {error}")))?;
    inner.note_view(thread);
    let closed = |_| StorageError::Read("the thread of a view ended early".to_owned());
    let applied = opened.recv().map_err(closed)??;
    Ok(applied.map(|applied| ShardView {
        applied,
        chunks: received,
        failed: None,
    }))
}

type Opened = Result<Option<Bytes>, StorageError>;

fn stream(
    inner: &Counted,
    shard: u32,
    existing: &impl ExistingOf,
    ready: &SyncSender<Opened>,
    chunks: &SyncSender<Result<Bytes, StorageError>>,
) {
    let inner = &inner.0;
    let begun = match Reading::begin(inner, shard) {
        Ok(Some(begun)) => begun,
        Ok(None) => return drop(ready.send(Ok(None))),
        Err(error) => return drop(ready.send(Err(error))),
    };
    if ready.send(Ok(Some(begun.applied.clone()))).is_ok()
        && let Err(error) = begun.send_all(existing, &mut |chunk| chunks.send(Ok(chunk)).is_ok())
    {
        let _ = chunks.send(Err(error));
    }
}

/// The snapshot, and iterators that also keep its files.
struct Reading<'a> {
    inner: &'a Inner,
    snapshot: Snapshot<'a>,
    scope: Scope,
    applied: Bytes,
    messages: DBRawIterator<'a>,
    queues: DBRawIterator<'a>,
}

impl<'a> Reading<'a> {
    fn begin(inner: &'a Inner, shard: u32) -> Result<Option<Self>, StorageError> {
        // Between checkpoints: never with the messages that one of several batches has put so far.
        let writer = inner.writer()?;
        let Some(scope) = inner.scope(shard) else {
            return Ok(None);
        };
        let snapshot = inner.db.snapshot();
        let key = RecordKey::new(scope, Record::Applied).to_bytes();
        let what = || format!("applied state of shard {shard}");
        let Some(applied) = inner.get(RECORDS, &key, what)? else {
            return Err(StorageError::Corrupt {
                what: what(),
                problem: "missing".to_owned(),
            });
        };
        let options = || {
            let mut options = ReadOptions::default();
            options.set_snapshot(&snapshot);
            options.set_readahead_size(1 << 20);
            options.fill_cache(false);
            options
        };
        let messages =
            inner.iterate(MESSAGES, scope.to_bytes().to_vec(), scope.end(), options())?;
        let (from, end) = RecordKey::queue_range(scope);
        let queues = inner.iterate(RECORDS, from, end, options())?;
        drop(writer);
        Ok(Some(Self {
            inner,
            snapshot,
            scope,
            applied,
            messages,
            queues,
        }))
    }

    fn send_all(
        mut self,
        existing: &impl ExistingOf,
        send: &mut impl FnMut(Bytes) -> bool,
    ) -> Result<(), StorageError> {
        let mut writer = ChunkWriter::new();
        let shard = self.scope.shard;
        let key = RecordKey::new(self.scope, Record::Origins).to_bytes();
        let what = || format!("origins of shard {shard}");
        let origins = self.inner.get_at(&self.snapshot, RECORDS, &key, what)?;
        if !writer.push(ItemKey::Origins, &origins.unwrap_or_default(), send) {
            return Ok(());
        }
        while let Some((raw, value)) = self.queues.item() {
            let (queue, record) = open_queue_record(raw, value)?;
            if !writer.push(ItemKey::Queue(queue), &record, send) {
                return Ok(());
            }
            self.queues.next();
        }
        self.queues
            .status()
            .map_err(|error| StorageError::read(&error))?;
        let mut of_queue: Option<(u64, Existing)> = None;
        while let Some((raw, value)) = self.messages.item() {
            let (scope, key) = MessageKey::from_bytes(raw).ok_or_else(|| unknown_key(raw))?;
            let exists = match of_queue.take() {
                Some((queue, exists)) if queue == key.queue => exists,
                _ => existing(key.queue, self.record(key.queue)?)?,
            };
            let is_there = exists(key);
            of_queue = Some((key.queue, exists));
            if !is_there {
                self.messages.next();
                continue;
            }
            let payload = match open_message(scope, key, raw, value)? {
                Stored::Inline(payload) => payload,
                Stored::Stub(len) => {
                    let what = || name(scope, key);
                    let body = self.inner.get_at(&self.snapshot, BODIES, raw, what)?;
                    check_body(scope, key, len, body)?
                }
            };
            if !writer.push(ItemKey::Message(key), &payload, send) {
                return Ok(());
            }
            self.messages.next();
        }
        self.messages
            .status()
            .map_err(|error| StorageError::read(&error))?;
        writer.finish(send);
        Ok(())
    }

    fn record(&self, queue: u64) -> Result<Option<Bytes>, StorageError> {
        let key = RecordKey::new(self.scope, Record::Queue(queue)).to_bytes();
        let what = || format!("record of queue {queue} in shard {}", self.scope.shard);
        self.inner.get_at(&self.snapshot, RECORDS, &key, what)
    }
}

#[cfg(test)]
mod tests {
    use super::super::chunk::ChunkReader;
    use super::super::reclaim::tests::{Store, body};
    use super::*;

    #[test]
    fn a_view_has_what_exists_by_the_records() {
        let store = Store::new();
        store.put(&[(1, 1, 3), (2, 1, 3)], 8000);
        // It is dead, and its body is gone.
        store.take_body(1, 2);
        let existing = |queue, record: Option<Bytes>| -> Result<Existing, StorageError> {
            assert_eq!(record, None);
            Ok(Box::new(move |key| queue == 1 && key.sequence != 2))
        };
        let mut view = store.store().view(1, existing).unwrap().unwrap();
        let mut found = Vec::new();
        let mut reader = ChunkReader::default();
        while let Some(chunk) = view.next_chunk().unwrap() {
            let visit = &mut |key, value| {
                if let ItemKey::Message(key) = key {
                    assert_eq!(value, body(key.sequence, 8000));
                    found.push((key.queue, key.sequence));
                }
                Ok(())
            };
            reader.read(chunk, visit).unwrap();
        }
        assert!(reader.is_complete());
        assert_eq!(found, vec![(1, 1), (1, 3)]);

        let all = |_, _| -> Result<Existing, StorageError> { Ok(Box::new(|_| true)) };
        let mut view = store.store().view(1, all).unwrap().unwrap();
        let error = loop {
            match view.next_chunk() {
                Ok(chunk) => assert!(chunk.is_some(), "it ends without an error"),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, StorageError::Corrupt { .. }), "{error:?}");
    }
}
