//! Named values that are written and read as a whole, such as the snapshot of the catalog.
//!
//! A value is a list of chunks. Its parts go under a new generation; the head, written last and
//! flushed together with them, makes that generation valid and deletes the one before. Parts that
//! a crash left without a head are removed at the next start.

use super::blob_key::{HEADS, MAX_NAME, generations, head_key, parse_head, part_key};
use super::inner::{Inner, for_each};
use super::messages::unknown_key;
use super::options::BLOBS;
use crate::error::StorageError;
use crate::sealed;
use bytes::{Buf, Bytes, BytesMut};
use rocksdb::ReadOptions;

const PART_BYTES: usize = 1 << 20;

struct Head {
    generation: u32,
    sizes: Vec<usize>,
}

impl Inner {
    pub(crate) fn put_blob(
        &self,
        group: u32,
        name: &str,
        chunks: &[Bytes],
    ) -> Result<(), StorageError> {
        if name.len() > MAX_NAME {
            return Err(StorageError::Refused(format!(
                "the name '{name}' is too long"
            )));
        }
        let _writer = self.writer()?;
        let before = self.head(group, name)?.map_or(0, |head| head.generation);
        // Generations wrap around to 1; the old one is deleted by number, whatever the order.
        let generation = before.checked_add(1).unwrap_or(1);
        let mut batch = self.batch();
        let mut number = 0;
        for chunk in chunks {
            for part in chunk.chunks(PART_BYTES) {
                batch.put(BLOBS, &part_key(group, name, generation, number), &[part])?;
                number += 1;
                if batch.len_bytes() >= self.options.batch_bytes {
                    self.write(std::mem::replace(&mut batch, self.batch()))?;
                }
            }
        }
        let mut head = generation.to_le_bytes().to_vec();
        for chunk in chunks {
            head.extend_from_slice(&(chunk.len() as u64).to_le_bytes());
        }
        batch.put(BLOBS, &head_key(group, name), &[&head])?;
        if before != 0 && before != generation {
            let (from, end) = generations(group, name, before, before.checked_add(1));
            batch.delete_range(BLOBS, &from, &end)?;
        }
        self.write(batch)?;
        self.flush()
    }

    pub(crate) fn get_blob(
        &self,
        group: u32,
        name: &str,
    ) -> Result<Option<Vec<Bytes>>, StorageError> {
        // Against a writer that deletes the generation that is being read.
        let _writer = self.writer()?;
        let Some(head) = self.head(group, name)? else {
            return Ok(None);
        };
        let (from, end) = generations(group, name, head.generation, head.generation.checked_add(1));
        let mut options = ReadOptions::default();
        options.set_readahead_size(PART_BYTES);
        options.fill_cache(false);
        let mut parts = self.iterate(BLOBS, from, end, options)?;
        let damaged = |problem: &str| StorageError::Corrupt {
            what: what(group, name),
            problem: problem.to_owned(),
        };
        let mut number = 0;
        let mut chunks = Vec::with_capacity(head.sizes.len());
        for size in head.sizes {
            let mut chunk = BytesMut::new();
            while chunk.len() < size {
                let Some((raw, value)) = parts.item() else {
                    parts.status().map_err(|error| StorageError::read(&error))?;
                    return Err(damaged("a part is missing"));
                };
                if raw != part_key(group, name, head.generation, number) {
                    return Err(damaged("a part is missing"));
                }
                let value = Bytes::copy_from_slice(value);
                chunk.extend_from_slice(&sealed::open(raw, value, || what(group, name))?);
                number += 1;
                parts.next();
            }
            if chunk.len() != size {
                return Err(damaged("its parts do not fit its size"));
            }
            chunks.push(chunk.freeze());
        }
        Ok(Some(chunks))
    }

    fn head(&self, group: u32, name: &str) -> Result<Option<Head>, StorageError> {
        let key = head_key(group, name);
        let Some(mut value) = self.get(BLOBS, &key, || what(group, name))? else {
            return Ok(None);
        };
        let generation = value.try_get_u32_le().map_err(|_| unknown_key(&key))?;
        let sizes = value.as_chunks::<8>().0.iter();
        let sizes: Result<Vec<usize>, _> = sizes
            .map(|size| usize::try_from(u64::from_le_bytes(*size)))
            .collect();
        let sizes = sizes.map_err(|_| unknown_key(&key))?;
        Ok(Some(Head { generation, sizes }))
    }

    /// Removes parts that no head speaks of.
    pub(crate) fn tidy_blobs(&self) -> Result<(), StorageError> {
        let (from, end) = HEADS;
        let heads = self.iterate(BLOBS, from.to_vec(), end.to_vec(), ReadOptions::default())?;
        let mut names = Vec::new();
        for_each(heads, |raw, _| {
            let (group, name) = parse_head(raw).ok_or_else(|| unknown_key(raw))?;
            names.push((group, name.to_owned()));
            Ok(())
        })?;
        let mut batch = self.batch();
        for (group, name) in names {
            let Some(head) = self.head(group, &name)? else {
                continue;
            };
            let next = head.generation.checked_add(1);
            let stale = [
                Some(generations(group, &name, 0, Some(head.generation))),
                next.map(|next| generations(group, &name, next, None)),
            ];
            for (from, end) in stale.into_iter().flatten() {
                let options = ReadOptions::default();
                if self
                    .iterate(BLOBS, from.clone(), end.clone(), options)?
                    .valid()
                {
                    batch.delete_range(BLOBS, &from, &end)?;
                }
            }
        }
        if batch.is_empty() {
            Ok(())
        } else {
            self.write(batch)
        }
    }
}

fn what(group: u32, name: &str) -> String {
    format!("value '{name}' of group {group}")
}
