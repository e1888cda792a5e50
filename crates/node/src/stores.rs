//! Opens the two stores of a node and translates the configuration for the parts below.

use crate::config::Config;
use crate::life::process::FileShares;
use crate::node::StartError;
use consensus::{CheckpointPolicy, ConsensusConfig, Secret, Timing, TlsFiles};
use std::sync::Arc;
use storage::{LogOptions, LogStore, StateOptions, StateStore};

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
