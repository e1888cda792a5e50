//! Messages that come back and wait before they are handed out again.

use super::leader::*;
use crate::catalog::settings::{DelayedRetry, DeliveryLimit, Overflow, QueueSettings, RetryKind};
use crate::op::{DeathReason, Op};
use crate::protocol::{ConsumerSpec, FromHost, ToHost};

fn settings(kind: RetryKind) -> QueueSettings {
    QueueSettings {
        delayed_retry: Some(DelayedRetry {
            kind,
            min_ms: 100,
            max_ms: 250,
        }),
        ..QueueSettings::default()
    }
}

fn retrying() -> Leader {
    Leader::of(settings(RetryKind::All))
}

fn uncounted(from: u64, to: u64) -> Op {
    Op::Return {
        queue: QUEUE,
        sequences: range(from, to),
        counted: false,
    }
}

#[test]
fn waits_longer_with_each_failure() {
    let mut leader = retrying();
    leader.consume(node(1), 1, 10);
    leader.publish(&["a"]);
    assert_eq!(leader.bodies(), ["a"]);
    let mut now_ms = 1_000;
    for delay_ms in [100, 200, 250, 250] {
        leader.batch(node(1), &[give_back(1, 1)]);
        let counts = leader.counts();
        assert_eq!((counts.ready, counts.delayed, counts.unacked), (0, 1, 0));
        assert_eq!((counts.ready_bytes, counts.delayed_bytes), (0, 1));
        now_ms += delay_ms;
        assert_eq!(counts.delayed_ms, Some((now_ms, now_ms)));
        assert_eq!(leader.dispatcher.next_timeout(), Some(now_ms));
        leader.at(now_ms - 1);
        assert_eq!(leader.deliveries(), []);
        leader.at(now_ms);
        assert_eq!(leader.deliveries(), delivered(&[(1, "a", true)]));
        assert_eq!(leader.counts().delayed, 0);
    }
}

#[test]
fn only_those_of_the_kind_wait() {
    for (kind, failed, returned) in [
        (RetryKind::All, 1, 1),
        (RetryKind::Failed, 1, 0),
        (RetryKind::Returned, 0, 1),
    ] {
        let mut leader = Leader::of(settings(kind));
        leader.publish(&["a", "b"]);
        leader.consume(node(1), 1, 2);
        leader.batch(node(1), &[give_back(1, 1)]);
        assert_eq!(leader.counts().delayed, failed, "{kind:?}");
        leader.batch(node(1), &[uncounted(2, 2)]);
        assert_eq!(leader.counts().delayed, failed + returned, "{kind:?}");
        assert_eq!(leader.counts().ready, 2 - failed - returned, "{kind:?}");
    }
}

#[test]
fn others_go_first_and_it_has_its_place_again_after() {
    let mut leader = retrying();
    leader.publish(&["a", "b", "c"]);
    leader.consume(node(1), 1, 1);
    leader.batch(node(1), &[give_back(1, 1)]);
    leader.credit(node(1), 1, 1);
    assert_eq!(leader.bodies(), ["a", "b"]);
    leader.at(1_100);
    leader.credit(node(1), 1, 5);
    assert_eq!(leader.bodies(), ["a", "c"]);
}

#[test]
fn the_next_leader_knows() {
    for stored in [false, true] {
        let mut leader = retrying();
        leader.publish(&["a", "b", "c"]);
        leader.consume(node(1), 1, 2);
        leader.batch(node(1), &[give_back(1, 1), uncounted(2, 2)]);
        leader.deliveries();
        if stored {
            leader.checkpoint();
        }
        leader.fail_over(&[]);
        let counts = leader.counts();
        assert_eq!((counts.ready, counts.delayed), (1, 2));
        assert_eq!((counts.ready_bytes, counts.delayed_bytes), (1, 2));
        leader.consume(node(2), 2, 10);
        assert_eq!(leader.bodies(), ["c"]);
        leader.at(1_099);
        assert_eq!(leader.deliveries(), []);
        leader.at(1_100);
        assert_eq!(
            leader.deliveries(),
            delivered(&[(2, "a", true), (2, "b", true)])
        );
        // That they waited once says nothing about the next time.
        leader.fail_over(&[]);
        assert_eq!(leader.counts().delayed, 0);
        assert_eq!(leader.counts().ready, 3);
    }
}

#[test]
fn what_a_node_holds_does_not_wait_whatever_the_clock_says() {
    let mut leader = retrying();
    leader.publish(&["a", "b"]);
    leader.consume(node(1), 1, 2);
    leader.batch(node(1), &[give_back(1, 1)]);
    leader.at(1_100);
    leader.credit(node(1), 1, 1);
    leader.deliveries();
    // The next leader's clock is behind.
    leader.now_ms = 1_050;
    leader.fail_over(&[node(1)]);
    let held = Some(range(1, 2));
    leader.resume(node(1), QUEUE, 1, 5, ConsumerSpec::default(), held);
    leader.hear(node(1), ToHost::Resumed);
    let counts = leader.counts();
    assert_eq!((counts.ready, counts.delayed, counts.unacked), (0, 0, 2));
    leader.at(2_000);
    assert_eq!(leader.deliveries(), []);
    leader.batch(node(1), &[settle(1, 2)]);
    assert_eq!(leader.machine.queue(QUEUE).unwrap().alive(), 0);
}

