//! From the first byte to the open connection, and every way to fail on it.

use std::time::Duration;

use amqp_codec::{FieldTable, FieldValue, Method, ShortStr, TableBuilder};
use amqp_connection::{Connection, Credentials, EndReason, Event, Mechanism, ServerConfig};
use bytes::Bytes;

use crate::peer::{Peer, method_frame, raw_frame, start_ok, start_ok_with};

const HEADER: &[u8] = b"AMQP\x00\x00\x09\x01";

fn tune_ok(channel_max: u16, frame_max: u32, heartbeat: u16) -> Method {
    Method::ConnectionTuneOk {
        channel_max,
        frame_max,
        heartbeat,
    }
}

fn started() -> Peer {
    let mut peer = Peer::new(ServerConfig::default());
    peer.send_raw(HEADER);
    peer.replies();
    peer
}

fn tuning() -> Peer {
    let mut peer = started();
    peer.send(0, &start_ok("PLAIN", b"\0guest\0guest"));
    peer.server.authenticated();
    peer.replies();
    peer
}

#[test]
fn a_whole_handshake() {
    let mut peer = Peer::new(ServerConfig::default());
    assert_eq!(peer.send_raw(HEADER), []);
    let methods = peer.methods();
    let [
        (
            0,
            Method::ConnectionStart {
                version_major: 0,
                version_minor: 9,
                server_properties,
                mechanisms,
                locales,
            },
        ),
    ] = &methods[..]
    else {
        panic!("{methods:?}");
    };
    assert_eq!(
        (&mechanisms[..], &locales[..]),
        (&b"PLAIN AMQPLAIN ANONYMOUS"[..], &b"en_US"[..])
    );
    for key in [
        "product",
        "version",
        "platform",
        "copyright",
        "information",
        "cluster_name",
    ] {
        assert!(
            server_properties.get(key).unwrap().as_text().is_some(),
            "{key}"
        );
    }
    let capabilities = server_properties.get("capabilities").unwrap();
    for key in [
        "publisher_confirms",
        "exchange_exchange_bindings",
        "basic.nack",
        "consumer_cancel_notify",
        "connection.blocked",
        "consumer_priorities",
        "authentication_failure_close",
        "per_consumer_qos",
        "direct_reply_to",
    ] {
        assert_eq!(
            capabilities.as_table().unwrap().get(key),
            Some(FieldValue::Bool(true)),
            "{key}"
        );
    }

    let events = peer.send(0, &start_ok("PLAIN", b"\0guest\0secret"));
    assert_eq!(
        events,
        [Event::Authenticate(Credentials::Password {
            mechanism: Mechanism::Plain,
            user: ShortStr::from_static("guest"),
            password: Bytes::from_static(b"secret"),
        })]
    );
    assert_eq!(
        peer.server.client().connection_name.as_deref(),
        Some("orders")
    );
    assert!(peer.server.client().consumer_cancel_notify);
    assert!(!peer.server.client().basic_nack);
    peer.server.authenticated();
    let tune = Method::ConnectionTune {
        channel_max: 2047,
        frame_max: 131_072,
        heartbeat: 60,
    };
    assert_eq!(peer.methods(), [(0, tune)]);

    // Tune-ok and open in one packet, as some clients send them.
    let open = Method::ConnectionOpen {
        virtual_host: ShortStr::from_static("shop"),
    };
    let mut packet = method_frame(0, &tune_ok(100, 65_536, 30));
    packet.extend_from_slice(&method_frame(0, &open));
    assert_eq!(
        peer.send_raw(&packet),
        [Event::OpenVhost(ShortStr::from_static("shop"))]
    );
    assert_eq!(peer.server.limits(), (100, 65_536, 30));
    peer.server.vhost_opened();
    assert_eq!(peer.methods(), [(0, Method::ConnectionOpenOk {})]);
    assert!(peer.server.is_open());
    peer.open_channel(1);
}

#[test]
fn protocol_headers() {
    for (header, accepted) in [
        (HEADER, true),
        (b"AMQP\x01\x01\x00\x09", true),
        (b"AMQP\x00\x00\x09\x02", false),
        (b"AMQP\x00\x01\x00\x00", false),
        (b"AMQP\x03\x01\x00\x00", false),
        (b"GET / HT", false),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01", false),
    ] {
        let mut peer = Peer::new(ServerConfig::default());
        let events = peer.send_raw(header);
        if accepted {
            assert_eq!(events, []);
            assert!(matches!(
                peer.methods()[..],
                [(0, Method::ConnectionStart { .. })]
            ));
        } else {
            assert_eq!(events, [Event::Ended(EndReason::NotAmqp)]);
            assert_eq!(peer.replies(), HEADER);
        }
    }
}

