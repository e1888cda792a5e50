//! Keeps leaderships spread: every live node leads about the same number of shards.
//!
//! Each leader looks at its own shards only. The place of a shard's leader is computed from the
//! sorted list of live members, so that all nodes come to the same answer without talking.
//!
//! A node that did not take a leadership (it may have no room on its disk) is left in peace for a while,
//! and keeps nothing from the others: each attempt makes the shard's publishers wait.

use super::hearing;
use crate::broker::Broker;
use broker_model::ids::NodeId;
use consensus::{Connectivity, GroupId};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tracing::{debug, info};

/// How long a hand-over may take.
const TRANSFER: Duration = Duration::from_secs(3);
/// The list of live members must have been the same for so many looks in a row.
const STEADY_LOOKS: u32 = 2;
/// A node that did not take a leadership is asked again after this time, and twice as long after every
/// further time …
const PAUSE: Duration = Duration::from_secs(10);
/// … but after this at the latest.
const PAUSE_MAX: Duration = Duration::from_secs(120);

/// Nodes that did not take a leadership: how long they are left in peace.
#[derive(Debug, Default)]
struct Unwilling(HashMap<NodeId, (Instant, Duration)>);

impl Unwilling {
    fn may_ask(&self, node: NodeId, now: Instant) -> bool {
        self.0.get(&node).is_none_or(|(until, _)| *until <= now)
    }

    fn answered(&mut self, node: NodeId, taken: bool, now: Instant) {
        if taken {
            self.0.remove(&node);
            return;
        }
        let pause = match self.0.get(&node) {
            Some((_, before)) => before.saturating_mul(2).min(PAUSE_MAX),
            None => PAUSE,
        };
        self.0.insert(node, (now + pause, pause));
    }
}

/// Which of `live` (sorted) should lead shard number `shard` (from 1).
#[must_use]
pub fn wanted_leader(shard: u32, live: &[NodeId]) -> Option<NodeId> {
    let at = (shard as usize).checked_sub(1)? % live.len().max(1);
    live.get(at).copied()
}

/// Looks at the leaderships of this node every `interval`, and moves at most one at a time.
pub async fn keep_balanced(broker: Arc<Broker>, interval: Duration) {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut last_live = Vec::new();
    let mut steady = 0;
    let mut unwilling = Unwilling::default();
    loop {
        ticks.tick().await;
        let live = live_members(&broker);
        if live == last_live {
            steady += 1;
        } else {
            steady = 0;
            unwilling = Unwilling::default();
            last_live.clone_from(&live);
        }
        if steady >= STEADY_LOOKS {
            move_one(&broker, &live, &mut unwilling).await;
        }
    }
}

fn live_members(broker: &Broker) -> Vec<NodeId> {
    let connectivity = broker.consensus.peers().connectivity();
    let connectivity = connectivity.borrow();
    broker
        .consensus
        .members()
        .keys()
        .filter(|node| {
            **node == broker.origin.node.0
                || connectivity.get(node) == Some(&Connectivity::Connected)
        })
        .map(|node| NodeId(*node))
        .collect()
}

/// Whether a node hears all that this one hears. Where a link is cut it may not, and would serve no one who is connected to
/// a node that it cannot reach (see [`super::partial_cut`]); nor does one whose disk is not well.
async fn hears_all(broker: &Broker, node: NodeId, live: &[NodeId]) -> bool {
    let hears = hearing::of(broker, node).await;
    hears.is_some_and(|hears| live.iter().all(|node| hears.contains(node)))
}

/// Part of the time that a candidate waits for votes that a sync may take, where leaders are moved without need: voters answer
/// after a sync, and there may be more of them in a row.
const SYNC_SHARE: u32 = 3;

/// Whether `to` would be elected in time: it and enough of the `voters` sync swiftly. If they do not, no election ends, and
/// the leader would be deposed for nobody.
fn would_win(to: NodeId, voters: &[NodeId], swift: &BTreeSet<NodeId>) -> bool {
    let votes = voters.iter().filter(|voter| swift.contains(voter)).count();
    swift.contains(&to) && votes > voters.len() / 2
}

