//! The hub: links from this node's sessions to the leaders of shards and hosts of local queues.

pub mod api;
