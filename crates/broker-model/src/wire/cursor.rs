//! Bounds-checked reading of primitive values, and their writing.

use super::{VERSION, WireError};
use crate::ids::{NodeId, Origin, QueueId, Sequence};
use crate::message::Message;
use crate::op::SequenceRanges;
use bytes::{BufMut, Bytes, BytesMut};
use smallvec::SmallVec;

/// Reads from a shared buffer; what it takes out are slices of that buffer.
#[derive(Debug)]
pub(crate) struct Cursor<'a> {
    whole: &'a Bytes,
    at: usize,
}

impl<'a> Cursor<'a> {
    /// Reads from `at`.
    pub(crate) fn at(whole: &'a Bytes, at: usize) -> Self {
        Self {
            whole,
            at: at.min(whole.len()),
        }
    }

    /// Reads behind the version byte, which must be ours.
    pub(crate) fn versioned(whole: &'a Bytes) -> Result<Self, WireError> {
        let mut cursor = Self::at(whole, 0);
        match cursor.u8()? {
            VERSION => Ok(cursor),
            other => Err(WireError::Version(other)),
        }
    }

    /// Where the next byte is read.
    pub(crate) fn position(&self) -> usize {
        self.at
    }

    /// Bytes not read yet.
    pub(crate) fn remaining(&self) -> usize {
        self.whole.len() - self.at
    }

    /// An error unless everything has been read.
    pub(crate) fn end(&self) -> Result<(), WireError> {
        if self.remaining() == 0 {
            Ok(())
        } else {
            Err(WireError::Malformed("end: trailing bytes"))
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let rest = self.whole.get(self.at..).ok_or(WireError::Truncated)?;
        let array = rest.first_chunk::<N>().ok_or(WireError::Truncated)?;
        self.at += N;
        Ok(*array)
    }

    #[inline]
    pub(crate) fn u8(&mut self) -> Result<u8, WireError> {
        let byte = *self.whole.get(self.at).ok_or(WireError::Truncated)?;
        self.at += 1;
        Ok(byte)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, WireError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, WireError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A LEB128 number.
    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u64, WireError> {
        let first = self.u8()?;
        if first < 0x80 {
            return Ok(u64::from(first));
        }
        self.long_varint(first)
    }

    fn long_varint(&mut self, first: u8) -> Result<u64, WireError> {
        let mut value = u64::from(first & 0x7f);
        let mut shift = 7;
        loop {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(WireError::Malformed("number"));
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
            shift += 7;
            if shift > 63 {
                return Err(WireError::Malformed("number"));
            }
        }
    }

    pub(crate) fn varint_u32(&mut self) -> Result<u32, WireError> {
        u32::try_from(self.varint()?).map_err(|_| WireError::Malformed("number"))
    }

    #[inline]
    pub(crate) fn bool(&mut self) -> Result<bool, WireError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(WireError::Malformed("flag")),
        }
    }

    /// The next `len` bytes, as a slice.
    #[inline]
    pub(crate) fn take(&mut self, len: usize) -> Result<Bytes, WireError> {
        if len > self.remaining() {
            return Err(WireError::Truncated);
        }
        let from = self.at;
        self.at += len;
        // An empty slice needs no share in the buffer.
        Ok(if len == 0 {
            Bytes::new()
        } else {
            self.whole.slice(from..self.at)
        })
    }

    /// Everything left.
    pub(crate) fn rest(&mut self) -> Bytes {
        let rest = self.whole.slice(self.at..);
        self.at = self.whole.len();
        rest
    }

    /// A length and so many bytes.
    #[inline]
    pub(crate) fn bytes(&mut self) -> Result<Bytes, WireError> {
        let len = self.length()?;
        self.take(len)
    }

    /// Steps over a length and so many bytes.
    pub(crate) fn skip_bytes(&mut self) -> Result<(), WireError> {
        let len = self.length()?;
        self.skip(len)
    }

    pub(crate) fn skip(&mut self, len: usize) -> Result<(), WireError> {
        if len > self.remaining() {
            return Err(WireError::Truncated);
        }
        self.at += len;
        Ok(())
    }

    #[inline]
    fn length(&mut self) -> Result<usize, WireError> {
        usize::try_from(self.varint()?).map_err(|_| WireError::Truncated)
    }

    /// A number of elements of at least `min_len` bytes each: what cannot be there is refused before
    /// anything is reserved for it.
    pub(crate) fn count(&mut self, min_len: usize) -> Result<usize, WireError> {
        let count = self.length()?;
        if count > self.remaining() / min_len.max(1) {
            return Err(WireError::Truncated);
        }
        Ok(count)
    }

    #[inline]
    pub(crate) fn queue(&mut self) -> Result<QueueId, WireError> {
        Ok(QueueId(self.u64()?))
    }

    pub(crate) fn origin(&mut self) -> Result<Origin, WireError> {
        Ok(Origin {
            node: NodeId(self.varint()?),
            incarnation: self.varint()?,
        })
    }

    #[inline]
    pub(crate) fn message(&mut self) -> Result<Message, WireError> {
        Ok(Message {
            exchange: self.bytes()?,
            routing_key: self.bytes()?,
            properties: self.bytes()?,
            body: self.bytes()?,
        })
    }

    pub(crate) fn skip_message(&mut self) -> Result<(), WireError> {
        for _ in 0..4 {
            self.skip_bytes()?;
        }
        Ok(())
    }

    #[inline]
    pub(crate) fn range(&mut self) -> Result<(Sequence, Sequence), WireError> {
        let from = self.varint()?;
        let to = from
            .checked_add(self.varint()?)
            .ok_or(WireError::Malformed("range"))?;
        Ok((Sequence(from), Sequence(to)))
    }

    #[inline]
    pub(crate) fn ranges(&mut self) -> Result<SequenceRanges, WireError> {
        let count = self.count(2)?;
        let mut ranges = SmallVec::with_capacity(count);
        for _ in 0..count {
            ranges.push(self.range()?);
        }
        Ok(ranges)
    }

    pub(crate) fn skip_ranges(&mut self) -> Result<(), WireError> {
        for _ in 0..self.count(2)? {
            self.range()?;
        }
        Ok(())
    }
}

pub(crate) fn put_varint(out: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

pub(super) fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.put_slice(bytes);
}

pub(super) fn put_bool(out: &mut BytesMut, flag: bool) {
    out.put_u8(u8::from(flag));
}

pub(super) fn put_origin(out: &mut BytesMut, origin: Origin) {
    put_varint(out, origin.node.0);
    put_varint(out, origin.incarnation);
}

pub(super) fn put_message(out: &mut BytesMut, message: &Message) {
    // One growth at most: four lengths of at most ten bytes.
    let len = message.exchange.len()
        + message.routing_key.len()
        + message.properties.len()
        + message.body.len();
    out.reserve(len + 40);
    put_bytes(out, &message.exchange);
    put_bytes(out, &message.routing_key);
    put_bytes(out, &message.properties);
    put_bytes(out, &message.body);
}

pub(super) fn put_ranges(out: &mut BytesMut, ranges: &[(Sequence, Sequence)]) {
    put_varint(out, ranges.len() as u64);
    for (from, to) in ranges {
        put_varint(out, from.0);
        // A range that ends before it starts names its start only.
        put_varint(out, to.0.saturating_sub(from.0));
    }
}
