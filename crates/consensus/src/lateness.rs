//! Whether this process itself stood still: then its silence says nothing about others.
//!
//! A process that gets no processor for a while hears nothing meanwhile, and what has come waits in its
//! sockets. Whoever judges others by their silence looks regularly, and excuses one look that comes late;
//! only one, so that a machine that is always late still finds out.

use parking_lot::Mutex;
use std::time::Duration;
use tokio::time::Instant;

/// Whether this process has run without a break, for a leader that is about to do what nobody can take back.
///
/// After a break others may have gone on, and what a leader goes by is not enough to know: answers that have waited in its
/// sockets may be taken for answers to what it has sent since. In `GRACE` it hears who leads now.
#[derive(Debug)]
pub(crate) struct Pulse(Mutex<Beats>);

#[derive(Debug)]
struct Beats {
    last: Instant,
    /// When a break has ended.
    woke: Option<Instant>,
}

/// Longer than it takes to read what waits in the sockets, and to be told by those who know better.
const GRACE: Duration = Duration::from_millis(300);

impl Pulse {
    pub(crate) fn new() -> Self {
        let last = Instant::now();
        Self(Mutex::new(Beats { last, woke: None }))
    }

    /// To be called regularly, and far more often than every `lease`.
    pub(crate) fn beat(&self, now: Instant, lease: Duration) {
        let mut beats = self.0.lock();
        if now.duration_since(beats.last) > lease {
            beats.woke = Some(now);
        }
        beats.last = now;
    }

    /// Whether there was no break as long as `lease`, or it is long over.
    pub(crate) fn is_steady(&self, now: Instant, lease: Duration) -> bool {
        let beats = self.0.lock();
        now.duration_since(beats.last) <= lease
            && beats
                .woke
                .is_none_or(|woke| now.duration_since(woke) > GRACE)
    }
}

/// Looks that should come regularly.
#[derive(Debug)]
pub(crate) struct Looks {
    /// A look that comes later than this after the one before is late.
    within: Duration,
    last: Instant,
    excused: bool,
}

impl Looks {
    pub(crate) fn new(within: Duration, now: Instant) -> Self {
        Self {
            within,
            last: now,
            excused: false,
        }
    }

    /// A look at `now`: whether it is late, and the one before was not.
    pub(crate) fn is_excused(&mut self, now: Instant) -> bool {
        let late = now.duration_since(self.last) > self.within;
        self.last = now;
        let excused = late && !self.excused;
        self.excused = excused;
        excused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_break_it_is_not_steady_for_a_while() {
        let (start, lease) = (Instant::now(), Duration::from_secs(1));
        let pulse = Pulse::new();
        let at = |ms| start + Duration::from_millis(ms) + Duration::from_millis(10);
        for (beats, looks, steady) in [
            (0, 900, true),
            (1000, 1900, true),
            // The one who looks wakes first, or second.
            (1000, 6000, false),
            (6000, 6001, false),
            (6200, 6290, false),
            (6400, 6401, true),
        ] {
            pulse.beat(at(beats), lease);
            assert_eq!(pulse.is_steady(at(looks), lease), steady, "{looks}");
        }
    }

    #[test]
    fn one_late_look_is_excused() {
        let start = Instant::now();
        let mut looks = Looks::new(Duration::from_millis(250), start);
        for (at_ms, excused) in [
            (100, false),
            (200, false),
            (900, true),
            (1000, false),
            (2000, true),
            (3000, false),
            (3100, false),
            (3200, false),
            (4000, true),
        ] {
            let now = start + Duration::from_millis(at_ms);
            assert_eq!(looks.is_excused(now), excused, "{at_ms}");
        }
    }
}
