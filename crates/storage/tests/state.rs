//! The state store: checkpoints, reads, views, installs, named values, space.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/state.rs"]
mod common;

use bytes::Bytes;
use common::{Puts, body, dead, key, open, puts, sequences, write};
use proptest::prelude::*;
use std::collections::BTreeMap;
use storage::{Checkpoint, DeadRange, MessageKey, StateStore, StorageError};

#[test]
fn a_checkpoint_is_there_after_a_reopen() {
    let dir = tempfile::tempdir().unwrap();
    {
        let store = open(dir.path());
        assert_eq!(store.load_shard(1).unwrap(), None);
        let checkpoint = Checkpoint {
            puts: puts(10, 1, 50, 100),
            queue_records: vec![
                (10, Bytes::from_static(b"ten")),
                (11, Bytes::from_static(b"eleven")),
            ],
            origins: Bytes::from_static(b"origins"),
            ..Checkpoint::default()
        };
        write(&store, 1, checkpoint, 7);
        let checkpoint = Checkpoint {
            deletes: vec![dead(10, 1, 40)],
            queue_records: vec![(10, Bytes::from_static(b"TEN"))],
            origins: Bytes::from_static(b"origins 2"),
            ..Checkpoint::default()
        };
        write(&store, 1, checkpoint, 8);
    }
    let store = open(dir.path());
    assert_eq!(store.shards(), vec![1]);
    let state = store.load_shard(1).unwrap().unwrap();
    assert_eq!(state.applied, "8");
    assert_eq!(state.origins, "origins 2");
    let records = vec![
        (10, Bytes::from_static(b"TEN")),
        (11, Bytes::from_static(b"eleven")),
    ];
    assert_eq!(state.queue_records, records);
    assert_eq!(sequences(&store, 1, 10), (41..=50).collect::<Vec<_>>());
    assert_eq!(store.load_shard(2).unwrap(), None);
}

#[test]
fn reads_are_bounded_by_range_count_and_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut all = puts(5, 1, 100, 1000);
    all.push((key(5, 1, 3), body(3, 10)));
    all.push((key(6, 0, 4), body(4, 10)));
    write(
        &store,
        1,
        Checkpoint {
            puts: all,
            ..Checkpoint::default()
        },
        1,
    );
    let read = |level, range, count, bytes| -> Vec<u64> {
        let read = store
            .read_messages(1, 5, level, range, count, bytes)
            .unwrap();
        read.into_iter().map(|(sequence, _)| sequence).collect()
    };
    assert_eq!(
        read(0, 20..=24, usize::MAX, usize::MAX),
        vec![20, 21, 22, 23, 24]
    );
    assert_eq!(read(0, 90..=u64::MAX, usize::MAX, usize::MAX).len(), 11);
    assert_eq!(read(0, 20..=99, 3, usize::MAX), vec![20, 21, 22]);
    assert_eq!(read(0, 20..=99, 100, 2500), vec![20, 21]);
    assert_eq!(read(0, 20..=99, 100, 1), vec![20]);
    assert_eq!(read(1, 0..=u64::MAX, 100, usize::MAX), vec![3]);
    assert!(read(2, 0..=u64::MAX, 100, usize::MAX).is_empty());
    #[allow(clippy::reversed_empty_ranges)]
    let nothing = read(0, 9..=8, 100, usize::MAX);
    assert!(nothing.is_empty());
}

#[test]
fn large_messages_and_large_checkpoints_come_back() {
    let dir = tempfile::tempdir().unwrap();
    {
        let store = open(dir.path());
        // Several batches: the limit is 64 KiB.
        let mut all = puts(1, 1, 300, 2000);
        all.extend(puts(2, 1, 20, 100_000));
        write(
            &store,
            3,
            Checkpoint {
                puts: all,
                ..Checkpoint::default()
            },
            1,
        );
    }
    let store = open(dir.path());
    assert_eq!(sequences(&store, 3, 1).len(), 300);
    assert_eq!(sequences(&store, 3, 2).len(), 20);
    write(
        &store,
        3,
        Checkpoint {
            deletes: vec![dead(2, 1, 19)],
            ..Checkpoint::default()
        },
        2,
    );
    assert_eq!(sequences(&store, 3, 2), vec![20]);
}

