//! Changes of a group's voters whose second step is never made by whoever made the first.

use super::{SimCluster, SimOptions};
use crate::types::RaftNode;
use std::collections::BTreeSet;
use std::time::Duration;

/// Takes one node's vote at the leader, and is gone when the first step is done. Returns who is left to vote.
async fn half_removed(cluster: &SimCluster, leader: u64, removed: u64) -> BTreeSet<RaftNode> {
    let voters: BTreeSet<RaftNode> = cluster
        .running()
        .filter(|(node, _)| *node != removed)
        .map(|(node, _)| RaftNode::new(node, 0))
        .collect();
    let group = cluster.group(leader);
    let mut applied = group.applied();
    let half_done = async {
        while !group.0.is_changing() {
            applied.changed().await.unwrap();
        }
    };
    tokio::select! {
        biased;
        () = half_done => {}
        done = group.0.change_voters(&voters) => panic!("both steps at once: {done:?}"),
    }
    assert!(!group.0.has_settled(group.me()));
    voters
}

async fn all_have_settled(cluster: &SimCluster, voters: &BTreeSet<RaftNode>) {
    let until = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        let mut running = cluster.running();
        let settled = running.all(|(node, running)| {
            let member = RaftNode::new(node, 0);
            let group = &running.group;
            !voters.contains(&member)
                || group.0.has_settled(member)
                    && group.status().voters == voters.iter().copied().collect::<Vec<_>>()
        });
        if settled {
            return;
        }
        assert!(
            tokio::time::Instant::now() < until,
            "still between two sets"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn four() -> (SimCluster, u64, u64) {
    let options = SimOptions {
        nodes: 4,
        ..SimOptions::default()
    };
    let cluster = SimCluster::start(31, options).await;
    let leader = cluster.leader().await;
    cluster.put(0).await;
    (cluster, leader, leader % 4 + 1)
}

#[tokio::test]
async fn a_change_whose_caller_is_gone_is_finished() {
    let (cluster, leader, removed) = four().await;
    let voters = half_removed(&cluster, leader, removed).await;
    all_have_settled(&cluster, &voters).await;
    cluster.put(1).await;
    assert!(cluster.aborts.lock().is_empty());
}

#[tokio::test]
async fn a_change_whose_leader_dies_half_way_is_finished_by_the_next() {
    let (mut cluster, leader, removed) = four().await;
    let voters = half_removed(&cluster, leader, removed).await;
    cluster.crash(leader, 0).await;
    all_have_settled(&cluster, &voters).await;
    cluster.start_node(leader).await;
    all_have_settled(&cluster, &voters).await;
    cluster.put(1).await;
    let aborts = cluster.aborts.lock();
    assert!(aborts.is_empty(), "{aborts:?}");
}
