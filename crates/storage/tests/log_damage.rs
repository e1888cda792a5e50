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
