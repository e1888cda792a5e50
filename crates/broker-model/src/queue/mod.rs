//! The replicated state of one queue: which messages exist.
//!
//! Every replica applies the same operations in the same order, so nothing here reads a clock, draws
//! a random number or knows the queue's settings.
//!
//! Invariants:
//! - A number is given once and never again; a message exists from its append until it is settled
//!   (or killed without a dead letter), and is then gone for good.
//! - A message that exists is *alive* or *dying* (kept for the dead letter publisher), never both.
//! - It is found in memory or, from the checkpoint on that stored it, in the state store: exactly
//!   one of the two (`level`).
//! - Memory is bounded by what is not checkpointed yet, by how the settled messages are scattered
//!   (an eighth of a byte per message of the scattered stretch) and by the size of deduplication
//!   windows, not by the backlog. The record that a checkpoint writes is bounded likewise.
//! - The byte counter is exact for messages in memory. Stored ones count with their average, as the
//!   size of a message that was not read is not known: a hint, not part of the replicated decision.
//!
//! Not here: who holds what and what is ready (`dispatch`), batches and duplicates (`shard`).

mod alive;
mod level;
mod ranges;
mod record;
mod sources;
mod spill;
mod tail;
mod window;

pub(crate) use ranges::{RangeMap, RangeSet};

use crate::identity::Identity;
use crate::ids::Sequence;
use crate::op::{DeathReason, SequenceRanges};
use crate::wire::StoredMessage;
use level::Level;
use window::Windows;

/// The replicated state of one queue.
#[derive(Debug, Clone, Default)]
pub struct QueueState {
    /// Sorted by level; usually one. None before the first message.
    levels: Vec<Level>,
    /// What only few queues have.
    rare: Option<Box<Rare>>,
    /// What was accepted of late, where duplicates are found out.
    windows: Option<Box<Windows>>,
    /// Alive messages in memory: body bytes.
    memory_bytes: u64,
    /// Alive messages in the state store: number and body bytes.
    stored: u64,
    stored_bytes: u64,
    /// Listed for the next checkpoint.
    pub(crate) dirty: bool,
}

#[derive(Debug, Clone, Default)]
struct Rare {
    /// Failed deliveries of messages that have any.
    counts: RangeMap<u32>,
    /// When messages that came back may be handed out again. What is said of one stays until it ends, also when it was
    /// handed out since.
    delayed: RangeMap<u64>,
    /// Messages for the dead letter publisher.
    dying: RangeMap<DeathReason>,
    /// Their body bytes, as those of alive ones: a hint.
    dying_bytes: u64,
}

impl Rare {
    fn is_empty(&self) -> bool {
        self.counts.is_empty() && self.delayed.is_empty() && self.dying.is_empty()
    }
}

impl QueueState {
    /// Messages that exist and are not dying, handed out or not.
    #[must_use]
    pub fn alive(&self) -> u64 {
        self.levels.iter().map(|level| level.alive.len()).sum()
    }

    /// Alive messages that are in memory, and their body bytes; others are in the store.
    #[must_use]
    pub fn alive_in_memory(&self) -> (u64, u64) {
        (self.alive().saturating_sub(self.stored), self.memory_bytes)
    }

    /// Messages kept for the dead letter publisher.
    #[must_use]
    pub fn dying(&self) -> u64 {
        self.rare.as_ref().map_or(0, |rare| rare.dying.len())
    }

    /// Body bytes of alive messages. Exact for those in memory, by average for stored ones.
    #[must_use]
    pub fn alive_bytes(&self) -> u64 {
        self.memory_bytes + self.stored_bytes
    }

    /// Body bytes of messages kept for the dead letter publisher, stored ones by average.
    #[must_use]
    pub fn dying_bytes(&self) -> u64 {
        self.rare.as_ref().map_or(0, |rare| rare.dying_bytes)
    }

    /// A message that is in memory.
    #[must_use]
    pub fn in_memory(&self, sequence: Sequence) -> Option<&StoredMessage> {
        self.level(sequence.level())?.tail.get(sequence.number())
    }

    /// Whether the message exists, alive or dying.
    #[must_use]
    pub fn exists(&self, sequence: Sequence) -> bool {
        self.is_alive(sequence) || self.reason_of(sequence).is_some()
    }

