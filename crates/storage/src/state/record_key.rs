//! Keys of the records of a shard: its current epoch, and per epoch what a checkpoint says.

use super::message_key::Scope;

/// What a record is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Record {
    /// The opaque applied state of the last checkpoint.
    Applied,
    /// The opaque record of the shard itself.
    Origins,
    /// Messages that a checkpoint in several batches has put so far, numbered by batch. Left over
    /// only when it did not come to its end; then those messages are taken out again.
    Undo(u64),
    /// The opaque record of a queue.
    Queue(u64),
}

const APPLIED: u8 = 1;
const ORIGINS: u8 = 2;
const UNDO: u8 = 3;
const QUEUE: u8 = 4;

/// Key of a record. Epoch 0 is never used for data: there the current epoch is noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RecordKey {
    pub(crate) scope: Scope,
    pub(crate) record: Record,
}

impl RecordKey {
    pub(crate) const fn new(scope: Scope, record: Record) -> Self {
        Self { scope, record }
    }

    /// Key of the number of the current epoch of `shard`.
    pub(crate) fn current_epoch(shard: u32) -> [u8; 8] {
        Scope { shard, epoch: 0 }.to_bytes()
    }

    pub(crate) fn to_bytes(self) -> Vec<u8> {
        let mut bytes = self.scope.to_bytes().to_vec();
        let (kind, number) = match self.record {
            Record::Applied => (APPLIED, None),
            Record::Origins => (ORIGINS, None),
            Record::Undo(batch) => (UNDO, Some(batch)),
            Record::Queue(queue) => (QUEUE, Some(queue)),
        };
        bytes.push(kind);
        bytes.extend(number.into_iter().flat_map(u64::to_be_bytes));
        bytes
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (scope, rest) = Scope::split(bytes)?;
        let (&kind, number) = rest.split_first()?;
        let number: Option<[u8; 8]> = number.try_into().ok();
        let record = match (kind, number) {
            (APPLIED, None) if rest.len() == 1 => Record::Applied,
            (ORIGINS, None) if rest.len() == 1 => Record::Origins,
            (UNDO, Some(batch)) => Record::Undo(u64::from_be_bytes(batch)),
            (QUEUE, Some(queue)) => Record::Queue(u64::from_be_bytes(queue)),
            _ => return None,
        };
        Some(Self { scope, record })
    }

    /// From the first to behind the last key of one kind: undo records.
    pub(crate) fn undo_range(scope: Scope) -> (Vec<u8>, Vec<u8>) {
        Self::kind_range(scope, UNDO)
    }

    /// From the first to behind the last key of one kind: queue records.
    pub(crate) fn queue_range(scope: Scope) -> (Vec<u8>, Vec<u8>) {
        Self::kind_range(scope, QUEUE)
    }

    fn kind_range(scope: Scope, kind: u8) -> (Vec<u8>, Vec<u8>) {
        let mut from = scope.to_bytes().to_vec();
        from.push(kind);
        let mut end = scope.to_bytes().to_vec();
        end.push(kind + 1);
        (from, end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record() -> impl Strategy<Value = Record> {
        prop_oneof![
            Just(Record::Applied),
            Just(Record::Origins),
            any::<u64>().prop_map(Record::Undo),
            any::<u64>().prop_map(Record::Queue),
        ]
    }

    fn key() -> impl Strategy<Value = RecordKey> {
        (any::<u32>(), 1..u32::MAX, record())
            .prop_map(|(shard, epoch, record)| RecordKey::new(Scope { shard, epoch }, record))
    }

    proptest! {
        #[test]
        fn keys_keep_their_order_and_come_back(a in key(), b in key()) {
            prop_assert_eq!(a.to_bytes().cmp(&b.to_bytes()), a.cmp(&b));
            prop_assert_eq!(RecordKey::from_bytes(&a.to_bytes()), Some(a));
            prop_assert!(RecordKey::current_epoch(a.scope.shard).to_vec() < a.to_bytes());
            prop_assert!(a.to_bytes() < a.scope.end());
        }

        #[test]
        fn foreign_keys_are_not_taken_for_ours(bytes in prop::collection::vec(any::<u8>(), 0..24)) {
            if let Some(key) = RecordKey::from_bytes(&bytes) {
                prop_assert_eq!(key.to_bytes(), bytes);
            }
        }
    }
}
