//! Nodes that come, come back, and go.
//!
//! After a leader change every live node tells its consumers and what they hold, ended by `Resumed`.
//! The driver passes a `Resumed` on when the batches that were sent before it are applied: they may
//! settle messages that the node no longer claims and that would otherwise be handed out again. For the
//! same reason nothing is handed out to a node until its own `Resumed`, however late that comes.
//!
//! The same happens when only a node's stream broke. Then what the node was sent and does not claim
//! was lost on the way, and goes back.

use super::Dispatcher;
use super::desk::Desk;
use super::outbox::{HandOver, Outbox};
use super::roster::{ConsumerSlot, DeskSlot, OriginSlot, Standing};
use crate::ids::{NodeId, Origin, Sequence};
use crate::op::{Op, SequenceRanges};
use crate::queue::{QueueState, push_range};
use crate::shard::ShardMachine;
use std::collections::BTreeSet;

/// How long after a hand-over auto-delete queues may be without a consumer, in milliseconds: as long as
/// consumers of a silent node keep what they hold.
const UNUSED_AFTER_MS: u64 = 15_000;

/// The hand-over after a leader change, until it is complete.
#[derive(Debug, Default)]
pub(super) struct Resuming {
    /// Nodes that have not told yet; delivering waits for them until the deadline.
    awaited: BTreeSet<NodeId>,
    deadline_ms: Option<u64>,
    /// Nodes that had not told at its end: they may yet bring consumers.
    late: BTreeSet<NodeId>,
}

impl Resuming {
    pub(super) fn new(hand_over: Option<HandOver>) -> Self {
        match hand_over {
            Some(hand_over) if !hand_over.nodes.is_empty() => Self {
                awaited: hand_over.nodes.into_iter().collect(),
                deadline_ms: Some(hand_over.deadline_ms),
                late: hand_over.silent.into_iter().collect(),
            },
            _ => Self::default(),
        }
    }

    /// Whether nothing is to be handed out yet.
    pub(super) fn holds_back(&self) -> bool {
        self.deadline_ms.is_some()
    }

    pub(super) fn deadline_ms(&self) -> Option<u64> {
        self.deadline_ms
    }

    /// Whether there may be consumers that nobody has told of.
    pub(super) fn may_bring_more(&self) -> bool {
        self.holds_back() || !self.late.is_empty()
    }

    /// Nobody is waited for any longer.
    pub(super) fn forget_late(&mut self) {
        self.late.clear();
    }

    /// This node has told everything, or is gone.
    fn told(&mut self, node: NodeId) {
        self.awaited.remove(&node);
        self.late.remove(&node);
    }
}

/// Whether a queue may have had a consumer: messages were handed out, or were about to be.
pub(super) fn was_used(state: &QueueState) -> bool {
    state.levels().any(|level| state.mark(level) > 0)
}

/// Whether a queue had a consumer: its mark is ahead of its messages.
fn had_consumer(state: &QueueState) -> bool {
    let ahead = |level| state.mark(level) >= state.next_number(level);
    state.levels().any(ahead)
}

impl Dispatcher {
    /// A new stream from `origin` opened: what it holds and consumes is told again, ended by
    /// `Resumed`; what it does not tell is taken back. To be called before anything of that stream.
    pub fn attached(&mut self, origin: Origin) {
        let origin_slot = self.roster.origin_slot(origin);
        self.roster.set_telling(origin_slot, true);
        self.drop_requests(origin_slot);
        self.newcomers.forget_all(origin_slot);
        self.kept.forget_all(origin);
        self.roster.set_standing(origin_slot, Standing::Suspect);
        for slot in self.roster.consumers_of(origin_slot) {
            if let Some(consumer) = self.roster.consumers.get_mut(slot) {
                consumer.confirmed = false;
                consumer.credit = 0;
                // Not to be told anything before it has told itself.
                consumer.told = true;
            }
        }
    }

    /// The stream of `origin` broke: nothing is handed out to it until it has told again what it holds.
    pub fn detached(&mut self, origin: Origin) {
        if let Some(origin) = self.roster.known_origin(origin) {
            self.roster.set_telling(origin, true);
        }
    }

    /// The node start is gone (its link is down for good, or it started anew): its consumers go too,
    /// and what it held comes back, counted as failed.
    pub fn node_lost(&mut self, now_ms: u64, origin: Origin, out: &mut Outbox) {
        if let Some(origin_slot) = self.roster.known_origin(origin) {
            self.roster.set_telling(origin_slot, false);
            self.drop_requests(origin_slot);
            self.newcomers.forget_all(origin_slot);
            self.kept.forget_all(origin);
            for slot in self.roster.consumers_of(origin_slot) {
                self.remove_consumer(now_ms, slot, out);
            }
            self.roster.set_standing(origin_slot, Standing::Lost);
            for desk in self.roster.desks_held(origin_slot, Standing::Lost) {
                self.return_lost(desk, origin_slot, out);
            }
        }
        self.resuming.told(origin.node);
        self.end_hand_over_if_due(now_ms);
    }

    /// `Resumed` of a node: what it holds of all queues is known.
    pub(super) fn resumed(&mut self, now_ms: u64, origin: Origin, out: &mut Outbox) {
        if let Some(origin) = self.roster.known_origin(origin) {
            self.roster.set_telling(origin, false);
            self.take_unclaimed(now_ms, origin, out);
            self.let_in(origin);
        }
        self.resuming.told(origin.node);
        self.end_hand_over_if_due(now_ms);
    }

