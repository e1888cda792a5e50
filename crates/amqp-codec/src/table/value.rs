//! Values of field tables: the letters of the RabbitMQ dialect.

use bytes::Bytes;

use super::{FieldArray, FieldTable, MAX_NESTING, check_table};
use crate::args::{take_array, take_long, take_slice};
use crate::error::ValueError;

/// A value with its type. The two letters for a 64-bit integer are told apart, so that a value is
/// written as it was read.
#[derive(Debug, Clone, PartialEq)]
pub enum FieldValue {
    /// `t`
    Bool(bool),
    /// `b`
    I8(i8),
    /// `B`
    U8(u8),
    /// `s`: a number in this dialect, not a short string.
    I16(i16),
    /// `u`
    U16(u16),
    /// `I`
    I32(i32),
    /// `i`
    U32(u32),
    /// `l`
    I64(i64),
    /// `L`: the same number under a letter that is only ever received.
    I64Upper(i64),
    /// `f`
    F32(f32),
    /// `d`
    F64(f64),
    /// `D`: value divided by ten to the power of scale.
    Decimal {
        /// Decimal digits after the point.
        scale: u8,
        /// All digits.
        value: u32,
    },
    /// `S`: raw bytes, not necessarily text.
    LongStr(Bytes),
    /// `A`
    Array(FieldArray),
    /// `T`: seconds since the epoch.
    Timestamp(u64),
    /// `F`
    Table(FieldTable),
    /// `x`
    ByteArray(Bytes),
    /// `V`
    Void,
}

impl FieldValue {
    /// A long string.
    #[must_use]
    pub fn text(text: &str) -> Self {
        Self::LongStr(Bytes::copy_from_slice(text.as_bytes()))
    }

    /// The letter on the wire.
    #[must_use]
    pub fn letter(&self) -> u8 {
        match self {
            Self::Bool(_) => b't',
            Self::I8(_) => b'b',
            Self::U8(_) => b'B',
            Self::I16(_) => b's',
            Self::U16(_) => b'u',
            Self::I32(_) => b'I',
            Self::U32(_) => b'i',
            Self::I64(_) => b'l',
            Self::I64Upper(_) => b'L',
            Self::F32(_) => b'f',
            Self::F64(_) => b'd',
            Self::Decimal { .. } => b'D',
            Self::LongStr(_) => b'S',
            Self::Array(_) => b'A',
            Self::Timestamp(_) => b'T',
            Self::Table(_) => b'F',
            Self::ByteArray(_) => b'x',
            Self::Void => b'V',
        }
    }

