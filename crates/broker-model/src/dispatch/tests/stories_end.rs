//! Queues that go: deleted, unused, expired.

use super::leader::*;
use super::stories::plain;
use crate::catalog::settings::QueueSettings;
use crate::ids::{ConsumerId, RequestId};
use crate::op::BatchStatus;
use crate::protocol::{FromHost, Refused, Subject, ToHost};

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
