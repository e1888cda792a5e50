//! A publish encoded once; of each message only the stamp is written anew.

use amqp_codec::{Content, Properties, write_publish};
use bytes::{Bytes, BytesMut};

use super::stamp::{Origin, Stamp};
use crate::client::CHANNEL;

/// The frames of one publish.
#[derive(Debug)]
pub(crate) struct Template {
    frames: Vec<u8>,
    /// Where the body starts in the frames.
    body_at: usize,
    /// How much of the body lies in the first body frame.
    body_len: usize,
}

impl Template {
    pub(crate) fn new(
        exchange: &str,
        routing_key: &str,
        persistent: bool,
        size: usize,
        frame_max: usize,
    ) -> Self {
        let properties = Properties {
            delivery_mode: persistent.then_some(2),
            ..Properties::default()
        }
        .encode();
        let mut frames = BytesMut::new();
        let mut publish = |body: &Bytes| {
            let (exchange, routing_key) = (exchange.as_bytes(), routing_key.as_bytes());
            let content = Content {
                properties: &properties,
                body,
            };
            frames.clear();
            write_publish(
                &mut frames,
                CHANNEL,
                frame_max,
                exchange,
                routing_key,
                false,
                content,
            );
            frames.len()
        };
        // The frames before the body are those of an empty one.
        let body_at = publish(&Bytes::new()) + amqp_codec::HEADER_LEN;
        publish(&Bytes::from(vec![b'w'; size]));
        let body_len = size.min(frame_max.saturating_sub(amqp_codec::FRAME_OVERHEAD));
        Self {
            frames: frames.to_vec(),
            body_at,
            body_len,
        }
    }

    /// Size of a publish on the wire.
    pub(crate) fn len(&self) -> usize {
        self.frames.len()
    }

    /// Appends the publish with its stamp.
    pub(crate) fn write(&self, origin: Origin, sent_ns: u64, out: &mut Vec<u8>) {
        let start = out.len() + self.body_at;
        out.extend_from_slice(&self.frames);
        if let Some(body) = out.get_mut(start..start + self.body_len.min(Stamp::LEN)) {
            Stamp::write(origin, sent_ns, body);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use amqp_codec::{FrameKind, Method, peek};

    #[test]
    fn frames_of_a_publish() {
        for (size, body_frames) in [(0, 0), (5, 1), (16, 1), (4088, 1), (10_000, 3)] {
            let template = Template::new("e", "key", true, size, 4096);
            let mut out = Vec::new();
            for sequence in [99, 100] {
                template.write(
                    Origin {
                        run: 1,
                        producer: 7,
                        sequence,
                    },
                    12345,
                    &mut out,
                );
            }
            assert_eq!(out.len(), 2 * template.len());
            let (mut kinds, mut body, mut rest) = (Vec::new(), Vec::new(), out.as_slice());
            while let Some(frame) = peek(rest, 4096).unwrap() {
                rest = &rest[frame.len_bytes()..];
                kinds.push(frame.kind);
                match frame.kind {
                    FrameKind::Method => {
                        let method = Method::decode(Bytes::copy_from_slice(frame.payload)).unwrap();
                        assert_eq!(method.name(), "basic.publish");
                        body.clear();
                    }
                    FrameKind::Body => body.extend_from_slice(frame.payload),
                    _ => {}
                }
            }
            assert_eq!(kinds.len(), 2 * (2 + body_frames), "{size}");
            assert_eq!(body.len(), size);
            let sequence = Stamp::read(&body)
                .and_then(|stamp| stamp.origin)
                .map(|o| o.sequence);
            assert_eq!(sequence, (size >= 16).then_some(100));
        }
    }
}
