//! What is read from the store, and what a queue costs.

use super::leader::*;
use super::stories::plain;
use crate::catalog::settings::QueueSettings;
use crate::ids::{ConsumerId, QueueId};
use crate::protocol::ToHost;

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
    leader.consume(node(1), 1, 0);
    leader.large_credit(node(1), 1, u32::MAX, u32::MAX);
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
