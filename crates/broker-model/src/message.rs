//! A message as queues hold it: everything by reference to received bytes.

use bytes::Bytes;

/// A published message. Cloning copies no bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Message {
    /// Exchange it was published to (UTF-8; at most 255 bytes).
    pub exchange: Bytes,
    /// Routing key (UTF-8; at most 255 bytes).
    pub routing_key: Bytes,
    /// Property flags and property values exactly as on the wire (content header payload after the
    /// body size), so that a delivery needs no encoding and round-trips byte-true.
    pub properties: Bytes,
    /// The body.
    pub body: Bytes,
}

impl Message {
    /// What a message takes beside its parts, in bytes.
    pub(crate) const OVERHEAD: usize = 64;

    /// Bytes of memory this message accounts for: its parts and a fixed overhead.
    #[must_use]
    pub fn weight(&self) -> usize {
        Self::OVERHEAD
            + self.exchange.len()
            + self.routing_key.len()
            + self.properties.len()
            + self.body.len()
    }
}
