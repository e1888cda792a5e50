//! The first segment of an entry.

use super::cursor::put_origin;
use super::ops::{put_op, read_op};
use super::{Cursor, VERSION, WireError, put_varint};
use crate::op::{BatchHead, EntryHead, Refusal};
use bytes::{BufMut, Bytes, BytesMut};

/// Encodes the first segment of an entry.
#[must_use]
pub fn encode_entry_head(head: &EntryHead) -> Bytes {
    let mut out = BytesMut::with_capacity(16 + 32 * (head.batches.len() + head.leader_ops.len()));
    out.put_u8(VERSION);
    put_varint(&mut out, head.now_ms);
    put_varint(&mut out, head.batches.len() as u64);
    for batch in &head.batches {
        put_batch_head(&mut out, batch);
    }
    put_varint(&mut out, head.leader_ops.len() as u64);
    for op in &head.leader_ops {
        put_op(&mut out, op);
    }
    put_varint(&mut out, head.refusals.len() as u64);
    for refusal in &head.refusals {
        put_varint(&mut out, u64::from(refusal.batch));
        put_varint(&mut out, u64::from(refusal.op));
        out.put_u64_le(refusal.queue.0);
    }
    out.freeze()
}

/// Decodes the first segment of an entry.
///
/// # Errors
/// The bytes are not one.
pub fn decode_entry_head(bytes: &Bytes) -> Result<EntryHead, WireError> {
    let mut cursor = Cursor::versioned(bytes)?;
    let now_ms = cursor.varint()?;
    let count = cursor.count(5)?;
    let mut batches = Vec::with_capacity(count);
    for _ in 0..count {
        batches.push(read_batch_head(&mut cursor)?);
    }
    // In memory an operation is many times its smallest encoding: grow as the input proves itself.
    let mut leader_ops = Vec::new();
    for _ in 0..cursor.count(9)? {
        leader_ops.push(read_op(&mut cursor)?);
    }
    let count = cursor.count(10)?;
    let mut refusals = Vec::with_capacity(count);
    for _ in 0..count {
        refusals.push(Refusal {
            batch: cursor.varint_u32()?,
            op: cursor.varint_u32()?,
            queue: cursor.queue()?,
        });
    }
    cursor.end()?;
    Ok(EntryHead {
        now_ms,
        batches,
        leader_ops,
        refusals,
    })
}

pub(super) fn put_batch_head(out: &mut BytesMut, head: &BatchHead) {
    put_origin(out, head.origin);
    put_varint(out, head.previous);
    put_varint(out, head.number);
    put_varint(out, head.answered);
}

pub(super) fn read_batch_head(cursor: &mut Cursor<'_>) -> Result<BatchHead, WireError> {
    Ok(BatchHead {
        origin: cursor.origin()?,
        previous: cursor.varint()?,
        number: cursor.varint()?,
        answered: cursor.varint()?,
    })
}
