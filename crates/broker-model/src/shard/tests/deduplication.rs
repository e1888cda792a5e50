//! Messages that come twice.

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;

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
                while whole.end_checkpoint(delta.token, 1000) {}
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
