//! Latency histogram of plain atomics: one per group, read by metrics.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the buckets, in microseconds; one more bucket holds the rest.
pub const LATENCY_BOUNDS_MICROS: [u64; 14] = [
    100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000,
    1_000_000, 5_000_000,
];

/// Counts of durations by size.
#[derive(Debug, Default)]
pub(crate) struct LatencyHistogram {
    buckets: [AtomicU64; LATENCY_BOUNDS_MICROS.len() + 1],
    sum_micros: AtomicU64,
}

/// What a [`LatencyHistogram`] held at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Latencies {
    /// How many fell into each bucket of [`LATENCY_BOUNDS_MICROS`] and the one above; not cumulative.
    pub buckets: [u64; LATENCY_BOUNDS_MICROS.len() + 1],
    /// Their sum, in microseconds.
    pub sum_micros: u64,
}

impl LatencyHistogram {
    pub(crate) fn record(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = LATENCY_BOUNDS_MICROS.partition_point(|bound| *bound < micros);
        if let Some(bucket) = self.buckets.get(bucket) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.sum_micros.fetch_add(micros, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Latencies {
        Latencies {
            buckets: std::array::from_fn(|bucket| {
                self.buckets
                    .get(bucket)
                    .map_or(0, |count| count.load(Ordering::Relaxed))
            }),
            sum_micros: self.sum_micros.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_fall_into_their_buckets() {
        let histogram = LatencyHistogram::default();
        for micros in [1, 100, 101, 5_000_000, 5_000_001] {
            histogram.record(Duration::from_micros(micros));
        }
        let read = histogram.read();
        assert_eq!(read.buckets.iter().sum::<u64>(), 5);
        assert_eq!((read.buckets[0], read.buckets[1]), (2, 1));
        assert_eq!((read.buckets[13], read.buckets[14]), (1, 1));
    }
}
