//! Questions of the operator's view that a node answers about itself, asked over the cluster port
//! so that any node can show all of them.

mod reports;

pub use reports::{
    ChannelReport, ConnectionReport, ExchangeReport, GroupReport, ListenerReport, NodeReport,
    VhostReport,
};

use crate::auth_attempts::AttemptsReport;
use crate::host::{HostDirectory, HostInput, QueueReport};
use crate::hub::api::SessionId;
use crate::life::maintenance::Maintenance;
use crate::life::stall::Stall;
use crate::life::syncs::Syncs;
use crate::metrics::Metrics;
use crate::registry::Registry;
use crate::shovels::{ShovelReport, Shovels};
use broker_model::ids::{NodeId, Placement, QueueId, ShardId};
use cluster_proto::node::v1::{QueryRequest, peer_client::PeerClient};
use consensus::{Connectivity, PeerNet};
use futures::future::{BoxFuture, join_all};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use reports::report;
use serde::{Deserialize, Serialize};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{oneshot, watch};

/// How long a node may take to answer.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Answers questions about this node.
pub trait Queries: Send + Sync {
    /// JSON for a known question.
    fn answer<'a>(
        &'a self,
        question: &'a str,
        arguments: &'a [u8],
    ) -> BoxFuture<'a, Option<Vec<u8>>>;
}

/// Closes a connection by its serial, with a reason; false if it is not here.
pub type CloseConnection = Box<dyn Fn(u64, &str) -> bool + Send + Sync>;

/// The questions of this node, and the way to ask all nodes.
pub struct NodeQueries {
    /// This node.
    pub node: NodeId,
    /// Hosts here.
    pub hosts: Arc<HostDirectory>,
    /// Connections here.
    pub registry: Arc<Registry>,
    /// Other nodes.
    pub peers: PeerNet,
    /// Makes the report on this node.
    pub report: Box<dyn Fn() -> NodeReport + Send + Sync>,
    /// Closes a connection of this node.
    pub close: CloseConnection,
    /// Whether the catalog here knows of this start of the node.
    pub announced: Box<dyn Fn() -> bool + Send + Sync>,
    /// Whether this node is in maintenance.
    pub(crate) maintenance: Arc<Maintenance>,
    /// Whether the disk here has stood still lately.
    pub(crate) stall: Arc<Stall>,
    /// How long the disk here takes for a sync.
    pub(crate) syncs: Arc<Syncs>,
    /// Whether this node is about to stop.
    pub(crate) stopping: watch::Receiver<bool>,
    /// Shovels here.
    pub(crate) shovels: Arc<Shovels>,
    /// What is counted here.
    pub(crate) metrics: Arc<Metrics>,
}

/// Arguments of `queues`.
#[derive(Debug, Default, Serialize, Deserialize)]
struct QueuesQuestion {
    /// Shard, 0 for local queues.
    shard: u32,
    /// Which queues; all if empty.
    queues: Vec<u64>,
}

/// Arguments of `open`.
#[derive(Debug, Serialize, Deserialize)]
struct OpenQuestion {
    user: String,
    vhost: String,
}

/// Arguments of `restart_shovel`.
#[derive(Debug, Serialize, Deserialize)]
struct ShovelQuestion {
    vhost: String,
    name: String,
}

/// Arguments of `close`.
#[derive(Debug, Serialize, Deserialize)]
struct CloseQuestion {
    serial: u64,
    reason: String,
}

