//! What can be wrong with received bytes, and which reply code the peer is told.

use crate::reply::ReplyCode;

/// A frame, method or content header that cannot be decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The first octet of a frame is none of the four kinds.
    #[error("unknown frame type {kind}")]
    UnknownFrameKind {
        /// The octet received.
        kind: u8,
    },
    /// The announced payload is larger than negotiated; nothing of it has been buffered.
    #[error("frame payload of {payload_len} bytes exceeds frame_max {frame_max}")]
    FrameTooLarge {
        /// Announced size of the payload.
        payload_len: usize,
        /// The limit in force.
        frame_max: usize,
    },
    /// The octet after the payload is not 206.
    #[error("frame end octet is {found}, not 206")]
    MissingFrameEnd {
        /// The octet received.
        found: u8,
    },
    /// A payload too short to name a class and a method.
    #[error("method frame of {payload_len} bytes names no method")]
    NoMethod {
        /// Size of the payload.
        payload_len: usize,
    },
    /// Well formed, but no method of AMQP 0-9-1.
    #[error("unknown method {method_id} of class {class_id}")]
    UnknownMethod {
        /// Class received.
        class_id: u16,
        /// Method received.
        method_id: u16,
    },
    /// A known method whose arguments cannot be decoded.
    #[error("arguments of {name} cannot be decoded: {reason}")]
    Arguments {
        /// The method, like `basic.publish`.
        name: &'static str,
        /// Its class.
        class_id: u16,
        /// Its method id.
        method_id: u16,
        /// What is wrong.
        reason: ValueError,
    },
    /// A content header whose fixed part or properties cannot be decoded.
    #[error("content header cannot be decoded: {reason}")]
    ContentHeader {
        /// What is wrong.
        reason: ValueError,
    },
}

impl DecodeError {
    /// What the peer is told; always a connection error.
    #[must_use]
    pub fn reply_code(&self) -> ReplyCode {
        match self {
            Self::UnknownFrameKind { .. }
            | Self::FrameTooLarge { .. }
            | Self::MissingFrameEnd { .. }
            | Self::NoMethod { .. }
            | Self::Arguments { .. } => ReplyCode::FRAME_ERROR,
            // Well formed, but not what follows a publish.
            Self::ContentHeader {
                reason: ValueError::ContentClass { .. },
            } => ReplyCode::UNEXPECTED_FRAME,
            Self::ContentHeader { .. } => ReplyCode::FRAME_ERROR,
            Self::UnknownMethod { .. } => ReplyCode::COMMAND_INVALID,
        }
    }

    /// Class and method for the close method: what failed, or `(0, 0)` where no method is known.
    #[must_use]
    pub fn failing_method(&self) -> (u16, u16) {
        match self {
            Self::UnknownMethod {
                class_id,
                method_id,
            }
            | Self::Arguments {
                class_id,
                method_id,
                ..
            } => (*class_id, *method_id),
            Self::UnknownFrameKind { .. }
            | Self::FrameTooLarge { .. }
            | Self::MissingFrameEnd { .. }
            | Self::NoMethod { .. }
            | Self::ContentHeader { .. } => (0, 0),
        }
    }
}

/// A value inside a payload that cannot be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// The payload ends inside a value.
    #[error("the data ends inside a value")]
    Truncated,
    /// Bytes are left over after the last value.
    #[error("{count} bytes are left over")]
    TrailingBytes {
        /// How many.
        count: usize,
    },
    /// A short string that must be text is not.
    #[error("Malformed UTF-8 in shortstr")]
    MalformedUtf8,
    /// A field table or array names a type of value that does not exist.
    #[error("unknown field value type {letter:?}")]
    UnknownFieldKind {
        /// The letter received.
        letter: char,
    },
    /// Tables and arrays are nested deeper than [`crate::MAX_NESTING`].
    #[error("tables and arrays are nested too deeply")]
    NestingTooDeep,
    /// The property flags announce a second flag word, which AMQP 0-9-1 does not define.
    #[error("property flags continue in a second word")]
    PropertyFlags,
    /// The content header is of another class than basic, or its weight is not 0.
    #[error("content class {class_id} with weight {weight} is not defined")]
    ContentClass {
        /// Class received.
        class_id: u16,
        /// Weight received.
        weight: u16,
    },
}
