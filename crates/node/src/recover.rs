//! What is left when a majority of a cluster's disks is lost for good, and the way back. See [`consensus::recover`].

use crate::config::Config;
use crate::node::StartError;
use crate::stores::open_log;
use consensus::recover;
use std::sync::Arc;
use storage::LogBackend;

pub use consensus::recover::Remains;

/// Looks at the disk of a node that does not run, and changes nothing.
///
/// # Errors
/// It is not that of a member, is damaged, or its node runs.
pub async fn survey(config: &Arc<Config>) -> Result<Remains, StartError> {
    let log = open(config).await?;
    let config = Arc::clone(config);
    let surveyed = tokio::task::spawn_blocking(move || {
        recover::survey(&config.data_dir, config.node_id.0, &log)
    });
    match surveyed.await {
        Ok(remains) => Ok(remains?),
        Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
    }
}

/// Makes the disk of a node that does not run a cluster of its own, with all that it holds. Returns the cluster.
///
/// # Errors
/// The same, or it cannot be written. It can be repeated, and has to be before the node can start.
pub async fn go_on_alone(config: &Arc<Config>) -> Result<u64, StartError> {
    let log = open(config).await?;
    let address = config.advertised();
    let (dir, node) = (&config.data_dir, config.node_id.0);
    let identity = recover::go_on_alone(dir, node, &address, &log).await?;
    Ok(identity.cluster.unwrap_or_default())
}

async fn open(config: &Arc<Config>) -> Result<Arc<dyn LogBackend>, StartError> {
    let dir = &config.data_dir;
    if !recover::is_disk(dir) {
        return Err(StartError::DataDir {
            path: dir.display().to_string(),
            error: std::io::Error::new(
                std::io::ErrorKind::NotFound,
                "no node has ever had it: there is no file 'identity' in it",
            ),
        });
    }
    Ok(open_log(config).await?)
}
