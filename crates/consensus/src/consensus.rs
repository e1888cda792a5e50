//! All groups of a node, its peers, and its place in the cluster.
//!
//! Not here: how clusters are founded and joined (`cluster`).

mod inner;

pub(crate) use self::inner::{Inner, blocking, wire_members};

use self::inner::{Formed, me};
use crate::cluster;
use crate::config::ConsensusConfig;
use crate::error::{AdminError, StartError};
use crate::group::{Group, GroupEnvironment, send_heartbeats};
use crate::identity::{Identity, IdentityFile};
use crate::log_mark;
use crate::machine::{Machine, MachineError};
use crate::net::tls::Tls;
use crate::net::{Keys, Network, PeerNet, Presence, RateLimit, is_address, serve};
use crate::types::{GroupId, RaftNode};
use crate::wire::Wire;
use futures::future::join_all;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use storage::LogBackend;
use tokio::sync::watch;
use tonic::service::Routes;

/// Makes (or restores from the state store) the machine of a group. Called on blocking
/// threads, once per group and for several groups at once, when the number of groups is known.
pub type MachineFactory =
    Box<dyn Fn(GroupId) -> Result<Arc<dyn Machine>, MachineError> + Send + Sync>;

/// Called when this node cannot go on (a group's core has failed, another process has its id); the
/// process has to end.
pub type AbortHook = Arc<dyn Fn(&str) + Send + Sync>;

/// Further services for the cluster port. Requests reach them authenticated, see
/// [`Caller`](crate::Caller).
pub type ServiceFactory = Box<dyn FnOnce(&PeerNet) -> Routes + Send>;

/// Groups besides the catalog that a cluster may have.
const MAX_SHARDS: u32 = 1024;

/// What [`Consensus::start`] is given besides the configuration.
pub struct Parts {
    /// How bytes reach other nodes.
    pub network: Arc<dyn Network>,
    /// The node's log store, opened.
    pub log: Arc<dyn LogBackend>,
    /// Brings the state machines.
    pub machines: MachineFactory,
    /// Brings the node's own services.
    pub services: Option<ServiceFactory>,
    /// Ends the process.
    pub abort: AbortHook,
}

/// All groups of a node; clones share them.
#[derive(Clone)]
pub struct Consensus {
    pub(crate) inner: Arc<Inner>,
}

