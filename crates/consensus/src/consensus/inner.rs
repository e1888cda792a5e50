//! What the parts of a node's consensus share: its place in the cluster, its peers, its groups.

use super::{MAX_SHARDS, MachineFactory, ServiceFactory};
use crate::cluster::{self, ClusterService};
use crate::config::ConsensusConfig;
use crate::error::StartError;
use crate::group::{GroupCore, GroupEnvironment};
use crate::identity::{Identity, IdentityFile, Standing};
use crate::inbound::Inbound;
use crate::log_mark;
use crate::net::streams::Serve;
use crate::net::{
    Caller, ControlService, LogService, Me, PeerNet, Presence, RateLimit, Serving, SnapshotService,
};
use crate::types::{GroupId, RaftNode};
use cluster_proto::v1;
use cluster_proto::v1::cluster_server::ClusterServer;
use cluster_proto::v1::raft_control_server::RaftControlServer;
use cluster_proto::v1::raft_snapshot_server::RaftSnapshotServer;
use futures::future::try_join_all;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::service::Routes;

/// Whether the groups run.
#[derive(Debug, Clone)]
pub(super) enum Formed {
    Not,
    Yes,
    Failed(StartError),
}

pub(crate) struct Inner {
    pub(crate) config: ConsensusConfig,
    /// How peers reach this node.
    pub(crate) advertised: String,
    pub(crate) peers: PeerNet,
    pub(crate) presence: Arc<Presence>,
    pub(crate) hello_refusals: RateLimit,
    pub(crate) inbound: Arc<Inbound>,
    pub(crate) file: Mutex<IdentityFile>,
    pub(super) machines: MachineFactory,
    pub(super) environment: Arc<GroupEnvironment>,
    pub(super) formed: watch::Sender<Formed>,
    pub(super) address: SocketAddr,
    pub(super) serving: Mutex<Option<Serving>>,
    pub(super) tasks: Mutex<Vec<JoinHandle<()>>>,
    /// One admission of a node at a time, by node.
    pub(crate) admissions: cluster::Admissions,
    /// A node enters one cluster, by one of the ways.
    pub(super) entering: tokio::sync::Mutex<()>,
    /// Told when it has.
    pub(crate) entered: tokio::sync::Notify,
}

pub(super) fn me(identity: &Identity) -> Me {
    Me {
        caller: Caller {
            node: identity.node,
            generation: identity.generation,
            incarnation: identity.incarnation,
        },
        cluster: identity.cluster,
    }
}

pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StartError> + Send + 'static,
) -> Result<T, StartError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(_) => Err(StartError::Refused("interrupted".to_owned())),
    }
}

impl Inner {
    pub(super) fn routes(
        self: &Arc<Self>,
        limits: &crate::config::Limits,
        services: Option<ServiceFactory>,
    ) -> Routes {
        let inbound = &self.inbound;
        let routes = match services {
            Some(services) => services(&self.peers),
            None => Routes::default(),
        };
        routes
            .add_service(Serve::new(
                LogService(Arc::clone(inbound)),
                limits.decode_bytes,
            ))
            .add_service(
                RaftControlServer::new(ControlService {
                    inbound: Arc::clone(inbound),
                    presence: Arc::clone(&self.presence),
                })
                .max_decoding_message_size(limits.decode_bytes),
            )
            .add_service(
                RaftSnapshotServer::new(SnapshotService(Arc::clone(inbound)))
                    .max_decoding_message_size(limits.decode_bytes),
            )
            .add_service(ClusterServer::new(ClusterService(Arc::downgrade(self))))
    }

    /// This node as a member, once the cluster is known.
    pub(crate) fn member(&self) -> RaftNode {
        let file = self.file.lock();
        RaftNode::new(file.identity.node, file.identity.generation)
    }

    pub(crate) fn standing(&self) -> Standing {
        self.file.lock().standing
    }

    pub(crate) fn is_formed(&self) -> bool {
        matches!(*self.formed.borrow(), Formed::Yes)
    }

    /// This node cannot take part. Whoever waits for its groups is told; if they run already nobody does, and the process ends.
    pub(crate) fn fail(&self, error: StartError) {
        tracing::error!(%error, "this node cannot take part in the cluster");
        let reason = format!("this node cannot take part in the cluster: {error}");
        let before = self.formed.send_replace(Formed::Failed(error));
        if matches!(before, Formed::Yes) {
            (self.environment.abort)(&reason);
        }
    }

