//! What the log itself knows of where it belongs.
//!
//! The identity says of which cluster a node is a member, and so that it has voted. If the log next to it is gone,
//! or another one, the node must not vote again: what only it and one other node had would be lost. So
//! the log is marked before the identity names a cluster, and both are compared at every start.
//!
//! It is the same if the identity is gone: groups write into the log only when an identity that names their cluster is on the
//! disk. So a log with groups beside an identity that names none has lost it. A mark alone says nothing: a start may
//! have been interrupted between the two, and is repeated.

use crate::error::StartError;
use crate::identity::Identity;
use bytes::Bytes;
use storage::{LogBackend, StorageError};
use tokio::sync::oneshot;

/// The mark is kept as the vote of this group, which no cluster has.
const GROUP: u32 = 1 << 24;

/// Marks the log of a node that enters a cluster; durable on return.
pub(crate) async fn write(log: &dyn LogBackend, identity: &Identity) -> Result<(), StartError> {
    let (sender, done) = oneshot::channel();
    log.save_vote(
        GROUP,
        mark(identity),
        Box::new(move |result| {
            let _ = sender.send(result);
        }),
    );
    match done.await {
        Ok(written) => written.map_err(|error| unusable(&error)),
        Err(_) => Err(StartError::Refused("stopped".to_owned())),
    }
}

/// Compares the mark with the identity. A log of an earlier version has none, and is given one.
pub(crate) async fn check(log: &dyn LogBackend, identity: &Identity) -> Result<(), StartError> {
    let found = log.group(GROUP).map_err(|error| unusable(&error))?;
    match found.vote {
        Some(found) if found == mark(identity) => Ok(()),
        Some(_) => Err(StartError::Log(
            "the directory 'log' is not the one that the file 'identity' beside it belongs to \
             (or `warren recover` was interrupted: run it again)"
                .to_owned(),
        )),
        None if log.groups().is_empty() => Err(StartError::Log(
            "what was in the directory 'log' is gone".to_owned(),
        )),
        None => write(log, identity).await,
    }
}

/// Refuses the log of another disk than that of `identity`, in whatever cluster: which one it is in may just have changed.
pub(crate) fn check_disk(log: &dyn LogBackend, identity: &Identity) -> Result<(), StartError> {
    let found = log.group(GROUP).map_err(|error| unusable(&error))?;
    let of_disk = |mark: &Bytes| mark.get(size_of::<u64>()..).map(<[u8]>::to_vec);
    match found.vote {
        Some(found) if of_disk(&found) != of_disk(&mark(identity)) => Err(StartError::Log(
            "the directory 'log' is not the one that the file 'identity' beside it belongs to"
                .to_owned(),
        )),
        _ => Ok(()),
    }
}

/// Refuses the log of a member whose identity, at `path`, is gone or another: its votes and entries would be taken for those of the
/// cluster that this node comes into now.
pub(crate) fn check_unused(log: &dyn LogBackend, path: String) -> Result<(), StartError> {
    if log.groups().iter().all(|group| *group == GROUP) {
        return Ok(());
    }
    Err(StartError::Identity {
        path,
        reason: "the file was missing or names no cluster, but in the directory 'log' beside it is the log of a member of one, \
                 which has voted with it. Restore the file; or move the whole data directory away and start again: in a \
                 cluster of several nodes this one joins as an empty node and copies the data from the others"
            .to_owned(),
    })
}

fn mark(identity: &Identity) -> Bytes {
    let parts = [
        identity.cluster.unwrap_or_default(),
        identity.node,
        identity.generation,
    ];
    parts.iter().flat_map(|part| part.to_be_bytes()).collect()
}

fn unusable(error: &StorageError) -> StartError {
    StartError::Group {
        group: GROUP,
        reason: error.to_string(),
    }
}
