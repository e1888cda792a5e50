//! What the options come to: a configuration, checked as a whole.

use super::{LogOptions, LoginFrom, Options};
use crate::secret;
use crate::serve::values::{Size, Span};
use management::Definitions;
use node::Config;
use node::config::{CertificateLogin, ClusterTls, QueueType, Secret, TlsListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

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
            &mut memory.local_queues_bytes,
            self.local_queues_memory.map(in_memory),
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
