//! The hub: links from this node's sessions to the leaders of shards and hosts of local queues.
//!
//! One link per placement, made when it is first used. Sessions hold the sending ends of the links
//! they use; nothing here is locked per message.

pub mod api;
pub mod attachment;
pub mod connector;
pub mod link;
pub mod mailbox;

use crate::vital::Vital;
use api::{Ask, SessionEvent, SessionId, SubBatch};
use broker_model::ids::{ConsumerId, NodeId, Origin, Placement, QueueId, RequestId};
use broker_model::op::Op;
use broker_model::wire::OpsWriter;
use bytes::Bytes;
use connector::{Connector, HostStarts};
use link::{Link, LinkInput, Move};
use mailbox::{EventSender, SessionEvents, mailbox};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

/// Makes the connector of a placement.
pub type ConnectorFactory = Box<dyn Fn(Placement) -> Arc<dyn Connector> + Send + Sync>;

/// Queues that have moved: former id, new id and new place.
type Moves = Vec<(QueueId, QueueId, Placement)>;

/// All links of this node.
pub struct Hub {
    vital: Vital,
    origin: Origin,
    publish_timeout: Duration,
    connectors: ConnectorFactory,
    links: Mutex<HashMap<Placement, mpsc::UnboundedSender<LinkInput>>>,
    /// Of hosts of which the end is yet to be told.
    moves: Mutex<HashMap<NodeId, Moves>>,
    starts: Arc<HostStarts>,
    /// Whether queues of this node's own host fall behind their publishers.
    backlog: watch::Receiver<bool>,
    sessions: Mutex<HashMap<SessionId, EventSender>>,
    next_session: AtomicU64,
    next_consumer: AtomicU64,
    next_request: AtomicU64,
}

impl Hub {
    /// A hub for one start of a node. Publishes that find no majority within `publish_timeout` are
    /// given up. `starts` is what the connectors go by; `backlog` tells whether queues in this node's memory fall
    /// behind their publishers.
    pub fn new(
        origin: Origin,
        publish_timeout: Duration,
        connectors: ConnectorFactory,
        starts: Arc<HostStarts>,
        backlog: watch::Receiver<bool>,
        vital: Vital,
    ) -> Arc<Self> {
        Arc::new(Self {
            vital,
            origin,
            publish_timeout,
            connectors,
            links: Mutex::new(HashMap::new()),
            moves: Mutex::new(HashMap::new()),
            starts,
            backlog,
            sessions: Mutex::new(HashMap::new()),
            next_session: AtomicU64::new(1),
            next_consumer: AtomicU64::new(1),
            next_request: AtomicU64::new(1),
        })
    }

    /// This node and its start.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// A new session.
    pub fn attach(self: &Arc<Self>) -> (SessionHandle, SessionEvents) {
        let id = SessionId(self.next_session.fetch_add(1, Ordering::Relaxed));
        let (events, receiver) = mailbox();
        self.sessions.lock().insert(id, events.clone());
        (
            SessionHandle {
                id,
                hub: Arc::clone(self),
                events,
                links: Vec::new(),
            },
            receiver,
        )
    }

    /// A number for a new consumer; never given twice in one start of a node.
    pub fn next_consumer(&self) -> ConsumerId {
        ConsumerId(self.next_consumer.fetch_add(1, Ordering::Relaxed))
    }

    /// A number for a new request.
    pub fn next_request(&self) -> RequestId {
        RequestId(self.next_request.fetch_add(1, Ordering::Relaxed))
    }

    /// Asks a session to close its connection with `CONNECTION_FORCED`; false if it is not here.
    pub fn close_session(&self, session: SessionId, reason: &str) -> bool {
        self.sessions.lock().get(&session).is_some_and(|events| {
            events
                .send(SessionEvent::Close {
                    reason: reason.to_owned(),
                })
                .is_ok()
        })
    }

    /// Tells all sessions the same, as a link would.
    #[cfg(test)]
    pub(crate) fn tell_sessions(&self, event: impl Fn() -> SessionEvent) {
        for events in self.sessions.lock().values() {
            let _ = events.send(event());
        }
    }

    /// Asks all sessions to close their connections.
    pub fn close_all_sessions(&self, reason: &str) {
        for events in self.sessions.lock().values() {
            let _ = events.send(SessionEvent::Close {
                reason: reason.to_owned(),
            });
        }
    }

    /// Waits until all operations of sessions, also of such that have ended, are answered: the acknowledgements of
    /// a session that is gone are nobody's concern but the queues'.
    pub async fn all_answered(&self) {
        let links: Vec<_> = self.links.lock().values().cloned().collect();
        for link in links {
            let (reply, answered) = oneshot::channel();
            if link.send(LinkInput::WhenAnswered { reply }).is_ok() {
                let _ = answered.await;
            }
        }
    }

