//! One turn of one queue: what is ready meets who may have it.

use super::bench::PendingGet;
use super::deaths::AT_PUBLISHER_MAX;
use super::desk::Desk;
use super::held::{Hold, HolderSlot};
use super::outbox::{Load, Outbox};
use super::post::{Post, Timers};
use super::roster::Roster;
use super::stock::{Head, Loading};
use crate::ids::{ConsumerId, QueueId, Sequence};
use crate::op::{DeathReason, Op, SequenceRanges};
use crate::protocol::{Delivery, FromHost};
use crate::queue::{QueueState, push_range};
use crate::wire::StoredMessage;
use smallvec::SmallVec;

/// In place of a consumer where a message is got.
const FOR_GET: ConsumerId = ConsumerId(0);
/// Messages handed out in one turn at most, so that others get theirs.
const QUANTUM: usize = 512;
/// A mark is set so far ahead of what is handed out …
const MARK_AHEAD: u64 = 8192;
/// … when less than this is left of it.
const MARK_LOW: u64 = 4096;
/// Messages read at once at most, and at least.
const READ_MAX: u64 = 1024;
const READ_MIN: u64 = 16;
const READ_BYTES: usize = 1 << 20;
/// With more loads than this under way each one brings less, so that many queues read at once in
/// bounded memory.
const LOADS_FULL: usize = 32;
const READ_BYTES_LEAST: usize = 16 << 10;
/// Expired messages are read in such steps once one was found.
const PEEK_MORE: u64 = 256;

/// What a turn works with.
pub(super) struct Turn<'a> {
    pub(super) now_ms: u64,
    /// Marks and loads are needed.
    pub(super) durable: bool,
    pub(super) slot: u32,
    pub(super) state: &'a QueueState,
    pub(super) roster: &'a mut Roster,
    pub(super) post: &'a mut Post,
    pub(super) timers: &'a mut Timers,
    pub(super) loads_in_flight: &'a mut usize,
    pub(super) out: &'a mut Outbox,
    /// Decisions of this turn, one operation per reason.
    pub(super) kills: SmallVec<[(DeathReason, SequenceRanges); 1]>,
    /// Messages handed out that nobody will settle, and their bytes.
    pub(super) settles: SequenceRanges,
    pub(super) settled_bytes: u64,
    /// Somebody would have a message if a mark were applied.
    pub(super) waits_for_mark: bool,
}

/// What there is to hand out.
enum Next {
    /// Nothing is ready.
    Empty,
    /// The next message waits for a load or a mark.
    Wait,
    /// Index of the stock, its head, which is in memory and may go, and what that weighs, in bytes.
    Ready(usize, Head, u32),
}

impl Desk {
    /// Hands out what can be handed out; decides about deaths; sees to it that what comes next will
    /// be there. Returns whether there is more to do at once.
    pub(super) fn serve(&mut self, turn: &mut Turn<'_>) -> bool {
        self.meet_levels(turn.state);
        if self.is_stream() {
            return self.keep_stream(turn);
        }
        let delayed_ms = self.end_delays(turn.now_ms);
        if self.single_active()
            && let Some(bench) = self.bench_mut()
        {
            let changed = bench.elect(turn.roster);
            turn.post.tell_active(turn.roster, &changed, turn.out);
        }
        self.serve_gets(turn);
        let more = self.serve_consumers(turn);
        self.look_ahead(turn);
        self.finish_turn(turn, more, delayed_ms)
    }

    fn serve_gets(&mut self, turn: &mut Turn<'_>) {
        while let Some((nth, get)) = self.next_get(turn.roster) {
            let delivery = match self.next(turn, true) {
                Next::Wait => return,
                Next::Empty => {
                    self.tally_mut().got_nothing += 1;
                    None
                }
                Next::Ready(at, head, _) => {
                    let holder = turn.roster.loose_holder(turn.slot, get.origin);
                    self.hand_out(turn, at, head, (!get.no_ack).then_some(holder), FOR_GET)
                }
            };
            if let Some(bench) = self.bench_mut() {
                bench.gets.remove(nth);
            }
            let delivery = delivery.map(|delivery| {
                let left = self
                    .counts(Some(turn.state))
                    .ready
                    .saturating_sub(ranges_len(&turn.settles));
                (Box::new(delivery), left)
            });
            turn.post.send(
                turn.roster,
                get.origin,
                FromHost::Got {
                    request: get.request,
                    delivery,
                },
                turn.out,
            );
        }
    }

