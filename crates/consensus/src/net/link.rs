//! The connections to one peer, and what they say about its process.
//!
//! Three HTTP/2 connections, so that data never delays a heartbeat: control (a stream of
//! heartbeats, and calls), log (one stream of appends for all groups), bulk (snapshots, and the
//! node's own services).
//!
//! The heartbeat stream ([`beats`]) tells what is known about the peer; that of appends ([`appends`]) is up
//! while the peer is connected.

mod appends;
mod beats;
mod trips;

use self::trips::Trips;
use super::auth::{Credentials, displacement, refusal};
use super::dial::{Closed, Ways, Windows, channel};
use super::displaced::Displaced;
use super::limit::RateLimit;
use super::{Connectivity, PeerChannel};
use crate::config::{Limits, Timing};
use crate::error::StartError;
use crate::types::{GroupId, RaftNode};
use crate::wire::{Answer, AppendPipe, Queued, Room, WireError};
use cluster_proto::v1;
use cluster_proto::v1::cluster_client::ClusterClient;
use cluster_proto::v1::raft_control_client::RaftControlClient;
use cluster_proto::v1::raft_snapshot_client::RaftSnapshotClient;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;

/// Until the heartbeat stream of a peer is open, so many messages go forth and back one after another, with TLS.
const OPENING_TRIPS: u32 = 8;

type Control = RaftControlClient<PeerChannel>;

/// A session of appends that awaits answers.
struct Session {
    group: GroupId,
    /// Two starts of one node with a wiped disk in between are two members, for a while.
    target: RaftNode,
    answers: mpsc::UnboundedSender<Answer<v1::AppendAnswer>>,
}

struct Beat {
    beat: v1::Heartbeat,
    answer: oneshot::Sender<v1::AppendAnswer>,
}

/// What the connections say about the peer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Condition {
    pub(super) connectivity: Connectivity,
    /// Since when it is not connected.
    pub(super) lost_at: Option<Instant>,
    /// It was, at this address.
    pub(super) was_connected: bool,
}

