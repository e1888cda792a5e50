//! Messages of one level that came back and wait before they are handed out again (delayed retry).

use std::collections::{BTreeMap, BTreeSet};

/// They are alive, and neither ready nor held.
#[derive(Debug, Default)]
pub(super) struct Delayed {
    /// By number: until when, and body bytes.
    waiting: BTreeMap<u64, (u64, u64)>,
    /// The same by time.
    due: BTreeSet<(u64, u64)>,
    bytes: u64,
}

impl Delayed {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// How many, and their bytes.
    pub(super) fn size(&self) -> (u64, u64) {
        (self.waiting.len() as u64, self.bytes)
    }

    pub(super) fn contains(&self, number: u64) -> bool {
        self.waiting.contains_key(&number)
    }

    /// The first within `from..=to`.
    pub(super) fn first_within(&self, from: u64, to: u64) -> Option<u64> {
        let mut within = self.waiting.range(from..=to.max(from));
        within.next().map(|(number, _)| *number)
    }

    /// The message waits until then.
    pub(super) fn insert(&mut self, number: u64, until_ms: u64, bytes: u64) {
        self.remove(number);
        self.waiting.insert(number, (until_ms, bytes));
        self.due.insert((until_ms, number));
        self.bytes += bytes;
    }

    /// It does not wait any longer. False if it did not.
    pub(super) fn remove(&mut self, number: u64) -> bool {
        let Some((until_ms, bytes)) = self.waiting.remove(&number) else {
            return false;
        };
        self.due.remove(&(until_ms, number));
        self.bytes -= bytes;
        true
    }

    /// None of `from..=to` waits any longer.
    pub(super) fn remove_all(&mut self, from: u64, to: u64) {
        while let Some(number) = self.first_within(from, to) {
            self.remove(number);
        }
    }

    /// The first whose time has come; it does not wait any longer.
    pub(super) fn pop_due(&mut self, now_ms: u64) -> Option<u64> {
        let (until_ms, number) = *self.due.first()?;
        if until_ms > now_ms {
            return None;
        }
        self.remove(number);
        Some(number)
    }

    /// When the next one is due, and the last one.
    pub(super) fn due_ms(&self) -> Option<(u64, u64)> {
        let (next, last) = (self.due.first()?, self.due.last()?);
        Some((next.0, last.0))
    }

    /// All of them, ascending, which do not wait any longer.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = u64> {
        std::mem::take(self).waiting.into_keys()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_and_until_when() {
        let mut delayed = Delayed::default();
        assert_eq!(delayed.due_ms(), None);
        for (number, until_ms) in [(5, 100), (3, 200), (9, 100), (7, 300)] {
            delayed.insert(number, until_ms, number);
        }
        assert_eq!(delayed.due_ms(), Some((100, 300)));
        assert_eq!(delayed.size(), (4, 24));
        assert_eq!(delayed.first_within(4, 6), Some(5));
        assert_eq!(delayed.first_within(6, 6), None);
        assert_eq!(delayed.pop_due(99), None);
        assert_eq!(delayed.pop_due(100), Some(5));
        assert!(!delayed.contains(5) && delayed.contains(9));
        // Again, for longer.
        delayed.insert(9, 400, 1);
        assert_eq!(delayed.pop_due(150), None);
        assert_eq!(delayed.size(), (3, 11));
        delayed.remove_all(1, 7);
        assert_eq!(delayed.size(), (1, 1));
        assert!(!delayed.remove(3));
        assert_eq!(delayed.take_all().collect::<Vec<_>>(), [9]);
        assert!(delayed.is_empty());
        assert_eq!(delayed.pop_due(u64::MAX), None);
    }
}
