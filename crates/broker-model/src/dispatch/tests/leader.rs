//! A leader without network, disk and clock: a machine, its log, a dispatcher, a message store.

use crate::catalog::settings::QueueSettings;
use crate::dispatch::{DeadLetter, Dispatcher, HandOver, Outbox, QueueCounts};
use crate::ids::{ConsumerId, NodeId, Origin, QueueId, RequestId, Sequence};
use crate::message::Message;
use crate::op::{BatchHead, BatchOutcome, EntryHead, Op, SequenceRanges, Target};
use crate::protocol::{CREDIT_BYTES_MIN, ConsumerSpec, Delivery, FromHost, Resume, ToHost};
use crate::shard::{CheckpointDelta, MessageKey, ShardMachine};
use crate::wire::{OpsWriter, StoredMessage, encode_entry_head};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) const QUEUE: QueueId = QueueId(7 << 16);

pub(super) fn node(number: u64) -> Origin {
    Origin {
        node: NodeId(number),
        incarnation: 1,
    }
}

/// What a state store keeps of a shard.
#[derive(Debug, Clone, Default)]
pub(super) struct Store {
    pub(super) messages: BTreeMap<MessageKey, StoredMessage>,
    records: BTreeMap<QueueId, Bytes>,
    shard: Option<Bytes>,
}

impl Store {
    /// Writes a delta with the messages that `machine` has by now, and ends the checkpoint, all in small steps.
    pub(super) fn write(&mut self, machine: &mut ShardMachine, mut delta: CheckpointDelta) {
        for queue in &delta.dropped_queues {
            self.messages.retain(|key, _| key.queue != *queue);
            self.records.remove(queue);
        }
        for dead in &delta.deletes {
            self.messages.retain(|key, _| {
                key.queue != dead.queue
                    || key.level != dead.level
                    || key.sequence < dead.from
                    || key.sequence > dead.to
            });
        }
        for stretch in &mut delta.stretches {
            let mut found = Vec::new();
            while machine.take_messages(stretch, 2, &mut found) {}
            self.messages.extend(found);
        }
        while machine.end_checkpoint(delta.token, 3) {}
        self.records.extend(delta.queue_records);
        // A spill has none.
        self.shard = Some(delta.origins).filter(|shard| !shard.is_empty());
    }

    pub(super) fn restore(&self) -> ShardMachine {
        let records = self
            .records
            .iter()
            .map(|(queue, record)| (*queue, record.clone()));
        ShardMachine::restore(records, self.shard.as_ref()).unwrap()
    }
}

pub(super) struct Leader {
    pub(super) now_ms: u64,
    pub(super) machine: ShardMachine,
    pub(super) dispatcher: Dispatcher,
    pub(super) store: Store,
    pub(super) log: Vec<Vec<Bytes>>,
    pub(super) settings: BTreeMap<QueueId, Arc<QueueSettings>>,
    batches: BTreeMap<Origin, u64>,
    /// What nodes were told, in order.
    pub(super) told: Vec<(Origin, FromHost)>,
    pub(super) dead_letters: Vec<DeadLetter>,
    pub(super) unused: Vec<QueueId>,
    pub(super) expired: Vec<QueueId>,
    pub(super) loads: usize,
    pub(super) marks: usize,
    /// What the dispatcher decides is on its way for a while.
    pub(super) lag: bool,
    pub(super) on_the_way: Vec<Op>,
    out: Outbox,
}

impl Leader {
    pub(super) fn new() -> Self {
        let machine = ShardMachine::new();
        let dispatcher = Dispatcher::new(1_000, &machine, None);
        Self {
            now_ms: 1_000,
            machine,
            dispatcher,
            store: Store::default(),
            log: Vec::new(),
            settings: BTreeMap::new(),
            batches: BTreeMap::new(),
            told: Vec::new(),
            dead_letters: Vec::new(),
            unused: Vec::new(),
            expired: Vec::new(),
            loads: 0,
            marks: 0,
            lag: false,
            on_the_way: Vec::new(),
            out: Outbox::default(),
        }
    }

