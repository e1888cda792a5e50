//! What a dispatcher knows of one priority level of a queue.
//!
//! A message that is alive is in exactly one of these places:
//! - *held* by somebody (`held`);
//! - *doomed*: the operation that ends it is on its way (`doomed`);
//! - *returned*: was handed out below the cursor and came back (`returned`);
//! - *delayed*: came back and waits before it is handed out again (`delayed`);
//! - at or above the cursor: never handed out by this dispatcher. Those that expired behind the
//!   head are doomed there, and skipped when the cursor gets to them.
//!
//! What was returned, and what is at or above the cursor, is ready; what came back goes first, as its numbers are lower.
//! Messages that nodes claimed after a leader change are held at or above the cursor, and some that were delayed
//! before it are there, too: they are skipped when it gets there.

use super::deadlines::Deadlines;
use super::delayed::Delayed;
use super::held::{Held, Hold};
use crate::ids::Sequence;
use crate::queue::{QueueState, RangeSet};
use crate::wire::StoredMessage;
use std::collections::BTreeMap;

#[derive(Debug)]
pub(super) struct Stock {
    pub(super) level: u8,
    cursor: u64,
    returned: RangeSet,
    pub(super) held: Held,
    /// Held messages at or above the cursor.
    claims: u64,
    /// None for most.
    pub(super) delayed: Option<Box<Delayed>>,
    doomed: RangeSet,
    doomed_bytes: u64,
    /// Doomed messages at or above the cursor are not above this number.
    doomed_until: u64,
    /// Messages that expire before one ahead of them; made with the first message that expires.
    pub(super) deadlines: Option<Box<Deadlines>>,
    /// Messages up to this number never expire.
    pub(super) unexpiring: u64,
    /// Messages up to this number may have been handed out by an earlier leader.
    mark_at_start: u64,
    /// Messages up to this number may be handed out (a mark is applied), or a mark is asked for.
    pub(super) marked: u64,
    pub(super) mark_asked: u64,
    /// Messages above this number have not been looked at: their time to live starts with a chance
    /// to be handed out at once.
    pub(super) seen: u64,
    /// The last head that was looked at had expired: more of them are likely.
    pub(super) expiring: bool,
    /// Read from the store and not yet handed out.
    ahead: BTreeMap<u64, StoredMessage>,
    pub(super) loading: Option<Loading>,
    /// A message that is in the store only, and the time that is kept with it.
    pub(super) peeked: Option<(u64, Option<u64>)>,
}

/// Why a load is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loading {
    /// To hand messages out.
    Read,
    /// To learn when the head expires.
    Peek,
    /// To learn when messages behind the head expire.
    Walk,
    /// To give messages to the dead letter publisher.
    Letters,
}

/// The next ready message of a level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) number: u64,
    /// It came back.
    pub(super) returned: bool,
}

impl Stock {
    /// `is_new`: this dispatcher has seen the level empty, so no message there is from before.
    pub(super) fn new(level: u8, state: Option<&QueueState>, is_new: bool) -> Self {
        let (mark, last) = state.map_or((0, 0), |state| {
            (state.mark(level), state.next_number(level) - 1)
        });
        let last = if is_new { 0 } else { last };
        let delayed = state.filter(|_| !is_new);
        Self {
            level,
            cursor: 0,
            returned: RangeSet::default(),
            held: Held::default(),
            claims: 0,
            delayed: delayed.and_then(|state| delayed_in(state, level)),
            doomed: RangeSet::default(),
            doomed_bytes: 0,
            doomed_until: 0,
            deadlines: None,
            unexpiring: 0,
            // Messages that arrive from now on have not been handed out, although a mark may be ahead.
            mark_at_start: mark.min(last),
            marked: mark,
            mark_asked: mark,
            seen: last,
            expiring: false,
            ahead: BTreeMap::new(),
            loading: None,
            peeked: None,
        }
    }

    pub(super) fn sequence(&self, number: u64) -> Sequence {
        Sequence::new(self.level, number)
    }

    /// Nothing from here on was handed out by this dispatcher.
    pub(super) fn cursor(&self) -> u64 {
        self.cursor
    }