impl Consensus {
    /// Listens for peers and starts what the disk knows. A node without a cluster founds, joins or
    /// rejoins one in the background: wait for [`formed`](Self::formed).
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(config: ConsensusConfig, parts: Parts) -> Result<Self, StartError> {
        check(&config)?;
        let dir = config.data_dir.clone();
        let node = config.node;
        let file = blocking(move || {
            storage::disk::create_dir_all(&dir).map_err(|error| StartError::Identity {
                path: dir.display().to_string(),
                reason: error.to_string(),
            })?;
            IdentityFile::open(&dir, node)
        })
        .await?;
        let keys = Keys::new(config.secret.clone(), me(&file.identity));
        let tls = match &config.tls {
            None => None,
            Some(files) => {
                let tls = Tls::load(files.clone())
                    .await
                    .map_err(|error| StartError::Config(format!("TLS between nodes: {error}")))?;
                Some(Arc::new(tls))
            }
        };
        let peers = PeerNet::new(
            Arc::clone(&parts.network),
            tls.clone(),
            Arc::clone(&keys),
            config.timing.clone(),
            config.limits.clone(),
        );
        let environment = GroupEnvironment::new(
            Arc::new(peers.clone()) as Arc<dyn Wire>,
            parts.log,
            config.timing.clone(),
            config.limits.clone(),
            config.checkpoint.clone(),
            parts.abort,
        )?;
        let listening =
            parts
                .network
                .listen(config.listen)
                .await
                .map_err(|error| StartError::Listen {
                    address: config.listen.to_string(),
                    reason: error.to_string(),
                })?;
        let address = listening.address;
        let limits = config.limits.clone();
        let inner = Arc::new(Inner {
            advertised: config
                .advertise
                .clone()
                .unwrap_or_else(|| address.to_string()),
            peers,
            presence: Presence::new(config.timing.silence.saturating_mul(2)),
            hello_refusals: RateLimit::default(),
            inbound: Arc::default(),
            file: Mutex::new(file),
            machines: parts.machines,
            environment,
            formed: watch::Sender::new(Formed::Not),
            address,
            serving: Mutex::new(None),
            tasks: Mutex::default(),
            admissions: cluster::Admissions::default(),
            entering: tokio::sync::Mutex::new(()),
            entered: tokio::sync::Notify::new(),
            config,
        });
        let this = Self { inner };
        this.inner.know_configured_peers()?;

        // The groups of this disk are opened before anybody can reach them.
        let identity = this.identity();
        if identity.cluster.is_some() {
            log_mark::check(&*this.inner.environment.log, &identity).await?;
            this.inner.start_groups().await?;
        } else {
            let path = this.inner.file.lock().path().display().to_string();
            log_mark::check_unused(&*this.inner.environment.log, path)?;
        }
        let routes = this.inner.routes(&limits, parts.services);
        let presence = Arc::clone(&this.inner.presence);
        *this.inner.serving.lock() = Some(serve(listening, keys, presence, tls, &limits, routes));
        let tasks = vec![
            tokio::spawn(cluster::take_part(this.clone())),
            tokio::spawn(replace_dead_leaders(this.clone())),
            tokio::spawn(leave_to_another(Arc::clone(&this.inner))),
            tokio::spawn(send_heartbeats(
                Arc::downgrade(&this.inner.inbound),
                this.inner.config.timing.heartbeat,
            )),
        ];
        *this.inner.tasks.lock() = tasks;
        Ok(this)
    }

    /// Waits until the cluster is known and all groups run here (they may not have leaders yet).
    /// Returns at once after a restart.
    ///
    /// # Errors
    /// When the cluster refuses this node, or a group cannot start.
    pub async fn formed(&self) -> Result<(), StartError> {
        let mut formed = self.inner.formed.subscribe();
        let seen = formed
            .wait_for(|formed| !matches!(formed, Formed::Not))
            .await;
        match seen.as_deref() {
            Ok(Formed::Failed(error)) => Err(error.clone()),
            Ok(Formed::Yes | Formed::Not) => Ok(()),
            Err(_) => Err(StartError::Refused("stopped".to_owned())),
        }
    }