    /// The first of those who ask for single messages whose node has told what it holds.
    fn next_get(&self, roster: &Roster) -> Option<(usize, PendingGet)> {
        let mut gets = self.bench()?.gets.iter().copied().enumerate();
        gets.find(|(_, get)| !roster.is_telling(get.origin))
    }

    fn serve_consumers(&mut self, turn: &mut Turn<'_>) -> bool {
        for _ in 0..QUANTUM {
            let Some(bench) = self.bench_mut() else {
                return false;
            };
            let Some(slot) = bench.turn(turn.roster) else {
                return false;
            };
            let Next::Ready(at, head, weight) = self.next(turn, false) else {
                return false;
            };
            let Some(consumer) = turn.roster.consumers.get(slot) else {
                return false;
            };
            let (origin, id, holder) = (consumer.origin, consumer.id, consumer.holder);
            if weight > consumer.worth {
                let bench = self.bench_mut();
                let unused = bench.map_or(0, |bench| bench.too_large(slot, turn.roster));
                let too_large = FromHost::TooLarge {
                    consumer: id,
                    unused,
                    size: weight,
                };
                turn.post.send(turn.roster, origin, too_large, turn.out);
                continue;
            }
            let holder = (!consumer.spec.no_ack).then_some(holder);
            let Some(delivery) = self.hand_out(turn, at, head, holder, id) else {
                return false;
            };
            let bytes = delivery.message.weight();
            let unused = self
                .bench_mut()
                .map_or(0, |bench| bench.served(slot, bytes, turn.roster));
            turn.post.deliver(turn.roster, origin, delivery, turn.out);
            if unused > 0 {
                let revoked = FromHost::Revoked {
                    consumer: id,
                    unused,
                };
                turn.post.send(turn.roster, origin, revoked, turn.out);
            }
        }
        true
    }

    /// The next message that may go: of the highest level first. Those that must die on the way do.
    fn next(&mut self, turn: &mut Turn<'_>, for_get: bool) -> Next {
        for at in (0..self.stocks.len()).rev() {
            while let Some(stock) = self.stocks.get_mut(at)
                && let Some(head) = stock.head(turn.state)
            {
                let Some(message) = stock.message(turn.state, head.number) else {
                    self.read(turn, at, head, Loading::Read);
                    return Next::Wait;
                };
                let weight = u32::try_from(message.message.weight()).unwrap_or(u32::MAX);
                // A message that just arrived may be handed out even if its time to live is none.
                let expired = head.number <= stock.seen
                    && message.expires_at_ms.is_some_and(|at| at <= turn.now_ms);
                if expired {
                    self.doom_head(turn, at, head, DeathReason::Expired);
                    continue;
                }
                if self.is_over_delivery_limit(turn, at, head) {
                    self.doom_head(turn, at, head, DeathReason::DeliveryLimit);
                    continue;
                }
                if turn.durable
                    && let Some(stock) = self.stocks.get_mut(at)
                    && head.number > stock.marked
                {
                    if head.number > stock.mark_asked {
                        // A get needs no more; consumers have a mark ahead of them anyway.
                        stock.mark_asked = if for_get {
                            head.number
                        } else {
                            head.number + MARK_AHEAD
                        };
                        let upto = stock.sequence(stock.mark_asked);
                        turn.out.leader_ops.push(Op::Mark {
                            queue: self.queue,
                            upto,
                        });
                    }
                    turn.waits_for_mark = true;
                    return Next::Wait;
                }
                return Next::Ready(at, head, weight);
            }
        }
        Next::Empty
    }

