//! The whole catalog as bytes and back: in chunks of items, each item one thing with a name.
//!
//! The order of items is fixed (what others refer to comes first, and within a kind by name), so
//! equal catalogs have equal snapshots, whatever became of them on the way.

use super::Catalog;
use super::command::{BindingSpec, Name, PermissionSpec, UserSpec, VhostSpec};
use super::permission::{Permissions, TopicPattern, TopicPermissions};
use super::policy::Policy;
use super::record::UserRecord;
use super::snapshot_item::{
    Head, Item, Kind, PermissionItem, QueueItem, ReplyItem, UserItem, VhostItem, type_number,
    type_of,
};
use super::stored::{
    StoredError, StoredKey, StoredLimits, StoredNode, StoredOrigin, StoredReply, check_format,
    format,
};
use super::stored_spec::{
    StoredBinding, StoredExchange, StoredParameter, StoredPermission, StoredPolicy, StoredQueue,
    StoredUser, StoredVhost,
};
use super::topology::binding_of;
use super::users::User;
use super::vhost::{Vhost, is_predeclared};
use crate::ids::{Origin, QueueId};
use crate::routing::ExchangeKind;
use bytes::{Buf, Bytes, BytesMut};
use prost::Message;

/// A chunk is closed when it has grown beyond this. (An item is far smaller.)
const CHUNK: usize = 512 * 1024;

/// Collects items into chunks.
#[derive(Default)]
struct Chunks {
    full: Vec<Bytes>,
    open: BytesMut,
    items: u64,
}

impl Chunks {
    fn push(&mut self, kind: Kind) {
        self.items += 1;
        self.put(kind);
    }

    fn put(&mut self, kind: Kind) {
        // Writing to memory that grows cannot fail.
        let _ = Item { kind: Some(kind) }.encode_length_delimited(&mut self.open);
        if self.open.len() >= CHUNK {
            self.full.push(self.open.split().freeze());
        }
    }

    fn finish(mut self) -> (Vec<Bytes>, u64) {
        if !self.open.is_empty() {
            self.full.push(self.open.freeze());
        }
        (self.full, self.items)
    }
}

impl Catalog {
    /// The catalog as bytes, in chunks of about half a mebibyte.
    #[must_use]
    pub fn encode_snapshot(&self) -> Vec<Bytes> {
        let mut chunks = Chunks::default();
        for record in self.nodes.values() {
            chunks.push(Kind::Node(StoredNode::of(record)));
        }
        for (node, incarnation) in &self.starts {
            let origin = Origin {
                node: *node,
                incarnation: *incarnation,
            };
            chunks.push(Kind::Start(StoredOrigin::of(origin)));
        }
        for (name, value) in &self.global_parameters {
            chunks.push(Kind::GlobalParameter(StoredParameter {
                name: name.to_string(),
                value: value.to_string(),
                ..StoredParameter::default()
            }));
        }
        let mut vhosts: Vec<_> = self.vhosts.values().collect();
        vhosts.sort_unstable_by(|a, b| a.record.name.cmp(&b.record.name));
        for vhost in vhosts {
            push_vhost(vhost, &mut chunks);
        }
        for user in self.users.values() {
            push_user(user, &mut chunks);
        }
        for (key, reply) in self.replays.iter() {
            chunks.push(Kind::Reply(ReplyItem {
                key: Some(StoredKey::of(key)),
                reply: Some(StoredReply::of(reply)),
            }));
        }
        let (rest, items) = chunks.finish();
        let mut head = Chunks::default();
        head.put(Kind::Head(Head {
            format: format(),
            index: self.version,
            cluster_id: self.cluster_id.as_ref().map(Name::to_string),
            cluster_name: self.cluster_name.as_ref().map(Name::to_string),
            shards: self.shards,
            items,
            era: self.era,
        }));
        let (mut all, _) = head.finish();
        all.extend(rest);
        all
    }

    /// The catalog that a snapshot was made of.
    ///
    /// # Errors
    /// The chunks are not a whole snapshot of a version that is understood.
    pub fn decode_snapshot(chunks: &[Bytes]) -> Result<Self, StoredError> {
        let mut catalog = Self::new();
        let mut expected = None;
        let mut items = 0;
        for chunk in chunks {
            let mut rest = chunk.clone();
            while rest.has_remaining() {
                let item = Item::decode_length_delimited(&mut rest)?;
                let kind = item.kind.ok_or(StoredError::Unknown("item"))?;
                match (kind, expected) {
                    (Kind::Head(head), None) => {
                        check_format(head.format)?;
                        expected = Some(head.items);
                        catalog.version = head.index;
                        catalog.cluster_id = head.cluster_id.map(Name::from);
                        catalog.cluster_name = head.cluster_name.map(Name::from);
                        catalog.shards = head.shards;
                        catalog.era = head.era;
                    }
                    (Kind::Head(_), Some(_)) | (_, None) => {
                        return Err(StoredError::Unknown("place of the head"));
                    }
                    (kind, Some(_)) => {
                        items += 1;
                        catalog.restore(kind)?;
                    }
                }
            }
        }
        if expected != Some(items) {
            return Err(StoredError::Unknown("end of the snapshot"));
        }
        Ok(catalog)
    }

