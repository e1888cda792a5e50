//! Applying commands about nodes, and what their starts and deaths mean for queues.

use super::Catalog;
use super::apply::{Applying, done};
use super::command::CatalogReply;
use super::error::CatalogError;
use super::event::CatalogEvent;
use super::record::{NodeRecord, NodeState, QueueRecord};
use super::vhost::is_predeclared;
use crate::ids::{ConnectionId, NodeId, Origin, Placement, QueueId};
use std::sync::Arc;

/// Queues that one command moves at most: an entry has a bounded number of queue ids to give away.
/// The proposer repeats [`super::CatalogCommand::NodeDead`] until nothing was left to do.
pub(crate) const REHOSTED_MAX: usize = 16_384;

impl Catalog {
    pub(crate) fn put_node(
        &mut self,
        record: &NodeRecord,
        applying: &mut Applying<'_>,
    ) -> CatalogReply {
        // Only `NodeStarted` moves the start on: it is what cleans up after the one before.
        let incarnation = self.starts.get(&record.node).copied().unwrap_or(0);
        // A member that is being removed stays so when it starts again; with another disk it is another member.
        let known = self.nodes.get(&record.node);
        let leaving = known
            .filter(|known| known.state == NodeState::Leaving && known.raft_id == record.raft_id);
        let record = NodeRecord {
            incarnation,
            state: leaving.map_or(record.state, |known| known.state),
            ..record.clone()
        };
        let node = record.node;
        let created = self.nodes.insert(node, record).is_none();
        applying.events.push(CatalogEvent::NodeChanged { node });
        done(created)
    }

    pub(crate) fn set_node_state(
        &mut self,
        node: NodeId,
        state: NodeState,
        applying: &mut Applying<'_>,
    ) -> CatalogReply {
        let record = self
            .nodes
            .get_mut(&node)
            .ok_or_else(|| CatalogError::Invalid(format!("no node {node}").into()))?;
        let changed = record.state != state;
        record.state = state;
        if changed {
            applying.events.push(CatalogEvent::NodeChanged { node });
        }
        done(changed)
    }

    pub(crate) fn remove_node(
        &mut self,
        node: NodeId,
        applying: &mut Applying<'_>,
    ) -> CatalogReply {
        let removed = self.nodes.remove(&node).is_some();
        self.replays.forget_before(node, u64::MAX);
        if removed {
            applying.events.push(CatalogEvent::NodeChanged { node });
        }
        done(removed)
    }

    pub(crate) fn node_started(
        &mut self,
        origin: Origin,
        all_were_down_in: Option<u64>,
        applying: &mut Applying<'_>,
    ) -> CatalogReply {
        let known = self.starts.get(&origin.node).copied().unwrap_or(0);
        // A repetition must not hit queues declared since.
        if origin.incarnation <= known {
            return done(false);
        }
        self.starts.insert(origin.node, origin.incarnation);
        self.replays.forget_before(origin.node, origin.incarnation);
        if let Some(record) = self.nodes.get_mut(&origin.node) {
            record.incarnation = origin.incarnation;
            applying
                .events
                .push(CatalogEvent::NodeChanged { node: origin.node });
        }
        if all_were_down_in == Some(self.era) {
            self.era += 1;
            self.drop_what_is_not_durable(applying);
        }
        self.delete_exclusive_before(origin, applying);
        for queue in self.hosted_by(origin.node) {
            if queue
                .exclusive
                .is_some_and(|owner| owner.origin.node == origin.node)
            {
                // Of this start: those of earlier ones are deleted by now.
                continue;
            }
            match applying.next_queue_id() {
                Some(id) if queue.exclusive.is_none() => {
                    self.rehost(queue, id, origin.node, applying);
                }
                _ => self.drop_queue(&queue, applying),
            }
        }
        applying.events.push(CatalogEvent::MemoryLost {
            node: origin.node,
            start: origin.incarnation,
        });
        done(true)
    }

