//! Messages without any time to live: for those who wait, or for nobody.

use super::leader::*;
use crate::catalog::settings::{QueueSettings, QueueType};
use crate::op::{DeathReason, Op};

fn quorum() -> Leader {
    Leader::of(QueueSettings {
        queue_type: QueueType::Quorum,
        dead_letter_exchange: Some("dlx".into()),
        ..QueueSettings::default()
    })
}

fn died(leader: &Leader) -> usize {
    let expired = |letter: &&_| {
        matches!(
            letter,
            crate::dispatch::DeadLetter {
                reason: DeathReason::Expired,
                ..
            }
        )
    };
    leader.dead_letters.iter().filter(expired).count()
}

#[test]
fn the_first_message_of_a_level_goes_to_who_waits() {
    let mut leader = quorum();
    leader.consume(node(1), 1, 10);
    leader.batch(node(9), &[publish(QUEUE, 4, Some(0), "first")]);
    assert_eq!(leader.bodies(), ["first"]);
    // Of a level that the queue had not had when its consumer began.
    leader.batch(node(9), &[publish(QUEUE, 9, Some(0), "another")]);
    assert_eq!(leader.bodies(), ["another"]);
    assert_eq!(died(&leader), 0);
}

#[test]
fn those_behind_the_first_go_too() {
    let mut leader = quorum();
    leader.consume(node(1), 1, 10);
    let ops = [
        publish(QUEUE, 7, None, "a"),
        publish(QUEUE, 7, Some(0), "b"),
        publish(QUEUE, 7, Some(0), "c"),
    ];
    leader.batch(node(9), &ops);
    assert_eq!(leader.bodies(), ["a", "b", "c"]);
    assert_eq!(died(&leader), 0);
}

#[test]
fn more_than_one_turn_hands_out_go_all() {
    let mut leader = quorum();
    leader.consume(node(1), 1, 0);
    leader.large_credit(node(1), 1, 2_000, 1 << 20);
    let ops: Vec<Op> = (0..1_500)
        .map(|_| publish(QUEUE, 4, Some(0), "x"))
        .collect();
    leader.batch(node(9), &ops);
    assert_eq!(leader.bodies().len(), 1_500);
    assert_eq!(died(&leader), 0);
}

#[test]
fn whom_nobody_waits_for_dies_at_once() {
    let mut leader = quorum();
    leader.consume(node(1), 1, 1);
    let ops = [
        publish(QUEUE, 4, Some(0), "taken"),
        publish(QUEUE, 4, Some(0), "too much"),
    ];
    leader.batch(node(9), &ops);
    assert_eq!(leader.bodies(), ["taken"]);
    assert_eq!(died(&leader), 1);
    assert_eq!(leader.counts().ready, 0);
}

/// The mark of the level that most messages have is there before the first of them.
#[test]
fn the_usual_level_is_marked_ahead() {
    let mut leader = quorum();
    leader.consume(node(1), 1, 10);
    let marks = leader.marks;
    leader.batch(node(9), &[publish(QUEUE, 4, None, "x")]);
    assert_eq!(leader.bodies(), ["x"]);
    assert_eq!(leader.marks, marks);
}