impl Queries for NodeQueries {
    fn answer<'a>(
        &'a self,
        question: &'a str,
        arguments: &'a [u8],
    ) -> BoxFuture<'a, Option<Vec<u8>>> {
        async move {
            match question {
                "connections" if arguments.is_empty() => {
                    serde_json::to_vec(&self.connections_here()).ok()
                }
                // A node that does not know this question yet names them all.
                "connections" => {
                    let serials: Vec<u64> = serde_json::from_slice(arguments).ok()?;
                    let found = serials
                        .iter()
                        .filter_map(|serial| self.registry.get(SessionId(*serial)));
                    let reports: Vec<_> = found.map(|entry| report(self.node, &entry)).collect();
                    serde_json::to_vec(&reports).ok()
                }
                "channels" => {
                    let user = std::str::from_utf8(arguments).ok()?;
                    serde_json::to_vec(&self.registry.channels_of(user)).ok()
                }
                "open" => {
                    let asked: OpenQuestion = serde_json::from_slice(arguments).ok()?;
                    serde_json::to_vec(&self.registry.open_of(&asked.user, &asked.vhost)).ok()
                }
                "exchanges" => serde_json::to_vec(&self.registry.exchanges.reports()).ok(),
                "vhosts" => serde_json::to_vec(&self.registry.vhost_reports()).ok(),
                "auth_attempts" => serde_json::to_vec(&self.metrics.auth_attempts.reports()).ok(),
                "reset_auth_attempts" => {
                    self.metrics.auth_attempts.reset();
                    serde_json::to_vec(&true).ok()
                }
                "announced" => serde_json::to_vec(&(self.announced)()).ok(),
                "hears" => serde_json::to_vec(&self.heard_here()).ok(),
                "sync_time" => {
                    let micros = u64::try_from(self.syncs.recent().as_micros());
                    serde_json::to_vec(&micros.unwrap_or(u64::MAX)).ok()
                }
                "node" => serde_json::to_vec(&(self.report)()).ok(),
                "queues" => {
                    let asked: QueuesQuestion = serde_json::from_slice(arguments).ok()?;
                    serde_json::to_vec(&self.queues_here(asked.shard, asked.queues).await).ok()
                }
                "maintenance" => {
                    let on: bool = serde_json::from_slice(arguments).ok()?;
                    serde_json::to_vec(&self.maintenance.set(on)).ok()
                }
                "shovels" => serde_json::to_vec(&self.shovels.reports(self.node.0)).ok(),
                "restart_shovel" => {
                    let asked: ShovelQuestion = serde_json::from_slice(arguments).ok()?;
                    serde_json::to_vec(&self.shovels.restart(&asked.vhost, &asked.name)).ok()
                }
                "close" => {
                    let asked: CloseQuestion = serde_json::from_slice(arguments).ok()?;
                    serde_json::to_vec(&(self.close)(asked.serial, &asked.reason)).ok()
                }
                _ => None,
            }
        }
        .boxed()
    }
}

impl NodeQueries {
    /// Connections of this node.
    #[must_use]
    pub fn connections_here(&self) -> Vec<ConnectionReport> {
        self.registry
            .connections()
            .iter()
            .map(|entry| report(self.node, entry))
            .collect()
    }

    /// The nodes that this one hears, itself included; none while its disk is not well, it is in maintenance, or it is
    /// about to stop: it is to lead nothing.
    fn heard_here(&self) -> BTreeSet<u64> {
        if !self.stall.is_over() || self.maintenance.is_on() || *self.stopping.borrow() {
            return BTreeSet::new();
        }
        let connectivity = self.peers.connectivity();
        let connectivity = connectivity.borrow();
        let connected = connectivity
            .iter()
            .filter(|(_, state)| **state == Connectivity::Connected);
        connected
            .map(|(node, _)| *node)
            .chain([self.node.0])
            .collect()
    }

    async fn queues_here(&self, shard: u32, queues: Vec<u64>) -> Vec<QueueReport> {
        let placement = if shard == 0 {
            Placement::Host(self.node)
        } else {
            Placement::Shard(ShardId(shard))
        };
        let Some(inbox) = self.hosts.inbox(placement) else {
            return Vec::new();
        };
        let (reply, answer) = oneshot::channel();
        let queues = queues.into_iter().map(QueueId).collect();
        if inbox.send(HostInput::Report { queues, reply }).is_err() {
            return Vec::new();
        }
        tokio::time::timeout(TIMEOUT, answer)
            .await
            .ok()
            .and_then(Result::ok)
            .unwrap_or_default()
    }

    async fn ask<T: serde::de::DeserializeOwned>(
        &self,
        node: NodeId,
        question: &str,
        arguments: Vec<u8>,
    ) -> Option<T> {
        let answer = if node == self.node {
            self.answer(question, &arguments).await?
        } else {
            let channel = self.peers.channel(node.0)?;
            let request = QueryRequest {
                question: question.into(),
                arguments: arguments.into(),
            };
            let call = async {
                PeerClient::new(channel)
                    .max_decoding_message_size(64 << 20)
                    .query(request)
                    .await
            };
            tokio::time::timeout(TIMEOUT, call)
                .await
                .ok()?
                .ok()?
                .into_inner()
                .answer
                .to_vec()
        };
        serde_json::from_slice(&answer).ok()
    }