    /// Whether the message is alive.
    #[must_use]
    pub fn is_alive(&self, sequence: Sequence) -> bool {
        self.level(sequence.level())
            .is_some_and(|level| level.alive.contains(sequence.number()))
    }

    /// Failed deliveries of a message.
    #[must_use]
    pub fn delivery_count(&self, sequence: Sequence) -> u32 {
        self.rare
            .as_ref()
            .and_then(|rare| rare.counts.get(sequence.0))
            .unwrap_or(0)
    }

    /// Messages that came back and were not to be handed out at once, and until when, in order. That time may have
    /// passed.
    pub fn delayed_ranges(&self) -> impl Iterator<Item = (Sequence, Sequence, u64)> {
        self.rare
            .iter()
            .flat_map(|rare| rare.delayed.iter())
            .map(|(a, b, until_ms)| (Sequence(a), Sequence(b), until_ms))
    }

    /// Why a dying message dies.
    #[must_use]
    pub fn reason_of(&self, sequence: Sequence) -> Option<DeathReason> {
        self.rare.as_ref()?.dying.get(sequence.0)
    }

    /// Ranges of dying messages, in order.
    pub fn dying_ranges(&self) -> impl Iterator<Item = (Sequence, Sequence, DeathReason)> {
        self.rare
            .iter()
            .flat_map(|rare| rare.dying.iter())
            .map(|(a, b, reason)| (Sequence(a), Sequence(b), reason))
    }

    /// Levels that ever had a message, ascending.
    pub fn levels(&self) -> impl DoubleEndedIterator<Item = u8> {
        self.levels.iter().map(|level| level.level)
    }

    /// How many levels ever had a message.
    #[must_use]
    pub fn level_count(&self) -> usize {
        self.levels.len()
    }

    /// Alive messages of a level.
    #[must_use]
    pub fn alive_in(&self, level: u8) -> u64 {
        self.level(level).map_or(0, |level| level.alive.len())
    }

    /// The first stretch of alive messages of a level that starts at or above `number`.
    #[must_use]
    pub fn alive_from(&self, level: u8, number: u64) -> Option<(u64, u64)> {
        self.level(level)?.alive.range_from(number)
    }

    /// The number that the next message of a level gets.
    #[must_use]
    pub fn next_number(&self, level: u8) -> u64 {
        self.level(level).map_or(1, |level| level.next)
    }

    /// Messages of a level up to this number may have been handed out.
    #[must_use]
    pub fn mark(&self, level: u8) -> u64 {
        self.level(level).map_or(0, |level| level.mark)
    }

    /// Messages of a level up to this number are in the state store.
    #[must_use]
    pub fn stored_upto(&self, level: u8) -> u64 {
        self.level(level).map_or(0, |level| level.stored)
    }

    /// No message of the level expires after this time; 0: none expires at all.
    #[must_use]
    pub fn expires_until_ms(&self, level: u8) -> u64 {
        self.level(level).map_or(0, |level| level.expires_until_ms)
    }

    /// Whether a message with these identities would be dropped at `now_ms`.
    #[must_use]
    pub fn is_duplicate(&self, identities: &[Identity], now_ms: u64) -> bool {
        self.windows
            .as_ref()
            .is_some_and(|windows| windows.knows(identities, now_ms))
    }

    /// A message with these identities, which is no duplicate, is accepted.
    pub(crate) fn remember(&mut self, identities: &[Identity], now_ms: u64) {
        self.windows
            .get_or_insert_default()
            .remember(identities, now_ms);
    }

    fn level(&self, wanted: u8) -> Option<&Level> {
        // Usually the only one.
        match self.levels.first() {
            Some(first) if first.level == wanted => Some(first),
            _ => self.levels.iter().find(|level| level.level == wanted),
        }
    }

    fn level_mut(&mut self, wanted: u8) -> &mut Level {
        let at = self.levels.partition_point(|level| level.level < wanted);
        if self
            .levels
            .get(at)
            .is_none_or(|level| level.level != wanted)
        {
            // Most queues have one level: no room for more.
            self.levels.reserve_exact(1);
            self.levels.insert(at, Level::new(wanted));
        }
        &mut self.levels[at]
    }

    /// Appends a message to a level.
    pub(crate) fn push(&mut self, level: u8, message: StoredMessage) -> Sequence {
        self.memory_bytes += message.message.body.len() as u64;
        Sequence::new(level, self.level_mut(level).push(message))
    }

