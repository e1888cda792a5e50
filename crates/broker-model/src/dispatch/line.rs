//! Consumers one behind the other.
//!
//! Who goes is taken out later, together with others: thousands of consumers of one queue may end at once, and looking each
//! up would take the square of their number. Slots are used again, so an entry carries the stamp of its consumer too.

use super::roster::{ConsumerSlot, Roster};
use std::collections::VecDeque;

/// Entries of consumers that have gone are kept up to this number, and up to half of all.
const KEPT: usize = 16;

#[derive(Debug, Default)]
pub(super) struct Line {
    /// Slots and stamps.
    entries: VecDeque<(ConsumerSlot, u64)>,
    /// How many of them have gone.
    gone: usize,
}

impl Line {
    pub(super) fn push(&mut self, slot: ConsumerSlot, stamp: u64) {
        self.entries.push_back((slot, stamp));
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len().saturating_sub(self.gone)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One of them has gone: `roster` knows it no longer.
    pub(super) fn one_gone(&mut self, roster: &Roster) {
        self.gone += 1;
        if self.is_empty() || self.gone > KEPT.max(self.entries.len() / 2) {
            self.entries
                .retain(|(slot, stamp)| roster.is(*slot, *stamp));
            self.gone = 0;
        }
    }

    pub(super) fn front(&mut self, roster: &Roster) -> Option<ConsumerSlot> {
        while let Some((slot, stamp)) = self.entries.front().copied() {
            if roster.is(slot, stamp) {
                return Some(slot);
            }
            self.entries.pop_front();
            self.gone = self.gone.saturating_sub(1);
        }
        None
    }

    /// Takes off what [`Self::front`] has told.
    pub(super) fn pop_front(&mut self) {
        self.entries.pop_front();
    }

    /// What [`Self::front`] has told goes to the end.
    pub(super) fn rotate(&mut self) {
        if self.entries.len() > 1 {
            self.entries.rotate_left(1);
        }
    }

    pub(super) fn iter<'a>(&'a self, roster: &'a Roster) -> impl Iterator<Item = ConsumerSlot> {
        let there = self
            .entries
            .iter()
            .filter(|(slot, stamp)| roster.is(*slot, *stamp));
        there.map(|(slot, _)| *slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{ConsumerId, NodeId, Origin};
    use crate::protocol::ConsumerSpec;

    fn add(roster: &mut Roster, line: &mut Line, id: u64) -> ConsumerSlot {
        let origin = roster.origin_slot(Origin {
            node: NodeId(1),
            incarnation: 1,
        });
        let slot = roster.add(origin, ConsumerId(id), 0, ConsumerSpec::default(), 0);
        line.push(slot, roster.consumers.get(slot).unwrap().stamp);
        slot
    }

    #[test]
    fn a_slot_that_is_used_again_is_not_mistaken_for_who_has_gone() {
        let (mut roster, mut line) = (Roster::default(), Line::default());
        let first = add(&mut roster, &mut line, 1);
        let second = add(&mut roster, &mut line, 2);
        roster.remove(first);
        line.one_gone(&roster);
        let mut elsewhere = Line::default();
        assert_eq!(add(&mut roster, &mut elsewhere, 3), first);
        assert_eq!(line.iter(&roster).collect::<Vec<_>>(), [second]);
        assert_eq!((line.len(), line.front(&roster)), (1, Some(second)));
        roster.remove(second);
        line.one_gone(&roster);
        assert!(line.is_empty());
        assert_eq!(line.front(&roster), None);
    }

    #[test]
    fn who_has_gone_takes_no_room_for_long() {
        let (mut roster, mut line) = (Roster::default(), Line::default());
        let slots: Vec<_> = (0..1000)
            .map(|id| add(&mut roster, &mut line, id))
            .collect();
        for slot in &slots[..900] {
            roster.remove(*slot);
            line.one_gone(&roster);
            assert!(line.entries.len() <= 2 * line.len() + KEPT + 1);
        }
        assert_eq!(line.len(), 100);
        assert_eq!(line.iter(&roster).collect::<Vec<_>>(), slots[900..]);
    }
}