#[test]
fn a_dropped_queue_is_gone_and_may_come_back_in_the_same_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut all = puts(1, 1, 50, 5000);
    all.extend(puts(2, 1, 50, 50));
    let records = vec![(1, Bytes::from_static(b"1")), (2, Bytes::from_static(b"2"))];
    write(
        &store,
        1,
        Checkpoint {
            puts: all,
            queue_records: records,
            ..Checkpoint::default()
        },
        1,
    );
    let checkpoint = Checkpoint {
        dropped_queues: vec![1, 2],
        // More than one batch.
        puts: puts(1, 1, 30, 5000),
        queue_records: vec![(1, Bytes::from_static(b"again"))],
        ..Checkpoint::default()
    };
    write(&store, 1, checkpoint, 2);
    assert_eq!(sequences(&store, 1, 1), (1..=30).collect::<Vec<_>>());
    assert!(sequences(&store, 1, 2).is_empty());
    let state = store.load_shard(1).unwrap().unwrap();
    assert_eq!(state.queue_records, vec![(1, Bytes::from_static(b"again"))]);
}

/// Sends `shard` of one store to another.
fn send(from: &StateStore, to: &StateStore, shard: u32) -> usize {
    let mut view = from
        .view(shard, common::all)
        .unwrap()
        .expect("the shard exists");
    let applied = view.applied().clone();
    let mut install = to.install(shard).unwrap();
    let mut chunks = 0;
    while let Some(chunk) = view.next_chunk().unwrap() {
        assert!(chunk.len() <= storage::state::MAX_CHUNK_BYTES);
        install.write(chunk).unwrap();
        chunks += 1;
    }
    install.finish(&applied).unwrap();
    chunks
}

#[test]
fn a_view_is_consistent_and_an_install_replaces_everything() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (source, target) = (open(a.path()), open(b.path()));
    let mut all = puts(1, 1, 2000, 500);
    all.extend(puts(2, 1, 3, 3 << 20));
    let checkpoint = Checkpoint {
        puts: all,
        queue_records: vec![(1, Bytes::from_static(b"one"))],
        origins: Bytes::from_static(b"o"),
        ..Checkpoint::default()
    };
    write(&source, 1, checkpoint, 42);
    write(
        &source,
        2,
        Checkpoint {
            puts: puts(9, 1, 9, 9),
            ..Checkpoint::default()
        },
        1,
    );
    let old = Checkpoint {
        puts: puts(7, 1, 1000, 500),
        queue_records: vec![(7, Bytes::from_static(b"seven"))],
        ..Checkpoint::default()
    };
    write(&target, 1, old, 3);

    let mut view = source.view(1, common::all).unwrap().unwrap();
    // What happens after the view was opened is not in it, also when files are dropped.
    for round in 0..4 {
        let deletes = vec![dead(1, round * 500 + 1, round * 500 + 500)];
        write(
            &source,
            1,
            Checkpoint {
                deletes,
                ..Checkpoint::default()
            },
            43 + round,
        );
    }
    let mut install = target.install(1).unwrap();
    while let Some(chunk) = view.next_chunk().unwrap() {
        install.write(chunk).unwrap();
        assert_eq!(
            sequences(&target, 1, 7).len(),
            1000,
            "the old state stays until the end"
        );
    }
    install.finish(view.applied()).unwrap();
    drop(view);
    drop(target);
    let target = open(b.path());
    assert_eq!(sequences(&target, 1, 1), (1..=2000).collect::<Vec<_>>());
    assert_eq!(sequences(&target, 1, 2), vec![1, 2, 3]);
    assert!(sequences(&target, 1, 7).is_empty());
    let state = target.load_shard(1).unwrap().unwrap();
    assert_eq!(
        (state.applied.as_ref(), state.origins.as_ref()),
        (b"42".as_ref(), b"o".as_ref())
    );
    assert_eq!(state.queue_records, vec![(1, Bytes::from_static(b"one"))]);
    assert_eq!(target.load_shard(2).unwrap(), None);
    assert!(source.view(77, common::all).unwrap().is_none());

    // And again, in the other direction, onto what is now epoch 2.
    write(
        &source,
        1,
        Checkpoint {
            puts: puts(5, 1, 5, 5),
            ..Checkpoint::default()
        },
        50,
    );
    assert!(send(&source, &target, 1) >= 9);
    assert_eq!(sequences(&target, 1, 5), vec![1, 2, 3, 4, 5]);
    assert!(sequences(&target, 1, 1).is_empty());
}

