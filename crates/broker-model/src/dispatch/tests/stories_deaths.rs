//! Expiry, limits, dead letters, refusals.

use super::leader::*;
use crate::catalog::settings::{DeliveryLimit, Overflow, QueueSettings};
use crate::ids::QueueId;
use crate::op::DeathReason;
use crate::protocol::FromHost;
use std::sync::Arc;

fn dying(settings: QueueSettings) -> Leader {
    Leader::of(QueueSettings {
        dead_letter_exchange: Some(Arc::from("dlx")),
        ..settings
    })
}

/// Takes the dead letters so far: body and reason.
fn letters(leader: &mut Leader) -> Vec<(String, DeathReason)> {
    let letters = std::mem::take(&mut leader.dead_letters);
    letters
        .into_iter()
        .map(|letter| (text(&letter.message.body), letter.reason))
        .collect()
}

fn letter(body: &str, reason: DeathReason) -> (String, DeathReason) {
    (body.to_owned(), reason)
}

#[test]
fn messages_expire_at_the_head() {
    let mut leader = dying(QueueSettings::default());
    let ops = [
        publish(QUEUE, 0, Some(50), "short"),
        publish(QUEUE, 0, None, "for ever"),
        publish(QUEUE, 0, Some(50), "behind"),
    ];
    leader.batch(node(9), &ops);
    assert_eq!(leader.dispatcher.next_timeout(), Some(1_050));
    leader.at(1_049);
    assert_eq!(leader.counts().ready, 3);
    leader.at(1_050);
    assert_eq!(leader.counts().ready, 1);
    let expected = [
        letter("short", DeathReason::Expired),
        letter("behind", DeathReason::Expired),
    ];
    assert_eq!(letters(&mut leader), expected);
    leader.consume(node(1), 1, 10);
    assert_eq!(leader.bodies(), ["for ever"]);
}

#[test]
fn messages_in_the_store_expire_behind_one_that_stays() {
    let mut leader = dying(QueueSettings::default());
    let mut ops = vec![publish(QUEUE, 0, None, "for ever")];
    // More than the index holds, the latest first.
    ops.extend((0..3_000).map(|at| publish(QUEUE, 0, Some(5_000 - at), "x")));
    ops.push(publish(QUEUE, 0, None, "for ever, too"));
    leader.batch(node(9), &ops);
    leader.checkpoint();
    leader.fail_over(&[]);
    assert_eq!(leader.counts().ready, 3_002);
    // The walk reads by and by, and rests in between.
    for now_ms in (1_000..2_900).step_by(20) {
        leader.at(now_ms);
    }
    assert_eq!(leader.counts().ready, 3_002);
    leader.at(3_100);
    assert_eq!(leader.counts().ready, 3_002 - 100);
    for now_ms in (3_100..10_000).step_by(20) {
        leader.at(now_ms);
    }
    assert_eq!(leader.counts().ready, 2);
    assert_eq!(leader.machine.queue(QUEUE).unwrap().dying(), 3_000);
    leader.consume(node(1), 1, 10);
    assert_eq!(leader.bodies(), ["for ever", "for ever, too"]);
}

#[test]
fn a_held_message_that_expired_behind_another_dies_when_it_comes_back() {
    let mut leader = Leader::of(QueueSettings::default());
    let ops = [
        publish(QUEUE, 0, None, "for ever"),
        publish(QUEUE, 0, Some(50), "short"),
    ];
    leader.batch(node(9), &ops);
    leader.consume(node(1), 1, 2);
    assert_eq!(leader.bodies(), ["for ever", "short"]);
    leader.at(1_100);
    assert_eq!(leader.counts().unacked, 2);
    leader.batch(node(1), &[give_back(1, 2)]);
    assert_eq!(leader.counts().ready, 1);
    assert_eq!(leader.machine.queue(QUEUE).unwrap().alive(), 1);
}

