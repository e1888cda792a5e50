//! A leader, its clients, and what ought to be.

mod checks;

use super::super::leader::*;
use super::step::Step;
use crate::catalog::settings::{DelayedRetry, QueueSettings, RetryKind};
use crate::dispatch::Dispatcher;
use crate::ids::{ConsumerId, NodeId, Origin, QueueId, RequestId, Sequence};
use crate::op::{BatchStatus, DeathReason, Op, SequenceRanges, Target};
use crate::protocol::{CREDIT_BYTES_MIN, ConsumerSpec, FromHost, ToHost};
use crate::shard::CheckpointDelta;
use std::collections::{BTreeMap, BTreeSet};

pub(super) const QUEUES: [QueueId; 2] = [QueueId(1 << 16), QueueId(2 << 16)];
/// Where dead letters go.
const DEAD: QueueId = QueueId(3 << 16);
pub(super) const NODES: u64 = 3;

type Place = (QueueId, Sequence);

struct Client {
    origin: Origin,
    queue: QueueId,
    spec: ConsumerSpec,
    credit: u32,
}

/// The leader, its clients, and what ought to be.
pub(super) struct World {
    leader: Leader,
    incarnations: BTreeMap<u64, u64>,
    consumers: BTreeMap<ConsumerId, Client>,
    next_consumer: u64,
    /// Who has which message (consumer 0: without one).
    held: BTreeMap<Place, (Origin, ConsumerId)>,
    alive: BTreeSet<Place>,
    dying: BTreeSet<Place>,
    passed_on: u64,
    bodies: BTreeMap<Place, String>,
    published: BTreeMap<(QueueId, u8), u64>,
    /// Ever handed out, and the last one that was for the first time.
    out_before: BTreeSet<Place>,
    last_first: BTreeMap<(QueueId, u8), u64>,
    heard: BTreeMap<(ConsumerId, (QueueId, u8)), u64>,
    /// The operation that ends them is on its way, and may be lost with the leader.
    ending: BTreeSet<Place>,
    /// Those whose end was lost: others may have overtaken them.
    late: BTreeSet<Place>,
    /// What lost nodes held.
    lost: Vec<(Origin, Place)>,
    checkpoint: Option<CheckpointDelta>,
    /// Spills so far; `None`: there are checkpoints instead.
    spills: Option<usize>,
}

impl World {
    pub(super) fn new(lag: bool) -> Self {
        let mut leader = Leader::new();
        leader.lag = lag;
        Self::of(leader, None)
    }

    /// Queues without a log.
    pub(super) fn local() -> Self {
        let mut leader = Leader::new();
        leader.dispatcher = Dispatcher::local();
        Self::of(leader, Some(0))
    }

    fn of(mut leader: Leader, spills: Option<usize>) -> Self {
        leader.declare(QUEUES[0], QueueSettings::default());
        // In the other one what comes back waits.
        let retry = DelayedRetry {
            kind: RetryKind::All,
            min_ms: 50,
            max_ms: 120,
        };
        let settings = QueueSettings {
            delayed_retry: Some(retry),
            ..QueueSettings::default()
        };
        leader.declare(QUEUES[1], settings);
        Self {
            leader,
            incarnations: BTreeMap::new(),
            consumers: BTreeMap::new(),
            next_consumer: 0,
            held: BTreeMap::new(),
            alive: BTreeSet::new(),
            dying: BTreeSet::new(),
            passed_on: 0,
            bodies: BTreeMap::new(),
            published: BTreeMap::new(),
            out_before: BTreeSet::new(),
            last_first: BTreeMap::new(),
            heard: BTreeMap::new(),
            ending: BTreeSet::new(),
            late: BTreeSet::new(),
            lost: Vec::new(),
            checkpoint: None,
            spills,
        }
    }

    fn origin(&self, node: u64) -> Origin {
        Origin {
            node: NodeId(node),
            incarnation: self.incarnations.get(&node).copied().unwrap_or(1),
        }
    }

    /// The messages that a node holds and that `mask` picks, by queue.
    fn pick(&self, origin: Origin, mask: u64) -> BTreeMap<QueueId, Vec<Sequence>> {
        let mut picked: BTreeMap<QueueId, Vec<Sequence>> = BTreeMap::new();
        let held = self
            .held
            .iter()
            .filter(|(_, (holder, _))| *holder == origin);
        for (at, ((queue, sequence), _)) in held.enumerate() {
            if mask >> (at % 64) & 1 == 1 {
                picked.entry(*queue).or_default().push(*sequence);
            }
        }
        picked
    }

