//! What a node is told at its start: plain fields with defaults, nothing parsed.
//!
//! Where the values come from (flags, environment, file) and the texts for wrong ones belong to
//! `cli`. What is checked here holds whoever fills the structure in: see [`Config::validate`].

mod check;
mod defaults;
mod oauth2;

pub use self::check::ConfigError;
pub use self::oauth2::{AuthBackends, KeysAt, OAuth2, Provider};
pub use broker_model::catalog::DeclareRules;
pub use broker_model::catalog::settings::QueueType;
pub use broker_model::ids::NodeId;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Everything a node needs to know before it starts.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// This node's id, at least 1, for ever bound to its data directory.
    pub node_id: NodeId,
    /// Where log, state and identity live.
    pub data_dir: PathBuf,
    /// Plain AMQP listener.
    pub amqp_listen: SocketAddr,
    /// AMQP over TLS, off without a certificate.
    pub amqps: Option<TlsListener>,
    /// Node-to-node listener (gRPC).
    pub cluster_listen: SocketAddr,
    /// `host:port` under which peers reach [`Config::cluster_listen`]. `None`: this node's own entry
    /// in [`Config::peers`], else the listener's address.
    pub cluster_advertise: Option<String>,
    /// The nodes that form the cluster at its first start; empty for a cluster of one.
    pub peers: Vec<Peer>,
    /// `host:port` of any member of an existing cluster that this node shall join instead of
    /// forming one.
    pub join: Option<String>,
    /// What every cluster connection must know. Required with peers.
    pub cluster_secret: Option<Secret>,
    /// TLS between nodes.
    pub cluster_tls: Option<ClusterTls>,
    /// HTTP: health, metrics, management.
    pub management_listen: SocketAddr,
    /// The same over TLS, with the certificate of [`Config::amqps`], without which it is not served.
    pub management_tls_listen: Option<SocketAddr>,
    /// Serve the `/api` routes. Health and metrics are always served.
    pub management_api: bool,
    /// Metrics alone, without the API, on a port of their own.
    pub prometheus_listen: Option<SocketAddr>,
    /// Name of the cluster, told to clients and in `/api/overview`, as long as nobody has set another.
    pub cluster_name: String,
    /// `product` in the server properties. Some clients choose their dialect by the word `RabbitMQ`.
    pub product: String,
    /// `version` in the server properties, RabbitMQ's numbering.
    pub product_version: String,
    /// Created on the very first start of a cluster, if it has no users yet.
    pub default_user: DefaultUser,
    /// Users that may log in only from loopback addresses.
    pub loopback_users: Vec<String>,
    /// Which users there are.
    pub auth: AuthBackends,
    /// Expect a PROXY protocol header (version 1 or 2) on AMQP connections.
    pub proxy_protocol: bool,
    /// Shards; fixed when the cluster is formed.
    pub sharding: Sharding,
    /// What is bounded in time.
    pub timing: Timing,
    /// What is bounded in number and size.
    pub limits: Limits,
    /// How declarations of queues are taken.
    pub declarations: DeclareRules,
    /// Memory budgets and the memory alarm.
    pub memory: Memory,
    /// Log, checkpoints and the disk alarm.
    pub storage: Storage,
}

/// One member of the first cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its `--node-id`.
    pub id: NodeId,
    /// Its `host:port` on the cluster network.
    pub address: String,
}

/// The shared secret; its `Debug` output shows nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// TLS for AMQP clients. The files are read again when they change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsListener {
    /// Where to listen.
    pub listen: SocketAddr,
    /// PEM file: server certificate and chain.
    pub certificate: PathBuf,
    /// PEM file: its private key.
    pub key: PathBuf,
    /// PEM file: authorities for client certificates; `None`: clients are not asked for one.
    pub client_ca: Option<PathBuf>,
    /// Refuse clients without a certificate.
    pub require_client_certificate: bool,
    /// How EXTERNAL finds the user's name in the certificate.
    pub login_from: CertificateLogin,
}

