//! One session of appends to one member of a group: requests out, answers back.
//!
//! Requests go out while earlier ones await their answers, bounded in count and bytes, and each answer has a
//! deadline. A session that fails is ended; openraft starts another.
//!
//! openraft tells a member of each commit at once, in a request without entries. Only the catalog needs that, whose
//! changes are to be seen everywhere before they are acknowledged. In the other groups nobody looks at followers, so a
//! commit travels with the next entries or the next heartbeat: with one message in flight that is half of the messages
//! between nodes, and of the wakes that they cost. openraft matches answers by log position, not by count, so a request
//! that is left out misses no answer.

use super::{RaftNet, RpcError, append_result, broken, rpc_error};
use crate::inbound::NO_ROOM;
use crate::log::entry_to_wire;
use crate::raft::{AppendRequest, LogId, StreamAppendResult, log_id_to_wire, vote_to_wire};
use crate::types::RaftNode;
use crate::wire::{Answer, AppendPipe, Queued, WireError};
use cluster_proto::v1;
use futures::future::BoxFuture;
use futures::stream::{Stream, StreamExt};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep, sleep_until};

/// Bytes of entries that may await the answers of one member of one group.
const IN_FLIGHT_BYTES: usize = 16 << 20;
/// A member without room on its disk is not sent entries for so long.
const NO_ROOM_PAUSE: Duration = Duration::from_secs(1);
/// Slowest disk and connection that entries are replicated over, in bytes per second: the deadline of an
/// answer grows with what is under way, and with what waits for the connection before it. Whether the peer lives is
/// found out by heartbeats, not by this.
const SLOWEST: u64 = 1 << 20;

/// A request that awaits its answer.
struct Sent {
    previous: Option<LogId>,
    bytes: usize,
    deadline: Instant,
}

/// A request that waits for room.
struct Waiting {
    request: AppendRequest,
    bytes: usize,
    room: BoxFuture<'static, Option<OwnedSemaphorePermit>>,
}

pub(super) struct AppendSession<S> {
    input: Option<S>,
    /// Opened with the first request.
    pipe: Option<AppendPipe>,
    sent: VecDeque<Sent>,
    sent_bytes: usize,
    /// A request for which there is no room before the connection yet.
    waiting: Option<Waiting>,
    next: u64,
    /// Armed for the oldest request, or an earlier one that is answered by now.
    deadline: Pin<Box<Sleep>>,
    net: Arc<RaftNet>,
    target: RaftNode,
    no_room: Arc<Mutex<Option<Instant>>>,
}

/// What can happen next in a session.
enum Event {
    Answer(Option<Answer<v1::AppendAnswer>>),
    Request(Option<AppendRequest>),
    Room(Option<OwnedSemaphorePermit>),
    Deadline,
}

impl<S: Stream<Item = AppendRequest> + Unpin> AppendSession<S> {
    /// Sends what `input` yields; the connection is used for the first request only: openraft waits after failures,
    /// but does so where it makes requests. An error before one is taken would be retried without end.
    pub(super) fn new(
        input: S,
        net: Arc<RaftNet>,
        target: RaftNode,
        no_room: Arc<Mutex<Option<Instant>>>,
    ) -> Self {
        Self {
            input: Some(input),
            pipe: None,
            sent: VecDeque::new(),
            sent_bytes: 0,
            waiting: None,
            next: 0,
            deadline: Box::pin(sleep_until(Instant::now())),
            net,
            target,
            no_room,
        }
    }

    /// The next answer, or what ended the session; `None` when all is sent and answered.
    pub(super) async fn next_result(&mut self) -> Option<Result<StreamAppendResult, RpcError>> {
        loop {
            let takes = self.sent.len() < self.net.append_in_flight
                && self.sent_bytes < IN_FLIGHT_BYTES
                && self.waiting.is_none();
            let unanswered = !self.sent.is_empty();
            if self.input.is_none() && !unanswered && self.waiting.is_none() {
                return None;
            }
            let input = self.input.as_mut();
            let event = tokio::select! {
                biased;
                // Also while nothing was sent yet: it tells that the connection is gone.
                answer = next_answer(self.pipe.as_mut()), if unanswered || self.waiting.is_some() => Event::Answer(answer),
                room = next_room(self.waiting.as_mut()) => Event::Room(room),
                request = next_request(input), if takes => Event::Request(request),
                () = &mut self.deadline, if unanswered => Event::Deadline,
            };
            match event {
                Event::Answer(Some(Ok(answer))) => return Some(self.answered(answer)),
                Event::Answer(Some(Err(error))) => return Some(Err(rpc_error(&error))),
                Event::Answer(None) => {
                    let error = WireError::Unreachable("connection closed".to_owned());
                    return Some(Err(rpc_error(&error)));
                }
                Event::Request(Some(request)) if self.goes_with_others(&request) => {}
                Event::Request(Some(request)) => {
                    if let Err(error) = self.offer(request) {
                        return Some(Err(error));
                    }
                }
                Event::Room(room) => {
                    let (Some(waiting), Some(room)) = (self.waiting.take(), room) else {
                        continue;
                    };
                    if let Err(error) = self.send(waiting.request, waiting.bytes, room) {
                        return Some(Err(error));
                    }
                }
                Event::Request(None) => self.input = None,
                Event::Deadline => {
                    let Some(oldest) = self.sent.front() else {
                        continue;
                    };
                    if oldest.deadline <= Instant::now() {
                        return Some(Err(rpc_error(&WireError::Timeout)));
                    }
                    let at = oldest.deadline;
                    self.deadline.as_mut().reset(at);
                }
            }
        }
    }

