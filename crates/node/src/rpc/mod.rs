//! What nodes say to each other above Raft, over the bulk connections of the cluster port.

pub mod connect;
pub mod link_client;
pub mod link_service;
pub mod peer_service;