    fn all_nodes(&self) -> Vec<NodeId> {
        let mut nodes: Vec<NodeId> = self
            .peers
            .addresses()
            .keys()
            .map(|node| NodeId(*node))
            .collect();
        if !nodes.contains(&self.node) {
            nodes.push(self.node);
        }
        nodes.sort_unstable();
        nodes
    }

    /// Connections of all nodes that answer.
    pub async fn connections(&self) -> Vec<ConnectionReport> {
        let asked = self
            .all_nodes()
            .into_iter()
            .map(|node| self.ask(node, "connections", Vec::new()));
        let answers: Vec<Option<Vec<ConnectionReport>>> = join_all(asked).await;
        answers.into_iter().flatten().flatten().collect()
    }

    /// Those of some connections, named by node and serial, whose nodes answer.
    pub async fn connections_of(&self, some: &BTreeSet<(u64, u64)>) -> Vec<ConnectionReport> {
        let mut by_node: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for (node, serial) in some {
            by_node.entry(*node).or_default().push(*serial);
        }
        let asked = by_node.into_iter().map(|(node, serials)| async move {
            let arguments = serde_json::to_vec(&serials).ok()?;
            self.ask::<Vec<ConnectionReport>>(NodeId(node), "connections", arguments)
                .await
        });
        let answers = join_all(asked).await.into_iter().flatten().flatten();
        answers
            .filter(|report| some.contains(&(report.node, report.serial)))
            .collect()
    }

    /// What went through exchanges on all nodes that answer.
    pub async fn exchanges(&self) -> Vec<ExchangeReport> {
        let asked = self
            .all_nodes()
            .into_iter()
            .map(|node| self.ask::<Vec<ExchangeReport>>(node, "exchanges", Vec::new()));
        let answers = join_all(asked).await.into_iter().flatten().flatten();
        let mut sums: BTreeMap<(String, String), ExchangeReport> = BTreeMap::new();
        for report in answers {
            match sums.entry((report.vhost.clone(), report.name.clone())) {
                Entry::Vacant(empty) => drop(empty.insert(report)),
                Entry::Occupied(mut sum) => {
                    let sum = sum.get_mut();
                    sum.published = sum.published.saturating_add(report.published);
                    sum.routed = sum.routed.saturating_add(report.routed);
                }
            }
        }
        sums.into_values().collect()
    }

    /// What has happened on connections to each virtual host, on all nodes that answer.
    pub async fn vhosts(&self) -> Vec<VhostReport> {
        let asked = self
            .all_nodes()
            .into_iter()
            .map(|node| self.ask::<Vec<VhostReport>>(node, "vhosts", Vec::new()));
        let answers = join_all(asked).await.into_iter().flatten().flatten();
        let mut sums: BTreeMap<String, VhostReport> = BTreeMap::new();
        for report in answers {
            match sums.entry(report.vhost.clone()) {
                Entry::Vacant(empty) => drop(empty.insert(report)),
                Entry::Occupied(mut sum) => sum.get_mut().add(&report),
            }
        }
        sums.into_values().collect()
    }

    /// How many connections a user has open, and how many a virtual host, on all nodes that answer.
    pub async fn open_of(&self, user: &str, vhost: &str) -> (u64, u64) {
        let question = OpenQuestion {
            user: user.to_owned(),
            vhost: vhost.to_owned(),
        };
        let question = serde_json::to_vec(&question).unwrap_or_default();
        let asked = self
            .all_nodes()
            .into_iter()
            .map(|node| self.ask::<(u64, u64)>(node, "open", question.clone()));
        let answers = join_all(asked).await.into_iter().flatten();
        answers.fold((0, 0), |sum: (u64, u64), open| {
            (sum.0.saturating_add(open.0), sum.1.saturating_add(open.1))
        })
    }

    /// Open channels of a user on the other nodes, as far as they answer.
    pub async fn channels_elsewhere(&self, user: &str) -> u64 {
        let nodes = self.all_nodes().into_iter();
        let asked = nodes
            .filter(|node| *node != self.node)
            .map(|node| self.ask::<u64>(node, "channels", user.into()));
        join_all(asked).await.into_iter().flatten().sum()
    }

