//! Messages that die: at the end of their time, over the length limit, and on to the dead letter
//! publisher.

use super::deadlines::{Deadlines, NEAREST};
use super::desk::Desk;
use super::outbox::{DeadLetter, Outbox};
use super::serve::{Turn, kill};
use super::stock::{Head, Loading, Stock};
use crate::catalog::settings::Overflow;
use crate::identity::Identity;
use crate::ids::Sequence;
use crate::op::{DeathReason, Op, SequenceRanges};
use crate::queue::{QueueState, push_range};

/// Heads that expire in one turn at most.
const EXPIRE_QUANTUM: usize = 1024;
/// Messages that are dropped one by one in one turn at most.
const DROP_QUANTUM: usize = 16 * 1024;
/// Messages looked at for their deadlines in one turn at most.
const WALK_QUANTUM: usize = 4096;
/// Dead letters of a queue that the publisher has at a time: a round of two logs takes some milliseconds …
pub(super) const AT_PUBLISHER_MAX: u64 = 512;
/// … of a store whose messages are passed on when their time has come, in order …
const DUE_AT_PUBLISHER_MAX: u64 = 256;
/// … fewer if they are large: about so many bytes, going by the mean size in the queue.
const AT_PUBLISHER_BYTES: u64 = 64 << 20;
/// Messages of such a store that are marked as due at a time: the others can wait where they are.
const DUE_MAX: u64 = 4096;
/// Deadlines that such a store knows at a time: it is made of messages with times of their own.
const DELAYED_NEAREST: usize = 128 << 10;

impl Desk {
    /// `drop-head`: ready messages over the limits die, oldest of the lowest level first, so that
    /// what matters most stays. Returns whether there are more of them: a bounded number goes in one turn.
    pub(super) fn drop_overflow(&mut self, turn: &mut Turn<'_>) -> bool {
        let Some(limits) = self
            .limits()
            .filter(|limits| limits.overflow == Overflow::DropHead)
        else {
            return false;
        };
        // What only waits for a mark to be handed out is as good as gone.
        if turn.waits_for_mark {
            return false;
        }
        let counts = self.counts(Some(turn.state));
        let mean = counts.ready_bytes / counts.ready.max(1);
        // What waits after it came back counts, and stays.
        let mut excess = (counts.ready + counts.delayed)
            .saturating_sub(limits.length)
            .min(counts.ready);
        for stock in &mut self.stocks {
            if excess == 0 {
                break;
            }
            let mut dropped = Vec::new();
            excess -= stock.take_ready(turn.state, excess, |from, to| dropped.push((from, to)));
            for (from, to) in dropped {
                let mut bytes = (to - from + 1) * mean;
                // A long stretch is a backlog in the store, whose sizes are not known anyway.
                if to - from < EXPIRE_QUANTUM as u64 {
                    let size = |number| {
                        stock
                            .message(turn.state, number)
                            .map_or(mean, |stored| stored.message.body.len() as u64)
                    };
                    bytes = (from..=to).map(size).sum();
                }
                stock.doom(from, to, bytes);
                let (from, to) = (stock.sequence(from), stock.sequence(to));
                kill(&mut turn.kills, DeathReason::MaxLength, from, to);
            }
        }
        if limits.bytes == u64::MAX {
            return false;
        }
        let counts = self.counts(Some(turn.state));
        let mut ready_bytes = counts.ready_bytes + counts.delayed_bytes;
        let mut quantum = DROP_QUANTUM;
        // The newest message of a stream stays, however large.
        let keeps_last = self.is_stream();
        for stock in &mut self.stocks {
            let last = turn.state.next_number(stock.level) - 1;
            while ready_bytes > limits.bytes
                && let Some(head) = stock.head(turn.state)
                && !(keeps_last && head.number == last)
            {
                if quantum == 0 {
                    return true;
                }
                quantum -= 1;
                let bytes = stock
                    .message(turn.state, head.number)
                    .map_or(mean.max(1), |stored| stored.message.body.len() as u64);
                stock.take(head);
                stock.doom(head.number, head.number, bytes);
                ready_bytes = ready_bytes.saturating_sub(bytes);
                let sequence = stock.sequence(head.number);
                kill(&mut turn.kills, DeathReason::MaxLength, sequence, sequence);
            }
        }
        false
    }