    /// Who this node is.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.inner.file.lock().identity.clone()
    }

    /// Where the cluster port listens.
    #[must_use]
    pub fn listening(&self) -> SocketAddr {
        self.inner.address
    }

    /// A group by id, once formed.
    #[must_use]
    pub fn group(&self, id: GroupId) -> Option<Group> {
        self.inner.inbound.group(id).map(Group)
    }

    /// All groups, the catalog first, once formed.
    #[must_use]
    pub fn groups(&self) -> Vec<Group> {
        self.inner.inbound.groups().into_iter().map(Group).collect()
    }

    /// The other nodes and the connections to them.
    #[must_use]
    pub fn peers(&self) -> &PeerNet {
        &self.inner.peers
    }

    /// Nodes that are members of the catalog group, with the addresses known for them.
    #[must_use]
    pub fn members(&self) -> BTreeMap<u64, String> {
        self.inner.member_nodes()
    }

    /// Whether a node belongs to any group, as far as is known here, or is being admitted. One that joins may not be in all
    /// of them yet, and one that is being removed no longer.
    #[must_use]
    pub fn is_known(&self, node: u64) -> bool {
        cluster::is_known(&self.inner, node)
    }

    /// Removes a node from all groups, whether it is up or not. Any member can be asked.
    ///
    /// # Errors
    /// See [`AdminError`].
    pub async fn remove_node(&self, node: u64, timeout: Duration) -> Result<(), AdminError> {
        tokio::time::timeout(timeout, cluster::remove(&self.inner, node))
            .await
            .map_err(|_| AdminError::Timeout)?
    }

    /// For how long the log's write that is under way has been, and its bytes; `None`: nothing is being written.
    #[must_use]
    pub fn log_write(&self) -> Option<(Duration, usize)> {
        self.inner.environment.log.under_way()
    }

    /// Hands away every leadership that this node holds, to live members, as far as possible in
    /// `timeout`.
    pub async fn hand_over(&self, timeout: Duration) {
        self.hand_over_to(|_| true, timeout).await;
    }

    /// The same, to nodes that are `wanted` only.
    pub async fn hand_over_to(&self, wanted: impl Fn(u64) -> bool, timeout: Duration) {
        let wanted = &wanted;
        let until = tokio::time::Instant::now() + timeout;
        let connected = self.inner.peers.connectivity();
        let groups = self.groups();
        join_all(groups.iter().map(|group| {
            let connected = connected.borrow().clone();
            async move {
                let status = group.status();
                if status.leadership.leader != Some(group.me()) {
                    return;
                }
                let mut candidates: Vec<RaftNode> = status
                    .voters
                    .iter()
                    .copied()
                    .filter(|voter| connected.get(&voter.node()) == Some(&crate::Connectivity::Connected))
                    .filter(|voter| wanted(voter.node()))
                    .collect();
                // The most complete log first; groups prefer different nodes among equals.
                candidates.sort_by_key(|voter| {
                    let matched = status.matched.get(voter).copied().flatten();
                    let turn = (voter.node().wrapping_add(u64::from(group.id().0))) % 3;
                    std::cmp::Reverse((matched, turn))
                });
                let count = candidates.len();
                for (tried, candidate) in candidates.into_iter().enumerate() {
                    let left = until.saturating_duration_since(tokio::time::Instant::now());
                    let within = turn_of_candidate(left, count - tried);
                    match group.transfer_leader(candidate.node(), within).await {
                        Ok(()) => return,
                        Err(error) => {
                            tracing::info!(group = %group.id(), to = candidate.node(), %error, "leadership not handed over");
                        }
                    }
                }
            }
        }))
        .await;
    }

    /// What was applied and is only in memory and in the log yet, in bytes, all groups together: the next checkpoints write it
    /// once more before its log can go.
    #[must_use]
    pub fn unstored_bytes(&self) -> u64 {
        self.inner.environment.dirt.held()
    }

    /// Says whether the disk has room for more log. Without room this node follows and counts as a
    /// voter, but takes no entries but the catalog's (others make the majorities), leads nothing, and proposes
    /// nothing: whoever has something to write finds another leader. With room again it catches up
    /// and takes part as before. Nothing is done twice; returns whether this was a change.
    pub fn set_writable(&self, writable: bool) -> bool {
        let gate = &self.inner.environment.writable;
        let changed = gate.send_if_modified(|now| std::mem::replace(now, writable) != writable);
        if changed {
            for group in self.inner.inbound.groups() {
                group.follow_writable();
            }
        }
        changed
    }

    /// Says how many bytes of entries this node may take from leaders until it says so again; with the last of them it
    /// takes no more, as without room at all. A member that catches up takes hundreds of megabytes in a second, more than the
    /// disk can be looked at.
    pub fn set_room(&self, bytes: u64) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let environment = &self.inner.environment;
        environment.room.store(bytes, Ordering::Relaxed);
    }

    /// The same for entries of the catalog, which go on being taken while this node is not writable: they are small, and whoever
    /// does not have them can tell its clients nothing.
    pub fn set_catalog_room(&self, bytes: u64) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let environment = &self.inner.environment;
        environment.catalog_room.store(bytes, Ordering::Relaxed);
    }

    /// Says whether space on the disk is short: then no log is kept for members that have been unreachable for more than a moment.
    /// They get a snapshot when they come back.
    pub fn set_short_of_space(&self, short: bool) {
        let environment = &self.inner.environment;
        environment.short.store(short, Ordering::Relaxed);
    }

    /// Says that this node is about to stop: it takes no leadership any more that another one offers. It votes, and is
    /// elected where nobody else could lead.
    pub fn set_stopping(&self) {
        let environment = &self.inner.environment;
        environment.stopping.store(true, Ordering::Relaxed);
    }

    /// Whether the disk has room for more log.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.inner.environment.may_write()
    }

    /// Stops all groups and the listener.
    pub async fn shutdown(&self) {
        for task in self.inner.tasks.lock().drain(..) {
            task.abort();
        }
        let groups = self.inner.inbound.groups();
        join_all(groups.iter().map(|group| group.shutdown())).await;
        self.inner.inbound.clear();
        let serving = self.inner.serving.lock().take();
        if let Some(serving) = serving {
            serving.stop().await;
        }
        self.inner.peers.stop();
        self.inner
            .formed
            .send_replace(Formed::Failed(StartError::Refused("stopped".to_owned())));
    }
}

