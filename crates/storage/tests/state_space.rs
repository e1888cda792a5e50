//! The state store behind consumers: disk stays bounded, the head stays fast.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/state.rs"]
mod common;

use common::{dead, open, puts, sequences, small, write};
use storage::{Checkpoint, StateOptions, StateStore, StorageError};

/// Fills and consumes; returns the most bytes on disk while `live` bytes were alive.
fn fill_and_consume(size: usize, per_round: u64, rounds: u64, stuck: bool) -> (u64, u64) {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    if stuck {
        // An old large message that nobody consumes must not keep the others' space.
        write(
            &store,
            1,
            Checkpoint {
                puts: puts(1, 1, 1, 100_000),
                ..Checkpoint::default()
            },
            0,
        );
    }
    let mut most = 0;
    for round in 0..rounds {
        let first = round * per_round + 1;
        let deletes = if round < 4 {
            Vec::new()
        } else {
            let first = (round - 4) * per_round + 1;
            vec![dead(2, first, first + per_round - 1)]
        };
        let puts = puts(2, first, first + per_round - 1, size);
        write(
            &store,
            1,
            Checkpoint {
                puts,
                deletes,
                ..Checkpoint::default()
            },
            round,
        );
        most = most.max(store.disk_usage());
    }
    let deletes = vec![dead(2, (rounds - 4) * per_round + 1, rounds * per_round)];
    write(
        &store,
        1,
        Checkpoint {
            deletes,
            ..Checkpoint::default()
        },
        rounds,
    );
    assert!(sequences(&store, 1, 2).is_empty());
    if stuck {
        assert_eq!(sequences(&store, 1, 1), vec![1]);
    }
    (most, store.disk_usage())
}

#[test]
fn the_disk_stays_bounded_behind_consumers_of_small_messages() {
    // 300 MiB go through, 6 MiB are alive at a time.
    let (most, _) = fill_and_consume(1000, 1500, 200, false);
    assert!(most < 60 << 20, "{} MiB were on disk", most >> 20);
}

#[test]
fn the_disk_stays_bounded_behind_consumers_of_large_messages() {
    for stuck in [false, true] {
        let (most, _) = fill_and_consume(20_000, 75, 150, stuck);
        assert!(
            most < 60 << 20,
            "{} MiB were on disk, stuck: {stuck}",
            most >> 20
        );
    }
}

#[test]
fn a_consumed_backlog_gives_its_space_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let rounds = 30;
    for round in 0..rounds {
        let puts = puts(1, round * 2000 + 1, round * 2000 + 2000, 1000);
        write(
            &store,
            1,
            Checkpoint {
                puts,
                ..Checkpoint::default()
            },
            round,
        );
    }
    let full = store.disk_usage();
    assert!(full > 50 << 20, "{} MiB", full >> 20);
    for round in 0..rounds {
        let deletes = vec![dead(1, round * 2000 + 1, round * 2000 + 2000)];
        write(
            &store,
            1,
            Checkpoint {
                deletes,
                ..Checkpoint::default()
            },
            rounds + round,
        );
    }
    let empty = store.disk_usage();
    assert!(
        empty < 20 << 20,
        "{} MiB of {} are left",
        empty >> 20,
        full >> 20
    );
}

#[test]
fn reading_the_head_behind_many_deletions_is_fast() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for round in 0..40 {
        let puts = puts(1, round * 5000 + 1, round * 5000 + 5000, 60);
        let deletes = vec![dead(
            1,
            round * 5000 - u64::from(round > 0) * 4999,
            round * 5000,
        )];
        let deletes = if round == 0 { Vec::new() } else { deletes };
        write(
            &store,
            1,
            Checkpoint {
                puts,
                deletes,
                ..Checkpoint::default()
            },
            round,
        );
    }
    let head = 39 * 5000 + 1;
    let started = std::time::Instant::now();
    for _ in 0..100 {
        let read = store
            .read_messages(1, 1, 0, head..=u64::MAX, 10, 1 << 20)
            .unwrap();
        assert_eq!(read.len(), 10);
    }
    assert!(
        started.elapsed().as_millis() < 2000,
        "{:?} for 100 reads",
        started.elapsed()
    );
}

/// As when publishers are blocked because the disk is nearly full: no further checkpoint brings anything.
#[test]
fn what_was_consumed_is_given_back_when_asked() {
    // Small messages in queues of which each alone is not worth a look.
    for (size, count, queues) in [(20_000, 800, 1), (1_000, 1_900, 8)] {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        for queue in 1..=queues {
            for from in (1..=count).step_by(100) {
                let checkpoint = Checkpoint {
                    puts: puts(queue, from, from + 99, size),
                    ..Checkpoint::default()
                };
                write(&store, 1, checkpoint, from);
            }
        }
        let full = store.disk_usage();
        assert!(full > 15 << 20, "{full}");
        let deletes = (1..=queues).flat_map(|queue| [dead(queue, 1, 299), dead(queue, 301, count)]);
        let checkpoint = Checkpoint {
            deletes: deletes.collect(),
            ..Checkpoint::default()
        };
        write(&store, 1, checkpoint, count + 1);
        // A look that took little before leaves the rest to do.
        store.give_back_space(false).unwrap();
        store.give_back_space(true).unwrap();
        // 4 MiB are what RocksDB takes ahead for its manifest.
        let left = store.disk_usage();
        assert!(left < 8 << 20, "{size}: {left} of {full} bytes are left");
        for queue in 1..=queues {
            assert_eq!(sequences(&store, 1, queue), vec![300]);
        }
        drop(store);
        let store = open(dir.path());
        assert_eq!(sequences(&store, 1, 1), vec![300]);
        let again = Checkpoint {
            puts: puts(1, count + 1, count + 1, size),
            ..Checkpoint::default()
        };
        write(&store, 1, again, count + 2);
        assert_eq!(sequences(&store, 1, 1), vec![300, count + 1]);
    }
}

#[test]
fn what_another_replica_sends_is_refused_where_it_would_take_the_reserve() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let sender = open(from.path());
    let checkpoint = Checkpoint {
        puts: puts(2, 1, 3, 20_000),
        ..Checkpoint::default()
    };
    write(&sender, 1, checkpoint, 7);
    let options = StateOptions {
        reserve_bytes: 1 << 60,
        ..small()
    };
    let receiver = StateStore::open(to.path(), options).unwrap();
    let old = Checkpoint {
        puts: puts(2, 9, 9, 100),
        ..Checkpoint::default()
    };
    write(&receiver, 1, old, 1);
    let mut install = receiver.install(1).unwrap();
    let chunk = sender
        .view(1, common::all)
        .unwrap()
        .unwrap()
        .next_chunk()
        .unwrap();
    let error = install.write(chunk.unwrap()).unwrap_err();
    assert!(matches!(error, StorageError::DiskFull { .. }), "{error:?}");
    drop(install);
    assert_eq!(sequences(&receiver, 1, 2), vec![9], "what was there stays");
    receiver.give_back_space(true).unwrap();
    assert_eq!(sequences(&receiver, 1, 2), vec![9]);
}
