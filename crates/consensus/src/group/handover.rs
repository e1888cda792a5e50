//! Moving leadership: handing it over, giving it up, and taking it from a dead process.
//!
//! openraft's own transfer stops the leader from accepting proposals for good, whether or not the
//! target is elected. Here the hand-over is bounded: proposals pause, the target is waited for
//! until it has the whole log, then it is asked to campaign; if it does not win in time, proposals
//! go on as before.

use super::core::GroupCore;
use crate::clock;
use crate::error::AdminError;
use crate::raft::{LogId, log_id_to_wire, vote_to_wire};
use crate::types::{GroupId, RaftNode};
use cluster_proto::v1;
use futures::future::join_all;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::raft::TransferLeaderRequest;
use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// Between two looks at the target's progress.
const LOOK: Duration = Duration::from_millis(2);
/// Proposals pause for this long at most.
const PAUSE: Duration = Duration::from_millis(500);
/// How long other members are asked about their logs before a campaign.
const ASK_OTHERS: Duration = Duration::from_millis(30);

impl GroupCore {
    pub(super) async fn transfer_leader(
        &self,
        node: u64,
        within: Duration,
    ) -> Result<(), AdminError> {
        let until = Instant::now() + within;
        let leadership = *self.leadership.borrow();
        if leadership.leader != Some(self.me()) {
            return Err(AdminError::NotLeader {
                leader: leadership.leader,
            });
        }
        let Some(target) = self.voters().into_iter().find(|voter| voter.node() == node) else {
            return Err(AdminError::Refused(format!(
                "node {node} has no vote in group {}",
                self.id()
            )));
        };
        if target == self.me() {
            return Ok(());
        }
        // Let it come close first, so that the pause is short.
        timeout_at(until, self.wait_matched(target, 1000))
            .await
            .map_err(|_| AdminError::Timeout)?;
        let pause_until = (Instant::now() + clock::stretched(PAUSE)).min(until);
        *self.handing_over.lock() = Some((target, pause_until));
        let result = self.hand_to(target, leadership.term, pause_until).await;
        *self.handing_over.lock() = None;
        result
    }

