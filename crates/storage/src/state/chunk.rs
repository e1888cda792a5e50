//! The form in which a shard travels to a replica that is too far behind.
//!
//! A chunk is a version (u8), a CRC32C of the rest (u32), and records one after the other: kind
//! (u8), key, size of the whole value (u32), offset of this part (u32), size of this part (u32), the
//! part. A value that does not fit the rest of a chunk goes on in the next one. The last record says
//! how many values there were. All numbers are little-endian.

use super::message_key::MessageKey;
use crate::error::StorageError;
use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Most bytes of a chunk.
pub const MAX_CHUNK_BYTES: usize = 1 << 20;

const VERSION: u8 = 1;
const HEAD_LEN: usize = 5;
/// A chunk that has less room left is sent: no tiny parts.
const MIN_ROOM: usize = 256;

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ItemKey {
    Message(MessageKey),
    Queue(u64),
    Origins,
}

const MESSAGE: u8 = 1;
const QUEUE: u8 = 2;
const ORIGINS: u8 = 3;
const END: u8 = 4;

/// Fills chunks.
pub(crate) struct ChunkWriter {
    buffer: BytesMut,
    items: u64,
}

impl ChunkWriter {
    pub(crate) fn new() -> Self {
        Self {
            buffer: BytesMut::new(),
            items: 0,
        }
    }

    /// Adds a value; hands full chunks to `send`, which says whether to go on.
    pub(crate) fn push(
        &mut self,
        key: ItemKey,
        value: &[u8],
        send: &mut impl FnMut(Bytes) -> bool,
    ) -> bool {
        self.items += 1;
        let total = u32::try_from(value.len()).unwrap_or(u32::MAX);
        let mut offset = 0;
        loop {
            if self.room() < MIN_ROOM && !self.send(send) {
                return false;
            }
            self.begin();
            put_key(&mut self.buffer, key);
            let rest = value.get(offset..).unwrap_or_default();
            let len = rest.len().min(self.room().saturating_sub(12));
            let part = rest.get(..len).unwrap_or_default();
            self.buffer.put_u32_le(total);
            self.buffer
                .put_u32_le(u32::try_from(offset).unwrap_or(u32::MAX));
            self.buffer
                .put_u32_le(u32::try_from(len).unwrap_or(u32::MAX));
            self.buffer.put_slice(part);
            offset += len;
            if offset == value.len() {
                return true;
            }
        }
    }

    /// Sends the rest.
    pub(crate) fn finish(mut self, send: &mut impl FnMut(Bytes) -> bool) -> bool {
        if self.room() < MIN_ROOM && !self.send(send) {
            return false;
        }
        self.begin();
        self.buffer.put_u8(END);
        self.buffer.put_u64_le(self.items);
        self.send(send)
    }

    fn begin(&mut self) {
        if self.buffer.is_empty() {
            self.buffer.reserve(MAX_CHUNK_BYTES);
            self.buffer.put_u8(VERSION);
            self.buffer.put_u32_le(0);
        }
    }

    fn room(&self) -> usize {
        MAX_CHUNK_BYTES.saturating_sub(self.buffer.len().max(HEAD_LEN))
    }

    fn send(&mut self, send: &mut impl FnMut(Bytes) -> bool) -> bool {
        if let Some((head, rest)) = self.buffer.split_at_mut_checked(HEAD_LEN) {
            let sum = crc32c::crc32c(rest).to_le_bytes();
            if let Some(place) = head.last_chunk_mut::<4>() {
                *place = sum;
            }
        }
        send(self.buffer.split().freeze())
    }
}

fn put_key(buffer: &mut BytesMut, key: ItemKey) {
    match key {
        ItemKey::Message(key) => {
            buffer.put_u8(MESSAGE);
            buffer.put_u64_le(key.queue);
            buffer.put_u8(key.level);
            buffer.put_u64_le(key.sequence);
        }
        ItemKey::Queue(queue) => {
            buffer.put_u8(QUEUE);
            buffer.put_u64_le(queue);
        }
        ItemKey::Origins => buffer.put_u8(ORIGINS),
    }
}

/// Puts values together again. Chunks come from a peer: whatever they hold, memory stays bounded by
/// what has arrived.
#[derive(Default)]
pub(crate) struct ChunkReader {
    partial: Option<(ItemKey, usize, BytesMut)>,
    items: u64,
    ended: bool,
}

impl ChunkReader {
    /// Whether everything that was sent has arrived.
    pub(crate) fn is_complete(&self) -> bool {
        self.ended
    }

    /// Takes a chunk apart; whole values go to `visit`.
    pub(crate) fn read(
        &mut self,
        mut chunk: Bytes,
        visit: &mut impl FnMut(ItemKey, Bytes) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        match chunk.split_first_chunk::<HEAD_LEN>() {
            Some((&[VERSION, a, b, c, d], rest)) => {
                if crc32c::crc32c(rest) != u32::from_le_bytes([a, b, c, d]) {
                    return Err(broken("its checksum is wrong"));
                }
            }
            Some(_) => {
                return Err(broken(
                    "its format is unknown; do all nodes run one version?",
                ));
            }
            None => return Err(broken("it is too short")),
        }
        chunk.advance(HEAD_LEN);
        while !chunk.is_empty() {
            if self.ended {
                return Err(broken("it goes on behind its end"));
            }
            self.record(&mut chunk, visit)?;
        }
        Ok(())
    }