    /// These messages cease to exist, alive or dying. `gone` collects those that did exist.
    /// Returns the bytes of memory that became free.
    pub(crate) fn settle(
        &mut self,
        from: Sequence,
        to: Sequence,
        gone: &mut SequenceRanges,
    ) -> usize {
        if from == to && self.rare.is_none() {
            return self.settle_one(from, gone);
        }
        let mut freed = self.each_level(from, to, |level, rare, counters, a, b| {
            let name = level.level;
            let mut freed = 0;
            let Level {
                alive,
                tail,
                stored,
                ..
            } = level;
            let mut removed: SequenceRanges = SequenceRanges::new();
            alive.remove(a, b, |a, b| {
                freed += counters.take(tail, *stored, a, b);
                push_range(&mut removed, Sequence::new(name, a), Sequence::new(name, b));
            });
            if alive.is_empty() {
                level.expires_until_ms = 0;
            }
            for (a, b) in &removed {
                level.bury(a.number(), b.number());
                if let Some(rare) = rare {
                    rare.counts.remove(a.0, b.0, |_, _, _| {});
                    rare.delayed.remove(a.0, b.0, |_, _, _| {});
                }
                push_range(gone, *a, *b);
            }
            freed
        });
        freed += self.settle_dying(from, to, gone);
        self.drop_rare();
        freed
    }

    /// [`Self::settle`] for what happens a million times a second: one alive message, nothing rare.
    fn settle_one(&mut self, sequence: Sequence, gone: &mut SequenceRanges) -> usize {
        let (name, number) = (sequence.level(), sequence.number());
        let Some(level) = self.levels.iter_mut().find(|level| level.level == name) else {
            return 0;
        };
        let mut counters = Counters {
            memory_bytes: &mut self.memory_bytes,
            stored: &mut self.stored,
            stored_bytes: &mut self.stored_bytes,
        };
        let Level {
            alive,
            tail,
            stored,
            ..
        } = level;
        let mut freed = 0;
        let mut found = false;
        alive.remove(number, number, |_, _| {
            freed = counters.take(tail, *stored, number, number);
            found = true;
        });
        if found {
            if alive.is_empty() {
                level.expires_until_ms = 0;
            }
            level.bury(number, number);
            push_range(gone, sequence, sequence);
        }
        freed
    }

    fn settle_dying(&mut self, from: Sequence, to: Sequence, gone: &mut SequenceRanges) -> usize {
        let Some(rare) = &mut self.rare else { return 0 };
        let mut removed: SequenceRanges = SequenceRanges::new();
        let before = rare.dying.len();
        rare.dying.remove(from.0, to.0, |a, b, _| {
            push_range(&mut removed, Sequence(a), Sequence(b))
        });
        rare.dying_bytes = share(rare.dying_bytes, rare.dying.len(), before);
        for (a, b) in &removed {
            rare.counts.remove(a.0, b.0, |_, _, _| {});
        }
        let mut freed = 0;
        for (a, b) in removed {
            let level = self.level_mut(a.level());
            level.bury(a.number(), b.number());
            for number in a.number().max(level.stored + 1)..=b.number() {
                freed += level
                    .tail
                    .remove(number)
                    .map_or(0, |stored| stored.message.weight());
            }
            push_range(gone, a, b);
        }
        freed
    }

    /// These messages die. Without `dead_letter` as [`Self::settle`], else they are kept aside.
    pub(crate) fn kill(
        &mut self,
        from: Sequence,
        to: Sequence,
        reason: DeathReason,
        killed: &mut SequenceRanges,
    ) {
        let mut dying: SequenceRanges = SequenceRanges::new();
        let mut bytes = 0;
        self.each_level(from, to, |level, _, counters, a, b| {
            let name = level.level;
            let Level {
                alive,
                tail,
                stored,
                ..
            } = level;
            alive.remove(a, b, |a, b| {
                bytes += counters.discount(tail, *stored, a, b);
                push_range(&mut dying, Sequence::new(name, a), Sequence::new(name, b));
            });
            if alive.is_empty() {
                level.expires_until_ms = 0;
            }
            0
        });
        for (a, b) in dying {
            let rare = self.rare.get_or_insert_default();
            rare.delayed.remove(a.0, b.0, |_, _, _| {});
            rare.dying.insert(a.0, b.0, reason);
            rare.dying_bytes += std::mem::take(&mut bytes);
            push_range(killed, a, b);
        }
    }

