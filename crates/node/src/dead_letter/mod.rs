//! The dead letter publisher of a node: takes what died in queues that it leads to their dead
//! letter exchanges.
//!
//! At least once: a message is settled in its queue only after every queue it was routed to has
//! accepted it. A refusal (a target is full and rejects) or a missing majority is tried again, at those
//! targets only. Memory is bounded (see [`letters`]).
//!
//! Not here: deciding that a message dies (`broker_model::dispatch`).

mod header;
mod letters;

use crate::broker::Broker;
use crate::host::{HostInput, wall_clock_ms};
use crate::hub::SessionHandle;
use crate::hub::api::{SessionEvent, SessionEvents, SubBatch};
use crate::target::target_for;
use amqp_codec::PropertiesView;
use broker_model::catalog::record::QueueRecord;
use broker_model::dispatch::DeadLetter;
use broker_model::ids::{Placement, QueueId};
use broker_model::op::Op;
use broker_model::routing::{RouteInput, RouteProperties};
use header::{DeadMessage, Death, dead_letter};
use letters::{Answered, Letters, Taken};
use smallvec::smallvec;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::debug;

/// Dead letters taken in one turn, at most.
const TURN: usize = 256;
/// Bytes of letters in one sub-batch, at most (one letter may exceed it).
const SUB_BATCH_BYTES: usize = 1 << 20;

/// Takes dead letters of this node's hosts.
#[derive(Clone)]
pub struct DeadLetterSender(mpsc::UnboundedSender<(Placement, DeadLetter)>);

impl DeadLetterSender {
    /// Hands over a message that died at `placement`.
    pub fn send(&self, placement: Placement, letter: DeadLetter) {
        // The publisher ends only with the node.
        let _ = self.0.send((placement, letter));
    }
}

/// Starts the publisher.
#[must_use]
pub fn start(broker: Arc<Broker>) -> DeadLetterSender {
    let (sender, receiver) = mpsc::unbounded_channel();
    let (session, events) = broker.hub().attach();
    let publisher = Publisher {
        broker,
        session,
        next_token: 1,
        waiting: HashMap::new(),
        letters: Letters::default(),
    };
    tokio::spawn(publisher.run(receiver, events));
    DeadLetterSender(sender)
}

struct Publisher {
    broker: Arc<Broker>,
    session: SessionHandle,
    next_token: u64,
    /// Sub-batches on their way: the letters in them and where they go, in the order of their
    /// operations.
    waiting: HashMap<u64, Vec<(u64, QueueId)>>,
    letters: Letters,
}

impl Publisher {
    async fn run(
        mut self,
        mut letters: mpsc::UnboundedReceiver<(Placement, DeadLetter)>,
        mut events: SessionEvents,
    ) {
        let mut taken = Vec::with_capacity(TURN);
        loop {
            let due = self.letters.next_due();
            tokio::select! {
                count = letters.recv_many(&mut taken, TURN) => {
                    if count == 0 {
                        return;
                    }
                    let mut batches = Batches::default();
                    for (placement, letter) in taken.drain(..) {
                        self.take(placement, letter, &mut batches);
                    }
                    self.submit(batches);
                }
                event = events.recv() => match event {
                    Some(event) => self.hear(event),
                    None => return,
                },
                () = sleep_until(due) => self.try_again(),
            }
        }
    }

    fn take(&mut self, placement: Placement, letter: DeadLetter, batches: &mut Batches) {
        let queue = letter.queue;
        match self.letters.take(Instant::now(), placement, letter) {
            Taken::Number(number) => self.publish(number, batches),
            Taken::Known | Taken::PutOff => {}
            Taken::Dropped => debug!(
                queue = queue.0,
                "refused message not dead-lettered: too many are on their way"
            ),
        }
    }

    /// Routes a letter anew and adds it to the batches.
    fn publish(&mut self, number: u64, batches: &mut Batches) {
        let Some((letter, accepted)) = self.letters.get(number) else {
            return;
        };
        let (dead, mut targets) = route(&self.broker, letter);
        targets.retain(|record| !accepted.contains(&record.id));
        let Some(dead) = dead.filter(|_| !targets.is_empty()) else {
            // Nowhere to go (any more): dropped, as documented.
            self.finish(number);
            return;
        };
        self.letters.sent(number, targets.len());
        let properties = PropertiesView::new(&dead.message.properties);
        let bytes = dead.message.weight();
        for record in &targets {
            let target = target_for(record, properties.priority(), None);
            // An operation for each, so that it is known who has accepted.
            let op = Op::Publish {
                targets: smallvec![target],
                message: dead.message.clone(),
            };
            batches.add(record.placement, op, bytes, (number, record.id));
        }
    }

