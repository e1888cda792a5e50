//! The dead letter publisher of a node: takes what died in queues that it leads to their dead
//! letter exchanges, and delayed messages whose time has come to the queues of their exchange.
//!
//! At least once: a message is settled in its queue only after every queue it was routed to has
//! accepted it; in the same log entry where all of them share its shard ([`Op::PassOn`]). Queues of a shard that refuse
//! nothing share an operation, with the letter once. A refusal (a
//! target is full and rejects) or a missing majority is tried again, at those targets only; a target that passes on what
//! it refuses (`reject-publish-dlx`) has it then. Memory is bounded (see [`letters`]). Letters carry an identity, by which
//! a queue that has one already drops it.
//!
//! Not here: deciding that a message dies or is due (`broker_model::dispatch`).

mod delayed;
mod header;
mod letters;

use crate::broker::Broker;
use crate::host::{HostInput, wall_clock_ms};
use crate::hub::SessionHandle;
use crate::hub::api::{SessionEvent, SubBatch};
use crate::hub::mailbox::SessionEvents;
use crate::target::{add_headers, target_for};
use crate::vital::Vital;
use amqp_codec::PropertiesView;
use broker_model::catalog::record::QueueRecord;
use broker_model::catalog::settings::Overflow;
use broker_model::catalog::{Catalog, Store};
use broker_model::dispatch::DeadLetter;
use broker_model::ids::{Placement, QueueId, Sequence};
use broker_model::message::Message;
use broker_model::op::{Op, Target};
use broker_model::routing::{Effort, RouteInput};
use header::{Death, dead_letter};
use letters::{Answered, Letters, Sent, Taken};
use smallvec::{SmallVec, smallvec};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::debug;

/// Dead letters taken in one turn, at most.
const TURN: usize = 256;
/// After so long others have their turn.
const AT_ONCE: Duration = Duration::from_millis(2);
/// Bytes of letters in one sub-batch, at most (one letter may exceed it).
const SUB_BATCH_BYTES: usize = 1 << 20;

/// Queues that are gone and are remembered for their last letters, the latest.
const GONE_MAX: usize = 1024;
/// Queues that letters came from and that are remembered.
const SEEN_MAX: usize = 4096;

/// Takes dead letters of this node's hosts.
#[derive(Clone)]
pub struct DeadLetterSender(mpsc::UnboundedSender<Told>);

/// What the publisher is told.
enum Told {
    Letter(Placement, Box<DeadLetter>),
    Gone(Arc<QueueRecord>),
}

impl DeadLetterSender {
    /// Hands over a message that died at `placement`.
    pub fn send(&self, placement: Placement, letter: Box<DeadLetter>) {
        // The publisher ends only with the node.
        let _ = self.0.send(Told::Letter(placement, letter));
    }

    /// A queue is gone from the catalog. To be told before its host is: what that hands over last is to find its way.
    pub fn gone(&self, record: &Arc<QueueRecord>) {
        if record.settings().dead_letter_exchange.is_some() {
            let _ = self.0.send(Told::Gone(Arc::clone(record)));
        }
    }
}

/// Starts the publisher.
#[must_use]
pub fn start(broker: Arc<Broker>, vital: &Vital) -> DeadLetterSender {
    let (sender, receiver) = mpsc::unbounded_channel();
    let (session, events) = broker.hub().attach();
    let publisher = Publisher {
        letters: Letters::new(broker.config().memory.dead_letters_bytes),
        broker,
        session,
        next_token: 1,
        waiting: HashMap::new(),
        gone: VecDeque::new(),
        seen: HashMap::new(),
    };
    vital.spawn(
        "the publisher of dead letters",
        publisher.run(receiver, events),
    );
    DeadLetterSender(sender)
}