    /// The name of the type in error texts, as RabbitMQ spells it.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Bool(_) => "bool",
            Self::I8(_) => "byte",
            Self::U8(_) => "unsignedbyte",
            Self::I16(_) => "short",
            Self::U16(_) => "unsignedshort",
            Self::I32(_) => "signedint",
            Self::U32(_) => "unsignedint",
            Self::I64(_) | Self::I64Upper(_) => "long",
            Self::F32(_) => "float",
            Self::F64(_) => "double",
            Self::Decimal { .. } => "decimal",
            Self::LongStr(_) => "longstr",
            Self::Array(_) => "array",
            Self::Timestamp(_) => "timestamp",
            Self::Table(_) => "table",
            Self::ByteArray(_) => "binary",
            Self::Void => "void",
        }
    }

    /// The number, if it is an integer of any width.
    #[must_use]
    pub fn as_integer(&self) -> Option<i64> {
        match self {
            Self::I8(value) => Some(i64::from(*value)),
            Self::U8(value) => Some(i64::from(*value)),
            Self::I16(value) => Some(i64::from(*value)),
            Self::U16(value) => Some(i64::from(*value)),
            Self::I32(value) => Some(i64::from(*value)),
            Self::U32(value) => Some(i64::from(*value)),
            Self::I64(value) | Self::I64Upper(value) => Some(*value),
            _ => None,
        }
    }

    /// The truth value, if it is one.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// The bytes of a long string.
    #[must_use]
    pub fn as_long_str(&self) -> Option<&Bytes> {
        match self {
            Self::LongStr(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The text of a long string, if it is one and UTF-8.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        self.as_long_str()
            .and_then(|bytes| std::str::from_utf8(bytes).ok())
    }

    /// The nested table, if it is one.
    #[must_use]
    pub fn as_table(&self) -> Option<&FieldTable> {
        match self {
            Self::Table(table) => Some(table),
            _ => None,
        }
    }

    /// The array, if it is one.
    #[must_use]
    pub fn as_array(&self) -> Option<&FieldArray> {
        match self {
            Self::Array(array) => Some(array),
            _ => None,
        }
    }

    /// Equal in meaning: integers by their number whatever their width, floats by their number
    /// whatever their width, all else of the same type with the same value.
    #[must_use]
    pub fn equivalent(&self, other: &Self) -> bool {
        if let (Some(a), Some(b)) = (self.as_integer(), other.as_integer()) {
            return a == b;
        }
        match (self, other) {
            (Self::F32(a), Self::F64(b)) | (Self::F64(b), Self::F32(a)) => f64::from(*a) == *b,
            (Self::Array(a), Self::Array(b)) => {
                // Nesting is bounded, so this recursion is as well.
                a.iter().count() == b.iter().count()
                    && a.iter().zip(b.iter()).all(|(a, b)| a.equivalent(&b))
            }
            (Self::Table(a), Self::Table(b)) => {
                a.iter().count() == b.iter().count()
                    && a.iter().zip(b).all(|(a, b)| {
                        a.key_bytes() == b.key_bytes() && a.value().equivalent(&b.value())
                    })
            }
            (a, b) => a == b,
        }
    }
}

/// Takes letter and value off the front of `rest`, a part of `source` that has been checked.
pub(super) fn read_value(source: &Bytes, rest: &mut &[u8]) -> Result<FieldValue, ValueError> {
    let [letter] = take_array(rest)?;
    Ok(match letter {
        b't' => FieldValue::Bool(u8::from_be_bytes(take_array(rest)?) != 0),
        b'b' => FieldValue::I8(i8::from_be_bytes(take_array(rest)?)),
        b'B' => FieldValue::U8(u8::from_be_bytes(take_array(rest)?)),
        b's' => FieldValue::I16(i16::from_be_bytes(take_array(rest)?)),
        b'u' => FieldValue::U16(u16::from_be_bytes(take_array(rest)?)),
        b'I' => FieldValue::I32(i32::from_be_bytes(take_array(rest)?)),
        b'i' => FieldValue::U32(u32::from_be_bytes(take_array(rest)?)),
        b'l' => FieldValue::I64(i64::from_be_bytes(take_array(rest)?)),
        b'L' => FieldValue::I64Upper(i64::from_be_bytes(take_array(rest)?)),
        b'f' => FieldValue::F32(f32::from_be_bytes(take_array(rest)?)),
        b'd' => FieldValue::F64(f64::from_be_bytes(take_array(rest)?)),
        b'D' => FieldValue::Decimal {
            scale: u8::from_be_bytes(take_array(rest)?),
            value: u32::from_be_bytes(take_array(rest)?),
        },
        b'S' => FieldValue::LongStr(source.slice_ref(take_long(rest)?)),
        b'A' => FieldValue::Array(FieldArray::from_checked(source.slice_ref(take_long(rest)?))),
        b'T' => FieldValue::Timestamp(u64::from_be_bytes(take_array(rest)?)),
        b'F' => FieldValue::Table(FieldTable::from_checked(source.slice_ref(take_long(rest)?))),
        b'x' => FieldValue::ByteArray(source.slice_ref(take_long(rest)?)),
        b'V' => FieldValue::Void,
        _ => {
            return Err(ValueError::UnknownFieldKind {
                letter: char::from(letter),
            });
        }
    })
}

/// Takes letter and value off the front without looking into tables and arrays.
pub(super) fn skip_value(rest: &mut &[u8]) -> Result<(), ValueError> {
    let [letter] = take_array(rest)?;
    skip_after_letter(letter, rest).map(|_| ())
}

/// Takes the value after its letter and returns its bytes, without the length in front if it has one.
fn skip_after_letter<'a>(letter: u8, rest: &mut &'a [u8]) -> Result<&'a [u8], ValueError> {
    match letter {
        b't' | b'b' | b'B' => take_slice(rest, 1),
        b's' | b'u' => take_slice(rest, 2),
        b'I' | b'i' | b'f' => take_slice(rest, 4),
        b'l' | b'L' | b'd' | b'T' => take_slice(rest, 8),
        b'D' => take_slice(rest, 5),
        b'S' | b'A' | b'F' | b'x' => take_long(rest),
        b'V' => Ok(&[]),
        _ => Err(ValueError::UnknownFieldKind {
            letter: char::from(letter),
        }),
    }
}

/// Checks the value at the front of `rest`, which lies `depth` levels deep, and takes it off.
pub(super) fn check_value(rest: &mut &[u8], depth: usize) -> Result<(), ValueError> {
    let [letter] = take_array(rest)?;
    let mut inner = skip_after_letter(letter, rest)?;
    match letter {
        b'A' | b'F' if depth >= MAX_NESTING => Err(ValueError::NestingTooDeep),
        b'F' => check_table(inner, depth + 1),
        b'A' => {
            while !inner.is_empty() {
                check_value(&mut inner, depth + 1)?;
            }
            Ok(())
        }
        _ => Ok(()),
    }
}
