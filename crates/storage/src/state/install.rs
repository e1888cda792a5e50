//! Installing a shard that another replica has sent.
//!
//! Everything goes under a new epoch. The last batch makes that epoch the valid one and deletes the
//! older ones; it is flushed, together with everything before it, before the install is reported. A
//! crash before that leaves the old epoch whole, and the next start removes the new one.

use super::checkpoint::put_shard;
use super::chunk::{ChunkReader, ItemKey};
use super::inner::Inner;
use super::message_key::Scope;
use super::options::RECORDS;
use super::record_key::{Record, RecordKey};
use crate::error::StorageError;
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A shard in the course of being replaced. Dropped without [`ShardInstall::finish`], it changes
/// nothing.
pub struct ShardInstall {
    inner: Arc<Inner>,
    scope: Scope,
    reader: ChunkReader,
    origins: Bytes,
    finished: bool,
}

impl ShardInstall {
    pub(crate) fn new(inner: Arc<Inner>, shard: u32) -> Self {
        let scope = inner.unused_epoch(shard);
        Self {
            inner,
            scope,
            reader: ChunkReader::default(),
            origins: Bytes::new(),
            finished: false,
        }
    }

    /// Stores what the next chunk of a [`ShardView`](super::ShardView) holds. Chunks come in order.
    ///
    /// # Errors
    /// [`StorageError::Refused`] if the chunk is damaged or does not follow, [`StorageError::DiskFull`] if it would take from the reserve
    /// of the disk; else the store failed.
    pub fn write(&mut self, chunk: Bytes) -> Result<(), StorageError> {
        self.inner
            .options
            .check_room(&self.inner.dir, chunk.len())?;
        let Self {
            inner,
            scope,
            reader,
            origins,
            ..
        } = self;
        let _writer = inner.writer()?;
        let mut batch = inner.batch();
        reader.read(chunk, &mut |key, value| match key {
            ItemKey::Message(key) => {
                inner.metrics.messages.fetch_add(1, Ordering::Relaxed);
                inner
                    .metrics
                    .bytes
                    .fetch_add(value.len() as u64, Ordering::Relaxed);
                batch.put_message(*scope, key, &value)
            }
            ItemKey::Queue(queue) => {
                let key = RecordKey::new(*scope, Record::Queue(queue)).to_bytes();
                batch.put(RECORDS, &key, &[&value])
            }
            ItemKey::Origins => {
                *origins = value;
                Ok(())
            }
        })?;
        let write = || {
            crate::failpoint!("state-install-chunk");
            Ok(())
        };
        write().map_err(StorageError::Refused)?;
        if batch.is_empty() {
            Ok(())
        } else {
            inner.write(batch)
        }
    }

    /// Makes what was sent the shard's state, durably. What was there before is gone.
    ///
    /// # Errors
    /// [`StorageError::Refused`] if chunks are missing: the old state stays. Else the store failed.
    pub fn finish(mut self, applied: &[u8]) -> Result<(), StorageError> {
        if !self.reader.is_complete() {
            return Err(StorageError::Refused(format!(
                "the snapshot of shard {} ended early; the leader will send it again",
                self.scope.shard
            )));
        }
        let inner = Arc::clone(&self.inner);
        let mut writer = inner.writer()?;
        let mut batch = inner.batch();
        let oldest = Scope {
            epoch: 1,
            ..self.scope
        };
        batch.delete_scopes(oldest, &self.scope.to_bytes())?;
        inner.garbage.add();
        put_shard(&mut batch, self.scope, &self.origins, applied)?;
        inner.write(batch)?;
        inner.flush()?;
        inner.switched(self.scope);
        self.finished = true;
        writer.reclaim.dropped_scopes(oldest, self.scope);
        writer.reclaim.run(&inner);
        Ok(())
    }
}

impl Drop for ShardInstall {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        // Best effort: the next start removes it otherwise.
        let remove = || -> Result<(), StorageError> {
            let mut writer = self.inner.writer()?;
            let mut batch = self.inner.batch();
            batch.delete_scopes(self.scope, &self.scope.end())?;
            self.inner.garbage.add();
            self.inner.write(batch)?;
            // Its files go after the next flush.
            let end = Scope {
                epoch: self.scope.epoch.saturating_add(1),
                ..self.scope
            };
            writer.reclaim.dropped_scopes(self.scope, end);
            Ok(())
        };
        if let Err(error) = remove() {
            tracing::warn!(%error, "cannot remove a snapshot that was not installed");
        }
    }
}