#[test]
fn an_abandoned_or_damaged_install_changes_nothing() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (source, target) = (open(a.path()), open(b.path()));
    write(
        &source,
        1,
        Checkpoint {
            puts: puts(1, 1, 3000, 800),
            ..Checkpoint::default()
        },
        9,
    );
    write(
        &target,
        1,
        Checkpoint {
            puts: puts(7, 1, 10, 50),
            ..Checkpoint::default()
        },
        3,
    );

    let mut view = source.view(1, common::all).unwrap().unwrap();
    let mut install = target.install(1).unwrap();
    install.write(view.next_chunk().unwrap().unwrap()).unwrap();
    drop(install);
    drop(view);

    let mut view = source.view(1, common::all).unwrap().unwrap();
    let mut install = target.install(1).unwrap();
    let chunk = view.next_chunk().unwrap().unwrap();
    let mut bad = chunk.to_vec();
    bad[1000] ^= 1;
    let refused = install.write(Bytes::from(bad));
    assert!(
        matches!(refused, Err(StorageError::Refused(_))),
        "{refused:?}"
    );
    install.write(chunk).unwrap();
    let refused = install.finish(b"9");
    assert!(
        matches!(refused, Err(StorageError::Refused(_))),
        "chunks are missing: {refused:?}"
    );

    assert!(target.poisoned().is_none());
    assert_eq!(target.load_shard(1).unwrap().unwrap().applied, "3");
    assert_eq!(sequences(&target, 1, 7).len(), 10);
    send(&source, &target, 1);
    assert_eq!(sequences(&target, 1, 1).len(), 3000);
}

#[test]
fn a_removed_shard_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    {
        let store = open(dir.path());
        for shard in 1..=3 {
            write(
                &store,
                shard,
                Checkpoint {
                    puts: puts(1, 1, 5, 50),
                    ..Checkpoint::default()
                },
                1,
            );
        }
        store.remove_shard(2).unwrap();
        assert_eq!(store.load_shard(2).unwrap(), None);
    }
    let store = open(dir.path());
    assert_eq!(store.shards(), vec![1, 3]);
    write(
        &store,
        2,
        Checkpoint {
            puts: puts(1, 8, 9, 50),
            ..Checkpoint::default()
        },
        5,
    );
    assert_eq!(sequences(&store, 2, 1), vec![8, 9]);
}

#[test]
fn named_values_come_back_chunk_by_chunk() {
    let dir = tempfile::tempdir().unwrap();
    let first = vec![
        body(1, 10),
        Bytes::new(),
        body(2, 3 << 20),
        body(3, 1 << 20),
    ];
    let second = vec![body(4, 100)];
    {
        let store = open(dir.path());
        assert_eq!(store.get_blob(0, "catalog").unwrap(), None);
        store.put_blob(0, "catalog", &first).unwrap();
        store.put_blob(0, "catalog2", &second).unwrap();
        store.put_blob(1, "catalog", &[]).unwrap();
        assert!(store.put_blob(0, &"x".repeat(256), &second).is_err());
    }
    let store = open(dir.path());
    assert!(store.get_blob(0, "catalog").unwrap().unwrap() == first);
    assert_eq!(store.get_blob(1, "catalog").unwrap(), Some(vec![]));
    for _ in 0..3 {
        store.put_blob(0, "catalog", &second).unwrap();
        assert!(store.get_blob(0, "catalog").unwrap().unwrap() == second);
        assert!(store.get_blob(0, "catalog2").unwrap().unwrap() == second);
    }
}

