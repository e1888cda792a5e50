//! What a publish says about each queue that it goes to.

use amqp_codec::FieldTable;
use broker_model::catalog::Store;
use broker_model::catalog::record::{ExchangeRecord, QueueRecord};
use broker_model::identity::WindowId;
use broker_model::op::Target;
use broker_model::routing::delay_ms;

/// The target for a queue: the level that its type gives to the priority, the lower of both times to
/// live. What depends on headers is left out.
///
/// A message of a stream has no life of its own: with a time to live of 0 it keeps the time at which it came.
#[must_use]
pub(crate) fn target_for(
    record: &QueueRecord,
    priority: Option<u8>,
    expiration_ms: Option<u64>,
) -> Target {
    let settings = record.settings();
    let ttl_ms = match (settings.message_ttl_ms, expiration_ms) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
    let ttl_ms = if settings.is_stream() {
        Some(0)
    } else {
        ttl_ms
    };
    Target {
        level: settings.level(priority),
        ttl_ms,
        ..Target::plain(record.id)
    }
}

/// Whether a target for this queue depends on headers.
#[must_use]
pub(crate) fn looks_at_headers(record: &QueueRecord) -> bool {
    let settings = record.settings();
    settings.store.is_some() || settings.deduplication.is_some()
}

/// Adds what depends on headers: how long a delayed message waits, and by what duplicates are found
/// out. `exchange` is where the message was published.
pub(crate) fn add_headers(
    target: &mut Target,
    record: &QueueRecord,
    exchange: Option<&ExchangeRecord>,
    headers: Option<&FieldTable>,
) {
    let settings = record.settings();
    match settings.store {
        Some(Store::Delay) => target.ttl_ms = Some(delay_ms(headers).unwrap_or(0)),
        // What a message says about its life begins in the queues that get it from there.
        Some(Store::History) => target.ttl_ms = None,
        None => {}
    }
    let Some(headers) = headers else { return };
    let own = settings
        .deduplication
        .as_ref()
        .and_then(|deduplication| deduplication.identity(WindowId::QUEUE, headers));
    let of_exchange = exchange.and_then(|exchange| {
        let deduplication = exchange.deduplication.as_ref()?;
        deduplication.identity(WindowId::exchange(exchange.id), headers)
    });
    if own.is_some() || of_exchange.is_some() {
        target.identities = own.into_iter().chain(of_exchange).collect();
    }
}
