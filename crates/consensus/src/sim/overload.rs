//! The recipe of openraft issue 2116: heavy writes, checkpoints and purges all the time, and a
//! follower that keeps needing snapshots while appends go on. There it killed the core; here the
//! core must survive, the follower must catch up, and nothing may be lost.

use super::{SimCluster, SimOptions};
use crate::config::{CheckpointPolicy, Limits};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const RUN: Duration = Duration::from_secs(10);
/// Bytes of a proposal.
const PAYLOAD: usize = 1024;
const WRITERS: u64 = 64;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshots_under_load_do_not_kill_the_core() {
    let options = SimOptions {
        limits: Limits {
            tail_bytes_per_group: 1 << 20,
            ..Limits::default()
        },
        checkpoint: CheckpointPolicy {
            log_bytes: 2 << 20,
            keep_bytes: 0,
            // No mercy for followers: as soon as there is a checkpoint, what it covers goes.
            lag_bytes: 0,
            purge_step: 256 << 10,
            ..CheckpointPolicy::default()
        },
        payload: PAYLOAD,
        ..SimOptions::default()
    };
    let mut cluster = SimCluster::start(11, options).await;
    let leader = cluster.leader().await;
    let stop = Arc::new(AtomicBool::new(false));
    let accepted = Arc::new(AtomicU64::new(0));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let group = cluster.group(leader);
            let (stop, accepted) = (Arc::clone(&stop), Arc::clone(&accepted));
            tokio::spawn(async move {
                let mut number = writer << 32;
                while !stop.load(Ordering::Relaxed) {
                    number += 1;
                    if group
                        .propose(super::cluster::payload(number, PAYLOAD))
                        .await
                        .is_ok()
                    {
                        accepted.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
        })
        .collect();
    let lagging = leader % 3 + 1;
    let until = std::time::Instant::now() + RUN;
    let mut rounds = 0;
    while std::time::Instant::now() < until {
        // It falls behind: by a slow machine, or by being away.
        if rounds % 2 == 0 {
            cluster
                .machine(lagging)
                .slow_ms
                .store(30, Ordering::Relaxed);
            cluster.net.cut(leader, lagging);
            tokio::time::sleep(Duration::from_millis(700)).await;
            cluster.net.heal();
            tokio::time::sleep(Duration::from_millis(300)).await;
            cluster.machine(lagging).slow_ms.store(0, Ordering::Relaxed);
        } else {
            cluster.crash(lagging, 0).await;
            tokio::time::sleep(Duration::from_millis(500)).await;
            cluster.start_node(lagging).await;
        }
        for (_, running) in cluster.running() {
            running.group.trigger_checkpoint();
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        rounds += 1;
    }
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    let accepted = accepted.load(Ordering::Relaxed);
    let numbers = cluster.converged(usize::try_from(accepted).unwrap()).await;
    println!(
        "{rounds} rounds, {accepted} accepted, {} applied",
        numbers.len()
    );
    assert!(
        cluster.aborts.lock().is_empty(),
        "{:?}",
        cluster.aborts.lock()
    );
    assert!(cluster.group(lagging).status().purged.is_some());
}
