//! What nodes ask for.

use super::Dispatcher;
use super::attach::was_used;
use super::bench::{PendingGet, PendingPurge};
use super::held::{Hold, HolderSlot};
use super::newcomers::Newcomer;
use super::outbox::Outbox;
use super::roster::{ConsumerSlot, DeskSlot, OriginSlot, Standing};
use super::stock::alive_within;
use crate::ids::{ConsumerId, Origin, QueueId, RequestId, Sequence};
use crate::op::{Op, SequenceRanges};
use crate::protocol::{FromHost, Refused, Subject, ToHost};
use crate::queue::push_range;
use crate::shard::ShardMachine;

impl Dispatcher {
    /// Handles a message of a node; all but [`ToHost::Batch`], which the proposer takes.
    pub fn handle(
        &mut self,
        now_ms: u64,
        from: Origin,
        message: ToHost,
        machine: &ShardMachine,
        out: &mut Outbox,
    ) {
        // What came during the hand-over goes first.
        self.go_on_after_hand_over(now_ms, machine, out);
        if let Some(message) = self.keep_during_hand_over(from, message) {
            self.take(now_ms, from, message, machine, out);
        }
    }

    /// The same, for what needs not wait.
    pub(super) fn take(
        &mut self,
        now_ms: u64,
        from: Origin,
        message: ToHost,
        machine: &ShardMachine,
        out: &mut Outbox,
    ) {
        let origin = self.roster.origin_slot(from);
        match message {
            ToHost::Batch { .. } => {}
            ToHost::Consume {
                consumer,
                queue,
                spec,
                credit,
                resume,
            } => {
                let newcomer = Newcomer {
                    origin,
                    id: consumer,
                    queue,
                    spec,
                    credit,
                };
                match resume {
                    None => self.newcomer(now_ms, newcomer, machine, out),
                    resume => self.consume(now_ms, newcomer, resume, machine, out),
                }
            }
            ToHost::Hold { queue, sequences } => {
                if let Some(slot) = self.index.get(&queue).copied() {
                    let holder = self.roster.loose_holder(slot, origin);
                    self.claim(slot, origin, holder, &sequences, machine);
                }
            }
            ToHost::Resumed => self.resumed(now_ms, from, out),
            ToHost::Cancel { consumer, queue: _ } => {
                self.newcomers.forget(origin, consumer);
                if let Some(slot) = self.roster.find(origin, consumer) {
                    self.remove_consumer(now_ms, slot, out);
                }
                let cancelled = FromHost::Cancelled {
                    consumer,
                    by_host: false,
                };
                self.post.send(&self.roster, origin, cancelled, out);
            }
            ToHost::Credit {
                consumer,
                queue: _,
                more,
                bytes,
            } => self.add_credit(origin, consumer, more, bytes),
            ToHost::Revoke { consumer, queue: _ } => self.revoke(origin, consumer, out),
            ToHost::Get {
                request,
                queue,
                no_ack,
            } => self.get(now_ms, origin, request, queue, no_ack, out),
            ToHost::Count {
                request,
                queue,
                used,
            } => {
                if let Some(slot) = self.known_desk(queue, origin, Subject::Request(request), out) {
                    if used {
                        self.touch(now_ms, slot);
                    }
                    self.send_counts(origin, request, queue, machine, out);
                }
            }
            // Answered by the host: it needs nothing of what is known here.
            ToHost::Browse { .. } | ToHost::Read { .. } => {}
            ToHost::Purge { request, queue } => self.purge(origin, request, queue, machine, out),
            ToHost::CheckDelete {
                request,
                queue,
                if_unused,
                if_empty,
            } => {
                if self
                    .known_desk(queue, origin, Subject::Request(request), out)
                    .is_none()
                {
                    return;
                }
                let counts = self.queue_counts(machine, queue);
                let may_be_used =
                    || self.resuming.may_bring_more() && machine.queue(queue).is_some_and(was_used);
                let why = if if_empty && counts.ready + counts.delayed > 0 {
                    Refused::NotEmpty
                } else if if_unused && (counts.consumers > 0 || may_be_used()) {
                    Refused::InUse
                } else {
                    self.send_counts(origin, request, queue, machine, out);
                    return;
                };
                let refused = FromHost::Refused {
                    subject: Subject::Request(request),
                    why,
                };
                self.post.send(&self.roster, origin, refused, out);
            }
        }
    }

