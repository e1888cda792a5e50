//! The server side of an AMQP 0-9-1 connection as a pure machine.
//!
//! [`Connection`] owns what the protocol says about a connection and its channels: the handshake,
//! limits, the assembly of messages, heartbeats, errors and closing. It neither reads sockets nor a
//! clock: a driver feeds it bytes and the time, acts on its [`Event`]s, and writes its output.
//! [`DeliveryLedger`] and [`ConfirmLedger`] are the books of one channel's delivery tags and
//! publisher confirms.
//!
//! Not here: bytes and frames (`amqp-codec`), what a method does to queues and exchanges (`node`).

mod channels;
mod closing;
mod config;
mod confirms;
mod connection;
mod content;
mod deliveries;
mod event;
mod handshake;
mod heartbeat;
mod send;

pub use config::{Mechanism, ServerConfig};
pub use confirms::{Confirm, ConfirmLedger};
pub use connection::Connection;
pub use deliveries::{DeliveryLedger, UnknownDeliveryTag};
pub use event::{ClientInfo, CloseReason, Credentials, EndReason, Event, ProtocolError, Publish};
