//! Snapshots that meet something else on their way: the death of their sender, a checkpoint that is
//! being written.

use super::{SimCluster, SimOptions};
use crate::config::CheckpointPolicy;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// No mercy for followers: as soon as there is a checkpoint, what it covers goes.
fn options() -> SimOptions {
    SimOptions {
        checkpoint: CheckpointPolicy {
            keep_bytes: 0,
            lag_bytes: 0,
            purge_step: 0,
            ..CheckpointPolicy::default()
        },
        ..SimOptions::default()
    }
}

/// A gate that is kept shut by a thread of its own: a guard must not live over an await.
struct Shut {
    open: std::sync::mpsc::Sender<()>,
    holder: std::thread::JoinHandle<()>,
}

impl Shut {
    fn new(gate: &Arc<Mutex<()>>) -> Self {
        let gate = Arc::clone(gate);
        let (open, opened) = std::sync::mpsc::channel::<()>();
        let (shut, is_shut) = std::sync::mpsc::channel();
        let holder = std::thread::spawn(move || {
            let _held = gate.lock();
            shut.send(()).unwrap();
            let _ = opened.recv();
        });
        is_shut.recv().unwrap();
        Self { open, holder }
    }

    fn open(self) {
        self.open.send(()).unwrap();
        self.holder.join().unwrap();
    }
}

async fn counted(what: &str, count: &AtomicU64) {
    let until = tokio::time::Instant::now() + Duration::from_secs(20);
    while count.load(Ordering::Relaxed) == 0 {
        assert!(tokio::time::Instant::now() < until, "in vain for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Proposes until the leader has purged what it had before; returns the next number.
async fn fill_until_purged(cluster: &SimCluster, leader: u64, mut number: u64) -> u64 {
    let before = cluster.group(leader).status().last_log;
    while cluster.group(leader).status().purged <= before {
        cluster.put(number).await;
        number += 1;
        cluster.group(leader).trigger_checkpoint();
    }
    number
}

async fn all_have(cluster: &SimCluster, numbers: u64) {
    let expected: Vec<u64> = (0..numbers).collect();
    assert_eq!(cluster.converged(expected.len()).await, expected);
    let aborts = cluster.aborts.lock();
    assert!(aborts.is_empty(), "{aborts:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_is_installed_although_its_sender_dies() {
    let mut cluster = SimCluster::start(17, options()).await;
    let leader = cluster.leader().await;
    let lagging = leader % 3 + 1;
    cluster.crash(lagging, 0).await;
    let number = fill_until_purged(&cluster, leader, 0).await;
    let disk = Arc::clone(&cluster.nodes[&lagging].disk);
    let gate = Shut::new(&disk.gate);
    cluster.start_node(lagging).await;
    counted("a snapshot", &disk.installing).await;
    cluster.crash(leader, 0).await;
    gate.open();
    // The two that are left have to be a majority.
    cluster.put(number).await;
    cluster.start_node(leader).await;
    all_have(&cluster, number + 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_under_way_does_not_overwrite_a_snapshot() {
    let mut cluster = SimCluster::start(18, options()).await;
    let leader = cluster.leader().await;
    let lagging = leader % 3 + 1;
    cluster.put(0).await;
    cluster.converged(1).await;
    let disk = Arc::clone(&cluster.nodes[&lagging].disk);
    let gate = Shut::new(&disk.checkpoint_gate);
    cluster.group(lagging).trigger_checkpoint();
    counted("a checkpoint", &disk.checkpointing).await;
    cluster.net.cut(leader, lagging);
    let number = fill_until_purged(&cluster, leader, 1).await;
    cluster.net.heal();
    // The snapshot arrives, and waits for the checkpoint; if it did not wait it would be there by then.
    let machine = cluster.machine(lagging);
    let until = tokio::time::Instant::now() + Duration::from_secs(3);
    while machine.numbers().len() < 2 && tokio::time::Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    gate.open();
    let until = tokio::time::Instant::now() + Duration::from_secs(20);
    while (machine.numbers().len() as u64) < number {
        assert!(tokio::time::Instant::now() < until, "it does not catch up");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    cluster.crash(lagging, 0).await;
    cluster.start_node(lagging).await;
    cluster.put(number).await;
    all_have(&cluster, number + 1).await;
}

/// Each view is taken where entries are applied; a member that is down gains nothing by it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_views_are_taken_for_a_member_that_is_down() {
    let mut cluster = SimCluster::start(19, options()).await;
    let leader = cluster.leader().await;
    let lagging = leader % 3 + 1;
    cluster.crash(lagging, 0).await;
    let mut number = fill_until_purged(&cluster, leader, 0).await;
    // What is sent next is gone.
    number = fill_until_purged(&cluster, leader, number).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let disk = Arc::clone(&cluster.nodes[&leader].disk);
    let before = disk.views.load(Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let taken = disk.views.load(Ordering::Relaxed) - before;
    assert!(taken <= 2, "{taken} views");
    assert_eq!(cluster.leader().await, leader);
    cluster.start_node(lagging).await;
    let started = tokio::time::Instant::now();
    all_have(&cluster, number).await;
    let took = started.elapsed();
    assert!(took < Duration::from_secs(3), "{took:?}");
}
