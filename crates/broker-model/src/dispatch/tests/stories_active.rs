//! Whose a queue is: single active and exclusive consumers, above all across a change of the leader.

use super::leader::*;
use crate::catalog::settings::QueueSettings;
use crate::ids::{ConsumerId, Origin};
use crate::protocol::{ConsumerSpec, FromHost, Refused, Resume, Subject, ToHost};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn single_active() -> Leader {
    Leader::of(QueueSettings {
        single_active_consumer: true,
        ..QueueSettings::default()
    })
}

fn priority(priority: i32) -> ConsumerSpec {
    ConsumerSpec {
        priority,
        ..ConsumerSpec::default()
    }
}

fn exclusive() -> ConsumerSpec {
    ConsumerSpec {
        exclusive: true,
        ..ConsumerSpec::default()
    }
}

/// What a node knows of its consumers, as its link keeps it.
#[derive(Debug, Default)]
struct Known(BTreeMap<u64, Resume>);

impl Known {
    fn hear(&mut self, leader: &Leader) {
        for (_, message) in &leader.told {
            match message {
                FromHost::ConsumeOk { consumer, order } => {
                    self.0.entry(consumer.0).or_default().order = *order;
                }
                FromHost::Active { consumer, since } => {
                    self.0.entry(consumer.0).or_default().active_since = *since;
                }
                _ => {}
            }
        }
    }

    fn resume(&self, consumer: u64, held: &[(u64, u64)]) -> Option<Resume> {
        let mut resume = self.0.get(&consumer).cloned().unwrap_or_default();
        resume.sequences = held.iter().map(|(from, to)| range(*from, *to)[0]).collect();
        Some(resume)
    }
}

fn active(leader: &Leader) -> Vec<u64> {
    let mut active = Vec::new();
    leader
        .dispatcher
        .counts(&leader.machine, &[QUEUE], |_, _, consumers| {
            active.extend(consumers.iter().filter(|c| c.active).map(|c| c.consumer.0));
        });
    active
}

fn cancel(leader: &mut Leader, from: Origin, consumer: u64) {
    leader.hear(
        from,
        ToHost::Cancel {
            consumer: ConsumerId(consumer),
            queue: QUEUE,
        },
    );
}

fn refused(consumer: u64) -> FromHost {
    FromHost::Refused {
        subject: Subject::Consumer(ConsumerId(consumer)),
        why: Refused::ExclusiveUse,
    }
}

#[test]
fn the_active_consumer_stays_active_whoever_comes_first_to_the_next_leader() {
    // Even one of higher priority waits until it holds nothing.
    for higher in [0, 5] {
        let mut leader = single_active();
        leader.consume(node(1), 1, 10);
        leader.consume(node(2), 2, 10);
        leader.publish(&["a"]);
        let mut known = Known::default();
        known.hear(&leader);
        assert_eq!(leader.deliveries(), delivered(&[(1, "a", false)]));
        leader.fail_over(&[node(1), node(2)]);
        leader.publish(&["b"]);
        let resume = known.resume(2, &[]);
        leader.resume_with(node(2), QUEUE, 2, 10, priority(higher), resume);
        leader.hear(node(2), ToHost::Resumed);
        assert_eq!((active(&leader), leader.deliveries()), (vec![], vec![]));
        let resume = known.resume(1, &[(1, 1)]);
        leader.resume_with(node(1), QUEUE, 1, 10, priority(0), resume);
        leader.hear(node(1), ToHost::Resumed);
        assert_eq!(active(&leader), [1]);
        leader.batch(node(1), &[settle(1, 1)]);
        let next = if higher == 0 { 1 } else { 2 };
        assert_eq!(active(&leader), [next]);
        assert_eq!(leader.deliveries(), delivered(&[(next, "b", false)]));
    }
}

#[test]
fn age_survives_the_leader() {
    let mut leader = single_active();
    for consumer in 1..=3 {
        leader.consume(node(consumer), consumer, 10);
    }
    let mut known = Known::default();
    known.hear(&leader);
    leader.fail_over(&[node(1), node(2), node(3)]);
    // The active one is gone; the oldest of the others is next, not the first to come.
    leader.consume(node(2), 4, 10);
    for consumer in [3, 2] {
        let resume = known.resume(consumer, &[]);
        leader.resume_with(node(consumer), QUEUE, consumer, 10, priority(0), resume);
        leader.hear(node(consumer), ToHost::Resumed);
    }
    leader.node_lost(node(1));
    assert_eq!(active(&leader), [2]);
    known.hear(&leader);
    assert!(known.0[&4].order > known.0[&3].order);
    assert!(known.0[&2].active_since > known.0[&1].active_since);
}

