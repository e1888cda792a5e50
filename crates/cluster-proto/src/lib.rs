//! What nodes say to each other: code generated from `proto/`, nothing else.
//!
//! Every `bytes` field is a [`bytes::Bytes`] slice of the buffer that was received.

/// The cluster protocol, version 1.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]
pub mod v1 {
    tonic::include_proto!("warren.cluster.v1");
}

/// What nodes say to each other above Raft.
pub mod node {
    /// Version 1.
    #[allow(
        missing_docs,
        unreachable_pub,
        clippy::all,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic
    )]
    pub mod v1 {
        tonic::include_proto!("warren.node.v1");
    }
}
