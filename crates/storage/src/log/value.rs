//! The stored form of an entry: the segments as they came, behind a table of their lengths.
//!
//! Sealed payload: segment count (u32), head length (u32), length of each segment (u32 each), all
//! little-endian, then the bytes of the head and the segments. Reading slices, it copies nothing.

use super::entry::LogEntry;
use super::keys::EntryKey;
use crate::error::StorageError;
use crate::sealed;
use bytes::Bytes;
use std::sync::Arc;

/// Longest entry that is stored.
pub(crate) const MAX_ENTRY_BYTES: usize = 1 << 30;

/// Encodes `entry` for `key` into `out` (cleared first).
pub(crate) fn encode(key: &[u8], entry: &LogEntry, out: &mut Vec<u8>) {
    sealed::begin(out);
    out.reserve(entry.len_bytes() + 4 * entry.segments.len() + 8);
    push_len(out, entry.segments.len());
    push_len(out, entry.head.len());
    for segment in entry.segments.iter() {
        push_len(out, segment.len());
    }
    out.extend_from_slice(&entry.head);
    for segment in entry.segments.iter() {
        out.extend_from_slice(segment);
    }
    sealed::finish(key, out);
}

/// Lengths are checked against [`MAX_ENTRY_BYTES`] when an append is accepted.
fn push_len(out: &mut Vec<u8>, len: usize) {
    out.extend_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes());
}

/// Checks and takes apart the value stored under `key`.
pub(crate) fn decode(key: EntryKey, value: Bytes) -> Result<LogEntry, StorageError> {
    let what = || format!("entry {} of the log of group {}", key.index, key.group);
    let payload = sealed::open(&key.to_bytes(), value, what)?;
    split(payload).ok_or_else(|| StorageError::Corrupt {
        what: what(),
        problem: "its lengths do not fit its size".to_owned(),
    })
}

fn split(mut payload: Bytes) -> Option<LogEntry> {
    let count = take_len(&mut payload)?;
    let head_len = take_len(&mut payload)?;
    let table_len = count.checked_mul(4)?;
    let mut table = checked_split(&mut payload, table_len)?;
    let head = checked_split(&mut payload, head_len)?;
    let mut segments = Vec::with_capacity(count);
    for _ in 0..count {
        let len = take_len(&mut table)?;
        segments.push(checked_split(&mut payload, len)?);
    }
    payload.is_empty().then(|| LogEntry {
        head,
        segments: Arc::from(segments),
    })
}

fn take_len(bytes: &mut Bytes) -> Option<usize> {
    let len = checked_split(bytes, 4)?;
    let len: [u8; 4] = len.as_ref().try_into().ok()?;
    usize::try_from(u32::from_le_bytes(len)).ok()
}

fn checked_split(bytes: &mut Bytes, len: usize) -> Option<Bytes> {
    (len <= bytes.len()).then(|| bytes.split_to(len))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn segments() -> impl Strategy<Value = Vec<Vec<u8>>> {
        prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..6)
    }

    proptest! {
        #[test]
        fn segments_come_back_as_slices_of_the_value(head in any::<Vec<u8>>(), parts in segments()) {
            let parts: Vec<Bytes> = parts.into_iter().map(Bytes::from).collect();
            let entry = LogEntry::new(Bytes::from(head), Arc::from(parts));
            let key = EntryKey::new(3, 9);
            let mut out = Vec::new();
            encode(&key.to_bytes(), &entry, &mut out);
            let value = Bytes::from(out);
            let range = value.as_ptr_range();
            let read = decode(key, value.clone()).unwrap();
            prop_assert_eq!(&read, &entry);
            for segment in read.segments.iter().filter(|segment| !segment.is_empty()) {
                prop_assert!(range.contains(&segment.as_ptr()));
            }
        }

        #[test]
        fn garbage_behind_a_right_checksum_never_panics(payload in any::<Vec<u8>>()) {
            let key = EntryKey::new(3, 9);
            let mut out = Vec::new();
            sealed::seal(&key.to_bytes(), &payload, &mut out);
            let _ = decode(key, Bytes::from(out));
        }
    }
}