    fn is_over_delivery_limit(&self, turn: &Turn<'_>, at: usize, head: Head) -> bool {
        match (self.delivery_limit(), self.stocks.get(at)) {
            (Some(limit), Some(stock)) => {
                u64::from(turn.state.delivery_count(stock.sequence(head.number))) > limit
            }
            _ => false,
        }
    }

    /// Takes a head out of its stock and makes a delivery of it. Without a holder it is settled.
    fn hand_out(
        &mut self,
        turn: &mut Turn<'_>,
        at: usize,
        head: Head,
        holder: Option<HolderSlot>,
        consumer: ConsumerId,
    ) -> Option<Delivery> {
        let stock = self.stocks.get_mut(at)?;
        let message = stock.message(turn.state, head.number)?.message.clone();
        let sequence = stock.sequence(head.number);
        let redelivered = stock.was_out(head);
        stock.take(head);
        stock.forget_read(head.number, head.number);
        match holder {
            Some(holder) => {
                let bytes = u32::try_from(message.body.len()).unwrap_or(u32::MAX);
                stock.held.insert(head.number, Hold { holder, bytes });
                turn.roster.gained(holder);
            }
            None => {
                push_range(&mut turn.settles, sequence, sequence);
                turn.settled_bytes += message.body.len() as u64;
            }
        }
        self.tally_mut()
            .hand_out(consumer == FOR_GET, holder.is_none(), redelivered);
        Some(Delivery {
            consumer,
            queue: self.queue,
            sequence,
            redelivered,
            delivery_count: self.shown_delivery_count(turn.state, sequence),
            message,
        })
    }

    /// A head dies.
    pub(super) fn doom_head(
        &mut self,
        turn: &mut Turn<'_>,
        at: usize,
        head: Head,
        reason: DeathReason,
    ) {
        let Some(stock) = self.stocks.get_mut(at) else {
            return;
        };
        let bytes = stock
            .message(turn.state, head.number)
            .map_or(0, |stored| stored.message.body.len());
        stock.expiring |= reason == DeathReason::Expired;
        stock.take(head);
        stock.doom(head.number, head.number, bytes as u64);
        let sequence = stock.sequence(head.number);
        kill(&mut turn.kills, reason, sequence, sequence);
    }

    /// Asks for the messages from `head` on, unless a load is under way.
    pub(super) fn read(&mut self, turn: &mut Turn<'_>, at: usize, head: Head, why: Loading) {
        let credit = self
            .bench()
            .map_or(0, |bench| bench.credit(turn.roster, READ_MAX));
        let Some(stock) = self.stocks.get_mut(at) else {
            return;
        };
        if stock.loading.is_some() {
            return;
        }
        let count = match why {
            Loading::Peek if stock.expiring => PEEK_MORE,
            Loading::Peek => 1,
            Loading::Walk => READ_MAX,
            Loading::Letters => AT_PUBLISHER_MAX,
            Loading::Read => credit.clamp(READ_MIN, READ_MAX),
        };
        stock.loading = Some(why);
        *turn.loads_in_flight += 1;
        let to = stock
            .stretch(head)
            .min(turn.state.stored_upto(stock.level))
            .max(head.number);
        turn.out.loads.push(Load {
            queue: self.queue,
            level: stock.level,
            from: stock.sequence(head.number),
            to: stock.sequence(to),
            max_count: count as usize,
            max_bytes: if *turn.loads_in_flight > LOADS_FULL {
                READ_BYTES_LEAST
            } else {
                READ_BYTES
            },
        });
    }

    /// Asks for marks and messages before they are needed.
    fn look_ahead(&mut self, turn: &mut Turn<'_>) {
        if self.consumer_count() == 0 {
            return;
        }
        if turn.durable {
            self.mark_ahead(turn);
        }
        self.read_ahead(turn);
    }