#[test]
fn heads_of_all_levels_expire() {
    let mut leader = Leader::of(QueueSettings::default());
    let ops = [
        publish(QUEUE, 5, None, "high"),
        publish(QUEUE, 0, Some(10), "low"),
    ];
    leader.batch(node(9), &ops);
    leader.at(1_010);
    assert_eq!(leader.counts().ready, 1);
    assert_eq!(leader.machine.queue(QUEUE).unwrap().alive(), 1);
}

#[test]
fn no_time_to_live_means_now_or_never() {
    let mut leader = Leader::of(QueueSettings::default());
    leader.batch(node(9), &[publish(QUEUE, 0, Some(0), "nobody is there")]);
    assert_eq!(leader.counts().ready, 0);
    leader.consume(node(1), 1, 10);
    leader.batch(node(9), &[publish(QUEUE, 0, Some(0), "somebody is")]);
    assert_eq!(leader.bodies(), ["somebody is"]);
}

#[test]
fn a_head_in_the_store_expires_without_anybody_looking() {
    let mut leader = dying(QueueSettings::default());
    let ops: Vec<_> = (0..600)
        .map(|number| publish(QUEUE, 0, Some(100), &number.to_string()))
        .collect();
    leader.batch(node(9), &ops);
    leader.checkpoint();
    leader.fail_over(&[]);
    assert_eq!(leader.dispatcher.next_timeout(), Some(1_100));
    leader.at(1_100);
    assert_eq!(leader.counts().ready, 0);
    assert!(leader.loads < 30, "{} loads", leader.loads);
    // The publisher gets them by and by.
    let mut all = letters(&mut leader);
    while all.len() < 600 {
        let before = all.len() as u64;
        leader.batch(node(1), &[settle(1, before)]);
        all.extend(letters(&mut leader));
    }
    let expected: Vec<_> = (0..600)
        .map(|number| letter(&number.to_string(), DeathReason::Expired))
        .collect();
    assert_eq!(all, expected);
    leader.batch(node(1), &[settle(1, 600)]);
    assert_eq!(leader.machine.queue(QUEUE).unwrap().dying(), 0);
}

#[test]
fn over_the_length_limit_the_oldest_make_room() {
    let mut leader = dying(QueueSettings {
        max_length: Some(2),
        ..QueueSettings::default()
    });
    leader.publish(&["a", "b", "c", "d"]);
    assert_eq!(leader.counts().ready, 2);
    let expected = [
        letter("a", DeathReason::MaxLength),
        letter("b", DeathReason::MaxLength),
    ];
    assert_eq!(letters(&mut leader), expected);
    // Only ready messages count.
    leader.consume(node(1), 1, 2);
    leader.publish(&["e", "f"]);
    assert_eq!(leader.bodies(), ["c", "d"]);
    assert_eq!((leader.counts().ready, leader.counts().unacked), (2, 2));
    assert_eq!(letters(&mut leader), []);
}

#[test]
fn over_the_byte_limit_too() {
    let mut leader = dying(QueueSettings {
        max_length_bytes: Some(10),
        ..QueueSettings::default()
    });
    leader.publish(&["1234", "5678", "90"]);
    assert_eq!(leader.counts().ready_bytes, 10);
    leader.publish(&["x"]);
    assert_eq!(
        letters(&mut leader),
        [letter("1234", DeathReason::MaxLength)]
    );
    leader.publish(&["much too much"]);
    assert_eq!(leader.counts().ready, 0);
}

/// Else the next publish would be refused, or drop what there is room for, until the log has the deaths.
#[test]
fn what_dies_counts_no_more_before_its_death_is_in_the_log() {
    let bytes_of = |leader: &Leader| (leader.counts().ready, leader.counts().ready_bytes);
    for (settings, ttl_ms) in [
        (
            QueueSettings {
                max_length: Some(1),
                ..QueueSettings::default()
            },
            None,
        ),
        (
            QueueSettings {
                max_length_bytes: Some(4),
                ..QueueSettings::default()
            },
            None,
        ),
        // Behind one that stays.
        (QueueSettings::default(), Some(50)),
    ] {
        let mut leader = dying(settings);
        leader.lag = true;
        leader.batch_only(node(9), &[publish(QUEUE, 0, None, "abcd")]);
        leader.batch_only(node(9), &[publish(QUEUE, 0, ttl_ms, "efgh")]);
        leader.run();
        leader.at(1_050);
        assert_eq!(bytes_of(&leader), (1, 4), "{ttl_ms:?}");
        assert!(!leader.on_the_way.is_empty());
        leader.arrive();
        assert_eq!(bytes_of(&leader), (1, 4), "{ttl_ms:?}");
    }
}

