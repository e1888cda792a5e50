//! Changing single properties while all others keep their bytes.

use bytes::{BufMut, Bytes, BytesMut};

use super::{PropertiesView, Property};
use crate::args::{put_long, put_short};
use crate::table::FieldTable;

/// A change of properties: what is not named stays byte for byte.
///
/// ```
/// # use amqp_codec::{Properties, PropertiesView, Rewrite};
/// let raw = Properties { expiration: Some("60000".into()), ..Properties::default() }.encode();
/// let raw = Rewrite::new(&raw).expiration(None).finish();
/// assert_eq!(PropertiesView::new(&raw).expiration(), None);
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Rewrite<'a> {
    view: PropertiesView<'a>,
    headers: Option<Option<FieldTable>>,
    reply_to: Option<Option<Bytes>>,
    expiration: Option<Option<Bytes>>,
    delivery_mode: Option<Option<u8>>,
    marked: bool,
}

impl<'a> Rewrite<'a> {
    /// Changes nothing yet.
    pub fn new(raw: &'a Bytes) -> Self {
        let view = PropertiesView::new(raw);
        Self {
            view,
            headers: None,
            reply_to: None,
            expiration: None,
            delivery_mode: None,
            marked: view.is_marked(),
        }
    }

    /// Sets the headers, or removes them.
    pub fn headers(mut self, headers: Option<FieldTable>) -> Self {
        self.headers = Some(headers);
        self
    }

    /// Sets reply-to (at most 255 bytes), or removes it.
    pub fn reply_to(mut self, reply_to: Option<Bytes>) -> Self {
        self.reply_to = Some(reply_to);
        self
    }

    /// Sets the expiration (at most 255 bytes), or removes it.
    pub fn expiration(mut self, expiration: Option<Bytes>) -> Self {
        self.expiration = Some(expiration);
        self
    }

    /// Sets the delivery mode, or removes it.
    pub fn delivery_mode(mut self, delivery_mode: Option<u8>) -> Self {
        self.delivery_mode = Some(delivery_mode);
        self
    }

    /// Marks them.
    pub fn marked(mut self) -> Self {
        self.marked = true;
        self
    }

    /// Flags and values with the changes made.
    #[must_use]
    pub fn finish(self) -> Bytes {
        let mut values = ValueWriter::new(self.view.raw().len() + 64);
        if self.marked {
            values.mark();
        }
        for property in Property::ALL {
            let old = self.view.find(property);
            match property {
                Property::Headers => match &self.headers {
                    Some(new) => {
                        values.put(property, new.as_ref().map(|table| table.raw().as_ref()))
                    }
                    None => values.put(property, old),
                },
                Property::ReplyTo => values.put_changed(property, self.reply_to.as_ref(), old),
                Property::Expiration => values.put_changed(property, self.expiration.as_ref(), old),
                Property::DeliveryMode => match self.delivery_mode {
                    Some(new) => values.put(property, new.as_ref().map(std::slice::from_ref)),
                    None => values.put(property, old),
                },
                _ => values.put(property, old),
            }
        }
        values.finish()
    }
}

/// Writes values in the order of the specification and keeps the flags.
pub(super) struct ValueWriter {
    flags: u16,
    out: BytesMut,
}

impl ValueWriter {
    pub(super) fn new(capacity: usize) -> Self {
        let mut out = BytesMut::with_capacity(capacity);
        out.put_u16(0);
        Self { flags: 0, out }
    }

    pub(super) fn mark(&mut self) {
        self.flags |= Property::MARK;
    }

    /// Writes the contents of a property if it is there.
    pub(super) fn put(&mut self, property: Property, value: Option<&[u8]>) {
        let Some(value) = value else { return };
        self.flags |= property.flag();
        match property {
            Property::Headers => put_long(&mut self.out, value),
            Property::DeliveryMode | Property::Priority | Property::Timestamp => {
                self.out.put_slice(value);
            }
            _ => put_short(&mut self.out, value),
        }
    }

    fn put_changed(
        &mut self,
        property: Property,
        change: Option<&Option<Bytes>>,
        old: Option<&[u8]>,
    ) {
        match change {
            Some(new) => self.put(property, new.as_deref()),
            None => self.put(property, old),
        }
    }

    pub(super) fn finish(mut self) -> Bytes {
        if let Some(flags) = self.out.first_chunk_mut() {
            *flags = self.flags.to_be_bytes();
        }
        self.out.freeze()
    }
}