    pub(super) fn step(&mut self, step: Step) {
        match step {
            Step::Publish {
                queue,
                level,
                count,
            } => {
                let queue = QUEUES[queue];
                let mut ops = Vec::new();
                for _ in 0..count {
                    let number = self.published.entry((queue, level)).or_default();
                    *number += 1;
                    let place = (queue, Sequence::new(level, *number));
                    let body = format!(
                        "{:>20}",
                        place.0.0 * 1_000_000 + u64::from(level) * 100_000 + *number
                    );
                    ops.push(publish(queue, level, None, &body));
                    self.alive.insert(place);
                    self.bodies.insert(place, body);
                }
                self.leader.batch(node(9), &ops);
            }
            Step::Consume {
                node,
                queue,
                credit,
                no_ack,
                priority,
            } => {
                self.next_consumer += 1;
                let (id, origin, queue) = (self.next_consumer, self.origin(node), QUEUES[queue]);
                let spec = ConsumerSpec {
                    no_ack,
                    priority,
                    ..ConsumerSpec::default()
                };
                let client = Client {
                    origin,
                    queue,
                    spec: spec.clone(),
                    credit,
                };
                self.consumers.insert(ConsumerId(id), client);
                self.leader.resume(origin, queue, id, credit, spec, None);
            }
            Step::Credit { consumer, more } => {
                if let Some((id, client)) = nth(&mut self.consumers, consumer) {
                    client.credit += more;
                    let (origin, queue) = (client.origin, client.queue);
                    self.leader.hear(
                        origin,
                        ToHost::Credit {
                            consumer: id,
                            queue,
                            more,
                            bytes: CREDIT_BYTES_MIN,
                        },
                    );
                }
            }
            Step::Cancel { consumer } => {
                if let Some((id, client)) = nth(&mut self.consumers, consumer) {
                    let (origin, queue) = (client.origin, client.queue);
                    self.leader.hear(
                        origin,
                        ToHost::Cancel {
                            consumer: id,
                            queue,
                        },
                    );
                    self.hear_all();
                    self.consumers.remove(&id);
                }
            }
            Step::Settle { node, mask } => {
                let origin = self.origin(node);
                let ops = self.take(origin, mask, |this, place| {
                    this.alive.remove(&place);
                });
                let ops: Vec<_> = ops
                    .into_iter()
                    .map(|(queue, sequences)| Op::Settle { queue, sequences })
                    .collect();
                self.leader.batch(origin, &ops);
            }
            Step::Return {
                node,
                mask,
                counted,
            } => {
                let origin = self.origin(node);
                let ops = self.take(origin, mask, |_, _| {});
                let ops: Vec<_> = ops
                    .into_iter()
                    .map(|(queue, sequences)| Op::Return {
                        queue,
                        sequences,
                        counted,
                    })
                    .collect();
                self.leader.batch(origin, &ops);
            }
            Step::Kill {
                node,
                mask,
                dead_letter,
            } => {
                let origin = self.origin(node);
                let ops = self.take(origin, mask, |this, place| {
                    this.alive.remove(&place);
                    if dead_letter {
                        this.dying.insert(place);
                    }
                });
                let reason = DeathReason::Rejected;
                let ops: Vec<_> = ops
                    .into_iter()
                    .map(|(queue, sequences)| Op::Kill {
                        queue,
                        sequences,
                        reason,
                        dead_letter,
                    })
                    .collect();
                self.leader.batch(origin, &ops);
            }
            Step::SettleDead => {
                let letters = std::mem::take(&mut self.leader.dead_letters);
                let mut ops = Vec::new();
                for letter in letters {
                    let place = (letter.queue, letter.sequence.unwrap());
                    assert_eq!(text(&letter.message.body), self.bodies[&place]);
                    // It may have been handed to the publisher of a former leader too.
                    self.passed_on += u64::from(self.dying.remove(&place));
                    ops.push(Op::PassOn {
                        from: place.0,
                        sequence: place.1,
                        targets: smallvec::smallvec![Target::plain(DEAD)],
                        message: letter.message,
                    });
                }
                self.leader.batch(node(8), &ops);
                let arrived = self
                    .leader
                    .machine
                    .queue(DEAD)
                    .map_or(0, |state| state.alive());
                assert_eq!(arrived, self.passed_on, "each letter arrives once");
            }
            Step::Get {
                node,
                queue,
                no_ack,
            } => {
                let origin = self.origin(node);
                let get = ToHost::Get {
                    request: RequestId(u64::from(no_ack)),
                    queue: QUEUES[queue],
                    no_ack,
                };
                self.leader.hear(origin, get);
            }
            Step::Purge { queue } => {
                let queue = QUEUES[queue];
                let counts = self
                    .leader
                    .dispatcher
                    .queue_counts(&self.leader.machine, queue);
                let ready = counts.ready + counts.delayed;
                let origin = self.origin(1);
                let (request, decided) = (RequestId(9), self.leader.on_the_way.len());
                self.leader.hear(origin, ToHost::Purge { request, queue });
                if self.leader.lag {
                    // What somebody holds stays, also what a lost node holds until it is returned.
                    for op in self.leader.on_the_way.split_off(decided) {
                        if let Op::Settle { queue, sequences } = &op {
                            for number in sequences.iter().flat_map(|(from, to)| from.0..=to.0) {
                                self.alive.remove(&(*queue, Sequence(number)));
                                self.ending.insert((*queue, Sequence(number)));
                            }
                        }
                        self.leader.on_the_way.push(op);
                    }
                    assert!(self.held.keys().all(|place| self.alive.contains(place)));
                } else {
                    let held = &self.held;
                    self.alive
                        .retain(|place| place.0 != queue || held.contains_key(place));
                    assert!(self.leader.told.iter().any(|(_, told)| {
                        matches!(told, FromHost::Counts { request: RequestId(9), ready: removed, .. } if *removed == ready)
                    }));
                }
            }
            Step::NodeLost { node } => {
                let origin = self.origin(node);
                self.consumers.retain(|_, client| client.origin != origin);
                let lost = self.held.extract_if(.., |_, (holder, _)| *holder == origin);
                self.lost
                    .extend(lost.map(|(place, (holder, _))| (holder, place)));
                self.incarnations.insert(node, origin.incarnation + 1);
                self.leader.node_lost(origin);
            }
            Step::Flap { node, lost } => {
                let origin = self.origin(node);
                self.lose(origin, lost);
                self.leader.dispatcher.attached(origin);
                self.tell(origin);
            }
            Step::FailOver { lost, written } => {
                if let Some(delta) = self.checkpoint.take()
                    && written
                {
                    self.leader.store.write(&mut self.leader.machine, delta);
                }
                let origins: Vec<Origin> = (1..=NODES).map(|node| self.origin(node)).collect();
                self.leader.fail_over(&origins);
                // What the former leader decided and did not get into the log did not happen.
                for place in std::mem::take(&mut self.ending) {
                    let state = self.leader.machine.queue(place.0);
                    if state.is_some_and(|state| state.is_alive(place.1)) {
                        self.alive.insert(place);
                        self.late.insert(place);
                    }
                }
                for origin in origins {
                    self.lose(origin, lost);
                    self.tell(origin);
                }
            }
            Step::Late { mask, settle } => {
                for (at, (origin, (queue, sequence))) in
                    std::mem::take(&mut self.lost).into_iter().enumerate()
                {
                    let sequences = range(sequence.0, sequence.0);
                    if mask >> (at % 64) & 1 == 0 {
                        self.lost.push((origin, (queue, sequence)));
                    } else if settle {
                        let outcome = self
                            .leader
                            .batch_only(origin, &[Op::Settle { queue, sequences }]);
                        if outcome.status == BatchStatus::Applied {
                            self.alive.remove(&(queue, sequence));
                            self.dying.remove(&(queue, sequence));
                            self.held.remove(&(queue, sequence));
                        }
                    } else {
                        self.leader.batch_only(
                            origin,
                            &[Op::Return {
                                queue,
                                sequences,
                                counted: true,
                            }],
                        );
                    }
                }
                self.leader.run();
            }
            Step::Arrive => {
                self.leader.arrive();
                self.leader.run();
            }
            Step::Wait { ms } => {
                let now_ms = self.leader.now_ms + ms;
                self.leader.at(now_ms);
            }
            Step::BeginCheckpoint => {
                if self.checkpoint.is_none() {
                    self.checkpoint = Some(self.begin_checkpoint());
                }
            }
            Step::EndCheckpoint => {
                if let Some(delta) = self.checkpoint.take() {
                    self.leader.store.write(&mut self.leader.machine, delta);
                }
            }
        }
        self.hear_all();
        self.check();
    }

