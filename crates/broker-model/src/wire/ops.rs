//! Operations: `version u8, count u32, op …`.

use super::cursor::{put_bool, put_message, put_ranges};
use super::{Cursor, VERSION, WireError, put_varint};
use crate::identity::{Fingerprint, Identity, WindowId};
use crate::ids::Sequence;
use crate::message::Message;
use crate::op::{DeathReason, Op, Target};
use bytes::{BufMut, Bytes, BytesMut};
use smallvec::SmallVec;

/// Version byte and count.
const HEADER_LEN: usize = 5;

const PUBLISH: u8 = 1;
const SETTLE: u8 = 2;
const KILL: u8 = 3;
const RETURN: u8 = 4;
const DELETE: u8 = 5;
const MARK: u8 = 6;
const PASS_ON: u8 = 7;
const DELAY: u8 = 8;

/// Queue, level, flag.
const TARGET_MIN_LEN: usize = 10;

/// Flags of a target: a time to live follows, identities follow.
const HAS_TTL: u8 = 1;
const HAS_IDENTITIES: u8 = 2;

/// Window, fingerprint, size, flag.
const IDENTITY_MIN_LEN: usize = 26;

/// Encodes operations one after the other.
#[derive(Debug)]
pub struct OpsWriter {
    out: BytesMut,
    count: u32,
}

impl Default for OpsWriter {
    fn default() -> Self {
        Self::new()
    }
}

impl OpsWriter {
    /// An empty writer.
    #[must_use]
    pub fn new() -> Self {
        Self::with_capacity(256)
    }

    /// An empty writer with room for `capacity` bytes.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        let mut out = BytesMut::with_capacity(capacity.max(HEADER_LEN));
        out.put_u8(VERSION);
        out.put_u32_le(0);
        Self { out, count: 0 }
    }

    /// Appends an operation.
    pub fn push(&mut self, op: &Op) {
        put_op(&mut self.out, op);
        self.count += 1;
    }

    /// Appends all operations of a finished encoding, unparsed. Returns their number.
    ///
    /// # Errors
    /// It has not the form of one.
    pub fn append(&mut self, ops: &Bytes) -> Result<u32, WireError> {
        let mut cursor = Cursor::versioned(ops)?;
        let count = cursor.u32()?;
        let sum = self
            .count
            .checked_add(count)
            .ok_or(WireError::Malformed("count"))?;
        let encoded = ops.get(HEADER_LEN..).ok_or(WireError::Truncated)?;
        self.out.put_slice(encoded);
        self.count = sum;
        Ok(count)
    }

    /// Operations so far.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Encoded bytes so far.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.out.len()
    }

    /// Nothing was pushed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The encoding.
    #[must_use]
    pub fn finish(mut self) -> Bytes {
        if let Some(count) = self.out.get_mut(1..HEADER_LEN) {
            count.copy_from_slice(&self.count.to_le_bytes());
        }
        self.out.freeze()
    }
}

/// Iterates over encoded operations; everything in them is a slice of the input. Ends after the
/// first error.
#[derive(Debug)]
pub struct OpsReader {
    ops: Bytes,
    at: usize,
    /// Operations to come; `None` before the header is read.
    left: Option<u32>,
    done: bool,
}

impl OpsReader {
    /// Starts to read.
    #[must_use]
    pub fn new(ops: Bytes) -> Self {
        Self {
            ops,
            at: 0,
            left: None,
            done: false,
        }
    }

    #[inline]
    fn step(&mut self) -> Result<Option<Op>, WireError> {
        let left = match self.left {
            Some(left) => left,
            None => {
                let mut cursor = Cursor::versioned(&self.ops)?;
                let count = cursor.u32()?;
                self.at = cursor.position();
                count
            }
        };
        let mut cursor = Cursor::at(&self.ops, self.at);
        if left == 0 {
            cursor.end()?;
            self.done = true;
            return Ok(None);
        }
        let op = read_op(&mut cursor)?;
        self.at = cursor.position();
        self.left = Some(left - 1);
        Ok(Some(op))
    }
}

impl Iterator for OpsReader {
    type Item = Result<Op, WireError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        match self.step() {
            Ok(op) => op.map(Ok),
            Err(error) => {
                self.done = true;
                Some(Err(error))
            }
        }
    }
}

/// Calls `each` with every operation and its position, as [`OpsReader`] does, but without handing
/// them through an iterator: the hot path of `apply`.
pub(crate) fn each_op(ops: &Bytes, mut each: impl FnMut(usize, Op)) -> Result<(), WireError> {
    let mut cursor = Cursor::versioned(ops)?;
    let count = cursor.u32()?;
    for position in 0..count {
        let op = read_op(&mut cursor)?;
        each(position as usize, op);
    }
    cursor.end()
}

