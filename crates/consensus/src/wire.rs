//! What a group asks of the network: messages to one member of a group on another node.
//!
//! [`crate::net`] sends them over gRPC; simulations carry them in memory, with delays and losses.
//! An answer is what the peer said; whatever else happens is a [`WireError`], never a made-up
//! answer.

use crate::types::{GroupId, RaftNode};
use cluster_proto::v1;
use futures::future::BoxFuture;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;

/// A message that was not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WireError {
    /// No connection, or it broke.
    #[error("unreachable: {0}")]
    Unreachable(String),
    /// No answer in time.
    #[error("no answer in time")]
    Timeout,
}

pub(crate) type Answer<T> = Result<T, WireError>;
pub(crate) type AnswerFuture<T> = BoxFuture<'static, Answer<T>>;

/// A request of a session on its way to the connection, and the room that it takes there.
pub(crate) struct Queued {
    pub(crate) request: v1::AppendRequest,
    /// Given back when the connection takes the request.
    pub(crate) _room: OwnedSemaphorePermit,
}

/// Room for requests that wait for the connection to a node, shared by all sessions over it: a connection that is slow
/// must not have the entries of all groups wait in memory.
#[derive(Clone)]
pub(crate) struct Room(Arc<Semaphore>);

impl Room {
    /// Bytes of entries that may wait. One request may be larger: it waits alone.
    const BYTES: usize = 32 << 20;
    /// What is counted.
    const UNIT: usize = 1 << 10;

    pub(crate) fn new() -> Self {
        Self(Arc::new(Semaphore::new(Self::BYTES / Self::UNIT)))
    }

    fn units(bytes: usize) -> u32 {
        let units = (bytes / Self::UNIT + 1).min(Self::BYTES / Self::UNIT);
        u32::try_from(units).unwrap_or(u32::MAX)
    }

    /// For a request with so many bytes of entries, if there is some now and nobody waits.
    pub(crate) fn take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0)
            .try_acquire_many_owned(Self::units(bytes))
            .ok()
    }

    /// The same as soon as there is, in turn; `None` never comes, because it is never closed.
    pub(crate) fn wait(&self, bytes: usize) -> BoxFuture<'static, Option<OwnedSemaphorePermit>> {
        let waiting = Arc::clone(&self.0).acquire_many_owned(Self::units(bytes));
        Box::pin(async move { waiting.await.ok() })
    }

    /// Bytes that wait, roughly.
    pub(crate) fn taken(&self) -> usize {
        Self::BYTES.saturating_sub(self.0.available_permits() * Self::UNIT)
    }
}

/// A session of appends to one member: requests out, answers back in the same order. An error ends
/// it.
pub(crate) struct AppendPipe {
    pub(crate) requests: mpsc::UnboundedSender<Queued>,
    pub(crate) room: Room,
    pub(crate) answers: mpsc::UnboundedReceiver<Answer<v1::AppendAnswer>>,
    /// To be put into the requests.
    pub(crate) session: u64,
}

/// Sends messages to members of groups.
pub(crate) trait Wire: Send + Sync + 'static {
    /// Starts a session of appends.
    fn append(&self, to: RaftNode, group: GroupId) -> Answer<AppendPipe>;

    /// Says how many heartbeats to each member are about to be sent: they may share a message.
    fn beats_follow(&self, _count: usize) {}

    /// Sends a heartbeat.
    fn beat(&self, to: RaftNode, beat: v1::Heartbeat) -> AnswerFuture<v1::AppendAnswer>;

    /// Asks for a vote, or whether it would be granted.
    fn vote(&self, to: RaftNode, request: v1::VoteRequest) -> AnswerFuture<v1::VoteAnswer>;

    /// Offers leadership.
    fn transfer(
        &self,
        to: RaftNode,
        request: v1::TransferRequest,
    ) -> AnswerFuture<v1::TransferAnswer>;

    /// Asks the leader for a read index.
    fn read_index(
        &self,
        to: RaftNode,
        request: v1::ReadIndexRequest,
    ) -> AnswerFuture<v1::ReadIndexAnswer>;

    /// Asks how far a member's log goes.
    fn last_log(
        &self,
        to: RaftNode,
        request: v1::LastLogRequest,
    ) -> AnswerFuture<v1::LastLogAnswer>;

    /// Streams a snapshot; the parts end when the sender side is dropped.
    fn snapshot(
        &self,
        to: RaftNode,
        parts: mpsc::Receiver<v1::SnapshotPart>,
    ) -> AnswerFuture<v1::SnapshotAnswer>;

    /// For how long nothing was heard from the member's node; zero while it is connected.
    fn unreachable_for(&self, to: RaftNode) -> Duration;

    /// How long a message to the member's node and its answer took at least, the last few times; `None`: not known.
    fn round_trip(&self, _to: RaftNode) -> Option<Duration> {
        None
    }

    /// Whether nothing was heard from the member's node for a while at some time since: then what its answers took says how
    /// long it stood still, or this process.
    fn stood_still_since(&self, _to: RaftNode, _since: Instant) -> bool {
        false
    }

    /// Resolves when the member's node is connected, wherever it is to be found by then.
    fn reached(&self, to: RaftNode) -> BoxFuture<'static, ()>;
}
