//! Whether this process itself stood still: then its silence says nothing about others.
//!
//! A process that gets no processor for a while hears nothing meanwhile, and what has come waits in its
//! sockets. Whoever judges others by their silence looks regularly, and excuses one look that comes late;
//! only one, so that a machine that is always late still finds out.

use std::time::Duration;
use tokio::time::Instant;

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
