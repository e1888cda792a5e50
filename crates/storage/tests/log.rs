//! The log store on disk: order, recovery, refusals.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use bytes::Bytes;
use common::{
    append, entries, entry, newest_segment, read_all, segments, small_log, wait, waiting,
};
use proptest::prelude::*;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use storage::{LogBackend, LogOptions, LogStore, MemoryLog, StorageError};

fn open(dir: &Path) -> LogStore {
    LogStore::open(dir, small_log()).unwrap()
}

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
fn a_torn_tail_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    append(&open(dir.path()), 1, 1, 20, 500);
    let mut wal = OpenOptions::new()
        .append(true)
        .open(newest_segment(dir.path()))
        .unwrap();
    // The beginning of a record whose rest did not reach the disk.
    wal.write_all(&[0x12, 0x34, 0x56, 0x78, 0x00, 0x10, 0x05, 1, 2, 3])
        .unwrap();
    drop(wal);
    let log = open(dir.path());
    assert_eq!(read_all(&log, 1), (1..=20).collect::<Vec<_>>());
    append(&log, 1, 21, 1, 10);
}

/// A record as it stands in a file.
fn record(kind: u8, group: u32, index: u64, file: [u8; 8], batch: u64, payload: &[u8]) -> Vec<u8> {
    let mut rest = (payload.len() as u32).to_le_bytes().to_vec();
    rest.extend([kind, 1, 0, 0]);
    rest.extend(group.to_le_bytes());
    rest.extend(index.to_le_bytes());
    rest.extend(file);
    rest.extend(batch.to_le_bytes());
    rest.extend(payload);
    let mut record = crc32c::crc32c(&rest).to_le_bytes().to_vec();
    record.extend(rest);
    record
}

#[test]
fn what_a_client_has_put_behind_the_end_of_the_log_is_no_record() {
    for guessed in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        append(&open(dir.path()), 1, 1, 3, 10);
        // In a file that is used again, bodies of messages from before stand behind the end. Clients know the form of records,
        // and may guess numbers, but not the mark.
        let path = newest_segment(dir.path());
        let mut bytes = std::fs::read(&path).unwrap();
        let end = bytes.split_off(bytes.len() - 40);
        bytes.extend(&end);
        let mut file: [u8; 8] = end[24..32].try_into().unwrap();
        let batch = u64::from_le_bytes(end[32..].try_into().unwrap()) + 1;
        if !guessed {
            file[4..].fill(0);
        }
        bytes.extend(record(4, 1, 0, file, batch, b"a vote"));
        bytes.extend(record(9, 0, 1, file, batch, b""));
        std::fs::write(path, bytes).unwrap();
        let vote = open(dir.path()).group(1).unwrap().vote;
        assert_eq!(vote.is_some(), guessed, "the test makes records");
    }
}

#[test]
fn lost_acknowledged_writes_are_a_refusal_that_names_them() {
    let dir = tempfile::tempdir().unwrap();
    {
        let log = open(dir.path());
        for index in 1..=20 {
            append(&log, 3, index, 1, 500);
        }
    }
    let wal = newest_segment(dir.path());
    let len = wal.metadata().unwrap().len();
    OpenOptions::new()
        .write(true)
        .open(&wal)
        .unwrap()
        .set_len(len / 2)
        .unwrap();
    for _ in 0..2 {
        let error = LogStore::open(dir.path(), small_log())
            .err()
            .expect("refused");
        let StorageError::Hole { group, index, .. } = &error else {
            panic!("{error:?}");
        };
        assert_eq!(*group, 3);
        assert!((2..=20).contains(index), "{index}");
        let text = error.to_string();
        assert!(
            text.contains("group 3") && text.contains("fresh replica"),
            "{text}"
        );
    }
}

#[test]
fn damage_in_the_middle_is_a_refusal() {
    let dir = tempfile::tempdir().unwrap();
    {
        let log = open(dir.path());
        for index in 1..=20 {
            append(&log, 3, index, 1, 500);
        }
    }
    let wal = newest_segment(dir.path());
    let mut bytes = std::fs::read(&wal).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    std::fs::write(&wal, bytes).unwrap();
    let error = LogStore::open(dir.path(), small_log())
        .err()
        .expect("refused");
    assert!(
        matches!(error, StorageError::Hole { group: 3, .. }),
        "{error:?}"
    );
}

