//! What a node says to the leader of a shard (or the host of local queues), and what it hears.
//!
//! One ordered stream each way per (node, shard leader) pair. Nothing of this is in the Raft log
//! except the ops inside [`ToHost::Batch`]. The encoding is in [`crate::wire`].

use crate::ids::{ConsumerId, NodeId, QueueId, RequestId, Sequence};
use crate::message::Message;
use crate::op::{BatchHead, BatchOutcome, SequenceRanges};
use crate::wire::StoredMessage;
use bytes::Bytes;

/// What any credit is good for, in bytes. Larger messages, or more of them, need credit for that: a node must not get them
/// for each of very many consumers of a client before it knows whether that reads.
pub const CREDIT_BYTES_MIN: u32 = 64 << 10;

/// From a node to the leader (host) of its queues.
#[derive(Debug, Clone, PartialEq)]
pub enum ToHost {
    /// A numbered batch of encoded ops (see [`crate::wire::OpsWriter`]).
    Batch {
        /// Identity and order.
        head: BatchHead,
        /// Encoded ops.
        ops: Bytes,
    },
    /// Start to consume, or take a consumer along to a new leader.
    Consume {
        /// Chosen by the node.
        consumer: ConsumerId,
        /// Queue.
        queue: QueueId,
        /// What was asked for.
        spec: ConsumerSpec,
        /// Deliveries that may be sent before more [`ToHost::Credit`], that weigh [`CREDIT_BYTES_MIN`] together.
        credit: u32,
        /// `Some` when re-attaching: what is known of it from the leader before.
        resume: Option<Resume>,
    },
    /// Messages held by the node without a consumer (from `basic.get`, or whose consumer was
    /// cancelled), told again to a new leader. They stay held.
    Hold {
        /// Queue.
        queue: QueueId,
        /// Messages.
        sequences: SequenceRanges,
    },
    /// All consumers and holds have been told: this node's part of the hand-over is complete.
    ///
    /// What is told as held must not include messages that a settle or return in any batch already
    /// names. The host's driver passes this on when the batches before it on the stream are applied,
    /// so that a message whose settle is still on its way is not handed out again.
    Resumed,
    /// Stop a consumer; what it holds stays held. Answered by [`FromHost::Cancelled`].
    Cancel {
        /// Consumer.
        consumer: ConsumerId,
        /// Queue.
        queue: QueueId,
    },
    /// Allow `more` deliveries.
    Credit {
        /// Consumer.
        consumer: ConsumerId,
        /// Queue.
        queue: QueueId,
        /// Additional deliveries.
        more: u32,
        /// What is delivered on its credit from here on may weigh so much together, in bytes, the last message not counted, and
        /// no message more than this alone; [`CREDIT_BYTES_MIN`] at least.
        bytes: u32,
    },
    /// Take back unused credit; answered by [`FromHost::Revoked`].
    Revoke {
        /// Consumer.
        consumer: ConsumerId,
        /// Queue.
        queue: QueueId,
    },
    /// `basic.get`. Answered by [`FromHost::Got`].
    Get {
        /// Request.
        request: RequestId,
        /// Queue.
        queue: QueueId,
        /// Settle on delivery.
        no_ack: bool,
    },
    /// Counts of a queue, for declare and management. Answered by [`FromHost::Counts`].
    Count {
        /// Request.
        request: RequestId,
        /// Queue.
        queue: QueueId,
        /// Counts as a use for `x-expires` (a declare does, a look from management does not).
        used: bool,
    },
    /// `queue.purge`: remove ready messages. Answered by [`FromHost::Counts`] (`ready` = removed).
    Purge {
        /// Request.
        request: RequestId,
        /// Queue.
        queue: QueueId,
    },
    /// `queue.delete` checks: answered by [`FromHost::Counts`] or [`FromHost::Refused`].
    /// The node then deletes the queue's record in the catalog; the leader follows the catalog.
    CheckDelete {
        /// Request.
        request: RequestId,
        /// Queue.
        queue: QueueId,
        /// Refuse if it has consumers.
        if_unused: bool,
        /// Refuse if it has ready messages.
        if_empty: bool,
    },
    /// Copies of the last messages of a queue, which stay where they are. Answered by
    /// [`FromHost::Browsed`].
    Browse {
        /// Request.
        request: RequestId,
        /// Queue.
        queue: QueueId,
        /// Messages at most.
        count: u32,
        /// Bytes of messages at most.
        bytes: u64,
    },
    /// Messages of a stream for one of its consumers, which stay where they are. Answered by
    /// [`FromHost::Read`]: at once if there are any, or if the place is to be found first; else when one
    /// comes. A consumer asks for one thing at a time.
    Read {
        /// Consumer.
        consumer: ConsumerId,
        /// Queue.
        queue: QueueId,
        /// Where to begin.
        from: ReadFrom,
        /// Messages at most.
        count: u32,
        /// Bytes of messages at most; one that is larger comes alone. With [`ANNOUNCE`] beside it such a one does not come: the answer
        /// has no messages then, and its `next` is where this question began.
        bytes: u64,
    },
}

/// A bit of the bytes in a question for messages of a stream: a message that is larger shall only be announced. Nodes of before
/// do not set it, and would ask for ever.
pub const ANNOUNCE: u64 = 1 << 63;

/// Where a consumer of a stream reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadFrom {
    /// The oldest message.
    First,
    /// The newest message.
    Last,
    /// Behind the newest message.
    Next,
    /// The oldest message that came at this time or later, ms since the Unix epoch.
    Since(u64),
    /// The message of this number, or the first one that is there after it.
    Number(u64),
}

