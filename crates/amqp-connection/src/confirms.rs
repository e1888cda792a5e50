//! Publisher confirms of one channel: which publishes are answered, and the fewest frames that say so.
//!
//! A publish takes the next sequence number and a count of parts (one per place that must accept
//! it). When the last part is done it is acknowledged, or refused if any part was. Every publish is
//! reported exactly once; `multiple` covers only publishes that are reported the same way.

use std::collections::VecDeque;

/// A `basic.ack` or `basic.nack` that the publisher is to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Confirm {
    /// Sequence number of the publish; with `multiple` also of all unreported ones below.
    pub tag: u64,
    /// Covers everything up to `tag`.
    pub multiple: bool,
    /// Accepted (`basic.ack`) or refused (`basic.nack`).
    pub accepted: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Parts are outstanding.
    Open,
    /// All parts are done, not reported yet.
    Settled,
    /// The publisher has been told.
    Reported,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    parts: u32,
    refused: bool,
    state: State,
}

/// Publishes of one channel that await their confirm.
#[derive(Debug, Default)]
pub struct ConfirmLedger {
    /// Entry `i` is publish `first + i`.
    entries: VecDeque<Entry>,
    /// Sequence number of the front entry, less one.
    before_first: u64,
    /// Settled since the last report, in the order in which that happened.
    settled: Vec<u64>,
    /// Entries that are not reported.
    unreported: usize,
}

impl ConfirmLedger {
    /// An empty ledger; the first publish is 1.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Numbers a publish that `parts` places must accept; with 0 parts it is accepted at once.
    pub fn publish(&mut self, parts: u32) -> u64 {
        self.entries.push_back(Entry {
            parts,
            refused: false,
            state: State::Open,
        });
        self.unreported += 1;
        let tag = self.before_first + self.entries.len() as u64;
        if parts == 0 {
            self.settle(tag);
        }
        tag
    }

    /// Raises the number of parts of an open publish (its targets became known later).
    pub fn add_parts(&mut self, tag: u64, more: u32) {
        if let Some(entry) = self.entry(tag)
            && entry.state == State::Open
        {
            entry.parts = entry.parts.saturating_add(more);
        }
    }

    /// One part of `tag` has accepted it. Unknown and finished numbers are ignored.
    pub fn done(&mut self, tag: u64) {
        self.part(tag, false);
    }

    /// One part of `tag` has refused it: it will be nacked when the other parts are done too.
    pub fn rejected(&mut self, tag: u64) {
        self.part(tag, true);
    }

    /// Publishes that were not reported yet.
    #[must_use]
    pub fn unconfirmed(&self) -> usize {
        self.unreported
    }

    /// Whether [`Self::report`] would yield anything.
    #[must_use]
    pub fn has_news(&self) -> bool {
        !self.settled.is_empty()
    }

    /// Sequence number of the last publish; 0 before the first.
    #[must_use]
    pub fn last_tag(&self) -> u64 {
        self.before_first + self.entries.len() as u64
    }

    /// Appends the confirms for everything settled since the last call: from the oldest unreported
    /// publish on, each run settled alike in one frame; above the first open one, singly.
    pub fn report(&mut self, confirms: &mut Vec<Confirm>) {
        if self.settled.is_empty() {
            return;
        }
        let mut run: Option<Confirm> = None;
        let mut passed = 0u64;
        for entry in &mut self.entries {
            match entry.state {
                State::Open => break,
                State::Reported => {}
                State::Settled => {
                    entry.state = State::Reported;
                    self.unreported -= 1;
                    let tag = self.before_first + passed + 1;
                    match &mut run {
                        Some(run) if run.accepted != entry.refused => {
                            run.tag = tag;
                            run.multiple = true;
                        }
                        _ => {
                            confirms.extend(run.take());
                            run = Some(Confirm {
                                tag,
                                multiple: false,
                                accepted: !entry.refused,
                            });
                        }
                    }
                }
            }
            passed += 1;
        }
        confirms.extend(run);
        // All that was passed is reported: those entries are finished.
        self.entries.drain(
            ..usize::try_from(passed)
                .unwrap_or(usize::MAX)
                .min(self.entries.len()),
        );
        self.before_first += passed;
        for tag in std::mem::take(&mut self.settled) {
            let Some(entry) = self.entry(tag) else {
                continue;
            };
            if entry.state == State::Settled {
                entry.state = State::Reported;
                let accepted = !entry.refused;
                self.unreported -= 1;
                confirms.push(Confirm {
                    tag,
                    multiple: false,
                    accepted,
                });
            }
        }
    }

    fn part(&mut self, tag: u64, refused: bool) {
        let Some(entry) = self.entry(tag) else { return };
        if entry.state != State::Open {
            return;
        }
        entry.refused |= refused;
        entry.parts = entry.parts.saturating_sub(1);
        if entry.parts == 0 {
            self.settle(tag);
        }
    }

    fn settle(&mut self, tag: u64) {
        if let Some(entry) = self.entry(tag) {
            entry.state = State::Settled;
            self.settled.push(tag);
        }
    }

