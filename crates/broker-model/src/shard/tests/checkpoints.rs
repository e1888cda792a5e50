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

/// What the state says about messages that wait, by number.
fn delayed(machine: &ShardMachine) -> Vec<(u64, u64, u64)> {
    let state = machine.queue(QUEUE).unwrap();
    let delayed = state.delayed_ranges();
    delayed
        .map(|(a, b, until_ms)| (a.0, b.0, until_ms))
        .collect()
}

fn delay(from: u64, to: u64, until_ms: u64) -> Op {
    Op::Delay {
        queue: QUEUE,
        sequences: ranges(from, to),
        until_ms,
    }
}

#[test]
fn a_record_with_delayed_messages_is_of_a_version_of_its_own() {
    let mut machine = ShardMachine::new();
    let publishes = (0..6).map(|_| publish(&[QUEUE], 0, "a")).collect();
    run(&mut machine, publishes);
    let plain = machine.queue(QUEUE).unwrap().encode_record();
    assert_eq!(plain[0], 1);
    // Messages that are not there do not wait.
    run(
        &mut machine,
        vec![delay(1, 4, 70), delay(2, 2, 90), delay(6, 9, 5)],
    );
    let expected = [(1, 1, 70), (2, 2, 90), (3, 4, 70), (6, 6, 5)];
    assert_eq!(delayed(&machine), expected);
    let record = machine.queue(QUEUE).unwrap().encode_record();
    assert_eq!(record[0], 2);
    let read = |record: &Bytes| crate::queue::QueueState::decode_record(record);
    let found = read(&record).unwrap();
    assert_eq!(found.encode_record(), record);
    for cut in 0..record.len() {
        assert!(read(&record.slice(..cut)).is_err(), "{cut}");
    }
    let mut newer = record.to_vec();
    newer[0] = 3;
    assert_eq!(read(&newer.into()).err(), Some(WireError::Version(3)));
    // With the messages goes what is said of them.
    let kill = Op::Kill {
        queue: QUEUE,
        sequences: ranges(3, 3),
        reason: DeathReason::Expired,
        dead_letter: true,
    };
    run(&mut machine, vec![settle(1, 2), kill]);
    assert_eq!(delayed(&machine), [(4, 4, 70), (6, 6, 5)]);
    run(&mut machine, vec![settle(3, 9)]);
    assert_eq!(machine.queue(QUEUE).unwrap().encode_record()[0], 1);
}
