//! Shovels: a message is consumed from a queue or exchange of one AMQP 0-9-1 broker and published to another one, or to
//! the same, as RabbitMQ's plugin `rabbitmq_shovel` does.
//!
//! [`config`] and [`uri`] say what a shovel is to do, and refuse what makes no sense; [`client`] is the AMQP client over any
//! stream of bytes; [`worker`] moves the messages; [`status`] is what is told of it.
//!
//! Not here: which node runs a shovel, where its definition is kept, and what stands behind a URI without a host (`node`
//! gives a stream for it, see [`worker::Dial`]).

pub mod client;
pub mod config;
pub mod forward;
pub mod ledger;
pub mod status;
pub mod tls;
pub mod uri;
pub mod worker;

pub use config::{AckMode, Definition};
pub use status::{Report, State, Status};
pub use uri::Uri;
pub use worker::{Dial, End, Shovel};
