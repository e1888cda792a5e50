//! A link: everything that this node's sessions say to one placement, in order, through leader
//! changes.
//!
//! The link numbers batches, keeps those that are unanswered and sends them again to the next
//! leader (which skips what it has: nothing is lost, nothing is doubled). It knows every consumer
//! of the placement on this node and takes them along, with what they hold. What finds no majority
//! in time is given up: publishes are answered as such and taken out of the batch, so that they
//! are not sent again behind newer ones; settles and returns stay.
//!
//! Not here: who the leader is and how it is reached (`connector`), what queues do (`host`).

mod brake;
mod moving;
#[cfg(test)]
mod tests;

pub use moving::{Move, MovedConsumer};

use super::api::{Ask, Held, SessionEvent, SessionId, SubBatch};
use super::attachment::{Attachment, BatchOps};
use super::connector::{ConnectError, Connector};
use super::encode_ops;
use brake::Brake;
use broker_model::ids::{ConsumerId, Origin, Placement, QueueId, RequestId};
use broker_model::op::{BatchHead, BatchStatus, Op, SequenceRanges};
use broker_model::protocol::{ConsumerSpec, Delivery, FromHost, Resume, Subject, ToHost};
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tracing::{debug, error, warn};

/// Batches sent and not answered, at most.
const IN_FLIGHT_BATCHES: usize = 16;
/// The same for a host in this process.
const IN_FLIGHT_BATCHES_LOCAL: usize = 2;
/// Bytes sent and not answered, at most (one batch may exceed it).
const IN_FLIGHT_BYTES: usize = 16 << 20;
/// Operations merged into one batch, at most.
const BATCH_OPS: usize = 4096;
/// Bytes merged into one batch, at most (one sub-batch may exceed it).
const BATCH_BYTES: usize = 1 << 20;
/// Largest sub-batch that surely fits an entry of the log once it is encoded.
const SUB_BATCH_BYTES_MAX: usize = consensus::LARGEST_ENTRY / 16 * 15;
/// How long sessions may take to say what they hold after a leader change.
const RESUME_TIMEOUT: Duration = Duration::from_secs(5);

/// How often it is looked for what has waited too long.
const HOUSEKEEPING: Duration = Duration::from_millis(500);

