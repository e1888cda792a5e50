//! Values that carry their own checksum: version, CRC32C over key and payload, payload.
//!
//! RocksDB checks its blocks; this also notices a value that was damaged before it got there, or
//! that sits under a wrong key.

use crate::error::StorageError;
use bytes::Bytes;

/// Format version of sealed values.
const VERSION: u8 = 1;
/// Bytes in front of the payload.
pub(crate) const SEAL_LEN: usize = 5;

/// Starts a value: what is appended to `out` afterwards is its payload.
pub(crate) fn begin(out: &mut Vec<u8>) {
    out.clear();
    out.push(VERSION);
    out.extend_from_slice(&[0; 4]);
}

/// Ends a value begun by [`begin`].
pub(crate) fn finish(key: &[u8], out: &mut [u8]) {
    if let Some((head, payload)) = out.split_at_mut_checked(SEAL_LEN) {
        let sum = checksum(key, payload).to_le_bytes();
        if let Some(place) = head.last_chunk_mut::<4>() {
            *place = sum;
        }
    }
}

/// Seals `payload` for `key` into `out`.
#[cfg(test)]
fn seal(key: &[u8], payload: &[u8], out: &mut Vec<u8>) {
    begin(out);
    out.extend_from_slice(payload);
    finish(key, out);
}

/// The payload of the value that was read from `key`; `what` names it in an error.
pub(crate) fn open(
    key: &[u8],
    mut value: Bytes,
    what: impl FnOnce() -> String,
) -> Result<Bytes, StorageError> {
    let problem = match value.split_first_chunk::<SEAL_LEN>() {
        None => "shorter than its header".to_owned(),
        Some((&[version, ..], _)) if version != VERSION => {
            format!("written in format {version}, this version reads format {VERSION}")
        }
        Some((&[_, a, b, c, d], payload)) => {
            let stored = u32::from_le_bytes([a, b, c, d]);
            let found = checksum(key, payload);
            if stored == found {
                let _ = value.split_to(SEAL_LEN);
                return Ok(value);
            }
            format!("its checksum is {found:08x}, but {stored:08x} was stored")
        }
    };
    Err(StorageError::Corrupt {
        what: what(),
        problem,
    })
}

fn checksum(key: &[u8], payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(key), payload)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn payloads_come_back(key in any::<[u8; 6]>(), payload in any::<Vec<u8>>()) {
            let mut out = Vec::new();
            seal(&key, &payload, &mut out);
            let read = open(&key, Bytes::from(out), String::new).unwrap();
            prop_assert_eq!(read.as_ref(), payload.as_slice());
        }

        #[test]
        fn any_changed_byte_is_noticed(
            payload in prop::collection::vec(any::<u8>(), 0..40), at in any::<usize>(), flip in 1..=255u8
        ) {
            let mut out = Vec::new();
            seal(b"key", &payload, &mut out);
            let at = at % out.len();
            out[at] ^= flip;
            prop_assert!(open(b"key", Bytes::from(out), String::new).is_err());
        }

        #[test]
        fn garbage_never_panics(value in any::<Vec<u8>>()) {
            let _ = open(b"key", Bytes::from(value), String::new);
        }
    }

    #[test]
    fn a_value_under_another_key_is_refused() {
        let mut out = Vec::new();
        seal(b"one", b"payload", &mut out);
        let error = open(b"two", Bytes::from(out), || "it".to_owned()).unwrap_err();
        assert!(error.to_string().contains("checksum"), "{error}");
    }
}