async fn move_one(broker: &Broker, live: &[NodeId], unwilling: &mut Unwilling) {
    let me = broker.origin.node;
    let now = Instant::now();
    for group in broker.consensus.groups() {
        let id = group.id();
        if id == GroupId::CATALOG || !group.leadership().borrow().ready {
            continue;
        }
        let Some(wanted) = wanted_leader(id.0, live).filter(|wanted| *wanted != me) else {
            continue;
        };
        if !unwilling.may_ask(wanted, now) {
            continue;
        }
        let status = group.status();
        let caught_up = status.voters.iter().any(|voter| voter.node() == wanted.0)
            && status.matched.iter().any(|(member, matched)| {
                let last = status.last_log.map(|position| position.index);
                member.node() == wanted.0
                    && matched
                        .zip(last)
                        .is_some_and(|(matched, last)| matched + 1000 >= last)
            });
        if !caught_up {
            continue;
        }
        if !hears_all(broker, wanted, live).await {
            unwilling.answered(wanted, false, now);
            continue;
        }
        let voters: Vec<NodeId> = status.voters.iter().map(|v| NodeId(v.node())).collect();
        let limit = broker.config.timing.raft_election_min / SYNC_SHARE;
        let swift = hearing::swift(broker, live.iter().copied(), limit).await;
        if !would_win(wanted, &voters, &swift) {
            debug!(shard = id.0, to = %wanted, "disks take long to sync: leadership stays");
            unwilling.answered(wanted, false, now);
            continue;
        }
        info!(shard = id.0, to = %wanted, "moving leadership to spread the load");
        let moved = group.transfer_leader(wanted.0, TRANSFER).await;
        unwilling.answered(wanted, moved.is_ok(), Instant::now());
        if let Err(error) = moved {
            debug!(shard = id.0, to = %wanted, %error, "leadership not moved");
        }
        return;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_takes_no_leadership_is_asked_less_and_less() {
        let start = Instant::now();
        let (full, other) = (NodeId(2), NodeId(3));
        let mut unwilling = Unwilling::default();
        let mut now = start;
        let mut asked = 0;
        while now < start + Duration::from_secs(600) {
            if unwilling.may_ask(full, now) {
                asked += 1;
                unwilling.answered(full, false, now);
            }
            assert!(unwilling.may_ask(other, now));
            now += Duration::from_secs(5);
        }
        assert!(asked < 10, "{asked}");
        unwilling.answered(full, true, now);
        assert!(unwilling.may_ask(full, now));
    }

    #[test]
    fn no_leader_is_moved_where_votes_would_take_too_long() {
        let nodes = |ids: &[u64]| ids.iter().map(|id| NodeId(*id)).collect::<Vec<_>>();
        for (to, voters, swift, wins) in [
            (2, &[1, 2, 3][..], &[1, 2, 3][..], true),
            (2, &[1, 2, 3], &[1, 2], true),
            (2, &[1, 2, 3], &[1, 3], false),
            (2, &[1, 2, 3], &[2], false),
            (2, &[1, 2, 3], &[], false),
            (2, &[1, 2, 3, 4, 5], &[1, 2], false),
            (2, &[1, 2, 3, 4, 5], &[1, 2, 5], true),
        ] {
            let swift = nodes(swift).into_iter().collect();
            let told = would_win(NodeId(to), &nodes(voters), &swift);
            assert_eq!(told, wins, "{to} {voters:?} {swift:?}");
        }
    }

    #[test]
    fn leaders_are_spread() {
        let live = [NodeId(1), NodeId(2), NodeId(3)];
        let leaders: Vec<u64> = (1..=8)
            .filter_map(|shard| wanted_leader(shard, &live))
            .map(|n| n.0)
            .collect();
        assert_eq!(leaders, [1, 2, 3, 1, 2, 3, 1, 2]);
        assert_eq!(wanted_leader(5, &[NodeId(7)]), Some(NodeId(7)));
        assert_eq!(wanted_leader(5, &[]), None);
        assert_eq!(wanted_leader(0, &live), None);
    }
}