/// Walks through encoded operations without building them: what a leader does before it proposes
/// bytes of another node, so that nothing unreadable gets into the log. Returns their number.
///
/// # Errors
/// They cannot be read.
pub fn validate_ops(ops: &Bytes) -> Result<u32, WireError> {
    let mut cursor = Cursor::versioned(ops)?;
    let count = cursor.u32()?;
    for _ in 0..count {
        skip_op(&mut cursor)?;
    }
    cursor.end()?;
    Ok(count)
}

/// Whether encoded operations settle messages and do nothing else: nobody waits for their outcome. What cannot be
/// read does not.
#[must_use]
pub fn only_settles(ops: &Bytes) -> bool {
    let settles = |ops: &Bytes| -> Result<bool, WireError> {
        let mut cursor = Cursor::versioned(ops)?;
        for _ in 0..cursor.u32()? {
            if cursor.u8()? != SETTLE {
                return Ok(false);
            }
            cursor.queue()?;
            cursor.skip_ranges()?;
        }
        Ok(true)
    };
    settles(ops).unwrap_or(false)
}

pub(super) fn put_op(out: &mut BytesMut, op: &Op) {
    match op {
        Op::Publish { targets, message } => {
            out.put_u8(PUBLISH);
            put_append(out, targets, message);
        }
        Op::PassOn {
            from,
            sequence,
            targets,
            message,
        } => {
            out.put_u8(PASS_ON);
            out.put_u64_le(from.0);
            out.put_u64_le(sequence.0);
            put_append(out, targets, message);
        }
        Op::Settle { queue, sequences } => {
            out.put_u8(SETTLE);
            out.put_u64_le(queue.0);
            put_ranges(out, sequences);
        }
        Op::Kill {
            queue,
            sequences,
            reason,
            dead_letter,
        } => {
            out.put_u8(KILL);
            out.put_u64_le(queue.0);
            out.put_u8(reason_code(*reason));
            put_bool(out, *dead_letter);
            put_ranges(out, sequences);
        }
        Op::Return {
            queue,
            sequences,
            counted,
        } => {
            out.put_u8(RETURN);
            out.put_u64_le(queue.0);
            put_bool(out, *counted);
            put_ranges(out, sequences);
        }
        Op::Delay {
            queue,
            sequences,
            until_ms,
        } => {
            out.put_u8(DELAY);
            out.put_u64_le(queue.0);
            put_varint(out, *until_ms);
            put_ranges(out, sequences);
        }
        Op::Delete { queue } => {
            out.put_u8(DELETE);
            out.put_u64_le(queue.0);
        }
        Op::Mark { queue, upto } => {
            out.put_u8(MARK);
            out.put_u64_le(queue.0);
            out.put_u64_le(upto.0);
        }
    }
}

#[inline]
pub(super) fn read_op(cursor: &mut Cursor<'_>) -> Result<Op, WireError> {
    Ok(match cursor.u8()? {
        PUBLISH => Op::Publish {
            targets: read_targets(cursor)?,
            message: cursor.message()?,
        },
        PASS_ON => Op::PassOn {
            from: cursor.queue()?,
            sequence: Sequence(cursor.u64()?),
            targets: read_targets(cursor)?,
            message: cursor.message()?,
        },
        SETTLE => Op::Settle {
            queue: cursor.queue()?,
            sequences: cursor.ranges()?,
        },
        KILL => Op::Kill {
            queue: cursor.queue()?,
            reason: read_reason(cursor)?,
            dead_letter: cursor.bool()?,
            sequences: cursor.ranges()?,
        },
        RETURN => Op::Return {
            queue: cursor.queue()?,
            counted: cursor.bool()?,
            sequences: cursor.ranges()?,
        },
        DELAY => Op::Delay {
            queue: cursor.queue()?,
            until_ms: cursor.varint()?,
            sequences: cursor.ranges()?,
        },
        DELETE => Op::Delete {
            queue: cursor.queue()?,
        },
        MARK => Op::Mark {
            queue: cursor.queue()?,
            upto: Sequence(cursor.u64()?),
        },
        _ => return Err(WireError::Malformed("operation")),
    })
}

