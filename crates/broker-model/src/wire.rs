//! Versioned binary encodings (skeleton of the interface).

use crate::message::Message;
use crate::op::{EntryHead, Op};
use crate::protocol::{FromHost, ToHost};
use bytes::{Bytes, BytesMut};

/// Bytes that are not what they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The input ends too early.
    #[error("the encoding is truncated")]
    Truncated,
    /// Written by a version that this program does not know.
    #[error("unknown version {0} of the encoding")]
    Version(u8),
    /// A value that no writer writes.
    #[error("malformed {0}")]
    Malformed(&'static str),
}

/// A message as queues store it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StoredMessage {
    /// The message.
    pub message: Message,
    /// When it expires, ms since the Unix epoch.
    pub expires_at_ms: Option<u64>,
}

/// Encodes operations one after the other: `version, count, op …`.
#[derive(Debug, Default)]
pub struct OpsWriter {}

impl OpsWriter {
    /// An empty writer.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
    /// Appends an operation.
    pub fn push(&mut self, op: &Op) {
        unimplemented!()
    }
    /// Appends all operations of a finished encoding, unparsed.
    ///
    /// # Errors
    /// It has not the form of one.
    pub fn append(&mut self, ops: &Bytes) -> Result<(), WireError> {
        unimplemented!()
    }
    /// Operations so far.
    #[must_use]
    pub fn count(&self) -> u32 {
        unimplemented!()
    }
    /// Encoded bytes so far.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        unimplemented!()
    }
    /// No operation was pushed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count() == 0
    }
    /// The encoding.
    #[must_use]
    pub fn finish(self) -> Bytes {
        unimplemented!()
    }
}

/// Iterates over encoded operations; everything in them is a slice of the input.
#[derive(Debug)]
pub struct OpsReader {}

impl OpsReader {
    /// Starts to read.
    #[must_use]
    pub fn new(ops: Bytes) -> Self {
        unimplemented!()
    }
}

impl Iterator for OpsReader {
    type Item = Result<Op, WireError>;
    fn next(&mut self) -> Option<Self::Item> {
        None
    }
}

/// Walks through encoded operations without building them: what a leader does before it proposes
/// bytes of another node, so that nothing unreadable gets into the log. Returns their number.
///
/// # Errors
/// They cannot be read.
pub fn validate_ops(ops: &[u8]) -> Result<u32, WireError> {
    unimplemented!()
}

/// Encodes the first segment of an entry.
#[must_use]
pub fn encode_entry_head(head: &EntryHead) -> Bytes {
    unimplemented!()
}

/// Decodes the first segment of an entry.
///
/// # Errors
/// The bytes are not one.
pub fn decode_entry_head(bytes: &Bytes) -> Result<EntryHead, WireError> {
    unimplemented!()
}

/// Encodes for the stream to a host.
pub fn encode_to_host(message: &ToHost, out: &mut BytesMut) {
    unimplemented!()
}

/// Decodes; bodies are slices of `bytes`.
///
/// # Errors
/// The bytes are not one whole message.
pub fn decode_to_host(bytes: Bytes) -> Result<ToHost, WireError> {
    unimplemented!()
}

/// Encodes for the stream from a host.
pub fn encode_from_host(message: &FromHost, out: &mut BytesMut) {
    unimplemented!()
}

/// Decodes; bodies are slices of `bytes`.
///
/// # Errors
/// The bytes are not one whole message.
pub fn decode_from_host(bytes: Bytes) -> Result<FromHost, WireError> {
    unimplemented!()
}

/// Encodes for the message store.
pub fn encode_stored_message(message: &StoredMessage, out: &mut BytesMut) {
    unimplemented!()
}

/// Decodes; the parts are slices of `bytes`.
///
/// # Errors
/// The bytes are not one.
pub fn decode_stored_message(bytes: &Bytes) -> Result<StoredMessage, WireError> {
    unimplemented!()
}
