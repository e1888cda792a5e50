//! How a link finds and reaches the leader of a shard, or the host of local queues.

use super::attachment::Attachment;
use broker_model::ids::NodeId;
use futures::future::BoxFuture;

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

    /// The node last connected to says that it is not the leader, but that `leader` may be.
    fn not_leader(&self, leader: Option<NodeId>);
}
