//! A node from start to stop.

use crate::auth::Authenticator;
use crate::broker::{Alarms, Broker};
use crate::catalog::machine::CatalogMachine;
use crate::catalog::sequencer::Sequencer;
use crate::catalog::shown::Shown;
use crate::catalog::writer::CatalogWriter;
use crate::config::Config;
use crate::dead_letter;
use crate::host::local::LocalHost;
use crate::host::replica::ShardReplica;
use crate::host::shard::ShardHost;
use crate::host::{HostContext, HostDirectory, HostInput};
use crate::hub::Hub;
use crate::hub::connector::{Connector, HostStarts};
use crate::life::alarms::{self, Watermarks};
use crate::life::maintenance::{self, Maintenance};
use crate::life::readiness::{self, Readiness};
use crate::life::stall::{self, Stall};
use crate::life::syncs::Syncs;
use crate::life::{balance, disk, events, membership, partial_cut};
use crate::listener::Listeners;
use crate::metrics::Metrics;
use crate::oauth2::Tokens;
use crate::queries::NodeQueries;
use crate::registry::Registry;
use crate::report;
use crate::rpc::connect::{HostConnector, Reach, ShardConnector};
use crate::rpc::link_service::LinkService;
use crate::rpc::peer_service::{PeerHandle, PeerService};
use crate::shovels::{self, Shovels};
use crate::vital::Vital;
use broker_model::ids::{NodeId, Origin, Placement, ShardId};
use cluster_proto::node::v1::peer_server::PeerServer;
use consensus::streams::Serve;
use consensus::{Consensus, Group, GroupId, Machine, MachineError, Network, Tcp};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};
use storage::{LogBackend, StateStore};
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

/// Consumers of a silent node keep what they hold for so long.
const SILENCE: Duration = Duration::from_secs(10);

/// Why a node could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] crate::config::ConfigError),
    /// The stores on disk.
    #[error(transparent)]
    Storage(#[from] storage::StorageError),
    /// Cluster port, identity, groups.
    #[error(transparent)]
    Consensus(#[from] consensus::StartError),
    /// A port for clients.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// The address.
        address: String,
        /// From the operating system.
        error: std::io::Error,
    },
    /// The data directory.
    #[error("cannot use the data directory {path}: {error}; {}", storage::disk::advice(&error.to_string()))]
    DataDir {
        /// The directory.
        path: String,
        /// From the operating system.
        error: std::io::Error,
    },
    /// TLS files.
    #[error("TLS: {0}")]
    Tls(String),
    /// Keys of tokens, or where they are fetched.
    #[error("OAuth 2: {0}")]
    OAuth2(String),
}

/// What a node stands on. The default is the real thing; simulations bring their own.
pub struct Ground {
    /// How bytes reach other nodes.
    pub network: Arc<dyn Network>,
    /// The log of all groups; `None`: on disk, in the data directory.
    pub log: Option<Arc<dyn LogBackend>>,
}

impl Default for Ground {
    fn default() -> Self {
        Self {
            network: Arc::new(Tcp),
            log: None,
        }
    }
}

/// A running node.
pub struct Node {
    broker: Arc<Broker>,
    queries: Arc<NodeQueries>,
    listeners: Mutex<Option<Listeners>>,
    tasks: Mutex<Vec<tokio::task::JoinHandle<()>>>,
    /// Set before anything else is done about stopping.
    stopping: watch::Sender<bool>,
}

type ShardParts = (
    mpsc::UnboundedSender<HostInput>,
    mpsc::UnboundedReceiver<HostInput>,
);

/// What the machine factory leaves for the hosts to be started later.
#[derive(Default)]
struct Replicas {
    shards: Mutex<HashMap<u32, (Arc<ShardReplica>, ShardParts)>>,
    catalog: Mutex<Option<Arc<CatalogMachine>>>,
}