    /// A node says what it holds.
    pub(super) fn claim(
        &mut self,
        slot: DeskSlot,
        origin: OriginSlot,
        holder: HolderSlot,
        sequences: &SequenceRanges,
        machine: &ShardMachine,
    ) {
        let Some(desk) = self.desks.get_mut(slot) else {
            return;
        };
        let Some(state) = machine.queue(desk.queue) else {
            return;
        };
        desk.meet_levels(state);
        // The size of a message that is in the store only is not known: as the others.
        let mean = state.alive_bytes() / state.alive().max(1);
        for (from, to) in sequences {
            for stock in &mut desk.stocks {
                let level = stock.level;
                if level < from.level() || level > to.level() {
                    continue;
                }
                let first = if level == from.level() {
                    from.number()
                } else {
                    0
                };
                let last = if level == to.level() {
                    to.number()
                } else {
                    Sequence::MAX_NUMBER
                };
                for number in alive_within(state, level, first, last).flat_map(|(a, b)| a..=b) {
                    let size = state
                        .in_memory(stock.sequence(number))
                        .map(|stored| stored.message.body.len() as u64);
                    let bytes = u32::try_from(size.unwrap_or(mean)).unwrap_or(u32::MAX);
                    let holders = &self.roster.holders;
                    let claimed = stock.claim(number, Hold { holder, bytes }, |before| {
                        holders.get(before.holder).is_some_and(|before| {
                            before.origin == origin && before.standing == Standing::Suspect
                        })
                    });
                    if let Ok(before) = claimed {
                        self.roster.gained(holder);
                        if let Some(before) = before {
                            self.roster.released(before.holder);
                        }
                    }
                }
            }
        }
    }

    fn add_credit(&mut self, origin: OriginSlot, id: ConsumerId, more: u32, bytes: u32) {
        let Some(slot) = self.roster.find(origin, id) else {
            self.newcomers.add_credit(origin, id, more);
            return;
        };
        let Some(consumer) = self.roster.consumers.get_mut(slot) else {
            return;
        };
        consumer.credit = consumer.credit.saturating_add(more);
        consumer.worth = bytes;
        consumer.bytes = 0;
        consumer.told = false;
        self.stand_in_line(slot);
    }

    /// A consumer waits for messages, if it may have any, and its desk is looked at.
    pub(super) fn stand_in_line(&mut self, slot: ConsumerSlot) {
        let Some(consumer) = self.roster.consumers.get(slot) else {
            return;
        };
        let at = consumer.desk;
        let Some(desk) = self.desks.get_mut(at) else {
            return;
        };
        let single_active = desk.single_active();
        if let Some(bench) = desk.bench_mut()
            && bench.is_eligible(slot, single_active)
        {
            bench.enter(slot, &mut self.roster);
        }
        self.list(at);
    }

    fn revoke(&mut self, origin: OriginSlot, id: ConsumerId, out: &mut Outbox) {
        let mut unused = self.newcomers.revoke(origin, id);
        if let Some(slot) = self.roster.find(origin, id)
            && let Some(consumer) = self.roster.consumers.get_mut(slot)
        {
            unused = std::mem::take(&mut consumer.credit);
            // To be told if a message waits.
            let at = consumer.desk;
            self.list(at);
        }
        self.post.send(
            &self.roster,
            origin,
            FromHost::Revoked {
                consumer: id,
                unused,
            },
            out,
        );
    }

    fn get(
        &mut self,
        now_ms: u64,
        origin: OriginSlot,
        request: RequestId,
        queue: QueueId,
        no_ack: bool,
        out: &mut Outbox,
    ) {
        let Some(slot) = self.known_desk(queue, origin, Subject::Request(request), out) else {
            return;
        };
        self.touch(now_ms, slot);
        if let Some(desk) = self.desks.get_mut(slot) {
            desk.bench_or_new().gets.push_back(PendingGet {
                origin,
                request,
                no_ack,
            });
        }
        self.list(slot);
    }

