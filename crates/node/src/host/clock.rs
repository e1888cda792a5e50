//! Waiting, and the wall clock: what the dispatcher and the log go by.

use std::time::Duration;
use tokio::time::Instant;

/// Milliseconds since the Unix epoch by the wall clock.
#[must_use]
pub fn wall_clock_ms() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64)
}

/// Sleeps until a time of the wall clock; for ever without one.
pub(super) async fn sleep_until(at_ms: Option<u64>) {
    match at_ms {
        Some(at_ms) => {
            let left = at_ms.saturating_sub(wall_clock_ms());
            tokio::time::sleep(Duration::from_millis(left)).await;
        }
        None => std::future::pending().await,
    }
}

/// Sleeps until a time of the machine's own clock; for ever without one.
pub(super) async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
