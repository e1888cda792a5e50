//! What the catalog holds, as readers see it.

use super::command::{Destination, Name};
use super::password::PasswordHash;
use super::settings::{Deduplication, QueueSettings, QueueType};
use crate::ids::{ConnectionId, NodeId, Placement, QueueId};
use amqp_codec::FieldTable;
use std::sync::Arc;

/// A queue. Shared and never changed: a change makes another record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueRecord {
    /// Identity of this queue and its messages.
    pub id: QueueId,
    /// Vhost.
    pub vhost: Name,
    /// Name.
    pub name: Name,
    /// Where it lives.
    pub placement: Placement,
    /// The connection that has it to itself.
    pub exclusive: Option<ConnectionId>,
    /// Replicated, survives restarts.
    pub durable: bool,
    /// Deleted when its last consumer goes.
    pub auto_delete: bool,
    /// Declared type.
    pub queue_type: QueueType,
    /// Arguments as declared.
    pub arguments: FieldTable,
    /// What arguments and policies come to.
    pub effective: Arc<EffectiveSettings>,
}

impl QueueRecord {
    /// Settings in force.
    #[must_use]
    pub fn settings(&self) -> &QueueSettings {
        &self.effective.settings
    }
}

/// Settings of a queue and the policies that take part in them. Shared by the queues alike.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct EffectiveSettings {
    /// The settings.
    pub settings: Arc<QueueSettings>,
    /// Policy in force.
    pub policy: Option<Name>,
    /// Operator policy in force.
    pub operator_policy: Option<Name>,
}

/// An exchange, apart from its bindings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExchangeRecord {
    /// Vhost.
    pub vhost: Name,
    /// Name.
    pub name: Name,
    /// Type.
    pub kind: crate::routing::ExchangeKind,
    /// Survives a restart of the cluster.
    pub durable: bool,
    /// Deleted with its last binding as source.
    pub auto_delete: bool,
    /// Clients cannot publish to it.
    pub internal: bool,
    /// Arguments as declared.
    pub arguments: FieldTable,
    /// The alternate exchange in force (argument before policy).
    pub alternate: Option<Name>,
    /// Policy in force.
    pub policy: Option<Name>,
    /// Identity of this exchange, also of its store; 0 where it needs none.
    pub id: QueueId,
    /// `x-message-deduplication`.
    pub deduplication: Option<Deduplication>,
    /// The queue of the broker itself that keeps messages of this exchange.
    pub store: Option<Arc<QueueRecord>>,
}

impl ExchangeRecord {
    /// How it matches: its own kind, or that of `x-delayed-type`.
    #[must_use]
    pub fn matching(&self) -> crate::routing::ExchangeKind {
        super::exchange::matching(self.kind, &self.arguments)
    }
}

/// A binding, with names (for display and export).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindingRecord {
    /// Vhost.
    pub vhost: Name,
    /// Source exchange; empty for the implicit binding of every queue.
    pub source: Name,
    /// Destination.
    pub destination: Destination,
    /// Routing key.
    pub routing_key: Name,
    /// Arguments, sorted by name.
    pub arguments: FieldTable,
}

impl BindingRecord {
    /// Tells apart bindings that differ in their arguments only; `None`: without arguments.
    /// The same on all nodes and after a restart.
    #[must_use]
    pub fn arguments_hash(&self) -> Option<u64> {
        (!self.arguments.is_empty()).then(|| crate::routing::stable_hash(self.arguments.raw()))
    }
}

/// Upper bounds; `None`: no bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Connections of a vhost or user.
    pub max_connections: Option<u64>,
    /// Queues of a vhost.
    pub max_queues: Option<u64>,
    /// Channels of a user.
    pub max_channels: Option<u64>,
}

/// A vhost, apart from what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VhostRecord {
    /// Name.
    pub name: Name,
    /// Free text.
    pub description: Name,
    /// Free words.
    pub tags: Vec<Name>,
    /// Type of queues declared without `x-queue-type`.
    pub default_queue_type: Option<Name>,
    /// Operators are refused to delete it.
    pub protected: bool,
    /// Operators want messages traced. Kept for their tools; nothing is traced.
    pub tracing: bool,
    /// Limits.
    pub limits: Limits,
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserRecord {
    /// Name.
    pub name: Name,
    /// How the password is verified.
    pub password: PasswordHash,
    /// `administrator`, `monitoring` and so on.
    pub tags: Vec<Name>,
    /// Limits.
    pub limits: Limits,
}

impl UserRecord {
    /// Whether the user has this tag.
    #[must_use]
    pub fn has_tag(&self, tag: &str) -> bool {
        self.tags.iter().any(|have| &**have == tag)
    }
}

/// A node of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRecord {
    /// Node.
    pub node: NodeId,
    /// Its id in Raft groups; another one after its disk was lost.
    pub raft_id: u64,
    /// How peers reach it, `host:port`.
    pub cluster_address: Name,
    /// How AMQP clients reach it, for display.
    pub amqp_address: Name,
    /// How operators reach it, for display.
    pub management_address: Name,
    /// Part it takes in the cluster.
    pub state: NodeState,
    /// Its latest start announced by `NodeStarted`; 0: none. Ignored in `PutNode`.
    pub incarnation: u64,
}

/// Part that a node takes in the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum NodeState {
    /// Receives data, does not count for a majority yet.
    #[default]
    Joining,
    /// Full member.
    Member,
    /// Its replicas move elsewhere.
    Leaving,
    /// Lost; its replicas are to be replaced.
    Dead,
}

impl NodeState {
    /// The word for display.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Joining => "joining",
            Self::Member => "member",
            Self::Leaving => "leaving",
            Self::Dead => "dead",
        }
    }
}
