//! A leader that is about to stop, and nobody who takes its place.

use super::nodes::{Nodes, payload};
use std::time::{Duration, Instant};

/// More entries than a member may lack that is given the leadership.
const BEHIND: u64 = 1200;

#[test]
fn candidates_that_do_not_get_anywhere_share_one_deadline() {
    let mut nodes = Nodes::new(4, false).started();
    nodes.put(1, 0);
    nodes.converged(1, 1);
    let leader = nodes.leader(1);
    for node in nodes.nodes.values().filter(|node| node.id != leader) {
        node.consensus().set_room(0);
    }
    let node = nodes.node(leader);
    let group = node.group(1);
    let consensus = node.consensus().clone();
    let took = node.block_on(async {
        for number in 1..=BEHIND {
            let group = group.clone();
            tokio::spawn(async move {
                let _ = group.propose(payload(number)).await;
            });
        }
        while group
            .status()
            .last_log
            .is_none_or(|last| last.index < BEHIND)
        {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let started = Instant::now();
        consensus.hand_over(Duration::from_secs(2)).await;
        started.elapsed()
    });
    assert_eq!(group.status().leadership.leader, Some(group.me()));
    // Nobody can take it, so it is tried until the end, and not beyond.
    let bound = Duration::from_millis(1900)..Duration::from_millis(3000);
    assert!(bound.contains(&took), "{took:?}");
    nodes.no_aborts();
}