    fn begin_checkpoint(&mut self) -> CheckpointDelta {
        let machine = &mut self.leader.machine;
        let Some(spills) = &mut self.spills else {
            return machine.begin_checkpoint();
        };
        *spills += 1;
        // For nothing, a few messages, or all of them.
        let room = [0, 1, 100, 300, usize::MAX][*spills % 5];
        let before = machine.tail_bytes();
        let has_garbage = machine.trim();
        let delta = machine.begin_spill(room);
        assert_eq!(
            has_garbage,
            !delta.deletes.is_empty() || !delta.dropped_queues.is_empty()
        );
        assert_eq!(delta.stretches.is_empty(), room == 0 || before == 0);
        delta
    }

    /// Takes picked messages away from their holder.
    fn take(
        &mut self,
        origin: Origin,
        mask: u64,
        mut each: impl FnMut(&mut Self, Place),
    ) -> Vec<(QueueId, SequenceRanges)> {
        let picked = self.pick(origin, mask);
        let mut all = Vec::new();
        for (queue, sequences) in picked {
            let mut ranges = SequenceRanges::new();
            for sequence in sequences {
                self.held.remove(&(queue, sequence));
                each(self, (queue, sequence));
                ranges.push((sequence, sequence));
            }
            all.push((queue, ranges));
        }
        all
    }

