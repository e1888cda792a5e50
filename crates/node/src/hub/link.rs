//! A link: everything that this node's sessions say to one placement, in order, through leader
//! changes.
//!
//! The link keeps what is unanswered (`send_queue`, `requests`) and sends it again to the next leader
//! (which skips what it has: nothing is lost, nothing is doubled). It knows every consumer of the
//! placement on this node (`consumers`) and takes them along, with what they hold (`failover`). What
//! finds no majority in time is given up (`timeouts`).
//!
//! Not here: who the leader is and how it is reached (`connector`), what queues do (`host`).

mod answers;
mod asks;
mod brake;
mod claims;
mod consumers;
mod failover;
mod moving;
mod requests;
mod send_queue;
#[cfg(test)]
mod tests;
mod timeouts;

pub use moving::{Move, MovedConsumer};

use super::api::{Ask, Held, SessionEvent, SessionId, SubBatch};
use super::attachment::Attachment;
use super::connector::{ConnectError, Connector};
use super::mailbox::EventSender;
use brake::Brake;
use broker_model::ids::{ConsumerId, Origin, Placement};
use broker_model::protocol::FromHost;
use claims::Claims;
use consumers::Consumers;
use requests::Requests;
use send_queue::SendQueue;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tracing::debug;

/// How often it is looked for what has waited too long.
const HOUSEKEEPING: Duration = Duration::from_millis(400);

/// What a link is told.
#[derive(Debug)]
pub enum LinkInput {
    /// A session begins to use this placement.
    Session {
        session: SessionId,
        events: EventSender,
    },
    /// Operations.
    Submit { session: SessionId, batch: SubBatch },
    /// Anything else.
    Ask { session: SessionId, ask: Ask },
    /// The session is over; it has returned what it held.
    SessionGone { session: SessionId },
    /// Consumers that come from another placement.
    Adopt { consumers: Vec<MovedConsumer> },
    /// The memory of this host is lost (see `moving`).
    MemoryLost { moves: Vec<Move> },
    /// Somebody wants to know when nothing is unanswered.
    WhenAnswered { reply: oneshot::Sender<()> },
}

/// Where the link is on its way to a leader.
enum State {
    Detached,
    Connecting,
    /// Attached; sessions are being asked what they hold.
    Resuming(Attachment),
    Attached(Attachment),
}

impl State {
    /// The attachment, once the leader has been told what it has to know.
    fn attached(&self) -> Option<&Attachment> {
        match self {
            Self::Attached(attachment) => Some(attachment),
            Self::Detached | Self::Connecting | Self::Resuming(_) => None,
        }
    }
}

/// One link; run by its own task.
pub struct Link {
    placement: Placement,
    connector: Arc<dyn Connector>,
    publish_timeout: Duration,
    input: mpsc::UnboundedReceiver<LinkInput>,
    sessions: HashMap<SessionId, EventSender>,
    /// Sessions that may hold messages of this placement.
    holders: HashSet<SessionId>,
    consumers: Consumers,
    requests: Requests,
    send_queue: SendQueue,
    /// Consumers that have moved to another placement, until their sessions know.
    moved: HashMap<ConsumerId, moving::Forward>,
    brake: Brake,
    state: State,
    /// What has come while it is not sure that it is the leader's, until that is known.
    unsure: Option<Vec<FromHost>>,
    /// Before it attaches again, when what went wrong would only repeat itself.
    pause: Duration,
    /// What sessions said last that they hold.
    claims: Claims,
    /// Who waits until nothing is unanswered.
    when_answered: Vec<oneshot::Sender<()>>,
}

type ConnectResult = Result<Attachment, ConnectError>;

impl Link {
    /// A link of `origin` to `placement`.
    pub fn new(
        placement: Placement,
        origin: Origin,
        connector: Arc<dyn Connector>,
        publish_timeout: Duration,
        input: mpsc::UnboundedReceiver<LinkInput>,
    ) -> Self {
        Self {
            placement,
            send_queue: SendQueue::new(origin, placement != Placement::Host(origin.node)),
            connector,
            publish_timeout,
            input,
            sessions: HashMap::new(),
            holders: HashSet::new(),
            consumers: Consumers::default(),
            requests: Requests::default(),
            moved: HashMap::new(),
            brake: Brake::default(),
            state: State::Detached,
            unsure: None,
            pause: Duration::ZERO,
            claims: Claims::default(),
            when_answered: Vec::new(),
        }
    }

    /// Publishers are slowed down while there is a backlog.
    #[must_use]
    pub fn braked_by(mut self, backlog: watch::Receiver<bool>) -> Self {
        self.brake = Brake::on(backlog);
        self
    }

