//! What the server announces, and the limits it holds its clients to.

use amqp_codec::FRAME_MIN_SIZE;
use std::time::Duration;

/// Settings of the server side of a connection; one value is shared by all connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConfig {
    /// `product` in the server properties. Some clients branch on `RabbitMQ`.
    pub product: String,
    /// `version` in the server properties.
    pub version: String,
    /// `cluster_name` in the server properties.
    pub cluster_name: String,
    /// `platform` in the server properties.
    pub platform: String,
    /// `copyright` in the server properties.
    pub copyright: String,
    /// `information` in the server properties.
    pub information: String,
    /// Announced mechanisms, of `PLAIN`, `AMQPLAIN`, `ANONYMOUS`, `EXTERNAL`.
    pub mechanisms: Vec<Mechanism>,
    /// Largest frame (whole, in bytes) after the negotiation.
    pub frame_max: u32,
    /// Most channels open at a time; 0 is no limit.
    pub channel_max: u16,
    /// Proposed heartbeat interval in seconds; 0 disables.
    pub heartbeat_s: u16,
    /// The handshake must be finished in this time.
    pub handshake_timeout: Duration,
    /// How long a refused login is held before the socket is dropped, so that guessing is slow. A client that
    /// understands it is told after a third of it.
    pub refusal_delay: Duration,
    /// Largest body accepted (406 above).
    pub max_message_size: u64,
    /// Most bytes of bodies that have begun and not ended, over all channels of a connection.
    pub unfinished_bytes_max: usize,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            product: "RabbitMQ".to_owned(),
            version: "4.3.5".to_owned(),
            cluster_name: "warren".to_owned(),
            platform: "Warren".to_owned(),
            copyright: "Warren contributors".to_owned(),
            information: "Licensed under Apache-2.0".to_owned(),
            mechanisms: vec![Mechanism::Plain, Mechanism::AmqPlain, Mechanism::Anonymous],
            frame_max: 131_072,
            channel_max: 2047,
            heartbeat_s: 60,
            handshake_timeout: Duration::from_secs(10),
            refusal_delay: Duration::from_secs(3),
            max_message_size: 16_777_216,
            unfinished_bytes_max: 64 * 1024 * 1024,
        }
    }
}

impl ServerConfig {
    /// The smallest `frame_max` a client may ask for: 4096, as all versions of RabbitMQ up to 4.0
    /// and older amqplib do (4.1 raised it to 8192).
    pub(crate) const FRAME_MAX_LEAST: u32 = FRAME_MIN_SIZE as u32;
}

/// A SASL mechanism.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mechanism {
    /// NUL user NUL password.
    Plain,
    /// A field table with `LOGIN` and `PASSWORD`.
    AmqPlain,
    /// Nothing is shown: the same as `PLAIN` with guest and guest, as in RabbitMQ 4. It gives nobody
    /// more than that login does: none if guest is gone, has another password, or is not at home here.
    Anonymous,
    /// The user is that of the client's certificate.
    External,
}

impl Mechanism {
    /// Its name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::AmqPlain => "AMQPLAIN",
            Self::Anonymous => "ANONYMOUS",
            Self::External => "EXTERNAL",
        }
    }
}
