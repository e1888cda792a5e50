//! A replicated log and the machine that it drives, as the rest of the node uses it.

mod checkpoint;
mod contact;
mod core;
pub(crate) mod dirt;
mod handover;
mod heartbeat;
mod install;
mod leadership;
mod members;
mod propose;
mod read;
mod recency;
mod status;
mod watchdog;

pub(crate) use self::core::{GroupCore, GroupEnvironment};
pub(crate) use self::heartbeat::send_heartbeats;
pub use self::propose::Proposed;
pub use self::recency::RECENT;
pub use self::status::GroupStatus;

use crate::error::{AdminError, ProposeError, ReadError};
use crate::stats::Latencies;
use crate::types::{GroupId, Leadership, Payload, Position, RaftNode};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// A handle on one group; clones share it.
#[derive(Clone)]
pub struct Group(pub(crate) Arc<GroupCore>);

impl Group {
    /// Which group this is.
    #[must_use]
    pub fn id(&self) -> GroupId {
        self.0.id()
    }

    /// This node as a member of the group.
    #[must_use]
    pub fn me(&self) -> RaftNode {
        self.0.me()
    }

    /// Proposes an entry. It is queued before this returns, so calls in order are entries in
    /// order; the future resolves when the entry has been applied here, or with what is known
    /// about its fate. A leader that was cut off learns the fate only when it is back: bound the
    /// wait where that matters.
    pub fn propose(
        &self,
        payload: Payload,
    ) -> impl Future<Output = Result<Proposed, ProposeError>> + Send + 'static + use<> {
        self.0.propose(payload, None)
    }

    /// Like [`propose`](Self::propose), but refused unless this node leads in exactly `term`: for
    /// entries that depend on what the leader of that term knew.
    pub fn propose_in_term(
        &self,
        payload: Payload,
        term: u64,
    ) -> impl Future<Output = Result<Proposed, ProposeError>> + Send + 'static + use<> {
        self.0.propose(payload, Some(term))
    }

    /// Follows who leads, and whether this node may act as the leader.
    #[must_use]
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.0.leadership.subscribe()
    }

    /// Whether this node may act as the leader at this moment, by the clock: to be asked before something is done that nobody
    /// can take back. What [`leadership`](Self::leadership) has told may be older than the lease if the process stood still.
    #[must_use]
    pub fn leads_now(&self) -> bool {
        leadership::leads_now(&self.0)
    }

    /// Follows the position of the last entry applied here.
    #[must_use]
    pub fn applied(&self) -> watch::Receiver<Option<Position>> {
        self.0.state().progress()
    }

    /// Follows the index of the last entry that each other member has said to have applied. Known for the catalog, by
    /// the node that leads it or did.
    #[must_use]
    pub fn shown(&self) -> watch::Receiver<BTreeMap<RaftNode, u64>> {
        self.0.net().shown.subscribe()
    }

    /// An index such that a replica that has applied it shows everything that was acknowledged
    /// before this call, on any node. Asks the leader, which asks a quorum.
    ///
    /// # Errors
    /// When no leader confirms within `timeout`.
    pub async fn read_index(&self, timeout: Duration) -> Result<u64, ReadError> {
        self.0.read_index(timeout).await
    }

    /// Whether a leader of the group says within `timeout` that this node is no member (any more).
    pub async fn is_disowned(&self, timeout: Duration) -> bool {
        self.0.is_disowned(timeout).await
    }

    /// Whether what is applied here shows everything that was acknowledged on any node until a moment ago, which is shorter
    /// than those who acknowledge wait for a member that does not show it. Costs nothing.
    #[must_use]
    pub fn is_recent(&self) -> bool {
        self.0.is_recent()
    }

    /// Whether this member has heard a leader's heartbeats without a gap, so that what the leader that it knows of has sent
    /// is no older than it seems. Costs nothing.
    #[must_use]
    pub fn is_in_contact(&self) -> bool {
        self.0.is_in_contact()
    }

    /// Makes sure who leads: afterwards [`leadership`](Self::leadership) tells of a leader that was one after this call.
    ///
    /// # Errors
    /// When no leader confirms within `timeout`.
    pub async fn renew_contact(&self, timeout: Duration) -> Result<(), ReadError> {
        self.0.renew_contact(timeout).await
    }

    /// Brings what is applied here up to date with everything that was acknowledged before this call, on any node; false if
    /// that is not known within `timeout`.
    pub async fn catch_up(&self, timeout: Duration) -> bool {
        self.0.catch_up(timeout).await
    }

    /// The same unless it [is recent](Self::is_recent) anyway; those who ask at the same time ask once.
    pub async fn freshen(&self, timeout: Duration) -> bool {
        self.0.freshen(timeout).await
    }

    /// Waits until `index` has been applied here.
    ///
    /// # Errors
    /// After `timeout`.
    pub async fn wait_applied(&self, index: u64, timeout: Duration) -> Result<(), ReadError> {
        self.0.wait_applied(index, timeout).await
    }

    /// Hands leadership to `node`. Returns when another leader is known. Proposals are held off
    /// (as if the target led already) for half a second at most.
    ///
    /// # Errors
    /// When this node does not lead, the node is no voter, or it did not take over in `timeout`;
    /// this node goes on leading then.
    pub async fn transfer_leader(&self, node: u64, timeout: Duration) -> Result<(), AdminError> {
        self.0.transfer_leader(node, timeout).await
    }

    /// Campaigns without waiting for the lease. Only when the leader's process is known dead; the
    /// crate does this by itself when connections say so.
    pub async fn campaign(&self) {
        self.0.campaign().await;
    }

    /// Adds a member that follows without voting; returns once it is recorded, not caught up.
    ///
    /// # Errors
    /// See [`AdminError`].
    pub async fn add_learner(&self, member: RaftNode, address: &str) -> Result<(), AdminError> {
        self.0.add_learner(member, address).await
    }

    /// Makes exactly these the voters, through joint consensus. They must be learners or voters
    /// already. Former voters leave the group.
    ///
    /// # Errors
    /// See [`AdminError`].
    pub async fn change_voters(&self, voters: &[RaftNode]) -> Result<(), AdminError> {
        let voters: BTreeSet<RaftNode> = voters.iter().copied().collect();
        self.0.change_voters(&voters).await
    }

    /// The state now.
    #[must_use]
    pub fn status(&self) -> GroupStatus {
        self.0.status()
    }

    /// How long proposals of this node took from the call until they were applied.
    #[must_use]
    pub fn commit_latencies(&self) -> Latencies {
        self.0.latency.read()
    }

    /// Writes a checkpoint as soon as possible, whatever the policy says.
    pub fn trigger_checkpoint(&self) {
        self.0.checkpoint_wanted.notify_one();
    }
}
