//! What a node is told at its start: plain fields with defaults, nothing parsed.
//!
//! Where the values come from (flags, environment, file) and the texts for wrong ones belong to
//! `cli`. What is checked here holds whoever fills the structure in: see [`Config::validate`].

pub use broker_model::ids::NodeId;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
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
    /// Expect a PROXY protocol header (version 1 or 2) on AMQP connections.
    pub proxy_protocol: bool,
    /// Shards; fixed when the cluster is formed.
    pub sharding: Sharding,
    /// What is bounded in time.
    pub timing: Timing,
    /// What is bounded in number and size.
    pub limits: Limits,
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
    /// Bytes of publishes that one connection may have unanswered before its socket is not read.
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

/// Why a configuration cannot be used; the text says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Node ids count from 1 and fit into the Raft ids.
    #[error("node id {0} is out of range: use 1 to 65535")]
    NodeId(u64),
    /// A peer list must contain the node itself.
    #[error("the peers do not contain this node: add {0}=HOST:PORT, or correct the node id")]
    NotAPeer(NodeId),
    /// Ids are unique.
    #[error("node id {0} stands twice in the peers")]
    DuplicatePeer(NodeId),
    /// Addresses are unique.
    #[error("address {0} stands twice in the peers")]
    DuplicateAddress(String),
    /// Peers are reached by `host:port`.
    #[error("'{0}' is not an address of the form HOST:PORT")]
    Address(String),
    /// Other nodes must not get in without a secret.
    #[error(
        "a cluster needs a shared secret: set --cluster-secret-file or WARREN_CLUSTER_SECRET to the same value on all nodes"
    )]
    NoSecret,
    /// A node forms a cluster or joins one.
    #[error("give either peers (to form a cluster) or join (to enter one), not both")]
    PeersAndJoin,
    /// A number outside of what works.
    #[error("{name} is {value}: {advice}")]
    Range {
        /// Which field, as in the configuration file.
        name: &'static str,
        /// Its value.
        value: String,
        /// What would be right.
        advice: &'static str,
    },
}

const MIB: usize = 1024 * 1024;

impl Config {
    /// Checks what would not work, whoever filled the fields in.
    ///
    /// # Errors
    /// The first thing that is wrong, with advice.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.validate_membership()?;
        let range = |name, value: String, advice| {
            Err(ConfigError::Range {
                name,
                value,
                advice,
            })
        };
        let (timing, limits, storage) = (&self.timing, &self.limits, &self.storage);
        if !(1..=1024).contains(&self.sharding.shards) {
            return range("shards", self.sharding.shards.to_string(), "use 1 to 1024");
        }
        if limits.frame_max < 4096 {
            return range(
                "frame_max",
                limits.frame_max.to_string(),
                "use at least 4096",
            );
        }
        if limits.message_size > 536_870_912 {
            return range(
                "max_message_size",
                limits.message_size.to_string(),
                "use at most 536870912 (512 MiB)",
            );
        }
        if limits.channels_per_connection == 0 {
            return range("channel_max", "0".into(), "use 1 to 65535");
        }
        if !(self.memory.high_watermark > 0.0 && self.memory.high_watermark <= 1.0) {
            return range(
                "memory_high_watermark",
                self.memory.high_watermark.to_string(),
                "use a share above 0 and up to 1, such as 0.6",
            );
        }
        if timing.raft_election_min <= timing.raft_heartbeat {
            return range(
                "raft_election_min",
                format!("{:?}", timing.raft_election_min),
                "use more than raft_heartbeat",
            );
        }
        if timing.raft_election_max <= timing.raft_election_min {
            return range(
                "raft_election_max",
                format!("{:?}", timing.raft_election_max),
                "use more than raft_election_min, so that two nodes seldom stand at once",
            );
        }
        if timing.raft_election_max < timing.raft_heartbeat * 3 {
            return range(
                "raft_election_max",
                format!("{:?}", timing.raft_election_max),
                "use at least three times raft_heartbeat: it is a leader's lease too",
            );
        }
        if timing.publish_timeout.is_zero() {
            return range("publish_timeout", "0".into(), "use a time, such as 30s");
        }
        if storage.checkpoint_bytes < 64 * 1024 {
            return range(
                "checkpoint_bytes",
                storage.checkpoint_bytes.to_string(),
                "use at least 65536",
            );
        }
        if storage.disk_reserve_bytes > storage.disk_free_limit_bytes {
            return range(
                "disk_reserve",
                storage.disk_reserve_bytes.to_string(),
                "use no more than disk_free_limit",
            );
        }
        Ok(())
    }

    fn validate_membership(&self) -> Result<(), ConfigError> {
        if self.node_id.0 == 0 || self.node_id.0 > 65_535 {
            return Err(ConfigError::NodeId(self.node_id.0));
        }
        if self.join.is_some() && !self.peers.is_empty() {
            return Err(ConfigError::PeersAndJoin);
        }
        for address in self
            .peers
            .iter()
            .map(|peer| &peer.address)
            .chain(&self.join)
            .chain(&self.cluster_advertise)
        {
            check_address(address)?;
        }
        for (at, peer) in self.peers.iter().enumerate() {
            if peer.id.0 == 0 || peer.id.0 > 65_535 {
                return Err(ConfigError::NodeId(peer.id.0));
            }
            for other in self.peers.iter().take(at) {
                if other.id == peer.id {
                    return Err(ConfigError::DuplicatePeer(peer.id));
                }
                if other.address == peer.address {
                    return Err(ConfigError::DuplicateAddress(peer.address.clone()));
                }
            }
        }
        if !self.peers.is_empty() && !self.peers.iter().any(|peer| peer.id == self.node_id) {
            return Err(ConfigError::NotAPeer(self.node_id));
        }
        let alone = self.peers.len() <= 1 && self.join.is_none();
        if !alone && self.cluster_secret.is_none() {
            return Err(ConfigError::NoSecret);
        }
        Ok(())
    }

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