#[test]
fn who_was_replaced_does_not_come_back_as_the_active_one() {
    let mut leader = single_active();
    leader.consume(node(1), 1, 10);
    leader.consume(node(2), 2, 10);
    let mut known = Known::default();
    known.hear(&leader);
    leader.told.clear();
    leader.node_lost(node(1));
    assert_eq!(active(&leader), [2]);
    known.hear(&leader);
    // It was only slow, and says so to the same leader, then to the next one together with the other.
    let resume = known.resume(1, &[]);
    leader.resume_with(node(1), QUEUE, 1, 10, priority(0), resume);
    assert_eq!(active(&leader), [2]);
    leader.fail_over(&[node(1), node(2)]);
    for consumer in [1, 2] {
        let resume = known.resume(consumer, &[]);
        leader.resume_with(node(consumer), QUEUE, consumer, 10, priority(0), resume);
        leader.hear(node(consumer), ToHost::Resumed);
    }
    assert_eq!(active(&leader), [2]);
    known.hear(&leader);
    assert_eq!(known.0[&1].active_since, 0);
}

#[test]
fn the_active_consumer_is_fed_no_more_when_one_of_higher_priority_waits() {
    let mut leader = single_active();
    leader.publish(&["a", "b", "c", "d"]);
    leader.consume(node(1), 1, 2);
    assert_eq!(leader.bodies(), ["a", "b"]);
    leader.consume_as(node(2), 2, 10, priority(1));
    // As a client with a prefetch of two: each acknowledgement grants the next.
    leader.batch(node(1), &[settle(1, 1)]);
    leader.credit(node(1), 1, 1);
    assert_eq!((leader.bodies(), active(&leader)), (vec![], vec![1]));
    leader.batch(node(1), &[settle(2, 2)]);
    leader.credit(node(1), 1, 1);
    assert_eq!(
        leader.deliveries(),
        delivered(&[(2, "c", false), (2, "d", false)])
    );
    assert_eq!(active(&leader), [2]);
}

#[test]
fn the_active_consumer_is_fed_again_when_who_waited_goes() {
    let mut leader = single_active();
    leader.publish(&["a", "b", "c"]);
    leader.consume(node(1), 1, 1);
    leader.consume_as(node(2), 2, 10, priority(1));
    leader.credit(node(1), 1, 1);
    assert_eq!(leader.bodies(), ["a"]);
    cancel(&mut leader, node(2), 2);
    assert_eq!(leader.deliveries(), delivered(&[(1, "b", false)]));
    leader.credit(node(1), 1, 1);
    assert_eq!(leader.deliveries(), delivered(&[(1, "c", false)]));
}

#[test]
fn a_broken_stream_does_not_make_the_active_one_look_idle() {
    let mut leader = single_active();
    leader.publish(&["a", "b"]);
    leader.consume(node(1), 1, 1);
    leader.consume_as(node(2), 2, 10, priority(1));
    let mut known = Known::default();
    known.hear(&leader);
    leader.dispatcher.attached(node(1));
    leader.publish(&["c"]);
    assert_eq!(leader.bodies(), ["a"]);
    let resume = known.resume(1, &[(1, 1)]);
    leader.resume_with(node(1), QUEUE, 1, 1, priority(0), resume);
    leader.hear(node(1), ToHost::Resumed);
    assert_eq!((active(&leader), leader.bodies()), (vec![1], vec![]));
}

#[test]
fn an_exclusive_consumer_keeps_others_out_during_a_hand_over() {
    for owner_first in [false, true] {
        let mut leader = Leader::of(QueueSettings::default());
        leader.consume_as(node(1), 1, 10, exclusive());
        let mut known = Known::default();
        known.hear(&leader);
        leader.fail_over(&[node(1), node(2)]);
        leader.told.clear();
        let resume = known.resume(1, &[]);
        let owner = |leader: &mut Leader| {
            leader.resume_with(node(1), QUEUE, 1, 10, exclusive(), resume.clone());
            leader.hear(node(1), ToHost::Resumed);
        };
        if owner_first {
            owner(&mut leader);
        }
        leader.consume(node(2), 2, 10);
        leader.consume_as(node(2), 3, 10, exclusive());
        leader.hear(node(2), ToHost::Resumed);
        if !owner_first {
            assert_eq!(leader.answers(), []);
            owner(&mut leader);
        }
        let answers = leader.answers();
        assert!(answers.ends_with(&[refused(2), refused(3)]), "{answers:?}");
        assert_eq!(leader.counts().consumers, 1);
    }
}

#[test]
fn newcomers_of_a_hand_over_are_served_in_order_at_its_end() {
    let mut leader = Leader::of(QueueSettings::default());
    leader.publish(&["a", "b"]);
    leader.fail_over(&[node(1), node(2), node(3)]);
    leader.consume_as(node(1), 1, 0, exclusive());
    leader.consume(node(2), 2, 10);
    leader.consume(node(3), 3, 10);
    leader.credit(node(1), 1, 1);
    // The stream of node 2 breaks, and node 3 is lost: what they said does not count.
    leader.dispatcher.attached(node(2));
    leader.node_lost(node(3));
    leader.consume(node(2), 4, 10);
    cancel(&mut leader, node(2), 4);
    leader.hear(node(2), ToHost::Resumed);
    leader.told.clear();
    leader.hear(node(1), ToHost::Resumed);
    let told = leader.told.clone();
    assert!(matches!(
        told.first(),
        Some((
            _,
            FromHost::ConsumeOk {
                consumer: ConsumerId(1),
                ..
            }
        ))
    ));
    assert_eq!(leader.bodies(), ["a"]);
    assert_eq!(leader.counts().consumers, 1);
}