/// The part of a client certificate that is the user's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CertificateLogin {
    /// The whole subject (`CN=alice,O=shop`).
    DistinguishedName,
    /// The subject's common name.
    #[default]
    CommonName,
    /// The first DNS name among the subject's alternative names.
    SubjectAlternativeName,
}

/// TLS between nodes: every node shows its certificate and checks its peer's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterTls {
    /// PEM file: this node's certificate and chain.
    pub certificate: PathBuf,
    /// PEM file: its private key.
    pub key: PathBuf,
    /// PEM file: the authority of the cluster's certificates.
    pub ca: PathBuf,
}

/// The user, password and vhost of a fresh cluster.
#[derive(Clone, PartialEq, Eq)]
pub struct DefaultUser {
    /// Name.
    pub name: String,
    /// Password.
    pub password: String,
    /// Virtual host in which the user has all permissions.
    pub vhost: String,
}

/// How durable queues are spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sharding {
    /// Raft groups that hold durable queues. Used only by the node that forms the cluster.
    pub shards: u32,
}

/// Bounds in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// A publish without a majority is answered by `basic.nack`, a declare by an error, after this time.
    pub publish_timeout: Duration,
    /// Heartbeat offered in `connection.tune` (seconds on the wire; zero: none).
    pub amqp_heartbeat: Duration,
    /// An AMQP handshake must be over by then.
    pub handshake_timeout: Duration,
    /// A refused login is told to the client after a third of this time, and its socket closed after it.
    pub login_failure_delay: Duration,
    /// A consumer that holds a delivery for longer is cancelled; `None`: never. Queues and consumers
    /// may name their own.
    pub consumer_timeout: Option<Duration>,
    /// Between heartbeats of a leader.
    pub raft_heartbeat: Duration,
    /// Shortest time, on top of the lease, after which a follower that hears nothing stands for election.
    pub raft_election_min: Duration,
    /// Longest such time, the actual one is drawn between the two; and a leader's lease.
    pub raft_election_max: Duration,
    /// A new leader waits this long for live nodes to tell what their consumers hold.
    pub hand_over_timeout: Duration,
    /// A clean stop takes no longer.
    pub shutdown_timeout: Duration,
    /// How often leaderships are looked at, to spread them evenly.
    pub rebalance_interval: Duration,
}

/// Bounds in number and size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Client connections on this node; `None`: what the file descriptor limit allows.
    pub connections: Option<u32>,
    /// Channels on this node over all connections; `None`: no limit.
    pub channels: Option<u32>,
    /// `channel_max` offered in `connection.tune`.
    pub channels_per_connection: u16,
    /// `frame_max` offered in `connection.tune`.
    pub frame_max: u32,
    /// Body of one message; more is a channel error 406.
    pub message_size: u64,
    /// Consumers per channel; `None`: no limit.
    pub consumers_per_channel: Option<u32>,
    /// Queues of the whole cluster; `None`: no limit.
    pub queues: Option<u64>,
    /// Bytes of publishes that one connection may have unanswered before its socket is not read; 1 MiB at most as long as it has
    /// not asked for confirms.
    pub connection_unconfirmed_bytes: usize,
    /// Unwritten output bytes of one connection above which it gets no more deliveries.
    pub connection_output_bytes: usize,
    /// `x-delivery-limit` of queues that name none; `None`: unlimited.
    pub delivery_limit: Option<u32>,
    /// `basic.nack` with `requeue` counts as a failed delivery. RabbitMQ 4.3 counts only `basic.reject`
    /// and deliveries that were held when their channel or connection ended.
    pub delivery_limit_counts_nacks: bool,
}

/// Memory budgets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Memory {
    /// Memory that this process may use; `None`: the machine's or the control group's.
    pub total_bytes: Option<u64>,
    /// Share of it above which publishers are blocked on all nodes.
    pub high_watermark: f64,
    /// Cache of stored blocks.
    pub block_cache_bytes: usize,
    /// Messages of queues that live on this node alone, together; what is more goes to disk.
    pub local_queues_bytes: usize,
    /// Dead letters that are on their way to their targets, together.
    pub dead_letters_bytes: usize,
    /// Large messages that are on their way to clients of this node, or that they have not read, together.
    pub large_messages_bytes: u64,
}

