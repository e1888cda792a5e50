//! What publishes are told apart by: the identities of deduplication.
//!
//! The node that accepts a publish looks at its headers and writes the identity into the operation;
//! the queue remembers it in a window (`queue::window`). So replicas read no headers and no settings.
//!
//! Not here: which queues and exchanges deduplicate (`catalog`), remembering (`queue`).

use crate::catalog::settings::Deduplication;
use crate::ids::{QueueId, Sequence};
use crate::op::BatchHead;
use crate::routing::canonical::canonical;
use amqp_codec::FieldTable;

/// Header of a message that says how long its identity is remembered, ms.
const CACHE_TTL_HEADER: &str = "x-cache-ttl";

/// Messages that were passed on by the broker itself are remembered so many at a time of each queue that they come from …
const PASSED_ON_SIZE: u32 = 2048;
/// … and so long: longer than it takes to find another leader.
pub(crate) const PASSED_ON_TTL_MS: u64 = 600_000;

/// Names one window of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WindowId(pub u64);

impl WindowId {
    /// The queue's own window.
    pub const QUEUE: Self = Self(0);
    /// The first of those of messages that the broker passes on. No id of a queue or an exchange gets that far.
    pub(crate) const FIRST_PASSED_ON: Self = Self(1 << 63);

    /// The window of an exchange, by the id it was declared with.
    #[must_use]
    pub const fn exchange(id: QueueId) -> Self {
        Self(id.0)
    }

    /// Of messages that the broker passes on from `source`: each has its own, so that busy ones do not push out what others
    /// have on their way.
    #[must_use]
    pub const fn passed_on(source: QueueId) -> Self {
        Self(Self::FIRST_PASSED_ON.0 | source.0)
    }

    /// Whether it is one of those.
    pub(crate) const fn is_passed_on(self) -> bool {
        self.0 >= Self::FIRST_PASSED_ON.0
    }
}

/// 128 bits that stand for an identity. Who wants two of them to be alike needs no collision: the
/// same header does it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Fingerprint(pub u64, pub u64);

impl Fingerprint {
    /// Of bytes: FNV-1a with 128 bits, the same on every node and in every version.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
        const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
        let hash = bytes.iter().fold(BASIS, |hash, byte| {
            (hash ^ u128::from(*byte)).wrapping_mul(PRIME)
        });
        Self((hash >> 64) as u64, hash as u64)
    }
}

/// What tells a publish apart, and how it is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Where it is remembered.
    pub window: WindowId,
    /// What is remembered.
    pub fingerprint: Fingerprint,
    /// Identities in the window at most.
    pub cache_size: u32,
    /// How long it is remembered, ms; `None`: until it is pushed out.
    pub cache_ttl_ms: Option<u64>,
}

impl Identity {
    /// Of the message at `sequence` of a store that is passed on to other queues.
    #[must_use]
    pub fn passed_on(store: QueueId, sequence: Sequence) -> Self {
        Self::of_broker(store, Fingerprint(store.0, sequence.0))
    }

    /// Of what `queue` has refused of an operation, and passes on: a batch that is sent again is refused again by the next
    /// leader.
    #[must_use]
    pub fn refused(queue: QueueId, head: &BatchHead, op: u32) -> Self {
        let numbers = [
            queue.0,
            head.origin.node.0,
            head.origin.incarnation,
            head.number,
            u64::from(op),
        ];
        let bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
        Self::of_broker(queue, Fingerprint::of(&bytes))
    }

    fn of_broker(source: QueueId, fingerprint: Fingerprint) -> Self {
        Self {
            window: WindowId::passed_on(source),
            fingerprint,
            cache_size: PASSED_ON_SIZE,
            cache_ttl_ms: Some(PASSED_ON_TTL_MS),
        }
    }
}

impl Deduplication {
    /// The identity of a message with these headers; `None`: it has none, and is never a duplicate.
    #[must_use]
    pub fn identity(&self, window: WindowId, headers: &FieldTable) -> Option<Identity> {
        let value = headers.get(&self.header)?;
        let ttl_ms = headers
            .get(CACHE_TTL_HEADER)
            .and_then(|value| value.as_integer())
            .and_then(|ms| u64::try_from(ms).ok());
        Some(Identity {
            window,
            fingerprint: Fingerprint::of(&canonical(&value)),
            cache_size: self.cache_size,
            cache_ttl_ms: ttl_ms.or(self.cache_ttl_ms),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use amqp_codec::{FieldValue, TableBuilder};

    fn identity(key: &str, value: &FieldValue, ttl: Option<i64>) -> Option<Identity> {
        let deduplication = Deduplication {
            header: "id".into(),
            cache_size: 7,
            cache_ttl_ms: Some(5),
        };
        let mut headers = TableBuilder::new();
        headers.push(key, value);
        if let Some(ttl) = ttl {
            headers.push("x-cache-ttl", &FieldValue::I64(ttl));
        }
        deduplication.identity(WindowId::QUEUE, &headers.finish())
    }

    #[test]
    fn identities_of_headers() {
        let a = identity("id", &FieldValue::text("a"), None).unwrap();
        assert_eq!((a.cache_size, a.cache_ttl_ms), (7, Some(5)));
        assert_eq!(identity("other", &FieldValue::text("a"), None), None);
        for (value, same) in [
            (FieldValue::text("a"), true),
            (FieldValue::text("b"), false),
            (FieldValue::I32(1), false),
        ] {
            let other = identity("id", &value, None).unwrap();
            assert_eq!(a.fingerprint == other.fingerprint, same, "{value:?}");
        }
        // A number is one, whatever its width; its digits are not.
        let one = |value| identity("id", &value, None).unwrap().fingerprint;
        assert_eq!(one(FieldValue::I32(1)), one(FieldValue::I64(1)));
        assert_ne!(one(FieldValue::I32(1)), one(FieldValue::text("1")));
    }

    #[test]
    fn a_message_may_say_how_long() {
        let ttl = |ttl| {
            identity("id", &FieldValue::Void, Some(ttl))
                .unwrap()
                .cache_ttl_ms
        };
        assert_eq!((ttl(100), ttl(0), ttl(-1)), (Some(100), Some(0), Some(5)));
    }

    #[test]
    fn fingerprints_are_the_published_function() {
        // The test vectors of FNV-1a, 128 bits.
        for (text, high, low) in [
            ("", 0x6c62_272e_07bb_0142, 0x62b8_2175_6295_c58d),
            ("a", 0xd228_cb69_6f1a_8caf, 0x7891_2b70_4e4a_8964),
        ] {
            assert_eq!(
                Fingerprint::of(text.as_bytes()),
                Fingerprint(high, low),
                "{text:?}"
            );
        }
    }
}
