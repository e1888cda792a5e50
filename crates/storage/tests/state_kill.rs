//! A process that writes checkpoints and installs is killed: each shard is found exactly as one of
//! its checkpoints left it, and no earlier than the last that was reported.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/child.rs"]
mod child;
#[path = "common/history.rs"]
mod history;

use bytes::Bytes;
use std::collections::BTreeMap;
use std::time::Duration;

#[test]
#[ignore = "run by the test below, in a process that it kills"]
fn child_checkpoints() {
    let Some((dir, _)) = child::task() else {
        return;
    };
    let store = history::open(dir);
    let mut next = history::check(&store, 1).map_or(0, |number| number + 1);
    loop {
        history::write(&store, 1, next).unwrap();
        child::say(&format!("shard 1 {next}"));
        if next % 2 == 1 {
            let number = history::install(&store, 1, 2).unwrap();
            child::say(&format!("shard 2 {number}"));
        }
        let blob = vec![
            Bytes::from(next.to_string()),
            Bytes::from(vec![next as u8; 300_000]),
        ];
        store.put_blob(0, "blob", &blob).unwrap();
        child::say(&format!("blob 0 {next}"));
        next += 1;
    }
}

#[test]
fn a_killed_process_leaves_whole_checkpoints() {
    let dir = tempfile::tempdir().unwrap();
    let mut promised: BTreeMap<String, u64> = BTreeMap::new();
    for round in 0..10 {
        let time = Duration::from_millis(37 * (round + 1));
        for line in child::run_and_kill("child_checkpoints", dir.path(), round, time) {
            let (name, number) = line.rsplit_once(' ').unwrap();
            promised.insert(name.to_owned(), number.parse().unwrap());
        }
        let store = history::open(dir.path());
        for shard in [1, 2] {
            let promised = promised.get(&format!("shard {shard}")).copied();
            assert!(
                history::check(&store, shard) >= promised,
                "shard {shard}: {promised:?}"
            );
        }
        let blob = store.get_blob(0, "blob").unwrap();
        let number = blob.map(|chunks| {
            let number: u64 = String::from_utf8_lossy(&chunks[0]).parse().unwrap();
            assert_eq!(chunks[1], vec![number as u8; 300_000]);
            number
        });
        assert!(number >= promised.get("blob 0").copied());
    }
    assert!(
        promised["shard 1"] > 10,
        "the test did something: {promised:?}"
    );
}
