//! Messages: their assembly, their limits, and frames that do not fit.

use amqp_codec::{Content, Delivery, FrameKind, Method, ReplyCode, ShortStr};
use amqp_connection::{Event, Publish, ServerConfig};
use bytes::Bytes;

use crate::peer::{NO_PROPERTIES, Peer, header_payload, method_frame, publish_frames, raw_frame};

fn publish_method() -> Method {
    Method::BasicPublish {
        exchange: ShortStr::from_static("ex"),
        routing_key: ShortStr::from_static("k"),
        mandatory: true,
        immediate: false,
    }
}

fn published(channel: u16, key: &str, body: &Bytes) -> Event {
    Event::Publish(Publish {
        channel,
        exchange: ShortStr::from_static("ex"),
        routing_key: ShortStr::truncated(key),
        mandatory: true,
        immediate: false,
        properties: Bytes::from_static(NO_PROPERTIES),
        body: body.clone(),
    })
}

fn with_channel() -> Peer {
    let mut peer = Peer::open();
    peer.open_channel(1);
    peer
}

#[test]
fn bodies_of_any_number_of_frames() {
    let body = Bytes::from((0..100_000u32).map(|n| n as u8).collect::<Vec<_>>());
    for (len, frame_max) in [
        (0, 4096),
        (1, 4096),
        (4088, 4096),
        (4089, 4096),
        (100_000, 4096),
        (100_000, 131_072),
    ] {
        let body = body.slice(..len);
        let mut peer = with_channel();
        let events = peer.send_raw(&publish_frames(1, frame_max, "a.b", &body));
        assert_eq!(events, [published(1, "a.b", &body)], "{len} {frame_max}");
    }
}

#[test]
fn channels_interleave() {
    let mut peer = with_channel();
    peer.open_channel(2);
    assert_eq!(peer.send(1, &publish_method()), []);
    assert_eq!(peer.send_raw(&raw_frame(2, 1, &header_payload(4))), []);
    assert_eq!(peer.send_raw(&raw_frame(3, 1, b"ab")), []);
    let other = Bytes::from_static(b"other");
    assert_eq!(
        peer.send_raw(&publish_frames(2, 4096, "k", &other)),
        [published(2, "k", &other)]
    );
    assert_eq!(peer.send_raw(&raw_frame(3, 1, b"")), []);
    assert_eq!(peer.send_raw(&raw_frame(8, 0, b"")), []);
    assert_eq!(
        peer.send_raw(&raw_frame(3, 1, b"cd")),
        [published(1, "k", &Bytes::from_static(b"abcd"))]
    );
}

#[test]
fn frames_that_do_not_fit() {
    let header = |size| raw_frame(2, 1, &header_payload(size));
    let publish = || method_frame(1, &publish_method()).to_vec();
    for (before, frame, code, text) in [
        (
            vec![],
            header(1),
            505,
            "UNEXPECTED_FRAME - expected method frame, got non method frame instead",
        ),
        (
            vec![],
            raw_frame(3, 1, b"x"),
            505,
            "UNEXPECTED_FRAME - expected method frame, got non method frame instead",
        ),
        (
            vec![publish()],
            publish(),
            505,
            "UNEXPECTED_FRAME - expected content header for class 60, got non content header frame instead",
        ),
        (
            vec![publish()],
            raw_frame(3, 1, b"x"),
            505,
            "UNEXPECTED_FRAME - expected content header for class 60, got non content header frame instead",
        ),
        (
            vec![publish(), header(2)],
            publish(),
            505,
            "UNEXPECTED_FRAME - expected content body, got non content body frame instead",
        ),
        (
            vec![publish(), header(2)],
            header(2),
            505,
            "UNEXPECTED_FRAME - expected content body, got non content body frame instead",
        ),
        (
            vec![publish(), header(2)],
            raw_frame(3, 1, b"xyz"),
            501,
            "FRAME_ERROR - content body of 3 bytes exceeds the announced size 2",
        ),
        (
            vec![publish()],
            header(536_870_913),
            501,
            "FRAME_ERROR - content body size 536870913 exceeds maximum allowed size 536870912",
        ),
        (
            vec![],
            raw_frame(8, 0, b"x"),
            501,
            "FRAME_ERROR - heartbeat frame with a payload",
        ),
        (
            vec![],
            raw_frame(8, 1, b""),
            505,
            "UNEXPECTED_FRAME - heartbeat frame on channel 1",
        ),
        (
            vec![],
            raw_frame(2, 0, b""),
            505,
            "UNEXPECTED_FRAME - expected method frame, got non method frame instead",
        ),
    ] {
        let mut peer = with_channel();
        for frame in before {
            assert_eq!(peer.send_raw(&frame), []);
        }
        assert!(
            matches!(peer.send_raw(&frame)[..], [Event::Failed(_)]),
            "{text}"
        );
        let (channel, got, got_text, _) = peer.close();
        assert_eq!((channel, got, &got_text[..]), (0, code, text));
    }
}