impl Node {
    /// Starts a node and returns when it serves clients. The process ends by `abort` when the
    /// node cannot go on (a store or a Raft group has failed).
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(
        config: Config,
        abort: Arc<dyn Fn(&str) + Send + Sync>,
    ) -> Result<Self, StartError> {
        Self::start_on(Ground::default(), config, abort).await
    }

    /// As [`Node::start`], on a network and a log of the caller's choice.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start_on(
        ground: Ground,
        config: Config,
        abort: Arc<dyn Fn(&str) + Send + Sync>,
    ) -> Result<Self, StartError> {
        config.validate()?;
        let tokens = config.auth.oauth2.clone().map(Tokens::start).transpose();
        let tokens = tokens.map_err(StartError::OAuth2)?.map(Arc::new);
        let config = Arc::new(config);
        let started = Instant::now();
        storage::disk::create_dir_all(&config.data_dir).map_err(|error| StartError::DataDir {
            path: config.data_dir.display().to_string(),
            error,
        })?;
        let metrics = Arc::new(Metrics::default());
        // The ports are taken before anything else, and listened on when the node is ready.
        let listeners = Listeners::bind(&config)?;
        let state = crate::stores::open_state(&config).await?;
        let (log_store, log) = match ground.log {
            Some(log) => (None, log),
            None => {
                let log = crate::stores::open_log(&config).await?;
                (Some(Arc::clone(&log)), log as Arc<dyn LogBackend>)
            }
        };
        {
            let abort = Arc::clone(&abort);
            log.on_poison(Box::new(move |error| {
                abort(&format!("the log store has failed: {error}"))
            }));
        }
        {
            let (abort, store) = (Arc::clone(&abort), Arc::downgrade(&state));
            state.on_poison(Box::new(move |error| {
                let damaged = matches!(error, storage::StorageError::Corrupt { .. });
                if let Some(store) = store.upgrade().filter(|_| damaged) {
                    crate::stores::note_damage(&store, &error.to_string());
                }
                abort(&format!("the state store has failed: {error}"));
            }));
        }
        let is_damaged = crate::stores::is_damaged(&state);

        let (catalog_events, catalog_events_rx) = mpsc::unbounded_channel();
        let (local_inbox, local_rx) = mpsc::unbounded_channel();
        let local_to_self = local_inbox.downgrade();
        let hosts = Arc::new(HostDirectory::new(config.node_id, local_inbox));
        let replicas = Arc::new(Replicas::default());
        let peer_service = Arc::new(PeerService::default());
        let consensus = start_consensus(
            &config,
            ground.network,
            &log,
            &state,
            &metrics,
            &hosts,
            &replicas,
            &peer_service,
            catalog_events,
            &abort,
        )
        .await?;
        let vital = Vital::new(Arc::clone(&abort));
        let local_store = crate::stores::local_store(&config);
        let mut tasks = vec![vital.spawn(
            "the look after the disk",
            disk::keep_reserve(
                consensus.clone(),
                (Arc::clone(&state), Arc::clone(&local_store)),
                disk::free_space(config.data_dir.clone()),
                config.storage.disk_reserve_bytes,
                config.storage.disk_free_limit_bytes,
            ),
        )];
        info!("waiting for the cluster");
        consensus.formed().await?;
        let identity = consensus.identity();
        let origin = Origin {
            node: config.node_id,
            incarnation: identity.start(),
        };

        let no_group = || {
            StartError::Consensus(consensus::StartError::Group {
                group: 0,
                reason: "the catalog's group is not running".into(),
            })
        };
        let catalog_group = consensus.group(GroupId::CATALOG).ok_or_else(no_group)?;
        let machine = replicas.catalog.lock().take().ok_or_else(no_group)?;
        let (host_events, host_events_rx) = mpsc::unbounded_channel();
        let context = HostContext {
            node: config.node_id,
            catalog: Arc::clone(&machine),
            peers: consensus.peers().clone(),
            events: host_events,
            hand_over: config.timing.hand_over_timeout,
            silence: SILENCE,
            entry_bytes: config.storage.entry_bytes_max,
            delivery_limit: config.limits.delivery_limit,
            metrics: Arc::clone(&metrics),
            abort: Arc::clone(&abort),
        };
        let (behind, backlog) = watch::channel(false);
        tasks.push(
            vital.spawn(
                "the host of local queues",
                LocalHost::new(
                    context.clone(),
                    local_rx,
                    local_to_self,
                    behind,
                    local_store,
                )
                .run(),
            ),
        );
        let mut groups: HashMap<ShardId, Group> = HashMap::new();
        for (group, (replica, (inbox, receiver))) in replicas.shards.lock().drain() {
            let Some(raft) = consensus.group(GroupId(group)) else {
                continue;
            };
            groups.insert(ShardId(group), raft.clone());
            let host = ShardHost::new(context.clone(), replica, raft, receiver, inbox);
            tasks.push(vital.spawn("the host of a shard", host.run()));
        }

        hosts.set_start(origin.incarnation);
        let starts = Arc::new(HostStarts::default());
        let reach = Reach {
            origin,
            hosts: Arc::clone(&hosts),
            peers: consensus.peers().clone(),
            catalog: Arc::clone(&machine),
            starts: Arc::clone(&starts),
        };
        let connectors = Box::new(move |placement| -> Arc<dyn Connector> {
            match placement {
                Placement::Host(node) => Arc::new(HostConnector::new(reach.clone(), node)),
                Placement::Shard(shard) => {
                    let group = groups.get(&shard).cloned();
                    Arc::new(ShardConnector::new(reach.clone(), placement, group))
                }
            }
        });
        let publish_timeout = config.timing.publish_timeout;
        let hub = Hub::new(
            origin,
            publish_timeout,
            connectors,
            starts,
            backlog,
            vital.clone(),
        );
        hub.open_links((1..=identity.shards).map(|shard| Placement::Shard(ShardId(shard))));
        let sequencer = Sequencer::start(
            catalog_group.clone(),
            Shown::new(catalog_group.clone(), consensus.peers().clone()),
            &vital,
        );
        let writer = CatalogWriter::start(
            origin,
            catalog_group.clone(),
            consensus.peers().clone(),
            Arc::clone(&machine),
            Arc::clone(&sequencer),
            config.timing.publish_timeout,
            &vital,
        );
        let registry = Arc::new(Registry::default());
        let (alarms_tx, alarms_rx) = watch::channel(Alarms::default());
        let (ready_tx, ready_rx) = watch::channel(Readiness::Starting);
        let (stopping, stopping_rx) = watch::channel(false);
        let marks = Watermarks {
            memory_bytes: {
                let total = config.memory.total();
                (total as f64 * config.memory.high_watermark) as u64
            },
            disk_free_bytes: config.storage.disk_free_limit_bytes,
            data_dir: config.data_dir.clone(),
        };
        let stall = Arc::new(Stall::new(is_damaged));
        let syncs = Arc::new(Syncs::default());
        let maintenance = Arc::new(Maintenance::default());
        let shovels = Arc::new(Shovels::default());
        let queries = Arc::new(NodeQueries {
            node: config.node_id,
            hosts: Arc::clone(&hosts),
            registry: Arc::clone(&registry),
            peers: consensus.peers().clone(),
            report: report::reporter(
                config.node_id,
                started,
                marks.clone(),
                consensus.clone(),
                Arc::clone(&metrics),
                Arc::clone(&maintenance),
                config.listeners(),
            ),
            close: {
                let hub = Arc::clone(&hub);
                Box::new(move |serial, reason| {
                    hub.close_session(crate::hub::api::SessionId(serial), reason)
                })
            },
            announced: {
                let machine = Arc::clone(&machine);
                Box::new(move || machine.read().latest_start(origin.node) == origin.incarnation)
            },
            maintenance: Arc::clone(&maintenance),
            metrics: Arc::clone(&metrics),
            stall: Arc::clone(&stall),
            syncs: Arc::clone(&syncs),
            stopping: stopping_rx.clone(),
            shovels: Arc::clone(&shovels),
        });
        peer_service.open(
            catalog_group.clone(),
            sequencer,
            Arc::clone(&machine),
            Arc::clone(&queries) as _,
            {
                let consensus = consensus.clone();
                Arc::new(move || consensus.is_writable())
            },
        );
        let broker = Arc::new(Broker {
            authenticator: Authenticator::new(
                config.loopback_users.clone(),
                config.auth.internal,
                tokens,
            ),
            config: Arc::clone(&config),
            origin,
            machine,
            writer,
            catalog_group,
            consensus: consensus.clone(),
            hub,
            metrics,
            registry,
            queries: Arc::clone(&queries),
            alarms: alarms_rx,
            hosts,
            log: log_store,
            next_shard: AtomicUsize::new(0),
            ready: ready_rx,
            shovels,
        });
        let dead_letters = dead_letter::start(Arc::clone(&broker), &vital);
        tasks.push(vital.spawn(
            "the follower of the catalog",
            events::follow_catalog(Arc::clone(&broker), catalog_events_rx, dead_letters.clone()),
        ));
        tasks.push(vital.spawn(
            "the follower of the hosts",
            events::follow_hosts(Arc::clone(&broker), host_events_rx, dead_letters),
        ));
        tasks.push(vital.spawn(
            "the watch over nodes",
            membership::watch_nodes(Arc::clone(&broker)),
        ));
        tasks.push(vital.spawn(
            "the teller of lost nodes",
            membership::tell_hosts(Arc::clone(&broker)),
        ));
        tasks.push(vital.spawn(
            "the watch over alarms",
            alarms::watch(marks, Arc::clone(&queries), alarms_tx),
        ));
        tasks.push(vital.spawn(
            "the watch over cuts",
            partial_cut::mend(Arc::clone(&broker)),
        ));
        tasks.push(vital.spawn(
            "the watch over the disk",
            stall::watch(Arc::clone(&broker), stall, syncs),
        ));
        tasks.push(vital.spawn(
            "the watch over maintenance",
            maintenance::watch(Arc::clone(&broker), maintenance),
        ));
        tasks.push(vital.spawn(
            "the balance of leaderships",
            balance::keep_balanced(Arc::clone(&broker), config.timing.rebalance_interval),
        ));
        membership::introduce(&broker).await;
        let listeners = listeners.serve(Arc::clone(&broker))?;
        tasks.push(vital.spawn(
            "the keeper of shovels",
            shovels::keep(Arc::clone(&broker), stopping_rx.clone()),
        ));
        ready_tx.send_replace(Readiness::Ready);
        tasks.push(vital.spawn(
            "the watch over readiness",
            readiness::watch(Arc::clone(&broker), stopping_rx, ready_tx),
        ));
        Ok(Self {
            broker,
            queries,
            listeners: Mutex::new(Some(listeners)),
            tasks: Mutex::new(tasks),
            stopping,
        })
    }

    /// What sessions and the operator's interface use.
    #[must_use]
    pub fn broker(&self) -> &Arc<Broker> {
        &self.broker
    }

    /// Serves a client over a connection that did not come from a listener, until it ends. The
    /// connection counts as one from `peer`.
    pub async fn serve_client(
        &self,
        stream: Box<dyn consensus::Wired>,
        peer: std::net::SocketAddr,
    ) {
        let ends = crate::session::Ends {
            peer,
            local: self.broker.config.amqp_listen,
            tls: false,
            certificate_user: None,
            known: None,
        };
        crate::session::serve(Arc::clone(&self.broker) as _, stream, ends).await;
    }

    /// Questions about this and other nodes.
    #[must_use]
    pub fn queries(&self) -> &Arc<NodeQueries> {
        &self.queries
    }

    /// Stops cleanly: takes no new clients, hands leaderships away, closes connections with
    /// `CONNECTION_FORCED`, stops the groups. Bounded by the configured time.
    pub async fn shutdown(&self) {
        let bound = self.broker.config.timing.shutdown_timeout;
        let deadline = tokio::time::Instant::now() + bound;
        if tokio::time::timeout_at(deadline, self.drain(bound))
            .await
            .is_err()
        {
            warn!("not everything was closed in time");
        }
        for task in self.tasks.lock().drain(..) {
            task.abort();
        }
    }

    async fn drain(&self, bound: Duration) {
        self.stopping.send_replace(true);
        // What is handed over is not to come back.
        self.broker.consensus.set_stopping();
        let listeners = self.listeners.lock().take();
        if let Some(listeners) = listeners {
            listeners.stop_accepting();
        }
        self.broker.consensus.hand_over(bound / 3).await;
        self.broker
            .hub
            .close_all_sessions("broker forced connection closure with reason 'shutdown'");
        let sessions_end = tokio::time::Instant::now() + bound / 3;
        while !self.broker.registry.connections().is_empty()
            && tokio::time::Instant::now() < sessions_end
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // What they acknowledged last may still look for a leader.
        let answered_until = sessions_end + bound / 6;
        let answered = self.broker.hub.all_answered();
        if tokio::time::timeout_at(answered_until, answered)
            .await
            .is_err()
        {
            info!(
                "stopping although not all that was acknowledged is settled: no majority answers"
            );
        }
        membership::give_away_queues(&self.broker).await;
        self.broker.consensus.shutdown().await;
    }
}

