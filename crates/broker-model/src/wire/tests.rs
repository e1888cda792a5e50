//! Round trips, and that broken input is an error and never a panic.

use super::*;
use crate::identity::{Fingerprint, Identity, WindowId};
use crate::ids::{ConsumerId, NodeId, Origin, QueueId, RequestId, Sequence};
use crate::message::Message;
use crate::op::*;
use crate::protocol::*;
use bytes::{BufMut, Bytes, BytesMut};
use proptest::collection::vec;
use proptest::prelude::*;

fn any_bytes() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..40).prop_map(Bytes::from)
}

fn any_number() -> impl Strategy<Value = u64> {
    prop_oneof![0..300u64, any::<u64>(), Just(u64::MAX)]
}

fn any_message() -> impl Strategy<Value = Message> {
    (any_bytes(), any_bytes(), any_bytes(), any_bytes()).prop_map(
        |(exchange, routing_key, properties, body)| Message {
            exchange,
            routing_key,
            properties,
            body,
        },
    )
}

fn any_queue() -> impl Strategy<Value = QueueId> {
    any_number().prop_map(QueueId)
}

fn any_ranges() -> impl Strategy<Value = SequenceRanges> {
    vec((any_number(), any_number()), 0..5).prop_map(|pairs| {
        pairs
            .into_iter()
            .map(|(a, b)| (Sequence(a.min(b)), Sequence(a.max(b))))
            .collect()
    })
}

fn any_reason() -> impl Strategy<Value = DeathReason> {
    prop_oneof![
        Just(DeathReason::Rejected),
        Just(DeathReason::Expired),
        Just(DeathReason::MaxLength),
        Just(DeathReason::DeliveryLimit)
    ]
}

fn any_target() -> impl Strategy<Value = Target> {
    (
        any_queue(),
        any::<u8>(),
        proptest::option::of(any_number()),
        prop_oneof![4 => Just(Vec::new()), 1 => vec(any_identity(), 1..3)],
    )
        .prop_map(|(queue, level, ttl_ms, identities)| Target {
            queue,
            level,
            ttl_ms,
            identities: identities.into(),
        })
}

fn any_identity() -> impl Strategy<Value = Identity> {
    (
        any::<[u64; 3]>(),
        any::<u32>(),
        proptest::option::of(any_number()),
    )
        .prop_map(|([window, a, b], cache_size, cache_ttl_ms)| Identity {
            window: WindowId(window),
            fingerprint: Fingerprint(a, b),
            cache_size,
            cache_ttl_ms,
        })
}

fn any_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        (vec(any_target(), 0..5), any_message()).prop_map(|(targets, message)| Op::Publish {
            targets: targets.into(),
            message
        }),
        (
            any_queue(),
            any_number(),
            vec(any_target(), 0..5),
            any_message()
        )
            .prop_map(|(from, sequence, targets, message)| Op::PassOn {
                from,
                sequence: Sequence(sequence),
                targets: targets.into(),
                message
            }),
        (any_queue(), any_ranges()).prop_map(|(queue, sequences)| Op::Settle { queue, sequences }),
        (any_queue(), any_ranges(), any_reason(), any::<bool>()).prop_map(
            |(queue, sequences, reason, dead_letter)| Op::Kill {
                queue,
                sequences,
                reason,
                dead_letter
            }
        ),
        (any_queue(), any_ranges(), any::<bool>()).prop_map(|(queue, sequences, counted)| {
            Op::Return {
                queue,
                sequences,
                counted,
            }
        }),
        (any_queue(), any_ranges(), any_number()).prop_map(|(queue, sequences, until_ms)| {
            Op::Delay {
                queue,
                sequences,
                until_ms,
            }
        }),
        any_queue().prop_map(|queue| Op::Delete { queue }),
        (any_queue(), any_number()).prop_map(|(queue, upto)| Op::Mark {
            queue,
            upto: Sequence(upto)
        }),
    ]
}

fn any_origin() -> impl Strategy<Value = Origin> {
    (any_number(), any_number()).prop_map(|(node, incarnation)| Origin {
        node: NodeId(node),
        incarnation,
    })
}

fn any_head() -> impl Strategy<Value = BatchHead> {
    (any_origin(), any_number(), any_number(), any_number()).prop_map(
        |(origin, previous, number, answered)| BatchHead {
            origin,
            previous,
            number,
            answered,
        },
    )
}