    fn restore(&mut self, kind: Kind) -> Result<(), StoredError> {
        const VHOST: StoredError = StoredError::Unknown("vhost");
        const USER: StoredError = StoredError::Unknown("user");
        match kind {
            Kind::Head(_) => {}
            Kind::Node(node) => {
                let record = node.restore()?;
                self.nodes.insert(record.node, record);
            }
            Kind::Start(origin) => {
                let Origin { node, incarnation } = origin.restore();
                self.starts.insert(node, incarnation);
            }
            Kind::GlobalParameter(stored) => {
                self.global_parameters
                    .insert(stored.name.into(), stored.value.into());
            }
            Kind::Vhost(item) => {
                let spec = item.vhost.ok_or(VHOST)?.restore();
                let mut vhost = Vhost::new(spec.name.clone(), self.version);
                vhost.record.description = spec.description.unwrap_or_default();
                vhost.record.tags = spec.tags.unwrap_or_default();
                vhost.record.default_queue_type = spec.default_queue_type;
                vhost.record.protected = spec.protected.unwrap_or_default();
                vhost.record.tracing = spec.tracing.unwrap_or_default();
                vhost.record.limits = item.limits.map(StoredLimits::restore).unwrap_or_default();
                self.vhosts.insert(spec.name, Box::new(vhost));
            }
            Kind::Policy(stored) => {
                let spec = stored.restore()?;
                let policy = Policy::from_spec(&spec);
                let vhost = self.vhost_state_mut(&spec.vhost).map_err(|_| VHOST)?;
                if spec.operator {
                    vhost.operator_policies.insert(spec.name, policy);
                } else {
                    vhost.policies.insert(spec.name, policy);
                    // Predeclared exchanges are there already.
                    vhost.refresh_exchanges();
                }
            }
            Kind::Parameter(stored) => {
                let vhost = self.vhost_state_mut(&stored.vhost).map_err(|_| VHOST)?;
                let key = (stored.component.into(), stored.name.into());
                vhost.parameters.insert(key, stored.value.into());
            }
            Kind::Exchange(stored) => {
                let id = QueueId(stored.id);
                let spec = stored.restore()?;
                let kind = ExchangeKind::parse(&spec.kind);
                let kind = kind.ok_or(StoredError::Unknown("exchange type"))?;
                let vhost = self.vhost_state(&spec.vhost).map_err(|_| VHOST)?;
                if vhost.exchange_place(&spec.name).is_none() {
                    self.make_exchange(id, &spec, kind).map_err(|_| VHOST)?;
                }
            }
            Kind::Queue(item) => {
                let spec = item.queue.ok_or(StoredError::Unknown("queue"))?.restore()?;
                let queue_type = type_of(item.queue_type)?;
                self.make_queue(QueueId(item.id), &spec, queue_type)
                    .map_err(|_| VHOST)?;
            }
            Kind::Binding(stored) => {
                let spec = stored.restore()?;
                let vhost = self.vhost_state_mut(&spec.vhost).map_err(|_| VHOST)?;
                let binding =
                    binding_of(vhost, &spec).ok_or(StoredError::Unknown("end of a binding"))?;
                vhost.insert_binding(binding);
            }
            Kind::User(item) => {
                let UserSpec {
                    name,
                    password,
                    tags,
                } = item.user.ok_or(USER)?.restore()?;
                let limits = item.limits.map(StoredLimits::restore).unwrap_or_default();
                let record = UserRecord {
                    name: name.clone(),
                    password,
                    tags,
                    limits,
                };
                self.users.insert(name, User::new(record));
            }
            Kind::Permission(PermissionItem { permission, topic }) => {
                let stored = permission.ok_or(StoredError::Unknown("permission"))?;
                let user = self.users.get_mut(stored.user.as_str()).ok_or(USER)?;
                let vhost: Name = stored.vhost.as_str().into();
                if topic {
                    user.topics
                        .entry(vhost)
                        .or_default()
                        .push(TopicPermissions {
                            exchange: stored.exchange.unwrap_or_default().into(),
                            write: TopicPattern::new(stored.write.into()),
                            read: TopicPattern::new(stored.read.into()),
                        });
                } else {
                    let permissions = Permissions::from_spec(&PermissionSpec {
                        user: stored.user.into(),
                        vhost: vhost.clone(),
                        configure: stored.configure.into(),
                        write: stored.write.into(),
                        read: stored.read.into(),
                    });
                    user.permissions.insert(vhost, permissions);
                }
            }
            Kind::Reply(item) => {
                let key = item.key.ok_or(StoredError::Unknown("request"))?.restore()?;
                let reply = item.reply.ok_or(StoredError::Unknown("reply"))?.restore()?;
                self.replays.insert(key, reply);
            }
        }
        Ok(())
    }
}