#[test]
fn a_message_that_is_too_large_closes_the_channel_at_its_end() {
    let mut peer = Peer::open_with(
        ServerConfig {
            max_message_size: 10_000,
            ..ServerConfig::default()
        },
        0,
    );
    peer.open_channel(1);
    let fits = Bytes::from(vec![0; 10_000]);
    assert_eq!(
        peer.send_raw(&publish_frames(1, 4096, "k", &fits)),
        [published(1, "k", &fits)]
    );
    let large = publish_frames(1, 4096, "k", &Bytes::from(vec![0; 10_001]));
    let (start, end) = large.split_at(large.len() - 5);
    assert_eq!(peer.send_raw(start), []);
    assert_eq!(peer.replies(), []);
    assert!(
        matches!(&peer.send_raw(end)[..], [Event::ChannelFailed { channel: 1, error }] if error.code == ReplyCode::PRECONDITION_FAILED)
    );
    let text = "PRECONDITION_FAILED - message size 10001 is larger than configured max size 10000";
    assert_eq!(peer.close(), (1, 406, text.to_owned(), (60, 40)));
    assert!(peer.server.is_open());
}

#[test]
fn unfinished_messages_of_all_channels_are_bounded() {
    let config = ServerConfig {
        unfinished_bytes_max: 10_000,
        ..ServerConfig::default()
    };
    let mut peer = Peer::open_with(config, 0);
    let mut failed = 0;
    for channel in 1..20 {
        peer.open_channel(channel);
        let frames = publish_frames(channel, 4096, "k", &Bytes::from(vec![0; 8_000]));
        // Without the second frame of the body.
        let events = peer.send_raw(&frames[..frames.len() - (8_000 - 4_088 + 8)]);
        if !events.is_empty() {
            assert!(
                matches!(&events[..], [Event::Failed(error)] if error.code == ReplyCode::RESOURCE_ERROR)
            );
            failed = channel;
            break;
        }
    }
    assert_eq!(failed, 2);
}

#[test]
fn unfinished_messages_do_not_hold_the_received_bytes() {
    let body = Bytes::from(vec![7; 10_000]);
    let frames = publish_frames(1, 4096, "k", &body);
    let header_ends = frames.len() - body.len() - 3 * 8;
    for parts in [
        &[header_ends][..],
        &[header_ends + 4096],
        &[header_ends, header_ends + 4096, header_ends + 2 * 4096],
    ] {
        let mut peer = with_channel();
        let mut from = 0;
        for &to in parts {
            assert!(peer.lets_go_of(&frames[from..to]), "{parts:?} {to}");
            from = to;
        }
        assert!(peer.server.unfinished_bytes() > 0);
        assert_eq!(
            peer.send_raw(&frames[from..]),
            [published(1, "k", &body)],
            "{parts:?}"
        );
        assert_eq!(peer.server.unfinished_bytes(), 0);
    }
}

#[test]
fn messages_begun_on_several_channels_do_not_hold_the_received_bytes() {
    let body = Bytes::from_static(b"body");
    let mut peer = Peer::open();
    let mut begun = Vec::new();
    for channel in 1..=3 {
        peer.open_channel(channel);
        let frames = publish_frames(channel, 4096, "k", &body);
        begun.extend_from_slice(&frames[..frames.len() - body.len() - 8]);
    }
    assert!(peer.lets_go_of(&begun));
    for channel in 1..=3 {
        assert_eq!(
            peer.send_raw(&raw_frame(3, channel, &body)),
            [published(channel, "k", &body)]
        );
    }
}

