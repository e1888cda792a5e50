//! What was published and is not confirmed yet: which deliveries of the source wait for it.
//!
//! Deliveries are published in the order in which they come, on one channel: so the numbers of publishes and the delivery
//! tags rise together, and what is confirmed up to some place can be acknowledged up to there at once.

use std::collections::VecDeque;

/// What has become of a publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Open,
    Confirmed,
    /// Its delivery is to go back.
    Refused,
    /// Its delivery has gone back.
    Returned,
}

/// Publishes in order, from the first that is open.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Number of the first in `open`; the next one, if there is none.
    first: u64,
    open: VecDeque<(u64, Fate)>,
}

impl Ledger {
    /// Nothing was published yet; the first publish will have the number 1.
    #[must_use]
    pub fn new() -> Self {
        Self {
            first: 1,
            open: VecDeque::new(),
        }
    }

    /// Publishes that are not settled.
    #[must_use]
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether all are settled.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// The delivery with this tag was published next.
    pub fn published(&mut self, delivery_tag: u64) {
        self.open.push_back((delivery_tag, Fate::Open));
    }

    /// Publishes were confirmed: number `sequence`, or all up to it. Returns how many these are.
    pub fn confirmed(&mut self, sequence: u64, multiple: bool) -> u64 {
        self.settle(sequence, multiple, Fate::Confirmed)
    }

    /// Publishes were refused. Returns how many these are.
    pub fn refused(&mut self, sequence: u64, multiple: bool) -> u64 {
        self.settle(sequence, multiple, Fate::Refused)
    }

    /// Tags of deliveries whose publishes were refused: they go back now. Until they do, nothing behind them can be
    /// acknowledged.
    pub fn take_refused(&mut self) -> Vec<u64> {
        let mut tags = Vec::new();
        for (tag, fate) in &mut self.open {
            if *fate == Fate::Refused {
                *fate = Fate::Returned;
                tags.push(*tag);
            }
        }
        tags
    }

    fn settle(&mut self, sequence: u64, multiple: bool, fate: Fate) -> u64 {
        // 0 and multiple: everything.
        let last = if sequence == 0 && multiple {
            self.open.len().checked_sub(1)
        } else {
            sequence
                .checked_sub(self.first)
                .and_then(|at| usize::try_from(at).ok())
        };
        let Some(last) = last.filter(|last| *last < self.open.len()) else {
            return 0;
        };
        let from = if multiple { 0 } else { last };
        let mut count = 0;
        for (_, is) in self.open.range_mut(from..=last) {
            if *is == Fate::Open {
                *is = fate;
                count += 1;
            }
        }
        count
    }

    /// Everything up to the first open publish is done: the last tag that can be acknowledged, with all before it.
    pub fn take_acknowledged(&mut self) -> Option<u64> {
        let mut last = None;
        while let Some((tag, fate)) = self.open.front() {
            match fate {
                Fate::Open | Fate::Refused => break,
                Fate::Confirmed => last = Some(*tag),
                Fate::Returned => {}
            }
            self.open.pop_front();
            self.first += 1;
        }
        last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_order_and_out_of_it() {
        let mut ledger = Ledger::new();
        for tag in [10, 11, 12, 13, 14] {
            ledger.published(tag);
        }
        assert_eq!(ledger.confirmed(2, false), 1);
        assert_eq!(ledger.take_acknowledged(), None, "the first one is open");
        assert_eq!(ledger.confirmed(2, true), 1, "the second was counted");
        assert_eq!(ledger.take_acknowledged(), Some(11));
        assert_eq!(ledger.refused(4, true), 2);
        ledger.published(15);
        assert_eq!(ledger.confirmed(0, true), 2);
        assert_eq!(
            ledger.take_acknowledged(),
            None,
            "what was refused would be acknowledged with the rest"
        );
        assert_eq!(ledger.take_refused(), [12, 13]);
        assert_eq!(ledger.take_refused(), [0; 0]);
        assert_eq!(ledger.take_acknowledged(), Some(15));
        assert!(ledger.is_empty());
        ledger.published(16);
        assert_eq!(ledger.confirmed(7, false), 1);
        assert_eq!(ledger.take_acknowledged(), Some(16));
    }

    #[test]
    fn numbers_that_were_never_used_do_nothing() {
        let mut ledger = Ledger::new();
        assert_eq!(ledger.confirmed(1, false), 0);
        assert_eq!(ledger.confirmed(0, true), 0);
        ledger.published(1);
        for (sequence, multiple) in [(0, false), (2, false), (2, true), (u64::MAX, true)] {
            assert_eq!(ledger.confirmed(sequence, multiple), 0, "{sequence}");
        }
        assert_eq!(ledger.len(), 1);
    }
}
