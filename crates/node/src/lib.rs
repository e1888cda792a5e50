//! A Warren node: listener, sessions, shard replicas, forwarding, placement, life cycle.

pub mod config;

pub use config::Config;
