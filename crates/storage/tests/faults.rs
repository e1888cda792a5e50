//! The stores at their worst moments: a write fails, or the process dies between two steps.
//! Run with `--features failpoints`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/child.rs"]
mod child;
mod common;
#[path = "common/history.rs"]
mod history;

use bytes::Bytes;
use common::{append, entries, read_all, small_log, wait, waiting};
use fail::FailScenario;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use storage::{LogBackend, LogOptions, LogStore, StorageError};

/// From here on, passing `name` for the `count`-th time ends the process at once.
fn die_at(name: &str, count: u64) {
    let passed = Arc::new(AtomicU64::new(0));
    fail::cfg_callback(name, move || {
        if passed.fetch_add(1, Ordering::SeqCst) + 1 == count {
            child::say("dying");
            std::process::abort();
        }
    })
    .unwrap();
}

#[test]
fn a_failed_write_stops_the_log_and_tells_everybody() {
    let scenario = FailScenario::setup();
    let dir = tempfile::tempdir().unwrap();
    {
        let log = LogStore::open(dir.path(), small_log()).unwrap();
        append(&log, 1, 1, 3, 100);
        let (done, told) = waiting();
        log.on_poison(Box::new(move |error| done(Err(error))));
        fail::cfg("log-before-write", "return(no such device)").unwrap();
        let failed = wait(|done| log.append(1, 4, entries(1, 4, 1, 10), done));
        let Err(StorageError::Poisoned { cause }) = &failed else {
            panic!("{failed:?}");
        };
        assert_eq!(cause, "no such device");
        fail::remove("log-before-write");
        assert_eq!(told.recv().unwrap(), failed);
        // The disk is well again, but what the page cache holds is unknown: nothing is taken.
        assert_eq!(wait(|done| log.save_vote(1, Bytes::new(), done)), failed);
        assert_eq!(log.read(1, 1..2, 1), Err(failed.clone().unwrap_err()));
        assert_eq!(log.poisoned(), failed.err());
    }
    let log = LogStore::open(dir.path(), small_log()).unwrap();
    assert_eq!(read_all(&log, 1), vec![1, 2, 3]);
    scenario.teardown();
}

#[test]
fn a_batch_that_has_its_room_is_kept_although_there_is_none_ahead_of_it() {
    let scenario = FailScenario::setup();
    let dir = tempfile::tempdir().unwrap();
    let options = LogOptions {
        ahead_bytes: 4096,
        ..small_log()
    };
    fail::cfg("log-ahead", "return").unwrap();
    {
        let log = LogStore::open(dir.path(), options.clone()).unwrap();
        append(&log, 1, 1, 3, 100);
        assert_eq!(log.poisoned(), None);
    }
    fail::remove("log-ahead");
    let log = LogStore::open(dir.path(), options).unwrap();
    append(&log, 1, 4, 2, 100);
    assert_eq!(read_all(&log, 1), vec![1, 2, 3, 4, 5]);
    scenario.teardown();
}

#[test]
fn a_failed_write_stops_the_state_store_and_a_restart_is_at_the_last_checkpoint() {
    let scenario = FailScenario::setup();
    for fault in [
        "0*off->return(x)",
        "1*off->return(x)",
        "3*off->return(x)",
        "6*off->return(x)",
    ] {
        for place in ["state-write", "state-flush"] {
            let dir = tempfile::tempdir().unwrap();
            {
                let store = history::open(dir.path());
                for number in 0..6 {
                    history::write(&store, 1, number).unwrap();
                }
                let (done, told) = waiting();
                store.on_poison(Box::new(move |error| done(Err(error))));
                fail::cfg(place, fault).unwrap();
                let failed = (6..40).find_map(|number| history::write(&store, 1, number).err());
                fail::remove(place);
                assert!(
                    matches!(failed, Some(StorageError::Poisoned { .. })),
                    "{place}: {failed:?}"
                );
                assert!(told.recv().unwrap().is_err());
                assert_eq!(history::write(&store, 1, 99).err(), failed);
                assert!(store.put_blob(0, "x", &[]).is_err());
                // A clean end flushes what was written: also half a checkpoint.
            }
            let store = history::open(dir.path());
            let found = history::check(&store, 1).unwrap();
            assert!((5..40).contains(&found), "{place} {fault}: at {found}");
            history::write(&store, 1, found + 1).unwrap();
            assert_eq!(history::check(&store, 1), Some(found + 1));
        }
    }
    scenario.teardown();
}

#[test]
#[ignore = "run by the test below; it ends itself"]
fn child_dies_in_a_checkpoint() {
    let Some((dir, round)) = child::task() else {
        return;
    };
    let store = history::open(dir);
    let first = history::check(&store, 1).map_or(0, |number| number + 1);
    match round % 3 {
        0 => die_at("state-write", 1 + round),
        1 => die_at("state-flush", 1 + round / 3),
        _ => die_at("state-install-chunk", 1),
    }
    for number in first.. {
        history::write(&store, 1, number).unwrap();
        child::say(&format!("1 {number}"));
        if number % 3 == 2 {
            let number = history::install(&store, 1, 2).unwrap();
            child::say(&format!("2 {number}"));
        }
    }
}

