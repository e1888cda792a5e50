//! What a node counts: plain atomics, read by `management`.

use crate::auth_attempts::AuthAttempts;
use crate::message_sizes::MessageSizes;
use broker_model::catalog::Catalog;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

macro_rules! counters {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $field:ident),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Default)]
        pub struct $name {
            $($(#[$doc])* pub $field: Counter,)*
        }

        impl $name {
            /// Names and values, in the order of declaration.
            #[must_use]
            pub fn values(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($field), self.$field.value()),)*]
            }
        }
    };
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `more`.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// The same where nobody else adds to this counter: cheaper.
    pub fn add_alone(&self, more: u64) {
        self.0
            .store(self.value().wrapping_add(more), Ordering::Relaxed);
    }

    /// Its value.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Adds `more`, which may be negative.
    pub fn add(&self, more: i64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// Sets it.
    pub fn set(&self, value: i64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Its value.
    #[must_use]
    pub fn value(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

counters! {
    /// What has happened on this node since its start.
    Counts {
        /// Connections accepted (after a successful handshake).
        connections_opened,
        /// Connections ended.
        connections_closed,
        /// Channels opened.
        channels_opened,
        /// Channels closed.
        channels_closed,
        /// Messages published.
        published,
        /// Messages published on channels with confirms.
        published_confirm,
        /// Messages routed to at least one queue.
        routed,
        /// Publishes confirmed.
        confirmed,
        /// Publishes answered with `basic.nack`.
        nacked,
        /// Unroutable messages dropped.
        unroutable_dropped,
        /// Unroutable messages returned.
        unroutable_returned,
        /// Deliveries to consumers that acknowledge.
        delivered_consume_manual_ack,
        /// Deliveries to consumers that do not acknowledge.
        delivered_consume_auto_ack,
        /// Messages got that need an acknowledgement.
        delivered_get_manual_ack,
        /// Messages got that need none.
        delivered_get_auto_ack,
        /// Gets that found nothing.
        get_empty,
        /// Deliveries flagged `redelivered`.
        redelivered,
        /// Messages acknowledged.
        acknowledged,
        /// Messages rejected or negatively acknowledged.
        rejected,
        /// Queues declared (and already existing).
        queues_declared,
        /// Queues created.
        queues_created,
        /// Queues deleted.
        queues_deleted,
        /// Logins tried.
        auth_attempts,
        /// Logins refused.
        auth_failed,
        /// Bytes read from clients.
        bytes_received,
        /// Bytes written to clients.
        bytes_sent,
        /// Messages dead-lettered.
        dead_lettered,
        /// Messages that died in queues hosted here because they were rejected.
        died_rejected,
        /// … because their time was over.
        died_expired,
        /// … because their queue was full.
        died_maxlen,
        /// … because they failed too often.
        died_delivery_limit,
    }
}

counters! {
    /// What has happened on a channel since it was opened; only its session counts.
    ChannelCounts {
        /// Messages published.
        published,
        /// Publishes confirmed.
        confirmed,
        /// Unroutable messages returned.
        unroutable_returned,
        /// Unroutable messages dropped.
        unroutable_dropped,
        /// Deliveries to consumers that acknowledge.
        delivered,
        /// Deliveries to consumers that do not.
        delivered_no_ack,
        /// Messages got that need an acknowledgement.
        got,
        /// Messages got that need none.
        got_no_ack,
        /// Gets that found nothing.
        get_empty,
        /// Deliveries flagged `redelivered`.
        redelivered,
        /// Messages acknowledged.
        acknowledged,
    }
}

/// All numbers of a node.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Events.
    pub counts: Counts,
    /// Logins, which an operator can count anew.
    pub auth_attempts: AuthAttempts,
    /// What clients publish, by size.
    pub message_sizes: MessageSizes,
    /// Open connections.
    pub connections: Gauge,
    /// Open channels.
    pub channels: Gauge,
    /// Consumers of clients of this node.
    pub consumers: Gauge,
    /// Queues of the cluster.
    pub queues: Gauge,
    /// Exchanges of the cluster.
    pub exchanges: Gauge,
}

impl Metrics {
    /// Takes note of how many objects there are.
    pub fn catalog_objects(&self, catalog: &Catalog) {
        self.queues.set(catalog.queue_count() as i64);
        self.exchanges.set(catalog.exchange_count() as i64);
    }
}
