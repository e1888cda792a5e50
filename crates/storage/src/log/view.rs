//! What callers see of one group's log: everything queued so far, written or not.

use super::backend::GroupLog;
use super::entry::LogEntry;
use super::sizes::Sizes;
use bytes::Bytes;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

/// A group's log, counting writes that are still queued.
#[derive(Debug, Default)]
pub(crate) struct View {
    /// First index of the log that can be read (when there are entries).
    pub(crate) first: u64,
    /// Index behind the last entry.
    pub(crate) next: u64,
    /// Whether `next` is binding: false until the first append or purge.
    pub(crate) placed: bool,
    pub(crate) purged: Option<(u64, Bytes)>,
    pub(crate) vote: Option<Bytes>,
    pub(crate) committed: Option<Bytes>,
    pub(crate) sizes: Sizes,
    /// Entries below this are on disk.
    synced: u64,
    /// Appends that the writer has not written yet, in order and without holes.
    pending: VecDeque<Run>,
    /// Ticket of the last write that took entries from the end.
    pub(crate) last_cut: u64,
    /// Queued truncations: appends with a lower ticket count as synced up to the index only.
    cuts: Vec<(u64, u64)>,
}

/// Part of one append.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    ticket: u64,
    first: u64,
    /// Which of `entries` still belong to the log; the first of `entries` has index `first`.
    valid: Range<usize>,
    entries: Arc<Vec<LogEntry>>,
}

impl Run {
    fn end(&self) -> u64 {
        self.first + self.valid.end as u64
    }

    /// Entries with index in `range`.
    pub(crate) fn entries(&self, range: Range<u64>) -> impl Iterator<Item = (u64, &LogEntry)> {
        (self.first..)
            .zip(self.entries.iter())
            .skip(self.valid.start)
            .take(self.valid.len())
            .filter(move |(index, _)| range.contains(index))
    }
}

impl View {
    /// The view of a recovered log.
    pub(crate) fn recovered(
        entries: Range<u64>,
        sizes: Sizes,
        purged: Option<(u64, Bytes)>,
        vote: Option<Bytes>,
        committed: Option<Bytes>,
    ) -> Self {
        Self {
            first: entries.start,
            next: entries.end,
            placed: purged.is_some() || !entries.is_empty(),
            synced: entries.end,
            purged,
            vote,
            committed,
            sizes,
            ..Self::default()
        }
    }

    /// The view of a group that was forgotten by the write with this ticket.
    pub(crate) fn removed(ticket: u64) -> Self {
        Self {
            last_cut: ticket,
            cuts: vec![(ticket, 0)],
            ..Self::default()
        }
    }

    /// Whether nothing at all is known of the group.
    pub(crate) fn is_blank(&self) -> bool {
        !self.placed && self.vote.is_none() && self.committed.is_none()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.first >= self.next
    }

    /// Whether an append at `first_index` fits; true also for the first append of a log, which
    /// may be anywhere.
    pub(crate) fn fits(&self, first_index: u64) -> bool {
        !self.placed || first_index == self.next
    }

    /// Adds entries.
    pub(crate) fn append(&mut self, ticket: u64, first: u64, entries: &Arc<Vec<LogEntry>>) {
        if !self.placed {
            self.placed = true;
            self.first = first;
            self.next = first;
            self.synced = first;
            // Appends from before a truncation do not count for the log that begins now.
            if !self.cuts.is_empty() {
                self.cuts.push((ticket, first));
            }
        }
        for (index, entry) in (first..).zip(entries.iter()) {
            self.sizes.push(index, entry.len_bytes() as u64);
        }
        self.next = first + entries.len() as u64;
        self.pending.push_back(Run {
            ticket,
            first,
            valid: 0..entries.len(),
            entries: Arc::clone(entries),
        });
    }

    pub(crate) fn truncate(&mut self, ticket: u64, after: Option<u64>) {
        let next = after.map_or(0, |after| after.saturating_add(1));
        let next = next.clamp(self.first, self.next.max(self.first));
        if next == self.next {
            return;
        }
        self.next = next;
        self.synced = self.synced.min(next);
        self.sizes.truncate(next);
        self.cuts.push((ticket, next));
        self.last_cut = ticket;
        while let Some(run) = self.pending.back_mut() {
            if run.end() <= next {
                break;
            }
            let keep = usize::try_from(next.saturating_sub(run.first)).unwrap_or(0);
            run.valid.end = run.valid.end.min(keep);
            if !run.valid.is_empty() {
                break;
            }
            self.pending.pop_back();
        }
        if self.is_empty() {
            self.sizes = Sizes::default();
            self.placed = self.purged.is_some();
        }
    }

