//! Waiting, the wall clock, and the clock that hosts go by.

use std::time::Duration;
use tokio::time::Instant;

/// Milliseconds since the Unix epoch by the wall clock: for what people read, and to begin with.
#[must_use]
pub fn wall_clock_ms() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64)
}

/// What deadlines of a host are measured by: it begins with the wall clock, and then ticks with the machine's
/// own.
///
/// A wall clock that is set while a host works would let messages expire before their time, or keep
/// those for as long that were accepted by the wrong one.
#[derive(Debug, Clone, Copy)]
pub struct HostClock {
    began_ms: u64,
    began: Instant,
}

impl HostClock {
    /// A clock that shows the wall clock's time now, or `last_ms` if that is later: what another node's clock
    /// has said already stays in the past, and time passes from there.
    #[must_use]
    pub fn after(last_ms: u64) -> Self {
        Self::starting(wall_clock_ms().max(last_ms))
    }

    fn starting(began_ms: u64) -> Self {
        Self {
            began_ms,
            began: Instant::now(),
        }
    }

    /// Milliseconds since the Unix epoch, as far as this clock knows.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        let elapsed = self.began.elapsed().as_millis() as u64;
        self.began_ms.saturating_add(elapsed)
    }

    /// Sleeps until it shows a time; for ever without one.
    pub(super) async fn sleep_until(self, at_ms: Option<u64>) {
        match at_ms {
            Some(at_ms) => {
                let left = at_ms.saturating_sub(self.now_ms());
                tokio::time::sleep(Duration::from_millis(left)).await;
            }
            None => std::future::pending().await,
        }
    }
}

/// Sleeps until a time of the machine's own clock; for ever without one.
pub(super) async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_ticks_with_the_machine_from_the_later_of_two_times() {
        let wall = wall_clock_ms();
        let ahead = wall + 3_600_000;
        let clock = HostClock::after(ahead);
        assert_eq!(clock.now_ms(), ahead);
        tokio::time::advance(Duration::from_millis(250)).await;
        assert_eq!(clock.now_ms(), ahead + 250);
        clock.sleep_until(Some(ahead + 1_000)).await;
        assert_eq!(clock.now_ms(), ahead + 1_000);

        let behind = HostClock::after(wall - 3_600_000);
        assert!((wall..wall + 60_000).contains(&behind.now_ms()));
    }
}
