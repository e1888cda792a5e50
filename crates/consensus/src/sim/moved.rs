//! Nodes whose addresses change, and addresses that cannot be used.

use super::nodes::{Node, Nodes, free_address};
use crate::net::Connectivity;
use crate::types::RaftNode;
use std::time::{Duration, Instant};

/// Starts a node elsewhere; the others are not told.
fn start_elsewhere(nodes: &mut Nodes, id: u64) {
    let node = nodes.node(id);
    node.config.listen = free_address();
    let address = node.config.listen.to_string();
    node.config.peers.insert(id, address);
    node.start();
}

fn hears(node: &Node, other: u64) -> bool {
    let connected = node.consensus().peers().connectivity();
    let connected = connected.borrow();
    connected.get(&other) == Some(&Connectivity::Connected)
}

fn all_hear_all(nodes: &Nodes) {
    let until = Instant::now() + Duration::from_secs(20);
    let heard = || {
        let pairs = nodes
            .nodes
            .values()
            .flat_map(|node| nodes.nodes.keys().map(move |other| (node, *other)));
        pairs
            .filter(|(node, other)| node.id != *other)
            .all(|(node, other)| hears(node, other))
    };
    while !heard() {
        assert!(Instant::now() < until, "some do not find each other");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_node_that_starts_with_old_addresses_is_told_the_new_ones() {
    let mut nodes = Nodes::new(3, false).started();
    nodes.put(1, 0);
    nodes.node(3).kill();
    start_elsewhere(&mut nodes, 3);
    all_hear_all(&nodes);
    nodes.node(1).kill();
    nodes.node(1).start();
    all_hear_all(&nodes);
    nodes.put(1, 1);
    assert_eq!(nodes.converged(1, 2), [0, 1]);
    nodes.no_aborts();
}

#[test]
fn two_that_have_moved_find_each_other_by_the_third() {
    let mut nodes = Nodes::new(3, false).started();
    nodes.put(1, 0);
    nodes.node(1).kill();
    nodes.node(3).kill();
    start_elsewhere(&mut nodes, 1);
    start_elsewhere(&mut nodes, 3);
    all_hear_all(&nodes);
    // Not by the third alone.
    nodes.node(2).kill();
    nodes.put(1, 1);
    nodes.node(2).start();
    all_hear_all(&nodes);
    assert_eq!(nodes.converged(1, 2), [0, 1]);
    nodes.no_aborts();
}

#[test]
fn a_member_whose_address_makes_no_sense_keeps_nobody_from_others() {
    let mut nodes = Nodes::new(3, false).started();
    let peers = nodes.nodes[&1].config.peers.clone();
    let leading = nodes.node(nodes.leader(0));
    let group = leading.group(0);
    let added = group.add_learner(RaftNode::new(4, 0), "fd00::5:25672");
    leading.block_on(added).unwrap();
    drop(group);
    let mut fifth = Node::new(5, &peers, false);
    fifth.start();
    fifth.formed();
    nodes.nodes.insert(5, fifth);
    all_hear_all(&nodes);
    nodes.put(1, 0);
    nodes.no_aborts();
}

#[test]
fn a_node_whose_own_address_makes_no_sense_does_not_start() {
    let mut nodes = Nodes::new(3, false);
    nodes.node(2).config.advertise = Some("fd00::5:25672".to_owned());
    let refused = nodes.node(2).try_start().unwrap_err();
    assert!(refused.to_string().contains("'fd00::5:25672'"), "{refused}");
}