pub(crate) struct PeerLink {
    ways: Ways,
    node: u64,
    address: String,
    timing: Timing,
    limits: Limits,
    control: Channel,
    log: Channel,
    bulk: Channel,
    credentials: Credentials,
    closed: Arc<Closed>,
    beats: mpsc::Sender<Beat>,
    /// How many of them share a message.
    beats_follow: AtomicUsize,
    /// Where appends go while the log stream is up.
    appends: Mutex<Option<mpsc::UnboundedSender<Queued>>>,
    /// For what waits to go.
    room: Room,
    /// By their numbers.
    sessions: Mutex<HashMap<u64, Session>>,
    next_session: AtomicU64,
    condition: watch::Sender<Condition>,
    stream_up: watch::Sender<bool>,
    /// How long the peer took to accept a connection last.
    accepts_after: Mutex<Duration>,
    /// When something was heard again after the peer, or this process, had stood still; and when anything was.
    stood_still: Mutex<(Option<Instant>, Instant)>,
    /// Of the heartbeat stream that is up.
    trips: Mutex<Trips>,
    refusals: RateLimit,
    displaced: Arc<Displaced>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl PeerLink {
    pub(super) fn start(
        ways: &Ways,
        node: u64,
        address: &str,
        credentials: Credentials,
        timing: &Timing,
        limits: &Limits,
        displaced: Arc<Displaced>,
    ) -> Result<Arc<Self>, StartError> {
        let windows = Windows {
            stream: limits.stream_window,
            connection: limits.connection_window,
        };
        let closed = Arc::new(Closed::default());
        let open = |closed: &Arc<Closed>| {
            channel(ways, Some(node), address, windows, Arc::clone(closed)).map_err(|error| {
                StartError::Config(format!("address '{address}' of node {node}: {error}"))
            })
        };
        // Only the control connection decides; the others may come and go.
        let others = Arc::new(Closed::default());
        let (beats, queue) = mpsc::channel(1024);
        let link = Arc::new(Self {
            ways: ways.clone(),
            node,
            address: address.to_owned(),
            timing: timing.clone(),
            limits: limits.clone(),
            control: open(&closed)?,
            log: open(&others)?,
            bulk: open(&others)?,
            credentials,
            closed,
            beats,
            beats_follow: AtomicUsize::new(usize::MAX),
            appends: Mutex::new(None),
            room: Room::new(),
            sessions: Mutex::default(),
            next_session: AtomicU64::new(1),
            condition: watch::Sender::new(Condition {
                connectivity: Connectivity::Silent,
                lost_at: Some(Instant::now()),
                was_connected: false,
            }),
            stream_up: watch::Sender::new(false),
            accepts_after: Mutex::default(),
            stood_still: Mutex::new((None, Instant::now())),
            trips: Mutex::default(),
            refusals: RateLimit::default(),
            displaced,
            tasks: Mutex::default(),
        });
        let tasks = vec![
            tokio::spawn(beats::run(Arc::clone(&link), queue)),
            tokio::spawn(appends::run(Arc::clone(&link))),
        ];
        *link.tasks.lock() = tasks;
        Ok(link)
    }

    pub(super) fn stop(&self) {
        for task in self.tasks.lock().drain(..) {
            task.abort();
        }
        *self.appends.lock() = None;
        self.fail_sessions("stopped");
    }

    pub(crate) fn connectivity(&self) -> Connectivity {
        self.condition.borrow().connectivity
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Whether the peer was ever reached at this address since it is tried there.
    pub(crate) fn was_connected(&self) -> bool {
        self.condition.borrow().was_connected
    }

    pub(super) fn condition(&self) -> watch::Receiver<Condition> {
        self.condition.subscribe()
    }

    /// The peer is looked for elsewhere: it has been lost since `at`, not since then only.
    pub(super) fn lost_since(&self, at: Instant) {
        self.condition.send_if_modified(|condition| {
            let is_lost = condition.lost_at.is_some();
            if is_lost {
                condition.lost_at = Some(at);
            }
            is_lost
        });
    }

    pub(super) fn bulk(&self) -> PeerChannel {
        InterceptedService::new(self.bulk.clone(), self.credentials.clone())
    }

    /// How long a message and its answer usually take.
    pub(super) fn round_trip(&self) -> Option<Duration> {
        self.trips.lock().usual()
    }

    /// Whether nothing was heard for a while at some time since: the peer, or this process, stood still.
    pub(super) fn stood_still_since(&self, since: Instant) -> bool {
        let (again, heard) = *self.stood_still.lock();
        heard.elapsed() > self.timing.silence || again.is_some_and(|again| again >= since)
    }

    /// Something was heard, `silence` after what was heard before.
    fn hear(&self, now: Instant, silence: Duration) {
        self.stood_still.lock().1 = now;
        if silence > self.timing.silence {
            self.note_stand_still(now);
        }
    }

    /// The peer, or this process, had stood still.
    fn note_stand_still(&self, now: Instant) {
        self.stood_still.lock().0 = Some(now);
        self.trips.lock().forget_pending();
    }

    /// Within which a stream is open, connection and all.
    fn opens_within(&self) -> Duration {
        let trips = self.accepts_after.lock().saturating_mul(OPENING_TRIPS);
        self.timing.call.max(trips)
    }

    fn control(&self) -> Control {
        RaftControlClient::with_interceptor(self.control.clone(), self.credentials.clone())
            .max_decoding_message_size(self.limits.decode_bytes)
    }

    pub(crate) fn cluster(&self) -> ClusterClient<PeerChannel> {
        ClusterClient::with_interceptor(self.control.clone(), self.credentials.clone())
    }

    /// A call on the control connection, if the peer is there at all.
    pub(super) async fn call<T, F>(
        self: Arc<Self>,
        call: impl FnOnce(Control) -> F + Send,
    ) -> Answer<T>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>> + Send,
    {
        if self.condition.borrow().connectivity == Connectivity::Refused {
            return Err(WireError::Unreachable("connection refused".to_owned()));
        }
        match timeout(self.timing.call, call(self.control())).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(WireError::Unreachable(status.message().to_owned())),
            Err(_) => Err(WireError::Timeout),
        }
    }

    /// So many heartbeats are about to come.
    pub(super) fn beats_follow(&self, count: usize) {
        self.beats_follow.store(count, Ordering::Relaxed);
    }

    /// Queues a heartbeat for the next message.
    pub(super) async fn beat(self: Arc<Self>, beat: v1::Heartbeat) -> Answer<v1::AppendAnswer> {
        if !*self.stream_up.borrow() {
            return Err(WireError::Unreachable("not connected".to_owned()));
        }
        let (answer, receiver) = oneshot::channel();
        self.beats
            .try_send(Beat { beat, answer })
            .map_err(|_| WireError::Unreachable("too many heartbeats".to_owned()))?;
        match timeout(self.timing.call, receiver).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(WireError::Unreachable("connection closed".to_owned())),
            Err(_) => Err(WireError::Timeout),
        }
    }

