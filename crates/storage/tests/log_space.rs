//! The files of the log store come and go with what is needed of them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use bytes::Bytes;
use common::{append, entries, entry, open, read_all, segments, small_log, wait};
use storage::{LogBackend, LogOptions, LogStore, StorageError};

#[test]
fn an_emptied_log_goes_on_behind_its_first_purge_wherever_it_was() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let log = open(dir.path());
        append(&log, 1, 7, 3, 10);
        wait(|done| log.truncate_after(1, None, done)).unwrap();
        wait(|done| log.purge(1, 2, Bytes::new(), done)).unwrap();
        append(&log, 1, 3, 2, 10);
        assert_eq!(read_all(&log, 1), vec![3, 4]);
        drop(log);
        let log = open(dir.path());
        assert_eq!(read_all(&log, 1), vec![3, 4]);
        wait(|done| log.remove_group(1, done)).unwrap();
    }
}

#[test]
fn entries_of_an_idle_group_do_not_keep_the_files_of_a_busy_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path());
    append(&log, 8, 1, 4, 1000);
    wait(|done| log.save_vote(8, Bytes::from_static(b"vote"), done)).unwrap();
    // Cut in a file that goes: it must stay cut.
    append(&log, 9, 1, 9, 300);
    append(&log, 1, 1, 20, 3000);
    wait(|done| log.truncate_after(9, Some(5), done)).unwrap();
    let mut next = 21;
    for round in 0..60 {
        append(&log, 1, next, 20, 3000);
        next += 20;
        wait(|done| log.purge(1, next - 10, Bytes::new(), done)).unwrap();
        if round % 20 == 19 {
            drop(log);
            log = open(dir.path());
        }
        assert_eq!(read_all(&log, 8), vec![1, 2, 3, 4]);
        assert_eq!(read_all(&log, 9), vec![1, 2, 3, 4, 5]);
    }
    let kept: u64 = segments(dir.path())
        .iter()
        .map(|path| path.metadata().unwrap().len())
        .sum();
    assert!(kept < 1 << 20, "{kept} bytes of 3.6 MB are kept");
    assert!(!segments(dir.path()).contains(&dir.path().join("segments/00000001.seg")));
    drop(log);
    let log = open(dir.path());
    assert_eq!(read_all(&log, 8), vec![1, 2, 3, 4]);
    assert_eq!(read_all(&log, 9), vec![1, 2, 3, 4, 5]);
    assert_eq!(
        log.group(8).unwrap().vote.as_deref(),
        Some(b"vote".as_slice())
    );
    append(&log, 9, 6, 1, 10);
}

/// A node whose disk is full lets nobody write before there is space again.
#[test]
fn a_purge_gives_space_back_though_nothing_more_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let options = LogOptions {
        recycled_files: 1,
        ..small_log()
    };
    let log = LogStore::open(dir.path(), options).unwrap();
    append(&log, 8, 1, 4, 1000);
    for round in 0..40 {
        append(&log, 1, 1 + 20 * round, 20, 3000);
        if round % 10 == 9 {
            append(&log, 8, 5 + round / 10, 1, 1000);
        }
    }
    assert!(log.disk_usage() > 2 << 20);
    wait(|done| log.purge(1, 800, Bytes::new(), done)).unwrap();
    for _ in 0..2 {
        wait(|done| log.barrier(done)).unwrap();
    }
    let used = log.disk_usage();
    assert!(used < 400 << 10, "{used} bytes are kept for 8 entries");
    assert_eq!(read_all(&log, 8), (1..=8).collect::<Vec<_>>());
    drop(log);
    assert_eq!(read_all(&open(dir.path()), 8), (1..=8).collect::<Vec<_>>());
}

#[test]
fn restarts_do_not_pile_up_files() {
    let dir = tempfile::tempdir().unwrap();
    for restart in 1..=250 {
        let log = open(dir.path());
        append(&log, 1, restart, 1, 100);
        wait(|done| log.save_vote(2, Bytes::from(restart.to_string()), done)).unwrap();
        let files = segments(dir.path()).len();
        assert!(files < 160, "{files} files after {restart} restarts");
    }
    let log = open(dir.path());
    assert_eq!(read_all(&log, 1), (1..=250).collect::<Vec<_>>());
    assert_eq!(
        log.group(2).unwrap().vote.as_deref(),
        Some(b"250".as_slice())
    );
}

