//! The leader's volatile half of the queues: who consumes, who holds what (skeleton of the interface).

use crate::catalog::settings::QueueSettings;
use crate::ids::{NodeId, Origin, QueueId, Sequence};
use crate::message::Message;
use crate::op::{BatchHead, DeathReason, Op, Refusal};
use crate::protocol::{FromHost, ToHost};
use crate::shard::{Effect, ShardMachine};
use crate::wire::{StoredMessage, WireError};
use bytes::Bytes;
use std::sync::Arc;

/// What the dispatcher wants done. The driver drains it after every call.
#[derive(Debug, Default)]
pub struct Outbox {
    /// Messages to nodes, in order per node.
    pub to_nodes: Vec<(Origin, FromHost)>,
    /// To be proposed as `leader_ops` of the next entry (local queues: applied at once).
    pub leader_ops: Vec<Op>,
    /// Messages to be read from the state store; each answered by [`Dispatcher::loaded`].
    pub loads: Vec<Load>,
    /// Messages for the dead letter publisher, to be settled when it is done with them.
    pub dead_letters: Vec<DeadLetter>,
    /// Auto-delete queues whose last consumer has gone.
    pub unused: Vec<QueueId>,
    /// Queues that were unused for `x-expires`.
    pub expired: Vec<QueueId>,
    /// Messages that exist but that the store did not return: the store is damaged, stop the node.
    pub missing: Vec<(QueueId, Sequence)>,
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
    /// Why.
    pub reason: DeathReason,
    /// Failed deliveries.
    pub delivery_count: u32,
    /// The message.
    pub message: Message,
}

/// What is decided about batches before they are proposed.
#[derive(Debug, Default)]
pub struct Admission {
    /// For [`Dispatcher::admission_done`].
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
}

/// All queues of one shard (or of the local host).
#[derive(Debug)]
pub struct Dispatcher {}

impl Dispatcher {
    /// For the leader of a shard, once everything of earlier terms is applied.
    #[must_use]
    pub fn new(now_ms: u64, machine: &ShardMachine, hand_over: Option<HandOver>) -> Self {
        unimplemented!()
    }

    /// For queues in this node's memory: no marks, no loads.
    #[must_use]
    pub fn local() -> Self {
        unimplemented!()
    }

    /// Settings from the catalog; `None`: the record is gone, so consumers are cancelled and
    /// [`Op::Delete`] is emitted.
    pub fn settings(&mut self, now_ms: u64, queue: QueueId, settings: Option<Arc<QueueSettings>>, machine: &ShardMachine, out: &mut Outbox) {
        unimplemented!()
    }

    /// Whether settings of this queue have been given.
    #[must_use]
    pub fn knows(&self, queue: QueueId) -> bool {
        unimplemented!()
    }

    /// A new stream from `origin` opened: what it holds and consumes is told again, ended by
    /// `Resumed`; what it does not tell is taken back.
    pub fn attached(&mut self, origin: Origin) {
        unimplemented!()
    }

    /// Handles a message of a node; all but [`ToHost::Batch`].
    pub fn handle(&mut self, now_ms: u64, from: Origin, message: ToHost, machine: &ShardMachine, out: &mut Outbox) {
        unimplemented!()
    }

    /// Takes note of what was applied.
    pub fn effects(&mut self, now_ms: u64, effects: &[Effect], machine: &ShardMachine, out: &mut Outbox) {
        unimplemented!()
    }

    /// Decides about batches that are about to be proposed as one entry, and checks that they can be
    /// read. The driver drops a batch that fails [`crate::wire::validate_ops`] beforehand.
    ///
    /// # Errors
    /// A batch cannot be read.
    pub fn admit(&mut self, batches: &[(BatchHead, Bytes)], machine: &ShardMachine) -> Result<Admission, WireError> {
        unimplemented!()
    }

    /// The entry of this admission was applied (its effects handed over) or given up.
    pub fn admission_done(&mut self, ticket: u64) {
        unimplemented!()
    }

    /// The node start is gone: its consumers too; what it held comes back, counted.
    pub fn node_lost(&mut self, now_ms: u64, origin: Origin, machine: &ShardMachine, out: &mut Outbox) {
        unimplemented!()
    }

    /// Answer to a [`Load`].
    pub fn loaded(&mut self, now_ms: u64, load: &Load, messages: Vec<(Sequence, StoredMessage)>, machine: &ShardMachine, out: &mut Outbox) {
        unimplemented!()
    }

    /// Hands out as much as credit allows, fairly; bounded work per call. Returns whether there is more to do at once.
    pub fn pump(&mut self, now_ms: u64, machine: &ShardMachine, out: &mut Outbox) -> bool {
        unimplemented!()
    }

    /// When [`Self::pump`] must be called at the latest.
    #[must_use]
    pub fn next_timeout(&self) -> Option<u64> {
        unimplemented!()
    }
}
