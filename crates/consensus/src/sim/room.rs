//! Nodes whose disk has no room for more log: the others go on, and it catches up.

use super::nodes::Nodes;
use std::time::{Duration, Instant};

/// Longer than an election and what leads to it.
const WITHIN: Duration = Duration::from_secs(10);

fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + WITHIN;
    while !condition() {
        assert!(Instant::now() < until, "in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_follower_without_room_takes_nothing_and_catches_up_later() {
    let mut nodes = Nodes::new(3, false).started();
    nodes.put(1, 0);
    nodes.converged(1, 1);
    let follower = if nodes.leader(1) == 3 { 2 } else { 3 };
    assert!(nodes.node(follower).consensus().set_writable(false));
    assert!(!nodes.node(follower).consensus().set_writable(false));
    let last = |nodes: &mut Nodes| nodes.node(follower).group(1).status().last_log;
    let before = last(&mut nodes);
    for number in 1..20 {
        nodes.put(1, number);
    }
    assert_eq!(last(&mut nodes), before, "nothing was written");
    assert_eq!(nodes.node(follower).machine(1).numbers(), [0]);
    // It leads nothing, whoever asks it to.
    let leader = nodes.leader(1);
    assert_ne!(leader, follower);
    let leading = nodes.node(leader);
    let group = leading.group(1);
    let refused = leading.block_on(group.transfer_leader(follower, Duration::from_millis(300)));
    assert!(refused.is_err());
    assert!(nodes.node(follower).consensus().set_writable(true));
    assert_eq!(nodes.converged(1, 20), (0..20).collect::<Vec<u64>>());
    nodes.no_aborts();
}

#[test]
fn a_node_without_room_takes_the_catalog_on() {
    let mut nodes = Nodes::new(3, false).started();
    nodes.put(0, 0);
    nodes.converged(0, 1);
    let follower = if nodes.leader(0) == 3 { 2 } else { 3 };
    nodes.node(follower).consensus().set_writable(false);
    nodes.put(0, 1);
    wait_for("the catalog's entry", || {
        nodes.node(follower).machine(0).numbers() == [0, 1]
    });
    // Until there is no room for that either.
    nodes.node(follower).consensus().set_catalog_room(0);
    for number in 2..10 {
        nodes.put(0, number);
    }
    assert_eq!(nodes.node(follower).machine(0).numbers(), [0, 1]);
    nodes.node(follower).consensus().set_catalog_room(u64::MAX);
    nodes.node(follower).consensus().set_writable(true);
    assert_eq!(nodes.converged(0, 10), (0..10).collect::<Vec<u64>>());
    nodes.no_aborts();
}

#[test]
fn a_leader_without_room_makes_way_even_if_it_cannot_hand_over() {
    let mut nodes = Nodes::new(3, false).started();
    nodes.put(1, 0);
    let full = nodes.leader(1);
    // Without the hand-over that a node tries first.
    nodes.node(full).consensus().set_writable(false);
    let status = nodes.node(full).group(1);
    wait_for("the end of its leadership", || {
        !status.leadership().borrow().ready
    });
    let proposed = nodes.node(full).group(1).propose(super::nodes::payload(99));
    assert!(nodes.node(full).block_on(proposed).is_err());
    for number in 1..10 {
        nodes.put(1, number);
    }
    assert_ne!(nodes.leader(1), full);
    nodes.node(full).consensus().set_writable(true);
    assert_eq!(nodes.converged(1, 10), (0..10).collect::<Vec<u64>>());
    nodes.no_aborts();
}

#[test]
fn all_without_room_go_on_by_themselves() {
    let mut nodes = Nodes::new(3, false).started();
    nodes.put(1, 0);
    for id in 1..=3 {
        nodes.node(id).consensus().set_writable(false);
    }
    wait_for("nobody to lead", || {
        nodes
            .nodes
            .values()
            .all(|node| !node.group(1).leadership().borrow().ready)
    });
    for id in 1..=3 {
        nodes.node(id).consensus().set_writable(true);
    }
    nodes.put(1, 1);
    assert_eq!(nodes.converged(1, 2), [0, 1]);
    nodes.no_aborts();
}

#[test]
fn a_node_without_room_keeps_no_log_for_one_that_is_away() {
    let mut nodes = Nodes::new(3, false).started();
    nodes.put(1, 0);
    nodes.converged(1, 1);
    nodes.node(3).kill();
    for number in 1..30 {
        nodes.put(1, number);
    }
    let position = |nodes: &mut Nodes, id| {
        let status = nodes.node(id).group(1).status();
        (
            status.purged.map(|purged| purged.index),
            status.checkpoint.map(|checkpoint| checkpoint.index),
        )
    };
    for id in 1..=2 {
        nodes.node(id).group(1).trigger_checkpoint();
    }
    wait_for("checkpoints", || {
        (1..=2).all(|id| position(&mut nodes, id).1.is_some_and(|index| index > 20))
    });
    assert!((1..=2).all(|id| position(&mut nodes, id).0.is_none()));
    for id in 1..=2 {
        nodes.node(id).consensus().set_writable(false);
    }
    wait_for("the end of what was kept", || {
        (1..=2).all(|id| {
            let (purged, checkpoint) = position(&mut nodes, id);
            purged == checkpoint
        })
    });
    for id in 1..=2 {
        nodes.node(id).consensus().set_writable(true);
    }
    nodes.node(3).start();
    nodes.put(1, 30);
    assert_eq!(nodes.converged(1, 31), (0..31).collect::<Vec<u64>>());
    nodes.no_aborts();
}
