//! Room for the bodies of requests: what all clients together send at the same time is bounded. What is read of a body
//! takes several times its size.

use crate::App;
use crate::error::ApiError;
use axum::body::HttpBody as _;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

/// No body is larger, in bytes: definition files and messages.
const BODY_MAX: u64 = 64 << 20;
/// A body of so many bytes may be sent to any node, however little memory that has.
const BODY_MAX_LEAST: u64 = 4 << 20;
/// JSON takes up to ten times its size when it is read; no more than a quarter of the memory is for it.
const SHARE: u64 = 40;
/// A body, or an answer, of so many bytes needs no room: there are as many as there may be connections.
pub(crate) const SMALL: u64 = 64 << 10;
/// Bytes to one permit.
const UNIT: u64 = 1 << 10;
/// A body has to come within this time: others may wait for its room.
pub(crate) const BODY_WITHIN: Duration = Duration::from_secs(120);
/// How long a request waits until others are done.
const PATIENCE: Duration = Duration::from_secs(30);

/// For one body of the largest size, or several smaller ones.
pub(crate) struct Room {
    max: u64,
    free: Semaphore,
}

impl Room {
    /// For a node that may use so many bytes of memory.
    pub(crate) fn within(memory_bytes: u64) -> Self {
        let max = (memory_bytes / SHARE).clamp(BODY_MAX_LEAST, BODY_MAX);
        Self {
            max,
            free: Semaphore::new(permits(max) as usize),
        }
    }

    /// The largest body, in bytes.
    pub(crate) const fn max(&self) -> u64 {
        self.max
    }

    /// Takes the room for a body of `size` bytes; `None`: as large as may be.
    async fn take(&self, size: Option<u64>) -> Result<Option<SemaphorePermit<'_>>, ApiError> {
        let size = size.unwrap_or(u64::MAX).min(self.max);
        if size <= SMALL {
            return Ok(None);
        }
        match timeout(PATIENCE, self.free.acquire_many(permits(size))).await {
            Ok(Ok(room)) => Ok(Some(room)),
            _ => {
                let text = "other large requests are under way: try again later";
                Err(ApiError::Unavailable(text.into()))
            }
        }
    }
}

/// Permits for so many bytes.
pub(crate) fn permits(size: u64) -> u32 {
    u32::try_from(size.div_ceil(UNIT)).unwrap_or(u32::MAX)
}

/// Runs a request when there is room for its body, which it has until it is answered.
pub(crate) async fn bounded(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    match app.bodies.take(request.body().size_hint().upper()).await {
        Ok(_room) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn large_bodies_wait_for_each_other_and_small_ones_for_nobody() {
        let room = Room::within(u64::MAX);
        let half = Some(BODY_MAX / 2);
        let (first, second) = (room.take(half).await, room.take(half).await);
        assert!(matches!((&first, &second), (Ok(Some(_)), Ok(Some(_)))));
        for (size, fits) in [
            (Some(0), true),
            (Some(SMALL), true),
            (Some(SMALL + 1), false),
        ] {
            assert_eq!(room.take(size).await.is_ok(), fits, "{size:?}");
        }
        assert!(room.take(None).await.is_err(), "of unknown size");
        drop(first);
        assert!(room.take(half).await.is_ok());
        drop(second);
        assert!(room.take(None).await.is_ok());
        // Whatever is said: more is refused when it comes.
        assert!(room.take(Some(u64::MAX)).await.is_ok());
    }

    #[test]
    fn little_memory_takes_smaller_bodies() {
        for (memory_mib, max_mib) in [(1 << 20, 64), (2560, 64), (1280, 32), (160, 4), (1, 4)] {
            let max = Room::within(memory_mib << 20).max();
            assert_eq!(max, max_mib << 20, "{memory_mib} MiB");
        }
    }
}
