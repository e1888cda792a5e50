//! Arguments of queues: which exist, what values they take, and when two declarations are alike.

use super::command::Name;
use super::error::{CatalogError, Resource};
use super::settings::{Deduplication, DeliveryLimit, Overflow, QueueType};
use super::stream::{StreamOffset, age_ms};
use amqp_codec::{FieldTable, FieldValue, TableBuilder};
use std::ops::RangeInclusive;

/// Upper bound of every argument that is a time, ms (ten years).
pub const TIME_MAX_MS: i64 = 315_360_000_000;

/// The argument that names the type of a queue.
pub(crate) const QUEUE_TYPE: &str = "x-queue-type";

/// Header that holds a message's identity for deduplication, unless the queue names another.
pub const DEDUPLICATION_HEADER: &str = "x-deduplication-header";

/// Most identities that a deduplicating queue or exchange may ask to remember: they are in memory
/// and in every checkpoint of the queue that remembers them.
const DEDUPLICATION_CACHE_MAX: i64 = 1_000_000;

/// The arguments of deduplication, of queues and of exchanges.
pub(crate) const DEDUPLICATION: [&str; 4] = [
    "x-message-deduplication",
    "x-cache-size",
    "x-cache-ttl",
    "x-deduplication-header",
];

/// The arguments of a queue that mean something to us.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct QueueArguments {
    /// `x-queue-type`, if given.
    pub queue_type: Option<QueueType>,
    /// `x-message-ttl`.
    pub message_ttl_ms: Option<u64>,
    /// `x-expires`.
    pub expires_ms: Option<u64>,
    /// `x-max-length`.
    pub max_length: Option<u64>,
    /// `x-max-length-bytes`.
    pub max_length_bytes: Option<u64>,
    /// `x-max-age`.
    pub max_age_ms: Option<u64>,
    /// `x-overflow`.
    pub overflow: Option<Overflow>,
    /// `x-dead-letter-exchange`.
    pub dead_letter_exchange: Option<Name>,
    /// `x-dead-letter-routing-key`.
    pub dead_letter_routing_key: Option<Name>,
    /// `x-dead-letter-strategy`: whether it is `at-least-once`.
    pub dead_letter_at_least_once: Option<bool>,
    /// `x-max-priority`.
    pub max_priority: Option<u8>,
    /// `x-single-active-consumer`.
    pub single_active_consumer: bool,
    /// `x-delivery-limit`.
    pub delivery_limit: Option<DeliveryLimit>,
    /// `x-delayed-retry-type`.
    pub retry_type: Option<Name>,
    /// `x-delayed-retry-min`.
    pub retry_min_ms: Option<u64>,
    /// `x-delayed-retry-max`.
    pub retry_max_ms: Option<u64>,
    /// `x-consumer-timeout`.
    pub consumer_timeout_ms: Option<u64>,
    /// `x-message-deduplication` and its companions.
    pub deduplication: Option<Deduplication>,
}

/// The value of `x-dead-letter-strategy` with which nothing is dropped.
pub(crate) const AT_LEAST_ONCE: &str = "at-least-once";

/// How a value is checked.
#[derive(Clone, Copy)]
enum Rule {
    /// Any integer.
    Integer,
    /// Integer from 0.
    Count,
    /// Integer from 0 to [`TIME_MAX_MS`].
    Time,
    /// Integer from 1 to [`TIME_MAX_MS`].
    PositiveTime,
    /// Integer from -1.
    DeliveryLimit,
    /// Integer from 0 to 255.
    Priority,
    /// Integer from 1.
    GroupSize,
    /// Integer from 1 to [`DEDUPLICATION_CACHE_MAX`].
    CacheSize,
    /// Truth value.
    Bool,
    /// Text.
    Text,
    /// Text that names a behaviour.
    Overflow,
    /// `at-most-once`, `at-least-once`.
    Strategy,
    /// `client-local`, `balanced`.
    Locator,
    /// A number and its unit: `7D`.
    Age,
    /// Where a consumer of a stream begins.
    Offset,
    /// Anything: not checked, and not compared when the queue is declared again.
    Ignored,
}

/// Arguments of streams about their files at RabbitMQ: checked as there, and without effect.
const SEGMENT_SIZE: &str = "x-stream-max-segment-size-bytes";
pub(super) const SEGMENT_SIZE_MAX: i64 = 3_000_000_000;
const FILTER_SIZE: &str = "x-stream-filter-size-bytes";
const FILTER_SIZE_RANGE: RangeInclusive<i64> = 16..=255;

/// An argument: its name, how it is checked, and which types have it.
struct Known {
    name: &'static str,
    rule: Rule,
    types: &'static [QueueType],
}