#[test]
fn death_at_any_step_of_checkpoint_and_install_leaves_whole_ones() {
    // Faults are set for the whole process: only one of these tests at a time.
    let scenario = FailScenario::setup();
    let dir = tempfile::tempdir().unwrap();
    let mut promised = [None, None];
    let mut dead = 0;
    for round in 0..30 {
        let name = "child_dies_in_a_checkpoint";
        // It ends itself long before.
        for line in child::run_to_end(name, dir.path(), round, Duration::from_secs(60)) {
            match line.split_once(' ') {
                Some(("1", number)) => promised[0] = Some(number.parse().unwrap()),
                Some((_, number)) => promised[1] = Some(number.parse().unwrap()),
                None => dead += 1,
            }
        }
        let store = history::open(dir.path());
        let found = [1, 2].map(|shard| history::check(&store, shard));
        assert!(
            found[0] >= promised[0],
            "round {round}: {promised:?}, {found:?}"
        );
        assert!(
            found[1] >= promised[1],
            "round {round}: {promised:?}, {found:?}"
        );
    }
    assert_eq!(dead, 30, "every round died where it should");
    scenario.teardown();
}

#[test]
fn a_read_while_entries_are_replaced_finds_one_log_or_the_other() {
    let scenario = FailScenario::setup();
    let dir = tempfile::tempdir().unwrap();
    let log = Arc::new(LogStore::open(dir.path(), small_log()).unwrap());
    append(&*log, 1, 1, 10, 10);
    let read = |log: &LogStore| -> Vec<(u64, usize)> {
        let read = log.read(1, 1..20, usize::MAX).unwrap();
        let sizes = read.into_iter();
        sizes
            .map(|(index, entry)| (index, entry.segments[1].len()))
            .collect()
    };
    // What happens between the first look of a read and the second.
    let between = |happens: Box<dyn Fn(&LogStore) + Send + Sync>| {
        let (log, once) = (Arc::clone(&log), AtomicU64::new(0));
        fail::cfg_callback("log-read-begun", move || {
            if once.fetch_add(1, Ordering::SeqCst) == 0 {
                happens(&log);
            }
        })
        .unwrap();
    };

    between(Box::new(|log| {
        wait(|done| log.truncate_after(1, Some(5), done)).unwrap();
    }));
    assert_eq!(read(&log), (1..=5).map(|at| (at, 10)).collect::<Vec<_>>());

    // Entries 6 to 8 are in memory at the first look; others stand in the places of 4 to 6 at the second.
    fail::cfg("log-before-write", "pause").unwrap();
    log.append(1, 6, entries(1, 6, 3, 10), Box::new(|_| {}));
    between(Box::new(|log| {
        fail::remove("log-before-write");
        wait(|done| log.truncate_after(1, Some(3), done)).unwrap();
        append(log, 1, 4, 3, 20);
    }));
    let old = (1..=3).map(|at| (at, 10));
    let expected: Vec<_> = old.chain((4..=6).map(|at| (at, 20))).collect();
    assert_eq!(read(&log), expected);

    between(Box::new(|log| {
        wait(|done| log.remove_group(1, done)).unwrap();
    }));
    assert_eq!(read(&log), vec![]);
    fail::remove("log-read-begun");
    scenario.teardown();
}

#[test]
#[ignore = "run by the test below; it ends itself"]
fn child_dies_in_the_log() {
    let Some((dir, round)) = child::task() else {
        return;
    };
    let log = LogStore::open(dir, small_log()).unwrap();
    let place = if round % 2 == 0 {
        "log-before-write"
    } else {
        "log-after-sync"
    };
    die_at(place, 1 + round);
    loop {
        let state = log.group(1).unwrap();
        let next = state
            .last
            .or(state.purged.map(|(upto, _)| upto))
            .map_or(1, |last| last + 1);
        append(&log, 1, next, 2, 3000);
        child::say(&format!("{}", next + 1));
        // Between the mark of a purge and its deletion: small purges leave it for later.
        if next > 10 {
            wait(|done| log.purge(1, next - 10, Bytes::new(), done)).unwrap();
        }
    }
}

#[test]
fn death_around_a_write_of_the_log_loses_nothing_reported() {
    // Faults are set for the whole process: only one of these tests at a time.
    let scenario = FailScenario::setup();
    let dir = tempfile::tempdir().unwrap();
    let mut promised = 0;
    for round in 0..12 {
        let name = "child_dies_in_the_log";
        for line in child::run_to_end(name, dir.path(), round, Duration::from_secs(60)) {
            if let Ok(index) = line.parse() {
                promised = index;
            }
        }
        let log = LogStore::open(dir.path(), small_log()).unwrap();
        let indices = read_all(&log, 1);
        assert!(
            indices.last().copied().unwrap_or(0) >= promised,
            "{promised} in round {round}"
        );
    }
    assert!(promised > 20);
    scenario.teardown();
}
