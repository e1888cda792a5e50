//! Applying commands about vhosts, users and permissions.

use super::apply::{Applying, done};
use super::command::{
    Bootstrap, CatalogReply, PermissionSpec, TopicPermissionSpec, UserSpec, VhostSpec,
};
use super::error::CatalogError;
use super::event::CatalogEvent;
use super::pattern::Pattern;
use super::permission::{Permissions, TopicPattern, TopicPermissions};
use super::record::{Limits, UserRecord};
use super::vhost::Vhost;
use super::{Catalog, Name};
use std::collections::BTreeMap;

/// A user with its permissions, by vhost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) record: UserRecord,
    pub(crate) permissions: BTreeMap<Name, Permissions>,
    /// Sorted by exchange.
    pub(crate) topics: BTreeMap<Name, Vec<TopicPermissions>>,
}

impl User {
    pub(crate) fn new(record: UserRecord) -> Self {
        Self {
            record,
            permissions: BTreeMap::new(),
            topics: BTreeMap::new(),
        }
    }
}

impl Permissions {
    /// Compiles the expressions of a command.
    pub(crate) fn from_spec(spec: &PermissionSpec) -> Self {
        Self {
            configure: Pattern::new(spec.configure.clone()),
            write: Pattern::new(spec.write.clone()),
            read: Pattern::new(spec.read.clone()),
        }
    }
}

impl Catalog {
    pub(crate) fn bootstrap(
        &mut self,
        bootstrap: &Bootstrap,
        applying: &mut Applying<'_>,
    ) -> CatalogReply {
        if self.cluster_id.is_some() {
            return done(false);
        }
        self.cluster_id = Some(bootstrap.cluster_id.clone());
        self.cluster_name = Some(bootstrap.cluster_name.clone());
        self.shards = bootstrap.shards;
        self.put_vhost(&VhostSpec::named(bootstrap.vhost.clone()), applying)?;
        if let Some(user) = &bootstrap.user {
            self.put_user(user, applying)?;
            let all: Name = ".*".into();
            let permissions = PermissionSpec {
                user: user.name.clone(),
                vhost: bootstrap.vhost.clone(),
                configure: all.clone(),
                write: all.clone(),
                read: all,
            };
            self.set_permissions(&permissions, applying)?;
        }
        for node in &bootstrap.nodes {
            self.put_node(node, applying)?;
        }
        applying.events.push(CatalogEvent::Bootstrapped);
        done(true)
    }

    pub(crate) fn put_vhost(
        &mut self,
        spec: &VhostSpec,
        applying: &mut Applying<'_>,
    ) -> CatalogReply {
        let created = !self.vhosts.contains_key(&spec.name);
        let vhost = self
            .vhosts
            .entry(spec.name.clone())
            .or_insert_with(|| Box::new(Vhost::new(spec.name.clone(), applying.index)));
        let record = &mut vhost.record;
        if let Some(description) = &spec.description {
            record.description = description.clone();
        }
        if let Some(tags) = &spec.tags {
            record.tags = tags.clone();
        }
        if let Some(default) = &spec.default_queue_type {
            record.default_queue_type = Some(default.clone()).filter(|name| !name.is_empty());
        }
        if let Some(protected) = spec.protected {
            record.protected = protected;
        }
        if let Some(tracing) = spec.tracing {
            record.tracing = tracing;
        }
        if created {
            applying.events.push(CatalogEvent::VhostCreated {
                name: spec.name.clone(),
            });
        }
        done(created)
    }

    pub(crate) fn delete_vhost(
        &mut self,
        name: &Name,
        applying: &mut Applying<'_>,
    ) -> CatalogReply {
        let Some(vhost) = self.vhosts.remove(name) else {
            return done(false);
        };
        let mut queues: Vec<_> = vhost.queues().cloned().collect();
        queues.sort_unstable_by_key(|queue| queue.id);
        for queue in queues {
            self.unindex_queue(&queue);
            applying.events.push(CatalogEvent::QueueDeleted(queue));
        }
        let mut stores: Vec<_> = vhost
            .exchanges()
            .filter_map(|exchange| exchange.record.store.clone())
            .collect();
        stores.sort_unstable_by_key(|store| store.id);
        for store in stores {
            self.stores.remove(&store.id);
            applying.events.push(CatalogEvent::QueueDeleted(store));
        }
        for user in self.users.values_mut() {
            user.permissions.remove(name);
            user.topics.remove(name);
        }
        applying
            .events
            .push(CatalogEvent::VhostDeleted { name: name.clone() });
        done(true)
    }

