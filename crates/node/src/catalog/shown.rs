//! Whether what was committed is applied on all live nodes, so that a client finds on any of them what
//! it has declared on another.
//!
//! Nodes say so when they answer to the replication of the log. One that does not in time is asked.

use cluster_proto::node::v1::BarrierRequest;
use cluster_proto::node::v1::peer_client::PeerClient;
use consensus::{Connectivity, Group, PeerNet};
use futures::future::join_all;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tracing::debug;

/// How long a live node may take to show what was committed. A node that does not answer in this
/// time is cut off, and cannot serve what needs a majority anyway.
const BARRIER: Duration = Duration::from_millis(1500);
/// How long a node may take to say by itself what it shows, before it is asked.
const TOLD: Duration = Duration::from_millis(10);

/// Knows what the other nodes show, and asks those that do not say, each one question at a time.
pub struct Shown {
    catalog: Group,
    peers: PeerNet,
    asked: Mutex<BTreeMap<u64, Arc<Asked>>>,
}

/// What another node has been asked.
struct Asked {
    node: u64,
    wanted: Mutex<Wanted>,
    /// Highest index that it has applied, or has been asked for in vain: nobody waits for it any more.
    settled: watch::Sender<u64>,
}

#[derive(Default)]
struct Wanted {
    /// Highest index that somebody waits for.
    index: u64,
    /// A task is asking.
    asking: bool,
}

impl Shown {
    /// Knows of no node yet.
    pub fn new(catalog: Group, peers: PeerNet) -> Arc<Self> {
        Arc::new(Self {
            catalog,
            peers,
            asked: Mutex::default(),
        })
    }

    /// Waits until every other node that answers has applied `index`; bounded.
    pub async fn everywhere(&self, index: u64) {
        let live: Vec<u64> = self
            .peers
            .connectivity()
            .borrow()
            .iter()
            .filter(|(_, state)| **state == Connectivity::Connected)
            .map(|(node, _)| *node)
            .collect();
        join_all(live.into_iter().map(|node| self.on(node, index))).await;
    }

    async fn on(&self, node: u64, index: u64) {
        if self.told(node, index).await {
            return;
        }
        let asked = Arc::clone(self.asked.lock().entry(node).or_insert_with(|| {
            Arc::new(Asked {
                node,
                wanted: Mutex::default(),
                settled: watch::Sender::new(0),
            })
        }));
        let mut settled = asked.settled.subscribe();
        if asked.begins_to_ask(index) {
            tokio::spawn(ask(Arc::clone(&asked), self.peers.clone()));
        }
        let reached = settled.wait_for(|settled| *settled >= index);
        let _ = tokio::time::timeout(BARRIER, reached).await;
    }
}

impl Shown {
    /// Whether the node says by itself that it shows `index`.
    async fn told(&self, node: u64, index: u64) -> bool {
        let mut shown = self.catalog.shown();
        let told = shown.wait_for(|shown| {
            let mut members = shown.iter().filter(|(member, _)| member.node() == node);
            members.any(|(_, applied)| *applied >= index)
        });
        matches!(tokio::time::timeout(TOLD, told).await, Ok(Ok(_)))
    }
}

impl Asked {
    /// Takes note that somebody waits for `index`; whether nobody is asking yet, although it is needed.
    fn begins_to_ask(&self, index: u64) -> bool {
        let mut wanted = self.wanted.lock();
        wanted.index = wanted.index.max(index);
        let begins = !wanted.asking && *self.settled.borrow() < wanted.index;
        wanted.asking |= begins;
        begins
    }

    /// What is to be asked next; `None` ends the asking.
    fn next(&self) -> Option<u64> {
        let mut wanted = self.wanted.lock();
        wanted.asking = *self.settled.borrow() < wanted.index;
        wanted.asking.then_some(wanted.index)
    }
}

/// Asks until nothing more is wanted.
async fn ask(asked: Arc<Asked>, peers: PeerNet) {
    while let Some(index) = asked.next() {
        let applied = barrier(&peers, asked.node, index).await;
        asked
            .settled
            .send_modify(|settled| *settled = applied.unwrap_or(0).max(index).max(*settled));
    }
}

/// What a node has applied, after it has had the time to apply `index`.
async fn barrier(peers: &PeerNet, node: u64, index: u64) -> Option<u64> {
    let channel = peers.channel(node)?;
    let request = BarrierRequest {
        index,
        timeout_ms: BARRIER.as_millis() as u32,
    };
    let call = async { PeerClient::new(channel).barrier(request).await };
    match tokio::time::timeout(BARRIER, call).await {
        Ok(Ok(reply)) => Some(reply.into_inner().applied),
        Ok(Err(status)) => {
            debug!(
                node,
                error = status.message(),
                "a node did not confirm a change of the catalog"
            );
            None
        }
        Err(_) => {
            debug!(
                node,
                "a node did not confirm a change of the catalog in time"
            );
            None
        }
    }
}