const fn of(types: &'static [QueueType], name: &'static str, rule: Rule) -> Known {
    Known { name, rule, types }
}

const fn all(name: &'static str, rule: Rule) -> Known {
    of(
        &[QueueType::Classic, QueueType::Quorum, QueueType::Stream],
        name,
        rule,
    )
}

const fn both(name: &'static str, rule: Rule) -> Known {
    of(&[QueueType::Classic, QueueType::Quorum], name, rule)
}

const fn classic(name: &'static str, rule: Rule) -> Known {
    of(&[QueueType::Classic], name, rule)
}

const fn quorum(name: &'static str, rule: Rule) -> Known {
    of(&[QueueType::Quorum], name, rule)
}

const fn stream(name: &'static str, rule: Rule) -> Known {
    of(&[QueueType::Stream], name, rule)
}

/// In the order in which redeclarations compare them. `x-delivery-limit` and `x-consumer-timeout`
/// belong to quorum queues in RabbitMQ; here they work on classic ones too.
const KNOWN: [Known; 32] = [
    both("x-expires", Rule::PositiveTime),
    both("x-message-ttl", Rule::Time),
    both("x-dead-letter-exchange", Rule::Text),
    both("x-dead-letter-routing-key", Rule::Text),
    both("x-max-length", Rule::Count),
    all("x-max-length-bytes", Rule::Count),
    classic("x-max-priority", Rule::Priority),
    both("x-overflow", Rule::Overflow),
    both("x-single-active-consumer", Rule::Bool),
    all("x-queue-leader-locator", Rule::Locator),
    classic("x-queue-mode", Rule::Ignored),
    classic("x-queue-version", Rule::Ignored),
    classic("x-queue-master-locator", Rule::Ignored),
    quorum("x-dead-letter-strategy", Rule::Strategy),
    both("x-delivery-limit", Rule::DeliveryLimit),
    quorum("x-quorum-initial-group-size", Rule::GroupSize),
    quorum("x-quorum-target-group-size", Rule::GroupSize),
    both("x-consumer-timeout", Rule::Time),
    quorum("x-consumer-disconnected-timeout", Rule::Time),
    quorum("x-max-in-memory-length", Rule::Ignored),
    quorum("x-max-in-memory-bytes", Rule::Ignored),
    both("x-message-deduplication", Rule::Bool),
    both("x-cache-size", Rule::CacheSize),
    both("x-cache-ttl", Rule::PositiveTime),
    both("x-deduplication-header", Rule::Text),
    quorum("x-delayed-retry-type", Rule::Ignored),
    quorum("x-delayed-retry-min", Rule::Ignored),
    quorum("x-delayed-retry-max", Rule::Ignored),
    stream("x-max-age", Rule::Age),
    stream(SEGMENT_SIZE, Rule::Count),
    stream(FILTER_SIZE, Rule::Count),
    stream("x-initial-cluster-size", Rule::GroupSize),
];

/// Arguments of consumers. `x-consumer-timeout` belongs to quorum queues in RabbitMQ; here it works on
/// classic ones too.
const CONSUMER: [Known; 5] = [
    both("x-priority", Rule::Integer),
    both("x-consumer-timeout", Rule::Count),
    stream("x-stream-offset", Rule::Offset),
    stream("x-stream-filter", Rule::Ignored),
    stream("x-stream-match-unfiltered", Rule::Ignored),
];

impl QueueArguments {
    /// Reads arguments that have been checked; what is not understood is left out.
    #[must_use]
    pub fn read(table: &FieldTable) -> Self {
        let mut read = Self {
            deduplication: deduplication(table),
            ..Self::default()
        };
        for entry in table {
            let value = entry.value();
            let number = || value.as_integer().and_then(|n| u64::try_from(n).ok());
            let text = || value.as_text().map(Name::from);
            match entry.key_bytes() {
                b"x-queue-type" => read.queue_type = value.as_text().and_then(QueueType::parse),
                b"x-message-ttl" => read.message_ttl_ms = number(),
                b"x-expires" => read.expires_ms = number(),
                b"x-max-length" => read.max_length = number(),
                b"x-max-length-bytes" => read.max_length_bytes = number(),
                b"x-max-age" => read.max_age_ms = value.as_text().and_then(age_ms),
                b"x-overflow" => read.overflow = value.as_text().and_then(Overflow::parse),
                b"x-dead-letter-exchange" => read.dead_letter_exchange = text(),
                b"x-dead-letter-routing-key" => read.dead_letter_routing_key = text(),
                b"x-dead-letter-strategy" => {
                    read.dead_letter_at_least_once = Some(value.as_text() == Some(AT_LEAST_ONCE));
                }
                b"x-max-priority" => {
                    read.max_priority = number().and_then(|n| u8::try_from(n).ok());
                }
                b"x-single-active-consumer" => {
                    read.single_active_consumer = value.as_bool().unwrap_or(false);
                }
                b"x-delivery-limit" => {
                    read.delivery_limit = value.as_integer().and_then(delivery_limit);
                }
                b"x-consumer-timeout" => read.consumer_timeout_ms = number(),
                b"x-delayed-retry-type" => read.retry_type = text(),
                b"x-delayed-retry-min" => read.retry_min_ms = number(),
                b"x-delayed-retry-max" => read.retry_max_ms = number(),
                _ => {}
            }
        }
        read
    }
}

