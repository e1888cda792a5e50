//! Founding, restarts, dead leaders, lost disks, joining and leaving, over real connections.

use super::nodes::{Node, Nodes, free_address, payload};
use crate::config::{CheckpointPolicy, Secret, Timing};
use crate::error::{AdminError, StartError};
use crate::net::Connectivity;
use crate::types::RaftNode;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

fn wait_for(what: &str, within: Duration, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + within;
    while !condition() {
        assert!(Instant::now() < until, "in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn nodes_form_one_cluster_in_any_order_and_survive_restarts() {
    let mut nodes = Nodes::new(3, true);
    for id in [3, 1, 2] {
        nodes.node(id).start();
        std::thread::sleep(Duration::from_millis(150));
    }
    for node in nodes.nodes.values() {
        node.formed();
    }
    let identity = nodes.node(1).consensus().identity();
    assert!(
        nodes
            .nodes
            .values()
            .all(|node| node.consensus().identity().cluster == identity.cluster)
    );
    assert_eq!(identity.shards, 2);
    for number in 0..20 {
        for group in 0..=2 {
            nodes.put(group, number);
        }
    }
    for node in nodes.nodes.values_mut() {
        node.kill();
    }
    for id in [2, 3, 1] {
        nodes.node(id).start();
    }
    assert_eq!(
        nodes.node(2).consensus().identity().cluster,
        identity.cluster
    );
    assert!(nodes.node(1).consensus().identity().incarnation > identity.incarnation);
    for group in 0..=2 {
        nodes.put(group, 20);
        assert_eq!(nodes.converged(group, 21), (0..21).collect::<Vec<u64>>());
    }
    nodes.no_aborts();
}

#[test]
fn a_node_alone_is_a_cluster_at_once() {
    let mut node = Node::new(7, &BTreeMap::new(), false);
    node.config.join = Vec::new();
    node.start();
    node.formed();
    let group = node.group(1);
    wait_for("a leader", Duration::from_secs(5), || {
        group.leadership().borrow().ready
    });
    node.block_on(group.propose(payload(1))).unwrap();
    node.kill();
    node.start();
    node.formed();
    let group = node.group(1);
    wait_for("a leader", Duration::from_secs(5), || {
        group.leadership().borrow().ready
    });
    assert_eq!(node.machine(1).numbers(), [1]);
}

#[test]
fn a_dead_leader_is_replaced_at_once() {
    let mut nodes = Nodes::new(3, false).started();
    let mut took = Vec::new();
    for round in 0..4 {
        nodes.put(1, round);
        nodes.converged(1, usize::try_from(round).unwrap() + 1);
        let leader = nodes.leader(1);
        // Connections of all to all, or a death could not be seen.
        wait_for("connections", Duration::from_secs(5), || {
            nodes.nodes.values().all(|node| {
                let connected = node.consensus().peers().connectivity();
                let connected = connected.borrow();
                connected.len() == 2
                    && connected
                        .values()
                        .all(|peer| *peer == Connectivity::Connected)
            })
        });
        let started = Instant::now();
        nodes.node(leader).kill();
        let after_kill = Instant::now();
        let new = nodes.leader(1);
        took.push((after_kill - started, after_kill.elapsed()));
        assert_ne!(new, leader);
        nodes.node(leader).start();
    }
    println!("kill, then new leader: {took:?}");
    assert!(
        took.iter()
            .filter(|(_, took)| *took < Duration::from_millis(400))
            .count()
            >= 3,
        "{took:?}"
    );
    nodes.no_aborts();
}

#[test]
fn a_member_without_its_log_does_not_vote() {
    let mut nodes = Nodes::new(3, true).started();
    nodes.put(1, 0);
    for id in [2, 3] {
        nodes.node(id).kill();
    }
    // A log that knows nothing, and one of another node.
    nodes.node(2).lose_log();
    let refused = nodes.node(2).try_start().unwrap_err();
    assert!(refused.to_string().contains("is gone"), "{refused}");
    let theirs = nodes.node(3).config.data_dir.join("log");
    nodes.node(2).lose_log();
    std::fs::rename(theirs, nodes.node(2).config.data_dir.join("log")).unwrap();
    let refused = nodes.node(2).try_start().unwrap_err();
    assert!(refused.to_string().contains("belongs to"), "{refused}");

    nodes.node(2).wipe();
    nodes.node(2).start();
    nodes.no_aborts();
}

#[test]
fn a_lost_disk_comes_back_as_another_member() {
    let mut nodes = Nodes::new(3, false).started();
    for number in 0..10 {
        nodes.put(0, number);
        nodes.put(2, number);
    }
    nodes.node(2).kill();
    nodes.node(2).wipe();
    nodes.put(2, 10);
    nodes.node(2).start();
    nodes.node(2).formed();
    assert_eq!(nodes.node(2).consensus().identity().generation, 1);
    wait_for("its votes", Duration::from_secs(20), || {
        (0..=2).all(|group| {
            let status = nodes.node(2).group(group).status();
            let voters: Vec<(u64, u64)> = status
                .voters
                .iter()
                .map(|voter| (voter.node(), voter.generation()))
                .collect();
            voters == [(1, 0), (3, 0), (2, 1)] && status.learners.is_empty()
        })
    });
    assert_eq!(nodes.converged(2, 11), (0..11).collect::<Vec<u64>>());
    // It counts again: another one may go.
    nodes.node(3).kill();
    nodes.put(2, 11);
    nodes.node(2).kill();
    nodes.node(2).start();
    nodes.put(2, 12);
    assert_eq!(nodes.converged(2, 13).len(), 13);
    nodes.no_aborts();
}

#[test]
fn an_admission_ends_with_the_leadership_that_it_began_under() {
    let mut nodes = Nodes::new(3, false).started();
    nodes.put(1, 0);
    let leader = nodes.leader(1);
    let node = nodes.node(leader);
    let group = node.group(1);
    let newcomer = RaftNode::new(9, 0);
    let admitted = node.block_on(async {
        // Nobody is there, so it never catches up.
        let admission = group
            .0
            .admit(newcomer, "127.0.0.1:9", Duration::from_secs(60));
        let moving = async {
            while group.status().learners.is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let next = if leader == 1 { 2 } else { 1 };
            group.transfer_leader(next, Duration::from_secs(10)).await
        };
        let (admitted, moved) = tokio::join!(admission, moving);
        moved.unwrap();
        admitted
    });
    assert!(
        matches!(admitted, Err(AdminError::NotLeader { .. })),
        "{admitted:?}"
    );
    nodes.no_aborts();
}

#[test]
fn nodes_join_and_leave() {
    let mut nodes = Nodes::new(3, false).started();
    nodes.put(1, 0);
    let peers: BTreeMap<u64, String> = nodes.nodes[&1].config.peers.clone();
    let mut fourth = Node::new(4, &peers, false);
    fourth.start();
    fourth.formed();
    nodes.nodes.insert(4, fourth);
    wait_for("votes of the fourth", Duration::from_secs(20), || {
        (0..=2).all(|group| nodes.node(1).group(group).status().voters.len() == 4)
    });
    nodes.put(1, 1);
    assert_eq!(nodes.converged(1, 2), [0, 1]);
    assert_eq!(nodes.node(3).consensus().members().len(), 4);

    // Node 1 goes, by the wish of node 4, dead or alive.
    nodes.node(1).kill();
    nodes.leader(0);
    let removed = {
        let node = &nodes.nodes[&4];
        node.block_on(node.consensus().remove_node(1, Duration::from_secs(20)))
    };
    removed.unwrap();
    // The leaders have removed it; node 4, which may follow, learns of it a moment later.
    wait_for("the removal at node 4", Duration::from_secs(20), || {
        (0..=2).all(|group| nodes.node(4).group(group).status().voters.len() == 3)
    });
    nodes.put(1, 2);
    assert_eq!(nodes.converged(1, 3), [0, 1, 2]);
    nodes.no_aborts();
}

#[test]
fn a_node_joins_although_the_first_that_it_asks_was_removed() {
    let mut nodes = Nodes::new(4, false).started();
    nodes.put(1, 0);
    let peers: BTreeMap<u64, String> = nodes.nodes[&1].config.peers.clone();
    nodes.node(1).kill();
    let node = &nodes.nodes[&2];
    let removed = node.block_on(node.consensus().remove_node(1, Duration::from_secs(20)));
    removed.unwrap();
    // It does not know that, and answers whoever asks.
    nodes.node(1).start();
    let mut fifth = Node::new(5, &peers, false);
    fifth
        .config
        .join
        .sort_by_key(|address| *address != peers[&1]);
    fifth.start();
    fifth.formed();
    wait_for("votes of the fifth", Duration::from_secs(20), || {
        (0..=2).all(|group| {
            let status = fifth.group(group).status();
            status.voters.iter().any(|voter| voter.node() == 5)
        })
    });
    nodes.no_aborts();
}

#[test]
fn a_node_that_fails_when_its_groups_run_ends() {
    let mut nodes = Nodes::new(3, false).started();
    let error = StartError::Refused("it was removed".to_owned());
    let node = nodes.node(1);
    node.consensus().inner.fail(error);
    let aborts = node.aborts.lock().clone();
    assert!(
        matches!(aborts.as_slice(), [why] if why.contains("it was removed")),
        "{aborts:?}"
    );
    let formed = node.block_on(node.consensus().formed());
    assert!(formed.is_err());
}

#[test]
fn a_node_that_is_still_joining_can_be_removed() {
    let mut nodes = Nodes::new(3, false).started();
    nodes.put(1, 0);
    let peers: BTreeMap<u64, String> = nodes.nodes[&1].config.peers.clone();
    let mut fourth = Node::new(4, &peers, false);
    fourth.start();
    fourth.formed();
    let member = RaftNode::new(4, 0);
    let node = &nodes.nodes[&2];
    let known = |node: &Node| node.consensus().is_known(4);
    wait_for("the newcomer", Duration::from_secs(20), || known(node));
    // At a random point of its admission.
    fourth.kill();
    let removed = node.block_on(async {
        node.consensus()
            .remove_node(4, Duration::from_secs(30))
            .await
    });
    removed.unwrap();
    for id in 1..=3 {
        wait_for("the removal", Duration::from_secs(10), || {
            !known(&nodes.nodes[&id])
        });
    }
    std::thread::sleep(Duration::from_secs(2));
    for group in 0..=2 {
        let status = nodes.node(1).group(group).status();
        assert!(!status.voters.contains(&member), "{status:?}");
        assert!(!status.learners.contains(&member), "{status:?}");
    }
    nodes.put(1, 1);
    nodes.no_aborts();
}

#[test]
fn a_node_that_stops_takes_no_leadership() {
    let nodes = Nodes::new(3, false).started();
    nodes.put(1, 0);
    nodes.converged(1, 1);
    let leader = nodes.leader(1);
    let stopping = leader % 3 + 1;
    nodes.nodes[&stopping].consensus().set_stopping();
    let node = &nodes.nodes[&leader];
    let group = node.group(1);
    let moved = node.block_on(group.transfer_leader(stopping, Duration::from_secs(3)));
    assert!(
        matches!(&moved, Err(AdminError::Refused(why)) if why.contains("stopping")),
        "{moved:?}"
    );
    assert_eq!(nodes.leader(1), leader);
    nodes.no_aborts();
}

#[test]
fn leaderships_are_handed_over_before_a_stop() {
    let mut nodes = Nodes::new(3, false).started();
    for group in 0..=2 {
        nodes.put(group, 0);
    }
    let leader = nodes.leader(1);
    let started = Instant::now();
    nodes.node(leader).stop();
    for group in 0..=2 {
        nodes.put(group, 1);
    }
    assert!(
        started.elapsed() < Duration::from_secs(4),
        "{:?}",
        started.elapsed()
    );
    nodes.no_aborts();
}

#[test]
fn strangers_stay_outside() {
    let nodes = Nodes::new(2, false).started();
    let peers = nodes.nodes[&1].config.peers.clone();
    let mut stranger = Node::new(9, &peers, false);
    stranger.config.secret = Secret::new("another secret");
    stranger.start();
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(stranger.consensus().identity().cluster, None);

    // The right secret, but a taken node id.
    let mut double = Node::new(2, &peers, false);
    double.config.listen = free_address();
    double.config.peers = BTreeMap::new();
    double.config.join = vec![peers[&1].clone()];
    double.start();
    let formed = double.block_on(async {
        tokio::time::timeout(Duration::from_secs(20), double.consensus().formed()).await
    });
    assert!(
        matches!(formed, Ok(Err(StartError::Refused(_)))),
        "{formed:?}"
    );
    nodes.no_aborts();
}

#[test]
fn a_copy_of_a_running_node_ends_and_the_node_goes_on() {
    let mut nodes = Nodes::new(3, true).started();
    nodes.put(1, 0);
    nodes.node(2).kill();
    let mut copy = nodes.node(2).copy();
    nodes.node(2).start();
    nodes.put(1, 1);
    assert_eq!(nodes.converged(1, 2), [0, 1]);
    wait_for("its heartbeats", Duration::from_secs(10), || {
        let connected = nodes.nodes[&1].consensus().peers().connectivity();
        connected.borrow().get(&2) == Some(&Connectivity::Connected)
    });
    copy.start();
    wait_for("the end of the copy", Duration::from_secs(20), || {
        let aborts = copy.aborts.lock();
        aborts
            .iter()
            .any(|reason| reason.contains("another process runs with this node's id 2"))
    });
    copy.kill();
    nodes.put(1, 2);
    assert_eq!(nodes.converged(1, 3), [0, 1, 2]);
    nodes.no_aborts();
}

#[test]
fn a_node_that_was_away_too_long_gets_a_snapshot() {
    let checkpoint = CheckpointPolicy {
        log_bytes: 4_000,
        keep_bytes: 0,
        lag_bytes: 0,
        purge_step: 1_000,
        ..CheckpointPolicy::default()
    };
    let mut nodes = Nodes::new(3, true)
        .configure(&Timing::default(), &checkpoint)
        .started();
    nodes.put(1, 0);
    let away = nodes.leader(1) % 3 + 1;
    nodes.node(away).kill();
    for number in 1..3000 {
        nodes.put(1, number);
    }
    let leader = nodes.leader(1);
    wait_for("a purge", Duration::from_secs(20), || {
        nodes.nodes[&leader].group(1).status().purged.is_some()
    });
    nodes.node(away).start();
    assert_eq!(nodes.converged(1, 3000), (0..3000).collect::<Vec<u64>>());
    assert!(nodes.node(away).group(1).status().checkpoint.is_some());
    nodes.node(away).kill();
    nodes.node(away).start();
    nodes.put(1, 3000);
    assert_eq!(nodes.converged(1, 3001).len(), 3001);
    nodes.no_aborts();
}
