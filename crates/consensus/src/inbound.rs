//! What other members ask of the groups on this node, whatever carried it here.
//!
//! Checks the form of every message; what cannot be answered (group not here, core stopped) is an
//! `unavailable`, so that the sender waits instead of drawing conclusions.

use crate::group::GroupCore;
use crate::log::entry_from_wire;
use crate::raft::{
    AppendRequest, LogId, StreamAppendResult, log_id_from_wire, log_id_to_wire, vote_from_wire,
    vote_to_wire,
};
use crate::types::{GroupId, RaftNode};
use cluster_proto::v1;
use futures::StreamExt;
use openraft::raft::{
    AppendEntriesResponse, StreamAppendError, TransferLeaderRequest, VoteRequest,
};
use parking_lot::RwLock;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;

/// Requests of one session that may wait for the core; the sender's window is smaller.
const SESSION_QUEUE: usize = 256;

/// Sessions of one connection, at most: one for each group, and for each member that this node was.
const SESSIONS_MAX: usize = 4096;

/// How long the core may take to answer a heartbeat; shorter than openraft waits for the answer.
const BEAT_PATIENCE: Duration = Duration::from_millis(100);

/// Answered to appends and snapshots by a node that must not write, see
/// [`crate::Consensus::set_writable`].
pub(crate) const NO_ROOM: &str = "no room on the disk of this node";

/// The groups that run on this node, by id.
#[derive(Default)]
pub(crate) struct Inbound {
    groups: RwLock<BTreeMap<GroupId, Arc<GroupCore>>>,
}

/// A message that makes no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed request: {0}")]
pub(crate) struct Malformed(pub(crate) &'static str);

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
        match raft.handle_transfer_leader(rpc).await {
            Ok(Ok(())) => Ok(v1::TransferAnswer::default()),
            Ok(Err(refused)) => Ok(v1::TransferAnswer {
                refused: refused.to_string(),
            }),
            Err(error) => Err(error.to_string()),
        }
    }

    pub(crate) async fn read_index(&self, request: v1::ReadIndexRequest) -> v1::ReadIndexAnswer {
        let index = match self.group(GroupId(request.group)) {
            Some(core) => core.leader_read_index().await.ok(),
            None => None,
        };
        v1::ReadIndexAnswer { index }
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
        }
    }

    async fn beat_result(&self, beat: &v1::Heartbeat) -> Result<StreamAppendResult, String> {
        let core = self.target(beat.group, beat.target)?;
        let vote = beat.vote.as_ref().ok_or("heartbeat without a vote")?;
        let previous = beat.previous.as_ref().map(log_id_from_wire);
        let request = AppendRequest {
            vote: vote_from_wire(vote),
            prev_log_id: previous,
            leader_commit: beat.commit.as_ref().map(log_id_from_wire),
            entries: Vec::new(),
        };
        core.allow_purge(beat.purgeable);
        let raft = core.raft().ok_or("group is restarting")?;
        let leader = request.vote.leader_id;
        let Ok(answer) = timeout(BEAT_PATIENCE, raft.append_entries(request)).await else {
            // The core has taken it, but says so when all that it has taken before is on disk, which may be
            // hundreds of MiB. The leader is not to be deposed for that: the new one would begin with them anew.
            let saved = core.log().vote();
            if saved.is_none_or(|saved| saved.leader_id != leader) {
                return Err("the core takes its time".to_owned());
            }
            core.hear();
            return Ok(Ok(previous));
        };
        let answer = answer.map_err(|error| error.to_string())?;
        if !matches!(answer, AppendEntriesResponse::HigherVote(_)) {
            core.hear();
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
        AppendDemux {
            inbound: Arc::clone(self),
            sessions: HashMap::new(),
            answers,
        }
    }
}

/// Takes the appends of one connection apart into the sessions of the groups.
pub(crate) struct AppendDemux {
    inbound: Arc<Inbound>,
    /// By group and the member that is meant: a leader may still send to what this node was before its disk
    /// was wiped.
    sessions: HashMap<(u32, u64), Session>,
    answers: mpsc::Sender<v1::AppendAnswer>,
}

struct Session {
    id: u64,
    requests: mpsc::Sender<v1::AppendRequest>,
}

impl AppendDemux {
    /// Passes a request on. A session that has ended (an error was answered) swallows what its
    /// sender had already under way.
    pub(crate) fn handle(&mut self, request: v1::AppendRequest) {
        let member = (request.group, request.target);
        let known = self
            .sessions
            .get(&member)
            .filter(|session| session.id == request.session);
        let session = match known {
            Some(session) => session,
            None => {
                if request.sequence != 0 {
                    return;
                }
                let session = self.open(&request);
                if self.sessions.len() >= SESSIONS_MAX {
                    self.sessions.retain(|_, other| !other.requests.is_closed());
                }
                if self.sessions.len() >= SESSIONS_MAX {
                    tracing::warn!(
                        group = request.group,
                        "a peer opens more sessions than it may"
                    );
                    return;
                }
                self.sessions.entry(member).insert_entry(session).into_mut()
            }
        };
        if let Err(mpsc::error::TrySendError::Full(request)) = session.requests.try_send(request) {
            tracing::warn!(
                group = request.group,
                "a peer sends more appends than it may"
            );
            self.sessions.remove(&member);
        }
    }

