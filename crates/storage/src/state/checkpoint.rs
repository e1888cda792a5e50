//! Writing a checkpoint so that a crash leaves the last one or this one, never a mixture.
//!
//! A small checkpoint is one batch. A large one would need its size in memory twice more, so its
//! new messages go ahead in several batches, and everything else (deletions, records, applied)
//! follows in the last one. Messages that went ahead are not referred to by the records of the last
//! checkpoint, so they harm nobody; each of these batches also writes an undo record that lists
//! them, and the last batch deletes the undo records. If the last batch is not found at the next
//! start, the undo records are, and what they list is taken out again: the store is exactly at the
//! last checkpoint. There is no write-ahead log, but all families are flushed together and in the
//! order of the writes, so an undo record is never missing when its messages are there.

use super::inner::{Batch, Inner, WriterState};
use super::message_key::{MessageKey, Scope};
use super::messages::{DeadRange, unknown_key};
use super::options::RECORDS;
use super::record_key::{Record, RecordKey};
use crate::error::StorageError;
use crate::sealed;
use bytes::Bytes;
use rocksdb::ReadOptions;
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// What changed in a shard since its last checkpoint.
#[derive(Debug, Clone, Default)]
pub struct Checkpoint<P> {
    /// Queues to remove with all that is stored of them, before anything else of this checkpoint
    /// is written: one may have come back.
    pub dropped_queues: Vec<u64>,
    /// Messages to store, sorted by key, each never stored before (unless its queue is among
    /// `dropped_queues`). An iterator may encode them one by one.
    pub puts: P,
    /// Stored messages that are dead.
    pub deletes: Vec<DeadRange>,
    /// Records of changed queues.
    pub queue_records: Vec<(u64, Bytes)>,
    /// The record of the shard itself.
    pub origins: Bytes,
}

impl Inner {
    pub(crate) fn write_checkpoint<P>(
        &self,
        shard: u32,
        checkpoint: Checkpoint<P>,
        applied: &[u8],
    ) -> Result<(), StorageError>
    where
        P: IntoIterator<Item = (MessageKey, Bytes)>,
    {
        let arrived = self.flushes.arrive();
        let mut writer = self.writer()?;
        let started = Instant::now();
        let epoch = self.epochs_of(shard).for_checkpoint();
        let scope = Scope { shard, epoch };
        let dropped: BTreeSet<u64> = checkpoint.dropped_queues.iter().copied().collect();
        for queue in &dropped {
            writer.reclaim.dropped(scope, *queue);
        }
        // Puts of a queue that was dropped and came back must not go ahead of the drop.
        let mut last = self.batch();
        for queue in &dropped {
            last.delete_queue(scope, *queue)?;
            let key = RecordKey::new(scope, Record::Queue(*queue));
            last.delete(RECORDS, &key.to_bytes())?;
        }
        let mut ahead = Ahead::new(self, scope);
        let mut queue = None;
        for (key, payload) in checkpoint.puts {
            if queue != Some(key.queue) {
                queue = Some(key.queue);
                writer.reclaim.stored(scope, key.queue);
            }
            self.metrics.messages.fetch_add(1, Ordering::Relaxed);
            self.metrics
                .bytes
                .fetch_add(payload.len() as u64, Ordering::Relaxed);
            if dropped.contains(&key.queue) {
                last.put_message(scope, key, &payload)?;
            } else {
                ahead.put(key, &payload)?;
            }
        }
        let mut last = ahead.merge_into(last)?;
        for range in &checkpoint.deletes {
            last.delete_messages(scope, *range)?;
            writer.reclaim.consumed(scope, *range);
        }
        for (queue, record) in &checkpoint.queue_records {
            let key = RecordKey::new(scope, Record::Queue(*queue));
            last.put(RECORDS, &key.to_bytes(), &[record])?;
        }
        if !dropped.is_empty() || !checkpoint.deletes.is_empty() {
            self.garbage.add();
        }
        put_shard(&mut last, scope, &checkpoint.origins, applied)?;
        self.write(last)?;
        let written = arrived.written();
        drop(writer);
        written.await_turn();
        let mut writer = self.writer()?;
        if !written.is_flushed() {
            self.flush()?;
            written.flushed();
            let WriterState { reclaim } = &mut *writer;
            reclaim.run(self);
        }
        self.switched(scope);
        drop(writer);
        self.metrics.checkpoint_us.record_time(started.elapsed());
        Ok(())
    }

    /// Takes out what checkpoints that did not come to their end have put.
    pub(crate) fn undo(&self, scope: Scope) -> Result<bool, StorageError> {
        let (from, end) = RecordKey::undo_range(scope);
        let mut ranges = Vec::new();
        let undos = self.iterate(RECORDS, from.clone(), end.clone(), ReadOptions::default())?;
        super::inner::for_each(undos, |raw, value| {
            let what = || format!("undo record of shard {}", scope.shard);
            let payload = sealed::open(raw, Bytes::copy_from_slice(value), what)?;
            for run in payload.as_chunks::<RUN_LEN>().0 {
                ranges.push(decode_run(run).ok_or_else(|| unknown_key(raw))?);
            }
            Ok(())
        })?;
        if ranges.is_empty() {
            return Ok(false);
        }
        let mut batch = self.batch();
        for range in ranges {
            batch.delete_messages(scope, range)?;
        }
        batch.delete_range(RECORDS, &from, &end)?;
        self.write(batch)?;
        Ok(true)
    }
}

