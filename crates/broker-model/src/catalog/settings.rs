//! What a queue's arguments and policies come to: the settings that its leader works by.
//!
//! [`QueueSettings`] is the result only. Reading arguments is in `super::arguments`, merging them
//! with policies in `super::policy`; acting on them is the dispatcher's.

use std::sync::Arc;

/// The queue type that a client asked for with `x-queue-type`. All are served by the same queue:
/// what is replicated is decided by durability. Classic and quorum queues differ in what arguments they
/// may have, and in name; the messages of a stream are read and not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum QueueType {
    /// `classic`, also when nothing was asked for.
    #[default]
    Classic,
    /// `quorum`.
    Quorum,
    /// `stream`: messages stay until they are too old or too many, and each consumer reads from where it
    /// wants to.
    Stream,
}

impl QueueType {
    /// The value of `x-queue-type`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Quorum => "quorum",
            Self::Stream => "stream",
        }
    }

    /// The name used in texts about arguments that a type does not have.
    #[must_use]
    pub const fn module_name(self) -> &'static str {
        match self {
            Self::Classic => "rabbit_classic_queue",
            Self::Quorum => "rabbit_quorum_queue",
            Self::Stream => "rabbit_stream_queue",
        }
    }

    /// Reads a value of `x-queue-type`, `default_queue_type` or a management body.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "classic" | "rabbit_classic_queue" => Some(Self::Classic),
            "quorum" | "rabbit_quorum_queue" => Some(Self::Quorum),
            "stream" | "rabbit_stream_queue" => Some(Self::Stream),
            _ => None,
        }
    }
}

/// What happens when a length limit is reached (`x-overflow`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Overflow {
    /// The oldest ready messages make room.
    #[default]
    DropHead,
    /// New messages are refused (the publisher gets a nack).
    RejectPublish,
    /// As `RejectPublish`, and the refused message is dead-lettered.
    RejectPublishDlx,
}

impl Overflow {
    /// The value of `x-overflow`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DropHead => "drop-head",
            Self::RejectPublish => "reject-publish",
            Self::RejectPublishDlx => "reject-publish-dlx",
        }
    }

    /// Reads a value of `x-overflow`.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "drop-head" => Some(Self::DropHead),
            "reject-publish" => Some(Self::RejectPublish),
            "reject-publish-dlx" => Some(Self::RejectPublishDlx),
            _ => None,
        }
    }
}

/// `x-delivery-limit`. Of two the lower counts, so any number before none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeliveryLimit {
    /// Failed deliveries after which a message dies.
    Failures(u64),
    /// A negative number: a message may fail for ever, whatever the node's default is.
    Unlimited,
}

/// Which messages that come back wait before they are handed out again (`x-delayed-retry-type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RetryKind {
    /// All of them.
    All,
    /// Those that count as a failed delivery.
    Failed,
    /// Those that do not.
    Returned,
}

impl RetryKind {
    /// The value of `x-delayed-retry-type`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Failed => "failed",
            Self::Returned => "returned",
        }
    }

    /// Reads a value of `x-delayed-retry-type`; `disabled` is none.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::All, Self::Failed, Self::Returned]
            .into_iter()
            .find(|kind| kind.as_str() == name)
    }
}

/// Delayed retry: how long a message that comes back waits before it is handed out again. The time grows with its
/// failed deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DelayedRetry {
    /// Which messages wait.
    pub kind: RetryKind,
    /// `x-delayed-retry-min`, for each failed delivery.
    pub min_ms: u64,
    /// `x-delayed-retry-max`: no message waits longer.
    pub max_ms: u64,
}

impl DelayedRetry {
    /// How long a message waits that came back, `counted` as a failed delivery or not, and has failed so often by
    /// now; `None`: not at all.
    #[must_use]
    pub fn delay_ms(&self, counted: bool, failed: u32) -> Option<u64> {
        let waits = match self.kind {
            RetryKind::All => true,
            RetryKind::Failed => counted,
            RetryKind::Returned => !counted,
        };
        let delay_ms = self.min_ms.saturating_mul(u64::from(failed.max(1)));
        waits.then(|| delay_ms.min(self.max_ms))
    }
}

/// `x-message-deduplication`: publishes whose deduplication header repeats are dropped.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Deduplication {
    /// Header that holds the identity (`x-deduplication-header` of the message by default).
    pub header: Arc<str>,
    /// Identities remembered at most (`x-cache-size`).
    pub cache_size: u32,
    /// How long one is remembered (`x-cache-ttl`); `None`: until pushed out.
    pub cache_ttl_ms: Option<u64>,
}

/// What a queue of the broker itself is for: clients do not see it, it belongs to an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Store {
    /// Messages of an `x-delayed-message` exchange whose time has not come. When it has, they are
    /// passed on through the exchange's bindings.
    Delay,
    /// The last messages of an `x-recent-history` exchange, for queues that are bound later.
    History,
}

