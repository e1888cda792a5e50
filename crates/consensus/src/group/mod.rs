//! A replicated log and the machine that it drives, as the rest of the node uses it.

use crate::error::{AdminError, ProposeError, ReadError};
use crate::types::{GroupId, Leadership, Payload, Position, RaftNode};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;
use tokio::sync::watch;

/// A handle on one group; clones share it.
#[derive(Clone)]
pub struct Group {}

/// An entry that was committed and applied here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposed {
    /// Its index in the log.
    pub index: u64,
    /// What the machine replied.
    pub reply: Bytes,
}

/// The state of a group on this node, for metrics and management.
#[derive(Debug, Clone, Default)]
pub struct GroupStatus {
    /// Term, leader, readiness.
    pub leadership: Leadership,
    /// Highest index known to be committed.
    pub committed: Option<Position>,
    /// Highest index applied here.
    pub applied: Option<Position>,
    /// Last entry in the local log (it may not be synced yet).
    pub last_log: Option<Position>,
    /// Position of the last durable checkpoint.
    pub checkpoint: Option<Position>,
    /// Highest index that the local log no longer has.
    pub purged: Option<Position>,
    /// Members that vote.
    pub voters: Vec<RaftNode>,
    /// Members that only follow.
    pub learners: Vec<RaftNode>,
    /// On the leader: how far each other member's log is known to agree. Empty elsewhere.
    pub matched: BTreeMap<RaftNode, Option<u64>>,
    /// On the leader: since when no quorum was heard. `None` elsewhere.
    pub quorum_age: Option<Duration>,
}

impl Group {
    /// Which group this is.
    #[must_use]
    pub fn id(&self) -> GroupId {
        todo!()
    }

    /// This node as a member of the group.
    #[must_use]
    pub fn me(&self) -> RaftNode {
        todo!()
    }

    /// Proposes an entry. It is queued before this returns, so calls in order are entries in
    /// order; the future resolves when the entry has been applied here, or with what is known
    /// about its fate.
    pub fn propose(
        &self,
        _payload: Payload,
    ) -> impl Future<Output = Result<Proposed, ProposeError>> + Send + 'static + use<> {
        async { todo!() }
    }

    /// Like [`propose`](Self::propose), but refused unless this node leads in exactly `term`: for
    /// entries that depend on what the leader of that term knew.
    pub fn propose_in_term(
        &self,
        _payload: Payload,
        _term: u64,
    ) -> impl Future<Output = Result<Proposed, ProposeError>> + Send + 'static + use<> {
        async { todo!() }
    }

    /// Follows who leads, and whether this node may act as the leader.
    #[must_use]
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        todo!()
    }

    /// Follows the highest index applied here.
    #[must_use]
    pub fn applied(&self) -> watch::Receiver<Option<u64>> {
        todo!()
    }

    /// An index such that a replica that has applied it shows everything that was acknowledged
    /// before this call, on any node. Asks the leader, which asks a quorum.
    ///
    /// # Errors
    /// When no leader confirms within `timeout`.
    pub async fn read_index(&self, _timeout: Duration) -> Result<u64, ReadError> {
        todo!()
    }

    /// Waits until `index` has been applied here.
    ///
    /// # Errors
    /// After `timeout`.
    pub async fn wait_applied(&self, _index: u64, _timeout: Duration) -> Result<(), ReadError> {
        todo!()
    }

    /// Hands leadership to `node` (its current member). Returns when another leader is known.
    ///
    /// # Errors
    /// When this node does not lead, the node is no voter, or nothing happened in `timeout`.
    pub async fn transfer_leader(&self, _node: u64, _timeout: Duration) -> Result<(), AdminError> {
        todo!()
    }

    /// Campaigns without waiting for the lease. Only when the leader's process is known dead.
    pub async fn campaign(&self) {
        todo!()
    }

    /// Adds a member that follows without voting; returns once it is recorded, not caught up.
    ///
    /// # Errors
    /// See [`AdminError`].
    pub async fn add_learner(&self, _member: RaftNode) -> Result<(), AdminError> {
        todo!()
    }

    /// Makes exactly these the voters, through joint consensus. They must be learners or voters
    /// already. Former voters leave the group.
    ///
    /// # Errors
    /// See [`AdminError`].
    pub async fn change_voters(&self, _voters: &[RaftNode]) -> Result<(), AdminError> {
        todo!()
    }

    /// The state now.
    #[must_use]
    pub fn status(&self) -> GroupStatus {
        todo!()
    }

    /// Writes a checkpoint as soon as possible, whatever the policy says.
    pub fn trigger_checkpoint(&self) {
        todo!()
    }
}