    /// All ready messages end. Answered when that is applied.
    fn purge(
        &mut self,
        origin: OriginSlot,
        request: RequestId,
        queue: QueueId,
        machine: &ShardMachine,
        out: &mut Outbox,
    ) {
        let Some(slot) = self.known_desk(queue, origin, Subject::Request(request), out) else {
            return;
        };
        let Some(desk) = self.desks.get_mut(slot) else {
            return;
        };
        let mut sequences = SequenceRanges::new();
        let mut removed = 0;
        if let Some(state) = machine.queue(queue) {
            desk.meet_levels(state);
            let counts = desk.counts(Some(state));
            let mean = counts.ready_bytes / counts.ready.max(1);
            for stock in &mut desk.stocks {
                let mut ranges = Vec::new();
                removed += stock.take_ready(state, u64::MAX, |from, to| ranges.push((from, to)));
                for number in stock.delayed.take().iter_mut().flat_map(|d| d.take_all()) {
                    removed += 1;
                    ranges.push((number, number));
                }
                ranges.sort_unstable();
                stock.forget_all_read();
                for (from, to) in ranges {
                    stock.doom(from, to, (to - from + 1) * mean);
                    push_range(&mut sequences, stock.sequence(from), stock.sequence(to));
                }
            }
        }
        let witness = sequences.last().map(|(_, last)| *last);
        let purge = |witness| PendingPurge {
            origin,
            request,
            removed,
            witness,
        };
        match witness {
            None => self.answer_purge(purge(Sequence(0)), out),
            Some(witness) => {
                desk.bench_or_new().purges.push(purge(witness));
                out.leader_ops.push(Op::Settle { queue, sequences });
            }
        }
        self.list(slot);
    }

    fn send_counts(
        &mut self,
        origin: OriginSlot,
        request: RequestId,
        queue: QueueId,
        machine: &ShardMachine,
        out: &mut Outbox,
    ) {
        let counts = self.queue_counts(machine, queue);
        let counts = FromHost::Counts {
            request,
            ready: counts.ready,
            unacked: counts.unacked,
            consumers: counts.consumers,
            ready_bytes: counts.ready_bytes,
        };
        self.post.send(&self.roster, origin, counts, out);
    }

    /// The desk of a queue that the catalog has; otherwise the asking node is told.
    pub(super) fn known_desk(
        &mut self,
        queue: QueueId,
        origin: OriginSlot,
        subject: Subject,
        out: &mut Outbox,
    ) -> Option<DeskSlot> {
        let slot = self.index.get(&queue).copied();
        let known = slot.filter(|slot| {
            self.desks
                .get(*slot)
                .is_some_and(|desk| desk.settings.is_some())
        });
        if known.is_none() {
            let refused = FromHost::Refused {
                subject,
                why: Refused::NoQueue,
            };
            self.post.send(&self.roster, origin, refused, out);
        }
        known
    }

    pub(super) fn touch(&mut self, now_ms: u64, slot: DeskSlot) {
        if let Some(desk) = self.desks.get_mut(slot) {
            desk.last_used_ms = now_ms;
        }
    }

    /// Takes a consumer off its queue; what it holds stays held.
    pub(super) fn remove_consumer(&mut self, now_ms: u64, slot: ConsumerSlot, out: &mut Outbox) {
        let Some(consumer) = self.roster.remove(slot) else {
            return;
        };
        let Some(desk) = self.desks.get_mut(consumer.desk) else {
            return;
        };
        let auto_delete = desk
            .settings
            .as_ref()
            .is_some_and(|settings| settings.auto_delete);
        let queue = desk.queue;
        if let Some(bench) = desk.bench_mut() {
            bench.remove(slot, &consumer, &self.roster);
            let last = bench.consumers.is_empty();
            if bench.is_unused() {
                desk.drop_bench();
            }
            if last {
                desk.last_used_ms = now_ms;
                desk.stocks
                    .iter_mut()
                    .for_each(super::stock::Stock::forget_all_read);
                // If who waits is refused after all, the look after the hand-over finds it unused.
                if auto_delete && !self.newcomers.want(queue) {
                    if self.resuming.may_bring_more() {
                        self.kept.left(queue);
                    } else {
                        out.unused.push(queue);
                    }
                }
            }
        }
        // Another one may become active; an unused queue needs its timer.
        self.list(consumer.desk);
    }
}
