//! Short strings: at most 255 bytes of UTF-8, as a slice of the received buffer.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;

use bytes::Bytes;

use crate::error::ValueError;

/// A long string of the wire: raw bytes, not necessarily text.
pub type LongStr = Bytes;

/// A text of more than 255 bytes does not fit into a short string.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a short string holds at most 255 bytes, not {len}")]
pub struct TooLong {
    /// Size of the text in bytes.
    pub len: usize,
}

/// At most 255 bytes of UTF-8. Cloning copies no bytes.
///
/// A decoded one keeps the whole receive buffer alive: whoever stores it for long takes
/// [`ShortStr::detached`].
#[derive(Clone, Default)]
pub struct ShortStr(Bytes);

impl ShortStr {
    /// The largest size in bytes.
    pub const MAX_LEN: usize = 255;

    /// The empty string.
    #[must_use]
    pub const fn empty() -> Self {
        Self(Bytes::new())
    }

    /// A constant of at most 255 bytes.
    #[must_use]
    pub const fn from_static(text: &'static str) -> Self {
        // Runs while compiling where it is used for constants, which is what it is for.
        assert!(
            text.len() <= Self::MAX_LEN,
            "a short string holds at most 255 bytes"
        );
        Self(Bytes::from_static(text.as_bytes()))
    }

    /// Takes received bytes, which must be valid UTF-8 and fit.
    ///
    /// # Errors
    /// [`ValueError::MalformedUtf8`] for other bytes, [`ValueError::TrailingBytes`] for too many.
    pub fn from_utf8(bytes: Bytes) -> Result<Self, ValueError> {
        if bytes.len() > Self::MAX_LEN {
            return Err(ValueError::TrailingBytes {
                count: bytes.len() - Self::MAX_LEN,
            });
        }
        match std::str::from_utf8(&bytes) {
            Ok(_) => Ok(Self(bytes)),
            Err(_) => Err(ValueError::MalformedUtf8),
        }
    }

    /// Takes received bytes; what is not UTF-8 is replaced, what does not fit is cut.
    #[must_use]
    pub fn from_utf8_lossy(bytes: Bytes) -> Self {
        if bytes.len() <= Self::MAX_LEN && std::str::from_utf8(&bytes).is_ok() {
            return Self(bytes);
        }
        Self::truncated(&String::from_utf8_lossy(&bytes))
    }

    /// A copy of `text`, cut at a character boundary to what fits.
    #[must_use]
    pub fn truncated(text: &str) -> Self {
        Self(Bytes::copy_from_slice(cut(text, Self::MAX_LEN).as_bytes()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Every constructor has checked it; checking again costs less than `unsafe` needs care.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The bytes of the text.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes of the text, by reference count.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// The bytes of the text, without touching the reference count.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.0
    }

    /// A copy that does not keep the buffer alive that this string is a slice of.
    #[must_use]
    pub fn detached(&self) -> Self {
        Self(Bytes::copy_from_slice(&self.0))
    }

    /// Size in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it is the empty string.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The longest front of `text` that has at most `max` bytes and ends at a character boundary.
pub(crate) fn cut(text: &str, max: usize) -> &str {
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

impl TryFrom<&str> for ShortStr {
    type Error = TooLong;

    fn try_from(text: &str) -> Result<Self, TooLong> {
        if text.len() > Self::MAX_LEN {
            return Err(TooLong { len: text.len() });
        }
        Ok(Self(Bytes::copy_from_slice(text.as_bytes())))
    }
}

impl TryFrom<String> for ShortStr {
    type Error = TooLong;

    fn try_from(text: String) -> Result<Self, TooLong> {
        if text.len() > Self::MAX_LEN {
            return Err(TooLong { len: text.len() });
        }
        Ok(Self(Bytes::from(text)))
    }
}

impl Deref for ShortStr {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for ShortStr {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<[u8]> for ShortStr {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Borrow<str> for ShortStr {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl PartialEq for ShortStr {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for ShortStr {}

impl PartialEq<str> for ShortStr {
    fn eq(&self, other: &str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl PartialEq<&str> for ShortStr {
    fn eq(&self, other: &&str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl PartialOrd for ShortStr {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ShortStr {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}

impl Hash for ShortStr {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // As `str` hashes, because of `Borrow<str>`.
        self.as_str().hash(state);
    }
}

impl fmt::Debug for ShortStr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for ShortStr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
