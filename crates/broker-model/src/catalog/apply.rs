//! Applying commands in log order.

use super::Catalog;
use super::command::{CatalogAnswer, CatalogCommand, CatalogEntry, CatalogReply, CatalogRequest};
use super::error::CatalogError;
use super::event::CatalogEvent;
use crate::ids::QueueId;

/// What one entry is applied with: its index, the ids it has given away, and what it caused.
pub(crate) struct Applying<'a> {
    pub(crate) index: u64,
    /// Queues declared by this entry so far.
    slot: u32,
    pub(crate) events: &'a mut Vec<CatalogEvent>,
}

impl<'a> Applying<'a> {
    pub(crate) fn new(index: u64, events: &'a mut Vec<CatalogEvent>) -> Self {
        Self {
            index,
            slot: 0,
            events,
        }
    }

    /// The next queue id of this entry; `None` when it has given away all of them.
    pub(crate) fn next_queue_id(&mut self) -> Option<QueueId> {
        let slot = u16::try_from(self.slot).ok()?;
        self.slot += 1;
        Some(QueueId::new(self.index, slot))
    }
}

/// Something was made or removed, or not.
pub(crate) fn done(created: bool) -> CatalogReply {
    Ok(CatalogAnswer::Done { created })
}

impl Catalog {
    /// Applies the entry at `index`; what it caused is added to `events`. One reply per command.
    ///
    /// Entries at or below [`Catalog::version`] have been applied and must not come again.
    pub fn apply(
        &mut self,
        index: u64,
        entry: &CatalogEntry,
        events: &mut Vec<CatalogEvent>,
    ) -> Vec<CatalogReply> {
        let mut applying = Applying::new(index, events);
        let replies = entry
            .requests
            .iter()
            .map(|request| self.apply_request(request, &mut applying));
        let replies = replies.collect();
        self.version = self.version.max(index);
        replies
    }

    /// Notes that the log is at `index` though nothing at it concerned the catalog.
    pub fn advance(&mut self, index: u64) {
        self.version = self.version.max(index);
    }

    fn apply_request(
        &mut self,
        request: &CatalogRequest,
        applying: &mut Applying<'_>,
    ) -> CatalogReply {
        let Some(key) = request.key else {
            return self.apply_command(&request.command, applying);
        };
        if let Some(reply) = self.replays.get(key) {
            return reply.clone();
        }
        let reply = self.apply_command(&request.command, applying);
        self.replays.insert(key, reply.clone());
        reply
    }

    fn apply_command(
        &mut self,
        command: &CatalogCommand,
        applying: &mut Applying<'_>,
    ) -> CatalogReply {
        match command {
            CatalogCommand::Bootstrap(bootstrap) => self.bootstrap(bootstrap, applying),
            CatalogCommand::SetClusterName { name } => {
                self.cluster_name = Some(name.clone());
                done(true)
            }
            CatalogCommand::PutVhost(spec) => self.put_vhost(spec, applying),
            CatalogCommand::DeleteVhost { name } => self.delete_vhost(name, applying),
            CatalogCommand::SetVhostLimits { vhost, limits } => {
                self.set_vhost_limits(vhost, *limits, applying)
            }
            CatalogCommand::PutUser(spec) => self.put_user(spec, applying),
            CatalogCommand::DeleteUser { name } => self.delete_user(name, applying),
            CatalogCommand::SetUserLimits { user, limits } => {
                self.set_user_limits(user, *limits, applying)
            }
            CatalogCommand::SetPermissions(spec) => self.set_permissions(spec, applying),
            CatalogCommand::ClearPermissions { user, vhost } => {
                self.clear_permissions(user, vhost, applying)
            }
            CatalogCommand::SetTopicPermissions(spec) => self.set_topic_permissions(spec, applying),
            CatalogCommand::ClearTopicPermissions {
                user,
                vhost,
                exchange,
            } => self.clear_topic_permissions(user, vhost, exchange.as_ref(), applying),
            CatalogCommand::DeclareExchange(spec) => self.declare_exchange(spec, applying),
            CatalogCommand::DeleteExchange {
                vhost,
                name,
                if_unused,
            } => self.delete_exchange(vhost, name, *if_unused, applying),
            CatalogCommand::Bind(spec) => self.bind(spec, applying),
            CatalogCommand::Unbind(spec) => self.unbind(spec, applying),
            CatalogCommand::DeclareQueue(spec) => self.declare_queue(spec, applying),
            CatalogCommand::DeleteQueue {
                vhost,
                name,
                expected,
            } => self.delete_queue(vhost, name, *expected, applying),
            CatalogCommand::DeleteQueuesOf { connection } => {
                self.delete_queues_of(*connection, applying)
            }
            CatalogCommand::NodeStarted {
                origin,
                all_were_down_in,
            } => self.node_started(*origin, *all_were_down_in, applying),
            CatalogCommand::NodeDead { origin, new_host } => {
                self.node_dead(*origin, *new_host, applying)
            }
            CatalogCommand::PutPolicy(spec) => self.put_policy(spec, applying),
            CatalogCommand::DeletePolicy {
                vhost,
                name,
                operator,
            } => self.delete_policy(vhost, name, *operator, applying),
            CatalogCommand::PutParameter {
                vhost,
                component,
                name,
                value,
            } => {
                let state = self.vhost_state_mut(vhost)?;
                let key = (component.clone(), name.clone());
                let before = state.parameters.insert(key, value.clone());
                if before.as_ref() != Some(value) {
                    applying.events.push(CatalogEvent::ParameterChanged {
                        vhost: vhost.clone(),
                        component: component.clone(),
                        name: name.clone(),
                    });
                }
                done(before.is_none())
            }
            CatalogCommand::DeleteParameter {
                vhost,
                component,
                name,
            } => {
                let state = self.vhost_state_mut(vhost)?;
                let key = (component.clone(), name.clone());
                let removed = state.parameters.remove(&key).is_some();
                if removed {
                    applying.events.push(CatalogEvent::ParameterChanged {
                        vhost: vhost.clone(),
                        component: component.clone(),
                        name: name.clone(),
                    });
                }
                done(removed)
            }
            CatalogCommand::PutGlobalParameter { name, value } => done(
                self.global_parameters
                    .insert(name.clone(), value.clone())
                    .is_none(),
            ),
            CatalogCommand::DeleteGlobalParameter { name } => {
                done(self.global_parameters.remove(name).is_some())
            }
            CatalogCommand::PutNode(record) => self.put_node(record, applying),
            CatalogCommand::SetNodeState { node, state } => {
                self.set_node_state(*node, *state, applying)
            }
            CatalogCommand::RemoveNode { node } => self.remove_node(*node, applying),
        }
    }

    pub(crate) fn vhost_state(&self, name: &str) -> Result<&super::Vhost, CatalogError> {
        self.vhosts
            .get(name)
            .map(|vhost| &**vhost)
            .ok_or_else(|| CatalogError::NoVhost { vhost: name.into() })
    }

    pub(crate) fn vhost_state_mut(
        &mut self,
        name: &str,
    ) -> Result<&mut super::Vhost, CatalogError> {
        self.vhosts
            .get_mut(name)
            .map(|vhost| &mut **vhost)
            .ok_or_else(|| CatalogError::NoVhost { vhost: name.into() })
    }
}
