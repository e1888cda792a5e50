//! Connections to peers.

use std::collections::BTreeMap;
use tokio::sync::watch;

/// What is known about a peer's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Connectivity {
    /// Nothing was heard yet, or it is connected but has said nothing for a while (frozen, cut
    /// off, or not started).
    #[default]
    Silent,
    /// It answers.
    Connected,
    /// Its process is dead: connections were reset and new ones are refused.
    Refused,
}

/// Who sent a request to the cluster port; in the extensions of every request that reaches a
/// service there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// The node.
    pub node: u64,
    /// Its disk.
    pub generation: u64,
    /// Its start.
    pub incarnation: u64,
}

/// A peer's bulk connection, for the node's own services: adds the cluster's credentials to
/// every request.
pub type PeerChannel =
    tonic::service::interceptor::InterceptedService<tonic::transport::Channel, Credentials>;

/// Adds this node's credentials to requests.
#[derive(Clone)]
pub struct Credentials {}

impl tonic::service::Interceptor for Credentials {
    fn call(&mut self, _request: tonic::Request<()>) -> Result<tonic::Request<()>, tonic::Status> {
        todo!()
    }
}

/// The other nodes of the cluster; clones share it.
#[derive(Clone)]
pub struct PeerNet {}

impl PeerNet {
    /// The bulk connection to a peer, `None` if the node is not known. Connects lazily.
    #[must_use]
    pub fn channel(&self, _node: u64) -> Option<PeerChannel> {
        todo!()
    }

    /// Follows what is known about all peers (this node is not among them).
    #[must_use]
    pub fn connectivity(&self) -> watch::Receiver<BTreeMap<u64, Connectivity>> {
        todo!()
    }

    /// Addresses of all known peers.
    #[must_use]
    pub fn addresses(&self) -> BTreeMap<u64, String> {
        todo!()
    }
}