    /// These messages come back; counted ones get another failed delivery. `returned` collects those
    /// that are alive.
    pub(crate) fn give_back(
        &mut self,
        from: Sequence,
        to: Sequence,
        counted: bool,
        returned: &mut SequenceRanges,
    ) {
        for (a, b) in self.alive_within(from, to) {
            if counted {
                self.count(a.0, b.0);
            }
            push_range(returned, a, b);
        }
    }

    /// These messages are not to be handed out before `until_ms`.
    pub(crate) fn delay(&mut self, from: Sequence, to: Sequence, until_ms: u64) {
        for (a, b) in self.alive_within(from, to) {
            let rare = self.rare.get_or_insert_default();
            rare.delayed.insert(a.0, b.0, until_ms);
        }
    }

    fn alive_within(&mut self, from: Sequence, to: Sequence) -> SequenceRanges {
        let mut alive: SequenceRanges = SequenceRanges::new();
        self.each_level(from, to, |level, _, _, a, b| {
            for (a, b) in level.alive.ranges_within(a, b) {
                push_range(
                    &mut alive,
                    Sequence::new(level.level, a),
                    Sequence::new(level.level, b),
                );
            }
            0
        });
        alive
    }

    /// Adds a failed delivery to each of `from..=to`.
    fn count(&mut self, from: u64, to: u64) {
        let counts = &mut self.rare.get_or_insert_default().counts;
        let mut counted = Vec::new();
        counts.remove(from, to, |a, b, count| counted.push((a, b, count)));
        let mut at = from;
        for (a, b, count) in counted {
            if at < a {
                counts.insert(at, a - 1, 1);
            }
            counts.insert(a, b, count.saturating_add(1));
            at = b + 1;
        }
        if at <= to {
            counts.insert(at, to, 1);
        }
    }

    /// Messages of the level up to `upto` may have been handed out.
    pub(crate) fn set_mark(&mut self, upto: Sequence) {
        let level = self.level_mut(upto.level());
        level.mark = level.mark.max(upto.number());
    }

    /// Calls `work` for the part of `from..=to` that lies in each level that exists, cut to the
    /// numbers that were given.
    fn each_level(
        &mut self,
        from: Sequence,
        to: Sequence,
        mut work: impl FnMut(&mut Level, &mut Option<Box<Rare>>, &mut Counters<'_>, u64, u64) -> usize,
    ) -> usize {
        let mut sum = 0;
        let mut counters = Counters {
            memory_bytes: &mut self.memory_bytes,
            stored: &mut self.stored,
            stored_bytes: &mut self.stored_bytes,
        };
        for level in &mut self.levels {
            if level.level < from.level() || level.level > to.level() {
                continue;
            }
            let a = if level.level == from.level() {
                from.number()
            } else {
                0
            };
            let b = if level.level == to.level() {
                to.number()
            } else {
                Sequence::MAX_NUMBER
            };
            let b = b.min(level.next - 1);
            if a <= b {
                sum += work(level, &mut self.rare, &mut counters, a, b);
            }
        }
        sum
    }

    fn drop_rare(&mut self) {
        if self.rare.as_ref().is_some_and(|rare| rare.is_empty()) {
            self.rare = None;
        }
    }

    /// Bytes of memory that its messages take.
    pub(crate) fn tail_bytes(&self) -> usize {
        self.levels
            .iter()
            .flat_map(|level| level.tail.iter_from(0))
            .map(|(_, stored)| stored.message.weight())
            .sum()
    }

    /// The checkpoint that begins stores every message that is in memory and not in an earlier one.
    /// `put` gets them in order, `delete` the stored ranges that are dead.
    pub(crate) fn begin_checkpoint(
        &mut self,
        mut put: impl FnMut(Sequence, Sequence),
        delete: impl FnMut(Sequence, Sequence),
    ) {
        self.take_dead(delete);
        for level in &mut self.levels {
            let name = level.level;
            let last = level.next - 1;
            if level.storing < last {
                put(
                    Sequence::new(name, level.storing + 1),
                    Sequence::new(name, last),
                );
            }
            level.storing = last;
        }
    }

    /// `delete` gets the stored ranges that have died since the last call.
    fn take_dead(&mut self, mut delete: impl FnMut(Sequence, Sequence)) {
        let rare = &self.rare;
        for level in &mut self.levels {
            let name = level.level;
            let dead = level.take_dead(|from, to| {
                rare.as_ref().is_some_and(|rare| {
                    let (from, to) = (Sequence::new(name, from), Sequence::new(name, to));
                    rare.dying.within(from.0, to.0).next().is_some()
                })
            });
            for (from, to) in dead {
                delete(Sequence::new(name, from), Sequence::new(name, to));
            }
        }
    }

    /// Messages that are in memory from `from` on, in order.
    pub(crate) fn in_memory_from(
        &self,
        from: Sequence,
    ) -> impl Iterator<Item = (Sequence, &StoredMessage)> {
        let name = from.level();
        self.level(name).into_iter().flat_map(move |level| {
            let messages = level.tail.iter_from(from.number());
            messages.map(move |(number, stored)| (Sequence::new(name, number), stored))
        })
    }

    /// The running checkpoint is durable: its messages go from memory, `most` of them at a time, which are counted
    /// down. Returns the bytes of memory that became free, and whether that was all.
    pub(crate) fn end_checkpoint(&mut self, most: &mut usize) -> (usize, bool) {
        let mut freed = 0;
        for level in &mut self.levels {
            let name = level.level;
            let rare = &self.rare;
            let (memory_bytes, stored, stored_bytes) = (
                &mut self.memory_bytes,
                &mut self.stored,
                &mut self.stored_bytes,
            );
            level.stored = level
                .tail
                .remove_upto(level.storing, most, |number, message| {
                    freed += message.message.weight();
                    let dying = rare
                        .as_ref()
                        .is_some_and(|rare| rare.dying.contains(Sequence::new(name, number).0));
                    if !dying {
                        let bytes = message.message.body.len() as u64;
                        *memory_bytes -= bytes;
                        *stored += 1;
                        *stored_bytes += bytes;
                    }
                });
            if level.stored < level.storing {
                return (freed, false);
            }
        }
        self.trim();
        (freed, true)
    }

    #[cfg(test)]
    pub(crate) const fn level_size() -> usize {
        size_of::<Level>()
    }

    /// Gives back memory that is not needed now.
    pub(crate) fn trim(&mut self) {
        self.levels.iter_mut().for_each(Level::trim);
    }
}

/// The counters of alive messages.
struct Counters<'a> {
    memory_bytes: &'a mut u64,
    stored: &'a mut u64,
    stored_bytes: &'a mut u64,
}