#[test]
fn what_matters_least_makes_room_first() {
    let mut leader = dying(QueueSettings {
        max_length: Some(1),
        ..QueueSettings::default()
    });
    leader.batch(
        node(9),
        &[
            publish(QUEUE, 3, None, "high"),
            publish(QUEUE, 0, None, "low"),
        ],
    );
    assert_eq!(
        letters(&mut leader),
        [letter("low", DeathReason::MaxLength)]
    );
}

#[test]
fn a_queue_of_length_none_serves_those_who_wait() {
    let mut leader = dying(QueueSettings {
        max_length: Some(0),
        ..QueueSettings::default()
    });
    leader.consume(node(1), 1, 1);
    leader.publish(&["a", "b"]);
    assert_eq!(leader.bodies(), ["a"]);
    assert_eq!(letters(&mut leader), [letter("b", DeathReason::MaxLength)]);
}

#[test]
fn a_full_queue_refuses_publishes() {
    let settings = QueueSettings {
        max_length: Some(2),
        overflow: Overflow::RejectPublish,
        ..QueueSettings::default()
    };
    let mut leader = Leader::of(settings.clone());
    let other = QueueId(8 << 16);
    leader.declare(other, QueueSettings::default());
    assert_eq!(leader.publish(&["a", "b", "c"]).refused_ops, [2]);
    // Of several targets only the full one refuses.
    let mut both = publish(QUEUE, 0, None, "d");
    if let crate::op::Op::Publish { targets, .. } = &mut both {
        targets.push(crate::op::Target::plain(other));
    }
    assert_eq!(leader.batch(node(9), &[both]).refused_ops, [0]);
    assert_eq!(leader.machine.queue(other).unwrap().alive(), 1);
    assert_eq!(leader.counts().ready, 2);
    // There is room again; nothing stays reserved.
    leader.consume(node(1), 1, 2);
    assert_eq!(leader.publish(&["e", "f"]).refused_ops, [] as [u32; 0]);
    // What became of refused messages is up to the settings.
    leader.declare(
        QUEUE,
        QueueSettings {
            overflow: Overflow::RejectPublishDlx,
            ..settings
        },
    );
    leader.publish(&["g"]);
    assert_eq!(letters(&mut leader), [letter("g", DeathReason::MaxLength)]);
}

#[test]
fn a_message_that_fails_too_often_dies() {
    let mut leader = dying(QueueSettings {
        delivery_limit: Some(DeliveryLimit::Failures(1)),
        ..QueueSettings::default()
    });
    leader.publish(&["poison", "good"]);
    leader.consume(node(1), 1, 1);
    leader.batch(node(1), &[give_back(1, 1)]);
    leader.credit(node(1), 1, 1);
    assert_eq!(leader.bodies(), ["poison", "poison"]);
    leader.batch(node(1), &[give_back(1, 1)]);
    assert_eq!(
        letters(&mut leader),
        [letter("poison", DeathReason::DeliveryLimit)]
    );
    leader.credit(node(1), 1, 1);
    assert_eq!(leader.bodies(), ["good"]);
}