    async fn hand_to(&self, target: RaftNode, term: u64, until: Instant) -> Result<(), AdminError> {
        timeout_at(until, self.wait_matched(target, 0))
            .await
            .map_err(|_| AdminError::Timeout)?;
        let vote = self.log().vote().ok_or(AdminError::Stopped)?;
        let request = v1::TransferRequest {
            group: self.id().0,
            target: target.0,
            from: Some(vote_to_wire(&vote)),
            to: target.0,
            last: self.log().span().last.as_ref().map(log_id_to_wire),
        };
        let answer = timeout_at(until, self.environment().wire.transfer(target, request))
            .await
            .map_err(|_| AdminError::Timeout)?
            .map_err(|error| AdminError::Refused(error.to_string()))?;
        if !answer.refused.is_empty() {
            return Err(AdminError::Refused(answer.refused));
        }
        let me = self.me();
        let mut leadership = self.leadership.subscribe();
        let elected = leadership
            .wait_for(|now| now.term > term && now.leader.is_some_and(|leader| leader != me));
        match timeout_at(until, elected).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(AdminError::Stopped),
            Err(_) => Err(AdminError::Timeout),
        }
    }

    /// Waits until `member` lacks at most `behind` entries of this leader's log.
    pub(super) async fn wait_matched(&self, member: RaftNode, behind: u64) {
        loop {
            let matched = self.raft().and_then(|raft| {
                let data = raft.data_metrics();
                let data = data.borrow_watched();
                data.replication.as_ref()?.get(&member.0).copied().flatten()
            });
            let last = self.log().span().last;
            if let (Some(matched), Some(last)) = (matched, last)
                && matched.index.saturating_add(behind) >= last.index
            {
                return;
            }
            sleep(LOOK).await;
        }
    }

    /// Campaigns at once, although the lease of the last leader may still run: for when its process
    /// is known to be dead. The log alone decides who can win, so a wrong guess costs a leader
    /// change, not safety.
    pub(crate) async fn campaign(&self) {
        let Some(raft) = self.raft().filter(|_| self.environment().may_write()) else {
            return;
        };
        match self.log().vote() {
            Some(vote) if vote.committed && vote.leader_id.voted_for != self.me().0 => {
                // As if the last leader had handed over to this member.
                let last = self.log().span().last;
                let request = TransferLeaderRequest::new(vote, self.me().0, last);
                match raft.handle_transfer_leader(request).await {
                    Ok(Ok(())) => {}
                    Ok(Err(refused)) => tracing::info!(group = %self.id(), %refused, "no campaign"),
                    Err(error) => tracing::warn!(group = %self.id(), %error, "no campaign"),
                }
            }
            // A vote is under way already: take part under the usual rules.
            _ => {
                let _ = raft.trigger().elect(true).await;
            }
        }
    }

    /// Campaigns for the place of `dead` if it led this group: the member with the most complete log
    /// first, the others later, one after another, unless there is a new leader by then.
    pub(crate) async fn replace_dead_leader(&self, dead: RaftNode) {
        let leads = || self.leadership.borrow().leader == Some(dead);
        if !leads() || !self.voters().contains(&self.me()) {
            return;
        }
        let others: Vec<RaftNode> = self
            .voters()
            .into_iter()
            .filter(|voter| *voter != self.me() && voter.node() != dead.node())
            .collect();
        let better = self.members_ahead(&others).await;
        let stagger = clock::stretched(self.environment().timing.campaign_stagger);
        sleep(stagger.saturating_mul(u32::try_from(better).unwrap_or(u32::MAX))).await;
        if leads() {
            tracing::info!(group = %self.id(), %dead, "the leader's process is gone: campaigning");
            self.campaign().await;
        }
    }

    /// How many of `others` are to campaign before this member.
    async fn members_ahead(&self, others: &[RaftNode]) -> usize {
        let group = self.id().0;
        let asked = others.iter().map(|other| {
            let request = v1::LastLogRequest { group };
            let answer = self.environment().wire.last_log(*other, request);
            async move {
                match timeout(ASK_OTHERS, answer).await {
                    Ok(Ok(answer)) => Some((
                        *other,
                        answer.last.as_ref().map(crate::raft::log_id_from_wire),
                    )),
                    _ => None,
                }
            }
        });
        let place = |last: Option<LogId>, member: RaftNode| (last, turn(self.id(), member), member);
        let mine = place(self.log().span().last, self.me());
        join_all(asked)
            .await
            .into_iter()
            .flatten()
            .filter(|(other, last)| place(*last, *other) > mine)
            .count()
    }
}

/// Groups prefer different members among equals, so that they do not all end up on one node.
fn turn(group: GroupId, member: RaftNode) -> u64 {
    member.node().wrapping_add(u64::from(group.0)) % 3
}

/// A leader that no quorum answers asks the others to elect another one of them, the most complete
/// log first. They may hear it although it does not hear them: they would wait for their leases
/// before they began to count the silence. No answer is waited for; a request that comes too late
/// names a term that is over, and is refused.
pub(super) async fn resign(group: Arc<GroupCore>) {
    let leadership = *group.leadership.borrow();
    let Some(vote) = group.log().vote().filter(|vote| vote.committed) else {
        return;
    };
    if leadership.leader != Some(group.me()) || vote.leader_id.term != leadership.term {
        return;
    }
    let matched = group.status().matched;
    let mut others = group.voters();
    others.retain(|voter| *voter != group.me());
    others.sort_by_key(|voter| {
        let matched = matched.get(voter).copied().flatten();
        Reverse((matched, turn(group.id(), *voter)))
    });
    tracing::warn!(
        group = %group.id(), term = leadership.term,
        "leader has not heard a quorum within its lease: asking the others to elect another"
    );
    for other in others {
        let request = v1::TransferRequest {
            group: group.id().0,
            target: other.0,
            from: Some(vote_to_wire(&vote)),
            to: other.0,
            // Whoever has the votes may lead: how far this leader's log goes decides nothing now.
            last: None,
        };
        let environment = group.environment();
        let call = timeout(
            environment.timing.call,
            environment.wire.transfer(other, request),
        );
        tokio::spawn(async move {
            let _ = call.await;
        });
        sleep(clock::stretched(environment.timing.campaign_stagger)).await;
        let now = *group.leadership.borrow();
        if now.term != leadership.term || now.ready {
            return;
        }
    }
}