    /// How many sessions there are.
    pub fn session_count(&self) -> usize {
        self.sessions.lock().len()
    }

    /// Makes the links of these placements now, so that their leaders know this node.
    pub fn open_links(&self, placements: impl IntoIterator<Item = Placement>) {
        for placement in placements {
            let _ = self.link(placement);
        }
    }

    /// A local queue has a new id, and maybe another host. Its consumers follow when
    /// [`memory_lost`](Self::memory_lost) is told of the host that it had.
    pub fn queue_moved(&self, old: QueueId, from: NodeId, new: QueueId, to: Placement) {
        self.moves
            .lock()
            .entry(from)
            .or_default()
            .push((old, new, to));
    }

    /// A host of local queues has lost what it had: it started anew (`start`), or was given up.
    /// Consumers move with their queues; what else waits for it is given up at once.
    pub fn memory_lost(&self, node: NodeId, start: u64) {
        let moves = self.moves.lock().remove(&node).unwrap_or_default();
        let placement = Placement::Host(node);
        let link = self.links.lock().get(&placement).cloned();
        if let Some(link) = link {
            let moves = moves.into_iter().map(|(old, new, to)| Move {
                old,
                new,
                to,
                link: if to == placement {
                    link.clone()
                } else {
                    self.link(to)
                },
            });
            let moves = moves.collect();
            let _ = link.send(LinkInput::MemoryLost { moves });
        }
        // Only now may links attach to the new start: they have heard what became of the old one.
        self.starts.set(node, start);
    }

    /// The starts of hosts of local queues that links may attach to.
    #[must_use]
    pub fn starts(&self) -> &Arc<HostStarts> {
        &self.starts
    }

    fn link(&self, placement: Placement) -> mpsc::UnboundedSender<LinkInput> {
        let mut links = self.links.lock();
        if let Some(link) = links.get(&placement).filter(|link| !link.is_closed()) {
            return link.clone();
        }
        let (sender, input) = mpsc::unbounded_channel();
        let link = Link::new(
            placement,
            self.origin,
            (self.connectors)(placement),
            self.publish_timeout,
            input,
        );
        let link = if placement == Placement::Host(self.origin.node) {
            link.braked_by(self.backlog.clone())
        } else {
            link
        };
        self.vital.spawn("a link to queues", link.run());
        links.insert(placement, sender.clone());
        sender
    }
}

/// One session's way into the hub. Dropping it ends the session at every link it used.
pub struct SessionHandle {
    id: SessionId,
    hub: Arc<Hub>,
    events: EventSender,
    links: Vec<(Placement, mpsc::UnboundedSender<LinkInput>)>,
}

impl SessionHandle {
    /// This session.
    #[must_use]
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// The hub.
    #[must_use]
    pub fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// Hands over operations; order is kept per placement.
    pub fn submit(&mut self, placement: Placement, batch: SubBatch) {
        debug_assert!(!batch.ops.is_empty());
        let session = self.id;
        self.send(placement, LinkInput::Submit { session, batch });
    }

    /// Asks something; in order with operations submitted before only after those are answered.
    pub fn ask(&mut self, placement: Placement, ask: Ask) {
        let session = self.id;
        self.send(placement, LinkInput::Ask { session, ask });
    }

    fn send(&mut self, placement: Placement, mut input: LinkInput) {
        if let Some(at) = self.links.iter().position(|(known, _)| *known == placement) {
            let Some((_, link)) = self.links.get(at) else {
                return;
            };
            match link.send(input) {
                Ok(()) => return,
                // The link's task has ended: a new one takes its place.
                Err(mpsc::error::SendError(returned)) => input = returned,
            }
            self.links.swap_remove(at);
        }
        let link = self.hub.link(placement);
        let _ = link.send(LinkInput::Session {
            session: self.id,
            events: self.events.clone(),
        });
        let _ = link.send(input);
        self.links.push((placement, link));
    }
}

impl Drop for SessionHandle {
    fn drop(&mut self) {
        self.hub.sessions.lock().remove(&self.id);
        for (_, link) in &self.links {
            let _ = link.send(LinkInput::SessionGone { session: self.id });
        }
    }
}

/// Encodes operations once, for the log and the wire.
#[must_use]
pub(crate) fn encode_ops(ops: &[Op]) -> Bytes {
    let room: usize = ops.iter().map(Op::size_hint).sum();
    let mut writer = OpsWriter::with_capacity(room);
    for op in ops {
        writer.push(op);
    }
    writer.finish()
}
