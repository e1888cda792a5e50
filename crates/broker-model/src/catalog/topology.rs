//! Applying commands about exchanges, queues, bindings and policies.

use super::apply::{Applying, done};
use super::command::{
    BindingSpec, CatalogAnswer, CatalogReply, ExchangeSpec, PolicySpec, QueueSpec,
};
use super::error::CatalogError;
use super::event::CatalogEvent;
use super::policy::Policy;
use super::record::{EffectiveSettings, QueueRecord};
use super::settings::QueueType;
use super::vhost::{Binding, Vhost};
use super::{Catalog, Name};
use crate::ids::{ConnectionId, Placement, QueueId};
use crate::routing::ExchangeKind;
use amqp_codec::{FieldTable, TableBuilder};
use std::sync::Arc;

/// Sets of settings that are kept although no queue may use them any more.
const UNUSED_SETTINGS_MAX: usize = 1024;

impl Catalog {
    pub(crate) fn declare_exchange(
        &mut self,
        spec: &ExchangeSpec,
        applying: &mut Applying<'_>,
    ) -> CatalogReply {
        if self.check_declare_exchange(spec)?.is_some() {
            return done(false);
        }
        let kind =
            ExchangeKind::parse(&spec.kind).ok_or_else(|| CatalogError::UnknownExchangeType {
                kind: spec.kind.clone(),
            })?;
        let id = if super::exchange::needs_id(kind, &spec.arguments) {
            applying
                .next_queue_id()
                .ok_or_else(|| CatalogError::Invalid("too many queues in one entry".into()))?
        } else {
            QueueId(0)
        };
        let store = self.make_exchange(id, spec, kind)?;
        applying
            .events
            .extend(store.map(CatalogEvent::QueueDeclared));
        self.vhost_state_mut(&spec.vhost)?.version = applying.index;
        done(true)
    }

    pub(crate) fn delete_exchange(
        &mut self,
        vhost: &Name,
        name: &Name,
        if_unused: bool,
        applying: &mut Applying<'_>,
    ) -> CatalogReply {
        if !self.check_delete_exchange(vhost, name, if_unused)? {
            return done(false);
        }
        let vhost = self.vhost_state_mut(vhost)?;
        let mut deleted = Vec::new();
        vhost.remove_exchange(name, &mut deleted);
        vhost.version = applying.index;
        self.exchanges_deleted(deleted, applying);
        done(true)
    }

    pub(crate) fn bind(&mut self, spec: &BindingSpec, applying: &mut Applying<'_>) -> CatalogReply {
        if self.check_bind_applied(spec)? {
            return done(false);
        }
        let vhost = self.vhost_state_mut(&spec.vhost)?;
        let Some(binding) = binding_of(vhost, spec) else {
            return done(false);
        };
        vhost.version = applying.index;
        done(vhost.insert_binding(binding))
    }

    pub(crate) fn unbind(
        &mut self,
        spec: &BindingSpec,
        applying: &mut Applying<'_>,
    ) -> CatalogReply {
        if !self.check_unbind(spec)? {
            return done(false);
        }
        let vhost = self.vhost_state_mut(&spec.vhost)?;
        let Some(binding) = binding_of(vhost, spec) else {
            return done(false);
        };
        let mut deleted = Vec::new();
        let removed = vhost.remove_binding(&binding, &mut deleted);
        vhost.version = applying.index;
        self.exchanges_deleted(deleted, applying);
        done(removed)
    }

    pub(crate) fn declare_queue(
        &mut self,
        spec: &QueueSpec,
        applying: &mut Applying<'_>,
    ) -> CatalogReply {
        if let Some(queue) = self.check_declare_queue(spec)? {
            let (id, placement) = (queue.id, queue.placement);
            return Ok(CatalogAnswer::Queue {
                id,
                placement,
                created: false,
            });
        }
        // A declaration that comes late, from a start of a node that has been cleaned up after.
        if let Some(ConnectionId { origin, .. }) = spec.exclusive
            && self
                .starts
                .get(&origin.node)
                .is_some_and(|latest| origin.incarnation < *latest)
        {
            return Err(CatalogError::Invalid("the connection has ended".into()));
        }
        let id = applying
            .next_queue_id()
            .ok_or_else(|| CatalogError::Invalid("too many queues in one entry".into()))?;
        let queue_type = super::check::type_of_new(self.vhost_state(&spec.vhost)?, spec)?;
        let record = self.make_queue(id, spec, queue_type)?;
        applying
            .events
            .push(CatalogEvent::QueueDeclared(record.clone()));
        let vhost = self.vhost_state_mut(&spec.vhost)?;
        vhost.version = applying.index;
        Ok(CatalogAnswer::Queue {
            id,
            placement: record.placement,
            created: true,
        })
    }

