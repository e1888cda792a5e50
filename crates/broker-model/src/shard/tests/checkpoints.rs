//! What a checkpoint holds, and what damage does to it.

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;

#[test]
fn what_happens_while_a_checkpoint_is_written_belongs_to_the_next() {
    let mut machine = ShardMachine::new();
    run(
        &mut machine,
        vec![publish(&[QUEUE], 0, "a"), publish(&[QUEUE], 0, "b")],
    );
    let first = machine.begin_checkpoint();
    assert_eq!(messages(&machine, &first).len(), 2);
    run(
        &mut machine,
        vec![
            settle(1, 1),
            publish(&[QUEUE], 0, "c"),
            publish(&[QUEUE], 0, "d"),
            settle(4, 4),
        ],
    );
    while machine.end_checkpoint(first.token, 1000) {}
    let state = machine.queue(QUEUE).unwrap();
    assert!(state.in_memory(Sequence(2)).is_none() && state.in_memory(Sequence(3)).is_some());
    let second = machine.begin_checkpoint();
    assert_eq!(
        messages(&machine, &second)
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
    while machine.end_checkpoint(second.token, 1000) {}
    assert_eq!(machine.tail_bytes(), 0);
    // Nothing changed: nothing to write.
    let third = machine.begin_checkpoint();
    assert!(
        third.stretches.is_empty() && third.deletes.is_empty() && third.queue_records.is_empty()
    );
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
    while machine.end_checkpoint(first.token, 1000) {}
    let second = machine.begin_checkpoint();
    assert_eq!(second.dropped_queues, [QUEUE]);
    assert_eq!(
        messages(&machine, &second).len(),
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
    while machine.end_checkpoint(delta.token, 1000) {}
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
            while machine.end_checkpoint(delta.token, 1000) {}
        }
    }
}
