//! What the catalog says about the queues of a shard.

use super::ShardHost;
use broker_model::catalog::settings::QueueSettings;
use broker_model::ids::QueueId;
use std::sync::Arc;
use tracing::debug;

impl ShardHost {
    pub(super) fn queues_of_catalog(&self) -> Vec<(QueueId, Arc<QueueSettings>)> {
        let catalog = self.context.catalog.read();
        catalog
            .all_queues()
            .chain(catalog.stores())
            .filter(|record| record.placement == self.placement)
            .map(|record| (record.id, catalog.queue_settings(record)))
            .collect()
    }

    pub(super) fn settings_if_unknown(
        &self,
        queue: QueueId,
    ) -> Option<(QueueId, Arc<QueueSettings>)> {
        if !self.replica.lacks(queue) {
            return None;
        }
        let catalog = self.context.catalog.read();
        let record = catalog
            .queue_by_id(queue)
            .filter(|record| record.placement == self.placement)?;
        Some((queue, catalog.queue_settings(record)))
    }

    /// Forgets queues that the catalog has deleted: late operations may have made their state anew.
    pub(super) fn reconcile(&mut self) {
        if self.proposer.is_none() {
            return;
        }
        let mut known: Vec<QueueId> = self
            .replica
            .lock()
            .machine
            .queues()
            .map(|(queue, _)| queue)
            .collect();
        {
            let catalog = self.context.catalog.read();
            let applied = catalog.applied_index();
            known.retain(|queue| {
                queue.declared_at() <= applied && catalog.queue_by_id(*queue).is_none()
            });
        }
        if known.is_empty() {
            return;
        }
        debug!(shard = %self.replica.shard(), queues = known.len(), "forgetting deleted queues");
        if let Some((now_ms, dispatcher, machine, outbox)) = self.replica.lock().leading() {
            for queue in known {
                dispatcher.settings(now_ms, queue, None, machine, outbox);
            }
        }
    }
}
