//! Stories and properties of the replicated state.

use super::*;
use crate::identity::{Fingerprint, Identity, WindowId};
use crate::ids::NodeId;
use crate::message::Message;
use crate::op::{DeathReason, EntryHead, SequenceRanges};
use crate::wire::{OpsWriter, encode_entry_head};
use proptest::collection::vec;
use proptest::prelude::*;

const QUEUE: QueueId = QueueId(1 << 16);
const OTHER: QueueId = QueueId(2 << 16);

fn publish(queues: &[QueueId], level: u8, body: &str) -> Op {
    let targets = queues
        .iter()
        .map(|queue| Target {
            queue: *queue,
            level,
            ttl_ms: None,
            identities: Box::default(),
        })
        .collect();
    Op::Publish {
        targets,
        message: Message {
            body: Bytes::from(body.to_owned()),
            ..Message::default()
        },
    }
}

fn ranges(from: u64, to: u64) -> SequenceRanges {
    smallvec::smallvec![(Sequence(from), Sequence(to))]
}

fn settle(from: u64, to: u64) -> Op {
    Op::Settle {
        queue: QUEUE,
        sequences: ranges(from, to),
    }
}

fn encode(ops: &[Op]) -> Bytes {
    let mut writer = OpsWriter::new();
    ops.iter().for_each(|op| writer.push(op));
    writer.finish()
}

fn head(previous: u64, number: u64) -> BatchHead {
    BatchHead {
        origin: Origin {
            node: NodeId(1),
            incarnation: 1,
        },
        previous,
        number,
        answered: 0,
    }
}

/// Applies one entry with the given batches.
fn apply(
    machine: &mut ShardMachine,
    batches: &[(BatchHead, Vec<Op>)],
    refusals: &[Refusal],
) -> (Vec<Effect>, Vec<BatchOutcome>) {
    let heads = batches.iter().map(|(head, _)| *head).collect();
    let entry = EntryHead {
        now_ms: 1_000,
        batches: heads,
        refusals: refusals.to_vec(),
        leader_ops: vec![],
    };
    let mut segments = vec![encode_entry_head(&entry)];
    segments.extend(batches.iter().map(|(_, ops)| encode(ops)));
    let (mut effects, mut outcomes) = (Vec::new(), Vec::new());
    machine
        .apply_entry(
            machine.applied_index() + 1,
            &segments,
            &mut effects,
            &mut outcomes,
        )
        .unwrap();
    (effects, outcomes)
}

/// Applies operations as the leader's own.
fn run(machine: &mut ShardMachine, ops: Vec<Op>) -> Vec<Effect> {
    let mut effects = Vec::new();
    ops.into_iter()
        .for_each(|op| machine.apply_op(1_000, None, op, &mut effects));
    effects
}

#[test]
fn a_batch_that_is_sent_again_is_not_applied_again() {
    let mut machine = ShardMachine::new();
    let batch = (
        head(0, 1),
        vec![publish(&[QUEUE], 0, "a"), publish(&[QUEUE], 0, "b")],
    );
    let (effects, outcomes) = apply(&mut machine, std::slice::from_ref(&batch), &[]);
    assert_eq!(
        effects,
        [Effect::Enqueued {
            queue: QUEUE,
            first: Sequence(1),
            last: Sequence(2)
        }]
    );
    assert_eq!(outcomes[0].status, BatchStatus::Applied);
    let (effects, outcomes) = apply(
        &mut machine,
        &[batch, (head(2, 3), vec![publish(&[QUEUE], 0, "d")])],
        &[],
    );
    assert_eq!(effects, []);
    assert_eq!(
        [outcomes[0].status, outcomes[1].status],
        [BatchStatus::Duplicate, BatchStatus::Gap]
    );
    assert_eq!(machine.queue(QUEUE).unwrap().alive(), 2);
    assert_eq!(machine.last_batch(NodeId(1)), Some((1, 1)));
}

#[test]
fn an_entry_is_applied_once() {
    let mut machine = ShardMachine::new();
    let segments = [encode_entry_head(&EntryHead {
        leader_ops: vec![publish(&[QUEUE], 0, "a")],
        ..EntryHead::default()
    })];
    for _ in 0..2 {
        machine
            .apply_entry(5, &segments, &mut Vec::new(), &mut Vec::new())
            .unwrap();
    }
    assert_eq!(
        (
            machine.queue(QUEUE).unwrap().alive(),
            machine.applied_index()
        ),
        (1, 5)
    );
}

