//! Publishes that await their confirm.

/// A window of unconfirmed publishes with the time of each.
#[derive(Debug)]
pub(crate) struct Confirms {
    /// Send times by tag; 0 where nothing is awaited.
    sent_ns: Vec<u64>,
    window: usize,
    outstanding: usize,
    /// The lowest tag that may await its confirm.
    lowest: u64,
    /// The tag of the next publish.
    next: u64,
}

impl Confirms {
    /// Confirms in any order may span this many windows before the window narrows.
    const SPREAD: usize = 4;

    pub(crate) fn new(window: usize) -> Self {
        let slots = (window.max(1) * Self::SPREAD).next_power_of_two();
        Self {
            sent_ns: vec![0; slots],
            window,
            outstanding: 0,
            lowest: 1,
            next: 1,
        }
    }

    /// How many may be published now.
    pub(crate) fn room(&self) -> usize {
        let span = (self.next - self.lowest) as usize;
        (self.window - self.outstanding).min(self.sent_ns.len() - span)
    }

    /// How many await their confirm.
    pub(crate) fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// A publish goes out; only while there is room.
    pub(crate) fn sent(&mut self, at_ns: u64) {
        let tag = self.next;
        if let Some(slot) = self.slot(tag) {
            *slot = at_ns.max(1);
        }
        self.next += 1;
        self.outstanding += 1;
    }

    /// A confirm (or nack) arrives; `settled` sees the send time of each publish it settles.
    ///
    /// Returns how many those are; a tag that awaits nothing settles none.
    pub(crate) fn settle(
        &mut self,
        tag: u64,
        multiple: bool,
        mut settled: impl FnMut(u64),
    ) -> usize {
        if tag >= self.next {
            return 0;
        }
        let first = if multiple {
            self.lowest
        } else {
            tag.max(self.lowest)
        };
        let mut count = 0;
        for tag in first..=tag {
            if let Some(slot) = self.slot(tag)
                && *slot != 0
            {
                settled(std::mem::take(slot));
                count += 1;
            }
        }
        self.outstanding -= count;
        while self.lowest < self.next && self.slot(self.lowest).is_some_and(|slot| *slot == 0) {
            self.lowest += 1;
        }
        count
    }

    fn slot(&mut self, tag: u64) -> Option<&mut u64> {
        let index = tag as usize & (self.sent_ns.len() - 1);
        self.sent_ns.get_mut(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn window_and_order() {
        let mut confirms = Confirms::new(3);
        (1..=3).for_each(|n| confirms.sent(n * 10));
        assert_eq!((confirms.room(), confirms.outstanding()), (0, 3));
        let mut seen = Vec::new();
        assert_eq!(confirms.settle(2, false, |at| seen.push(at)), 1);
        assert_eq!(confirms.settle(2, false, |at| seen.push(at)), 0, "twice");
        assert_eq!(
            confirms.settle(9, true, |at| seen.push(at)),
            0,
            "never sent"
        );
        assert_eq!(confirms.room(), 1);
        confirms.sent(40);
        assert_eq!(confirms.settle(4, true, |at| seen.push(at)), 3);
        assert_eq!(seen, [20, 10, 30, 40]);
        assert_eq!((confirms.room(), confirms.outstanding()), (3, 0));
    }

    #[test]
    fn one_straggler_stops_the_rest_in_the_end() {
        let mut confirms = Confirms::new(2);
        confirms.sent(1);
        let mut sent = 1;
        while confirms.room() > 0 {
            confirms.sent(1);
            sent += 1;
            assert_eq!(confirms.settle(sent, false, |_| ()), 1);
        }
        assert_eq!(sent, 8);
        assert_eq!(confirms.settle(1, false, |_| ()), 1);
        assert_eq!(confirms.room(), 2);
    }

    proptest! {
        /// Each publish is settled once, whatever the broker answers.
        #[test]
        fn settled_once(window in 1_usize..20, answers in prop::collection::vec((0_u64..40, any::<bool>()), 1..200)) {
            let mut confirms = Confirms::new(window);
            let (mut sent, mut settled) = (0_u64, Vec::new());
            for (back, multiple) in answers {
                for _ in 0..confirms.room() {
                    sent += 1;
                    confirms.sent(sent);
                }
                confirms.settle(sent.saturating_sub(back).max(1), multiple, |at| settled.push(at));
                prop_assert_eq!(confirms.outstanding(), sent as usize - settled.len());
                prop_assert!(confirms.outstanding() <= window);
            }
            confirms.settle(sent, true, |at| settled.push(at));
            settled.sort_unstable();
            prop_assert_eq!(settled, (1..=sent).collect::<Vec<_>>());
        }
    }
}
