//! Whether what was committed is applied on all live nodes, so that a client finds on any of them what
//! it has declared on another.
//!
//! Nodes say so when they answer to the replication of the log. One that does not in time is asked.

use cluster_proto::node::v1::BarrierRequest;
use cluster_proto::node::v1::peer_client::PeerClient;
use consensus::{Connectivity, Group, PeerNet, RECENT};
use futures::future::join_all;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tracing::debug;

/// How long a live node may take to show what was committed. A node that does not answer in this
/// time is cut off, and cannot serve what needs a majority anyway.
const BARRIER: Duration = Duration::from_millis(1500);
const _: () = assert!(BARRIER.as_millis() > RECENT.as_millis());
/// The same for a node that has just fallen silent. It may still take itself for recent, and serve clients by what it knows.
const SILENT: Duration = RECENT.saturating_add(Duration::from_millis(100));
/// One that is silent for longer knows itself that it is not recent. What was sent to it may have come a little later.
const LATELY: Duration = Duration::from_secs(3);
/// The same for a node that has not shown in time what it was last asked for, until it does: its disk stands still, say, and
/// every change would wait for it.
const LATE: Duration = Duration::from_millis(100);
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
    /// It did not show in time what it was asked for last.
    is_late: AtomicBool,
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

    /// Waits until every other node that answers has applied `index`, and none of the others serves clients by what it knew
    /// before; bounded.
    pub async fn everywhere(&self, index: u64) {
        let live: Vec<u64> = self
            .peers
            .connectivity()
            .borrow()
            .iter()
            .filter(|(_, state)| **state == Connectivity::Connected)
            .map(|(node, _)| *node)
            .collect();
        let silent = self.peers.fallen_silent().into_iter();
        let lately = silent.filter(|(_, since)| since.elapsed() < LATELY);
        let all = (live.into_iter().map(|node| (node, None)))
            .chain(lately.map(|(node, _)| (node, Some(SILENT))));
        join_all(all.map(|(node, patience)| self.on(node, index, patience))).await;
    }

    /// `patience`: of a node that is silent.
    async fn on(&self, node: u64, index: u64, patience: Option<Duration>) {
        if self.told(node, index).await {
            if let Some(asked) = self.asked.lock().get(&node) {
                asked.is_late.store(false, Ordering::Relaxed);
            }
            return;
        }
        let asked = Arc::clone(self.asked.lock().entry(node).or_insert_with(|| {
            Arc::new(Asked {
                node,
                wanted: Mutex::default(),
                settled: watch::Sender::new(0),
                is_late: AtomicBool::new(false),
            })
        }));
        let mut settled = asked.settled.subscribe();
        if asked.begins_to_ask(index) {
            tokio::spawn(ask(Arc::clone(&asked), self.peers.clone()));
        }
        let reached = settled.wait_for(|settled| *settled >= index);
        let _ = tokio::time::timeout(patience.unwrap_or_else(|| asked.patience()), reached).await;
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
    /// How long it is waited for.
    fn patience(&self) -> Duration {
        match self.is_late.load(Ordering::Relaxed) {
            true => LATE,
            false => BARRIER,
        }
    }

    /// What it says that it shows, after it was asked for `index`; `None`: nothing.
    fn answered(&self, index: u64, applied: Option<u64>) {
        let shows = applied.unwrap_or(0);
        self.is_late.store(shows < index, Ordering::Relaxed);
        self.settled
            .send_modify(|settled| *settled = shows.max(index).max(*settled));
    }

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
        asked.answered(index, applied);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_is_late_is_waited_for_less_until_it_shows_what_it_is_asked_for() {
        let asked = Asked {
            node: 2,
            wanted: Mutex::default(),
            settled: watch::Sender::new(0),
            is_late: AtomicBool::new(false),
        };
        let patience = |index, applied| {
            asked.answered(index, applied);
            (asked.patience(), *asked.settled.borrow())
        };
        assert_eq!(patience(5, Some(7)), (BARRIER, 7));
        assert_eq!(patience(9, Some(7)), (LATE, 9));
        assert_eq!(patience(10, None), (LATE, 10));
        assert_eq!(patience(11, Some(11)), (BARRIER, 11));
    }
}
