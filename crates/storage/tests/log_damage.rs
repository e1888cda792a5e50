//! Files of a closed log are damaged: it is what it was, or it is refused with advice; never something else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "common/model.rs"]
mod model;

use bytes::Bytes;
use common::wait;
use model::{Random, State, Step, state_of};
use std::path::{Path, PathBuf};
use storage::{GroupLog, LogBackend, LogOptions, LogStore, StorageError};

fn options() -> LogOptions {
    LogOptions {
        segment_bytes: 16 << 10,
        recycled_files: 2,
        ahead_bytes: 4096,
        batch_bytes: 16 << 10,
    }
}

/// Everything that a log says.
type Content = (State, Vec<GroupLog>);

fn content(log: &LogStore) -> Content {
    let groups = log.groups().into_iter();
    let groups = groups.map(|group| log.group(group).unwrap()).collect();
    (state_of(log).unwrap(), groups)
}

/// Writes a log, closing it now and then. Returns what it holds, and its files some time before.
fn written(dir: &Path, random: &mut Random) -> (Content, Vec<(PathBuf, Vec<u8>)>) {
    let mut state = State::new();
    let mut earlier = Vec::new();
    let lives = 1 + random.below(4);
    for life in 0..lives {
        let log = LogStore::open(dir, options()).unwrap();
        for number in 0..10 + random.below(60) {
            let step = Step::random(&state, random);
            step.note(&mut state);
            wait(|done| step.write(&log, done)).unwrap();
            if random.one_in(4) {
                log.save_committed(1, Bytes::from(number.to_string()));
            }
            if life + 1 == lives && number == 8 {
                earlier = files(dir);
            }
        }
    }
    let log = LogStore::open(dir, options()).unwrap();
    let content = content(&log);
    assert_eq!(content.0, state);
    (content, earlier)
}

/// The files of a log with what is in them.
fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let segments = std::fs::read_dir(dir.join("segments")).unwrap();
    let mut paths: Vec<PathBuf> = segments
        .map(|file| PathBuf::from("segments").join(file.unwrap().file_name()))
        .collect();
    paths.push(PathBuf::from("synced"));
    paths.sort();
    let paths = paths.into_iter();
    paths
        .map(|path| (path.clone(), std::fs::read(dir.join(path)).unwrap()))
        .collect()
}

/// Damages one file; says how.
fn damage(
    files: &mut Vec<(PathBuf, Vec<u8>)>,
    earlier: &[(PathBuf, Vec<u8>)],
    random: &mut Random,
) -> String {
    let at = random.below(files.len());
    let other = files[random.below(files.len())].1.clone();
    let (path, bytes) = &mut files[at];
    let place = random.below(bytes.len().max(1));
    let block = place / 512 * 512..(place / 512 * 512 + (512 << random.below(4))).min(bytes.len());
    let how = match random.below(10) {
        0 => {
            let path = files.remove(at).0;
            return format!("{} is gone", path.display());
        }
        1 => {
            bytes.truncate(place);
            "is cut"
        }
        2 => {
            bytes.extend_from_slice(&other);
            "is longer"
        }
        3 => {
            *bytes = other;
            "is another one"
        }
        4 => {
            if let Some((_, before)) = earlier.iter().find(|(other, _)| other == path) {
                bytes.clone_from(before);
            }
            "is an older copy"
        }
        5 => {
            bytes[block].fill(0);
            "has zeros"
        }
        6 => {
            for byte in &mut bytes[block] {
                *byte = random.next() as u8;
            }
            "has random bytes"
        }
        7 => {
            // Where a header's length may stand.
            if let Some(len) = bytes.get_mut(place..place + 4) {
                len.fill(0xff);
            }
            "has a length too large"
        }
        _ => {
            if let Some(byte) = bytes.get_mut(place) {
                *byte ^= 1 << random.below(8);
            }
            "has a bit that is wrong"
        }
    };
    format!("{} {how}, at {place}", path.display())
}

#[test]
fn a_damaged_log_is_what_it_was_or_is_refused() {
    let number = |name: &str, default| {
        let given = std::env::var(name).ok();
        given.map_or(default, |text| text.parse().unwrap())
    };
    let first = number("SEED", 1);
    let (mut same, mut refused) = (0, 0);
    for seed in first..first + number("SEEDS", 6) {
        let random = &mut Random::new(seed);
        let dir = tempfile::tempdir().unwrap();
        let (content_before, earlier) = written(dir.path(), random);
        let whole = files(dir.path());
        for _ in 0..40 {
            let mut files = whole.clone();
            let how = damage(&mut files, &earlier, random);
            let dir = tempfile::tempdir().unwrap();
            std::fs::create_dir(dir.path().join("segments")).unwrap();
            for (path, bytes) in files {
                std::fs::write(dir.path().join(path), bytes).unwrap();
            }
            // The second time as the first: a refusal must not be forgotten.
            let mut before = None;
            for _ in 0..2 {
                let result = match LogStore::open(dir.path(), options()) {
                    Ok(log) => {
                        assert!(content(&log) == content_before, "seed {seed}: {how}");
                        same += 1;
                        None
                    }
                    Err(error) => {
                        assert!(
                            !matches!(error, StorageError::Refused(_)),
                            "seed {seed}: {how}: {error:?}"
                        );
                        assert!(
                            error.to_string().contains("move its data directory away"),
                            "{error}"
                        );
                        refused += 1;
                        Some(error)
                    }
                };
                assert!(
                    before.as_ref().is_none_or(|before| *before == result),
                    "seed {seed}: {how}: first {before:?}, then {result:?}"
                );
                before = Some(result);
            }
        }
    }
    assert!(
        same > 20 && refused > 20,
        "{same} the same, {refused} refused"
    );
}