/// Names are resolved when they are dialled, so only the form is checked.
fn check_address(address: &str) -> Result<(), ConfigError> {
    match address.rsplit_once(':') {
        Some((host, port))
            if !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port != 0) =>
        {
            Ok(())
        }
        _ => Err(ConfigError::Address(address.to_owned())),
    }
}

impl Default for Config {
    fn default() -> Self {
        let any = |port| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        Self {
            node_id: NodeId(1),
            data_dir: PathBuf::from("./data"),
            amqp_listen: any(5672),
            amqps: None,
            cluster_listen: any(25672),
            cluster_advertise: None,
            peers: Vec::new(),
            join: None,
            cluster_secret: None,
            cluster_tls: None,
            management_listen: any(15672),
            management_api: true,
            prometheus_listen: None,
            cluster_name: "warren".into(),
            product: "RabbitMQ".into(),
            product_version: "4.3.5".into(),
            default_user: DefaultUser::default(),
            loopback_users: vec!["guest".into()],
            proxy_protocol: false,
            sharding: Sharding::default(),
            timing: Timing::default(),
            limits: Limits::default(),
            memory: Memory::default(),
            storage: Storage::default(),
        }
    }
}

impl Default for DefaultUser {
    fn default() -> Self {
        Self {
            name: "guest".into(),
            password: "guest".into(),
            vhost: "/".into(),
        }
    }
}

impl Default for Sharding {
    fn default() -> Self {
        Self { shards: 8 }
    }
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            publish_timeout: Duration::from_secs(30),
            amqp_heartbeat: Duration::from_secs(60),
            handshake_timeout: Duration::from_secs(10),
            login_failure_delay: Duration::from_secs(3),
            consumer_timeout: None,
            raft_heartbeat: Duration::from_millis(200),
            raft_election_min: Duration::from_millis(350),
            raft_election_max: Duration::from_millis(650),
            hand_over_timeout: Duration::from_millis(500),
            shutdown_timeout: Duration::from_secs(9),
            rebalance_interval: Duration::from_secs(5),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: None,
            channels: None,
            channels_per_connection: 2047,
            frame_max: 131_072,
            message_size: 16 * MIB as u64,
            consumers_per_channel: None,
            queues: None,
            connection_unconfirmed_bytes: 16 * MIB,
            connection_output_bytes: 2 * MIB,
            delivery_limit: None,
            delivery_limit_counts_nacks: false,
        }
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            total_bytes: None,
            high_watermark: 0.6,
            block_cache_bytes: 64 * MIB,
        }
    }
}

