//! Tests of methods.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::*;
use crate::tests::Sampler;

/// The list of the specification, by hand, to check the list that makes the code.
#[test]
fn numbers_and_names() {
    let expected = [
        (
            10,
            "connection",
            "start 10 start-ok 11 secure 20 secure-ok 21 tune 30 tune-ok 31 open 40 \
            open-ok 41 close 50 close-ok 51 blocked 60 unblocked 61 update-secret 70 \
            update-secret-ok 71",
        ),
        (
            20,
            "channel",
            "open 10 open-ok 11 flow 20 flow-ok 21 close 40 close-ok 41",
        ),
        (30, "access", "request 10 request-ok 11"),
        (
            40,
            "exchange",
            "declare 10 declare-ok 11 delete 20 delete-ok 21 bind 30 bind-ok 31 \
            unbind 40 unbind-ok 51",
        ),
        (
            50,
            "queue",
            "declare 10 declare-ok 11 bind 20 bind-ok 21 purge 30 purge-ok 31 delete 40 \
            delete-ok 41 unbind 50 unbind-ok 51",
        ),
        (
            60,
            "basic",
            "qos 10 qos-ok 11 consume 20 consume-ok 21 cancel 30 cancel-ok 31 publish 40 \
            return 50 deliver 60 get 70 get-ok 71 get-empty 72 ack 80 reject 90 recover-async 100 \
            recover 110 recover-ok 111 nack 120",
        ),
        (85, "confirm", "select 10 select-ok 11"),
        (
            90,
            "tx",
            "select 10 select-ok 11 commit 20 commit-ok 21 rollback 30 rollback-ok 31",
        ),
    ];
    let mut all = ALL.iter();
    for (class_id, class, methods) in expected {
        let words: Vec<&str> = methods.split_whitespace().collect();
        for pair in words.chunks(2) {
            let (name, method_id) = (format!("{class}.{}", pair[0]), pair[1].parse().unwrap());
            let (c, m, n, make) = all.next().unwrap();
            assert_eq!((*c, *m, *n), (class_id, method_id, name.as_str()));
            let method = make(&mut Sampler::new(1));
            assert_eq!(
                (method.class_id(), method.method_id()),
                (class_id, method_id)
            );
            assert_eq!(method.name(), name);
            assert_eq!(Method::name_of(class_id, method_id), Some(*n));
            let content = [
                "basic.publish",
                "basic.return",
                "basic.deliver",
                "basic.get-ok",
            ];
            assert_eq!(method.is_content(), content.contains(&name.as_str()));
        }
    }
    assert!(all.next().is_none());
}

#[test]
fn unknown_methods_differ_from_undecodable_arguments() {
    let decode = |payload: &'static [u8]| Method::decode(Bytes::from_static(payload));
    let unknown = |class_id, method_id| {
        Err(DecodeError::UnknownMethod {
            class_id,
            method_id,
        })
    };
    assert_eq!(decode(&[0, 60, 0, 41]), unknown(60, 41));
    assert_eq!(decode(&[0, 70, 0, 10]), unknown(70, 10));
    assert_eq!(
        decode(&[0, 60, 0]),
        Err(DecodeError::NoMethod { payload_len: 3 })
    );
    for (payload, reason) in [
        (
            &[0, 60, 0, 80, 0, 0, 0, 0, 0, 0, 0, 1][..],
            ValueError::Truncated,
        ),
        (
            &[0, 60, 0, 80, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0],
            ValueError::TrailingBytes { count: 1 },
        ),
    ] {
        let error = decode(payload).unwrap_err();
        assert_eq!(
            error,
            DecodeError::Arguments {
                name: "basic.ack",
                class_id: 60,
                method_id: 80,
                reason
            }
        );
        assert_eq!(error.failing_method(), (60, 80));
        assert_eq!(error.reply_code(), crate::ReplyCode::FRAME_ERROR);
    }
    assert_eq!(
        decode(&[0, 60, 0, 21, 2, 0xC3, 0x28])
            .unwrap_err()
            .to_string(),
        "arguments of basic.consume-ok cannot be decoded: Malformed UTF-8 in shortstr"
    );
}

proptest! {
    #[test]
    fn round_trip(seed: u64) {
        for (_, _, _, make) in ALL {
            let method = make(&mut Sampler::new(seed));
            let mut payload = BytesMut::new();
            method.encode(&mut payload);
            prop_assert_eq!(Method::decode(payload.freeze()), Ok(method));
        }
    }

    /// A copy of a method keeps nothing of the buffer that it was decoded from.
    #[test]
    fn detached(seed: u64) {
        for (_, _, _, make) in ALL {
            let method = make(&mut Sampler::new(seed));
            let mut payload = BytesMut::new();
            method.encode(&mut payload);
            let payload = payload.freeze();
            let decoded = Method::decode_part(&payload, &payload).unwrap();
            prop_assert_eq!(decoded.detached(), (method, payload.len()));
            prop_assert!(payload.is_unique());
        }
    }

    /// The borrowed parser of basic.publish agrees with the general one.
    #[test]
    fn publish_both_ways(seed: u64) {
        for (_, _, _, make) in ALL {
            let method = make(&mut Sampler::new(seed));
            let mut payload = BytesMut::new();
            method.encode(&mut payload);
            let parsed = BasicPublishRef::parse(&payload).unwrap();
            if let Method::BasicPublish { exchange, routing_key, mandatory, immediate } = &method {
                prop_assert!(BasicPublishRef::is_publish(&payload));
                prop_assert_eq!(parsed, Some(BasicPublishRef {
                    exchange,
                    routing_key,
                    mandatory: *mandatory,
                    immediate: *immediate,
                }));
            } else {
                prop_assert_eq!(parsed, None);
            }
        }
    }
}
