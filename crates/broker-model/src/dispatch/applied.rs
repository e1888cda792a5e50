//! What applied operations mean for the desks.

use super::Dispatcher;
use super::bench::PendingPurge;
use super::outbox::Outbox;
use super::roster::{DeskSlot, Standing};
use super::serve::kill;
use crate::ids::{Origin, QueueId, Sequence};
use crate::op::{DeathReason, Op, SequenceRanges};
use crate::protocol::FromHost;
use crate::queue::push_range;
use crate::shard::{Effect, ShardMachine};
use smallvec::SmallVec;
use std::collections::BTreeMap;

/// Messages that came back.
struct Returned<'a> {
    queue: QueueId,
    sequences: &'a SequenceRanges,
    /// As a failed delivery.
    counted: bool,
    /// From this node's sessions; `None`: the leader took them from one that is gone.
    by: Option<Origin>,
}

impl Dispatcher {
    /// Takes note of what was applied. The machine must have applied it (and may be ahead).
    pub fn effects(
        &mut self,
        now_ms: u64,
        effects: &[Effect],
        machine: &ShardMachine,
        out: &mut Outbox,
    ) {
        for effect in effects {
            match effect {
                Effect::Enqueued { queue, first, last } => {
                    let slot = self.desk_or_new(now_ms, *queue, machine);
                    if let Some(desk) = self.desks.get_mut(slot) {
                        desk.tally_mut().published += last.0 - first.0 + 1;
                    }
                    self.list(slot);
                }
                Effect::Settled { queue, sequences } => {
                    let held = self.forget(*queue, sequences, out);
                    self.acknowledged(*queue, held);
                }
                Effect::Killed {
                    queue,
                    sequences,
                    dead_letter,
                    ..
                } => {
                    self.forget(*queue, sequences, out); // Nobody has acknowledged these.
                    if *dead_letter {
                        let slot = self.desk_or_new(now_ms, *queue, machine);
                        self.list(slot);
                    }
                }
                Effect::Returned {
                    queue,
                    sequences,
                    counted,
                    by,
                } => {
                    let returned = Returned {
                        queue: *queue,
                        sequences,
                        counted: *counted,
                        by: *by,
                    };
                    self.take_back(now_ms, &returned, machine, out);
                }
                Effect::Deleted { queue } => self.deleted(now_ms, *queue, machine, out),
                Effect::Marked { queue, upto } => self.marked(*queue, *upto),
            }
        }
    }

    /// Somebody held so many messages that are settled now.
    fn acknowledged(&mut self, queue: QueueId, messages: u64) {
        let slot = self.index.get(&queue).copied();
        if messages > 0
            && let Some(desk) = slot.and_then(|slot| self.desks.get_mut(slot))
        {
            desk.tally_mut().acknowledged += messages;
        }
    }

    /// These messages are no more. Returns how many of them somebody held.
    fn forget(&mut self, queue: QueueId, sequences: &SequenceRanges, out: &mut Outbox) -> u64 {
        let Some(slot) = self.index.get(&queue).copied() else {
            return 0;
        };
        let Some(desk) = self.desks.get_mut(slot) else {
            return 0;
        };
        let mut held = 0;
        for (from, to) in sequences {
            let roster = &mut self.roster;
            if let Some(stock) = desk.stock_mut(from.level()) {
                stock.gone(from.number(), to.number(), |hold| {
                    held += 1;
                    roster.released(hold.holder)
                });
            }
            desk.forget_dead_letters(*from, *to);
        }
        self.finish_purges(slot, out);
        // A head may have changed, a dead letter may go next, another consumer may become active.
        self.list(slot);
        held
    }

    fn finish_purges(&mut self, slot: DeskSlot, out: &mut Outbox) {
        let Some(desk) = self.desks.get_mut(slot) else {
            return;
        };
        if desk.bench().is_none_or(|bench| bench.purges.is_empty()) {
            return;
        }
        let done = |desk: &super::desk::Desk, purge: &PendingPurge| {
            let stock = desk
                .stocks
                .iter()
                .find(|stock| stock.level == purge.witness.level());
            stock.is_none_or(|stock| !stock.is_doomed(purge.witness.number()))
        };
        let purges = desk
            .bench_mut()
            .map(|bench| std::mem::take(&mut bench.purges))
            .unwrap_or_default();
        let (finished, waiting): (Vec<_>, Vec<_>) =
            purges.into_iter().partition(|purge| done(desk, purge));
        if let Some(bench) = desk.bench_mut() {
            bench.purges = waiting;
        }
        finished
            .into_iter()
            .for_each(|purge| self.answer_purge(purge, out));
    }

