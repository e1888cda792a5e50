//! Replication, restarts, hand-over and members without faults of the network.

use super::{SimCluster, SimOptions};
use crate::config::CheckpointPolicy;
use crate::error::{AdminError, ProposeError, ReadError};
use crate::types::RaftNode;
use std::sync::atomic::Ordering;
use std::time::Duration;

#[tokio::test]
async fn entries_reach_all_members_in_order() {
    let cluster = SimCluster::start(1, SimOptions::default()).await;
    let leader = cluster.leader().await;
    let group = cluster.group(leader);
    // Proposed without waiting in between: calls in order are entries in order.
    let proposed: Vec<_> = (0..500)
        .map(|number| group.propose(cluster.payload(number)))
        .collect();
    let mut last = 0;
    for (count, proposed) in (1..).zip(proposed) {
        let proposed = proposed.await.unwrap();
        assert!(proposed.index > last);
        last = proposed.index;
        assert_eq!(proposed.reply.as_ref(), u64::to_be_bytes(count));
    }
    assert_eq!(cluster.converged(500).await, (0..500).collect::<Vec<u64>>());
    assert_eq!(group.commit_latencies().buckets.iter().sum::<u64>(), 500);
    assert!(cluster.aborts.lock().is_empty());
}

#[tokio::test]
async fn followers_refuse_and_know_the_leader() {
    let cluster = SimCluster::start(2, SimOptions::default()).await;
    let leader = cluster.leader().await;
    cluster.put(1).await;
    for node in [1, 2, 3].into_iter().filter(|node| *node != leader) {
        let follower = cluster.group(node);
        let refused = follower.propose(cluster.payload(2)).await;
        let expected = Some(RaftNode::new(leader, 0));
        assert_eq!(refused, Err(ProposeError::NotLeader { leader: expected }));
        // But any node can read what was acknowledged.
        let index = follower.read_index(Duration::from_secs(2)).await.unwrap();
        follower
            .wait_applied(index, Duration::from_secs(2))
            .await
            .unwrap();
        assert_eq!(cluster.machine(node).numbers(), [1]);
    }
    let wrong_term = cluster.group(leader);
    let term = wrong_term.leadership().borrow().term;
    assert!(matches!(
        wrong_term
            .propose_in_term(cluster.payload(3), term + 1)
            .await,
        Err(ProposeError::NotLeader { .. })
    ));
    wrong_term
        .propose_in_term(cluster.payload(3), term)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_restarted_cluster_has_everything() {
    let mut cluster = SimCluster::start(3, SimOptions::default()).await;
    for number in 0..50 {
        cluster.put(number).await;
    }
    cluster.converged(50).await;
    for node in 1..=3 {
        cluster.group(node).trigger_checkpoint();
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    for number in 50..80 {
        cluster.put(number).await;
    }
    cluster.converged(80).await;
    for node in 1..=3 {
        assert!(cluster.group(node).status().checkpoint.is_some());
        cluster.crash(node, 0).await;
    }
    for node in 1..=3 {
        cluster.start_node(node).await;
    }
    cluster.put(80).await;
    assert_eq!(cluster.converged(81).await, (0..81).collect::<Vec<u64>>());
}

#[tokio::test]
async fn leadership_is_handed_over_under_load_without_loss() {
    let cluster = SimCluster::start(4, SimOptions::default()).await;
    let mut number = 0;
    for _ in 0..4 {
        let leader = cluster.leader().await;
        let group = cluster.group(leader);
        let target = leader % 3 + 1;
        let load = {
            let group = group.clone();
            let first = number;
            let payloads: Vec<_> = (first..first + 200)
                .map(|number| cluster.payload(number))
                .collect();
            tokio::spawn(async move {
                let mut accepted = Vec::new();
                for (number, payload) in (first..).zip(payloads) {
                    if group.propose(payload).await.is_ok() {
                        accepted.push(number);
                    }
                }
                accepted
            })
        };
        tokio::time::sleep(Duration::from_millis(20)).await;
        let started = tokio::time::Instant::now();
        group
            .transfer_leader(target, Duration::from_secs(3))
            .await
            .unwrap();
        assert!(
            started.elapsed() < Duration::from_millis(500),
            "{:?}",
            started.elapsed()
        );
        assert_eq!(cluster.leader().await, target);
        let accepted = load.await.unwrap();
        let numbers = cluster.converged(accepted.len()).await;
        assert!(accepted.iter().all(|number| numbers.contains(number)));
        number += 200;
    }
    let leader = cluster.leader().await;
    let refused = cluster
        .group(leader)
        .transfer_leader(9, Duration::from_secs(1))
        .await;
    assert!(matches!(refused, Err(AdminError::Refused(_))));
}

#[tokio::test]
async fn a_hand_over_to_a_dead_node_leaves_the_leader_working() {
    let mut cluster = SimCluster::start(5, SimOptions::default()).await;
    let leader = cluster.leader().await;
    cluster.put(1).await;
    let dead = leader % 3 + 1;
    cluster.crash(dead, 0).await;
    cluster.put(2).await;
    let failed = cluster
        .group(leader)
        .transfer_leader(dead, Duration::from_millis(700))
        .await;
    assert!(failed.is_err());
    cluster.put(3).await;
    assert_eq!(cluster.leader().await, leader);
}

#[tokio::test]
async fn a_leader_without_a_quorum_stops_being_ready() {
    let mut cluster = SimCluster::start(6, SimOptions::default()).await;
    let leader = cluster.leader().await;
    cluster.put(1).await;
    for node in (1..=3).filter(|node| *node != leader) {
        cluster.crash(node, 0).await;
    }
    let group = cluster.group(leader);
    let mut leadership = group.leadership();
    let lost = leadership.wait_for(|now| !now.ready);
    tokio::time::timeout(Duration::from_secs(2), lost)
        .await
        .unwrap()
        .unwrap();
    let read = group.read_index(Duration::from_millis(300)).await;
    assert_eq!(read, Err(ReadError::NoLeader));
}

/// Another leader than `old`, and how long it took.
async fn next_leader(cluster: &SimCluster, old: u64) -> (u64, Duration) {
    let started = tokio::time::Instant::now();
    loop {
        let ready = cluster
            .running()
            .find(|(node, running)| *node != old && running.group.leadership().borrow().ready)
            .map(|(node, _)| node);
        if let Some(new) = ready {
            return (new, started.elapsed());
        }
        assert!(
            started.elapsed() < Duration::from_secs(10),
            "no other leader than {old}"
        );
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_cut_off_is_replaced_in_time() {
    let mut twice = 0;
    for seed in 20..25 {
        let cluster = SimCluster::start(seed, SimOptions::default()).await;
        cluster.put(1).await;
        let old = cluster.leader().await;
        for other in (1..=3).filter(|node| *node != old) {
            cluster.net.cut(old, other);
            cluster.net.cut(other, old);
        }
        let mut leadership = cluster.group(old).leadership();
        let (new, took) = next_leader(&cluster, old).await;
        // The two that are left may vote for themselves at the same moment, and have to do it again.
        assert!(took < Duration::from_secs(4), "{took:?}");
        twice += u32::from(took >= Duration::from_millis(1500));
        // Never two that are ready.
        assert!(!leadership.borrow_and_update().ready);
        cluster
            .group(new)
            .propose(cluster.payload(2))
            .await
            .unwrap();
        cluster.net.heal();
        assert_eq!(cluster.converged(2).await, [1, 2]);
        assert_eq!(
            cluster.leader().await,
            new,
            "one that returns does not disturb"
        );
    }
    assert!(twice <= 1, "{twice} of 5 needed a second election");
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_speaks_but_does_not_hear_is_replaced() {
    for seed in 30..60 {
        let cluster = SimCluster::start(seed, SimOptions::default()).await;
        cluster.put(1).await;
        let old = cluster.leader().await;
        for other in (1..=3).filter(|node| *node != old) {
            cluster.net.cut(other, old);
        }
        let (new, took) = next_leader(&cluster, old).await;
        println!("one-way cut, seed {seed}: {took:?}");
        // It gives up when its lease is over, and the others need not wait for theirs.
        assert!(took < Duration::from_millis(1000), "{took:?}");
        cluster
            .group(new)
            .propose(cluster.payload(2))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn one_node_alone_is_a_group() {
    let options = SimOptions {
        nodes: 1,
        ..SimOptions::default()
    };
    let mut cluster = SimCluster::start(7, options).await;
    for number in 0..20 {
        cluster.put(number).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(
        cluster.group(1).leadership().borrow().ready,
        "alone it needs to hear nobody"
    );
    let index = cluster
        .group(1)
        .read_index(Duration::from_secs(1))
        .await
        .unwrap();
    cluster
        .group(1)
        .wait_applied(index, Duration::from_secs(1))
        .await
        .unwrap();
    cluster.crash(1, 0).await;
    cluster.start_node(1).await;
    cluster.put(20).await;
    assert_eq!(cluster.converged(21).await.len(), 21);
}

#[tokio::test]
async fn a_node_that_was_away_too_long_gets_a_snapshot() {
    let options = SimOptions {
        checkpoint: CheckpointPolicy {
            log_bytes: 1 << 20,
            keep_bytes: 0,
            lag_bytes: 0,
            purge_step: 1 << 20,
            ..CheckpointPolicy::default()
        },
        payload: 10_000,
        ..SimOptions::default()
    };
    let mut cluster = SimCluster::start(8, options).await;
    cluster.put(0).await;
    cluster.converged(1).await;
    let leader = cluster.leader().await;
    let away = leader % 3 + 1;
    cluster.crash(away, 0).await;
    for number in 1..400 {
        cluster.put(number).await;
    }
    for node in (1..=3).filter(|node| *node != away) {
        cluster.group(node).trigger_checkpoint();
    }
    let mut purged = false;
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        purged |= cluster.group(leader).status().purged.is_some();
    }
    assert!(purged, "{:?}", cluster.group(leader).status());
    cluster.start_node(away).await;
    for number in 400..420 {
        cluster.put(number).await;
    }
    assert_eq!(cluster.converged(420).await, (0..420).collect::<Vec<u64>>());
    let status = cluster.group(away).status();
    assert!(status.purged.is_some(), "it came by snapshot: {status:?}");
    // And what it received is durable.
    cluster.crash(away, 0).await;
    cluster.start_node(away).await;
    cluster.put(420).await;
    assert_eq!(cluster.converged(421).await.len(), 421);
    assert!(
        cluster.aborts.lock().is_empty(),
        "{:?}",
        cluster.aborts.lock()
    );
}

#[tokio::test]
async fn log_kept_for_an_absent_member_goes_when_space_is_short() {
    let options = SimOptions {
        checkpoint: CheckpointPolicy {
            keep_bytes: 0,
            purge_step: 1 << 20,
            ..CheckpointPolicy::default()
        },
        payload: 10_000,
        ..SimOptions::default()
    };
    let mut cluster = SimCluster::start(8, options).await;
    cluster.put(0).await;
    cluster.converged(1).await;
    let leader = cluster.leader().await;
    let away = leader % 3 + 1;
    let here: Vec<u64> = (1..=3).filter(|node| *node != away).collect();
    cluster.crash(away, 0).await;
    for number in 1..400 {
        cluster.put(number).await;
    }
    for node in &here {
        cluster.group(*node).trigger_checkpoint();
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    let purged = |cluster: &SimCluster, node: u64| {
        let purged = cluster.group(node).status().purged;
        purged.is_some_and(|purged| purged.index > 100)
    };
    assert!(!purged(&cluster, leader), "the log is kept for who is away");
    for node in &here {
        let group = cluster.group(*node);
        let environment = group.0.environment();
        environment.short.store(true, Ordering::Relaxed);
    }
    for _ in 0..300 {
        if here.iter().all(|node| purged(&cluster, *node)) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for node in &here {
        assert!(
            purged(&cluster, *node),
            "{:?}",
            cluster.group(*node).status()
        );
    }
    cluster.start_node(away).await;
    for number in 400..420 {
        cluster.put(number).await;
    }
    assert_eq!(cluster.converged(420).await, (0..420).collect::<Vec<u64>>());
}
