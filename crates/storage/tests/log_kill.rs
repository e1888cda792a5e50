//! A process that writes the log is killed: everything it reported as done is found again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/child.rs"]
mod child;
mod common;

use bytes::Bytes;
use common::{newest_segment, wait};
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use storage::{LogBackend, LogEntry, LogOptions, LogStore};

const GROUPS: u32 = 4;

/// Reused files, which are full of old records, and new ones, which are written ahead.
fn reusing() -> LogOptions {
    LogOptions {
        segment_bytes: 128 << 10,
        recycled_files: 2,
        ahead_bytes: 64 << 10,
        ..LogOptions::default()
    }
}

/// One file per round, not written ahead: its length tells what had been synced.
fn growing() -> LogOptions {
    LogOptions {
        segment_bytes: 64 << 20,
        recycled_files: 0,
        ahead_bytes: 0,
        ..LogOptions::default()
    }
}

fn entry(group: u32, index: u64, term: u64) -> LogEntry {
    let head = format!("{group} {index} {term}");
    let body = Bytes::from(vec![index as u8; 200 + (index as usize * 37) % 3000]);
    LogEntry::new(Bytes::from(head), Arc::from([body]))
}

#[test]
#[ignore = "run by the tests below, in a process that they kill"]
fn child_reuses_files() {
    if let Some((dir, round)) = child::task() {
        write_for_ever(dir, round, reusing());
    }
}

#[test]
#[ignore = "run by the tests below, in a process that they kill"]
fn child_grows_a_file() {
    if let Some((dir, round)) = child::task() {
        write_for_ever(dir, round, growing());
    }
}

fn write_for_ever(dir: String, round: u64, options: LogOptions) {
    let wal_dir = dir.clone();
    let log = LogStore::open(&dir, options).unwrap();
    for step in 0.. {
        for group in 0..GROUPS {
            let state = log.group(group).unwrap();
            let end = state.last.or(state.purged.map(|(upto, _)| upto));
            let first = end.map_or(0, |end| end + 1);
            let count = 1 + (step + u64::from(group)) % 5;
            let entries = (first..first + count)
                .map(|index| entry(group, index, round))
                .collect();
            let dir = wal_dir.clone();
            log.append(
                group,
                first,
                entries,
                Box::new(move |result| {
                    result.unwrap();
                    // On the writer's thread: nothing has been written since the sync.
                    let wal = newest_segment(Path::new(&dir)).metadata().unwrap().len();
                    child::say(&format!("ack {group} {first} {count} {round} {wal}"));
                }),
            );
            if step % 11 == 10 {
                let vote = round * 1_000_000 + step;
                let done = Box::new(move |result: Result<(), _>| {
                    result.unwrap();
                    child::say(&format!("vote {group} {vote}"));
                });
                log.save_vote(group, Bytes::from(vote.to_string()), done);
            }
            if step % 17 == 16 {
                wait(|done| log.barrier(done)).unwrap();
                let after = first.saturating_sub(2);
                child::say(&format!("cut {group} {after}"));
                log.truncate_after(group, Some(after), Box::new(|result| result.unwrap()));
            }
            if step % 23 == 22 && first > 50 {
                let upto = first - 50;
                child::say(&format!("purge {group} {upto}"));
                log.purge(
                    group,
                    upto,
                    Bytes::from(upto.to_string()),
                    Box::new(|r| r.unwrap()),
                );
            }
        }
    }
}

#[derive(Default)]
struct Promised {
    /// Term of each entry that was reported as done.
    entries: BTreeMap<(u32, u64), u64>,
    votes: BTreeMap<u32, u64>,
    purged: BTreeMap<u32, u64>,
    /// Length of the write-ahead log at the last report.
    synced_len: u64,
}

impl Promised {
    fn note(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |at: usize| words[at].parse::<u64>().unwrap();
        let group = number(1) as u32;
        match words[0] {
            "ack" => {
                let (first, count, term) = (number(2), number(3), number(4));
                self.synced_len = number(5);
                self.entries
                    .extend((first..first + count).map(|index| ((group, index), term)));
            }
            "vote" => {
                self.votes.insert(group, number(2));
            }
            "cut" => {
                let after = number(2);
                self.entries
                    .retain(|(of, index), _| *of != group || *index <= after);
            }
            "purge" => {
                self.purged.insert(group, number(2));
            }
            other => panic!("the child says {other}"),
        }
    }

    fn check(&self, log: &LogStore) {
        for group in 0..GROUPS {
            let state = log.group(group).unwrap();
            let purged = state.purged.as_ref().map(|(upto, _)| *upto);
            assert!(
                purged <= self.purged.get(&group).copied(),
                "no purge that nobody asked for"
            );
            let vote = state
                .vote
                .map(|vote| String::from_utf8_lossy(&vote).parse::<u64>().unwrap());
            assert!(
                vote >= self.votes.get(&group).copied(),
                "the vote of group {group} regressed"
            );
            // Also proves that there is no hole.
            let read = match (state.first, state.last) {
                (Some(first), Some(last)) => log.read(group, first..last + 1, usize::MAX).unwrap(),
                _ => Vec::new(),
            };
            let found: BTreeMap<u64, LogEntry> = read.into_iter().collect();
            let promised = self.entries.range((group, 0)..=(group, u64::MAX));
            for ((_, index), term) in promised {
                if purged.is_some_and(|upto| *index <= upto) {
                    continue;
                }
                let expected = entry(group, *index, *term);
                assert_eq!(
                    found.get(index),
                    Some(&expected),
                    "group {group} index {index}"
                );
            }
        }
    }
}

/// With `drop_unsynced`, also cuts off what was written but not reported: what a power loss may
/// take.
fn kill_and_check(drop_unsynced: bool) {
    let dir = tempfile::tempdir().unwrap();
    let (child, options) = if drop_unsynced {
        ("child_grows_a_file", growing())
    } else {
        ("child_reuses_files", reusing())
    };
    let mut promised = Promised::default();
    for round in 1..=6 {
        let time = Duration::from_millis(60 + 70 * round);
        for line in child::run_and_kill(child, dir.path(), round, time) {
            promised.note(&line);
        }
        if drop_unsynced {
            let wal = newest_segment(dir.path());
            let len = wal.metadata().unwrap().len();
            let extra = len.saturating_sub(promised.synced_len);
            let keep = promised.synced_len + extra * (round % 3) / 2;
            OpenOptions::new()
                .write(true)
                .open(&wal)
                .unwrap()
                .set_len(keep.min(len))
                .unwrap();
            // The note of what was synced is written without a sync of its own: it is lost as well.
            std::fs::remove_file(dir.path().join("synced")).unwrap();
        }
        let log = LogStore::open(dir.path(), options.clone()).unwrap();
        promised.check(&log);
    }
    assert!(promised.entries.len() > 100, "the test did something");
}

#[test]
fn nothing_reported_is_lost_when_the_process_is_killed() {
    kill_and_check(false);
}

#[test]
fn nothing_reported_is_lost_when_unsynced_bytes_are_dropped() {
    kill_and_check(true);
}
