//! The nearest deadlines of one priority level, for messages that expire before one ahead of them.
//!
//! A message whose deadline is not before that of any message ahead of it is at the head when its
//! time comes, and needs no index: so a queue with one time to live for all costs a comparison per
//! message. The others are indexed, the nearest [`NEAREST`] of them (more, where messages with times
//! of their own are what the queue is for). What found no room is found again by a walk over the
//! level, which rests in between, so that memory and work stay bounded whatever the backlog.
//!
//! Not here: ending a message (`deaths`), reading it from the store (`serve`).

use std::collections::BTreeSet;

/// Deadlines known at a time, per level, unless a queue has reason for more.
pub(super) const NEAREST: usize = 1024;
/// A walk rests so long before it starts again, at least.
const REST_MS: u64 = 1000;
/// … and so long after it has read.
const READ_REST_MS: u64 = 10;
/// A walk rests so many times as long as it, or its last read, took: it is never the main work.
const REST_SHARE: u64 = 4;

#[derive(Debug)]
pub(super) struct Deadlines {
    /// Deadlines known at a time.
    most: usize,
    /// Messages up to this number never expire: a walk starts behind them.
    base: u64,
    /// Every message up to this number has been looked at.
    walked: u64,
    /// The walk goes on no earlier.
    rest_until_ms: u64,
    /// When the walk began, and when its last read did.
    began_ms: u64,
    read_ms: u64,
    /// A walk from the start is under way.
    again: bool,
    /// Highest deadline so far in the walk; `u64::MAX` if a message never expires.
    latest_ms: u64,
    /// Deadlines and numbers, the nearest first.
    nearest: BTreeSet<(u64, u64)>,
    /// Messages that expire from this time on may be missing in `nearest`.
    missing_from_ms: u64,
    /// Messages that somebody held when their time came.
    late: BTreeSet<u64>,
}

impl Deadlines {
    /// Messages up to `base` never expire; `most` deadlines are known at a time.
    pub(super) fn new(now_ms: u64, base: u64, most: usize) -> Self {
        Self {
            most,
            base,
            walked: base,
            rest_until_ms: 0,
            began_ms: now_ms,
            read_ms: now_ms,
            again: true,
            latest_ms: latest_of(base),
            nearest: BTreeSet::new(),
            missing_from_ms: u64::MAX,
            late: BTreeSet::new(),
        }
    }

    /// Every message up to this number has been looked at.
    pub(super) fn walked(&self) -> u64 {
        self.walked
    }

    /// The walk gets to message `number`, which is alive.
    pub(super) fn look_at(&mut self, number: u64, expires_at_ms: Option<u64>) {
        self.walked = self.walked.max(number);
        let expires_at_ms = expires_at_ms.unwrap_or(u64::MAX);
        if expires_at_ms < self.latest_ms {
            self.add(expires_at_ms, number);
        } else {
            self.latest_ms = expires_at_ms;
        }
    }

    fn add(&mut self, expires_at_ms: u64, number: u64) {
        self.nearest.insert((expires_at_ms, number));
        if self.nearest.len() > self.most
            && let Some((farthest_ms, _)) = self.nearest.pop_last()
        {
            self.missing_from_ms = self.missing_from_ms.min(farthest_ms);
        }
    }

    /// The walk asks the store for messages. If that fails it asks again after a rest.
    pub(super) fn reads(&mut self, now_ms: u64) {
        self.read_ms = now_ms;
        self.rest_until_ms = now_ms + READ_REST_MS;
    }

    /// The store has answered: a rest, so that others get to read.
    pub(super) fn has_read(&mut self, now_ms: u64) {
        let took_ms = now_ms.saturating_sub(self.read_ms);
        self.rest_until_ms = now_ms
            + if self.is_eager() {
                took_ms.max(1)
            } else {
                READ_REST_MS.max(took_ms * REST_SHARE)
            };
    }

    /// Whether deadlines are what the queue is for, so that looking for them may cost as much time
    /// as it rests.
    fn is_eager(&self) -> bool {
        self.most > NEAREST
    }

    /// Whether the walk may read now.
    pub(super) fn is_rested(&self, now_ms: u64) -> bool {
        self.rest_until_ms <= now_ms
    }

    /// The walk has got to the last message.
    pub(super) fn at_end(&mut self, now_ms: u64) {
        if self.again {
            self.again = false;
            let took_ms = now_ms.saturating_sub(self.began_ms);
            let share = if self.is_eager() { 1 } else { REST_SHARE };
            self.rest_until_ms = now_ms + REST_MS.max(took_ms * share);
        }
    }

    /// Starts the walk anew if messages that have expired may be missing.
    pub(super) fn refill(&mut self, now_ms: u64) {
        if !self.again && self.wants_refill(now_ms) && self.is_rested(now_ms) {
            self.again = true;
            self.began_ms = now_ms;
            self.walked = self.base;
            self.latest_ms = latest_of(self.base);
            self.missing_from_ms = u64::MAX;
        }
    }

    /// Whether messages that have expired may be missing, or, where many are known, half of them have
    /// gone: what is missing is then found before its time comes.
    fn wants_refill(&self, now_ms: u64) -> bool {
        self.missing_from_ms <= now_ms
            || (self.missing_from_ms != u64::MAX
                && self.is_eager()
                && self.nearest.len() < self.most / 2)
    }

