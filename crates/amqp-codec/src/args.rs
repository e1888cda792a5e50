//! Reading and writing the primitive values of method arguments and properties.
//!
//! Consecutive bits share an octet, lowest bit first; any other value starts a new octet.

use bytes::{BufMut, Bytes, BytesMut};

use crate::error::ValueError;
use crate::short_str::ShortStr;
use crate::table::FieldTable;

/// Reads values off the front of a slice of `source`.
pub(crate) struct ArgReader<'a> {
    source: &'a Bytes,
    rest: &'a [u8],
    bits: u8,
    bits_left: u8,
}

impl<'a> ArgReader<'a> {
    /// Reads `rest`, which must be a part of `source`.
    pub(crate) fn new(source: &'a Bytes, rest: &'a [u8]) -> Self {
        Self {
            source,
            rest,
            bits: 0,
            bits_left: 0,
        }
    }

    /// Everything must have been read.
    pub(crate) fn finish(self) -> Result<(), ValueError> {
        match self.rest.len() {
            0 => Ok(()),
            count => Err(ValueError::TrailingBytes { count }),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ValueError> {
        self.bits_left = 0;
        take_array(&mut self.rest)
    }

    fn bit(&mut self) -> Result<bool, ValueError> {
        if self.bits_left == 0 {
            [self.bits] = self.array()?;
            self.bits_left = 8;
        }
        let bit = self.bits & 1 != 0;
        self.bits >>= 1;
        self.bits_left -= 1;
        Ok(bit)
    }

    fn slice(&mut self, len: usize) -> Result<&'a [u8], ValueError> {
        self.bits_left = 0;
        take_slice(&mut self.rest, len)
    }

    fn bytes(&mut self, len: usize) -> Result<Bytes, ValueError> {
        let slice = self.slice(len)?;
        Ok(self.source.slice_ref(slice))
    }
}

/// Takes a fixed number of bytes off the front.
pub(crate) fn take_array<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], ValueError> {
    let (head, tail) = rest.split_first_chunk::<N>().ok_or(ValueError::Truncated)?;
    *rest = tail;
    Ok(*head)
}

/// Takes `len` bytes off the front.
pub(crate) fn take_slice<'a>(rest: &mut &'a [u8], len: usize) -> Result<&'a [u8], ValueError> {
    let (head, tail) = rest.split_at_checked(len).ok_or(ValueError::Truncated)?;
    *rest = tail;
    Ok(head)
}

/// Takes a length of one octet and as many bytes.
pub(crate) fn take_short<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], ValueError> {
    let [len] = take_array(rest)?;
    take_slice(rest, usize::from(len))
}

/// Takes a length of four octets and as many bytes.
pub(crate) fn take_long<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], ValueError> {
    let len = u32::from_be_bytes(take_array(rest)?);
    take_slice(rest, len as usize)
}

/// Writes values, packing consecutive bits.
pub(crate) struct ArgWriter<'a> {
    out: &'a mut BytesMut,
    bits: u8,
    bit_count: u8,
}

impl<'a> ArgWriter<'a> {
    pub(crate) fn new(out: &'a mut BytesMut) -> Self {
        Self {
            out,
            bits: 0,
            bit_count: 0,
        }
    }

    /// Writes what is left of packed bits.
    pub(crate) fn finish(mut self) {
        self.flush_bits();
    }

    fn flush_bits(&mut self) {
        if self.bit_count > 0 {
            self.out.put_u8(self.bits);
            self.bits = 0;
            self.bit_count = 0;
        }
    }

    fn bit(&mut self, bit: bool) {
        if self.bit_count == 8 {
            self.flush_bits();
        }
        self.bits |= u8::from(bit) << self.bit_count;
        self.bit_count += 1;
    }

    fn put(&mut self, bytes: &[u8]) {
        self.flush_bits();
        self.out.put_slice(bytes);
    }
}

/// A value that stands in method arguments.
pub(crate) trait Argument: Sized {
    fn read(reader: &mut ArgReader<'_>) -> Result<Self, ValueError>;
    fn write(&self, writer: &mut ArgWriter<'_>);
}

impl Argument for bool {
    fn read(reader: &mut ArgReader<'_>) -> Result<Self, ValueError> {
        reader.bit()
    }

    fn write(&self, writer: &mut ArgWriter<'_>) {
        writer.bit(*self);
    }
}

macro_rules! integer_argument {
    ($($integer:ty),*) => {$(
        impl Argument for $integer {
            fn read(reader: &mut ArgReader<'_>) -> Result<Self, ValueError> {
                Ok(Self::from_be_bytes(reader.array()?))
            }

            fn write(&self, writer: &mut ArgWriter<'_>) {
                writer.put(&self.to_be_bytes());
            }
        }
    )*};
}

integer_argument!(u8, u16, u32, u64);

impl Argument for ShortStr {
    fn read(reader: &mut ArgReader<'_>) -> Result<Self, ValueError> {
        let [len] = reader.array()?;
        Self::from_utf8(reader.bytes(usize::from(len))?)
    }

    fn write(&self, writer: &mut ArgWriter<'_>) {
        writer.flush_bits();
        put_short(writer.out, self.as_bytes());
    }
}

impl Argument for Bytes {
    fn read(reader: &mut ArgReader<'_>) -> Result<Self, ValueError> {
        let len = u32::from_be_bytes(reader.array()?);
        reader.bytes(len as usize)
    }

    fn write(&self, writer: &mut ArgWriter<'_>) {
        writer.flush_bits();
        put_long(writer.out, self);
    }
}

impl Argument for FieldTable {
    fn read(reader: &mut ArgReader<'_>) -> Result<Self, ValueError> {
        Self::from_raw(Bytes::read(reader)?)
    }

    fn write(&self, writer: &mut ArgWriter<'_>) {
        self.raw().write(writer);
    }
}

/// Writes a length octet and the bytes; more than 255 are cut (a [`ShortStr`] never has more).
pub(crate) fn put_short(out: &mut BytesMut, bytes: &[u8]) {
    let len = u8::try_from(bytes.len()).unwrap_or(u8::MAX);
    out.put_u8(len);
    out.put_slice(bytes.get(..usize::from(len)).unwrap_or_default());
}

/// Writes four length octets and the bytes; what a length of 32 bits cannot express is cut.
pub(crate) fn put_long(out: &mut BytesMut, bytes: &[u8]) {
    let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    out.put_u32(len);
    out.put_slice(bytes.get(..len as usize).unwrap_or_default());
}
