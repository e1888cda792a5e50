//! How long messages of the heartbeat stream and their answers take. Pure.

use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::Instant;

/// The last so many are looked at.
const LAST: usize = 5;
/// Messages without an answer that are remembered: at the pace of heartbeats several seconds of them.
const PENDING: usize = 64;

/// The last round trips to a peer.
#[derive(Debug, Default)]
pub(super) struct Trips {
    /// Messages with heartbeats: the number of the last one, and when it left.
    beats: VecDeque<(u64, Instant)>,
    /// Messages without: they are answered in turn.
    empty: VecDeque<Instant>,
    last: VecDeque<Duration>,
}

impl Trips {
    /// A message leaves whose last heartbeat has this number.
    pub(super) fn sent(&mut self, number: u64, now: Instant) {
        if self.beats.len() >= PENDING {
            self.beats.pop_front();
        }
        self.beats.push_back((number, now));
    }

    /// A message without heartbeats leaves.
    pub(super) fn sent_empty(&mut self, now: Instant) {
        if self.empty.len() >= PENDING {
            self.empty.clear();
        }
        self.empty.push_back(now);
    }

    /// The answer to a heartbeat comes; only the first one of a message counts.
    pub(super) fn answered(&mut self, number: u64, now: Instant) {
        let at = self.beats.partition_point(|(last, _)| *last < number);
        if let Some((_, sent)) = self.beats.remove(at) {
            self.note(now.saturating_duration_since(sent));
        }
    }

    /// The answer to a message without heartbeats comes.
    pub(super) fn answered_empty(&mut self, now: Instant) {
        if let Some(sent) = self.empty.pop_front() {
            self.note(now.saturating_duration_since(sent));
        }
    }

    fn note(&mut self, took: Duration) {
        if self.last.len() >= LAST {
            self.last.pop_front();
        }
        self.last.push_back(took);
    }

    /// One of both ends stood still: what is under way says nothing about the way.
    pub(super) fn forget_pending(&mut self) {
        self.beats.clear();
        self.empty.clear();
    }

    /// The one in the middle; `None` until there are enough.
    pub(super) fn usual(&self) -> Option<Duration> {
        if self.last.len() < LAST {
            return None;
        }
        let mut last: Vec<Duration> = self.last.iter().copied().collect();
        last.sort_unstable();
        last.get(LAST / 2).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_in_the_middle_counts() {
        let ms = Duration::from_millis;
        let start = Instant::now();
        let mut trips = Trips::default();
        trips.sent_empty(start);
        trips.answered_empty(start + ms(900));
        for (number, took) in [(3, 20), (6, 30), (9, 10), (12, 800)] {
            trips.sent(number, start);
            assert_eq!(trips.usual(), None);
            // Another one of the same message, and one of which nobody knows.
            trips.answered(number - 1, start + ms(took));
            trips.answered(number, start + ms(5000));
            trips.answered(99, start + ms(5000));
        }
        assert_eq!(trips.usual(), Some(ms(30)));
    }

    #[test]
    fn what_was_under_way_when_an_end_stood_still_does_not_count() {
        let ms = Duration::from_millis;
        let start = Instant::now();
        let mut trips = Trips::default();
        for number in 0..10 {
            trips.sent(number, start + ms(200 * number));
        }
        trips.forget_pending();
        for number in 0..10 {
            trips.answered(number, start + ms(2000));
            trips.answered_empty(start + ms(2000));
        }
        assert_eq!(trips.usual(), None);
    }

    #[test]
    fn what_is_never_answered_is_forgotten() {
        let now = Instant::now();
        let mut trips = Trips::default();
        for number in 0..1000 {
            trips.sent(number, now);
            trips.sent_empty(now);
        }
        assert!(trips.beats.len() <= PENDING && trips.empty.len() <= PENDING);
    }
}
