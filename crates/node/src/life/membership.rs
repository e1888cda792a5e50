//! What the catalog must know about nodes: the first content, who has started, who is gone.

use crate::auth::hash_password;
use crate::broker::Broker;
use crate::catalog::writer::WriteError;
use broker_model::catalog::record::{NodeRecord, NodeState};
use broker_model::catalog::{Bootstrap, CatalogCommand, UserSpec};
use broker_model::ids::{NodeId, Origin};
use consensus::Connectivity;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tracing::{debug, info, warn};

/// A node whose process is dead is struck off after this time: long enough for a restart.
const DEAD_AFTER: Duration = Duration::from_secs(5);
/// A node that is silent, after this.
const SILENT_AFTER: Duration = Duration::from_secs(15);
/// How often nodes are looked at.
const LOOK: Duration = Duration::from_millis(500);

/// Fills an empty catalog and registers this start, trying until it succeeds or the node stops.
pub async fn introduce(broker: &Arc<Broker>) {
    loop {
        match try_introduce(broker).await {
            Ok(()) => return,
            Err(WriteError::Stopping) => return,
            Err(error) => {
                warn!(%error, "waiting for the metadata store: are a majority of the nodes up?");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

async fn try_introduce(broker: &Arc<Broker>) -> Result<(), WriteError> {
    // The catalog here may be behind: what is decided below is decided by its leader again.
    broker.catalog_sync().await;
    if !broker.catalog().is_bootstrapped() {
        broker
            .catalog_write(CatalogCommand::Bootstrap(first_content(broker).await))
            .await?;
    }
    broker
        .catalog_write(CatalogCommand::NodeStarted {
            origin: broker.origin,
        })
        .await?;
    broker
        .catalog_write(CatalogCommand::PutNode(record_of_this_node(broker)))
        .await?;
    Ok(())
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

/// While this node leads the catalog: strikes off nodes that are gone, so that their exclusive
/// queues vanish and their other local queues get a new host.
pub async fn watch_nodes(broker: Arc<Broker>) {
    let leadership = broker.catalog_group.leadership();
    let connectivity = broker.consensus.peers().connectivity();
    let mut since: BTreeMap<u64, (Connectivity, Instant)> = BTreeMap::new();
    let mut struck: BTreeMap<u64, u64> = BTreeMap::new();
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
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
            continue;
        }
        let gone = since.iter().filter(|(_, (state, since))| match state {
            Connectivity::Connected => false,
            Connectivity::Refused => now.duration_since(*since) >= DEAD_AFTER,
            Connectivity::Silent => now.duration_since(*since) >= SILENT_AFTER,
        });
        for node in gone.map(|(node, _)| *node).collect::<Vec<_>>() {
            strike_off(&broker, NodeId(node), &mut struck).await;
        }
    }
}

async fn strike_off(broker: &Arc<Broker>, node: NodeId, struck: &mut BTreeMap<u64, u64>) {
    let incarnation = broker.catalog().node(node).map(|record| record.incarnation);
    let Some(incarnation) = incarnation else {
        return;
    };
    if struck.get(&node.0) == Some(&incarnation) {
        return;
    }
    info!(%node, "node is gone: its exclusive queues are deleted, its other local queues move");
    let origin = Origin { node, incarnation };
    let command = CatalogCommand::NodeDead {
        origin,
        new_host: broker.origin.node,
    };
    match broker.catalog_write(command).await {
        Ok(_) => {
            struck.insert(node.0, incarnation);
        }
        Err(error) => debug!(%node, %error, "node not struck off"),
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