fn skip_op(cursor: &mut Cursor<'_>) -> Result<(), WireError> {
    match cursor.u8()? {
        PUBLISH => skip_append(cursor),
        PASS_ON => {
            cursor.queue()?;
            cursor.u64()?;
            skip_append(cursor)
        }
        SETTLE => {
            cursor.queue()?;
            cursor.skip_ranges()
        }
        KILL => {
            cursor.queue()?;
            read_reason(cursor)?;
            cursor.bool()?;
            cursor.skip_ranges()
        }
        RETURN => {
            cursor.queue()?;
            cursor.bool()?;
            cursor.skip_ranges()
        }
        DELAY => {
            cursor.queue()?;
            cursor.varint()?;
            cursor.skip_ranges()
        }
        DELETE => cursor.queue().map(drop),
        MARK => {
            cursor.queue()?;
            cursor.u64().map(drop)
        }
        _ => Err(WireError::Malformed("operation")),
    }
}

fn skip_append(cursor: &mut Cursor<'_>) -> Result<(), WireError> {
    for _ in 0..cursor.count(TARGET_MIN_LEN)? {
        read_target(cursor)?;
    }
    cursor.skip_message()
}

fn put_append(out: &mut BytesMut, targets: &[Target], message: &Message) {
    put_varint(out, targets.len() as u64);
    for target in targets {
        put_target(out, target);
    }
    put_message(out, message);
}

#[inline]
fn read_targets(cursor: &mut Cursor<'_>) -> Result<SmallVec<[Target; 1]>, WireError> {
    let count = cursor.count(TARGET_MIN_LEN)?;
    let mut targets = SmallVec::with_capacity(count);
    for _ in 0..count {
        targets.push(read_target(cursor)?);
    }
    Ok(targets)
}

fn put_target(out: &mut BytesMut, target: &Target) {
    out.put_u64_le(target.queue.0);
    out.put_u8(target.level);
    let mut flags = 0;
    if target.ttl_ms.is_some() {
        flags |= HAS_TTL;
    }
    if !target.identities.is_empty() {
        flags |= HAS_IDENTITIES;
    }
    out.put_u8(flags);
    if let Some(ttl_ms) = target.ttl_ms {
        put_varint(out, ttl_ms);
    }
    if target.identities.is_empty() {
        return;
    }
    put_varint(out, target.identities.len() as u64);
    for identity in &target.identities {
        out.put_u64_le(identity.window.0);
        out.put_u64_le(identity.fingerprint.0);
        out.put_u64_le(identity.fingerprint.1);
        put_varint(out, u64::from(identity.cache_size));
        put_bool(out, identity.cache_ttl_ms.is_some());
        if let Some(ttl_ms) = identity.cache_ttl_ms {
            put_varint(out, ttl_ms);
        }
    }
}

#[inline]
fn read_target(cursor: &mut Cursor<'_>) -> Result<Target, WireError> {
    let (queue, level, flags) = (cursor.queue()?, cursor.u8()?, cursor.u8()?);
    if flags & !(HAS_TTL | HAS_IDENTITIES) != 0 {
        return Err(WireError::Malformed("flags of a target"));
    }
    Ok(Target {
        queue,
        level,
        ttl_ms: if flags & HAS_TTL != 0 {
            Some(cursor.varint()?)
        } else {
            None
        },
        identities: if flags & HAS_IDENTITIES != 0 {
            read_identities(cursor)?
        } else {
            Box::default()
        },
    })
}

fn read_identities(cursor: &mut Cursor<'_>) -> Result<Box<[Identity]>, WireError> {
    let count = cursor.count(IDENTITY_MIN_LEN)?;
    if count == 0 {
        return Err(WireError::Malformed("identities of a target"));
    }
    let mut identities = Vec::with_capacity(count);
    for _ in 0..count {
        identities.push(Identity {
            window: WindowId(cursor.u64()?),
            fingerprint: Fingerprint(cursor.u64()?, cursor.u64()?),
            cache_size: cursor.varint_u32()?,
            cache_ttl_ms: if cursor.bool()? {
                Some(cursor.varint()?)
            } else {
                None
            },
        });
    }
    Ok(identities.into())
}

/// The stored number of a reason.
pub(crate) const fn reason_code(reason: DeathReason) -> u8 {
    match reason {
        DeathReason::Rejected => 1,
        DeathReason::Expired => 2,
        DeathReason::MaxLength => 3,
        DeathReason::DeliveryLimit => 4,
    }
}

/// Reads what [`reason_code`] gives.
pub(crate) fn read_reason(cursor: &mut Cursor<'_>) -> Result<DeathReason, WireError> {
    Ok(match cursor.u8()? {
        1 => DeathReason::Rejected,
        2 => DeathReason::Expired,
        3 => DeathReason::MaxLength,
        4 => DeathReason::DeliveryLimit,
        _ => return Err(WireError::Malformed("death reason")),
    })
}
