//! The receiving end of a connection that carries appends of all groups.

use super::{Inbound, NO_ROOM, answer_result};
use crate::group::GroupCore;
use crate::log::entry_from_wire;
use crate::net::RateLimit;
use crate::raft::{AppendRequest, Entry, EntryPayload, LogId, log_id_from_wire, vote_from_wire};
use crate::types::GroupId;
use cluster_proto::v1;
use futures::StreamExt;
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// Requests of one session that may wait for the core; the sender's window is smaller.
const SESSION_QUEUE: usize = 256;

/// Sessions of one connection, at most: one for each group, and for each member that this node was.
const SESSIONS_MAX: usize = 4096;

/// How long the answer to a request without entries waits until what it commits is applied.
const SHOWS_WITHIN: Duration = Duration::from_millis(20);

/// A message that makes no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed request: {0}")]
pub(crate) struct Malformed(pub(crate) &'static str);

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
    pub(super) fn new(inbound: Arc<Inbound>, answers: mpsc::Sender<v1::AppendAnswer>) -> Self {
        Self {
            inbound,
            sessions: HashMap::new(),
            answers,
        }
    }

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
        let core = self.inbound.target(first.group, first.target);
        let answers = Answers {
            group: first.group,
            session: first.session,
            sequence: 0,
            sender: self.answers.clone(),
        };
        let lines = Arc::clone(&self.inbound.malformed);
        tokio::spawn(run_session(core, receiver, answers, lines));
        Session {
            id: first.session,
            requests,
        }
    }
}

/// Where the answers of a session go.
struct Answers {
    group: u32,
    session: u64,
    /// Of the next answer.
    sequence: u64,
    sender: mpsc::Sender<v1::AppendAnswer>,
}

impl Answers {
    /// Whether somebody still takes them.
    async fn send(&mut self, result: v1::append_answer::Result, applied: Option<u64>) -> bool {
        let answer = v1::AppendAnswer {
            group: self.group,
            session: self.session,
            sequence: self.sequence,
            result: Some(result),
            applied,
        };
        self.sequence += 1;
        self.sender.send(answer).await.is_ok()
    }

    async fn unavailable(mut self, why: String) {
        let result = v1::append_answer::Result::Unavailable(why);
        let _ = self.send(result, None).await;
    }
}

/// Lets the group's core answer the requests, in their order, until one of them or the core ends it. `lines` are those about requests
/// that are not understood: their sender tries again several times a second.
async fn run_session(
    core: Result<Arc<GroupCore>, String>,
    requests: mpsc::Receiver<v1::AppendRequest>,
    mut answers: Answers,
    lines: Arc<RateLimit>,
) {
    let core = match core {
        Ok(core) => core,
        Err(why) => return answers.unavailable(why).await,
    };
    let Some(raft) = core.raft() else {
        return answers.unavailable("group is restarting".to_owned()).await;
    };
    let room = Arc::new(AtomicBool::new(true));
    let has_room = {
        let (core, room) = (Arc::clone(&core), Arc::clone(&room));
        move |request: &AppendRequest| {
            let bytes = request.entries.iter().map(payload_bytes).sum();
            let fits =
                request.entries.is_empty() || core.environment().has_room_for(core.id(), bytes);
            room.store(fits, Ordering::Relaxed);
            fits
        }
    };
    // Why a request could not be understood.
    let malformed: Arc<OnceLock<Malformed>> = Arc::default();
    let understood = {
        let malformed = Arc::clone(&malformed);
        move |request: Result<AppendRequest, Malformed>| {
            request.map_err(|why| malformed.set(why)).ok()
        }
    };
    let shows = (core.id() == GroupId::CATALOG).then(Shows::default);
    let expect = shows.clone();
    // A malformed request ends the stream, and with it the session; so does one for which there
    // is no room on the disk.
    let requests = ReceiverStream::new(requests)
        .map(move |request| understood(decode_append(request)))
        .take_while(move |request| std::future::ready(request.as_ref().is_some_and(&has_room)))
        .filter_map(std::future::ready)
        .inspect(move |request| {
            if let Some(expect) = &expect {
                expect.asked(request);
            }
        });
    let mut results = std::pin::pin!(raft.stream_append(requests));
    while let Some(result) = results.next().await {
        let result = match result {
            Ok(result) => answer_result(result),
            Err(fatal) => v1::append_answer::Result::Unavailable(fatal.to_string()),
        };
        let applied = match &shows {
            Some(shows) => shows.applied(&core).await,
            None => None,
        };
        if !answers.send(result, applied).await {
            return;
        }
    }
    if let Some(why) = malformed.get() {
        if lines.permit() {
            tracing::warn!(
                group = %core.id(), %why,
                "what a leader sends is not understood: this node stays behind. Has the leader a newer version?"
            );
        }
        answers.unavailable(why.to_string()).await;
    } else if !room.load(Ordering::Relaxed) {
        answers.unavailable(NO_ROOM.to_owned()).await;
    }
}

/// What the answers of the catalog's group tell besides: how far this member has applied it. That saves the leader a
/// question to each node after every change.
#[derive(Clone, Default)]
struct Shows {
    /// For each request that is not answered yet, up to where it wants to see the log applied.
    wanted: Arc<Mutex<VecDeque<Option<u64>>>>,
}

impl Shows {
    fn asked(&self, request: &AppendRequest) {
        let commit = request.leader_commit.map(|commit| commit.index);
        let held = request.prev_log_id.map(|held| held.index);
        // Entries are answered at once: the next ones may be needed to commit them.
        let wanted = commit.min(held).filter(|_| request.entries.is_empty());
        self.wanted.lock().push_back(wanted);
    }

    async fn applied(&self, core: &GroupCore) -> Option<u64> {
        let wanted = self.wanted.lock().pop_front().flatten();
        if let Some(index) = wanted {
            let _ = core.wait_applied(index, SHOWS_WITHIN).await;
        }
        core.state().last_applied().map(|applied| applied.index)
    }
}

fn payload_bytes(entry: &Entry) -> usize {
    match &entry.payload {
        EntryPayload::Normal(payload) => payload.0.iter().map(bytes::Bytes::len).sum(),
        EntryPayload::Blank | EntryPayload::Membership(_) => 0,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::{SimCluster, SimOptions};

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

    /// It would look as if the connection had been lost, again and again.
    #[tokio::test]
    async fn a_session_that_is_not_understood_ends_with_the_reason() {
        let cluster = SimCluster::start(29, SimOptions::default()).await;
        let core = &cluster.group(2).0;
        let inbound = Arc::new(Inbound::default());
        inbound.insert(Arc::clone(core));
        let (sender, mut answers) = mpsc::channel(8);
        let mut demux = AppendDemux::new(inbound, sender);
        let mut request = append(None, &[]);
        request.entries = vec![v1::Entry {
            head: vec![99].into(),
            segments: vec![],
        }];
        request.group = core.id().0;
        request.target = core.me().0;
        request.session = 5;
        demux.handle(request);
        let answer = tokio::time::timeout(Duration::from_secs(10), answers.recv()).await;
        let answer = answer.unwrap().unwrap();
        assert_eq!((answer.session, answer.sequence), (5, 0));
        let Some(v1::append_answer::Result::Unavailable(why)) = answer.result else {
            panic!("{answer:?}");
        };
        assert_eq!(why, "malformed request: entry does not decode");
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
