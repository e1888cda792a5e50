//! The leader's volatile half of the queues: who consumes, who holds what, what goes next.
//!
//! Pure: fed with what nodes say ([`Dispatcher::handle`]) and with what was applied
//! ([`Dispatcher::effects`]), it hands messages out in [`Dispatcher::pump`] and leaves what it wants
//! done in an [`Outbox`]. What it decides about messages becomes operations in the log; it never
//! changes the replicated state itself.
//!
//! Invariants:
//! - A message is in one place: held, on its way to its end (doomed), or ready (`stock`). A message
//!   is handed to one holder at a time; it is ready again only when its holder returned it, or is
//!   gone.
//! - Only a message that is alive in the machine is handed out, at the time it is handed out.
//! - Per level, messages go out in order of their numbers; what came back goes before what follows it.
//! - No message above an applied mark is handed out, so a later leader knows what may have been out.
//! - No consumer gets more than its credit.
//! - A holder's return counts only if it holds the message; a settle always counts.
//! - Work is for queues that have something to do: those are listed, the others cost nothing.
//! - Memory is bounded by consumers, by messages held, and by one bounded read per level.
//!
//! # Leader change
//! A new leader does not deliver until every live node has told which messages it holds (or a bound
//! has passed). Such messages stay with their holders. All others are ready again, and flagged as
//! redelivered up to the mark of the former leader. Consumers that begin meanwhile wait, as does the
//! choice of a single active one: whose the queue was is known at the end.
//!
//! Not here: which messages exist (`queue`), batches (`shard`), sessions' credit policy (`node`).

mod admission;
mod applied;
mod attach;
mod bench;
mod deadlines;
mod deaths;
mod delayed;
mod desk;
mod held;
mod kept;
mod line;
mod newcomers;
mod outbox;
mod post;
mod replaced;
mod requests;
mod roster;
mod serve;
mod slab;
mod stock;
mod tally;
#[cfg(test)]
mod tests;

pub use outbox::{Admission, ConsumerInfo, DeadLetter, HandOver, Load, Outbox, QueueCounts};
pub use replaced::Replaced;
pub use tally::Tally;

use crate::catalog::settings::QueueSettings;
use crate::ids::{QueueId, RequestId, Sequence};
use crate::op::{Op, SequenceRanges};
use crate::protocol::{FromHost, Refused, Subject};
use crate::queue::QueueState;
use crate::shard::ShardMachine;
use crate::wire::StoredMessage;
use admission::Admissions;
use attach::Resuming;
use desk::Desk;
use kept::Kept;
use newcomers::Newcomers;
use post::{Post, Timers};
use roster::{DeskSlot, Roster};
use serve::Turn;
use slab::Slab;
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::sync::Arc;

/// Turns of queues in one [`Dispatcher::pump`] at most.
const PUMP_TURNS: usize = 64;

/// All queues of one shard (or of the local host).
#[derive(Debug)]
pub struct Dispatcher {
    /// Marks are needed: messages outlive this node.
    durable: bool,
    desks: Slab<Desk>,
    index: hashbrown::HashMap<QueueId, DeskSlot, foldhash::fast::FixedState>,
    roster: Roster,
    post: Post,
    timers: Timers,
    /// Desks that may have something to do; each is flagged.
    work: VecDeque<DeskSlot>,
    resuming: Resuming,
    newcomers: Newcomers,
    kept: Kept,
    /// When queues without a consumer are looked for, some time after a hand-over.
    unused_look_ms: Option<u64>,
    admissions: Admissions,
    replaced: Replaced,
    loads_in_flight: usize,
    default_delivery_limit: Option<u64>,
}

impl Dispatcher {
    /// For the leader of a shard, once everything of earlier terms is applied. Settings of every
    /// queue are to follow before the first [`Self::pump`].
    #[must_use]
    pub fn new(now_ms: u64, machine: &ShardMachine, hand_over: Option<HandOver>) -> Self {
        let mut dispatcher = Self::empty(true, hand_over);
        // The marks of former leaders are told from those of this one by being there now.
        for (queue, _) in machine.queues() {
            dispatcher.desk_or_new(now_ms, queue, machine);
        }
        dispatcher
    }