    /// Whether a message that is alive is ready (or claimed).
    pub(super) fn is_ready(&self, number: u64) -> bool {
        (number >= self.cursor && !self.is_doomed(number) && !self.is_delayed(number))
            || self.returned.contains(number)
    }

    fn is_delayed(&self, number: u64) -> bool {
        let delayed = self.delayed.as_ref();
        delayed.is_some_and(|delayed| delayed.contains(number))
    }

    /// A message that came back waits until then.
    pub(super) fn delay(&mut self, number: u64, until_ms: u64, bytes: u64) {
        self.returned.remove(number, number, |_, _, ()| {});
        let delayed = self.delayed.get_or_insert_default();
        delayed.insert(number, until_ms, bytes);
    }

    /// Messages that have waited long enough are ready. Returns when the next one will have.
    pub(super) fn end_delays(&mut self, now_ms: u64) -> Option<u64> {
        let delayed = self.delayed.as_mut()?;
        while let Some(number) = delayed.pop_due(now_ms) {
            if number < self.cursor {
                self.returned.insert(number, number, ());
            }
            if let Some(deadlines) = &mut self.deadlines {
                deadlines.came_back(number);
            }
        }
        let next = delayed.due_ms().map(|(next_ms, _)| next_ms);
        if next.is_none() {
            self.delayed = None;
        }
        next
    }

    /// How many messages wait after they came back, and their bytes.
    pub(super) fn delayed_size(&self) -> (u64, u64) {
        let delayed = self.delayed.as_ref();
        delayed.map_or((0, 0), |delayed| delayed.size())
    }

    /// The next ready message.
    pub(super) fn head(&mut self, state: &QueueState) -> Option<Head> {
        while let Some((number, _, ())) = self.returned.first() {
            if state.is_alive(self.sequence(number)) {
                return Some(Head {
                    number,
                    returned: true,
                });
            }
            self.returned.pop_first();
        }
        self.cursor_head(state).map(|number| Head {
            number,
            returned: false,
        })
    }

    /// The next message at or above the cursor that is neither claimed nor doomed; the cursor moves up to it.
    fn cursor_head(&mut self, state: &QueueState) -> Option<u64> {
        loop {
            let (from, _) = state.alive_from(self.level, self.cursor)?;
            self.cursor = from;
            if from <= self.doomed_until && self.doomed.contains(from) {
                self.cursor = from + 1;
                continue;
            }
            if self.is_delayed(from) {
                self.cursor = from + 1;
                continue;
            }
            if self.claims == 0 || !self.held.is_beside(from) {
                return Some(from);
            }
            self.cursor = from + 1;
            self.claims -= 1;
        }
    }

    /// A head is ready no longer: it is handed out or doomed next.
    pub(super) fn take(&mut self, head: Head) {
        if head.returned {
            self.returned
                .remove(head.number, head.number, |_, _, ()| {});
        } else {
            self.cursor = head.number + 1;
        }
        if self.peeked.is_some_and(|(number, _)| number == head.number) {
            self.peeked = None;
        }
    }

    /// A message that just came back is ready no longer. False if it was claimed ahead of the cursor,
    /// which will get to it.
    pub(super) fn take_returned(&mut self, number: u64) -> bool {
        if number >= self.cursor {
            return false;
        }
        self.returned.remove(number, number, |_, _, ()| {});
        true
    }

    /// Whether a head may have been handed out before.
    pub(super) fn was_out(&self, head: Head) -> bool {
        head.returned || head.number <= self.mark_at_start
    }

    /// The operation that ends these messages is on its way.
    pub(super) fn doom(&mut self, from: u64, to: u64, bytes: u64) {
        self.doomed.insert(from, to, ());
        self.doomed_bytes += bytes;
        self.forget_read(from, to);
    }

