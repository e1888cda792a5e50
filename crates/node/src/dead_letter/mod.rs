//! The dead letter publisher of a node: takes what died in queues that it leads to their dead
//! letter exchanges.
//!
//! At least once: a message is settled in its queue only after every queue it was routed to has
//! accepted it. A refusal (a target is full and rejects) or a missing majority is tried again.
//!
//! Not here: deciding that a message dies (`broker_model::dispatch`).

mod header;

use crate::broker::Broker;
use crate::host::{HostInput, wall_clock_ms};
use crate::hub::SessionHandle;
use crate::hub::api::{SessionEvent, SessionEvents, SubBatch};
use crate::target::target_for;
use amqp_codec::PropertiesView;
use broker_model::catalog::record::QueueRecord;
use broker_model::dispatch::DeadLetter;
use broker_model::ids::{Placement, QueueId, Sequence};
use broker_model::op::Op;
use broker_model::routing::{RouteInput, RouteProperties};
use header::{DeadMessage, Death, dead_letter};
use smallvec::SmallVec;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::debug;

/// Pause before a refused dead letter is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// Dead letters taken in one turn, at most.
const TURN: usize = 256;

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
        open: BTreeMap::new(),
        next_letter: 1,
        retry: VecDeque::new(),
        known: HashSet::new(),
    };
    tokio::spawn(publisher.run(receiver, events));
    DeadLetterSender(sender)
}

struct Publisher {
    broker: Arc<Broker>,
    session: SessionHandle,
    next_token: u64,
    /// Sub-batches on their way: the letters in them, in the order of their operations.
    waiting: HashMap<u64, Vec<u64>>,
    open: BTreeMap<u64, Open>,
    next_letter: u64,
    retry: VecDeque<(Instant, u64)>,
    /// Letters being worked on, so that one offered twice is not published twice.
    known: HashSet<(QueueId, Sequence)>,
}

/// A letter that not all targets have accepted.
struct Open {
    placement: Placement,
    letter: DeadLetter,
    /// Targets that are yet to answer.
    outstanding: usize,
    /// Some target refused.
    refused: bool,
}

impl Publisher {
    async fn run(
        mut self,
        mut letters: mpsc::UnboundedReceiver<(Placement, DeadLetter)>,
        mut events: SessionEvents,
    ) {
        let mut taken = Vec::with_capacity(TURN);
        loop {
            let retry_at = self.retry.front().map(|(at, _)| *at);
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
                () = sleep_until(retry_at) => self.try_again(),
            }
        }
    }

    fn take(&mut self, placement: Placement, letter: DeadLetter, batches: &mut Batches) {
        if let Some(sequence) = letter.sequence
            && !self.known.insert((letter.queue, sequence))
        {
            return;
        }
        let number = self.next_letter;
        self.next_letter += 1;
        let open = Open {
            placement,
            letter,
            outstanding: 0,
            refused: false,
        };
        self.open.insert(number, open);
        self.publish(number, batches);
    }

    /// Routes a letter anew and adds it to the batches.
    fn publish(&mut self, number: u64, batches: &mut Batches) {
        let Some(open) = self.open.get_mut(&number) else {
            return;
        };
        let (dead, targets) = route(&self.broker, &open.letter);
        open.refused = false;
        let mut by_placement: BTreeMap<Placement, SmallVec<[broker_model::op::Target; 2]>> =
            BTreeMap::new();
        if let Some(dead) = &dead {
            let properties = PropertiesView::new(&dead.message.properties);
            for record in &targets {
                let target = target_for(record, properties.priority(), None);
                by_placement
                    .entry(record.placement)
                    .or_default()
                    .push(target);
            }
        }
        open.outstanding = by_placement.len();
        if open.outstanding == 0 {
            // Nowhere to go: dropped, as documented.
            self.finish(number);
            return;
        }
        let Some(dead) = dead else { return };
        for (placement, targets) in by_placement {
            let op = Op::Publish {
                targets,
                message: dead.message.clone(),
            };
            let (ops, letters) = batches.by_placement.entry(placement).or_default();
            ops.push(op);
            letters.push(number);
        }
    }

    fn submit(&mut self, batches: Batches) {
        for (placement, (ops, letters)) in batches.by_placement {
            let token = self.next_token;
            self.next_token += 1;
            self.waiting.insert(token, letters);
            self.session.submit(placement, SubBatch { token, ops });
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
                for (at, number) in letters.into_iter().enumerate() {
                    let refused = given_up || refused_ops.contains(&(at as u32));
                    self.answered(number, refused);
                }
            }
            SessionEvent::Resume { reply, .. } => {
                let _ = reply.send(Vec::new());
            }
            _ => {}
        }
    }

    fn answered(&mut self, number: u64, refused: bool) {
        let Some(open) = self.open.get_mut(&number) else {
            return;
        };
        open.outstanding = open.outstanding.saturating_sub(1);
        open.refused |= refused;
        if open.outstanding > 0 {
            return;
        }
        if open.refused && open.letter.sequence.is_some() {
            self.retry.push_back((Instant::now() + RETRY, number));
        } else {
            self.finish(number);
        }
    }

    fn try_again(&mut self) {
        let now = Instant::now();
        let mut batches = Batches::default();
        while let Some((at, number)) = self.retry.front().copied() {
            if at > now {
                break;
            }
            self.retry.pop_front();
            self.publish(number, &mut batches);
        }
        self.submit(batches);
    }

    fn finish(&mut self, number: u64) {
        let Some(open) = self.open.remove(&number) else {
            return;
        };
        self.broker.metrics().counts.dead_lettered.add(1);
        let Some(sequence) = open.letter.sequence else {
            return;
        };
        let queue = open.letter.queue;
        self.known.remove(&(queue, sequence));
        // If this node no longer leads the queue, the next leader offers the letter to its own
        // publisher.
        if let Some(inbox) = self.broker.hosts().inbox(open.placement) {
            let _ = inbox.send(HostInput::DeadLettered { queue, sequence });
        }
    }
}

#[derive(Default)]
struct Batches {
    by_placement: BTreeMap<Placement, (Vec<Op>, Vec<u64>)>,
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
