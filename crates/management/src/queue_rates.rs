//! Rates of single queues, for those that somebody has looked at lately.
//!
//! As with [`crate::rates`] nothing runs in the background. Two samples per queue are enough, and
//! both how many queues are remembered and for how long is bounded.

use crate::rates::{SPAN_MAX, SPAN_MIN};
use node::host::QueueReport;
use std::collections::HashMap;
use std::time::Instant;

/// Queues remembered. Others show no rates.
const QUEUES: usize = 32 * 1024;

/// What is sampled of a queue: the seven counts of its tally, ready and unacknowledged messages.
type Sample = [u64; 9];

/// What happens in a queue per second.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct QueueRate {
    pub(crate) published: f64,
    pub(crate) delivered: f64,
    pub(crate) delivered_no_ack: f64,
    pub(crate) got: f64,
    pub(crate) got_no_ack: f64,
    pub(crate) redelivered: f64,
    pub(crate) acknowledged: f64,
    /// Growth; may be negative.
    pub(crate) ready: f64,
    /// Growth; may be negative.
    pub(crate) unacked: f64,
}

/// Samples of one queue. `older` is at least [`SPAN_MIN`] before `newer`.
#[derive(Debug)]
struct Samples {
    older: Option<(Instant, Sample)>,
    newer: (Instant, Sample),
}

/// Recent samples of queues.
#[derive(Debug, Default)]
pub(crate) struct QueueRates {
    queues: HashMap<u64, Samples>,
    cleaned: Option<Instant>,
}

impl QueueRates {
    /// Notes what a queue counts and returns its rates; zeros at the first look.
    pub(crate) fn update(&mut self, now: Instant, report: &QueueReport) -> QueueRate {
        self.forget_old(now);
        let sample = sample(report);
        if sample.iter().all(|count| *count == 0) {
            return QueueRate::default();
        }
        let age = |at: Instant| now.saturating_duration_since(at);
        let Some(known) = self.queues.get_mut(&report.queue) else {
            if self.queues.len() < QUEUES {
                let samples = Samples {
                    older: None,
                    newer: (now, sample),
                };
                self.queues.insert(report.queue, samples);
            }
            return QueueRate::default();
        };
        if age(known.newer.0) > SPAN_MAX {
            // What is known is too old.
            *known = Samples {
                older: None,
                newer: (now, sample),
            };
            return QueueRate::default();
        }
        let base = if age(known.newer.0) >= SPAN_MIN {
            let base = std::mem::replace(&mut known.newer, (now, sample));
            known.older = Some(base);
            base
        } else {
            known.older.unwrap_or(known.newer)
        };
        rate(base.1, sample, age(base.0).as_secs_f64())
    }

    /// Queues that nobody asks for any more make room for others.
    fn forget_old(&mut self, now: Instant) {
        let age = |at: Instant| now.saturating_duration_since(at);
        if age(*self.cleaned.get_or_insert(now)) >= SPAN_MAX {
            self.cleaned = Some(now);
            self.queues
                .retain(|_, samples| age(samples.newer.0) <= SPAN_MAX);
        }
    }
}

fn sample(report: &QueueReport) -> Sample {
    let tally = &report.tally;
    [
        tally.published,
        tally.delivered,
        tally.delivered_no_ack,
        tally.got,
        tally.got_no_ack,
        tally.redelivered,
        tally.acknowledged,
        report.ready,
        report.unacked,
    ]
}

fn rate(before: Sample, now: Sample, seconds: f64) -> QueueRate {
    if seconds <= 0.0 {
        return QueueRate::default();
    }
    // A counter that fell belongs to a queue whose leader is another one now.
    let per_second = |before: u64, now: u64| now.saturating_sub(before) as f64 / seconds;
    let growth = |before: u64, now: u64| (now as f64 - before as f64) / seconds;
    let [p0, d0, dn0, g0, gn0, r0, a0, ready0, unacked0] = before;
    let [p, d, dn, g, gn, r, a, ready, unacked] = now;
    QueueRate {
        published: per_second(p0, p),
        delivered: per_second(d0, d),
        delivered_no_ack: per_second(dn0, dn),
        got: per_second(g0, g),
        got_no_ack: per_second(gn0, gn),
        redelivered: per_second(r0, r),
        acknowledged: per_second(a0, a),
        ready: growth(ready0, ready),
        unacked: growth(unacked0, unacked),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use node::host::TallyReport;
    use std::time::Duration;

    fn report(queue: u64, published: u64, ready: u64) -> QueueReport {
        QueueReport {
            queue,
            ready,
            tally: TallyReport {
                published,
                ..TallyReport::default()
            },
            ..QueueReport::default()
        }
    }

    #[test]
    fn rates_over_time() {
        let mut rates = QueueRates::default();
        let start = Instant::now();
        let mut at = |seconds: u64, published: u64, ready: u64| {
            let now = start + Duration::from_secs(seconds);
            let rate = rates.update(now, &report(1, published, ready));
            (rate.published, rate.ready)
        };
        assert_eq!(at(0, 100, 50), (0.0, 0.0)); // The first look.
        assert_eq!(at(2, 300, 40), (100.0, -5.0));
        assert_eq!(at(5, 600, 50), (100.0, 0.0)); // Over five seconds since the first look.
        assert_eq!(at(6, 1200, 50), (1100.0 / 6.0, 0.0)); // Two looks in a row show no noise.
        assert_eq!(at(10, 10, 50), (0.0, 0.0)); // Another leader counts anew.
        assert_eq!(at(200, 20, 50), (0.0, 0.0)); // What was known is too old.
        assert_eq!(at(201, 30, 50), (10.0, 0.0));
    }

    #[test]
    fn memory_is_bounded() {
        let mut rates = QueueRates::default();
        let start = Instant::now();
        for queue in 0..QUEUES as u64 + 10 {
            rates.update(start, &report(queue, 1, 0));
            rates.update(start, &report(queue, 0, 0)); // Nothing to remember.
        }
        assert_eq!(rates.queues.len(), QUEUES);
        let later = start + SPAN_MAX + Duration::from_secs(1);
        rates.update(later, &report(0, 1, 0));
        assert_eq!(rates.queues.len(), 1);
    }
}
