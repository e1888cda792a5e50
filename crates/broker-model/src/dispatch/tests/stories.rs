//! Consumers, credit, order, gets and requests.

use super::leader::*;
use crate::catalog::settings::{DeliveryLimit, QueueSettings, QueueType};
use crate::dispatch::Tally;
use crate::ids::{ConsumerId, RequestId};
use crate::protocol::{ConsumerSpec, FromHost, Refused, Subject, ToHost};

pub(super) fn plain() -> Leader {
    Leader::of(QueueSettings::default())
}

#[test]
fn consumers_take_turns() {
    let mut leader = plain();
    leader.consume(node(1), 1, 10);
    leader.consume(node(2), 2, 10);
    leader.publish(&["a", "b", "c", "d"]);
    assert_eq!(
        leader.deliveries(),
        delivered(&[
            (1, "a", false),
            (1, "c", false),
            (2, "b", false),
            (2, "d", false)
        ])
    );
}

#[test]
fn nobody_gets_more_than_its_credit_and_the_hungry_are_told_once() {
    let mut leader = plain();
    leader.consume(node(1), 1, 2);
    leader.publish(&["a", "b"]);
    // Nothing waits: nothing is said.
    assert!(
        leader
            .answers()
            .iter()
            .all(|answer| matches!(answer, FromHost::ConsumeOk { .. }))
    );
    leader.publish(&["c"]);
    leader.publish(&["d"]);
    assert_eq!(
        leader.answers(),
        [FromHost::Starved {
            consumer: ConsumerId(1)
        }]
    );
    leader.credit(node(1), 1, 1);
    assert_eq!(
        leader.answers(),
        [FromHost::Starved {
            consumer: ConsumerId(1)
        }]
    );
    assert_eq!(leader.counts().ready, 1);
    assert_eq!(leader.counts().unacked, 3);
}

#[test]
fn credit_for_small_messages_is_no_credit_for_large_ones() {
    let mut leader = plain();
    leader.consume(node(1), 1, 10);
    let large = "x".repeat(3 << 20);
    leader.publish(&["small", &large, "behind it"]);
    assert_eq!(leader.counts().unacked, 1, "the small one");
    let told = |leader: &mut Leader| {
        let answers = leader.answers().into_iter();
        let mut told = answers.filter_map(|answer| match answer {
            FromHost::TooLarge { unused, size, .. } => Some((unused, size > 3 << 20)),
            FromHost::Starved { .. } => panic!("told twice"),
            _ => None,
        });
        (told.next(), told.next())
    };
    assert_eq!(told(&mut leader), (Some((9, true)), None));
    // Less than it weighs is not enough.
    leader.large_credit(node(1), 1, 2, 2 << 20);
    assert_eq!(told(&mut leader), (Some((2, true)), None));
    leader.large_credit(node(1), 1, 2, 4 << 20);
    assert_eq!(leader.counts().unacked, 3);
    // What credit is good for is told each time.
    leader.large_credit(node(1), 1, 1, 4 << 20);
    leader.credit(node(1), 1, 1);
    leader.publish(&[&large]);
    assert_eq!(told(&mut leader), (Some((2, true)), None));
}

#[test]
fn large_messages_go_to_whoever_has_credit_for_them() {
    let mut leader = plain();
    leader.consume(node(1), 1, 10);
    leader.consume(node(1), 2, 10);
    leader.consume(node(2), 3, 0);
    leader.large_credit(node(2), 3, 10, 4 << 20);
    let large = "x".repeat(1 << 19);
    leader.publish(&[&large, "a", &large, "b"]);
    let deliveries = leader.deliveries().into_iter();
    let all: Vec<_> = deliveries
        .map(|(consumer, body, _)| (consumer, body.len()))
        .collect();
    // The others have none left.
    assert_eq!(all, [(3, 1 << 19), (3, 1), (3, 1 << 19), (3, 1)]);
    leader.credit(node(1), 1, 10);
    leader.publish(&["c", &large]);
    assert_eq!(leader.counts().ready, 0);
}

#[test]
fn large_messages_use_up_credit_by_their_bytes() {
    let mut leader = plain();
    leader.consume(node(1), 1, 0);
    leader.large_credit(node(1), 1, 9, 8 << 20);
    let large = "x".repeat(3 << 20);
    leader.publish(&[&large, &large, &large, &large]);
    assert_eq!(leader.counts().unacked, 3);
    let cut = FromHost::Revoked {
        consumer: ConsumerId(1),
        unused: 6,
    };
    assert!(leader.answers().contains(&cut));
    leader.large_credit(node(1), 1, 1, 4 << 20);
    assert_eq!(leader.counts().unacked, 4);
}

