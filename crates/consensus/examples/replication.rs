//! Three nodes in one process over the loopback device: idle cost, latency of single proposals,
//! and throughput of batches of 1 KiB messages.
//!
//! `cargo run --release -p consensus --example replication [seconds] [batch] [heartbeat ms]`

// A report is what this program is for.
#![allow(clippy::print_stdout)]

use bytes::Bytes;
use consensus::{
    CheckpointJob, Committed, Consensus, ConsensusConfig, Group, GroupId, Machine, MachineError,
    Parts, Payload, Secret, SnapshotReader, SnapshotWriter,
};
use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use storage::{LogOptions, LogStore};

type Failure = Box<dyn Error + Send + Sync>;

const MESSAGE: usize = 1024;
const SHARDS: u32 = 8;
/// Proposals in flight per shard.
const IN_FLIGHT: usize = 3;

/// Counts entries.
#[derive(Default)]
struct Counter(AtomicU64);

impl Machine for Counter {
    fn restored(&self) -> Option<Bytes> {
        None
    }

    fn apply(&self, entries: &[Committed]) -> Result<Vec<Bytes>, MachineError> {
        self.0.fetch_add(entries.len() as u64, Ordering::Relaxed);
        Ok(vec![Bytes::new(); entries.len()])
    }

    fn begin_checkpoint(&self) -> Result<CheckpointJob, MachineError> {
        Err(MachineError::new(
            "this example ends before a checkpoint is due",
        ))
    }

    fn snapshot_view(&self) -> Result<Box<dyn SnapshotReader>, MachineError> {
        Err(MachineError::new("no checkpoints"))
    }

    fn snapshot_sink(&self) -> Result<Box<dyn SnapshotWriter>, MachineError> {
        Err(MachineError::new("no checkpoints"))
    }
}

fn free_address() -> Result<String, Failure> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    Ok(listener.local_addr()?.to_string())
}

/// Processor time of this process, all threads.
fn cpu() -> Result<Duration, Failure> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    let ticks =
        |at: usize| -> Result<u64, Failure> { Ok(fields.get(at).ok_or("short stat")?.parse()?) };
    Ok(Duration::from_millis((ticks(11)? + ticks(12)?) * 10))
}

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let seconds = arguments.next().map_or(Ok(5), |text| text.parse())?;
    let batch = arguments.next().map_or(Ok(64), |text| text.parse())?;
    let heartbeat = arguments
        .next()
        .map(|text| text.parse())
        .transpose()?
        .map(Duration::from_millis);
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(run(Duration::from_secs(seconds), batch, heartbeat))
}

async fn run(duration: Duration, batch: usize, heartbeat: Option<Duration>) -> Result<(), Failure> {
    let peers: BTreeMap<u64, String> = (1..=3)
        .map(|id| Ok((id, free_address()?)))
        .collect::<Result<_, Failure>>()?;
    let mut nodes = Vec::new();
    let mut dirs = Vec::new();
    for (id, address) in &peers {
        let dir = tempfile::tempdir()?;
        let log = Arc::new(LogStore::open(
            dir.path().join("log"),
            LogOptions::default(),
        )?);
        let mut config = ConsensusConfig::new(*id, dir.path());
        config.listen = address.parse()?;
        config.peers = peers.clone();
        config.secret = Secret::new("example");
        config.shards = SHARDS;
        config.timing.heartbeat = heartbeat.unwrap_or(config.timing.heartbeat);
        config.checkpoint.log_bytes = u64::MAX;
        config.checkpoint.dirty_for = Duration::from_secs(86_400);
        let parts = Parts {
            network: Arc::new(consensus::Tcp),
            log,
            machines: Box::new(|_| Ok(Arc::new(Counter::default()))),
            services: None,
            abort: Arc::new(|reason: &str| eprintln!("{reason}")),
        };
        nodes.push(Consensus::start(config, parts).await?);
        dirs.push(dir);
    }
    for node in &nodes {
        node.formed().await?;
    }
    let mut leaders = Vec::new();
    for group in 0..=SHARDS {
        leaders.push(leader(&nodes, GroupId(group)).await);
    }
    println!(
        "{} groups, leaders on nodes {:?}",
        leaders.len(),
        leaders.iter().map(|l| l.me().node()).collect::<Vec<_>>()
    );

    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = cpu()?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    println!(
        "idle: {:.1} ms of processor time per second, three nodes together",
        (cpu()? - before).as_secs_f64() * 200.0
    );

    let group = leaders.get(1).ok_or("no shard")?;
    let mut took = Vec::new();
    let until = Instant::now() + duration.min(Duration::from_secs(3));
    while Instant::now() < until {
        let started = Instant::now();
        group.propose(message(1)).await?;
        took.push(started.elapsed());
    }
    took.sort();
    let at = |share: f64| {
        took.get((took.len() as f64 * share) as usize)
            .copied()
            .unwrap_or_default()
    };
    println!(
        "one at a time: {} proposals, p50 {:?}, p99 {:?}",
        took.len(),
        at(0.5),
        at(0.99)
    );

    let started = Instant::now();
    let cpu_before = cpu()?;
    let until = started + duration;
    let mut writers = Vec::new();
    for group in leaders.iter().skip(1) {
        for _ in 0..IN_FLIGHT {
            let group = group.clone();
            writers.push(tokio::spawn(async move {
                let mut done = 0_u64;
                while Instant::now() < until {
                    match group.propose(message(batch)).await {
                        Ok(_) => done += 1,
                        Err(error) => eprintln!("{error}"),
                    }
                }
                done
            }));
        }
    }
    let mut done = 0;
    for writer in writers {
        done += writer.await?;
    }
    let elapsed = started.elapsed().as_secs_f64();
    let messages = done as f64 * batch as f64;
    println!(
        "batches of {batch}: {:.0} proposals/s, {:.0} messages of 1 KiB/s, {:.1} MiB/s, {:.2} processors",
        done as f64 / elapsed,
        messages / elapsed,
        messages / elapsed / 1024.0,
        (cpu()? - cpu_before).as_secs_f64() / elapsed,
    );
    for node in &nodes {
        node.shutdown().await;
    }
    Ok(())
}

fn message(count: usize) -> Payload {
    Payload::from(vec![
        Bytes::from_static(&[0; 64]),
        Bytes::from(vec![7; count * MESSAGE]),
    ])
}

async fn leader(nodes: &[Consensus], id: GroupId) -> Group {
    loop {
        for node in nodes {
            if let Some(group) = node.group(id)
                && group.leadership().borrow().ready
            {
                return group;
            }
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