    fn entry(&mut self, tag: u64) -> Option<&mut Entry> {
        let at = tag.checked_sub(self.before_first + 1)?;
        self.entries.get_mut(usize::try_from(at).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn ack(tag: u64, multiple: bool) -> Confirm {
        Confirm {
            tag,
            multiple,
            accepted: true,
        }
    }

    fn nack(tag: u64, multiple: bool) -> Confirm {
        Confirm {
            tag,
            multiple,
            accepted: false,
        }
    }

    #[test]
    fn reports_table() {
        // (publishes done, publishes refused) of 1..=6, and the frames.
        for (done, refused, expected) in [
            (vec![1], vec![], vec![ack(1, false)]),
            (vec![1, 2, 3, 4, 5, 6], vec![], vec![ack(6, true)]),
            (vec![6, 5, 4, 3, 2, 1], vec![], vec![ack(6, true)]),
            (vec![1, 2, 4], vec![], vec![ack(2, true), ack(4, false)]),
            (vec![5, 3], vec![], vec![ack(5, false), ack(3, false)]),
            (
                vec![1, 3, 4],
                vec![2],
                vec![ack(1, false), nack(2, false), ack(4, true)],
            ),
            (vec![], vec![1, 2], vec![nack(2, true)]),
            (vec![2], vec![4], vec![ack(2, false), nack(4, false)]),
        ] {
            let mut ledger = ConfirmLedger::new();
            for n in 1..=6 {
                assert_eq!(ledger.publish(1), n);
            }
            for tag in &done {
                ledger.done(*tag);
            }
            for tag in &refused {
                ledger.rejected(*tag);
            }
            let mut confirms = Vec::new();
            ledger.report(&mut confirms);
            assert_eq!(confirms, expected, "{done:?} {refused:?}");
            assert_eq!(ledger.unconfirmed(), 6 - done.len() - refused.len());
            ledger.report(&mut confirms);
            assert_eq!(confirms, expected, "nothing is reported twice");
        }
    }

    #[test]
    fn every_part_must_accept() {
        let mut ledger = ConfirmLedger::new();
        let mut confirms = Vec::new();
        ledger.publish(3);
        ledger.done(1);
        ledger.rejected(1);
        ledger.report(&mut confirms);
        assert!(confirms.is_empty());
        ledger.done(1);
        ledger.report(&mut confirms);
        assert_eq!(confirms, [nack(1, false)]);
    }

    #[test]
    fn a_later_multiple_passes_over_what_was_reported_singly() {
        let mut ledger = ConfirmLedger::new();
        let mut confirms = Vec::new();
        for _ in 0..4 {
            ledger.publish(1);
        }
        ledger.done(3);
        ledger.rejected(2);
        ledger.report(&mut confirms);
        assert_eq!(confirms, [ack(3, false), nack(2, false)]);
        confirms.clear();
        ledger.done(1);
        ledger.done(4);
        ledger.report(&mut confirms);
        assert_eq!(confirms, [ack(4, true)]);
        assert_eq!(ledger.unconfirmed(), 0);
        assert_eq!(ledger.publish(0), 5);
    }

    proptest! {
        /// Every publish is reported exactly once and as it was settled; a `multiple` covers nothing
        /// that is open or settled otherwise.
        #[test]
        fn each_publish_is_reported_once(
            steps in proptest::collection::vec((0u8..5, 0usize..64), 0..400),
        ) {
            let mut ledger = ConfirmLedger::new();
            let mut open: Vec<(u64, u32, bool)> = Vec::new();
            let (mut accepted, mut refused) = (BTreeSet::new(), BTreeSet::new());
            let mut told = BTreeSet::new();
            for (kind, n) in steps {
                match kind {
                    0 | 1 => {
                        let parts = (n % 4) as u32;
                        let tag = ledger.publish(parts);
                        if parts == 0 { accepted.insert(tag); } else { open.push((tag, parts, false)); }
                    }
                    2 | 3 if !open.is_empty() => {
                        let at = n % open.len();
                        let (tag, parts, was_refused) = &mut open[at];
                        if kind == 3 && n % 3 == 0 { ledger.rejected(*tag); *was_refused = true; } else { ledger.done(*tag); }
                        *parts -= 1;
                        if *parts == 0 {
                            if *was_refused { refused.insert(*tag); } else { accepted.insert(*tag); }
                            open.remove(at);
                        }
                    }
                    4 => {
                        let mut confirms = Vec::new();
                        ledger.report(&mut confirms);
                        for confirm in confirms {
                            let right = if confirm.accepted { &accepted } else { &refused };
                            let covered: Vec<u64> = if confirm.multiple {
                                (1..=confirm.tag).filter(|tag| !told.contains(tag)).collect()
                            } else {
                                vec![confirm.tag]
                            };
                            for tag in covered {
                                prop_assert!(right.contains(&tag));
                                prop_assert!(told.insert(tag));
                            }
                        }
                        prop_assert_eq!(told.len(), accepted.len() + refused.len());
                        prop_assert_eq!(ledger.unconfirmed(), open.len());
                    }
                    _ => {}
                }
            }
        }
    }
}
