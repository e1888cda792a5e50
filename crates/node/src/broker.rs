//! What sessions and the operator's interface use of a node.

use crate::auth::{AuthError, Authenticator, Login};
use crate::catalog::machine::CatalogMachine;
use crate::catalog::writer::{CatalogWriter, WriteError};
use crate::config::Config;
use crate::hub::Hub;
use crate::identity::Identity;
use crate::life::readiness::Readiness;
use crate::metrics::Metrics;
use crate::queries::{ConnectionReport, NodeQueries};
use crate::registry::Registry;
use broker_model::catalog::{Catalog, CatalogAnswer, CatalogCommand};
use broker_model::ids::{NodeId, Origin, Placement, ShardId};
use consensus::{Consensus, Group};
use parking_lot::RwLockReadGuard;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::watch;

/// Alarms that block publishers, over all nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Alarms {
    /// Some node is over its memory watermark.
    pub memory: bool,
    /// Some node is below its free disk limit.
    pub disk: bool,
}

impl Alarms {
    /// The reason told in `connection.blocked`, if any is raised.
    #[must_use]
    pub fn reason(self) -> Option<&'static str> {
        match (self.memory, self.disk) {
            (true, true) => Some("low on memory & disk"),
            (true, false) => Some("low on memory"),
            (false, true) => Some("low on disk"),
            (false, false) => None,
        }
    }
}

/// One node's broker.
pub struct Broker {
    pub(crate) config: Arc<Config>,
    pub(crate) origin: Origin,
    pub(crate) machine: Arc<CatalogMachine>,
    pub(crate) writer: Arc<CatalogWriter>,
    pub(crate) catalog_group: Group,
    pub(crate) consensus: Consensus,
    pub(crate) hub: Arc<Hub>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) queries: Arc<NodeQueries>,
    pub(crate) authenticator: Authenticator,
    pub(crate) alarms: watch::Receiver<Alarms>,
    pub(crate) hosts: Arc<crate::host::HostDirectory>,
    pub(crate) log: Option<Arc<storage::LogStore>>,
    pub(crate) next_shard: AtomicUsize,
    pub(crate) ready: watch::Receiver<Readiness>,
    pub(crate) shovels: Arc<crate::shovels::Shovels>,
}

/// How long a look at the catalog's leader may take.
const SYNC: Duration = Duration::from_secs(5);

impl Broker {
    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// This node and its start.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// Links to queues.
    #[must_use]
    pub fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// Counters.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Open connections, channels and consumers of this node, for the operator's view.
    #[must_use]
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// Open connections of all nodes that answer.
    pub async fn connections(&self) -> Vec<ConnectionReport> {
        self.queries.connections().await
    }

    /// How many connections a user has open, and how many a virtual host, on all nodes that answer.
    pub async fn open_of(&self, user: &str, vhost: &str) -> (u64, u64) {
        self.queries.open_of(user, vhost).await
    }

    /// Open channels of a user on the other nodes, as far as they answer.
    pub async fn channels_elsewhere(&self, user: &str) -> u64 {
        self.queries.channels_elsewhere(user).await
    }

    /// The Raft groups.
    #[must_use]
    pub fn consensus(&self) -> &Consensus {
        &self.consensus
    }

    /// The log store, for its metrics; `None` where a simulation brought another.
    #[must_use]
    pub fn log_store(&self) -> Option<&Arc<storage::LogStore>> {
        self.log.as_ref()
    }

    /// Hosts of queues in this process.
    #[must_use]
    pub fn hosts(&self) -> &Arc<crate::host::HostDirectory> {
        &self.hosts
    }

