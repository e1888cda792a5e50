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
use crate::sealed;
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
pub(crate) fn open(inner: &Arc<Inner>, shard: u32) -> Result<Option<ShardView>, StorageError> {
    let (ready, opened) = sync_channel(1);
    let (chunks, received) = sync_channel(1);
    let inner = Arc::clone(inner);
    let thread = std::thread::Builder::new().name(format!("view-{shard}"));
    thread
        .spawn(move || stream(&Counted::new(inner), shard, &ready, &chunks))
        .map_err(|error| StorageError::Read(format!("no thread for a view: {error}")))?;
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
        && let Err(error) = begun.send_all(&mut |chunk| chunks.send(Ok(chunk)).is_ok())
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

    fn send_all(mut self, send: &mut impl FnMut(Bytes) -> bool) -> Result<(), StorageError> {
        let mut writer = ChunkWriter::new();
        let shard = self.scope.shard;
        let key = RecordKey::new(self.scope, Record::Origins).to_bytes();
        let what = || format!("origins of shard {shard}");
        let origins = self.get(RECORDS, &key, what)?;
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
        while let Some((raw, value)) = self.messages.item() {
            let (scope, key) = MessageKey::from_bytes(raw).ok_or_else(|| unknown_key(raw))?;
            let payload = match open_message(scope, key, raw, value)? {
                Stored::Inline(payload) => payload,
                Stored::Stub(len) => {
                    let body = self.get(BODIES, raw, || name(scope, key))?;
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

    fn get(
        &self,
        family: &'static str,
        key: &[u8],
        what: impl FnOnce() -> String,
    ) -> Result<Option<Bytes>, StorageError> {
        let value = self
            .snapshot
            .get_cf(self.inner.family(family)?, key)
            .map_err(|error| StorageError::read(&error))?;
        value
            .map(|value| sealed::open(key, Bytes::from(value), what))
            .transpose()
    }
}
