//! Nodes that are far from each other, or from their disks: elections take long, and end all the same.

use super::cluster::{SimCluster, SimOptions};
use super::net::Weather;
use crate::clock;
use std::time::Duration;
use storage::MemoryLog;

/// Between one and two of the seconds that messages take in all, and more than an election is given by configuration.
const WITHIN: Duration = Duration::from_secs(20);

fn far(from_ms: u64, to_ms: u64) -> Weather {
    Weather {
        delay_us: (from_ms * 1000, to_ms * 1000),
        ..Weather::CALM
    }
}

/// Whoever leads now goes on leading.
async fn is_stable(cluster: &SimCluster, leader: u64, for_s: u64) {
    let term = cluster.group(leader).leadership().borrow().term;
    let mut unready = 0;
    for _ in 0..for_s * 10 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = *cluster.group(leader).leadership().borrow();
        assert_eq!(now.term, term, "another election");
        unready += u64::from(!now.ready);
    }
    assert!(unready < for_s, "not ready {unready} of {for_s}0 times");
}

#[tokio::test(start_paused = true)]
async fn a_cluster_whose_messages_take_long_elects_and_goes_on() {
    for seed in 1..=10 {
        let mut cluster = SimCluster::unformed(seed, SimOptions::default()).await;
        cluster.net.set_weather(far(150, 450));
        cluster.form().await;
        let first = cluster.leader_within(WITHIN).await;
        let first = first.unwrap_or_else(|| panic!("no leader, seed {seed}"));
        cluster.put(1).await;
        is_stable(&cluster, first, 20).await;
        cluster.crash(first, 0).await;
        let second = cluster.leader_within(WITHIN).await;
        assert!(second.is_some(), "nobody follows, seed {seed}");
        cluster.put(2).await;
        cluster.start_node(first).await;
        assert_eq!(cluster.converged(2).await, [1, 2], "seed {seed}");
        assert!(clock::factor() > 1, "what was to be shown, seed {seed}");
        assert!(cluster.aborts.lock().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_was_far_apart_becomes_quick_again() {
    let cluster = SimCluster::start(1, SimOptions::default()).await;
    cluster.put(1).await;
    cluster.net.set_weather(far(400, 500));
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(clock::factor() >= 4, "{}", clock::factor());
    cluster.put(2).await;
    cluster.net.heal();
    tokio::time::sleep(Duration::from_secs(200)).await;
    assert_eq!(clock::factor(), 1);
    // A leader that falls silent is followed as soon as ever.
    let leader = cluster.leader().await;
    for other in (1..=3).filter(|node| *node != leader) {
        cluster.net.cut(leader, other);
        cluster.net.cut(other, leader);
    }
    let lost = tokio::time::Instant::now();
    loop {
        tokio::time::sleep(Duration::from_millis(5)).await;
        let followed = cluster
            .running()
            .any(|(node, running)| node != leader && running.group.leadership().borrow().ready);
        if followed {
            break;
        }
        assert!(lost.elapsed() < Duration::from_secs(4), "nobody follows");
    }
    cluster.net.heal();
    cluster.put(3).await;
    assert_eq!(cluster.converged(3).await, [1, 2, 3]);
}

/// Completes what was written so much later.
fn delay_syncs(log: &MemoryLog, by: Duration) -> tokio::task::JoinHandle<()> {
    log.set_manual(true);
    let log = log.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(by).await;
            log.sync();
        }
    })
}

#[tokio::test(start_paused = true)]
async fn a_leader_is_followed_although_syncs_take_long() {
    for seed in 1..=10 {
        let mut cluster = SimCluster::start(seed, SimOptions::default()).await;
        cluster.put(1).await;
        cluster.converged(1).await;
        let leader = cluster.leader().await;
        let mut disks = Vec::new();
        for node in (1..=3).filter(|node| *node != leader) {
            disks.push(delay_syncs(
                &cluster.nodes[&node].log,
                Duration::from_millis(700),
            ));
        }
        cluster.crash(leader, 0).await;
        let heir = cluster.leader_within(WITHIN).await;
        assert!(heir.is_some(), "nobody follows, seed {seed}");
        cluster.put(2).await;
        cluster.start_node(leader).await;
        assert_eq!(cluster.converged(2).await, [1, 2], "seed {seed}");
        for disk in disks {
            disk.abort();
        }
    }
}

/// Four others elect; the one whose disk is slow is needed by nobody, unless they ask each other at the same moment.
#[test]
fn one_slow_disk_of_five_makes_hardly_an_election_slower() {
    // Each in a thread of its own, as is a process with its clock.
    let elections = (1..=10).map(|seed| {
        let election = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .start_paused(true)
                .build();
            runtime
                .unwrap()
                .block_on(a_leader_dies_beside_a_slow_disk(seed))
        });
        election.join().unwrap()
    });
    let slower = elections.filter(|factor| *factor > 1).count();
    assert!(slower <= 4, "{slower} of 10");
}

/// How much slower the clock for elections is after one, unless it was asked for by the member with the slow disk.
async fn a_leader_dies_beside_a_slow_disk(seed: u64) -> u32 {
    let options = SimOptions {
        nodes: 5,
        ..SimOptions::default()
    };
    let mut cluster = SimCluster::start(seed, options).await;
    cluster.put(1).await;
    cluster.converged(1).await;
    let leader = cluster.leader().await;
    let slow = (1..=5).find(|node| *node != leader).unwrap();
    let disk = delay_syncs(&cluster.nodes[&slow].log, Duration::from_millis(900));
    cluster.crash(leader, 0).await;
    let heir = cluster.leader_within(WITHIN).await;
    assert!(heir.is_some(), "nobody follows, seed {seed}");
    cluster.put(2).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let factor = clock::factor();
    disk.abort();
    cluster.nodes[&slow].log.set_manual(false);
    cluster.start_node(leader).await;
    assert_eq!(cluster.converged(2).await, [1, 2], "seed {seed}");
    if heir == Some(slow) { 1 } else { factor }
}
