//! Messages in their queues.

use super::*;

#[test]
fn a_fan_out_holds_its_body_once() {
    let mut machine = ShardMachine::new();
    apply(
        &mut machine,
        &[(head(0, 1), vec![publish(&[QUEUE, OTHER], 0, "shared")])],
        &[],
    );
    let body = |queue| {
        machine
            .queue(queue)
            .unwrap()
            .in_memory(Sequence(1))
            .unwrap()
            .message
            .body
            .as_ptr()
    };
    assert_eq!(body(QUEUE), body(OTHER));
}

#[test]
fn each_level_counts_for_itself() {
    let mut machine = ShardMachine::new();
    let ops = vec![
        publish(&[QUEUE], 0, "a"),
        publish(&[QUEUE], 7, "b"),
        publish(&[QUEUE], 0, "c"),
    ];
    run(&mut machine, ops);
    let state = machine.queue(QUEUE).unwrap();
    assert_eq!(state.levels().collect::<Vec<_>>(), [0, 7]);
    assert_eq!(
        (state.alive_from(0, 0), state.alive_from(7, 0)),
        (Some((1, 2)), Some((1, 1)))
    );
    // A range across levels takes all of them.
    let effects = run(&mut machine, vec![settle(2, u64::MAX)]);
    let gone: SequenceRanges = smallvec::smallvec![
        (Sequence(2), Sequence(2)),
        (Sequence::new(7, 1), Sequence::new(7, 1))
    ];
    assert_eq!(
        effects,
        [Effect::Settled {
            queue: QUEUE,
            sequences: gone
        }]
    );
}

#[test]
fn only_what_exists_is_told() {
    let mut machine = ShardMachine::new();
    assert_eq!(
        run(
            &mut machine,
            vec![settle(1, 5), Op::Delete { queue: QUEUE }]
        ),
        []
    );
    run(
        &mut machine,
        vec![publish(&[QUEUE], 0, "a"), publish(&[QUEUE], 0, "b")],
    );
    run(&mut machine, vec![settle(1, 1)]);
    let effects = run(
        &mut machine,
        vec![Op::Return {
            queue: QUEUE,
            sequences: ranges(0, 9),
            counted: true,
        }],
    );
    assert_eq!(
        effects,
        [Effect::Returned {
            queue: QUEUE,
            sequences: ranges(2, 2),
            counted: true,
            by: None
        }]
    );
    assert_eq!(machine.queue(QUEUE).unwrap().delivery_count(Sequence(2)), 1);
    let kill = Op::Kill {
        queue: QUEUE,
        sequences: ranges(0, 9),
        reason: DeathReason::Expired,
        dead_letter: true,
    };
    assert_eq!(run(&mut machine, vec![kill.clone()]).len(), 1);
    assert_eq!(
        run(&mut machine, vec![kill]),
        [],
        "who is dying does not die again"
    );
    let state = machine.queue(QUEUE).unwrap();
    assert_eq!(
        (
            state.alive(),
            state.dying(),
            state.delivery_count(Sequence(2))
        ),
        (0, 1, 1)
    );
    run(&mut machine, vec![settle(2, 2)]);
    assert_eq!(machine.queue(QUEUE).unwrap().dying(), 0);
    assert_eq!(machine.tail_bytes(), 0);
}

#[test]
fn a_backlog_costs_a_few_words() {
    let mut machine = ShardMachine::new();
    for _ in 0..10 {
        run(
            &mut machine,
            (0..10_000).map(|_| publish(&[QUEUE], 0, "x")).collect(),
        );
        let delta = machine.begin_checkpoint();
        assert!(delta.queue_records[0].1.len() < 32);
        while machine.end_checkpoint(delta.token, 1000) {}
    }
    assert_eq!(machine.tail_bytes(), 0);
    assert_eq!(machine.queue(QUEUE).unwrap().alive_bytes(), 100_000);
}