fn any_entry_head() -> impl Strategy<Value = EntryHead> {
    let refusal = (any::<u32>(), any::<u32>(), any_queue())
        .prop_map(|(batch, op, queue)| Refusal { batch, op, queue });
    (
        any_number(),
        vec(any_head(), 0..4),
        vec(any_op(), 0..4),
        vec(refusal, 0..4),
    )
        .prop_map(|(now_ms, batches, leader_ops, refusals)| EntryHead {
            now_ms,
            batches,
            leader_ops,
            refusals,
        })
}

fn any_spec() -> impl Strategy<Value = ConsumerSpec> {
    (any_bytes(), any::<(bool, bool, i32, u32, u64, u16)>()).prop_map(
        |(tag, (no_ack, exclusive, priority, prefetch, connection, channel))| ConsumerSpec {
            tag,
            no_ack,
            exclusive,
            priority,
            prefetch,
            connection,
            channel,
        },
    )
}

fn any_resume() -> impl Strategy<Value = Resume> {
    (any_ranges(), any_number(), any_number()).prop_map(|(sequences, order, active_since)| Resume {
        sequences,
        order,
        active_since,
    })
}

fn any_to_host() -> impl Strategy<Value = ToHost> {
    let consumer = || any_number().prop_map(ConsumerId);
    let request = || any_number().prop_map(RequestId);
    prop_oneof![
        (any_head(), any_bytes()).prop_map(|(head, ops)| ToHost::Batch { head, ops }),
        (
            consumer(),
            any_queue(),
            any_spec(),
            any::<u32>(),
            proptest::option::of(any_resume())
        )
            .prop_map(|(consumer, queue, spec, credit, resume)| ToHost::Consume {
                consumer,
                queue,
                spec,
                credit,
                resume
            }),
        (any_queue(), any_ranges())
            .prop_map(|(queue, sequences)| ToHost::Hold { queue, sequences }),
        Just(ToHost::Resumed),
        (consumer(), any_queue()).prop_map(|(consumer, queue)| ToHost::Cancel { consumer, queue }),
        (consumer(), any_queue(), any::<u32>(), CREDIT_BYTES_MIN..).prop_map(
            |(consumer, queue, more, bytes)| {
                ToHost::Credit {
                    consumer,
                    queue,
                    more,
                    bytes,
                }
            }
        ),
        (consumer(), any_queue(), any::<u32>()).prop_map(|(consumer, queue, more)| {
            ToHost::Credit {
                consumer,
                queue,
                more,
                bytes: CREDIT_BYTES_MIN,
            }
        }),
        (consumer(), any_queue()).prop_map(|(consumer, queue)| ToHost::Revoke { consumer, queue }),
        (request(), any_queue(), any::<bool>()).prop_map(|(request, queue, no_ack)| ToHost::Get {
            request,
            queue,
            no_ack
        }),
        (request(), any_queue(), any::<bool>()).prop_map(|(request, queue, used)| ToHost::Count {
            request,
            queue,
            used
        }),
        (request(), any_queue()).prop_map(|(request, queue)| ToHost::Purge { request, queue }),
        (request(), any_queue(), any::<(bool, bool)>()).prop_map(
            |(request, queue, (if_unused, if_empty))| {
                ToHost::CheckDelete {
                    request,
                    queue,
                    if_unused,
                    if_empty,
                }
            }
        ),
        (request(), any_queue(), any::<u32>(), any_number()).prop_map(
            |(request, queue, count, bytes)| ToHost::Browse {
                request,
                queue,
                count,
                bytes,
            }
        ),
        (
            any_number(),
            any_queue(),
            any_place(),
            any::<u32>(),
            any_number()
        )
            .prop_map(|(consumer, queue, from, count, bytes)| ToHost::Read {
                consumer: ConsumerId(consumer),
                queue,
                from,
                count,
                bytes,
            }),
    ]
}

fn any_place() -> impl Strategy<Value = ReadFrom> {
    prop_oneof![
        Just(ReadFrom::First),
        Just(ReadFrom::Last),
        Just(ReadFrom::Next),
        any_number().prop_map(ReadFrom::Since),
        any_number().prop_map(ReadFrom::Number),
    ]
}

fn any_stored() -> impl Strategy<Value = StoredMessage> {
    (any_message(), proptest::option::of(any_number())).prop_map(|(message, expires_at_ms)| {
        StoredMessage {
            message,
            expires_at_ms,
        }
    })
}

