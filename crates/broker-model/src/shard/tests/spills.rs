//! What of local queues goes to the store.

use super::*;

const BODY: usize = 36;
/// A message with a body of that size.
const WEIGHT: usize = Message::OVERHEAD + BODY;

fn filled(counts: &[(QueueId, u64)]) -> ShardMachine {
    let mut machine = ShardMachine::new();
    let body = "x".repeat(BODY);
    for (queue, count) in counts {
        let ops = (0..*count).map(|_| publish(&[*queue], 0, &body));
        run(&mut machine, ops.collect());
    }
    machine
}

fn stretch(queue: QueueId, from: u64, to: u64) -> Stretch {
    Stretch {
        queue,
        from: Sequence(from),
        to: Sequence(to),
    }
}

fn end(machine: &mut ShardMachine, delta: &CheckpointDelta) {
    while machine.end_checkpoint(delta.token, 3) {}
}

#[test]
fn the_oldest_messages_of_the_longest_queue_go_first() {
    let mut machine = filled(&[(OTHER, 5), (QUEUE, 20)]);
    let first = machine.begin_spill(8 * WEIGHT);
    assert_eq!(first.stretches, [stretch(QUEUE, 1, 8)]);
    // What does not go now is to go later.
    assert_eq!(machine.unstored_bytes(), 17 * WEIGHT);
    end(&mut machine, &first);
    assert_eq!(machine.tail_bytes(), 17 * WEIGHT);
    let state = machine.queue(QUEUE).unwrap();
    assert_eq!(state.alive_in_memory(), (12, 12 * BODY as u64));
    assert_eq!(state.alive(), 20);
    let second = machine.begin_spill(14 * WEIGHT);
    assert_eq!(
        second.stretches,
        [stretch(QUEUE, 9, 20), stretch(OTHER, 1, 2)]
    );
    end(&mut machine, &second);
    let third = machine.begin_spill(usize::MAX);
    assert_eq!(third.stretches, [stretch(OTHER, 3, 5)]);
    end(&mut machine, &third);
    assert_eq!(machine.tail_bytes(), 0);
}

#[test]
fn a_message_that_is_larger_than_the_room_goes_alone() {
    let mut machine = filled(&[(QUEUE, 3)]);
    let delta = machine.begin_spill(1);
    assert_eq!(delta.stretches, [stretch(QUEUE, 1, 1)]);
}

#[test]
fn room_is_counted_from_the_first_message_that_is_there() {
    let mut machine = filled(&[(QUEUE, 1000)]);
    run(&mut machine, vec![settle(2, 900)]);
    let first = machine.begin_spill(3 * WEIGHT);
    end(&mut machine, &first);
    let second = machine.begin_spill(3 * WEIGHT);
    assert!(second.stretches[0].from.0 > 900, "{:?}", second.stretches);
}

#[test]
fn only_what_was_stored_is_deleted() {
    let mut machine = filled(&[(QUEUE, 10), (OTHER, 1)]);
    assert!(!machine.trim(), "nothing is stored");
    run(
        &mut machine,
        vec![settle(1, 2), Op::Delete { queue: OTHER }],
    );
    assert!(!machine.trim(), "nothing is stored yet");
    let first = machine.begin_spill(3 * WEIGHT);
    assert_eq!(
        (&first.deletes[..], &first.dropped_queues[..]),
        (&[][..], &[][..])
    );
    assert_eq!(first.stretches, [stretch(QUEUE, 3, 5)]);
    end(&mut machine, &first);
    run(&mut machine, vec![settle(3, 7)]);
    assert!(machine.trim());
    let second = machine.begin_spill(0);
    let dead = DeadRange {
        queue: QUEUE,
        level: 0,
        from: Sequence(3),
        to: Sequence(5),
    };
    assert_eq!(second.deletes, [dead]);
    assert_eq!(second.stretches, []);
    end(&mut machine, &second);
    assert!(!machine.trim());
    run(&mut machine, vec![Op::Delete { queue: QUEUE }]);
    assert!(machine.trim());
    let third = machine.begin_spill(usize::MAX);
    assert_eq!(third.dropped_queues, [QUEUE]);
    end(&mut machine, &third);
    assert!(!machine.trim());
}
