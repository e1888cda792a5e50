//! Stored messages: small ones in place, large ones behind a stub.

use super::inner::{Batch, Inner};
use super::message_key::{MessageKey, Scope};
use super::options::{BODIES, LARGE_BYTES, MESSAGES};
use crate::error::StorageError;
use crate::sealed;
use bytes::Bytes;
use rocksdb::ReadOptions;
use std::ops::RangeInclusive;

/// The payload follows.
const INLINE: u8 = 0;
/// The payload is in the family of large messages; its length (u32) follows.
const STUB: u8 = 1;

/// Up to this many positions are deleted one by one: a range tombstone costs every later read.
const FEW: u64 = 16;

/// Stored messages that are dead, of one level of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeadRange {
    /// Queue.
    pub queue: u64,
    /// Priority level.
    pub level: u8,
    /// First position.
    pub from: u64,
    /// Last position.
    pub to: u64,
}

impl DeadRange {
    pub(crate) fn len(self) -> u64 {
        self.to.saturating_sub(self.from).saturating_add(1)
    }

    pub(crate) fn first(self) -> MessageKey {
        MessageKey {
            queue: self.queue,
            level: self.level,
            sequence: self.from,
        }
    }

    pub(crate) fn last(self) -> MessageKey {
        MessageKey {
            queue: self.queue,
            level: self.level,
            sequence: self.to,
        }
    }
}

impl Batch<'_> {
    pub(crate) fn put_message(
        &mut self,
        scope: Scope,
        key: MessageKey,
        payload: &[u8],
    ) -> Result<(), StorageError> {
        let raw = key.to_bytes(scope);
        if payload.len() < LARGE_BYTES {
            return self.put(MESSAGES, &raw, &[&[INLINE], payload]);
        }
        let len = u32::try_from(payload.len()).map_err(|_| {
            StorageError::Refused(format!(
                "message {key:?} is too large: {} bytes",
                payload.len()
            ))
        })?;
        self.note_body();
        self.put(MESSAGES, &raw, &[&[STUB], &len.to_le_bytes()])?;
        self.put(BODIES, &raw, &[payload])
    }

    pub(crate) fn delete_messages(
        &mut self,
        scope: Scope,
        range: DeadRange,
    ) -> Result<(), StorageError> {
        if range.from > range.to {
            return Ok(());
        }
        let families: &[&'static str] = if self.has_bodies() {
            &[MESSAGES, BODIES]
        } else {
            &[MESSAGES]
        };
        for family in families {
            if range.len() <= FEW {
                for sequence in range.from..=range.to {
                    let key = MessageKey {
                        sequence,
                        ..range.first()
                    };
                    self.delete(family, &key.to_bytes(scope))?;
                }
            } else {
                let from = range.first().to_bytes(scope);
                self.delete_range(family, &from, &range.last().after(scope))?;
            }
        }
        Ok(())
    }

    pub(crate) fn delete_queue(&mut self, scope: Scope, queue: u64) -> Result<(), StorageError> {
        let (from, end) = MessageKey::queue_range(scope, queue);
        self.delete_range(MESSAGES, &from, &end)?;
        if self.has_bodies() {
            self.delete_range(BODIES, &from, &end)?;
        }
        Ok(())
    }
}

impl Inner {
    /// Reads messages from `range.start()` on, which should be the first that is alive: nothing in
    /// front of it is touched.
    pub(crate) fn read_messages(
        &self,
        scope: Scope,
        (queue, level): (u64, u8),
        range: RangeInclusive<u64>,
        max_count: usize,
        max_bytes: usize,
    ) -> Result<Vec<(u64, Bytes)>, StorageError> {
        let mut out = Vec::new();
        if range.is_empty() || max_count == 0 {
            return Ok(out);
        }
        let first = MessageKey {
            queue,
            level,
            sequence: *range.start(),
        };
        let last = MessageKey {
            queue,
            level,
            sequence: *range.end(),
        };
        // Messages and bodies of one moment: a message may die meanwhile.
        let snapshot = self.db.snapshot();
        let mut options = ReadOptions::default();
        options.set_snapshot(&snapshot);
        if max_count > 64 {
            options.set_readahead_size(max_bytes.clamp(64 << 10, 1 << 20));
        }
        let from = first.to_bytes(scope).to_vec();
        let mut iterator = self.iterate(MESSAGES, from, last.after(scope), options)?;
        let mut bytes = 0;
        while let Some((raw, value)) = iterator.item() {
            let (_, key) = MessageKey::from_bytes(raw).ok_or_else(|| unknown_key(raw))?;
            let payload = match open_message(scope, key, raw, value)? {
                Stored::Inline(payload) => payload,
                Stored::Stub(len) => {
                    let body = self.get_at(&snapshot, BODIES, raw, || name(scope, key))?;
                    if body.is_none() && key != first {
                        // It may be one that is dead and has come back without its body. Whoever knows it to be
                        // alive asks for it next.
                        break;
                    }
                    check_body(scope, key, len, body)?
                }
            };
            bytes += payload.len();
            if bytes > max_bytes && !out.is_empty() {
                break;
            }
            out.push((key.sequence, payload));
            if out.len() == max_count {
                break;
            }
            iterator.next();
        }
        iterator
            .status()
            .map_err(|error| StorageError::read(&error))?;
        Ok(out)
    }
}