#[test]
fn refused_targets_are_left_out_and_named() {
    let mut machine = ShardMachine::new();
    let ops = || {
        vec![
            publish(&[QUEUE, OTHER], 0, "a"),
            settle(9, 9),
            publish(&[QUEUE], 0, "b"),
            publish(&[OTHER], 0, "c"),
        ]
    };
    let refusal = |batch, op| Refusal {
        batch,
        op,
        queue: QUEUE,
    };
    let batches = [(head(0, 1), ops()), (head(1, 2), ops())];
    let (_, outcomes) = apply(
        &mut machine,
        &batches,
        &[refusal(0, 0), refusal(0, 2), refusal(1, 2)],
    );
    assert_eq!(outcomes[0].refused_ops, [0, 2]);
    assert_eq!(outcomes[1].refused_ops, [2]);
    assert_eq!(machine.queue(QUEUE).unwrap().alive(), 1);
    assert_eq!(machine.queue(OTHER).unwrap().alive(), 4);
    // Sent again, also to a later leader, the answer is the same.
    let delta = machine.begin_checkpoint();
    let mut restored = ShardMachine::restore(delta.queue_records, Some(&delta.origins)).unwrap();
    let (_, outcomes) = apply(&mut restored, &batches, &[]);
    assert_eq!(
        (outcomes[0].status, &outcomes[0].refused_ops),
        (BatchStatus::Duplicate, &vec![0, 2])
    );
}

/// A machine whose first queue keeps messages 1 and 2 aside as dead letters.
fn dying() -> ShardMachine {
    let mut machine = ShardMachine::new();
    let kill = Op::Kill {
        queue: QUEUE,
        sequences: ranges(1, 2),
        reason: DeathReason::Rejected,
        dead_letter: true,
    };
    let publish = |body| publish(&[QUEUE], 0, body);
    run(
        &mut machine,
        vec![publish("a"), publish("b"), publish("c"), kill],
    );
    machine
}

fn pass_on(number: u64, queues: &[QueueId]) -> Op {
    let Op::Publish { targets, message } = publish(queues, 0, "letter") else {
        unreachable!()
    };
    Op::PassOn {
        from: QUEUE,
        sequence: Sequence(number),
        targets,
        message,
    }
}

/// Messages that are dying in the first queue, and that are in the second.
fn passed(machine: &ShardMachine) -> (u64, u64) {
    let alive = |queue| machine.queue(queue).map_or(0, QueueState::alive);
    let dying = machine.queue(QUEUE).map_or(0, QueueState::dying);
    (dying, alive(OTHER))
}

#[test]
fn a_dead_letter_arrives_and_is_settled_in_one_step() {
    let mut machine = dying();
    let batch = (head(0, 1), vec![pass_on(1, &[OTHER])]);
    let (effects, outcomes) = apply(&mut machine, &[batch], &[]);
    assert_eq!(
        effects,
        [
            Effect::Enqueued {
                queue: OTHER,
                first: Sequence(1),
                last: Sequence(1)
            },
            Effect::Settled {
                queue: QUEUE,
                sequences: ranges(1, 1)
            }
        ]
    );
    assert_eq!(outcomes[0].refused_ops, [] as [u32; 0]);
    assert_eq!(passed(&machine), (1, 1));
    // The publisher of another leader has it, too.
    let batch = (head(1, 2), vec![pass_on(1, &[OTHER]), pass_on(2, &[OTHER])]);
    let (_, outcomes) = apply(&mut machine, &[batch], &[]);
    assert_eq!(outcomes[0].refused_ops, [] as [u32; 0]);
    assert_eq!(passed(&machine), (0, 2));
    // What is alive or was never there does not go anywhere.
    assert_eq!(
        run(
            &mut machine,
            vec![pass_on(3, &[OTHER]), pass_on(9, &[OTHER])]
        ),
        []
    );
    assert_eq!(machine.queue(QUEUE).unwrap().alive(), 1);
}

