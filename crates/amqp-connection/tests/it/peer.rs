//! A scripted client against a [`Connection`], with a clock moved by hand.

use std::io::IoSlice;
use std::sync::Arc;
use std::time::{Duration, Instant};

use amqp_codec::{
    Content, FieldTable, FieldValue, FrameKind, Method, RawFrame, ShortStr, TableBuilder, decode,
    write_method, write_publish,
};
use amqp_connection::{Connection, Event, ServerConfig};
use bytes::{Bytes, BytesMut};

/// The flag word of a message without properties.
pub(crate) const NO_PROPERTIES: &[u8] = &[0, 0];

/// Both ends and the clock.
pub(crate) struct Peer {
    pub(crate) server: Connection,
    pub(crate) now: Instant,
    input: BytesMut,
}

impl Peer {
    pub(crate) fn new(config: ServerConfig) -> Self {
        let now = Instant::now();
        Self {
            server: Connection::new(Arc::new(config), now),
            now,
            input: BytesMut::new(),
        }
    }

    /// A connection whose handshake is done, with heartbeats off.
    pub(crate) fn open() -> Self {
        Self::open_with(ServerConfig::default(), 0)
    }

    pub(crate) fn open_with(config: ServerConfig, heartbeat: u16) -> Self {
        let (channel_max, frame_max) = (config.channel_max, config.frame_max);
        let mut peer = Self::new(config);
        assert_eq!(peer.send_raw(b"AMQP\x00\x00\x09\x01"), []);
        assert!(matches!(
            peer.send(0, &start_ok("PLAIN", b"\0guest\0guest"))[..],
            [Event::Authenticate(_)]
        ));
        peer.server.authenticated();
        assert_eq!(
            peer.send(
                0,
                &Method::ConnectionTuneOk {
                    channel_max,
                    frame_max,
                    heartbeat
                }
            ),
            []
        );
        let open = Method::ConnectionOpen {
            virtual_host: ShortStr::from_static("/"),
        };
        assert_eq!(
            peer.send(0, &open),
            [Event::OpenVhost(ShortStr::from_static("/"))]
        );
        peer.server.vhost_opened();
        peer.replies();
        assert!(peer.server.is_open());
        peer
    }

    pub(crate) fn open_channel(&mut self, channel: u16) {
        assert_eq!(
            self.send(channel, &Method::ChannelOpen {}),
            [Event::OpenChannel(channel)]
        );
        assert_eq!(self.methods(), []);
        self.server.channel_opened(channel);
        assert_eq!(self.methods(), [(channel, Method::ChannelOpenOk {})]);
    }

    /// Sends bytes; returns the events they cause.
    pub(crate) fn send_raw(&mut self, bytes: &[u8]) -> Vec<Event> {
        self.feed(bytes);
        self.poll()
    }