    /// Some of what a node was sent did not arrive.
    fn lose(&mut self, origin: Origin, mask: u64) {
        for (queue, sequences) in self.pick(origin, mask & mask.rotate_left(17)) {
            for sequence in sequences {
                self.held.remove(&(queue, sequence));
            }
        }
    }

    /// A node tells what it consumes and holds.
    fn tell(&mut self, origin: Origin) {
        let holds = |consumer: Option<ConsumerId>, queue: QueueId, this: &Self| -> SequenceRanges {
            let of = |id: &ConsumerId| match consumer {
                Some(consumer) => *id == consumer,
                None => !this.consumers.contains_key(id),
            };
            let held = this.held.iter().filter(|((of_queue, _), (holder, id))| {
                *of_queue == queue && *holder == origin && of(id)
            });
            held.map(|((_, sequence), _)| (*sequence, *sequence))
                .collect()
        };
        let told: Vec<_> = self
            .consumers
            .iter()
            .filter(|(_, client)| client.origin == origin)
            .map(|(id, client)| (*id, client.queue, client.credit, client.spec.clone()))
            .collect();
        for (id, queue, credit, spec) in told {
            let resume = Some(holds(Some(id), queue, self));
            self.leader
                .resume(origin, queue, id.0, credit, spec, resume);
            self.hear_all();
        }
        for queue in QUEUES {
            let sequences = holds(None, queue, self);
            self.leader.hear(origin, ToHost::Hold { queue, sequences });
            self.hear_all();
        }
        self.leader.hear(origin, ToHost::Resumed);
        self.hear_all();
    }

    /// Clients hear what they were told.
    fn hear_all(&mut self) {
        self.hear_told();
        for ((_, level), heard) in std::mem::take(&mut self.heard) {
            let last = self.last_first.entry(level).or_default();
            *last = heard.max(*last);
        }
    }

    fn hear_told(&mut self) {
        for (origin, message) in std::mem::take(&mut self.leader.told) {
            match message {
                FromHost::Deliver(deliveries) => {
                    for delivery in deliveries {
                        let client = self
                            .consumers
                            .get_mut(&delivery.consumer)
                            .expect("a consumer that is there");
                        assert_eq!(client.origin, origin);
                        assert_eq!(client.queue, delivery.queue);
                        assert!(client.credit > 0, "more than its credit");
                        client.credit -= 1;
                        let no_ack = client.spec.no_ack;
                        self.receive(origin, delivery, no_ack);
                    }
                }
                FromHost::Got {
                    request,
                    delivery: Some((delivery, _)),
                } => {
                    self.receive(origin, *delivery, request == RequestId(1));
                }
                _ => {}
            }
        }
    }
}

fn nth(
    consumers: &mut BTreeMap<ConsumerId, Client>,
    at: usize,
) -> Option<(ConsumerId, &mut Client)> {
    let at = at.checked_rem(consumers.len())?;
    consumers
        .iter_mut()
        .nth(at)
        .map(|(id, client)| (*id, client))
}