/// A value of the family of messages.
pub(crate) enum Stored {
    Inline(Bytes),
    Stub(u32),
}

pub(crate) fn open_message(
    scope: Scope,
    key: MessageKey,
    raw: &[u8],
    value: &[u8],
) -> Result<Stored, StorageError> {
    let what = || name(scope, key);
    let payload = sealed::open(raw, Bytes::copy_from_slice(value), what)?;
    match payload.split_first() {
        Some((&INLINE, _)) => Ok(Stored::Inline(payload.slice(1..))),
        Some((&STUB, rest)) if rest.len() == 4 => {
            let len = rest
                .first_chunk::<4>()
                .map_or(0, |len| u32::from_le_bytes(*len));
            Ok(Stored::Stub(len))
        }
        _ => Err(StorageError::Corrupt {
            what: what(),
            problem: "neither a message nor a stub".to_owned(),
        }),
    }
}

/// The body that a stub promises.
pub(crate) fn check_body(
    scope: Scope,
    key: MessageKey,
    len: u32,
    body: Option<Bytes>,
) -> Result<Bytes, StorageError> {
    match body {
        Some(body) if u32::try_from(body.len()) == Ok(len) => Ok(body),
        Some(body) => Err(StorageError::Corrupt {
            what: name(scope, key),
            problem: format!("its body has {} bytes instead of {len}", body.len()),
        }),
        None => Err(StorageError::Corrupt {
            what: name(scope, key),
            problem: "its body is missing".to_owned(),
        }),
    }
}

pub(crate) fn name(scope: Scope, key: MessageKey) -> String {
    format!(
        "message {} (level {}) of queue {} in shard {}",
        key.sequence, key.level, key.queue, scope.shard
    )
}

pub(crate) fn unknown_key(key: &[u8]) -> StorageError {
    StorageError::Corrupt {
        what: format!("key {key:02x?} in the state"),
        problem: "no key of this version; was it written by a newer one?".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::reclaim::tests::{Store, body};
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn what_is_read_is_of_one_moment() {
        let store = Store::new();
        let first = AtomicU64::new(0);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                loop {
                    let from = match first.load(Ordering::Relaxed) {
                        u64::MAX => return None,
                        first => first,
                    };
                    let read = store
                        .store()
                        .read_messages(1, 2, 0, from..=from + 9, 9, usize::MAX);
                    if let Err(error) = read {
                        return Some(error);
                    }
                }
            });
            for at in (1..4_000).step_by(10) {
                store.put(&[(2, at, at + 9)], 8000);
                first.store(at, Ordering::Relaxed);
                store.delete(2, at, at + 9);
            }
            first.store(u64::MAX, Ordering::Relaxed);
            assert_eq!(reader.join().unwrap(), None);
        });
    }

    #[test]
    fn a_read_ends_at_a_message_that_has_come_back_without_its_body() {
        let store = Store::new();
        store.put(&[(2, 1, 3)], 8000);
        store.take_body(2, 2);
        assert_eq!(store.read(2).unwrap(), vec![(1, body(1, 8000))]);
        let wanted = store
            .inner()
            .read_messages(store.scope(), (2, 0), 2..=3, 9, 1 << 20);
        assert!(
            matches!(wanted, Err(StorageError::Corrupt { .. })),
            "{wanted:?}"
        );
    }
    #[test]
    fn a_damaged_file_is_said_to_be_damaged() {
        let mut store = Store::new();
        store.put(&[(2, 1, 1000)], 1000);
        store.close();
        for file in store.files("sst") {
            let mut bytes = std::fs::read(&file).unwrap();
            let middle = bytes.len() / 2;
            if bytes.len() > 100_000 {
                bytes[middle] ^= 1;
            }
            std::fs::write(&file, bytes).unwrap();
        }
        store.open_again();
        let read = store.read(2);
        assert!(
            matches!(read, Err(StorageError::Corrupt { .. })),
            "{read:?}"
        );
    }
}
