//! Helpers of the store tests.
#![allow(dead_code, unreachable_pub)] // Each test program uses some of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use bytes::Bytes;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use storage::{Done, LogBackend, LogEntry, LogOptions, LogStore, StorageError};

/// A log store with files so short that tests fill many of them.
pub fn small_log() -> LogOptions {
    LogOptions {
        segment_bytes: 32 << 10,
        ahead_bytes: 0,
        ..LogOptions::default()
    }
}

/// Opens the store in `dir`, which must be whole.
pub fn open(dir: &Path) -> LogStore {
    LogStore::open(dir, small_log()).unwrap()
}

/// Why the store in `dir` does not open.
pub fn refused(dir: &Path) -> StorageError {
    LogStore::open(dir, small_log()).err().expect("refused")
}

pub fn entry(group: u32, index: u64, size: usize) -> LogEntry {
    let body = vec![(index % 251) as u8; size];
    let text = format!("{group}/{index}");
    LogEntry::new(
        Bytes::from(text.clone()),
        Arc::from([Bytes::from(text), Bytes::from(body)]),
    )
}

pub fn entries(group: u32, first: u64, count: u64, size: usize) -> Vec<LogEntry> {
    (first..first + count)
        .map(|index| entry(group, index, size))
        .collect()
}

/// A completion and the place where its result arrives.
pub fn waiting() -> (Done, Receiver<Result<(), StorageError>>) {
    let (sender, receiver) = channel();
    let done: Done = Box::new(move |result| {
        let _ = sender.send(result);
    });
    (done, receiver)
}

pub fn wait(call: impl FnOnce(Done)) -> Result<(), StorageError> {
    let (done, result) = waiting();
    call(done);
    result.recv().expect("every write is reported")
}

pub fn append(log: &dyn LogBackend, group: u32, first: u64, count: u64, size: usize) {
    wait(|done| log.append(group, first, entries(group, first, count, size), done)).unwrap();
}

/// Reads the whole log of a group and checks what its entries say of themselves.
pub fn read_all(log: &dyn LogBackend, group: u32) -> Vec<u64> {
    let state = log.group(group).unwrap();
    let (Some(first), Some(last)) = (state.first, state.last) else {
        return Vec::new();
    };
    let read = log.read(group, first..last + 1, usize::MAX).unwrap();
    for (index, found) in &read {
        assert_eq!(
            found.head,
            format!("{group}/{index}").as_bytes(),
            "entry {index}"
        );
    }
    let indices: Vec<u64> = read.into_iter().map(|(index, _)| index).collect();
    assert_eq!(indices, (first..=last).collect::<Vec<_>>(), "no holes");
    indices
}

/// The files of a log store, oldest first.
pub fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut segments: Vec<PathBuf> = std::fs::read_dir(dir.join("segments"))
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "seg"))
        .collect();
    segments.sort();
    segments
}

/// The newest file of a log store.
pub fn newest_segment(dir: &Path) -> PathBuf {
    segments(dir).pop().expect("there is a segment")
}