    /// The time for nodes to tell is over by a clock that does not jump.
    pub fn end_hand_over(&mut self, now_ms: u64) {
        let awaited = std::mem::take(&mut self.resuming.awaited);
        self.resuming.late.extend(awaited);
        self.end_hand_over_if_due(now_ms);
    }

    /// Delivering starts when every node has told, or at the deadline.
    pub(super) fn end_hand_over_if_due(&mut self, now_ms: u64) {
        let Some(deadline_ms) = self.resuming.deadline_ms else {
            return;
        };
        if self.resuming.awaited.is_empty() || deadline_ms <= now_ms {
            let Resuming {
                awaited, mut late, ..
            } = std::mem::take(&mut self.resuming);
            late.extend(awaited);
            self.resuming.late = late;
            self.unused_look_ms = Some(now_ms + UNUSED_AFTER_MS);
        }
    }

    /// Auto-delete queues whose consumers were all lost with the former leader. Looked for long after the hand-
    /// over: a node that was silent or slow during it still brings its consumers. Only a queue that
    /// had consumers has a mark ahead of its messages.
    pub(super) fn find_unused(&mut self, machine: &ShardMachine, out: &mut Outbox) {
        let left = self.kept.take_left();
        for (_, desk) in self.desks.iter() {
            let auto_delete = desk
                .settings
                .as_ref()
                .is_some_and(|settings| settings.auto_delete);
            if auto_delete
                && desk.consumer_count() == 0
                && (left.contains(&desk.queue)
                    || machine.queue(desk.queue).is_some_and(had_consumer))
            {
                out.unused.push(desk.queue);
            }
        }
    }

    /// The node has told everything: what it was sent earlier and does not claim was lost on the way.
    fn take_unclaimed(&mut self, now_ms: u64, origin_slot: OriginSlot, out: &mut Outbox) {
        let unconfirmed: Vec<ConsumerSlot> = self
            .roster
            .consumers_of(origin_slot)
            .into_iter()
            .filter(|slot| {
                self.roster
                    .consumers
                    .get(*slot)
                    .is_some_and(|consumer| !consumer.confirmed)
            })
            .collect();
        for slot in unconfirmed {
            self.remove_consumer(now_ms, slot, out);
        }
        for slot in self.roster.desks_held(origin_slot, Standing::Suspect) {
            let Some(desk) = self.desks.get_mut(slot) else {
                continue;
            };
            for stock in &mut desk.stocks {
                let holders = &self.roster.holders;
                let mut released = Vec::new();
                stock.put_back(
                    0,
                    Sequence::MAX_NUMBER,
                    |hold| {
                        holders.get(hold.holder).is_some_and(|holder| {
                            holder.origin == origin_slot && holder.standing == Standing::Suspect
                        })
                    },
                    |_, hold| released.push(hold.holder),
                );
                released
                    .into_iter()
                    .for_each(|holder| self.roster.released(holder));
            }
            self.list(slot);
        }
    }

    /// Consumers of a node that has told all, and who asks for single messages there, may be served.
    fn let_in(&mut self, origin: OriginSlot) {
        for slot in self.roster.consumers_of(origin) {
            self.stand_in_line(slot);
        }
        let asked = |(slot, desk): (DeskSlot, &Desk)| {
            let gets = &desk.bench()?.gets;
            gets.iter().any(|get| get.origin == origin).then_some(slot)
        };
        let asked: Vec<DeskSlot> = self.desks.iter().filter_map(asked).collect();
        asked.into_iter().for_each(|slot| self.list(slot));
    }

    /// Returns, through the log, what lost holders of a node have of a queue.
    fn return_lost(&mut self, slot: DeskSlot, origin: OriginSlot, out: &mut Outbox) {
        let Some(desk) = self.desks.get(slot) else {
            return;
        };
        let mut sequences = SequenceRanges::new();
        for stock in &desk.stocks {
            let lost = stock.held.select(|hold| {
                let holder = self.roster.holders.get(hold.holder);
                holder.is_some_and(|holder| {
                    holder.origin == origin && holder.standing == Standing::Lost
                })
            });
            for number in lost {
                let sequence = stock.sequence(number);
                push_range(&mut sequences, sequence, sequence);
            }
        }
        if !sequences.is_empty() {
            out.leader_ops.push(Op::Return {
                queue: desk.queue,
                sequences,
                counted: true,
            });
        }
    }

    /// Requests that nobody waits for.
    fn drop_requests(&mut self, origin: OriginSlot) {
        let slots: Vec<DeskSlot> = self
            .desks
            .iter()
            .filter(|(_, desk)| {
                desk.bench()
                    .is_some_and(|bench| !bench.gets.is_empty() || !bench.purges.is_empty())
            })
            .map(|(slot, _)| slot)
            .collect();
        for slot in slots {
            if let Some(bench) = self
                .desks
                .get_mut(slot)
                .and_then(super::desk::Desk::bench_mut)
            {
                bench.gets.retain(|get| get.origin != origin);
                bench.purges.retain(|purge| purge.origin != origin);
            }
        }
    }
}
