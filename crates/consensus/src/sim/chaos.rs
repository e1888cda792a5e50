//! Random faults from a seed, then healing: nothing accepted is lost, nothing refused appears, all
//! replicas agree, and the cluster works again.
//!
//! `WARREN_SEED=n` runs one seed, `WARREN_SEEDS=n` that many.

use super::net::Weather;
use super::{SimCluster, SimOptions};
use crate::config::{CheckpointPolicy, Limits};
use crate::error::ProposeError;
use crate::group::Group;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// What clients know about their proposals.
#[derive(Default)]
struct Outcomes {
    accepted: BTreeSet<u64>,
    refused: BTreeSet<u64>,
    unknown: BTreeSet<u64>,
}

/// Numbers of one client.
const PER_CLIENT: u64 = 1_000_000;
const CLIENTS: u64 = 4;

fn seeds() -> Vec<u64> {
    let number = |name| {
        std::env::var(name)
            .ok()
            .and_then(|text| text.parse::<u64>().ok())
    };
    match (number("WARREN_SEED"), number("WARREN_SEEDS")) {
        (Some(seed), _) => vec![seed],
        (None, count) => (1..=count.unwrap_or(5)).collect(),
    }
}

#[test]
fn nothing_accepted_is_lost_whatever_fails() {
    for seed in seeds() {
        println!("seed {seed}");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(run(seed));
    }
}

async fn run(seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let options = SimOptions {
        nodes: if random.random_bool(0.3) { 5 } else { 3 },
        limits: Limits {
            // Small, so that the store is read as well.
            tail_bytes_per_group: random.random_range(500..200_000),
            append_bytes: random.random_range(300..50_000),
            append_entries: random.random_range(1..100),
            append_in_flight: random.random_range(1..64),
            ..Limits::default()
        },
        checkpoint: CheckpointPolicy {
            log_bytes: random.random_range(2_000..100_000),
            dirty_for: Duration::from_millis(random.random_range(500..5_000)),
            keep_bytes: random.random_range(0..20_000),
            lag_bytes: random.random_range(0..200_000),
            purge_step: random.random_range(0..10_000),
            ..CheckpointPolicy::default()
        },
        payload: 64,
        ..SimOptions::default()
    };
    let mut cluster = SimCluster::start(seed, options).await;
    let disks = Disks::start(&cluster, seed);
    let stop = Arc::new(AtomicBool::new(false));
    let outcomes: Arc<Mutex<Outcomes>> = Arc::default();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let (groups, stop, outcomes) = (
                Arc::clone(&cluster.groups),
                Arc::clone(&stop),
                Arc::clone(&outcomes),
            );
            tokio::spawn(run_client(client, groups, stop, outcomes))
        })
        .collect();
    for _ in 0..random.random_range(10..40) {
        fault(&mut cluster, &disks, &mut random).await;
        sleep(Duration::from_millis(random.random_range(1..1500))).await;
    }

    cluster.net.heal();
    let all: Vec<u64> = cluster.nodes.keys().copied().collect();
    for node in &all {
        if cluster.nodes[node].running.is_none() {
            cluster.start_node(*node).await;
            disks.replace(&cluster, *node);
        }
        cluster.machine(*node).slow_ms.store(0, Ordering::Relaxed);
    }
    // Liveness: it accepts again, soon.
    let last = CLIENTS * PER_CLIENT;
    timeout(Duration::from_secs(15), cluster.put(last))
        .await
        .expect("the cluster works again");
    sleep(Duration::from_secs(1)).await;
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        timeout(Duration::from_secs(60), client)
            .await
            .expect("every proposal has an outcome")
            .unwrap();
    }
    timeout(Duration::from_secs(15), cluster.put(last + 1))
        .await
        .expect("the cluster works");
    let numbers = cluster.converged(1).await;
    judge(seed, &numbers, &outcomes.lock());
    let aborts = cluster.aborts.lock().clone();
    assert!(aborts.is_empty(), "seed {seed}: {aborts:?}");
}

fn judge(seed: u64, numbers: &[u64], outcomes: &Outcomes) {
    let seen: BTreeSet<u64> = numbers.iter().copied().collect();
    // `put` may have proposed its number more than once.
    let clients: Vec<u64> = numbers
        .iter()
        .copied()
        .filter(|number| *number < CLIENTS * PER_CLIENT)
        .collect();
    let unique: BTreeSet<u64> = clients.iter().copied().collect();
    assert_eq!(clients.len(), unique.len(), "seed {seed}: applied twice");
    let lost: Vec<_> = outcomes.accepted.difference(&seen).collect();
    assert!(lost.is_empty(), "seed {seed}: accepted and lost: {lost:?}");
    let ghosts: Vec<_> = outcomes.refused.intersection(&seen).collect();
    assert!(
        ghosts.is_empty(),
        "seed {seed}: refused and applied: {ghosts:?}"
    );
    // A client waits for each outcome, so its numbers come in order.
    for client in 0..CLIENTS {
        let own = numbers
            .iter()
            .filter(|number| **number / PER_CLIENT == client);
        assert!(own.is_sorted(), "seed {seed}: out of order");
    }
    println!(
        "seed {seed}: {} applied, {} accepted, {} refused, {} unknown",
        numbers.len(),
        outcomes.accepted.len(),
        outcomes.refused.len(),
        outcomes.unknown.len()
    );
    assert!(
        outcomes.accepted.len() > 20,
        "seed {seed}: hardly anything was accepted"
    );
}