    /// Ends the messages at the head of every level whose time has passed. Returns when the next
    /// head expires.
    pub(super) fn expire_heads(&mut self, turn: &mut Turn<'_>) -> Option<u64> {
        let mut next_ms: Option<u64> = None;
        let mut quantum = EXPIRE_QUANTUM;
        for at in 0..self.stocks.len() {
            while let Some(stock) = self.stocks.get_mut(at)
                && turn.state.expires_until_ms(stock.level) != 0
                && let Some(head) = stock.head(turn.state)
            {
                let kept_ms = match (stock.message(turn.state, head.number), stock.peeked) {
                    (Some(message), _) => message.expires_at_ms,
                    (None, Some((peeked, kept_ms))) if peeked == head.number => kept_ms,
                    _ => {
                        self.read(turn, at, head, Loading::Peek);
                        break;
                    }
                };
                let expires_at_ms = self.ends_at_ms(kept_ms);
                if expires_at_ms > turn.now_ms {
                    if expires_at_ms != u64::MAX {
                        next_ms =
                            Some(next_ms.map_or(expires_at_ms, |other| other.min(expires_at_ms)));
                    }
                    break;
                }
                if quantum == 0 {
                    return Some(turn.now_ms);
                }
                quantum -= 1;
                self.doom_head(turn, at, head, DeathReason::Expired);
            }
        }
        next_ms
    }

    /// Ends ready messages behind the head of every level whose time has passed. Returns when there
    /// is something to do next.
    pub(super) fn expire_behind(&mut self, turn: &mut Turn<'_>) -> Option<u64> {
        let mut next_ms: Option<u64> = None;
        let mut expired = Vec::new();
        let mean = turn.state.alive_bytes() / turn.state.alive().max(1);
        let nearest_max = if self.delays() {
            DELAYED_NEAREST
        } else {
            NEAREST
        };
        for at in 0..self.stocks.len() {
            let Some(stock) = self.stocks.get_mut(at) else {
                break;
            };
            if turn.state.expires_until_ms(stock.level) == 0 {
                stock.deadlines = None;
                stock.unexpiring = turn.state.next_number(stock.level) - 1;
                continue;
            }
            let base = stock.unexpiring;
            let mut deadlines = stock
                .deadlines
                .take()
                .unwrap_or_else(|| Box::new(Deadlines::new(turn.now_ms, base, nearest_max)));
            let state = turn.state;
            let mut quantum = EXPIRE_QUANTUM;
            while quantum > 0
                && let Some(number) = deadlines.pop_due(turn.now_ms)
            {
                let sequence = stock.sequence(number);
                if !state.is_alive(sequence) || stock.is_doomed(number) {
                    continue;
                }
                let bytes = stock
                    .message(state, number)
                    .map_or(mean, |stored| stored.message.body.len() as u64);
                if stock.doom_ready(number, bytes) {
                    quantum -= 1;
                    expired.push(sequence);
                } else {
                    let alive = |number| state.is_alive(Sequence::new(sequence.level(), number));
                    deadlines.is_held(number, turn.now_ms, alive);
                }
            }
            deadlines.refill(turn.now_ms);
            let walk = stock.walk(&mut deadlines, state, turn.now_ms);
            let due_ms = match walk {
                Walk::Goes => Some(turn.now_ms),
                Walk::Rests => deadlines.next_ms(true),
                _ => deadlines.next_ms(false),
            };
            next_ms = next_ms.into_iter().chain(due_ms).min();
            let read = match walk {
                Walk::Reads(number) => {
                    deadlines.reads(turn.now_ms);
                    Some(number)
                }
                _ => None,
            };
            stock.deadlines = Some(deadlines);
            if let Some(number) = read {
                let head = Head {
                    number,
                    returned: false,
                };
                self.read(turn, at, head, Loading::Walk);
            }
        }
        expired.sort_unstable();
        let mut sequences = SequenceRanges::new();
        for sequence in expired {
            push_range(&mut sequences, sequence, sequence);
        }
        if !sequences.is_empty() {
            turn.out.leader_ops.push(Op::Kill {
                queue: self.queue,
                sequences,
                reason: DeathReason::Expired,
                dead_letter: self.dead_letters(),
            });
        }
        next_ms
    }

    /// Gives dying messages to the dead letter publisher, a bounded number at a time.
    pub(super) fn hand_dead_letters(&mut self, turn: &mut Turn<'_>) {
        if turn.state.dying() == 0 || self.settings.is_none() {
            return;
        }
        let first = turn.out.dead_letters.len();
        let most = if self.delays() {
            DUE_AT_PUBLISHER_MAX
        } else {
            AT_PUBLISHER_MAX
        };
        let bytes = turn.state.alive_bytes() + turn.state.dying_bytes();
        let mean = bytes / (turn.state.alive() + turn.state.dying()).max(1);
        let most = (AT_PUBLISHER_BYTES / mean.max(1)).clamp(8, most);
        let given = self.at_publisher.as_ref().map_or(0, |given| given.len());
        self.hand_dying(turn, most.saturating_sub(given));
        if self.delays()
            && let Some(due) = turn.out.dead_letters.get_mut(first..)
        {
            // What was due first goes first, also after a time without a leader.
            due.sort_by_key(|letter| letter.expires_at_ms);
        }
    }