    /// A message whose time has passed.
    pub(super) fn pop_due(&mut self, now_ms: u64) -> Option<u64> {
        let (expires_at_ms, number) = *self.nearest.first()?;
        if expires_at_ms > now_ms {
            return None;
        }
        self.nearest.pop_first();
        Some(number)
    }

    /// An expired message is held by somebody. `alive` tells whether another one still is.
    pub(super) fn is_held(&mut self, number: u64, now_ms: u64, alive: impl Fn(u64) -> bool) {
        if self.late.len() >= NEAREST {
            self.late.retain(|number| alive(*number));
        }
        if self.late.len() < NEAREST {
            self.late.insert(number);
        } else {
            self.missing_from_ms = self.missing_from_ms.min(now_ms);
        }
    }

    /// A message came back from who held it.
    pub(super) fn came_back(&mut self, number: u64) {
        if self.late.remove(&number) {
            self.add(0, number);
        }
    }

    /// When there is something to do next; `walking`: the walk is not at its end.
    pub(super) fn next_ms(&self, walking: bool) -> Option<u64> {
        let due = self.nearest.first().map(|(at_ms, _)| *at_ms);
        let walk = walking.then_some(self.rest_until_ms);
        let refill = (self.missing_from_ms != u64::MAX && !self.again).then(|| {
            if self.wants_refill(0) {
                self.rest_until_ms
            } else {
                self.missing_from_ms.max(self.rest_until_ms)
            }
        });
        due.into_iter().chain(walk).chain(refill).min()
    }

    /// What it knows, for tests.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.nearest.len() + self.late.len()
    }
}

/// The latest deadline of messages up to `base`, which never expire.
const fn latest_of(base: u64) -> u64 {
    if base > 0 { u64::MAX } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_in_order_are_not_indexed() {
        let mut deadlines = Deadlines::new(0, 0, NEAREST);
        for number in 1..=10_000 {
            deadlines.look_at(number, Some(1000 + number / 3));
        }
        assert_eq!(deadlines.len(), 0);
        assert_eq!(deadlines.next_ms(false), None);
        deadlines.look_at(10_001, None);
        deadlines.look_at(10_002, Some(1 << 40));
        assert_eq!(deadlines.len(), 1);
        assert_eq!(deadlines.next_ms(false), Some(1 << 40));
    }

    #[test]
    fn only_the_nearest_are_kept_and_the_rest_is_walked_for_again() {
        let mut deadlines = Deadlines::new(0, 0, NEAREST);
        let count = 3 * NEAREST as u64;
        deadlines.look_at(1, None);
        // The farthest come first.
        for number in 2..count {
            deadlines.look_at(number, Some(10_000 + count - number));
        }
        deadlines.at_end(0);
        assert_eq!(deadlines.len(), NEAREST);
        let nearest: Vec<u64> = std::iter::from_fn(|| deadlines.pop_due(1 << 30)).collect();
        assert_eq!(nearest.first(), Some(&(count - 1)));
        assert_eq!(nearest.len(), NEAREST);
        assert_eq!(deadlines.next_ms(false), Some(10_001 + NEAREST as u64));
        deadlines.refill(10_000);
        assert_eq!(
            deadlines.walked(),
            count - 1,
            "nothing is due that is missing"
        );
        deadlines.refill(1 << 30);
        assert_eq!(deadlines.walked(), 0);
    }

    #[test]
    fn many_deadlines_are_looked_for_before_they_are_missed() {
        let most = 2 * NEAREST;
        let mut deadlines = Deadlines::new(0, 0, most);
        deadlines.look_at(1, None);
        for number in 2..=most as u64 + 10 {
            deadlines.look_at(number, Some(10_000 + number));
        }
        deadlines.at_end(0);
        assert_eq!(deadlines.len(), most);
        let far = 10_000 + NEAREST as u64;
        deadlines.refill(9_000);
        assert_ne!(deadlines.walked(), 0, "all of them are still ahead");
        while deadlines.pop_due(far).is_some() {}
        assert!(deadlines.len() > NEAREST);
        while deadlines.pop_due(far + 10).is_some() {}
        assert_eq!(deadlines.next_ms(false), Some(REST_MS));
        deadlines.refill(far + 10);
        assert_eq!(deadlines.walked(), 0);
    }

    #[test]
    fn a_held_message_is_due_when_it_comes_back() {
        let mut deadlines = Deadlines::new(0, 0, NEAREST);
        deadlines.look_at(1, None);
        deadlines.look_at(2, Some(5));
        assert_eq!(deadlines.pop_due(4), None);
        assert_eq!(deadlines.pop_due(5), Some(2));
        deadlines.is_held(2, 5, |_| true);
        assert_eq!(deadlines.pop_due(9), None);
        deadlines.came_back(1);
        assert_eq!(deadlines.pop_due(9), None);
        deadlines.came_back(2);
        assert_eq!(deadlines.pop_due(9), Some(2));
    }

    #[test]
    fn held_messages_take_bounded_room() {
        let mut deadlines = Deadlines::new(0, 0, NEAREST);
        for number in 0..2 * NEAREST as u64 {
            deadlines.is_held(number, 7, |_| true);
        }
        assert_eq!(deadlines.len(), NEAREST);
        deadlines.at_end(7);
        assert_eq!(deadlines.next_ms(false), Some(7 + REST_MS));
        deadlines.is_held(5000, 7, |_| false);
        assert_eq!(deadlines.len(), 1);
    }
}
