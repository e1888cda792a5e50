//! Every option of `warren serve`, once: name, meaning, default, and the field it sets.
//!
//! Where a value comes from (flag, environment, file) is the business of [`super::layers`].

use super::oauth2::OAuth2Options;
use super::values::{Limit, Listen, Names, Peers, Size, Span};
use crate::secret;
use clap::{Args, ValueEnum};
use management::Definitions;
use node::Config;
use node::config::{CertificateLogin, ClusterTls, QueueType, Secret, TlsListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Options of `warren serve`. All are optional here; defaults are those of [`Config`].
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

/// See [`CertificateLogin`].
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

/// What the options come to.
pub(crate) struct Resolved {
    /// Of the node.
    pub(crate) config: Config,
    /// Of the log.
    pub(crate) log: LogOptions,
    /// To be imported when the node is ready.
    pub(crate) definitions: Option<Definitions>,
}

impl Options {
    /// Fills in the configuration and checks it as a whole. Reads the files that hold secrets
    /// and definitions.
    pub(crate) fn resolve(self) -> Result<Resolved, String> {
        let mut config = Config::default();
        // Before what is set, which counts as it is.
        let memory = self.memory_total.map(|size| size.0);
        config.fit_into(memory.unwrap_or_else(node::life::process::memory_limit));
        let cluster_secret = match (&self.cluster_secret, &self.cluster_secret_file) {
            (Some(secret), _) => Some(secret.clone()),
            (None, Some(file)) => Some(secret::read(file)?),
            (None, None) => None,
        };
        if cluster_secret.as_ref().is_some_and(String::is_empty) {
            return Err("the cluster secret is empty: set it to the same text on all nodes".into());
        }
        config.cluster_secret = cluster_secret.map(Secret::new);
        if let Some(file) = &self.default_pass_file {
            config.default_user.password = secret::read(file)?;
        }
        config.amqps = self.amqps()?;
        config.cluster_tls = self.cluster_tls()?;
        let log = LogOptions {
            filter: self.log.clone(),
            format: self.log_format.unwrap_or_default(),
        };
        let definitions = self.load_definitions.as_deref();
        let definitions = definitions.map(read_definitions).transpose()?;
        let brings_users = definitions.as_ref().is_some_and(Definitions::has_users);
        if brings_users && self.default_user.is_none() {
            // As for RabbitMQ: whoever brings users wants no well-known one.
            config.default_user.name = String::new();
        }
        config.auth = self.oauth2.clone().resolve()?;
        self.fill_plain(&mut config);
        config.validate().map_err(|error| error.to_string())?;
        Ok(Resolved {
            config,
            log,
            definitions,
        })
    }

    fn amqps(&self) -> Result<Option<TlsListener>, String> {
        let (certificate, key) = match (&self.tls_certificate, &self.tls_key) {
            (Some(certificate), Some(key)) => (certificate.clone(), key.clone()),
            (Some(_), None) => return Err("--tls-certificate needs --tls-key too".into()),
            (None, Some(_)) => return Err("--tls-key needs --tls-certificate too".into()),
            (None, None) => {
                let other = [
                    ("--amqps-listen", self.amqps_listen.is_some()),
                    (
                        "--management-tls-listen",
                        self.management_tls_listen.is_some(),
                    ),
                    ("--tls-client-ca", self.tls_client_ca.is_some()),
                    (
                        "--tls-require-client-certificate",
                        self.tls_require_client_certificate == Some(true),
                    ),
                ];
                return match other.iter().find(|(_, given)| *given) {
                    Some((flag, _)) => Err(format!("{flag} needs --tls-certificate and --tls-key")),
                    None => Ok(None),
                };
            }
        };
        let require_client_certificate = self.tls_require_client_certificate.unwrap_or_default();
        if require_client_certificate && self.tls_client_ca.is_none() {
            return Err("--tls-require-client-certificate needs --tls-client-ca".into());
        }
        for file in [&certificate, &key].into_iter().chain(&self.tls_client_ca) {
            check_readable(file)?;
        }
        Ok(Some(TlsListener {
            listen: self
                .amqps_listen
                .map_or(([0, 0, 0, 0], 5671).into(), |listen| listen.0),
            certificate,
            key,
            client_ca: self.tls_client_ca.clone(),
            require_client_certificate,
            login_from: match self.tls_login_from {
                Some(LoginFrom::Subject) => CertificateLogin::DistinguishedName,
                Some(LoginFrom::AlternativeName) => CertificateLogin::SubjectAlternativeName,
                Some(LoginFrom::CommonName) | None => CertificateLogin::CommonName,
            },
        }))
    }

    fn cluster_tls(&self) -> Result<Option<ClusterTls>, String> {
        match (&self.cluster_tls_certificate, &self.cluster_tls_key, &self.cluster_tls_ca) {
            (None, None, None) => Ok(None),
            (Some(certificate), Some(key), Some(ca)) => {
                for file in [certificate, key, ca] {
                    check_readable(file)?;
                }
                Ok(Some(ClusterTls { certificate: certificate.clone(), key: key.clone(), ca: ca.clone() }))
            }
            _ => Err("TLS between nodes needs all three of --cluster-tls-certificate, --cluster-tls-key and --cluster-tls-ca".into()),
        }
    }

    /// Fields that need nothing but a value.
    fn fill_plain(self, config: &mut Config) {
        let (timing, limits) = (&mut config.timing, &mut config.limits);
        let (memory, storage) = (&mut config.memory, &mut config.storage);
        set(&mut config.node_id, self.node_id.map(node::config::NodeId));
        set(&mut config.data_dir, self.data_dir);
        set(
            &mut config.amqp_listen,
            self.amqp_listen.map(|listen| listen.0),
        );
        set(
            &mut config.management_listen,
            self.management_listen.map(|listen| listen.0),
        );
        set(
            &mut config.management_tls_listen,
            self.management_tls_listen.map(|listen| Some(listen.0)),
        );
        set(&mut config.management_api, self.management_api);
        set(
            &mut config.prometheus_listen,
            self.prometheus_listen.map(|listen| Some(listen.0)),
        );
        set(&mut config.proxy_protocol, self.proxy_protocol);
        set(
            &mut config.cluster_listen,
            self.cluster_listen.map(|listen| listen.0),
        );
        set(
            &mut config.cluster_advertise,
            self.cluster_advertise.map(Some),
        );
        set(&mut config.peers, self.peers.map(|peers| peers.0));
        set(&mut config.join, self.join.map(Some));
        set(&mut config.cluster_name, self.cluster_name);
        set(&mut config.sharding.shards, self.shards);
        set(&mut config.default_user.name, self.default_user);
        set(&mut config.default_user.password, self.default_pass);
        set(&mut config.default_user.vhost, self.default_vhost);
        set(
            &mut config.loopback_users,
            self.loopback_users.map(|names| names.0),
        );
        set(&mut config.product, self.product);
        set(&mut config.product_version, self.product_version);
        set(
            &mut config.declarations.default_queue_type,
            self.default_queue_type.map(QueueType::from),
        );
        set(
            &mut config.declarations.relaxed_redeclaration,
            self.relaxed_checks_on_redeclaration,
        );

        set(
            &mut limits.connections,
            self.connection_limit.map(|limit| limit.0),
        );
        set(
            &mut limits.channels,
            self.channel_limit.map(|limit| limit.0),
        );
        set(&mut limits.channels_per_connection, self.channel_max);
        set(
            &mut limits.consumers_per_channel,
            self.consumer_limit.map(|limit| limit.0),
        );
        set(
            &mut limits.queues,
            self.queue_limit.map(|limit| limit.0.map(u64::from)),
        );
        set(
            &mut limits.frame_max,
            self.frame_max
                .map(|size| u32::try_from(size.0).unwrap_or(u32::MAX)),
        );
        set(
            &mut limits.message_size,
            self.max_message_size.map(|size| size.0),
        );
        set(
            &mut limits.delivery_limit,
            self.delivery_limit.map(|limit| limit.0),
        );
        set(
            &mut limits.delivery_limit_counts_nacks,
            self.delivery_limit_counts_nacks,
        );
        set(
            &mut limits.connection_unconfirmed_bytes,
            self.connection_unconfirmed.map(in_memory),
        );
        set(
            &mut limits.connection_output_bytes,
            self.connection_output.map(in_memory),
        );

        set(
            &mut timing.publish_timeout,
            self.publish_timeout.map(|span| span.0),
        );
        set(
            &mut timing.amqp_heartbeat,
            self.heartbeat.map(|span| span.0),
        );
        set(
            &mut timing.consumer_timeout,
            self.consumer_timeout.map(unless_off),
        );
        set(
            &mut timing.handshake_timeout,
            self.handshake_timeout.map(|span| span.0),
        );
        set(
            &mut timing.login_failure_delay,
            self.login_failure_delay.map(|span| span.0),
        );
        set(
            &mut timing.raft_heartbeat,
            self.raft_heartbeat.map(|span| span.0),
        );
        set(
            &mut timing.raft_election_min,
            self.raft_election_min.map(|span| span.0),
        );
        set(
            &mut timing.raft_election_max,
            self.raft_election_max.map(|span| span.0),
        );
        set(
            &mut timing.hand_over_timeout,
            self.hand_over_timeout.map(|span| span.0),
        );
        set(
            &mut timing.shutdown_timeout,
            self.shutdown_timeout.map(|span| span.0),
        );
        set(
            &mut timing.rebalance_interval,
            self.rebalance_interval.map(|span| span.0),
        );

        set(
            &mut memory.total_bytes,
            self.memory_total.map(|size| Some(size.0)),
        );
        set(&mut memory.high_watermark, self.memory_high_watermark);
        set(
            &mut memory.block_cache_bytes,
            self.block_cache.map(in_memory),
        );

        set(
            &mut storage.disk_free_limit_bytes,
            self.disk_free_limit.map(|size| size.0),
        );
        set(
            &mut storage.disk_reserve_bytes,
            self.disk_reserve.map(|size| size.0),
        );
        set(
            &mut storage.checkpoint_bytes,
            self.checkpoint_bytes.map(|size| size.0),
        );
        set(
            &mut storage.checkpoint_interval,
            self.checkpoint_interval.map(|span| span.0),
        );
        set(
            &mut storage.log_keep_bytes,
            self.log_keep.map(|size| size.0),
        );
        set(
            &mut storage.log_segment_bytes,
            self.log_segment.map(|size| size.0),
        );
        set(
            &mut storage.state_write_buffer_bytes,
            self.state_write_buffer.map(in_memory),
        );
        set(&mut storage.entry_bytes_max, self.entry_max.map(in_memory));
    }
}

fn read_definitions(file: &Path) -> Result<Definitions, String> {
    let json = std::fs::read(file)
        .map_err(|error| format!("definitions file {}: {error}", file.display()))?;
    Definitions::parse(&json).map_err(|error| {
        format!(
            "definitions file {}: {error}: give a file that `warren definitions export` or `rabbitmqctl \
             export_definitions` wrote",
            file.display()
        )
    })
}

fn set<T>(field: &mut T, given: Option<T>) {
    if let Some(value) = given {
        *field = value;
    }
}

fn in_memory(size: Size) -> usize {
    usize::try_from(size.0).unwrap_or(usize::MAX)
}

fn unless_off(span: Span) -> Option<Duration> {
    (!span.0.is_zero()).then_some(span.0)
}

fn check_readable(file: &PathBuf) -> Result<(), String> {
    std::fs::File::open(file)
        .map(drop)
        .map_err(|error| format!("cannot read {}: {error}", file.display()))
}
