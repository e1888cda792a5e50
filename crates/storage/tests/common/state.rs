//! Helpers of the tests of the state store.
#![allow(dead_code, unreachable_pub)] // Each test program uses some of them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use bytes::Bytes;
use std::path::Path;
use storage::{
    Checkpoint, DeadRange, Existing, MessageKey, StateOptions, StateStore, StorageError,
};

/// For views of stores whose records tell nothing: whatever is stored exists.
pub fn all(_: u64, _: Option<Bytes>) -> Result<Existing, StorageError> {
    Ok(Box::new(|_| true))
}

pub type Puts = Vec<(MessageKey, Bytes)>;

/// Small enough that flushes and compactions happen in tests.
pub fn small() -> StateOptions {
    StateOptions {
        write_buffer_bytes: 1 << 20,
        block_cache_bytes: 1 << 20,
        batch_bytes: 64 << 10,
        file_bytes: 256 << 10,
        ..StateOptions::default()
    }
}

pub fn open(dir: &Path) -> StateStore {
    StateStore::open(dir, small()).unwrap()
}

pub fn key(queue: u64, level: u8, sequence: u64) -> MessageKey {
    MessageKey {
        queue,
        level,
        sequence,
    }
}

pub fn body(sequence: u64, size: usize) -> Bytes {
    let mut body = sequence.to_le_bytes().to_vec();
    // Not compressible, so that sizes on disk mean something.
    let mut word = sequence.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    while body.len() < size {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        body.extend_from_slice(&word.to_le_bytes());
    }
    body.truncate(size.max(8));
    Bytes::from(body)
}

pub fn puts(queue: u64, from: u64, to: u64, size: usize) -> Puts {
    (from..=to)
        .map(|sequence| (key(queue, 0, sequence), body(sequence, size)))
        .collect()
}

pub fn dead(queue: u64, from: u64, to: u64) -> DeadRange {
    DeadRange {
        queue,
        level: 0,
        from,
        to,
    }
}

pub fn write(store: &StateStore, shard: u32, checkpoint: Checkpoint<Puts>, applied: u64) {
    store
        .write_checkpoint(shard, checkpoint, applied.to_string().as_bytes())
        .unwrap();
}

pub fn sequences(store: &StateStore, shard: u32, queue: u64) -> Vec<u64> {
    let read = store
        .read_messages(shard, queue, 0, 0..=u64::MAX, usize::MAX, usize::MAX)
        .unwrap();
    read.into_iter()
        .map(|(sequence, found)| {
            assert_eq!(found, body(sequence, found.len()), "message {sequence}");
            sequence
        })
        .collect()
}
