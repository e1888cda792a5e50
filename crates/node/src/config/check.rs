//! What would not work, and what to do about it.

use super::{Config, NodeId};
use std::fmt::Display;
use std::net::SocketAddr;

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
    #[error(
        "'{0}' is not an address of the form HOST:PORT: HOST is a name such as warren1, an IPv4 address, or an IPv6 address \
         in brackets"
    )]
    Address(String),
    /// Each listener needs a port of its own.
    #[error("the listeners {one} and {other} both have port {port}: give one of them another")]
    SamePort {
        /// One listener, by RabbitMQ's name for its protocol.
        one: &'static str,
        /// The other.
        other: &'static str,
        /// Their port.
        port: u16,
    },
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

impl Config {
    /// Checks what would not work, whoever filled the fields in.
    ///
    /// # Errors
    /// The first thing that is wrong, with advice.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.check_membership()?;
        self.check_ports()?;
        self.out_of_range().map_or(Ok(()), Err)
    }

    /// The first number that does not work.
    fn out_of_range(&self) -> Option<ConfigError> {
        let (timing, limits, storage) = (&self.timing, &self.limits, &self.storage);
        let (shards, watermark) = (self.sharding.shards, self.memory.high_watermark);
        let (beat, shortest, longest) = (
            timing.raft_heartbeat,
            timing.raft_election_min,
            timing.raft_election_max,
        );
        let checks = [
            wrong(
                !(1..=1024).contains(&shards),
                "shards",
                shards,
                "use 1 to 1024",
            ),
            wrong(
                limits.frame_max < 4096,
                "frame_max",
                limits.frame_max,
                "use at least 4096",
            ),
            wrong(
                limits.message_size > 512 << 20,
                "max_message_size",
                limits.message_size,
                "use at most 536870912 (512 MiB)",
            ),
            wrong(
                limits.channels_per_connection == 0,
                "channel_max",
                0,
                "use 1 to 65535",
            ),
            wrong(
                !(watermark > 0.0 && watermark <= 1.0),
                "memory_high_watermark",
                watermark,
                "use a share above 0 and up to 1, such as 0.6",
            ),
            wrong(
                self.memory.local_queues_bytes < 64 << 10,
                "local_queues_memory",
                self.memory.local_queues_bytes,
                "use at least 65536 (64 KiB)",
            ),
            wrong(
                shortest <= beat,
                "raft_election_min",
                format_args!("{shortest:?}"),
                "use more than raft_heartbeat",
            ),
            wrong(
                longest <= shortest,
                "raft_election_max",
                format_args!("{longest:?}"),
                "use more than raft_election_min, so that two nodes seldom stand at once",
            ),
            wrong(
                longest < beat * 3,
                "raft_election_max",
                format_args!("{longest:?}"),
                "use at least three times raft_heartbeat: it is a leader's lease too",
            ),
            wrong(
                beat.is_zero(),
                "raft_heartbeat",
                0,
                "use a time, such as 200ms",
            ),
            wrong(
                timing.rebalance_interval.is_zero(),
                "rebalance_interval",
                0,
                "use a time, such as 5s",
            ),
            wrong(
                timing.handshake_timeout.is_zero(),
                "handshake_timeout",
                0,
                "use a time, such as 10s",
            ),
            wrong(
                !timing.amqp_heartbeat.is_zero() && timing.amqp_heartbeat.as_secs() == 0,
                "heartbeat",
                format_args!("{:?}", timing.amqp_heartbeat),
                "use whole seconds, such as 60s, or off",
            ),
            wrong(
                limits.connection_output_bytes < 4096,
                "connection_output",
                limits.connection_output_bytes,
                "use at least 4096",
            ),
            wrong(
                limits.connection_unconfirmed_bytes < 4096,
                "connection_unconfirmed",
                limits.connection_unconfirmed_bytes,
                "use at least 4096",
            ),
            wrong(
                self.memory.total_bytes == Some(0),
                "memory_total",
                0,
                "use what this process may have, such as 2GiB",
            ),
            wrong(
                storage.checkpoint_interval.is_zero(),
                "checkpoint_interval",
                0,
                "use a time, such as 60s",
            ),
            wrong(
                storage.log_segment_bytes < 64 << 10,
                "log_segment",
                storage.log_segment_bytes,
                "use at least 65536",
            ),
            wrong(
                timing.publish_timeout.is_zero(),
                "publish_timeout",
                0,
                "use a time, such as 30s",
            ),
            wrong(
                storage.checkpoint_bytes < 64 << 10,
                "checkpoint_bytes",
                storage.checkpoint_bytes,
                "use at least 65536",
            ),
            wrong(
                storage.disk_reserve_bytes > storage.disk_free_limit_bytes,
                "disk_reserve",
                storage.disk_reserve_bytes,
                "use no more than disk_free_limit",
            ),
        ];
        checks.into_iter().flatten().next()
    }

    /// Two listeners on one port: told apart from a port that another program has.
    fn check_ports(&self) -> Result<(), ConfigError> {
        let listeners = self.listeners();
        for (at, (one, address)) in listeners.iter().enumerate() {
            let same = listeners.iter().skip(at + 1).find(|(_, other)| {
                let any = address.ip().is_unspecified() || other.ip().is_unspecified();
                address.port() == other.port() && (any || address.ip() == other.ip())
            });
            if let Some((other, _)) = same
                && address.port() != 0
            {
                return Err(ConfigError::SamePort {
                    one,
                    other,
                    port: address.port(),
                });
            }
        }
        Ok(())
    }

    fn check_membership(&self) -> Result<(), ConfigError> {
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
}

