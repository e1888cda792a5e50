//! Putting a message together: publish method, content header, body frames.
//!
//! A body in one frame is passed on as a slice of the received buffer. A body in several frames is
//! gathered into one buffer that grows with what arrives, not with what was announced. What is
//! unfinished when the received bytes are used up keeps no slice of them (`Assembly::detach`): a few
//! bytes on each of many channels would hold a large buffer each.

use amqp_codec::ShortStr;
use bytes::Bytes;

use crate::event::Publish;

/// Room taken for a body in several frames: so many times its first frame, within bounds.
const GATHER_START: usize = 8;
const GATHER_START_MIN: usize = 4 * 1024;
const GATHER_START_MAX: usize = 1024 * 1024;

/// A buffer of its own for names, not one that shares a cache line.
const NAMES_ROOM: usize = 128;

/// Where a channel stands in a publish, and the names it used last.
#[derive(Debug, Default)]
pub(crate) struct Assembly {
    expects: Expects,
    exchange: ShortStr,
    routing_key: ShortStr,
    /// The text of both once more, to compare with: the others are shared with whoever holds a
    /// message, and so is the cache line they lie in.
    names: Vec<u8>,
}

#[derive(Debug, Default)]
enum Expects {
    /// The next method.
    #[default]
    Method,
    /// The content header of this publish.
    Header { mandatory: bool, immediate: bool },
    /// More of the body.
    Body(Box<Partial>),
}

/// A message whose body has not arrived as a whole.
#[derive(Debug)]
struct Partial {
    mandatory: bool,
    immediate: bool,
    properties: Bytes,
    /// Announced size.
    size: u64,
    /// Arrived so far.
    arrived: u64,
    /// False: larger than is accepted; counted to its end but not kept.
    keep: bool,
    /// The properties are no slice of received bytes.
    detached: bool,
    body: Vec<u8>,
}

/// What a frame of content led to.
#[derive(Debug)]
pub(crate) enum Progress {
    /// More is needed.
    More,
    /// A message is complete.
    Complete(Publish),
    /// A body larger than is accepted has arrived to its end.
    TooLarge { size: u64 },
}

/// A frame that does not continue what came before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Misfit {
    /// A content frame although no publish is under way.
    ExpectedMethod,
    /// Something else than a content header.
    ExpectedHeader,
    /// Something else than a body frame.
    ExpectedBody,
    /// More body than announced.
    BodyTooLong { size: u64, arrived: u64 },
}

impl Assembly {
    /// A method frame fits only between messages.
    pub(crate) fn check_method(&self) -> Result<(), Misfit> {
        match self.expects {
            Expects::Method => Ok(()),
            Expects::Header { .. } => Err(Misfit::ExpectedHeader),
            Expects::Body(_) => Err(Misfit::ExpectedBody),
        }
    }

    /// A publish begins.
    pub(crate) fn begin(
        &mut self,
        exchange: &str,
        routing_key: &str,
        mandatory: bool,
        immediate: bool,
    ) {
        // Publishers repeat themselves: the usual case costs two comparisons and no allocation.
        let (exchange_len, len) = (self.exchange.len(), exchange.len() + routing_key.len());
        let known = exchange_len == exchange.len()
            && self.names.len() == len
            && self.names.starts_with(exchange.as_bytes())
            && self.names.ends_with(routing_key.as_bytes());
        if !known {
            self.exchange = ShortStr::truncated(exchange);
            self.routing_key = ShortStr::truncated(routing_key);
            self.names.clear();
            self.names.reserve(len.max(NAMES_ROOM));
            self.names.extend_from_slice(exchange.as_bytes());
            self.names.extend_from_slice(routing_key.as_bytes());
        }
        self.expects = Expects::Header {
            mandatory,
            immediate,
        };
    }

