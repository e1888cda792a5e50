//! Histograms with buckets that grow with their values, as openraft counts the sizes of its batches in.
//!
//! openraft depends on a crate of this name, which at first use makes tables for sixteen resolutions, 26 MB
//! that stay resident in every process, although openraft uses one of them. This crate takes its place
//! (`[patch.crates-io]` in the workspace's manifest): the same interface as far as openraft uses it, and
//! computed bounds instead of tables. To be dropped when openraft's dependency makes only what is used.

mod chart;

pub use chart::{AsciiChart, Detailed};

use std::fmt;
use std::marker::PhantomData;

/// Bits of a value that tell buckets of one power of two apart.
const BITS: u32 = 2;
const STEPS: usize = 1 << BITS;
/// A bucket for each small value, then [`STEPS`] for each higher power of two.
const BUCKETS: usize = STEPS + (64 - BITS as usize) * STEPS;

/// Counts of values. `T` is for the interface only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram<T = ()> {
    /// Empty until something is counted.
    counts: Vec<u64>,
    of: PhantomData<T>,
}

impl<T> Default for Histogram<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Histogram<T> {
    /// An empty one.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            counts: Vec::new(),
            of: PhantomData,
        }
    }

    /// Counts a value.
    pub fn record(&mut self, value: u64) {
        self.record_n(value, 1);
    }

    /// Counts a value several times.
    pub fn record_n(&mut self, value: u64, count: u64) {
        if self.counts.is_empty() {
            self.counts = vec![0; BUCKETS];
        }
        if let Some(counted) = self.counts.get_mut(bucket(value)) {
            *counted = counted.saturating_add(count);
        }
    }

    /// How many values were counted.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The lowest value of the bucket in which the `part` (0 to 1) of all values ends; 0 without values.
    #[must_use]
    pub fn percentile(&self, part: f64) -> u64 {
        let wanted = (self.total() as f64 * part.clamp(0.0, 1.0)).ceil().max(1.0);
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen as f64 >= wanted {
                return lowest(index);
            }
        }
        0
    }

    /// The usual percentiles.
    #[must_use]
    pub fn percentile_stats(&self) -> PercentileStats {
        PercentileStats {
            samples: self.total(),
            p0_1: self.percentile(0.001),
            p1: self.percentile(0.01),
            p5: self.percentile(0.05),
            p10: self.percentile(0.1),
            p50: self.percentile(0.5),
            p90: self.percentile(0.9),
            p99: self.percentile(0.99),
            p99_9: self.percentile(0.999),
        }
    }
}

fn bucket(value: u64) -> usize {
    if value < STEPS as u64 {
        return value as usize;
    }
    // At least BITS, because the value is at least STEPS.
    let power = value.ilog2() - BITS;
    let step = (value >> power) as usize & (STEPS - 1);
    STEPS + power as usize * STEPS + step
}

fn lowest(bucket: usize) -> u64 {
    match bucket.checked_sub(STEPS) {
        None => bucket as u64,
        Some(above) => ((STEPS + above % STEPS) as u64) << (above / STEPS),
    }
}

/// Percentiles of a [`Histogram`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PercentileStats {
    /// Values counted.
    pub samples: u64,
    /// 0.1 % are at most about this.
    pub p0_1: u64,
    /// 1 %.
    pub p1: u64,
    /// 5 %.
    pub p5: u64,
    /// 10 %.
    pub p10: u64,
    /// Half of them.
    pub p50: u64,
    /// 90 %.
    pub p90: u64,
    /// 99 %.
    pub p99: u64,
    /// 99.9 %.
    pub p99_9: u64,
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            samples,
            p0_1,
            p1,
            p5,
            p10,
            p50,
            p90,
            p99,
            p99_9,
        } = self;
        write!(
            f,
            "[samples: {samples}, P0.1: {p0_1}, P1: {p1}, P5: {p5}, P10: {p10}, P50: {p50}, P90: {p90}, \
             P99: {p99}, P99.9: {p99_9}]"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_in_the_bucket_that_begins_at_or_below_it() {
        let near = (0..64).flat_map(|power| {
            let at = 1_u64 << power;
            [at.saturating_sub(1), at, at.saturating_add(1)]
        });
        for value in (0..5000).chain(near).chain([u64::MAX]) {
            let index = bucket(value);
            assert!(index < BUCKETS, "{value}");
            assert!(lowest(index) <= value, "{value}");
            if index + 1 < BUCKETS {
                assert!(value < lowest(index + 1), "{value}");
            }
        }
    }

    #[test]
    fn percentiles() {
        let mut histogram = Histogram::<()>::new();
        assert_eq!(histogram.percentile_stats().p99, 0);
        histogram.record_n(3, 90);
        histogram.record_n(1000, 9);
        histogram.record(1 << 40);
        let stats = histogram.percentile_stats();
        assert_eq!((stats.samples, stats.p50, stats.p90), (100, 3, 3));
        assert_eq!((stats.p99, stats.p99_9), (896, 1 << 40));
    }
}
