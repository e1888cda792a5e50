//! Keeps repeated log lines from filling a disk.

use parking_lot::Mutex;
use std::time::{Duration, Instant};

/// Between two lines about the same thing.
const PAUSE: Duration = Duration::from_secs(10);

/// Permits one line in ten seconds.
#[derive(Debug, Default)]
pub(crate) struct RateLimit(Mutex<Option<Instant>>);

impl RateLimit {
    pub(crate) fn permit(&self) -> bool {
        let mut last = self.0.lock();
        let permitted = last.is_none_or(|last| last.elapsed() >= PAUSE);
        if permitted {
            *last = Some(Instant::now());
        }
        permitted
    }
}
