//! Local queues whose host has lost its memory: it started anew, or was given up for dead. The
//! catalog has given them, empty, to a host, maybe the same one; their consumers follow.

use super::consumers::Consumer;
use super::{Link, LinkInput, State};
use crate::hub::api::{Ask, SessionEvent, SessionId};
use crate::hub::mailbox::EventSender;
use broker_model::ids::{ConsumerId, Placement, QueueId};
use broker_model::op::SequenceRanges;
use broker_model::protocol::Subject;
use std::collections::HashMap;
use tokio::sync::mpsc;

/// Where a queue lives from now on.
#[derive(Debug, Clone)]
pub struct Move {
    /// Former id.
    pub old: QueueId,
    /// New id.
    pub new: QueueId,
    /// New place.
    pub to: Placement,
    /// The link to it.
    pub link: mpsc::UnboundedSender<LinkInput>,
}

/// A consumer on its way from one link to another.
#[derive(Debug)]
pub struct MovedConsumer {
    consumer: ConsumerId,
    old: QueueId,
    state: Consumer,
    events: EventSender,
}

/// Where a consumer has gone: what its session still says here is passed on.
#[derive(Debug)]
pub(super) struct Forward {
    session: SessionId,
    queue: QueueId,
    link: mpsc::UnboundedSender<LinkInput>,
}

impl Link {
    /// Nothing that the host had is left. Its consumers move with their queues; what waits for it is
    /// given up.
    pub(super) fn memory_lost(&mut self, moves: &[Move]) {
        // An attempt to connect goes on: it finds the host as it is by then, or nobody.
        if matches!(self.state, State::Attached(_) | State::Resuming(_)) {
            self.detach("the host has lost its memory");
        }
        self.move_consumers(moves);
        self.give_up_all();
    }

    fn move_consumers(&mut self, moves: &[Move]) {
        let moves: HashMap<QueueId, &Move> = moves.iter().map(|m| (m.old, m)).collect();
        let mut leaving: Vec<(&Move, Vec<MovedConsumer>)> = Vec::new();
        for (id, mut consumer) in self.consumers.take() {
            let events = self.sessions.get(&consumer.session).cloned();
            match (moves.get(&consumer.queue), events) {
                (Some(to), Some(events)) => {
                    let old = std::mem::replace(&mut consumer.queue, to.new);
                    let moved = MovedConsumer {
                        consumer: id,
                        old,
                        state: consumer,
                        events,
                    };
                    if to.to == self.placement {
                        self.adopt(moved);
                        continue;
                    }
                    let forward = Forward {
                        session: moved.state.session,
                        queue: to.new,
                        link: to.link.clone(),
                    };
                    self.moved.insert(id, forward);
                    match leaving.iter_mut().find(|(m, _)| m.to == to.to) {
                        Some((_, list)) => list.push(moved),
                        None => leaving.push((to, vec![moved])),
                    }
                }
                (None, _) if !consumer.confirmed => {
                    let subject = Subject::Consumer(id);
                    self.tell(consumer.session, SessionEvent::RequestFailed { subject });
                }
                _ => self.tell(
                    consumer.session,
                    SessionEvent::Cancelled {
                        consumer: id,
                        by_host: true,
                    },
                ),
            }
        }
        for (to, consumers) in leaving {
            // A link ends only with its hub.
            let _ = to.link.send(LinkInput::Adopt { consumers });
        }
    }

    /// Takes a consumer in.
    pub(super) fn adopt(&mut self, moved: MovedConsumer) {
        let MovedConsumer {
            consumer,
            old,
            state,
            events,
        } = moved;
        let told = events.send(SessionEvent::Moved {
            old,
            new: state.queue,
            placement: self.placement,
        });
        if told.is_err() {
            return;
        }
        self.sessions.insert(state.session, events);
        self.holders.insert(state.session);
        if let Some(attachment) = self.state.attached() {
            let message = state.consume(consumer, SequenceRanges::new());
            attachment.sender.message(message);
        }
        self.moved.remove(&consumer);
        self.consumers.insert(consumer, state);
    }

    /// What is asked for a consumer that has moved goes after it, under its queue's new id. Returns
    /// what is to be done here.
    pub(super) fn follow(&mut self, session: SessionId, ask: Ask) -> Option<Ask> {
        let (Ask::Cancel { consumer, .. }
        | Ask::Credit { consumer, .. }
        | Ask::Revoke { consumer, .. }) = ask
        else {
            return Some(ask);
        };
        let here = self.consumers.get(consumer).map(|known| known.queue);
        let forward = self.moved.get(&consumer);
        let Some(queue) = here.or(forward.map(|forward| forward.queue)) else {
            return Some(ask);
        };
        let ask = match ask {
            Ask::Cancel { .. } => Ask::Cancel { consumer, queue },
            Ask::Credit { more, bytes, .. } => Ask::Credit {
                consumer,
                queue,
                more,
                bytes,
            },
            Ask::Revoke { .. } => Ask::Revoke { consumer, queue },
            other => other,
        };
        match forward {
            Some(forward) if here.is_none() => {
                let _ = forward.link.send(LinkInput::Ask { session, ask });
                None
            }
            _ => Some(ask),
        }
    }

    /// A session may end before it hears that its consumers have moved.
    pub(super) fn moved_session_gone(&mut self, session: SessionId) {
        self.moved.retain(|_, forward| {
            if forward.session == session {
                let _ = forward.link.send(LinkInput::SessionGone { session });
                return false;
            }
            true
        });
    }

    /// Gives up everything that waits for an answer.
    fn give_up_all(&mut self) {
        for (session, token) in self.send_queue.give_up_all() {
            self.tell(session, SessionEvent::given_up(token));
        }
        for (request, session) in self.requests.give_up_all() {
            let subject = Subject::Request(request);
            self.tell(session, SessionEvent::RequestFailed { subject });
        }
    }
}