    /// Deletes everything that does not outlive a time without any node.
    fn drop_what_is_not_durable(&mut self, applying: &mut Applying<'_>) {
        let mut queues: Vec<_> = self
            .queues
            .values()
            .filter(|q| !q.durable)
            .cloned()
            .collect();
        queues.sort_unstable_by_key(|queue| queue.id);
        for queue in queues {
            self.drop_queue(&queue, applying);
        }
        let mut all_deleted = Vec::new();
        let mut vhosts: Vec<_> = self.vhosts.values_mut().collect();
        vhosts.sort_unstable_by(|a, b| a.record.name.cmp(&b.record.name));
        for vhost in vhosts {
            let exchanges = vhost.exchanges().map(|exchange| &exchange.record);
            let mut gone: Vec<_> = exchanges
                .filter(|exchange| !exchange.durable && !is_predeclared(&exchange.name))
                .map(|exchange| exchange.name.clone())
                .collect();
            if gone.is_empty() {
                continue;
            }
            gone.sort_unstable();
            for name in gone {
                vhost.remove_exchange(&name, &mut all_deleted);
            }
            vhost.version = applying.index;
        }
        self.exchanges_deleted(all_deleted, applying);
    }

    pub(crate) fn node_dead(
        &mut self,
        origin: Origin,
        new_host: NodeId,
        applying: &mut Applying<'_>,
    ) -> CatalogReply {
        let known = self.starts.get(&origin.node).copied().unwrap_or(0);
        if known > origin.incarnation || new_host == origin.node {
            return done(false);
        }
        let next = Origin {
            incarnation: origin.incarnation.saturating_add(1),
            ..origin
        };
        let deleted = self.delete_exclusive_before(next, applying);
        let mut moved = false;
        for old in self.hosted_by(origin.node).into_iter().take(REHOSTED_MAX) {
            let Some(id) = applying.next_queue_id() else {
                break;
            };
            moved = true;
            self.rehost(old, id, new_host, applying);
        }
        if (deleted || moved) && !self.hosted.contains_key(&origin.node) {
            applying.events.push(CatalogEvent::MemoryLost {
                node: origin.node,
                start: known,
            });
        }
        done(deleted || moved)
    }

    /// Gives a queue a new id and place.
    fn rehost(
        &mut self,
        old: Arc<QueueRecord>,
        id: QueueId,
        new_host: NodeId,
        applying: &mut Applying<'_>,
    ) {
        let placement = Placement::Host(new_host);
        let new = Arc::new(QueueRecord {
            id,
            placement,
            ..(*old).clone()
        });
        self.unindex_queue(&old);
        self.index_queue(&new);
        if let Some(vhost) = self.vhosts.get_mut(&new.vhost) {
            vhost.replace_queue(new.clone());
            vhost.version = applying.index;
        }
        applying
            .events
            .push(CatalogEvent::QueueRehosted { old, new });
    }

    /// Deletes the exclusive queues of connections to `origin.node` before its start
    /// `origin.incarnation`; tells whether there were any.
    fn delete_exclusive_before(&mut self, origin: Origin, applying: &mut Applying<'_>) -> bool {
        let first = ConnectionId {
            origin: Origin {
                incarnation: 0,
                ..origin
            },
            serial: 0,
        };
        let end = ConnectionId { origin, serial: 0 };
        let owned: Vec<_> = self
            .exclusive
            .range(first..end)
            .map(|(owner, ids)| (*owner, ids.clone()))
            .collect();
        for (owner, ids) in &owned {
            for id in ids {
                if let Some(queue) = self.queues.get(id).cloned() {
                    self.drop_queue(&queue, applying);
                }
            }
            let owner = *owner;
            (applying.events).push(CatalogEvent::ExclusiveQueuesLost { owner });
        }
        !owned.is_empty()
    }

    /// The queues in the memory of `node`, by id.
    fn hosted_by(&self, node: NodeId) -> Vec<Arc<QueueRecord>> {
        let ids = self.hosted.get(&node).into_iter().flatten();
        ids.filter_map(|id| self.queues.get(id).cloned()).collect()
    }
}