/// What every checkpoint writes about the shard; makes its epoch the valid one.
pub(crate) fn put_shard(
    batch: &mut Batch<'_>,
    scope: Scope,
    origins: &[u8],
    applied: &[u8],
) -> Result<(), StorageError> {
    batch.put(
        RECORDS,
        &RecordKey::new(scope, Record::Origins).to_bytes(),
        &[origins],
    )?;
    batch.put(
        RECORDS,
        &RecordKey::new(scope, Record::Applied).to_bytes(),
        &[applied],
    )?;
    batch.put_epoch(scope)
}

/// Messages that go ahead of the last batch of a checkpoint.
struct Ahead<'a> {
    inner: &'a Inner,
    scope: Scope,
    batch: Batch<'a>,
    /// Consecutive positions in `batch`.
    runs: Vec<DeadRange>,
    /// Batches written.
    written: u64,
}

impl<'a> Ahead<'a> {
    fn new(inner: &'a Inner, scope: Scope) -> Self {
        Self {
            inner,
            scope,
            batch: inner.batch(),
            runs: Vec::new(),
            written: 0,
        }
    }

    fn put(&mut self, key: MessageKey, payload: &[u8]) -> Result<(), StorageError> {
        if self.batch.len_bytes() + payload.len() > self.inner.options.batch_bytes
            && !self.batch.is_empty()
        {
            self.write()?;
        }
        self.batch.put_message(self.scope, key, payload)?;
        match self.runs.last_mut() {
            Some(run)
                if (run.queue, run.level) == (key.queue, key.level)
                    && run.to.checked_add(1) == Some(key.sequence) =>
            {
                run.to = key.sequence;
            }
            _ => self.runs.push(DeadRange {
                queue: key.queue,
                level: key.level,
                from: key.sequence,
                to: key.sequence,
            }),
        }
        Ok(())
    }

    fn write(&mut self) -> Result<(), StorageError> {
        let mut batch = std::mem::replace(&mut self.batch, self.inner.full_batch());
        let key = RecordKey::new(self.scope, Record::Undo(self.written)).to_bytes();
        let runs: Vec<u8> = self.runs.drain(..).flat_map(encode_run).collect();
        batch.put(RECORDS, &key, &[&runs])?;
        self.written += 1;
        self.inner.write(batch)
    }

    /// The last batch, after what has not been written yet: `last` must not touch the same keys.
    fn merge_into(mut self, last: Batch<'a>) -> Result<Batch<'a>, StorageError> {
        let mut last = if last.is_empty() {
            // The usual case: the only batch of messages becomes the last one.
            self.batch
        } else {
            if !self.batch.is_empty() {
                self.write()?;
            }
            last
        };
        if self.written > 0 {
            let (from, end) = RecordKey::undo_range(self.scope);
            last.delete_range(RECORDS, &from, &end)?;
        }
        Ok(last)
    }
}

const RUN_LEN: usize = 25;

fn encode_run(run: DeadRange) -> [u8; RUN_LEN] {
    let mut bytes = [0; RUN_LEN];
    bytes[..8].copy_from_slice(&run.queue.to_le_bytes());
    bytes[8] = run.level;
    bytes[9..17].copy_from_slice(&run.from.to_le_bytes());
    bytes[17..].copy_from_slice(&run.to.to_le_bytes());
    bytes
}

fn decode_run(bytes: &[u8; RUN_LEN]) -> Option<DeadRange> {
    let (queue, rest) = bytes.split_first_chunk::<8>()?;
    let (&[level], rest) = rest.split_first_chunk::<1>()?;
    let (from, rest) = rest.split_first_chunk::<8>()?;
    let to: [u8; 8] = rest.try_into().ok()?;
    Some(DeadRange {
        queue: u64::from_le_bytes(*queue),
        level,
        from: u64::from_le_bytes(*from),
        to: u64::from_le_bytes(to),
    })
}

#[cfg(test)]
mod tests {
    use super::super::options::BODIES;
    use super::super::reclaim::tests::{Store, body};
    use super::*;

    #[test]
    fn large_messages_of_an_interrupted_checkpoint_are_removed_at_the_next_start() {
        let mut store = Store::new();
        store.put(&[(1, 1, 1)], 8000);
        let scope = store.scope();
        let mut ahead = Ahead::new(store.inner(), scope);
        for sequence in 1..=100 {
            let key = MessageKey {
                queue: 2,
                level: 0,
                sequence,
            };
            ahead.put(key, &body(sequence, 8000)).unwrap();
        }
        ahead.write().unwrap();
        store.inner().flush().unwrap();
        store.open_again();
        assert_eq!(store.read(2).unwrap(), Vec::new());
        let end = scope.end();
        let bodies = store.inner().iterate(
            BODIES,
            scope.to_bytes().to_vec(),
            end,
            ReadOptions::default(),
        );
        let mut left = 0;
        super::super::inner::for_each(bodies.unwrap(), |_, _| {
            left += 1;
            Ok(())
        })
        .unwrap();
        assert_eq!(left, 1, "that of the message which is there");
    }
}
