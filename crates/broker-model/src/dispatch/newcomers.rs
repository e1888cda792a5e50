//! Consumers that begin, and consumers that come along from another leader.
//!
//! Whether a queue is somebody's alone is known when all nodes have told what they consume. Who begins
//! to consume during a hand-over is kept until its end, and then takes its turn.

use super::Dispatcher;
use super::outbox::Outbox;
use super::roster::OriginSlot;
use crate::ids::{ConsumerId, QueueId};
use crate::protocol::{ConsumerSpec, FromHost, Refused, Resume, Subject};
use crate::shard::ShardMachine;
use std::collections::VecDeque;

/// Newcomers that are kept at a time. One more gets no answer: its node gives it up.
const NEWCOMERS_MAX: usize = 64 << 10;

/// Who begins to consume.
#[derive(Debug)]
pub(super) struct Newcomer {
    pub(super) origin: OriginSlot,
    pub(super) id: ConsumerId,
    pub(super) queue: QueueId,
    pub(super) spec: ConsumerSpec,
    pub(super) credit: u32,
}

/// Those that wait for the end of the hand-over, in order.
#[derive(Debug, Default)]
pub(super) struct Newcomers {
    waiting: VecDeque<Newcomer>,
}

impl Newcomers {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether somebody waits for a queue.
    pub(super) fn want(&self, queue: QueueId) -> bool {
        self.waiting.iter().any(|newcomer| newcomer.queue == queue)
    }

    fn keep(&mut self, newcomer: Newcomer) {
        if self.waiting.len() < NEWCOMERS_MAX {
            self.waiting.push_back(newcomer);
        }
    }

    fn find(&mut self, origin: OriginSlot, id: ConsumerId) -> Option<&mut Newcomer> {
        self.waiting
            .iter_mut()
            .find(|newcomer| newcomer.origin == origin && newcomer.id == id)
    }

    pub(super) fn add_credit(&mut self, origin: OriginSlot, id: ConsumerId, more: u32) {
        if let Some(newcomer) = self.find(origin, id) {
            newcomer.credit = newcomer.credit.saturating_add(more);
        }
    }

    /// Takes back credit; returns it.
    pub(super) fn revoke(&mut self, origin: OriginSlot, id: ConsumerId) -> u32 {
        self.find(origin, id)
            .map_or(0, |newcomer| std::mem::take(&mut newcomer.credit))
    }

    pub(super) fn forget(&mut self, origin: OriginSlot, id: ConsumerId) {
        self.waiting
            .retain(|newcomer| newcomer.origin != origin || newcomer.id != id);
    }

    /// The node is gone, or is about to tell all again.
    pub(super) fn forget_all(&mut self, origin: OriginSlot) {
        self.waiting.retain(|newcomer| newcomer.origin != origin);
    }
}

impl Dispatcher {
    /// A consumer begins, at once or at the end of the hand-over.
    pub(super) fn newcomer(
        &mut self,
        now_ms: u64,
        newcomer: Newcomer,
        machine: &ShardMachine,
        out: &mut Outbox,
    ) {
        if self.resuming.holds_back() {
            let subject = Subject::Consumer(newcomer.id);
            if self
                .known_desk(newcomer.queue, newcomer.origin, subject, out)
                .is_some()
            {
                self.newcomers.keep(newcomer);
            }
            return;
        }
        self.consume(now_ms, newcomer, None, machine, out);
    }

    /// Those that came during the hand-over take their turns, once it is over.
    pub(super) fn admit_newcomers(
        &mut self,
        now_ms: u64,
        machine: &ShardMachine,
        out: &mut Outbox,
    ) {
        if self.newcomers.is_empty() || self.resuming.holds_back() {
            return;
        }
        for newcomer in std::mem::take(&mut self.newcomers).waiting {
            self.consume(now_ms, newcomer, None, machine, out);
        }
    }

    /// A consumer begins, or comes along from another leader or stream.
    pub(super) fn consume(
        &mut self,
        now_ms: u64,
        newcomer: Newcomer,
        resume: Option<Resume>,
        machine: &ShardMachine,
        out: &mut Outbox,
    ) {
        let Newcomer {
            origin,
            id,
            queue,
            spec,
            credit,
        } = newcomer;
        let Some(slot) = self.known_desk(queue, origin, Subject::Consumer(id), out) else {
            return;
        };
        let known = self.roster.find(origin, id);
        if let Some(known) = known
            && self
                .roster
                .consumers
                .get(known)
                .is_some_and(|consumer| consumer.desk != slot)
        {
            // The number was of a consumer elsewhere: the node has forgotten that one.
            self.remove_consumer(now_ms, known, out);
        }
        let known = self.roster.find(origin, id);
        let holds_back = self.resuming.holds_back();
        let Some(desk) = self.desks.get_mut(slot) else {
            return;
        };
        let single_active = desk.single_active();
        let bench = desk.bench_or_new();
        // One that comes along after the hand-over may find that others were let in meanwhile.
        let refused = known.is_none()
            && !holds_back
            && (bench.exclusive.is_some()
                || spec.exclusive && (single_active || !bench.consumers.is_empty()));
        if refused {
            if let Some(resume) = resume {
                let holder = self.roster.loose_holder(slot, origin);
                self.claim(slot, origin, holder, &resume.sequences, machine);
            }
            let refused = FromHost::Refused {
                subject: Subject::Consumer(id),
                why: Refused::ExclusiveUse,
            };
            self.post.send(&self.roster, origin, refused, out);
            return;
        }
        let consumer = known.unwrap_or_else(|| {
            let consumer = self.roster.add(origin, id, slot, spec.clone(), credit);
            if let Some(resume) = &resume {
                self.roster
                    .resumes(consumer, resume.order, resume.active_since);
            }
            bench.add(consumer, &self.roster);
            consumer
        });
        if spec.exclusive {
            bench.exclusive = Some(consumer);
        }
        let Some(attached) = self.roster.consumers.get_mut(consumer) else {
            return;
        };
        attached.credit = credit;
        attached.bytes = 0;
        attached.told = false;
        attached.confirmed = true;
        let (order, active_since, holder) =
            (attached.serial, attached.active_since, attached.holder);
        let consume_ok = FromHost::ConsumeOk {
            consumer: id,
            order,
        };
        self.post.send(&self.roster, origin, consume_ok, out);
        if active_since != resume.as_ref().map_or(0, |resume| resume.active_since) {
            // It was not heard when it was told.
            self.post.tell_active(&self.roster, &[consumer], out);
        }
        if let Some(resume) = resume {
            self.claim(slot, origin, holder, &resume.sequences, machine);
        }
        self.enter_bench(slot, consumer, out);
        self.touch(now_ms, slot);
        self.list(slot);
    }

    /// The consumer takes its place. During a hand-over nobody becomes active: who was may yet come.
    fn enter_bench(&mut self, slot: u32, consumer: u32, out: &mut Outbox) {
        let holds_back = self.resuming.holds_back();
        let Some(desk) = self.desks.get_mut(slot) else {
            return;
        };
        let single_active = desk.single_active();
        let Some(bench) = desk.bench_mut() else {
            return;
        };
        if single_active && !holds_back {
            let changed = bench.elect(&mut self.roster);
            self.post.tell_active(&self.roster, &changed, out);
        }
        if bench.is_eligible(consumer, single_active) {
            bench.enter(consumer, &mut self.roster);
        }
    }
}
