//! A time that passes slower than the system's. Pure.

use std::time::Duration;
use tokio::time::Instant;

/// From one moment on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slowed {
    /// The moment, by the system's clock …
    since: Instant,
    /// … and by this one.
    told: Instant,
    factor: u32,
}

impl Slowed {
    /// As fast as the system's.
    pub(super) fn starting(now: Instant) -> Self {
        Self {
            since: now,
            told: now,
            factor: 1,
        }
    }

    /// From `now` on with another factor: no moment is told twice, or left out.
    pub(super) fn changed(self, factor: u32, now: Instant) -> Self {
        Self {
            since: now,
            told: self.told(now),
            factor: factor.max(1),
        }
    }

    /// What this clock says at a moment of the system's.
    pub(super) fn told(self, at: Instant) -> Instant {
        match at.checked_duration_since(self.since) {
            Some(after) => self.told + after / self.factor,
            // Before the change; only its order matters.
            None => shifted_back(self.told, self.since - at),
        }
    }

    /// When this clock says `told`, going by its present pace.
    pub(super) fn real(self, told: Instant) -> Instant {
        match told.checked_duration_since(self.told) {
            Some(after) => self.since + after.saturating_mul(self.factor),
            None => shifted_back(self.since, self.told - told),
        }
    }
}

fn shifted_back(from: Instant, by: Duration) -> Instant {
    from.checked_sub(by).unwrap_or(from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_passes_at_its_pace_and_never_leaps() {
        let ms = Duration::from_millis;
        let start = Instant::now() + ms(60_000);
        let slowed = Slowed::starting(start).changed(4, start + ms(100));
        assert_eq!(slowed.told(start + ms(100)), start + ms(100));
        assert_eq!(slowed.told(start + ms(500)), start + ms(200));
        assert_eq!(slowed.told(start + ms(50)), start + ms(50));
        let swift = slowed.changed(1, start + ms(500));
        assert_eq!(swift.told(start + ms(500)), start + ms(200));
        assert_eq!(swift.told(start + ms(700)), start + ms(400));
        for at in [0, 99, 100, 101, 300, 5000] {
            let at = start + ms(at);
            assert_eq!(slowed.real(slowed.told(at)), at);
        }
    }
}
