//! What can be asked of the catalog, and what it answers.
//!
//! A command carries everything that its effect depends on: password hashes, placements and times
//! are made by whoever proposes it. Commands may be proposed again after a failure that leaves
//! their fate unknown; a [`RequestKey`] makes the repetition answer what the first one answered.

use super::error::CatalogError;
use super::password::PasswordHash;
use super::policy::PolicyValue;
use super::record::{Limits, NodeRecord, NodeState};
use crate::ids::{ConnectionId, NodeId, Origin, Placement, QueueId};
use amqp_codec::FieldTable;
use std::sync::Arc;

/// A name: of a vhost, exchange, queue, user, policy, or a routing key. Cloning copies no text.
pub type Name = Arc<str>;

/// Commands that travel in one log entry, in order. Encodings of entries may be joined: the
/// concatenation of two encoded entries is the encoding of both one after the other.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CatalogEntry {
    /// The commands.
    pub requests: Vec<CatalogRequest>,
}

impl CatalogEntry {
    /// An entry of one command that may not be repeated blindly.
    #[must_use]
    pub fn of(command: CatalogCommand) -> Self {
        Self {
            requests: vec![CatalogRequest { key: None, command }],
        }
    }
}

/// A command and, if it may be proposed more than once, its identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogRequest {
    /// Identity; a repetition is not applied again and gets the first answer.
    pub key: Option<RequestKey>,
    /// What is asked.
    pub command: CatalogCommand,
}

/// Identity of a request: who asks, and a number that it never uses for another request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestKey {
    /// The asking node and its start.
    pub origin: Origin,
    /// Growing.
    pub number: u64,
}

/// A change of the catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CatalogCommand {
    /// The first command of a cluster. Later ones change nothing.
    Bootstrap(Bootstrap),
    /// Display name of the cluster.
    SetClusterName {
        /// New name.
        name: Name,
    },
    /// Creates a vhost or changes its description, tags and default type.
    PutVhost(VhostSpec),
    /// Deletes a vhost and all that is in it.
    DeleteVhost {
        /// Its name.
        name: Name,
    },
    /// Replaces the limits of a vhost.
    SetVhostLimits {
        /// Vhost.
        vhost: Name,
        /// New limits.
        limits: Limits,
    },
    /// Creates a user or replaces password and tags.
    PutUser(UserSpec),
    /// Deletes a user and its permissions.
    DeleteUser {
        /// Its name.
        name: Name,
    },
    /// Replaces the limits of a user.
    SetUserLimits {
        /// User.
        user: Name,
        /// New limits.
        limits: Limits,
    },
    /// Sets what a user may do in a vhost.
    SetPermissions(PermissionSpec),
    /// Takes away all permissions of a user in a vhost.
    ClearPermissions {
        /// User.
        user: Name,
        /// Vhost.
        vhost: Name,
    },
    /// Sets which topics a user may publish to and bind to at an exchange.
    SetTopicPermissions(TopicPermissionSpec),
    /// Takes topic permissions away.
    ClearTopicPermissions {
        /// User.
        user: Name,
        /// Vhost.
        vhost: Name,
        /// Exchange; `None`: all of the vhost.
        exchange: Option<Name>,
    },
    /// `exchange.declare` of a missing exchange (checked again when applied).
    DeclareExchange(ExchangeSpec),
    /// `exchange.delete`.
    DeleteExchange {
        /// Vhost.
        vhost: Name,
        /// Exchange.
        name: Name,
        /// Refuse while it is the source of bindings.
        if_unused: bool,
    },
    /// `queue.bind` and `exchange.bind`.
    Bind(BindingSpec),
    /// `queue.unbind` and `exchange.unbind`.
    Unbind(BindingSpec),
    /// `queue.declare` of a missing queue (checked again when applied).
    DeclareQueue(QueueSpec),
    /// `queue.delete`, expiry or auto-delete; the conditions have been checked by the queue's leader.
    DeleteQueue {
        /// Vhost.
        vhost: Name,
        /// Queue.
        name: Name,
        /// Only if the name still stands for this queue.
        expected: Option<QueueId>,
    },
    /// Deletes the exclusive queues of a connection that has ended.
    DeleteQueuesOf {
        /// Connection.
        connection: ConnectionId,
    },
    /// A node has started: exclusive queues of its earlier starts are deleted; the other queues
    /// that lived in its memory are empty now and get new ids, consumers on other nodes follow.
    NodeStarted {
        /// Node and new start.
        origin: Origin,
        /// While the catalog was in this era (see [`super::Catalog::era`]) no node was found that
        /// had announced its start and was alive: all have been down. If the era is still the same,
        /// a new one begins, and nothing of the old one that is not durable is left.
        all_were_down_in: Option<u64>,
    },
    /// A node is gone: exclusive queues of its connections are deleted, the other queues that lived
    /// in its memory move, empty, to `new_host`.
    NodeDead {
        /// The node and, so that a late command does not hit a later start, which start of it.
        origin: Origin,
        /// A live node.
        new_host: NodeId,
    },
    /// Sets a policy or operator policy.
    PutPolicy(PolicySpec),
    /// Deletes a policy or operator policy.
    DeletePolicy {
        /// Vhost.
        vhost: Name,
        /// Policy.
        name: Name,
        /// Which kind.
        operator: bool,
    },
    /// Sets a runtime parameter.
    PutParameter {
        /// Vhost.
        vhost: Name,
        /// Component, like `shovel`.
        component: Name,
        /// Name.
        name: Name,
        /// JSON text.
        value: Name,
    },
    /// Deletes a runtime parameter.
    DeleteParameter {
        /// Vhost.
        vhost: Name,
        /// Component.
        component: Name,
        /// Name.
        name: Name,
    },
    /// Sets a global parameter.
    PutGlobalParameter {
        /// Name.
        name: Name,
        /// JSON text.
        value: Name,
    },
    /// Deletes a global parameter.
    DeleteGlobalParameter {
        /// Name.
        name: Name,
    },
    /// Writes a node's record (its state, start and addresses).
    PutNode(NodeRecord),
    /// Changes a node's state only.
    SetNodeState {
        /// Node.
        node: NodeId,
        /// New state.
        state: NodeState,
    },
    /// Forgets a node.
    RemoveNode {
        /// Node.
        node: NodeId,
    },
}