    /// For queues of this node alone: no marks.
    #[must_use]
    pub fn local() -> Self {
        Self::empty(false, None)
    }

    fn empty(durable: bool, hand_over: Option<HandOver>) -> Self {
        Self {
            durable,
            desks: Slab::default(),
            index: hashbrown::HashMap::default(),
            roster: Roster::default(),
            post: Post::default(),
            timers: Timers::default(),
            work: VecDeque::new(),
            resuming: Resuming::new(hand_over),
            newcomers: Newcomers::default(),
            kept: Kept::default(),
            unused_look_ms: None,
            admissions: Admissions::default(),
            replaced: Replaced::default(),
            loads_in_flight: 0,
            default_delivery_limit: None,
        }
    }

    /// Failed deliveries after which a message dies in queues that name no number. A setting of the
    /// leader's node: what it decides by it is in the log.
    #[must_use]
    pub fn with_delivery_limit(mut self, limit: Option<u64>) -> Self {
        self.default_delivery_limit = limit;
        for desk in self.desks.iter_mut() {
            desk.default_delivery_limit = limit;
        }
        self
    }

    /// Queues that were deleted of late and declared again; what comes for the former ones yet is refused.
    #[must_use]
    pub fn with_replaced(mut self, replaced: Replaced) -> Self {
        self.replaced = replaced;
        self
    }

    /// A deleted queue was declared again, with another id.
    pub fn replaced(&mut self, now_ms: u64, former: QueueId) {
        self.replaced.note(now_ms, former);
    }

    /// Settings from the catalog; `None`: the record is gone, so consumers are cancelled and
    /// [`Op::Delete`] is emitted.
    pub fn settings(
        &mut self,
        now_ms: u64,
        queue: QueueId,
        settings: Option<Arc<QueueSettings>>,
        machine: &ShardMachine,
        out: &mut Outbox,
    ) {
        let Some(settings) = settings else {
            self.close(queue, machine, out);
            return;
        };
        let slot = self.desk_or_new(now_ms, queue, machine);
        let Some(desk) = self.desks.get_mut(slot) else {
            return;
        };
        let before = usize::from(desk.rejects());
        if (desk.settings.as_ref()).is_some_and(|old| old.expires_ms != settings.expires_ms) {
            // How long nobody may use it counts from now: an idle queue is not gone with the policy that says so.
            desk.last_used_ms = now_ms;
        }
        desk.settings = Some(settings);
        self.admissions.rejecting += usize::from(desk.rejects());
        self.admissions.rejecting -= before;
        self.list(slot);
    }

    /// Whether settings of this queue have been given.
    #[must_use]
    pub fn knows(&self, queue: QueueId) -> bool {
        self.desk(queue).is_some_and(|desk| desk.settings.is_some())
    }

    /// Counts and consumers of `queues` (of all, in no order, if none are named), to `each`. Queues
    /// that are not here are left out.
    pub fn counts(
        &self,
        machine: &ShardMachine,
        queues: &[QueueId],
        mut each: impl FnMut(QueueId, QueueCounts, &[ConsumerInfo]),
    ) {
        let mut tell = |desk: &Desk| {
            let slots = desk.bench().map(|bench| bench.consumers.iter(&self.roster));
            let consumers: Vec<_> = slots
                .into_iter()
                .flatten()
                .filter_map(|slot| self.consumer_info(desk, slot))
                .collect();
            each(
                desk.queue,
                desk.counts(machine.queue(desk.queue)),
                &consumers,
            );
        };
        if queues.is_empty() {
            self.desks.iter().for_each(|(_, desk)| tell(desk));
        }
        queues
            .iter()
            .filter_map(|queue| self.desk(*queue))
            .for_each(tell);
    }

    /// Counts of one queue.
    #[must_use]
    pub fn queue_counts(&self, machine: &ShardMachine, queue: QueueId) -> QueueCounts {
        self.desk(queue).map_or_else(QueueCounts::default, |desk| {
            desk.counts(machine.queue(queue))
        })
    }

    /// Consumers of a stream have read so many messages, for its figures.
    pub fn has_read(&mut self, queue: QueueId, messages: u64) {
        let slot = self.index.get(&queue).copied();
        if let Some(desk) = slot.and_then(|slot| self.desks.get_mut(slot)) {
            desk.tally_mut().delivered += messages;
        }
    }

