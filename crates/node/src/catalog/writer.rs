//! Writing to the catalog from any node: batched, retried until the bound, and answered when all
//! live nodes show it.
//!
//! Every request has a key, so that proposing it again after an unknown outcome is harmless.

use super::machine::CatalogMachine;
use super::sequencer::{ENTRY_REQUESTS, Sequencer};
use crate::vital::Vital;
use broker_model::catalog::{
    CatalogCommand, CatalogEntry, CatalogError, CatalogReply, CatalogRequest, RequestKey,
    decode_replies,
};
use broker_model::ids::{NodeId, Origin};
use bytes::Bytes;
use cluster_proto::node::v1::peer_client::PeerClient;
use cluster_proto::node::v1::{ProposeRequest, propose_reply};
use consensus::{Group, PeerNet, ProposeError};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::Instant;
use tracing::debug;

/// Proposals on their way at the same time.
const PROPOSALS_IN_FLIGHT: usize = 4;
/// How long one attempt at one leader may take.
const ATTEMPT: Duration = Duration::from_secs(5);
/// Pause between attempts, unless a leader appears.
const PAUSE: Duration = Duration::from_millis(50);

/// A write that was not answered by the catalog.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// Refused by the catalog.
    #[error(transparent)]
    Refused(#[from] CatalogError),
    /// No majority within the bound. It may still take effect later.
    #[error("the metadata store found no majority in time")]
    Timeout,
    /// This node is stopping.
    #[error("the node is stopping")]
    Stopping,
}

struct Waiting {
    request: CatalogRequest,
    deadline: Instant,
    reply: oneshot::Sender<Result<CatalogReply, WriteError>>,
}

/// Takes writes of this node to the catalog's leader.
pub struct CatalogWriter {
    origin: Origin,
    next: AtomicU64,
    timeout: Duration,
    queue: mpsc::UnboundedSender<Waiting>,
}

struct Worker {
    me: NodeId,
    group: Group,
    peers: PeerNet,
    machine: Arc<CatalogMachine>,
    /// Of use while this node leads.
    sequencer: Arc<Sequencer>,
}

impl CatalogWriter {
    /// A writer for one start of a node; writes end in [`WriteError::Timeout`] after `timeout`.
    pub fn start(
        origin: Origin,
        group: Group,
        peers: PeerNet,
        machine: Arc<CatalogMachine>,
        sequencer: Arc<Sequencer>,
        timeout: Duration,
        vital: &Vital,
    ) -> Arc<Self> {
        let (queue, receiver) = mpsc::unbounded_channel();
        let worker = Arc::new(Worker {
            me: origin.node,
            group,
            peers,
            machine,
            sequencer,
        });
        vital.spawn("the writer of the catalog", worker.run(receiver));
        Arc::new(Self {
            origin,
            next: AtomicU64::new(1),
            timeout,
            queue,
        })
    }

    /// Applies a command: returns when it is committed and visible on every live node.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub async fn write(
        &self,
        command: CatalogCommand,
    ) -> Result<broker_model::catalog::CatalogAnswer, WriteError> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let key = Some(RequestKey {
            origin: self.origin,
            number,
        });
        let (reply, answer) = oneshot::channel();
        let deadline = Instant::now() + self.timeout;
        let waiting = Waiting {
            request: CatalogRequest { key, command },
            deadline,
            reply,
        };
        self.queue.send(waiting).map_err(|_| WriteError::Stopping)?;
        match tokio::time::timeout_at(deadline, answer).await {
            Ok(Ok(result)) => Ok(result??),
            // Whoever carries it gives up at the same moment.
            Ok(Err(_)) if Instant::now() < deadline => Err(WriteError::Stopping),
            Ok(Err(_)) | Err(_) => Err(WriteError::Timeout),
        }
    }
}

/// What one attempt came to.
enum Attempt {
    Committed {
        index: u64,
        replies: Vec<CatalogReply>,
    },
    Again,
    Stopped,
}

