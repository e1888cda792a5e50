//! The line that somebody watches.

use std::time::{Duration, Instant};

use crate::load::Shared;
use crate::output::{live, live_end, thousands};

/// Rates of the last second.
#[derive(Debug)]
pub(super) struct Progress {
    start: Instant,
    last: Instant,
    counts: [u64; 3],
}

impl Progress {
    const INTERVAL: Duration = Duration::from_secs(1);

    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self {
            start: now,
            last: now,
            counts: [0; 3],
        }
    }

    /// Shows the rates, if it is time.
    pub(super) fn show(&mut self, label: &str, shared: &Shared) {
        let elapsed = self.last.elapsed();
        if elapsed < Self::INTERVAL {
            return;
        }
        let counts = [
            shared.sent.count(),
            shared.confirmed.count(),
            shared.received.count(),
        ];
        let rate = |now: u64, before: u64| {
            thousands(now.saturating_sub(before) as f64 / elapsed.as_secs_f64())
        };
        let [sent, confirmed, received] = counts;
        let [sent_before, confirmed_before, received_before] = self.counts;
        live(&format!(
            "{:>4} s  {label}: sent {}/s  confirmed {}/s  received {}/s",
            self.start.elapsed().as_secs(),
            rate(sent, sent_before),
            rate(confirmed, confirmed_before),
            rate(received, received_before),
        ));
        self.last = Instant::now();
        self.counts = counts;
    }

    pub(super) fn end(&mut self) {
        live_end();
    }
}