    /// Whether a request only tells of a commit that may wait for entries or a heartbeat. The first one of a session
    /// is a question, whatever it carries.
    fn goes_with_others(&self, request: &AppendRequest) -> bool {
        request.entries.is_empty() && self.next > 0 && !self.net.tells_commits
    }

    fn answered(&mut self, answer: v1::AppendAnswer) -> Result<StreamAppendResult, RpcError> {
        let expected = self.next.checked_sub(self.sent.len() as u64);
        let Some(sent) = self.sent.pop_front() else {
            return Err(broken("answer without a request"));
        };
        self.sent_bytes = self.sent_bytes.saturating_sub(sent.bytes);
        let session = self.pipe.as_ref().map(|pipe| pipe.session);
        if Some(answer.session) != session || Some(answer.sequence) != expected {
            return Err(broken("answer out of order"));
        }
        if let Some(v1::append_answer::Result::Unavailable(why)) = &answer.result
            && why == NO_ROOM
        {
            *self.no_room.lock() = Some(Instant::now() + NO_ROOM_PAUSE);
        }
        if let Some(applied) = answer.applied {
            self.net.shown.send_modify(|shown| {
                shown.insert(self.target, applied);
            });
        }
        append_result(answer, sent.previous)
    }

    /// Sends a request, or has it wait for room.
    fn offer(&mut self, request: AppendRequest) -> Result<(), RpcError> {
        if self.net.silent.load(Ordering::Relaxed) {
            return Err(rpc_error(&WireError::Unreachable(
                "no quorum answers".to_owned(),
            )));
        }
        if self
            .no_room
            .lock()
            .is_some_and(|until| Instant::now() < until)
        {
            return Err(rpc_error(&WireError::Unreachable(NO_ROOM.to_owned())));
        }
        let pipe = match &mut self.pipe {
            Some(pipe) => pipe,
            none => {
                let opened = self.net.wire.append(self.target, self.net.group);
                none.insert(opened.map_err(|error| rpc_error(&error))?)
            }
        };
        let bytes: usize = request.entries.iter().map(crate::log::cost).sum();
        if let Some(room) = pipe.room.take(bytes) {
            return self.send(request, bytes, room);
        }
        let room = pipe.room.wait(bytes);
        self.waiting = Some(Waiting {
            request,
            bytes,
            room,
        });
        Ok(())
    }

    fn send(
        &mut self,
        request: AppendRequest,
        bytes: usize,
        room: OwnedSemaphorePermit,
    ) -> Result<(), RpcError> {
        let pipe = self.pipe.as_ref().ok_or_else(|| broken("no session"))?;
        // Of this session's, what waits for the connection is counted twice; the time is ample anyway.
        let under_way = self.sent_bytes.saturating_add(pipe.room.taken());
        let deadline = Instant::now() + self.net.call + time_for(under_way.saturating_add(bytes));
        if self.sent.is_empty() {
            self.deadline.as_mut().reset(deadline);
        }
        self.sent.push_back(Sent {
            previous: request.prev_log_id,
            bytes,
            deadline,
        });
        self.sent_bytes = self.sent_bytes.saturating_add(bytes);
        let request = v1::AppendRequest {
            group: self.net.group.0,
            session: pipe.session,
            sequence: self.next,
            target: self.target.0,
            vote: Some(vote_to_wire(&request.vote)),
            previous: request.prev_log_id.as_ref().map(log_id_to_wire),
            commit: request.leader_commit.as_ref().map(log_id_to_wire),
            entries: request.entries.iter().map(entry_to_wire).collect(),
        };
        self.next = self.next.wrapping_add(1);
        pipe.requests
            .send(Queued {
                request,
                _room: room,
            })
            .map_err(|_| rpc_error(&WireError::Unreachable("connection closed".to_owned())))
    }
}

