//! The commands of the replicated queue state, and how they travel in batches and entries.
//!
//! A node collects the [`Op`]s that its sessions send to one shard (or one host of local queues)
//! into a *batch*, numbered per origin. The shard's leader merges batches into one Raft *entry*:
//! an [`EntryHead`] and, unchanged, the encoded ops of each batch (encode once).

use crate::identity::Identity;
use crate::ids::{Origin, QueueId, Sequence};
use crate::message::Message;
use smallvec::SmallVec;

/// One queue that a publish goes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The queue.
    pub queue: QueueId,
    /// Priority level, already clamped to the queue's `x-max-priority` (0 for queues without).
    pub level: u8,
    /// Effective time to live in ms (lower of queue's and message's), counted from the entry's time.
    pub ttl_ms: Option<u64>,
    /// What the queue tells the message apart by: if it remembers one of them, the message is
    /// accepted and not appended. Usually none.
    pub identities: Box<[Identity]>,
}

impl Target {
    /// A queue that takes every message: without priorities, times to live and deduplication.
    #[must_use]
    pub fn plain(queue: QueueId) -> Self {
        Self {
            queue,
            level: 0,
            ttl_ms: None,
            identities: Box::default(),
        }
    }
}

/// A command for queues of one shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Append `message` to every target; the body is stored once.
    Publish {
        /// Queues of this shard, each once.
        targets: SmallVec<[Target; 1]>,
        /// The message.
        message: Message,
    },
    /// A message that died, or whose time has come, goes on to queues of its own shard: appended to
    /// every target and, unless one of them refuses it, settled where it was, in one step. Does nothing
    /// if its queue exists and does not keep it aside any more: then it has gone on before.
    PassOn {
        /// The queue that keeps it aside.
        from: QueueId,
        /// Its place there.
        sequence: Sequence,
        /// Queues of this shard, each once.
        targets: SmallVec<[Target; 1]>,
        /// What is appended: the message with what became of it in its headers.
        message: Message,
    },
    /// The client is done with these messages: they cease to exist.
    Settle {
        /// Queue.
        queue: QueueId,
        /// Messages.
        sequences: SequenceRanges,
    },
    /// These messages die for `reason`: removed at once without a dead letter exchange
    /// (`dead_letter` false), else kept aside (no longer ready) until the leader's dead letter
    /// publisher has settled them.
    Kill {
        /// Queue.
        queue: QueueId,
        /// Messages.
        sequences: SequenceRanges,
        /// Why.
        reason: DeathReason,
        /// Whether the queue has a dead letter exchange now.
        dead_letter: bool,
    },
    /// These messages were handed out and come back to their place; `counted` ones count as a
    /// failed delivery (`x-delivery-count`).
    Return {
        /// Queue.
        queue: QueueId,
        /// Messages.
        sequences: SequenceRanges,
        /// Whether this return counts as a failed delivery.
        counted: bool,
    },
    /// These messages came back and are not handed out before this time (delayed retry).
    Delay {
        /// Queue.
        queue: QueueId,
        /// Messages.
        sequences: SequenceRanges,
        /// When they may be handed out again, ms since the Unix epoch.
        until_ms: u64,
    },
    /// Forget the queue and all its messages.
    Delete {
        /// Queue.
        queue: QueueId,
    },
    /// Messages up to `upto` may have been handed out: after a leader change they are `redelivered`.
    Mark {
        /// Queue.
        queue: QueueId,
        /// Highest sequence that may have been delivered.
        upto: Sequence,
    },
}

impl Op {
    /// About as many bytes as its encoding takes, rather more than less.
    #[must_use]
    pub fn size_hint(&self) -> usize {
        match self {
            Self::Publish { message, targets }
            | Self::PassOn {
                message, targets, ..
            } => message.weight() + 8 * targets.len(),
            Self::Settle { sequences, .. }
            | Self::Kill { sequences, .. }
            | Self::Return { sequences, .. }
            | Self::Delay { sequences, .. } => 16 + 8 * sequences.len(),
            Self::Delete { .. } | Self::Mark { .. } => 16,
        }
    }

    /// Does nothing: keeps the place of an operation that was taken out of a batch.
    #[must_use]
    pub fn nothing() -> Self {
        Self::Settle {
            queue: QueueId(0),
            sequences: SequenceRanges::new(),
        }
    }

    /// What this operation appends, and to which queues; `None` if it appends nothing.
    #[must_use]
    pub fn appends(&self) -> Option<(&[Target], &Message)> {
        match self {
            Self::Publish { targets, message }
            | Self::PassOn {
                targets, message, ..
            } => Some((targets, message)),
            _ => None,
        }
    }

    /// The same, but what is passed on stays where it was, too.
    #[must_use]
    pub(crate) fn without_settling(self) -> Self {
        match self {
            Self::PassOn {
                targets, message, ..
            } => Self::Publish { targets, message },
            other => other,
        }
    }

    /// Settles one message.
    #[must_use]
    pub fn settle_one(queue: QueueId, sequence: Sequence) -> Self {
        Self::Settle {
            queue,
            sequences: SmallVec::from_elem((sequence, sequence), 1),
        }
    }
}

/// Why a message left a queue other than by acknowledgement; the word is the `x-death` reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeathReason {
    /// `basic.reject` or `basic.nack` without requeue.
    Rejected,
    /// Time to live.
    Expired,
    /// `x-max-length` or `x-max-length-bytes`.
    MaxLength,
    /// `x-delivery-limit`.
    DeliveryLimit,
}

impl DeathReason {
    /// The word in `x-death`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::MaxLength => "maxlen",
            Self::DeliveryLimit => "delivery_limit",
        }
    }
}

/// Sorted, disjoint, inclusive ranges of sequences.
pub type SequenceRanges = SmallVec<[(Sequence, Sequence); 2]>;

/// What identifies a batch: who sent it, and where it stands in that sender's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHead {
    /// Sending node and its start.
    pub origin: Origin,
    /// Number of the batch before this one that was not given up; 0 before the first. The batch is
    /// applied only if everything up to `previous` has been, so a hole is never jumped over.
    pub previous: u64,
    /// Number of this batch, from 1.
    pub number: u64,
    /// All outcomes up to this number have reached the sender; the shard may forget them.
    pub answered: u64,
}

/// First segment of a Raft entry of a shard. Segment `1 + i` holds the encoded ops of `batches[i]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EntryHead {
    /// The leader's clock, ms since the Unix epoch, never going back within a shard.
    pub now_ms: u64,
    /// The batches of this entry, in order.
    pub batches: Vec<BatchHead>,
    /// What the leader itself decided (marks, expiry, overflow, deaths), applied after the batches.
    pub leader_ops: Vec<Op>,
    /// Targets that the leader refused (`x-overflow: reject-publish`).
    pub refusals: Vec<Refusal>,
}

/// A publish target that is not to be enqueued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// Index into [`EntryHead::batches`].
    pub batch: u32,
    /// Index of the op in that batch.
    pub op: u32,
    /// The queue that refuses.
    pub queue: QueueId,
}

/// What became of one batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchOutcome {
    /// Which batch.
    pub origin: Origin,
    /// Its number.
    pub number: u64,
    /// What happened.
    pub status: BatchStatus,
    /// Indices of operations of which at least one queue refused what they append (ascending).
    pub refused_ops: Vec<u32>,
}

/// Whether a batch took effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchStatus {
    /// Applied now.
    Applied,
    /// Had been applied before; nothing happened now. `refused_ops` are those of then.
    Duplicate,
    /// `previous` has not been applied: send again from there.
    Gap,
    /// A later start of that node is known.
    Stale,
}