    /// A leader of one queue.
    pub(super) fn of(settings: QueueSettings) -> Self {
        let mut leader = Self::new();
        leader.declare(QUEUE, settings);
        leader
    }

    pub(super) fn declare(&mut self, queue: QueueId, settings: QueueSettings) {
        let settings = Arc::new(settings);
        self.settings.insert(queue, Arc::clone(&settings));
        self.dispatcher.settings(
            self.now_ms,
            queue,
            Some(settings),
            &self.machine,
            &mut self.out,
        );
        self.run();
    }

    pub(super) fn delete(&mut self, queue: QueueId) {
        self.settings.remove(&queue);
        self.dispatcher
            .settings(self.now_ms, queue, None, &self.machine, &mut self.out);
        self.run();
    }

    /// Everything that can happen without anybody's doing.
    pub(super) fn run(&mut self) {
        for _ in 0..10_000 {
            let more = self
                .dispatcher
                .pump(self.now_ms, &self.machine, &mut self.out);
            let acted = self.act();
            if !more && !acted && !self.dispatcher.has_work() {
                return;
            }
        }
        panic!("the dispatcher does not come to rest");
    }

    /// Does what the outbox asks for. Returns whether anything was applied or read.
    fn act(&mut self) -> bool {
        let out = std::mem::take(&mut self.out);
        self.told.extend(out.to_nodes);
        self.dead_letters.extend(out.dead_letters);
        self.unused.extend(out.unused);
        self.expired.extend(out.expired);
        assert_eq!(out.missing, [], "the store has everything");
        let acted = !out.loads.is_empty() || !self.lag && !out.leader_ops.is_empty();
        for load in out.loads {
            self.loads += 1;
            assert!(load.max_bytes > 0 && load.max_count > 0);
            let from = MessageKey {
                queue: load.queue,
                level: load.level,
                sequence: load.from,
            };
            let to = MessageKey {
                queue: load.queue,
                level: load.level,
                sequence: load.to,
            };
            let found = self.store.messages.range(from..=to).take(load.max_count);
            let found = found
                .map(|(key, stored)| (key.sequence, stored.clone()))
                .collect();
            self.dispatcher
                .loaded(self.now_ms, &load, found, &self.machine, &mut self.out);
        }
        self.marks += out
            .leader_ops
            .iter()
            .filter(|op| matches!(op, Op::Mark { .. }))
            .count();
        self.on_the_way.extend(out.leader_ops);
        if !self.lag {
            self.arrive();
        }
        acted
    }

    /// What is on its way is applied.
    pub(super) fn arrive(&mut self) {
        let leader_ops = std::mem::take(&mut self.on_the_way);
        if !leader_ops.is_empty() {
            let head = EntryHead {
                now_ms: self.now_ms,
                leader_ops,
                ..EntryHead::default()
            };
            self.apply(head, vec![]);
        }
    }

    fn apply(&mut self, head: EntryHead, batches: Vec<Bytes>) -> Vec<BatchOutcome> {
        let mut segments = vec![encode_entry_head(&head)];
        segments.extend(batches);
        self.log.push(segments.clone());
        let (mut effects, mut outcomes) = (Vec::new(), Vec::new());
        self.machine
            .apply_entry(
                self.log.len() as u64,
                &segments,
                &mut effects,
                &mut outcomes,
            )
            .unwrap();
        self.dispatcher
            .effects(self.now_ms, &effects, &self.machine, &mut self.out);
        outcomes
    }

    /// A batch of a node, admitted, applied and its consequences.
    pub(super) fn batch(&mut self, origin: Origin, ops: &[Op]) -> BatchOutcome {
        let outcome = self.batch_only(origin, ops);
        self.run();
        outcome
    }

