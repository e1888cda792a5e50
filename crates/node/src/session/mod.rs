//! Sessions: what one client connection has open on this node.
//!
//! One task per connection. [`driver`] moves bytes between the socket and the connection machine
//! (`amqp-connection`) and waits; [`Session`] turns methods into operations on queues and into
//! changes of the catalog, and what queues send into deliveries. All work of one socket read makes
//! one batch of operations per place and one write.
//!
//! A session is bounded by what it may have unanswered: publishes by bytes (the socket is not read
//! above), deliveries by credit (none is granted while the client does not read), methods that wait
//! for an earlier one of their channel by count.
//!
//! Not here: the protocol's own rules (`amqp-connection`), who leads a queue (`hub`), what a queue
//! does (`broker_model`).

mod at_length;
mod binding;
mod catalog_calls;
mod channel;
mod close;
mod consume;
mod credit;
mod credit_plan;
mod deliver;
mod driver;
mod exchange;
mod get;
mod held;
mod history;
mod large_credit;
mod large_reads;
mod login;
mod methods;
mod names;
pub mod operator;
mod outbox;
mod overdue;
mod properties;
mod publish;
mod queue;
mod reader;
mod reply_to;
mod route;
mod services;
mod settle;
mod state;
mod stream;
mod tally;
mod trace;
mod turn;
mod tx;
mod wait;

pub use driver::serve;
pub use services::Services;
pub use stream::ClientStream;

use crate::identity::Identity;
use state::Session;
use std::net::SocketAddr;

/// The two ends of a client's connection.
#[derive(Debug, Clone)]
pub struct Ends {
    /// The client.
    pub peer: SocketAddr,
    /// This node.
    pub local: SocketAddr,
    /// Over TLS.
    pub tls: bool,
    /// User named by the client's certificate, for `EXTERNAL`.
    pub certificate_user: Option<String>,
    /// Who it is, where that is known already: whatever it shows as its login is accepted. Only of streams within this process.
    pub known: Option<Identity>,
}

#[cfg(test)]
mod tests;
