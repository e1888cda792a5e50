//! What the dispatcher wants done, as data.

use crate::identity::Identity;
use crate::ids::{NodeId, Origin, QueueId, Sequence};
use crate::message::Message;
use crate::op::{DeathReason, Op, Refusal};
use crate::protocol::FromHost;

/// What the dispatcher wants done. The driver drains it after every call.
#[derive(Debug, Default)]
pub struct Outbox {
    /// Messages to nodes, in order per node.
    pub to_nodes: Vec<(Origin, FromHost)>,
    /// To be proposed as `leader_ops` of the next entry (local queues: applied at once). Every one
    /// of them must be applied or the leadership given up.
    pub leader_ops: Vec<Op>,
    /// Messages to be read from the state store; each answered by [`super::Dispatcher::loaded`] or
    /// [`super::Dispatcher::load_failed`].
    pub loads: Vec<Load>,
    /// Messages for the dead letter publisher, to be settled when it is done with them.
    pub dead_letters: Vec<DeadLetter>,
    /// Auto-delete queues whose last consumer has gone.
    pub unused: Vec<QueueId>,
    /// Queues that were unused for `x-expires`. Told again after another such time.
    pub expired: Vec<QueueId>,
    /// Messages that exist but that the store did not return: the store is damaged, stop the node.
    pub missing: Vec<(QueueId, Sequence)>,
}

impl Outbox {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.to_nodes.is_empty()
            && self.leader_ops.is_empty()
            && self.loads.is_empty()
            && self.dead_letters.is_empty()
            && self.unused.is_empty()
            && self.expired.is_empty()
            && self.missing.is_empty()
    }
}

/// A read from the state store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Load {
    /// Queue.
    pub queue: QueueId,
    /// Level.
    pub level: u8,
    /// First sequence wanted.
    pub from: Sequence,
    /// Last sequence wanted.
    pub to: Sequence,
    /// Messages at most.
    pub max_count: usize,
    /// Bytes at most (but at least one message).
    pub max_bytes: usize,
}

/// A message for the dead letter publisher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Queue in which it died.
    pub queue: QueueId,
    /// To settle it there; `None`: it never was in the queue (`reject-publish-dlx`).
    pub sequence: Option<Sequence>,
    /// By which a queue that has got it already tells it, whichever leader hands it over; `None`: nobody hands it over again.
    pub identity: Option<Identity>,
    /// Why.
    pub reason: DeathReason,
    /// Failed deliveries.
    pub delivery_count: u32,
    /// When its time to live ends, or ended.
    pub expires_at_ms: Option<u64>,
    /// The message.
    pub message: Message,
}

/// What is decided about batches before they are proposed.
#[derive(Debug, Default)]
pub struct Admission {
    /// For [`super::Dispatcher::admission_done`].
    pub ticket: u64,
    /// For the entry head.
    pub refusals: Vec<Refusal>,
    /// Refused messages of `reject-publish-dlx` queues.
    pub dead_letters: Vec<DeadLetter>,
}

/// The nodes that must tell what they hold before a new leader delivers.
#[derive(Debug, Clone, Default)]
pub struct HandOver {
    /// When delivering starts although not all have.
    pub deadline_ms: u64,
    /// Live nodes.
    pub nodes: Vec<NodeId>,
    /// Nodes that say nothing, but are not known to be dead: nobody waits for them, but they may come later with consumers.
    pub silent: Vec<NodeId>,
}

/// A consumer, for display.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerInfo {
    /// Its node.
    pub origin: Origin,
    /// Its number there.
    pub consumer: crate::ids::ConsumerId,
    /// What was asked for.
    pub spec: crate::protocol::ConsumerSpec,
    /// Deliveries it may still get.
    pub credit: u32,
    /// Messages it holds.
    pub unacked: u64,
    /// Gets messages (false: waits behind a single active consumer).
    pub active: bool,
}

/// Counts of a queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueCounts {
    /// Messages that may be handed out.
    pub ready: u64,
    /// Messages handed out and not settled.
    pub unacked: u64,
    /// Messages that came back and wait before they are handed out again (delayed retry), and their body bytes.
    pub delayed: u64,
    /// Their body bytes.
    pub delayed_bytes: u64,
    /// When the next of them is ready, and when the last.
    pub delayed_ms: Option<(u64, u64)>,
    /// Consumers.
    pub consumers: u64,
    /// Body bytes of ready messages.
    pub ready_bytes: u64,
    /// Body bytes of messages handed out and not settled.
    pub unacked_bytes: u64,
    /// Messages that died and wait until the dead letter publisher is done with them.
    pub dying: u64,
    /// Their body bytes, about.
    pub dying_bytes: u64,
    /// Messages handed out since the queue is known here; only its growth means something.
    pub handed_out: u64,
    /// What has been done since the queue is known here.
    pub tally: super::tally::Tally,
}
