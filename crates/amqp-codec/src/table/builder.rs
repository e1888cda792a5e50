//! Writing field tables, from nothing or from a received one whose other entries stay as they are.

use bytes::{BufMut, BytesMut};

use super::{FieldTable, FieldValue};
use crate::args::{put_long, put_short};

/// Writes a table entry by entry.
#[derive(Debug, Default)]
pub struct TableBuilder {
    raw: BytesMut,
}

impl TableBuilder {
    /// A table without entries.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A table with the entries of `table`, byte for byte.
    #[must_use]
    pub fn from_table(table: &FieldTable) -> Self {
        Self {
            raw: BytesMut::from(table.raw().as_ref()),
        }
    }

    /// A table with the entries of `table` but those under one of `keys`.
    #[must_use]
    pub fn from_table_without(table: &FieldTable, keys: &[&str]) -> Self {
        let mut builder = Self::new();
        for entry in table {
            if !keys.iter().any(|key| key.as_bytes() == entry.key_bytes()) {
                put_short(&mut builder.raw, entry.key_bytes());
                builder.raw.put_slice(entry.value_bytes());
            }
        }
        builder
    }

    /// Appends an entry; a key of more than 255 bytes is cut.
    pub fn push(&mut self, key: &str, value: &FieldValue) -> &mut Self {
        put_short(&mut self.raw, key.as_bytes());
        put_value(&mut self.raw, value);
        self
    }

    /// Replaces the value under `key` where it stands, or appends it.
    pub fn set(&mut self, key: &str, value: &FieldValue) -> &mut Self {
        let old = FieldTable::from_checked(self.raw.split().freeze());
        let mut written = false;
        for entry in &old {
            if entry.key_bytes() != key.as_bytes() {
                put_short(&mut self.raw, entry.key_bytes());
                self.raw.put_slice(entry.value_bytes());
            } else if !written {
                self.push(key, value);
                written = true;
            }
        }
        if !written {
            self.push(key, value);
        }
        self
    }

    /// The table.
    #[must_use]
    pub fn finish(&mut self) -> FieldTable {
        FieldTable::from_checked(self.raw.split().freeze())
    }
}

/// Appends letter and value.
pub(super) fn put_value(out: &mut BytesMut, value: &FieldValue) {
    out.put_u8(value.letter());
    match value {
        FieldValue::Bool(value) => out.put_u8(u8::from(*value)),
        FieldValue::I8(value) => out.put_i8(*value),
        FieldValue::U8(value) => out.put_u8(*value),
        FieldValue::I16(value) => out.put_i16(*value),
        FieldValue::U16(value) => out.put_u16(*value),
        FieldValue::I32(value) => out.put_i32(*value),
        FieldValue::U32(value) => out.put_u32(*value),
        FieldValue::I64(value) | FieldValue::I64Upper(value) => out.put_i64(*value),
        FieldValue::F32(value) => out.put_f32(*value),
        FieldValue::F64(value) => out.put_f64(*value),
        FieldValue::Decimal { scale, value } => {
            out.put_u8(*scale);
            out.put_u32(*value);
        }
        FieldValue::LongStr(bytes) | FieldValue::ByteArray(bytes) => put_long(out, bytes),
        FieldValue::Array(array) => put_long(out, array.raw()),
        FieldValue::Timestamp(value) => out.put_u64(*value),
        FieldValue::Table(table) => put_long(out, table.raw()),
        FieldValue::Void => {}
    }
}