async fn run_client(
    client: u64,
    groups: Arc<Mutex<BTreeMap<u64, Group>>>,
    stop: Arc<AtomicBool>,
    outcomes: Arc<Mutex<Outcomes>>,
) {
    let mut number = client * PER_CLIENT;
    while !stop.load(Ordering::Relaxed) {
        let leader = {
            let groups = groups.lock();
            let claims = |group: &&Group| group.leadership().borrow().leader == Some(group.me());
            groups
                .values()
                .find(claims)
                .or_else(|| groups.values().next())
                .cloned()
        };
        let Some(leader) = leader else {
            sleep(Duration::from_millis(20)).await;
            continue;
        };
        // Several at once, each with its own outcome.
        let first = number;
        let proposals: Vec<_> = (0..3)
            .map(|more| leader.propose(super::cluster::payload(first + more, 64)))
            .collect();
        number += 3;
        for (own, proposal) in (first..).zip(proposals) {
            let result = proposal.await;
            let mut outcomes = outcomes.lock();
            match result {
                Ok(_) => outcomes.accepted.insert(own),
                Err(ProposeError::Unknown) => outcomes.unknown.insert(own),
                Err(_) => outcomes.refused.insert(own),
            };
        }
        sleep(Duration::from_millis(5)).await;
    }
}

/// Syncs the logs of all nodes, each after a random time.
struct Disks {
    logs: Arc<Mutex<BTreeMap<u64, storage::MemoryLog>>>,
}

impl Disks {
    fn start(cluster: &SimCluster, seed: u64) -> Self {
        let logs: BTreeMap<u64, storage::MemoryLog> = cluster
            .nodes
            .iter()
            .map(|(node, state)| (*node, state.log.clone()))
            .collect();
        for log in logs.values() {
            log.set_manual(true);
        }
        let nodes: Vec<u64> = logs.keys().copied().collect();
        let disks = Self {
            logs: Arc::new(Mutex::new(logs)),
        };
        for node in nodes {
            let logs = Arc::clone(&disks.logs);
            let mut random = StdRng::seed_from_u64(seed ^ (node << 32));
            tokio::spawn(async move {
                loop {
                    let slow = random.random_bool(0.02);
                    let micros = if slow {
                        random.random_range(0..60_000)
                    } else {
                        random.random_range(50..3_000)
                    };
                    sleep(Duration::from_micros(micros)).await;
                    let log = logs.lock().get(&node).cloned();
                    if let Some(log) = log {
                        log.sync();
                    }
                }
            });
        }
        disks
    }

    fn replace(&self, cluster: &SimCluster, node: u64) {
        let log = cluster.nodes[&node].log.clone();
        log.set_manual(true);
        self.logs.lock().insert(node, log);
    }
}

async fn fault(cluster: &mut SimCluster, disks: &Disks, random: &mut StdRng) {
    let nodes: Vec<u64> = cluster.nodes.keys().copied().collect();
    let some = |random: &mut StdRng| nodes[random.random_range(0..nodes.len())];
    match random.random_range(0..12) {
        // More than a minority may be down: it is about safety until the end.
        0..=2 => {
            let node = some(random);
            if cluster.nodes[&node].running.is_some() {
                let survivors = random.random_range(0..4);
                cluster.crash(node, survivors).await;
            }
        }
        3..=5 => {
            let node = some(random);
            if cluster.nodes[&node].running.is_none() {
                cluster.start_node(node).await;
                disks.replace(cluster, node);
            }
        }
        6 => {
            let (from, to) = (some(random), some(random));
            cluster.net.cut(from, to);
            if random.random_bool(0.7) {
                cluster.net.cut(to, from);
            }
        }
        7 => {
            let alone = some(random);
            for node in &nodes {
                cluster.net.cut(alone, *node);
                cluster.net.cut(*node, alone);
            }
        }
        8 => cluster.net.set_weather(Weather {
            delay_us: (100, random.random_range(200..100_000)),
            breaks_per_mille: random.random_range(0..100),
            lost_per_mille: random.random_range(0..50),
        }),
        9 => cluster.net.heal(),
        10 => {
            let target = some(random);
            let leader = cluster
                .groups
                .lock()
                .values()
                .find(|group| group.leadership().borrow().ready)
                .cloned();
            if let Some(leader) = leader {
                let _ = leader
                    .transfer_leader(target, Duration::from_millis(800))
                    .await;
            }
        }
        _ => {
            let group = cluster.groups.lock().get(&some(random)).cloned();
            if let Some(group) = group {
                // As when its process is taken for dead although it may live.
                let leader = group.leadership().borrow().leader;
                if let Some(leader) = leader {
                    group.0.replace_dead_leader(leader).await;
                }
                group.trigger_checkpoint();
            }
        }
    }
}
