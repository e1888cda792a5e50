//! The state store behind consumers: disk stays bounded, the head stays fast.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/state.rs"]
mod common;

use common::{dead, open, puts, sequences, write};
use storage::Checkpoint;

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
