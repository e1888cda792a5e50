//! What a broker is, without sockets, disks, clocks or randomness.
//!
//! Owns the catalog (vhosts, exchanges, bindings, queues, users, policies), routing, the replicated
//! queue state and the leader's volatile dispatcher. Time and random choices arrive as arguments.
//!
//! Not here: how commands are replicated (`consensus`), how they are stored (`storage`), how clients
//! speak (`amqp-connection`).

pub mod catalog;
pub mod dispatch;
pub mod identity;
pub mod ids;
pub mod message;
pub mod op;
pub mod protocol;
pub mod queue;
pub mod routing;
pub mod shard;
pub mod wire;
