//! A way back when a majority of the disks is lost for good: one disk that is left becomes a cluster of its own.
//!
//! Raft alone knows no such way, and rightly: what only the lost disks had, confirmed messages among it, is gone, and nobody but an
//! operator can tell that those disks are lost rather than away. So this is done by hand, while the node does not run. Every
//! group's log gets one more entry, which names this node as the only member; that entry counts from the next start on,
//! as the last membership of a log always does. What the log has before it counts as committed then.
//!
//! The cluster gets another identity. A disk that was taken for lost and comes back belongs to another cluster from then on, and is
//! refused: two halves that both believe to be the cluster would be worse than the loss.

use crate::error::StartError;
use crate::identity::{Identity, IdentityFile, Standing};
use crate::log::{GroupLog, TailBudget};
use crate::log_mark;
use crate::raft::{Entry, EntryPayload, LogId, Membership, Vote, log_id, position};
use crate::types::{GroupId, Position, RaftNode};
use openraft::BasicNode;
use rand::RngExt;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use storage::LogBackend;

/// What the disk of a member holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remains {
    /// Who it belongs to.
    pub identity: Identity,
    /// The last entry of each group's log, the catalog's first. Where several disks are left, that on which these are
    /// furthest has the most.
    pub last: Vec<(GroupId, Position)>,
}

/// Whether there is the disk of a node in `dir`. Before anything is opened, which would make files.
#[must_use]
pub fn is_disk(dir: &Path) -> bool {
    dir.join("identity").is_file()
}

/// Looks at the disk of `node` in `dir`, with its log opened, and changes nothing. Blocking.
///
/// # Errors
/// It is not that of a member, or damaged.
pub fn survey(dir: &Path, node: u64, log: &Arc<dyn LogBackend>) -> Result<Remains, StartError> {
    let identity = member(dir, node)?.identity;
    log_mark::check_disk(&**log, &identity)?;
    let last = groups(&identity)
        .map(|group| Ok((group, position(&open(group, log)?.1))))
        .collect::<Result<_, StartError>>()?;
    Ok(Remains { identity, last })
}

/// Makes the disk of `node` a cluster of its own, which has this node as its only member, at `address`. Durable on return. Can be
/// repeated, and has to be when it was interrupted: the node does not start before it is done.
///
/// # Errors
/// The disk is not that of a member, or cannot be read or written.
pub async fn go_on_alone(
    dir: &Path,
    node: u64,
    address: &str,
    log: &Arc<dyn LogBackend>,
) -> Result<Identity, StartError> {
    let mut file = member(dir, node)?;
    log_mark::check_disk(&**log, &file.identity)?;
    // All logs can be read before the first change.
    let logs = groups(&file.identity)
        .map(|group| open(group, log))
        .collect::<Result<Vec<_>, StartError>>()?;
    // From here on the log does not fit the identity, and the node does not start, until its mark is written.
    file.identity.cluster = Some(rand::rng().random_range(1..u64::MAX));
    file.count_start();
    file.save()?;
    let me = RaftNode::new(node, file.identity.generation);
    for (group, (log, last)) in groups(&file.identity).zip(logs) {
        be_alone(&log, last, me, address)
            .await
            .map_err(|error| unusable(group, &error.to_string()))?;
    }
    log_mark::write(&**log, &file.identity).await?;
    Ok(file.identity)
}

fn member(dir: &Path, node: u64) -> Result<IdentityFile, StartError> {
    let file = IdentityFile::read(dir, node)?;
    file.filter(|file| file.standing == Standing::Member && file.identity.cluster.is_some())
        .ok_or_else(|| StartError::Identity {
            path: dir.join("identity").display().to_string(),
            reason: "this is not the disk of a node that had become a member of a cluster; there is nothing to go on with"
                .to_owned(),
        })
}

fn groups(identity: &Identity) -> impl Iterator<Item = GroupId> + use<> {
    (0..=identity.shards).map(GroupId)
}

/// The log of a group, and where it ends.
fn open(group: GroupId, log: &Arc<dyn LogBackend>) -> Result<(Arc<GroupLog>, LogId), StartError> {
    // Nothing is kept in memory, and nothing is sent.
    let log = GroupLog::open(group, Arc::clone(log), TailBudget::new(0, 0), 0)
        .map_err(|error| unusable(group, &error.to_string()))?;
    let last = log.span().last.ok_or_else(|| {
        let reason = "the log knows nothing of this group: a part of it is gone. Restore it, or take another disk";
        unusable(group, reason)
    })?;
    Ok((log, last))
}

/// Appends the entry that makes `me` the only member, in a term that nobody has had.
async fn be_alone(
    log: &GroupLog,
    last: LogId,
    me: RaftNode,
    address: &str,
) -> Result<(), std::io::Error> {
    let voted = log.vote().map_or(0, |vote| vote.leader_id.term);
    let term = last.leader_id.term.max(voted) + 1;
    let nodes = BTreeMap::from([(me.0, BasicNode::new(address))]);
    let membership = Membership::new(vec![BTreeSet::from([me.0])], nodes)
        .map_err(|error| std::io::Error::other(error.to_string()))?;
    let entry = Entry {
        log_id: log_id(term, last.index + 1),
        payload: EntryPayload::Membership(membership),
    };
    log.write_down(&entry, &Vote::new(term, me.0)).await
}

fn unusable(group: GroupId, reason: &str) -> StartError {
    StartError::Group {
        group: group.0,
        reason: reason.to_owned(),
    }
}
