//! Opening the log: finds what is there, and refuses to start when acknowledged writes are not.

use super::keys::{EntryKey, MetaKey, MetaKind};
use super::queue::Queue;
use super::sizes::Sizes;
use super::value;
use super::view::View;
use super::witness::Synced;
use super::writer::delete_upto;
use crate::error::StorageError;
use crate::sealed;
use bytes::Bytes;
use rocksdb::{DB, DBRawIterator, ReadOptions, WriteBatch};
use std::collections::BTreeMap;
use std::ops::Range;

#[derive(Default)]
struct Meta {
    vote: Option<Bytes>,
    purged: Option<(u64, Bytes)>,
    committed: Option<Bytes>,
    start: Option<u64>,
}

/// Entries of a group as they were found.
struct Found {
    entries: Range<u64>,
    sizes: Sizes,
    /// Entries that a purge mark covers were still there.
    leftovers: bool,
}

/// What [`recover`] found.
pub(crate) struct Recovered {
    /// The views of all groups.
    pub(crate) queue: Queue,
    /// Number of the last batch.
    pub(crate) batch: u64,
}

/// Reads the whole log, checks it against itself and against what is known to have been synced.
pub(crate) fn recover(
    db: &DB,
    synced: Option<&Synced>,
    verify: bool,
) -> Result<Recovered, StorageError> {
    let (batch, metas) = read_meta(db)?;
    let logs = read_entries(db, &metas, verify)?;
    if let Some(synced) = synced {
        check_synced(synced, batch, &metas, &logs)?;
    }
    let mut queue = Queue::default();
    let mut cleanup = WriteBatch::default();
    let mut logs = logs;
    let mut metas = metas;
    let groups: Vec<u32> = metas.keys().chain(logs.keys()).copied().collect();
    for group in groups {
        if queue.views.contains_key(&group) {
            continue;
        }
        let meta = metas.remove(&group).unwrap_or_default();
        let found = logs.remove(&group);
        let after_purge = meta
            .purged
            .as_ref()
            .map_or(0, |(upto, _)| upto.saturating_add(1));
        let (entries, sizes) = match found {
            Some(found) => {
                if let (true, Some((upto, _))) = (found.leftovers, &meta.purged) {
                    delete_upto(&mut cleanup, group, *upto);
                }
                (found.entries, found.sizes)
            }
            None => (after_purge..after_purge, Sizes::default()),
        };
        let view = View::recovered(entries, sizes, meta.purged, meta.vote, meta.committed);
        queue.views.insert(group, view);
    }
    // Not synced: it only repeats what the purge marks say.
    db.write(cleanup)
        .map_err(|error| StorageError::read(&error))?;
    Ok(Recovered { queue, batch })
}

fn read_meta(db: &DB) -> Result<(u64, BTreeMap<u32, Meta>), StorageError> {
    let mut options = ReadOptions::default();
    options.set_iterate_lower_bound(MetaKey::SPACE_START);
    options.set_iterate_upper_bound(EntryKey::SPACE_START);
    let mut batch = 0;
    let mut metas: BTreeMap<u32, Meta> = BTreeMap::new();
    for_each(db.raw_iterator_opt(options), |raw, value| {
        let key = MetaKey::from_bytes(raw).ok_or_else(|| unknown_key(raw))?;
        let name = || format!("{:?} of group {} in the log", key.kind, key.group);
        let payload = sealed::open(raw, Bytes::copy_from_slice(value), name)?;
        let number = || {
            let bytes = payload
                .first_chunk::<8>()
                .ok_or_else(|| StorageError::Corrupt {
                    what: name(),
                    problem: "shorter than a number".to_owned(),
                });
            bytes.map(|bytes| u64::from_le_bytes(*bytes))
        };
        if key.group == MetaKey::STORE && key.kind == MetaKind::Batch {
            batch = number()?;
            return Ok(());
        }
        let meta = metas.entry(key.group).or_default();
        match key.kind {
            MetaKind::Vote => meta.vote = Some(payload),
            MetaKind::Committed => meta.committed = Some(payload),
            MetaKind::Purged => meta.purged = Some((number()?, payload.slice(8..))),
            MetaKind::Start => meta.start = Some(number()?),
            MetaKind::Batch => return Err(unknown_key(raw)),
        }
        Ok(())
    })?;
    Ok((batch, metas))
}