    /// The catalog as applied here, for reading. Hold it briefly and never across an await.
    pub fn catalog(&self) -> RwLockReadGuard<'_, Catalog> {
        self.machine.read()
    }

    /// Changes whenever the catalog does: for caches.
    #[must_use]
    pub fn catalog_version(&self) -> u64 {
        self.machine.version()
    }

    /// Changes the catalog: returns when the change is committed and visible on every live node.
    ///
    /// # Errors
    /// Refused, or no majority within the bound.
    pub async fn catalog_write(
        &self,
        command: CatalogCommand,
    ) -> Result<CatalogAnswer, WriteError> {
        self.writer.write(command).await
    }

    /// Brings the catalog here up to date with everything acknowledged before this call on any
    /// node. To be called before a client is told that something does not exist. Returns false if
    /// that is not known (no majority): what is here is then the best knowledge.
    pub async fn catalog_sync(&self) -> bool {
        self.catalog_group.catch_up(SYNC).await
    }

    /// Whether the catalog here shows everything that clients anywhere were told to be done. Costs nothing; a node that stood
    /// still, or was cut off, finds out by itself.
    #[must_use]
    pub fn catalog_is_recent(&self) -> bool {
        self.catalog_group.is_recent()
    }

    /// Brings the catalog here up to date unless it [is recent](Self::catalog_is_recent); false if nobody could be asked.
    pub async fn catalog_freshen(&self) -> bool {
        self.catalog_group.freshen(SYNC).await
    }

    /// Checks a login. Takes a while for a new password.
    ///
    /// # Errors
    /// See [`AuthError`].
    pub async fn authenticate(&self, login: Login) -> Result<Identity, AuthError> {
        self.metrics.counts.auth_attempts.add(1);
        let door = login.door;
        let result = self.authenticator.check(&self.machine, login).await;
        self.metrics.auth_attempts.count(door, result.is_ok());
        if result.is_err() {
            self.metrics.counts.auth_failed.add(1);
        }
        result
    }

    /// Where a queue that is about to be declared here would live: replicated ones in a shard that
    /// this node leads, if there is one (`client-local`), the others in this node's memory.
    #[must_use]
    pub fn place_queue(&self, replicated: bool) -> Placement {
        if !replicated {
            return Placement::Host(self.origin.node);
        }
        let shards: Vec<Group> = self
            .consensus
            .groups()
            .into_iter()
            .filter(|g| g.id().0 != 0)
            .collect();
        let mine: Vec<u32> = shards
            .iter()
            .filter(|group| {
                let leader = group.leadership().borrow().leader;
                leader.is_some_and(|leader| leader.node() == self.origin.node.0)
            })
            .map(|group| group.id().0)
            .collect();
        let turn = self.next_shard.fetch_add(1, Ordering::Relaxed);
        let all: Vec<u32> = shards.iter().map(|group| group.id().0).collect();
        let candidates = if mine.is_empty() { &all } else { &mine };
        let shard = candidates
            .get(turn % candidates.len().max(1))
            .copied()
            .unwrap_or(1);
        Placement::Shard(ShardId(shard))
    }

    /// Whether this node serves the queues of a placement now.
    #[must_use]
    pub fn is_here(&self, placement: Placement) -> bool {
        self.leader_of(placement) == Some(self.origin.node)
    }

    /// The node that serves a placement now, if known.
    #[must_use]
    pub fn leader_of(&self, placement: Placement) -> Option<NodeId> {
        match placement {
            Placement::Host(node) => Some(node),
            Placement::Shard(shard) => {
                let group = self.consensus.group(consensus::GroupId(shard.0))?;
                let leader = group.leadership().borrow().leader;
                leader.map(|leader| NodeId(leader.node()))
            }
        }
    }

    /// Alarms of all nodes.
    #[must_use]
    pub fn alarms(&self) -> watch::Receiver<Alarms> {
        self.alarms.clone()
    }

    /// Whether this node can do what clients want of it.
    #[must_use]
    pub fn ready(&self) -> watch::Receiver<Readiness> {
        self.ready.clone()
    }

    /// Bound for publishes and declares without a majority.
    #[must_use]
    pub fn publish_timeout(&self) -> Duration {
        self.config.timing.publish_timeout
    }
}
