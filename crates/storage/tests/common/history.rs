//! A history of checkpoints of which every moment is known: what the store must hold after the
//! checkpoint with a given number.
#![allow(dead_code, unreachable_pub)] // Each test program uses some of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use bytes::Bytes;
use std::path::Path;
use storage::{Checkpoint, DeadRange, MessageKey, StateOptions, StateStore};

/// Checkpoints whose messages are alive.
const ALIVE: u64 = 4;
/// Small and large messages of one checkpoint.
const SMALL: u64 = 400;
const LARGE: u64 = 20;

/// Several batches per checkpoint, and write buffers that fill in the middle of one.
pub fn options() -> StateOptions {
    StateOptions {
        write_buffer_bytes: 256 << 10,
        batch_bytes: 32 << 10,
        file_bytes: 128 << 10,
        block_cache_bytes: 1 << 20,
        ..StateOptions::default()
    }
}

pub fn open(dir: impl AsRef<Path>) -> StateStore {
    StateStore::open(dir, options()).unwrap()
}

fn body(sequence: u64, size: usize) -> Bytes {
    let word = sequence.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
    Bytes::from(word.iter().copied().cycle().take(size).collect::<Vec<_>>())
}

fn small(number: u64) -> std::ops::RangeInclusive<u64> {
    number * SMALL + 1..=(number + 1) * SMALL
}

fn large(number: u64) -> std::ops::RangeInclusive<u64> {
    number * LARGE + 1..=(number + 1) * LARGE
}

fn puts(number: u64) -> Vec<(MessageKey, Bytes)> {
    let small = small(number).map(|sequence| {
        (
            MessageKey {
                queue: 1,
                level: 0,
                sequence,
            },
            body(sequence, 300),
        )
    });
    let large = large(number).map(|sequence| {
        (
            MessageKey {
                queue: 2,
                level: 0,
                sequence,
            },
            body(sequence, 6000),
        )
    });
    small.chain(large).collect()
}

fn record(number: u64) -> Bytes {
    Bytes::from(format!("record {number}"))
}

/// Writes checkpoint `number`; numbers follow each other.
pub fn write(store: &StateStore, shard: u32, number: u64) -> Result<(), storage::StorageError> {
    let mut checkpoint = Checkpoint {
        puts: puts(number),
        queue_records: vec![(1, record(number))],
        origins: record(number),
        ..Checkpoint::default()
    };
    if let Some(old) = number.checked_sub(ALIVE) {
        for (queue, range) in [(1, small(old)), (2, large(old))] {
            let (from, to) = range.into_inner();
            checkpoint.deletes.push(DeadRange {
                queue,
                level: 0,
                from,
                to,
            });
        }
    }
    store.write_checkpoint(shard, checkpoint, number.to_string().as_bytes())
}

/// The number of the checkpoint that the store is at. Everything in it must be exactly that.
pub fn check(store: &StateStore, shard: u32) -> Option<u64> {
    let all = |queue| {
        store
            .read_messages(shard, queue, 0, 0..=u64::MAX, usize::MAX, usize::MAX)
            .unwrap()
    };
    let Some(state) = store.load_shard(shard).unwrap() else {
        assert!(all(1).is_empty() && all(2).is_empty());
        return None;
    };
    let number: u64 = String::from_utf8_lossy(&state.applied).parse().unwrap();
    assert_eq!(state.origins, record(number));
    assert_eq!(state.queue_records, vec![(1, record(number))]);
    let mut found: Vec<(u64, u64, Bytes)> = Vec::new();
    for queue in [1, 2] {
        found.extend(
            all(queue)
                .into_iter()
                .map(|(sequence, body)| (queue, sequence, body)),
        );
    }
    let mut expected: Vec<(u64, u64, Bytes)> = (number.saturating_sub(ALIVE - 1)..=number)
        .flat_map(puts)
        .map(|(key, body)| (key.queue, key.sequence, body))
        .collect();
    expected.sort();
    assert_eq!(
        found.len(),
        expected.len(),
        "shard {shard} at checkpoint {number}"
    );
    assert!(found == expected, "shard {shard} at checkpoint {number}");
    Some(number)
}

/// Replaces shard `to` by what shard `from` holds; returns the number of its checkpoint.
pub fn install(store: &StateStore, from: u32, to: u32) -> Result<u64, storage::StorageError> {
    let mut view = store
        .view(from, |_, _| Ok(Box::new(|_| true)))?
        .expect("there is a checkpoint");
    let mut install = store.install(to)?;
    while let Some(chunk) = view.next_chunk()? {
        install.write(chunk)?;
    }
    install.finish(view.applied())?;
    Ok(String::from_utf8_lossy(view.applied()).parse().unwrap())
}