/// What a new cluster starts with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bootstrap {
    /// Identity of the cluster, for ever.
    pub cluster_id: Name,
    /// Its display name.
    pub cluster_name: Name,
    /// Number of shards, for ever.
    pub shards: u32,
    /// The first vhost.
    pub vhost: Name,
    /// The first user (all permissions in the first vhost); `None`: no user.
    pub user: Option<UserSpec>,
    /// Records of the first nodes.
    pub nodes: Vec<NodeRecord>,
}

/// A vhost to create or change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VhostSpec {
    /// Name.
    pub name: Name,
    /// Free text; `None` leaves what is there.
    pub description: Option<Name>,
    /// Free words; `None` leaves what is there.
    pub tags: Option<Vec<Name>>,
    /// Type of queues declared without `x-queue-type`; `None` leaves what is there.
    pub default_queue_type: Option<Name>,
    /// Whether it is refused to delete it; `None` leaves what is there.
    pub protected: Option<bool>,
    /// Whether operators want messages traced, which has no effect; `None` leaves what is there.
    pub tracing: Option<bool>,
}

impl VhostSpec {
    /// A plain vhost.
    #[must_use]
    pub fn named(name: impl Into<Name>) -> Self {
        Self {
            name: name.into(),
            description: None,
            tags: None,
            default_queue_type: None,
            protected: None,
            tracing: None,
        }
    }
}

/// A user to create or change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserSpec {
    /// Name.
    pub name: Name,
    /// How the password is verified.
    pub password: PasswordHash,
    /// `administrator`, `monitoring` and so on.
    pub tags: Vec<Name>,
}

/// What a user may do in a vhost: regular expressions over names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PermissionSpec {
    /// User.
    pub user: Name,
    /// Vhost.
    pub vhost: Name,
    /// Declare and delete.
    pub configure: Name,
    /// Publish, bind to a destination.
    pub write: Name,
    /// Consume, get, purge, bind from a source.
    pub read: Name,
}

/// Which topics a user may use at an exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicPermissionSpec {
    /// User.
    pub user: Name,
    /// Vhost.
    pub vhost: Name,
    /// Exchange.
    pub exchange: Name,
    /// Routing keys to publish with.
    pub write: Name,
    /// Routing keys to bind with.
    pub read: Name,
}

/// An exchange to declare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExchangeSpec {
    /// Vhost.
    pub vhost: Name,
    /// Name.
    pub name: Name,
    /// Type as the client wrote it.
    pub kind: Name,
    /// Survives a restart of the whole cluster.
    pub durable: bool,
    /// Deleted with its last binding as source.
    pub auto_delete: bool,
    /// Clients cannot publish to it.
    pub internal: bool,
    /// Arguments as the client sent them.
    pub arguments: FieldTable,
}

/// Where a binding leads.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Destination {
    /// A queue.
    Queue(Name),
    /// An exchange.
    Exchange(Name),
}

impl Destination {
    /// The name alone.
    #[must_use]
    pub fn name(&self) -> &Name {
        match self {
            Self::Queue(name) | Self::Exchange(name) => name,
        }
    }
}

/// A binding to make or remove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindingSpec {
    /// Vhost.
    pub vhost: Name,
    /// Source exchange.
    pub source: Name,
    /// Destination.
    pub destination: Destination,
    /// Routing key.
    pub routing_key: Name,
    /// Arguments as the client sent them.
    pub arguments: FieldTable,
}

/// A queue to declare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueSpec {
    /// Vhost.
    pub vhost: Name,
    /// Name, not empty (names are generated by whoever proposes).
    pub name: Name,
    /// Replicated, survives restarts. Ignored for exclusive queues.
    pub durable: bool,
    /// The connection that has it to itself.
    pub exclusive: Option<ConnectionId>,
    /// Deleted when its last consumer goes.
    pub auto_delete: bool,
    /// Arguments as the client sent them.
    pub arguments: FieldTable,
    /// Where it is to live, if it does not exist.
    pub placement: Placement,
    /// The client left the name to the broker (only then may it begin with `amq.`).
    pub server_named: bool,
}

/// A policy to set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicySpec {
    /// Vhost.
    pub vhost: Name,
    /// Name.
    pub name: Name,
    /// Whether it is an operator policy.
    pub operator: bool,
    /// Regular expression over names of queues and exchanges.
    pub pattern: Name,
    /// `all`, `queues`, `exchanges`, `classic_queues`, `quorum_queues` or `streams`.
    pub apply_to: Name,
    /// The highest that matches counts.
    pub priority: i64,
    /// Keys (argument names without `x-`) and values.
    pub definition: Vec<(Name, PolicyValue)>,
}

/// What a command answered.
pub type CatalogReply = Result<CatalogAnswer, CatalogError>;

/// What a command that was not refused has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CatalogAnswer {
    /// The catalog is as asked. `created` tells whether something was new (or, for a deletion,
    /// whether there was something to delete).
    Done {
        /// Whether something was made or removed.
        created: bool,
    },
    /// The queue exists.
    Queue {
        /// Its id.
        id: QueueId,
        /// Where it lives.
        placement: Placement,
        /// Made by this command.
        created: bool,
    },
}