#[test]
fn the_handshake_must_end_in_time() {
    for step in 0..3 {
        let mut peer = match step {
            0 => Peer::new(ServerConfig::default()),
            1 => started(),
            _ => tuning(),
        };
        assert_eq!(peer.wait(Duration::from_millis(9_999)), []);
        assert_eq!(
            peer.wait(Duration::from_millis(1)),
            [Event::Ended(EndReason::HandshakeTimeout)]
        );
        assert_eq!(peer.server.next_timeout(), None);
    }
    assert_eq!(Peer::open().wait(Duration::from_secs(60)), []);
}

#[test]
fn amqplain() {
    let mut table = TableBuilder::new();
    table
        .push("LOGIN", &FieldValue::text("jo"))
        .push("PASSWORD", &FieldValue::text("pw"));
    let response = table.finish();
    let events = started().send(0, &start_ok("AMQPLAIN", response.raw()));
    assert_eq!(
        events,
        [Event::Authenticate(Credentials::Password {
            mechanism: Mechanism::AmqPlain,
            user: ShortStr::from_static("jo"),
            password: Bytes::from_static(b"pw"),
        })]
    );
}

#[test]
fn anonymous_is_guest() {
    let events = started().send(0, &start_ok("ANONYMOUS", b"whoever"));
    assert_eq!(
        events,
        [Event::Authenticate(Credentials::Password {
            mechanism: Mechanism::Anonymous,
            user: ShortStr::from_static("guest"),
            password: Bytes::from_static(b"guest"),
        })]
    );
}

#[test]
fn external_if_announced() {
    let mechanisms = vec![Mechanism::External];
    let mut peer = Peer::new(ServerConfig {
        mechanisms,
        ..ServerConfig::default()
    });
    peer.send_raw(HEADER);
    assert_eq!(
        peer.send(0, &start_ok("EXTERNAL", b"")),
        [Event::Authenticate(Credentials::External)]
    );
}

#[test]
fn bad_responses() {
    for (mechanism, response, code, text) in [
        (
            "GSSAPI",
            &b""[..],
            503,
            "COMMAND_INVALID - unknown authentication mechanism 'GSSAPI'",
        ),
        (
            "EXTERNAL",
            b"",
            503,
            "COMMAND_INVALID - unknown authentication mechanism 'EXTERNAL'",
        ),
        (
            "PLAIN",
            b"guest\0guest",
            502,
            "SYNTAX_ERROR - invalid response for authentication mechanism PLAIN",
        ),
        (
            "PLAIN",
            b"\0guest",
            502,
            "SYNTAX_ERROR - invalid response for authentication mechanism PLAIN",
        ),
        (
            "PLAIN",
            b"\0\xff\0guest",
            502,
            "SYNTAX_ERROR - invalid response for authentication mechanism PLAIN",
        ),
        (
            "AMQPLAIN",
            b"\x05LOGIN",
            502,
            "SYNTAX_ERROR - invalid response for authentication mechanism AMQPLAIN",
        ),
    ] {
        let mut peer = started();
        let events = peer.send(0, &start_ok(mechanism, response));
        assert!(matches!(&events[..], [Event::Failed(error)] if error.code.0 == code));
        assert_eq!(peer.close(), (0, code, text.to_owned(), (10, 11)));
        assert_eq!(
            peer.send(0, &Method::ConnectionCloseOk {}),
            [Event::Ended(EndReason::ServerClosed)]
        );
    }
}

#[test]
fn a_refused_login_is_told_and_held() {
    let mut peer = started();
    peer.send(0, &start_ok("PLAIN", b"\0guest\0wrong"));
    peer.server.refuse_login(peer.now);
    // Neither answer nor end comes so fast that guessing on would pay.
    assert_eq!(peer.wait(Duration::from_millis(999)), []);
    assert_eq!(peer.replies(), []);
    assert_eq!(peer.wait(Duration::from_millis(1)), []);
    let text = "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. \
                For details see the broker logfile.";
    assert_eq!(peer.close(), (0, 403, text.to_owned(), (0, 0)));
    assert_eq!(peer.send(0, &Method::ConnectionCloseOk {}), []);
    assert_eq!(peer.wait(Duration::from_millis(1_999)), []);
    assert_eq!(
        peer.wait(Duration::from_millis(1)),
        [Event::Ended(EndReason::LoginRefused)]
    );
}