impl Worker {
    async fn run(self: Arc<Self>, mut queue: mpsc::UnboundedReceiver<Waiting>) {
        let permits = Arc::new(Semaphore::new(PROPOSALS_IN_FLIGHT));
        let mut batch = Vec::new();
        loop {
            // While no entry may start, more requests gather for the next.
            let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
                return;
            };
            if queue.recv_many(&mut batch, ENTRY_REQUESTS).await == 0 {
                return;
            }
            let requests = std::mem::take(&mut batch);
            let worker = Arc::clone(&self);
            tokio::spawn(async move {
                worker.carry(requests).await;
                drop(permit);
            });
        }
    }

    /// Brings one entry to the leader, as often as needed, and answers its requests.
    async fn carry(&self, mut waiting: Vec<Waiting>) {
        loop {
            let now = Instant::now();
            waiting.retain(|w| w.deadline > now && !w.reply.is_closed());
            let Some(deadline) = waiting.iter().map(|w| w.deadline).max() else {
                return;
            };
            let requests = waiting.iter().map(|w| w.request.clone()).collect();
            let attempt = now + ATTEMPT;
            match self.attempt(requests, attempt.min(deadline)).await {
                Attempt::Committed { index, replies } => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if self.group.wait_applied(index, left).await.is_err() {
                        debug!(index, "committed, but not applied here in time");
                    }
                    for (waiting, reply) in waiting.into_iter().zip(replies) {
                        let _ = waiting.reply.send(Ok(reply));
                    }
                    return;
                }
                Attempt::Stopped => {
                    for waiting in waiting {
                        let _ = waiting.reply.send(Err(WriteError::Stopping));
                    }
                    return;
                }
                Attempt::Again => {
                    let mut leadership = self.group.leadership();
                    leadership.borrow_and_update();
                    let _ = tokio::time::timeout(PAUSE, leadership.changed()).await;
                }
            }
        }
    }

    async fn attempt(&self, requests: Vec<CatalogRequest>, until: Instant) -> Attempt {
        let leader = self
            .group
            .leadership()
            .borrow()
            .leader
            .map(|leader| NodeId(leader.node()));
        match leader {
            None => Attempt::Again,
            Some(leader) if leader == self.me => {
                match tokio::time::timeout_at(until, self.sequencer.propose(requests)).await {
                    Ok(Ok(done)) => Attempt::Committed {
                        index: done.index,
                        replies: done.replies,
                    },
                    Ok(Err(ProposeError::Stopped)) => Attempt::Stopped,
                    Ok(Err(_)) | Err(_) => Attempt::Again,
                }
            }
            Some(leader) => {
                let entry = CatalogEntry { requests }.encode();
                let mut leadership = self.group.leadership();
                // One that is frozen or cut off does not say that it leads no longer.
                let replaced =
                    leadership.wait_for(|now| now.leader.is_some_and(|now| now.node() != leader.0));
                tokio::select! {
                    attempt = Box::pin(self.attempt_at(leader, entry, until)) => {
                        attempt.unwrap_or(Attempt::Again)
                    }
                    _ = replaced => Attempt::Again,
                }
            }
        }
    }

    async fn attempt_at(&self, leader: NodeId, entry: Bytes, until: Instant) -> Option<Attempt> {
        let channel = self.peers.channel(leader.0)?;
        let left = until.saturating_duration_since(Instant::now());
        let request = ProposeRequest {
            entry,
            timeout_ms: left.as_millis() as u32,
        };
        let call = async { PeerClient::new(channel).propose(request).await };
        let reply = tokio::time::timeout_at(until, call).await.ok()?;
        match reply {
            Ok(reply) => match reply.into_inner().result? {
                propose_reply::Result::Committed(done) => {
                    let replies: Result<Vec<_>, _> =
                        done.replies.into_iter().map(decode_replies).collect();
                    let replies = replies.ok()?.into_iter().flatten().collect();
                    Some(Attempt::Committed {
                        index: done.index,
                        replies,
                    })
                }
                propose_reply::Result::NotLeader(_) | propose_reply::Result::Unknown(_) => None,
            },
            Err(status) => {
                debug!(node = %leader, error = status.message(), "the catalog's leader did not answer");
                None
            }
        }
    }
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker")
            .field("version", &self.machine.version())
            .finish_non_exhaustive()
    }
}
