//! What a publish says about each queue that it goes to.

use broker_model::catalog::record::QueueRecord;
use broker_model::op::Target;

/// The target for a queue: level clamped to its `x-max-priority`, the lower of both times to live.
#[must_use]
pub(crate) fn target_for(
    record: &QueueRecord,
    priority: Option<u8>,
    expiration_ms: Option<u64>,
) -> Target {
    let settings = record.settings();
    let level = settings
        .max_priority
        .map_or(0, |max| priority.unwrap_or(0).min(max));
    let ttl_ms = match (settings.message_ttl_ms, expiration_ms) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
    Target {
        queue: record.id,
        level,
        ttl_ms,
    }
}