#[test]
fn a_dead_letter_that_is_refused_stays() {
    let mut machine = dying();
    let third = QueueId(3 << 16);
    let batch = (head(0, 1), vec![pass_on(1, &[OTHER, third])]);
    let refusal = Refusal {
        batch: 0,
        op: 0,
        queue: third,
    };
    let (_, outcomes) = apply(&mut machine, &[batch], &[refusal]);
    assert_eq!(outcomes[0].refused_ops, [0]);
    assert_eq!(passed(&machine), (2, 1));
    assert!(machine.queue(third).is_none());
}

#[test]
fn a_dead_letter_of_a_queue_that_is_deleted_arrives() {
    let mut machine = dying();
    run(
        &mut machine,
        vec![Op::Delete { queue: QUEUE }, pass_on(1, &[OTHER])],
    );
    assert_eq!(passed(&machine), (0, 1));
    assert!(machine.queue(QUEUE).is_none());
}

#[test]
fn a_dead_letter_may_come_back_to_its_queue() {
    let mut machine = dying();
    run(&mut machine, vec![pass_on(1, &[QUEUE])]);
    let state = machine.queue(QUEUE).unwrap();
    assert_eq!((state.alive(), state.dying()), (2, 1));
    assert!(state.is_alive(Sequence(4)));
}

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
fn what_happens_while_a_checkpoint_is_written_belongs_to_the_next() {
    let mut machine = ShardMachine::new();
    run(
        &mut machine,
        vec![publish(&[QUEUE], 0, "a"), publish(&[QUEUE], 0, "b")],
    );
    let first = machine.begin_checkpoint();
    assert_eq!(first.puts.len(), 2);
    run(
        &mut machine,
        vec![
            settle(1, 1),
            publish(&[QUEUE], 0, "c"),
            publish(&[QUEUE], 0, "d"),
            settle(4, 4),
        ],
    );
    machine.end_checkpoint(first.token);
    let state = machine.queue(QUEUE).unwrap();
    assert!(state.in_memory(Sequence(2)).is_none() && state.in_memory(Sequence(3)).is_some());
    let second = machine.begin_checkpoint();
    assert_eq!(
        second
            .puts
            .iter()
            .map(|(key, _)| key.sequence.0)
            .collect::<Vec<_>>(),
        [3]
    );
    let dead = DeadRange {
        queue: QUEUE,
        level: 0,
        from: Sequence(1),
        to: Sequence(1),
    };
    assert_eq!(second.deletes, [dead], "4 was never stored");
    machine.end_checkpoint(second.token);
    assert_eq!(machine.tail_bytes(), 0);
    // Nothing changed: nothing to write.
    let third = machine.begin_checkpoint();
    assert!(third.puts.is_empty() && third.deletes.is_empty() && third.queue_records.is_empty());
}

#[test]
fn a_queue_deleted_while_a_checkpoint_is_written_is_dropped_by_the_next() {
    let mut machine = ShardMachine::new();
    run(&mut machine, vec![publish(&[QUEUE], 0, "a")]);
    let first = machine.begin_checkpoint();
    run(
        &mut machine,
        vec![Op::Delete { queue: QUEUE }, publish(&[QUEUE], 0, "late")],
    );
    machine.end_checkpoint(first.token);
    let second = machine.begin_checkpoint();
    assert_eq!(second.dropped_queues, [QUEUE]);
    assert_eq!(
        second.puts.len(),
        1,
        "what came late is written after the drop"
    );
}

#[test]
fn scattered_deaths_are_few_deletes() {
    let mut machine = ShardMachine::new();
    run(
        &mut machine,
        (0..1_000).map(|_| publish(&[QUEUE], 0, "x")).collect(),
    );
    let delta = machine.begin_checkpoint();
    machine.end_checkpoint(delta.token);
    // Settled in an odd order, in the end all but one.
    for step in [3, 2, 1] {
        run(
            &mut machine,
            (1..=1_000)
                .step_by(step)
                .filter(|number| *number != 500)
                .map(|number| settle(number, number))
                .collect(),
        );
    }
    let deletes = machine.begin_checkpoint().deletes;
    let spans: Vec<_> = deletes
        .iter()
        .map(|dead| (dead.from.0, dead.to.0))
        .collect();
    assert_eq!(spans, [(1, 499), (501, 1_000)]);
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
        machine.end_checkpoint(delta.token);
    }
    assert_eq!(machine.tail_bytes(), 0);
    assert_eq!(machine.queue(QUEUE).unwrap().alive_bytes(), 100_000);
}