#[test]
fn an_auto_delete_queue_stays_for_a_newcomer_of_the_hand_over() {
    let mut leader = Leader::of(QueueSettings {
        auto_delete: true,
        ..QueueSettings::default()
    });
    leader.consume(node(1), 1, 1);
    leader.fail_over(&[node(1)]);
    leader.resume_with(
        node(1),
        QUEUE,
        1,
        1,
        priority(0),
        Known::default().resume(1, &[]),
    );
    leader.consume(node(1), 2, 1);
    cancel(&mut leader, node(1), 1);
    leader.hear(node(1), ToHost::Resumed);
    assert_eq!(leader.unused, []);
    assert_eq!(leader.counts().consumers, 1);
}

#[test]
fn an_owner_that_comes_after_the_hand_over_finds_its_place_taken() {
    let mut leader = Leader::of(QueueSettings::default());
    leader.consume_as(node(1), 1, 1, exclusive());
    leader.publish(&["a", "b"]);
    let mut known = Known::default();
    known.hear(&leader);
    leader.fail_over(&[node(1), node(2)]);
    leader.consume_as(node(2), 2, 0, exclusive());
    leader.hear(node(2), ToHost::Resumed);
    let until = leader.dispatcher.next_timeout().unwrap();
    leader.at(until);
    leader.told.clear();
    let resume = known.resume(1, &[(1, 1)]);
    leader.resume_with(node(1), QUEUE, 1, 10, exclusive(), resume);
    leader.hear(node(1), ToHost::Resumed);
    assert_eq!(leader.answers(), [refused(1)]);
    // It still has what it holds.
    assert_eq!((leader.counts().ready, leader.counts().unacked), (1, 1));
    assert_eq!(leader.counts().consumers, 1);
}

proptest! {
    /// However often the leader changes and in whatever order the nodes come, the active consumer is
    /// another one only if the one before is gone, or made place to one of higher priority.
    #[test]
    fn the_active_consumer_changes_only_for_a_reason(
        priorities in proptest::collection::vec(0i32..2, 2..6),
        rounds in proptest::collection::vec(any::<u64>(), 1..5),
    ) {
        let mut leader = single_active();
        let mut known = Known::default();
        for (at, level) in (1..).zip(&priorities) {
            leader.consume_as(node(at), at, 100, priority(*level));
        }
        let best = active(&leader);
        prop_assert_eq!(best.len(), 1);
        known.hear(&leader);
        for round in rounds {
            let nodes: Vec<_> = (1..=priorities.len() as u64).map(node).collect();
            leader.fail_over(&nodes);
            let mut order: Vec<u64> = (1..=priorities.len() as u64).collect();
            order.rotate_left(round as usize % priorities.len());
            if round % 3 == 0 {
                order.reverse();
            }
            for consumer in order {
                let level = priorities[consumer as usize - 1];
                let resume = known.resume(consumer, &[]);
                leader.resume_with(node(consumer), QUEUE, consumer, 100, priority(level), resume);
                leader.hear(node(consumer), ToHost::Resumed);
                leader.publish(&["m"]);
            }
            known.hear(&leader);
            let after = active(&leader);
            prop_assert_eq!(&after, &best);
            let served: std::collections::BTreeSet<_> =
                leader.deliveries().into_iter().map(|(consumer, ..)| consumer).collect();
            prop_assert!(served.len() <= 1);
            // Nothing is held when the next round begins.
            let last = leader.machine.queue(QUEUE).map_or(1, |state| state.next_number(0)) - 1;
            leader.batch(node(best[0]), &[settle(1, last)]);
        }
    }
}

/// Looked up one by one they took the square of their number: seconds for fifty thousand.
#[test]
fn consumers_that_end_together_are_forgotten_in_a_moment() {
    let mut leader = Leader::of(QueueSettings::default());
    let last = 40_000;
    for consumer in 1..=last {
        let spec = ConsumerSpec {
            priority: consumer as i32 % 100,
            ..ConsumerSpec::default()
        };
        leader.consume_as(node(1), consumer, 1, spec);
    }
    for consumer in 1..last {
        leader.cancel(node(1), consumer);
    }
    assert_eq!(leader.counts().consumers, 1);
    leader.publish(&["a", "b"]);
    assert_eq!(leader.deliveries(), delivered(&[(last, "a", false)]));
    leader.cancel(node(1), last);
    assert_eq!(leader.counts().consumers, 0);
}