#[test]
fn dead_letters_wait_for_the_publisher() {
    let mut leader = dying(QueueSettings::default());
    let bodies: Vec<String> = (0..600).map(|number| number.to_string()).collect();
    leader.publish(&bodies.iter().map(String::as_str).collect::<Vec<_>>());
    leader.consume(node(1), 1, 600);
    let reject = crate::op::Op::Kill {
        queue: QUEUE,
        sequences: range(1, 600),
        reason: DeathReason::Rejected,
        dead_letter: true,
    };
    leader.batch(node(1), &[reject]);
    assert_eq!(leader.counts().unacked, 0);
    // A bounded number at a time, and again after a leader change.
    assert_eq!(letters(&mut leader).len(), 512);
    leader.batch(node(1), &[settle(1, 10)]);
    assert_eq!(letters(&mut leader).len(), 10);
    leader.checkpoint();
    leader.fail_over(&[]);
    assert_eq!(
        letters(&mut leader).first(),
        Some(&letter("10", DeathReason::Rejected))
    );
    leader.batch(node(1), &[settle(1, 600)]);
    assert_eq!(leader.machine.queue(QUEUE).unwrap().dying(), 0);
    assert!(
        leader
            .told
            .iter()
            .all(|(_, told)| !matches!(told, FromHost::Starved { .. }))
    );
}

#[test]
fn a_queue_without_a_limit_has_that_of_the_leader() {
    // (own limit, default, deliveries before it dies)
    for (own, default, expected) in [
        (None, None, None),
        (None, Some(2), Some(3)),
        (Some(DeliveryLimit::Failures(1)), Some(5), Some(2)),
        (Some(DeliveryLimit::Unlimited), Some(2), None),
    ] {
        let mut leader = Leader::new();
        leader.dispatcher = crate::dispatch::Dispatcher::local().with_delivery_limit(default);
        leader.declare(
            QUEUE,
            QueueSettings {
                delivery_limit: own,
                ..QueueSettings::default()
            },
        );
        leader.publish(&["poison"]);
        leader.consume(node(1), 1, 100);
        let mut deliveries = 0;
        while deliveries < 10 && !leader.deliveries().is_empty() {
            deliveries += 1;
            leader.batch(node(1), &[give_back(1, 1)]);
        }
        assert_eq!(deliveries, expected.unwrap_or(10), "{own:?} {default:?}");
    }
}

#[test]
fn the_last_letters_of_a_queue_that_goes() {
    let mut leader = dying(QueueSettings::default());
    let ops: Vec<_> = (0..2_000)
        .map(|at| publish(QUEUE, 0, Some(50), &at.to_string()))
        .collect();
    leader.batch(node(9), &ops);
    leader.at(1_050);
    assert_eq!(leader.machine.queue(QUEUE).unwrap().dying(), 2_000);
    let given = leader.dead_letters.len();
    assert!(given < 2_000, "{given}");
    leader.delete(QUEUE);
    assert!(leader.machine.queue(QUEUE).is_none());
    // Those that the publisher does not have yet, which nobody keeps now.
    assert!(
        leader
            .dead_letters
            .iter()
            .skip(given)
            .all(|letter| letter.sequence.is_none())
    );
    let bodies: Vec<String> = letters(&mut leader)
        .into_iter()
        .map(|(body, _)| body)
        .collect();
    assert_eq!(bodies.len(), 2_000);
    let in_order = bodies.iter().enumerate();
    assert!(
        in_order
            .into_iter()
            .all(|(at, body)| *body == at.to_string())
    );
}

#[test]
fn what_is_alive_in_a_queue_that_goes_is_no_letter() {
    let mut leader = dying(QueueSettings::default());
    leader.publish(&["a", "b"]);
    leader.delete(QUEUE);
    assert_eq!(letters(&mut leader), []);
}

#[test]
fn an_unused_queue_does_not_expire_before_its_letters_have_gone_on() {
    let mut leader = dying(QueueSettings {
        expires_ms: Some(2_000),
        ..QueueSettings::default()
    });
    leader.batch(node(9), &[publish(QUEUE, 0, Some(1_900), "x")]);
    leader.at(2_900);
    assert_eq!(letters(&mut leader).len(), 1);
    leader.at(3_000);
    leader.at(3_999);
    assert_eq!(leader.expired, []);
    leader.batch(node(9), &[settle(1, 1)]);
    assert_eq!(leader.expired, []);
    leader.at(4_000);
    assert_eq!(leader.expired, [QUEUE]);
}