proptest! {
    /// Damaged records are found out or mean something, and never panic, whatever is done then.
    #[test]
    fn damaged_records_never_panic(noise in vec(any::<u8>(), 1..60), at in any::<prop::sample::Index>(), from in any::<u64>(), to in any::<u64>()) {
        let mut machine = ShardMachine::new();
        run(&mut machine, (0..20).map(|number| publish(&[QUEUE], number % 2, "x")).collect());
        run(&mut machine, vec![
            settle(3, 3),
            Op::Return { queue: QUEUE, sequences: ranges(1, 2), counted: true },
            Op::Kill { queue: QUEUE, sequences: ranges(4, 5), reason: DeathReason::Rejected, dead_letter: true },
        ]);
        let delta = machine.begin_checkpoint();
        let mut record = delta.queue_records[0].1.to_vec();
        let at = at.index(record.len());
        for (byte, noise) in record[at..].iter_mut().zip(&noise) {
            *byte = *noise;
        }
        for record in [Bytes::from(record), Bytes::from(noise)] {
            let Ok(mut machine) = ShardMachine::restore([(QUEUE, record.clone())], Some(&record)).or_else(|_| ShardMachine::restore([(QUEUE, record)], None)) else { continue };
            run(&mut machine, vec![
                publish(&[QUEUE], 0, "y"),
                Op::Return { queue: QUEUE, sequences: ranges(from.min(to), from.max(to)), counted: false },
                settle(from.min(to), from.max(to)),
            ]);
            let delta = machine.begin_checkpoint();
            machine.end_checkpoint(delta.token);
        }
    }
}

/// A publish that the queue tells apart by `number`.
fn publish_once(number: u64, cache_size: u32, cache_ttl_ms: Option<u64>) -> Op {
    let identity = Identity {
        window: WindowId::QUEUE,
        fingerprint: Fingerprint(0, number),
        cache_size,
        cache_ttl_ms,
    };
    Op::Publish {
        targets: smallvec::smallvec![Target {
            identities: Box::new([identity]),
            ..Target::plain(QUEUE)
        }],
        message: Message {
            body: Bytes::from(number.to_string()),
            ..Message::default()
        },
    }
}

#[test]
fn a_duplicate_is_accepted_and_not_appended() {
    let mut machine = ShardMachine::new();
    let ops = vec![
        publish_once(1, 10, None),
        publish_once(2, 10, None),
        publish_once(1, 10, None),
        publish(&[QUEUE], 0, "without"),
        publish(&[QUEUE], 0, "without"),
    ];
    let (effects, outcomes) = apply(&mut machine, &[(head(0, 1), ops)], &[]);
    assert_eq!(
        effects,
        [Effect::Enqueued {
            queue: QUEUE,
            first: Sequence(1),
            last: Sequence(4)
        }]
    );
    assert_eq!(outcomes[0].refused_ops, [] as [u32; 0]);
    // It stays known when it is consumed, and to who has it from a snapshot.
    run(&mut machine, vec![settle(1, 4)]);
    let delta = machine.begin_checkpoint();
    let mut restored = ShardMachine::restore(delta.queue_records, Some(&delta.origins)).unwrap();
    for machine in [&mut machine, &mut restored] {
        let again = vec![publish_once(2, 10, None), publish_once(3, 10, None)];
        let (effects, _) = apply(machine, &[(head(1, 2), again)], &[]);
        assert_eq!(effects.len(), 1);
        assert_eq!(machine.queue(QUEUE).unwrap().alive(), 1);
    }
}

#[test]
fn what_was_refused_is_no_duplicate_later() {
    let mut machine = ShardMachine::new();
    let once = || vec![publish_once(1, 10, None)];
    let refusal = Refusal {
        batch: 0,
        op: 0,
        queue: QUEUE,
    };
    apply(&mut machine, &[(head(0, 1), once())], &[refusal]);
    assert!(machine.queue(QUEUE).is_none());
    apply(&mut machine, &[(head(1, 2), once())], &[]);
    assert_eq!(machine.queue(QUEUE).unwrap().alive(), 1);
}