    /// A batch of a node, admitted and applied, before anything is handed out.
    pub(super) fn batch_only(&mut self, origin: Origin, ops: &[Op]) -> BatchOutcome {
        let previous = self.batches.get(&origin).copied().unwrap_or(0);
        self.batches.insert(origin, previous + 1);
        let head = BatchHead {
            origin,
            previous,
            number: previous + 1,
            answered: previous,
        };
        let mut writer = OpsWriter::new();
        ops.iter().for_each(|op| writer.push(op));
        let ops = writer.finish();
        let admission = self
            .dispatcher
            .admit(&[(head, ops.clone())], &self.machine)
            .unwrap();
        self.dead_letters.extend(admission.dead_letters);
        let entry = EntryHead {
            now_ms: self.now_ms,
            batches: vec![head],
            refusals: admission.refusals,
            ..EntryHead::default()
        };
        let outcome = self.apply(entry, vec![ops]).remove(0);
        self.dispatcher.admission_done(admission.ticket);
        outcome
    }

    pub(super) fn publish(&mut self, bodies: &[&str]) -> BatchOutcome {
        let ops: Vec<_> = bodies
            .iter()
            .map(|body| publish(QUEUE, 0, None, body))
            .collect();
        self.batch(node(9), &ops)
    }

    pub(super) fn hear(&mut self, from: Origin, message: ToHost) {
        self.dispatcher
            .handle(self.now_ms, from, message, &self.machine, &mut self.out);
        self.run();
    }

    pub(super) fn consume(&mut self, from: Origin, consumer: u64, credit: u32) {
        self.consume_as(from, consumer, credit, ConsumerSpec::default());
    }

    pub(super) fn consume_as(
        &mut self,
        from: Origin,
        consumer: u64,
        credit: u32,
        spec: ConsumerSpec,
    ) {
        self.resume(from, QUEUE, consumer, credit, spec, None);
    }

    pub(super) fn resume(
        &mut self,
        from: Origin,
        queue: QueueId,
        consumer: u64,
        credit: u32,
        spec: ConsumerSpec,
        resume: Option<SequenceRanges>,
    ) {
        let resume = resume.map(|sequences| Resume {
            sequences,
            ..Resume::default()
        });
        self.resume_with(from, queue, consumer, credit, spec, resume);
    }

    pub(super) fn resume_with(
        &mut self,
        from: Origin,
        queue: QueueId,
        consumer: u64,
        credit: u32,
        spec: ConsumerSpec,
        resume: Option<Resume>,
    ) {
        let consumer = ConsumerId(consumer);
        self.hear(
            from,
            ToHost::Consume {
                consumer,
                queue,
                spec,
                credit,
                resume,
            },
        );
    }

    pub(super) fn credit(&mut self, from: Origin, consumer: u64, more: u32) {
        self.large_credit(from, consumer, more, CREDIT_BYTES_MIN);
    }

    /// Credit that is good for some bytes.
    pub(super) fn large_credit(&mut self, from: Origin, consumer: u64, more: u32, bytes: u32) {
        self.hear(
            from,
            ToHost::Credit {
                consumer: ConsumerId(consumer),
                queue: QUEUE,
                more,
                bytes,
            },
        );
    }

    pub(super) fn cancel(&mut self, from: Origin, consumer: u64) {
        self.hear(
            from,
            ToHost::Cancel {
                consumer: ConsumerId(consumer),
                queue: QUEUE,
            },
        );
    }

    pub(super) fn get(&mut self, from: Origin, no_ack: bool) -> Option<(Delivery, u64)> {
        self.hear(
            from,
            ToHost::Get {
                request: RequestId(1),
                queue: QUEUE,
                no_ack,
            },
        );
        self.told
            .iter()
            .rev()
            .find_map(|(_, message)| match message {
                FromHost::Got { delivery, .. } => {
                    Some(delivery.clone().map(|(delivery, left)| (*delivery, left)))
                }
                _ => None,
            })?
    }