#[test]
fn a_file_that_a_huge_entry_has_made_long_is_not_kept() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    append(&log, 1, 1, 1, 4 << 20);
    let mut next = 2;
    while next < 60 {
        append(&log, 1, next, 3, 10_000);
        wait(|done| log.purge(1, next - 1, Bytes::new(), done)).unwrap();
        next += 3;
    }
    wait(|done| log.barrier(done)).unwrap();
    let kept = log.disk_usage();
    assert!(kept < 1 << 20, "{kept} bytes are kept");
}

#[test]
fn many_groups_with_much_to_say_fill_more_than_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path());
    for group in 0..300 {
        let vote = Bytes::from(vec![group as u8; 150]);
        log.save_vote(group, vote, Box::new(|result| result.unwrap()));
        let meta = Bytes::from(vec![group as u8; 200]);
        log.purge(group, 9, meta, Box::new(|result| result.unwrap()));
    }
    for round in 0..20 {
        for group in 0..300 {
            let first = 10 + round;
            log.append(
                group,
                first,
                entries(group, first, 1, 20),
                Box::new(|result| result.unwrap()),
            );
        }
        if round % 5 == 0 {
            drop(log);
            log = open(dir.path());
        }
    }
    drop(log);
    let log = open(dir.path());
    for group in 0..300 {
        let expected = [group as u8; 150];
        assert_eq!(
            log.group(group).unwrap().vote.as_deref(),
            Some(&expected[..])
        );
        assert_eq!(read_all(&log, group), (10..30).collect::<Vec<_>>());
    }
}

#[test]
fn a_read_from_a_file_that_is_let_go_finds_what_was_there_or_that_it_is_purged() {
    use std::sync::atomic::{AtomicU64, Ordering};
    let dir = tempfile::tempdir().unwrap();
    let options = LogOptions {
        segment_bytes: 4096,
        recycled_files: 1,
        ahead_bytes: 0,
        ..LogOptions::default()
    };
    let log = LogStore::open(dir.path(), options).unwrap();
    let next = AtomicU64::new(1);
    append(&log, 1, 0, 1, 10);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let end = next.load(Ordering::SeqCst);
                    if end == 0 {
                        break;
                    }
                    match log.read(1, end.saturating_sub(3)..end, usize::MAX) {
                        Ok(read) => {
                            for (index, found) in read {
                                assert_eq!(found, entry(1, index, 900));
                            }
                        }
                        Err(StorageError::Purged { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
        for at in 1..600 {
            log.append(1, at, entries(1, at, 1, 900), Box::new(|r| r.unwrap()));
            next.store(at + 1, Ordering::SeqCst);
            log.purge(1, at - 1, Bytes::new(), Box::new(|r| r.unwrap()));
            if at % 3 == 0 {
                wait(|done| log.barrier(done)).unwrap();
            }
        }
        next.store(0, Ordering::SeqCst);
    });
}

#[test]
fn the_disk_stays_bounded_while_entries_come_and_go() {
    let dir = tempfile::tempdir().unwrap();
    let log = LogStore::open(
        dir.path(),
        LogOptions {
            segment_bytes: 8 << 20,
            ..LogOptions::default()
        },
    )
    .unwrap();
    let mut most = 0;
    let mut next = 1;
    for round in 0..300 {
        // 1 MiB a round.
        append(&log, 1, next, 16, 32 << 10);
        append(&log, 2, 1 + 512 * round, 512, 1000);
        next += 16;
        if let Some(upto) = log.purge_candidate(1, 2 << 20) {
            wait(|done| log.purge(1, upto, Bytes::new(), done)).unwrap();
        }
        if let Some(upto) = log.purge_candidate(2, 2 << 20) {
            wait(|done| log.purge(2, upto, Bytes::new(), done)).unwrap();
        }
        most = most.max(log.disk_usage());
    }
    assert!(log.retained_bytes(1) < 8 << 20);
    assert!(
        most < 120 << 20,
        "300 MiB went through, {} MiB were on disk",
        most >> 20
    );
    drop(log);
    let log = open(dir.path());
    assert_eq!(read_all(&log, 1).last(), Some(&(next - 1)));
}