/// What a number says as a delivery limit.
pub(crate) fn delivery_limit(number: i64) -> Option<DeliveryLimit> {
    match number {
        ..0 => Some(DeliveryLimit::Unlimited),
        number => u64::try_from(number).ok().map(DeliveryLimit::Failures),
    }
}

/// What the arguments of a queue or exchange say about deduplication; `None`: nothing is dropped.
pub(crate) fn deduplication(table: &FieldTable) -> Option<Deduplication> {
    if table.is_empty() || !table.get("x-message-deduplication")?.as_bool()? {
        return None;
    }
    let number = |key| table.get(key).and_then(|value| value.as_integer());
    let header = table.get("x-deduplication-header");
    let header = header.as_ref().and_then(|value| value.as_text());
    Some(Deduplication {
        header: header.unwrap_or(DEDUPLICATION_HEADER).into(),
        cache_size: u32::try_from(number("x-cache-size")?).ok()?,
        cache_ttl_ms: number("x-cache-ttl").and_then(|ms| u64::try_from(ms).ok()),
    })
}

/// Checks the arguments of deduplication of an exchange (those of a queue are checked with all of
/// its arguments).
pub(crate) fn check_deduplication(
    exchange: &Resource,
    arguments: &FieldTable,
) -> Result<(), CatalogError> {
    for entry in arguments {
        let key = entry.key();
        let known = KNOWN
            .iter()
            .find(|known| known.name == &*key && DEDUPLICATION.contains(&known.name));
        if let Some(known) = known {
            check_value(known, &entry.value())
                .map_err(|reason| invalid(exchange, known.name, reason))?;
        }
    }
    check_cache_size(exchange, arguments)
}

/// Deduplication needs to know how much to remember.
fn check_cache_size(resource: &Resource, arguments: &FieldTable) -> Result<(), CatalogError> {
    let wanted = arguments
        .get("x-message-deduplication")
        .is_some_and(|value| value.as_bool() == Some(true));
    if wanted && !arguments.contains_key("x-cache-size") {
        let reason = "\"needed with 'x-message-deduplication'\"";
        return Err(invalid(resource, "x-cache-size", reason.to_owned()));
    }
    Ok(())
}

/// Checks the arguments of a consumer; those that nobody knows are let through.
///
/// # Errors
/// One has a value that it cannot have, or is one for another type of queue.
pub fn check_consumer_arguments(
    queue: &Resource,
    queue_type: QueueType,
    arguments: &FieldTable,
) -> Result<(), CatalogError> {
    if arguments.is_empty() {
        return Ok(());
    }
    for known in &CONSUMER {
        let Some(value) = arguments.get(known.name) else {
            continue;
        };
        if !known.types.contains(&queue_type) {
            return Err(CatalogError::ArgumentOfOtherType {
                argument: known.name.into(),
                resource: queue.clone(),
                queue_type,
            });
        }
        check_value(known, &value).map_err(|reason| invalid(queue, known.name, reason))?;
    }
    Ok(())
}

fn invalid(resource: &Resource, argument: &str, reason: String) -> CatalogError {
    CatalogError::InvalidArgument {
        argument: argument.into(),
        resource: resource.clone(),
        reason: reason.into(),
    }
}

/// What a declaration asks for, apart from its name and arguments.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Properties {
    pub(crate) durable: bool,
    pub(crate) exclusive: bool,
    pub(crate) auto_delete: bool,
}

