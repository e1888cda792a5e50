//! What is asked while nodes still tell a new leader what they hold and consume.

use super::leader::*;
use crate::catalog::settings::{Overflow, QueueSettings};
use crate::ids::{Origin, RequestId};
use crate::op::{BatchOutcome, SequenceRanges};
use crate::protocol::{ConsumerSpec, FromHost, Refused, Subject, ToHost};

const REQUEST: RequestId = RequestId(9);

fn auto_delete() -> Leader {
    Leader::of(QueueSettings {
        auto_delete: true,
        ..QueueSettings::default()
    })
}

/// A consumer comes along from the leader before.
fn tell(leader: &mut Leader, from: Origin, consumer: u64, held: &[(u64, u64)]) {
    let held = held.iter().map(|(from, to)| range(*from, *to)[0]).collect();
    let spec = ConsumerSpec::default();
    leader.resume(from, QUEUE, consumer, 1, spec, Some(held));
    leader.hear(from, ToHost::Resumed);
}

fn delete_if_unused() -> ToHost {
    ToHost::CheckDelete {
        request: REQUEST,
        queue: QUEUE,
        if_unused: true,
        if_empty: false,
    }
}

fn in_use() -> FromHost {
    FromHost::Refused {
        subject: Subject::Request(REQUEST),
        why: Refused::InUse,
    }
}

#[test]
fn an_auto_delete_queue_is_not_unused_while_others_have_not_told() {
    let mut leader = auto_delete();
    leader.consume(node(1), 1, 1);
    leader.consume(node(2), 2, 1);
    leader.fail_over(&[node(1), node(2)]);
    tell(&mut leader, node(1), 1, &[]);
    leader.cancel(node(1), 1);
    leader.hear(node(1), delete_if_unused());
    assert_eq!(leader.unused, []);
    assert!(!leader.answers().contains(&in_use()));
    tell(&mut leader, node(2), 2, &[]);
    assert_eq!(leader.unused, []);
    assert!(leader.answers().contains(&in_use()));
    leader.cancel(node(2), 2);
    assert_eq!(leader.unused, [QUEUE]);
}

#[test]
fn an_auto_delete_queue_is_unused_at_the_end_when_nobody_else_came() {
    let mut leader = auto_delete();
    leader.consume(node(1), 1, 1);
    leader.fail_over(&[node(1), node(2)]);
    tell(&mut leader, node(1), 1, &[]);
    leader.cancel(node(1), 1);
    assert_eq!(leader.unused, []);
    leader.hear(node(2), ToHost::Resumed);
    assert_eq!(leader.unused, [QUEUE]);
}

#[test]
fn a_node_that_is_late_keeps_the_queues_of_its_consumers() {
    let mut leader = auto_delete();
    leader.consume(node(1), 1, 1);
    leader.consume(node(2), 2, 1);
    leader.fail_over(&[node(1), node(2)]);
    tell(&mut leader, node(1), 1, &[]);
    leader.at(leader.now_ms + 600);
    leader.cancel(node(1), 1);
    leader.hear(node(1), delete_if_unused());
    assert_eq!(leader.unused, []);
    assert!(leader.answers().contains(&in_use()));
    leader.dispatcher.attached(node(2));
    tell(&mut leader, node(2), 2, &[]);
    leader.at(leader.now_ms + 20_000);
    assert_eq!(leader.unused, []);
    leader.cancel(node(2), 2);
    assert_eq!(leader.unused, [QUEUE]);
}

/// Its mark is far behind its last message.
#[test]
fn a_backlog_changes_nothing_about_it() {
    let mut leader = auto_delete();
    leader.consume(node(1), 1, 1);
    leader.consume(node(2), 2, 1);
    let many: Vec<&str> = vec!["message"; 20_000];
    leader.publish(&many);
    assert_eq!(leader.bodies().len(), 2);
    leader.fail_over(&[node(1), node(2)]);
    tell(&mut leader, node(1), 1, &[]);
    leader.at(leader.now_ms + 600);
    leader.cancel(node(1), 1);
    leader.hear(node(1), delete_if_unused());
    assert!(leader.answers().contains(&in_use()));
    assert_eq!(leader.unused, []);
    // The other one never comes.
    leader.at(leader.now_ms + 20_000);
    assert_eq!(leader.unused, [QUEUE]);
}

#[test]
fn a_queue_that_only_a_lost_node_consumed_is_unused_later() {
    let mut leader = auto_delete();
    leader.consume(node(1), 1, 1);
    leader.fail_over(&[node(1), node(2)]);
    tell(&mut leader, node(1), 1, &[]);
    leader.at(leader.now_ms + 600);
    leader.cancel(node(1), 1);
    assert_eq!(leader.unused, []);
    leader.at(leader.now_ms + 20_000);
    assert_eq!(leader.unused, [QUEUE]);
}

