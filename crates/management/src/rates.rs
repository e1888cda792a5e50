//! Rates from counters: what has changed since an earlier look.
//!
//! Nothing runs in the background: whoever looks leaves a sample for those who look later.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// A rate is taken over at least this time, so that two looks in a row do not show noise.
pub(crate) const SPAN_MIN: Duration = Duration::from_secs(4);
/// Older samples say nothing about now.
pub(crate) const SPAN_MAX: Duration = Duration::from_secs(60);
/// Samples are this far apart.
const STEP: Duration = Duration::from_secs(1);

/// Recent samples of counters.
#[derive(Debug, Default)]
pub(crate) struct Rates {
    samples: VecDeque<(Instant, BTreeMap<String, u64>)>,
}

impl Rates {
    /// Notes counters and returns the rate of each, per second.
    pub(crate) fn update(
        &mut self,
        now: Instant,
        counters: &BTreeMap<String, u64>,
    ) -> BTreeMap<String, f64> {
        let age = |at: Instant| now.saturating_duration_since(at);
        while self
            .samples
            .front()
            .is_some_and(|(at, _)| age(*at) > SPAN_MAX)
        {
            self.samples.pop_front();
        }
        // The youngest that is old enough, else the oldest there is.
        let base = self
            .samples
            .iter()
            .rev()
            .find(|(at, _)| age(*at) >= SPAN_MIN)
            .or_else(|| self.samples.front())
            .filter(|(at, _)| !age(*at).is_zero());
        let rates = match base {
            None => BTreeMap::new(),
            Some((at, before)) => {
                let seconds = age(*at).as_secs_f64();
                let rate = |(name, value): (&String, &u64)| {
                    // A counter that fell belongs to a node that started anew.
                    let more = value.saturating_sub(before.get(name).copied().unwrap_or(0));
                    (name.clone(), more as f64 / seconds)
                };
                counters.iter().map(rate).collect()
            }
        };
        if self.samples.back().is_none_or(|(at, _)| age(*at) >= STEP) {
            self.samples.push_back((now, counters.clone()));
        }
        rates
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_over_time() {
        let mut rates = Rates::default();
        let start = Instant::now();
        let mut at = |seconds: u64, value: u64| {
            let counters = BTreeMap::from([("publish".to_owned(), value)]);
            rates
                .update(start + Duration::from_secs(seconds), &counters)
                .get("publish")
                .copied()
        };
        assert_eq!(at(0, 100), None);
        assert_eq!(at(2, 300), Some(100.0));
        assert_eq!(at(6, 700), Some(100.0)); // Over the four seconds since the second look.
        assert_eq!(at(10, 100), Some(0.0)); // Started anew.
        assert_eq!(at(200, 100), None); // What was known is too old.
    }
}
