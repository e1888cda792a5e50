//! Latencies: a histogram per thread, merged at the end.

use hdrhistogram::Histogram;
use serde::Serialize;

/// Latencies in nanoseconds.
#[derive(Debug, Clone)]
pub(crate) struct Latency {
    histogram: Histogram<u64>,
}

impl Latency {
    /// Five minutes; what takes longer counts as that.
    const MAX_NS: u64 = 300_000_000_000;

    pub(crate) fn new() -> Self {
        // Constant and valid bounds: the fallback is never taken.
        let histogram = Histogram::new_with_bounds(1, Self::MAX_NS, 3)
            .or_else(|_| Histogram::new(3))
            .unwrap_or_else(|_| unreachable!("three digits are within the library's bounds"));
        Self { histogram }
    }

    pub(crate) fn record(&mut self, ns: u64) {
        self.histogram.saturating_record(ns);
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        // Histograms of equal bounds cannot fail to add up.
        let _ = self.histogram.add(&other.histogram);
    }

    /// The usual percentiles; `None` without values.
    pub(crate) fn summary(&self) -> Option<LatencySummary> {
        let at = |quantile| self.histogram.value_at_quantile(quantile);
        (!self.histogram.is_empty()).then(|| LatencySummary {
            count: self.histogram.len(),
            mean_ns: self.histogram.mean(),
            min_ns: self.histogram.min(),
            p50_ns: at(0.5),
            p90_ns: at(0.9),
            p99_ns: at(0.99),
            p999_ns: at(0.999),
            max_ns: self.histogram.max(),
        })
    }
}

/// What is printed of a histogram.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct LatencySummary {
    pub(crate) count: u64,
    pub(crate) mean_ns: f64,
    pub(crate) min_ns: u64,
    pub(crate) p50_ns: u64,
    pub(crate) p90_ns: u64,
    pub(crate) p99_ns: u64,
    pub(crate) p999_ns: u64,
    pub(crate) max_ns: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_merged_histograms() {
        let (mut low, mut high) = (Latency::new(), Latency::new());
        assert_eq!(low.summary(), None);
        (1..=50).for_each(|n| low.record(n * 1000));
        (51..=100).for_each(|n| high.record(n * 1000));
        low.merge(&high);
        let summary = low.summary().unwrap();
        assert_eq!(summary.count, 100);
        for (value, expected) in [
            (summary.p50_ns, 50_000),
            (summary.p90_ns, 90_000),
            (summary.p99_ns, 99_000),
        ] {
            assert!(
                value.abs_diff(expected) <= expected / 500,
                "{value} is not about {expected}"
            );
        }
    }

    #[test]
    fn extremes_are_kept_within_bounds() {
        let mut latency = Latency::new();
        latency.record(0);
        latency.record(u64::MAX);
        assert_eq!(latency.summary().map(|summary| summary.count), Some(2));
    }
}