#[test]
fn counts_and_purges_wait_until_all_have_told() {
    let mut leader = Leader::of(QueueSettings::default());
    leader.consume(node(2), 2, 1);
    leader.publish(&["held", "ready"]);
    assert_eq!(leader.bodies(), ["held"]);
    leader.fail_over(&[node(1), node(2)]);
    leader.hear(node(1), ToHost::Resumed);
    leader.hear(
        node(1),
        ToHost::Count {
            request: REQUEST,
            queue: QUEUE,
            used: true,
        },
    );
    leader.hear(
        node(1),
        ToHost::Purge {
            request: REQUEST,
            queue: QUEUE,
        },
    );
    assert_eq!(leader.answers(), []);
    let spec = ConsumerSpec::default();
    let held = range(1, 1);
    leader.resume(node(2), QUEUE, 2, 0, spec, Some(held));
    leader.hear(node(2), ToHost::Resumed);
    let counts = |answer: &FromHost| match answer {
        FromHost::Counts {
            ready, consumers, ..
        } => Some((*ready, *consumers)),
        _ => None,
    };
    let counts: Vec<_> = leader.answers().iter().filter_map(counts).collect();
    assert_eq!(counts.first(), Some(&(1, 1)));
    assert_eq!(counts.len(), 2, "the purge too: {counts:?}");
    // What node 2 holds is still its own.
    let outcome: BatchOutcome = leader.batch(node(2), &[give_back(1, 1)]);
    assert!(outcome.refused_ops.is_empty());
    assert_eq!(leader.counts().ready, 1);
}

#[test]
fn who_asks_again_is_answered_once() {
    let mut leader = Leader::of(QueueSettings::default());
    leader.fail_over(&[node(1), node(2)]);
    leader.hear(node(1), delete_if_unused());
    leader.dispatcher.attached(node(1));
    leader.hear(node(1), ToHost::Resumed);
    leader.hear(node(1), delete_if_unused());
    leader.hear(node(2), ToHost::Resumed);
    assert_eq!(leader.answers().len(), 1);
}

#[test]
fn nothing_is_refused_for_want_of_room_before_all_have_told() {
    let mut leader = Leader::of(QueueSettings {
        max_length: Some(2),
        overflow: Overflow::RejectPublish,
        ..QueueSettings::default()
    });
    leader.consume(node(2), 2, 2);
    leader.publish(&["a", "b"]);
    assert_eq!(leader.bodies(), ["a", "b"]);
    assert!(leader.publish(&["c"]).refused_ops.is_empty());
    leader.fail_over(&[node(1), node(2)]);
    // "a" and "b" may be with somebody.
    assert!(leader.publish(&["d"]).refused_ops.is_empty());
    leader.hear(node(1), ToHost::Resumed);
    let spec = ConsumerSpec::default();
    leader.resume(node(2), QUEUE, 2, 0, spec, Some(range(1, 2)));
    leader.hear(node(2), ToHost::Resumed);
    assert!(!leader.publish(&["e"]).refused_ops.is_empty());
}

#[test]
fn a_node_whose_stream_broke_gets_nothing_until_it_has_told() {
    let mut leader = Leader::of(QueueSettings::default());
    leader.consume(node(1), 1, 10);
    leader.consume(node(2), 2, 10);
    leader.dispatcher.detached(node(1));
    leader.publish(&["a", "b"]);
    assert_eq!(
        leader.deliveries(),
        delivered(&[(2, "a", false), (2, "b", false)])
    );
    leader.dispatcher.attached(node(1));
    leader.resume(
        node(1),
        QUEUE,
        1,
        10,
        ConsumerSpec::default(),
        Some(SequenceRanges::new()),
    );
    leader.hear(node(1), ToHost::Resumed);
    leader.publish(&["c", "d"]);
    assert_eq!(leader.deliveries().len(), 2);
}

/// Nobody can hold them: nothing of the queue was ever handed out.
#[test]
fn a_queue_that_is_surely_full_refuses_all_the_same() {
    let full = QueueSettings {
        overflow: Overflow::RejectPublish,
        ..QueueSettings::default()
    };
    for (max_length, max_length_bytes) in [(Some(2), None), (None, Some(2))] {
        let mut leader = Leader::of(QueueSettings {
            max_length,
            max_length_bytes,
            ..full.clone()
        });
        leader.publish(&["a", "b"]);
        leader.fail_over(&[node(1), node(2)]);
        assert!(!leader.publish(&["c"]).refused_ops.is_empty());
        leader.hear(node(1), ToHost::Resumed);
        leader.hear(node(2), ToHost::Resumed);
        assert!(!leader.publish(&["d"]).refused_ops.is_empty());
        assert_eq!(leader.counts().ready, 2);
    }
}