    /// As [`Self::doom`] for one message that need not be the head. False if it is not ready.
    pub(super) fn doom_ready(&mut self, number: u64, bytes: u64) -> bool {
        if self.held.get(number).is_some() || self.doomed.contains(number) {
            return false;
        }
        let was_delayed = match &mut self.delayed {
            Some(delayed) => delayed.remove(number),
            None => false,
        };
        if number >= self.cursor {
            self.doomed_until = self.doomed_until.max(number);
        } else if self.returned.contains(number) {
            self.returned.remove(number, number, |_, _, ()| {});
        } else if !was_delayed {
            return false;
        }
        self.doom(number, number, bytes);
        true
    }

    pub(super) fn has_doomed(&self) -> bool {
        !self.doomed.is_empty()
    }

    pub(super) fn is_doomed(&self, number: u64) -> bool {
        self.doomed.contains(number)
    }

    /// Messages that are ready or held are no more; `released` hears of the held ones.
    pub(super) fn gone(&mut self, from: u64, to: u64, mut released: impl FnMut(Hold)) {
        let (cursor, claims) = (self.cursor, &mut self.claims);
        self.held.take(
            from,
            to,
            |_| true,
            |number, hold| {
                if number >= cursor {
                    *claims -= 1;
                }
                released(hold);
            },
        );
        if !self.doomed.is_empty() {
            let before = self.doomed.len();
            let mut removed = 0;
            self.doomed
                .remove(from, to, |a, b, ()| removed += b - a + 1);
            let share =
                u128::from(self.doomed_bytes) * u128::from(removed) / u128::from(before.max(1));
            self.doomed_bytes -= share as u64;
        }
        if let Some(delayed) = &mut self.delayed {
            delayed.remove_all(from, to);
        }
        if !self.returned.is_empty() {
            self.returned.remove(from, to, |_, _, ()| {});
        }
        self.forget_read(from, to);
    }

    /// Held messages that pass `wanted` are ready again; `back` hears of each.
    pub(super) fn put_back(
        &mut self,
        from: u64,
        to: u64,
        wanted: impl Fn(Hold) -> bool,
        mut back: impl FnMut(u64, Hold),
    ) {
        let Self {
            held,
            cursor,
            claims,
            returned,
            deadlines,
            ..
        } = self;
        held.take(from, to, wanted, |number, hold| {
            if number >= *cursor {
                *claims -= 1;
            } else {
                returned.insert(number, number, ());
            }
            if let Some(deadlines) = deadlines {
                deadlines.came_back(number);
            }
            back(number, hold);
        });
    }

    /// A node says that it holds this message. Returns the former holder if the message changes
    /// hands, `Err` if the claim is void.
    pub(super) fn claim(
        &mut self,
        number: u64,
        hold: Hold,
        may_take_from: impl Fn(Hold) -> bool,
    ) -> Result<Option<Hold>, VoidClaim> {
        if let Some(before) = self.held.get(number) {
            if before.holder == hold.holder || !may_take_from(before) {
                return Err(VoidClaim);
            }
            self.held.reassign(number, hold.holder);
            return Ok(Some(before));
        }
        if self.doomed.contains(number) {
            return Err(VoidClaim);
        }
        let was_delayed = match &mut self.delayed {
            Some(delayed) => delayed.remove(number),
            None => false,
        };
        if number >= self.cursor {
            self.claims += 1;
        } else if !was_delayed {
            // Neither held nor doomed nor ready: it is dead.
            if !self.returned.contains(number) {
                return Err(VoidClaim);
            }
            self.returned.remove(number, number, |_, _, ()| {});
        }
        self.held.insert_beside(number, hold);
        Ok(None)
    }

    /// Whether it knows nothing that a new one would not.
    pub(super) fn is_idle(&self) -> bool {
        self.held.len() == 0
            && self.doomed.is_empty()
            && self.delayed.is_none()
            && self.loading.is_none()
            && self.mark_asked <= self.marked
    }

    /// Messages handed out, delayed or doomed, and their bytes: what is alive and not ready.
    pub(super) fn busy(&self) -> (u64, u64) {
        let (delayed, delayed_bytes) = self.delayed_size();
        (
            self.held.len() + self.doomed.len() + delayed,
            self.held.bytes() + self.doomed_bytes + delayed_bytes,
        )
    }

