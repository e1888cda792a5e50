//! How long a round of the catalog waits for proposals that are about to come.
//!
//! Clients that declare one thing after the other ask again as soon as they are answered. A round that
//! starts with the first of them carries one proposal, and the others find it under way: each round then
//! costs what one for all of them would. So the next round waits for as many as were answered by the
//! last one or came meanwhile, a moment at most, and not at all after that was in vain.

use std::time::Duration;
use tokio::time::Instant;

/// From the end of a round, for those whom it answered to come again.
const COMES_AGAIN: Duration = Duration::from_millis(1);
/// Rounds that do not wait after one that waited in vain, at most.
const PAUSE_MAX: u32 = 64;

/// What the rounds so far say about the next one.
#[derive(Debug, Default)]
pub(super) struct Gather {
    expected: usize,
    until: Option<Instant>,
    /// Rounds that are not to wait.
    pause: u32,
    /// Of how many the next pause is.
    next_pause: u32,
}

impl Gather {
    /// A round has ended: how many proposals it answered, and how many wait already.
    pub(super) fn ended(&mut self, now: Instant, answered: usize, waiting: usize) {
        self.expected = answered + waiting;
        self.until = Some(now + COMES_AGAIN);
    }

    /// Until when a round that has `gathered` proposals waits for another; `None`: no longer.
    pub(super) fn wait(&self, now: Instant, gathered: usize) -> Option<Instant> {
        self.until
            .filter(|until| self.pause == 0 && gathered < self.expected && now < *until)
    }

    /// The round begins with so many.
    pub(super) fn begins(&mut self, gathered: usize) {
        if self.pause > 0 {
            self.pause -= 1;
        } else if self.until.is_some() && gathered * 2 <= self.expected {
            self.pause = self.next_pause.max(1);
            self.next_pause = self.pause.saturating_mul(2).min(PAUSE_MAX);
        } else if gathered > 1 {
            self.next_pause = 1;
        }
        self.until = None;
    }
}

#[cfg(test)]
mod tests {
    use super::{COMES_AGAIN, Gather, PAUSE_MAX};
    use std::time::Duration;
    use tokio::time::Instant;

    #[tokio::test]
    async fn a_single_client_never_waits() {
        let mut gather = Gather::default();
        let now = Instant::now();
        for _ in 0..3 {
            assert_eq!(gather.wait(now, 1), None);
            gather.begins(1);
            gather.ended(now, 1, 0);
        }
    }

    #[tokio::test]
    async fn two_that_take_turns_come_to_share_a_round() {
        let mut gather = Gather::default();
        let now = Instant::now();
        gather.begins(1);
        gather.ended(now, 1, 1);
        assert_eq!(gather.wait(now, 1), Some(now + COMES_AGAIN));
        assert_eq!(gather.wait(now, 2), None);
        gather.begins(2);
        gather.ended(now, 2, 0);
        assert_eq!(gather.wait(now, 1), Some(now + COMES_AGAIN));
        assert_eq!(gather.wait(now + COMES_AGAIN, 1), None);
    }

    #[tokio::test]
    async fn waiting_in_vain_is_given_up_for_more_and_more_rounds() {
        let mut gather = Gather::default();
        let mut now = Instant::now();
        let mut waits = 0;
        for _ in 0..1000 {
            gather.ended(now, 2, 0);
            waits += u32::from(gather.wait(now, 1).is_some());
            now += Duration::from_millis(2);
            gather.begins(1);
        }
        assert!((7..30).contains(&waits), "{waits}");
        // A success later is taken as a sign that waiting pays again.
        for _ in 0..=PAUSE_MAX {
            gather.ended(now, 2, 0);
            gather.begins(2);
        }
        gather.ended(now, 2, 0);
        assert!(gather.wait(now, 1).is_some());
        gather.begins(1);
        gather.ended(now, 2, 0);
        assert!(gather.wait(now, 1).is_none());
        gather.begins(1);
        gather.ended(now, 2, 0);
        assert!(gather.wait(now, 1).is_some());
    }
}
