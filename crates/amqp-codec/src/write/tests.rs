//! Tests of the frame writers.

use bytes::{Buf, Bytes, BytesMut};
use proptest::prelude::*;

use super::*;
use crate::properties::NO_PROPERTIES;
use crate::{FrameKind, RawFrame, ShortStr, decode};

fn frames(mut bytes: BytesMut, frame_max: usize) -> Vec<RawFrame> {
    let mut frames = Vec::new();
    while let Some(frame) = decode(&mut bytes, frame_max).unwrap() {
        // On output nothing is let pass.
        assert!(frame.payload.len() + FRAME_OVERHEAD <= frame_max || frame.kind != FrameKind::Body);
        frames.push(frame);
    }
    assert!(bytes.is_empty());
    frames
}

fn flatten(mut segments: Segments) -> BytesMut {
    let mut bytes = BytesMut::new();
    while segments.has_remaining() {
        bytes.put_slice(segments.chunk());
        segments.advance(segments.chunk().len());
    }
    bytes
}

#[test]
fn fast_writers_agree_with_methods() {
    let (exchange, routing_key) = (ShortStr::truncated("e"), ShortStr::truncated("a.b"));
    let content = Content {
        properties: &NO_PROPERTIES,
        body: &Bytes::new(),
    };
    let mut publish = BytesMut::new();
    write_publish(&mut publish, 5, 4096, b"e", b"a.b", true, content);
    let mut deliver = BytesMut::new();
    let delivery = Delivery {
        consumer_tag: b"tag",
        delivery_tag: 1 << 40,
        redelivered: true,
        exchange: b"e",
        routing_key: b"a.b",
        content,
    };
    write_delivery(&mut deliver, 5, 4096, &delivery);
    let mut ack = BytesMut::new();
    write_ack(&mut ack, 5, 1 << 40, true);
    let mut nack = BytesMut::new();
    write_nack(&mut nack, 5, 7, false, true);
    let mut reject = BytesMut::new();
    write_reject(&mut reject, 5, 7, true);
    for (written, method) in [
        (
            publish,
            Method::BasicPublish {
                exchange: exchange.clone(),
                routing_key: routing_key.clone(),
                mandatory: true,
                immediate: false,
            },
        ),
        (
            deliver,
            Method::BasicDeliver {
                consumer_tag: ShortStr::truncated("tag"),
                delivery_tag: 1 << 40,
                redelivered: true,
                exchange,
                routing_key,
            },
        ),
        (
            ack,
            Method::BasicAck {
                delivery_tag: 1 << 40,
                multiple: true,
            },
        ),
        (
            nack,
            Method::BasicNack {
                delivery_tag: 7,
                multiple: false,
                requeue: true,
            },
        ),
        (
            reject,
            Method::BasicReject {
                delivery_tag: 7,
                requeue: true,
            },
        ),
    ] {
        let frame = frames(written.clone(), 4096).remove(0);
        assert_eq!(frame.channel, 5);
        assert_eq!(Method::decode(frame.payload).unwrap(), method);
        let mut expected = BytesMut::new();
        write_method(&mut expected, 5, &method);
        assert!(written.starts_with(&expected), "{}", method.name());
    }
    let mut heartbeat = BytesMut::new();
    write_heartbeat(&mut heartbeat);
    assert_eq!(
        frames(heartbeat, 4096).first().map(|f| f.kind),
        Some(FrameKind::Heartbeat)
    );
}

#[test]
fn bodies_are_split() {
    for (body_len, expected) in [(0, 0), (1, 1), (4088, 1), (4089, 2), (8176, 2), (8177, 3)] {
        let body = Bytes::from(vec![9; body_len]);
        let mut out = BytesMut::new();
        write_content(
            &mut out,
            1,
            4096,
            Content {
                properties: &NO_PROPERTIES,
                body: &body,
            },
        );
        let frames = frames(out, 4096);
        let header = ContentHeader::decode(frames[0].payload.clone()).unwrap();
        assert_eq!(header.body_size, body_len as u64);
        assert_eq!(frames.len() - 1, expected, "{body_len} bytes");
    }
}

#[test]
fn large_bodies_are_not_copied() {
    let body = Bytes::from(vec![1; 10_000]);
    let mut out = Segments::new();
    write_content(
        &mut out,
        1,
        131_072,
        Content {
            properties: &NO_PROPERTIES,
            body: &body,
        },
    );
    let segments: Vec<Bytes> = out.drain().collect();
    assert_eq!(segments.len(), 3);
    assert_eq!(segments[1].as_ptr(), body.as_ptr());
    assert!(out.is_empty());
}

proptest! {
    /// Segments hold the same bytes as a buffer, and come out whatever a write takes.
    #[test]
    fn segments_are_the_same_bytes(
        body_lens in proptest::collection::vec(0_usize..20_000, 1..6),
        takes in proptest::collection::vec(1_usize..9_000, 1..20),
    ) {
        let mut buffer = BytesMut::new();
        let mut segments = Segments::new();
        for (n, len) in body_lens.iter().enumerate() {
            let body = Bytes::from(vec![n as u8; *len]);
            let delivery = Delivery {
                consumer_tag: b"tag",
                delivery_tag: n as u64,
                redelivered: false,
                exchange: b"",
                routing_key: b"queue",
                content: Content { properties: &NO_PROPERTIES, body: &body },
            };
            write_delivery(&mut buffer, 1, 8192, &delivery);
            write_delivery(&mut segments, 1, 8192, &delivery);
            write_ack(&mut segments, 1, 3, false);
            write_ack(&mut buffer, 1, 3, false);
        }
        prop_assert_eq!(segments.len(), buffer.len());
        let mut taken = BytesMut::new();
        for take in takes {
            let mut slices = [std::io::IoSlice::new(&[]); 4];
            let count = segments.chunks_vectored(&mut slices);
            let gathered: Vec<u8> = slices[..count].iter().flat_map(|s| s.iter().copied()).collect();
            let take = take.min(gathered.len());
            taken.extend_from_slice(&gathered[..take]);
            segments.advance(take);
        }
        taken.extend_from_slice(&flatten(segments));
        prop_assert_eq!(&taken, &buffer);
        let body_bytes: usize = frames(taken, 8192)
            .iter()
            .filter(|frame| frame.kind == FrameKind::Body)
            .map(|frame| frame.payload.len())
            .sum();
        prop_assert_eq!(body_bytes, body_lens.iter().sum::<usize>());
    }
}

#[test]
fn a_mark_is_not_written() {
    let plain = crate::Properties {
        priority: Some(5),
        ..crate::Properties::default()
    }
    .encode();
    let marked = crate::Rewrite::new(&plain).marked().finish();
    assert_ne!(marked, plain);
    let written = |properties: &Bytes| {
        let mut out = BytesMut::new();
        let body = Bytes::from_static(b"x");
        write_content(
            &mut out,
            1,
            4096,
            Content {
                properties,
                body: &body,
            },
        );
        out
    };
    assert_eq!(written(&marked), written(&plain));
}
