//! openraft's network over a [`Wire`]: one value per group, member and purpose.
//!
//! Appends are pipelined, see [`append`].

mod append;
mod ballot;

use self::append::AppendSession;
use self::ballot::{Ballot, Ballots};
use crate::machine::{MachineError, SnapshotReader};
use crate::machine_adapter::MachineSnapshot;
use crate::raft::{
    AppendRequest, Applied, LogId, StreamAppendResult, Types, Vote, log_id_from_wire,
    log_id_to_wire, vote_from_wire, vote_to_wire,
};
use crate::types::{GroupId, RaftNode};
use crate::wire::{Answer, Wire, WireError};
use cluster_proto::v1;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, Stream, StreamExt};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{
    Backoff, NetBackoff, NetSnapshot, NetStreamAppend, NetTransferLeader, NetVote, RPCOption,
};
use openraft::raft::{
    SnapshotResponse, StreamAppendError, TransferLeaderError, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{BasicNode, OptionalSend, RaftNetworkFactory};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

type RpcError = RPCError<Types>;
/// What is said of a snapshot that did not arrive.
type SnapshotError = StreamingError<Types>;

/// Chunks of a snapshot read ahead of the connection.
const SNAPSHOT_READ_AHEAD: usize = 4;
/// A receiver that takes no chunk for so long will take none.
const CHUNK_TAKEN_WITHIN: Duration = Duration::from_secs(30);
/// A receiver that has everything installs it within this time: it flushes all of it to its disk.
const INSTALLED_WITHIN: Duration = Duration::from_secs(300);
/// Pause after a snapshot that was not taken, at first …
const SNAPSHOT_PAUSE: Duration = Duration::from_millis(200);
/// … and at last: it doubles each time.
const SNAPSHOT_PAUSE_MAX: Duration = Duration::from_secs(5);
/// A member that is away is waited for so long before it is tried all the same.
const SNAPSHOT_AWAY: Duration = Duration::from_secs(30);

/// What the values for all members of a group share.
pub(crate) struct RaftNet {
    pub(crate) wire: Arc<dyn Wire>,
    pub(crate) group: GroupId,
    pub(crate) append_in_flight: usize,
    /// Members are told of each commit at once, not with the next entries or heartbeat.
    pub(crate) tells_commits: bool,
    /// Deadline of an answer.
    pub(crate) call: Duration,
    /// How long openraft waits for votes by configuration.
    pub(crate) patience: Duration,
    /// What the members said last that they had applied; of the catalog, on its leader.
    pub(crate) shown: watch::Sender<BTreeMap<RaftNode, u64>>,
    /// What the leader lets followers purge; sent with heartbeats.
    pub(crate) purgeable: Mutex<Option<u64>>,
    /// No quorum answers this leader: it must not keep followers from electing another.
    pub(crate) silent: AtomicBool,
    /// The elections that this node asks for.
    pub(crate) ballots: Ballots,
}

/// openraft's factory.
pub(crate) struct RaftNetFactory(pub(crate) Arc<RaftNet>);

impl RaftNetworkFactory<Types> for RaftNetFactory {
    type Network = RaftPeer;

    async fn new_client(&mut self, target: u64, _node: &BasicNode) -> RaftPeer {
        self.peer(target, false)
    }

    async fn new_heartbeat_client(&mut self, target: u64, _node: &BasicNode) -> RaftPeer {
        self.peer(target, true)
    }
}

impl RaftNetFactory {
    fn peer(&self, target: u64, heartbeats: bool) -> RaftPeer {
        RaftPeer {
            net: Arc::clone(&self.0),
            target: RaftNode(target),
            heartbeats,
            no_room: Arc::default(),
            snapshot_pause: SNAPSHOT_PAUSE,
        }
    }
}

/// One member of one group.
pub(crate) struct RaftPeer {
    net: Arc<RaftNet>,
    target: RaftNode,
    heartbeats: bool,
    /// The member has no room on its disk: until when it is spared entries.
    no_room: Arc<Mutex<Option<Instant>>>,
    /// How long to wait after a snapshot that was not taken.
    snapshot_pause: Duration,
}

fn rpc_error(error: &WireError) -> RpcError {
    // Also a timeout: the answer may be lost for good, so openraft shall wait a little.
    RPCError::Unreachable(Unreachable::new(error))
}

fn broken(what: &'static str) -> RpcError {
    RPCError::Network(NetworkError::from_string(what))
}

/// Translates what a member answered to an append.
fn append_result(
    answer: v1::AppendAnswer,
    previous: Option<LogId>,
) -> Result<StreamAppendResult, RpcError> {
    use v1::append_answer::Result as Wire;
    match answer.result {
        Some(Wire::Matched(matched)) => Ok(Ok(matched.last.as_ref().map(log_id_from_wire))),
        Some(Wire::Conflict(at)) => {
            let at = log_id_from_wire(&at);
            // openraft relies on a conflict being about what was sent.
            if previous == Some(at) {
                Ok(Err(StreamAppendError::Conflict(at)))
            } else {
                Err(broken("conflict at an entry that was not sent"))
            }
        }
        Some(Wire::Higher(vote)) => Ok(Err(StreamAppendError::HigherVote(vote_from_wire(&vote)))),
        Some(Wire::Unavailable(why)) => Err(rpc_error(&WireError::Unreachable(why))),
        None => Err(broken("empty answer")),
    }
}

impl RaftPeer {
    fn beat(
        &self,
        request: &AppendRequest,
    ) -> impl Future<Output = Result<StreamAppendResult, RpcError>> + Send + use<> {
        let previous = request.prev_log_id;
        let beat = v1::Heartbeat {
            group: self.net.group.0,
            sequence: 0,
            target: self.target.0,
            vote: Some(vote_to_wire(&request.vote)),
            previous: request.prev_log_id.as_ref().map(log_id_to_wire),
            commit: request.leader_commit.as_ref().map(log_id_to_wire),
            purgeable: *self.net.purgeable.lock(),
        };
        let answer = self.net.wire.beat(self.target, beat);
        async move {
            match answer.await {
                Ok(answer) => append_result(answer, previous),
                Err(error) => Err(rpc_error(&error)),
            }
        }
    }
}

impl NetStreamAppend<Types> for RaftPeer {
    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        _option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<StreamAppendResult, RpcError>>, RpcError>>
    where
        S: Stream<Item = AppendRequest> + OptionalSend + Unpin + 'static,
    {
        if self.heartbeats {
            let this = &*self;
            let answers = input.then(move |request| this.beat(&request));
            return Box::pin(async move { Ok(answers.boxed()) });
        }
        let session = AppendSession::new(
            input,
            Arc::clone(&self.net),
            self.target,
            Arc::clone(&self.no_room),
        );
        Box::pin(async move {
            let answers = stream::unfold(Some(session), |session| async move {
                let mut session = session?;
                let result = session.next_result().await?;
                let go_on = matches!(result, Ok(Ok(_)));
                Some((result, go_on.then_some(session)))
            });
            Ok(answers.boxed())
        })
    }
}

impl NetVote<Types> for RaftPeer {
    async fn vote(
        &mut self,
        rpc: VoteRequest<Types>,
        _option: RPCOption,
    ) -> Result<VoteResponse<Types>, RpcError> {
        self.ask_vote(&rpc, false).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<Types>,
        _option: RPCOption,
    ) -> Result<VoteResponse<Types>, RpcError> {
        self.ask_vote(&rpc, true).await
    }
}

impl RaftPeer {
    async fn ask_vote(
        &self,
        rpc: &VoteRequest<Types>,
        pre_vote: bool,
    ) -> Result<VoteResponse<Types>, RpcError> {
        let request = v1::VoteRequest {
            group: self.net.group.0,
            target: self.target.0,
            vote: Some(vote_to_wire(&rpc.vote)),
            last: rpc.last_log_id.as_ref().map(log_id_to_wire),
            transfer: rpc.leadership_transfer,
            pre_vote,
        };
        let answer = self
            .timed_vote(
                request,
                self.net.ballots.ask(rpc.vote.leader_id.term, pre_vote),
            )
            .await
            .map_err(|error| rpc_error(&error))?;
        let vote = answer.vote.as_ref().ok_or_else(|| broken("empty answer"))?;
        Ok(VoteResponse::new(
            vote_from_wire(vote),
            answer.last.as_ref().map(log_id_from_wire),
            answer.granted,
        ))
    }
}

impl RaftPeer {
    /// Asks, and notes how long the answer took. openraft may give it up meanwhile: what comes too late is what has to be known.
    async fn timed_vote(
        &self,
        request: v1::VoteRequest,
        ballot: Arc<Ballot>,
    ) -> Answer<v1::VoteAnswer> {
        let (net, target) = (Arc::clone(&self.net), self.target);
        let asked = tokio::spawn(async move {
            let began = Instant::now();
            let answer = net.wire.vote(target, request).await;
            // What is never answered may be lost, or its member gone: more patience would help neither.
            if let Ok(answer) = &answer
                && ballot.answered(answer.granted)
                && !net.wire.stood_still_since(target, began)
            {
                crate::clock::took(began.elapsed(), net.patience);
            }
            answer
        });
        asked
            .await
            .unwrap_or_else(|_| Err(WireError::Unreachable("stopped".to_owned())))
    }
}

impl NetTransferLeader<Types> for RaftPeer {
    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Types>,
        _option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RpcError> {
        let wire = v1::TransferRequest {
            group: self.net.group.0,
            target: self.target.0,
            from: Some(vote_to_wire(request.from_leader())),
            to: *request.to_node_id(),
            last: request.last_log_id().map(log_id_to_wire),
        };
        let answer = self
            .net
            .wire
            .transfer(self.target, wire)
            .await
            .map_err(|error| rpc_error(&error))?;
        if answer.refused.is_empty() {
            return Ok(Ok(()));
        }
        tracing::info!(group = %self.net.group, to = %self.target, reason = answer.refused, "leadership not taken");
        Ok(Err(TransferLeaderError::LogNotFlushed {
            expected: request.last_log_id().copied(),
            actual: None,
        }))
    }
}

impl NetBackoff<Types> for RaftPeer {
    fn backoff(&self) -> Option<Backoff> {
        // Short: the link itself knows whether the peer is connected and fails at once if not.
        let first = [20, 50, 100].map(Duration::from_millis);
        Some(Backoff::new(
            first
                .into_iter()
                .chain(std::iter::repeat(Duration::from_millis(200))),
        ))
    }
}

impl NetSnapshot<Types> for RaftPeer {
    type SnapshotData = Box<dyn SnapshotReader>;

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: MachineSnapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, SnapshotError> {
        tokio::pin!(cancel);
        let sent = tokio::select! {
            sent = self.send_snapshot(vote, snapshot) => sent,
            closed = &mut cancel => return Err(StreamingError::Closed(closed)),
        };
        if sent.is_ok() {
            self.snapshot_pause = SNAPSHOT_PAUSE;
            return sent;
        }
        // openraft tries again five times a second, and takes a new view each time, where entries are applied and
        // behind whatever the store writes.
        tokio::select! {
            () = self.pause_snapshots() => sent,
            closed = &mut cancel => Err(StreamingError::Closed(closed)),
        }
    }
}

impl RaftPeer {
    /// Sends a view once; it is let go of on return.
    async fn send_snapshot(
        &self,
        vote: Vote,
        snapshot: MachineSnapshot,
    ) -> Result<SnapshotResponse<Types>, SnapshotError> {
        if !self.net.wire.unreachable_for(self.target).is_zero() {
            let away = WireError::Unreachable("the peer is silent".to_owned());
            return Err(StreamingError::Unreachable(Unreachable::new(&away)));
        }
        let applied = Applied {
            last: snapshot.meta.last_log_id,
            membership: snapshot.meta.last_membership,
        };
        let head = v1::SnapshotHead {
            group: self.net.group.0,
            target: self.target.0,
            vote: Some(vote_to_wire(&vote)),
            applied: Some(applied.to_wire()),
        };
        let (parts, receiver) = mpsc::channel(SNAPSHOT_READ_AHEAD);
        let reader = snapshot.snapshot;
        let answer = self.net.wire.snapshot(self.target, receiver);
        let answer = transmitted(read_snapshot(head, reader, parts), answer).await?;
        let vote = answer
            .vote
            .as_ref()
            .ok_or_else(|| StreamingError::Network(NetworkError::from_string("empty answer")))?;
        Ok(SnapshotResponse::new(vote_from_wire(vote)))
    }

    /// After a snapshot that was not taken: until the member is there if it is away, else for a while.
    async fn pause_snapshots(&mut self) {
        let wire = &self.net.wire;
        if wire.unreachable_for(self.target).is_zero() {
            tokio::time::sleep(self.snapshot_pause).await;
            self.snapshot_pause = SNAPSHOT_PAUSE_MAX.min(self.snapshot_pause * 2);
        } else {
            let _ = tokio::time::timeout(SNAPSHOT_AWAY, wire.reached(self.target)).await;
        }
    }
}

/// The answer to a snapshot, while `reading` feeds the connection. Every step has a bound.
async fn transmitted(
    reading: impl Future<Output = Result<(), MachineError>> + Send + 'static,
    answer: impl Future<Output = Answer<v1::SnapshotAnswer>>,
) -> Result<v1::SnapshotAnswer, SnapshotError> {
    let unreachable = |error: WireError| StreamingError::Unreachable(Unreachable::new(&error));
    let mut reading = tokio::spawn(reading);
    tokio::pin!(answer);
    let early = tokio::select! {
        answer = &mut answer => Some(answer),
        read = &mut reading => {
            if let Ok(Err(error)) = read {
                return Err(StreamingError::Network(NetworkError::from_string(error)));
            }
            None
        }
    };
    match early {
        // The reader ends by itself: nobody takes its chunks any more.
        Some(answer) => answer.map_err(unreachable),
        None => match tokio::time::timeout(INSTALLED_WITHIN, answer).await {
            Ok(answer) => answer.map_err(unreachable),
            Err(_) => Err(unreachable(WireError::Timeout)),
        },
    }
}

/// Feeds a view to the connection; stops quietly when the connection is gone.
async fn read_snapshot(
    head: v1::SnapshotHead,
    mut reader: Box<dyn SnapshotReader>,
    parts: mpsc::Sender<v1::SnapshotPart>,
) -> Result<(), MachineError> {
    use v1::snapshot_part::Part;
    let send = async |part| {
        let sent = parts.send(v1::SnapshotPart { part: Some(part) });
        match tokio::time::timeout(CHUNK_TAKEN_WITHIN, sent).await {
            Ok(sent) => Ok(sent.is_ok()),
            Err(_) => Err(MachineError::new(
                "the receiver of a snapshot takes nothing",
            )),
        }
    };
    if !send(Part::Head(head)).await? {
        return Ok(());
    }
    let mut chunks = 0;
    loop {
        let read = tokio::task::spawn_blocking(move || {
            let chunk = reader.next_chunk();
            (reader, chunk)
        });
        let (back, chunk) = read
            .await
            .map_err(|_| MachineError::new("a storage task was interrupted"))?;
        reader = back;
        let Some(data) = chunk? else { break };
        chunks += 1;
        let crc32c = crc32c::crc32c(&data);
        if !send(Part::Chunk(v1::SnapshotChunk { data, crc32c })).await? {
            return Ok(());
        }
    }
    send(Part::End(v1::SnapshotEnd { chunks })).await?;
    Ok(())
}
