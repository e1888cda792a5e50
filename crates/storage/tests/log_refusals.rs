//! What opens of a log store that was torn, damaged or is another one's, and what is refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use bytes::Bytes;
use common::{append, newest_segment, open, read_all, refused, segments, wait};
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use storage::{LogBackend, StorageError};

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
        let error = refused(dir.path());
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
    let error = refused(dir.path());
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
            let error = refused(dir.path());
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
    let error = refused(dir.path());
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
    let error = refused(dir.path());
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
            let error = refused(dir.path());
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
        let error = refused(dir.path());
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
        let error = refused(dir.path());
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
    let error = refused(dir.path());
    assert!(matches!(error, StorageError::Corrupt { .. }), "{error:?}");
    assert_eq!(std::fs::read(newest).unwrap(), bytes);
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
    let error = refused(dir.path());
    assert!(
        matches!(error, StorageError::LostWrites { .. }),
        "{error:?}"
    );
}

#[test]
fn a_log_of_an_earlier_form_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("db")).unwrap();
    let error = refused(dir.path());
    assert!(error.to_string().contains("fresh replica"), "{error}");
    assert!(dir.path().join("db").exists());
}

#[test]
fn a_directory_in_use_is_refused_with_advice() {
    let dir = tempfile::tempdir().unwrap();
    let _log = open(dir.path());
    let error = refused(dir.path());
    assert!(error.to_string().contains("another process"), "{error}");
}