#[allow(clippy::too_many_arguments)]
async fn start_consensus(
    config: &Arc<Config>,
    network: Arc<dyn Network>,
    log: &Arc<dyn LogBackend>,
    state: &Arc<StateStore>,
    metrics: &Arc<Metrics>,
    hosts: &Arc<HostDirectory>,
    replicas: &Arc<Replicas>,
    peer_service: &Arc<PeerService>,
    catalog_events: mpsc::UnboundedSender<Vec<broker_model::catalog::CatalogEvent>>,
    abort: &Arc<dyn Fn(&str) + Send + Sync>,
) -> Result<Consensus, StartError> {
    let machines = {
        let (state, metrics) = (Arc::clone(state), Arc::clone(metrics));
        let (hosts, replicas) = (Arc::clone(hosts), Arc::clone(replicas));
        Box::new(
            move |group: GroupId| -> Result<Arc<dyn Machine>, MachineError> {
                if group == GroupId::CATALOG {
                    let machine = CatalogMachine::load(
                        Arc::clone(&state),
                        catalog_events.clone(),
                        Arc::clone(&metrics),
                    )?;
                    *replicas.catalog.lock() = Some(Arc::clone(&machine));
                    return Ok(machine);
                }
                let (inbox, receiver) = mpsc::unbounded_channel();
                let shard = ShardId(group.0);
                let replica = ShardReplica::load(shard, Arc::clone(&state), inbox.clone())?;
                hosts.add_shard(shard, inbox.clone());
                replicas
                    .shards
                    .lock()
                    .insert(group.0, (Arc::clone(&replica), (inbox, receiver)));
                Ok(replica)
            },
        )
    };
    let services = {
        let hosts = Arc::clone(hosts);
        let peer = PeerHandle(Arc::clone(peer_service));
        Box::new(move |_: &consensus::PeerNet| {
            let mut routes = tonic::service::Routes::builder();
            let links = LinkService { hosts };
            routes.add_service(Serve::new(links, consensus::LARGEST_MESSAGE));
            routes.add_service(PeerServer::new(peer).max_decoding_message_size(64 << 20));
            routes.routes()
        })
    };
    let parts = consensus::Parts {
        network,
        log: Arc::clone(log),
        machines,
        services: Some(services),
        abort: Arc::clone(abort),
    };
    Ok(Consensus::start(crate::stores::consensus_config(config), parts).await?)
}

/// A node's name in the operator's interface.
#[must_use]
pub fn node_name(node: NodeId) -> String {
    Config::node_name(node)
}
