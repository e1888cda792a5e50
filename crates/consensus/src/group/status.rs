//! The state of a group, for metrics and management.

use super::core::GroupCore;
use crate::raft::position;
use crate::types::{Leadership, Position, RaftNode};
use openraft::Instant as _;
use openraft::async_runtime::watch::WatchReceiver;
use std::collections::BTreeMap;
use std::time::Duration;

/// The state of a group on this node, for metrics and management.
#[derive(Debug, Clone, Default)]
pub struct GroupStatus {
    /// Term, leader, readiness.
    pub leadership: Leadership,
    /// Highest entry known here to be committed.
    pub committed: Option<Position>,
    /// Last entry applied here.
    pub applied: Option<Position>,
    /// Last entry in the local log (it may not be synced yet).
    pub last_log: Option<Position>,
    /// Position of the last durable checkpoint.
    pub checkpoint: Option<Position>,
    /// Highest entry that the local log no longer has.
    pub purged: Option<Position>,
    /// Bytes of entries in the local log, roughly.
    pub log_bytes: u64,
    /// Members that vote.
    pub voters: Vec<RaftNode>,
    /// Members that only follow.
    pub learners: Vec<RaftNode>,
    /// On the leader: how far each other member's log is known to agree. Empty elsewhere.
    pub matched: BTreeMap<RaftNode, Option<u64>>,
    /// On the leader: since when no quorum was heard. `None` elsewhere, and in a group of one.
    pub quorum_age: Option<Duration>,
}

impl GroupCore {
    pub(super) fn status(&self) -> GroupStatus {
        let span = self.log().span();
        let membership = self.membership();
        let mut status = GroupStatus {
            leadership: *self.leadership.borrow(),
            applied: self.state().last_applied(),
            last_log: span.last.as_ref().map(position),
            checkpoint: self.state().checkpoint().as_ref().map(position),
            purged: span.purged.as_ref().map(position),
            log_bytes: self.log().backend().retained_bytes(self.id().0),
            voters: membership.voter_ids().map(RaftNode).collect(),
            learners: membership.learner_ids().map(RaftNode).collect(),
            ..GroupStatus::default()
        };
        if let Some(raft) = self.raft() {
            let data = raft.data_metrics();
            let data = data.borrow_watched();
            status.committed = data.local_committed.as_ref().map(position);
            status.quorum_age = data
                .last_quorum_acked
                .map(|acked| crate::clock::stretched(acked.elapsed()));
            if let Some(replication) = &data.replication {
                status.matched = replication
                    .iter()
                    .filter(|(member, _)| **member != self.me().0)
                    .map(|(member, matched)| {
                        (RaftNode(*member), matched.map(|matched| matched.index))
                    })
                    .collect();
            }
        }
        status
    }
}