/// What to say of a field if it is wrong.
fn wrong(
    is_wrong: bool,
    name: &'static str,
    value: impl Display,
    advice: &'static str,
) -> Option<ConfigError> {
    is_wrong.then(|| ConfigError::Range {
        name,
        value: value.to_string(),
        advice,
    })
}

/// Names are resolved when they are dialled, so only the form is checked.
fn check_address(address: &str) -> Result<(), ConfigError> {
    let usable = address.rsplit_once(':').is_some_and(|(host, port)| {
        let port = port.parse::<u16>().is_ok_and(|port| port != 0);
        port && (is_name(host) || address.parse::<SocketAddr>().is_ok())
    });
    match usable {
        true => Ok(()),
        false => Err(ConfigError::Address(address.to_owned())),
    }
}

/// A host's name, or an IPv4 address. Some resolvers know names with underscores.
fn is_name(host: &str) -> bool {
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    !host.is_empty() && host.chars().all(known)
}

#[cfg(test)]
mod tests {
    use super::super::{Peer, Secret};
    use super::*;
    use std::time::Duration;

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
    fn addresses_of_peers() {
        for (address, usable) in [
            ("warren1:25672", true),
            ("warren_1.example.org:25672", true),
            ("10.0.0.1:25672", true),
            ("[fd00::1]:25672", true),
            ("fd00::1:25672", false),
            ("::1", false),
            ("[warren1]:25672", false),
            ("rabbit@warren1:25672", false),
            ("http://warren1:25672", false),
            ("warren1:25672/", false),
            ("warren1 :25672", false),
            ("warren1", false),
        ] {
            assert_eq!(check_address(address).is_ok(), usable, "{address}");
        }
    }

    #[test]
    fn listeners_have_ports_of_their_own() {
        let at = |amqp: &str, management: &str| {
            let config = Config {
                amqp_listen: amqp.parse().unwrap(),
                management_listen: management.parse().unwrap(),
                ..Config::default()
            };
            config.validate()
        };
        assert_eq!(at("127.0.0.1:0", "127.0.0.1:0"), Ok(()));
        assert_eq!(at("127.0.0.1:5672", "127.0.0.2:5672"), Ok(()));
        for management in ["127.0.0.1:5672", "0.0.0.0:5672", "[::]:5672"] {
            let error = at("127.0.0.1:5672", management).unwrap_err().to_string();
            assert!(
                error.contains("amqp and http both have port 5672"),
                "{error}"
            );
        }
    }

    #[test]
    fn ranges_are_checked() {
        type Change = fn(&mut Config);
        let wrong: [(&str, Change); 19] = [
            ("raft_heartbeat", |c| {
                c.timing.raft_heartbeat = Duration::ZERO
            }),
            ("rebalance_interval", |c| {
                c.timing.rebalance_interval = Duration::ZERO
            }),
            ("handshake_timeout", |c| {
                c.timing.handshake_timeout = Duration::ZERO
            }),
            ("heartbeat", |c| {
                c.timing.amqp_heartbeat = Duration::from_millis(500)
            }),
            ("connection_output", |c| {
                c.limits.connection_output_bytes = 0
            }),
            ("connection_unconfirmed", |c| {
                c.limits.connection_unconfirmed_bytes = 0
            }),
            ("memory_total", |c| c.memory.total_bytes = Some(0)),
            ("checkpoint_interval", |c| {
                c.storage.checkpoint_interval = Duration::ZERO
            }),
            ("log_segment", |c| c.storage.log_segment_bytes = 0),
            ("shards", |c| c.sharding.shards = 0),
            ("frame_max", |c| c.limits.frame_max = 4095),
            ("max_message_size", |c| c.limits.message_size = 1 << 40),
            ("channel_max", |c| c.limits.channels_per_connection = 0),
            ("local_queues_memory", |c| {
                c.memory.local_queues_bytes = 1000
            }),
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
}
