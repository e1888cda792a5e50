//! How a link finds and reaches the leader of a shard, or the host of local queues.

use super::attachment::Attachment;
use broker_model::ids::NodeId;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use std::collections::HashMap;

/// Why there is no attachment now. The link tries again.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// No leader is known.
    #[error("no leader is known")]
    NoLeader,
    /// The leader's node cannot be reached.
    #[error("node {node} cannot be reached: {reason}")]
    Unreachable {
        /// The node.
        node: NodeId,
        /// What the transport says.
        reason: String,
    },
}

/// Finds and reaches the leader of one placement.
pub trait Connector: Send + Sync {
    /// Connects to the leader. Waits a moment before it fails, so that a caller may try again at
    /// once without spinning.
    fn connect(&self) -> BoxFuture<'_, Result<Attachment, ConnectError>>;

    /// Resolves when the leader is known to be another than the one last connected to.
    fn moved(&self) -> BoxFuture<'_, ()>;

    /// Whether what the node last connected to says can be acted upon. It cannot where this node may have stood still or
    /// been cut off for so long that another may lead by now.
    fn is_sure(&self) -> bool {
        true
    }

    /// Finds out, within a bound; false if that node leads no longer, or nobody says.
    fn make_sure(&self) -> BoxFuture<'_, bool> {
        Box::pin(std::future::ready(true))
    }

    /// The node last connected to says that it is not the leader, but that `leader` may be.
    fn not_leader(&self, leader: Option<NodeId>);
}

/// Which start of each host of local queues links may attach to. It moves on when the links have
/// been told what became of the queues of the start before.
#[derive(Debug, Default)]
pub struct HostStarts(Mutex<HashMap<NodeId, u64>>);

impl HostStarts {
    /// The start of `node` that is known; `latest` is asked if none is.
    pub fn get(&self, node: NodeId, latest: impl FnOnce() -> u64) -> u64 {
        *self.0.lock().entry(node).or_insert_with(latest)
    }

    /// This start counts from now on.
    pub fn set(&self, node: NodeId, start: u64) {
        self.0.lock().insert(node, start);
    }
}