    /// What every node says about itself; `None` for those that do not answer.
    pub async fn nodes(&self) -> Vec<(NodeId, Option<NodeReport>)> {
        let asked = self.all_nodes().into_iter().map(|node| async move {
            (node, self.ask::<NodeReport>(node, "node", Vec::new()).await)
        });
        join_all(asked).await
    }

    /// Whether any of `nodes` says within `bound` that it runs and has announced its start.
    pub async fn any_announced(&self, nodes: Vec<NodeId>, bound: Duration) -> bool {
        let asked: FuturesUnordered<_> = nodes
            .into_iter()
            .map(|node| self.ask::<bool>(node, "announced", Vec::new()))
            .collect();
        let mut yes = asked.filter(|answer| std::future::ready(*answer == Some(true)));
        tokio::time::timeout(bound, yes.next())
            .await
            .is_ok_and(|found| found.is_some())
    }

    /// The nodes that `node` hears, itself included, or none if its disk is not well; `None` if it does not answer.
    pub async fn hears(&self, node: NodeId) -> Option<BTreeSet<NodeId>> {
        let heard: Vec<u64> = self.ask(node, "hears", Vec::new()).await?;
        Some(heard.into_iter().map(NodeId).collect())
    }

    /// What a sync of the log has taken at `node` lately; `None` if it does not say.
    pub async fn sync_time(&self, node: NodeId) -> Option<Duration> {
        let micros = self.ask::<u64>(node, "sync_time", Vec::new()).await?;
        Some(Duration::from_micros(micros))
    }

    /// Logins of a node; `None` if it does not answer.
    pub async fn auth_attempts(&self, node: NodeId) -> Option<Vec<AttemptsReport>> {
        self.ask(node, "auth_attempts", Vec::new()).await
    }

    /// Has a node count its logins anew; false if it does not answer.
    pub async fn reset_auth_attempts(&self, node: NodeId) -> bool {
        self.ask(node, "reset_auth_attempts", Vec::new())
            .await
            .unwrap_or(false)
    }

    /// Counts of queues at the host that serves them; empty if it does not answer.
    pub async fn queues(
        &self,
        host: NodeId,
        placement: Placement,
        queues: &[QueueId],
    ) -> Vec<QueueReport> {
        let shard = match placement {
            Placement::Shard(shard) => shard.0,
            Placement::Host(_) => 0,
        };
        let asked = QueuesQuestion {
            shard,
            queues: queues.iter().map(|queue| queue.0).collect(),
        };
        let Ok(arguments) = serde_json::to_vec(&asked) else {
            return Vec::new();
        };
        self.ask(host, "queues", arguments)
            .await
            .unwrap_or_default()
    }

    /// Shovels of all nodes that answer.
    pub async fn shovels(&self) -> Vec<ShovelReport> {
        let asked = self
            .all_nodes()
            .into_iter()
            .map(|node| self.ask::<Vec<ShovelReport>>(node, "shovels", Vec::new()));
        join_all(asked)
            .await
            .into_iter()
            .flatten()
            .flatten()
            .collect()
    }

    /// Runs a shovel anew where it runs; false if no node that answers runs it.
    pub async fn restart_shovel(&self, vhost: &str, name: &str) -> bool {
        let asked = ShovelQuestion {
            vhost: vhost.to_owned(),
            name: name.to_owned(),
        };
        let Ok(arguments) = serde_json::to_vec(&asked) else {
            return false;
        };
        let asked = self
            .all_nodes()
            .into_iter()
            .map(|node| self.ask::<bool>(node, "restart_shovel", arguments.clone()));
        join_all(asked).await.contains(&Some(true))
    }

    /// Begins or ends maintenance of a node; whether that is a change there. `None`: it does not answer.
    pub async fn set_maintenance(&self, node: NodeId, on: bool) -> Option<bool> {
        // One that stands still would do it when it goes on, and nobody would know.
        self.ask::<bool>(node, "announced", Vec::new()).await?;
        let arguments = serde_json::to_vec(&on).ok()?;
        self.ask(node, "maintenance", arguments).await
    }

    /// Closes a connection wherever it is.
    pub async fn close_connection(&self, node: NodeId, serial: u64, reason: &str) -> bool {
        let asked = CloseQuestion {
            serial,
            reason: reason.to_owned(),
        };
        let Ok(arguments) = serde_json::to_vec(&asked) else {
            return false;
        };
        self.ask(node, "close", arguments).await.unwrap_or(false)
    }
}