/// The type that a declaration makes: what it says, else the vhost's default where the properties
/// permit it, else classic.
pub(crate) fn queue_type(
    queue: &Resource,
    properties: Properties,
    arguments: &FieldTable,
    default: Option<&str>,
) -> Result<QueueType, CatalogError> {
    if let Some(value) = arguments.get(QUEUE_TYPE) {
        let refused = |reason: String| {
            Err(CatalogError::InvalidArgument {
                argument: QUEUE_TYPE.into(),
                resource: queue.clone(),
                reason: reason.into(),
            })
        };
        return match value.as_text() {
            None => refused(format!("{{unacceptable_type,{}}}", value.type_name())),
            Some(name) => match QueueType::parse(name) {
                Some(queue_type) => Ok(queue_type),
                None => refused(format!("\"unsupported queue type '{name}'\"")),
            },
        };
    }
    let default = default.and_then(QueueType::parse).unwrap_or_default();
    Ok(usual_type(properties, default))
}

/// The default where the properties permit it, else classic.
pub(crate) fn usual_type(properties: Properties, default: QueueType) -> QueueType {
    let permitted = properties.durable && !properties.exclusive && !properties.auto_delete;
    if permitted {
        default
    } else {
        QueueType::Classic
    }
}

/// The arguments but for those that only other types of queues have.
pub(crate) fn without_those_of_others(arguments: &FieldTable, queue_type: QueueType) -> FieldTable {
    let others: Vec<&str> = KNOWN
        .iter()
        .filter(|known| !known.types.contains(&queue_type))
        .map(|known| known.name)
        .collect();
    TableBuilder::from_table_without(arguments, &others).finish()
}

/// Checks properties and arguments of a new queue.
pub(crate) fn check(
    queue: &Resource,
    queue_type: QueueType,
    properties: Properties,
    arguments: &FieldTable,
) -> Result<(), CatalogError> {
    if queue_type != QueueType::Classic {
        let refused = |property| {
            Err(CatalogError::InvalidProperty {
                property,
                resource: queue.clone(),
            })
        };
        if properties.exclusive {
            return refused("exclusive-owner");
        }
        if properties.auto_delete {
            return refused("auto-delete");
        }
        if !properties.durable {
            return refused("non-durable");
        }
    }
    for entry in arguments {
        let key = entry.key();
        let known = KNOWN.iter().find(|known| known.name == &*key);
        if known.is_some_and(|known| !known.types.contains(&queue_type)) {
            return Err(CatalogError::ArgumentOfOtherType {
                argument: (*key).into(),
                resource: queue.clone(),
                queue_type,
            });
        }
        let Some(known) = known else { continue };
        check_value(known, &entry.value()).map_err(|reason| invalid(queue, known.name, reason))?;
    }
    check_cache_size(queue, arguments)?;
    check_stream_sizes(arguments)?;
    if arguments.contains_key("x-dead-letter-routing-key")
        && !arguments.contains_key("x-dead-letter-exchange")
    {
        return Err(CatalogError::InvalidArgument {
            argument: "x-dead-letter-routing-key".into(),
            resource: queue.clone(),
            reason: "routing_key_but_no_dlx_defined".into(),
        });
    }
    Ok(())
}

/// Sizes that a stream cannot have, in the words that RabbitMQ has for them.
fn check_stream_sizes(arguments: &FieldTable) -> Result<(), CatalogError> {
    let number = |key| arguments.get(key).and_then(|value| value.as_integer());
    if number(SEGMENT_SIZE).is_some_and(|size| size > SEGMENT_SIZE_MAX) {
        let text = format!("Exceeded max value for {SEGMENT_SIZE}");
        return Err(CatalogError::Invalid(text.into()));
    }
    if number(FILTER_SIZE).is_some_and(|size| !FILTER_SIZE_RANGE.contains(&size)) {
        let text = format!("Invalid value for {FILTER_SIZE}");
        return Err(CatalogError::Invalid(text.into()));
    }
    Ok(())
}

