//! Who belongs to a group, and changing it.

use super::core::GroupCore;
use crate::error::AdminError;
use crate::raft::{Membership, Types};
use crate::types::RaftNode;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::{BasicNode, ChangeMembers};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

/// A new voter may lack this many entries: it gets them faster than they come.
const CAUGHT_UP: u64 = 1000;
/// Between two looks whether one that is being admitted still belongs to the group.
const LOOK: Duration = Duration::from_millis(200);

impl GroupCore {
    pub(super) fn membership(&self) -> Membership {
        match self.raft() {
            Some(raft) => {
                let server = raft.server_metrics();
                let server = server.borrow_watched();
                server.membership_config.membership().clone()
            }
            None => self.state().applied().membership.membership().clone(),
        }
    }

    pub(crate) fn voters(&self) -> Vec<RaftNode> {
        self.membership().voter_ids().map(RaftNode).collect()
    }

    /// The voters of the configuration that the group has, or is on its way to: while it changes, `voters` are those of
    /// before too.
    fn voters_to_be(&self) -> BTreeSet<RaftNode> {
        let membership = self.membership();
        let last = membership.get_joint_config().last();
        last.into_iter().flatten().copied().map(RaftNode).collect()
    }

    /// Whether what was applied last of the group's memberships is one on the way from one set of voters to another.
    pub(crate) fn is_changing(&self) -> bool {
        let applied = self.state().applied().membership;
        applied.membership().get_joint_config().len() > 1
    }

    /// Whether `member` votes, for good, and no other generation of its node belongs to the group.
    pub(crate) fn has_settled(&self, member: RaftNode) -> bool {
        let applied = self.state().applied().membership;
        let membership = applied.membership();
        let [voters] = membership.get_joint_config().as_slice() else {
            return false;
        };
        let same_node = |other: &u64| RaftNode(*other).node() == member.node();
        let mut generations = membership.nodes().filter(|(other, _)| same_node(other));
        voters.contains(&member.0) && generations.all(|(other, _)| *other == member.0)
    }

    /// Ends a change of the voters whose second step nobody has made: who made the first may be gone.
    pub(super) async fn finish_change(&self) -> Result<(), AdminError> {
        let raft = self.raft().ok_or(AdminError::Stopped)?;
        let nothing = ChangeMembers::AddVoterIds(BTreeSet::new());
        let finished = raft.change_membership(nothing, false).await;
        finished.map(|_| ()).map_err(admin_error)
    }

    /// Voters and learners with the addresses that they had when they were admitted.
    pub(crate) fn members(&self) -> BTreeMap<RaftNode, String> {
        let membership = self.membership();
        membership
            .nodes()
            .map(|(member, node)| (RaftNode(*member), node.addr.clone()))
            .collect()
    }

    /// Writes the first entry of the group: its members, all of them voters.
    pub(crate) async fn initialize(
        &self,
        members: &BTreeMap<RaftNode, String>,
    ) -> Result<(), AdminError> {
        let raft = self.raft().ok_or(AdminError::Stopped)?;
        let nodes: BTreeMap<u64, BasicNode> = members
            .iter()
            .map(|(member, address)| (member.0, BasicNode::new(address)))
            .collect();
        match raft.initialize(nodes).await {
            Ok(()) => Ok(()),
            Err(RaftError::APIError(openraft::errors::InitializeError::NotAllowed(_))) => Ok(()),
            Err(error) => Err(AdminError::Refused(error.to_string())),
        }
    }

    pub(crate) async fn add_learner(
        &self,
        member: RaftNode,
        address: &str,
    ) -> Result<(), AdminError> {
        if self.members().contains_key(&member) {
            return Ok(());
        }
        let raft = self.raft().ok_or(AdminError::Stopped)?;
        let added = raft
            .add_learner(member.0, BasicNode::new(address), false)
            .await;
        added.map(|_| ()).map_err(admin_error)
    }

