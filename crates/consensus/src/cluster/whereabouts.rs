//! Members find each other although their addresses have changed.
//!
//! Nothing on disk says where a member is now: a start knows the configured addresses, and those that members had when they were
//! admitted. Who has moved tells the others when it starts; but one of them may be down then, or start anew later
//! with the old address. So two things go on for as long as a node runs:
//!
//! - a peer that this node reaches, but that has not connected to it, is told where this node is;
//! - where a member was never reached since this node tries it at its address (both may have moved), the others are asked. What
//!   counts is where one of them reaches it now.

use super::enter::{hello_to, say_hello};
use crate::consensus::Inner;
use crate::net::{Connectivity, PeerLink};
use futures::future::join_all;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::time::Instant;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// Two nodes that start connect to each other within this time.
const SETTLED: Duration = Duration::from_secs(1);

/// The members that this node reaches.
pub(super) fn reached(inner: &Inner) -> Vec<u64> {
    let members = inner.member_nodes();
    let reached = |node: &u64| link_of(inner, *node, Connectivity::Connected).is_some();
    members.into_keys().filter(reached).collect()
}

fn link_of(inner: &Inner, node: u64, connectivity: Connectivity) -> Option<Arc<PeerLink>> {
    let link = inner.peers.link(node)?;
    (link.connectivity() == connectivity).then_some(link)
}

/// Runs until this node is gone.
pub(super) async fn keep_known(inner: Weak<Inner>) {
    if let Some(inner) = inner.upgrade() {
        let _ = say_hello(&inner).await;
    }
    let mut looks = crate::ticks::every(LOOK);
    // Since when a peer is missing in one of the two ways, or was asked last.
    let mut missing: BTreeMap<u64, Instant> = BTreeMap::new();
    loop {
        looks.tick().await;
        let Some(inner) = inner.upgrade() else { return };
        let now = Instant::now();
        let nodes: Vec<u64> = inner.peers.addresses().into_keys().collect();
        let mut tell = BTreeSet::new();
        let mut ask = false;
        missing.retain(|node, _| nodes.contains(node));
        for node in nodes {
            let Some(link) = inner.peers.link(node) else {
                continue;
            };
            let is_reached = link.connectivity() == Connectivity::Connected;
            if is_reached && inner.presence.hears(node) || !is_reached && link.was_connected() {
                missing.remove(&node);
                continue;
            }
            let since = missing.entry(node).or_insert(now);
            if now - *since < SETTLED {
                continue;
            }
            *since = now;
            if is_reached {
                tell.insert(node);
            } else {
                ask = true;
            }
        }
        if ask {
            tell.extend(reached(&inner));
        }
        let links = tell.iter().filter_map(|node| inner.peers.link(*node));
        let answers = join_all(links.map(|link| hello_to(&inner, link))).await;
        if ask {
            for answer in answers.into_iter().flatten() {
                go_where(&inner, &answer);
            }
        }
    }
}

/// Tries members that were never reached where the node that has answered reaches them.
fn go_where(inner: &Inner, answer: &cluster_proto::v1::HelloAnswer) {
    let members = inner.member_nodes();
    for told in &answer.members {
        let node = told.member;
        let Some(link) = inner.peers.link(node) else {
            continue;
        };
        let is_lost = link.connectivity() != Connectivity::Connected && !link.was_connected();
        if !is_lost || !answer.reached.contains(&node) || !members.contains_key(&node) {
            continue;
        }
        // In turn: what others reach it by need not be of use here, as what is configured was not.
        let configured = inner.config.peers.get(&node).unwrap_or(&told.address);
        let next = match link.address() == told.address {
            true => configured,
            false => &told.address,
        };
        if link.address() == next {
            continue;
        }
        tracing::info!(
            peer = node,
            from = link.address(),
            to = next,
            "a member is looked for elsewhere"
        );
        if let Err(error) = inner.peers.set_peer(node, next) {
            tracing::warn!(%error, "a member cannot be reached");
        }
    }
}
