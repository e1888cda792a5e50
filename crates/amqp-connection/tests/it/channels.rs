//! Channels: opening, wrong use, soft errors and what may still arrive after them.

use amqp_codec::{Method, ReplyCode, ShortStr};
use amqp_connection::{CloseReason, Event, ProtocolError, ServerConfig};

use crate::peer::{Peer, raw_frame};

fn ack(delivery_tag: u64) -> Method {
    Method::BasicAck {
        delivery_tag,
        multiple: false,
    }
}

fn close() -> Method {
    Method::ChannelClose {
        reply_code: 200,
        reply_text: ShortStr::from_static("bye"),
        class_id: 0,
        method_id: 0,
    }
}

fn not_found() -> ProtocolError {
    ProtocolError::new(ReplyCode::NOT_FOUND, "no queue 'q' in vhost '/'").of(50, 10)
}

#[test]
fn requests_are_passed_on() {
    let mut peer = Peer::open();
    peer.open_channel(7);
    let method = Method::TxSelect {};
    assert_eq!(
        peer.send(7, &method),
        [Event::Method { channel: 7, method }]
    );
    // Answers to what the server sends without waiting.
    assert_eq!(
        peer.send(
            7,
            &Method::BasicCancelOk {
                consumer_tag: ShortStr::from_static("t")
            }
        ),
        []
    );
    assert_eq!(peer.send(7, &Method::ChannelFlowOk { active: true }), []);
}

#[test]
fn a_channel_is_opened_or_refused_by_the_driver() {
    let mut peer = Peer::open();
    let sent = [Method::ChannelOpen {}, Method::TxSelect {}]
        .map(|method| crate::peer::method_frame(1, &method))
        .concat();
    let select = Event::Method {
        channel: 1,
        method: Method::TxSelect {},
    };
    // What it sends without waiting is passed on.
    assert_eq!(peer.send_raw(&sent), [Event::OpenChannel(1), select]);
    assert_eq!(peer.methods(), []);
    peer.server.channel_opened(1);
    assert_eq!(peer.methods(), [(1, Method::ChannelOpenOk {})]);

    assert_eq!(
        peer.send(2, &Method::ChannelOpen {}),
        [Event::OpenChannel(2)]
    );
    let error = ProtocolError::new(ReplyCode::NOT_ALLOWED, "no more").of(20, 10);
    peer.server.connection_error(&error, peer.now);
    peer.server.channel_opened(2);
    let text = "NOT_ALLOWED - no more".to_owned();
    assert_eq!(peer.close(), (0, 530, text, (20, 10)));
}

#[test]
fn wrong_use_closes_the_connection() {
    for (open, method, code, text, ids) in [
        (
            false,
            ack(1),
            504,
            "CHANNEL_ERROR - expected 'channel.open'",
            (60, 80),
        ),
        (
            false,
            close(),
            504,
            "CHANNEL_ERROR - expected 'channel.open'",
            (20, 40),
        ),
        (
            true,
            Method::ChannelOpen {},
            504,
            "CHANNEL_ERROR - second 'channel.open' seen",
            (20, 10),
        ),
        (
            true,
            Method::TxSelectOk {},
            503,
            "COMMAND_INVALID - unimplemented method",
            (90, 11),
        ),
        (
            true,
            Method::ConnectionOpenOk {},
            503,
            "COMMAND_INVALID - unimplemented method",
            (10, 41),
        ),
        (
            true,
            Method::ChannelCloseOk {},
            503,
            "COMMAND_INVALID - unimplemented method",
            (20, 41),
        ),
    ] {
        let mut peer = Peer::open();
        if open {
            peer.open_channel(1);
        }
        assert!(
            matches!(peer.send(1, &method)[..], [Event::Failed(_)]),
            "{method:?}"
        );
        assert_eq!(peer.close(), (0, code, text.to_owned(), ids));
    }
}

#[test]
fn undecodable_methods() {
    for (payload, code, ids) in [
        (&[0, 60, 0, 80, 1][..], 501, (60, 80)),
        (&[0, 61, 0, 80], 503, (61, 80)),
        (&[0, 60, 0], 501, (0, 0)),
    ] {
        let mut peer = Peer::open();
        peer.open_channel(1);
        assert!(matches!(
            peer.send_raw(&raw_frame(1, 1, payload))[..],
            [Event::Failed(_)]
        ));
        let (channel, got, _, failing) = peer.close();
        assert_eq!((channel, got, failing), (0, code, ids));
    }
}

#[test]
fn the_number_of_channels_is_limited_not_their_numbers() {
    let mut peer = Peer::open_with(
        ServerConfig {
            channel_max: 2,
            ..ServerConfig::default()
        },
        0,
    );
    peer.open_channel(65_535);
    peer.open_channel(9);
    assert!(matches!(
        peer.send(1, &Method::ChannelOpen {})[..],
        [Event::Failed(_)]
    ));
    let text =
        "NOT_ALLOWED - number of channels opened (2) has reached the negotiated channel_max (2)";
    assert_eq!(peer.close(), (0, 530, text.to_owned(), (20, 10)));
}

