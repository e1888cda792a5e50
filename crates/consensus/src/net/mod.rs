//! Connections between nodes: who the peers are, whether their processes live, and the channels
//! to them.
//!
//! Not here: what the messages of Raft mean (`raft_net`, `inbound`), who belongs to the cluster
//! (`cluster`).

mod auth;
mod dial;
mod displaced;
mod greet;
mod limit;
mod link;
mod names;
mod presence;
mod server;
mod service;
pub mod streams;
pub mod tls;
mod transport;

pub use self::auth::{Caller, Credentials};
pub(crate) use self::auth::{Keys, Me, displacement, refusal};
pub(crate) use self::dial::is_address;
pub(crate) use self::displaced::Displaced;
pub(crate) use self::limit::RateLimit;
pub(crate) use self::link::PeerLink;
pub(crate) use self::presence::Presence;
pub(crate) use self::server::{Serving, serve};
pub(crate) use self::service::{ControlService, LogService, SnapshotService};
pub use self::transport::{Listening, Network, Tcp, Wired};

use crate::config::{Limits, Timing};
use crate::error::StartError;
use crate::types::{GroupId, RaftNode};
use crate::wire::{Answer, AnswerFuture, AppendPipe, Wire, WireError};
use cluster_proto::v1;
use cluster_proto::v1::cluster_client::ClusterClient;
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::{Mutex, RwLock};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

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

/// A peer's bulk connection, for the node's own services: adds the cluster's credentials to
/// every request.
pub type PeerChannel =
    tonic::service::interceptor::InterceptedService<tonic::transport::Channel, Credentials>;

/// The other nodes of the cluster; clones share it.
#[derive(Clone)]
pub struct PeerNet {
    inner: Arc<Inner>,
}

struct Inner {
    ways: dial::Ways,
    timing: Timing,
    limits: Limits,
    displaced: Arc<Displaced>,
    links: RwLock<BTreeMap<u64, Known>>,
    connectivity: watch::Sender<BTreeMap<u64, Connectivity>>,
    /// One change of the peers at a time.
    changing: Mutex<()>,
}

struct Known {
    link: Arc<PeerLink>,
    follower: JoinHandle<()>,
}

impl PeerNet {
    pub(crate) fn new(
        network: Arc<dyn Network>,
        tls: Option<Arc<tls::Tls>>,
        keys: Arc<Keys>,
        timing: Timing,
        limits: Limits,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                ways: dial::Ways { network, tls, keys },
                timing,
                limits,
                displaced: Arc::default(),
                links: RwLock::default(),
                connectivity: watch::Sender::default(),
                changing: Mutex::default(),
            }),
        }
    }

    /// The bulk connection to a peer, `None` if the node is not known. Connects lazily.
    #[must_use]
    pub fn channel(&self, node: u64) -> Option<PeerChannel> {
        Some(self.link(node)?.bulk())
    }

    /// Follows what is known about all peers (this node is not among them).
    #[must_use]
    pub fn connectivity(&self) -> watch::Receiver<BTreeMap<u64, Connectivity>> {
        self.inner.connectivity.subscribe()
    }

    /// Peers that were heard and have fallen silent, and since when. Not those whose process is known to be gone.
    #[must_use]
    pub fn fallen_silent(&self) -> Vec<(u64, Instant)> {
        let links = self.inner.links.read();
        let since = |known: &Known| {
            let condition = *known.link.condition().borrow();
            let silent = condition.connectivity == Connectivity::Silent && condition.was_connected;
            condition.lost_at.filter(|_| silent)
        };
        (links.iter())
            .filter_map(|(node, known)| Some((*node, since(known)?)))
            .collect()
    }

    /// Addresses of all known peers.
    #[must_use]
    pub fn addresses(&self) -> BTreeMap<u64, String> {
        let links = self.inner.links.read();
        links
            .iter()
            .map(|(node, known)| (*node, known.link.address().to_owned()))
            .collect()
    }

    pub(crate) fn link(&self, node: u64) -> Option<Arc<PeerLink>> {
        self.inner
            .links
            .read()
            .get(&node)
            .map(|known| Arc::clone(&known.link))
    }

    /// A client for an address of which only the node there knows the id.
    pub(crate) fn stranger(&self, address: &str) -> Result<ClusterClient<PeerChannel>, StartError> {
        let windows = dial::Windows {
            stream: self.inner.limits.stream_window,
            connection: self.inner.limits.connection_window,
        };
        let channel = dial::channel(&self.inner.ways, None, address, windows, Arc::default())
            .map_err(|error| StartError::Config(format!("address '{address}': {error}")))?;
        let credentials = Credentials {
            keys: Arc::clone(&self.inner.ways.keys),
            to: 0,
        };
        Ok(ClusterClient::with_interceptor(channel, credentials))
    }

    /// Whether peers refuse this node because another process has its id.
    pub(crate) fn displaced(&self) -> &Arc<Displaced> {
        &self.inner.displaced
    }

    pub(crate) fn keys(&self) -> &Arc<Keys> {
        &self.inner.ways.keys
    }

    /// Connects to a peer, or elsewhere if its address has changed.
    pub(crate) fn set_peer(&self, node: u64, address: &str) -> Result<(), StartError> {
        let _changing = self.inner.changing.lock();
        if node == self.inner.ways.keys.me().caller.node {
            return Ok(());
        }
        if self
            .link(node)
            .is_some_and(|link| link.address() == address)
        {
            return Ok(());
        }
        let credentials = Credentials {
            keys: Arc::clone(&self.inner.ways.keys),
            to: node,
        };
        let link = PeerLink::start(
            &self.inner.ways,
            node,
            address,
            credentials,
            &self.inner.timing,
            &self.inner.limits,
            Arc::clone(&self.inner.displaced),
        )?;
        let former = self.link(node);
        if let Some(lost_at) = former.and_then(|former| former.condition().borrow().lost_at) {
            link.lost_since(lost_at);
        }
        let mut condition = link.condition();
        let inner = Arc::downgrade(&self.inner);
        let follower = tokio::spawn(async move {
            loop {
                let connectivity = condition.borrow_and_update().connectivity;
                let Some(inner) = inner.upgrade() else { return };
                inner
                    .connectivity
                    .send_if_modified(|all| all.insert(node, connectivity) != Some(connectivity));
                drop(inner);
                if condition.changed().await.is_err() {
                    return;
                }
            }
        });
        let known = Known { link, follower };
        let former = self.inner.links.write().insert(node, known);
        if let Some(former) = former {
            former.follower.abort();
            former.link.stop();
        }
        Ok(())
    }

    /// Forgets a peer.
    pub(crate) fn remove_peer(&self, node: u64) {
        let _changing = self.inner.changing.lock();
        if let Some(known) = self.inner.links.write().remove(&node) {
            known.follower.abort();
            known.link.stop();
        }
        self.inner
            .connectivity
            .send_if_modified(|all| all.remove(&node).is_some());
    }

    /// Ends all connections.
    pub(crate) fn stop(&self) {
        let nodes: Vec<u64> = self.inner.links.read().keys().copied().collect();
        for node in nodes {
            self.remove_peer(node);
        }
    }

    fn member(&self, to: RaftNode) -> Answer<Arc<PeerLink>> {
        self.link(to.node())
            .ok_or_else(|| WireError::Unreachable(format!("node {} is not known", to.node())))
    }
}

