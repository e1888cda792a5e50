use super::super::tests::publish;
use super::*;
use broker_model::ids::{NodeId, QueueId, Sequence};

const SESSION: SessionId = SessionId(1);
const ORIGIN: Origin = Origin {
    node: NodeId(1),
    incarnation: 1,
};

fn settle() -> Op {
    Op::settle_one(QueueId(7), Sequence(1))
}

fn submit(queue: &mut SendQueue, token: u64, ops: Vec<Op>) -> Submitted {
    queue.submit(Instant::now(), SESSION, SubBatch { token, ops })
}

fn decoded(ops: BatchOps) -> Vec<Op> {
    match ops {
        BatchOps::Plain(ops) => ops,
        BatchOps::Encoded(bytes) => broker_model::wire::OpsReader::new(bytes)
            .map(|op| op.expect("readable"))
            .collect(),
    }
}

#[test]
fn what_waits_is_merged_and_goes_as_far_as_the_window_is_open() {
    for (encode, window) in [(true, IN_FLIGHT_BATCHES), (false, IN_FLIGHT_BATCHES_LOCAL)] {
        let mut queue = SendQueue::new(ORIGIN, encode);
        submit(&mut queue, 1, vec![publish(1)]);
        submit(&mut queue, 2, vec![settle(), publish(2)]);
        let (head, ops) = queue.next_batch().expect("open");
        assert_eq!((head.previous, head.number, head.answered), (0, 1, 0));
        assert_eq!(decoded(ops), [publish(1), settle(), publish(2)]);
        let mut sent = 1;
        loop {
            submit(&mut queue, 3, vec![settle()]);
            match queue.next_batch() {
                Some((head, _)) => assert_eq!(head.previous, sent),
                None => break,
            }
            sent += 1;
        }
        assert_eq!(sent, window as u64);
        // An answer to a later one, meant for the attachment before.
        assert!(queue.answer(2).is_none());
        let done = queue.answer(1).expect("the first");
        let refused: Vec<Vec<u32>> = done.parts.iter().map(|p| p.refused(&[0, 2])).collect();
        assert_eq!(refused, [vec![0], vec![1]]);
        assert_eq!(queue.done(), 2);
        assert_eq!(queue.next_batch().map(|(head, _)| head.answered), Some(1));
    }
}

#[test]
fn what_waits_too_long_is_given_up_and_settles_stay() {
    let timeout = Duration::from_secs(30);
    let mut queue = SendQueue::new(ORIGIN, true);
    submit(&mut queue, 1, vec![publish(1), settle()]);
    assert!(queue.next_batch().is_some());
    submit(&mut queue, 2, vec![publish(2)]);
    submit(&mut queue, 3, vec![publish(3), settle()]);
    let now = Instant::now();
    assert!(queue.give_up_late(now, timeout).tokens.is_empty());
    let given_up = queue.give_up_late(now + timeout, timeout);
    assert_eq!(given_up.tokens, [(SESSION, 2), (SESSION, 3), (SESSION, 1)]);
    assert_eq!(given_up.dropped.len(), 1);
    assert_eq!(queue.done(), 1);
    let again: Vec<Vec<Op>> = queue
        .unanswered()
        .map(|(_, ops)| decoded(ops.clone()))
        .collect();
    assert_eq!(again, [[Op::nothing(), settle()]]);
    assert!(queue.waiting_ops().eq([&settle()]));
    // Once only.
    let again = queue.give_up_late(now + timeout, timeout);
    assert!(again.tokens.is_empty() && again.dropped.is_empty());
}

/// The answer to the batch as it was may be on its way.
#[test]
fn what_is_given_up_keeps_its_place() {
    let ops = [publish(1), publish(2), settle(), publish(3)];
    let part = |first_op, ops| Part {
        session: SESSION,
        token: 1,
        first_op,
        ops,
        bytes: 0,
        created: Instant::now(),
        given_up: false,
        ordered: true,
    };
    let head = BatchHead {
        origin: ORIGIN,
        previous: 0,
        number: 1,
        answered: 0,
    };
    let mut batch = SentBatch {
        head,
        ops: BatchOps::Encoded(encode_ops(&ops)),
        bytes: 0,
        parts: vec![part(0, 2), part(2, 2)],
    };
    let first_part = 0..2;
    strip_publishes(&mut batch, std::slice::from_ref(&first_part));
    let left = decoded(batch.ops);
    assert_eq!(left, [Op::nothing(), Op::nothing(), settle(), publish(3)]);
}

#[test]
fn requests_wait_for_everything_but_settlements() {
    let mut queue = SendQueue::new(ORIGIN, true);
    submit(&mut queue, 1, vec![settle(), settle()]);
    assert_eq!((queue.submitted(), queue.done()), (0, 0));
    submit(&mut queue, 2, vec![settle(), publish(1)]);
    submit(&mut queue, 3, vec![settle()]);
    assert!(queue.next_batch().is_some());
    assert_eq!((queue.submitted(), queue.done()), (1, 0));
    assert!(queue.answer(1).is_some());
    assert_eq!((queue.submitted(), queue.done()), (1, 1));
}
