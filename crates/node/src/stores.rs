//! Opens the two stores of a node, and translates the configuration for the parts below.

use crate::config::Config;
use crate::host::local_store::{LocalStore, LocalStoreOptions};
use crate::life::process::FileShares;
use crate::node::StartError;
use consensus::{CheckpointPolicy, ConsensusConfig, Secret, Timing, TlsFiles};
use std::sync::Arc;
use storage::{LogOptions, LogStore, StateOptions, StateStore};
use tracing::error;

/// Opens the log in the data directory. Takes a moment; runs on a blocking thread.
///
/// # Errors
/// The directory cannot be used or what is in it is damaged.
pub(crate) async fn open_log(config: &Arc<Config>) -> Result<Arc<LogStore>, StartError> {
    let config = Arc::clone(config);
    opened(move || {
        let options = LogOptions {
            segment_bytes: config.storage.log_segment_bytes,
            ..LogOptions::default()
        };
        LogStore::open(config.data_dir.join("log"), options)
    })
    .await
}

/// Opens the state in the data directory, as [`open_log`] does.
///
/// # Errors
/// The directory cannot be used or what is in it is damaged.
pub(crate) async fn open_state(config: &Arc<Config>) -> Result<Arc<StateStore>, StartError> {
    let config = Arc::clone(config);
    opened(move || {
        let options = StateOptions {
            write_buffer_bytes: config.storage.state_write_buffer_bytes,
            block_cache_bytes: config.memory.block_cache_bytes,
            open_files: FileShares::now().store,
            reserve_bytes: config.storage.disk_reserve_bytes,
            ..StateOptions::default()
        };
        StateStore::open(config.data_dir.join("state"), options)
    })
    .await
}

/// Where local queues have what memory has no room for.
#[must_use]
pub(crate) fn local_store(config: &Config) -> Arc<LocalStore> {
    Arc::new(LocalStore::new(LocalStoreOptions {
        dir: config.data_dir.join("local"),
        memory_bytes: config.memory.local_queues_bytes,
        store: StateOptions {
            write_buffer_bytes: config.storage.state_write_buffer_bytes,
            block_cache_bytes: config.memory.block_cache_bytes / 8,
            open_files: FileShares::now().store / 2,
            reserve_bytes: config.storage.disk_reserve_bytes,
            ..StateOptions::default()
        },
    }))
}

/// Whether the state store was found damaged before this start. Says so.
pub(crate) fn is_damaged(state: &StateStore) -> bool {
    let noted = state.noted_damage();
    if let Some(found) = &noted {
        error!(
            found,
            "the state store was found damaged: this node goes on as a member and leads nothing that another node can lead. \
             Stop it, move its data directory away and start it again, it gets its data from the others. (Where the damage \
             was mended, as by files from a copy, remove the file state/DAMAGED in its data directory.)"
        );
    }
    noted.is_some()
}

/// Notes what was found damaged, for the next start.
pub(crate) fn note_damage(state: &StateStore, found: &str) {
    if let Err(error) = state.note_damage(found) {
        error!(%error, "it cannot be noted that the state store is damaged: after its next start this node may lead");
    }
}

async fn opened<T: Send + Sync + 'static>(
    open: impl FnOnce() -> Result<T, storage::StorageError> + Send + 'static,
) -> Result<Arc<T>, StartError> {
    match tokio::task::spawn_blocking(open).await {
        Ok(opened) => Ok(Arc::new(opened?)),
        Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
    }
}

/// What the consensus layer needs of the configuration.
#[must_use]
pub(crate) fn consensus_config(config: &Config) -> ConsensusConfig {
    let mut consensus = ConsensusConfig::new(config.node_id.0, &config.data_dir);
    consensus.listen = config.cluster_listen;
    // The listener's own address is known to the listener, also where the system chose the port.
    consensus.advertise =
        Some(config.advertised()).filter(|address| *address != config.cluster_listen.to_string());
    consensus.peers = config
        .peers
        .iter()
        .map(|peer| (peer.id.0, peer.address.clone()))
        .collect();
    consensus.join = config.join.iter().cloned().collect();
    let secret = config
        .cluster_secret
        .as_ref()
        .map_or("", |secret| secret.expose());
    consensus.secret = Secret::new(secret.as_bytes().to_vec());
    consensus.tls = config.cluster_tls.as_ref().map(|tls| TlsFiles {
        certificate: tls.certificate.clone(),
        key: tls.key.clone(),
        ca: tls.ca.clone(),
    });
    consensus.shards = config.sharding.shards;
    consensus.timing = Timing {
        heartbeat: config.timing.raft_heartbeat,
        election_min: config.timing.raft_election_min,
        election_max: config.timing.raft_election_max,
        ..Timing::default()
    };
    consensus.checkpoint = CheckpointPolicy {
        log_bytes: config.storage.checkpoint_bytes,
        held_bytes: config.storage.checkpoint_bytes / 4,
        dirty_for: config.storage.checkpoint_interval,
        lag_bytes: config.storage.log_keep_bytes,
        ..CheckpointPolicy::default()
    };
    consensus.limits.greeting = FileShares::now().strangers;
    consensus
}
