//! The log store on disk: order, reads, reports.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use bytes::Bytes;
use common::{append, entries, entry, open, read_all, small_log, wait, waiting};
use proptest::prelude::*;
use storage::{LogBackend, LogStore, MemoryLog, StorageError};

#[test]
fn everything_is_there_after_a_clean_reopen() {
    let dir = tempfile::tempdir().unwrap();
    {
        let log = open(dir.path());
        append(&log, 0, 0, 5, 10);
        append(&log, 7, 1, 3, 10_000);
        wait(|done| log.save_vote(7, Bytes::from_static(b"vote"), done)).unwrap();
        log.save_committed(7, Bytes::from_static(b"committed"));
        wait(|done| log.purge(0, 2, Bytes::from_static(b"purged"), done)).unwrap();
    }
    let log = open(dir.path());
    assert_eq!(log.groups(), vec![0, 7]);
    assert_eq!(read_all(&log, 0), vec![3, 4]);
    assert_eq!(read_all(&log, 7), vec![1, 2, 3]);
    let group = log.group(7).unwrap();
    assert_eq!(group.vote.as_deref(), Some(b"vote".as_slice()));
    assert_eq!(group.committed.as_deref(), Some(b"committed".as_slice()));
    assert_eq!(
        log.group(0).unwrap().purged,
        Some((2, Bytes::from_static(b"purged")))
    );
    assert_eq!(log.synced(7), Some(3));
    assert_eq!(log.group(99).unwrap(), storage::GroupLog::default());
    append(&log, 0, 5, 2, 10);
    assert_eq!(read_all(&log, 0), vec![3, 4, 5, 6]);
}

#[test]
fn segments_come_back_as_they_were() {
    let dir = tempfile::tempdir().unwrap();
    let written = entry(1, 1, 5000);
    {
        let log = open(dir.path());
        wait(|done| log.append(1, 1, vec![written.clone()], done)).unwrap();
        assert_eq!(log.read(1, 1..2, 1).unwrap(), vec![(1, written.clone())]);
    }
    assert_eq!(
        open(dir.path()).read(1, 1..2, 1).unwrap(),
        vec![(1, written)]
    );
}

#[test]
fn queued_writes_are_readable_and_reported_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let (sender, order) = std::sync::mpsc::channel();
    for round in 0..200u64 {
        for group in 0..4 {
            let sender = sender.clone();
            let done = Box::new(move |result: Result<(), StorageError>| {
                result.unwrap();
                let _ = sender.send((group, round));
            });
            log.append(group, round, entries(group, round, 1, 100), done);
            let (last, _) = log
                .read(group, round..round + 1, usize::MAX)
                .unwrap()
                .pop()
                .unwrap();
            assert_eq!(last, round);
        }
    }
    drop(sender);
    let order: Vec<_> = order.iter().collect();
    let expected: Vec<_> = (0..200)
        .flat_map(|round| (0..4).map(move |g| (g, round)))
        .collect();
    assert_eq!(order, expected);
    let batches = log.metrics().sync_us.snapshot().count();
    assert!(
        batches < 800,
        "groups share batches: {batches} for 800 appends"
    );
}

#[test]
fn an_append_that_leaves_a_hole_is_refused_and_harms_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    append(&log, 1, 5, 3, 10);
    for first in [7, 9] {
        let refused = wait(|done| log.append(1, first, entries(1, first, 1, 10), done));
        assert!(
            matches!(refused, Err(StorageError::Refused(_))),
            "{refused:?}"
        );
    }
    append(&log, 1, 8, 1, 10);
    assert_eq!(read_all(&log, 1), vec![5, 6, 7, 8]);
    assert!(log.poisoned().is_none());
}

#[test]
fn reads_are_bounded_and_say_when_entries_are_purged() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    append(&log, 1, 1, 100, 1000);
    assert_eq!(log.read(1, 1..101, 10_000).unwrap().len(), 9);
    assert_eq!(log.read(1, 50..101, 1).unwrap().len(), 1);
    assert_eq!(log.read(1, 99..200, usize::MAX).unwrap().len(), 2);
    assert!(log.read(1, 101..200, usize::MAX).unwrap().is_empty());
    assert!(log.read(1, 5..5, usize::MAX).unwrap().is_empty());
    wait(|done| log.purge(1, 10, Bytes::new(), done)).unwrap();
    assert_eq!(
        log.read(1, 10..12, usize::MAX),
        Err(StorageError::Purged { group: 1, upto: 10 })
    );
    wait(|done| log.purge(1, 1000, Bytes::new(), done)).unwrap();
    assert_eq!(log.group(1).unwrap().last, None);
    append(&log, 1, 1001, 2, 10);
    assert_eq!(read_all(&log, 1), vec![1001, 1002]);
}

#[test]
fn a_removed_group_is_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    {
        let log = open(dir.path());
        append(&log, 3, 1, 3, 10);
        wait(|done| log.save_vote(3, Bytes::from_static(b"v"), done)).unwrap();
        append(&log, 4, 1, 3, 10);
        wait(|done| log.remove_group(3, done)).unwrap();
        assert_eq!(log.groups(), vec![4]);
    }
    let log = open(dir.path());
    assert_eq!(log.groups(), vec![4]);
    assert_eq!(log.group(3).unwrap(), storage::GroupLog::default());
    append(&log, 3, 9, 1, 10);
    assert_eq!(read_all(&log, 3), vec![9]);
}