    pub(super) fn node_lost(&mut self, origin: Origin) {
        self.dispatcher
            .node_lost(self.now_ms, origin, &mut self.out);
        self.run();
    }

    pub(super) fn at(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
        self.run();
    }

    /// A whole checkpoint.
    pub(super) fn checkpoint(&mut self) {
        let delta = self.machine.begin_checkpoint();
        self.store.write(&mut self.machine, delta);
    }

    /// Another replica, with the same log and the same store, takes over.
    pub(super) fn fail_over(&mut self, nodes: &[Origin]) {
        self.on_the_way.clear();
        self.machine = self.store.restore();
        for (index, segments) in self.log.iter().enumerate() {
            let (mut effects, mut outcomes) = (Vec::new(), Vec::new());
            self.machine
                .apply_entry(index as u64 + 1, segments, &mut effects, &mut outcomes)
                .unwrap();
        }
        let nodes = nodes.iter().map(|origin| origin.node).collect();
        let hand_over = HandOver {
            deadline_ms: self.now_ms + 500,
            nodes,
            silent: Vec::new(),
        };
        self.dispatcher = Dispatcher::new(self.now_ms, &self.machine, Some(hand_over));
        self.out = Outbox::default();
        for (queue, settings) in &self.settings {
            let settings = Some(Arc::clone(settings));
            self.dispatcher
                .settings(self.now_ms, *queue, settings, &self.machine, &mut self.out);
        }
        self.run();
    }

    pub(super) fn counts(&self) -> QueueCounts {
        self.dispatcher.queue_counts(&self.machine, QUEUE)
    }

    /// Takes the deliveries so far: consumer, body, whether redelivered.
    pub(super) fn deliveries(&mut self) -> Vec<(u64, String, bool)> {
        let told = std::mem::take(&mut self.told);
        let deliveries = told.into_iter().filter_map(|(_, message)| match message {
            FromHost::Deliver(deliveries) => Some(deliveries),
            _ => None,
        });
        deliveries
            .flatten()
            .map(|delivery| {
                (
                    delivery.consumer.0,
                    text(&delivery.message.body),
                    delivery.redelivered,
                )
            })
            .collect()
    }

    /// Takes the bodies delivered so far.
    pub(super) fn bodies(&mut self) -> Vec<String> {
        self.deliveries()
            .into_iter()
            .map(|(_, body, _)| body)
            .collect()
    }

    /// Takes everything that was told, but deliveries.
    pub(super) fn answers(&mut self) -> Vec<FromHost> {
        let told = std::mem::take(&mut self.told);
        told.into_iter()
            .map(|(_, message)| message)
            .filter(|message| !matches!(message, FromHost::Deliver(_)))
            .collect()
    }
}

pub(super) fn text(body: &Bytes) -> String {
    String::from_utf8_lossy(body).into_owned()
}

pub(super) fn publish(queue: QueueId, level: u8, ttl_ms: Option<u64>, body: &str) -> Op {
    let message = Message {
        body: Bytes::from(body.to_owned()),
        ..Message::default()
    };
    Op::Publish {
        targets: smallvec::smallvec![Target {
            queue,
            level,
            ttl_ms,
            identities: Box::default(),
        }],
        message,
    }
}

pub(super) fn range(from: u64, to: u64) -> SequenceRanges {
    smallvec::smallvec![(Sequence(from), Sequence(to))]
}

pub(super) fn settle(from: u64, to: u64) -> Op {
    Op::Settle {
        queue: QUEUE,
        sequences: range(from, to),
    }
}

pub(super) fn give_back(from: u64, to: u64) -> Op {
    Op::Return {
        queue: QUEUE,
        sequences: range(from, to),
        counted: true,
    }
}

/// Expected deliveries.
pub(super) fn delivered(expected: &[(u64, &str, bool)]) -> Vec<(u64, String, bool)> {
    expected
        .iter()
        .map(|(consumer, body, redelivered)| (*consumer, (*body).to_owned(), *redelivered))
        .collect()
}
