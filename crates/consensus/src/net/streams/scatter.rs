//! Messages in the pieces in which they are sent.

use super::{PREFIX, SHARED};
use bytes::{BufMut, Bytes, BytesMut};
use cluster_proto::v1;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};
use std::collections::VecDeque;

/// A message that knows which of its fields may be large.
pub trait Scatter: Message + Sized + Send + 'static {
    /// Encodes it, as [`Message::encode`] does, with large fields as pieces of their own.
    fn scatter(self, out: &mut Pieces);
}

/// Encoded messages in pieces.
#[derive(Debug, Default)]
pub struct Pieces {
    done: VecDeque<Bytes>,
    open: BytesMut,
}

impl Pieces {
    /// Encodes a message behind what is there.
    pub fn put_message(&mut self, message: &impl Message) {
        self.open.reserve(message.encoded_len());
        // Only fails where there is no room, and this buffer grows.
        let _ = message.encode(&mut self.open);
    }

    /// Begins field `tag`, a message or bytes of `len`, which the caller puts next.
    pub fn put_head(&mut self, tag: u32, len: usize) {
        encode_key(tag, WireType::LengthDelimited, &mut self.open);
        encode_varint(len as u64, &mut self.open);
    }

    /// Encodes field `tag`; shares `bytes` if they are many.
    pub fn put_bytes(&mut self, tag: u32, bytes: Bytes) {
        self.put_head(tag, bytes.len());
        if bytes.len() < SHARED {
            self.open.put_slice(&bytes);
        } else {
            self.close();
            self.done.push_back(bytes);
        }
    }

    /// Begins a message of `len` bytes.
    pub(super) fn begin(&mut self, len: u32) {
        self.open.reserve(PREFIX);
        self.open.put_u8(0);
        self.open.put_u32(len);
    }

    /// Bytes that are not in a piece yet.
    pub(super) fn open(&self) -> usize {
        self.open.len()
    }

    /// What was put so far becomes a piece.
    pub(super) fn close(&mut self) {
        if !self.open.is_empty() {
            self.done.push_back(self.open.split().freeze());
        }
    }

    /// The next piece.
    pub(super) fn pop(&mut self) -> Option<Bytes> {
        self.done.pop_front()
    }
}

impl Scatter for v1::AppendRequest {
    fn scatter(mut self, out: &mut Pieces) {
        let entries = std::mem::take(&mut self.entries);
        out.put_message(&self);
        for entry in entries {
            out.put_head(8, entry.encoded_len());
            if !entry.head.is_empty() {
                out.put_bytes(1, entry.head);
            }
            for segment in entry.segments {
                out.put_bytes(2, segment);
            }
        }
    }
}

impl Scatter for v1::AppendAnswer {
    fn scatter(self, out: &mut Pieces) {
        out.put_message(&self);
    }
}

impl Scatter for cluster_proto::node::v1::LinkFrame {
    fn scatter(mut self, out: &mut Pieces) {
        let messages = std::mem::take(&mut self.messages);
        out.put_message(&self);
        for message in messages {
            out.put_bytes(2, message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cluster_proto::node::v1::{LinkFrame, LinkHello};

    fn bytes(len: usize) -> Bytes {
        (0..len).map(|at| at as u8).collect()
    }

    /// The pieces, after a check that together they are what prost encodes.
    fn pieces<M: Scatter + Clone>(message: &M) -> Vec<Bytes> {
        let mut out = Pieces::default();
        message.clone().scatter(&mut out);
        out.close();
        let pieces: Vec<Bytes> = std::iter::from_fn(|| out.pop()).collect();
        assert_eq!(pieces.concat(), message.encode_to_vec());
        pieces
    }

    #[test]
    fn pieces_are_what_prost_encodes_and_large_fields_are_shared() {
        let entry = |head: usize, segments: &[usize]| v1::Entry {
            head: bytes(head),
            segments: segments.iter().map(|len| bytes(*len)).collect(),
        };
        let large = bytes(3 * SHARED);
        let mut request = v1::AppendRequest {
            group: 3,
            session: 1 << 40,
            sequence: 7,
            target: 65_538,
            vote: Some(v1::Vote {
                term: 4,
                member: 5,
                committed: true,
            }),
            previous: Some(v1::LogId { term: 4, index: 99 }),
            commit: None,
            entries: vec![
                entry(0, &[]),
                entry(10, &[0, 1, SHARED - 1]),
                entry(10, &[SHARED, 5]),
            ],
        };
        request.entries[2].segments.push(large.clone());
        let found = pieces(&request);
        assert!(found.iter().any(|piece| piece.as_ptr() == large.as_ptr()));
        assert_eq!(found.len(), 4, "small, shared, small, shared");
        request.entries.clear();
        assert_eq!(pieces(&request).len(), 1);
        assert_eq!(pieces(&v1::AppendRequest::default()).len(), 0);

        let mut frame = LinkFrame {
            hello: Some(LinkHello {
                shard: 4,
                node: 1,
                incarnation: 2,
                host_incarnation: 0,
            }),
            messages: vec![bytes(0), bytes(SHARED), large, bytes(1)],
        };
        assert_eq!(pieces(&frame).len(), 5);
        frame.hello = None;
        pieces(&frame);
        let answer = v1::AppendAnswer {
            group: 1,
            applied: Some(0),
            ..v1::AppendAnswer::default()
        };
        pieces(&answer);
    }
}
