//! What other members ask of the groups on this node, whatever carried it here.
//!
//! Checks the form of every message; what cannot be answered (group not here, core stopped) is an
//! `unavailable`, so that the sender waits instead of drawing conclusions.

mod appends;

pub(crate) use self::appends::AppendDemux;

use crate::group::GroupCore;
use crate::net::RateLimit;
use crate::raft::{
    AppendRequest, StreamAppendResult, log_id_from_wire, log_id_to_wire, vote_from_wire,
    vote_to_wire,
};
use crate::types::{GroupId, RaftNode};
use cluster_proto::v1;
use openraft::raft::{
    AppendEntriesResponse, StreamAppendError, TransferLeaderRequest, VoteRequest,
};
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

/// How long the core may take to answer a heartbeat; shorter than openraft waits for the answer.
const BEAT_PATIENCE: Duration = Duration::from_millis(100);

/// Answered to appends and snapshots by a node that must not write, see
/// [`crate::Consensus::set_writable`].
pub(crate) const NO_ROOM: &str = "no room on the disk of this node";

/// The groups that run on this node, by id.
#[derive(Default)]
pub(crate) struct Inbound {
    groups: RwLock<BTreeMap<GroupId, Arc<GroupCore>>>,
    /// Lines about appends that are not understood.
    malformed: Arc<RateLimit>,
}

impl Inbound {
    pub(crate) fn insert(&self, group: Arc<GroupCore>) {
        self.groups.write().insert(group.id(), group);
    }

    pub(crate) fn clear(&self) {
        self.groups.write().clear();
    }

    pub(crate) fn group(&self, id: GroupId) -> Option<Arc<GroupCore>> {
        self.groups.read().get(&id).cloned()
    }

    pub(crate) fn groups(&self) -> Vec<Arc<GroupCore>> {
        self.groups.read().values().cloned().collect()
    }

    /// The group, if it runs here and the message is meant for this member.
    fn target(&self, group: u32, target: u64) -> Result<Arc<GroupCore>, String> {
        let core = self
            .group(GroupId(group))
            .ok_or_else(|| format!("group {group} does not run here"))?;
        if core.me() != RaftNode(target) {
            return Err(format!(
                "this is member {}, not {}",
                core.me(),
                RaftNode(target)
            ));
        }
        Ok(core)
    }

    pub(crate) async fn vote(&self, request: v1::VoteRequest) -> Result<v1::VoteAnswer, String> {
        let core = self.target(request.group, request.target)?;
        let vote = request.vote.as_ref().ok_or("vote without a vote")?;
        let rpc = VoteRequest {
            vote: vote_from_wire(vote),
            last_log_id: request.last.as_ref().map(log_id_from_wire),
            leadership_transfer: request.transfer,
        };
        let raft = core.raft().ok_or("group is restarting")?;
        let answer = if request.pre_vote {
            raft.pre_vote(rpc).await
        } else {
            raft.vote(rpc).await
        };
        let answer = answer.map_err(|error| error.to_string())?;
        Ok(v1::VoteAnswer {
            vote: Some(vote_to_wire(&answer.vote)),
            last: answer.last_log_id.as_ref().map(log_id_to_wire),
            granted: answer.vote_granted,
        })
    }