    /// Takes up to `limit` ready messages from the head, as ranges.
    pub(super) fn take_ready(
        &mut self,
        state: &QueueState,
        limit: u64,
        mut taken: impl FnMut(u64, u64),
    ) -> u64 {
        let mut count = 0;
        while count < limit
            && let Some((from, to, ())) = self.returned.first()
        {
            let to = to.min(from.saturating_add(limit - count - 1));
            self.returned.remove(from, to, |_, _, ()| {});
            for (from, to) in alive_within(state, self.level, from, to) {
                count += to - from + 1;
                taken(from, to);
            }
        }
        while count < limit
            && let Some(from) = self.cursor_head(state)
            && let Some((_, end)) = state.alive_from(self.level, from)
        {
            let mut end = end.min(from.saturating_add(limit - count - 1));
            if self.claims > 0 {
                end = self
                    .held
                    .beside_within(from, end)
                    .next()
                    .map_or(end, |claimed| claimed - 1);
            }
            if from <= self.doomed_until {
                end = self
                    .doomed
                    .within(from, end)
                    .next()
                    .map_or(end, |(doomed, _, ())| doomed - 1);
            }
            if let Some(delayed) = &self.delayed {
                let first = delayed.first_within(from, end);
                end = first.map_or(end, |delayed| delayed - 1);
            }
            self.cursor = end + 1;
            count += end - from + 1;
            taken(from, end);
        }
        count
    }

    /// A message that is in memory.
    pub(super) fn message<'a>(
        &'a self,
        state: &'a QueueState,
        number: u64,
    ) -> Option<&'a StoredMessage> {
        state
            .in_memory(self.sequence(number))
            .or_else(|| self.ahead.get(&number))
    }

    /// Messages that were read and not yet handed out.
    pub(super) fn read_count(&self) -> usize {
        self.ahead.len()
    }

    /// The highest number that was read.
    pub(super) fn read_upto(&self) -> Option<u64> {
        self.ahead.last_key_value().map(|(number, _)| *number)
    }

    pub(super) fn add_read(&mut self, number: u64, message: StoredMessage) {
        self.ahead.insert(number, message);
    }

    pub(super) fn forget_read(&mut self, from: u64, to: u64) {
        if self.ahead.is_empty() {
            return;
        }
        if from == to {
            self.ahead.remove(&from);
        } else {
            self.ahead
                .retain(|number, _| *number < from || *number > to);
        }
    }

    /// Nobody wants messages now.
    pub(super) fn forget_all_read(&mut self) {
        self.ahead.clear();
    }

    /// The highest number of a stretch of ready messages that starts at `head`, for a load.
    pub(super) fn stretch(&self, head: Head) -> u64 {
        if head.returned {
            self.returned
                .within(head.number, u64::MAX)
                .next()
                .map_or(head.number, |(_, to, ())| to)
        } else {
            Sequence::MAX_NUMBER
        }
    }
}

/// The claimed message is not there to be held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct VoidClaim;

/// What was delayed when a dispatcher begins. Some may have been handed out again since: their time is over, or a node
/// claims them.
fn delayed_in(state: &QueueState, level: u8) -> Option<Box<Delayed>> {
    let mut delayed = Delayed::default();
    // The size of a message that is in the store only is not known: as the others.
    let mean = state.alive_bytes() / state.alive().max(1);
    for (from, to, until_ms) in state.delayed_ranges() {
        if from.level() != level {
            continue;
        }
        for number in from.number()..=to.number() {
            let stored = state.in_memory(Sequence::new(level, number));
            let bytes = stored.map_or(mean, |stored| stored.message.body.len() as u64);
            delayed.insert(number, until_ms, bytes);
        }
    }
    (!delayed.is_empty()).then(|| Box::new(delayed))
}

/// Stretches of alive messages within `from..=to`.
pub(super) fn alive_within(
    state: &QueueState,
    level: u8,
    from: u64,
    to: u64,
) -> impl Iterator<Item = (u64, u64)> {
    let mut at = Some(from);
    std::iter::from_fn(move || {
        let (from, end) = state.alive_from(level, at?)?;
        at = end.checked_add(1);
        (from <= to).then_some((from, end.min(to)))
    })
}
