//! A map from ranges of sequences to a value, for what is true of few messages or of long stretches.

use std::collections::BTreeMap;

/// Maps numbers to values; neighbours with the same value are one entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RangeMap<V> {
    /// First number to last number and value.
    entries: BTreeMap<u64, (u64, V)>,
    len: u64,
}

/// A set of numbers.
pub(crate) type RangeSet = RangeMap<()>;

impl<V> Default for RangeMap<V> {
    fn default() -> Self {
        Self {
            entries: BTreeMap::new(),
            len: 0,
        }
    }
}

impl<V: Copy + PartialEq> RangeMap<V> {
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many numbers have a value.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    pub(crate) fn get(&self, number: u64) -> Option<V> {
        if self.entries.is_empty() {
            return None;
        }
        let (_, (to, value)) = self.entries.range(..=number).next_back()?;
        (*to >= number).then_some(*value)
    }

    pub(crate) fn contains(&self, number: u64) -> bool {
        self.get(number).is_some()
    }

    /// The first entry.
    pub(crate) fn first(&self) -> Option<(u64, u64, V)> {
        self.entries
            .iter()
            .next()
            .map(|(from, (to, value))| (*from, *to, *value))
    }

    /// All entries in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, u64, V)> {
        self.entries
            .iter()
            .map(|(from, (to, value))| (*from, *to, *value))
    }

    /// Entries cut to `from..=to`, in order.
    pub(crate) fn within(&self, from: u64, to: u64) -> impl Iterator<Item = (u64, u64, V)> {
        let before = self
            .entries
            .range(..from)
            .next_back()
            .filter(|(_, (end, _))| *end >= from);
        // An empty window would panic in `range`.
        let to = to.max(from);
        before
            .into_iter()
            .chain(self.entries.range(from..=to))
            .map(move |(start, (end, value))| ((*start).max(from), (*end).min(to), *value))
    }

    /// Number of entries.
    pub(crate) fn entry_count(&self) -> usize {
        self.entries.len()
    }

    /// Gives `from..=to` the value.
    pub(crate) fn insert(&mut self, from: u64, to: u64, value: V) {
        if from > to {
            return;
        }
        // Appending behind the last entry is the usual case.
        if let Some(mut last) = self.entries.last_entry() {
            let (end, last_value) = last.get_mut();
            if *end < from {
                self.len += to - from + 1;
                if *end + 1 == from && *last_value == value {
                    *end = to;
                } else {
                    self.entries.insert(from, (to, value));
                }
                return;
            }
        }
        self.remove(from, to, |_, _, _| {});
        self.len += to - from + 1;
        let (mut start, mut end) = (from, to);
        if let Some((before, (before_end, before_value))) = self.entries.range(..from).next_back()
            && *before_end + 1 == from
            && *before_value == value
        {
            start = *before;
        }
        if let Some(next) = to.checked_add(1)
            && let Some((after_end, after_value)) = self.entries.get(&next)
            && *after_value == value
        {
            end = *after_end;
            self.entries.remove(&next);
        }
        self.entries.insert(start, (end, value));
    }

    /// Removes `from..=to`; `removed` hears of each piece.
    pub(crate) fn remove(&mut self, from: u64, to: u64, mut removed: impl FnMut(u64, u64, V)) {
        if self.entries.is_empty() || from > to {
            return;
        }
        if let Some((start, (end, value))) = self.entries.range(..from).next_back()
            && *end >= from
        {
            let (start, end, value) = (*start, *end, *value);
            self.entries.insert(start, (from - 1, value));
            let cut = end.min(to);
            removed(from, cut, value);
            self.len -= cut - from + 1;
            if end > to {
                self.entries.insert(to + 1, (end, value));
                return;
            }
        }
        while let Some((start, (end, value))) = self.entries.range(from..=to).next() {
            let (start, end, value) = (*start, *end, *value);
            self.entries.remove(&start);
            let cut = end.min(to);
            removed(start, cut, value);
            self.len -= cut - start + 1;
            if end > to {
                self.entries.insert(to + 1, (end, value));
            }
        }
    }

    /// Takes the lowest number out.
    pub(crate) fn pop_first(&mut self) -> Option<u64> {
        let (from, (to, value)) = self.entries.pop_first()?;
        self.len -= 1;
        if from < to {
            self.entries.insert(from + 1, (to, value));
        }
        Some(from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn agrees_with_a_plain_map(steps in vec((any::<bool>(), 0u64..60, 0u64..20, 0u8..3), 1..60)) {
            let mut map = RangeMap::default();
            let mut plain = BTreeMap::new();
            for (insert, from, width, value) in steps {
                let to = from + width;
                if insert {
                    map.insert(from, to, value);
                    (from..=to).for_each(|number| { plain.insert(number, value); });
                } else {
                    let mut removed = Vec::new();
                    map.remove(from, to, |a, b, value| removed.extend((a..=b).map(|number| (number, value))));
                    let expected: Vec<_> = plain.range(from..=to).map(|(n, v)| (*n, *v)).collect();
                    prop_assert_eq!(removed, expected);
                    plain.retain(|number, _| !(from..=to).contains(number));
                }
                let all: BTreeMap<u64, u8> = map.iter().flat_map(|(a, b, v)| (a..=b).map(move |n| (n, v))).collect();
                prop_assert_eq!(&all, &plain);
                prop_assert_eq!(map.len(), plain.len() as u64);
                prop_assert_eq!(map.get(from), plain.get(&from).copied());
                let within: Vec<_> = map.within(from, to).flat_map(|(a, b, v)| (a..=b).map(move |n| (n, v))).collect();
                let expected: Vec<_> = plain.range(from..=to).map(|(n, v)| (*n, *v)).collect();
                prop_assert_eq!(within, expected);
                // Neighbours with one value are one entry.
                let entries: Vec<_> = map.iter().collect();
                prop_assert!(entries.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0 || pair[0].2 != pair[1].2));
            }
        }
    }
}