#[test]
fn properties_of_unfinished_messages_are_bounded() {
    let config = ServerConfig {
        unfinished_bytes_max: 10_000,
        ..ServerConfig::default()
    };
    let mut peer = Peer::open_with(config, 0);
    // A table of headers of 2,000 bytes.
    let mut header = header_payload(1);
    let flags = header.len() - 2;
    header.splice(flags.., [0x20, 0x00]);
    let mut table = vec![1, b'a', b'x'];
    table.extend(1990u32.to_be_bytes());
    table.resize(table.len() + 1990, 0);
    header.extend((table.len() as u32).to_be_bytes());
    header.extend(table);
    let failed = (1..20).find(|&channel| {
        peer.open_channel(channel);
        assert_eq!(peer.send(channel, &publish_method()), []);
        !peer.send_raw(&raw_frame(2, channel, &header)).is_empty()
    });
    assert_eq!(failed, Some(5));
}

#[test]
fn closing_a_channel_drops_what_it_had_begun() {
    let config = ServerConfig {
        unfinished_bytes_max: 10_000,
        ..ServerConfig::default()
    };
    let mut peer = Peer::open_with(config, 0);
    for _ in 0..50 {
        peer.open_channel(1);
        let frames = publish_frames(1, 4096, "k", &Bytes::from(vec![0; 8_000]));
        assert_eq!(peer.send_raw(&frames[..frames.len() - 1000]), []);
        let error = amqp_connection::ProtocolError::new(ReplyCode::NOT_FOUND, "");
        peer.server.channel_error(1, &error, peer.now);
        peer.replies();
        // The rest of the frame and the close-ok.
        assert_eq!(peer.send_raw(&frames[frames.len() - 1000..]), []);
        assert_eq!(peer.send(1, &Method::ChannelCloseOk {}), []);
    }
}

#[test]
fn content_is_split_by_frame_max_on_its_way_out() {
    for len in [0, 1, 4088, 4089, 20_000] {
        let mut peer = Peer::open_with(
            ServerConfig {
                frame_max: 4096,
                ..ServerConfig::default()
            },
            0,
        );
        peer.open_channel(1);
        let body = Bytes::from(vec![7; len]);
        let content = Content {
            properties: NO_PROPERTIES,
            body: &body,
        };
        let delivery = Delivery {
            consumer_tag: b"tag",
            delivery_tag: 5,
            redelivered: true,
            exchange: b"ex",
            routing_key: b"k",
            content,
        };
        let queued = peer.server.send_delivery(1, &delivery);
        assert_eq!(queued, peer.server.output_len());
        peer.server.send_get_ok(1, &delivery, 9);
        let (exchange, key) = (ShortStr::from_static("ex"), ShortStr::from_static("k"));
        peer.server
            .send_return(1, ReplyCode::NO_ROUTE, &exchange, &key, content);
        let mut bodies = Vec::new();
        let mut methods = Vec::new();
        for frame in peer.frames() {
            assert_eq!(frame.channel, 1);
            assert!(frame.payload.len() <= 4088);
            match frame.kind {
                FrameKind::Method => {
                    methods.push(Method::decode(frame.payload).unwrap());
                    bodies.push(Vec::new());
                }
                FrameKind::Header => assert_eq!(frame.payload, header_payload(len as u64)),
                FrameKind::Body => bodies.last_mut().unwrap().extend_from_slice(&frame.payload),
                FrameKind::Heartbeat => panic!("not due"),
            }
        }
        assert_eq!(bodies, vec![body.to_vec(); 3]);
        assert_eq!(
            methods,
            [
                Method::BasicDeliver {
                    consumer_tag: ShortStr::from_static("tag"),
                    delivery_tag: 5,
                    redelivered: true,
                    exchange: exchange.clone(),
                    routing_key: key.clone(),
                },
                Method::BasicGetOk {
                    delivery_tag: 5,
                    redelivered: true,
                    exchange: exchange.clone(),
                    routing_key: key.clone(),
                    message_count: 9,
                },
                Method::BasicReturn {
                    reply_code: 312,
                    reply_text: ShortStr::from_static("NO_ROUTE"),
                    exchange,
                    routing_key: key,
                },
            ]
        );
    }
}