    /// Asks for a mark before it is needed.
    fn mark_ahead(&mut self, turn: &mut Turn<'_>) {
        if self.stocks.is_empty() {
            // The first consumer of a queue that had no message yet.
            self.stock_or_new(self.usual_level(), None);
        }
        let queue = self.queue;
        for stock in &mut self.stocks {
            if stock.mark_asked < stock.cursor() + MARK_LOW {
                stock.mark_asked = stock.cursor() + MARK_AHEAD;
                turn.out.leader_ops.push(Op::Mark {
                    queue,
                    upto: stock.sequence(stock.mark_asked),
                });
            }
        }
    }

    /// Reads on while the consumers still work on what was read.
    fn read_ahead(&mut self, turn: &mut Turn<'_>) {
        for at in (0..self.stocks.len()).rev() {
            let Some(stock) = self.stocks.get(at) else {
                return;
            };
            let Some(read_upto) = stock.read_upto() else {
                continue;
            };
            let credit = self
                .bench()
                .map_or(0, |bench| bench.credit(turn.roster, READ_MAX / 2));
            if stock.loading.is_some() || stock.read_count() as u64 >= credit {
                continue;
            }
            let Some((from, _)) = turn.state.alive_from(stock.level, read_upto + 1) else {
                continue;
            };
            if from >= stock.cursor() && from <= turn.state.stored_upto(stock.level) {
                self.read(
                    turn,
                    at,
                    Head {
                        number: from,
                        returned: false,
                    },
                    Loading::Read,
                );
            }
            return;
        }
    }

    /// Sends off the decisions of this turn, looks at heads and limits, tells the starving. `more`: consumers take more
    /// than one turn hands out; `delayed_ms`: a message that came back is ready then. Returns whether there is more to do
    /// at once.
    fn finish_turn(&mut self, turn: &mut Turn<'_>, more: bool, delayed_ms: Option<u64>) -> bool {
        self.settle_unheld(turn);
        let more = self.drop_overflow(turn) || more;
        // What has just come has its chance to be handed out, however soon it expires: here with the mark that is asked
        // for, or in the next turn.
        let unseen = (more || turn.waits_for_mark) && self.has_unseen(turn.state);
        let expires_ms = if unseen || self.has_enough_due(turn.state) {
            // Looked at again with the next turn, or when one of them is settled.
            None
        } else {
            let expires_ms = self.expire_heads(turn);
            let behind_ms = self.expire_behind(turn);
            expires_ms.into_iter().chain(behind_ms).min()
        };
        self.hand_dead_letters(turn);
        self.tell_starving(turn);
        self.send_kills(turn);
        if !unseen {
            for stock in &mut self.stocks {
                stock.seen = turn.state.next_number(stock.level) - 1;
            }
        }
        self.set_timer(turn, expires_ms.into_iter().chain(delayed_ms).min());
        self.drop_idle_stocks(turn.state);
        more
    }

    fn has_unseen(&self, state: &QueueState) -> bool {
        let mut stocks = self.stocks.iter();
        stocks.any(|stock| stock.seen + 1 < state.next_number(stock.level))
    }

    /// A stream: nothing is handed out, its consumers read what is there. What is too old or too much goes.
    fn keep_stream(&mut self, turn: &mut Turn<'_>) -> bool {
        let more = self.drop_overflow(turn);
        let ages = self
            .settings
            .as_ref()
            .is_some_and(|settings| settings.max_age_ms.is_some());
        let expires_ms = if ages { self.expire_heads(turn) } else { None };
        self.send_kills(turn);
        self.set_timer(turn, expires_ms);
        self.drop_idle_stocks(turn.state);
        more
    }

    fn send_kills(&mut self, turn: &mut Turn<'_>) {
        let dead_letter = self.dead_letters();
        for (reason, sequences) in turn.kills.drain(..) {
            turn.out.leader_ops.push(Op::Kill {
                queue: self.queue,
                sequences,
                reason,
                dead_letter,
            });
        }
    }

