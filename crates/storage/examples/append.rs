//! Measures the log store: `cargo run --release -p storage --example append [DIR]`.
//!
//! Several groups append 1 KiB entries, each with a bounded number in flight, as the proposers of
//! shards do. Printed are appends per second, and time and size of the synced writes.

use bytes::Bytes;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};
use storage::{LogBackend, LogEntry, LogOptions, LogStore, StorageError};

const RUN: Duration = Duration::from_secs(3);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let base = std::env::args()
        .nth(1)
        .map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = base.join(format!("warren-append-{}", std::process::id()));
    let mut out = std::io::stdout().lock();
    for recycled_files in [0, 4] {
        for (groups, in_flight) in [(1, 1), (1, 64), (8, 1), (8, 64), (8, 512)] {
            let options = LogOptions {
                recycled_files,
                ..LogOptions::default()
            };
            let log = Arc::new(LogStore::open(&dir, options)?);
            let started = Instant::now();
            let threads: Vec<_> = (0..groups)
                .map(|group| {
                    let log = Arc::clone(&log);
                    std::thread::spawn(move || append(&log, group, in_flight, started))
                })
                .collect();
            let appends: u64 = threads
                .into_iter()
                .map(|thread| thread.join().unwrap_or(0))
                .sum();
            let seconds = started.elapsed().as_secs_f64();
            let syncs = log.metrics().sync_us.snapshot();
            let commands = log.metrics().batch_commands.snapshot();
            writeln!(
                out,
                "recycled {recycled_files}, {groups} groups x {in_flight} in flight: {:.0} appends/s, \
                 {} us per synced batch (99 %: <= {:?}), {:.1} appends per batch",
                appends as f64 / seconds,
                syncs.sum / syncs.count().max(1),
                syncs.quantile(0.99),
                commands.sum as f64 / commands.count().max(1) as f64,
            )?;
            drop(log);
            std::fs::remove_dir_all(&dir)?;
        }
    }
    Ok(())
}

fn append(log: &LogStore, group: u32, in_flight: u64, started: Instant) -> u64 {
    let body = Bytes::from(vec![7; 1024]);
    let (report, reports) = channel();
    let mut index = 0;
    while started.elapsed() < RUN {
        let entry = LogEntry::new(Bytes::from_static(b"head"), Arc::from([body.clone()]));
        let report = report.clone();
        let done = move |result: Result<(), StorageError>| drop(report.send(result));
        log.append(group, index, vec![entry], Box::new(done));
        index += 1;
        // Wait for one report per append once `in_flight` are on their way.
        if index >= in_flight && !matches!(reports.recv(), Ok(Ok(()))) {
            break;
        }
    }
    index
}
