//! Delivery tags of one channel: what was delivered and awaits its acknowledgement.
//!
//! Tags count 1, 2, 3 … per channel and are never reused. The ledger is a queue in tag order whose
//! settled entries are dropped at the front at once and elsewhere when they outnumber the living,
//! so a consumer that never settles one old message costs no memory for the later ones.

use std::collections::{BTreeSet, VecDeque};

/// An acknowledgement names a delivery that is not outstanding: 406 `unknown delivery tag N`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown delivery tag {0}")]
pub struct UnknownDeliveryTag(pub u64);

/// Outstanding deliveries of one channel, each with what the owner needs to settle it.
#[derive(Debug)]
pub struct DeliveryLedger<T> {
    /// Ascending by tag; `None` is settled already.
    entries: VecDeque<(u64, Option<T>)>,
    /// Entries that are `Some`.
    outstanding: usize,
    /// The tag given last.
    last_tag: u64,
    /// Tags of deliveries that were taken back: whoever still acknowledges them is not wrong, but late.
    expired: BTreeSet<u64>,
}

impl<T> Default for DeliveryLedger<T> {
    fn default() -> Self {
        Self {
            entries: VecDeque::new(),
            outstanding: 0,
            last_tag: 0,
            expired: BTreeSet::new(),
        }
    }
}

impl<T> DeliveryLedger<T> {
    /// Below this many entries holes are not worth compacting.
    const COMPACT_MIN: usize = 64;
    /// So many tags that were taken back are remembered, the latest.
    const EXPIRED_MAX: usize = 64 << 10;

    /// An empty ledger; the first tag is 1.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives the next tag to a delivery that must be acknowledged.
    pub fn push(&mut self, delivery: T) -> u64 {
        self.last_tag += 1;
        self.entries.push_back((self.last_tag, Some(delivery)));
        self.outstanding += 1;
        self.last_tag
    }

    /// Gives the next tag to a delivery that needs no acknowledgement.
    pub fn push_settled(&mut self) -> u64 {
        self.last_tag += 1;
        self.last_tag
    }

    /// The tag given last; 0 before the first delivery.
    #[must_use]
    pub fn last_tag(&self) -> u64 {
        self.last_tag
    }

