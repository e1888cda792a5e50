//! The catalog: everything the cluster knows except messages.
//!
//! A pure state machine over [`CatalogCommand`]s, held in memory by every node. Commands are applied
//! in log order by [`Catalog::apply`]; between them it is read by everyone (`read`, `check`,
//! `crate::routing`). Nothing here reads a clock or draws a random number, so replicas agree.
//!
//! Not here: how commands are replicated, messages, password hashing, sessions.

pub(crate) mod apply;
pub(crate) mod arguments;
mod changes;
mod check;
mod command;
mod declare_rules;
mod error;
mod event;
mod exchange;
mod nodes;
mod password;
mod pattern;
mod permission;
mod policy;
mod read;
pub mod record;
mod replay;
pub mod settings;
mod snapshot;
mod snapshot_item;
mod stored;
mod stored_command;
mod stored_spec;
mod stream;
mod topology;
mod users;
pub(crate) mod vhost;

#[cfg(test)]
mod tests;

pub use arguments::{DEDUPLICATION_HEADER, QueueArguments, TIME_MAX_MS, check_consumer_arguments};
pub use check::{REPLY_QUEUE_PREFIX, RESERVED_PREFIX, is_reply_queue, strip_line_ends};
pub use command::{
    BindingSpec, Bootstrap, CatalogAnswer, CatalogCommand, CatalogEntry, CatalogReply,
    CatalogRequest, Destination, ExchangeSpec, Name, PermissionSpec, PolicySpec, QueueSpec,
    RequestKey, TopicPermissionSpec, UserSpec, VhostSpec,
};
pub use declare_rules::DeclareRules;
pub use error::{CatalogError, Resource, ResourceKind};
pub use event::CatalogEvent;
pub use password::{PasswordAlgorithm, PasswordHash};
pub use pattern::Pattern;
pub use permission::{Permission, Permissions, TopicPattern, TopicPermissions, TopicVariables};
pub use policy::{ApplyTo, Policy, PolicyValue, merged_definition};
pub use read::check_permission_of;
pub use record::{
    BindingRecord, EffectiveSettings, ExchangeRecord, Limits, NodeRecord, NodeState, QueueRecord,
    UserRecord, VhostRecord,
};
pub use settings::{
    Deduplication, DelayedRetry, DeliveryLimit, Overflow, QueueSettings, QueueType, RetryKind,
    Store,
};
pub use stored::{StoredError, decode_replies, encode_replies};
pub use stream::StreamOffset;

use crate::ids::{ConnectionId, NodeId, QueueId};
use hashbrown::{HashMap, HashSet};
use replay::Replays;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use users::User;
use vhost::Vhost;

type Hasher = foldhash::fast::RandomState;

/// The catalog.
#[derive(Debug, Default)]
pub struct Catalog {
    /// Index of the last log entry applied.
    version: u64,
    cluster_id: Option<Name>,
    cluster_name: Option<Name>,
    shards: u32,
    vhosts: HashMap<Name, Box<Vhost>, Hasher>,
    users: BTreeMap<Name, User>,
    /// JSON text by name.
    global_parameters: BTreeMap<Name, Name>,
    nodes: BTreeMap<NodeId, NodeRecord>,
    /// Latest start of each node that has been announced.
    starts: BTreeMap<NodeId, u64>,
    /// How often all nodes have been down: what is not durable does not outlive an era.
    era: u64,
    queues: HashMap<QueueId, Arc<QueueRecord>, Hasher>,
    /// Queues of the broker itself, which belong to exchanges.
    stores: HashMap<QueueId, Arc<QueueRecord>, Hasher>,
    exclusive: BTreeMap<ConnectionId, BTreeSet<QueueId>>,
    /// Queues in the memory of one node.
    hosted: BTreeMap<NodeId, BTreeSet<QueueId>>,
    /// Equal settings are held once.
    settings: HashSet<Arc<EffectiveSettings>, Hasher>,
    replays: Replays,
}

impl Catalog {
    /// An empty catalog, before the first entry.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}
