//! Consensus: replicated logs for the catalog and the shards, and the connections between nodes.
//!
//! A [`Group`] replicates opaque [`Payload`]s and drives a [`Machine`] with them. All groups of a
//! node share one log store (`storage::LogBackend`) and one set of connections per peer
//! ([`PeerNet`]). [`Consensus`] owns them, the node's identity, and the life of the cluster:
//! founding, joining, returning with an empty disk, removal.
//!
//! openraft is fenced in here: none of its types appears in the public interface, so that another
//! release, or another library, touches this crate only.
//!
//! Not here: what payloads mean (`broker-model`), how log and state are stored (`storage`), where
//! leaders ought to be (`node`).

mod clock;
mod cluster;
mod config;
mod consensus;
mod error;
mod group;
mod identity;
mod inbound;
mod lateness;
mod log;
mod log_mark;
mod machine;
mod machine_adapter;
mod net;
mod raft;
mod raft_net;
pub mod recover;
#[cfg(test)]
mod sim;
mod stats;
pub mod ticks;
mod types;
mod wire;

pub use clock::SimulatedClock;
pub use config::{
    CheckpointPolicy, ConsensusConfig, LARGEST_ENTRY, LARGEST_MESSAGE, Limits, Secret, Timing,
};
pub use consensus::{AbortHook, Consensus, MachineFactory, Parts, ServiceFactory};
pub use error::{AdminError, ProposeError, ReadError, StartError};
pub use group::{Group, GroupStatus, Proposed, RECENT};
pub use identity::Identity;
pub use machine::{
    CheckpointJob, Committed, Machine, MachineError, SnapshotReader, SnapshotWriter,
};
pub use net::streams;
pub use net::tls::{self, TlsFiles};
pub use net::{
    Caller, Connectivity, Credentials, Listening, Network, PeerChannel, PeerNet, Tcp, Wired,
};
pub use stats::{LATENCY_BOUNDS_MICROS, Latencies};
pub use types::{GroupId, Leadership, Payload, Position, RaftNode};
