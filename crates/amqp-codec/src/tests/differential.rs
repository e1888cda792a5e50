//! Against `amq-protocol`, an independent implementation that real clients use: what we write it
//! reads and writes back byte for byte, and what it writes we read as what it was.

use amq_protocol::frame::{AMQPFrame, gen_frame, parse_frame};
use bytes::{BufMut, BytesMut};
use proptest::prelude::*;

use super::{Sample, Sampler};
use crate::method::ALL;
use crate::{ContentHeader, FRAME_END, FrameKind, Method, Properties, decode, write_method};

fn theirs(bytes: &[u8]) -> AMQPFrame {
    let (rest, frame) = parse_frame(bytes).expect("they read what we wrote");
    assert!(rest.is_empty(), "they read all of it");
    frame
}

fn their_bytes(frame: &AMQPFrame) -> Vec<u8> {
    let written = gen_frame(frame)(Vec::new().into()).expect("they write what they read");
    written.write
}

fn sampler(seed: u64) -> Sampler {
    let mut sampler = Sampler::new(seed);
    sampler.upper_long = false;
    sampler
}

proptest! {
    #[test]
    fn methods(seed: u64, channel: u16) {
        for (_, _, name, make) in ALL {
            let method = match make(&mut sampler(seed)) {
                // They know no other values of these.
                Method::AccessRequestOk { .. } => Method::AccessRequestOk { ticket: 1 },
                Method::BasicQos { prefetch_count, global, .. } => {
                    Method::BasicQos { prefetch_size: 0, prefetch_count, global }
                }
                method => method,
            };
            let mut ours = BytesMut::new();
            write_method(&mut ours, channel, &method);
            let frame = theirs(&ours);
            let back = their_bytes(&frame);
            let mut input = BytesMut::from(back.as_slice());
            let raw = decode(&mut input, 1 << 20).unwrap().expect("a whole frame");
            prop_assert_eq!(raw.channel, channel);
            prop_assert_eq!(&Method::decode(raw.payload).unwrap(), &method);
            prop_assert_eq!(&back, &ours, "{}", name);
            let AMQPFrame::Method(_, class) = frame else { panic!("{frame:?} is no method") };
            prop_assert_eq!(class.get_amqp_class_id(), method.class_id());
            prop_assert_eq!(class.get_amqp_method_id(), method.method_id());
        }
    }

    #[test]
    fn content_headers(seed: u64, channel: u16) {
        let header = ContentHeader::sample(&mut sampler(seed));
        let mut payload = BytesMut::new();
        header.encode(&mut payload);
        let mut ours = BytesMut::new();
        ours.put_u8(FrameKind::Header as u8);
        ours.put_u16(channel);
        ours.put_u32(payload.len() as u32);
        ours.put_slice(&payload);
        ours.put_u8(FRAME_END);
        let back = their_bytes(&theirs(&ours));
        prop_assert_eq!(&back, &ours);
        let mut input = BytesMut::from(back.as_slice());
        let raw = decode(&mut input, 1 << 20).unwrap().expect("a whole frame");
        prop_assert_eq!(ContentHeader::decode(raw.payload).unwrap(), header);
    }
}