    pub(crate) async fn change_voters(
        &self,
        voters: &BTreeSet<RaftNode>,
    ) -> Result<(), AdminError> {
        let raft = self.raft().ok_or(AdminError::Stopped)?;
        let voters: BTreeSet<u64> = voters.iter().map(|voter| voter.0).collect();
        let membership = self.membership();
        if membership.get_joint_config().as_slice() == [voters.clone()] {
            return Ok(());
        }
        let changed = raft.change_membership(voters, false).await;
        changed.map(|_| ()).map_err(admin_error)
    }

    /// Makes `member` a voter in place of all other generations of its node: a learner first, a voter
    /// when it has caught up.
    pub(crate) async fn admit(
        &self,
        member: RaftNode,
        address: &str,
        within: Duration,
    ) -> Result<(), AdminError> {
        let until = Instant::now() + within;
        let steps = async {
            self.add_learner(member, address).await?;
            tokio::select! {
                () = self.wait_matched(member, CAUGHT_UP) => {}
                () = self.left(member) => {
                    return Err(AdminError::Refused("it was removed meanwhile".to_owned()));
                }
            }
            let mut voters = self.voters_to_be();
            voters.retain(|voter| voter.node() != member.node());
            voters.insert(member);
            self.change_voters(&voters).await?;
            let former = self
                .members()
                .into_keys()
                .filter(|other| *other != member && other.node() == member.node());
            self.remove_learners(former.collect()).await
        };
        tokio::select! {
            done = timeout_at(until, steps) => done.map_err(|_| AdminError::Timeout)?,
            // How far the newcomer is, only a leader knows.
            leader = self.deposed() => Err(AdminError::NotLeader { leader }),
        }
    }

    /// Waits until `member` belongs to the group no longer.
    async fn left(&self, member: RaftNode) {
        let mut seen = false;
        loop {
            let is_member = self.members().contains_key(&member);
            if seen && !is_member {
                return;
            }
            seen |= is_member;
            sleep(LOOK).await;
        }
    }

    /// Waits until this member does not lead the group; returns who does.
    async fn deposed(&self) -> Option<RaftNode> {
        let mut leadership = self.leadership.subscribe();
        let deposed = leadership
            .wait_for(|leadership| leadership.leader != Some(self.me()))
            .await;
        deposed.ok().and_then(|leadership| leadership.leader)
    }

    /// Removes all generations of `node`.
    pub(crate) async fn remove(&self, node: u64, within: Duration) -> Result<(), AdminError> {
        let until = Instant::now() + within;
        let steps = async {
            let mut voters = self.voters_to_be();
            let before = voters.len();
            voters.retain(|voter| voter.node() != node);
            if voters.is_empty() {
                return Err(AdminError::Refused(
                    "the last member cannot be removed".to_owned(),
                ));
            }
            if voters.len() != before {
                self.change_voters(&voters).await?;
            }
            let learners = self
                .members()
                .into_keys()
                .filter(|member| member.node() == node);
            self.remove_learners(learners.collect()).await
        };
        timeout_at(until, steps)
            .await
            .map_err(|_| AdminError::Timeout)?
    }

    async fn remove_learners(&self, learners: BTreeSet<RaftNode>) -> Result<(), AdminError> {
        if learners.is_empty() {
            return Ok(());
        }
        let raft = self.raft().ok_or(AdminError::Stopped)?;
        let learners = learners.into_iter().map(|learner| learner.0).collect();
        let removed = raft
            .change_membership(ChangeMembers::RemoveNodes(learners), false)
            .await;
        removed.map(|_| ()).map_err(admin_error)
    }
}

fn admin_error(error: RaftError<Types, ClientWriteError<Types>>) -> AdminError {
    match error {
        RaftError::Fatal(_) => AdminError::Stopped,
        RaftError::APIError(ClientWriteError::ForwardToLeader(forward)) => AdminError::NotLeader {
            leader: forward.leader_id.map(RaftNode),
        },
        RaftError::APIError(ClientWriteError::ChangeMembershipError(
            ChangeMembershipError::InProgress(_) | ChangeMembershipError::UncommittedLeaderLog(_),
        )) => AdminError::InProgress,
        RaftError::APIError(error) => AdminError::Refused(error.to_string()),
    }
}