    /// Whether a call of [`Self::pump`] has something to do now.
    #[must_use]
    pub fn has_work(&self) -> bool {
        let kept = !self.kept.is_empty(!self.resuming.may_bring_more());
        let idle = self.work.is_empty() && self.newcomers.is_empty() && !kept;
        !idle && !self.resuming.holds_back()
    }

    fn consumer_info(&self, desk: &Desk, slot: u32) -> Option<ConsumerInfo> {
        let consumer = self.roster.consumers.get(slot)?;
        Some(ConsumerInfo {
            origin: self.roster.origin(consumer.origin),
            consumer: consumer.id,
            spec: consumer.spec.clone(),
            credit: consumer.credit,
            unacked: self
                .roster
                .holders
                .get(consumer.holder)
                .map_or(0, |holder| holder.held),
            active: desk
                .bench()
                .is_some_and(|bench| bench.is_active(slot, desk.single_active())),
        })
    }

    /// Answer to a [`Load`], with messages in ascending order.
    pub fn loaded(
        &mut self,
        now_ms: u64,
        load: &Load,
        messages: Vec<(Sequence, StoredMessage)>,
        machine: &ShardMachine,
        out: &mut Outbox,
    ) {
        self.loads_in_flight = self.loads_in_flight.saturating_sub(1);
        let Some(slot) = self.index.get(&load.queue).copied() else {
            return;
        };
        if let (Some(desk), Some(state)) = (self.desks.get_mut(slot), machine.queue(load.queue)) {
            desk.take_in(load, messages, state, now_ms, &mut out.missing);
        }
        self.list(slot);
    }

    /// A [`Load`] could not be done now (no room for it, say): it is asked for again when needed.
    pub fn load_failed(&mut self, load: &Load) {
        self.loads_in_flight = self.loads_in_flight.saturating_sub(1);
        let Some(slot) = self.index.get(&load.queue).copied() else {
            return;
        };
        if let Some(stock) = self
            .desks
            .get_mut(slot)
            .and_then(|desk| desk.stock_mut(load.level))
        {
            stock.loading = None;
        }
        self.list(slot);
    }

    /// The dead letter publisher had no room for this message: it is handed to it again.
    pub fn dead_letter_again(&mut self, queue: QueueId, sequence: Sequence) {
        let Some(slot) = self.index.get(&queue).copied() else {
            return;
        };
        if let Some(desk) = self.desks.get_mut(slot) {
            desk.forget_dead_letters(sequence, sequence);
        }
        self.list(slot);
    }

    /// Hands out as much as credit allows, fairly; bounded work per call. Returns whether there is
    /// more to do at once.
    pub fn pump(&mut self, now_ms: u64, machine: &ShardMachine, out: &mut Outbox) -> bool {
        self.end_hand_over_if_due(now_ms);
        if self
            .unused_look_ms
            .take_if(|at_ms| *at_ms <= now_ms)
            .is_some()
        {
            self.resuming.forget_late();
            self.find_unused(machine, out);
        }
        while let Some(slot) = self.timers.pop_due(now_ms) {
            if let Some(desk) = self.desks.get_mut(slot) {
                desk.timer_ms = 0;
                let until_ms = desk.unused_until_ms();
                let is_over = until_ms.is_some_and(|until_ms| until_ms <= now_ms);
                if is_over && desk.has_letters(machine.queue(desk.queue)) {
                    desk.expire_later(now_ms);
                } else if is_over {
                    // Told again after another such time, should it still be there.
                    desk.last_used_ms = now_ms;
                    out.expired.push(desk.queue);
                }
            }
            self.list(slot);
        }
        if self.resuming.holds_back() {
            return false;
        }
        self.go_on_after_hand_over(now_ms, machine, out);
        for _ in 0..PUMP_TURNS.min(self.work.len()) {
            let Some(slot) = self.work.pop_front() else {
                break;
            };
            if self.turn(slot, now_ms, machine, out) {
                self.list(slot);
            }
        }
        self.post.flush(&self.roster, out);
        !self.work.is_empty()
    }