/// How long so many bytes may take on their way to a disk.
fn time_for(bytes: usize) -> Duration {
    Duration::from_millis((bytes as u64).saturating_mul(1000) / SLOWEST)
}

async fn next_answer(pipe: Option<&mut AppendPipe>) -> Option<Answer<v1::AppendAnswer>> {
    match pipe {
        Some(pipe) => pipe.answers.recv().await,
        None => std::future::pending().await,
    }
}

async fn next_room(waiting: Option<&mut Waiting>) -> Option<OwnedSemaphorePermit> {
    match waiting {
        Some(waiting) => (&mut waiting.room).await,
        None => std::future::pending().await,
    }
}

async fn next_request<S: Stream<Item = AppendRequest> + Unpin>(
    input: Option<&mut S>,
) -> Option<AppendRequest> {
    match input {
        Some(input) => input.next().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::Entry;
    use crate::types::GroupId;
    use crate::wire::{AnswerFuture, Room, Wire};
    use futures::FutureExt;
    use openraft::EntryPayload;
    use openraft::vote::leader_id_std::CommittedLeaderId;
    use std::sync::atomic::AtomicBool;
    use tokio::sync::{mpsc, watch};

    /// Hands out the other end of the one session.
    struct OnePeer(Mutex<Option<AppendPipe>>);

    fn nowhere<T: Send + 'static>() -> AnswerFuture<T> {
        Box::pin(async { Err(WireError::Timeout) })
    }

    impl Wire for OnePeer {
        fn append(&self, _: RaftNode, _: GroupId) -> Answer<AppendPipe> {
            self.0.lock().take().ok_or(WireError::Timeout)
        }
        fn beat(&self, _: RaftNode, _: v1::Heartbeat) -> AnswerFuture<v1::AppendAnswer> {
            nowhere()
        }
        fn vote(&self, _: RaftNode, _: v1::VoteRequest) -> AnswerFuture<v1::VoteAnswer> {
            nowhere()
        }
        fn transfer(
            &self,
            _: RaftNode,
            _: v1::TransferRequest,
        ) -> AnswerFuture<v1::TransferAnswer> {
            nowhere()
        }
        fn read_index(
            &self,
            _: RaftNode,
            _: v1::ReadIndexRequest,
        ) -> AnswerFuture<v1::ReadIndexAnswer> {
            nowhere()
        }
        fn last_log(&self, _: RaftNode, _: v1::LastLogRequest) -> AnswerFuture<v1::LastLogAnswer> {
            nowhere()
        }
        fn snapshot(
            &self,
            _: RaftNode,
            _: mpsc::Receiver<v1::SnapshotPart>,
        ) -> AnswerFuture<v1::SnapshotAnswer> {
            nowhere()
        }
        fn unreachable_for(&self, _: RaftNode) -> Duration {
            Duration::ZERO
        }
        fn reached(&self, _: RaftNode) -> BoxFuture<'static, ()> {
            Box::pin(async {})
        }
    }

    fn at(index: u64) -> LogId {
        LogId::new(CommittedLeaderId::new(1), index)
    }

    /// With `entries` entries after `previous`.
    fn request(previous: u64, entries: u64, commit: u64) -> AppendRequest {
        let entry = |index| Entry {
            log_id: at(index),
            payload: EntryPayload::Blank,
        };
        AppendRequest {
            vote: crate::raft::Vote::new_committed(1, 1),
            prev_log_id: Some(at(previous)),
            leader_commit: Some(at(commit)),
            entries: (previous + 1..=previous + entries).map(entry).collect(),
        }
    }

    struct Peer {
        requests: mpsc::UnboundedReceiver<Queued>,
        answers: mpsc::UnboundedSender<Answer<v1::AppendAnswer>>,
    }

    impl Peer {
        /// Number of entries and commit of the next request.
        fn next(&mut self) -> Option<(usize, u64)> {
            let Queued { request, .. } = self.requests.try_recv().ok()?;
            Some((request.entries.len(), request.commit?.index))
        }

        fn answer(&self, sequence: u64, last: u64, applied: Option<u64>) {
            let last = Some(log_id_to_wire(&at(last)));
            let matched = v1::append_answer::Result::Matched(v1::Matched { last });
            let answer = v1::AppendAnswer {
                group: 0,
                session: 7,
                sequence,
                result: Some(matched),
                applied,
            };
            self.answers.send(Ok(answer)).unwrap();
        }
    }

    type Requests = futures::channel::mpsc::UnboundedReceiver<AppendRequest>;

    fn session(
        tells_commits: bool,
    ) -> (
        futures::channel::mpsc::UnboundedSender<AppendRequest>,
        AppendSession<Requests>,
        Peer,
    ) {
        let (requests, peer_requests) = mpsc::unbounded_channel();
        let (peer_answers, answers) = mpsc::unbounded_channel();
        let pipe = AppendPipe {
            requests,
            room: Room::new(),
            answers,
            session: 7,
        };
        let net = Arc::new(RaftNet {
            wire: Arc::new(OnePeer(Mutex::new(Some(pipe)))),
            group: GroupId(1),
            append_in_flight: 8,
            tells_commits,
            call: Duration::from_secs(1),
            patience: Duration::from_millis(350),
            shown: watch::Sender::default(),
            purgeable: Mutex::default(),
            silent: AtomicBool::new(false),
            ballots: Default::default(),
        });
        let (input, taken) = futures::channel::mpsc::unbounded();
        let session = AppendSession::new(taken, net, RaftNode(2), Arc::default());
        let peer = Peer {
            requests: peer_requests,
            answers: peer_answers,
        };
        (input, session, peer)
    }

    #[tokio::test]
    async fn a_commit_travels_with_the_next_entries() {
        let (input, mut session, mut peer) = session(false);
        input.unbounded_send(request(1, 1, 1)).unwrap();
        assert!(session.next_result().now_or_never().is_none());
        assert_eq!(peer.next(), Some((1, 1)));
        peer.answer(0, 2, None);
        assert_eq!(session.next_result().await, Some(Ok(Ok(Some(at(2))))));

        input.unbounded_send(request(2, 0, 2)).unwrap();
        assert!(session.next_result().now_or_never().is_none());
        assert_eq!(peer.next(), None, "it has nothing to say");
        input.unbounded_send(request(2, 2, 2)).unwrap();
        assert!(session.next_result().now_or_never().is_none());
        assert_eq!(peer.next(), Some((2, 2)));
        peer.answer(1, 4, None);
        assert_eq!(session.next_result().await, Some(Ok(Ok(Some(at(4))))));
        // Nothing awaits an answer, least of all one with a deadline.
        drop(input);
        assert_eq!(session.next_result().await, None);
    }

    #[tokio::test]
    async fn what_finds_no_room_before_the_connection_waits() {
        let (input, mut session, mut peer) = session(false);
        input.unbounded_send(request(0, 1, 0)).unwrap();
        assert!(session.next_result().now_or_never().is_none());
        let room = session.pipe.as_ref().unwrap().room.clone();
        // Of another session over the same connection, as large as may be.
        let other = room.take(usize::MAX);
        assert!(other.is_none(), "the first one waits still");
        let first = peer.requests.try_recv().unwrap();
        drop(first);
        let other = room.take(usize::MAX);
        assert!(other.is_some());
        input.unbounded_send(request(1, 1, 0)).unwrap();
        input.unbounded_send(request(2, 1, 0)).unwrap();
        assert!(session.next_result().now_or_never().is_none());
        assert_eq!(peer.next(), None);
        // Answers are heard meanwhile.
        peer.answer(0, 1, None);
        assert_eq!(session.next_result().await, Some(Ok(Ok(Some(at(1))))));
        drop(other);
        assert!(session.next_result().now_or_never().is_none());
        assert_eq!((peer.next(), peer.next()), (Some((1, 0)), Some((1, 0))));
        // And the end of the connection while one waits.
        let _other = room.take(usize::MAX).unwrap();
        input.unbounded_send(request(3, 1, 0)).unwrap();
        assert!(session.next_result().now_or_never().is_none());
        drop(peer);
        assert!(matches!(session.next_result().await, Some(Err(_))));
    }

    #[tokio::test]
    async fn the_first_request_of_a_session_is_a_question() {
        let (input, mut session, mut peer) = session(false);
        input.unbounded_send(request(3, 0, 3)).unwrap();
        assert!(session.next_result().now_or_never().is_none());
        assert_eq!(peer.next(), Some((0, 3)));
        peer.answer(0, 3, None);
        assert_eq!(session.next_result().await, Some(Ok(Ok(Some(at(3))))));
    }

    #[tokio::test]
    async fn the_catalog_tells_each_commit_and_hears_who_shows_it() {
        let (input, mut session, mut peer) = session(true);
        input.unbounded_send(request(1, 1, 1)).unwrap();
        input.unbounded_send(request(2, 0, 2)).unwrap();
        assert!(session.next_result().now_or_never().is_none());
        assert_eq!((peer.next(), peer.next()), (Some((1, 1)), Some((0, 2))));
        peer.answer(0, 2, Some(1));
        peer.answer(1, 2, Some(2));
        for applied in [1, 2] {
            assert_eq!(session.next_result().await, Some(Ok(Ok(Some(at(2))))));
            let shown = session.net.shown.borrow().get(&RaftNode(2)).copied();
            assert_eq!(shown, Some(applied));
        }
    }
}