    /// Serves until the hub is gone.
    pub async fn run(mut self) {
        let (connected_tx, mut connected_rx) = mpsc::channel::<ConnectResult>(1);
        let (resumed_tx, mut resumed_rx) = mpsc::channel::<(u64, Vec<(SessionId, Held)>)>(1);
        let (sure_tx, mut sure_rx) = mpsc::channel::<(u64, bool)>(1);
        let mut attach_round = 0u64;
        let mut inputs = Vec::with_capacity(256);
        let mut housekeeping = consensus::ticks::every(HOUSEKEEPING);
        loop {
            if matches!(self.state, State::Detached) && self.has_work() {
                self.state = State::Connecting;
                let connector = Arc::clone(&self.connector);
                let done = connected_tx.clone();
                let pause = std::mem::take(&mut self.pause);
                tokio::spawn(async move {
                    if !pause.is_zero() {
                        tokio::time::sleep(pause).await;
                    }
                    let _ = done.send(connector.connect().await).await;
                });
            }
            tokio::select! {
                biased;
                message = receive(&mut self.state), if self.unsure.is_none() => match message {
                    Some(messages) if self.connector.is_sure() => self.hear_all(messages),
                    // It may be long out of date: others may have what is handed out here.
                    Some(messages) => {
                        self.unsure = Some(messages);
                        let connector = Arc::clone(&self.connector);
                        let (done, round) = (sure_tx.clone(), attach_round);
                        tokio::spawn(async move {
                            let _ = done.send((round, connector.make_sure().await)).await;
                        });
                    }
                    None => self.detach("the host closed the link"),
                },
                count = self.input.recv_many(&mut inputs, 256) => {
                    if count == 0 {
                        return;
                    }
                    for input in inputs.drain(..) {
                        self.told(input);
                    }
                    self.flush();
                }
                Some(result) = connected_rx.recv() => match result {
                    Ok(attachment) => {
                        attach_round += 1;
                        let asks = self.ask_what_is_held();
                        let (done, round) = (resumed_tx.clone(), attach_round);
                        self.state = State::Resuming(attachment);
                        tokio::spawn(async move {
                            let _ = done.send((round, failover::gather(asks).await)).await;
                        });
                    }
                    Err(error) => {
                        debug!(placement = ?self.placement, %error, "no leader to attach to");
                        self.state = State::Detached;
                    }
                },
                Some((round, held)) = resumed_rx.recv() => {
                    // What was asked for an attachment that is over says nothing of the next one.
                    if round == attach_round && matches!(self.state, State::Resuming(_)) {
                        self.resume(held);
                        self.flush();
                    }
                }
                Some((round, sure)) = sure_rx.recv() => {
                    // What is said of an attachment that is over says nothing of this one.
                    if round == attach_round && let Some(messages) = self.unsure.take() {
                        if sure {
                            self.hear_all(messages);
                        } else {
                            self.detach("what it says may be out of date");
                        }
                    }
                }
                () = self.connector.moved(), if matches!(self.state, State::Attached(_) | State::Resuming(_)) => {
                    self.detach("the leader has changed");
                }
                () = self.brake.released() => self.release(),
                _ = housekeeping.tick(), if self.waits() => self.give_up(Instant::now()),
            }
            if self.send_queue.is_empty() {
                for waiting in self.when_answered.drain(..) {
                    let _ = waiting.send(());
                }
            }
        }
    }

    fn hear_all(&mut self, messages: Vec<FromHost>) {
        for message in messages {
            self.hear(message);
        }
        self.flush();
    }

    /// Whether there is a reason to be attached. Shards always are one: a new leader waits for what
    /// every node has to say.
    fn has_work(&self) -> bool {
        matches!(self.placement, Placement::Shard(_)) || self.waits()
    }

    /// Whether somebody may wait for an answer.
    fn waits(&self) -> bool {
        !(self.send_queue.is_empty() && self.requests.is_empty() && self.consumers.is_empty())
    }

    fn told(&mut self, input: LinkInput) {
        match input {
            LinkInput::Session { session, events } => {
                self.sessions.insert(session, events);
            }
            LinkInput::Submit { session, batch } => self.submit(session, batch),
            LinkInput::Ask { session, ask } => self.asked(session, ask),
            LinkInput::SessionGone { session } => self.session_gone(session),
            LinkInput::Adopt { consumers } => {
                for consumer in consumers {
                    self.adopt(consumer);
                }
            }
            LinkInput::MemoryLost { moves } => self.memory_lost(&moves),
            LinkInput::WhenAnswered { reply } => self.when_answered.push(reply),
        }
    }

    /// Sends what waits, as long as the window is open.
    fn flush(&mut self) {
        let Some(attachment) = self.state.attached() else {
            return;
        };
        while let Some((head, ops)) = self.send_queue.next_batch() {
            attachment.sender.batch(head, ops);
        }
    }

    fn tell(&self, session: SessionId, event: SessionEvent) {
        // A session that ended meanwhile needs no answer.
        let _ = self.offer(session, event);
    }

    /// Returns the event if the session hears nothing any more.
    fn offer(&self, session: SessionId, event: SessionEvent) -> Result<(), SessionEvent> {
        match self.sessions.get(&session) {
            Some(events) => events.send(event),
            None => Err(event),
        }
    }
}

/// Next messages of the attachment; for ever pending without one.
async fn receive(state: &mut State) -> Option<Vec<FromHost>> {
    match state {
        State::Attached(attachment) => attachment.receiver.recv().await,
        State::Resuming(_) | State::Detached | State::Connecting => std::future::pending().await,
    }
}
