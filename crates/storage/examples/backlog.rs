//! Measures the state store with a deep backlog:
//! `cargo run --release -p storage --example backlog [MESSAGES] [DIR]`.
//!
//! Small messages of several queues are stored by checkpoints, then read and deleted from the head.
//! Printed are the process's memory, disk use and rates. First of all, what two empty stores cost.

use bytes::Bytes;
use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;
use storage::{Checkpoint, DeadRange, LogOptions, LogStore, MessageKey, StateOptions, StateStore};

const QUEUES: u64 = 4;
const PER_CHECKPOINT: u64 = 100_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let messages: u64 = std::env::args()
        .nth(1)
        .map_or(Ok(2_000_000), |count| count.parse())?;
    let base = std::env::args()
        .nth(2)
        .map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = base.join(format!("warren-backlog-{}", std::process::id()));
    let mut out = std::io::stdout().lock();
    let before = resident_mib()?;
    let log = LogStore::open(dir.join("log"), LogOptions::default())?;
    let store = StateStore::open(dir.join("state"), StateOptions::default())?;
    let idle = resident_mib()?;
    writeln!(
        out,
        "two empty stores: {} MiB of memory (the process without: {before})",
        idle
    )?;

    let mut next = 1;
    let started = Instant::now();
    while next * QUEUES <= messages {
        let last = next + PER_CHECKPOINT / QUEUES - 1;
        let puts = (1..=QUEUES).flat_map(|queue| {
            (next..=last).map(move |sequence| {
                (
                    MessageKey {
                        queue,
                        level: 0,
                        sequence,
                    },
                    Bytes::from(vec![queue as u8; 100]),
                )
            })
        });
        let checkpoint = Checkpoint {
            puts,
            dropped_queues: Vec::new(),
            deletes: Vec::new(),
            queue_records: Vec::new(),
            origins: Bytes::new(),
        };
        store.write_checkpoint(1, checkpoint, b"applied")?;
        next = last + 1;
    }
    report(&mut out, "stored", next * QUEUES, started, &store)?;

    let started = Instant::now();
    for queue in 1..=QUEUES {
        let mut head = 1;
        while let Some((last, _)) = store
            .read_messages(1, queue, 0, head..=next, 1000, 1 << 20)?
            .last()
        {
            head = last + 1;
        }
    }
    report(&mut out, "read", next * QUEUES, started, &store)?;

    let started = Instant::now();
    let mut head = 1;
    while head < next {
        let last = head + PER_CHECKPOINT / QUEUES - 1;
        let deletes = (1..=QUEUES)
            .map(|queue| DeadRange {
                queue,
                level: 0,
                from: head,
                to: last,
            })
            .collect();
        let checkpoint = Checkpoint {
            deletes,
            ..Checkpoint::<Vec<_>>::default()
        };
        store.write_checkpoint(1, checkpoint, b"applied")?;
        head = last + 1;
    }
    report(&mut out, "deleted", next * QUEUES, started, &store)?;
    drop((log, store));
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}

fn report(
    out: &mut impl Write,
    what: &str,
    messages: u64,
    started: Instant,
    store: &StateStore,
) -> Result<(), Box<dyn std::error::Error>> {
    let rate = messages as f64 / started.elapsed().as_secs_f64();
    let (memory, disk) = (resident_mib()?, store.disk_usage() >> 20);
    writeln!(
        out,
        "{what} {messages}: {rate:.0}/s, {memory} MiB of memory, {disk} MiB of disk"
    )?;
    Ok(())
}

fn resident_mib() -> Result<u64, Box<dyn std::error::Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line
        .and_then(|line| line.split_whitespace().next())
        .unwrap_or("0");
    Ok(kib.parse::<u64>()? >> 10)
}