#[test]
fn a_damaged_message_is_noticed_and_named() {
    let dir = tempfile::tempdir().unwrap();
    write(
        &open(dir.path()),
        1,
        Checkpoint {
            puts: puts(10, 1, 5, 100),
            ..Checkpoint::default()
        },
        1,
    );
    {
        let names = rocksdb::DB::list_cf(&rocksdb::Options::default(), dir.path()).unwrap();
        let db = rocksdb::DB::open_cf(&rocksdb::Options::default(), dir.path(), names).unwrap();
        let family = db.cf_handle("messages").unwrap();
        let mut raw = vec![0, 0, 0, 1, 0, 0, 0, 1];
        raw.extend_from_slice(&10u64.to_be_bytes());
        raw.push(0);
        raw.extend_from_slice(&3u64.to_be_bytes());
        let mut value = db.get_cf(family, &raw).unwrap().unwrap();
        value[50] ^= 1;
        db.put_cf(family, raw, value).unwrap();
    }
    let store = open(dir.path());
    let error = store
        .read_messages(1, 10, 0, 1..=5, 10, 10_000)
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("message 3 (level 0) of queue 10 in shard 1"),
        "{error}"
    );
    let mut view = store.view(1, common::all).unwrap().unwrap();
    assert!(view.next_chunk().is_err(), "damage is not sent on");
}

#[derive(Debug, Clone)]
enum Step {
    Publish(u64, u8, u64, usize),
    Consume(u64, u8, u64),
    Drop(u64),
    Send,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let queue = 1..4u64;
    let size = prop_oneof![3 => 8..200usize, 1 => 4000..9000usize];
    prop_oneof![
        6 => (queue.clone(), 0..2u8, 1..60u64, size).prop_map(|(q, l, n, s)| Step::Publish(q, l, n, s)),
        5 => (queue.clone(), 0..2u8, 1..80u64).prop_map(|(q, l, n)| Step::Consume(q, l, n)),
        1 => queue.prop_map(Step::Drop),
        1 => Just(Step::Send),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]
    /// Against a map: whatever checkpoints, installs and reopens there were.
    #[test]
    fn the_store_agrees_with_a_map(steps in prop::collection::vec(step(), 1..30)) {
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let mut at = 0;
        let mut store = open(dirs[at].path());
        let mut model: BTreeMap<MessageKey, Bytes> = BTreeMap::new();
        let mut next = 1;
        for (applied, step) in steps.into_iter().enumerate() {
            let mut checkpoint = Checkpoint::<Puts>::default();
            match step {
                Step::Publish(queue, level, count, size) => {
                    checkpoint.puts = (next..next + count)
                        .map(|sequence| (key(queue, level, sequence), body(sequence, size)))
                        .collect();
                    next += count;
                    model.extend(checkpoint.puts.iter().cloned());
                }
                Step::Consume(queue, level, count) => {
                    let all = model.range(key(queue, level, 0)..=key(queue, level, u64::MAX));
                    let gone: Vec<MessageKey> = all.map(|(key, _)| *key).take(count as usize).collect();
                    if let (Some(first), Some(last)) = (gone.first(), gone.last()) {
                        let (from, to) = (first.sequence, last.sequence);
                        checkpoint.deletes = vec![DeadRange { queue, level, from, to }];
                    }
                    model.retain(|key, _| !gone.contains(key));
                }
                Step::Drop(queue) => {
                    checkpoint.dropped_queues = vec![queue];
                    model.retain(|key, _| key.queue != queue);
                }
                Step::Send if store.load_shard(1).unwrap().is_some() => {
                    at = 1 - at;
                    let target = open(dirs[at].path());
                    send(&store, &target, 1);
                    store = target;
                }
                Step::Send => {}
                Step::Reopen => {
                    drop(store);
                    store = open(dirs[at].path());
                }
            }
            write(&store, 1, checkpoint, applied as u64);
            for queue in 1..4 {
                for level in 0..2 {
                    let read = store
                        .read_messages(1, queue, level, 0..=u64::MAX, usize::MAX, usize::MAX)
                        .unwrap();
                    let expected: Vec<_> = model
                        .range(key(queue, level, 0)..=key(queue, level, u64::MAX))
                        .map(|(key, body)| (key.sequence, body.clone()))
                        .collect();
                    prop_assert!(read == expected, "queue {queue} level {level}");
                }
            }
        }
    }
}
