//! Keys of the log database: one column family, two key spaces, byte order equal to meaning.
//!
//! Everything is in one column family on purpose: RocksDB may flush families apart, and then the
//! last batch number could survive a damaged write-ahead log that took entries with it.

/// Values about the store or a group sort before all entries.
const META_SPACE: u8 = 0;
/// Entries of all groups.
const ENTRY_SPACE: u8 = 1;

/// Key of a log entry: group, then index, both big-endian, so byte order is log order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct EntryKey {
    /// Raft group.
    pub(crate) group: u32,
    /// Raft index.
    pub(crate) index: u64,
}

impl EntryKey {
    /// Length of an encoded key.
    pub(crate) const LEN: usize = 13;
    /// Behind the keys of all groups.
    pub(crate) const SPACE_END: [u8; 1] = [ENTRY_SPACE + 1];
    /// Not behind any key of any group.
    pub(crate) const SPACE_START: [u8; 1] = [ENTRY_SPACE];

    pub(crate) const fn new(group: u32, index: u64) -> Self {
        Self { group, index }
    }

    pub(crate) fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[0] = ENTRY_SPACE;
        bytes[1..5].copy_from_slice(&self.group.to_be_bytes());
        bytes[5..].copy_from_slice(&self.index.to_be_bytes());
        bytes
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (&[space], rest) = bytes.split_first_chunk::<1>()?;
        let (group, index) = rest.split_first_chunk::<4>()?;
        let index: [u8; 8] = index.try_into().ok()?;
        (space == ENTRY_SPACE).then(|| Self {
            group: u32::from_be_bytes(*group),
            index: u64::from_be_bytes(index),
        })
    }

    /// Behind the last possible entry of `group`.
    pub(crate) fn group_end(group: u32) -> Vec<u8> {
        match group.checked_add(1) {
            Some(next) => Self::new(next, 0).to_bytes().to_vec(),
            None => Self::SPACE_END.to_vec(),
        }
    }
}

/// What is remembered about a group, or about the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum MetaKind {
    /// The vote.
    Vote,
    /// Highest purged index (8 bytes) and the caller's bytes.
    Purged,
    /// The committed position.
    Committed,
    /// First index of a log that never had a purge (8 bytes).
    Start,
    /// Number of the batch that wrote this (8 bytes); under [`MetaKey::STORE`] only.
    Batch,
}

impl MetaKind {
    const fn to_byte(self) -> u8 {
        match self {
            Self::Vote => 1,
            Self::Purged => 2,
            Self::Committed => 3,
            Self::Start => 4,
            Self::Batch => 5,
        }
    }

    const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Vote,
            2 => Self::Purged,
            3 => Self::Committed,
            4 => Self::Start,
            5 => Self::Batch,
            _ => return None,
        })
    }
}

/// Key of what is remembered about a group: group, then kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct MetaKey {
    /// Raft group, or [`MetaKey::STORE`].
    pub(crate) group: u32,
    /// Which value.
    pub(crate) kind: MetaKind,
}

impl MetaKey {
    /// Length of an encoded key.
    pub(crate) const LEN: usize = 6;
    /// Not a group: values about the whole store.
    pub(crate) const STORE: u32 = u32::MAX;
    /// In front of all keys of this space.
    pub(crate) const SPACE_START: [u8; 1] = [META_SPACE];

    pub(crate) const fn new(group: u32, kind: MetaKind) -> Self {
        Self { group, kind }
    }

    pub(crate) fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [META_SPACE; Self::LEN];
        bytes[1..5].copy_from_slice(&self.group.to_be_bytes());
        bytes[5] = self.kind.to_byte();
        bytes
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let &[space, a, b, c, d, kind] = bytes else {
            return None;
        };
        (space == META_SPACE).then_some(())?;
        Some(Self {
            group: u32::from_be_bytes([a, b, c, d]),
            kind: MetaKind::from_byte(kind)?,
        })
    }

    /// All keys of one group: from, to (exclusive).
    pub(crate) fn group_range(group: u32) -> ([u8; Self::LEN], [u8; Self::LEN]) {
        let mut from = Self::new(group, MetaKind::Vote).to_bytes();
        let mut to = from;
        from[5] = 0;
        to[5] = u8::MAX;
        (from, to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn entry_keys_keep_their_order_and_come_back(
            a in any::<(u32, u64)>(), b in any::<(u32, u64)>()
        ) {
            let (a, b) = (EntryKey::new(a.0, a.1), EntryKey::new(b.0, b.1));
            prop_assert_eq!(a.to_bytes().cmp(&b.to_bytes()), a.cmp(&b));
            prop_assert_eq!(EntryKey::from_bytes(&a.to_bytes()), Some(a));
            prop_assert!(a.to_bytes().as_slice() < EntryKey::group_end(a.group).as_slice());
        }

        #[test]
        fn foreign_keys_are_not_taken_for_ours(bytes in prop::collection::vec(any::<u8>(), 0..20)) {
            if let Some(key) = EntryKey::from_bytes(&bytes) {
                prop_assert_eq!(key.to_bytes().to_vec(), bytes.clone());
            }
            if let Some(key) = MetaKey::from_bytes(&bytes) {
                prop_assert_eq!(key.to_bytes().to_vec(), bytes.clone());
            }
        }
    }

    #[test]
    fn meta_keys_come_back_and_sort_before_entries() {
        for kind in [
            MetaKind::Vote,
            MetaKind::Purged,
            MetaKind::Committed,
            MetaKind::Start,
            MetaKind::Batch,
        ] {
            let key = MetaKey::new(7, kind);
            assert_eq!(MetaKey::from_bytes(&key.to_bytes()), Some(key));
            assert!(key.to_bytes().as_slice() < EntryKey::new(0, 0).to_bytes().as_slice());
            let (from, to) = MetaKey::group_range(7);
            assert!(from < key.to_bytes() && key.to_bytes() < to);
        }
        assert_eq!(EntryKey::group_end(u32::MAX), EntryKey::SPACE_END.to_vec());
    }
}