    /// Tells that a purge is done.
    pub(super) fn answer_purge(&mut self, purge: PendingPurge, out: &mut Outbox) {
        let counts = FromHost::Counts {
            request: purge.request,
            ready: purge.removed,
            unacked: 0,
            consumers: 0,
            ready_bytes: 0,
        };
        self.post.send(&self.roster, purge.origin, counts, out);
    }

    /// These messages came back from whoever held them.
    fn take_back(
        &mut self,
        now_ms: u64,
        returned: &Returned<'_>,
        machine: &ShardMachine,
        out: &mut Outbox,
    ) {
        let Returned {
            queue,
            sequences,
            counted,
            by,
        } = *returned;
        let Some(slot) = self.index.get(&queue).copied() else {
            return;
        };
        let Some(desk) = self.desks.get_mut(slot) else {
            return;
        };
        let by = match by {
            None => None,
            // Who is not known holds nothing.
            Some(origin) => match self.roster.known_origin(origin) {
                Some(origin) => Some(origin),
                None => return,
            },
        };
        let limit = desk.delivery_limit();
        let dead_letter = desk.dead_letters();
        let retry = desk.delayed_retry();
        let state = machine.queue(queue);
        let mut delays: BTreeMap<u64, SequenceRanges> = BTreeMap::new();
        let mut kills: SmallVec<[(DeathReason, SequenceRanges); 1]> = SmallVec::new();
        for (from, to) in sequences {
            let level = from.level();
            let Some(stock) = desk.stock_mut(level) else {
                continue;
            };
            let mut back = Vec::new();
            let holders = &self.roster.holders;
            stock.put_back(
                from.number(),
                to.number(),
                // The leader itself returns what lost nodes held; it may since have gone elsewhere.
                |hold| {
                    holders.get(hold.holder).is_some_and(|holder| match by {
                        Some(origin) => holder.origin == origin,
                        None => holder.standing == Standing::Lost,
                    })
                },
                |number, hold| back.push((number, hold)),
            );
            for (number, hold) in back {
                self.roster.released(hold.holder);
                let sequence = Sequence::new(level, number);
                let failed = state.map_or(0, |state| state.delivery_count(sequence));
                if limit.is_some_and(|limit| u64::from(failed) > limit) {
                    if stock.take_returned(number) {
                        stock.doom(number, number, u64::from(hold.bytes));
                        kill(&mut kills, DeathReason::DeliveryLimit, sequence, sequence);
                    }
                } else if let Some(delay_ms) = retry.and_then(|r| r.delay_ms(counted, failed)) {
                    let until_ms = now_ms.saturating_add(delay_ms);
                    stock.delay(number, until_ms, u64::from(hold.bytes));
                    push_range(delays.entry(until_ms).or_default(), sequence, sequence);
                }
            }
        }
        for (until_ms, sequences) in delays {
            out.leader_ops.push(Op::Delay {
                queue,
                sequences,
                until_ms,
            });
        }
        for (reason, sequences) in kills {
            out.leader_ops.push(Op::Kill {
                queue,
                sequences,
                reason,
                dead_letter,
            });
        }
        self.list(slot);
    }

    fn marked(&mut self, queue: QueueId, upto: Sequence) {
        let Some(slot) = self.index.get(&queue).copied() else {
            return;
        };
        if let Some(stock) = self
            .desks
            .get_mut(slot)
            .and_then(|desk| desk.stock_mut(upto.level()))
        {
            stock.marked = stock.marked.max(upto.number());
            stock.mark_asked = stock.mark_asked.max(stock.marked);
        }
        self.list(slot);
    }

    /// The state of the queue was forgotten. If the catalog still has the queue (a zombie's cleanup
    /// that came too late cannot be: ids are never used again), it starts empty.
    fn deleted(&mut self, now_ms: u64, queue: QueueId, machine: &ShardMachine, out: &mut Outbox) {
        let Some(slot) = self.index.get(&queue).copied() else {
            return;
        };
        let settings = self.desks.get(slot).and_then(|desk| desk.settings.clone());
        self.index.remove(&queue);
        self.discard(slot, out);
        if settings.is_some() {
            self.settings(now_ms, queue, settings, machine, out);
        }
    }
}