fn push_vhost(vhost: &Vhost, chunks: &mut Chunks) {
    let record = &vhost.record;
    let name = &record.name;
    chunks.push(Kind::Vhost(VhostItem {
        vhost: Some(StoredVhost::of(&VhostSpec {
            name: name.clone(),
            description: Some(record.description.clone()),
            tags: Some(record.tags.clone()),
            default_queue_type: record.default_queue_type.clone(),
            protected: record.protected.then_some(true),
            tracing: record.tracing.then_some(true),
        })),
        limits: Some(StoredLimits::of(record.limits)),
    }));
    for (operator, policies) in [(false, &vhost.policies), (true, &vhost.operator_policies)] {
        for policy in policies.values() {
            chunks.push(Kind::Policy(StoredPolicy::of(
                &policy.to_spec(name.clone(), operator),
            )));
        }
    }
    for ((component, key), value) in &vhost.parameters {
        chunks.push(Kind::Parameter(StoredParameter {
            vhost: name.to_string(),
            component: component.to_string(),
            name: key.to_string(),
            value: value.to_string(),
        }));
    }
    let mut exchanges: Vec<_> = vhost.exchanges().collect();
    exchanges.sort_unstable_by(|a, b| a.record.name.cmp(&b.record.name));
    for exchange in exchanges
        .iter()
        .filter(|exchange| !is_predeclared(&exchange.record.name))
    {
        chunks.push(Kind::Exchange(StoredExchange::with_id(
            &exchange.record.to_spec(),
            exchange.record.id,
        )));
    }
    let mut queues: Vec<_> = vhost.queues().collect();
    queues.sort_unstable_by_key(|queue| queue.id);
    for queue in queues {
        chunks.push(Kind::Queue(QueueItem {
            queue: Some(StoredQueue::of(&queue.to_spec())),
            id: queue.id.0,
            queue_type: type_number(queue.queue_type),
        }));
    }
    for exchange in exchanges {
        let bindings = exchange
            .outgoing
            .iter()
            .filter_map(|b| vhost.binding_record(b));
        let mut bindings: Vec<_> = bindings.collect();
        bindings.sort_unstable_by(|a, b| {
            (&a.destination, &a.routing_key, a.arguments.raw()).cmp(&(
                &b.destination,
                &b.routing_key,
                b.arguments.raw(),
            ))
        });
        for binding in bindings {
            chunks.push(Kind::Binding(StoredBinding::of(&BindingSpec {
                vhost: binding.vhost,
                source: binding.source,
                destination: binding.destination,
                routing_key: binding.routing_key,
                arguments: binding.arguments,
            })));
        }
    }
}

fn push_user(user: &User, chunks: &mut Chunks) {
    let record = &user.record;
    chunks.push(Kind::User(UserItem {
        user: Some(StoredUser::of(&UserSpec {
            name: record.name.clone(),
            password: record.password.clone(),
            tags: record.tags.clone(),
        })),
        limits: Some(StoredLimits::of(record.limits)),
    }));
    for (vhost, permissions) in &user.permissions {
        let permission = StoredPermission {
            user: record.name.to_string(),
            vhost: vhost.to_string(),
            configure: permissions.configure.source().to_string(),
            write: permissions.write.source().to_string(),
            read: permissions.read.source().to_string(),
            exchange: None,
        };
        chunks.push(Kind::Permission(PermissionItem {
            permission: Some(permission),
            topic: false,
        }));
    }
    for (vhost, permissions) in user
        .topics
        .iter()
        .flat_map(|(v, list)| list.iter().map(move |p| (v, p)))
    {
        let permission = StoredPermission {
            user: record.name.to_string(),
            vhost: vhost.to_string(),
            configure: String::new(),
            write: permissions.write.source().to_string(),
            read: permissions.read.source().to_string(),
            exchange: Some(permissions.exchange.to_string()),
        };
        chunks.push(Kind::Permission(PermissionItem {
            permission: Some(permission),
            topic: true,
        }));
    }
}