fn any_delivery() -> impl Strategy<Value = Delivery> {
    (
        any_number(),
        any_queue(),
        any_number(),
        any::<bool>(),
        any::<u32>(),
        any_message(),
    )
        .prop_map(
            |(consumer, queue, sequence, redelivered, delivery_count, message)| Delivery {
                consumer: ConsumerId(consumer),
                queue,
                sequence: Sequence(sequence),
                redelivered,
                delivery_count,
                message,
            },
        )
}

fn any_outcome() -> impl Strategy<Value = BatchOutcome> {
    let status = prop_oneof![
        Just(BatchStatus::Applied),
        Just(BatchStatus::Duplicate),
        Just(BatchStatus::Gap),
        Just(BatchStatus::Stale)
    ];
    (any_origin(), any_number(), status, vec(any::<u32>(), 0..4)).prop_map(
        |(origin, number, status, refused_ops)| BatchOutcome {
            origin,
            number,
            status,
            refused_ops,
        },
    )
}

fn any_from_host() -> impl Strategy<Value = FromHost> {
    let consumer = || any_number().prop_map(ConsumerId);
    let request = || any_number().prop_map(RequestId);
    let subject = prop_oneof![
        consumer().prop_map(Subject::Consumer),
        request().prop_map(Subject::Request)
    ];
    let why = prop_oneof![
        Just(Refused::NoQueue),
        Just(Refused::ExclusiveUse),
        Just(Refused::InUse),
        Just(Refused::NotEmpty)
    ];
    prop_oneof![
        any_outcome().prop_map(FromHost::Outcome),
        (consumer(), any_number())
            .prop_map(|(consumer, order)| FromHost::ConsumeOk { consumer, order }),
        (consumer(), any_number())
            .prop_map(|(consumer, since)| FromHost::Active { consumer, since }),
        (subject, why).prop_map(|(subject, why)| FromHost::Refused { subject, why }),
        (consumer(), any::<bool>())
            .prop_map(|(consumer, by_host)| FromHost::Cancelled { consumer, by_host }),
        vec(any_delivery(), 0..4).prop_map(FromHost::Deliver),
        (consumer(), any::<u32>())
            .prop_map(|(consumer, unused)| FromHost::Revoked { consumer, unused }),
        consumer().prop_map(|consumer| FromHost::Starved { consumer }),
        (consumer(), any::<u32>(), any::<u32>()).prop_map(|(consumer, unused, size)| {
            FromHost::TooLarge {
                consumer,
                unused,
                size,
            }
        }),
        (
            request(),
            proptest::option::of((any_delivery().prop_map(Box::new), any_number()))
        )
            .prop_map(|(request, delivery)| FromHost::Got { request, delivery }),
        (
            request(),
            any_number(),
            any_number(),
            any_number(),
            any_number()
        )
            .prop_map(|(request, ready, unacked, consumers, ready_bytes)| {
                FromHost::Counts {
                    request,
                    ready,
                    unacked,
                    consumers,
                    ready_bytes,
                }
            }),
        (request(), vec(any_stored(), 0..4))
            .prop_map(|(request, messages)| FromHost::Browsed { request, messages }),
        (
            any_number(),
            any_number(),
            vec((any_number(), any_stored()), 0..4)
        )
            .prop_map(|(consumer, next, messages)| FromHost::Read {
                consumer: ConsumerId(consumer),
                next,
                messages,
            }),
        proptest::option::of(any_number().prop_map(NodeId))
            .prop_map(|leader| FromHost::NotLeader { leader }),
    ]
}

fn encoded(write: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut out = BytesMut::new();
    write(&mut out);
    out.freeze()
}

