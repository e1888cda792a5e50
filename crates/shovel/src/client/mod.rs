//! An AMQP client for what a shovel needs, over any stream of bytes.
//!
//! One task owns a connection and asks it for one event after the other ([`Client::turn`]); what is sent meanwhile waits in a
//! buffer whose length the owner looks at, so that one side of a shovel can hold the other back. Properties and bodies stay the
//! bytes that they were.
//!
//! Not here: what is consumed and published (`worker`).

mod connection;
mod content;
mod handshake;

pub use connection::Client;
pub use handshake::{Hello, Login};

use amqp_codec::{DecodeError, Method, ShortStr};
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};

/// What a connection runs over.
pub trait Wire: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Wire for T {}

/// Why a connection cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// From the operating system.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The broker has gone without a word.
    #[error("the connection was lost")]
    Lost,
    /// The broker has said nothing for longer than was agreed.
    #[error("heartbeat timeout")]
    Heartbeat,
    /// It does not answer.
    #[error("no answer in time")]
    Timeout,
    /// The broker has closed the connection.
    #[error("the broker closed the connection: {code} {text}")]
    Closed {
        /// Why.
        code: u16,
        /// Why, in words.
        text: ShortStr,
    },
    /// The broker has closed a channel.
    #[error("the broker closed the channel: {code} {text}")]
    ChannelClosed {
        /// Why.
        code: u16,
        /// Why, in words.
        text: ShortStr,
    },
    /// None of the mechanisms that were asked for is offered.
    #[error("the broker offers none of the mechanisms that may be used")]
    NoMechanism,
    /// What came is no AMQP 0-9-1.
    #[error("the broker does not speak AMQP 0-9-1: {0}")]
    Frame(#[from] DecodeError),
    /// What came does not belong there.
    #[error("unexpected {0} from the broker")]
    Unexpected(&'static str),
    /// A name that does not fit.
    #[error("{0}")]
    TooLong(#[from] amqp_codec::TooLong),
}

/// A message from the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Its number on the channel.
    pub tag: u64,
    /// Exchange it was published to.
    pub exchange: ShortStr,
    /// Its routing key.
    pub routing_key: ShortStr,
    /// Property flags and values.
    pub properties: Bytes,
    /// The body.
    pub body: Bytes,
}

impl Delivery {
    /// About what it takes in memory.
    #[must_use]
    pub fn size(&self) -> usize {
        size_of::<Self>()
            + self.exchange.len()
            + self.routing_key.len()
            + self.properties.len()
            + self.body.len()
    }
}

/// What happens on a connection.
#[derive(Debug)]
pub enum Event {
    /// A message for the consumer.
    Delivery(Delivery),
    /// Publishes were confirmed.
    Confirmed {
        /// The publish, or the last of them.
        sequence: u64,
        /// With all before it.
        multiple: bool,
    },
    /// Publishes were refused.
    Refused {
        /// The publish, or the last of them.
        sequence: u64,
        /// With all before it.
        multiple: bool,
    },
    /// A publish that has to find a queue has found none.
    Returned {
        /// Why.
        text: ShortStr,
    },
    /// The broker takes no publishes for the moment.
    Blocked,
    /// It does again.
    Unblocked,
    /// The consumer's queue is gone.
    Cancelled,
    /// So much was written that the owner may go on.
    Drained,
    /// An answer to a call.
    Answer {
        /// Its channel.
        channel: u16,
        /// The answer.
        method: Method,
    },
    /// The broker has closed a channel.
    ChannelClosed {
        /// The channel.
        channel: u16,
        /// Why.
        code: u16,
        /// Why, in words.
        text: ShortStr,
    },
}
