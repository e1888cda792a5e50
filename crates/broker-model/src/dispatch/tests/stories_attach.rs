//! Leader changes, nodes that go, streams that break.

use super::leader::*;
use crate::catalog::settings::QueueSettings;
use crate::ids::Origin;
use crate::protocol::{ConsumerSpec, FromHost, ToHost};
use smallvec::SmallVec;

fn plain() -> Leader {
    Leader::of(QueueSettings::default())
}

fn resume(leader: &mut Leader, from: Origin, consumer: u64, credit: u32, held: &[(u64, u64)]) {
    let held = held.iter().map(|(from, to)| range(*from, *to)[0]).collect();
    leader.resume(
        from,
        QUEUE,
        consumer,
        credit,
        ConsumerSpec::default(),
        Some(held),
    );
}

#[test]
fn what_a_lost_node_held_goes_to_others() {
    let mut leader = plain();
    leader.consume(node(1), 1, 2);
    leader.consume(node(2), 2, 1);
    leader.publish(&["a", "b", "c", "d"]);
    assert_eq!(leader.deliveries().len(), 3);
    leader.node_lost(node(1));
    leader.credit(node(2), 2, 10);
    assert_eq!(
        leader.deliveries(),
        delivered(&[(2, "a", true), (2, "c", true), (2, "d", false)])
    );
    assert_eq!(
        leader
            .machine
            .queue(QUEUE)
            .unwrap()
            .delivery_count(crate::ids::Sequence(1)),
        1
    );
    assert_eq!(leader.counts().consumers, 1);
}

#[test]
fn a_return_counts_only_from_the_holder() {
    let mut leader = plain();
    leader.publish(&["a"]);
    leader.consume(node(1), 1, 1);
    leader.node_lost(node(1));
    leader.consume(node(2), 2, 1);
    assert_eq!(leader.deliveries().len(), 2);
    // The lost node was only slow: what it says of the message is not true any more.
    leader.batch(node(1), &[give_back(1, 1)]);
    leader.credit(node(2), 2, 5);
    assert_eq!(leader.deliveries(), []);
    // But what it finished is finished.
    leader.batch(node(1), &[settle(1, 1)]);
    assert_eq!((leader.counts().ready, leader.counts().unacked), (0, 0));
}

#[test]
fn after_a_leader_change_holders_keep_what_they_hold() {
    let mut leader = plain();
    leader.consume(node(1), 1, 2);
    leader.consume(node(2), 2, 2);
    leader.publish(&["a", "b", "c", "d", "e"]);
    assert_eq!(
        leader.deliveries(),
        delivered(&[
            (1, "a", false),
            (1, "c", false),
            (2, "b", false),
            (2, "d", false)
        ])
    );
    leader.fail_over(&[node(1), node(2)]);
    leader.publish(&["f"]);
    resume(&mut leader, node(1), 1, 5, &[(1, 1), (3, 3)]);
    leader.hear(node(1), ToHost::Resumed);
    assert_eq!(leader.deliveries(), [], "node 2 has not told yet");
    // Of what node 2 was sent, "d" did not arrive.
    resume(&mut leader, node(2), 2, 0, &[(2, 2)]);
    leader.hear(node(2), ToHost::Resumed);
    // "e" did not go out, but the mark was ahead: it may have, for all the new leader knows.
    assert_eq!(
        leader.deliveries(),
        delivered(&[(1, "d", true), (1, "e", true), (1, "f", false)])
    );
    assert_eq!((leader.counts().ready, leader.counts().unacked), (0, 6));
    leader.batch(node(2), &[give_back(2, 2)]);
    assert_eq!(leader.deliveries(), delivered(&[(1, "b", true)]));
}

