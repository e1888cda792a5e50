//! Streams: nothing is handed out; what is too old or too much goes.

use super::leader::*;
use crate::catalog::settings::{QueueSettings, QueueType};
use crate::protocol::FromHost;

fn settings(max_length_bytes: Option<u64>, max_age_ms: Option<u64>) -> QueueSettings {
    QueueSettings {
        queue_type: QueueType::Stream,
        max_length_bytes,
        max_age_ms,
        ..QueueSettings::default()
    }
}

/// Messages as sessions publish them to a stream: each keeps the time at which it comes.
fn append(leader: &mut Leader, bodies: &[&str]) {
    let ops: Vec<_> = bodies
        .iter()
        .map(|body| publish(QUEUE, 0, Some(0), body))
        .collect();
    leader.batch(node(9), &ops);
}

/// Numbers of the messages that are there.
fn there(leader: &Leader) -> Option<(u64, u64)> {
    leader.machine.queue(QUEUE)?.alive_from(0, 0)
}

#[test]
fn nothing_is_handed_out() {
    let mut leader = Leader::of(settings(None, None));
    append(&mut leader, &["a", "b"]);
    leader.consume(node(1), 1, 0);
    leader.consume(node(2), 2, 100);
    append(&mut leader, &["c"]);
    leader.at(1_000_000);
    assert_eq!(leader.bodies(), [] as [String; 0]);
    let counts = leader.counts();
    assert_eq!((counts.ready, counts.unacked, counts.consumers), (3, 0, 2));
    let starved = leader
        .told
        .iter()
        .any(|(_, told)| matches!(told, FromHost::Starved { .. }));
    assert!(!starved, "they ask by themselves");
    assert_eq!(leader.dispatcher.next_timeout(), None);
}

#[test]
fn the_oldest_go_when_they_are_too_many() {
    let mut leader = Leader::of(settings(Some(10), None));
    append(&mut leader, &["1234", "1234"]);
    assert_eq!(there(&leader), Some((1, 2)));
    append(&mut leader, &["1234"]);
    assert_eq!(there(&leader), Some((2, 3)));
    leader.checkpoint();
    append(&mut leader, &["12345678"]);
    assert_eq!(there(&leader), Some((4, 4)));
    // The newest stays, however large.
    append(&mut leader, &["longer than the limit"]);
    assert_eq!(there(&leader), Some((5, 5)));
    // A limit that comes later counts for what is there.
    leader.declare(QUEUE, settings(None, None));
    append(&mut leader, &["x"; 100]);
    leader.checkpoint();
    leader.declare(QUEUE, settings(Some(10), None));
    leader.run();
    assert_eq!(there(&leader).map(|(_, last)| last), Some(105));
    assert!(leader.counts().ready <= 10, "{:?}", leader.counts());
}

#[test]
fn the_oldest_go_when_they_are_too_old() {
    let mut leader = Leader::of(settings(None, Some(500)));
    append(&mut leader, &["at 1000"]);
    leader.at(1_100);
    append(&mut leader, &["at 1100", "at 1100"]);
    leader.checkpoint();
    leader.at(1_200);
    append(&mut leader, &["at 1200"]);
    assert_eq!(leader.dispatcher.next_timeout(), Some(1_500));
    leader.at(1_499);
    assert_eq!(there(&leader), Some((1, 4)));
    leader.at(1_500);
    assert_eq!(there(&leader), Some((2, 4)));
    // The next leader goes on with it.
    leader.fail_over(&[]);
    leader.at(1_599);
    assert_eq!(there(&leader), Some((2, 4)));
    leader.at(1_600);
    assert_eq!(there(&leader), Some((4, 4)));
    // The age that counts is that of now, for what is there, too.
    leader.declare(QUEUE, settings(None, Some(10_000)));
    leader.at(9_000);
    assert_eq!(there(&leader), Some((4, 4)));
    leader.declare(QUEUE, settings(None, Some(1_000)));
    leader.run();
    assert_eq!(there(&leader), None);
    append(&mut leader, &["at 9000"]);
    assert_eq!(there(&leader), Some((5, 5)), "numbers go on");
}

#[test]
fn looking_at_ages_keeps_no_messages_in_memory() {
    let mut leader = Leader::of(settings(None, Some(5_000)));
    for at in 0..1_000 {
        leader.at(1_000 + at);
        append(&mut leader, &["x"]);
    }
    leader.checkpoint();
    leader.fail_over(&[]);
    leader.at(6_500);
    assert_eq!(there(&leader), Some((502, 1_000)));
    assert_eq!(leader.machine.tail_bytes(), 0);
}
