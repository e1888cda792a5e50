//! When openraft's clock is to run slower, and how much. Pure.

use std::time::Duration;
use tokio::time::Instant;

/// At most so much slower: with the default configuration an election waits 2.8 s for votes then.
const MOST: u32 = 8;
/// For so long after something took too long last.
const KEPT: Duration = Duration::from_secs(60);

/// The factor, and how long it holds.
#[derive(Debug)]
pub(super) struct Pace {
    factor: u32,
    until: Option<Instant>,
}

impl Pace {
    pub(super) const fn new() -> Self {
        Self {
            factor: 1,
            until: None,
        }
    }

    /// Something took `time` for which an election waits `patience` by configuration. The new factor, if it changes.
    ///
    /// What is waited for long enough changes nothing, however close it was: a clock that runs slower makes a silent leader
    /// be followed later. What is not is given half as much again, because the next one may take longer.
    pub(super) fn took(&mut self, time: Duration, patience: Duration, now: Instant) -> Option<u32> {
        let ample = enough_for(time.saturating_mul(3) / 2, patience);
        if ample >= self.factor && self.factor > 1 {
            self.until = Some(now + KEPT);
        }
        if enough_for(time, patience) <= self.factor || ample <= self.factor {
            return None;
        }
        self.factor = ample;
        self.until = Some(now + KEPT);
        Some(ample)
    }

    /// The new factor, if it changes because nothing took so long for a while.
    pub(super) fn look(&mut self, now: Instant) -> Option<u32> {
        let over = self.until.is_some_and(|until| now >= until);
        if !over {
            return None;
        }
        // By steps: where it is still too fast then, one election fails and not three.
        self.factor = (self.factor / 2).max(1);
        self.until = (self.factor > 1).then(|| now + KEPT);
        Some(self.factor)
    }
}

/// The smallest power of two by which `patience` has to be multiplied to be `time`, or [`MOST`].
fn enough_for(time: Duration, patience: Duration) -> u32 {
    let mut factor = 1;
    while factor < MOST && patience.saturating_mul(factor) < time {
        factor *= 2;
    }
    factor
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_millis(350);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn what_is_waited_for_long_enough_changes_nothing() {
        let now = Instant::now();
        let mut pace = Pace::new();
        for time in [0, 1, 349, 350] {
            assert_eq!(pace.took(ms(time), PATIENCE, now), None, "{time}");
        }
        for (time, factor) in [
            (351, Some(2)),
            (400, None),
            (700, None),
            (701, Some(4)),
            (1500, Some(8)),
            (9000, None),
        ] {
            assert_eq!(pace.took(ms(time), PATIENCE, now), factor, "{time}");
        }
    }

    #[test]
    fn it_is_kept_while_it_is_needed_and_given_up_by_steps() {
        let mut now = Instant::now();
        let mut pace = Pace::new();
        assert_eq!(pace.took(ms(900), PATIENCE, now), Some(4));
        for _ in 0..5 {
            now += KEPT / 2;
            assert_eq!(pace.took(ms(700), PATIENCE, now), None);
            assert_eq!(pace.look(now), None, "700 ms want four times as long");
        }
        now += KEPT / 2;
        assert_eq!(pace.took(ms(300), PATIENCE, now), None);
        now += KEPT / 2;
        assert_eq!(pace.look(now), Some(2), "300 ms do not");
        assert_eq!(pace.look(now), None);
        now += KEPT;
        assert_eq!(pace.look(now), Some(1));
        now += KEPT;
        assert_eq!(pace.look(now), None);
    }
}
