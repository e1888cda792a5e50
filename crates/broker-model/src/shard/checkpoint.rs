//! Checkpoints: what changed moves to the state store, and back from there at a start.
//!
//! A checkpoint *begins* (the delta is taken, in order with `apply`), is written by somebody else
//! while entries go on being applied, and *ends* when it is durable. A message that arrives
//! meanwhile belongs to the next one; a message that dies meanwhile is missing in the running one, whose records name
//! it all the same: entries that follow it settle it; if it was stored, the next one deletes it. Only one
//! runs at a time.
//!
//! There may be hundreds of thousands of messages, and nothing is applied while the machine is looked into: the
//! delta names stretches of them, which are taken out and, at the end, dropped a few at a time.

use super::ShardMachine;
use super::origins::Origins;
use crate::ids::{QueueId, Sequence};
use crate::queue::QueueState;
use crate::wire::{Cursor, StoredMessage, VERSION, WireError, put_varint};
use bytes::{BufMut, Bytes, BytesMut};

/// Where a stored message is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageKey {
    /// Queue.
    pub queue: QueueId,
    /// Priority level; also in the high byte of `sequence`.
    pub level: u8,
    /// Position.
    pub sequence: Sequence,
}

/// What a checkpoint has to write: everything that changed since the last one.
#[derive(Debug)]
pub struct CheckpointDelta {
    /// Hand this to [`ShardMachine::end_checkpoint`] when the delta is durable.
    pub token: CheckpointToken,
    /// Queues to remove with everything stored of them, sorted. To be removed *before* anything
    /// else of the delta is written: one may have come back since.
    pub dropped_queues: Vec<QueueId>,
    /// Where the messages to store are, sorted; [`ShardMachine::take_messages`] has them.
    pub stretches: Vec<Stretch>,
    /// Ranges of stored messages to delete (inclusive), sorted. Nothing that exists is in them.
    pub deletes: Vec<DeadRange>,
    /// Records of changed queues, sorted by id.
    pub queue_records: Vec<(QueueId, Bytes)>,
    /// The record of the shard itself.
    pub origins: Bytes,
}

/// Messages of one level that a checkpoint is to store, as far as they are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stretch {
    /// Queue.
    pub queue: QueueId,
    /// First.
    pub from: Sequence,
    /// Last.
    pub to: Sequence,
}

/// Identifies a checkpoint that is being written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckpointToken(pub(super) u64);

/// Stored messages of one level that are dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeadRange {
    /// Queue.
    pub queue: QueueId,
    /// Level.
    pub level: u8,
    /// First.
    pub from: Sequence,
    /// Last.
    pub to: Sequence,
}

impl ShardMachine {
    /// Takes what changed since the last checkpoint, but for the messages. O(queues changed).
    ///
    /// # Panics
    /// If the last one has not ended: a checkpoint that cannot be written ends the node.
    pub fn begin_checkpoint(&mut self) -> CheckpointDelta {
        assert!(self.running.is_none(), "one checkpoint at a time");
        let mut queues = self.take_dirty();
        let dropped_queues = self.take_dropped();
        let mut stretches = Vec::new();
        let mut deletes = Vec::new();
        let mut queue_records = Vec::with_capacity(queues.len());
        queues.retain(|queue| {
            let Some(state) = self.existing(*queue) else {
                return false;
            };
            state.dirty = false;
            let queue = *queue;
            state.begin_checkpoint(
                |from, to| stretches.push(Stretch { queue, from, to }),
                |from, to| {
                    deletes.push(DeadRange {
                        queue,
                        level: from.level(),
                        from,
                        to,
                    })
                },
            );
            queue_records.push((queue, state.encode_record()));
            true
        });
        self.checkpoints += 1;
        self.running = Some((self.checkpoints, queues));
        self.storing_bytes = self.tail_bytes;
        CheckpointDelta {
            token: CheckpointToken(self.checkpoints),
            dropped_queues,
            stretches,
            deletes,
            queue_records,
            origins: self.encode_shard_record(),
        }
    }

    /// Queues that were deleted since the last call, sorted.
    pub(super) fn take_dropped(&mut self) -> Vec<QueueId> {
        let dropped = std::mem::take(&mut self.dropped);
        let mut dropped: Vec<_> = dropped.into_iter().map(|(queue, _)| queue).collect();
        dropped.sort_unstable();
        dropped.dedup();
        dropped
    }

    /// Appends the next messages of a stretch of the running checkpoint to `out`, `most` of them at most, and moves its
    /// beginning behind them. Returns false when there are no more. Copies no bodies; encode them with
    /// [`crate::wire::encode_stored_message`].
    pub fn take_messages(
        &self,
        stretch: &mut Stretch,
        most: usize,
        out: &mut Vec<(MessageKey, StoredMessage)>,
    ) -> bool {
        let Some(state) = self.queue(stretch.queue) else {
            return false;
        };
        let before = out.len();
        let queue = stretch.queue;
        let messages = state
            .in_memory_from(stretch.from)
            .take_while(|(sequence, _)| *sequence <= stretch.to);
        for (sequence, stored) in messages.take(most) {
            let key = MessageKey {
                queue,
                level: sequence.level(),
                sequence,
            };
            out.push((key, stored.clone()));
        }
        match out.get(before..).and_then(<[_]>::last) {
            Some((last, _)) => {
                stretch.from = Sequence(last.sequence.0 + 1);
                stretch.from <= stretch.to
            }
            None => false,
        }
    }

    /// The delta is durable: memory copies of its messages are dropped, `most` of them at a time. Returns whether
    /// there are more: it is to be called again.
    pub fn end_checkpoint(&mut self, token: CheckpointToken, mut most: usize) -> bool {
        let Some((_, queues)) = self.running.take_if(|(running, _)| *running == token.0) else {
            return false;
        };
        let mut queues = queues.into_iter();
        while let Some(queue) = queues.as_slice().first() {
            let (freed, done) = self
                .existing(*queue)
                .map_or((0, true), |state| state.end_checkpoint(&mut most));
            self.tail_bytes = self.tail_bytes.saturating_sub(freed);
            self.storing_bytes = self.storing_bytes.saturating_sub(freed);
            if done {
                queues.next();
                // A queue costs as much as a message.
                most = most.saturating_sub(1);
            }
            if most == 0 && !queues.as_slice().is_empty() {
                self.running = Some((token.0, queues.collect()));
                return true;
            }
        }
        self.storing_bytes = 0;
        false
    }

    /// The shard as of a durable checkpoint; `origins` is `None` for a shard that never had one.
    ///
    /// # Errors
    /// A record is corrupt.
    pub fn restore(
        records: impl IntoIterator<Item = (QueueId, Bytes)>,
        origins: Option<&Bytes>,
    ) -> Result<Self, WireError> {
        let mut machine = Self::default();
        if let Some(record) = origins {
            let mut cursor = Cursor::versioned(record)?;
            machine.applied_index = cursor.varint()?;
            machine.now_ms = cursor.varint()?;
            machine.origins = Origins::decode(&mut cursor)?;
            cursor.end()?;
        }
        for (queue, record) in records {
            if machine.index.contains_key(&queue) {
                return Err(WireError::Malformed("queue records: twice the same queue"));
            }
            machine.insert(queue, QueueState::decode_record(&record)?);
        }
        machine.recent = None;
        Ok(machine)
    }

    fn encode_shard_record(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(64);
        out.put_u8(VERSION);
        put_varint(&mut out, self.applied_index);
        put_varint(&mut out, self.now_ms);
        self.origins.encode(&mut out);
        out.freeze()
    }
}