#[test]
fn one_busy_consumer_does_not_hold_up_the_other() {
    let mut leader = plain();
    leader.consume(node(1), 1, 1);
    leader.consume(node(1), 2, 3);
    leader.publish(&["a", "b", "c", "d"]);
    assert_eq!(
        leader.deliveries(),
        delivered(&[
            (1, "a", false),
            (2, "b", false),
            (2, "c", false),
            (2, "d", false)
        ])
    );
}

#[test]
fn a_higher_consumer_priority_goes_first_while_it_has_credit() {
    let mut leader = plain();
    leader.consume(node(1), 1, 10);
    leader.consume_as(
        node(1),
        2,
        2,
        ConsumerSpec {
            priority: 5,
            ..ConsumerSpec::default()
        },
    );
    leader.publish(&["a", "b", "c"]);
    assert_eq!(
        leader.deliveries(),
        delivered(&[(2, "a", false), (2, "b", false), (1, "c", false)])
    );
}

#[test]
fn a_higher_message_priority_goes_first() {
    let mut leader = plain();
    let ops = [
        publish(QUEUE, 0, None, "low"),
        publish(QUEUE, 4, None, "high"),
        publish(QUEUE, 2, None, "middle"),
    ];
    leader.batch(node(9), &ops);
    leader.consume(node(1), 1, 10);
    assert_eq!(leader.bodies(), ["high", "middle", "low"]);
}

#[test]
fn what_is_returned_goes_back_to_its_place() {
    let mut leader = plain();
    leader.consume(node(1), 1, 3);
    leader.publish(&["a", "b", "c", "d"]);
    assert_eq!(leader.bodies(), ["a", "b", "c"]);
    leader.batch(node(1), &[give_back(2, 2)]);
    leader.batch(node(1), &[give_back(1, 1)]);
    leader.credit(node(1), 1, 5);
    assert_eq!(
        leader.deliveries(),
        delivered(&[(1, "a", true), (1, "b", true), (1, "d", false)])
    );
}

#[test]
fn a_delivery_says_how_often_the_message_failed() {
    let quorum = QueueSettings {
        queue_type: QueueType::Quorum,
        ..QueueSettings::default()
    };
    let limited = QueueSettings {
        delivery_limit: Some(DeliveryLimit::Failures(10)),
        ..QueueSettings::default()
    };
    // A classic queue without a limit adds no header.
    for (settings, shows) in [
        (quorum, true),
        (limited, true),
        (QueueSettings::default(), false),
    ] {
        let mut leader = Leader::of(settings);
        leader.publish(&["a"]);
        for failed in 0..3 {
            let (delivery, _) = leader.get(node(1), false).unwrap();
            assert_eq!(
                (delivery.delivery_count, delivery.redelivered),
                (if shows { failed } else { 0 }, failed > 0)
            );
            leader.batch(node(1), &[give_back(1, 1)]);
        }
    }
}

#[test]
fn a_get_takes_the_head_and_tells_what_is_left() {
    let mut leader = plain();
    leader.publish(&["a", "b", "c"]);
    let (first, left) = leader.get(node(1), false).unwrap();
    assert_eq!(
        (text(&first.message.body).as_str(), left, first.consumer),
        ("a", 2, ConsumerId(0))
    );
    let (second, left) = leader.get(node(1), true).unwrap();
    assert_eq!((text(&second.message.body).as_str(), left), ("b", 1));
    assert_eq!((leader.counts().ready, leader.counts().unacked), (1, 1));
    leader.get(node(1), true).unwrap();
    assert_eq!(leader.get(node(1), true), None);
    leader.batch(node(1), &[settle(1, 1)]);
    assert_eq!(leader.machine.queue(QUEUE).unwrap().alive(), 0);
}

#[test]
fn what_a_queue_does_is_counted() {
    let mut leader = plain();
    leader.publish(&["a", "b", "c", "d", "e"]);
    leader.get(node(1), true).unwrap();
    leader.get(node(1), false).unwrap();
    leader.batch(node(1), &[give_back(2, 2)]);
    leader.get(node(1), false).unwrap();
    leader.batch(node(1), &[settle(2, 2)]);
    leader.consume(node(1), 1, 2);
    leader.batch(node(1), &[settle(3, 4)]);
    leader.hear(
        node(2),
        ToHost::Purge {
            request: RequestId(5),
            queue: QUEUE,
        },
    );
    assert!(leader.get(node(1), false).is_none());
    let expected = Tally {
        published: 5,
        delivered: 2,
        delivered_no_ack: 0,
        got: 2,
        got_no_ack: 1,
        got_nothing: 1,
        redelivered: 1,
        acknowledged: 3, // Neither what was got for good nor what was purged.
    };
    assert_eq!(leader.counts().tally, expected);
    assert_eq!(leader.counts().handed_out, 5);
}