    /// Starts a session of appends; an earlier one of the group with this member ends.
    pub(super) fn append(&self, target: RaftNode, group: GroupId) -> Answer<AppendPipe> {
        // What a frozen peer does not take stays in memory, session after session.
        if self.condition.borrow().connectivity != Connectivity::Connected {
            return Err(WireError::Unreachable("the peer is silent".to_owned()));
        }
        let requests = self.appends.lock().clone();
        let requests =
            requests.ok_or_else(|| WireError::Unreachable("not connected".to_owned()))?;
        let session = self.next_session.fetch_add(1, Ordering::Relaxed);
        let (sender, answers) = mpsc::unbounded_channel();
        {
            let mut sessions = self.sessions.lock();
            sessions.retain(|_, former| (former.group, former.target) != (group, target));
            let started = Session {
                group,
                target,
                answers: sender,
            };
            sessions.insert(session, started);
        }
        if self.appends.lock().is_none() {
            // The stream broke in between and nobody would tell this session.
            self.sessions.lock().remove(&session);
            return Err(WireError::Unreachable("connection closed".to_owned()));
        }
        Ok(AppendPipe {
            requests,
            room: self.room.clone(),
            answers,
            session,
        })
    }

    pub(super) async fn snapshot(
        self: Arc<Self>,
        parts: mpsc::Receiver<v1::SnapshotPart>,
    ) -> Answer<v1::SnapshotAnswer> {
        // A connection to a peer that is gone would be waited for, and the view held meanwhile.
        if self.connectivity() != Connectivity::Connected {
            return Err(WireError::Unreachable("the peer is silent".to_owned()));
        }
        let mut client =
            RaftSnapshotClient::with_interceptor(self.bulk.clone(), self.credentials.clone());
        match client.install(ReceiverStream::new(parts)).await {
            Ok(answer) => Ok(answer.into_inner()),
            Err(status) => Err(WireError::Unreachable(status.message().to_owned())),
        }
    }

    /// Whether somebody waits for answers of this session. What is left of one that has ended is not sent: the next one
    /// begins with the same entries.
    fn goes_on(&self, session: u64) -> bool {
        let sessions = self.sessions.lock();
        sessions
            .get(&session)
            .is_some_and(|session| !session.answers.is_closed())
    }

    fn set(&self, connectivity: Connectivity) {
        self.condition.send_if_modified(|condition| {
            if condition.connectivity == connectivity {
                return false;
            }
            tracing::info!(
                peer = self.node,
                address = self.address,
                ?connectivity,
                "peer"
            );
            condition.connectivity = connectivity;
            condition.was_connected |= connectivity == Connectivity::Connected;
            condition.lost_at = match connectivity {
                Connectivity::Connected => None,
                Connectivity::Silent | Connectivity::Refused => {
                    condition.lost_at.or_else(|| Some(Instant::now()))
                }
            };
            true
        });
    }

    fn fail_sessions(&self, why: &str) {
        for (_, session) in self.sessions.lock().drain() {
            let error = WireError::Unreachable(why.to_owned());
            let _ = session.answers.send(Err(error));
        }
    }

    fn note_failure(&self, what: &str, status: &Status) {
        if let Some(reason) = displacement(status) {
            self.displaced.refused(&self.address, reason);
        }
        if let Some(reason) = refusal(status)
            && self.refusals.permit()
        {
            tracing::warn!(
                peer = self.node,
                address = self.address,
                reason,
                "{what}: the peer refuses this node"
            );
        }
    }
}

impl Drop for PeerLink {
    fn drop(&mut self) {
        for task in self.tasks.get_mut().drain(..) {
            task.abort();
        }
    }
}

#[cfg(test)]
mod tests;