#[test]
fn a_completion_that_panics_stops_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    log.append(
        1,
        1,
        entries(1, 1, 1, 10),
        Box::new(|_| panic!("a fault of the caller")),
    );
    let (done, result) = waiting();
    log.on_poison(Box::new(move |error| done(Err(error))));
    assert!(matches!(
        result.recv().unwrap(),
        Err(StorageError::Poisoned { .. })
    ));
    assert!(log.group(1).is_err());
}

#[derive(Debug, Clone)]
enum Step {
    Append(u32, u64, usize),
    Truncate(u32, u64),
    TruncateAll(u32),
    Purge(u32, i64),
    Vote(u32, u8),
    Remove(u32),
    Wait,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let group = 1..3u32;
    prop_oneof![
        8 => (group.clone(), 1..20u64, 0..9000usize).prop_map(|(g, n, s)| Step::Append(g, n, s)),
        2 => (group.clone(), 0..15u64).prop_map(|(g, back)| Step::Truncate(g, back)),
        1 => group.clone().prop_map(Step::TruncateAll),
        3 => (group.clone(), -20..3i64).prop_map(|(g, at)| Step::Purge(g, at)),
        1 => (group.clone(), any::<u8>()).prop_map(|(g, v)| Step::Vote(g, v)),
        1 => group.prop_map(Step::Remove),
        2 => Just(Step::Wait),
        1 => Just(Step::Reopen),
    ]
}

fn next_index(log: &dyn LogBackend, group: u32) -> u64 {
    let state = log.group(group).unwrap();
    state
        .last
        .or(state.purged.map(|(upto, _)| upto))
        .map_or(0, |last| last + 1)
}

fn same(disk: &LogStore, memory: &MemoryLog) {
    for group in 1..3 {
        let (a, b) = (disk.group(group).unwrap(), memory.group(group).unwrap());
        assert_eq!(a, b, "group {group}");
        if let (Some(first), Some(last)) = (a.first, a.last) {
            let range = first..last + 1;
            let read = disk.read(group, range.clone(), usize::MAX).unwrap();
            assert!(
                read == memory.read(group, range, usize::MAX).unwrap(),
                "group {group}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]
    /// The store on disk and the one in memory are the same store.
    #[test]
    fn disk_and_memory_agree(steps in prop::collection::vec(step(), 1..60)) {
        let dir = tempfile::tempdir().unwrap();
        let memory = MemoryLog::new();
        let mut disk = Some(open(dir.path()));
        for step in steps {
            let log = disk.as_ref().unwrap();
            let both: [&dyn LogBackend; 2] = [log, &memory];
            match step {
                Step::Append(group, count, size) => {
                    let first = next_index(&memory, group);
                    for log in both {
                        log.append(group, first, entries(group, first, count, size), Box::new(|r| r.unwrap()));
                    }
                }
                Step::Truncate(group, back) => {
                    let after = next_index(&memory, group).saturating_sub(back + 1);
                    for log in both {
                        log.truncate_after(group, Some(after), Box::new(|r| r.unwrap()));
                    }
                }
                Step::TruncateAll(group) => for log in both {
                    log.truncate_after(group, None, Box::new(|r| r.unwrap()));
                },
                Step::Purge(group, at) => {
                    let upto = next_index(&memory, group).saturating_add_signed(at);
                    for log in both {
                        log.purge(group, upto, Bytes::from(upto.to_string()), Box::new(|r| r.unwrap()));
                    }
                }
                Step::Vote(group, vote) => for log in both {
                    log.save_vote(group, Bytes::from(vec![vote]), Box::new(|r| r.unwrap()));
                },
                Step::Remove(group) => for log in both {
                    log.remove_group(group, Box::new(|r| r.unwrap()));
                },
                Step::Wait => {
                    wait(|done| log.barrier(done)).unwrap();
                    for group in 1..3 {
                        prop_assert_eq!(log.synced(group), memory.synced(group));
                    }
                }
                Step::Reopen => {
                    drop(disk.take());
                    disk = Some(open(dir.path()));
                }
            }
            same(disk.as_ref().unwrap(), &memory);
        }
    }
}

#[test]
fn a_completion_may_drop_the_last_handle() {
    let dir = tempfile::tempdir().unwrap();
    let log = std::sync::Arc::new(open(dir.path()));
    let (let_go, may_drop) = std::sync::mpsc::channel::<()>();
    let (told, dropped) = std::sync::mpsc::channel();
    let last = std::sync::Arc::clone(&log);
    let done = Box::new(move |result: Result<(), StorageError>| {
        may_drop.recv().unwrap();
        assert_eq!(std::sync::Arc::strong_count(&last), 1);
        drop(last);
        let _ = told.send(result);
    });
    log.append(1, 0, entries(1, 0, 3, 10), done);
    let (done, later) = waiting();
    log.append(1, 3, entries(1, 3, 2, 10), done);
    drop(log);
    let_go.send(()).unwrap();
    dropped.recv().expect("the drop returned").unwrap();
    later.recv().expect("what was queued is reported").unwrap();
    // The writer ends by itself a moment later; until then the directory is locked.
    let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
    let log = loop {
        match LogStore::open(dir.path(), small_log()) {
            Ok(log) => break log,
            Err(error) => assert!(std::time::Instant::now() < until, "{error}"),
        }
        std::thread::yield_now();
    };
    assert_eq!(read_all(&log, 1), vec![0, 1, 2, 3, 4]);
}