#[test]
fn what_a_lost_node_held_waits_too() {
    let mut leader = retrying();
    leader.publish(&["a"]);
    leader.consume(node(1), 1, 2);
    leader.node_lost(node(1));
    assert_eq!(leader.counts().delayed, 1);
}

#[test]
fn a_purge_takes_them_too() {
    for fail_over in [false, true] {
        let mut leader = retrying();
        leader.publish(&["a", "b", "c", "d"]);
        leader.consume(node(1), 1, 3);
        leader.batch(node(1), &[give_back(2, 2)]);
        if fail_over {
            leader.batch(node(1), &[settle(1, 1), settle(3, 3)]);
            leader.fail_over(&[]);
        }
        leader.answers();
        let request = crate::ids::RequestId(7);
        let queue = QUEUE;
        leader.hear(node(1), ToHost::Purge { request, queue });
        assert!(
            leader
                .answers()
                .iter()
                .any(|answer| matches!(answer, FromHost::Counts { ready: 2, .. }))
        );
        let counts = leader.counts();
        assert_eq!((counts.ready, counts.delayed), (0, 0));
        let held = if fail_over { 0 } else { 2 };
        assert_eq!(leader.machine.queue(QUEUE).unwrap().alive(), held);
    }
}

#[test]
fn they_count_for_limits_and_are_not_dropped() {
    let mut leader = Leader::of(QueueSettings {
        max_length: Some(2),
        ..settings(RetryKind::All)
    });
    leader.consume(node(1), 1, 2);
    leader.publish(&["a", "b"]);
    leader.batch(node(1), &[give_back(1, 2)]);
    leader.publish(&["c"]);
    let counts = leader.counts();
    assert_eq!((counts.ready, counts.delayed), (0, 2));
    leader.credit(node(1), 1, 5);
    leader.at(1_100);
    assert_eq!(leader.bodies(), ["a", "b", "a", "b"]);

    let mut leader = Leader::of(QueueSettings {
        max_length: Some(1),
        overflow: Overflow::RejectPublish,
        ..settings(RetryKind::All)
    });
    leader.publish(&["a"]);
    leader.consume(node(1), 1, 1);
    leader.batch(node(1), &[give_back(1, 1)]);
    assert_eq!(leader.publish(&["b"]).refused_ops, [0]);
}

#[test]
fn the_delivery_limit_comes_first() {
    let mut leader = Leader::of(QueueSettings {
        delivery_limit: Some(DeliveryLimit::Failures(1)),
        dead_letter_exchange: Some(std::sync::Arc::from("dlx")),
        ..settings(RetryKind::All)
    });
    leader.publish(&["a"]);
    leader.consume(node(1), 1, 5);
    leader.batch(node(1), &[give_back(1, 1)]);
    leader.at(1_100);
    assert_eq!(leader.bodies(), ["a", "a"]);
    leader.batch(node(1), &[give_back(1, 1)]);
    assert_eq!(leader.counts().delayed, 0);
    assert_eq!(leader.dead_letters.len(), 1);
    assert_eq!(leader.dead_letters[0].reason, DeathReason::DeliveryLimit);
}

#[test]
fn one_whose_time_to_live_ends_is_never_handed_out() {
    let mut leader = retrying();
    let ops = [
        publish(QUEUE, 0, None, "for ever"),
        publish(QUEUE, 0, Some(50), "short"),
        publish(QUEUE, 0, Some(60), "short, too"),
    ];
    leader.batch(node(9), &ops);
    leader.consume(node(1), 1, 3);
    leader.batch(node(1), &[give_back(1, 3)]);
    leader.deliveries();
    leader.fail_over(&[]);
    leader.consume(node(1), 1, 3);
    leader.at(1_300);
    assert_eq!(leader.bodies(), ["for ever"]);
    assert_eq!(leader.machine.queue(QUEUE).unwrap().alive(), 1);
}

#[test]
fn a_queue_in_which_some_wait_is_not_empty() {
    let mut leader = retrying();
    leader.publish(&["a"]);
    leader.consume(node(1), 1, 1);
    leader.batch(node(1), &[give_back(1, 1)]);
    leader.answers();
    leader.hear(
        node(1),
        ToHost::CheckDelete {
            request: crate::ids::RequestId(7),
            queue: QUEUE,
            if_unused: false,
            if_empty: true,
        },
    );
    assert!(matches!(leader.answers()[..], [FromHost::Refused { .. }]));
}

#[test]
fn a_setting_that_goes_leaves_those_that_wait_where_they_are() {
    let mut leader = retrying();
    leader.publish(&["a", "b"]);
    leader.consume(node(1), 1, 2);
    leader.batch(node(1), &[give_back(1, 1)]);
    leader.declare(QUEUE, QueueSettings::default());
    leader.batch(node(1), &[give_back(2, 2)]);
    let counts = leader.counts();
    assert_eq!((counts.ready, counts.delayed), (1, 1));
    leader.at(1_100);
    assert_eq!(leader.counts().ready, 2);
}