#[test]
fn without_ack_a_message_is_settled_when_it_is_handed_out() {
    let mut leader = plain();
    leader.consume_as(
        node(1),
        1,
        10,
        ConsumerSpec {
            no_ack: true,
            ..ConsumerSpec::default()
        },
    );
    leader.publish(&["a", "b"]);
    assert_eq!(leader.bodies(), ["a", "b"]);
    assert_eq!(leader.machine.queue(QUEUE).unwrap().alive(), 0);
    assert_eq!((leader.counts().ready, leader.counts().unacked), (0, 0));
}

#[test]
fn a_purge_leaves_what_is_handed_out() {
    let mut leader = plain();
    leader.publish(&["a", "b", "c", "d"]);
    leader.get(node(1), false);
    leader.get(node(1), false);
    leader.batch(node(1), &[give_back(1, 1)]);
    leader.answers();
    leader.hear(
        node(2),
        ToHost::Purge {
            request: RequestId(5),
            queue: QUEUE,
        },
    );
    let purged = FromHost::Counts {
        request: RequestId(5),
        ready: 3,
        unacked: 0,
        consumers: 0,
        ready_bytes: 0,
    };
    assert_eq!(leader.answers(), [purged]);
    assert_eq!((leader.counts().ready, leader.counts().unacked), (0, 1));
    leader.batch(node(1), &[give_back(2, 2)]);
    assert_eq!(leader.counts().ready, 1);
}

#[test]
fn a_cancelled_consumer_keeps_what_it_holds() {
    let mut leader = plain();
    leader.consume(node(1), 1, 1);
    leader.publish(&["a", "b"]);
    leader.hear(
        node(1),
        ToHost::Cancel {
            consumer: ConsumerId(1),
            queue: QUEUE,
        },
    );
    let last = leader.told.last().cloned().unwrap();
    assert_eq!(
        last.1,
        FromHost::Cancelled {
            consumer: ConsumerId(1),
            by_host: false
        }
    );
    assert_eq!(
        (
            leader.counts().ready,
            leader.counts().unacked,
            leader.counts().consumers
        ),
        (1, 1, 0)
    );
    leader.batch(node(1), &[settle(1, 1)]);
    assert_eq!(leader.counts().unacked, 0);
}

#[test]
fn credit_can_be_taken_back() {
    let mut leader = plain();
    leader.consume(node(1), 1, 5);
    leader.publish(&["a"]);
    leader.answers();
    leader.hear(
        node(1),
        ToHost::Revoke {
            consumer: ConsumerId(1),
            queue: QUEUE,
        },
    );
    assert_eq!(
        leader.answers(),
        [FromHost::Revoked {
            consumer: ConsumerId(1),
            unused: 4
        }]
    );
    leader.publish(&["b"]);
    assert_eq!(
        leader.answers(),
        [FromHost::Starved {
            consumer: ConsumerId(1)
        }]
    );
    leader.credit(node(1), 1, 1);
    assert_eq!(leader.bodies(), ["b"]);
}

#[test]
fn an_exclusive_consumer_is_alone() {
    let exclusive = || ConsumerSpec {
        exclusive: true,
        ..ConsumerSpec::default()
    };
    let refused = |consumer| FromHost::Refused {
        subject: Subject::Consumer(ConsumerId(consumer)),
        why: Refused::ExclusiveUse,
    };
    let mut leader = plain();
    leader.consume_as(node(1), 1, 1, exclusive());
    leader.answers();
    leader.consume(node(2), 2, 1);
    assert_eq!(leader.answers(), [refused(2)]);
    leader.hear(
        node(1),
        ToHost::Cancel {
            consumer: ConsumerId(1),
            queue: QUEUE,
        },
    );
    leader.consume(node(2), 3, 1);
    leader.answers();
    leader.consume_as(node(1), 4, 1, exclusive());
    assert_eq!(leader.answers(), [refused(4)]);
}

#[test]
fn a_single_active_consumer_gets_everything_until_it_goes() {
    let mut leader = Leader::of(QueueSettings {
        single_active_consumer: true,
        ..QueueSettings::default()
    });
    leader.consume(node(1), 1, 1);
    leader.consume(node(2), 2, 10);
    leader.publish(&["a", "b"]);
    assert_eq!(leader.deliveries(), delivered(&[(1, "a", false)]));
    leader.hear(
        node(1),
        ToHost::Cancel {
            consumer: ConsumerId(1),
            queue: QUEUE,
        },
    );
    assert_eq!(leader.deliveries(), delivered(&[(2, "b", false)]));
    // A newcomer of higher priority waits until the active one holds nothing.
    leader.consume_as(
        node(1),
        3,
        10,
        ConsumerSpec {
            priority: 1,
            ..ConsumerSpec::default()
        },
    );
    leader.publish(&["c"]);
    assert_eq!(leader.deliveries(), []);
    leader.batch(node(2), &[settle(2, 2)]);
    leader.publish(&["d"]);
    assert_eq!(
        leader.deliveries(),
        delivered(&[(3, "c", false), (3, "d", false)])
    );
}