impl ToHost {
    /// The queue that this is about, if it is about one.
    #[must_use]
    pub fn queue(&self) -> Option<QueueId> {
        match self {
            Self::Batch { .. } | Self::Resumed => None,
            Self::Consume { queue, .. }
            | Self::Hold { queue, .. }
            | Self::Cancel { queue, .. }
            | Self::Credit { queue, .. }
            | Self::Revoke { queue, .. }
            | Self::Get { queue, .. }
            | Self::Count { queue, .. }
            | Self::Purge { queue, .. }
            | Self::CheckDelete { queue, .. }
            | Self::Browse { queue, .. }
            | Self::Read { queue, .. } => Some(*queue),
        }
    }
}

/// From the leader (host) of queues to a node.
#[derive(Debug, Clone, PartialEq)]
pub enum FromHost {
    /// A batch is done (for a durable queue: replicated, applied).
    Outcome(BatchOutcome),
    /// The consumer is attached; deliveries follow. Told again whenever it is re-attached.
    ConsumeOk {
        /// Consumer.
        consumer: ConsumerId,
        /// Its age among the consumers of the queue, for [`Resume::order`].
        order: u64,
    },
    /// The consumer became its queue's single active one, or is it no longer. Told before the first
    /// delivery to it.
    Active {
        /// Consumer.
        consumer: ConsumerId,
        /// For [`Resume::active_since`]; 0: not active.
        since: u64,
    },
    /// A consume, delete check or get was refused.
    Refused {
        /// Consumer or request number.
        subject: Subject,
        /// Why.
        why: Refused,
    },
    /// The last message to this consumer. `by_host` tells a cancellation that the client did not
    /// ask for (queue deleted: the client gets `basic.cancel`).
    Cancelled {
        /// Consumer.
        consumer: ConsumerId,
        /// Not asked for by the node.
        by_host: bool,
    },
    /// Messages for consumers of this node, in order.
    Deliver(Vec<Delivery>),
    /// Unused credit taken back.
    Revoked {
        /// Consumer.
        consumer: ConsumerId,
        /// Credit it had left.
        unused: u32,
    },
    /// It was this consumer's turn, but the message alone is larger than what its credit is good for; all credit is taken back.
    TooLarge {
        /// Consumer.
        consumer: ConsumerId,
        /// Credit it had left.
        unused: u32,
        /// Weight of the message, in bytes.
        size: u32,
    },
    /// The consumer has no credit while its queue has a message it could get. Sent once per
    /// exhaustion; used to share a channel-wide prefetch between queues.
    Starved {
        /// Consumer.
        consumer: ConsumerId,
    },
    /// Answer to a get: `None` when the queue is empty.
    Got {
        /// Request.
        request: RequestId,
        /// Message and ready messages left behind it.
        delivery: Option<(Box<Delivery>, u64)>,
    },
    /// Answer to count, purge and delete checks.
    Counts {
        /// Request.
        request: RequestId,
        /// Ready messages (or removed by a purge).
        ready: u64,
        /// Messages handed out and not settled.
        unacked: u64,
        /// Consumers.
        consumers: u64,
        /// Body bytes of ready messages.
        ready_bytes: u64,
    },
    /// Answer to a browse: the oldest first.
    Browsed {
        /// Request.
        request: RequestId,
        /// Messages, each with its time.
        messages: Vec<StoredMessage>,
    },
    /// Answer to a read.
    Read {
        /// Consumer.
        consumer: ConsumerId,
        /// Where to read on: above all that were looked at.
        next: u64,
        /// Messages with their numbers, ascending. None where the place was to be found.
        messages: Vec<(u64, StoredMessage)>,
    },
    /// Not (or no longer) the leader: attach elsewhere. Nothing more follows.
    NotLeader {
        /// Who may be.
        leader: Option<NodeId>,
    },
}

/// What a [`FromHost::Refused`] is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// A consume.
    Consumer(ConsumerId),
    /// A get, purge, count or delete check.
    Request(RequestId),
}

/// Why a host refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// The queue does not exist (any more).
    NoQueue,
    /// Another consumer has it exclusively, or this one wants it exclusively and there are others.
    ExclusiveUse,
    /// `if-unused`.
    InUse,
    /// `if-empty`.
    NotEmpty,
}

/// What a consumer asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConsumerSpec {
    /// Consumer tag, for display.
    pub tag: Bytes,
    /// Settle on delivery.
    pub no_ack: bool,
    /// `exclusive` of `basic.consume`.
    pub exclusive: bool,
    /// `x-priority`.
    pub priority: i32,
    /// Prefetch for display (0: none).
    pub prefetch: u32,
    /// Connection serial at the node, for display and to tell connections apart.
    pub connection: u64,
    /// Channel number, for display.
    pub channel: u16,
}

/// What a consumer takes along from one leader to the next.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resume {
    /// The messages that it still holds (may be empty). They stay its own.
    pub sequences: SequenceRanges,
    /// Its age, as [`FromHost::ConsumeOk`] told it: lower is older. 0 is not known.
    pub order: u64,
    /// Since when it has been the single active consumer, as [`FromHost::Active`] told it: higher
    /// is later. 0: it is not.
    pub active_since: u64,
}

/// One message on its way to a consumer.
#[derive(Debug, Clone, PartialEq)]
pub struct Delivery {
    /// Consumer; 0 for a get.
    pub consumer: ConsumerId,
    /// Queue.
    pub queue: QueueId,
    /// Position, named again when it is settled or returned.
    pub sequence: Sequence,
    /// May have been handed out before.
    pub redelivered: bool,
    /// Failed deliveries so far (`x-delivery-count`; 0: header absent, or not shown by this queue).
    pub delivery_count: u32,
    /// The message.
    pub message: Message,
}
