//! Batches of nodes: in order, once, and what is refused of them.

use super::*;

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