/// Checks one value; the error is the reason as texts print it.
fn check_value(known: &Known, value: &FieldValue) -> Result<(), String> {
    let integer = || {
        value
            .as_integer()
            .ok_or_else(|| format!("\"expected integer, got {}\"", value.type_name()))
    };
    let text = || {
        value
            .as_long_str()
            .ok_or_else(|| format!("{{unacceptable_type,{}}}", value.type_name()))
    };
    let range = |number: i64, from: i64, to: i64| match number {
        0 if from == 1 => Err("{value_zero,0}".to_string()),
        n if n < from => Err(format!("{{value_negative,{n}}}")),
        n if n > to => Err(format!("{{max_value_exceeded,{n}}}")),
        _ => Ok(()),
    };
    match known.rule {
        Rule::Integer => integer().map(drop),
        Rule::Count => range(integer()?, 0, i64::MAX),
        Rule::Time => range(integer()?, 0, TIME_MAX_MS).map_err(time_reason),
        Rule::PositiveTime => range(integer()?, 1, TIME_MAX_MS).map_err(time_reason),
        Rule::DeliveryLimit => range(integer()?, -1, i64::MAX),
        Rule::Priority => range(integer()?, 0, 255),
        Rule::GroupSize => range(integer()?, 1, i64::MAX),
        Rule::CacheSize => range(integer()?, 1, DEDUPLICATION_CACHE_MAX),
        Rule::Bool => match value.as_bool() {
            Some(_) => Ok(()),
            None => Err(format!("{{unacceptable_type,{}}}", value.type_name())),
        },
        Rule::Text => text().and_then(|bytes| match std::str::from_utf8(bytes) {
            Ok(text) if text.len() <= 255 => Ok(()),
            Ok(_) => Err("\"longer than 255 bytes\"".to_string()),
            Err(_) => Err("\"not valid UTF-8\"".to_string()),
        }),
        Rule::Overflow => match Overflow::parse(&String::from_utf8_lossy(text()?)) {
            Some(_) => Ok(()),
            None => Err("invalid_overflow".to_string()),
        },
        Rule::Strategy => match &text()?[..] {
            b"at-most-once" => Ok(()),
            strategy if strategy == AT_LEAST_ONCE.as_bytes() => Ok(()),
            _ => Err("invalid_dlx_strategy".to_string()),
        },
        Rule::Locator => match &text()?[..] {
            b"client-local" | b"balanced" | b"random" | b"least-leaders" => Ok(()),
            _ => Err("invalid_queue_locator_arg".to_string()),
        },
        Rule::Age => match std::str::from_utf8(text()?) {
            Ok(age) if age_ms(age).is_some() => Ok(()),
            _ => Err("invalid_max_age".to_string()),
        },
        Rule::Offset => match StreamOffset::read(value) {
            Some(_) => Ok(()),
            None => Err(format!(
                "{{invalid_stream_offset_arg,{{{},<<\"{}\">>}}}}",
                value.type_name(),
                printed(value)
            )),
        },
        Rule::Ignored => Ok(()),
    }
}

/// Times above the bound are "too large" rather than "exceeded".
fn time_reason(reason: String) -> String {
    reason.replace("max_value_exceeded", "value_too_large")
}

/// Compares a redeclaration's arguments with those in force. Arguments that are unknown or belong
/// to another type are not compared, `x-queue-type` is compared as the type it stands for.
pub(crate) fn check_equivalent(
    queue: &Resource,
    queue_type: QueueType,
    current: &FieldTable,
    received: &FieldTable,
) -> Result<(), CatalogError> {
    if current.raw() == received.raw() {
        return Ok(());
    }
    for known in KNOWN
        .iter()
        .filter(|known| known.types.contains(&queue_type))
    {
        if !matches!(known.rule, Rule::Ignored) {
            let (current, received) = (current.get(known.name), received.get(known.name));
            check_value_equivalent(queue, known.name, current.as_ref(), received.as_ref())?;
        }
    }
    Ok(())
}

/// Compares one argument.
pub(crate) fn check_value_equivalent(
    resource: &Resource,
    key: &str,
    current: Option<&FieldValue>,
    received: Option<&FieldValue>,
) -> Result<(), CatalogError> {
    let (received, current) = match (received, current) {
        (None, None) => return Ok(()),
        (Some(received), Some(current)) if received.equivalent(current) => return Ok(()),
        (Some(received), Some(current)) => (
            format!("'{}'", printed(received)),
            format!("'{}'", printed(current)),
        ),
        (received, current) => (phrase(received), phrase(current)),
    };
    Err(CatalogError::Inequivalent {
        key: key.into(),
        resource: resource.clone(),
        received: received.into(),
        current: current.into(),
    })
}

fn phrase(value: Option<&FieldValue>) -> String {
    value.map_or_else(
        || "none".into(),
        |value| {
            format!(
                "the value '{}' of type '{}'",
                printed(value),
                value.type_name()
            )
        },
    )
}

/// A value for a text.
pub(crate) fn printed(value: &FieldValue) -> String {
    match value {
        FieldValue::Bool(value) => value.to_string(),
        FieldValue::LongStr(bytes) | FieldValue::ByteArray(bytes) => {
            String::from_utf8_lossy(bytes).into_owned()
        }
        FieldValue::F32(value) => value.to_string(),
        FieldValue::F64(value) => value.to_string(),
        FieldValue::Timestamp(value) => value.to_string(),
        FieldValue::Void => "undefined".into(),
        other => other
            .as_integer()
            .map_or_else(|| format!("{other:?}"), |n| n.to_string()),
    }
}