    /// This node as told to others.
    pub(crate) fn wire_identity(&self) -> v1::NodeIdentity {
        let identity = self.file.lock().identity.clone();
        v1::NodeIdentity {
            node: identity.node,
            generation: identity.generation,
            incarnation: identity.incarnation,
            cluster: identity.cluster,
            shards: identity.shards,
            address: self.advertised.clone(),
            peers: wire_members(&self.config.peers),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// Makes this node part of a cluster: on disk first, then for its peers.
    pub(crate) async fn enter(
        self: &Arc<Self>,
        cluster: u64,
        shards: u32,
        generation: u64,
        standing: Standing,
    ) -> Result<(), StartError> {
        if shards == 0 || shards > MAX_SHARDS {
            return Err(StartError::Refused(format!(
                "a cluster with {shards} shards"
            )));
        }
        let _entering = self.entering.lock().await;
        let mut file = self.file.lock().clone();
        if file.identity.cluster.is_some() {
            return Ok(());
        }
        file.identity.cluster = Some(cluster);
        file.identity.shards = shards;
        file.identity.generation = generation;
        file.standing = standing;
        log_mark::write(&*self.environment.log, &file.identity).await?;
        self.save(file).await?;
        self.entered.notify_one();
        Ok(())
    }

    /// Waits until the groups run, or cannot.
    pub(crate) async fn groups_run(&self) {
        let mut formed = self.formed.subscribe();
        let _ = formed
            .wait_for(|formed| !matches!(formed, Formed::Not))
            .await;
    }

    pub(crate) async fn set_standing(&self, standing: Standing) -> Result<(), StartError> {
        let mut file = self.file.lock().clone();
        file.standing = standing;
        self.save(file).await
    }

    async fn save(&self, file: IdentityFile) -> Result<(), StartError> {
        let saved = blocking(move || {
            file.save()?;
            Ok(file)
        })
        .await?;
        self.peers.keys().set_me(me(&saved.identity));
        *self.file.lock() = saved;
        Ok(())
    }

    /// Opens and starts all groups of the cluster that this node is part of.
    pub(crate) async fn start_groups(self: &Arc<Self>) -> Result<(), StartError> {
        let shards = self.file.lock().identity.shards;
        let member = self.member();
        // Side by side: each reads its own part of the disk.
        let opened = (0..=shards).map(GroupId).map(|group| {
            let this = Arc::clone(self);
            async move {
                if this.inbound.group(group).is_some() {
                    return Ok(());
                }
                let inner = Arc::clone(&this);
                let core = blocking(move || {
                    let machine = (inner.machines)(group).map_err(|error| StartError::Group {
                        group: group.0,
                        reason: error.to_string(),
                    })?;
                    GroupCore::open(group, member, machine, Arc::clone(&inner.environment))
                })
                .await?;
                core.start().await?;
                this.inbound.insert(Arc::clone(&core));
                // Whoever changed it meanwhile did not find this group.
                core.follow_writable();
                Ok(())
            }
        });
        try_join_all(opened).await?;
        self.know_members();
        self.formed.send_replace(Formed::Yes);
        Ok(())
    }

    pub(super) fn know_configured_peers(&self) -> Result<(), StartError> {
        for (node, address) in &self.config.peers {
            self.peers.set_peer(*node, address)?;
        }
        Ok(())
    }

    /// Members of the catalog with the addresses known for them.
    pub(crate) fn member_nodes(&self) -> BTreeMap<u64, String> {
        let Some(catalog) = self.inbound.group(GroupId::CATALOG) else {
            return BTreeMap::new();
        };
        let known = self.peers.addresses();
        catalog
            .members()
            .into_iter()
            .map(|(member, address)| {
                let node = member.node();
                let address = if node == self.config.node {
                    self.advertised.clone()
                } else {
                    known.get(&node).cloned().unwrap_or(address)
                };
                (node, address)
            })
            .collect()
    }

    /// Connects to members that are not known yet. One whose address makes no sense keeps nobody from the others.
    pub(crate) fn know_members(&self) {
        for (node, address) in self.member_nodes() {
            if self.peers.link(node).is_none()
                && let Err(error) = self.peers.set_peer(node, &address)
                && self.hello_refusals.permit()
            {
                tracing::warn!(%error, "a member cannot be reached");
            }
        }
    }
}

pub(crate) fn wire_members(members: &BTreeMap<u64, String>) -> Vec<v1::Member> {
    let member = |(node, address): (&u64, &String)| v1::Member {
        member: *node,
        address: address.clone(),
    };
    members.iter().map(member).collect()
}