struct Publisher {
    broker: Arc<Broker>,
    session: SessionHandle,
    next_token: u64,
    /// Sub-batches on their way: the letters in them and where they go, in the order of their
    /// operations.
    waiting: HashMap<u64, Vec<(u64, Sent)>>,
    letters: Letters,
    /// Queues that are not in the catalog any more, latest first.
    gone: VecDeque<Arc<QueueRecord>>,
    /// Queues that letters came from, as the catalog had them. One that is deleted is gone from the catalog a moment before
    /// this is told here, and its letters that are on their way then must not be taken for nobody's.
    seen: HashMap<QueueId, Arc<QueueRecord>>,
}

impl Publisher {
    async fn run(mut self, mut letters: mpsc::UnboundedReceiver<Told>, mut events: SessionEvents) {
        let mut taken = Vec::with_capacity(TURN);
        loop {
            let due = self.letters.next_due();
            tokio::select! {
                count = letters.recv_many(&mut taken, TURN) => {
                    if count == 0 {
                        return;
                    }
                    // What was bound elsewhere a moment ago counts. Without a majority nothing arrives anyway.
                    self.broker.catalog_freshen().await;
                    let mut batches = Batches::default();
                    let mut began = Instant::now();
                    for told in taken.drain(..) {
                        if began.elapsed() > AT_ONCE {
                            // The way of a letter with very many keys takes long to find.
                            tokio::task::yield_now().await;
                            began = Instant::now();
                        }
                        match told {
                            Told::Letter(placement, letter) => {
                                self.take(placement, *letter, &mut batches);
                            }
                            Told::Gone(record) => {
                                self.gone.truncate(GONE_MAX - 1);
                                self.gone.push_front(record);
                            }
                        }
                    }
                    self.submit(batches);
                }
                event = events.recv() => match event {
                    Some(event) => self.hear(event),
                    None => return,
                },
                () = sleep_until(due) => {
                    self.broker.catalog_freshen().await;
                    self.try_again().await;
                }
            }
        }
    }

