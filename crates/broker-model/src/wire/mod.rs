//! How commands, messages and records look as bytes.
//!
//! Explicit binary formats instead of protobuf: encoding a publish is a short header and one copy of
//! the body, decoding it is slicing. Every encoding starts with its version. All numbers whose size
//! varies are LEB128 varints; queue ids are eight bytes, little endian.
//!
//! Invariants:
//! - Everything read is bounds checked, and nothing is allocated on the word of a length: the number
//!   of elements reserved is capped by what the remaining input could hold.
//! - Decoding copies no bodies: parts of messages are slices of the input.
//! - Input that is not exactly one encoding (truncated, trailing bytes, unknown tags) is an error.
//!
//! Not here: how entries and checkpoints are stored and checksummed (`storage`), gRPC (`cluster-proto`).

mod cursor;
mod head;
mod host;
mod ops;
mod stored;

pub(crate) use cursor::{Cursor, put_varint};
pub use head::{decode_entry_head, encode_entry_head};
pub use host::{decode_from_host, decode_to_host, encode_from_host, encode_to_host};
pub use ops::{OpsReader, OpsWriter, only_settles, validate_ops};
pub(crate) use ops::{each_op, read_reason, reason_code};
pub use stored::{StoredMessage, decode_stored_message, encode_stored_message};

/// Version of every encoding here.
pub(crate) const VERSION: u8 = 1;

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

#[cfg(test)]
mod tests;
