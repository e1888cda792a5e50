//! Entries in the bytes in which they are stored and sent: encoded once, at the proposer.
//!
//! The head is `version, kind, term`; the segments are the payload as it was proposed. The index
//! is the log's: it is not repeated in the bytes.

use crate::raft::{Entry, EntryPayload, log_id, membership_from_wire, membership_to_wire};
use crate::types::Payload;
use bytes::{BufMut, Bytes, BytesMut};
use cluster_proto::v1;
use std::sync::Arc;
use storage::LogEntry;

/// First byte of every head.
const VERSION: u8 = 1;
const HEAD_LEN: usize = 10;

const BLANK: u8 = 0;
const NORMAL: u8 = 1;
const MEMBERSHIP: u8 = 2;

/// The stored bytes cannot be an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed log entry: {0}")]
pub(crate) struct EntryError(&'static str);

/// Entries of fewer bytes are copied out of the buffer that they came in.
const OWN_BELOW: usize = 64 << 10;

pub(crate) fn encode(entry: &Entry) -> LogEntry {
    let (kind, segments) = match &entry.payload {
        EntryPayload::Blank => (BLANK, Arc::from([])),
        EntryPayload::Normal(payload) => (NORMAL, Arc::clone(&payload.0)),
        EntryPayload::Membership(membership) => {
            let wire = membership_to_wire(membership);
            let bytes = Bytes::from(prost::Message::encode_to_vec(&wire));
            (MEMBERSHIP, Arc::from([bytes]))
        }
    };
    let mut head = BytesMut::with_capacity(HEAD_LEN);
    head.put_u8(VERSION);
    head.put_u8(kind);
    head.put_u64(entry.log_id.leader_id.term);
    LogEntry::new(head.freeze(), segments)
}

pub(crate) fn decode(index: u64, stored: &LogEntry) -> Result<Entry, EntryError> {
    let (kind, term) = head(&stored.head)?;
    let payload = match kind {
        BLANK => EntryPayload::Blank,
        NORMAL => EntryPayload::Normal(Payload(Arc::clone(&stored.segments))),
        MEMBERSHIP => {
            let [bytes] = &*stored.segments else {
                return Err(EntryError("a membership has one segment"));
            };
            let wire: v1::Membership = prost::Message::decode(bytes.clone())
                .map_err(|_| EntryError("membership does not decode"))?;
            let membership =
                membership_from_wire(&wire).ok_or(EntryError("membership contradicts itself"))?;
            EntryPayload::Membership(membership)
        }
        _ => return Err(EntryError("unknown kind")),
    };
    Ok(Entry {
        log_id: log_id(term, index),
        payload,
    })
}

/// The term of a stored entry, without looking at the payload.
pub(crate) fn term(stored: &LogEntry) -> Result<u64, EntryError> {
    head(&stored.head).map(|(_, term)| term)
}

fn head(head: &[u8]) -> Result<(u8, u64), EntryError> {
    let Some((&[version, kind], term)) = head.split_first_chunk() else {
        return Err(EntryError("head too short"));
    };
    if version != VERSION {
        return Err(EntryError("unknown version"));
    }
    let term = term
        .try_into()
        .map_err(|_| EntryError("head has a wrong length"))?;
    Ok((kind, u64::from_be_bytes(term)))
}

/// Shares the bytes with the wire message.
pub(crate) fn entry_to_wire(entry: &Entry) -> v1::Entry {
    let stored = encode(entry);
    v1::Entry {
        head: stored.head,
        segments: stored.segments.to_vec(),
    }
}

/// Shares the bytes with the wire message, unless they are few: it stands in a buffer of the connection, which an entry
/// of one byte in a group that says little would keep as a whole.
pub(crate) fn entry_from_wire(index: u64, wire: v1::Entry) -> Result<Entry, EntryError> {
    let bytes = wire.segments.iter().map(Bytes::len).sum::<usize>() + wire.head.len();
    let wire = if bytes < OWN_BELOW {
        own(&wire, bytes)
    } else {
        wire
    };
    decode(index, &LogEntry::new(wire.head, Arc::from(wire.segments)))
}

/// The same in one piece of memory of its own.
fn own(wire: &v1::Entry, bytes: usize) -> v1::Entry {
    let mut all = BytesMut::with_capacity(bytes);
    all.put_slice(&wire.head);
    for segment in &wire.segments {
        all.put_slice(segment);
    }
    let mut all = all.freeze();
    v1::Entry {
        head: all.split_to(wire.head.len()),
        segments: wire
            .segments
            .iter()
            .map(|segment| all.split_to(segment.len()))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::Membership;
    use openraft::BasicNode;
    use std::collections::BTreeMap;

    fn samples() -> Vec<EntryPayload> {
        let nodes: BTreeMap<u64, BasicNode> = [(1, BasicNode::new("a:1"))].into();
        vec![
            EntryPayload::Blank,
            EntryPayload::Normal(Payload::from(vec![])),
            EntryPayload::Normal(Payload::from(vec![Bytes::from_static(b"a"), Bytes::new()])),
            EntryPayload::Membership(Membership::new(vec![[1].into()], nodes).unwrap()),
        ]
    }

    #[test]
    fn a_small_entry_does_not_keep_the_buffer_it_came_in() {
        let buffer = Bytes::from(vec![7; 1 << 20]);
        for (len, shares) in [(1, false), (OWN_BELOW, true)] {
            let entry = Entry {
                log_id: log_id(1, 3),
                payload: EntryPayload::Normal(Payload::from(vec![
                    buffer.slice(..len),
                    buffer.slice(..1),
                ])),
            };
            let taken = entry_from_wire(3, entry_to_wire(&entry)).unwrap();
            assert_eq!(taken, entry);
            let EntryPayload::Normal(payload) = &taken.payload else {
                panic!("{taken:?}");
            };
            let ptr = payload.0[0].as_ptr();
            assert_eq!(buffer.as_ptr_range().contains(&ptr), shares, "{len}");
        }
    }

    #[test]
    fn entries_round_trip_in_store_and_on_the_wire() {
        for payload in samples() {
            let entry = Entry {
                log_id: log_id(7, 12),
                payload,
            };
            let stored = encode(&entry);
            assert_eq!(term(&stored), Ok(7));
            assert_eq!(decode(12, &stored), Ok(entry.clone()));
            assert_eq!(entry_from_wire(12, entry_to_wire(&entry)), Ok(entry));
        }
    }

    #[test]
    fn malformed_heads_are_errors() {
        for head in [
            &b""[..],
            b"\x01",
            b"\x01\x01short",
            b"\x02\x01\0\0\0\0\0\0\0\x01",
            b"\x01\x09\0\0\0\0\0\0\0\x01",
        ] {
            let stored = LogEntry::new(Bytes::copy_from_slice(head), Arc::from([]));
            assert!(decode(0, &stored).is_err(), "{head:?}");
        }
    }
}