#[test]
fn a_node_that_does_not_tell_is_not_waited_for_for_ever() {
    let mut leader = plain();
    leader.consume(node(1), 1, 1);
    leader.publish(&["a"]);
    leader.deliveries();
    leader.fail_over(&[node(1), node(2)]);
    leader.consume(node(2), 2, 5);
    leader.hear(node(2), ToHost::Resumed);
    assert_eq!(leader.deliveries(), []);
    let until = leader.dispatcher.next_timeout().unwrap();
    leader.at(until);
    assert_eq!(leader.deliveries(), delivered(&[(2, "a", true)]));
    // Node 1 tells too late: the message is node 2's now.
    resume(&mut leader, node(1), 1, 5, &[(1, 1)]);
    leader.hear(node(1), ToHost::Resumed);
    leader.batch(node(2), &[give_back(1, 1)]);
    assert_eq!(leader.deliveries().len(), 1);
}

/// It was frozen when the leader changed, say: what it has settled and not told is ready again meanwhile.
#[test]
fn a_node_that_comes_late_gets_nothing_before_it_has_told_what_it_settles() {
    let mut leader = plain();
    leader.consume(node(1), 1, 3);
    leader.publish(&["a", "b", "c", "d", "e"]);
    assert_eq!(leader.bodies(), ["a", "b", "c"]);
    leader.fail_over(&[node(2)]);
    leader.hear(node(2), ToHost::Resumed);
    leader.dispatcher.attached(node(1));
    resume(&mut leader, node(1), 1, 2, &[(3, 3)]);
    // What came after it, while the batch is on its way into the log.
    leader.credit(node(1), 1, 1);
    leader.consume(node(1), 7, 1);
    assert_eq!(leader.deliveries(), []);
    // Others do not wait for it.
    let (got, _) = leader.get(node(2), false).unwrap();
    assert_eq!((&*text(&got.message.body), got.redelivered), ("a", true));
    leader.batch(node(1), &[settle(2, 2)]);
    assert_eq!(leader.deliveries(), []);
    leader.hear(node(1), ToHost::Resumed);
    assert_eq!(
        leader.deliveries(),
        delivered(&[(1, "d", true), (7, "e", true)])
    );
    assert_eq!((leader.counts().ready, leader.counts().unacked), (0, 4));
}

#[test]
fn a_get_waits_until_its_node_has_told_what_it_settles() {
    let mut leader = plain();
    leader.publish(&["a", "b"]);
    leader.get(node(1), false);
    leader.fail_over(&[]);
    leader.answers();
    leader.dispatcher.attached(node(1));
    assert_eq!(leader.get(node(1), false), None);
    leader.batch(node(1), &[settle(1, 1)]);
    leader.hear(node(1), ToHost::Resumed);
    let answers = leader.answers();
    let got = answers.iter().find_map(|answer| match answer {
        FromHost::Got { delivery, .. } => delivery.as_ref(),
        _ => None,
    });
    let (got, left) = got.expect("it is answered");
    assert_eq!((&*text(&got.message.body), *left), ("b", 0));
}

#[test]
fn a_node_that_is_lost_while_it_tells_keeps_nothing_back() {
    let mut leader = plain();
    leader.consume(node(1), 1, 1);
    leader.publish(&["a", "b"]);
    leader.deliveries();
    leader.dispatcher.attached(node(1));
    leader.node_lost(node(1));
    leader.consume(node(1), 2, 5);
    assert_eq!(
        leader.deliveries(),
        delivered(&[(2, "a", true), (2, "b", false)])
    );
}

#[test]
fn a_node_that_dies_during_the_hand_over_is_not_waited_for() {
    let mut leader = plain();
    leader.publish(&["a"]);
    leader.fail_over(&[node(1), node(2)]);
    leader.consume(node(1), 1, 5);
    leader.hear(node(1), ToHost::Resumed);
    leader.node_lost(node(2));
    assert_eq!(leader.bodies(), ["a"]);
}

#[test]
fn messages_after_the_change_are_not_called_redelivered() {
    let mut leader = plain();
    leader.consume(node(1), 1, 1);
    leader.publish(&["a"]);
    leader.batch(node(1), &[settle(1, 1)]);
    leader.deliveries();
    // The mark is thousands ahead of what was handed out.
    leader.fail_over(&[]);
    leader.publish(&["b"]);
    leader.consume(node(1), 2, 1);
    assert_eq!(leader.deliveries(), delivered(&[(2, "b", false)]));
}