/// How long the first of `candidates` may take: half of what is `left`, unless it is the last one. They come in the order of
/// their logs; one that does not get anywhere must leave the others some time.
fn turn_of_candidate(left: Duration, candidates: usize) -> Duration {
    if candidates > 1 { left / 2 } else { left }
}

fn check(config: &ConsensusConfig) -> Result<(), StartError> {
    let refused = |reason: &str| Err(StartError::Config(reason.to_owned()));
    if config.node == 0 || config.node > RaftNode::MAX_NODE {
        return refused("the node id must be between 1 and 65535");
    }
    if config.shards == 0 || config.shards > MAX_SHARDS {
        return refused("the number of shards must be between 1 and 1024");
    }
    let alone = config.peers.is_empty() && config.join.is_empty();
    if !alone && config.secret.bytes().is_empty() {
        return refused("a cluster of several nodes needs a cluster secret");
    }
    // One that is alone may have any name.
    if !alone
        && let Some(advertise) = &config.advertise
        && !is_address(advertise)
    {
        return refused(&format!(
            "the address that peers are told, '{advertise}', is not of the form host:port"
        ));
    }
    if !config.peers.is_empty()
        && !config.peers.contains_key(&config.node)
        && config.join.is_empty()
    {
        return refused("the peer list must contain this node");
    }
    if config
        .peers
        .keys()
        .any(|node| *node == 0 || *node > RaftNode::MAX_NODE)
    {
        return refused("node ids in the peer list must be between 1 and 65535");
    }
    Ok(())
}

/// Ends this process when another one with the same node id has its place: two would vote as one.
async fn leave_to_another(inner: Arc<Inner>) {
    let reason = inner.peers.displaced().wait().await;
    inner.fail(StartError::Refused(format!(
        "another process runs with this node's id {}: {reason}",
        inner.config.node
    )));
}

/// When a peer's process dies, its leaderships are taken over without waiting for leases.
async fn replace_dead_leaders(consensus: Consensus) {
    let mut connectivity = consensus.peers().connectivity();
    let mut before = BTreeMap::new();
    loop {
        let now = connectivity.borrow_and_update().clone();
        for (node, state) in &now {
            if *state != crate::Connectivity::Refused || before.get(node) == Some(state) {
                continue;
            }
            for group in consensus.inner.inbound.groups() {
                let leader = Group(Arc::clone(&group)).leadership().borrow().leader;
                if let Some(leader) = leader.filter(|leader| leader.node() == *node) {
                    tokio::spawn(async move { group.replace_dead_leader(leader).await });
                }
            }
        }
        before = now;
        if connectivity.changed().await.is_err() {
            return;
        }
    }
}