#[test]
fn a_client_closes_a_channel_and_uses_its_number_again() {
    let mut peer = Peer::open_with(
        ServerConfig {
            channel_max: 1,
            ..ServerConfig::default()
        },
        0,
    );
    peer.open_channel(1);
    let reason = CloseReason {
        reply_code: 200,
        reply_text: ShortStr::from_static("bye"),
    };
    assert_eq!(
        peer.send(1, &close()),
        [Event::ChannelClosed { channel: 1, reason }]
    );
    // Not answered before the driver has given back what the channel holds. What the client sent
    // before is answered, what it sends now is lost.
    assert_eq!(peer.send(1, &ack(1)), []);
    peer.server.send_method(1, &Method::TxSelectOk {});
    assert_eq!(peer.methods(), [(1, Method::TxSelectOk {})]);
    peer.server.channel_closed(1);
    peer.server.channel_closed(1);
    assert_eq!(peer.methods(), [(1, Method::ChannelCloseOk {})]);
    peer.open_channel(1);
}

#[test]
fn after_a_soft_error_everything_is_discarded_until_close_ok() {
    let mut peer = Peer::open();
    peer.open_channel(3);
    peer.open_channel(4);
    assert!(peer.server.channel_error(3, &not_found(), peer.now));
    assert!(
        !peer.server.channel_error(3, &not_found(), peer.now),
        "once is enough"
    );
    let text = "NOT_FOUND - no queue 'q' in vhost '/'";
    assert_eq!(peer.close(), (3, 404, text.to_owned(), (50, 10)));
    assert_eq!(peer.send(3, &ack(1)), []);
    assert_eq!(peer.send(3, &Method::ChannelOpen {}), []);
    assert_eq!(peer.send_raw(&raw_frame(2, 3, b"nonsense")), []);
    peer.server.send_method(3, &Method::TxSelectOk {});
    assert_eq!(peer.replies(), []);
    // The other channel is not concerned.
    assert_eq!(peer.send(4, &ack(1)).len(), 1);

    assert_eq!(peer.send(3, &Method::ChannelCloseOk {}), []);
    // An acknowledgement of a thread that did not know yet does no harm; other use does.
    assert_eq!(peer.send(3, &ack(2)), []);
    assert_eq!(
        peer.send(
            3,
            &Method::BasicNack {
                delivery_tag: 1,
                multiple: true,
                requeue: true
            }
        ),
        []
    );
    assert_eq!(
        peer.send(
            3,
            &Method::BasicReject {
                delivery_tag: 1,
                requeue: true
            }
        ),
        []
    );
    peer.open_channel(3);
    assert_eq!(peer.send(3, &ack(1)).len(), 1);
}

#[test]
fn both_sides_close_a_channel_at_once() {
    let mut peer = Peer::open();
    peer.open_channel(1);
    peer.server.channel_error(1, &not_found(), peer.now);
    peer.replies();
    assert_eq!(peer.send(1, &close()), []);
    assert_eq!(peer.methods(), [(1, Method::ChannelCloseOk {})]);
    assert_eq!(peer.send(1, &Method::ChannelCloseOk {}), []);
    peer.open_channel(1);
}

#[test]
fn an_error_crosses_the_clients_close() {
    let mut peer = Peer::open();
    peer.open_channel(1);
    peer.send(1, &close());
    assert!(peer.server.channel_error(1, &not_found(), peer.now));
    peer.server.channel_closed(1);
    let methods = peer.methods();
    assert!(matches!(
        methods[..],
        [
            (
                1,
                Method::ChannelClose {
                    reply_code: 404,
                    ..
                }
            ),
            (1, Method::ChannelCloseOk {})
        ]
    ));
    assert_eq!(peer.send(1, &Method::ChannelCloseOk {}), []);
    peer.open_channel(1);
}

#[test]
fn other_use_of_a_failed_channel_is_an_error() {
    let mut peer = Peer::open();
    peer.open_channel(1);
    peer.server.channel_error(1, &not_found(), peer.now);
    peer.replies();
    peer.send(1, &Method::ChannelCloseOk {});
    peer.send(1, &Method::TxSelect {});
    assert_eq!(
        peer.close(),
        (
            0,
            504,
            "CHANNEL_ERROR - expected 'channel.open'".to_owned(),
            (90, 10)
        )
    );
}

#[test]
fn what_the_driver_decides_is_in_force_for_the_next_frame() {
    let mut peer = Peer::open();
    peer.open_channel(1);
    let mut packet = crate::peer::method_frame(1, &Method::TxSelect {});
    packet.extend_from_slice(&crate::peer::method_frame(1, &Method::TxCommit {}));
    let mut input = packet;
    assert!(matches!(
        peer.server.poll_event(&mut input, peer.now),
        Some(Event::Method { .. })
    ));
    peer.server.channel_error(1, &not_found(), peer.now);
    assert_eq!(peer.server.poll_event(&mut input, peer.now), None);
}

#[test]
fn hard_errors_of_a_channel_close_the_connection() {
    let mut peer = Peer::open();
    peer.open_channel(1);
    let error =
        ProtocolError::new(ReplyCode::NOT_ALLOWED, "attempt to reuse consumer tag 't'").of(60, 20);
    assert!(peer.server.channel_error(1, &error, peer.now));
    let text = "NOT_ALLOWED - attempt to reuse consumer tag 't'";
    assert_eq!(peer.close(), (0, 530, text.to_owned(), (60, 20)));
}