impl Wire for PeerNet {
    fn append(&self, to: RaftNode, group: GroupId) -> Answer<AppendPipe> {
        self.member(to)?.append(to, group)
    }

    fn beats_follow(&self, count: usize) {
        for known in self.inner.links.read().values() {
            known.link.beats_follow(count);
        }
    }

    fn beat(&self, to: RaftNode, beat: v1::Heartbeat) -> AnswerFuture<v1::AppendAnswer> {
        let link = self.member(to);
        async move { link?.beat(beat).await }.boxed()
    }

    fn vote(&self, to: RaftNode, request: v1::VoteRequest) -> AnswerFuture<v1::VoteAnswer> {
        let link = self.member(to);
        async move {
            link?
                .call(|mut control| async move { control.request_vote(request).await })
                .await
        }
        .boxed()
    }

    fn transfer(
        &self,
        to: RaftNode,
        request: v1::TransferRequest,
    ) -> AnswerFuture<v1::TransferAnswer> {
        let link = self.member(to);
        async move {
            link?
                .call(|mut control| async move { control.transfer_leader(request).await })
                .await
        }
        .boxed()
    }

    fn read_index(
        &self,
        to: RaftNode,
        request: v1::ReadIndexRequest,
    ) -> AnswerFuture<v1::ReadIndexAnswer> {
        let link = self.member(to);
        async move {
            link?
                .call(|mut control| async move { control.read_index(request).await })
                .await
        }
        .boxed()
    }

    fn last_log(
        &self,
        to: RaftNode,
        request: v1::LastLogRequest,
    ) -> AnswerFuture<v1::LastLogAnswer> {
        let link = self.member(to);
        async move {
            link?
                .call(|mut control| async move { control.last_log(request).await })
                .await
        }
        .boxed()
    }

    fn snapshot(
        &self,
        to: RaftNode,
        parts: mpsc::Receiver<v1::SnapshotPart>,
    ) -> AnswerFuture<v1::SnapshotAnswer> {
        let link = self.member(to);
        async move { link?.snapshot(parts).await }.boxed()
    }

    fn unreachable_for(&self, to: RaftNode) -> Duration {
        match self.link(to.node()) {
            Some(link) => link
                .condition()
                .borrow()
                .lost_at
                .map_or(Duration::ZERO, |lost| lost.elapsed()),
            None => Duration::MAX,
        }
    }

    fn round_trip(&self, to: RaftNode) -> Option<Duration> {
        self.link(to.node())?.round_trip()
    }

    fn stood_still_since(&self, to: RaftNode, since: Instant) -> bool {
        self.link(to.node())
            .is_none_or(|link| link.stood_still_since(since))
    }

    fn reached(&self, to: RaftNode) -> BoxFuture<'static, ()> {
        // Of all peers: the link to this one may be replaced meanwhile.
        let mut connectivity = self.connectivity();
        async move {
            let connected = |all: &BTreeMap<u64, Connectivity>| {
                all.get(&to.node()) == Some(&Connectivity::Connected)
            };
            let _ = connectivity.wait_for(connected).await;
        }
        .boxed()
    }
}