    /// Adds a queue that has been checked.
    pub(crate) fn make_queue(
        &mut self,
        id: QueueId,
        spec: &QueueSpec,
        queue_type: QueueType,
    ) -> Result<Arc<QueueRecord>, CatalogError> {
        let vhost = self.vhost_state(&spec.vhost)?;
        let arguments = kept(&spec.arguments);
        let effective =
            vhost.effective_settings(&spec.name, queue_type, spec.auto_delete, &arguments);
        let record = Arc::new(QueueRecord {
            id,
            vhost: vhost.record.name.clone(),
            name: spec.name.clone(),
            placement: spec.placement,
            exclusive: spec.exclusive,
            durable: spec.durable && spec.exclusive.is_none(),
            auto_delete: spec.auto_delete,
            queue_type,
            arguments,
            effective: self.shared_settings(effective),
        });
        self.index_queue(&record);
        self.vhost_state_mut(&spec.vhost)?
            .insert_queue(record.clone());
        Ok(record)
    }

    pub(crate) fn delete_queue(
        &mut self,
        vhost: &Name,
        name: &Name,
        expected: Option<QueueId>,
        applying: &mut Applying<'_>,
    ) -> CatalogReply {
        let queue = self.vhost_state(vhost)?.queue(name).cloned();
        match queue.filter(|queue| expected.is_none_or(|id| id == queue.id)) {
            Some(queue) => {
                let (id, placement) = (queue.id, queue.placement);
                self.drop_queue(&queue, applying);
                Ok(CatalogAnswer::Queue {
                    id,
                    placement,
                    created: false,
                })
            }
            None => done(false),
        }
    }

    pub(crate) fn delete_queues_of(
        &mut self,
        connection: ConnectionId,
        applying: &mut Applying<'_>,
    ) -> CatalogReply {
        let ids = self.exclusive.get(&connection).cloned().unwrap_or_default();
        for id in &ids {
            if let Some(queue) = self.queues.get(id).cloned() {
                self.drop_queue(&queue, applying);
            }
        }
        done(!ids.is_empty())
    }

    /// Deletes a queue with its bindings, and exchanges that go with them.
    pub(crate) fn drop_queue(&mut self, queue: &Arc<QueueRecord>, applying: &mut Applying<'_>) {
        self.unindex_queue(queue);
        let mut deleted = Vec::new();
        if let Some(vhost) = self.vhosts.get_mut(&queue.vhost) {
            vhost.remove_queue(&queue.name, &mut deleted);
            vhost.version = applying.index;
        }
        applying
            .events
            .push(CatalogEvent::QueueDeleted(queue.clone()));
        self.exchanges_deleted(deleted, applying);
    }

    /// Adds a queue to the indexes across vhosts.
    pub(crate) fn index_queue(&mut self, queue: &Arc<QueueRecord>) {
        self.queues.insert(queue.id, queue.clone());
        if let Some(connection) = queue.exclusive {
            self.exclusive
                .entry(connection)
                .or_default()
                .insert(queue.id);
        }
        if let Placement::Host(node) = queue.placement {
            self.hosted.entry(node).or_default().insert(queue.id);
        }
    }

    /// Takes a queue out of the indexes across vhosts.
    pub(crate) fn unindex_queue(&mut self, queue: &QueueRecord) {
        self.queues.remove(&queue.id);
        if let Some(connection) = queue.exclusive
            && let Some(ids) = self.exclusive.get_mut(&connection)
        {
            ids.remove(&queue.id);
            if ids.is_empty() {
                self.exclusive.remove(&connection);
            }
        }
        if let Placement::Host(node) = queue.placement
            && let Some(ids) = self.hosted.get_mut(&node)
        {
            ids.remove(&queue.id);
            if ids.is_empty() {
                self.hosted.remove(&node);
            }
        }
    }

    /// The one copy of these settings.
    pub(crate) fn shared_settings(
        &mut self,
        settings: EffectiveSettings,
    ) -> Arc<EffectiveSettings> {
        if let Some(shared) = self.settings.get(&settings) {
            return shared.clone();
        }
        // Doubling bounds what is swept per insertion.
        if self.settings.len() == self.settings.capacity()
            && self.settings.len() > UNUSED_SETTINGS_MAX
        {
            self.settings.retain(|shared| Arc::strong_count(shared) > 1);
        }
        let shared = Arc::new(settings);
        self.settings.insert(shared.clone());
        shared
    }

