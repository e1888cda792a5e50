//! What happened to messages in a turn, counted at its end: shared counters are not touched per message.

use crate::message_sizes::SizeTally;
use crate::metrics::{Counter, Metrics};

macro_rules! tally {
    ($($field:ident),* $(,)?) => {
        /// Counts since the last [`Tally::count`].
        #[derive(Debug, Default)]
        pub(super) struct Tally {
            $(pub(super) $field: u64,)*
            /// Sizes of what was published.
            pub(super) sizes: SizeTally,
        }

        impl Tally {
            /// Adds everything to the node's counters and starts over.
            pub(super) fn count(&mut self, metrics: &Metrics) {
                $(add(&metrics.counts.$field, &mut self.$field);)*
                self.sizes.count(&metrics.message_sizes);
            }
        }
    };
}

tally! {
    published,
    published_confirm,
    routed,
    confirmed,
    nacked,
    unroutable_dropped,
    unroutable_returned,
    delivered_consume_manual_ack,
    delivered_consume_auto_ack,
    redelivered,
    acknowledged,
    rejected,
}

fn add(counter: &Counter, count: &mut u64) {
    if *count > 0 {
        counter.add(std::mem::take(count));
    }
}
