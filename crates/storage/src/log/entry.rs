//! One log entry as the store sees it: opaque segments, kept as they are.

use bytes::Bytes;
use std::sync::Arc;

/// An entry of a group's log. What the bytes mean is the caller's business.
///
/// The head is what the caller adds to a payload that it shares with others (term, kind): having it
/// apart saves copying the segments into a new list. A clone copies no bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// A few bytes of the caller's own.
    pub head: Bytes,
    /// The payload, in segments that come back as the same segments.
    pub segments: Arc<[Bytes]>,
}

impl LogEntry {
    /// An entry of these segments.
    #[must_use]
    pub fn new(head: Bytes, segments: Arc<[Bytes]>) -> Self {
        Self { head, segments }
    }

    /// Bytes of the head and of all segments.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.head.len() + self.segments.iter().map(Bytes::len).sum::<usize>()
    }
}
