//! Ends: by the client, by the server, by silence.

use std::time::Duration;

use amqp_codec::{Content, Delivery, Method, ReplyCode, ShortStr};
use amqp_connection::{CloseReason, Confirm, EndReason, Event, ProtocolError, ServerConfig};
use bytes::{Bytes, BytesMut};

use crate::peer::{NO_PROPERTIES, Peer, method_frame, publish_frames, raw_frame};

const S: Duration = Duration::from_secs(1);
const SHUTDOWN: &str = "broker forced connection closure with reason 'shutdown'";

fn close() -> Method {
    Method::ConnectionClose {
        reply_code: 200,
        reply_text: ShortStr::from_static("Normal shutdown"),
        class_id: 0,
        method_id: 0,
    }
}

fn channel_close() -> Method {
    Method::ChannelClose {
        reply_code: 200,
        reply_text: ShortStr::from_static(""),
        class_id: 0,
        method_id: 0,
    }
}

#[test]
fn the_client_closes() {
    let mut peer = Peer::open();
    peer.open_channel(1);
    let mut packet = method_frame(0, &close());
    packet.extend_from_slice(&method_frame(1, &Method::TxSelect {}));
    let reason = CloseReason {
        reply_code: 200,
        reply_text: ShortStr::from_static("Normal shutdown"),
    };
    assert_eq!(peer.send_raw(&packet), [Event::CloseRequested(reason)]);
    assert_eq!(peer.replies(), [], "first the driver gives back everything");
    peer.server.finish_close();
    assert_eq!(peer.methods(), [(0, Method::ConnectionCloseOk {})]);
    assert_eq!(peer.poll(), [Event::Ended(EndReason::ClientClosed)]);
    assert_eq!(peer.send(1, &Method::TxSelect {}), []);
}

/// Each of several tasks that close a connection at the same time waits for an answer of its own.
#[test]
fn closes_behind_a_close_are_answered_too() {
    let ok = (0, Method::ConnectionCloseOk {});
    let mut peer = Peer::open();
    let mut packet = method_frame(0, &close());
    packet.extend_from_slice(&method_frame(0, &close()));
    packet.extend_from_slice(&method_frame(1, &channel_close()));
    assert!(matches!(
        peer.send_raw(&packet)[..],
        [Event::CloseRequested(_)]
    ));
    assert_eq!(peer.send(0, &close()), []);
    assert_eq!(peer.replies(), [], "first the driver gives back everything");
    peer.server.finish_close();
    assert_eq!(peer.methods(), [ok.clone(), ok.clone(), ok.clone()]);
    assert_eq!(peer.poll(), [Event::Ended(EndReason::ClientClosed)]);
    let frame = method_frame(0, &close());
    assert_eq!(peer.send_raw(&frame), []);
    let mut input = BytesMut::from(&frame[..]);
    input.extend_from_slice(&method_frame(1, &channel_close()));
    input.extend_from_slice(&frame[..frame.len() - 1]);
    peer.server.hear_after_close(&mut input);
    assert_eq!(peer.methods(), [ok.clone(), ok.clone()]);
    input.extend_from_slice(&frame[frame.len() - 1..]);
    input.extend_from_slice(b"no frame of AMQP");
    peer.server.hear_after_close(&mut input);
    assert_eq!(peer.methods(), [ok]);
    assert!(input.is_empty());
}

/// A client that goes on closing has no more written for it than a bound.
#[test]
fn closes_without_end_are_not_all_answered() {
    let mut peer = Peer::open();
    let mut input = BytesMut::new();
    for _ in 0..20_000 {
        input.extend_from_slice(&method_frame(0, &close()));
    }
    peer.send_raw(&input);
    peer.server.finish_close();
    assert!(peer.methods().len() < 2_000);
}

