//! Who holds which messages of one level.
//!
//! Messages are handed out in ascending order and mostly settled in that order, so the usual place is
//! a window that is pushed at the end and popped at the front; a number is found by its distance from
//! the front, or by bisection once there are gaps. What is handed out below the window's end
//! (messages that came back, or that a node told of after a leader change) is kept beside it.

use std::collections::{BTreeMap, VecDeque};

/// Index of a holder in the roster.
pub(super) type HolderSlot = u32;

/// Marks a place in the window whose message is no longer held.
const NOBODY: HolderSlot = HolderSlot::MAX;

/// Gaps that are put up with in any case.
const GAPS_MIN: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hold {
    pub(super) holder: HolderSlot,
    /// Body bytes.
    pub(super) bytes: u32,
}

#[derive(Debug, Default)]
pub(super) struct Held {
    /// Ascending; first and last are held by somebody.
    window: VecDeque<(u64, Hold)>,
    gaps: usize,
    beside: BTreeMap<u64, Hold>,
    bytes: u64,
}

impl Held {
    pub(super) fn len(&self) -> u64 {
        (self.window.len() - self.gaps + self.beside.len()) as u64
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The message is handed out.
    pub(super) fn insert(&mut self, number: u64, hold: Hold) {
        if self.window.back().is_none_or(|(last, _)| *last < number) {
            self.bytes += u64::from(hold.bytes);
            self.window.push_back((number, hold));
        } else {
            self.insert_beside(number, hold);
        }
    }

    /// The message is held, but not handed out in order now.
    pub(super) fn insert_beside(&mut self, number: u64, hold: Hold) {
        self.bytes += u64::from(hold.bytes);
        if let Some(before) = self.beside.insert(number, hold) {
            self.bytes -= u64::from(before.bytes);
        }
    }

    pub(super) fn get(&self, number: u64) -> Option<Hold> {
        let held = self
            .window
            .get(self.locate(number))
            .filter(|(at, hold)| *at == number && hold.holder != NOBODY);
        held.map(|(_, hold)| *hold)
            .or_else(|| self.beside.get(&number).copied())
    }

    /// Whether `number` is held out of order.
    pub(super) fn is_beside(&self, number: u64) -> bool {
        self.beside.contains_key(&number)
    }

    /// Gives a held message to another holder.
    pub(super) fn reassign(&mut self, number: u64, holder: HolderSlot) {
        let at = self.locate(number);
        match self.window.get_mut(at) {
            Some((found, hold)) if *found == number && hold.holder != NOBODY => {
                hold.holder = holder
            }
            _ => {
                if let Some(hold) = self.beside.get_mut(&number) {
                    hold.holder = holder;
                }
            }
        }
    }

    /// Takes back what is held of `from..=to` and passes `wanted`.
    pub(super) fn take(
        &mut self,
        from: u64,
        to: u64,
        wanted: impl Fn(Hold) -> bool,
        mut taken: impl FnMut(u64, Hold),
    ) {
        let mut at = self.locate(from);
        let mut bytes = 0;
        while let Some((number, hold)) = self.window.get_mut(at)
            && *number <= to
        {
            at += 1;
            if hold.holder != NOBODY && wanted(*hold) {
                bytes += u64::from(hold.bytes);
                taken(*number, *hold);
                hold.holder = NOBODY;
                self.gaps += 1;
            }
        }
        if !self.beside.is_empty() && from <= to {
            let found: Vec<u64> = self
                .beside
                .range(from..=to)
                .filter(|(_, hold)| wanted(**hold))
                .map(|(number, _)| *number)
                .collect();
            for number in found {
                if let Some(hold) = self.beside.remove(&number) {
                    bytes += u64::from(hold.bytes);
                    taken(number, hold);
                }
            }
        }
        self.bytes -= bytes;
        self.close_gaps();
    }

    /// Everything that is held and passes `wanted`, ascending.
    pub(super) fn select(&self, wanted: impl Fn(Hold) -> bool) -> Vec<u64> {
        let held = self
            .window
            .iter()
            .filter(|(_, hold)| hold.holder != NOBODY)
            .map(|(number, hold)| (*number, *hold));
        let beside = self.beside.iter().map(|(number, hold)| (*number, *hold));
        let mut numbers: Vec<u64> = held
            .chain(beside)
            .filter(|(_, hold)| wanted(*hold))
            .map(|(number, _)| number)
            .collect();
        numbers.sort_unstable();
        numbers
    }

    /// Numbers held out of order within `from..=to`, ascending.
    pub(super) fn beside_within(&self, from: u64, to: u64) -> impl Iterator<Item = u64> {
        self.beside
            .range(from..=to.max(from))
            .map(|(number, _)| *number)
    }

    fn close_gaps(&mut self) {
        while let Some((_, Hold { holder: NOBODY, .. })) = self.window.front() {
            self.window.pop_front();
            self.gaps -= 1;
        }
        while let Some((_, Hold { holder: NOBODY, .. })) = self.window.back() {
            self.window.pop_back();
            self.gaps -= 1;
        }
        if self.gaps > GAPS_MIN && self.gaps > self.window.len() / 4 * 3 {
            self.window.retain(|(_, hold)| hold.holder != NOBODY);
            self.gaps = 0;
        }
        if self.window.is_empty() && self.window.capacity() > GAPS_MIN {
            self.window = VecDeque::new();
        }
    }

    /// Index of the first place in the window at or above `number`.
    fn locate(&self, number: u64) -> usize {
        let Some((first, _)) = self.window.front() else {
            return 0;
        };
        if number <= *first {
            return 0;
        }
        // Without gaps in the numbers this is the place.
        let guess = usize::try_from(number - first).unwrap_or(usize::MAX);
        if self
            .window
            .get(guess)
            .is_some_and(|(found, _)| *found == number)
        {
            return guess;
        }
        self.window.partition_point(|(at, _)| *at < number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use std::collections::btree_map::Entry;

    proptest! {
        #[test]
        fn agrees_with_a_plain_map(steps in vec((0u8..6, 1u64..300, 0u64..20, 0u32..3), 1..300)) {
            let mut held = Held::default();
            let mut plain: BTreeMap<u64, Hold> = BTreeMap::new();
            let mut next = 1;
            for (kind, number, width, holder) in steps {
                let hold = Hold { holder, bytes: number as u32 };
                match kind {
                    0..2 => {
                        for _ in 0..width {
                            if let Entry::Vacant(free) = plain.entry(next) {
                                held.insert(next, hold);
                                free.insert(hold);
                            }
                            next += 1;
                        }
                    }
                    2 if !plain.contains_key(&number) => {
                        held.insert_beside(number, hold);
                        plain.insert(number, hold);
                    }
                    2 => {
                        held.reassign(number, holder);
                        plain.get_mut(&number).unwrap().holder = holder;
                    }
                    _ => {
                        let mut taken = Vec::new();
                        held.take(number, number + width, |hold| hold.holder != 0, |number, hold| taken.push((number, hold)));
                        taken.sort_by_key(|(number, _)| *number);
                        let expected: Vec<_> = plain
                            .range(number..=number + width)
                            .filter(|(_, hold)| hold.holder != 0)
                            .map(|(number, hold)| (*number, *hold))
                            .collect();
                        prop_assert_eq!(&taken, &expected);
                        expected.iter().for_each(|(number, _)| { plain.remove(number); });
                    }
                }
                prop_assert_eq!(held.len(), plain.len() as u64);
                prop_assert_eq!(held.bytes(), plain.values().map(|hold| u64::from(hold.bytes)).sum::<u64>());
                prop_assert_eq!(held.get(number), plain.get(&number).copied());
                prop_assert_eq!(held.select(|_| true), plain.keys().copied().collect::<Vec<_>>());
            }
        }
    }
}
