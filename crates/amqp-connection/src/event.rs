//! What a connection asks of its driver.

use amqp_codec::{FieldTable, Method, ReplyCode, ShortStr};
use bytes::Bytes;

use crate::config::Mechanism;

/// Something that the peer did and the driver must act on. Events come in the order of the wire.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Check these credentials; answer with [`crate::Connection::authenticated`] or
    /// [`crate::Connection::refuse_login`].
    Authenticate(Credentials),
    /// Open this virtual host; answer with [`crate::Connection::vhost_opened`] or
    /// [`crate::Connection::connection_error`].
    OpenVhost(ShortStr),
    /// The client opens a channel; answer with [`crate::Connection::channel_opened`] or an error of the
    /// connection. What the client has sent on it meanwhile comes all the same.
    OpenChannel(u16),
    /// A method of an open channel that the machine does not handle itself.
    Method {
        /// Channel.
        channel: u16,
        /// The method; never one with content, never one that only a server sends.
        method: Method,
    },
    /// A whole message.
    Publish(Publish),
    /// The client closed a channel: give back what it holds, then
    /// [`crate::Connection::channel_closed`].
    ChannelClosed {
        /// Channel.
        channel: u16,
        /// What the client said.
        reason: CloseReason,
    },
    /// An error of the client that closes a channel: tell it what it is still to hear on the channel, then
    /// [`crate::Connection::channel_error`], and give back what the channel holds.
    ChannelFailed {
        /// Channel.
        channel: u16,
        /// What the client is to be told.
        error: ProtocolError,
    },
    /// `connection.update-secret`; answer with [`crate::Connection::secret_updated`] or an error.
    UpdateSecret(Bytes),
    /// The client closes the connection: answer what it has asked on its channels, give back everything, then
    /// [`crate::Connection::finish_close`].
    CloseRequested(CloseReason),
    /// An error of the client that closes the connection: tell it what it is still to hear, then
    /// [`crate::Connection::connection_error`], and give back everything. [`Event::Ended`] follows when the client
    /// has seen it.
    Failed(ProtocolError),
    /// Nothing more will happen: write what is pending, then drop the socket.
    Ended(EndReason),
}

/// What a client presents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A name and a password (`PLAIN`, `AMQPLAIN`).
    Password {
        /// Which of the two it was.
        mechanism: Mechanism,
        /// Login name.
        user: ShortStr,
        /// Password, as bytes.
        password: Bytes,
    },
    /// The certificate of the TLS connection (`EXTERNAL`).
    External,
}

/// A published message, its body in one piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    /// Channel.
    pub channel: u16,
    /// Exchange.
    pub exchange: ShortStr,
    /// Routing key.
    pub routing_key: ShortStr,
    /// Return it if no queue gets it.
    pub mandatory: bool,
    /// Not implemented by anybody.
    pub immediate: bool,
    /// Property flags and values as on the wire; they have been checked.
    pub properties: Bytes,
    /// The body.
    pub body: Bytes,
}

/// What the client's close method said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloseReason {
    /// Its code, usually 200.
    pub reply_code: u16,
    /// Its text.
    pub reply_text: ShortStr,
}

/// An error that closes a channel or the connection, as the client is told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code:?}: {text}")]
pub struct ProtocolError {
    /// Which one.
    pub code: ReplyCode,
    /// The explanation, without the name of the code.
    pub text: String,
    /// Class of the method that failed, or 0.
    pub class_id: u16,
    /// The method that failed, or 0.
    pub method_id: u16,
}

impl ProtocolError {
    /// An error of no method in particular.
    #[must_use]
    pub fn new(code: ReplyCode, text: impl Into<String>) -> Self {
        Self {
            code,
            text: text.into(),
            class_id: 0,
            method_id: 0,
        }
    }

    /// The same error, of this method.
    #[must_use]
    pub fn of(mut self, class_id: u16, method_id: u16) -> Self {
        (self.class_id, self.method_id) = (class_id, method_id);
        self
    }
}

/// Why a connection has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// The client closed it and has been answered.
    ClientClosed,
    /// The server closed it and the client has answered.
    ServerClosed,
    /// The server closed it and the client did not answer in time.
    CloseTimeout,
    /// The peer did not start with a protocol header that is spoken here.
    NotAmqp,
    /// The handshake took too long.
    HandshakeTimeout,
    /// Nothing was heard for two heartbeat intervals.
    HeartbeatTimeout,
    /// Bad credentials.
    LoginRefused,
}

impl EndReason {
    /// Whether the last bytes that were written are meant for a client that is still there.
    #[must_use]
    pub fn is_told(self) -> bool {
        match self {
            Self::ClientClosed | Self::ServerClosed | Self::NotAmqp | Self::LoginRefused => true,
            Self::CloseTimeout | Self::HandshakeTimeout | Self::HeartbeatTimeout => false,
        }
    }
}

/// What a client said about itself.
#[derive(Debug, Clone, Default)]
pub struct ClientInfo {
    /// All client properties.
    pub properties: FieldTable,
    /// Its name for this connection.
    pub connection_name: Option<String>,
    /// Mechanism it logged in with.
    pub mechanism: Option<Mechanism>,
    /// Wants `basic.cancel` when a consumer ends.
    pub consumer_cancel_notify: bool,
    /// Wants `connection.blocked`.
    pub connection_blocked: bool,
    /// Wants `connection.close` when its login is refused.
    pub authentication_failure_close: bool,
    /// Understands `basic.nack`.
    pub basic_nack: bool,
    /// Wants to use confirms.
    pub publisher_confirms: bool,
}
