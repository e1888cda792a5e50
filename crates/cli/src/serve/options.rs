//! Every option of `warren serve`, once: name, meaning, default, and the field it sets.
//!
//! Where a value comes from (flag, environment, file) is the business of [`super::layers`].

mod resolve;

use super::oauth2::OAuth2Options;
use super::values::{Limit, Listen, Names, Peers, Size, Span};
use clap::{Args, ValueEnum};
use node::config::QueueType;
use std::path::PathBuf;

/// Options of `warren serve`. All are optional here; defaults are those of [`node::Config`].
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Options {
    /// Read options from this file (TOML, keys like the flags: node_id = 2)
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Print the configuration that results from flags, environment and file, and exit
    #[arg(long)]
    pub(crate) check_config: bool,

    /// This node's id: 1, 2, 3 … (default: 1)
    #[arg(long, value_name = "N", help_heading = "Node")]
    node_id: Option<u64>,
    /// Directory for all data of this node (default: ./data)
    #[arg(long, value_name = "DIR", help_heading = "Node")]
    data_dir: Option<PathBuf>,
    /// AMQP listener (default: 0.0.0.0:5672)
    #[arg(long, value_name = "ADDR", help_heading = "Node")]
    amqp_listen: Option<Listen>,
    /// HTTP listener for health, metrics and management (default: 0.0.0.0:15672)
    #[arg(long, value_name = "ADDR", help_heading = "Node")]
    management_listen: Option<Listen>,
    /// Serve the management API; health and metrics are always served (default: true)
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", help_heading = "Node")]
    management_api: Option<bool>,
    /// A second HTTP listener for metrics alone, RabbitMQ's is on port 15692 (default: none)
    #[arg(long, value_name = "ADDR", help_heading = "Node")]
    prometheus_listen: Option<Listen>,
    /// Expect a PROXY protocol header on AMQP connections (default: false)
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", help_heading = "Node")]
    proxy_protocol: Option<bool>,
    /// Import users, vhosts, queues and so on from this file at each start: definitions exported from Warren or RabbitMQ
    #[arg(long, value_name = "FILE", help_heading = "Node")]
    load_definitions: Option<PathBuf>,

    /// Node-to-node listener (default: 0.0.0.0:25672)
    #[arg(long, value_name = "ADDR", help_heading = "Cluster")]
    cluster_listen: Option<Listen>,
    /// How peers reach this node (default: its own entry in the peers)
    #[arg(long, value_name = "HOST:PORT", help_heading = "Cluster")]
    cluster_advertise: Option<String>,
    /// The nodes of the cluster: 1=h1:25672,2=h2:25672,… (default: a cluster of one)
    #[arg(long, value_name = "LIST", help_heading = "Cluster")]
    peers: Option<Peers>,
    /// Join an existing cluster through this member instead of forming one
    #[arg(long, value_name = "HOST:PORT", help_heading = "Cluster")]
    join: Option<String>,
    /// The secret that all nodes share; required with peers
    #[arg(
        long,
        value_name = "SECRET",
        help_heading = "Cluster",
        overrides_with = "cluster_secret_file"
    )]
    cluster_secret: Option<String>,
    /// The same, read from a file
    #[arg(
        long,
        value_name = "FILE",
        help_heading = "Cluster",
        overrides_with = "cluster_secret"
    )]
    cluster_secret_file: Option<PathBuf>,
    /// Name of the cluster, shown to clients (default: warren)
    #[arg(long, value_name = "NAME", help_heading = "Cluster")]
    cluster_name: Option<String>,
    /// Raft groups for durable queues, fixed when the cluster is formed (default: 8)
    #[arg(long, value_name = "N", help_heading = "Cluster")]
    shards: Option<u32>,

    /// User of a fresh cluster (default: guest)
    #[arg(long, value_name = "NAME", help_heading = "Users")]
    default_user: Option<String>,
    /// Its password (default: guest)
    #[arg(
        long,
        value_name = "PASSWORD",
        help_heading = "Users",
        overrides_with = "default_pass_file"
    )]
    default_pass: Option<String>,
    /// The same, read from a file
    #[arg(
        long,
        value_name = "FILE",
        help_heading = "Users",
        overrides_with = "default_pass"
    )]
    default_pass_file: Option<PathBuf>,
    /// Virtual host of a fresh cluster (default: /)
    #[arg(long, value_name = "NAME", help_heading = "Users")]
    default_vhost: Option<String>,
    /// Users that may log in from loopback only, or 'none' (default: guest)
    #[arg(long, value_name = "LIST", help_heading = "Users")]
    loopback_users: Option<Names>,
    #[command(flatten)]
    oauth2: OAuth2Options,

    /// AMQP over TLS (default with a certificate: 0.0.0.0:5671)
    #[arg(long, value_name = "ADDR", help_heading = "TLS")]
    amqps_listen: Option<Listen>,
    /// Health, metrics and management over TLS too, RabbitMQ's is on port 15671 (default: none)
    #[arg(long, value_name = "ADDR", help_heading = "TLS")]
    management_tls_listen: Option<Listen>,
    /// Server certificate and chain, PEM
    #[arg(long, value_name = "FILE", help_heading = "TLS")]
    tls_certificate: Option<PathBuf>,
    /// Its private key, PEM
    #[arg(long, value_name = "FILE", help_heading = "TLS")]
    tls_key: Option<PathBuf>,
    /// Authorities of client certificates, PEM: clients are asked for one
    #[arg(long, value_name = "FILE", help_heading = "TLS")]
    tls_client_ca: Option<PathBuf>,
    /// Refuse clients without a certificate (default: false)
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", help_heading = "TLS")]
    tls_require_client_certificate: Option<bool>,
    /// Where mechanism EXTERNAL finds the user's name (default: common-name)
    #[arg(long, value_name = "PART", help_heading = "TLS")]
    tls_login_from: Option<LoginFrom>,
    /// This node's certificate for its peers, PEM
    #[arg(long, value_name = "FILE", help_heading = "TLS")]
    cluster_tls_certificate: Option<PathBuf>,
    /// Its private key, PEM
    #[arg(long, value_name = "FILE", help_heading = "TLS")]
    cluster_tls_key: Option<PathBuf>,
    /// Authority of the cluster's certificates, PEM
    #[arg(long, value_name = "FILE", help_heading = "TLS")]
    cluster_tls_ca: Option<PathBuf>,

    /// What is logged: a level, or a filter such as info,node=debug (default: info)
    #[arg(long, value_name = "FILTER", help_heading = "Log")]
    log: Option<String>,
    /// Form of the log (default: text)
    #[arg(long, value_name = "FORMAT", help_heading = "Log")]
    log_format: Option<LogFormat>,

    /// Client connections on this node (default: none)
    #[arg(long, value_name = "N|none", help_heading = "Limits")]
    connection_limit: Option<Limit>,
    /// Channels on this node (default: none)
    #[arg(long, value_name = "N|none", help_heading = "Limits")]
    channel_limit: Option<Limit>,
    /// Channels per connection (default: 2047)
    #[arg(long, value_name = "N", help_heading = "Limits")]
    channel_max: Option<u16>,
    /// Consumers per channel (default: none)
    #[arg(long, value_name = "N|none", help_heading = "Limits")]
    consumer_limit: Option<Limit>,
    /// Queues of the cluster (default: none)
    #[arg(long, value_name = "N|none", help_heading = "Limits")]
    queue_limit: Option<Limit>,
    /// Largest AMQP frame (default: 128KiB)
    #[arg(long, value_name = "SIZE", help_heading = "Limits")]
    frame_max: Option<Size>,
    /// Largest message body (default: 16MiB)
    #[arg(long, value_name = "SIZE", help_heading = "Limits")]
    max_message_size: Option<Size>,
    /// Failed deliveries after which a message is dropped or dead-lettered (default: none)
    #[arg(long, value_name = "N|none", help_heading = "Limits")]
    delivery_limit: Option<Limit>,
    /// A basic.nack with requeue is a failed delivery too, as basic.reject is (default: false)
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", help_heading = "Limits")]
    delivery_limit_counts_nacks: Option<bool>,
    /// Publishes of one connection that wait for an answer (default: 16MiB; without confirms 1MiB at most)
    #[arg(
        long,
        value_name = "SIZE",
        help_heading = "Limits",
        hide_short_help = true
    )]
    connection_unconfirmed: Option<Size>,
    /// Unwritten output of one connection (default: 2MiB)
    #[arg(
        long,
        value_name = "SIZE",
        help_heading = "Limits",
        hide_short_help = true
    )]
    connection_output: Option<Size>,

    /// Without a majority, publishes and declares are refused after this time (default: 30s)
    #[arg(long, value_name = "TIME", help_heading = "Times")]
    publish_timeout: Option<Span>,
    /// AMQP heartbeat offered to clients, or off (default: 60s)
    #[arg(long, value_name = "TIME", help_heading = "Times")]
    heartbeat: Option<Span>,
    /// A consumer that holds a delivery for longer is cancelled (default: off)
    #[arg(long, value_name = "TIME", help_heading = "Times")]
    consumer_timeout: Option<Span>,
    /// An AMQP handshake must be over by then (default: 10s)
    #[arg(
        long,
        value_name = "TIME",
        help_heading = "Times",
        hide_short_help = true
    )]
    handshake_timeout: Option<Span>,
    /// A refused login is told to the client after a third of this time, and its socket closed after it (default: 3s)
    #[arg(
        long,
        value_name = "TIME",
        help_heading = "Times",
        hide_short_help = true
    )]
    login_failure_delay: Option<Span>,
    /// Between heartbeats of a leader (default: 200ms)
    #[arg(
        long,
        value_name = "TIME",
        help_heading = "Times",
        hide_short_help = true
    )]
    raft_heartbeat: Option<Span>,
    /// Shortest time, on top of the lease, after which a follower that hears nothing stands for election (default: 350ms)
    #[arg(
        long,
        value_name = "TIME",
        help_heading = "Times",
        hide_short_help = true
    )]
    raft_election_min: Option<Span>,
    /// Longest such time, and a leader's lease (default: 650ms)
    #[arg(
        long,
        value_name = "TIME",
        help_heading = "Times",
        hide_short_help = true
    )]
    raft_election_max: Option<Span>,
    /// How long a new leader waits for what consumers hold (default: 500ms)
    #[arg(
        long,
        value_name = "TIME",
        help_heading = "Times",
        hide_short_help = true
    )]
    hand_over_timeout: Option<Span>,
    /// A clean stop takes no longer (default: 9s)
    #[arg(
        long,
        value_name = "TIME",
        help_heading = "Times",
        hide_short_help = true
    )]
    shutdown_timeout: Option<Span>,
    /// How often leaderships are spread anew (default: 5s)
    #[arg(
        long,
        value_name = "TIME",
        help_heading = "Times",
        hide_short_help = true
    )]
    rebalance_interval: Option<Span>,

    /// Memory that this process may use (default: the machine's or the container's)
    #[arg(long, value_name = "SIZE", help_heading = "Memory and disk")]
    memory_total: Option<Size>,
    /// Share of it above which publishers are blocked (default: 0.6)
    #[arg(long, value_name = "SHARE", help_heading = "Memory and disk")]
    memory_high_watermark: Option<f64>,
    /// Cache of stored blocks (default: 64MiB, less than that below 1 GiB of memory)
    #[arg(
        long,
        value_name = "SIZE",
        help_heading = "Memory and disk",
        hide_short_help = true
    )]
    block_cache: Option<Size>,
    /// Messages of transient and exclusive queues that stay in memory, all together; what is more goes to disk (default:
    /// 64MiB, less than that below 1 GiB of memory)
    #[arg(
        long,
        value_name = "SIZE",
        help_heading = "Memory and disk",
        hide_short_help = true
    )]
    local_queues_memory: Option<Size>,
    /// Free disk space below which publishers are blocked (default: 200MB)
    #[arg(long, value_name = "SIZE", help_heading = "Memory and disk")]
    disk_free_limit: Option<Size>,
    /// Free disk space below which this node stands aside (default: 100MB)
    #[arg(long, value_name = "SIZE", help_heading = "Memory and disk")]
    disk_reserve: Option<Size>,
    /// Take checkpoints after this much log, or when a quarter of it waits in memory to be stored (default: 128MiB, less than that below 1 GiB of memory)
    #[arg(
        long,
        value_name = "SIZE",
        help_heading = "Memory and disk",
        hide_short_help = true
    )]
    checkpoint_bytes: Option<Size>,
    /// And at the latest after this time (default: 60s)
    #[arg(
        long,
        value_name = "TIME",
        help_heading = "Memory and disk",
        hide_short_help = true
    )]
    checkpoint_interval: Option<Span>,
    /// Log kept for slow followers, per shard (default: 256MiB)
    #[arg(
        long,
        value_name = "SIZE",
        help_heading = "Memory and disk",
        hide_short_help = true
    )]
    log_keep: Option<Size>,
    /// Size of a file of the log (default: 32MiB)
    #[arg(
        long,
        value_name = "SIZE",
        help_heading = "Memory and disk",
        hide_short_help = true
    )]
    log_segment: Option<Size>,
    /// Write buffer of the state (default: 32MiB, less than that below 1 GiB of memory)
    #[arg(
        long,
        value_name = "SIZE",
        help_heading = "Memory and disk",
        hide_short_help = true
    )]
    state_write_buffer: Option<Size>,
    /// Merge at most this much into one Raft entry (default: 1MiB)
    #[arg(
        long,
        value_name = "SIZE",
        help_heading = "Memory and disk",
        hide_short_help = true
    )]
    entry_max: Option<Size>,

    /// `product` told to clients; some choose their dialect by it (default: RabbitMQ)
    #[arg(
        long,
        value_name = "NAME",
        help_heading = "Compatibility",
        hide_short_help = true
    )]
    product: Option<String>,
    /// `version` told to clients, in RabbitMQ's numbering (default: 4.3.5)
    #[arg(
        long,
        value_name = "VERSION",
        help_heading = "Compatibility",
        hide_short_help = true
    )]
    product_version: Option<String>,
    /// Type of durable queues that name none, in virtual hosts without a default of their own; the same on all nodes
    /// (default: classic)
    #[arg(long, value_name = "TYPE", help_heading = "Compatibility")]
    default_queue_type: Option<DefaultQueueType>,
    /// Quorum queues may be declared again as classic ones; the same on all nodes (default: false)
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", help_heading = "Compatibility")]
    relaxed_checks_on_redeclaration: Option<bool>,
}

/// Form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One object per line.
    Json,
}

/// See [`node::config::CertificateLogin`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LoginFrom {
    Subject,
    CommonName,
    AlternativeName,
}

/// See [`QueueType`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum DefaultQueueType {
    Classic,
    Quorum,
    Stream,
}

impl From<DefaultQueueType> for QueueType {
    fn from(named: DefaultQueueType) -> Self {
        match named {
            DefaultQueueType::Classic => Self::Classic,
            DefaultQueueType::Quorum => Self::Quorum,
            DefaultQueueType::Stream => Self::Stream,
        }
    }
}

/// What is logged and how.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct LogOptions {
    /// Filter; `None`: the default one.
    pub(crate) filter: Option<String>,
    /// Form.
    pub(crate) format: LogFormat,
}