    fn record(
        &mut self,
        chunk: &mut Bytes,
        visit: &mut impl FnMut(ItemKey, Bytes) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        let short = |_| broken("a record is cut off");
        let key = match chunk.try_get_u8().map_err(short)? {
            MESSAGE => ItemKey::Message(MessageKey {
                queue: chunk.try_get_u64_le().map_err(short)?,
                level: chunk.try_get_u8().map_err(short)?,
                sequence: chunk.try_get_u64_le().map_err(short)?,
            }),
            QUEUE => ItemKey::Queue(chunk.try_get_u64_le().map_err(short)?),
            ORIGINS => ItemKey::Origins,
            END => {
                let items = chunk.try_get_u64_le().map_err(short)?;
                if items != self.items || self.partial.is_some() {
                    return Err(broken("values are missing"));
                }
                self.ended = true;
                return Ok(());
            }
            _ => return Err(broken("a record is of an unknown kind")),
        };
        let mut number = || {
            let number = chunk.try_get_u32_le().map_err(short)?;
            usize::try_from(number).map_err(|_| broken("a value is too large"))
        };
        let (total, offset, len) = (number()?, number()?, number()?);
        if len > chunk.len() || offset.checked_add(len).is_none_or(|end| end > total) {
            return Err(broken("a record is cut off"));
        }
        let part = chunk.split_to(len);
        match self.partial.take() {
            None if offset == 0 && len == total => {
                self.items += 1;
                visit(key, part)
            }
            None if offset == 0 => {
                self.partial = Some((key, total, BytesMut::from(part)));
                Ok(())
            }
            Some((of, whole, mut bytes))
                if of == key && whole == total && bytes.len() == offset && len > 0 =>
            {
                bytes.put_slice(&part);
                if bytes.len() == total {
                    self.items += 1;
                    return visit(key, bytes.freeze());
                }
                self.partial = Some((of, whole, bytes));
                Ok(())
            }
            _ => Err(broken("parts of a value are missing")),
        }
    }
}

fn broken(problem: &str) -> StorageError {
    StorageError::Refused(format!(
        "a chunk of a snapshot cannot be used: {problem}; the leader will send it again"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn item() -> impl Strategy<Value = (ItemKey, Vec<u8>)> {
        let key = prop_oneof![
            any::<(u64, u8, u64)>().prop_map(|(queue, level, sequence)| {
                ItemKey::Message(MessageKey {
                    queue,
                    level,
                    sequence,
                })
            }),
            any::<u64>().prop_map(ItemKey::Queue),
            Just(ItemKey::Origins),
        ];
        let size = prop_oneof![0..300usize, 300_000..3_000_000usize];
        (key, size, any::<u8>()).prop_map(|(key, size, byte)| (key, vec![byte; size]))
    }

    fn chunks(items: &[(ItemKey, Vec<u8>)]) -> Vec<Bytes> {
        let mut out = Vec::new();
        let mut send = |chunk| {
            out.push(chunk);
            true
        };
        let mut writer = ChunkWriter::new();
        for (key, value) in items {
            assert!(writer.push(*key, value, &mut send));
        }
        assert!(writer.finish(&mut send));
        out
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn values_come_back_through_bounded_chunks(items in prop::collection::vec(item(), 0..8)) {
            let mut read = Vec::new();
            let mut reader = ChunkReader::default();
            for chunk in chunks(&items) {
                prop_assert!(chunk.len() <= MAX_CHUNK_BYTES);
                prop_assert!(!reader.is_complete());
                reader.read(chunk, &mut |key, value| {
                    read.push((key, value.to_vec()));
                    Ok(())
                }).unwrap();
            }
            prop_assert!(reader.is_complete());
            prop_assert!(read == items);
        }
    }

    proptest! {
        #[test]
        fn garbage_never_panics(body in any::<Vec<u8>>(), sealed in any::<bool>()) {
            let mut chunk = vec![VERSION];
            if sealed {
                chunk.extend_from_slice(&crc32c::crc32c(&body).to_le_bytes());
            }
            chunk.extend_from_slice(&body);
            let _ = ChunkReader::default().read(Bytes::from(chunk), &mut |_, _| Ok(()));
        }
    }

    #[test]
    fn a_missing_chunk_is_noticed() {
        let items: Vec<_> = (0..40u64)
            .map(|queue| (ItemKey::Queue(queue), vec![7; 100_000]))
            .collect();
        let all = chunks(&items);
        assert!(all.len() > 3);
        for missing in 0..all.len() - 1 {
            let mut reader = ChunkReader::default();
            let result = all
                .iter()
                .enumerate()
                .filter(|(at, _)| *at != missing)
                .try_for_each(|(_, chunk)| reader.read(chunk.clone(), &mut |_, _| Ok(())));
            assert!(
                result.is_err() || !reader.is_complete(),
                "without chunk {missing}"
            );
        }
    }
}