/// Log, checkpoints, and the disk alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Storage {
    /// Shards take checkpoints after this many bytes of log, or when a quarter of it waits in memory to be stored.
    pub checkpoint_bytes: u64,
    /// And at the latest after this time, if anything changed.
    pub checkpoint_interval: Duration,
    /// Log that is kept for slow followers, per shard, at most.
    pub log_keep_bytes: u64,
    /// A file of the log is followed by the next one when it is so long.
    pub log_segment_bytes: u64,
    /// RocksDB write buffer of the state.
    pub state_write_buffer_bytes: usize,
    /// Free disk space below which publishers are blocked on all nodes.
    pub disk_free_limit_bytes: u64,
    /// Free disk space below which this node stands aside (no leaderships, no writes).
    pub disk_reserve_bytes: u64,
    /// Merge at most this many bytes into one Raft entry.
    pub entry_bytes_max: usize,
}

impl Config {
    /// The `host:port` that this node tells its peers: as configured, else as in the peers, else the
    /// listener's address, with this machine's name where that is any address.
    #[must_use]
    pub fn advertised(&self) -> String {
        let own = || {
            self.peers
                .iter()
                .find(|peer| peer.id == self.node_id)
                .map(|peer| peer.address.clone())
        };
        self.cluster_advertise
            .clone()
            .or_else(own)
            .unwrap_or_else(|| {
                let listen = self.cluster_listen;
                match machine_name() {
                    Some(name) if listen.ip().is_unspecified() => {
                        format!("{name}:{}", listen.port())
                    }
                    _ => listen.to_string(),
                }
            })
    }

    /// The protocols that this node serves, by RabbitMQ's names for them, and where.
    #[must_use]
    pub fn listeners(&self) -> Vec<(&'static str, SocketAddr)> {
        let mut listeners = vec![
            ("amqp", self.amqp_listen),
            ("clustering", self.cluster_listen),
            ("http", self.management_listen),
        ];
        listeners.extend(self.amqps.as_ref().map(|tls| ("amqp/ssl", tls.listen)));
        let https = self.management_tls_listen.filter(|_| self.amqps.is_some());
        listeners.extend(https.map(|listen| ("https", listen)));
        listeners.extend(
            self.prometheus_listen
                .map(|listen| ("http/prometheus", listen)),
        );
        listeners
    }

    /// The name of a node in the HTTP API and in metrics.
    #[must_use]
    pub fn node_name(id: NodeId) -> String {
        format!("warren@{id}")
    }
}

/// The name that other machines may know this one by.
fn machine_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}

impl Secret {
    /// Wraps a secret.
    #[must_use]
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// The secret itself; never log it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl fmt::Debug for DefaultUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DefaultUser")
            .field("name", &self.name)
            .field("vhost", &self.vhost)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advertised_address() {
        let mut config = Config::default();
        // Any address is no address to be reached at.
        assert!(!config.advertised().starts_with("0.0.0.0"));
        config.cluster_listen = "127.0.0.2:9".parse().unwrap();
        assert_eq!(config.advertised(), "127.0.0.2:9");
        config.peers = [(1, "one:25672"), (2, "two:25672")]
            .map(|(id, address)| Peer {
                id: NodeId(id),
                address: address.into(),
            })
            .to_vec();
        assert_eq!(config.advertised(), "one:25672");
        config.cluster_advertise = Some("other:1".into());
        assert_eq!(config.advertised(), "other:1");
    }

    #[test]
    fn secrets_are_not_printed() {
        let mut config = Config {
            cluster_secret: Some(Secret::new("hush")),
            ..Config::default()
        };
        config.default_user.password = "hush".into();
        assert!(!format!("{config:?}").contains("hush"));
    }
}
