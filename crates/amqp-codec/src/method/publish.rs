//! basic.publish, borrowed: the one method whose decoding is paid for every message.

use crate::args::{take_array, take_short};
use crate::error::ValueError;

/// The arguments of basic.publish inside a method frame, borrowed and without reference counts.
///
/// A channel usually publishes to the same exchange with the same key as before; whoever compares
/// with what it has cached need not make new strings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BasicPublishRef<'a> {
    /// Exchange; empty is the default one.
    pub exchange: &'a str,
    /// Routing key.
    pub routing_key: &'a str,
    /// Return it if no queue gets it.
    pub mandatory: bool,
    /// Not implemented.
    pub immediate: bool,
}

impl<'a> BasicPublishRef<'a> {
    const CLASS_AND_METHOD: &'static [u8] = &[0, 60, 0, 40];

    /// Whether the payload of a method frame is a basic.publish.
    #[must_use]
    pub fn is_publish(payload: &[u8]) -> bool {
        payload.starts_with(Self::CLASS_AND_METHOD)
    }

    /// Parses the payload of a method frame; `None` if it is another method.
    ///
    /// # Errors
    /// What [`crate::Method::decode`] finds wrong with the arguments.
    pub fn parse(payload: &'a [u8]) -> Result<Option<Self>, crate::DecodeError> {
        let Some(arguments) = payload.strip_prefix(Self::CLASS_AND_METHOD) else {
            return Ok(None);
        };
        Self::parse_arguments(arguments)
            .map(Some)
            .map_err(|reason| crate::DecodeError::Arguments {
                name: "basic.publish",
                class_id: 60,
                method_id: 40,
                reason,
            })
    }

    fn parse_arguments(mut rest: &'a [u8]) -> Result<Self, ValueError> {
        let _ticket: [u8; 2] = take_array(&mut rest)?;
        let exchange = text(take_short(&mut rest)?)?;
        let routing_key = text(take_short(&mut rest)?)?;
        let [bits] = take_array(&mut rest)?;
        match rest.len() {
            0 => Ok(Self {
                exchange,
                routing_key,
                mandatory: bits & 1 != 0,
                immediate: bits & 2 != 0,
            }),
            count => Err(ValueError::TrailingBytes { count }),
        }
    }
}

fn text(bytes: &[u8]) -> Result<&str, ValueError> {
    std::str::from_utf8(bytes).map_err(|_| ValueError::MalformedUtf8)
}
