//! Tests of framing.

use bytes::{BufMut, Bytes, BytesMut};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.put_u16(channel);
    bytes.put_u32(payload.len() as u32);
    bytes.put_slice(payload);
    bytes.put_u8(FRAME_END);
    bytes
}

fn decode_bytes(bytes: &[u8], frame_max: usize) -> Result<Option<RawFrame>, DecodeError> {
    decode(&mut BytesMut::from(bytes), frame_max)
}

#[test]
fn kinds() {
    for (kind, expected) in [
        (1, FrameKind::Method),
        (2, FrameKind::Header),
        (3, FrameKind::Body),
        (8, FrameKind::Heartbeat),
    ] {
        let decoded = decode_bytes(&frame(kind, 9, b"abc"), 4096)
            .unwrap()
            .unwrap();
        assert_eq!(
            decoded,
            RawFrame {
                kind: expected,
                channel: 9,
                payload: Bytes::from_static(b"abc")
            }
        );
    }
    for kind in [0, 4, 5, 6, 7, 9, b'A', 255] {
        let error = DecodeError::UnknownFrameKind { kind };
        assert_eq!(
            decode_bytes(&frame(kind, 9, b"abc"), 4096),
            Err(error.clone())
        );
        assert_eq!(
            decode_bytes(&[kind], 4096),
            Err(error),
            "at the first octet"
        );
    }
}

#[test]
fn sizes() {
    let full = vec![7; 4096];
    // Eight bytes over are let pass; clients take frame_max for the size of the payload.
    for (payload_len, ok) in [(0, true), (4088, true), (4096, true), (4097, false)] {
        let bytes = frame(
            3,
            1,
            full.get(..payload_len).unwrap_or(&vec![7; payload_len]),
        );
        assert_eq!(decode_bytes(&bytes, 4096).is_ok(), ok, "{payload_len}");
    }
    // Refused before the payload arrives.
    assert_eq!(
        decode_bytes(&[3, 0, 1, 255, 255, 255, 255], 131_072),
        Err(DecodeError::FrameTooLarge {
            payload_len: 0xFFFF_FFFF,
            frame_max: 131_072
        })
    );
}

#[test]
fn end_octet() {
    let mut bytes = frame(1, 0, b"abcd");
    *bytes.last_mut().unwrap() = 0xCF;
    assert_eq!(
        decode_bytes(&bytes, 4096),
        Err(DecodeError::MissingFrameEnd { found: 0xCF })
    );
}

#[test]
fn a_broken_frame_does_not_take_those_before_it() {
    let mut input = BytesMut::from(frame(1, 1, b"good").as_slice());
    input.put_slice(&[99]);
    let batch = take_frames(&mut input, 4096).unwrap().unwrap();
    assert_eq!(batch.frames().count(), 1);
    assert!(take_frames(&mut input, 4096).is_err());
}

#[test]
fn batch_shares_the_buffer() {
    let mut input = BytesMut::from(frame(3, 1, b"body of a message").as_slice());
    let at = input.as_ptr() as usize;
    let batch = take_frames(&mut input, 4096).unwrap().unwrap();
    let body = batch.frames().next().unwrap().to_bytes();
    assert_eq!(body.as_ptr() as usize, at + HEADER_LEN);
}

#[test]
fn protocol_headers() {
    for (sent, expected, left) in [
        (
            &b"AMQP\x00\x00\x09\x01rest"[..],
            Some(ProtocolHeader::V091),
            4,
        ),
        (b"AMQP\x01\x01\x00\x09", Some(ProtocolHeader::V09), 0),
        (
            b"AMQP\x00\x00\x09\x00",
            Some(ProtocolHeader::Other(*b"AMQP\x00\x00\x09\x00")),
            0,
        ),
        (
            b"AMQP\x03\x01\x00\x00",
            Some(ProtocolHeader::Other(*b"AMQP\x03\x01\x00\x00")),
            0,
        ),
        (
            b"GET / HTTP/1.1\r\n",
            Some(ProtocolHeader::Other(*b"GET / HT")),
            8,
        ),
        (
            b"\x16\x03\x01",
            Some(ProtocolHeader::Other(*b"\x16\x03\x01\x00\x00\x00\x00\x00")),
            0,
        ),
        (
            b"AMQX",
            Some(ProtocolHeader::Other(*b"AMQX\x00\x00\x00\x00")),
            0,
        ),
        (b"AMQP\x00\x00\x09", None, 7),
        (b"AM", None, 2),
        (b"", None, 0),
    ] {
        let mut input = BytesMut::from(sent);
        assert_eq!(parse_protocol_header(&mut input), expected, "{sent:?}");
        assert_eq!(input.len(), left, "{sent:?}");
    }
}

proptest! {
    /// However the stream is cut into reads, the same frames come out.
    #[test]
    fn any_read_boundaries(
        payloads in vec(vec(any::<u8>(), 0..60), 1..20),
        reads in vec(1_usize..50, 1..40),
    ) {
        let mut stream = Vec::new();
        for (n, payload) in payloads.iter().enumerate() {
            stream.extend(frame([1, 2, 3, 8][n % 4], n as u16, payload));
        }
        let mut input = BytesMut::new();
        let mut decoded = Vec::new();
        let mut rest = stream.as_slice();
        for read in reads.iter().cycle() {
            let (now, later) = rest.split_at((*read).min(rest.len()));
            input.put_slice(now);
            rest = later;
            while let Some(batch) = take_frames(&mut input, 4096).unwrap() {
                decoded.extend(batch.frames().map(|frame| frame.to_raw()));
            }
            if rest.is_empty() {
                break;
            }
        }
        prop_assert!(input.is_empty());
        prop_assert_eq!(decoded.len(), payloads.len());
        for (n, (frame, payload)) in decoded.iter().zip(&payloads).enumerate() {
            prop_assert_eq!(frame.channel, n as u16);
            prop_assert_eq!(&frame.payload, payload);
        }
    }
}