    fn settle_unheld(&mut self, turn: &mut Turn<'_>) {
        let bytes = std::mem::take(&mut turn.settled_bytes);
        if turn.settles.is_empty() {
            return;
        }
        let sequences = std::mem::take(&mut turn.settles);
        let mut bytes = Some(bytes);
        for (from, to) in &sequences {
            if let Some(stock) = self.stock_mut(from.level()) {
                stock.doom(from.number(), to.number(), bytes.take().unwrap_or(0));
            }
        }
        turn.out.leader_ops.push(Op::Settle {
            queue: self.queue,
            sequences,
        });
    }

    /// Wakes the queue when a message expires, or when it was unused for too long.
    fn set_timer(&mut self, turn: &mut Turn<'_>, expires_ms: Option<u64>) {
        let unused = self.unused_until_ms();
        if let Some(at_ms) = expires_ms.into_iter().chain(unused).min() {
            turn.timers.set(self, turn.slot, at_ms);
        }
    }

    fn tell_starving(&mut self, turn: &mut Turn<'_>) {
        let single_active = self.single_active();
        if !self.bench().is_some_and(super::bench::Bench::has_starving)
            || self.counts(Some(turn.state)).ready == 0
        {
            return;
        }
        let Some(bench) = self.bench_mut() else {
            return;
        };
        for slot in bench.starving(turn.roster) {
            if bench.is_eligible(slot, single_active)
                && let Some(consumer) = turn.roster.consumers.get(slot)
            {
                let (origin, consumer) = (consumer.origin, consumer.id);
                turn.post.send(
                    turn.roster,
                    origin,
                    FromHost::Starved { consumer },
                    turn.out,
                );
            }
        }
    }

    /// Takes in what a load brought.
    pub(super) fn take_in(
        &mut self,
        load: &Load,
        messages: Vec<(Sequence, StoredMessage)>,
        state: &QueueState,
        now_ms: u64,
        missing: &mut Vec<(QueueId, Sequence)>,
    ) {
        let queue = self.queue;
        let delays = self.delays();
        let kept_ms = messages.first().map(|(_, first)| first.expires_at_ms);
        let first_ends_ms = self.ends_at_ms(kept_ms.flatten());
        let Some(stock) = self.stock_mut(load.level) else {
            return;
        };
        let Some(why) = stock.loading.take() else {
            return;
        };
        let found = messages
            .first()
            .is_some_and(|(first, _)| *first == load.from);
        if !found && state.exists(load.from) && state.in_memory(load.from).is_none() {
            missing.push((queue, load.from));
            return;
        }
        if why == Loading::Walk {
            if let Some(deadlines) = &mut stock.deadlines {
                for (sequence, message) in &messages {
                    if state.is_alive(*sequence) {
                        deadlines.look_at(sequence.number(), message.expires_at_ms);
                    }
                }
                deadlines.has_read(now_ms);
            }
            return;
        }
        if why == Loading::Peek
            && let Some((first, message)) = messages.first()
        {
            stock.peeked = Some((first.number(), message.expires_at_ms));
            if first_ends_ms > now_ms {
                // It stays where it is: many queues with a far-off expiry must not fill the memory.
                stock.expiring = false;
                return;
            }
        }
        for (sequence, message) in messages {
            // Of messages that wait for their time, only those whose time has come are handed on.
            let wanted = !delays && stock.is_ready(sequence.number()) && state.is_alive(sequence);
            if sequence.level() == load.level && (wanted || state.reason_of(sequence).is_some()) {
                stock.add_read(sequence.number(), message);
            }
        }
    }
}

/// Adds messages to what dies for a reason.
pub(super) fn kill(
    kills: &mut SmallVec<[(DeathReason, SequenceRanges); 1]>,
    reason: DeathReason,
    from: Sequence,
    to: Sequence,
) {
    match kills.iter_mut().find(|(of, _)| *of == reason) {
        Some((_, sequences)) => push_range(sequences, from, to),
        None => kills.push((reason, SmallVec::from_elem((from, to), 1))),
    }
}

pub(super) fn ranges_len(ranges: &SequenceRanges) -> u64 {
    ranges.iter().map(|(from, to)| to.0 - from.0 + 1).sum()
}