/// What was asked before the close is answered before it; deliveries are of no use any more.
#[test]
fn what_was_asked_before_a_close_is_answered() {
    let mut peer = Peer::open();
    for channel in 1..=3 {
        peer.open_channel(channel);
    }
    let mut packet = method_frame(1, &Method::TxSelect {});
    // A message that never ends: all but its body.
    let message = publish_frames(2, 4096, "k", &Bytes::from(vec![0; 9]));
    packet.extend_from_slice(&message[..message.len() - (9 + 8)]);
    packet.extend_from_slice(&method_frame(3, &channel_close()));
    packet.extend_from_slice(&method_frame(0, &close()));
    let events = peer.send_raw(&packet);
    assert!(
        matches!(
            &events[..],
            [
                Event::Method { channel: 1, .. },
                Event::ChannelClosed { channel: 3, .. },
                Event::CloseRequested(_)
            ]
        ),
        "{events:?}"
    );
    let confirm = Confirm {
        tag: 1,
        multiple: false,
        accepted: true,
    };
    let delivery = Delivery {
        consumer_tag: b"t",
        delivery_tag: 1,
        redelivered: false,
        exchange: b"",
        routing_key: b"q",
        content: Content {
            properties: NO_PROPERTIES,
            body: &Bytes::from_static(b"x"),
        },
    };
    let error = ProtocolError::new(ReplyCode::NOT_FOUND, "no queue");
    peer.server.send_method(1, &Method::TxSelectOk {});
    assert_eq!(peer.server.send_delivery(1, &delivery), 0);
    peer.server.send_confirm(2, confirm);
    assert!(peer.server.channel_error(2, &error, peer.now));
    peer.server.send_confirm(2, confirm);
    peer.server.channel_closed(3);
    peer.server.finish_close();
    peer.server.send_method(1, &Method::TxSelectOk {});
    let ack = Method::BasicAck {
        delivery_tag: 1,
        multiple: false,
    };
    let failed = Method::ChannelClose {
        reply_code: 404,
        reply_text: ShortStr::from_static("NOT_FOUND - no queue"),
        class_id: 0,
        method_id: 0,
    };
    assert_eq!(
        peer.methods(),
        [
            (1, Method::TxSelectOk {}),
            (2, ack),
            (2, failed),
            (3, Method::ChannelCloseOk {}),
            (0, Method::ConnectionCloseOk {}),
        ]
    );
}

/// An error is the driver's to tell: there may be something that the client hears before.
#[test]
fn what_is_due_comes_before_an_error() {
    for (frame, on_channel) in [
        (
            publish_frames(1, 4096, "k", &Bytes::from(vec![0; 101])).to_vec(),
            true,
        ),
        (raw_frame(2, 1, b""), false),
        (raw_frame(5, 1, b""), false),
    ] {
        let config = ServerConfig {
            max_message_size: 100,
            ..ServerConfig::default()
        };
        let mut peer = Peer::open_with(config, 0);
        peer.open_channel(1);
        peer.feed(&frame);
        let confirm = Confirm {
            tag: 7,
            multiple: true,
            accepted: false,
        };
        let event = peer.unanswered();
        peer.server.send_confirm(1, confirm);
        match event {
            Some(Event::ChannelFailed { channel: 1, error }) if on_channel => {
                assert!(peer.server.channel_error(1, &error, peer.now));
            }
            Some(Event::Failed(error)) if !on_channel => {
                assert!(peer.server.connection_error(&error, peer.now));
            }
            other => panic!("{other:?}"),
        }
        let methods = peer.methods();
        assert!(
            matches!(
                &methods[..],
                [
                    (
                        1,
                        Method::BasicNack {
                            delivery_tag: 7,
                            ..
                        }
                    ),
                    (
                        _,
                        Method::ChannelClose { .. } | Method::ConnectionClose { .. }
                    )
                ]
            ),
            "{methods:?}"
        );
    }
}

#[test]
fn the_server_closes() {
    let mut peer = Peer::open();
    peer.open_channel(1);
    assert!(peer.server.force_close(SHUTDOWN, peer.now));
    assert!(!peer.server.force_close(SHUTDOWN, peer.now));
    let text = format!("CONNECTION_FORCED - {SHUTDOWN}");
    assert_eq!(peer.close(), (0, 320, text, (0, 0)));
    assert_eq!(
        peer.send(1, &Method::TxSelect {}),
        [],
        "everything but close-ok is ignored"
    );
    assert_eq!(peer.send_raw(&raw_frame(2, 5, b"nonsense")), []);
    assert_eq!(
        peer.send(0, &Method::ConnectionCloseOk {}),
        [Event::Ended(EndReason::ServerClosed)]
    );
}

#[test]
fn both_sides_close_at_once() {
    let mut peer = Peer::open();
    peer.server.force_close(SHUTDOWN, peer.now);
    peer.replies();
    assert_eq!(
        peer.send(0, &close()),
        [Event::Ended(EndReason::ServerClosed)]
    );
    assert_eq!(peer.methods(), [(0, Method::ConnectionCloseOk {})]);
}

