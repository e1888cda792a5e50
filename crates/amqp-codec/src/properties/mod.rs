//! Content headers: the size of a body and the properties of its message.
//!
//! Properties stay the bytes that were received, checked once by [`validate_properties`]; they are
//! stored and delivered as they are. [`PropertiesView`] looks single ones up in place,
//! [`Rewrite`] changes single ones, and [`Properties`] has them all parsed.
//!
//! Whoever keeps properties may *mark* them, in a flag that belongs to no property: a peer can neither
//! set the mark, because [`validate_properties`] refuses it, nor see it, because frames are written
//! without it.
//!
//! Not here: what a property means (expiry, `CC`, direct reply-to …).

mod owned;
mod rewrite;
mod view;

use bytes::{BufMut, Bytes, BytesMut};

use crate::args::{take_array, take_long, take_short, take_slice};
use crate::error::{DecodeError, ValueError};
use crate::method::class;
use crate::table::FieldTable;

pub use owned::Properties;
pub use rewrite::Rewrite;
pub use view::PropertiesView;

/// Largest body at the level of framing; a larger one is announced only by mistake or malice.
pub const BODY_SIZE_MAX: u64 = 512 * 1024 * 1024;

/// The properties of a message that has none: a flag word without flags.
pub const NO_PROPERTIES: Bytes = Bytes::from_static(&[0, 0]);

/// The payload of a content header frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentHeader {
    /// Size of the body that follows, in body frames; 0 means that none follows.
    pub body_size: u64,
    /// Property flags and property values, checked.
    pub properties: Bytes,
}

impl ContentHeader {
    /// Octets before the property flags: class, weight, body size.
    pub const FIXED_LEN: usize = 12;

    /// Decodes the payload of a header frame and checks its properties.
    ///
    /// # Errors
    /// The fixed part or the properties are malformed.
    #[allow(
        clippy::needless_pass_by_value,
        reason = "the caller is done with the payload"
    )]
    pub fn decode(payload: Bytes) -> Result<Self, DecodeError> {
        Self::decode_part(&payload, &payload)
    }

    /// Like [`ContentHeader::decode`], for a payload that is a part of a larger buffer.
    ///
    /// # Errors
    /// As [`ContentHeader::decode`].
    pub fn decode_part(source: &Bytes, payload: &[u8]) -> Result<Self, DecodeError> {
        Self::parse(source, payload).map_err(|reason| DecodeError::ContentHeader { reason })
    }

    fn parse(source: &Bytes, payload: &[u8]) -> Result<Self, ValueError> {
        let mut rest = payload;
        let class_id = u16::from_be_bytes(take_array(&mut rest)?);
        let weight = u16::from_be_bytes(take_array(&mut rest)?);
        if class_id != class::BASIC || weight != 0 {
            return Err(ValueError::ContentClass { class_id, weight });
        }
        let body_size = u64::from_be_bytes(take_array(&mut rest)?);
        validate_properties(rest)?;
        let properties = match rest {
            // So that the most common one keeps no receive buffer alive.
            [0, 0] => NO_PROPERTIES,
            _ => source.slice_ref(rest),
        };
        Ok(Self {
            body_size,
            properties,
        })
    }

    /// Appends the payload of a header frame.
    pub fn encode(&self, out: &mut BytesMut) {
        out.put_u16(class::BASIC);
        out.put_u16(0);
        out.put_u64(self.body_size);
        out.put_slice(&self.properties);
    }
}

/// A property, numbered as in the specification: 0 has the highest bit of the flag word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Property {
    /// MIME type.
    ContentType,
    /// MIME encoding.
    ContentEncoding,
    /// Headers of the application.
    Headers,
    /// 2 is persistent.
    DeliveryMode,
    /// Priority.
    Priority,
    /// For the application.
    CorrelationId,
    /// Where answers go.
    ReplyTo,
    /// Time to live in milliseconds, as text.
    Expiration,
    /// For the application.
    MessageId,
    /// Seconds since the epoch.
    Timestamp,
    /// For the application.
    Type,
    /// The user who published it.
    UserId,
    /// For the application.
    AppId,
    /// Unused.
    ClusterId,
}

impl Property {
    /// All of them in the order of their values on the wire.
    pub(crate) const ALL: [Self; 14] = [
        Self::ContentType,
        Self::ContentEncoding,
        Self::Headers,
        Self::DeliveryMode,
        Self::Priority,
        Self::CorrelationId,
        Self::ReplyTo,
        Self::Expiration,
        Self::MessageId,
        Self::Timestamp,
        Self::Type,
        Self::UserId,
        Self::AppId,
        Self::ClusterId,
    ];

    /// Flag bits that belong to no property; the lowest would announce a second flag word.
    const UNDEFINED_FLAGS: u16 = 0b11;

    /// The one of them that marks properties which are kept.
    pub(crate) const MARK: u16 = 0b10;

    pub(crate) fn flag(self) -> u16 {
        0x8000 >> (self as u8)
    }

    /// Takes the value off the front and returns its contents, without a length in front.
    fn take<'a>(self, rest: &mut &'a [u8]) -> Result<&'a [u8], ValueError> {
        match self {
            Self::Headers => take_long(rest),
            Self::DeliveryMode | Self::Priority => take_slice(rest, 1),
            Self::Timestamp => take_slice(rest, 8),
            Self::ContentType
            | Self::ContentEncoding
            | Self::CorrelationId
            | Self::ReplyTo
            | Self::Expiration
            | Self::MessageId
            | Self::Type
            | Self::UserId
            | Self::AppId
            | Self::ClusterId => take_short(rest),
        }
    }
}

/// Checks that `raw` is a flag word and exactly the values that it announces.
///
/// Text is not checked: whatever bytes a publisher put there, consumers get.
///
/// # Errors
/// Undefined flags, a value cut off, a malformed header table, or bytes left over.
pub fn validate_properties(raw: &[u8]) -> Result<(), ValueError> {
    check(raw, Property::UNDEFINED_FLAGS)
}

fn check(raw: &[u8], refused_flags: u16) -> Result<(), ValueError> {
    let mut rest = raw;
    let flags = u16::from_be_bytes(take_array(&mut rest)?);
    if flags & refused_flags != 0 {
        return Err(ValueError::PropertyFlags);
    }
    let mut left = flags;
    while let Some(property) = Property::ALL.get(left.leading_zeros() as usize) {
        let value = property.take(&mut rest)?;
        if *property == Property::Headers {
            FieldTable::check(value)?;
        }
        left &= !property.flag();
    }
    match rest.len() {
        0 => Ok(()),
        count => Err(ValueError::TrailingBytes { count }),
    }
}

#[cfg(test)]
mod tests;
