//! Consumers, credit, order, gets and requests.

use super::leader::*;
use crate::catalog::settings::{DeliveryLimit, QueueSettings, QueueType};
use crate::dispatch::Tally;
use crate::ids::{ConsumerId, QueueId, RequestId};
use crate::op::BatchStatus;
use crate::protocol::{ConsumerSpec, FromHost, Refused, Subject, ToHost};

fn plain() -> Leader {
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
    leader.publish(&["small", &large, &large, &large, &large]);
    assert_eq!(leader.counts().unacked, 4);
    let cut = FromHost::Revoked {
        consumer: ConsumerId(1),
        unused: 6,
    };
    assert!(leader.answers().contains(&cut));
    leader.credit(node(1), 1, 1);
    assert_eq!(leader.counts().unacked, 5);
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
    let expected = Tally {
        published: 5,
        delivered: 2,
        delivered_no_ack: 0,
        got: 2,
        got_no_ack: 1,
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

#[test]
fn a_deleted_queue_cancels_its_consumers() {
    let mut leader = plain();
    leader.consume(node(1), 1, 1);
    leader.publish(&["a", "b"]);
    leader.answers();
    leader.delete(QUEUE);
    assert_eq!(
        leader.answers(),
        [FromHost::Cancelled {
            consumer: ConsumerId(1),
            by_host: true
        }]
    );
    assert!(leader.machine.queue(QUEUE).is_none());
    leader.consume(node(1), 2, 1);
    let refused = FromHost::Refused {
        subject: Subject::Consumer(ConsumerId(2)),
        why: Refused::NoQueue,
    };
    assert_eq!(leader.answers(), [refused]);
    // What comes late is accepted, and forgotten by the next look for zombies.
    assert_eq!(leader.publish(&["late"]).status, BatchStatus::Applied);
    leader.delete(QUEUE);
    assert!(leader.machine.queue(QUEUE).is_none());
}

#[test]
fn a_delete_is_checked() {
    let mut leader = plain();
    let request = RequestId(3);
    let check = |if_unused, if_empty| ToHost::CheckDelete {
        request,
        queue: QUEUE,
        if_unused,
        if_empty,
    };
    let refused = |why| FromHost::Refused {
        subject: Subject::Request(request),
        why,
    };
    leader.publish(&["a"]);
    leader.hear(node(1), check(true, true));
    assert_eq!(leader.answers(), [refused(Refused::NotEmpty)]);
    leader.consume(node(1), 1, 1);
    leader.answers();
    leader.hear(node(1), check(true, true));
    assert_eq!(leader.answers(), [refused(Refused::InUse)]);
    leader.publish(&["b"]);
    leader.answers();
    leader.hear(node(1), check(true, true));
    assert_eq!(leader.answers(), [refused(Refused::NotEmpty)]);
    leader.hear(node(1), check(true, false));
    assert_eq!(leader.answers(), [refused(Refused::InUse)]);
    leader.get(node(1), true);
    leader.answers();
    leader.hear(node(1), check(false, true));
    assert!(matches!(
        leader.answers()[..],
        [FromHost::Counts {
            ready: 0,
            unacked: 1,
            consumers: 1,
            ..
        }]
    ));
}

#[test]
fn an_auto_delete_queue_is_unused_when_its_last_consumer_goes() {
    let mut leader = Leader::of(QueueSettings {
        auto_delete: true,
        ..QueueSettings::default()
    });
    leader.get(node(1), true);
    assert_eq!(leader.unused, []);
    leader.consume(node(1), 1, 1);
    leader.consume(node(2), 2, 1);
    leader.hear(
        node(1),
        ToHost::Cancel {
            consumer: ConsumerId(1),
            queue: QUEUE,
        },
    );
    assert_eq!(leader.unused, []);
    leader.node_lost(node(2));
    assert_eq!(leader.unused, [QUEUE]);
}

#[test]
fn an_unused_queue_expires_unless_it_is_used() {
    let mut leader = Leader::of(QueueSettings {
        expires_ms: Some(100),
        ..QueueSettings::default()
    });
    assert_eq!(leader.dispatcher.next_timeout(), Some(1_100));
    leader.at(1_090);
    leader.get(node(1), true);
    leader.at(1_100);
    assert_eq!(leader.expired, []);
    leader.hear(
        node(1),
        ToHost::Count {
            request: RequestId(1),
            queue: QUEUE,
            used: false,
        },
    );
    assert_eq!(leader.dispatcher.next_timeout(), Some(1_190));
    leader.consume(node(1), 1, 1);
    leader.at(5_000);
    assert_eq!(leader.expired, []);
    leader.hear(
        node(1),
        ToHost::Cancel {
            consumer: ConsumerId(1),
            queue: QUEUE,
        },
    );
    leader.at(5_100);
    assert_eq!(leader.expired, [QUEUE]);
}

#[test]
fn a_queue_expires_so_long_after_its_policy_was_set() {
    let mut leader = plain();
    leader.at(60_000);
    let expiring = |expires_ms| QueueSettings {
        expires_ms: Some(expires_ms),
        ..QueueSettings::default()
    };
    leader.declare(QUEUE, expiring(1_000));
    leader.at(60_999);
    assert_eq!(leader.expired, []);
    // What it says of anything else begins nothing anew.
    leader.declare(
        QUEUE,
        QueueSettings {
            max_length: Some(5),
            ..expiring(1_000)
        },
    );
    leader.at(61_000);
    assert_eq!(leader.expired, [QUEUE]);
    leader.declare(QUEUE, expiring(500));
    leader.at(61_499);
    assert_eq!(leader.expired, [QUEUE]);
    leader.at(61_500);
    assert_eq!(leader.expired, [QUEUE, QUEUE]);
}

#[test]
fn a_backlog_in_the_store_comes_in_order_and_in_bounded_reads() {
    let mut leader = plain();
    let bodies: Vec<String> = (0..5_000).map(|number| number.to_string()).collect();
    for chunk in bodies.chunks(500) {
        leader.publish(&chunk.iter().map(String::as_str).collect::<Vec<_>>());
    }
    leader.checkpoint();
    assert_eq!(leader.machine.tail_bytes(), 0);
    leader.publish(&["last"]);
    leader.consume(node(1), 1, 100);
    let mut got = leader.bodies();
    while got.len() < 5_001 {
        let before = got.len() as u64;
        leader.batch(node(1), &[settle(before - 99, before)]);
        leader.credit(node(1), 1, 100);
        got.extend(leader.bodies());
    }
    assert_eq!(got[..5_000], bodies[..]);
    assert_eq!(got[5_000], "last");
    assert!(leader.loads <= 110, "{} loads", leader.loads);
}

#[test]
fn a_returned_message_is_read_again_from_the_store() {
    let mut leader = plain();
    leader.publish(&["a", "b", "c"]);
    leader.consume(node(1), 1, 2);
    leader.checkpoint();
    leader.batch(node(1), &[give_back(1, 2)]);
    leader.told.clear();
    leader.credit(node(1), 1, 5);
    assert_eq!(
        leader.deliveries(),
        delivered(&[(1, "a", true), (1, "b", true), (1, "c", false)])
    );
}

#[test]
fn marks_are_ahead_and_few() {
    let mut leader = plain();
    leader.consume(node(1), 1, u32::MAX);
    let bodies: Vec<String> = (0..1_000).map(|number| number.to_string()).collect();
    let bodies: Vec<&str> = bodies.iter().map(String::as_str).collect();
    for round in 0..20 {
        // Everything goes out at once: no mark has to be waited for.
        let before = leader.log.len();
        leader.publish(&bodies);
        assert_eq!(leader.bodies().len(), 1_000, "round {round}");
        assert!(leader.log.len() - before <= 2);
        leader.batch(node(1), &[settle(1, u64::MAX)]);
    }
    assert!(leader.marks <= 6, "{} marks", leader.marks);
}

#[test]
fn queues_without_work_cost_nothing() {
    let mut leader = Leader::new();
    for number in 0..1_000 {
        leader.declare(QueueId(number << 16), QueueSettings::default());
    }
    assert!(!leader.dispatcher.has_work());
    assert_eq!(leader.dispatcher.next_timeout(), None);
}

#[test]
fn an_idle_queue_costs_little() {
    use crate::dispatch::desk::Desk;
    use crate::queue::QueueState;
    // Slot and index entry of the machine, slot and index entry of the dispatcher.
    let declared = size_of::<Option<(QueueId, QueueState)>>() + 20 + size_of::<Option<Desk>>() + 16;
    assert!(declared < 250, "{declared} bytes");
    // One that had messages once also has a level.
    assert!(
        declared + QueueState::level_size() < 450,
        "{declared} + {} bytes",
        QueueState::level_size()
    );
    let mut leader = plain();
    leader.publish(&["a"]);
    leader.consume(node(1), 1, 1);
    leader.batch(node(1), &[settle(1, 1)]);
    leader.hear(
        node(1),
        ToHost::Cancel {
            consumer: ConsumerId(1),
            queue: QUEUE,
        },
    );
    assert_eq!(leader.dispatcher.stocks(QUEUE), 0);
    // And is what it was when it is used again.
    leader.told.clear();
    leader.publish(&["b"]);
    leader.consume(node(1), 2, 1);
    assert_eq!(leader.deliveries(), delivered(&[(2, "b", false)]));
}
