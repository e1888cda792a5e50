//! Ends: by the client, by the server, by silence.

use std::time::Duration;

use amqp_codec::{Method, ReplyCode, ShortStr};
use amqp_connection::{CloseReason, EndReason, Event, ProtocolError, ServerConfig};

use crate::peer::{Peer, method_frame, raw_frame};

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
