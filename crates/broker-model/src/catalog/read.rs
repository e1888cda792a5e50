//! Reading the catalog: look-ups for sessions, lists for operators, permissions.

use super::arguments::Properties;
use super::command::{Destination, QueueSpec};
use super::declare_rules::DeclareRules;
use super::error::{CatalogError, Resource, ResourceKind};
use super::permission::{Permission, Permissions, TopicPermissions, TopicVariables};
use super::policy::Policy;
use super::record::{
    BindingRecord, ExchangeRecord, NodeRecord, QueueRecord, UserRecord, VhostRecord,
};
use super::settings::QueueSettings;
use super::{Catalog, Name};
use crate::ids::{ConnectionId, NodeId, Origin, QueueId};
use crate::routing::{Effort, ExchangeKind};
use amqp_codec::FieldTable;
use std::collections::BTreeSet;
use std::sync::Arc;

/// How permission refusals name the default exchange.
const DEFAULT_EXCHANGE: &str = "amq.default";

impl Catalog {
    /// Index of the last log entry applied.
    #[must_use]
    pub const fn applied_index(&self) -> u64 {
        self.version
    }

    /// Changes whenever the catalog does: the index of the last log entry applied.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// Whether the cluster has its identity and first content.
    #[must_use]
    pub const fn is_bootstrapped(&self) -> bool {
        self.cluster_id.is_some()
    }

    /// Log index of the last change that can alter where messages of this vhost go; what was
    /// routed at this version may be routed the same way again. 0: no such vhost.
    #[must_use]
    pub fn routing_version(&self, vhost: &str) -> u64 {
        self.vhosts.get(vhost).map_or(0, |vhost| vhost.version)
    }

    /// Identity of the cluster; `None` before it was formed.
    #[must_use]
    pub fn cluster_id(&self) -> Option<&Name> {
        self.cluster_id.as_ref()
    }

    /// Display name of the cluster.
    #[must_use]
    pub fn cluster_name(&self) -> Option<&Name> {
        self.cluster_name.as_ref()
    }

    /// Number of shards; 0 before the cluster was formed.
    #[must_use]
    pub const fn shards(&self) -> u32 {
        self.shards
    }