    /// Sends bytes that lead to no event; whether nothing holds on to the buffer that they came in.
    pub(crate) fn lets_go_of(&mut self, bytes: &[u8]) -> bool {
        self.server.received(bytes.len());
        self.input = BytesMut::from(bytes);
        assert_eq!(self.poll(), []);
        self.input.is_empty() && self.input.try_reclaim(bytes.len())
    }

    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.server.received(bytes.len());
        self.input.extend_from_slice(bytes);
    }

    /// The next event. Errors are answered as a driver does that has nothing else to say.
    pub(crate) fn poll_one(&mut self) -> Option<Event> {
        let event = self.unanswered()?;
        match &event {
            Event::Failed(error) => {
                assert!(self.server.connection_error(error, self.now));
            }
            Event::ChannelFailed { channel, error } => {
                assert!(self.server.channel_error(*channel, error, self.now));
            }
            _ => {}
        }
        Some(event)
    }

    /// The next event, which the caller answers.
    pub(crate) fn unanswered(&mut self) -> Option<Event> {
        self.server.poll_event(&mut self.input, self.now)
    }

    pub(crate) fn poll(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.poll_one()).collect()
    }

    pub(crate) fn send(&mut self, channel: u16, method: &Method) -> Vec<Event> {
        self.send_raw(&method_frame(channel, method))
    }

    /// Lets time pass; returns the events that causes.
    pub(crate) fn wait(&mut self, time: Duration) -> Vec<Event> {
        self.now += time;
        self.server.handle_timeout(self.now);
        self.poll()
    }

    /// Everything that the server has written since the last call.
    pub(crate) fn replies(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.server.output_len() > 0 {
            let mut slices = [IoSlice::new(&[]); 3];
            let count = self.server.output_slices(&mut slices);
            let written: usize = slices[..count].iter().map(|slice| slice.len()).sum();
            slices[..count]
                .iter()
                .for_each(|slice| bytes.extend_from_slice(slice));
            self.server.output_written(written);
        }
        bytes
    }

    pub(crate) fn frames(&mut self) -> Vec<RawFrame> {
        let mut bytes = BytesMut::from(&self.replies()[..]);
        let frames = std::iter::from_fn(|| decode(&mut bytes, 1 << 30).unwrap()).collect();
        assert!(bytes.is_empty(), "whole frames only");
        frames
    }

    /// What the server has written since the last call, which must be methods without content.
    pub(crate) fn methods(&mut self) -> Vec<(u16, Method)> {
        self.frames()
            .into_iter()
            .map(|frame| {
                assert_eq!(frame.kind, FrameKind::Method);
                (frame.channel, Method::decode(frame.payload).unwrap())
            })
            .collect()
    }

    /// The close that the server has written: channel, code, text, failing method.
    pub(crate) fn close(&mut self) -> (u16, u16, String, (u16, u16)) {
        match &self.methods()[..] {
            [
                (
                    channel,
                    Method::ConnectionClose {
                        reply_code,
                        reply_text,
                        class_id,
                        method_id,
                    }
                    | Method::ChannelClose {
                        reply_code,
                        reply_text,
                        class_id,
                        method_id,
                    },
                ),
            ] => (
                *channel,
                *reply_code,
                reply_text.to_string(),
                (*class_id, *method_id),
            ),
            other => panic!("expected one close, got {other:?}"),
        }
    }
}

pub(crate) fn method_frame(channel: u16, method: &Method) -> BytesMut {
    let mut bytes = BytesMut::new();
    write_method(&mut bytes, channel, method);
    bytes
}

pub(crate) fn raw_frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend_from_slice(&channel.to_be_bytes());
    bytes.extend_from_slice(&(payload.len() as u32).to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes.push(0xCE);
    bytes
}

pub(crate) fn header_payload(size: u64) -> Vec<u8> {
    [&[0, 60, 0, 0][..], &size.to_be_bytes(), NO_PROPERTIES].concat()
}

pub(crate) fn publish_frames(channel: u16, frame_max: usize, key: &str, body: &Bytes) -> BytesMut {
    let mut bytes = BytesMut::new();
    let content = Content {
        properties: NO_PROPERTIES,
        body,
    };
    write_publish(
        &mut bytes,
        channel,
        frame_max,
        b"ex",
        key.as_bytes(),
        true,
        content,
    );
    bytes
}

pub(crate) fn start_ok(mechanism: &str, response: &[u8]) -> Method {
    let mut capabilities = TableBuilder::new();
    for name in [
        "consumer_cancel_notify",
        "connection.blocked",
        "authentication_failure_close",
    ] {
        capabilities.push(name, &FieldValue::Bool(true));
    }
    let mut properties = TableBuilder::new();
    properties.push("capabilities", &FieldValue::Table(capabilities.finish()));
    properties.push("connection_name", &FieldValue::text("orders"));
    start_ok_with(properties.finish(), mechanism, response)
}

pub(crate) fn start_ok_with(
    client_properties: FieldTable,
    mechanism: &str,
    response: &[u8],
) -> Method {
    Method::ConnectionStartOk {
        client_properties,
        mechanism: ShortStr::truncated(mechanism),
        response: Bytes::copy_from_slice(response),
        locale: ShortStr::from_static("en_US"),
    }
}
