//! A queue's record in the state store: everything but the messages.
//!
//! `version, levels (level, next, mark, expiry, alive set), stored bytes, counts, dying`, and windows
//! where there are any. Version 2 has `delayed` before the windows; it is written only where messages are, so that
//! programs that do not know it read all other records.

use super::alive::AliveSet;
use super::level::Level;
use super::window::Windows;
use super::{QueueState, RangeMap};
use crate::ids::Sequence;
use crate::op::DeathReason;
use crate::wire::{Cursor, VERSION, WireError, put_varint, read_reason, reason_code};
use bytes::{BufMut, Bytes, BytesMut};

const MALFORMED: WireError = WireError::Malformed("queue record");

/// Version of a record with delayed messages.
const WITH_DELAYED: u8 = 2;

impl QueueState {
    /// The record of the state as of now, with every message up to now in the store.
    pub(crate) fn encode_record(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(64);
        let delayed = self.rare.as_ref().map(|rare| &rare.delayed);
        let delayed = delayed.filter(|delayed| !delayed.is_empty());
        out.put_u8(delayed.map_or(VERSION, |_| WITH_DELAYED));
        put_varint(&mut out, self.levels.len() as u64);
        for level in &self.levels {
            out.put_u8(level.level);
            put_varint(&mut out, level.next);
            put_varint(&mut out, level.mark);
            put_varint(&mut out, level.expires_until_ms);
            level.alive.encode(&mut out);
        }
        put_varint(&mut out, self.alive_bytes());
        match &self.rare {
            None => {
                put_varint(&mut out, 0);
                put_varint(&mut out, 0);
            }
            Some(rare) => {
                put_map(&mut out, &rare.counts, |out, count| {
                    put_varint(out, u64::from(count))
                });
                put_map(&mut out, &rare.dying, |out, reason| {
                    out.put_u8(reason_code(reason))
                });
            }
        }
        if let Some(delayed) = delayed {
            put_map(&mut out, delayed, put_varint);
        }
        if let Some(windows) = &self.windows {
            windows.encode(&mut out);
        }
        out.freeze()
    }

    /// Reads what [`Self::encode_record`] wrote.
    pub(crate) fn decode_record(bytes: &Bytes) -> Result<Self, WireError> {
        let mut cursor = Cursor::at(bytes, 0);
        let version = cursor.u8()?;
        if version != VERSION && version != WITH_DELAYED {
            return Err(WireError::Version(version));
        }
        let mut state = Self::default();
        let count = cursor.count(5)?;
        state.levels.reserve_exact(count);
        for _ in 0..count {
            let level = read_level(&mut cursor)?;
            if state
                .levels
                .last()
                .is_some_and(|last| last.level >= level.level)
            {
                return Err(MALFORMED);
            }
            state.stored = state
                .stored
                .checked_add(level.alive.len())
                .ok_or(MALFORMED)?;
            state.levels.push(level);
        }
        state.stored_bytes = cursor.varint()?;
        let counts = read_map(&mut cursor, |cursor| cursor.varint_u32())?;
        let dying: RangeMap<DeathReason> = read_map(&mut cursor, read_reason)?;
        let delayed = match version {
            WITH_DELAYED => read_map(&mut cursor, |cursor| cursor.varint())?,
            _ => RangeMap::default(),
        };
        if cursor.remaining() > 0 {
            state.windows = Some(Box::new(Windows::decode(&mut cursor)?));
        }
        cursor.end()?;
        for (from, to, _) in dying.iter() {
            let (from, to) = (Sequence(from), Sequence(to));
            // Dying messages are settled by walking over them: they must be of a level that exists.
            let level = state.level(from.level()).ok_or(MALFORMED)?;
            if to.level() != from.level() || to.number() >= level.next {
                return Err(MALFORMED);
            }
        }
        if !counts.is_empty() || !dying.is_empty() || !delayed.is_empty() {
            let rare = state.rare.get_or_insert_default();
            rare.counts = counts;
            rare.delayed = delayed;
            // The record does not tell their bytes.
            let mean = state.stored_bytes / state.stored.max(1);
            rare.dying_bytes = mean.saturating_mul(dying.len());
            rare.dying = dying;
        }
        Ok(state)
    }
}

fn read_level(cursor: &mut Cursor<'_>) -> Result<Level, WireError> {
    let mut level = Level::new(cursor.u8()?);
    level.next = cursor.varint()?;
    level.mark = cursor.varint()?;
    level.expires_until_ms = cursor.varint()?;
    level.alive = AliveSet::decode(cursor)?;
    let in_order = level.alive.last().is_none_or(|last| last < level.next);
    if level.next == 0
        || level.next > Sequence::MAX_NUMBER
        || level.mark > Sequence::MAX_NUMBER
        || !in_order
    {
        return Err(MALFORMED);
    }
    level.stored = level.next - 1;
    level.storing = level.stored;
    Ok(level)
}

fn put_map<V: Copy + PartialEq>(
    out: &mut BytesMut,
    map: &RangeMap<V>,
    put: impl Fn(&mut BytesMut, V),
) {
    put_varint(out, map.entry_count() as u64);
    let mut end = 0;
    for (from, to, value) in map.iter() {
        put_varint(out, from - end);
        put_varint(out, to - from);
        put(out, value);
        end = to;
    }
}

fn read_map<V: Copy + PartialEq>(
    cursor: &mut Cursor<'_>,
    read: impl Fn(&mut Cursor<'_>) -> Result<V, WireError>,
) -> Result<RangeMap<V>, WireError> {
    let mut map = RangeMap::default();
    let mut end = 0_u64;
    for position in 0..cursor.count(3)? {
        let gap = cursor.varint()?;
        if gap == 0 && position > 0 {
            return Err(MALFORMED);
        }
        let from = end.checked_add(gap).ok_or(MALFORMED)?;
        let to = from
            .checked_add(cursor.varint()?)
            .filter(|to| *to < u64::MAX)
            .ok_or(MALFORMED)?;
        map.insert(from, to, read(cursor)?);
        end = to;
    }
    Ok(map)
}