#[test]
fn damage_before_later_writes_is_a_refusal_also_when_the_note_of_what_was_synced_is_old() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    append(&log, 3, 1, 1, 500);
    let note = std::fs::read(dir.path().join("synced")).unwrap();
    append(&log, 3, 2, 1, 5000);
    append(&log, 3, 3, 1, 500);
    drop(log);
    let path = newest_segment(dir.path());
    let bytes = std::fs::read(&path).unwrap();
    // A power loss with a disk that had not written what it said it had.
    std::fs::write(dir.path().join("synced"), &note).unwrap();
    for zeros in [4096..5120, 1000..5500] {
        let mut bytes = bytes.clone();
        bytes[zeros].fill(0);
        std::fs::write(&path, &bytes).unwrap();
        for _ in 0..2 {
            let error = LogStore::open(dir.path(), small_log())
                .err()
                .expect("refused");
            assert!(matches!(error, StorageError::Corrupt { .. }), "{error:?}");
        }
    }
    // What nobody was told of may be torn.
    let mut bytes = bytes.clone();
    bytes.truncate(4000);
    std::fs::write(&path, &bytes).unwrap();
    assert_eq!(read_all(&open(dir.path()), 3), vec![1]);
}

#[test]
fn a_lost_vote_is_a_refusal() {
    let dir = tempfile::tempdir().unwrap();
    {
        let log = open(dir.path());
        append(&log, 3, 1, 1, 10);
        wait(|done| log.save_vote(3, Bytes::from_static(b"a vote for somebody"), done)).unwrap();
    }
    let wal = newest_segment(dir.path());
    let len = wal.metadata().unwrap().len();
    OpenOptions::new()
        .write(true)
        .open(&wal)
        .unwrap()
        .set_len(len - 20)
        .unwrap();
    let error = LogStore::open(dir.path(), small_log())
        .err()
        .expect("refused");
    assert!(
        matches!(error, StorageError::LostWrites { .. }),
        "{error:?}"
    );
}

#[test]
fn a_removed_log_is_a_refusal() {
    let dir = tempfile::tempdir().unwrap();
    append(&open(dir.path()), 1, 1, 3, 10);
    std::fs::remove_dir_all(dir.path().join("segments")).unwrap();
    let error = LogStore::open(dir.path(), small_log())
        .err()
        .expect("refused");
    assert!(
        matches!(
            error,
            StorageError::Hole {
                group: 1,
                index: 0,
                ..
            }
        ),
        "{error:?}"
    );
}

#[test]
fn a_value_that_was_damaged_while_the_store_was_open_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    append(&log, 5, 1, 9, 100);
    let path = newest_segment(dir.path());
    let bytes = std::fs::read(&path).unwrap();
    // The head of entry 4.
    let at = bytes.windows(3).position(|part| part == b"5/4").unwrap();
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(b"x", at as u64).unwrap();
    assert!(log.read(5, 1..3, usize::MAX).is_ok());
    let error = log.read(5, 4..5, 1).unwrap_err();
    assert!(matches!(error, StorageError::Corrupt { .. }), "{error:?}");
    let text = error.to_string();
    assert!(
        text.contains("entry 4") && text.contains("group 5"),
        "{text}"
    );
}

/// Fills a few files of which nothing may go.
fn row_of_files(dir: &Path) -> Vec<std::path::PathBuf> {
    {
        let log = open(dir);
        for index in 1..=30 {
            append(&log, 3, index, 1, 5000);
        }
    }
    let files = segments(dir);
    assert!(files.len() >= 4, "{files:?}");
    files
}

#[test]
fn a_file_that_is_missing_is_a_refusal() {
    for at in [0, 1, 2] {
        let dir = tempfile::tempdir().unwrap();
        let files = row_of_files(dir.path());
        std::fs::remove_file(&files[at]).unwrap();
        // Also without the note of what was synced.
        let _ = std::fs::remove_file(dir.path().join("synced"));
        for _ in 0..2 {
            let error = LogStore::open(dir.path(), small_log())
                .err()
                .expect("refused");
            assert!(
                matches!(error, StorageError::Hole { group: 3, .. }),
                "{at}: {error:?}"
            );
        }
    }
}