proptest! {
    /// Who starts from a checkpoint and applies what follows is where who applied everything is.
    #[test]
    fn windows_replay_from_a_checkpoint(
        steps in vec((0u64..8, 1u32..5, proptest::option::of(0u64..6), 0u64..4), 1..80),
        at in any::<prop::sample::Index>(),
    ) {
        let at = at.index(steps.len());
        let mut whole = ShardMachine::new();
        let mut later = None;
        let mut now_ms = 1_000;
        for (step, (number, size, ttl_ms, pause_ms)) in steps.into_iter().enumerate() {
            if step == at {
                let delta = whole.begin_checkpoint();
                let records = delta.queue_records;
                later = Some(ShardMachine::restore(records, Some(&delta.origins)).unwrap());
                whole.end_checkpoint(delta.token);
            }
            now_ms += pause_ms;
            let mut effects = Vec::new();
            whole.apply_op(now_ms, None, publish_once(number, size, ttl_ms), &mut effects);
            if let Some(later) = &mut later {
                let mut same = Vec::new();
                later.apply_op(now_ms, None, publish_once(number, size, ttl_ms), &mut same);
                prop_assert_eq!(same, effects);
            }
        }
        if let Some(mut later) = later {
            let (whole, later) = (whole.begin_checkpoint(), later.begin_checkpoint());
            prop_assert_eq!(whole.queue_records, later.queue_records);
        }
    }
}

#[test]
fn dying_messages_have_bytes() {
    let mut machine = ShardMachine::new();
    let bodies = ["1", "22", "333", "4444"];
    run(
        &mut machine,
        bodies
            .iter()
            .map(|body| publish(&[QUEUE], 0, body))
            .collect(),
    );
    let kill = |from, to| Op::Kill {
        queue: QUEUE,
        sequences: ranges(from, to),
        reason: DeathReason::Rejected,
        dead_letter: true,
    };
    // What is done, and the bytes of dying and of alive messages behind it.
    for (op, dying, alive) in [
        (kill(2, 2), 2, 8),
        (kill(1, 2), 3, 7), // One of them for the second time.
        (kill(4, 4), 7, 3),
        (settle(4, 4), 4, 3), // By average.
        (settle(1, 2), 0, 3),
        (settle(3, 3), 0, 0),
    ] {
        run(&mut machine, vec![op]);
        let state = machine.queue(QUEUE).unwrap();
        assert_eq!((state.dying_bytes(), state.alive_bytes()), (dying, alive));
    }
}

/// What died is kept in memory like the living until its dead letter is done with, unless a checkpoint has it.
#[test]
fn dying_messages_free_what_they_held() {
    let mut machine = ShardMachine::new();
    let bodies = |bodies: &[&str]| -> Vec<Op> {
        bodies
            .iter()
            .map(|body| publish(&[QUEUE], 0, body))
            .collect()
    };
    run(&mut machine, bodies(&["1", "22"]));
    let checkpoint = machine.begin_checkpoint();
    machine.end_checkpoint(checkpoint.token);
    assert_eq!(machine.tail_bytes(), 0);
    run(&mut machine, bodies(&["333", "4444", "55555"]));
    let weight = |machine: &ShardMachine, number| {
        let stored = machine.queue(QUEUE).unwrap().in_memory(Sequence(number));
        stored.map_or(0, |stored| stored.message.weight())
    };
    let weights = [3, 4, 5].map(|number| weight(&machine, number));
    let (all, last) = (weights.iter().sum::<usize>(), weights[2]);
    assert_eq!(machine.tail_bytes(), all);
    let kill = Op::Kill {
        queue: QUEUE,
        sequences: ranges(1, 5),
        reason: DeathReason::Rejected,
        dead_letter: true,
    };
    let failed = Op::Return {
        queue: QUEUE,
        sequences: ranges(3, 5),
        counted: true,
    };
    run(&mut machine, vec![failed]);
    // What is done, and what is held behind it.
    for (op, held) in [
        (kill, all),
        (settle(2, 4), last), // The first of them is stored.
        (settle(2, 4), last),
        (settle(1, 5), 0),
    ] {
        run(&mut machine, vec![op]);
        assert_eq!(machine.tail_bytes(), held);
    }
    let state = machine.queue(QUEUE).unwrap();
    assert_eq!(
        [3, 4, 5].map(|number| state.delivery_count(Sequence(number))),
        [0; 3]
    );
    let deleted: u64 = machine
        .begin_checkpoint()
        .deletes
        .iter()
        .map(|dead| dead.to.0 - dead.from.0 + 1)
        .sum();
    assert_eq!(deleted, 2, "the others were never stored");
}
