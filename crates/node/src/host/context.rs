//! What the hosts of a node go by: its settings, and the parts of it that they use.

use super::HostEvent;
use crate::catalog::machine::CatalogMachine;
use crate::metrics::Metrics;
use broker_model::ids::{NodeId, QueueId};
use consensus::{Connectivity, PeerNet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// What all hosts of a node share.
#[derive(Clone)]
pub struct HostContext {
    /// This node.
    pub node: NodeId,
    /// The catalog here.
    pub catalog: Arc<CatalogMachine>,
    /// The other nodes.
    pub peers: PeerNet,
    /// Things for the rest of the node to do.
    pub events: mpsc::UnboundedSender<HostEvent>,
    /// How long a new leader waits for nodes to tell what they hold.
    pub hand_over: Duration,
    /// How long consumers of a node that is silent keep what they hold.
    pub silence: Duration,
    /// Bytes of batches in one entry.
    pub entry_bytes: usize,
    /// `x-delivery-limit` of queues that name none.
    pub delivery_limit: Option<u32>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Ends the process: the state is damaged.
    pub abort: Arc<dyn Fn(&str) + Send + Sync>,
}

impl HostContext {
    /// Whether the queue was declared by a catalog entry that is not applied here yet.
    pub(super) fn is_ahead(&self, queue: QueueId) -> bool {
        queue.declared_at() > self.catalog.read().applied_index()
    }

    /// Whether a node's host refuses connections: its process has ended.
    pub(super) fn process_is_dead(&self, node: NodeId) -> bool {
        self.peers.connectivity().borrow().get(&node.0) == Some(&Connectivity::Refused)
    }
}