    fn hand_dying(&mut self, turn: &mut Turn<'_>, mut room: u64) {
        for (from, to, reason) in turn.state.dying_ranges() {
            for number in from.0..=to.0 {
                if room == 0 {
                    return;
                }
                if self
                    .at_publisher
                    .as_ref()
                    .is_some_and(|given| given.contains(number))
                {
                    continue;
                }
                if !self.hand_dead_letter(turn, Sequence(number), reason) {
                    return;
                }
                room -= 1;
            }
        }
    }

    /// Returns false if the message has to be read first.
    fn hand_dead_letter(
        &mut self,
        turn: &mut Turn<'_>,
        sequence: Sequence,
        reason: DeathReason,
    ) -> bool {
        let number = sequence.number();
        let Some(at) = self
            .stocks
            .iter()
            .position(|stock| stock.level == sequence.level())
        else {
            return false;
        };
        let Some(stock) = self.stocks.get_mut(at) else {
            return false;
        };
        let Some(stored) = stock.message(turn.state, number) else {
            self.read(
                turn,
                at,
                Head {
                    number,
                    returned: false,
                },
                Loading::Letters,
            );
            return false;
        };
        let (message, expires_at_ms) = (stored.message.clone(), stored.expires_at_ms);
        stock.forget_read(number, number);
        turn.out.dead_letters.push(DeadLetter {
            queue: self.queue,
            sequence: Some(sequence),
            identity: Some(Identity::passed_on(self.queue, sequence)),
            reason,
            delivery_count: self.shown_delivery_count(turn.state, sequence),
            expires_at_ms,
            message,
        });
        self.at_publisher
            .get_or_insert_default()
            .insert(sequence.0, sequence.0, ());
        true
    }

    /// The queue is gone: what died in it and has not gone on yet goes now, as far as it is in memory. Nobody keeps it
    /// any longer.
    pub(super) fn hand_last_letters(&self, state: &QueueState, out: &mut Outbox) {
        if !self.dead_letters() || self.delays() {
            return;
        }
        let is_given =
            |number| (self.at_publisher.as_ref()).is_some_and(|given| given.contains(number));
        for (from, to, reason) in state.dying_ranges() {
            let left = (from.0..=to.0).filter(|number| !is_given(*number));
            for sequence in left.map(Sequence) {
                let stock = self
                    .stocks
                    .iter()
                    .find(|stock| stock.level == sequence.level());
                let stored = match stock {
                    Some(stock) => stock.message(state, sequence.number()),
                    None => state.in_memory(sequence),
                };
                let Some(stored) = stored else { continue };
                out.dead_letters.push(DeadLetter {
                    queue: self.queue,
                    sequence: None,
                    identity: Some(Identity::passed_on(self.queue, sequence)),
                    reason,
                    delivery_count: self.shown_delivery_count(state, sequence),
                    expires_at_ms: stored.expires_at_ms,
                    message: stored.message.clone(),
                });
            }
        }
    }

    /// Whether something that died here has not gone on yet.
    pub(super) fn has_letters(&self, state: Option<&QueueState>) -> bool {
        let dying = state.is_some_and(|state| state.dying() > 0);
        self.dead_letters() && (dying || self.stocks.iter().any(Stock::has_doomed))
    }

    /// Whether more messages are due than the publisher will take for a while.
    pub(super) fn has_enough_due(&self, state: &QueueState) -> bool {
        self.delays() && state.dying() >= DUE_MAX
    }

    /// The publisher does not have these messages any more.
    pub(super) fn forget_dead_letters(&mut self, from: Sequence, to: Sequence) {
        let Some(given) = &mut self.at_publisher else {
            return;
        };
        given.remove(from.0, to.0, |_, _, ()| {});
        if given.is_empty() {
            self.at_publisher = None;
        }
    }
}

/// How a walk for deadlines stands.
enum Walk {
    /// There is more to look at, in the next turn.
    Goes,
    /// There is more to look at, after a rest.
    Rests,
    /// It waits for a load.
    Waits,
    /// It wants to read from this message on.
    Reads(u64),
    /// It has seen the last message.
    Ends,
}

impl Stock {
    /// Looks at messages that were not looked at yet, a bounded number.
    fn walk(&self, deadlines: &mut Deadlines, state: &QueueState, now_ms: u64) -> Walk {
        let mut quantum = WALK_QUANTUM;
        while let Some((from, to)) = state.alive_from(self.level, deadlines.walked() + 1) {
            for number in from..=to {
                if quantum == 0 {
                    return Walk::Goes;
                }
                quantum -= 1;
                match self.message(state, number) {
                    Some(stored) => deadlines.look_at(number, stored.expires_at_ms),
                    None if self.loading.is_some() => return Walk::Waits,
                    None if deadlines.is_rested(now_ms) => return Walk::Reads(number),
                    None => return Walk::Rests,
                }
            }
        }
        deadlines.at_end(now_ms);
        Walk::Ends
    }
}