    /// The nodes, by id.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeRecord> {
        self.nodes.values()
    }

    /// One node.
    #[must_use]
    pub fn node(&self, node: NodeId) -> Option<&NodeRecord> {
        self.nodes.get(&node)
    }

    /// Latest start of a node that was announced; 0: none.
    #[must_use]
    pub fn latest_start(&self, node: NodeId) -> u64 {
        self.starts.get(&node).copied().unwrap_or(0)
    }

    /// The nodes that have announced a start.
    pub fn announced(&self) -> impl Iterator<Item = NodeId> {
        self.starts.keys().copied()
    }

    /// How often all nodes have been down.
    #[must_use]
    pub const fn era(&self) -> u64 {
        self.era
    }

    /// Whether queues live in the memory of a node, or belong to connections to it.
    #[must_use]
    pub fn depends_on(&self, node: NodeId) -> bool {
        self.hosted.contains_key(&node) || self.exclusive_from(node) == Some(node)
    }

    /// Nodes without a record, which were removed, that [`Self::depends_on`] is true of; ascending.
    #[must_use]
    pub fn missing_hosts(&self) -> Vec<NodeId> {
        let mut hosts: BTreeSet<NodeId> = self.hosted.keys().copied().collect();
        let mut from = NodeId(0);
        while let Some(node) = self.exclusive_from(from) {
            hosts.insert(node);
            let Some(next) = node.0.checked_add(1) else {
                break;
            };
            from = NodeId(next);
        }
        hosts.retain(|node| !self.nodes.contains_key(node));
        hosts.into_iter().collect()
    }

    /// The first node from `node` on to which a connection has an exclusive queue.
    fn exclusive_from(&self, node: NodeId) -> Option<NodeId> {
        let first = ConnectionId {
            origin: Origin {
                node,
                incarnation: 0,
            },
            serial: 0,
        };
        let (connection, _) = self.exclusive.range(first..).next()?;
        Some(connection.origin.node)
    }

    /// The vhosts, by name.
    #[must_use]
    pub fn vhosts(&self) -> Vec<&VhostRecord> {
        let mut vhosts: Vec<_> = self.vhosts.values().map(|vhost| &vhost.record).collect();
        vhosts.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        vhosts
    }

    /// One vhost.
    #[must_use]
    pub fn vhost(&self, name: &str) -> Option<&VhostRecord> {
        self.vhosts.get(name).map(|vhost| &vhost.record)
    }

    /// The arguments with which a declaration is checked and replicated: what it says, and what the node's rules say
    /// where it leaves the type open, or where a queue of that name is there.
    #[must_use]
    pub fn arguments_to_declare(&self, spec: &QueueSpec, rules: DeclareRules) -> FieldTable {
        let vhost = self.vhost(&spec.vhost);
        let default = vhost.and_then(|vhost| vhost.default_queue_type.as_deref());
        let properties = Properties {
            durable: spec.durable,
            exclusive: spec.exclusive.is_some(),
            auto_delete: spec.auto_delete,
        };
        let existing = self.queue(&spec.vhost, &spec.name).map(|queue| &**queue);
        rules.apply(spec.arguments.clone(), properties, default, existing)
    }

    /// The exchange, also the default one.
    #[must_use]
    pub fn exchange(&self, vhost: &str, name: &str) -> Option<&Arc<ExchangeRecord>> {
        self.check_exchange(vhost, name).ok()
    }

    /// The exchanges of a vhost in no order, the default one first.
    pub fn exchanges(&self, vhost: &str) -> impl Iterator<Item = &Arc<ExchangeRecord>> {
        self.vhosts.get(vhost).into_iter().flat_map(|vhost| {
            std::iter::once(&vhost.default_exchange)
                .chain(vhost.exchanges().map(|exchange| &exchange.record))
        })
    }

    /// The queue of that name.
    #[must_use]
    pub fn queue(&self, vhost: &str, name: &str) -> Option<&Arc<QueueRecord>> {
        self.vhosts.get(vhost)?.queue(name)
    }

    /// The queue with that id, also one of the broker itself, if it still exists.
    #[must_use]
    pub fn queue_by_id(&self, id: QueueId) -> Option<&Arc<QueueRecord>> {
        self.queues.get(&id).or_else(|| self.stores.get(&id))
    }

    /// The queues of a vhost in no order.
    pub fn queues(&self, vhost: &str) -> impl Iterator<Item = &Arc<QueueRecord>> {
        self.vhosts
            .get(vhost)
            .into_iter()
            .flat_map(|vhost| vhost.queues())
    }

    /// The queues of a vhost that somebody has declared, in no order: not those behind direct reply-to.
    pub fn declared_queues(&self, vhost: &str) -> impl Iterator<Item = &Arc<QueueRecord>> {
        self.queues(vhost)
            .filter(|queue| !super::is_reply_queue(&queue.name))
    }

    /// Number of queues that somebody has declared.
    #[must_use]
    pub fn declared_queue_count(&self) -> usize {
        self.vhosts
            .values()
            .map(|vhost| vhost.declared_count())
            .sum()
    }

    /// The queues of all vhosts in no order.
    pub fn all_queues(&self) -> impl ExactSizeIterator<Item = &Arc<QueueRecord>> {
        self.queues.values()
    }

    /// The queues of the broker itself, which belong to exchanges, in no order.
    pub fn stores(&self) -> impl ExactSizeIterator<Item = &Arc<QueueRecord>> {
        self.stores.values()
    }

    /// Number of queues.
    #[must_use]
    pub fn queue_count(&self) -> usize {
        self.queues.len()
    }

    /// Number of queues of a vhost.
    #[must_use]
    pub fn queue_count_in(&self, vhost: &str) -> usize {
        self.vhosts
            .get(vhost)
            .map_or(0, |vhost| vhost.queue_count())
    }

    /// Number of exchanges, the default ones included.
    #[must_use]
    pub fn exchange_count(&self) -> usize {
        self.vhosts
            .values()
            .map(|vhost| 1 + vhost.exchange_count())
            .sum()
    }

    /// The settings in force for a queue, shared.
    #[must_use]
    pub fn queue_settings(&self, queue: &QueueRecord) -> Arc<QueueSettings> {
        queue.effective.settings.clone()
    }

    /// The queues in the memory of `node`, by id.
    pub fn queues_hosted_by(&self, node: NodeId) -> impl Iterator<Item = &Arc<QueueRecord>> {
        self.hosted
            .get(&node)
            .into_iter()
            .flatten()
            .filter_map(|id| self.queues.get(id))
    }

    /// The exclusive queues of a connection.
    pub fn queues_of(&self, connection: ConnectionId) -> impl Iterator<Item = &Arc<QueueRecord>> {
        self.exclusive
            .get(&connection)
            .into_iter()
            .flatten()
            .filter_map(|id| self.queues.get(id))
    }

    /// The connections that have exclusive queues.
    pub fn exclusive_owners(&self) -> impl Iterator<Item = ConnectionId> {
        self.exclusive.keys().copied()
    }

    /// All bindings of a vhost in no order, first the implicit one of each queue.
    pub fn bindings(&self, vhost: &str) -> impl Iterator<Item = BindingRecord> {
        self.vhosts.get(vhost).into_iter().flat_map(|vhost| {
            let explicit = vhost.exchanges().flat_map(|exchange| &exchange.outgoing);
            vhost
                .queues()
                .map(|queue| implicit_binding(queue))
                .chain(explicit.filter_map(|binding| vhost.binding_record(binding)))
        })
    }

    /// Bindings of which an exchange is the source.
    pub fn bindings_from(
        &self,
        vhost: &str,
        exchange: &str,
    ) -> impl Iterator<Item = BindingRecord> {
        self.vhosts.get(vhost).into_iter().flat_map(move |vhost| {
            let implicit = vhost.queues().filter(move |_| exchange.is_empty());
            let explicit = vhost
                .exchange(exchange)
                .into_iter()
                .flat_map(|e| &e.outgoing);
            implicit
                .map(|queue| implicit_binding(queue))
                .chain(explicit.filter_map(|binding| vhost.binding_record(binding)))
        })
    }

    /// Bindings that lead to a queue or exchange, first a queue's implicit one.
    pub fn bindings_to(
        &self,
        vhost: &str,
        destination: &Destination,
    ) -> impl Iterator<Item = BindingRecord> {
        self.vhosts.get(vhost).into_iter().flat_map(move |vhost| {
            let target = vhost.destination(destination);
            let implicit = target.and_then(|target| vhost.queue_at(target));
            let explicit = target.into_iter().flat_map(|target| vhost.incoming(target));
            implicit
                .into_iter()
                .map(|queue| implicit_binding(queue))
                .chain(explicit.filter_map(|binding| vhost.binding_record(binding)))
        })
    }

    /// Policies of a vhost, by name.
    pub fn policies(&self, vhost: &str) -> impl Iterator<Item = &Policy> {
        self.vhosts
            .get(vhost)
            .into_iter()
            .flat_map(|vhost| vhost.policies.values())
    }

    /// Operator policies of a vhost, by name.
    pub fn operator_policies(&self, vhost: &str) -> impl Iterator<Item = &Policy> {
        self.vhosts
            .get(vhost)
            .into_iter()
            .flat_map(|vhost| vhost.operator_policies.values())
    }

    /// Runtime parameters of a vhost: component, name, JSON text.
    pub fn parameters(&self, vhost: &str) -> impl Iterator<Item = (&Name, &Name, &Name)> {
        self.vhosts.get(vhost).into_iter().flat_map(|vhost| {
            vhost
                .parameters
                .iter()
                .map(|((component, name), value)| (component, name, value))
        })
    }

    /// Global parameters: name, JSON text.
    pub fn global_parameters(&self) -> impl Iterator<Item = (&Name, &Name)> {
        self.global_parameters.iter()
    }

    /// The users, by name.
    pub fn users(&self) -> impl Iterator<Item = &UserRecord> {
        self.users.values().map(|user| &user.record)
    }

    /// One user.
    #[must_use]
    pub fn user(&self, name: &str) -> Option<&UserRecord> {
        self.users.get(name).map(|user| &user.record)
    }

    /// What a user may do, by vhost.
    pub fn permissions_of(&self, user: &str) -> impl Iterator<Item = (&Name, &Permissions)> {
        self.users
            .get(user)
            .into_iter()
            .flat_map(|user| &user.permissions)
    }

    /// What a user may do in a vhost; `None`: it may not open it.
    #[must_use]
    pub fn permissions(&self, user: &str, vhost: &str) -> Option<&Permissions> {
        self.users.get(user)?.permissions.get(vhost)
    }

    /// Topic permissions of a user, by vhost and exchange.
    pub fn topic_permissions_of(
        &self,
        user: &str,
    ) -> impl Iterator<Item = (&Name, &TopicPermissions)> {
        self.users
            .get(user)
            .into_iter()
            .flat_map(|user| &user.topics)
            .flat_map(|(vhost, list)| list.iter().map(move |permissions| (vhost, permissions)))
    }

    /// Whether a user may do something with a queue or exchange.
    ///
    /// # Errors
    /// [`CatalogError::AccessRefused`].
    pub fn check_permission(
        &self,
        user: &str,
        vhost: &str,
        permission: Permission,
        kind: ResourceKind,
        name: &str,
    ) -> Result<(), CatalogError> {
        let have = self.permissions(user, vhost);
        let allows = |name: &str| have.is_some_and(|have| have.allow(permission, name));
        check_permission_of(user, vhost, permission, kind, name, allows)
    }

    /// Whether a user may publish to or bind by each of these topics. Only topic exchanges have topics, and
    /// where nothing is set everything is allowed.
    ///
    /// # Errors
    /// [`CatalogError::TopicRefused`], [`CatalogError::TooCostly`].
    pub fn check_topic_permission(
        &self,
        variables: TopicVariables<'_>,
        permission: Permission,
        exchange: &ExchangeRecord,
        topics: &[&str],
        effort: &mut Effort,
    ) -> Result<(), CatalogError> {
        if exchange.matching() != ExchangeKind::Topic {
            return Ok(());
        }
        let list = self
            .users
            .get(variables.username)
            .and_then(|user| user.topics.get(&exchange.vhost));
        let set = list
            .into_iter()
            .flatten()
            .find(|set| set.exchange == exchange.name);
        let pattern = set.and_then(|set| match permission {
            Permission::Write => Some(set.write.filled(variables)),
            Permission::Read => Some(set.read.filled(variables)),
            Permission::Configure => None,
        });
        let Some(pattern) = pattern else {
            return Ok(());
        };
        for topic in topics {
            effort.take(pattern.cost())?;
            if !pattern.matches(topic) {
                return Err(CatalogError::TopicRefused {
                    permission: permission.as_str(),
                    topic: (*topic).into(),
                    exchange: Resource::exchange(&exchange.vhost, &exchange.name),
                    user: variables.username.into(),
                });
            }
        }
        Ok(())
    }
}

/// Every queue is bound to the default exchange by its name.
fn implicit_binding(queue: &QueueRecord) -> BindingRecord {
    BindingRecord {
        vhost: queue.vhost.clone(),
        source: "".into(),
        destination: Destination::Queue(queue.name.clone()),
        routing_key: queue.name.clone(),
        arguments: FieldTable::empty(),
    }
}

/// The same for a user of whom only it is known what `allows` says of a name; the default exchange has one, too.
///
/// # Errors
/// [`CatalogError::AccessRefused`].
pub fn check_permission_of(
    user: &str,
    vhost: &str,
    permission: Permission,
    kind: ResourceKind,
    name: &str,
    allows: impl FnOnce(&str) -> bool,
) -> Result<(), CatalogError> {
    let is_default = kind == ResourceKind::Exchange && name.is_empty();
    let name = if is_default { DEFAULT_EXCHANGE } else { name };
    if allows(name) {
        return Ok(());
    }
    Err(CatalogError::AccessRefused {
        permission: permission.as_str(),
        resource: Resource {
            kind,
            name: name.into(),
            vhost: vhost.into(),
        },
        user: user.into(),
    })
}