    /// Deliveries that await their acknowledgement.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// Outstanding deliveries in tag order.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        self.entries
            .iter()
            .filter_map(|(tag, entry)| entry.as_ref().map(|entry| (*tag, entry)))
    }

    /// The same, to change what is noted about them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        (self.entries.iter_mut()).filter_map(|(_, entry)| entry.as_mut())
    }

    /// Takes what `basic.ack`, `basic.nack` or `basic.reject` settles, oldest first, into `settled`.
    ///
    /// `multiple` takes everything up to `tag`, where 0 stands for everything outstanding. Any other
    /// tag must be outstanding itself, as in RabbitMQ.
    ///
    /// # Errors
    /// The tag is not outstanding. Nothing is settled then.
    pub fn settle(
        &mut self,
        tag: u64,
        multiple: bool,
        settled: &mut Vec<(u64, T)>,
    ) -> Result<(), UnknownDeliveryTag> {
        if multiple {
            let is_outstanding = |at| matches!(self.entries.get(at), Some((_, Some(_))));
            let known =
                || self.position(tag).is_some_and(is_outstanding) || self.expired.contains(&tag);
            if tag > 0 && !known() {
                return Err(UnknownDeliveryTag(tag));
            }
            let upto = if tag == 0 { self.last_tag } else { tag };
            while self.expired.first().is_some_and(|first| *first <= upto) {
                self.expired.pop_first();
            }
            while let Some(&(first, _)) = self.entries.front() {
                if first > upto {
                    break;
                }
                if let Some((tag, Some(delivery))) = self.entries.pop_front() {
                    self.outstanding -= 1;
                    settled.push((tag, delivery));
                }
            }
            self.trim();
            return Ok(());
        }
        if self.expired.remove(&tag) {
            return Ok(());
        }
        let delivery = self
            .position(tag)
            .and_then(|at| self.entries.get_mut(at))
            .and_then(|(_, entry)| entry.take())
            .ok_or(UnknownDeliveryTag(tag))?;
        self.outstanding -= 1;
        settled.push((tag, delivery));
        self.trim();
        Ok(())
    }

    /// Takes back, oldest first, what was outstanding for too long. Its tags may still be acknowledged,
    /// for nothing.
    pub fn expire(&mut self, is_late: impl Fn(&T) -> bool) -> Vec<(u64, T)> {
        let mut late = Vec::new();
        for (tag, entry) in &mut self.entries {
            if let Some(delivery) = entry.take_if(|delivery| is_late(delivery)) {
                late.push((*tag, delivery));
            }
        }
        self.outstanding -= late.len();
        self.expired.extend(late.iter().map(|(tag, _)| *tag));
        while self.expired.len() > Self::EXPIRED_MAX {
            self.expired.pop_first();
        }
        self.trim();
        late
    }

    /// Takes everything outstanding, oldest first (`basic.recover`, the end of the channel).
    pub fn take_all(&mut self) -> Vec<(u64, T)> {
        self.outstanding = 0;
        self.entries
            .drain(..)
            .filter_map(|(tag, entry)| entry.map(|entry| (tag, entry)))
            .collect()
    }

    /// Puts settled deliveries back under their old tags (`tx.rollback` of held acknowledgements).
    /// Tags that were never given or are outstanding again are ignored.
    pub fn restore(&mut self, deliveries: impl IntoIterator<Item = (u64, T)>) {
        let mut back: Vec<(u64, T)> = deliveries
            .into_iter()
            .filter(|(tag, _)| (1..=self.last_tag).contains(tag))
            .collect();
        back.sort_by_key(|(tag, _)| *tag);
        back.dedup_by_key(|(tag, _)| *tag);
        let (Some((first, _)), Some((last, _))) = (back.first(), back.last()) else {
            return;
        };
        let from = self.entries.partition_point(|(tag, _)| tag < first);
        let upto = self.entries.partition_point(|(tag, _)| tag <= last);
        // From the end that is nearer: they go back in one pass, however many there are.
        if upto <= self.entries.len() - from {
            let front: Vec<_> = self.entries.drain(..upto).collect();
            for entry in self.merge(front, back).into_iter().rev() {
                self.entries.push_front(entry);
            }
        } else {
            let rest = self.entries.split_off(from);
            let merged = self.merge(rest, back);
            self.entries.extend(merged);
        }
    }

    /// Entries with deliveries put back between them, both in tag order.
    fn merge(
        &mut self,
        entries: impl IntoIterator<Item = (u64, Option<T>)>,
        back: Vec<(u64, T)>,
    ) -> Vec<(u64, Option<T>)> {
        let mut entries = entries.into_iter().peekable();
        let mut merged = Vec::new();
        for (tag, delivery) in back {
            while let Some(entry) = entries.next_if(|(there, _)| *there < tag) {
                merged.push(entry);
            }
            match entries.next_if(|(there, _)| *there == tag) {
                Some(outstanding @ (_, Some(_))) => merged.push(outstanding),
                _ => {
                    self.outstanding += 1;
                    merged.push((tag, Some(delivery)));
                }
            }
        }
        merged.extend(entries);
        merged
    }

    fn position(&self, tag: u64) -> Option<usize> {
        let &(first, _) = self.entries.front()?;
        // Without holes, the usual case, the place follows from the tag.
        let guess = usize::try_from(tag.checked_sub(first)?).ok();
        if let Some(guess) = guess
            && self
                .entries
                .get(guess)
                .is_some_and(|(there, _)| *there == tag)
        {
            return Some(guess);
        }
        self.entries
            .binary_search_by_key(&tag, |(tag, _)| *tag)
            .ok()
    }

    fn trim(&mut self) {
        while matches!(self.entries.front(), Some((_, None))) {
            self.entries.pop_front();
        }
        if self.entries.len() > Self::COMPACT_MIN && self.outstanding * 2 < self.entries.len() {
            self.entries.retain(|(_, entry)| entry.is_some());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::time::{Duration, Instant};

    fn ledger_of(count: u64) -> DeliveryLedger<u64> {
        let mut ledger = DeliveryLedger::new();
        for n in 1..=count {
            assert_eq!(ledger.push(n * 10), n);
        }
        ledger
    }

    #[test]
    fn late_acknowledgements_of_what_was_taken_back_do_nothing() {
        let even = |value: &u64| value.is_multiple_of(20);
        // (tag, multiple, expected tags)
        for (tag, multiple, expected) in [
            (2, false, Ok(vec![])),
            (2, true, Ok(vec![1])),
            (4, true, Ok(vec![1, 3])),
            (0, true, Ok(vec![1, 3, 5])),
            (3, false, Ok(vec![3])),
            (6, false, Err(UnknownDeliveryTag(6))),
        ] {
            let mut ledger = ledger_of(5);
            let late: Vec<u64> = ledger.expire(even).iter().map(|(tag, _)| *tag).collect();
            assert_eq!((late, ledger.outstanding()), (vec![2, 4], 3));
            let mut settled = Vec::new();
            let result = ledger.settle(tag, multiple, &mut settled);
            let tags: Vec<u64> = settled.iter().map(|(tag, _)| *tag).collect();
            assert_eq!(result.map(|()| tags), expected, "{tag} {multiple}");
        }
        // Once only.
        let mut ledger = ledger_of(5);
        ledger.expire(even);
        let mut settled = Vec::new();
        assert_eq!(ledger.settle(4, true, &mut settled), Ok(()));
        assert_eq!(
            ledger.settle(2, false, &mut settled),
            Err(UnknownDeliveryTag(2))
        );
    }

    #[test]
    fn settle_table() {
        // (tags settled before, tag, multiple, expected tags)
        for (before, tag, multiple, expected) in [
            (vec![], 1, false, Ok(vec![1])),
            (vec![], 3, false, Ok(vec![3])),
            (vec![], 3, true, Ok(vec![1, 2, 3])),
            (vec![], 0, true, Ok(vec![1, 2, 3, 4, 5])),
            (vec![], 0, false, Err(0)),
            (vec![], 6, false, Err(6)),
            (vec![], 6, true, Err(6)),
            (vec![2], 2, false, Err(2)),
            (vec![2], 3, true, Ok(vec![1, 3])),
            (vec![3], 3, true, Err(3)),
            (vec![1, 2], 2, true, Err(2)),
            (vec![1, 2, 3, 4, 5], 0, true, Ok(vec![])),
        ] {
            let mut ledger = ledger_of(5);
            let mut settled = Vec::new();
            for tag in &before {
                ledger.settle(*tag, false, &mut settled).unwrap();
            }
            settled.clear();
            let result = ledger.settle(tag, multiple, &mut settled);
            match expected {
                Ok(tags) => {
                    assert_eq!(result, Ok(()), "{before:?} {tag} {multiple}");
                    assert_eq!(
                        settled.iter().map(|(tag, _)| *tag).collect::<Vec<_>>(),
                        tags
                    );
                    assert!(settled.iter().all(|(tag, value)| *value == tag * 10));
                }
                Err(tag) => assert_eq!(result, Err(UnknownDeliveryTag(tag))),
            }
        }
    }

    #[test]
    fn no_ack_deliveries_share_the_tags_and_cannot_be_settled() {
        let mut ledger = DeliveryLedger::new();
        assert_eq!(ledger.push('a'), 1);
        assert_eq!(ledger.push_settled(), 2);
        assert_eq!(ledger.push('c'), 3);
        let mut settled = Vec::new();
        assert_eq!(
            ledger.settle(2, false, &mut settled),
            Err(UnknownDeliveryTag(2))
        );
        assert_eq!(
            ledger.settle(2, true, &mut settled),
            Err(UnknownDeliveryTag(2))
        );
        ledger.settle(1, true, &mut settled).unwrap();
        assert_eq!(settled, [(1, 'a')]);
        assert_eq!(ledger.outstanding(), 1);
    }

    #[test]
    fn one_old_delivery_does_not_keep_room_for_the_later_ones() {
        let mut ledger = DeliveryLedger::new();
        ledger.push(0);
        let mut settled = Vec::new();
        for n in 1..100_000 {
            let tag = ledger.push(n);
            ledger.settle(tag, false, &mut settled).unwrap();
        }
        assert!(ledger.entries.len() <= 2 * DeliveryLedger::<i32>::COMPACT_MIN);
        ledger.settle(1, false, &mut settled).unwrap();
        assert_eq!(ledger.outstanding(), 0);
    }

    #[test]
    fn rollback_restores_in_order() {
        let mut ledger = ledger_of(4);
        let mut settled = Vec::new();
        ledger.settle(3, true, &mut settled).unwrap();
        ledger.restore(settled.drain(..));
        ledger.restore([(9, 90)]);
        assert_eq!(ledger.take_all(), [(1, 10), (2, 20), (3, 30), (4, 40)]);
    }

    /// One by one they would take minutes.
    #[test]
    fn a_large_rollback_is_one_pass() {
        const COUNT: u64 = 600_000;
        for upto in [COUNT / 2, COUNT] {
            let mut ledger = ledger_of(COUNT);
            let mut settled = Vec::new();
            ledger.settle(upto, true, &mut settled).unwrap();
            let start = Instant::now();
            ledger.restore(settled);
            assert!(start.elapsed() < Duration::from_secs(10));
            let tags = ledger.iter().map(|(tag, _)| tag);
            assert!(tags.eq(1..=COUNT));
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        /// Puts back so many of the settled ones, those settled last, or those settled first.
        Restore(usize, bool),
        Push,
        PushSettled,
        Settle(u64, bool),
        TakeAll,
    }

    fn any_step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => Just(Step::Push),
            1 => Just(Step::PushSettled),
            6 => (0u64..200, any::<bool>()).prop_map(|(tag, multiple)| Step::Settle(tag, multiple)),
            1 => Just(Step::TakeAll),
            2 => (0usize..20, any::<bool>()).prop_map(|(count, last)| Step::Restore(count, last)),
        ]
    }

    proptest! {
        /// Every delivery is outstanding or was given out exactly once, as in a plain map.
        #[test]
        fn deliveries_are_conserved(steps in proptest::collection::vec(any_step(), 0..300)) {
            let mut ledger = DeliveryLedger::new();
            let mut model = BTreeMap::new();
            let mut last = 0u64;
            let mut gone: Vec<(u64, u64)> = Vec::new();
            for step in steps {
                match step {
                    Step::Restore(count, last) => {
                        let count = count.min(gone.len());
                        let from = if last { gone.len() - count } else { 0 };
                        let back: Vec<_> = gone.drain(from..from + count).collect();
                        model.extend(back.iter().copied());
                        // One that is outstanding is ignored.
                        ledger.restore(back.iter().chain(back.first()).copied());
                    }
                    Step::Push => {
                        last += 1;
                        prop_assert_eq!(ledger.push(last), last);
                        model.insert(last, last);
                    }
                    Step::PushSettled => {
                        last += 1;
                        prop_assert_eq!(ledger.push_settled(), last);
                    }
                    Step::Settle(tag, multiple) => {
                        let mut settled = Vec::new();
                        let result = ledger.settle(tag, multiple, &mut settled);
                        let expected: Vec<_> = if multiple {
                            let upto = if tag == 0 { last } else { tag };
                            model.range(..=upto).map(|(t, v)| (*t, *v)).collect()
                        } else {
                            model.get_key_value(&tag).map(|(t, v)| (*t, *v)).into_iter().collect()
                        };
                        let all = multiple && tag == 0;
                        let fails = !(all || model.contains_key(&tag));
                        prop_assert_eq!(result.is_err(), fails);
                        if !fails {
                            for (tag, _) in &expected {
                                model.remove(tag);
                            }
                            gone.extend(settled.iter().copied());
                            prop_assert_eq!(settled, expected);
                        }
                    }
                    Step::TakeAll => {
                        let all: Vec<_> = std::mem::take(&mut model).into_iter().collect();
                        prop_assert_eq!(ledger.take_all(), all);
                    }
                }
                prop_assert_eq!(ledger.outstanding(), model.len());
            }
        }
    }
}
