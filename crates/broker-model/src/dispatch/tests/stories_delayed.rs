//! Messages that wait for their time, to be passed on then.

use super::leader::*;
use crate::catalog::settings::{QueueSettings, Store};
use crate::op::Op;

fn delaying() -> Leader {
    Leader::of(QueueSettings {
        store: Some(Store::Delay),
        ..QueueSettings::default()
    })
}

/// Publishes messages that are named after their delays.
fn delay(leader: &mut Leader, delays: impl IntoIterator<Item = u64>) {
    let ops: Vec<_> = delays
        .into_iter()
        .map(|ms| publish(QUEUE, 0, Some(ms), &ms.to_string()))
        .collect();
    leader.batch(node(9), &ops);
}

/// Takes what was passed on so far, and settles it as whoever passed it on does.
fn passed_on(leader: &mut Leader) -> Vec<String> {
    let letters = std::mem::take(&mut leader.dead_letters);
    let settles: Vec<Op> = letters
        .iter()
        .filter_map(|letter| Some(Op::settle_one(letter.queue, letter.sequence?)))
        .collect();
    leader.batch(node(9), &settles);
    letters
        .iter()
        .map(|letter| text(&letter.message.body))
        .collect()
}

#[test]
fn passed_on_when_their_time_has_come() {
    let mut leader = delaying();
    delay(&mut leader, [300, 100, 200]);
    assert_eq!(passed_on(&mut leader), [] as [String; 0]);
    assert_eq!(leader.counts().ready, 3);
    assert_eq!(leader.dispatcher.next_timeout(), Some(1_100));
    leader.at(1_100);
    assert_eq!(passed_on(&mut leader), ["100"]);
    leader.at(1_199);
    assert_eq!(passed_on(&mut leader), [] as [String; 0]);
    // What was due first goes first, however late it is.
    leader.at(5_000);
    assert_eq!(passed_on(&mut leader), ["200", "300"]);
    let state = leader.machine.queue(QUEUE).unwrap();
    assert_eq!((state.alive(), state.dying()), (0, 0));
}

#[test]
fn passed_on_from_the_store_and_by_the_next_leader() {
    let mut leader = delaying();
    delay(&mut leader, [300, 100, 200]);
    leader.checkpoint();
    delay(&mut leader, [150]);
    leader.fail_over(&[]);
    leader.at(1_150);
    assert_eq!(passed_on(&mut leader), ["100", "150"]);
    // The next one offers again what was not settled.
    leader.at(1_250);
    assert_eq!(leader.dead_letters.len(), 1);
    leader.dead_letters.clear();
    leader.fail_over(&[]);
    assert_eq!(passed_on(&mut leader), ["200"]);
    leader.fail_over(&[]);
    leader.at(9_000);
    assert_eq!(passed_on(&mut leader), ["300"]);
}

#[test]
fn many_that_are_due_at_once_wait_where_they_are() {
    let count = 10_000_u64;
    let mut leader = delaying();
    // No two neighbours are due one after the other, so each one that is due is a range of its own.
    delay(&mut leader, (0..count).map(|at| 100 + (at * 7) % count));
    leader.checkpoint();
    leader.at(1_000_000);
    let mut all = Vec::new();
    loop {
        let dying = leader.machine.queue(QUEUE).unwrap().dying();
        assert!(dying <= 4_096 + 2 * 1_024, "{dying}");
        assert!(leader.dead_letters.len() <= 256);
        let some = passed_on(&mut leader);
        if some.is_empty() {
            break;
        }
        all.extend(some);
    }
    assert_eq!(all.len() as u64, count);
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len() as u64, count, "each once");
}

#[test]
fn a_backlog_is_not_kept_in_memory() {
    let mut leader = delaying();
    delay(&mut leader, (0..5_000).map(|at| 1_000_000 - at));
    leader.checkpoint();
    leader.at(2_000);
    assert_eq!(leader.machine.tail_bytes(), 0);
    assert_eq!(leader.counts().ready, 5_000);
    delay(&mut leader, [1]);
    leader.at(2_001);
    assert_eq!(passed_on(&mut leader), ["1"]);
}
