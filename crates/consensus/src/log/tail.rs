//! The newest entries of a group in memory, so that `apply` and followers read no disk.

use crate::raft::{Entry, LogId};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What an entry costs besides its payload; also bounds the count of empty ones.
const ENTRY_OVERHEAD: usize = 128;

/// Memory that the tails of all groups of a node may use together.
#[derive(Debug)]
pub(crate) struct TailBudget {
    used: AtomicUsize,
    per_node: usize,
    per_group: usize,
}

impl TailBudget {
    pub(crate) fn new(per_group: usize, per_node: usize) -> Arc<Self> {
        Arc::new(Self {
            used: AtomicUsize::new(0),
            per_node,
            per_group,
        })
    }
}

/// A gapless run of entries up to the last one of the log; possibly empty.
#[derive(Debug)]
pub(crate) struct Tail {
    entries: VecDeque<Entry>,
    bytes: usize,
    budget: Arc<TailBudget>,
}

impl Tail {
    pub(crate) fn new(budget: Arc<TailBudget>) -> Self {
        Self {
            entries: VecDeque::new(),
            bytes: 0,
            budget,
        }
    }

    /// Index of the oldest entry held.
    pub(crate) fn first(&self) -> Option<u64> {
        self.entries.front().map(|entry| entry.log_id.index)
    }

    /// Position of the newest entry held.
    pub(crate) fn last(&self) -> Option<LogId> {
        self.entries.back().map(|entry| entry.log_id)
    }

    /// Adds the next entry of the log. One that does not follow the last (a log that was
    /// purged beyond its end) starts the run anew.
    pub(crate) fn push(&mut self, entry: Entry) {
        if self
            .last()
            .is_some_and(|last| last.index.checked_add(1) != Some(entry.log_id.index))
        {
            self.clear();
        }
        self.add(cost(&entry));
        self.entries.push_back(entry);
    }

    /// Drops the oldest entries until the budget is kept; the newest stays.
    pub(crate) fn shrink(&mut self) {
        while self.entries.len() > 1
            && (self.bytes > self.budget.per_group
                || self.budget.used.load(Ordering::Relaxed) > self.budget.per_node)
        {
            self.pop_front();
        }
    }

    /// The entries from `start` (which must be held) to `end`, exclusive, as far as they are held
    /// and fit `max_bytes`; at least one. `None`: `start` is not held.
    pub(crate) fn read(&self, start: u64, end: u64, max_bytes: usize) -> Option<Vec<Entry>> {
        let first = self.first()?;
        let from = usize::try_from(start.checked_sub(first)?).ok()?;
        if from >= self.entries.len() {
            return None;
        }
        let count = usize::try_from(end.saturating_sub(start)).unwrap_or(usize::MAX);
        let mut bytes = 0_usize;
        let mut result = Vec::with_capacity(count.min(self.entries.len().saturating_sub(from)));
        for entry in self.entries.range(from..).take(count) {
            bytes = bytes.saturating_add(cost(entry));
            if bytes > max_bytes && !result.is_empty() {
                break;
            }
            result.push(entry.clone());
        }
        Some(result)
    }

    /// Drops entries after `after`.
    pub(crate) fn truncate_after(&mut self, after: Option<u64>) {
        while self
            .last()
            .is_some_and(|last| after.is_none_or(|after| last.index > after))
        {
            if let Some(entry) = self.entries.pop_back() {
                self.subtract(cost(&entry));
            }
        }
    }

    /// Drops entries up to `upto`.
    pub(crate) fn purge(&mut self, upto: u64) {
        while self.first().is_some_and(|first| first <= upto) {
            self.pop_front();
        }
    }

    fn clear(&mut self) {
        self.entries.clear();
        let bytes = self.bytes;
        self.subtract(bytes);
    }

    fn pop_front(&mut self) {
        if let Some(entry) = self.entries.pop_front() {
            self.subtract(cost(&entry));
        }
    }

    fn add(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes);
        self.budget.used.fetch_add(bytes, Ordering::Relaxed);
    }

    fn subtract(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
        self.budget.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Memory that an entry is counted with.
pub(crate) fn cost(entry: &Entry) -> usize {
    let payload = match &entry.payload {
        openraft::EntryPayload::Normal(payload) => payload.len_bytes(),
        openraft::EntryPayload::Blank | openraft::EntryPayload::Membership(_) => 0,
    };
    payload.saturating_add(ENTRY_OVERHEAD)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::{EntryPayload, log_id};
    use crate::types::Payload;
    use bytes::Bytes;

    fn entry(index: u64, len: usize) -> Entry {
        Entry {
            log_id: log_id(1, index),
            payload: EntryPayload::Normal(Payload::one(Bytes::from(vec![0; len]))),
        }
    }

    fn indices(entries: Option<Vec<Entry>>) -> Option<Vec<u64>> {
        entries.map(|entries| entries.iter().map(|entry| entry.log_id.index).collect())
    }

    #[test]
    fn reads_what_it_holds_and_says_what_not() {
        let mut tail = Tail::new(TailBudget::new(1 << 20, 1 << 20));
        for index in 5..10 {
            tail.push(entry(index, 100));
        }
        assert_eq!(indices(tail.read(6, 8, usize::MAX)), Some(vec![6, 7]));
        assert_eq!(indices(tail.read(8, 20, usize::MAX)), Some(vec![8, 9]));
        assert_eq!(indices(tail.read(5, 10, 1)), Some(vec![5]), "at least one");
        assert_eq!(tail.read(4, 6, usize::MAX), None);
        assert_eq!(tail.read(10, 11, usize::MAX), None);
    }

    #[test]
    fn keeps_to_the_budget_of_group_and_node() {
        let budget = TailBudget::new(1000, 1500);
        let mut one = Tail::new(Arc::clone(&budget));
        let mut two = Tail::new(Arc::clone(&budget));
        for index in 0..10 {
            one.push(entry(index, 200));
            one.shrink();
            two.push(entry(index, 200));
            two.shrink();
        }
        assert!(one.bytes <= 1000 && budget.used.load(Ordering::Relaxed) <= 1500);
        assert_eq!(
            two.last().map(|last| last.index),
            Some(9),
            "the newest stays"
        );
        drop(one);
        drop(two);
        assert_eq!(budget.used.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn truncates_and_purges_at_both_ends() {
        let mut tail = Tail::new(TailBudget::new(1 << 20, 1 << 20));
        for index in 0..10 {
            tail.push(entry(index, 1));
        }
        tail.purge(2);
        tail.truncate_after(Some(6));
        assert_eq!(
            indices(tail.read(3, 100, usize::MAX)),
            Some(vec![3, 4, 5, 6])
        );
        tail.push(entry(20, 1));
        assert_eq!(tail.first(), Some(20), "a gap starts the run anew");
        tail.truncate_after(None);
        assert_eq!(tail.last(), None);
    }
}
