//! What nodes tell each other for operators.

use crate::metrics::ChannelCounts;
use crate::registry::{ChannelEntry, ConnectionEntry};
use broker_model::ids::NodeId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// A connection as other nodes see it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ConnectionReport {
    /// The node that it is open on.
    pub node: u64,
    /// Its session on that node.
    pub serial: u64,
    /// RabbitMQ's form: `127.0.0.1:50000 -> 127.0.0.1:5672`.
    pub name: String,
    /// Who is logged in.
    pub user: String,
    /// Its virtual host.
    pub vhost: String,
    /// The client's address.
    pub peer_host: String,
    /// The client's port.
    pub peer_port: u16,
    /// The node's address.
    pub host: String,
    /// The node's port.
    pub port: u16,
    /// Whether it is encrypted.
    pub tls: bool,
    /// How the client logged in: `PLAIN`, for instance.
    pub mechanism: String,
    /// The name that the client gave it.
    pub client_name: Option<String>,
    /// What the client said about itself: a field table without its length.
    pub client_properties: Vec<u8>,
    /// Milliseconds since the Unix epoch.
    pub connected_at_ms: u64,
    /// Largest frame, in bytes.
    pub frame_max: u32,
    /// Channels that may be open at once; 0: any number.
    pub channel_max: u16,
    /// Seconds; 0: none.
    pub heartbeat: u16,
    /// RabbitMQ's name for it: `running`, `blocked`.
    pub state: String,
    /// Bytes read.
    pub received: u64,
    /// Bytes written.
    pub sent: u64,
    /// Those that are open.
    pub channels: Vec<ChannelReport>,
}

/// A channel as other nodes see it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ChannelReport {
    /// Its number on the connection.
    pub number: u16,
    /// How many consume on it.
    pub consumers: i64,
    /// Prefetch that its consumers share; 0: none.
    pub prefetch: i64,
    /// Prefetch of each consumer to come. Nodes of an older version do not say.
    #[serde(default)]
    pub prefetch_each: i64,
    /// Deliveries that are not acknowledged.
    pub unacked: i64,
    /// Publishes that are not confirmed.
    pub unconfirmed: i64,
    /// Whether publishes are confirmed.
    pub confirms: bool,
    /// Whether it has transactions.
    pub transactional: bool,
    /// What has happened on it, by the names of [`crate::metrics::ChannelCounts`]; what has not is left out.
    #[serde(default)]
    pub counts: BTreeMap<String, u64>,
    /// Arguments of its consumers that have any, by their tags: encoded as a field table without its length.
    #[serde(default)]
    pub arguments: BTreeMap<String, Vec<u8>>,
}

/// What went through an exchange on one node, or on several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExchangeReport {
    /// Its virtual host.
    pub vhost: String,
    /// Its name; empty for the default exchange.
    pub name: String,
    /// Messages published to it.
    pub published: u64,
    /// Queues that they went to, each counted once per message.
    pub routed: u64,
}

/// What has happened on connections to a virtual host on one node since it started, or on several.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VhostReport {
    /// Its name.
    pub vhost: String,
    /// Bytes that clients sent.
    pub received: u64,
    /// Bytes that were sent to clients.
    pub sent: u64,
    /// What has happened on its channels, by the names of [`crate::metrics::ChannelCounts`]; what has not is left out.
    pub counts: BTreeMap<String, u64>,
}