    /// When [`Self::pump`] must be called at the latest.
    #[must_use]
    pub fn next_timeout(&self) -> Option<u64> {
        self.resuming
            .deadline_ms()
            .into_iter()
            .chain(self.unused_look_ms)
            .chain(self.timers.first())
            .min()
    }

    /// Serves one desk. Returns whether it has more to do at once.
    fn turn(
        &mut self,
        slot: DeskSlot,
        now_ms: u64,
        machine: &ShardMachine,
        out: &mut Outbox,
    ) -> bool {
        let Some(desk) = self.desks.get_mut(slot) else {
            return false;
        };
        desk.listed = false;
        let nothing = QueueState::default();
        let mut turn = Turn {
            now_ms,
            durable: self.durable,
            slot,
            state: machine.queue(desk.queue).unwrap_or(&nothing),
            roster: &mut self.roster,
            post: &mut self.post,
            timers: &mut self.timers,
            loads_in_flight: &mut self.loads_in_flight,
            out,
            kills: SmallVec::new(),
            settles: SequenceRanges::new(),
            settled_bytes: 0,
            waits_for_mark: false,
        };
        desk.serve(&mut turn)
    }

    /// The desk may have something to do.
    fn list(&mut self, slot: DeskSlot) {
        if let Some(desk) = self.desks.get_mut(slot)
            && !desk.listed
        {
            desk.listed = true;
            self.work.push_back(slot);
        }
    }

    #[cfg(test)]
    fn stocks(&self, queue: QueueId) -> usize {
        self.desk(queue).map_or(0, |desk| desk.stocks.len())
    }

    fn desk(&self, queue: QueueId) -> Option<&Desk> {
        self.desks.get(*self.index.get(&queue)?)
    }

    fn desk_or_new(&mut self, now_ms: u64, queue: QueueId, machine: &ShardMachine) -> DeskSlot {
        if let Some(slot) = self.index.get(&queue) {
            return *slot;
        }
        let mut desk = Desk::new(queue, now_ms);
        desk.default_delivery_limit = self.default_delivery_limit;
        desk.begin(machine.queue(queue));
        let slot = self.desks.insert(desk);
        self.index.insert(queue, slot);
        slot
    }

    /// The queue is gone from the catalog.
    fn close(&mut self, queue: QueueId, machine: &ShardMachine, out: &mut Outbox) {
        if let Some(state) = machine.queue(queue) {
            if let Some(desk) = self.desk(queue) {
                desk.hand_last_letters(state, out);
            }
            out.leader_ops.push(Op::Delete { queue });
        }
        if let Some(slot) = self.index.remove(&queue) {
            self.discard(slot, out);
        }
    }

    /// Cancels everything of a desk and forgets it.
    fn discard(&mut self, slot: DeskSlot, out: &mut Outbox) {
        let Some(mut desk) = self.desks.remove(slot) else {
            return;
        };
        self.timers.clear(&mut desk, slot);
        // It may still be listed: another desk in its slot is then served once for nothing.
        self.admissions.rejecting -= usize::from(desk.rejects());
        if let Some(bench) = desk.bench_mut() {
            let consumers: Vec<_> = bench.consumers.iter(&self.roster).collect();
            for consumer in consumers {
                if let Some(consumer) = self.roster.remove(consumer) {
                    let message = FromHost::Cancelled {
                        consumer: consumer.id,
                        by_host: true,
                    };
                    self.post.send(&self.roster, consumer.origin, message, out);
                }
            }
            for get in std::mem::take(&mut bench.gets) {
                self.refuse_request(get.origin, get.request, out);
            }
            for purge in std::mem::take(&mut bench.purges) {
                self.answer_purge(purge, out);
            }
        }
        desk.drop_bench();
        for stock in &mut desk.stocks {
            stock.gone(0, Sequence::MAX_NUMBER, |hold| {
                self.roster.released(hold.holder)
            });
        }
        self.roster.forget_desk(slot);
    }

    fn refuse_request(&mut self, origin: u32, request: RequestId, out: &mut Outbox) {
        let refused = FromHost::Refused {
            subject: Subject::Request(request),
            why: Refused::NoQueue,
        };
        self.post.send(&self.roster, origin, refused, out);
    }
}