#[test]
fn a_broken_stream_gives_back_what_did_not_arrive() {
    let mut leader = plain();
    leader.consume(node(1), 1, 2);
    leader.publish(&["a", "b", "c"]);
    leader.deliveries();
    leader.dispatcher.attached(node(1));
    // Meanwhile nothing is sent to it.
    leader.publish(&["d"]);
    assert_eq!(leader.deliveries(), []);
    resume(&mut leader, node(1), 1, 1, &[(1, 1)]);
    leader.credit(node(1), 1, 5);
    assert_eq!(leader.deliveries(), []);
    leader.hear(node(1), ToHost::Resumed);
    assert_eq!(
        leader.deliveries(),
        delivered(&[(1, "b", true), (1, "c", false), (1, "d", false)])
    );
    assert_eq!(leader.counts().unacked, 4);
}

#[test]
fn a_consumer_that_is_not_told_again_is_gone() {
    let mut leader = Leader::of(QueueSettings {
        auto_delete: true,
        ..QueueSettings::default()
    });
    leader.consume(node(1), 1, 2);
    leader.dispatcher.attached(node(1));
    leader.hear(node(1), ToHost::Resumed);
    assert_eq!(leader.counts().consumers, 0);
    assert_eq!(leader.unused, [QUEUE]);
}

#[test]
fn gets_are_held_across_a_leader_change() {
    let mut leader = plain();
    leader.publish(&["a", "b"]);
    leader.get(node(1), false);
    leader.fail_over(&[node(1)]);
    leader.hear(
        node(1),
        ToHost::Hold {
            queue: QUEUE,
            sequences: range(1, 1),
        },
    );
    leader.hear(node(1), ToHost::Resumed);
    assert_eq!((leader.counts().ready, leader.counts().unacked), (1, 1));
    assert_eq!(
        text(&leader.get(node(2), false).unwrap().0.message.body),
        "b"
    );
}

#[test]
fn claims_of_what_is_not_there_are_void() {
    let mut leader = plain();
    leader.publish(&["a"]);
    leader.fail_over(&[node(1)]);
    let everything: SmallVec<_> = range(0, u64::MAX);
    leader.hear(
        node(1),
        ToHost::Hold {
            queue: QUEUE,
            sequences: everything,
        },
    );
    leader.hear(node(1), ToHost::Resumed);
    assert_eq!((leader.counts().ready, leader.counts().unacked), (0, 1));
}

#[test]
fn an_auto_delete_queue_whose_consumers_all_died_with_the_leader_is_found() {
    let mut leader = Leader::of(QueueSettings {
        auto_delete: true,
        ..QueueSettings::default()
    });
    leader.consume(node(1), 1, 2);
    leader.fail_over(&[node(2)]);
    assert_eq!(leader.unused, []);
    leader.hear(node(2), ToHost::Resumed);
    // The node of its consumer may only have been slow.
    leader.at(leader.now_ms + 10_000);
    assert_eq!(leader.unused, []);
    leader.at(leader.now_ms + 10_000);
    assert_eq!(leader.unused, [QUEUE]);
}

#[test]
fn an_auto_delete_queue_whose_consumer_comes_after_the_hand_over_stays() {
    let mut leader = Leader::of(QueueSettings {
        auto_delete: true,
        ..QueueSettings::default()
    });
    leader.consume(node(1), 1, 2);
    leader.fail_over(&[node(2)]);
    leader.hear(node(2), ToHost::Resumed);
    leader.at(leader.now_ms + 1_000);
    resume(&mut leader, node(1), 1, 1, &[]);
    leader.hear(node(1), ToHost::Resumed);
    leader.at(leader.now_ms + 20_000);
    assert_eq!(leader.unused, []);
}
