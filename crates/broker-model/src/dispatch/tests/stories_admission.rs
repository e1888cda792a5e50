//! Full queues that refuse, and those who would take at once what comes.

use super::leader::*;
use crate::catalog::settings::{Overflow, QueueSettings};
use crate::identity::Identity;
use crate::ids::QueueId;
use crate::op::{BatchHead, Op, Target};
use crate::protocol::ConsumerSpec;
use crate::wire::OpsWriter;
use bytes::Bytes;

fn refusing(settings: QueueSettings) -> Leader {
    Leader::of(QueueSettings {
        overflow: Overflow::RejectPublish,
        ..settings
    })
}

fn one() -> QueueSettings {
    QueueSettings {
        max_length: Some(1),
        ..QueueSettings::default()
    }
}

fn no_ack() -> ConsumerSpec {
    ConsumerSpec {
        no_ack: true,
        ..ConsumerSpec::default()
    }
}

/// Where what is refused goes.
const OVER: QueueId = QueueId(8 << 16);

const FIVE: [&str; 5] = ["a", "b", "c", "d", "e"];

#[test]
fn what_a_consumer_takes_at_once_is_accepted() {
    let mut leader = refusing(one());
    leader.consume_as(node(1), 1, 100, no_ack());
    assert_eq!(leader.publish(&FIVE).refused_ops, []);
    assert_eq!(leader.bodies(), FIVE);
    assert_eq!(leader.publish(&FIVE).refused_ops, []);
    assert_eq!(leader.bodies(), FIVE);
}

#[test]
fn no_more_than_consumers_may_have_and_the_queue_holds() {
    let mut leader = refusing(one());
    leader.consume(node(1), 1, 1);
    leader.consume(node(2), 2, 2);
    assert_eq!(leader.publish(&FIVE).refused_ops, [4]);
    assert_eq!(leader.counts().unacked, 3);
    assert_eq!(leader.counts().ready, 1);
    // Credit that was used is none any more.
    assert_eq!(leader.publish(&["f"]).refused_ops, [0]);
    // What is admitted and not applied yet is counted once.
    leader.credit(node(1), 1, 2);
    assert_eq!(leader.publish(&["f", "g", "h"]).refused_ops, [2]);
}

#[test]
fn who_waits_behind_the_single_active_one_takes_nothing() {
    let mut leader = refusing(QueueSettings {
        single_active_consumer: true,
        ..one()
    });
    leader.consume(node(1), 1, 2);
    leader.consume(node(2), 2, 10);
    assert_eq!(leader.publish(&FIVE).refused_ops, [3, 4]);
    assert_eq!(leader.counts().ready, 1);
}

#[test]
fn bytes_that_are_taken_at_once_take_no_room_either() {
    let mut leader = refusing(QueueSettings {
        max_length_bytes: Some(10),
        ..QueueSettings::default()
    });
    leader.consume(node(1), 1, 3);
    let bodies = ["12345678"; 5];
    assert_eq!(leader.publish(&bodies).refused_ops, [4]);
    assert_eq!(leader.counts().ready, 1);
}

#[test]
fn a_limit_of_none_refuses_whoever_waits() {
    let mut leader = refusing(QueueSettings {
        max_length: Some(0),
        ..QueueSettings::default()
    });
    leader.consume(node(1), 1, 10);
    assert_eq!(leader.publish(&["a"]).refused_ops, [0]);
}

#[test]
fn for_queues_in_memory_too() {
    let mut leader = refusing(one());
    leader.consume_as(node(1), 1, 100, no_ack());
    let ops: Vec<Op> = FIVE
        .iter()
        .map(|body| publish(QUEUE, 0, None, body))
        .collect();
    let mut out = crate::dispatch::Outbox::default();
    let refusals = leader.dispatcher.admit_ops(&ops, &leader.machine, &mut out);
    assert_eq!(refusals, []);
}

/// What a leader would pass on of a batch, were it to propose it.
fn passed_on(leader: &mut Leader, head: BatchHead, ops: &Bytes) -> Vec<Identity> {
    let batches = [(head, ops.clone())];
    let admission = leader.dispatcher.admit(&batches, &leader.machine).unwrap();
    leader.dispatcher.admission_done(admission.ticket);
    let letters = admission.dead_letters.into_iter();
    letters.filter_map(|letter| letter.identity).collect()
}

/// A batch that a leader could not get into the log is sent to the next one, which refuses it too.
#[test]
fn what_two_leaders_refuse_is_passed_on_once() {
    let mut leader = Leader::of(QueueSettings {
        overflow: Overflow::RejectPublishDlx,
        dead_letter_exchange: Some("".into()),
        ..one()
    });
    leader.publish(&["fills it"]);
    let head = BatchHead {
        origin: node(3),
        previous: 0,
        number: 1,
        answered: 0,
    };
    let mut writer = OpsWriter::new();
    (["a", "b"].iter()).for_each(|body| writer.push(&publish(QUEUE, 0, None, body)));
    let ops = writer.finish();
    let first = passed_on(&mut leader, head, &ops);
    leader.fail_over(&[]);
    let again = passed_on(&mut leader, head, &ops);
    assert_eq!(first, again);
    // What is another's, or comes later, is something else.
    let later = BatchHead { number: 2, ..head };
    let others = BatchHead {
        origin: node(2),
        ..head
    };
    let mut all = first;
    all.extend(passed_on(&mut leader, later, &ops));
    all.extend(passed_on(&mut leader, others, &ops));
    let distinct: std::collections::BTreeSet<_> =
        all.iter().map(|identity| identity.fingerprint).collect();
    assert_eq!((all.len(), distinct.len()), (6, 6));

    let target = |identity: &Identity| Op::Publish {
        targets: smallvec::smallvec![Target {
            identities: Box::from([*identity]),
            ..Target::plain(OVER)
        }],
        message: crate::message::Message::default(),
    };
    let twice: Vec<Op> = all.iter().chain(&again).map(target).collect();
    leader.batch(node(1), &twice);
    let over = leader.machine.queue(OVER).unwrap();
    assert_eq!(over.alive(), 6, "each of them once");
}

/// A node that is behind does not know that the queue was deleted and declared again under another id.
#[test]
fn what_is_for_a_replaced_queue_is_not_taken_and_lost() {
    let mut leader = Leader::of(QueueSettings::default());
    leader.declare(OVER, QueueSettings::default());
    let both = Op::Publish {
        targets: smallvec::smallvec![Target::plain(QUEUE), Target::plain(OVER)],
        message: crate::message::Message::default(),
    };
    let ops = [
        publish(QUEUE, 0, None, "before"),
        publish(OVER, 0, None, "x"),
        both,
    ];
    assert_eq!(leader.batch(node(1), &ops).refused_ops, []);
    leader.delete(QUEUE);
    // It has nowhere to go, and whoever published it knows that it was deleted.
    assert_eq!(leader.batch(node(1), &ops[..1]).refused_ops, []);
    leader.dispatcher.replaced(leader.now_ms, QUEUE);
    // One that goes elsewhere too is taken there, but its publisher does not hear that it is everywhere.
    assert_eq!(leader.batch(node(1), &ops).refused_ops, [0, 2]);
    assert_eq!(leader.machine.queue(OVER).unwrap().alive(), 4);
}