#[test]
fn a_client_that_does_not_answer_a_close_is_dropped() {
    for (heartbeat, wait) in [(0, 30), (60, 30), (10, 10)] {
        let mut peer = Peer::open_with(ServerConfig::default(), heartbeat);
        peer.server.force_close(SHUTDOWN, peer.now);
        assert_eq!(peer.wait((wait - 1) * S), []);
        assert_eq!(peer.wait(S), [Event::Ended(EndReason::CloseTimeout)]);
    }
}

#[test]
fn who_has_not_logged_in_gets_no_more_time_by_failing() {
    let config = ServerConfig::default();
    let time = config.handshake_timeout;
    let mut peer = Peer::new(config);
    peer.send_raw(b"AMQP\0\0\x09\x01");
    peer.wait(time - S);
    peer.server.force_close(SHUTDOWN, peer.now);
    assert_eq!(peer.wait(S), [Event::Ended(EndReason::CloseTimeout)]);
}

#[test]
fn a_peer_that_has_not_spoken_is_just_dropped() {
    let mut peer = Peer::new(ServerConfig::default());
    assert!(peer.server.force_close(SHUTDOWN, peer.now));
    assert_eq!(peer.replies(), []);
    assert_eq!(peer.poll(), [Event::Ended(EndReason::ServerClosed)]);
}

#[test]
fn long_texts_are_cut() {
    let mut peer = Peer::open();
    let error = ProtocolError::new(ReplyCode::INTERNAL_ERROR, "ä".repeat(400));
    peer.server.connection_error(&error, peer.now);
    let (_, code, text, _) = peer.close();
    assert_eq!(code, 541);
    assert!(text.len() <= 255 && text.starts_with("INTERNAL_ERROR - ää"));
}

#[test]
fn after_a_framing_error_the_close_ok_is_still_found() {
    let bad_end = {
        let mut frame = raw_frame(1, 1, &[0, 90, 0, 10]);
        *frame.last_mut().unwrap() = 0;
        frame
    };
    for (bytes, split) in [
        (bad_end.clone(), 0),
        (bad_end, 5),
        (raw_frame(5, 1, b""), 0),
        (raw_frame(3, 1, &vec![0; 200_000]), 11),
    ] {
        let mut peer = Peer::open();
        peer.open_channel(1);
        let events = peer.send_raw(&bytes);
        assert!(
            matches!(&events[..], [Event::Failed(error)] if error.code == ReplyCode::FRAME_ERROR)
        );
        assert_eq!(peer.close().1, 501);
        assert_eq!(peer.send_raw(b"more of what cannot be followed"), []);
        let close_ok = method_frame(0, &Method::ConnectionCloseOk {});
        let (start, end) = close_ok.split_at(split);
        assert_eq!(peer.send_raw(start), []);
        assert_eq!(peer.send_raw(end), [Event::Ended(EndReason::ServerClosed)]);
    }
}

#[test]
fn heartbeats_both_ways() {
    let heartbeat = raw_frame(8, 0, b"");
    let mut peer = Peer::open_with(ServerConfig::default(), 10);
    // At every half interval one is written, unless anything else was: here, the handshake. A
    // heartbeat is nothing else.
    for expected in [&[][..], &heartbeat, &heartbeat, &heartbeat] {
        assert_eq!(peer.wait(5 * S), []);
        assert_eq!(peer.replies(), expected);
    }
    peer.send_raw(&heartbeat);
    // The check after this one has heard something, the next two have not.
    assert_eq!(peer.wait(10 * S), []);
    assert_eq!(peer.wait(10 * S), []);
    assert_eq!(
        peer.wait(10 * S),
        [Event::Ended(EndReason::HeartbeatTimeout)]
    );
    assert_eq!(peer.replies(), [], "nobody is there to read a close");
}

#[test]
fn a_connection_that_is_not_read_is_not_dead() {
    let mut peer = Peer::open_with(ServerConfig::default(), 10);
    peer.server.set_reading(false, peer.now);
    assert_eq!(peer.wait(1000 * S), []);
    peer.server.set_reading(true, peer.now);
    assert_eq!(peer.wait(10 * S), [], "what came before the pause counts");
    assert_eq!(peer.wait(10 * S), []);
    assert_eq!(
        peer.wait(10 * S),
        [Event::Ended(EndReason::HeartbeatTimeout)]
    );
}

#[test]
fn blocked_is_told_to_who_wants_to_know() {
    let mut peer = Peer::open();
    peer.server.send_blocked("low on memory");
    peer.server.send_unblocked();
    let reason = ShortStr::from_static("low on memory");
    assert_eq!(
        peer.methods(),
        [
            (0, Method::ConnectionBlocked { reason }),
            (0, Method::ConnectionUnblocked {})
        ]
    );
}
