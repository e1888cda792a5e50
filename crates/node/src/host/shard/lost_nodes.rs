//! What the consumers of nodes that are gone hold comes back.

use super::ShardHost;
use broker_model::ids::{NodeId, Origin};
use tokio::time::Instant;
use tracing::info;

impl ShardHost {
    pub(super) fn node_lost(&mut self, node: NodeId) {
        match self.links.lost_now(node) {
            Some(origin) => self.return_from(origin),
            // It never came to this leader: delivering does not wait for it any longer.
            None if !self.links.is_attached(node) => {
                let origin = Origin {
                    node,
                    incarnation: 0,
                };
                self.give_back(origin);
            }
            None => {}
        }
    }

    pub(super) fn return_from_silent(&mut self) {
        if self.proposer.is_none() {
            return;
        }
        let Some(before) = Instant::now().checked_sub(self.context.silence) else {
            return;
        };
        for origin in self.links.lost_before(before) {
            self.return_from(origin);
        }
    }

    fn return_from(&mut self, origin: Origin) {
        info!(shard = %self.replica.shard(), node = %origin.node, "taking back what the consumers of a lost node hold");
        self.give_back(origin);
    }

    fn give_back(&mut self, origin: Origin) {
        if let Some((now_ms, dispatcher, _, outbox)) = self.replica.lock().leading() {
            dispatcher.node_lost(now_ms, origin, outbox);
        }
    }
}
