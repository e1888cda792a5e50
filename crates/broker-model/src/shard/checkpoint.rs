//! Checkpoints: what changed moves to the state store, and back from there at a start.
//!
//! A checkpoint *begins* (the delta is taken, in order with `apply`), is written by somebody else
//! while entries go on being applied, and *ends* when it is durable. A message that arrives
//! meanwhile belongs to the next one; a message that dies meanwhile although the running one stores
//! it is deleted by the next one. Only one runs at a time.

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
    /// Messages to store, sorted by key. Encode with [`crate::wire::encode_stored_message`] off the
    /// apply path: cloning them here copied no bodies.
    pub puts: Vec<(MessageKey, StoredMessage)>,
    /// Ranges of stored messages to delete (inclusive), sorted. Nothing that exists is in them.
    pub deletes: Vec<DeadRange>,
    /// Records of changed queues, sorted by id.
    pub queue_records: Vec<(QueueId, Bytes)>,
    /// The record of the shard itself.
    pub origins: Bytes,
}

/// Identifies a checkpoint that is being written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckpointToken(u64);

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
    /// Takes what changed since the last checkpoint. O(changed); copies no bodies.
    ///
    /// # Panics
    /// If the last one has not ended: a checkpoint that cannot be written ends the node.
    pub fn begin_checkpoint(&mut self) -> CheckpointDelta {
        assert!(self.running.is_none(), "one checkpoint at a time");
        let mut queues = std::mem::take(&mut self.dirty);
        queues.sort_unstable();
        // A queue that was deleted and came back may be listed twice.
        queues.dedup();
        let mut dropped_queues = std::mem::take(&mut self.dropped);
        dropped_queues.sort_unstable();
        dropped_queues.dedup();
        let mut puts = Vec::new();
        let mut deletes = Vec::new();
        let mut queue_records = Vec::with_capacity(queues.len());
        queues.retain(|queue| {
            let Some(state) = self.existing(*queue) else {
                return false;
            };
            state.dirty = false;
            let queue = *queue;
            state.begin_checkpoint(
                |sequence, stored| {
                    puts.push((
                        MessageKey {
                            queue,
                            level: sequence.level(),
                            sequence,
                        },
                        stored.clone(),
                    ));
                },
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
            puts,
            deletes,
            queue_records,
            origins: self.encode_shard_record(),
        }
    }

    /// The delta is durable: memory copies of its messages are dropped.
    pub fn end_checkpoint(&mut self, token: CheckpointToken) {
        if self
            .running
            .as_ref()
            .is_none_or(|(running, _)| *running != token.0)
        {
            return;
        }
        let Some((_, queues)) = self.running.take() else {
            return;
        };
        self.storing_bytes = 0;
        for queue in queues {
            let freed = self.existing(queue).map_or(0, QueueState::end_checkpoint);
            self.tail_bytes = self.tail_bytes.saturating_sub(freed);
        }
    }

    /// Local queues have no checkpoints: gives back memory that queues changed since the last call
    /// do not need now.
    pub fn trim(&mut self) {
        self.dropped = Vec::new();
        for queue in std::mem::take(&mut self.dirty) {
            if let Some(state) = self.existing(queue) {
                state.dirty = false;
                state.trim();
            }
        }
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
