//! All properties of a message, parsed.

use bytes::Bytes;

use super::rewrite::ValueWriter;
use super::{PropertiesView, Property, check};
use crate::error::ValueError;
use crate::table::FieldTable;

/// All properties of a message. Texts are bytes, so that what was decoded is encoded the same;
/// one of more than 255 bytes is cut when encoded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Properties {
    /// MIME type.
    pub content_type: Option<Bytes>,
    /// MIME encoding.
    pub content_encoding: Option<Bytes>,
    /// Headers of the application.
    pub headers: Option<FieldTable>,
    /// 2 is persistent.
    pub delivery_mode: Option<u8>,
    /// Priority.
    pub priority: Option<u8>,
    /// For the application.
    pub correlation_id: Option<Bytes>,
    /// Where answers go.
    pub reply_to: Option<Bytes>,
    /// Time to live in milliseconds, as text.
    pub expiration: Option<Bytes>,
    /// For the application.
    pub message_id: Option<Bytes>,
    /// Seconds since the epoch.
    pub timestamp: Option<u64>,
    /// For the application: the property called type.
    pub kind: Option<Bytes>,
    /// The user who published it.
    pub user_id: Option<Bytes>,
    /// For the application.
    pub app_id: Option<Bytes>,
    /// Unused.
    pub cluster_id: Option<Bytes>,
}

impl Properties {
    /// Decodes property flags and values; a mark is passed over.
    ///
    /// # Errors
    /// As [`super::validate_properties`].
    pub fn decode(raw: &Bytes) -> Result<Self, ValueError> {
        check(raw, Property::UNDEFINED_FLAGS & !Property::MARK)?;
        let mut properties = Self::default();
        for (property, value) in PropertiesView::new(raw).iter() {
            let bytes = raw.slice_ref(value);
            match property {
                Property::ContentType => properties.content_type = Some(bytes),
                Property::ContentEncoding => properties.content_encoding = Some(bytes),
                Property::Headers => properties.headers = Some(FieldTable::from_checked(bytes)),
                Property::DeliveryMode => properties.delivery_mode = value.first().copied(),
                Property::Priority => properties.priority = value.first().copied(),
                Property::CorrelationId => properties.correlation_id = Some(bytes),
                Property::ReplyTo => properties.reply_to = Some(bytes),
                Property::Expiration => properties.expiration = Some(bytes),
                Property::MessageId => properties.message_id = Some(bytes),
                Property::Timestamp => {
                    properties.timestamp = value.first_chunk().map(|b| u64::from_be_bytes(*b));
                }
                Property::Type => properties.kind = Some(bytes),
                Property::UserId => properties.user_id = Some(bytes),
                Property::AppId => properties.app_id = Some(bytes),
                Property::ClusterId => properties.cluster_id = Some(bytes),
            }
        }
        Ok(properties)
    }

    /// Property flags and values.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut values = ValueWriter::new(64);
        let timestamp = self.timestamp.map(u64::to_be_bytes);
        for property in Property::ALL {
            let value = match property {
                Property::ContentType => self.content_type.as_deref(),
                Property::ContentEncoding => self.content_encoding.as_deref(),
                Property::Headers => self.headers.as_ref().map(|table| table.raw().as_ref()),
                Property::DeliveryMode => self.delivery_mode.as_ref().map(std::slice::from_ref),
                Property::Priority => self.priority.as_ref().map(std::slice::from_ref),
                Property::CorrelationId => self.correlation_id.as_deref(),
                Property::ReplyTo => self.reply_to.as_deref(),
                Property::Expiration => self.expiration.as_deref(),
                Property::MessageId => self.message_id.as_deref(),
                Property::Timestamp => timestamp.as_ref().map(<[u8; 8]>::as_slice),
                Property::Type => self.kind.as_deref(),
                Property::UserId => self.user_id.as_deref(),
                Property::AppId => self.app_id.as_deref(),
                Property::ClusterId => self.cluster_id.as_deref(),
            };
            values.put(property, value);
        }
        values.finish()
    }
}
