//! A method with content: put together from its frames.

use super::{Delivery, Error, Event};
use amqp_codec::{BODY_SIZE_MAX, ContentHeader, Method, ShortStr};
use bytes::{Bytes, BytesMut};

/// A content that has begun.
#[derive(Debug)]
pub(super) struct Partial {
    channel: u16,
    kind: Kind,
    header: Option<ContentHeader>,
    body: BytesMut,
}

#[derive(Debug)]
enum Kind {
    Delivery {
        tag: u64,
        exchange: ShortStr,
        routing_key: ShortStr,
    },
    Return {
        text: ShortStr,
    },
}

impl Partial {
    /// For a method that has content; others come back.
    #[allow(
        clippy::result_large_err,
        reason = "the other method is what comes most often, and is used at once"
    )]
    pub(super) fn begin(channel: u16, method: Method) -> Result<Self, Method> {
        let kind = match method {
            Method::BasicDeliver {
                delivery_tag,
                exchange,
                routing_key,
                ..
            } => Kind::Delivery {
                tag: delivery_tag,
                exchange,
                routing_key,
            },
            Method::BasicReturn { reply_text, .. } => Kind::Return { text: reply_text },
            other => return Err(other),
        };
        Ok(Self {
            channel,
            kind,
            header: None,
            body: BytesMut::new(),
        })
    }

    pub(super) fn channel(&self) -> u16 {
        self.channel
    }

    /// Takes the header in; the event, if no body follows.
    pub(super) fn header(mut self, payload: Bytes) -> Result<Result<Event, Self>, Error> {
        if self.header.is_some() {
            return Err(Error::Unexpected("content header"));
        }
        let header = ContentHeader::decode(payload)?;
        if header.body_size > BODY_SIZE_MAX {
            return Err(Error::Unexpected("size of a body"));
        }
        if header.body_size == 0 {
            return Ok(Ok(self.kind.event(header.properties, Bytes::new())));
        }
        self.header = Some(header);
        Ok(Err(self))
    }

    /// Takes a part of the body in; the event, if it is the last one.
    pub(super) fn body(mut self, payload: Bytes) -> Result<Result<Event, Self>, Error> {
        let Some(header) = &self.header else {
            return Err(Error::Unexpected("body"));
        };
        let has = (self.body.len() + payload.len()) as u64;
        if has > header.body_size {
            return Err(Error::Unexpected("size of a body"));
        }
        let properties = header.properties.clone();
        if has < header.body_size {
            // Memory is taken for what has come, not for what was announced.
            self.body.extend_from_slice(&payload);
            return Ok(Err(self));
        }
        let body = if self.body.is_empty() {
            payload
        } else {
            self.body.extend_from_slice(&payload);
            self.body.freeze()
        };
        Ok(Ok(self.kind.event(properties, body)))
    }
}

impl Kind {
    fn event(self, properties: Bytes, body: Bytes) -> Event {
        match self {
            Self::Delivery {
                tag,
                exchange,
                routing_key,
            } => Event::Delivery(Delivery {
                tag,
                exchange,
                routing_key,
                properties,
                body,
            }),
            Self::Return { text } => Event::Returned { text },
        }
    }
}
