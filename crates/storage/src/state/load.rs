//! Reading the records of a shard, and putting the database in order when it is opened.

use super::inner::{Epochs, Inner, for_each};
use super::message_key::Scope;
use super::messages::unknown_key;
use super::options::{BODIES, RECORDS, SCOPED};
use super::record_key::{Record, RecordKey};
use crate::error::StorageError;
use crate::sealed;
use bytes::Bytes;
use rocksdb::ReadOptions;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

/// The records of a shard as its last checkpoint left them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardState {
    /// What the checkpoint was told to remember as applied.
    pub applied: Bytes,
    /// The record of the shard itself.
    pub origins: Bytes,
    /// Records of its queues, by queue id.
    pub queue_records: Vec<(u64, Bytes)>,
}

impl Inner {
    /// The records of `shard`; `None` if it has no checkpoint.
    pub(crate) fn load(&self, shard: u32) -> Result<Option<ShardState>, StorageError> {
        let Some(scope) = self.scope(shard) else {
            return Ok(None);
        };
        let record = |record, name: &str| {
            let what = format!("{name} of shard {shard}");
            let key = RecordKey::new(scope, record).to_bytes();
            let found = self.get(RECORDS, &key, || what.clone())?;
            found.ok_or_else(|| StorageError::Corrupt {
                what: what.clone(),
                problem: "missing".to_owned(),
            })
        };
        let applied = record(Record::Applied, "applied state")?;
        let origins = record(Record::Origins, "origins")?;
        let mut queue_records = Vec::new();
        let (from, end) = RecordKey::queue_range(scope);
        let queues = self.iterate(RECORDS, from, end, ReadOptions::default())?;
        for_each(queues, |raw, value| {
            let (queue, record) = open_queue_record(raw, value)?;
            queue_records.push((queue, record));
            Ok(())
        })?;
        Ok(Some(ShardState {
            applied,
            origins,
            queue_records,
        }))
    }

    /// Finds the epochs, and removes what a crash left half done: epochs of snapshots that were
    /// not installed to the end, and messages of checkpoints that were not written to the end.
    pub(crate) fn tidy(&self) -> Result<(), StorageError> {
        // First: what is removed below has its large messages removed as well.
        self.look_for_bodies()?;
        let found = self.scopes()?;
        let mut shards: BTreeMap<u32, Epochs> = BTreeMap::new();
        for scope in &found {
            let epochs = shards.entry(scope.shard).or_default();
            epochs.used = epochs.used.max(scope.epoch);
        }
        for (shard, epochs) in &mut shards {
            let key = RecordKey::current_epoch(*shard);
            let what = || format!("epoch of shard {shard}");
            let Some(value) = self.get(RECORDS, &key, what)? else {
                continue;
            };
            let epoch = value.as_ref().try_into().map(u32::from_le_bytes);
            epochs.current = Some(epoch.map_err(|_| unknown_key(&key))?);
            epochs.used = epochs.used.max(epochs.current.unwrap_or(0));
        }
        *self.epochs() = shards.clone();
        let mut changed = false;
        let mut stale = self.batch();
        for scope in found.into_iter().filter(|scope| scope.epoch != 0) {
            let current = shards.get(&scope.shard).and_then(|epochs| epochs.current);
            if current == Some(scope.epoch) {
                changed |= self.undo(scope)?;
            } else {
                stale.delete_scopes(scope, &scope.end())?;
            }
        }
        if !stale.is_empty() {
            changed = true;
            self.write(stale)?;
        }
        if changed {
            tracing::info!("removed what an interrupted checkpoint or snapshot had left");
            self.flush()?;
        }
        Ok(())
    }

    fn look_for_bodies(&self) -> Result<(), StorageError> {
        let mut bodies = self.db.raw_iterator_cf(self.family(BODIES)?);
        bodies.seek_to_first();
        self.has_bodies.store(bodies.valid(), Ordering::Relaxed);
        bodies.status().map_err(|error| StorageError::read(&error))
    }

    /// All shards and epochs of which any key exists, by leaps: one seek each.
    fn scopes(&self) -> Result<Vec<Scope>, StorageError> {
        let mut scopes = Vec::new();
        for family in SCOPED {
            let mut iterator = self.db.raw_iterator_cf(self.family(family)?);
            iterator.seek_to_first();
            while let Some(raw) = iterator.key() {
                let (scope, _) = Scope::split(raw).ok_or_else(|| unknown_key(raw))?;
                scopes.push(scope);
                match scope.next() {
                    Some(next) => iterator.seek(next.to_bytes()),
                    None => break,
                }
            }
            iterator
                .status()
                .map_err(|error| StorageError::read(&error))?;
        }
        scopes.sort_unstable();
        scopes.dedup();
        Ok(scopes)
    }
}

impl super::inner::Batch<'_> {
    /// Deletes everything from `from` to in front of the key `end`, in all families.
    pub(crate) fn delete_scopes(&mut self, from: Scope, end: &[u8]) -> Result<(), StorageError> {
        for family in SCOPED {
            self.delete_range(family, &from.to_bytes(), end)?;
        }
        Ok(())
    }
}

/// Checks a record of a queue as it was read.
pub(crate) fn open_queue_record(raw: &[u8], value: &[u8]) -> Result<(u64, Bytes), StorageError> {
    let Some(RecordKey {
        scope,
        record: Record::Queue(queue),
    }) = RecordKey::from_bytes(raw)
    else {
        return Err(unknown_key(raw));
    };
    let what = || format!("record of queue {queue} in shard {}", scope.shard);
    let record = sealed::open(raw, Bytes::copy_from_slice(value), what)?;
    Ok((queue, record))
}
