//! Looking single properties up in their raw bytes.

use bytes::Bytes;

use super::Property;
use crate::table::FieldTable;

/// Properties in place: a lookup walks over the values before it, allocates nothing and counts no
/// references. Texts are bytes, because nothing forces a publisher to write UTF-8.
#[derive(Debug, Clone, Copy)]
pub struct PropertiesView<'a> {
    source: &'a Bytes,
}

impl<'a> PropertiesView<'a> {
    /// Looks at flags and values that [`super::validate_properties`] has passed. Of other bytes it
    /// sees as much as can be made out.
    #[must_use]
    pub fn new(raw: &'a Bytes) -> Self {
        Self { source: raw }
    }

    /// The raw bytes.
    #[must_use]
    pub fn raw(self) -> &'a Bytes {
        self.source
    }

    /// The flag word.
    pub(super) fn flags(self) -> u16 {
        self.source
            .first_chunk()
            .map_or(0, |flags| u16::from_be_bytes(*flags))
    }

    /// Whether who keeps them has marked them.
    #[must_use]
    pub fn is_marked(self) -> bool {
        self.flags() & Property::MARK != 0
    }

    /// Whether the property is there.
    #[must_use]
    pub fn has(self, property: Property) -> bool {
        self.flags() & property.flag() != 0
    }

    /// The contents of a property, without a length in front.
    #[must_use]
    pub fn find(self, wanted: Property) -> Option<&'a [u8]> {
        if !self.has(wanted) {
            return None;
        }
        self.iter()
            .find(|(property, _)| *property == wanted)
            .map(|(_, value)| value)
    }

    /// The properties that are there, in order, each with its contents.
    pub(super) fn iter(self) -> impl Iterator<Item = (Property, &'a [u8])> {
        let mut left = self.flags();
        let mut rest = self.source.get(2..).unwrap_or_default();
        std::iter::from_fn(move || {
            let property = *Property::ALL.get(left.leading_zeros() as usize)?;
            left &= !property.flag();
            Some((property, property.take(&mut rest).ok()?))
        })
    }

    /// MIME type.
    #[must_use]
    pub fn content_type(self) -> Option<&'a [u8]> {
        self.find(Property::ContentType)
    }

    /// MIME encoding.
    #[must_use]
    pub fn content_encoding(self) -> Option<&'a [u8]> {
        self.find(Property::ContentEncoding)
    }

    /// Headers of the application.
    #[must_use]
    pub fn headers(self) -> Option<FieldTable> {
        let raw = self.find(Property::Headers)?;
        Some(FieldTable::from_checked(self.source.slice_ref(raw)))
    }

    /// 2 is persistent.
    #[must_use]
    pub fn delivery_mode(self) -> Option<u8> {
        self.find(Property::DeliveryMode)?.first().copied()
    }

    /// Whether the publisher asked for persistence.
    #[must_use]
    pub fn is_persistent(self) -> bool {
        self.delivery_mode() == Some(2)
    }

    /// Priority.
    #[must_use]
    pub fn priority(self) -> Option<u8> {
        self.find(Property::Priority)?.first().copied()
    }

    /// For the application.
    #[must_use]
    pub fn correlation_id(self) -> Option<&'a [u8]> {
        self.find(Property::CorrelationId)
    }

    /// Where answers go.
    #[must_use]
    pub fn reply_to(self) -> Option<&'a [u8]> {
        self.find(Property::ReplyTo)
    }

    /// Time to live in milliseconds, as text.
    #[must_use]
    pub fn expiration(self) -> Option<&'a [u8]> {
        self.find(Property::Expiration)
    }

    /// For the application.
    #[must_use]
    pub fn message_id(self) -> Option<&'a [u8]> {
        self.find(Property::MessageId)
    }

    /// Seconds since the epoch.
    #[must_use]
    pub fn timestamp(self) -> Option<u64> {
        self.find(Property::Timestamp)?
            .first_chunk()
            .map(|bytes| u64::from_be_bytes(*bytes))
    }

    /// For the application: the property called type.
    #[must_use]
    pub fn kind(self) -> Option<&'a [u8]> {
        self.find(Property::Type)
    }

    /// The user who published it.
    #[must_use]
    pub fn user_id(self) -> Option<&'a [u8]> {
        self.find(Property::UserId)
    }

    /// For the application.
    #[must_use]
    pub fn app_id(self) -> Option<&'a [u8]> {
        self.find(Property::AppId)
    }

    /// Unused.
    #[must_use]
    pub fn cluster_id(self) -> Option<&'a [u8]> {
        self.find(Property::ClusterId)
    }
}
