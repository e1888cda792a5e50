//! What changed between two catalogs: for a node that was sent a snapshot instead of the entries.

use super::Catalog;
use super::command::Name;
use super::event::CatalogEvent;
use super::record::QueueRecord;
use crate::ids::{Placement, QueueId};
use std::collections::BTreeSet;

impl Catalog {
    /// Adds the events that lead from `before` to this catalog to `events`, as applying the
    /// entries in between might have told them.
    pub fn events_since(&self, before: &Self, events: &mut Vec<CatalogEvent>) {
        if self.cluster_id.is_some() && before.cluster_id.is_none() {
            events.push(CatalogEvent::Bootstrapped);
        }
        self.vhost_events(before, events);
        self.queue_events(before, events);
        for vhost in before.vhosts.values() {
            let Some(now) = self.vhosts.get(&vhost.record.name) else {
                continue;
            };
            let gone = vhost
                .exchanges()
                .filter(|e| now.exchange(&e.record.name).is_none());
            events.extend(gone.map(|exchange| CatalogEvent::ExchangeDeleted {
                vhost: vhost.record.name.clone(),
                name: exchange.record.name.clone(),
            }));
        }
        self.user_events(before, events);
        let given_up = events.iter().filter_map(|event| match event {
            CatalogEvent::QueueRehosted { old, .. } => old.placement.host(),
            _ => None,
        });
        let started = self.starts.iter().filter_map(|(node, incarnation)| {
            (before.starts.get(node) != Some(incarnation)).then_some(*node)
        });
        let lost: BTreeSet<_> = given_up.chain(started).collect();
        events.extend(lost.into_iter().map(|node| CatalogEvent::MemoryLost {
            node,
            start: self.latest_start(node),
        }));
        for node in before
            .nodes
            .keys()
            .filter(|node| !self.nodes.contains_key(*node))
        {
            events.push(CatalogEvent::NodeChanged { node: *node });
        }
        for (node, record) in &self.nodes {
            if before.nodes.get(node) != Some(record) {
                events.push(CatalogEvent::NodeChanged { node: *node });
            }
        }
    }

    fn vhost_events(&self, before: &Self, events: &mut Vec<CatalogEvent>) {
        for record in self.vhosts() {
            let name = record.name.clone();
            match before.vhosts.get(&record.name) {
                None => events.push(CatalogEvent::VhostCreated { name }),
                Some(old) => {
                    if old.record.limits != record.limits {
                        events.push(CatalogEvent::VhostLimitsChanged { name: name.clone() });
                    }
                    let changed = self.vhosts.get(&record.name).is_some_and(|new| {
                        new.policies != old.policies
                            || new.operator_policies != old.operator_policies
                    });
                    if changed {
                        events.push(CatalogEvent::PolicyChanged { vhost: name });
                    }
                }
            }
            self.parameter_events(before, &record.name, events);
        }
        for record in before.vhosts() {
            if !self.vhosts.contains_key(&record.name) {
                events.push(CatalogEvent::VhostDeleted {
                    name: record.name.clone(),
                });
            }
        }
    }

    /// Parameters of a vhost that are others than they were.
    fn parameter_events(&self, before: &Self, vhost: &Name, events: &mut Vec<CatalogEvent>) {
        let of = |catalog: &Self| {
            let state = catalog.vhosts.get(vhost);
            state.map(|vhost| vhost.parameters.clone())
        };
        let (now, old) = (of(self).unwrap_or_default(), of(before).unwrap_or_default());
        let set = now
            .iter()
            .filter(|(key, value)| old.get(key) != Some(value));
        let deleted = old.iter().filter(|(key, _)| !now.contains_key(*key));
        for ((component, name), _) in set.chain(deleted) {
            events.push(CatalogEvent::ParameterChanged {
                vhost: vhost.clone(),
                component: component.clone(),
                name: name.clone(),
            });
        }
    }

    fn queue_events(&self, before: &Self, events: &mut Vec<CatalogEvent>) {
        let mut stores: Vec<_> = before
            .stores
            .values()
            .filter(|store| !self.stores.contains_key(&store.id))
            .map(|store| CatalogEvent::QueueDeleted(store.clone()))
            .chain(
                self.stores
                    .values()
                    .filter(|store| !before.stores.contains_key(&store.id))
                    .map(|store| CatalogEvent::QueueDeclared(store.clone())),
            )
            .collect();
        stores.sort_by_key(|event| match event {
            CatalogEvent::QueueDeleted(store) | CatalogEvent::QueueDeclared(store) => store.id,
            _ => QueueId(0),
        });
        events.append(&mut stores);
        let mut gone: Vec<_> = before
            .queues
            .values()
            .filter(|queue| !self.queues.contains_key(&queue.id))
            .collect();
        gone.sort_unstable_by_key(|queue| queue.id);
        for old in gone {
            let successor = self.queue(&old.vhost, &old.name);
            match successor.filter(|new| self.is_rehosted(before, old, new)) {
                Some(new) => events.push(CatalogEvent::QueueRehosted {
                    old: old.clone(),
                    new: new.clone(),
                }),
                None => events.push(CatalogEvent::QueueDeleted(old.clone())),
            }
        }
        let mut current: Vec<_> = self.queues.values().collect();
        current.sort_unstable_by_key(|queue| queue.id);
        for queue in current {
            match before.queues.get(&queue.id) {
                None => {
                    let old = before.queue(&queue.vhost, &queue.name);
                    if !old.is_some_and(|old| self.is_rehosted(before, old, queue)) {
                        events.push(CatalogEvent::QueueDeclared(queue.clone()));
                    }
                }
                Some(old) if old.effective != queue.effective => {
                    events.push(CatalogEvent::QueueSettingsChanged(queue.clone()));
                }
                Some(_) => {}
            }
        }
    }

    fn user_events(&self, before: &Self, events: &mut Vec<CatalogEvent>) {
        for name in before
            .users
            .keys()
            .filter(|name| !self.users.contains_key(*name))
        {
            events.push(CatalogEvent::UserDeleted { name: name.clone() });
        }
        for (name, user) in &self.users {
            let old = before.users.get(name);
            if old.map(|old| &old.record) != Some(&user.record) {
                events.push(CatalogEvent::UserChanged { name: name.clone() });
            }
            let vhosts = self.vhosts.keys().chain(before.vhosts.keys());
            let mut changed: Vec<_> = vhosts
                .filter(|vhost| {
                    old.and_then(|old| old.permissions.get(*vhost)) != user.permissions.get(*vhost)
                        || old.and_then(|old| old.topics.get(*vhost)) != user.topics.get(*vhost)
                })
                .collect();
            changed.sort_unstable();
            changed.dedup();
            events.extend(
                changed
                    .into_iter()
                    .map(|vhost| CatalogEvent::PermissionsChanged {
                        user: name.clone(),
                        vhost: vhost.clone(),
                    }),
            );
        }
    }

    /// Whether `new` looks like `old` after its node died, or started anew: alike, but in other
    /// memory.
    fn is_rehosted(&self, before: &Self, old: &QueueRecord, new: &QueueRecord) -> bool {
        let moved = match (old.placement, new.placement) {
            (Placement::Host(from), Placement::Host(to)) => {
                from != to || self.starts.get(&from) != before.starts.get(&from)
            }
            _ => false,
        };
        moved
            && old.id != new.id
            && old.exclusive.is_none()
            && new.exclusive.is_none()
            && (old.auto_delete, old.queue_type) == (new.auto_delete, new.queue_type)
            && old.arguments == new.arguments
    }
}
