//! Messages that die, and arrive elsewhere.

use super::*;

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
    while machine.end_checkpoint(checkpoint.token, 1000) {}
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