    fn take(&mut self, placement: Placement, letter: DeadLetter, batches: &mut Batches) {
        let queue = letter.queue;
        let known = self.broker.catalog().queue_by_id(queue).cloned();
        if let Some(record) = &known {
            if self.seen.len() >= SEEN_MAX && !self.seen.contains_key(&queue) {
                self.seen.clear();
            }
            self.seen.insert(queue, Arc::clone(record));
        }
        let source = known
            .or_else(|| {
                let mut gone = self.gone.iter();
                gone.find(|record| record.id == queue).cloned()
            })
            .or_else(|| self.seen.get(&queue).cloned());
        match self.letters.take(Instant::now(), placement, letter, source) {
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
        let Some((letter, source, accepted)) = self.letters.get(number) else {
            return;
        };
        let (routed, is_new) = (route(&self.broker, letter, source), accepted.is_empty());
        let queues = |routed: &Routed| !routed.targets.is_empty();
        if is_new && !routed.as_ref().is_some_and(queues) && keeps(&self.broker, letter.queue) {
            if self.letters.refused(Instant::now(), number) == Answered::Done {
                self.settle(number);
            }
            return;
        }
        let Some(Routed {
            message,
            targets: mut by_place,
            rejecting,
            passing,
        }) = routed
        else {
            // Nowhere to go: dropped, as documented.
            self.settle(number);
            return;
        };
        by_place.retain(|_, at_place| {
            at_place.retain(|target| !accepted.contains(&target.queue));
            !at_place.is_empty()
        });
        let bytes = message.weight();
        if by_place.len() == 1
            && passing.is_empty()
            && let Some(entry) = by_place.first_entry()
            && let Some((from, sequence)) =
                (self.letters).kept_at(*entry.key(), number, entry.get().len())
        {
            let (placement, targets) = entry.remove_entry();
            self.letters.sent(number, 1, targets.len());
            let op = Op::PassOn {
                from,
                sequence,
                targets,
                message,
            };
            batches.add(placement, op, bytes, (number, Sent::AtOnce));
            return;
        }
        if by_place.is_empty() {
            // Nowhere to go any more.
            self.letters.sent(number, 0, 0);
            self.settle(number);
            return;
        }
        let together = self.letters.may_go_together(number);
        let mut operations = 0;
        let targets = by_place.values().map(SmallVec::len).sum();
        for (placement, at_place) in by_place {
            // An operation for each that may refuse, so that it is known who has accepted.
            let (shared, alone): (SmallVec<[Target; 1]>, SmallVec<[Target; 1]>) = at_place
                .into_iter()
                .partition(|target| together && !rejecting.contains(&target.queue));
            operations += alone.len() + usize::from(!shared.is_empty());
            for target in alone {
                let to = match passing.contains(&target.queue) {
                    true => Sent::Through(target.queue),
                    false => Sent::To(target.queue),
                };
                let op = Op::Publish {
                    targets: smallvec![target],
                    message: message.clone(),
                };
                batches.add(placement, op, bytes, (number, to));
            }
            if !shared.is_empty() {
                let to = Sent::Together(shared.iter().map(|target| target.queue).collect());
                let bytes = bytes.saturating_add(shared.len() * size_of::<Target>());
                let op = Op::Publish {
                    targets: shared,
                    message: message.clone(),
                };
                batches.add(placement, op, bytes, (number, to));
            }
        }
        self.letters.sent(number, operations, targets);
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
                for (at, (number, sent)) in letters.into_iter().enumerate() {
                    let refused = refused_ops.contains(&(at as u32));
                    let answered = if given_up {
                        self.letters.given_up(now, number)
                    } else {
                        let accepted = !refused || matches!(sent, Sent::Through(_));
                        self.letters.answered(now, number, sent, accepted)
                    };
                    match answered {
                        Answered::Done => self.settle(number),
                        Answered::Settled => drop(self.finish(number)),
                        Answered::Waits | Answered::Refused => {}
                    }
                }
            }
            SessionEvent::Resume { reply, .. } => {
                let _ = reply.send(Vec::new());
            }
            _ => {}
        }
    }

    async fn try_again(&mut self) {
        let now = Instant::now();
        let mut batches = Batches::default();
        let mut began = now;
        while let Some(number) = self.letters.due(now) {
            if began.elapsed() > AT_ONCE {
                tokio::task::yield_now().await;
                began = Instant::now();
            }
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

    /// The letter is where it was to go: its queue need not keep it any more.
    fn settle(&mut self, number: u64) {
        let Some((placement, queue, sequence)) = self.finish(number) else {
            return;
        };
        // If this node no longer leads the queue, the next leader offers the letter to its own
        // publisher.
        if let Some(inbox) = self.broker.hosts().inbox(placement) {
            let _ = inbox.send(HostInput::DeadLettered { queue, sequence });
        }
    }

    /// Counts a letter and forgets it; returns where it was, unless no queue keeps it.
    fn finish(&mut self, number: u64) -> Option<(Placement, QueueId, Sequence)> {
        let is_delayed = {
            let catalog = self.broker.catalog();
            let letter = self.letters.get(number).map(|(letter, ..)| letter.queue);
            let record = letter.and_then(|queue| catalog.queue_by_id(queue));
            record.is_some_and(|record| record.settings().store == Some(Store::Delay))
        };
        if !is_delayed {
            self.broker.metrics().counts.dead_lettered.add(1);
        }
        self.letters.finish(number)
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
    letters: Vec<(u64, Sent)>,
    bytes: usize,
}

impl Batches {
    fn add(&mut self, placement: Placement, op: Op, bytes: usize, letter: (u64, Sent)) {
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

/// A message and the queues that it goes to, by their places.
struct Routed {
    message: Message,
    targets: Targets,
    /// Targets that refuse messages when they are full.
    rejecting: SmallVec<[QueueId; 1]>,
    /// Those of them that pass on what they refuse.
    passing: SmallVec<[QueueId; 1]>,
}

impl Routed {
    fn new(message: Message) -> Self {
        Self {
            message,
            targets: Targets::new(),
            rejecting: SmallVec::new(),
            passing: SmallVec::new(),
        }
    }

    fn add(&mut self, queue: &QueueRecord, target: Target) {
        let settings = queue.settings();
        if settings.overflow != Overflow::DropHead {
            self.rejecting.push(queue.id);
        }
        // Without a dead letter exchange it would be lost: it waits, as for one that only refuses.
        if settings.overflow == Overflow::RejectPublishDlx
            && settings.dead_letter_exchange.is_some()
        {
            self.passing.push(queue.id);
        }
        self.targets
            .entry(queue.placement)
            .or_default()
            .push(target);
    }
}

type Targets = BTreeMap<Placement, SmallVec<[Target; 1]>>;

/// The message to publish and the queues that it goes to; `None` if there is nothing to publish: no
/// dead letter exchange, or no queue.
/// `source`: its queue as it was when the letter came, should it be gone.
fn route(
    broker: &Broker,
    letter: &DeadLetter,
    source: Option<&Arc<QueueRecord>>,
) -> Option<Routed> {
    let catalog = broker.catalog();
    let record = catalog.queue_by_id(letter.queue).or(source)?;
    if record.settings().store == Some(Store::Delay) {
        return delayed::route(broker, &catalog, record, letter);
    }
    let settings = record.settings();
    let exchange = settings.dead_letter_exchange.as_ref()?;
    let death = Death {
        queue: &record.name,
        reason: letter.reason,
        now_s: wall_clock_ms() / 1000,
        exchange,
        routing_key: settings.dead_letter_routing_key.as_deref(),
    };
    let dead = dead_letter(&letter.message, &death);
    let mut queues = find(
        broker,
        &catalog,
        record,
        exchange,
        &dead.routing_keys,
        &dead.message,
    );
    queues.retain(|queue| !dead.is_cycle(&queue.name));
    let properties = PropertiesView::new(&dead.message.properties);
    let mut routed = Routed::new(dead.message.clone());
    for queue in &queues {
        let mut target = target_for(queue, properties.priority(), None);
        if queue.settings().store.is_some() {
            add_headers(&mut target, queue, None, properties.headers().as_ref());
        }
        // It was told from its duplicates when it was published. A message that comes back to a queue from
        // its dead letter queue is no duplicate of itself.
        target.identities = letter.identity.into_iter().collect();
        routed.add(queue, target);
    }
    Some(routed)
}

/// Whether a queue keeps what died in it until there is a queue for it.
fn keeps(broker: &Broker, queue: QueueId) -> bool {
    let catalog = broker.catalog();
    let record = catalog.queue_by_id(queue);
    record.is_some_and(|record| record.settings().keeps_undeliverable)
}

/// The queues that an exchange of the vhost of `record` leads a message with these keys to.
fn find(
    broker: &Broker,
    catalog: &Catalog,
    record: &QueueRecord,
    exchange: &str,
    keys: &[String],
    message: &Message,
) -> Vec<Arc<QueueRecord>> {
    let mut queues = Vec::new();
    let keys: Vec<&str> = keys.iter().map(AsRef::as_ref).collect();
    if let Some((routing_key, more_keys)) = keys.split_first() {
        let input = RouteInput {
            routing_key,
            more_keys,
            properties: &PropertiesView::new(&message.properties),
            random: rand::random(),
            is_here: &|placement| broker.is_here(placement),
        };
        let mut effort = Effort::at_length();
        let routed = catalog.route(&record.vhost, exchange, &input, &mut effort, &mut queues);
        if let Err(error) = routed {
            debug!(queue = %record.name, %error, "message dropped");
            queues.clear();
        }
    }
    queues
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
