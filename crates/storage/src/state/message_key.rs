//! Key of a stored message: shard, epoch, queue, level, sequence.

/// Where a message stands in its shard. Byte order is delivery order within a level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageKey {
    /// Queue.
    pub queue: u64,
    /// Priority level.
    pub level: u8,
    /// Position in the level.
    pub sequence: u64,
}

/// A shard's data of one epoch: a snapshot that is installed begins a new epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Scope {
    pub(crate) shard: u32,
    pub(crate) epoch: u32,
}

/// Length of an encoded [`Scope`].
pub(crate) const SCOPE_LEN: usize = 8;
/// Length of an encoded message key.
pub(crate) const MESSAGE_KEY_LEN: usize = SCOPE_LEN + 17;

impl Scope {
    pub(crate) fn to_bytes(self) -> [u8; SCOPE_LEN] {
        let wide = u64::from(self.shard) << 32 | u64::from(self.epoch);
        wide.to_be_bytes()
    }

    /// Takes the scope off the front of any scoped key.
    pub(crate) fn split(key: &[u8]) -> Option<(Self, &[u8])> {
        let (shard, rest) = key.split_first_chunk::<4>()?;
        let (epoch, rest) = rest.split_first_chunk::<4>()?;
        let scope = Self {
            shard: u32::from_be_bytes(*shard),
            epoch: u32::from_be_bytes(*epoch),
        };
        Some((scope, rest))
    }

    /// The scope behind this one; `None` behind the last.
    pub(crate) fn next(self) -> Option<Self> {
        match self.epoch.checked_add(1) {
            Some(epoch) => Some(Self { epoch, ..self }),
            None => self
                .shard
                .checked_add(1)
                .map(|shard| Self { shard, epoch: 0 }),
        }
    }

    /// A key behind all keys of this scope.
    pub(crate) fn end(self) -> Vec<u8> {
        self.next().map_or_else(
            || vec![0xff; SCOPE_LEN + 1],
            |next| next.to_bytes().to_vec(),
        )
    }
}

impl MessageKey {
    pub(crate) fn to_bytes(self, scope: Scope) -> [u8; MESSAGE_KEY_LEN] {
        let mut bytes = [0; MESSAGE_KEY_LEN];
        bytes[..8].copy_from_slice(&scope.to_bytes());
        bytes[8..16].copy_from_slice(&self.queue.to_be_bytes());
        bytes[16] = self.level;
        bytes[17..].copy_from_slice(&self.sequence.to_be_bytes());
        bytes
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<(Scope, Self)> {
        let (scope, rest) = Scope::split(bytes)?;
        let (queue, rest) = rest.split_first_chunk::<8>()?;
        let (&[level], rest) = rest.split_first_chunk::<1>()?;
        let sequence: [u8; 8] = rest.try_into().ok()?;
        let key = Self {
            queue: u64::from_be_bytes(*queue),
            level,
            sequence: u64::from_be_bytes(sequence),
        };
        Some((scope, key))
    }

    /// A key right behind this one and in front of the next possible one.
    pub(crate) fn after(self, scope: Scope) -> Vec<u8> {
        let mut bytes = self.to_bytes(scope).to_vec();
        bytes.push(0);
        bytes
    }

    /// From the first to behind the last possible key of `queue`; the end is no message's key.
    pub(crate) fn queue_range(scope: Scope, queue: u64) -> (Vec<u8>, Vec<u8>) {
        let first = Self {
            queue,
            level: 0,
            sequence: 0,
        };
        let last = Self {
            queue,
            level: u8::MAX,
            sequence: u64::MAX,
        };
        (first.to_bytes(scope).to_vec(), last.after(scope))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Raw = (u32, u32, u64, u8, u64);

    fn made((shard, epoch, queue, level, sequence): Raw) -> (Scope, MessageKey) {
        (
            Scope { shard, epoch },
            MessageKey {
                queue,
                level,
                sequence,
            },
        )
    }

    proptest! {
        #[test]
        fn keys_keep_their_order_and_come_back(a in any::<Raw>(), b in any::<Raw>()) {
            let (a, b) = (made(a), made(b));
            let (x, y) = (a.1.to_bytes(a.0), b.1.to_bytes(b.0));
            prop_assert_eq!(x.cmp(&y), a.cmp(&b));
            prop_assert_eq!(MessageKey::from_bytes(&x), Some(a));
            let (from, end) = MessageKey::queue_range(a.0, a.1.queue);
            prop_assert!(from.as_slice() <= x.as_slice() && x.as_slice() < end.as_slice());
            prop_assert!(x.as_slice() < a.1.after(a.0).as_slice());
            prop_assert!(x.as_slice() < a.0.end().as_slice());
        }

        #[test]
        fn keys_of_other_lengths_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let known = MessageKey::from_bytes(&bytes).is_some();
            prop_assert_eq!(known, bytes.len() == MESSAGE_KEY_LEN);
        }
    }

    #[test]
    fn scopes_follow_each_other() {
        let last = Scope {
            shard: 1,
            epoch: u32::MAX,
        };
        assert_eq!(last.next(), Some(Scope { shard: 2, epoch: 0 }));
        assert_eq!(
            Scope {
                shard: u32::MAX,
                epoch: u32::MAX
            }
            .next(),
            None
        );
    }
}