/// Byte equality cannot tell swapped names: these show each name at its place.
#[test]
fn names_of_bits_and_fields() {
    use amq_protocol::protocol::{AMQPClass, basic, exchange, queue};

    let mut bytes = BytesMut::new();
    let method = Method::BasicPublish {
        exchange: "e".try_into().unwrap(),
        routing_key: "k".try_into().unwrap(),
        mandatory: true,
        immediate: false,
    };
    write_method(&mut bytes, 1, &method);
    let AMQPFrame::Method(1, AMQPClass::Basic(basic::AMQPMethod::Publish(publish))) =
        theirs(&bytes)
    else {
        panic!("no basic.publish")
    };
    assert_eq!(publish.exchange.as_str(), "e");
    assert_eq!(publish.routing_key.as_str(), "k");
    assert!(publish.mandatory && !publish.immediate);

    for bit in 0..5 {
        let on = |n| bit == n;
        bytes.clear();
        let method = Method::QueueDeclare {
            queue: "q".try_into().unwrap(),
            passive: on(0),
            durable: on(1),
            exclusive: on(2),
            auto_delete: on(3),
            no_wait: on(4),
            arguments: crate::FieldTable::empty(),
        };
        write_method(&mut bytes, 1, &method);
        let AMQPFrame::Method(1, AMQPClass::Queue(queue::AMQPMethod::Declare(declare))) =
            theirs(&bytes)
        else {
            panic!("no queue.declare")
        };
        let queue::Declare {
            passive,
            durable,
            exclusive,
            auto_delete,
            nowait,
            ..
        } = declare;
        assert_eq!(
            [passive, durable, exclusive, auto_delete, nowait],
            [on(0), on(1), on(2), on(3), on(4)]
        );

        bytes.clear();
        let method = Method::ExchangeDeclare {
            exchange: "e".try_into().unwrap(),
            kind: "topic".try_into().unwrap(),
            passive: on(0),
            durable: on(1),
            auto_delete: on(2),
            internal: on(3),
            no_wait: on(4),
            arguments: crate::FieldTable::empty(),
        };
        write_method(&mut bytes, 1, &method);
        let AMQPFrame::Method(1, AMQPClass::Exchange(exchange::AMQPMethod::Declare(declare))) =
            theirs(&bytes)
        else {
            panic!("no exchange.declare")
        };
        let exchange::Declare {
            passive,
            durable,
            auto_delete,
            internal,
            nowait,
            ..
        } = declare;
        assert_eq!(
            [passive, durable, auto_delete, internal, nowait],
            [on(0), on(1), on(2), on(3), on(4)]
        );

        bytes.clear();
        let method = Method::BasicConsume {
            queue: "q".try_into().unwrap(),
            consumer_tag: "t".try_into().unwrap(),
            no_local: on(0),
            no_ack: on(1),
            exclusive: on(2),
            no_wait: on(3),
            arguments: crate::FieldTable::empty(),
        };
        write_method(&mut bytes, 1, &method);
        let AMQPFrame::Method(1, AMQPClass::Basic(basic::AMQPMethod::Consume(consume))) =
            theirs(&bytes)
        else {
            panic!("no basic.consume")
        };
        let basic::Consume {
            no_local,
            no_ack,
            exclusive,
            nowait,
            ..
        } = consume;
        assert_eq!(
            [no_local, no_ack, exclusive, nowait],
            [on(0), on(1), on(2), on(3)]
        );
    }
}

/// Every property under its name.
#[test]
fn names_of_properties() {
    use amq_protocol::protocol::basic::AMQPProperties;

    let theirs = AMQPProperties::default()
        .with_content_type("1".into())
        .with_content_encoding("2".into())
        .with_delivery_mode(2)
        .with_priority(9)
        .with_correlation_id("5".into())
        .with_reply_to("6".into())
        .with_expiration("7".into())
        .with_message_id("8".into())
        .with_timestamp(1_700_000_000)
        .with_type("10".into())
        .with_user_id("11".into())
        .with_app_id("12".into())
        .with_cluster_id("13".into());
    let header = amq_protocol::frame::AMQPContentHeader {
        class_id: 60,
        body_size: 77,
        properties: theirs,
    };
    let bytes = their_bytes(&AMQPFrame::Header(3, header));
    let mut input = BytesMut::from(bytes.as_slice());
    let raw = decode(&mut input, 4096).unwrap().expect("a whole frame");
    let header = ContentHeader::decode(raw.payload).unwrap();
    assert_eq!(header.body_size, 77);
    let expected = Properties {
        content_type: Some("1".into()),
        content_encoding: Some("2".into()),
        headers: None,
        delivery_mode: Some(2),
        priority: Some(9),
        correlation_id: Some("5".into()),
        reply_to: Some("6".into()),
        expiration: Some("7".into()),
        message_id: Some("8".into()),
        timestamp: Some(1_700_000_000),
        kind: Some("10".into()),
        user_id: Some("11".into()),
        app_id: Some("12".into()),
        cluster_id: Some("13".into()),
    };
    assert_eq!(Properties::decode(&header.properties).unwrap(), expected);
}
