//! The replicated state of one shard: many queues, and which batches of which node are in them.
//!
//! Every replica applies the same entries in the same order, so nothing here reads a clock, draws a
//! random number or knows a queue's settings: the leader decides (expiry, overflow, delivery limit)
//! and its decisions arrive as operations. What happened leaves as [`Effect`]s, which only the
//! leader's [`crate::dispatch::Dispatcher`] looks at.
//!
//! Not here: who consumes (`dispatch`), where entries come from (`consensus`), where checkpoints go
//! (`storage`).

use crate::ids::{NodeId, Origin, QueueId, Sequence};
use crate::op::{BatchHead, BatchOutcome, DeathReason, Op, Refusal, SequenceRanges};
use crate::queue::QueueState;
use crate::wire::{StoredMessage, WireError};
use bytes::Bytes;

/// What an applied operation did, for the leader's dispatcher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Messages `first..=last` of one level were appended.
    Enqueued {
        /// Queue.
        queue: QueueId,
        /// First new message.
        first: Sequence,
        /// Last new message, of the same level.
        last: Sequence,
    },
    /// These messages existed and exist no longer.
    Settled {
        /// Queue.
        queue: QueueId,
        /// Messages, exactly those that existed.
        sequences: SequenceRanges,
    },
    /// These messages came back.
    Returned {
        /// Queue.
        queue: QueueId,
        /// Messages, exactly those that exist.
        sequences: SequenceRanges,
        /// Who returned them; `None`: the leader. Who does not hold a message cannot return it.
        by: Option<Origin>,
    },
    /// These messages died. With `dead_letter` they are kept aside for the dead letter publisher.
    Killed {
        /// Queue.
        queue: QueueId,
        /// Messages, exactly those that existed.
        sequences: SequenceRanges,
        /// Why.
        reason: DeathReason,
        /// Whether they wait for the dead letter publisher now.
        dead_letter: bool,
    },
    /// The queue and all its messages are forgotten.
    Deleted {
        /// Queue.
        queue: QueueId,
    },
    /// Messages up to this one may be handed out.
    Marked {
        /// Queue.
        queue: QueueId,
        /// Highest sequence of its level that may be delivered.
        upto: Sequence,
    },
}

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
    /// Messages to store, sorted by key. Encode with [`crate::wire::encode_stored_message`] off the
    /// apply path: cloning them here copied no bodies.
    pub puts: Vec<(MessageKey, StoredMessage)>,
    /// Ranges of stored messages to delete (inclusive), sorted. Nothing alive is in them.
    pub deletes: Vec<DeadRange>,
    /// Records of changed queues, sorted by id.
    pub queue_records: Vec<(QueueId, Bytes)>,
    /// Queues to remove with everything stored of them, sorted. To be removed *before* `puts`.
    pub dropped_queues: Vec<QueueId>,
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

/// The replicated state of one shard (or all local queues of a node).
#[derive(Debug, Default)]
pub struct ShardMachine {}

impl ShardMachine {
    /// An empty shard.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Applies the entry at `index`: `segments[0]` is its [`crate::op::EntryHead`], the others the
    /// ops of its batches. Entries at or below the last applied index do nothing.
    ///
    /// # Errors
    /// The bytes are not an entry: the log is corrupt and the caller must stop the node.
    pub fn apply_entry(
        &mut self,
        index: u64,
        segments: &[Bytes],
        effects: &mut Vec<Effect>,
        outcomes: &mut Vec<BatchOutcome>,
    ) -> Result<(), WireError> {
        unimplemented!()
    }

    /// Applies one batch without a log (local queues): same order and duplicate rules.
    ///
    /// # Errors
    /// The bytes are not operations; nothing was applied.
    pub fn apply_batch(
        &mut self,
        now_ms: u64,
        head: &BatchHead,
        ops: &Bytes,
        refusals: &[Refusal],
        effects: &mut Vec<Effect>,
    ) -> Result<BatchOutcome, WireError> {
        unimplemented!()
    }

    /// Applies one operation without a log (leader's own operations on local queues).
    pub fn apply_op(&mut self, now_ms: u64, by: Option<Origin>, op: Op, effects: &mut Vec<Effect>) {
        unimplemented!()
    }

    /// Takes what changed since the last checkpoint. O(changed); copies no bodies. Must not be
    /// called again before [`Self::end_checkpoint`].
    pub fn begin_checkpoint(&mut self) -> CheckpointDelta {
        unimplemented!()
    }

    /// The delta is durable: memory copies of its messages are dropped.
    pub fn end_checkpoint(&mut self, token: CheckpointToken) {
        unimplemented!()
    }

    /// The shard as of a durable checkpoint; `origins` is `None` for a shard that never had one.
    ///
    /// # Errors
    /// A record is corrupt.
    pub fn restore(
        records: impl IntoIterator<Item = (QueueId, Bytes)>,
        origins: Option<Bytes>,
    ) -> Result<Self, WireError> {
        unimplemented!()
    }

    /// A queue's state; `None` until the first operation names it.
    #[must_use]
    pub fn queue(&self, queue: QueueId) -> Option<&QueueState> {
        unimplemented!()
    }

    /// All queues, in no order.
    pub fn queues(&self) -> impl Iterator<Item = (QueueId, &QueueState)> {
        std::iter::empty()
    }

    /// Bytes of messages that no checkpoint has stored yet.
    #[must_use]
    pub fn tail_bytes(&self) -> usize {
        unimplemented!()
    }

    /// Index of the last applied entry.
    #[must_use]
    pub fn applied_index(&self) -> u64 {
        unimplemented!()
    }

    /// The newest start of `node` that is known and its last applied batch.
    #[must_use]
    pub fn last_batch(&self, node: NodeId) -> Option<(u64, u64)> {
        unimplemented!()
    }
}