impl Counters<'_> {
    /// Alive messages `from..=to` are gone: takes them out of counters and memory. Returns the bytes
    /// of memory that became free.
    fn take(&mut self, tail: &mut tail::Tail, stored: u64, from: u64, to: u64) -> usize {
        self.discount_stored(stored, from, to);
        let mut freed = 0;
        for number in from.max(stored + 1)..=to {
            if let Some(message) = tail.remove(number) {
                *self.memory_bytes -= message.message.body.len() as u64;
                freed += message.message.weight();
            }
        }
        freed
    }

    /// Alive messages `from..=to` are alive no longer, but stay where they are. Returns their bytes.
    fn discount(&mut self, tail: &tail::Tail, stored: u64, from: u64, to: u64) -> u64 {
        let mut bytes = self.discount_stored(stored, from, to);
        for number in from.max(stored + 1)..=to {
            if let Some(message) = tail.get(number) {
                *self.memory_bytes -= message.message.body.len() as u64;
                bytes += message.message.body.len() as u64;
            }
        }
        bytes
    }

    fn discount_stored(&mut self, stored: u64, from: u64, to: u64) -> u64 {
        if from > stored {
            return 0;
        }
        let count = (to.min(stored) - from + 1).min(*self.stored);
        let bytes = share(*self.stored_bytes, count, *self.stored);
        *self.stored_bytes -= bytes;
        *self.stored -= count;
        bytes
    }
}

/// What `count` of `all` messages have of `bytes`, on average.
pub(crate) fn share(bytes: u64, count: u64, all: u64) -> u64 {
    if count >= all {
        return bytes;
    }
    (u128::from(bytes) * u128::from(count) / u128::from(all.max(1))) as u64
}

/// Appends a range, extending the last one where it follows on.
pub(crate) fn push_range(ranges: &mut SequenceRanges, from: Sequence, to: Sequence) {
    match ranges.last_mut() {
        Some(last) if last.1.0 + 1 == from.0 => last.1 = to,
        _ => ranges.push((from, to)),
    }
}
