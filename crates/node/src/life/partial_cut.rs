//! A link between two nodes is cut, and a third one reaches both.
//!
//! A leader that some member cannot reach serves nobody who is connected to that member, although the Raft group sees
//! nothing wrong: it has its majority. So a node that has lost another one for a while asks those that it hears whom they
//! hear, and hands its leaderships, the catalog's too, to one that hears more members than itself. Only ever to one that
//! hears more: two nodes never send a leadership to and fro. [`super::balance`] brings none back before the link is whole.
//!
//! So too where it needs the lost node for its majority, as one of the last three of four: the others still hear it and elect
//! nobody, being no majority without it, and it can do nothing while the one between could.
//!
//! A node that is down, or cut off from all, is heard by nobody, and nothing moves.

use super::hearing;
use crate::broker::Broker;
use broker_model::ids::NodeId;
use consensus::Connectivity;
use futures::future::join_all;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tracing::{debug, info};

/// How often this node looks whom it hears.
const LOOK: Duration = Duration::from_millis(400);
/// A node that is not heard for so long is asked about: until then one that is frozen may be silent here, and not yet
/// there.
const CERTAIN: Duration = Duration::from_millis(1500);
/// How long a hand-over may take.
const TRANSFER: Duration = Duration::from_secs(3);
/// From one attempt to the next.
const PAUSE: Duration = Duration::from_secs(3);

/// Runs until the node stops.
pub async fn mend(broker: Arc<Broker>) {
    let mut ticks = consensus::ticks::every(LOOK);
    let mut lost: BTreeMap<NodeId, Instant> = BTreeMap::new();
    loop {
        ticks.tick().await;
        let now = Instant::now();
        let heard = heard(&broker);
        let members = hearing::members(&broker);
        lost.retain(|node, _| members.contains(node) && !heard.contains(node));
        for node in members.difference(&heard) {
            lost.entry(*node).or_insert(now);
        }
        let certain = lost.values().any(|since| now - *since >= CERTAIN);
        if !certain || !hearing::leads_any(&broker) {
            continue;
        }
        if let Some(to) = better_placed(&heard, &answers(&broker, &members, &heard).await) {
            info!(%to, "a link between two nodes is cut: leaderships move to a node that reaches both");
            hand_over(&broker, to).await;
        }
        sleep(PAUSE).await;
    }
}

/// The members that this node hears, itself included.
fn heard(broker: &Broker) -> BTreeSet<NodeId> {
    let connectivity = broker.consensus.peers().connectivity();
    let connectivity = connectivity.borrow();
    let connected = connectivity
        .iter()
        .filter(|(_, state)| **state == Connectivity::Connected)
        .map(|(node, _)| NodeId(*node));
    connected.chain([broker.origin.node]).collect()
}

/// Whom of the members those hear that this node hears.
async fn answers(
    broker: &Broker,
    members: &BTreeSet<NodeId>,
    heard: &BTreeSet<NodeId>,
) -> Vec<(NodeId, BTreeSet<NodeId>)> {
    let others = heard
        .iter()
        .filter(|node| **node != broker.origin.node && members.contains(node));
    let mut answers = hearing::of_all(broker, others.copied()).await;
    for (_, hears) in &mut answers {
        hears.retain(|node| members.contains(node));
    }
    answers
}

/// Who hears most members, if that is more than this node, which hears `mine`.
fn better_placed(
    mine: &BTreeSet<NodeId>,
    answers: &[(NodeId, BTreeSet<NodeId>)],
) -> Option<NodeId> {
    let more = answers.iter().filter(|(_, hears)| hears.len() > mine.len());
    more.max_by_key(|(node, hears)| (hears.len(), std::cmp::Reverse(*node)))
        .map(|(node, _)| *node)
}

async fn hand_over(broker: &Broker, to: NodeId) {
    let groups = broker.consensus.groups();
    let led = groups
        .iter()
        .filter(|group| group.leadership().borrow().leader == Some(group.me()));
    join_all(led.map(|group| async move {
        if let Err(error) = group.transfer_leader(to.0, TRANSFER).await {
            debug!(group = %group.id(), %to, %error, "leadership not handed over");
        }
    }))
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(ids: &[u64]) -> BTreeSet<NodeId> {
        ids.iter().map(|id| NodeId(*id)).collect()
    }

    #[test]
    fn leaderships_go_to_whoever_hears_more() {
        let answer = |node, hears: &[u64]| (NodeId(node), nodes(hears));
        for (mine, answers, to) in [
            // Between 1 and 2.
            (&[1, 3][..], vec![answer(3, &[1, 2, 3])], Some(3)),
            // 2 is down: nobody hears it.
            (&[1, 3], vec![answer(3, &[1, 3])], None),
            // Nobody answers.
            (&[1], vec![], None),
            // Two halves of five with one between them.
            (
                &[1, 2, 3],
                vec![answer(2, &[1, 2, 3]), answer(3, &[1, 2, 3, 4, 5])],
                Some(3),
            ),
            // Each of a ring hears two others: none is better placed.
            (
                &[1, 2, 4],
                vec![answer(2, &[1, 2, 3]), answer(4, &[3, 4, 1])],
                None,
            ),
            (
                &[1, 2, 3],
                vec![answer(3, &[1, 2, 3, 4]), answer(2, &[1, 2, 3, 4])],
                Some(2),
            ),
        ] {
            assert_eq!(
                better_placed(&nodes(mine), &answers),
                to.map(NodeId),
                "{mine:?}"
            );
        }
    }
}
