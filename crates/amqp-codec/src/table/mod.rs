//! Field tables: named, typed values in method arguments and message headers.
//!
//! A table stays the bytes that were received, checked once; entries are parsed when somebody looks
//! at them. So a header that is only passed on keeps its letters, its order and its bytes.
//!
//! Not here: which entries have a meaning (`x-` arguments, `CC`, `x-match` …).

mod builder;
mod value;

use std::fmt;

use bytes::Bytes;

use crate::args::take_short;
use crate::error::ValueError;
use crate::short_str::ShortStr;

pub use builder::TableBuilder;
pub use value::FieldValue;
use value::{check_value, read_value, skip_value};

/// How deep tables and arrays may be nested, so that no input can exhaust the stack.
pub const MAX_NESTING: usize = 64;

/// A table as received or built: the entries without the length in front. Cloning copies no bytes.
///
/// Equality is equality of bytes; compare entries with [`FieldValue::equivalent`] where the width
/// of an integer must not matter.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct FieldTable {
    raw: Bytes,
}

impl FieldTable {
    /// The table without entries.
    #[must_use]
    pub const fn empty() -> Self {
        Self { raw: Bytes::new() }
    }

    /// Takes received bytes after checking that they are well-formed entries.
    ///
    /// # Errors
    /// A value is cut off, of an unknown type, or nested deeper than [`MAX_NESTING`].
    pub fn from_raw(raw: Bytes) -> Result<Self, ValueError> {
        Self::check(&raw)?;
        Ok(Self { raw })
    }

    /// Checks that bytes are well-formed entries.
    pub(crate) fn check(raw: &[u8]) -> Result<(), ValueError> {
        check_table(raw, 0)
    }

    /// Bytes that have been checked as part of a larger whole.
    pub(crate) fn from_checked(raw: Bytes) -> Self {
        Self { raw }
    }

    /// The bytes of the entries, without the length in front.
    #[must_use]
    pub fn raw(&self) -> &Bytes {
        &self.raw
    }

    /// Whether it has no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.raw.is_empty()
    }

    /// The entries in order, duplicates included.
    #[must_use]
    pub fn iter(&self) -> Entries<'_> {
        Entries {
            source: &self.raw,
            rest: &self.raw,
        }
    }

    /// All entries parsed, in order.
    #[must_use]
    pub fn to_entries(&self) -> Vec<(ShortStr, FieldValue)> {
        self.iter()
            .map(|entry| (entry.key(), entry.value()))
            .collect()
    }

    /// The value under `key`; of several the last, because it was added last.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<FieldValue> {
        self.iter()
            .filter(|entry| entry.key == key.as_bytes())
            .last()
            .map(|entry| entry.value())
    }

    /// Whether there is a value under `key`.
    #[must_use]
    pub fn contains_key(&self, key: &str) -> bool {
        self.iter().any(|entry| entry.key == key.as_bytes())
    }

    /// A copy that does not keep the buffer alive that this table is a slice of.
    #[must_use]
    pub fn detached(&self) -> Self {
        Self {
            raw: Bytes::copy_from_slice(&self.raw),
        }
    }
}

/// Checks the entries of a table that lies `depth` levels deep.
fn check_table(mut rest: &[u8], depth: usize) -> Result<(), ValueError> {
    while !rest.is_empty() {
        take_short(&mut rest)?;
        check_value(&mut rest, depth)?;
    }
    Ok(())
}

impl<'a> IntoIterator for &'a FieldTable {
    type Item = Entry<'a>;
    type IntoIter = Entries<'a>;

    fn into_iter(self) -> Entries<'a> {
        self.iter()
    }
}

impl FromIterator<(ShortStr, FieldValue)> for FieldTable {
    fn from_iter<I: IntoIterator<Item = (ShortStr, FieldValue)>>(entries: I) -> Self {
        let mut builder = TableBuilder::new();
        for (key, value) in entries {
            builder.push(&key, &value);
        }
        builder.finish()
    }
}

impl fmt::Debug for FieldTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.iter().map(|entry| (entry.key(), entry.value())))
            .finish()
    }
}

/// One entry of a table; its value is parsed when asked for.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    source: &'a Bytes,
    key: &'a [u8],
    value: &'a [u8],
}

impl<'a> Entry<'a> {
    /// The key as received, usually but not certainly UTF-8.
    #[must_use]
    pub fn key_bytes(&self) -> &'a [u8] {
        self.key
    }

    /// The key; what is not UTF-8 in it is replaced.
    #[must_use]
    pub fn key(&self) -> ShortStr {
        ShortStr::from_utf8_lossy(self.source.slice_ref(self.key))
    }

    /// The value.
    #[must_use]
    pub fn value(&self) -> FieldValue {
        let mut rest = self.value;
        // The table has been checked; a value that cannot be read cannot be in it.
        read_value(self.source, &mut rest).unwrap_or(FieldValue::Void)
    }

    /// Letter and value as received.
    #[must_use]
    pub fn value_bytes(&self) -> &'a [u8] {
        self.value
    }
}

/// Iterates over the entries of a [`FieldTable`].
#[derive(Debug, Clone)]
pub struct Entries<'a> {
    source: &'a Bytes,
    rest: &'a [u8],
}

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        let key = take_short(&mut self.rest).ok()?;
        let before = self.rest;
        skip_value(&mut self.rest).ok()?;
        let value = before.get(..before.len() - self.rest.len())?;
        Some(Entry {
            source: self.source,
            key,
            value,
        })
    }
}

/// An array of values as received or built, without the length in front.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct FieldArray {
    raw: Bytes,
}

impl FieldArray {
    /// Takes received bytes after checking that they are well-formed values.
    ///
    /// # Errors
    /// As [`FieldTable::from_raw`].
    pub fn from_raw(raw: Bytes) -> Result<Self, ValueError> {
        let mut rest: &[u8] = &raw;
        while !rest.is_empty() {
            check_value(&mut rest, 0)?;
        }
        Ok(Self { raw })
    }

    /// Bytes that have been checked as part of a larger whole.
    fn from_checked(raw: Bytes) -> Self {
        Self { raw }
    }

    /// The bytes of the values, without the length in front.
    #[must_use]
    pub fn raw(&self) -> &Bytes {
        &self.raw
    }

    /// Whether it has no values.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.raw.is_empty()
    }

    /// The values in order.
    pub fn iter(&self) -> impl Iterator<Item = FieldValue> + '_ {
        let mut rest: &[u8] = &self.raw;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                None
            } else {
                read_value(&self.raw, &mut rest).ok()
            }
        })
    }
}

impl FromIterator<FieldValue> for FieldArray {
    fn from_iter<I: IntoIterator<Item = FieldValue>>(values: I) -> Self {
        let mut raw = bytes::BytesMut::new();
        for value in values {
            builder::put_value(&mut raw, &value);
        }
        Self { raw: raw.freeze() }
    }
}

impl fmt::Debug for FieldArray {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests;
