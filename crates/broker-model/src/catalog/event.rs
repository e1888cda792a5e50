//! What a change of the catalog means for dispatchers and sessions of a node.

use super::command::Name;
use super::record::QueueRecord;
use crate::ids::{ConnectionId, NodeId};
use std::sync::Arc;

/// Something that changed. Every node gets the same events in the same order.
#[derive(Debug, Clone, PartialEq)]
pub enum CatalogEvent {
    /// The cluster has its identity, first vhost and shards.
    Bootstrapped,
    /// A queue was declared.
    QueueDeclared(Arc<QueueRecord>),
    /// A queue is gone; its consumers are to be cancelled and its messages dropped.
    QueueDeleted(Arc<QueueRecord>),
    /// A queue lost its node and lives, empty, under a new id on another one; consumers follow.
    QueueRehosted {
        /// As it was.
        old: Arc<QueueRecord>,
        /// As it is.
        new: Arc<QueueRecord>,
    },
    /// The settings in force for a queue changed.
    QueueSettingsChanged(Arc<QueueRecord>),
    /// An exchange was deleted.
    ExchangeDeleted {
        /// Vhost.
        vhost: Name,
        /// Exchange.
        name: Name,
    },
    /// Policies of a vhost changed (the queues concerned have events of their own).
    PolicyChanged {
        /// Vhost.
        vhost: Name,
    },
    /// A user's password, tags or limits changed.
    UserChanged {
        /// User.
        name: Name,
    },
    /// A user is gone; its connections are to be closed.
    UserDeleted {
        /// User.
        name: Name,
    },
    /// What a user may do in a vhost changed; cached decisions are void.
    PermissionsChanged {
        /// User.
        user: Name,
        /// Vhost.
        vhost: Name,
    },
    /// A runtime parameter was set or deleted. With its vhost they all go, without events of their own.
    ParameterChanged {
        /// Vhost.
        vhost: Name,
        /// Component.
        component: Name,
        /// Parameter.
        name: Name,
    },
    /// A vhost exists.
    VhostCreated {
        /// Vhost.
        name: Name,
    },
    /// A vhost is gone; its connections are to be closed. Its queues have events of their own.
    VhostDeleted {
        /// Vhost.
        name: Name,
    },
    /// Limits of a vhost changed.
    VhostLimitsChanged {
        /// Vhost.
        name: Name,
    },
    /// The memory of a node is lost: it has started anew, or is given up. What waits for queues
    /// that lived in it waits in vain. The events about these queues come before this one.
    MemoryLost {
        /// Node.
        node: NodeId,
        /// Its latest start now.
        start: u64,
    },
    /// The node of this connection was given up, and its exclusive queues are deleted. If the node was only silent it is
    /// to be closed: its client relies on them.
    ExclusiveQueuesLost {
        /// Whose they were.
        owner: ConnectionId,
    },
    /// A node's record changed or is gone.
    NodeChanged {
        /// Node.
        node: NodeId,
    },
}
