//! Open connections and channels of this node, for the operator's view.
//!
//! Sessions keep their entry up to date with plain atomics; nothing here is touched per message
//! except counters.

use crate::exchange_flows::ExchangeFlows;
use crate::hub::api::SessionId;
use crate::metrics::{ChannelCounts, Counter, Gauge};
use crate::queries::VhostReport;
use crate::vhost_flows::VhostFlows;
use amqp_codec::ShortStr;
use amqp_connection::{Mechanism, ServerConfig};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

/// One open connection.
#[derive(Debug)]
pub struct ConnectionEntry {
    /// Its session; the serial of its connection id.
    pub session: SessionId,
    /// Client's address.
    pub peer: SocketAddr,
    /// Our address.
    pub local: SocketAddr,
    /// User.
    pub user: Arc<str>,
    /// Vhost.
    pub vhost: Arc<str>,
    /// Over TLS.
    pub tls: bool,
    /// `PLAIN`, `AMQPLAIN` or `EXTERNAL`.
    pub mechanism: &'static str,
    /// `connection_name` of the client properties.
    pub client_name: Option<String>,
    /// Client properties, encoded as a field table without its length.
    pub client_properties: bytes::Bytes,
    /// When it was opened, ms since the Unix epoch.
    pub connected_at_ms: u64,
    /// Negotiated values.
    pub frame_max: u32,
    /// Negotiated.
    pub channel_max: u16,
    /// Heartbeat in seconds.
    pub heartbeat: u16,
    /// `running`, `blocked`, …
    pub state: Mutex<&'static str>,
    /// Bytes read.
    pub received: Counter,
    /// Bytes written.
    pub sent: Counter,
    /// Open channels.
    pub channels: Mutex<BTreeMap<u16, Arc<ChannelEntry>>>,
}

impl ConnectionEntry {
    /// The name that RabbitMQ's tools know a connection by.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{} -> {}", self.peer, self.local)
    }
}

/// One open channel. It has cache lines of its own: its session counts every message in it, and channels of other sessions
/// would be next to it.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct ChannelEntry {
    /// Number.
    pub number: u16,
    /// Consumers.
    pub consumers: Gauge,
    /// Channel-wide prefetch.
    pub prefetch: Gauge,
    /// Prefetch of each consumer to come.
    pub prefetch_each: Gauge,
    /// Deliveries not settled.
    pub unacked: Gauge,
    /// Publishes not confirmed.
    pub unconfirmed: Gauge,
    /// In confirm mode (0 or 1).
    pub confirms: Gauge,
    /// Transactional (0 or 1).
    pub transactional: Gauge,
    /// What has happened on it.
    pub counts: ChannelCounts,
    /// Arguments of its consumers that have any, by their tags: encoded as a field table without its length.
    pub arguments: Mutex<BTreeMap<ShortStr, bytes::Bytes>>,
}

/// All open connections.
#[derive(Debug, Default)]
pub struct Registry {
    connections: Mutex<BTreeMap<SessionId, Arc<ConnectionEntry>>>,
    /// What was offered to clients last, without and with `EXTERNAL`.
    offers: Mutex<[Option<Arc<ServerConfig>>; 2]>,
    /// What goes through exchanges.
    pub exchanges: ExchangeFlows,
    /// What went through virtual hosts, on channels and connections that are over.
    pub vhosts: VhostFlows,
}

impl Registry {
    /// What a client is offered: the same allocation for all that are offered the same.
    pub fn offer(&self, config: ServerConfig) -> Arc<ServerConfig> {
        let external = config.mechanisms.contains(&Mechanism::External);
        let mut offers = self.offers.lock();
        let [without, with] = &mut *offers;
        let last = if external { with } else { without };
        match last {
            Some(last) if **last == config => Arc::clone(last),
            last => Arc::clone(last.insert(Arc::new(config))),
        }
    }

    /// Adds a connection.
    pub fn add(&self, entry: Arc<ConnectionEntry>) {
        self.connections.lock().insert(entry.session, entry);
    }

    /// Removes it.
    pub fn remove(&self, session: SessionId) {
        self.connections.lock().remove(&session);
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, session: SessionId) -> Option<Arc<ConnectionEntry>> {
        self.connections.lock().get(&session).cloned()
    }

    /// What has happened on connections to each virtual host.
    #[must_use]
    pub fn vhost_reports(&self) -> Vec<VhostReport> {
        self.vhosts.reports(&self.connections())
    }

    /// How many there are.
    #[must_use]
    pub fn connection_count(&self) -> usize {
        self.connections.lock().len()
    }

    /// All of them, by session.
    #[must_use]
    pub fn connections(&self) -> Vec<Arc<ConnectionEntry>> {
        self.connections.lock().values().cloned().collect()
    }

    /// Open channels on which anything was published.
    #[must_use]
    pub fn publishers(&self) -> u64 {
        let connections = self.connections();
        let publishers = connections.iter().map(|entry| {
            let channels = entry.channels.lock();
            let published = channels
                .values()
                .filter(|channel| channel.counts.published.value() > 0);
            published.count() as u64
        });
        publishers.sum()
    }

    /// Open channels of a user.
    #[must_use]
    pub fn channels_of(&self, user: &str) -> u64 {
        let connections = self.connections.lock();
        let of_user = connections.values().filter(|entry| *entry.user == *user);
        of_user
            .map(|entry| entry.channels.lock().len() as u64)
            .sum()
    }

    /// How many connections a user has open here, and how many a virtual host.
    #[must_use]
    pub fn open_of(&self, user: &str, vhost: &str) -> (u64, u64) {
        let connections = self.connections.lock();
        connections
            .values()
            .fold((0, 0), |(of_user, of_vhost), entry| {
                (
                    of_user + u64::from(*entry.user == *user),
                    of_vhost + u64::from(*entry.vhost == *vhost),
                )
            })
    }

    /// Connections of a vhost or user, to be closed when that is deleted.
    #[must_use]
    pub fn matching(&self, wanted: impl Fn(&ConnectionEntry) -> bool) -> Vec<SessionId> {
        self.connections
            .lock()
            .values()
            .filter(|entry| wanted(entry))
            .map(|e| e.session)
            .collect()
    }
}