    fn open(&self, first: &v1::AppendRequest) -> Session {
        let (requests, receiver) = mpsc::channel(SESSION_QUEUE);
        let (group, session) = (first.group, first.session);
        let core = self.inbound.target(group, first.target);
        let answers = self.answers.clone();
        tokio::spawn(async move {
            let running = core.and_then(|core| match core.raft() {
                Some(raft) => Ok((core, raft)),
                None => Err("group is restarting".to_owned()),
            });
            let mut sequence = 0;
            let answer = |sequence, result| v1::AppendAnswer {
                group,
                session,
                sequence,
                result: Some(result),
            };
            let (core, raft) = match running {
                Ok(running) => running,
                Err(why) => {
                    let result = v1::append_answer::Result::Unavailable(why);
                    let _ = answers.send(answer(sequence, result)).await;
                    return;
                }
            };
            let room = Arc::new(AtomicBool::new(true));
            let has_room = {
                let room = Arc::clone(&room);
                move |request: &AppendRequest| {
                    let fits = request.entries.is_empty() || core.environment().may_write();
                    room.store(fits, Ordering::Relaxed);
                    fits
                }
            };
            // A malformed request ends the stream, and with it the session; so does one for which there
            // is no room on the disk.
            let requests = ReceiverStream::new(receiver)
                .map(decode_append)
                .take_while(move |request| {
                    std::future::ready(request.as_ref().is_ok_and(&has_room))
                })
                .filter_map(|request| std::future::ready(request.ok()));
            let mut results = std::pin::pin!(raft.stream_append(requests));
            while let Some(result) = results.next().await {
                let result = match result {
                    Ok(result) => answer_result(result),
                    Err(fatal) => v1::append_answer::Result::Unavailable(fatal.to_string()),
                };
                if answers.send(answer(sequence, result)).await.is_err() {
                    return;
                }
                sequence += 1;
            }
            if !room.load(Ordering::Relaxed) {
                let result = v1::append_answer::Result::Unavailable(NO_ROOM.to_owned());
                let _ = answers.send(answer(sequence, result)).await;
            }
        });
        Session {
            id: session,
            requests,
        }
    }
}

fn decode_append(request: v1::AppendRequest) -> Result<AppendRequest, Malformed> {
    let vote = request
        .vote
        .as_ref()
        .ok_or(Malformed("append without a vote"))?;
    let previous = request.previous.as_ref().map(log_id_from_wire);
    let first = match &previous {
        Some(previous) => previous
            .index
            .checked_add(1)
            .ok_or(Malformed("index too high"))?,
        None => 0,
    };
    let mut entries = Vec::with_capacity(request.entries.len());
    let mut last: Option<LogId> = previous;
    for (index, entry) in (first..).zip(request.entries) {
        let entry =
            entry_from_wire(index, entry).map_err(|_| Malformed("entry does not decode"))?;
        if last.is_some_and(|last| last.leader_id > entry.log_id.leader_id) {
            return Err(Malformed("terms go backwards"));
        }
        last = Some(entry.log_id);
        entries.push(entry);
    }
    Ok(AppendRequest {
        vote: vote_from_wire(vote),
        prev_log_id: previous,
        leader_commit: request.commit.as_ref().map(log_id_from_wire),
        entries,
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn append(previous: Option<(u64, u64)>, terms: &[u64]) -> v1::AppendRequest {
        let entry = |term: &u64| {
            let mut head = vec![1, 0];
            head.extend(term.to_be_bytes());
            v1::Entry {
                head: head.into(),
                segments: vec![],
            }
        };
        v1::AppendRequest {
            vote: Some(v1::Vote::default()),
            previous: previous.map(|(term, index)| v1::LogId { term, index }),
            entries: terms.iter().map(entry).collect(),
            ..v1::AppendRequest::default()
        }
    }

    #[test]
    fn appends_are_checked() {
        let indices = |request| -> Result<Vec<u64>, Malformed> {
            decode_append(request)
                .map(|ok| ok.entries.iter().map(|entry| entry.log_id.index).collect())
        };
        assert_eq!(indices(append(None, &[1, 1])), Ok(vec![0, 1]));
        assert_eq!(indices(append(Some((1, 6)), &[1, 2])), Ok(vec![7, 8]));
        assert!(indices(append(Some((1, u64::MAX)), &[])).is_err());
        assert!(indices(append(Some((3, 6)), &[2])).is_err());
        assert!(indices(v1::AppendRequest::default()).is_err());
    }
}