/// The settings in force for one queue. Equal for most queues, therefore shared.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct QueueSettings {
    /// Declared type.
    pub queue_type: QueueType,
    /// `x-message-ttl`.
    pub message_ttl_ms: Option<u64>,
    /// `x-expires`: the queue is deleted after being unused for so long.
    pub expires_ms: Option<u64>,
    /// `x-max-length`, ready messages.
    pub max_length: Option<u64>,
    /// `x-max-length-bytes`, body bytes of ready messages.
    pub max_length_bytes: Option<u64>,
    /// `x-max-age` of a stream: how long its messages stay.
    pub max_age_ms: Option<u64>,
    /// `x-overflow`.
    pub overflow: Overflow,
    /// `x-dead-letter-exchange` (empty: the default exchange).
    pub dead_letter_exchange: Option<Arc<str>>,
    /// `x-dead-letter-routing-key`; `None`: the message's own keys.
    pub dead_letter_routing_key: Option<Arc<str>>,
    /// `x-dead-letter-strategy: at-least-once` together with `reject-publish`: what died stays, and counts for the
    /// length limits, until there is a queue for it. Else it is dropped where no queue is bound.
    pub keeps_undeliverable: bool,
    /// `x-max-priority`: levels 0 to this one; `None`: one level.
    pub max_priority: Option<u8>,
    /// `x-single-active-consumer`.
    pub single_active_consumer: bool,
    /// `x-delivery-limit`; `None`: that of the node.
    pub delivery_limit: Option<DeliveryLimit>,
    /// `x-delayed-retry-type` and its companions.
    pub delayed_retry: Option<DelayedRetry>,
    /// `x-consumer-timeout`; `None`: consumers may hold messages for ever.
    pub consumer_timeout_ms: Option<u64>,
    /// Deleted when its last consumer goes.
    pub auto_delete: bool,
    /// `x-message-deduplication`.
    pub deduplication: Option<Deduplication>,
    /// For a queue of the broker itself.
    pub store: Option<Store>,
}

/// The highest level of a quorum queue.
const QUORUM_LEVEL_MAX: u8 = 31;
/// The level of a message without priority in a quorum queue.
const QUORUM_LEVEL_DEFAULT: u8 = 4;

impl QueueSettings {
    /// The level of a message with this priority. Quorum queues have 32 levels, without being asked; classic ones
    /// those of `x-max-priority`.
    #[must_use]
    pub fn level(&self, priority: Option<u8>) -> u8 {
        match (self.queue_type, self.max_priority) {
            (QueueType::Quorum, _) => priority
                .unwrap_or(QUORUM_LEVEL_DEFAULT)
                .min(QUORUM_LEVEL_MAX),
            (QueueType::Classic, Some(max)) => priority.unwrap_or(0).min(max),
            (QueueType::Classic, None) | (QueueType::Stream, _) => 0,
        }
    }

    /// Whether its messages are read and not taken.
    #[must_use]
    pub fn is_stream(&self) -> bool {
        self.queue_type == QueueType::Stream
    }

    /// Whether deliveries say how often they have failed (`x-delivery-count`): on quorum queues, and
    /// where there is a limit to it. Consumers of classic queues do not expect a header that the
    /// publisher has not set.
    #[must_use]
    pub fn shows_delivery_count(&self) -> bool {
        self.queue_type == QueueType::Quorum
            || matches!(self.delivery_limit, Some(DeliveryLimit::Failures(_)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_of_retries() {
        for (kind, counted, failed, expected) in [
            (RetryKind::All, false, 0, Some(1000)),
            (RetryKind::All, true, 1, Some(1000)),
            (RetryKind::All, true, 2, Some(2000)),
            (RetryKind::All, true, 3, Some(2500)),
            (RetryKind::All, true, u32::MAX, Some(2500)),
            (RetryKind::Failed, true, 2, Some(2000)),
            (RetryKind::Failed, false, 2, None),
            (RetryKind::Returned, true, 2, None),
            (RetryKind::Returned, false, 2, Some(2000)),
        ] {
            let retry = DelayedRetry {
                kind,
                min_ms: 1000,
                max_ms: 2500,
            };
            let found = retry.delay_ms(counted, failed);
            assert_eq!(found, expected, "{kind:?} {counted} {failed}");
        }
    }

    #[test]
    fn levels() {
        for (queue_type, max_priority, priority, expected) in [
            (QueueType::Classic, None, Some(9), 0),
            (QueueType::Classic, Some(5), None, 0),
            (QueueType::Classic, Some(5), Some(3), 3),
            (QueueType::Classic, Some(5), Some(200), 5),
            (QueueType::Quorum, None, None, 4),
            (QueueType::Quorum, None, Some(0), 0),
            (QueueType::Quorum, None, Some(31), 31),
            (QueueType::Quorum, None, Some(32), 31),
        ] {
            let settings = QueueSettings {
                queue_type,
                max_priority,
                ..QueueSettings::default()
            };
            let found = settings.level(priority);
            assert_eq!(
                found, expected,
                "{queue_type:?} {max_priority:?} {priority:?}"
            );
        }
    }
}