    pub(crate) async fn transfer(
        &self,
        request: v1::TransferRequest,
    ) -> Result<v1::TransferAnswer, String> {
        let core = self.target(request.group, request.target)?;
        let from = request.from.as_ref().ok_or("transfer without a vote")?;
        let last = request.last.as_ref().map(log_id_from_wire);
        let rpc = TransferLeaderRequest::new(vote_from_wire(from), request.to, last);
        let raft = core.raft().ok_or("group is restarting")?;
        if !core.environment().may_write() {
            return Ok(v1::TransferAnswer {
                refused: NO_ROOM.to_owned(),
            });
        }
        // One that names no log comes from a leader that no quorum answers: somebody has to lead.
        if core.environment().stopping.load(Ordering::Relaxed) && rpc.last_log_id().is_some() {
            return Ok(v1::TransferAnswer {
                refused: "this node is stopping".to_owned(),
            });
        }
        match raft.handle_transfer_leader(rpc).await {
            Ok(Ok(())) => Ok(v1::TransferAnswer::default()),
            Ok(Err(refused)) => Ok(v1::TransferAnswer {
                refused: refused.to_string(),
            }),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Whether a node is a member of a group that runs here.
    pub(crate) fn has_member(&self, group: u32, node: u64) -> bool {
        let core = self.group(GroupId(group));
        core.is_some_and(|core| core.members().keys().any(|member| member.node() == node))
    }

    /// Whether this node believes to lead a group.
    pub(crate) fn leads(&self, group: u32) -> bool {
        let core = self.group(GroupId(group));
        core.is_some_and(|core| core.leads())
    }

    pub(crate) async fn read_index(&self, request: v1::ReadIndexRequest) -> v1::ReadIndexAnswer {
        let index = match self.group(GroupId(request.group)) {
            Some(core) => core.leader_read_index().await.ok(),
            None => None,
        };
        v1::ReadIndexAnswer {
            index,
            not_a_member: false,
        }
    }

    pub(crate) fn last_log(
        &self,
        request: v1::LastLogRequest,
    ) -> Result<v1::LastLogAnswer, String> {
        let core = self
            .group(GroupId(request.group))
            .ok_or_else(|| format!("group {} does not run here", request.group))?;
        let span = core.log().span();
        Ok(v1::LastLogAnswer {
            last: span.last.as_ref().map(log_id_to_wire),
            vote: core.log().vote().as_ref().map(vote_to_wire),
        })
    }

    pub(crate) async fn beat(&self, beat: v1::Heartbeat) -> v1::AppendAnswer {
        let result = match self.beat_result(&beat).await {
            Ok(result) => answer_result(result),
            Err(why) => v1::append_answer::Result::Unavailable(why),
        };
        v1::AppendAnswer {
            group: beat.group,
            session: 0,
            sequence: beat.sequence,
            result: Some(result),
            applied: None,
        }
    }

    async fn beat_result(&self, beat: &v1::Heartbeat) -> Result<StreamAppendResult, String> {
        let came = Instant::now();
        let core = self.target(beat.group, beat.target)?;
        let vote = beat.vote.as_ref().ok_or("heartbeat without a vote")?;
        let previous = beat.previous.as_ref().map(log_id_from_wire);
        let request = AppendRequest {
            vote: vote_from_wire(vote),
            prev_log_id: previous,
            leader_commit: beat.commit.as_ref().map(log_id_from_wire),
            entries: Vec::new(),
        };
        let committed = request.leader_commit.map_or(0, |commit| commit.index);
        core.allow_purge(beat.purgeable);
        let raft = core.raft().ok_or("group is restarting")?;
        let vote = request.vote;
        let Ok(answer) = timeout(BEAT_PATIENCE, raft.append_entries(request)).await else {
            // The core has taken it, but says so when all that it has taken before is on disk, which may be
            // hundreds of MiB. The leader is not to be deposed for that: the new one would begin with them anew.
            let saved = core.log().vote();
            if saved.is_none_or(|saved| saved.leader_id != vote.leader_id) {
                core.hear_of(&vote);
                return Err("the core takes its time".to_owned());
            }
            core.hear();
            core.hear_committed(committed, came);
            return Ok(Ok(previous));
        };
        let answer = answer.map_err(|error| error.to_string())?;
        if !matches!(answer, AppendEntriesResponse::HigherVote(_)) {
            core.hear();
            core.hear_committed(committed, came);
        }
        if answer.is_conflict() {
            let previous = previous.ok_or("conflict without a previous entry")?;
            return Ok(Err(StreamAppendError::Conflict(previous)));
        }
        Ok(answer.into_stream_result(previous, previous))
    }

    /// The receiving end of a connection that carries appends.
    pub(crate) fn appends(
        self: &Arc<Self>,
        answers: mpsc::Sender<v1::AppendAnswer>,
    ) -> AppendDemux {
        AppendDemux::new(Arc::clone(self), answers)
    }
}

fn answer_result(result: StreamAppendResult) -> v1::append_answer::Result {
    use v1::append_answer::Result as Wire;
    match result {
        Ok(last) => Wire::Matched(v1::Matched {
            last: last.as_ref().map(log_id_to_wire),
        }),
        Err(StreamAppendError::Conflict(at)) => Wire::Conflict(log_id_to_wire(&at)),
        Err(StreamAppendError::HigherVote(vote)) => Wire::Higher(vote_to_wire(&vote)),
    }
}