#[test]
fn a_client_that_did_not_ask_is_told_nothing() {
    let mut peer = started();
    peer.send(
        0,
        &start_ok_with(FieldTable::default(), "PLAIN", b"\0guest\0wrong"),
    );
    peer.server.refuse_login(peer.now);
    assert_eq!(peer.replies(), []);
    assert_eq!(
        peer.wait(Duration::from_secs(3)),
        [Event::Ended(EndReason::LoginRefused)]
    );
}

#[test]
fn limits_are_checked_not_negotiated_down() {
    for (answer, text) in [
        (
            tune_ok(3000, 131_072, 60),
            "negotiated channel_max = 3000 is higher than the maximum allowed value (2047)",
        ),
        (
            tune_ok(0, 131_072, 60),
            "negotiated channel_max = 0 (no limit) is higher than the maximum allowed value (2047)",
        ),
        (
            tune_ok(1, 131_073, 60),
            "negotiated frame_max = 131073 is higher than the maximum allowed value (131072)",
        ),
        (
            tune_ok(1, 0, 60),
            "negotiated frame_max = 0 (no limit) is higher than the maximum allowed value (131072)",
        ),
        (
            tune_ok(1, 4095, 60),
            "negotiated frame_max = 4095 is lower than the minimum allowed value (4096)",
        ),
    ] {
        let mut peer = tuning();
        assert!(matches!(peer.send(0, &answer)[..], [Event::Failed(_)]));
        assert_eq!(
            peer.close(),
            (0, 530, format!("NOT_ALLOWED - {text}"), (10, 31))
        );
    }
    assert_eq!(tuning().send(0, &tune_ok(2047, 4096, 0)), []);
}

#[test]
fn a_refused_vhost() {
    let mut peer = tuning();
    peer.send(0, &tune_ok(2047, 131_072, 60));
    let open = Method::ConnectionOpen {
        virtual_host: ShortStr::from_static("nope"),
    };
    peer.send(0, &open);
    let error = Connection::vhost_error("vhost nope not found");
    assert!(peer.server.connection_error(&error, peer.now));
    assert_eq!(
        peer.close(),
        (
            0,
            530,
            "NOT_ALLOWED - vhost nope not found".to_owned(),
            (10, 40)
        )
    );
}

#[test]
fn methods_in_the_wrong_state() {
    for (mut peer, method, ids, state) in [
        (started(), tune_ok(1, 8192, 0), (10, 31), "starting"),
        (tuning(), start_ok("PLAIN", b""), (10, 11), "tuning"),
        (Peer::open(), start_ok("PLAIN", b""), (10, 11), "running"),
        (Peer::open(), Method::ChannelOpen {}, (20, 10), "running"),
        (
            Peer::open(),
            Method::BasicQos {
                prefetch_size: 0,
                prefetch_count: 1,
                global: false,
            },
            (60, 10),
            "running",
        ),
    ] {
        assert!(matches!(peer.send(0, &method)[..], [Event::Failed(_)]));
        let text = format!("CHANNEL_ERROR - unexpected method in connection state {state}");
        assert_eq!(peer.close(), (0, 504, text, ids));
    }
}

#[test]
fn frames_of_channels_before_the_connection_is_open() {
    let mut peer = tuning();
    assert!(
        matches!(&peer.send(1, &Method::ChannelOpen {})[..], [Event::Failed(error)] if error.code.0 == 505)
    );
}

#[test]
fn before_tune_ok_frames_are_small() {
    let mut peer = started();
    let events = peer.send_raw(&raw_frame(1, 0, &[0; 8193])[..7]);
    assert!(matches!(&events[..], [Event::Failed(error)] if error.code.0 == 501));
}

#[test]
fn a_health_check_sends_nothing() {
    let mut peer = Peer::new(ServerConfig::default());
    assert_eq!(peer.poll(), []);
    assert_eq!(peer.server.bytes_received(), 0);
}

#[test]
fn a_new_secret() {
    let mut peer = Peer::open();
    let update = Method::ConnectionUpdateSecret {
        new_secret: Bytes::from_static(b"token"),
        reason: ShortStr::from_static("expiry"),
    };
    assert_eq!(
        peer.send(0, &update),
        [Event::UpdateSecret(Bytes::from_static(b"token"))]
    );
    peer.server.secret_updated();
    assert_eq!(peer.methods(), [(0, Method::ConnectionUpdateSecretOk {})]);
}