    pub(crate) fn put_policy(
        &mut self,
        spec: &PolicySpec,
        applying: &mut Applying<'_>,
    ) -> CatalogReply {
        let policy = Policy::from_spec(spec);
        let vhost = self.vhost_state_mut(&spec.vhost)?;
        let beyond = vhost
            .queues()
            .map(|queue| &queue.name)
            .find(|name| policy.pattern.gives_up_on(name));
        if let Some(name) = beyond {
            let text = format!(
                "the expression '{}' goes back too often over the name '{name}': write it without repetitions of what may be empty or of alternatives that overlap",
                spec.pattern
            );
            return Err(CatalogError::Invalid(text.into()));
        }
        let policies = policies_of(vhost, spec.operator);
        let before = policies.insert(spec.name.clone(), policy.clone());
        let created = before.is_none();
        self.policy_changed(&spec.vhost, &[Some(policy), before], applying)?;
        done(created)
    }

    pub(crate) fn delete_policy(
        &mut self,
        vhost_name: &Name,
        name: &Name,
        operator: bool,
        applying: &mut Applying<'_>,
    ) -> CatalogReply {
        let vhost = self.vhost_state_mut(vhost_name)?;
        let before = policies_of(vhost, operator).remove(name);
        if before.is_none() {
            return done(false);
        }
        self.policy_changed(vhost_name, &[before], applying)?;
        done(true)
    }

    /// Computes settings again for everything that one of `touched` applies to.
    fn policy_changed(
        &mut self,
        vhost_name: &Name,
        touched: &[Option<Policy>],
        applying: &mut Applying<'_>,
    ) -> Result<(), CatalogError> {
        let vhost = self.vhost_state_mut(vhost_name)?;
        vhost.version = applying.index;
        vhost.refresh_exchanges();
        let mut changed = Vec::new();
        for queue in vhost.queues() {
            let concerned = touched
                .iter()
                .flatten()
                .any(|policy| policy.pattern.matches(&queue.name));
            if !concerned {
                continue;
            }
            let effective = vhost.effective_settings(
                &queue.name,
                queue.queue_type,
                queue.auto_delete,
                &queue.arguments,
            );
            if effective != *queue.effective {
                changed.push((queue.clone(), effective));
            }
        }
        changed.sort_unstable_by_key(|(queue, _)| queue.id);
        for (queue, effective) in changed {
            let effective = self.shared_settings(effective);
            let record = Arc::new(QueueRecord {
                effective,
                ..(*queue).clone()
            });
            self.queues.insert(record.id, record.clone());
            self.vhost_state_mut(vhost_name)?
                .replace_queue(record.clone());
            applying
                .events
                .push(CatalogEvent::QueueSettingsChanged(record));
        }
        applying.events.push(CatalogEvent::PolicyChanged {
            vhost: vhost_name.clone(),
        });
        Ok(())
    }
}

fn policies_of(vhost: &mut Vhost, operator: bool) -> &mut std::collections::BTreeMap<Name, Policy> {
    if operator {
        &mut vhost.operator_policies
    } else {
        &mut vhost.policies
    }
}

/// A table to keep: without the buffer it was received in.
pub(crate) fn kept(table: &FieldTable) -> FieldTable {
    if table.is_empty() {
        FieldTable::empty()
    } else {
        table.detached()
    }
}

/// The binding that `spec` names, by places; `None` if source or destination do not exist.
pub(crate) fn binding_of(vhost: &Vhost, spec: &BindingSpec) -> Option<Binding> {
    let source = vhost.exchange_place(&spec.source)?;
    let target = vhost.destination(&spec.destination)?;
    // Many queues are bound by their own name; the text is then held once.
    let name = vhost.queue_at(target).map(|queue| &queue.name);
    let routing_key = name
        .filter(|name| **name == spec.routing_key)
        .unwrap_or(&spec.routing_key);
    Some(Binding {
        source,
        target,
        routing_key: routing_key.clone(),
        arguments: sorted(&spec.arguments),
    })
}

/// The table sorted by key (the last of equal ones): the identity of a binding does not depend on
/// the order in which a client's dictionary lists its arguments.
fn sorted(table: &FieldTable) -> FieldTable {
    if table.is_empty() {
        return FieldTable::empty();
    }
    let mut entries = table.to_entries();
    entries.reverse();
    entries.sort_by(|a, b| a.0.as_bytes().cmp(b.0.as_bytes()));
    entries.dedup_by(|a, b| a.0 == b.0);
    let mut builder = TableBuilder::new();
    for (key, value) in &entries {
        builder.push(key, value);
    }
    builder.finish().detached()
}