    fn submit(&mut self, batches: Batches) {
        for (placement, list) in batches.by_placement {
            for Batch { ops, letters, .. } in list {
                let token = self.next_token;
                self.next_token += 1;
                self.waiting.insert(token, letters);
                self.session.submit(placement, SubBatch { token, ops });
            }
        }
    }

    fn hear(&mut self, event: SessionEvent) {
        match event {
            SessionEvent::Outcome {
                token,
                refused_ops,
                given_up,
            } => {
                let Some(letters) = self.waiting.remove(&token) else {
                    return;
                };
                let now = Instant::now();
                for (at, (number, target)) in letters.into_iter().enumerate() {
                    let accepted = !given_up && !refused_ops.contains(&(at as u32));
                    if self.letters.answered(now, number, target, accepted) == Answered::Done {
                        self.finish(number);
                    }
                }
            }
            SessionEvent::Resume { reply, .. } => {
                let _ = reply.send(Vec::new());
            }
            _ => {}
        }
    }

    fn try_again(&mut self) {
        let now = Instant::now();
        let mut batches = Batches::default();
        for number in self.letters.due(now) {
            self.publish(number, &mut batches);
        }
        self.submit(batches);
        for put_off in self.letters.wanted(now) {
            // If this node no longer leads the queue, the next leader offers it to its own publisher.
            if let Some(inbox) = self.broker.hosts().inbox(put_off.placement) {
                let _ = inbox.send(HostInput::DeadLetterPutOff {
                    queue: put_off.queue,
                    sequence: put_off.sequence,
                });
            }
        }
    }

    fn finish(&mut self, number: u64) {
        self.broker.metrics().counts.dead_lettered.add(1);
        let Some((placement, queue, sequence)) = self.letters.finish(number) else {
            return;
        };
        // If this node no longer leads the queue, the next leader offers the letter to its own
        // publisher.
        if let Some(inbox) = self.broker.hosts().inbox(placement) {
            let _ = inbox.send(HostInput::DeadLettered { queue, sequence });
        }
    }
}

#[derive(Default)]
struct Batches {
    by_placement: BTreeMap<Placement, Vec<Batch>>,
}

/// What becomes one sub-batch.
#[derive(Default)]
struct Batch {
    ops: Vec<Op>,
    letters: Vec<(u64, QueueId)>,
    bytes: usize,
}

impl Batches {
    fn add(&mut self, placement: Placement, op: Op, bytes: usize, letter: (u64, QueueId)) {
        let list = self.by_placement.entry(placement).or_default();
        let batch = match list.last_mut() {
            Some(last) if last.bytes.saturating_add(bytes) <= SUB_BATCH_BYTES => last,
            _ => list.push_mut(Batch::default()),
        };
        batch.bytes = batch.bytes.saturating_add(bytes);
        batch.ops.push(op);
        batch.letters.push(letter);
    }
}

struct Headers<'a>(PropertiesView<'a>);

impl RouteProperties for Headers<'_> {
    fn headers(&self) -> Option<amqp_codec::FieldTable> {
        self.0.headers()
    }
}

/// The dead letter and the queues that it goes to; `None` without a dead letter exchange.
fn route(broker: &Broker, letter: &DeadLetter) -> (Option<DeadMessage>, Vec<Arc<QueueRecord>>) {
    let catalog = broker.catalog();
    let Some(record) = catalog.queue_by_id(letter.queue) else {
        return (None, Vec::new());
    };
    let settings = record.settings();
    let Some(exchange) = &settings.dead_letter_exchange else {
        return (None, Vec::new());
    };
    let death = Death {
        queue: &record.name,
        reason: letter.reason,
        now_s: wall_clock_ms() / 1000,
        exchange,
        routing_key: settings.dead_letter_routing_key.as_deref(),
        delivery_count: letter.delivery_count,
    };
    let dead = dead_letter(&letter.message, &death);
    let mut queues = Vec::new();
    let keys: Vec<&str> = dead.routing_keys.iter().map(AsRef::as_ref).collect();
    if let Some((routing_key, more_keys)) = keys.split_first() {
        let properties = Headers(PropertiesView::new(&dead.message.properties));
        let input = RouteInput {
            routing_key,
            more_keys,
            properties: &properties,
            random: rand::random(),
        };
        if let Err(error) = catalog.route(&record.vhost, exchange, &input, &mut queues) {
            debug!(queue = %record.name, %error, "dead letter dropped");
        }
    }
    queues.retain(|queue| !dead.is_cycle(&queue.name));
    (Some(dead), queues)
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