proptest! {
    #[test]
    fn ops_round_trip(ops in vec(any_op(), 0..6)) {
        let mut writer = OpsWriter::new();
        ops.iter().for_each(|op| writer.push(op));
        let bytes = writer.finish();
        prop_assert_eq!(validate_ops(&bytes), Ok(ops.len() as u32));
        let settles = ops.iter().all(|op| matches!(op, Op::Settle { .. }));
        prop_assert_eq!(only_settles(&bytes), settles);
        let read: Result<Vec<_>, _> = OpsReader::new(bytes.clone()).collect();
        prop_assert_eq!(read, Ok(ops.clone()));
        // A hub merges sub-batches without parsing them.
        let mut merged = OpsWriter::new();
        prop_assert_eq!(merged.append(&bytes), Ok(ops.len() as u32));
        merged.append(&bytes).unwrap();
        let read: Result<Vec<_>, _> = OpsReader::new(merged.finish()).collect();
        prop_assert_eq!(read, Ok([ops.clone(), ops].concat()));
    }

    #[test]
    fn entry_heads_round_trip(head in any_entry_head()) {
        prop_assert_eq!(decode_entry_head(&encode_entry_head(&head)), Ok(head));
    }

    #[test]
    fn stored_messages_round_trip(message in any_message(), expires_at_ms in proptest::option::of(any_number())) {
        let stored = StoredMessage { message, expires_at_ms };
        let bytes = encoded(|out| encode_stored_message(&stored, out));
        prop_assert_eq!(decode_stored_message(&bytes), Ok(stored));
    }

    #[test]
    fn to_host_round_trips(message in any_to_host()) {
        let bytes = encoded(|out| encode_to_host(&message, out));
        prop_assert_eq!(decode_to_host(bytes), Ok(message));
    }

    #[test]
    fn from_host_round_trips(message in any_from_host()) {
        let bytes = encoded(|out| encode_from_host(&message, out));
        prop_assert_eq!(decode_from_host(bytes), Ok(message));
    }

    /// Any prefix of an encoding is an error (a batch's ops, the one open end, are checked apart).
    #[test]
    fn truncation_is_an_error(ops in vec(any_op(), 1..4), head in any_entry_head(), reply in any_from_host(), cut in 0.0..1.0f64) {
        let mut writer = OpsWriter::new();
        ops.iter().for_each(|op| writer.push(op));
        let cut_off = |bytes: Bytes| bytes.slice(..(bytes.len() as f64 * cut) as usize);
        let bytes = cut_off(writer.finish());
        prop_assert!(validate_ops(&bytes).is_err());
        prop_assert!(OpsReader::new(bytes).any(|op| op.is_err()));
        prop_assert!(decode_entry_head(&cut_off(encode_entry_head(&head))).is_err());
        prop_assert!(decode_from_host(cut_off(encoded(|out| encode_from_host(&reply, out)))).is_err());
    }

    /// Corrupt bytes give some value or an error, and checking agrees with reading.
    #[test]
    fn corruption_never_panics(ops in vec(any_op(), 1..4), asked in any_to_host(), told in any_from_host(), at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let mut writer = OpsWriter::new();
        ops.iter().for_each(|op| writer.push(op));
        let corrupt = |bytes: Bytes| {
            let mut bytes = bytes.to_vec();
            let at = at.index(bytes.len());
            bytes[at] = to;
            Bytes::from(bytes)
        };
        let bytes = corrupt(writer.finish());
        prop_assert_eq!(validate_ops(&bytes).is_ok(), OpsReader::new(bytes).all(|op| op.is_ok()));
        let _ = decode_to_host(corrupt(encoded(|out| encode_to_host(&asked, out))));
        let _ = decode_from_host(corrupt(encoded(|out| encode_from_host(&told, out))));
    }

    #[test]
    fn noise_never_panics(noise in vec(any::<u8>(), 0..200)) {
        let mut versioned = vec![VERSION];
        versioned.extend_from_slice(&noise);
        for bytes in [Bytes::from(noise), Bytes::from(versioned)] {
            prop_assert_eq!(validate_ops(&bytes).is_ok(), OpsReader::new(bytes.clone()).all(|op| op.is_ok()));
            let _ = decode_entry_head(&bytes);
            let _ = decode_stored_message(&bytes);
            let _ = decode_to_host(bytes.clone());
            let _ = decode_from_host(bytes);
        }
    }
}

#[test]
fn a_lying_count_reserves_nothing() {
    let mut out = BytesMut::new();
    out.put_u8(VERSION);
    put_varint(&mut out, 0); // now
    put_varint(&mut out, u64::MAX); // batches
    assert_eq!(decode_entry_head(&out.freeze()), Err(WireError::Truncated));
}

#[test]
fn bodies_are_slices_of_the_input() {
    let mut writer = OpsWriter::new();
    let message = Message {
        body: Bytes::from(vec![7; 1000]),
        ..Message::default()
    };
    writer.push(&Op::Publish {
        targets: smallvec::smallvec![Target::plain(QueueId(1))],
        message,
    });
    let bytes = writer.finish();
    let range = bytes.as_ptr_range();
    for op in OpsReader::new(bytes) {
        let Ok(Op::Publish { message, .. }) = op else {
            panic!("{op:?}")
        };
        assert!(range.contains(&message.body.as_ptr()));
    }
}

#[test]
fn other_versions_are_refused_by_name() {
    assert_eq!(
        validate_ops(&Bytes::from_static(&[9, 0, 0, 0, 0])),
        Err(WireError::Version(9))
    );
}