fn append(log: &LogStore, first: u64, count: u64) {
    let entries = common::entries(1, first, count, 100);
    wait(|done| log.append(1, first, entries, done)).unwrap();
}

/// The files of a log, without those that wait for their next use.
fn segments(dir: &Path) -> Vec<PathBuf> {
    let paths = files(dir).into_iter().map(|(path, _)| dir.join(path));
    paths
        .filter(|path| path.extension().is_some_and(|ending| ending == "seg"))
        .collect()
}

/// A power loss leaves an older note of what was synced: the segments have to speak for themselves.
#[test]
fn a_damaged_head_of_the_newest_segment_is_noticed_without_the_note() {
    // The segment's number, its mark, the checksum, all of the first header; something behind it.
    for damaged in [24..25, 28..29, 0..1, 0..40, 50..51, 0..60] {
        let dir = tempfile::tempdir().unwrap();
        let log = LogStore::open(dir.path(), options()).unwrap();
        append(&log, 0, 10);
        drop(log);
        let note = std::fs::read(dir.path().join("synced")).unwrap();
        let log = LogStore::open(dir.path(), options()).unwrap();
        append(&log, 10, 10);
        append(&log, 20, 10);
        drop(log);
        let segments = segments(dir.path());
        assert_eq!(segments.len(), 2, "{segments:?}");
        let whole = std::fs::read(&segments[1]).unwrap();
        let mut bytes = whole.clone();
        for byte in &mut bytes[damaged.clone()] {
            *byte ^= 0x55;
        }
        std::fs::write(&segments[1], &bytes).unwrap();
        std::fs::write(dir.path().join("synced"), &note).unwrap();
        for _ in 0..2 {
            let refused = LogStore::open(dir.path(), options()).err();
            let Some(refused @ StorageError::Corrupt { .. }) = refused else {
                panic!("{damaged:?}: {refused:?}");
            };
            assert!(
                refused.to_string().contains("move its data directory away"),
                "{refused}"
            );
            assert_eq!(std::fs::read(&segments[1]).unwrap(), bytes, "{damaged:?}");
        }
        std::fs::write(&segments[1], &whole).unwrap();
        let log = LogStore::open(dir.path(), options()).unwrap();
        assert_eq!(log.group(1).unwrap().last, Some(29));
    }
}

/// A segment of which only the first batch was begun, and not synced, is none.
#[test]
fn a_torn_head_of_the_newest_segment_is_let_go() {
    let dir = tempfile::tempdir().unwrap();
    for first in [0, 10] {
        let log = LogStore::open(dir.path(), options()).unwrap();
        append(&log, first, 10);
    }
    let segments = segments(dir.path());
    let before = std::fs::read(&segments[1]).unwrap();
    // Up to where the second batch begins: its number is another one.
    let batch = |at: usize| &before[at + 32..at + 40];
    let mut at = 0;
    while batch(at) == batch(0) {
        at += 40 + u32::from_le_bytes(before[at + 4..at + 8].try_into().unwrap()) as usize;
    }
    let head = &before[..at];
    for kept in (0..head.len()).step_by(7) {
        let mut torn = vec![0; before.len()];
        torn[..kept].copy_from_slice(&head[..kept]);
        std::fs::write(&segments[1], torn).unwrap();
        std::fs::remove_file(dir.path().join("synced")).unwrap();
        let log = LogStore::open(dir.path(), options()).unwrap();
        assert_eq!(log.group(1).unwrap().last, Some(9), "{kept}");
    }
}

/// Makes the records in `bytes` those of another version, with right checksums, from the `skip`th batch on.
fn in_another_version(bytes: &mut [u8], skip: u64) {
    let mut at = 0;
    let first = u64::from_le_bytes(bytes[32..40].try_into().unwrap());
    while at + 40 <= bytes.len() && bytes[at + 9] == 1 {
        let len = u32::from_le_bytes(bytes[at + 4..at + 8].try_into().unwrap()) as usize;
        let end = at + 40 + len;
        if u64::from_le_bytes(bytes[at + 32..at + 40].try_into().unwrap()) >= first + skip {
            bytes[at + 9] = 2;
            let sum = crc32c::crc32c(&bytes[at + 4..end]);
            bytes[at..at + 4].copy_from_slice(&sum.to_le_bytes());
        }
        at = end;
    }
}

#[test]
fn a_log_of_a_newer_version_is_left_alone() {
    for (skip, note) in [(0, true), (0, false), (1, true), (1, false)] {
        let dir = tempfile::tempdir().unwrap();
        let log = LogStore::open(dir.path(), options()).unwrap();
        append(&log, 0, 10);
        drop(log);
        let segment = segments(dir.path()).remove(0);
        let mut bytes = std::fs::read(&segment).unwrap();
        in_another_version(&mut bytes, skip);
        std::fs::write(&segment, &bytes).unwrap();
        if !note {
            std::fs::remove_file(dir.path().join("synced")).unwrap();
        }
        for _ in 0..2 {
            let refused = LogStore::open(dir.path(), options()).err().unwrap();
            assert!(
                matches!(refused, StorageError::Newer { found: 2, .. }),
                "{skip}, {note}: {refused:?}"
            );
            assert!(refused.to_string().contains("nothing was changed"));
            assert_eq!(std::fs::read(&segment).unwrap(), bytes);
        }
    }
}