/// What a node says about itself.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct NodeReport {
    /// Who says it.
    pub node: u64,
    /// Of the program.
    pub version: String,
    /// Of its process; 0 where a node of an older version does not say.
    #[serde(default)]
    pub pid: u32,
    /// Milliseconds since its start.
    pub uptime_ms: u64,
    /// Resident memory, in bytes.
    pub memory_used: u64,
    /// Bytes above which publishers are blocked.
    pub memory_limit: u64,
    /// Whether they are.
    pub memory_alarm: bool,
    /// Free bytes where its data are.
    pub disk_free: u64,
    /// Bytes below which publishers are blocked.
    pub disk_free_limit: u64,
    /// Whether they are.
    pub disk_alarm: bool,
    /// Connections of AMQP clients.
    pub connections: u64,
    /// File descriptors in use.
    pub fd_used: u64,
    /// File descriptors that the process may have.
    pub fd_total: u64,
    /// Taken out of service for a while.
    #[serde(default)]
    pub maintenance: bool,
    /// Where it listens. Nodes of an older version do not say.
    #[serde(default)]
    pub listeners: Vec<ListenerReport>,
    /// Groups that run here, with their state.
    pub groups: Vec<GroupReport>,
    /// What has happened since its start, by the names of [`crate::metrics::Counts`].
    pub counts: BTreeMap<String, u64>,
}

/// Where a node serves a protocol.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerReport {
    /// By RabbitMQ's name for it.
    pub protocol: String,
    /// The address that it is bound to.
    pub address: SocketAddr,
}

/// One Raft group on one node.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct GroupReport {
    /// 0: the catalog; else a shard.
    pub group: u32,
    /// The highest term that this node has seen.
    pub term: u64,
    /// Who leads, as far as this node knows.
    pub leader: Option<u64>,
    /// Whether this node leads and may act as the leader, see [`consensus::Leadership`].
    pub ready: bool,
    /// Index of the last committed entry that this node knows of; 0: none. So with the others.
    pub committed: u64,
    /// Index of the last applied entry.
    pub applied: u64,
    /// Index of the last entry in the log.
    pub last_log: u64,
    /// Index that the last checkpoint covers.
    pub checkpoint: u64,
    /// Index up to which the log is gone.
    pub purged: u64,
    /// Nodes that vote.
    pub voters: Vec<u64>,
    /// Nodes that only follow, while they catch up.
    pub learners: Vec<u64>,
}

pub(super) fn report(node: NodeId, entry: &ConnectionEntry) -> ConnectionReport {
    ConnectionReport {
        node: node.0,
        serial: entry.session.0,
        name: entry.name(),
        user: entry.user.to_string(),
        vhost: entry.vhost.to_string(),
        peer_host: entry.peer.ip().to_string(),
        peer_port: entry.peer.port(),
        host: entry.local.ip().to_string(),
        port: entry.local.port(),
        tls: entry.tls,
        mechanism: entry.mechanism.to_owned(),
        client_name: entry.client_name.clone(),
        client_properties: entry.client_properties.to_vec(),
        connected_at_ms: entry.connected_at_ms,
        frame_max: entry.frame_max,
        channel_max: entry.channel_max,
        heartbeat: entry.heartbeat,
        state: (*entry.state.lock()).to_owned(),
        received: entry.received.value(),
        sent: entry.sent.value(),
        channels: entry
            .channels
            .lock()
            .values()
            .map(|channel| ChannelReport {
                counts: counted(&channel.counts),
                arguments: arguments(channel),
                number: channel.number,
                consumers: channel.consumers.value(),
                prefetch: channel.prefetch.value(),
                prefetch_each: channel.prefetch_each.value(),
                unacked: channel.unacked.value(),
                unconfirmed: channel.unconfirmed.value(),
                confirms: channel.confirms.value() != 0,
                transactional: channel.transactional.value() != 0,
            })
            .collect(),
    }
}

fn counted(counts: &ChannelCounts) -> BTreeMap<String, u64> {
    let counted = counts.values().into_iter().filter(|(_, count)| *count > 0);
    counted
        .map(|(name, count)| (name.to_owned(), count))
        .collect()
}

fn arguments(channel: &ChannelEntry) -> BTreeMap<String, Vec<u8>> {
    let arguments = channel.arguments.lock();
    let arguments = arguments.iter();
    arguments
        .map(|(tag, table)| (tag.to_string(), table.to_vec()))
        .collect()
}