/// What a link is told.
#[derive(Debug)]
pub enum LinkInput {
    /// A session begins to use this placement.
    Session {
        session: SessionId,
        events: mpsc::UnboundedSender<SessionEvent>,
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
}

#[derive(Debug)]
struct Consumer {
    session: SessionId,
    queue: QueueId,
    spec: ConsumerSpec,
    /// Granted and not yet used, as far as delivered messages have arrived here.
    credit: u32,
    /// `ConsumeOk` has been passed on.
    confirmed: bool,
    /// Its age, and since when it is the single active one, for the next leader.
    order: u64,
    active_since: u64,
    /// The client has cancelled; the host is yet to answer.
    cancelling: bool,
    /// Its credit is called back; the host is yet to answer.
    revoking: bool,
    /// Unconfirmed: when to give up.
    deadline: Instant,
}

impl Consumer {
    /// What the next leader is told of it.
    fn resume(&self, sequences: SequenceRanges) -> Resume {
        Resume {
            sequences,
            order: self.order,
            active_since: self.active_since,
        }
    }
}

#[derive(Debug)]
struct Request {
    session: SessionId,
    message: ToHost,
    deadline: Instant,
    /// Sent once so many sub-batches are answered: a client sees what it did before it asked.
    after: u64,
}

/// A sub-batch inside a batch.
#[derive(Debug)]
struct Part {
    session: SessionId,
    token: u64,
    first_op: u32,
    ops: u32,
    bytes: usize,
    created: Instant,
    given_up: bool,
    ordered: bool,
}

#[derive(Debug)]
struct SentBatch {
    head: BatchHead,
    ops: BatchOps,
    bytes: usize,
    parts: Vec<Part>,
}

#[derive(Debug)]
struct WaitingBatch {
    session: SessionId,
    batch: SubBatch,
    bytes: usize,
    created: Instant,
    given_up: bool,
    /// Later requests wait for its answer. Not if it only settles: that changes nothing that a request sees.
    ordered: bool,
}

impl WaitingBatch {
    /// Takes the publishes out; returns the token of whoever is to be told.
    fn give_up(&mut self) -> u64 {
        self.given_up = true;
        let ops = &mut self.batch.ops;
        ops.retain(|op| !matches!(op, Op::Publish { .. }));
        self.batch.token
    }
}

enum State {
    Detached,
    Connecting,
    /// Attached; sessions are being asked what they hold.
    Resuming(Attachment),
    Attached(Attachment),
}

/// One link; run by its own task.
pub struct Link {
    placement: Placement,
    origin: Origin,
    connector: Arc<dyn Connector>,
    publish_timeout: Duration,
    encode: bool,
    input: mpsc::UnboundedReceiver<LinkInput>,
    sessions: HashMap<SessionId, mpsc::UnboundedSender<SessionEvent>>,
    /// Sessions that may hold messages of this placement.
    holders: HashSet<SessionId>,
    consumers: BTreeMap<ConsumerId, Consumer>,
    requests: BTreeMap<RequestId, Request>,
    /// Requests that wait for operations submitted before them, in order.
    deferred: VecDeque<RequestId>,
    /// Sub-batches submitted, and answered, so far.
    submitted: u64,
    done: u64,
    waiting: VecDeque<WaitingBatch>,
    unanswered: VecDeque<SentBatch>,
    unanswered_bytes: usize,
    next_number: u64,
    /// Number of the batch sent before; 0: none that the host can know of.
    previous: u64,
    answered: u64,
    /// Consumers that have moved to another placement, until their sessions know.
    moved: HashMap<ConsumerId, moving::Forward>,
    brake: Brake,
    state: State,
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
        let encode = placement != Placement::Host(origin.node);
        Self {
            placement,
            origin,
            connector,
            publish_timeout,
            encode,
            input,
            sessions: HashMap::new(),
            holders: HashSet::new(),
            consumers: BTreeMap::new(),
            requests: BTreeMap::new(),
            deferred: VecDeque::new(),
            submitted: 0,
            done: 0,
            waiting: VecDeque::new(),
            unanswered: VecDeque::new(),
            unanswered_bytes: 0,
            next_number: 1,
            previous: 0,
            answered: 0,
            moved: HashMap::new(),
            brake: Brake::default(),
            state: State::Detached,
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
        let mut attach_round = 0u64;
        let mut inputs = Vec::with_capacity(256);
        let mut housekeeping = consensus::ticks::every(HOUSEKEEPING);
        loop {
            if matches!(self.state, State::Detached) && self.has_work() {
                self.state = State::Connecting;
                let connector = Arc::clone(&self.connector);
                let done = connected_tx.clone();
                tokio::spawn(async move {
                    let _ = done.send(connector.connect().await).await;
                });
            }
            tokio::select! {
                biased;
                message = receive(&mut self.state) => match message {
                    Some(messages) => {
                        for message in messages {
                            self.hear(message);
                        }
                        self.flush();
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
                            let _ = done.send((round, gather(asks).await)).await;
                        });
                    }
                    Err(error) => {
                        debug!(placement = ?self.placement, %error, "no leader to attach to");
                        self.state = State::Detached;
                    }
                },
                Some((round, held)) = resumed_rx.recv() => {
                    if round == attach_round {
                        self.resume(held);
                        self.flush();
                    }
                }
                () = self.connector.moved(), if matches!(self.state, State::Attached(_) | State::Resuming(_)) => {
                    self.detach("the leader has changed");
                }
                () = self.brake.released() => self.release(),
                _ = housekeeping.tick(), if self.waits() => self.give_up(Instant::now()),
            }
        }
    }

    /// Whether there is a reason to be attached. Shards always are one: a new leader waits for what
    /// every node has to say.
    fn has_work(&self) -> bool {
        matches!(self.placement, Placement::Shard(_)) || self.waits()
    }

    /// Whether somebody may wait for an answer.
    fn waits(&self) -> bool {
        !(self.waiting.is_empty()
            && self.unanswered.is_empty()
            && self.requests.is_empty()
            && self.consumers.is_empty())
    }

    fn detach(&mut self, why: &'static str) {
        debug!(placement = ?self.placement, why, unanswered = self.unanswered.len(), "link detached");
        self.state = State::Detached;
        // A cancellation under way is answered here: the new leader never hears of the consumer.
        let cancelling: Vec<ConsumerId> = self
            .consumers
            .iter()
            .filter(|(_, c)| c.cancelling)
            .map(|(id, _)| *id)
            .collect();
        for consumer in cancelling {
            self.forget_consumer(consumer, false);
        }
        // Credit that was called back is: the new leader is told of none.
        let revoking = self.consumers.iter_mut().filter(|(_, c)| c.revoking);
        let revoked: Vec<(ConsumerId, SessionId, u32)> = revoking
            .map(|(id, known)| {
                known.revoking = false;
                (*id, known.session, std::mem::take(&mut known.credit))
            })
            .collect();
        for (consumer, session, unused) in revoked {
            self.tell(session, SessionEvent::Revoked { consumer, unused });
        }
    }

    fn attached(&self) -> Option<&Attachment> {
        match &self.state {
            State::Attached(attachment) => Some(attachment),
            _ => None,
        }
    }

    fn tell(&self, session: SessionId, event: SessionEvent) {
        // A session that ended meanwhile needs no answer.
        let _ = self.offer(session, event);
    }

    /// Returns the event if the session hears nothing any more.
    fn offer(&self, session: SessionId, event: SessionEvent) -> Result<(), SessionEvent> {
        match self.sessions.get(&session) {
            Some(events) => events.send(event).map_err(|unheard| unheard.0),
            None => Err(event),
        }
    }

    /// Passes deliveries on; those of a session that has ended go back.
    fn hand_out(&mut self, session: SessionId, deliveries: Vec<Delivery>) {
        if let Err(SessionEvent::Deliver(deliveries)) =
            self.offer(session, SessionEvent::Deliver(deliveries))
        {
            for delivery in &deliveries {
                self.return_unclaimed(delivery);
            }
        }
    }

    // ---- from sessions ----

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
        }
    }

    fn submit(&mut self, session: SessionId, batch: SubBatch) {
        let bytes = batch.ops.iter().map(op_bytes).sum();
        let ordered = !batch.ops.iter().all(|op| matches!(op, Op::Settle { .. }));
        self.submitted += u64::from(ordered);
        self.brake.submitted(session, bytes);
        let mut waiting = WaitingBatch {
            session,
            batch,
            bytes,
            created: Instant::now(),
            given_up: false,
            ordered,
        };
        if self.encode && bytes > SUB_BATCH_BYTES_MAX {
            // No leader could take it, and everything behind it would wait.
            error!(placement = ?self.placement, bytes, "publishes that are too large for one entry of the log are given up");
            let token = waiting.give_up();
            self.tell(session, SessionEvent::given_up(token));
            waiting.bytes = waiting.batch.ops.iter().map(op_bytes).sum();
            self.brake.heard(session, bytes - waiting.bytes);
            if waiting.batch.ops.is_empty() {
                self.submitted -= u64::from(ordered);
                return;
            }
        }
        self.waiting.push_back(waiting);
    }

    fn asked(&mut self, session: SessionId, ask: Ask) {
        let Some(ask) = self.follow(session, ask) else {
            return;
        };
        let deadline = Instant::now() + self.publish_timeout;
        match ask {
            Ask::Consume {
                consumer,
                queue,
                spec,
                credit,
            } => {
                self.holders.insert(session);
                if let Some(attachment) = self.attached() {
                    attachment.sender.message(ToHost::Consume {
                        consumer,
                        queue,
                        spec: spec.clone(),
                        credit,
                        resume: None,
                    });
                }
                self.consumers.insert(
                    consumer,
                    Consumer {
                        session,
                        queue,
                        spec,
                        credit,
                        confirmed: false,
                        order: 0,
                        active_since: 0,
                        cancelling: false,
                        revoking: false,
                        deadline,
                    },
                );
            }
            Ask::Cancel { consumer, queue } => {
                if let Some(attachment) = self.attached() {
                    attachment
                        .sender
                        .message(ToHost::Cancel { consumer, queue });
                    if let Some(known) = self.consumers.get_mut(&consumer) {
                        known.cancelling = true;
                    }
                } else {
                    self.forget_consumer(consumer, false);
                }
            }
            Ask::Credit {
                consumer,
                queue,
                more,
            } => {
                if let Some(known) = self.consumers.get_mut(&consumer) {
                    known.credit = known.credit.saturating_add(more);
                    if let Some(attachment) = self.attached() {
                        attachment.sender.message(ToHost::Credit {
                            consumer,
                            queue,
                            more,
                        });
                    }
                }
            }
            Ask::Revoke { consumer, queue } => {
                if let Some(attachment) = self.attached() {
                    attachment
                        .sender
                        .message(ToHost::Revoke { consumer, queue });
                    if let Some(known) = self.consumers.get_mut(&consumer) {
                        known.revoking = true;
                    }
                } else if let Some(known) = self.consumers.get_mut(&consumer) {
                    let unused = std::mem::take(&mut known.credit);
                    let session = known.session;
                    self.tell(session, SessionEvent::Revoked { consumer, unused });
                }
            }
            Ask::Get {
                request,
                queue,
                no_ack,
            } => {
                self.holders.insert(session);
                self.request(
                    session,
                    request,
                    ToHost::Get {
                        request,
                        queue,
                        no_ack,
                    },
                    deadline,
                );
            }
            Ask::Count { request, queue } => {
                self.request(
                    session,
                    request,
                    ToHost::Count {
                        request,
                        queue,
                        used: true,
                    },
                    deadline,
                );
            }
            Ask::Purge { request, queue } => {
                self.request(session, request, ToHost::Purge { request, queue }, deadline);
            }
            Ask::CheckDelete {
                request,
                queue,
                if_unused,
                if_empty,
            } => {
                let message = ToHost::CheckDelete {
                    request,
                    queue,
                    if_unused,
                    if_empty,
                };
                self.request(session, request, message, deadline);
            }
            Ask::Browse {
                request,
                queue,
                count,
                bytes,
            } => {
                let message = ToHost::Browse {
                    request,
                    queue,
                    count,
                    bytes,
                };
                self.request(session, request, message, deadline);
            }
        }
    }

    fn request(
        &mut self,
        session: SessionId,
        request: RequestId,
        message: ToHost,
        deadline: Instant,
    ) {
        let after = self.submitted;
        if after > self.done {
            self.deferred.push_back(request);
        } else if let Some(attachment) = self.attached() {
            attachment.sender.message(message.clone());
        }
        self.requests.insert(
            request,
            Request {
                session,
                message,
                deadline,
                after,
            },
        );
    }

    /// Sends requests whose time has come.
    fn send_deferred(&mut self) {
        while let Some(next) = self.deferred.front() {
            let known = self.requests.get(next);
            if known.is_some_and(|request| request.after > self.done) {
                return;
            }
            if let (Some(request), Some(attachment)) = (known, self.attached()) {
                attachment.sender.message(request.message.clone());
            }
            self.deferred.pop_front();
        }
    }

    fn session_gone(&mut self, session: SessionId) {
        let gone: Vec<(ConsumerId, QueueId)> = self
            .consumers
            .iter()
            .filter(|(_, consumer)| consumer.session == session)
            .map(|(id, consumer)| (*id, consumer.queue))
            .collect();
        for (consumer, queue) in gone {
            self.consumers.remove(&consumer);
            if let Some(attachment) = self.attached() {
                attachment
                    .sender
                    .message(ToHost::Cancel { consumer, queue });
            }
        }
        self.brake.gone(session);
        self.moved_session_gone(session);
        self.requests
            .retain(|_, request| request.session != session);
        self.holders.remove(&session);
        self.sessions.remove(&session);
    }

    // ---- sending ----

    /// Sends what waits, as long as the window is open.
    fn flush(&mut self) {
        if !matches!(self.state, State::Attached(_)) {
            return;
        }
        while !self.waiting.is_empty()
            && self.unanswered.len() < self.window()
            && self.unanswered_bytes < IN_FLIGHT_BYTES
        {
            let mut batch = self.merge();
            if let State::Attached(attachment) = &self.state {
                let ops = if self.encode {
                    batch.ops.clone()
                } else {
                    // The host is in this process: what is in its inbox is as good as done.
                    std::mem::replace(&mut batch.ops, BatchOps::Plain(Vec::new()))
                };
                attachment.sender.batch(batch.head, ops);
            }
            self.unanswered_bytes += batch.bytes;
            self.unanswered.push_back(batch);
        }
    }

    /// Batches that may be under way. A host in this process answers at once: with a few of them it turns to
    /// its consumers as often as to its publishers.
    fn window(&self) -> usize {
        if self.encode {
            IN_FLIGHT_BATCHES
        } else {
            IN_FLIGHT_BATCHES_LOCAL
        }
    }

    /// Merges waiting sub-batches into the next batch.
    fn merge(&mut self) -> SentBatch {
        let mut parts = Vec::new();
        let mut ops: Vec<Op> = Vec::new();
        let mut bytes = 0;
        while let Some(next) = self.waiting.front() {
            let full =
                ops.len() + next.batch.ops.len() > BATCH_OPS || bytes + next.bytes > BATCH_BYTES;
            if full && !ops.is_empty() {
                break;
            }
            let Some(next) = self.waiting.pop_front() else {
                break;
            };
            bytes += next.bytes;
            parts.push(Part {
                session: next.session,
                token: next.batch.token,
                first_op: ops.len() as u32,
                ops: next.batch.ops.len() as u32,
                bytes: next.bytes,
                created: next.created,
                given_up: next.given_up,
                ordered: next.ordered,
            });
            if ops.is_empty() {
                ops = next.batch.ops;
            } else {
                ops.extend(next.batch.ops);
            }
        }
        let number = self.next_number;
        self.next_number += 1;
        let head = BatchHead {
            origin: self.origin,
            previous: std::mem::replace(&mut self.previous, number),
            number,
            answered: self.answered,
        };
        let ops = if self.encode {
            BatchOps::Encoded(encode_ops(&ops))
        } else {
            BatchOps::Plain(ops)
        };
        SentBatch {
            head,
            ops,
            bytes,
            parts,
        }
    }

    // ---- a new leader ----

    fn ask_what_is_held(&self) -> Vec<Asked> {
        let mut asks = Vec::with_capacity(self.holders.len());
        for session in &self.holders {
            let (reply, answer) = oneshot::channel();
            self.tell(
                *session,
                SessionEvent::Resume {
                    placement: self.placement,
                    reply,
                },
            );
            asks.push((*session, answer));
        }
        asks
    }

    fn resume(&mut self, held: Vec<(SessionId, Held)>) {
        let State::Resuming(attachment) = std::mem::replace(&mut self.state, State::Detached)
        else {
            return;
        };
        let sender = &attachment.sender;
        // What is settled or returned, and not sent yet, is held until then. What was sent may have been
        // applied already, and comes before `Resumed` if not: a message that is back in its queue would be
        // held for ever by a claim that comes after its return.
        for op in self.waiting.iter().flat_map(|waiting| &waiting.batch.ops) {
            if let Op::Settle { queue, sequences }
            | Op::Kill {
                queue, sequences, ..
            }
            | Op::Return {
                queue, sequences, ..
            } = op
            {
                sender.message(ToHost::Hold {
                    queue: *queue,
                    sequences: sequences.clone(),
                });
            }
        }
        let mut by_consumer: HashMap<ConsumerId, SequenceRanges> = HashMap::new();
        for (_, held) in held {
            let Held {
                consumer,
                queue,
                sequences,
            } = held;
            let known = self
                .consumers
                .get(&consumer)
                .is_some_and(|c| c.confirmed && c.queue == queue);
            if known {
                by_consumer.entry(consumer).or_default().extend(sequences);
            } else {
                sender.message(ToHost::Hold { queue, sequences });
            }
        }
        for (id, consumer) in &self.consumers {
            let mut ranges = by_consumer.remove(id).unwrap_or_default();
            ranges.sort_unstable();
            sender.message(ToHost::Consume {
                consumer: *id,
                queue: consumer.queue,
                spec: consumer.spec.clone(),
                credit: consumer.credit,
                resume: consumer.confirmed.then(|| consumer.resume(ranges)),
            });
        }
        // What was not answered goes first: a settle among it must count before the new leader
        // takes what nobody claims for ready.
        for batch in self.unanswered.iter().filter(|_| self.encode) {
            sender.batch(batch.head, batch.ops.clone());
        }
        sender.message(ToHost::Resumed);
        for request in self
            .requests
            .values()
            .filter(|request| request.after <= self.done)
        {
            sender.message(request.message.clone());
        }
        debug!(
            placement = ?self.placement,
            consumers = self.consumers.len(),
            resent = self.unanswered.len(),
            "link attached"
        );
        self.state = State::Attached(attachment);
        if !self.encode {
            self.give_up_unanswered();
        }
    }

    /// The host in this process has these batches, but its answers went to an earlier attachment.
    fn give_up_unanswered(&mut self) {
        self.unanswered_bytes = 0;
        for batch in std::mem::take(&mut self.unanswered) {
            self.answered = batch.head.number;
            self.done += ordered(&batch.parts);
            for part in &batch.parts {
                self.brake.heard(part.session, part.bytes);
                if !part.given_up {
                    self.tell(part.session, SessionEvent::given_up(part.token));
                }
            }
        }
        self.send_deferred();
    }

    // ---- from the host ----

    fn hear(&mut self, message: FromHost) {
        match message {
            FromHost::Outcome(outcome) => {
                if outcome.origin != self.origin {
                    return;
                }
                match outcome.status {
                    BatchStatus::Applied | BatchStatus::Duplicate => {
                        self.batch_done(outcome.number, &outcome.refused_ops);
                    }
                    BatchStatus::Gap => {
                        // Cannot happen on an ordered stream that starts with what is unanswered.
                        error!(placement = ?self.placement, number = outcome.number, "a batch was sent before its predecessor was applied");
                        self.detach("a gap in the batches");
                    }
                    BatchStatus::Stale => {
                        error!(placement = ?self.placement, "a later start of this node is known: is another process running with this node's id?");
                        self.detach("a later start of this node is known");
                    }
                }
            }
            FromHost::ConsumeOk { consumer, order } => {
                if let Some(known) = self.consumers.get_mut(&consumer) {
                    known.order = order;
                    if !std::mem::replace(&mut known.confirmed, true) {
                        let session = known.session;
                        self.tell(session, SessionEvent::ConsumeOk { consumer });
                    }
                }
            }
            FromHost::Active { consumer, since } => {
                if let Some(known) = self.consumers.get_mut(&consumer) {
                    known.active_since = since;
                }
            }
            FromHost::Refused { subject, why } => match subject {
                Subject::Consumer(consumer) => {
                    if let Some(known) = self.consumers.remove(&consumer) {
                        // A confirmed consumer that a new leader refuses has lost its queue.
                        let event = if known.confirmed {
                            SessionEvent::Cancelled {
                                consumer,
                                by_host: true,
                            }
                        } else {
                            SessionEvent::Refused { subject, why }
                        };
                        self.tell(known.session, event);
                    }
                }
                Subject::Request(request) => {
                    if let Some(known) = self.requests.remove(&request) {
                        self.tell(known.session, SessionEvent::Refused { subject, why });
                    }
                }
            },
            FromHost::Cancelled { consumer, by_host } => self.forget_consumer(consumer, by_host),
            FromHost::Deliver(deliveries) => self.deliver(deliveries),
            FromHost::Revoked { consumer, unused } => {
                if let Some(known) = self.consumers.get_mut(&consumer) {
                    known.credit = known.credit.saturating_sub(unused);
                    known.revoking = false;
                    let session = known.session;
                    self.tell(session, SessionEvent::Revoked { consumer, unused });
                }
            }
            FromHost::Starved { consumer } => {
                if let Some(known) = self.consumers.get(&consumer) {
                    self.tell(known.session, SessionEvent::Starved { consumer });
                }
            }
            FromHost::Got { request, delivery } => {
                let got = SessionEvent::Got { request, delivery };
                let unheard = match self.requests.remove(&request) {
                    Some(known) => self.offer(known.session, got).err(),
                    None => Some(got),
                };
                // The session left while the message was on its way: it goes back.
                if let Some(SessionEvent::Got {
                    delivery: Some((delivery, _)),
                    ..
                }) = unheard
                {
                    self.return_unclaimed(&delivery);
                }
            }
            FromHost::Counts {
                request,
                ready,
                unacked,
                consumers,
                ..
            } => {
                if let Some(known) = self.requests.remove(&request) {
                    self.tell(
                        known.session,
                        SessionEvent::Counts {
                            request,
                            ready,
                            unacked,
                            consumers,
                        },
                    );
                }
            }
            FromHost::Browsed { request, messages } => {
                if let Some(known) = self.requests.remove(&request) {
                    self.tell(known.session, SessionEvent::Browsed { request, messages });
                }
            }
            FromHost::NotLeader { leader } => {
                self.connector.not_leader(leader);
                self.detach("it is not the leader");
            }
        }
    }

    /// One batch is answered. Batches are answered in their order; after an attachment, all that had no
    /// answer are sent again, and the answer to a later one, meant for the attachment before, may come
    /// first: it says nothing about what an earlier one was refused.
    fn batch_done(&mut self, number: u64, refused_ops: &[u32]) {
        let Some(done) = self
            .unanswered
            .pop_front_if(|front| front.head.number == number)
        else {
            return;
        };
        self.unanswered_bytes -= done.bytes;
        self.answered = number;
        self.done += ordered(&done.parts);
        let now = Instant::now();
        for part in &done.parts {
            if part.given_up {
                self.brake.heard(part.session, part.bytes);
                continue;
            }
            let range = part.first_op..part.first_op + part.ops;
            let refused = refused_ops.iter().filter(|op| range.contains(op));
            let event = SessionEvent::Outcome {
                token: part.token,
                refused_ops: refused.map(|op| op - part.first_op).collect(),
                given_up: false,
            };
            let heard = self.brake.answered(now, part.session, part.bytes, event);
            if let Some(event) = heard {
                self.tell(part.session, event);
            }
        }
        self.send_deferred();
    }

    /// Passes on what was held back for long enough.
    fn release(&mut self) {
        let now = Instant::now();
        while let Some((session, event)) = self.brake.release(now) {
            self.tell(session, event);
        }
    }

    fn deliver(&mut self, deliveries: Vec<Delivery>) {
        let one_session = {
            let mut sessions = deliveries
                .chunk_by(|a, b| a.consumer == b.consumer)
                .filter_map(|run| run.first())
                .map(|first| self.consumers.get(&first.consumer).map(|c| c.session));
            match sessions.next() {
                Some(Some(first)) if sessions.all(|session| session == Some(first)) => Some(first),
                _ => None,
            }
        };
        for run in deliveries.chunk_by(|a, b| a.consumer == b.consumer) {
            if let Some(first) = run.first()
                && let Some(known) = self.consumers.get_mut(&first.consumer)
            {
                known.credit = known.credit.saturating_sub(run.len() as u32);
            }
        }
        if let Some(session) = one_session {
            self.hand_out(session, deliveries);
            return;
        }
        let mut by_session: Vec<(SessionId, Vec<Delivery>)> = Vec::new();
        for delivery in deliveries {
            match self.consumers.get(&delivery.consumer) {
                Some(known) => match by_session
                    .iter_mut()
                    .find(|(session, _)| *session == known.session)
                {
                    Some((_, list)) => list.push(delivery),
                    None => by_session.push((known.session, vec![delivery])),
                },
                None => self.return_unclaimed(&delivery),
            }
        }
        for (session, list) in by_session {
            self.hand_out(session, list);
        }
    }

    /// A message for a consumer or request that is gone goes back uncounted.
    fn return_unclaimed(&mut self, delivery: &Delivery) {
        let sequences = SequenceRanges::from_slice(&[(delivery.sequence, delivery.sequence)]);
        let op = Op::Return {
            queue: delivery.queue,
            sequences,
            counted: false,
        };
        self.submitted += 1;
        self.waiting.push_back(WaitingBatch {
            session: SessionId(0),
            bytes: op_bytes(&op),
            batch: SubBatch {
                token: 0,
                ops: vec![op],
            },
            created: Instant::now(),
            given_up: false,
            ordered: true,
        });
    }

    fn forget_consumer(&mut self, consumer: ConsumerId, by_host: bool) {
        if let Some(known) = self.consumers.remove(&consumer) {
            self.tell(known.session, SessionEvent::Cancelled { consumer, by_host });
        }
    }

    // ---- bounds ----

    /// Answers what has waited too long.
    fn give_up(&mut self, now: Instant) {
        let late = |created: Instant| now.duration_since(created) >= self.publish_timeout;
        let mut given_up = Vec::new();
        for waiting in &mut self.waiting {
            if !late(waiting.created) {
                break;
            }
            if !waiting.given_up {
                let token = waiting.give_up();
                given_up.push((waiting.session, token));
            }
        }
        let kept_ops = self.encode;
        let before = self.waiting.len();
        let brake = &mut self.brake;
        self.waiting.retain(|waiting| {
            let stays = !waiting.batch.ops.is_empty();
            if !stays {
                brake.heard(waiting.session, waiting.bytes);
            }
            stays
        });
        self.done += (before - self.waiting.len()) as u64;
        for batch in &mut self.unanswered {
            if !batch.parts.first().is_some_and(|part| late(part.created)) {
                break;
            }
            let mut gone = Vec::new();
            for part in batch
                .parts
                .iter_mut()
                .filter(|part| late(part.created) && !part.given_up)
            {
                part.given_up = true;
                gone.push(part.first_op..part.first_op + part.ops);
                given_up.push((part.session, part.token));
            }
            // A host in this process has the operations, and its answer is about all of them.
            if !gone.is_empty() && kept_ops {
                strip_publishes(batch, &gone);
            }
        }
        self.send_deferred();
        if !given_up.is_empty() {
            warn!(placement = ?self.placement, sub_batches = given_up.len(), "no majority within the publish timeout; publishes given up");
        }
        for (session, token) in given_up {
            self.tell(session, SessionEvent::given_up(token));
        }
        let failed: Vec<RequestId> = self
            .requests
            .iter()
            .filter(|(_, r)| r.deadline <= now)
            .map(|(id, _)| *id)
            .collect();
        for request in failed {
            if let Some(known) = self.requests.remove(&request) {
                let subject = Subject::Request(request);
                self.tell(known.session, SessionEvent::RequestFailed { subject });
            }
        }
        let failed: Vec<(ConsumerId, QueueId)> = self
            .consumers
            .iter()
            .filter(|(_, c)| !c.confirmed && c.deadline <= now)
            .map(|(id, c)| (*id, c.queue))
            .collect();
        for (consumer, queue) in failed {
            if let Some(attachment) = self.attached() {
                attachment
                    .sender
                    .message(ToHost::Cancel { consumer, queue });
            }
            if let Some(known) = self.consumers.remove(&consumer) {
                let subject = Subject::Consumer(consumer);
                self.tell(known.session, SessionEvent::RequestFailed { subject });
            }
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

/// A session that was asked what it holds.
type Asked = (SessionId, oneshot::Receiver<Vec<Held>>);

async fn gather(asks: Vec<Asked>) -> Vec<(SessionId, Held)> {
    let mut held = Vec::new();
    let deadline = Instant::now() + RESUME_TIMEOUT;
    for (session, ask) in asks {
        // A session that ended holds nothing.
        if let Ok(Ok(answer)) = tokio::time::timeout_at(deadline, ask).await {
            held.extend(answer.into_iter().map(|held| (session, held)));
        }
    }
    held
}

/// How many of the sub-batches later requests wait for.
fn ordered(parts: &[Part]) -> u64 {
    parts.iter().filter(|part| part.ordered).count() as u64
}

/// Bytes that an operation accounts for.
fn op_bytes(op: &Op) -> usize {
    match op {
        Op::Publish { targets, message } => message.weight() + targets.len() * 16,
        _ => 32,
    }
}

/// Takes the publishes of `ranges` out of a batch that may be sent again. Operations that do nothing keep
/// their places: an answer to the batch as it was may be on its way, and counts as it was.
fn strip_publishes(batch: &mut SentBatch, ranges: &[std::ops::Range<u32>]) {
    let ops: Vec<Op> = match &batch.ops {
        BatchOps::Plain(ops) => ops.clone(),
        BatchOps::Encoded(bytes) => broker_model::wire::OpsReader::new(bytes.clone())
            .filter_map(Result::ok)
            .collect(),
    };
    let left = ops.into_iter().zip(0u32..).map(|(op, index)| {
        let strip = matches!(op, Op::Publish { .. }) && ranges.iter().any(|r| r.contains(&index));
        if strip { Op::nothing() } else { op }
    });
    let left: Vec<Op> = left.collect();
    batch.ops = match &batch.ops {
        BatchOps::Plain(_) => BatchOps::Plain(left),
        BatchOps::Encoded(_) => BatchOps::Encoded(encode_ops(&left)),
    };
}
