//! Messages of one level that are in memory: those that no checkpoint has stored yet.
//!
//! Found by index, not by search: slots follow the numbers. A few old messages among many that are
//! gone (stragglers) move aside, so that holes never outnumber messages by much.

use crate::wire::StoredMessage;
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};

/// Holes that are put up with in any case.
const HOLES_MIN: usize = 64;

/// A straggler up to this body size is copied out of the received buffer that it would keep alive.
const COPY_MAX_BYTES: usize = 16 * 1024;

#[derive(Debug, Clone, Default)]
pub(super) struct Tail {
    /// Number of the first slot.
    base: u64,
    slots: VecDeque<Option<StoredMessage>>,
    holes: usize,
    /// Messages below `base`.
    stragglers: BTreeMap<u64, StoredMessage>,
}

impl Tail {
    /// Adds `number`, which is the successor of the last one added.
    pub(super) fn push(&mut self, number: u64, stored: StoredMessage) {
        if self.slots.is_empty() {
            self.base = number;
        }
        debug_assert_eq!(self.base + self.slots.len() as u64, number);
        self.slots.push_back(Some(stored));
    }

    pub(super) fn get(&self, number: u64) -> Option<&StoredMessage> {
        match number.checked_sub(self.base) {
            Some(index) => self.slots.get(usize::try_from(index).ok()?)?.as_ref(),
            None => self.stragglers.get(&number),
        }
    }

    pub(super) fn remove(&mut self, number: u64) -> Option<StoredMessage> {
        let Some(index) = number.checked_sub(self.base) else {
            return self.stragglers.remove(&number);
        };
        let index = usize::try_from(index).ok()?;
        let removed = self.slots.get_mut(index)?.take()?;
        if index == 0 {
            self.slots.pop_front();
            self.base += 1;
            while let Some(None) = self.slots.front() {
                self.slots.pop_front();
                self.base += 1;
                self.holes -= 1;
            }
        } else {
            self.holes += 1;
            if self.holes > HOLES_MIN && self.holes > self.slots.len() / 4 * 3 {
                self.set_stragglers_aside();
            }
        }
        Some(removed)
    }

    /// Removes what there is up to `number`, `most` places at most, which are counted down, calling `removed` in
    /// order. Returns up to which number nothing is left.
    pub(super) fn remove_upto(
        &mut self,
        number: u64,
        most: &mut usize,
        mut removed: impl FnMut(u64, StoredMessage),
    ) -> u64 {
        while let Some(first) = self.stragglers.first_entry()
            && *first.key() <= number
        {
            if *most == 0 {
                return first.key() - 1;
            }
            *most -= 1;
            let (number, stored) = first.remove_entry();
            removed(number, stored);
        }
        while self.base <= number && !self.slots.is_empty() {
            if *most == 0 {
                return self.base - 1;
            }
            *most -= 1;
            match self.slots.pop_front().flatten() {
                Some(stored) => removed(self.base, stored),
                None => self.holes -= 1,
            }
            self.base += 1;
        }
        while let Some(None) = self.slots.front() {
            self.slots.pop_front();
            self.base += 1;
            self.holes -= 1;
        }
        number
    }

    /// How many messages there are.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.holes + self.stragglers.len()
    }

    /// The number of the first one.
    pub(super) fn first(&self) -> Option<u64> {
        let straggler = self.stragglers.keys().next().copied();
        // The first slot is never a hole.
        straggler.or_else(|| (!self.slots.is_empty()).then_some(self.base))
    }

    /// Messages at or above `from`, in order.
    pub(super) fn iter_from(&self, from: u64) -> impl Iterator<Item = (u64, &StoredMessage)> {
        let stragglers = self
            .stragglers
            .range(from..)
            .map(|(number, stored)| (*number, stored));
        let skip = usize::try_from(from.saturating_sub(self.base))
            .unwrap_or(usize::MAX)
            .min(self.slots.len());
        let slots = self
            .slots
            .range(skip..)
            .enumerate()
            .filter_map(move |(index, slot)| {
                Some((self.base + (skip + index) as u64, slot.as_ref()?))
            });
        stragglers.chain(slots)
    }

    /// Gives back memory that an empty or nearly empty tail does not need.
    pub(super) fn trim(&mut self) {
        if self.slots.is_empty() {
            self.slots = VecDeque::new();
        } else if self.slots.capacity() > 64 && self.slots.len() < self.slots.capacity() / 4 {
            self.slots.shrink_to(self.slots.len() * 2);
        }
    }

    fn set_stragglers_aside(&mut self) {
        let base = self.base;
        self.base += self.slots.len() as u64;
        self.holes = 0;
        for (index, slot) in std::mem::take(&mut self.slots).into_iter().enumerate() {
            if let Some(stored) = slot {
                self.stragglers
                    .insert(base + index as u64, unshared(stored));
            }
        }
    }
}

/// A copy that keeps no bigger buffer alive.
fn unshared(mut stored: StoredMessage) -> StoredMessage {
    let message = &mut stored.message;
    if message.body.len() <= COPY_MAX_BYTES {
        for part in [
            &mut message.exchange,
            &mut message.routing_key,
            &mut message.properties,
            &mut message.body,
        ] {
            *part = Bytes::copy_from_slice(part);
        }
    }
    stored
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Message;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn stored(number: u64) -> StoredMessage {
        let body = Bytes::from(number.to_string());
        StoredMessage {
            message: Message {
                body,
                ..Message::default()
            },
            expires_at_ms: None,
        }
    }

    #[test]
    fn one_old_message_does_not_keep_a_million_slots() {
        let mut tail = Tail::default();
        tail.push(1, stored(1));
        for number in 2..100_000 {
            tail.push(number, stored(number));
            assert_eq!(tail.remove(number), Some(stored(number)));
        }
        assert!(tail.slots.len() < 200, "{}", tail.slots.len());
        assert_eq!(tail.get(1), Some(&stored(1)));
        assert_eq!(tail.remove(1), Some(stored(1)));
    }

    proptest! {
        #[test]
        fn agrees_with_a_plain_map(steps in vec((0u8..8, 0u64..400), 1..600)) {
            let mut tail = Tail::default();
            let mut plain = BTreeMap::new();
            let mut next = 1;
            for (kind, number) in steps {
                match kind {
                    0..4 => {
                        tail.push(next, stored(next));
                        plain.insert(next, stored(next));
                        next += 1;
                    }
                    4..7 => prop_assert_eq!(tail.remove(number), plain.remove(&number)),
                    _ if number % 10 == 0 => {
                        let mut removed = Vec::new();
                        // In steps of a few.
                        let mut upto = 0;
                        while upto < number {
                            let mut most = 3;
                            let step = tail.remove_upto(number, &mut most, |number, stored| {
                                removed.push((number, stored));
                            });
                            prop_assert!(step >= upto);
                            prop_assert!(tail.iter_from(0).next().is_none_or(|(first, _)| first > step));
                            upto = step;
                        }
                        let above = plain.split_off(&(number + 1));
                        prop_assert_eq!(removed, plain.into_iter().collect::<Vec<_>>());
                        plain = above;
                    }
                    _ => tail.trim(),
                }
                prop_assert_eq!(tail.get(number), plain.get(&number));
                prop_assert_eq!(tail.len(), plain.len());
                prop_assert_eq!(tail.first(), plain.keys().next().copied());
                let all: Vec<_> = tail.iter_from(number).map(|(n, s)| (n, s.clone())).collect();
                let expected: Vec<_> = plain.range(number..).map(|(n, s)| (*n, s.clone())).collect();
                prop_assert_eq!(all, expected);
            }
        }
    }
}
