//! What the catalog must know about nodes: the first content, who has started, who is gone.

use crate::auth::hash_password;
use crate::broker::Broker;
use crate::catalog::writer::WriteError;
use broker_model::catalog::record::{NodeRecord, NodeState};
use broker_model::catalog::{Bootstrap, CatalogAnswer, CatalogCommand, UserSpec};
use broker_model::ids::{NodeId, Origin};
use consensus::Connectivity;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::{debug, info, warn};

/// A node whose process is dead is struck off after this time.
const DEAD_AFTER: Duration = Duration::from_secs(2);
/// A node that is silent, after this.
const SILENT_AFTER: Duration = Duration::from_secs(15);
/// How often nodes are looked at.
const LOOK: Duration = Duration::from_millis(400);
/// A removal that has not ended after so long is gone on with: whoever was asked for it may have died.
const REMOVED_AFTER: Duration = Duration::from_secs(15);
/// How long a node that starts looks for others that have been up all along. One that does not
/// answer in this time cannot be told from one that is down.
const ASK_OTHERS: Duration = Duration::from_secs(1);
/// How long a node that stops tries to give its local queues away.
const GIVE_AWAY: Duration = Duration::from_secs(2);

/// Fills an empty catalog and registers this start, trying until it succeeds or the node stops.
pub async fn introduce(broker: &Arc<Broker>) {
    loop {
        match try_introduce(broker).await {
            Ok(()) => return,
            Err(WriteError::Stopping) => return,
            Err(error) => {
                if broker.catalog_group.is_disowned(ASK_OTHERS).await {
                    warn!(
                        "this node was removed from the cluster: stop it, and empty its data directory before it joins again"
                    );
                } else {
                    warn!(%error, "waiting for the metadata store: are a majority of the nodes up?");
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

async fn try_introduce(broker: &Arc<Broker>) -> Result<(), WriteError> {
    // Whether all nodes were down cannot be told from a catalog that is behind.
    if !broker.catalog_sync().await {
        return Err(WriteError::Timeout);
    }
    if !broker.catalog().is_bootstrapped() {
        broker
            .catalog_write(CatalogCommand::Bootstrap(first_content(broker).await))
            .await?;
    }
    broker
        .catalog_write(CatalogCommand::NodeStarted {
            origin: broker.origin,
            all_were_down_in: all_were_down(broker).await,
        })
        .await?;
    broker
        .catalog_write(CatalogCommand::PutNode(record_of_this_node(broker)))
        .await?;
    Ok(())
}

/// The catalog's era, if no node is found that was up before this one. Should another node announce
/// its start meanwhile, the era is another one by then.
async fn all_were_down(broker: &Broker) -> Option<u64> {
    let (era, others) = {
        let catalog = broker.catalog();
        let others = catalog.announced();
        let others: Vec<NodeId> = others.filter(|node| *node != broker.origin.node).collect();
        (catalog.era(), others)
    };
    let found = broker.queries.any_announced(others, ASK_OTHERS).await;
    (!found).then_some(era)
}

async fn first_content(broker: &Broker) -> Bootstrap {
    let config = &broker.config;
    let default = config.default_user.clone();
    let password = default.password.clone();
    let hash = tokio::task::spawn_blocking(move || hash_password(&password))
        .await
        .ok();
    let user = hash
        .filter(|_| !default.name.is_empty())
        .map(|password| UserSpec {
            name: default.name.as_str().into(),
            password,
            tags: vec!["administrator".into()],
        });
    let identity = broker.consensus.identity();
    Bootstrap {
        cluster_id: format!("{:016x}", identity.cluster.unwrap_or_default()).into(),
        cluster_name: config.cluster_name.as_str().into(),
        shards: identity.shards,
        vhost: default.vhost.as_str().into(),
        user,
        nodes: Vec::new(),
    }
}

fn record_of_this_node(broker: &Broker) -> NodeRecord {
    let identity = broker.consensus.identity();
    NodeRecord {
        node: broker.origin.node,
        raft_id: (identity.generation << 16) | identity.node,
        cluster_address: broker.config.advertised().into(),
        amqp_address: broker.config.amqp_listen.to_string().into(),
        management_address: broker.config.management_listen.to_string().into(),
        state: NodeState::Member,
        incarnation: broker.origin.incarnation,
    }
}

/// Removals that somebody has begun, and may not live to end.
#[derive(Default)]
struct Removals {
    /// Since when a node has been leaving, or has been tried last.
    since: BTreeMap<NodeId, Instant>,
    under_way: Option<JoinHandle<()>>,
}

impl Removals {
    /// Goes on with one that takes long.
    fn look(&mut self, broker: &Arc<Broker>) {
        let leaving: Vec<NodeId> = {
            let catalog = broker.catalog();
            let leaving = catalog
                .nodes()
                .filter(|node| node.state == NodeState::Leaving);
            leaving.map(|node| node.node).collect()
        };
        self.since.retain(|node, _| leaving.contains(node));
        self.under_way.take_if(|task| task.is_finished());
        let now = Instant::now();
        for node in leaving {
            let since = self.since.entry(node).or_insert(now);
            if self.under_way.is_some() || since.elapsed() < REMOVED_AFTER {
                continue;
            }
            *since = now;
            let broker = Arc::clone(broker);
            self.under_way = Some(tokio::spawn(async move {
                if node == broker.origin.node {
                    info!("this node is being removed: others are to lead, and go on with it");
                    broker.consensus.hand_over(GIVE_AWAY).await;
                    return;
                }
                info!(%node, "a removal that was begun goes on");
                if let Err(error) = broker.remove_node(node).await {
                    warn!(%node, %error, "node not removed");
                }
            }));
        }
    }
}

/// While this node leads the catalog: strikes off nodes that are gone, so that their exclusive
/// queues vanish and their other local queues get a new host, and ends removals that others have begun.
pub async fn watch_nodes(broker: Arc<Broker>) {
    let mut removals = Removals::default();
    let leadership = broker.catalog_group.leadership();
    let connectivity = broker.consensus.peers().connectivity();
    let mut since: BTreeMap<u64, (Connectivity, Instant)> = BTreeMap::new();
    let mut ticks = consensus::ticks::every(LOOK);
    loop {
        ticks.tick().await;
        let now = Instant::now();
        let states = connectivity.borrow().clone();
        for (node, state) in &states {
            let entry = since.entry(*node).or_insert((*state, now));
            if entry.0 != *state {
                *entry = (*state, now);
            }
        }
        if !leadership.borrow().ready {
            removals.since.clear();
            continue;
        }
        removals.look(&broker);
        let gone = since.iter().filter(|(_, (state, since))| match state {
            Connectivity::Connected => false,
            Connectivity::Refused => now.duration_since(*since) >= DEAD_AFTER,
            Connectivity::Silent => now.duration_since(*since) >= SILENT_AFTER,
        });
        let mut gone: Vec<NodeId> = gone.map(|(node, _)| NodeId(*node)).collect();
        // A node that was removed may still run, but is nobody's peer.
        gone.extend(broker.catalog().missing_hosts());
        for node in gone {
            strike_off(&broker, node).await;
        }
    }
}

/// As often as something of the node is left: it moves in steps, and what its sessions had on their
/// way may come late.
async fn strike_off(broker: &Arc<Broker>, node: NodeId) {
    let incarnation = {
        let catalog = broker.catalog();
        if !catalog.depends_on(node) {
            return;
        }
        catalog.latest_start(node)
    };
    info!(%node, "node is gone: its exclusive queues are deleted, its other local queues move");
    let origin = Origin { node, incarnation };
    let new_host = broker.origin.node;
    if let Err(error) = move_queues(broker, origin, new_host).await {
        debug!(%node, %error, "node not struck off");
    }
}

async fn move_queues(broker: &Broker, origin: Origin, new_host: NodeId) -> Result<(), WriteError> {
    let done = CatalogAnswer::Done { created: false };
    loop {
        let command = CatalogCommand::NodeDead { origin, new_host };
        if broker.catalog_write(command).await? == done {
            return Ok(());
        }
    }
}

/// This node stops and its clients are gone: another one takes its local queues over, empty, so that
/// consumers elsewhere need not wait until it is found dead.
pub async fn give_away_queues(broker: &Broker) {
    if !broker.catalog().depends_on(broker.origin.node) {
        return;
    }
    let connectivity = broker.consensus.peers().connectivity();
    let live = connectivity
        .borrow()
        .iter()
        .find(|(_, state)| **state == Connectivity::Connected)
        .map(|(node, _)| NodeId(*node));
    let Some(new_host) = live else { return };
    let moved = move_queues(broker, broker.origin, new_host);
    match tokio::time::timeout(GIVE_AWAY, moved).await {
        Ok(Ok(())) => info!(to = %new_host, "local queues given away"),
        Ok(Err(error)) => info!(%error, "local queues not given away"),
        Err(_) => info!("local queues not given away in time"),
    }
}

/// Tells the hosts of this node when another node's process is known to be dead.
pub async fn tell_hosts(broker: Arc<Broker>) {
    let mut connectivity = broker.consensus.peers().connectivity();
    let mut before: BTreeMap<u64, Connectivity> = BTreeMap::new();
    loop {
        let now = connectivity.borrow_and_update().clone();
        for (node, state) in &now {
            if *state == Connectivity::Refused && before.get(node) != Some(state) {
                info!(node, "node's process is gone");
                let node = NodeId(*node);
                broker
                    .hosts
                    .broadcast(|| crate::host::HostInput::NodeLost { node });
            } else if *state == Connectivity::Connected && before.get(node) != Some(state) {
                info!(node, "node connected");
            } else if *state == Connectivity::Silent
                && before.get(node) == Some(&Connectivity::Connected)
            {
                warn!(node, "node is silent: frozen or cut off");
            }
        }
        before = now;
        if connectivity.changed().await.is_err() {
            return;
        }
    }
}