impl Default for Storage {
    fn default() -> Self {
        Self {
            checkpoint_bytes: 128 * MIB as u64,
            checkpoint_interval: Duration::from_secs(60),
            log_keep_bytes: 256 * MIB as u64,
            log_segment_bytes: 32 * MIB as u64,
            state_write_buffer_bytes: 32 * MIB,
            disk_free_limit_bytes: 200_000_000,
            disk_reserve_bytes: 100_000_000,
            entry_bytes_max: MIB,
        }
    }
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

    fn peers(list: &[(u64, &str)]) -> Vec<Peer> {
        list.iter()
            .map(|&(id, address)| Peer {
                id: NodeId(id),
                address: address.into(),
            })
            .collect()
    }

    #[test]
    fn defaults_are_valid() {
        assert_eq!(Config::default().validate(), Ok(()));
    }

    #[test]
    fn membership_rules() {
        let three: &[(u64, &str)] = &[(1, "a:1"), (2, "b:1"), (3, "c:1")];
        let secret = || Some(Secret::new("s"));
        for (node, list, join, secret, expected) in [
            (1, three, None, secret(), Ok(())),
            (1, &three[..1], None, None, Ok(())),
            (1, three, None, None, Err(ConfigError::NoSecret)),
            (1, &[][..], Some("b:1"), None, Err(ConfigError::NoSecret)),
            (1, &[], Some("b:1"), secret(), Ok(())),
            (
                1,
                three,
                Some("b:1"),
                secret(),
                Err(ConfigError::PeersAndJoin),
            ),
            (
                4,
                three,
                None,
                secret(),
                Err(ConfigError::NotAPeer(NodeId(4))),
            ),
            (0, &[], None, None, Err(ConfigError::NodeId(0))),
            (65_536, &[], None, None, Err(ConfigError::NodeId(65_536))),
            (
                1,
                &[(1, "a:1"), (1, "b:1")],
                None,
                secret(),
                Err(ConfigError::DuplicatePeer(NodeId(1))),
            ),
            (
                1,
                &[(1, "a:1"), (2, "a:1")],
                None,
                secret(),
                Err(ConfigError::DuplicateAddress("a:1".into())),
            ),
            (
                1,
                &[(1, "a")],
                None,
                secret(),
                Err(ConfigError::Address("a".into())),
            ),
            (
                1,
                &[(1, ":5")],
                None,
                secret(),
                Err(ConfigError::Address(":5".into())),
            ),
            (
                1,
                &[(1, "a:0")],
                None,
                secret(),
                Err(ConfigError::Address("a:0".into())),
            ),
        ] {
            let config = Config {
                node_id: NodeId(node),
                peers: peers(list),
                join: join.map(str::to_owned),
                cluster_secret: secret,
                ..Config::default()
            };
            assert_eq!(
                config.validate(),
                expected,
                "node {node}, peers {list:?}, join {join:?}"
            );
        }
    }

    #[test]
    fn ranges_are_checked() {
        type Change = fn(&mut Config);
        let wrong: [(&str, Change); 9] = [
            ("shards", |c| c.sharding.shards = 0),
            ("frame_max", |c| c.limits.frame_max = 4095),
            ("max_message_size", |c| c.limits.message_size = 1 << 40),
            ("channel_max", |c| c.limits.channels_per_connection = 0),
            ("memory_high_watermark", |c| {
                c.memory.high_watermark = f64::NAN
            }),
            ("raft_election_min", |c| {
                c.timing.raft_election_min = c.timing.raft_heartbeat
            }),
            ("raft_election_max", |c| {
                c.timing.raft_election_max = c.timing.raft_election_min
            }),
            ("raft_election_max", |c| {
                c.timing.raft_heartbeat = c.timing.raft_election_max / 2;
                c.timing.raft_election_min = c.timing.raft_election_max * 3 / 4;
            }),
            ("disk_reserve", |c| c.storage.disk_reserve_bytes = u64::MAX),
        ];
        for (field, change) in wrong {
            let mut config = Config::default();
            change(&mut config);
            match config.validate() {
                Err(ConfigError::Range { name, .. }) => assert_eq!(name, field),
                other => panic!("{field}: {other:?}"),
            }
        }
    }

    #[test]
    fn advertised_address() {
        let mut config = Config::default();
        // Any address is no address to be reached at.
        assert!(!config.advertised().starts_with("0.0.0.0"));
        config.cluster_listen = "127.0.0.2:9".parse().unwrap();
        assert_eq!(config.advertised(), "127.0.0.2:9");
        config.peers = peers(&[(1, "one:25672"), (2, "two:25672")]);
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
