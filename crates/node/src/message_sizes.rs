//! How large the messages are that clients publish.

use crate::measured::{Distribution, cumulative};
use crate::metrics::Counter;

/// Upper bounds in bytes, as RabbitMQ 4.x counts by: what is larger is in a bucket of its own.
const BOUNDS: [u64; 8] = [
    100,
    1_000,
    10_000,
    100_000,
    1_000_000,
    10_000_000,
    50_000_000,
    100_000_000,
];
const BUCKETS: usize = BOUNDS.len() + 1;

/// Bodies published to this node since its start, by size.
#[derive(Debug, Default)]
pub struct MessageSizes {
    buckets: [Counter; BUCKETS],
    bytes: Counter,
}

impl MessageSizes {
    pub(crate) fn distribution(&self) -> Distribution {
        let counts: Vec<u64> = self.buckets.iter().map(Counter::value).collect();
        Distribution {
            labels: "protocol=\"amqp091\"",
            ..cumulative(
                "rabbitmq_message_size_bytes",
                "Size of messages received from publishers",
                &BOUNDS,
                &counts,
                self.bytes.value(),
                1.0,
            )
        }
    }
}

/// The same of one session, since they were last added to those of the node.
#[derive(Debug, Default)]
pub(crate) struct SizeTally {
    buckets: [u64; BUCKETS],
    bytes: u64,
    seen: bool,
}

impl SizeTally {
    /// A body of this size.
    pub(crate) fn see(&mut self, size: usize) {
        let size = size as u64;
        let bucket = BOUNDS.iter().take_while(|bound| size > **bound).count();
        if let Some(count) = self.buckets.get_mut(bucket) {
            *count += 1;
        }
        self.bytes += size;
        self.seen = true;
    }

    /// Adds everything to the node's, and starts over.
    pub(crate) fn count(&mut self, sizes: &MessageSizes) {
        if !self.seen {
            return;
        }
        let Self { buckets, bytes, .. } = std::mem::take(self);
        for (total, count) in sizes.buckets.iter().zip(buckets) {
            if count > 0 {
                total.add(count);
            }
        }
        sizes.bytes.add(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_in_the_smallest_bucket_that_holds_them() {
        let (mut tally, sizes) = (SizeTally::default(), MessageSizes::default());
        for size in [0, 100, 101, 1_000, 100_000_001] {
            tally.see(size);
        }
        tally.count(&sizes);
        tally.count(&sizes);
        let told = sizes.distribution();
        let counts: Vec<u64> = told.buckets.iter().map(|(_, count)| *count).collect();
        assert_eq!(counts, [2, 4, 4, 4, 4, 4, 4, 4]);
        assert_eq!((told.count, told.sum), (5, 100_001_202.0));
    }
}