    pub(crate) fn set_vhost_limits(
        &mut self,
        name: &Name,
        limits: Limits,
        applying: &mut Applying<'_>,
    ) -> CatalogReply {
        self.vhost_state_mut(name)?.record.limits = limits;
        applying
            .events
            .push(CatalogEvent::VhostLimitsChanged { name: name.clone() });
        done(true)
    }

    pub(crate) fn put_user(
        &mut self,
        spec: &UserSpec,
        applying: &mut Applying<'_>,
    ) -> CatalogReply {
        let record = |limits| UserRecord {
            name: spec.name.clone(),
            password: spec.password.clone(),
            tags: spec.tags.clone(),
            limits,
        };
        let created = match self.users.get_mut(&spec.name) {
            Some(user) => {
                user.record = record(user.record.limits);
                false
            }
            None => {
                let user = User::new(record(Limits::default()));
                self.users.insert(spec.name.clone(), user);
                true
            }
        };
        applying.events.push(CatalogEvent::UserChanged {
            name: spec.name.clone(),
        });
        done(created)
    }

    pub(crate) fn delete_user(&mut self, name: &Name, applying: &mut Applying<'_>) -> CatalogReply {
        let deleted = self.users.remove(name).is_some();
        if deleted {
            applying
                .events
                .push(CatalogEvent::UserDeleted { name: name.clone() });
        }
        done(deleted)
    }

    pub(crate) fn set_user_limits(
        &mut self,
        name: &Name,
        limits: Limits,
        applying: &mut Applying<'_>,
    ) -> CatalogReply {
        self.user_state_mut(name)?.record.limits = limits;
        applying
            .events
            .push(CatalogEvent::UserChanged { name: name.clone() });
        done(true)
    }

    pub(crate) fn set_permissions(
        &mut self,
        spec: &PermissionSpec,
        applying: &mut Applying<'_>,
    ) -> CatalogReply {
        self.vhost_state(&spec.vhost)?;
        let user = self.user_state_mut(&spec.user)?;
        let permissions = Permissions::from_spec(spec);
        let created = user
            .permissions
            .insert(spec.vhost.clone(), permissions)
            .is_none();
        applying
            .events
            .push(permissions_changed(&spec.user, &spec.vhost));
        done(created)
    }

    pub(crate) fn clear_permissions(
        &mut self,
        user: &Name,
        vhost: &Name,
        applying: &mut Applying<'_>,
    ) -> CatalogReply {
        let cleared = self
            .user_state_mut(user)?
            .permissions
            .remove(vhost)
            .is_some();
        applying.events.push(permissions_changed(user, vhost));
        done(cleared)
    }

    pub(crate) fn set_topic_permissions(
        &mut self,
        spec: &TopicPermissionSpec,
        applying: &mut Applying<'_>,
    ) -> CatalogReply {
        self.vhost_state(&spec.vhost)?;
        let user = self.user_state_mut(&spec.user)?;
        let permissions = TopicPermissions {
            exchange: spec.exchange.clone(),
            write: TopicPattern::new(spec.write.clone()),
            read: TopicPattern::new(spec.read.clone()),
        };
        let list = user.topics.entry(spec.vhost.clone()).or_default();
        let created = match list.binary_search_by(|have| have.exchange.cmp(&spec.exchange)) {
            Ok(at) => {
                if let Some(have) = list.get_mut(at) {
                    *have = permissions;
                }
                false
            }
            Err(at) => {
                list.insert(at, permissions);
                true
            }
        };
        applying
            .events
            .push(permissions_changed(&spec.user, &spec.vhost));
        done(created)
    }

    pub(crate) fn clear_topic_permissions(
        &mut self,
        user: &Name,
        vhost: &Name,
        exchange: Option<&Name>,
        applying: &mut Applying<'_>,
    ) -> CatalogReply {
        let topics = &mut self.user_state_mut(user)?.topics;
        let Some(list) = topics.get_mut(vhost) else {
            return done(false);
        };
        let before = list.len();
        list.retain(|have| exchange.is_some_and(|exchange| have.exchange != *exchange));
        let cleared = list.len() < before;
        if list.is_empty() {
            topics.remove(vhost);
        }
        applying.events.push(permissions_changed(user, vhost));
        done(cleared)
    }

    fn user_state_mut(&mut self, name: &Name) -> Result<&mut User, CatalogError> {
        self.users
            .get_mut(name)
            .ok_or_else(|| CatalogError::NoUser { user: name.clone() })
    }
}

fn permissions_changed(user: &Name, vhost: &Name) -> CatalogEvent {
    CatalogEvent::PermissionsChanged {
        user: user.clone(),
        vhost: vhost.clone(),
    }
}
