//! A Warren node: listener, sessions, shard replicas, forwarding, placement, life cycle.
//!
//! Where AMQP without IO (`amqp-*`, `broker-model`) and IO without AMQP (`storage`, `consensus`)
//! meet. [`Node`] is a node from start to stop; [`Broker`] is what sessions and the operator's
//! interface use of it.

pub mod auth;
pub mod auth_attempts;
mod auth_turns;
pub mod broker;
pub mod catalog;
pub mod config;
pub mod dead_letter;
mod distinguished_name;
pub mod exchange_flows;
pub mod host;
pub mod hub;
pub mod identity;
pub mod life;
mod listener;
pub mod measured;
pub mod message_sizes;
pub mod metrics;
pub mod node;
pub mod oauth2;
mod proxy_protocol;
pub mod queries;
pub mod recover;
pub mod registry;
mod report;
pub mod rpc;
pub mod session;
pub mod shovels;
mod stores;
mod target;
pub mod tls;
pub mod validity;
mod vhost_flows;
pub mod vital;

// Parts of this crate's interface: whoever uses a node needs no other crate of ours.
pub use {amqp_codec, broker_model, shovel};

pub use broker::{Alarms, Broker};
pub use config::Config;
pub use identity::Identity;
pub use life::readiness::Readiness;
pub use node::{Ground, Node, StartError};