    /// The content header arrives; a body above `size_max` will not be kept.
    pub(crate) fn header(
        &mut self,
        channel: u16,
        size: u64,
        properties: Bytes,
        size_max: u64,
    ) -> Result<Progress, Misfit> {
        match std::mem::take(&mut self.expects) {
            Expects::Header {
                mandatory,
                immediate,
            } if size == 0 => Ok(Progress::Complete(self.publish(
                channel,
                mandatory,
                immediate,
                properties,
                Bytes::new(),
            ))),
            Expects::Header {
                mandatory,
                immediate,
            } => {
                self.expects = Expects::Body(Box::new(Partial {
                    mandatory,
                    immediate,
                    properties: if size <= size_max {
                        properties
                    } else {
                        Bytes::new()
                    },
                    size,
                    arrived: 0,
                    keep: size <= size_max,
                    detached: false,
                    body: Vec::new(),
                }));
                Ok(Progress::More)
            }
            Expects::Method => Err(Misfit::ExpectedMethod),
            Expects::Body(_) => Err(Misfit::ExpectedBody),
        }
    }

    /// Whether a content header would fit.
    pub(crate) fn check_header(&self) -> Result<(), Misfit> {
        match self.expects {
            Expects::Header { .. } => Ok(()),
            Expects::Method => Err(Misfit::ExpectedMethod),
            Expects::Body(_) => Err(Misfit::ExpectedBody),
        }
    }

    /// A body frame arrives.
    pub(crate) fn body(&mut self, channel: u16, payload: Bytes) -> Result<Progress, Misfit> {
        let mut partial = match std::mem::take(&mut self.expects) {
            Expects::Body(partial) => partial,
            Expects::Method => return Err(Misfit::ExpectedMethod),
            Expects::Header { .. } => return Err(Misfit::ExpectedHeader),
        };
        partial.arrived += payload.len() as u64;
        let (size, arrived) = (partial.size, partial.arrived);
        if arrived > size {
            return Err(Misfit::BodyTooLong { size, arrived });
        }
        if arrived < size {
            if partial.keep {
                partial.gather(&payload);
            }
            self.expects = Expects::Body(partial);
            return Ok(Progress::More);
        }
        if !partial.keep {
            return Ok(Progress::TooLarge { size });
        }
        let body = if partial.body.is_empty() {
            payload
        } else {
            partial.gather(&payload);
            Bytes::from(std::mem::take(&mut partial.body))
        };
        let Partial {
            mandatory,
            immediate,
            properties,
            ..
        } = *partial;
        Ok(Progress::Complete(
            self.publish(channel, mandatory, immediate, properties, body),
        ))
    }

    /// Bytes that an unfinished message holds.
    pub(crate) fn held(&self) -> usize {
        match &self.expects {
            Expects::Body(partial) => partial.properties.len() + partial.body.capacity(),
            Expects::Method | Expects::Header { .. } => 0,
        }
    }

    /// What is unfinished lets go of the received bytes.
    pub(crate) fn detach(&mut self) {
        if let Expects::Body(partial) = &mut self.expects
            && !partial.detached
        {
            partial.detached = true;
            partial.properties = Bytes::copy_from_slice(&partial.properties);
        }
    }

    fn publish(
        &self,
        channel: u16,
        mandatory: bool,
        immediate: bool,
        properties: Bytes,
        body: Bytes,
    ) -> Publish {
        Publish {
            channel,
            exchange: self.exchange.clone(),
            routing_key: self.routing_key.clone(),
            mandatory,
            immediate,
            properties,
            body,
        }
    }
}

impl Partial {
    fn gather(&mut self, payload: &[u8]) {
        let (len, more) = (self.body.len(), payload.len());
        if self.body.capacity() - len < more {
            let wanted = if len == 0 {
                (GATHER_START * more).clamp(GATHER_START_MIN, GATHER_START_MAX)
            } else {
                len
            };
            // To double is enough, and more than was announced is never needed.
            let left = usize::try_from(self.size).unwrap_or(usize::MAX) - len;
            self.body.reserve_exact(wanted.min(left).max(more));
        }
        self.body.extend_from_slice(payload);
    }
}
