//! Messages in the state store.

use super::cursor::{put_bool, put_message};
use super::{Cursor, VERSION, WireError, put_varint};
use crate::message::Message;
use bytes::{BufMut, Bytes, BytesMut};

/// A message as a queue keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StoredMessage {
    /// The message.
    pub message: Message,
    /// When it expires, ms since the Unix epoch.
    pub expires_at_ms: Option<u64>,
}

/// Encodes for the state store.
pub fn encode_stored_message(stored: &StoredMessage, out: &mut BytesMut) {
    out.put_u8(VERSION);
    put_stored(out, stored);
}

/// Decodes; the parts are slices of `bytes`.
///
/// # Errors
/// The bytes are not one.
pub fn decode_stored_message(bytes: &Bytes) -> Result<StoredMessage, WireError> {
    let mut cursor = Cursor::versioned(bytes)?;
    let stored = read_stored(&mut cursor)?;
    cursor.end()?;
    Ok(stored)
}

pub(super) fn put_stored(out: &mut BytesMut, stored: &StoredMessage) {
    put_bool(out, stored.expires_at_ms.is_some());
    if let Some(expires_at_ms) = stored.expires_at_ms {
        put_varint(out, expires_at_ms);
    }
    put_message(out, &stored.message);
}

pub(super) fn read_stored(cursor: &mut Cursor<'_>) -> Result<StoredMessage, WireError> {
    let expires_at_ms = if cursor.bool()? {
        Some(cursor.varint()?)
    } else {
        None
    };
    Ok(StoredMessage {
        message: cursor.message()?,
        expires_at_ms,
    })
}