    /// Notes a purge; returns whether it changes anything.
    pub(crate) fn purge(&mut self, upto: u64, meta: Bytes) -> bool {
        if self
            .purged
            .as_ref()
            .is_some_and(|(purged, _)| *purged >= upto)
        {
            return false;
        }
        self.purged = Some((upto, meta));
        let beyond = upto >= self.next;
        self.sizes.purge(upto);
        if !self.placed {
            // Where a log had been that is empty does not matter.
            self.first = 0;
        }
        self.first = self.first.max(upto.saturating_add(1));
        if beyond || !self.placed {
            self.next = self.first;
            self.synced = self.first;
            self.sizes = Sizes::default();
        }
        self.placed = true;
        while let Some(run) = self.pending.front_mut() {
            if run.first + run.valid.start as u64 > upto {
                break;
            }
            let skip = usize::try_from(self.first.saturating_sub(run.first)).unwrap_or(usize::MAX);
            run.valid.start = skip.min(run.valid.end);
            if !run.valid.is_empty() {
                break;
            }
            self.pending.pop_front();
        }
        true
    }

    /// The append with this ticket, which ended before `end`, is on disk.
    pub(crate) fn append_synced(&mut self, ticket: u64, end: u64) {
        let later = self.cuts.iter().filter(|(cut, _)| ticket < *cut);
        let end = later.fold(end.min(self.next), |end, (_, floor)| end.min(*floor));
        self.synced = self.synced.max(end);
        self.write_synced(ticket);
        while self.pending.front().is_some_and(|run| run.ticket <= ticket) {
            self.pending.pop_front();
        }
    }

    /// The write with this ticket, and so every earlier one, is on disk.
    pub(crate) fn write_synced(&mut self, ticket: u64) {
        self.cuts.retain(|(cut, _)| *cut > ticket);
    }

    /// Highest index on disk; purged entries count.
    pub(crate) fn synced(&self) -> Option<u64> {
        self.placed.then_some(())?;
        self.synced.checked_sub(1)
    }

    /// First index that must be taken from memory, and the appends that hold `range`.
    pub(crate) fn pending(&self, range: &Range<u64>) -> (u64, Vec<Run>) {
        let from = self
            .pending
            .front()
            .map_or(self.next, |run| run.first + run.valid.start as u64);
        let runs = self
            .pending
            .iter()
            .filter(|run| run.first < range.end && run.end() > range.start)
            .cloned()
            .collect();
        (from, runs)
    }

    pub(crate) fn group_log(&self) -> GroupLog {
        let filled = !self.is_empty();
        GroupLog {
            first: filled.then_some(self.first),
            last: filled.then(|| self.next - 1),
            purged: self.purged.clone(),
            vote: self.vote.clone(),
            committed: self.committed.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(count: usize) -> Arc<Vec<LogEntry>> {
        let entry = LogEntry::new(Bytes::from_static(b"h"), Arc::from([]));
        Arc::new(vec![entry; count])
    }

    fn held(view: &View, range: Range<u64>) -> Vec<u64> {
        let (_, runs) = view.pending(&range);
        runs.iter()
            .flat_map(|run| run.entries(range.clone()).map(|(index, _)| index))
            .collect()
    }

    #[test]
    fn a_truncation_hides_queued_entries_and_what_is_synced_later() {
        let mut view = View::default();
        view.append(1, 5, &entries(10));
        view.truncate(2, Some(9));
        assert!(view.fits(10) && !view.fits(15));
        view.append(3, 10, &entries(2));
        assert_eq!(held(&view, 0..100), vec![5, 6, 7, 8, 9, 10, 11]);

        view.append_synced(1, 15);
        assert_eq!(view.synced(), Some(9), "what was cut is not synced");
        assert_eq!(held(&view, 0..100), vec![10, 11]);
        view.write_synced(2);
        view.append_synced(3, 12);
        assert_eq!(view.synced(), Some(11));
        assert_eq!(view.pending(&(0..100)).0, 12);
    }

    #[test]
    fn a_purge_behind_the_end_moves_the_log() {
        let mut view = View::default();
        view.append(1, 0, &entries(3));
        assert!(view.purge(100, Bytes::new()));
        assert!(!view.purge(50, Bytes::new()));
        view.append_synced(1, 3);
        assert_eq!((view.synced(), view.group_log().last), (Some(100), None));
        assert!(view.fits(101) && !view.fits(3));
    }

    #[test]
    fn a_purge_hides_queued_entries() {
        let mut view = View::default();
        view.append(1, 0, &entries(30));
        assert!(view.purge(9, Bytes::new()));
        assert_eq!(held(&view, 0..12), vec![10, 11]);
        assert_eq!(view.group_log().first, Some(10));
    }

    #[test]
    fn an_emptied_log_may_begin_anywhere_again() {
        let mut view = View::default();
        view.append(1, 7, &entries(3));
        view.truncate(2, None);
        assert!(view.is_empty() && view.fits(0));
        view.append(3, 0, &entries(1));
        view.append_synced(1, 10);
        assert_eq!(
            view.synced(),
            None,
            "the old entries are not on the new log's account"
        );
        view.append_synced(3, 1);
        assert_eq!(view.synced(), Some(0));
    }
}