#[test]
fn damage_before_the_newest_file_is_a_refusal_even_without_the_note_of_what_was_synced() {
    let dir = tempfile::tempdir().unwrap();
    let files = row_of_files(dir.path());
    let mut bytes = std::fs::read(&files[1]).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    std::fs::write(&files[1], bytes).unwrap();
    std::fs::remove_file(dir.path().join("synced")).unwrap();
    for _ in 0..2 {
        let error = LogStore::open(dir.path(), small_log())
            .err()
            .expect("refused");
        assert!(matches!(error, StorageError::Corrupt { .. }), "{error:?}");
        assert!(error.to_string().contains("fresh replica"), "{error}");
    }
}

#[test]
fn a_file_that_was_only_begun_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let files = row_of_files(dir.path());
    let last = files.last().unwrap().file_stem().unwrap().to_str().unwrap();
    let next = u32::from_str_radix(last, 16).unwrap() + 1;
    let begun = dir.path().join(format!("segments/{next:08x}.seg"));
    // Half of what the oldest file begins with, or nothing.
    for begins in [&std::fs::read(&files[0]).unwrap()[..50], &[]] {
        std::fs::write(&begun, begins).unwrap();
        let log = open(dir.path());
        assert_eq!(read_all(&log, 3), (1..=30).collect::<Vec<_>>());
    }
    let log = open(dir.path());
    append(&log, 3, 31, 5, 100);
    drop(log);
    assert_eq!(read_all(&open(dir.path()), 3).len(), 35);
}

#[test]
fn a_damaged_beginning_of_the_newest_file_is_a_refusal_that_leaves_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let files = row_of_files(dir.path());
    let newest = files.last().unwrap();
    let mut bytes = std::fs::read(newest).unwrap();
    bytes[3] ^= 1;
    std::fs::write(newest, &bytes).unwrap();
    for _ in 0..2 {
        let error = LogStore::open(dir.path(), small_log())
            .err()
            .expect("refused");
        assert!(
            matches!(error, StorageError::Hole { group: 3, .. }),
            "{error:?}"
        );
        assert_eq!(std::fs::read(newest).unwrap(), bytes);
    }
    // Nor is a log empty because what is left of it is a file without a beginning.
    std::fs::remove_file(dir.path().join("synced")).unwrap();
    for path in &files[..files.len() - 1] {
        std::fs::remove_file(path).unwrap();
    }
    let error = LogStore::open(dir.path(), small_log())
        .err()
        .expect("refused");
    assert!(matches!(error, StorageError::Corrupt { .. }), "{error:?}");
    assert_eq!(std::fs::read(newest).unwrap(), bytes);
}

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
fn what_a_clean_end_has_written_last_is_missed() {
    let dir = tempfile::tempdir().unwrap();
    {
        let log = open(dir.path());
        append(&log, 3, 1, 1, 500);
        log.save_committed(3, Bytes::from_static(b"committed"));
    }
    let file = OpenOptions::new()
        .write(true)
        .open(newest_segment(dir.path()))
        .unwrap();
    file.set_len(file.metadata().unwrap().len() - 1).unwrap();
    let error = LogStore::open(dir.path(), small_log())
        .err()
        .expect("refused");
    assert!(
        matches!(error, StorageError::LostWrites { .. }),
        "{error:?}"
    );
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
fn a_log_of_an_earlier_form_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("db")).unwrap();
    let error = LogStore::open(dir.path(), small_log())
        .err()
        .expect("refused");
    assert!(error.to_string().contains("fresh replica"), "{error}");
    assert!(dir.path().join("db").exists());
}

#[test]
fn a_directory_in_use_is_refused_with_advice() {
    let dir = tempfile::tempdir().unwrap();
    let _log = open(dir.path());
    let error = LogStore::open(dir.path(), small_log())
        .err()
        .expect("refused");
    assert!(error.to_string().contains("another process"), "{error}");
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