fn read_entries(
    db: &DB,
    metas: &BTreeMap<u32, Meta>,
    verify: bool,
) -> Result<BTreeMap<u32, Found>, StorageError> {
    let mut options = ReadOptions::default();
    options.set_iterate_lower_bound(EntryKey::SPACE_START);
    options.set_iterate_upper_bound(EntryKey::SPACE_END);
    options.set_readahead_size(2 << 20);
    options.fill_cache(false);
    let mut logs: BTreeMap<u32, Found> = BTreeMap::new();
    for_each(db.raw_iterator_opt(options), |raw, value| {
        let key = EntryKey::from_bytes(raw).ok_or_else(|| unknown_key(raw))?;
        let (purged, start) = metas.get(&key.group).map_or((None, None), |meta| {
            (meta.purged.as_ref().map(|(upto, _)| *upto), meta.start)
        });
        let first = purged.map_or(start.unwrap_or(0), |upto| upto.saturating_add(1));
        let found = logs.entry(key.group).or_insert_with(|| Found {
            entries: first..first,
            sizes: Sizes::default(),
            leftovers: false,
        });
        if purged.is_some_and(|upto| key.index <= upto) {
            found.leftovers = true;
            return Ok(());
        }
        if key.index != found.entries.end {
            return Err(StorageError::Hole {
                group: key.group,
                index: found.entries.end,
                context: format!("entry {} follows", key.index),
            });
        }
        if verify {
            value::decode(key, Bytes::copy_from_slice(value))?;
        }
        found.sizes.push(key.index, value.len() as u64);
        found.entries.end = key.index.saturating_add(1);
        Ok(())
    })?;
    Ok(logs)
}

fn check_synced(
    synced: &Synced,
    batch: u64,
    metas: &BTreeMap<u32, Meta>,
    logs: &BTreeMap<u32, Found>,
) -> Result<(), StorageError> {
    // Only the batch number decides: a group may rightly end earlier, after a truncation.
    if batch >= synced.batch {
        return Ok(());
    }
    let ends = |group: &u32| {
        let purged = metas.get(group).and_then(|meta| meta.purged.as_ref());
        let after_purge = purged.map_or(0, |(upto, _)| upto.saturating_add(1));
        logs.get(group)
            .map_or(after_purge, |found| found.entries.end)
    };
    let missing = synced
        .ends
        .iter()
        .find(|(group, last)| ends(group) <= *last);
    Err(match missing {
        Some((group, last)) => StorageError::Hole {
            group: *group,
            index: ends(group),
            context: format!(
                "it had been synced up to {last}; the log was found up to write {batch} of {}",
                synced.batch
            ),
        },
        None => StorageError::LostWrites {
            found: batch,
            expected: synced.batch,
            detail: "no entries are missing, but votes or purge marks may be".to_owned(),
        },
    })
}

fn for_each(
    mut iterator: DBRawIterator<'_>,
    mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), StorageError>,
) -> Result<(), StorageError> {
    iterator.seek_to_first();
    while let Some((key, value)) = iterator.item() {
        visit(key, value)?;
        iterator.next();
    }
    iterator
        .status()
        .map_err(|error| StorageError::read(&error))
}

fn unknown_key(key: &[u8]) -> StorageError {
    StorageError::Corrupt {
        what: format!("key {key:02x?} in the log"),
        problem: "no key of this version; was it written by a newer one?".to_owned(),
    }
}
