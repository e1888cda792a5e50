//! Everything that can be set, with defaults that suit a cluster in one data centre.

use crate::net::tls::TlsFiles;
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The secret shared by all nodes of a cluster. Shows as `***` wherever it is printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// From the configured text or file content.
    pub fn new(secret: impl Into<Vec<u8>>) -> Self {
        Self(secret.into())
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// What [`Consensus::start`](crate::Consensus::start) needs to know.
#[derive(Debug, Clone)]
pub struct ConsensusConfig {
    /// This node, 1 … 65535.
    pub node: u64,
    /// Where the identity file lives (the log and the state are the caller's).
    pub data_dir: PathBuf,
    /// Where to listen for peers. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// `host:port` by which peers reach this node; the listen address if `None`.
    pub advertise: Option<String>,
    /// The nodes that form the first cluster, this one included: node to `host:port`.
    /// Empty: a cluster of one.
    pub peers: BTreeMap<u64, String>,
    /// Members to ask for admission when this node is not one of `peers` (any one that answers).
    pub join: Vec<String>,
    /// Shared by all nodes.
    pub secret: Secret,
    /// TLS between nodes; `None`: in the clear.
    pub tls: Option<TlsFiles>,
    /// Groups besides the catalog, decided by the founder when the cluster is formed.
    pub shards: u32,
    /// Raft's timing.
    pub timing: Timing,
    /// Sizes and bounds.
    pub limits: Limits,
    /// When to checkpoint and what to keep of the log.
    pub checkpoint: CheckpointPolicy,
}

impl ConsensusConfig {
    /// Defaults for `node` with its files in `data_dir`: alone, on a free loopback port.
    pub fn new(node: u64, data_dir: impl Into<PathBuf>) -> Self {
        Self {
            node,
            data_dir: data_dir.into(),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            advertise: None,
            peers: BTreeMap::new(),
            join: Vec::new(),
            secret: Secret::new(Vec::new()),
            tls: None,
            shards: 8,
            timing: Timing::default(),
            limits: Limits::default(),
            checkpoint: CheckpointPolicy::default(),
        }
    }
}

/// Raft's timing.
///
/// A follower that hears nothing waits for the lease (`election_max`) and a random time between
/// `election_min` and `election_max` more, so a frozen leader is replaced after
/// `election_max + election_min … 2 × election_max`.
#[derive(Debug, Clone)]
pub struct Timing {
    /// Between heartbeats of an idle leader.
    pub heartbeat: Duration,
    /// Shortest random wait before an election.
    pub election_min: Duration,
    /// Longest random wait before an election, and the leader's lease.
    pub election_max: Duration,
    /// When the process of a leader is gone (connection reset, reconnect refused), the
    /// best-placed follower campaigns at once and each next one this much later.
    pub campaign_stagger: Duration,
    /// Connections of a peer broke and it has not accepted a new one for this long: its process is
    /// taken for dead even when nothing refuses the connection (its whole host may be gone).
    pub reset_grace: Duration,
    /// Nothing was heard from a connected peer for this long: it counts as silent.
    pub silence: Duration,
    /// Limit for one call to a peer (not for a snapshot as a whole, but for each of its steps).
    pub call: Duration,
    /// A group's core answers within this time, or the process ends. It waits for the disk when it
    /// votes, so this is longer than the longest stall of a disk that still works.
    pub core_answer: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(200),
            election_min: Duration::from_millis(350),
            election_max: Duration::from_millis(650),
            campaign_stagger: Duration::from_millis(150),
            reset_grace: Duration::from_millis(150),
            silence: Duration::from_millis(500),
            call: Duration::from_secs(2),
            core_answer: Duration::from_secs(30),
        }
    }
}

/// Largest message between nodes. It does not follow the configuration of a node: what one node accepts
/// from its clients all others must be able to take. The largest body that can be configured is 512 MiB,
/// and what is merged with one into an entry is small beside it.
pub const LARGEST_MESSAGE: usize = 640 << 20;
/// Room in such a message for what goes around an entry.
const AROUND_AN_ENTRY: usize = 1 << 20;
/// Largest entry that is proposed.
pub const LARGEST_ENTRY: usize = LARGEST_MESSAGE - AROUND_AN_ENTRY;

/// Sizes and bounds.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Log entries that a group keeps in memory, so that followers and `apply` read no disk.
    pub tail_bytes_per_group: usize,
    /// The same over all groups of the node.
    pub tail_bytes_per_node: usize,
    /// Bytes of entries in one message to a follower.
    pub append_bytes: usize,
    /// Entries in one message to a follower.
    pub append_entries: u64,
    /// Messages to one follower of one group that await an answer.
    pub append_in_flight: usize,
    /// Proposals of one group that await an outcome; more are refused as busy.
    pub proposals_in_flight: usize,
    /// Largest message accepted from a peer.
    pub decode_bytes: usize,
    /// HTTP/2 window of a stream.
    pub stream_window: u32,
    /// HTTP/2 window of a connection.
    pub connection_window: u32,
    /// Connections whose other side has not proven yet who it is; further ones are closed at once.
    pub greeting: usize,
}

impl Limits {
    /// Largest entry that fits a message.
    pub(crate) fn entry_bytes(&self) -> usize {
        self.decode_bytes.saturating_sub(AROUND_AN_ENTRY)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            tail_bytes_per_group: 32 << 20,
            tail_bytes_per_node: 96 << 20,
            append_bytes: 4 << 20,
            append_entries: 256,
            append_in_flight: 64,
            proposals_in_flight: 4096,
            decode_bytes: LARGEST_MESSAGE,
            stream_window: 4 << 20,
            connection_window: 16 << 20,
            greeting: 512,
        }
    }
}

/// When to checkpoint and what to keep of the log.
#[derive(Debug, Clone)]
pub struct CheckpointPolicy {
    /// Log bytes, over all groups, since their last checkpoints that start new ones.
    pub log_bytes: u64,
    /// Bytes of memory, over all groups, of what no checkpoint has stored yet, that start new ones.
    pub held_bytes: u64,
    /// A group with changes checkpoints after this time at the latest.
    pub dirty_for: Duration,
    /// Log bytes, over all groups, kept behind checkpoints although every live follower has them.
    pub keep_bytes: u64,
    /// Log bytes kept for a follower that is reachable but behind; beyond it needs a snapshot.
    pub lag_bytes: u64,
    /// Purging waits until at least this many bytes, over all groups, can go: each step costs a write.
    pub purge_step: u64,
    /// A follower that was unreachable for this long is no longer waited for.
    pub lag_for: Duration,
}

impl Default for CheckpointPolicy {
    fn default() -> Self {
        Self {
            log_bytes: 128 << 20,
            held_bytes: 32 << 20,
            dirty_for: Duration::from_secs(30),
            keep_bytes: 4 << 20,
            lag_bytes: 2 << 30,
            purge_step: 4 << 20,
            lag_for: Duration::from_secs(600),
        }
    }
}
