//! What sessions ask of the hub, and what they hear back.
//!
//! A session is one client connection (or an internal publisher). It hands over operations in
//! sub-batches per [`Placement`]; everything comes back through one ordered channel.

use broker_model::ids::{ConsumerId, Placement, QueueId, RequestId, Sequence};
use broker_model::op::{Op, SequenceRanges};
use broker_model::protocol::{ConsumerSpec, Delivery, ReadFrom, Refused, Subject};
use broker_model::wire::StoredMessage;
use std::collections::HashSet;
use tokio::sync::oneshot;

/// A session of this node's start; also the serial of its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// Operations for one placement, in order.
#[derive(Debug)]
pub struct SubBatch {
    /// Named in [`SessionEvent::Outcome`]. Unique per session; outcomes of one placement arrive in
    /// the order of submission.
    pub token: u64,
    /// Publish, settle, kill and return operations. Never empty.
    pub ops: Vec<Op>,
}

/// What a session asks of the host of a queue, apart from operations.
#[derive(Debug)]
pub enum Ask {
    /// Start a consumer. Answered by `ConsumeOk` or `Refused`.
    Consume {
        /// From [`super::Hub::next_consumer`].
        consumer: ConsumerId,
        /// Queue.
        queue: QueueId,
        /// Its options.
        spec: ConsumerSpec,
        /// Deliveries allowed at first.
        credit: u32,
    },
    /// Stop a consumer. Answered by `Cancelled`; deliveries before it are valid.
    Cancel {
        /// Consumer.
        consumer: ConsumerId,
        /// Queue.
        queue: QueueId,
    },
    /// Allow more deliveries.
    Credit {
        /// Consumer.
        consumer: ConsumerId,
        /// Queue.
        queue: QueueId,
        /// How many more.
        more: u32,
        /// What they may weigh together, in bytes; see [`broker_model::protocol::ToHost::Credit`].
        bytes: u32,
    },
    /// Take back unused credit. Answered by `Revoked`.
    Revoke {
        /// Consumer.
        consumer: ConsumerId,
        /// Queue.
        queue: QueueId,
    },
    /// `basic.get`. Answered by `Got`, `Refused` or `RequestFailed`.
    Get {
        /// From [`super::Hub::next_request`].
        request: RequestId,
        /// Queue.
        queue: QueueId,
        /// Settle on delivery.
        no_ack: bool,
    },
    /// Counts. Answered by `Counts`, `Refused` or `RequestFailed`.
    Count {
        /// From [`super::Hub::next_request`].
        request: RequestId,
        /// Queue.
        queue: QueueId,
    },
    /// Purge. Answered by `Counts` (`ready` is the number removed), `Refused` or `RequestFailed`.
    Purge {
        /// From [`super::Hub::next_request`].
        request: RequestId,
        /// Queue.
        queue: QueueId,
    },
    /// May the queue be deleted? Answered by `Counts`, `Refused` or `RequestFailed`.
    CheckDelete {
        /// From [`super::Hub::next_request`].
        request: RequestId,
        /// Queue.
        queue: QueueId,
        /// Only without consumers.
        if_unused: bool,
        /// Only without ready messages.
        if_empty: bool,
    },
    /// Copies of the last messages. Answered by `Browsed` or `RequestFailed`.
    Browse {
        /// From [`super::Hub::next_request`].
        request: RequestId,
        /// Queue.
        queue: QueueId,
        /// Messages at most.
        count: u32,
        /// Bytes of messages at most.
        bytes: u64,
    },
    /// Messages of a stream for one of its consumers, which asks for one thing at a time. Answered by `Read`.
    Read {
        /// Consumer.
        consumer: ConsumerId,
        /// Queue.
        queue: QueueId,
        /// Where to begin.
        from: ReadFrom,
        /// Messages at most.
        count: u32,
        /// Bytes of messages at most.
        bytes: u64,
    },
}

/// What a session hears.
#[derive(Debug)]
pub enum SessionEvent {
    /// A sub-batch is done.
    Outcome {
        /// Which.
        token: u64,
        /// Indices of publish operations that a queue refused (`basic.nack`), ascending.
        refused_ops: Vec<u32>,
        /// The time for publishes has passed without a majority: every publish of it that is not
        /// answered is given up (`basic.nack`). Settles and returns are never given up.
        given_up: bool,
    },
    /// Messages, in order.
    Deliver(Vec<Delivery>),
    /// The consumer is attached. Deliveries may follow.
    ConsumeOk {
        /// Consumer.
        consumer: ConsumerId,
    },
    /// A consume or request is refused.
    Refused {
        /// Which.
        subject: Subject,
        /// Why.
        why: Refused,
    },
    /// The last word about a consumer.
    Cancelled {
        /// Consumer.
        consumer: ConsumerId,
        /// The client did not ask for it.
        by_host: bool,
    },
    /// Unused credit came back.
    Revoked {
        /// Consumer.
        consumer: ConsumerId,
        /// How much.
        unused: u32,
    },
    /// The message whose turn it is for this consumer is larger than what its credit is good for, which came back.
    TooLarge {
        /// Consumer.
        consumer: ConsumerId,
        /// How much.
        unused: u32,
        /// What the message weighs, in bytes.
        size: u32,
    },
    /// A message waits for this consumer, but it has no credit.
    Starved {
        /// Consumer.
        consumer: ConsumerId,
    },
    /// Answer to a get.
    Got {
        /// Request.
        request: RequestId,
        /// Message, and how many ready ones are left; `None`: the queue is empty.
        delivery: Option<(Box<Delivery>, u64)>,
    },
    /// Answer to count, purge and delete checks.
    Counts {
        /// Request.
        request: RequestId,
        /// Ready (or purged) messages.
        ready: u64,
        /// Unacknowledged messages.
        unacked: u64,
        /// Consumers.
        consumers: u64,
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
        /// Where to read on.
        next: u64,
        /// Messages with their numbers, ascending.
        messages: Vec<(u64, StoredMessage)>,
    },
    /// A consume or request found no leader within the bound.
    RequestFailed {
        /// Which.
        subject: Subject,
    },
    /// The placement has a new leader: answer at once with every message that this session holds
    /// of its queues: delivered to it, and not known to be settled or returned.
    Resume {
        /// Placement.
        placement: Placement,
        /// Where to answer.
        reply: oneshot::Sender<Vec<Held>>,
    },
    /// Somebody of this node is given these messages next. What of them this session holds, as it told a leader, that leader had given
    /// away: this node was taken for lost, or told too late.
    Lost {
        /// The messages.
        messages: HashSet<(QueueId, Sequence)>,
    },
    /// A local queue moved to another node, empty, because its host died: consumers of `old`
    /// are consumers of `new` from now on (attached by the hub, same ids). What was held of `old`
    /// is gone; settling it is harmless.
    Moved {
        /// Former id.
        old: QueueId,
        /// New id.
        new: QueueId,
        /// New place.
        placement: Placement,
    },
    /// The operator or the node closes this connection with `CONNECTION_FORCED`.
    Close {
        /// Explanation.
        reason: String,
    },
}

impl SessionEvent {
    /// The publishes of a sub-batch are given up.
    #[must_use]
    pub(super) fn given_up(token: u64) -> Self {
        Self::Outcome {
            token,
            refused_ops: Vec::new(),
            given_up: true,
        }
    }
}

/// Messages of one queue that a session holds, and has not submitted to be settled or returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Consumer they were delivered to; `ConsumerId(0)` for `basic.get`.
    pub consumer: ConsumerId,
    /// Queue.
    pub queue: QueueId,
    /// Messages.
    pub sequences: SequenceRanges,
}
