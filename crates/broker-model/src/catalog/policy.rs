//! Policies: settings by name pattern, merged with the arguments of each queue and exchange.

use super::arguments::{AT_LEAST_ONCE, QueueArguments, SEGMENT_SIZE_MAX, delivery_limit};
use super::command::{Name, PolicySpec};
use super::error::CatalogError;
use super::pattern::Pattern;
use super::record::EffectiveSettings;
use super::settings::{DelayedRetry, Overflow, QueueSettings, QueueType, RetryKind};
use super::stream::age_ms;
use std::collections::BTreeMap;

/// A value in a policy's definition.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PolicyValue {
    /// A number.
    Integer(i64),
    /// A string.
    Text(Name),
    /// A truth value.
    Bool(bool),
    /// Anything else, as JSON text.
    Json(Name),
}

impl PolicyValue {
    fn number(&self) -> Option<u64> {
        match self {
            Self::Integer(value) => u64::try_from(*value).ok(),
            _ => None,
        }
    }

    fn text(&self) -> Option<&Name> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// What a policy applies to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ApplyTo {
    /// Queues and exchanges.
    All,
    /// Queues of any type.
    Queues,
    /// Exchanges.
    Exchanges,
    /// Queues declared classic.
    ClassicQueues,
    /// Queues declared quorum.
    QuorumQueues,
    /// Queues declared as streams.
    Streams,
}

impl ApplyTo {
    /// Reads the word used by the HTTP API and definition files.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "all" => Self::All,
            "queues" => Self::Queues,
            "exchanges" => Self::Exchanges,
            "classic_queues" => Self::ClassicQueues,
            "quorum_queues" => Self::QuorumQueues,
            "streams" => Self::Streams,
            _ => return None,
        })
    }

    /// The word used by the HTTP API and definition files.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Queues => "queues",
            Self::Exchanges => "exchanges",
            Self::ClassicQueues => "classic_queues",
            Self::QuorumQueues => "quorum_queues",
            Self::Streams => "streams",
        }
    }

    const fn covers_queue(self, queue_type: QueueType) -> bool {
        match self {
            Self::All | Self::Queues => true,
            Self::ClassicQueues => matches!(queue_type, QueueType::Classic),
            Self::QuorumQueues => matches!(queue_type, QueueType::Quorum),
            Self::Streams => matches!(queue_type, QueueType::Stream),
            Self::Exchanges => false,
        }
    }

    const fn covers_exchange(self) -> bool {
        matches!(self, Self::All | Self::Exchanges)
    }
}

/// A policy or operator policy of a vhost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Name.
    pub name: Name,
    /// Names it applies to.
    pub pattern: Pattern,
    /// Kinds it applies to.
    pub apply_to: ApplyTo,
    /// The highest that matches counts.
    pub priority: i64,
    /// Keys and values, sorted by key.
    pub definition: Vec<(Name, PolicyValue)>,
}

impl Policy {
    /// From a command; what is wrong with it has been refused by [`check_policy`].
    pub(crate) fn from_spec(spec: &PolicySpec) -> Self {
        let mut definition = spec.definition.clone();
        definition.sort_by(|a, b| a.0.cmp(&b.0));
        definition.dedup_by(|a, b| a.0 == b.0);
        Self {
            name: spec.name.clone(),
            pattern: Pattern::of_policy(spec.pattern.clone()),
            apply_to: ApplyTo::parse(&spec.apply_to).unwrap_or(ApplyTo::All),
            priority: spec.priority,
            definition,
        }
    }

    /// The value under `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&PolicyValue> {
        self.definition
            .iter()
            .find(|(name, _)| &**name == key)
            .map(|(_, value)| value)
    }

    /// The text under `key`.
    pub(crate) fn text(&self, key: &str) -> Option<Name> {
        self.get(key)?.text().cloned()
    }
}

/// What streams do not have. A policy that says anything of it is not meant for them: as with RabbitMQ it does not count
/// for a stream at all, or one about work queues would cut streams off.
const NOT_OF_STREAMS: [&str; 13] = [
    "expires",
    "message-ttl",
    "dead-letter-exchange",
    "dead-letter-routing-key",
    "dead-letter-strategy",
    "max-length",
    "max-in-memory-length",
    "max-in-memory-bytes",
    "overflow",
    "delivery-limit",
    "queue-mode",
    "queue-master-locator",
    "target-group-size",
];

/// What only streams have. A policy that says anything of it does not count for other queues, or one about streams would
/// hide what is meant for them.
const OF_STREAMS: [&str; 2] = ["max-age", "stream-max-segment-size-bytes"];

/// Whether a queue of this type has everything that a policy speaks of. Classic and quorum queues have the same.
fn suits(policy: &Policy, queue_type: QueueType) -> bool {
    let foreign = |key: &str| match queue_type {
        QueueType::Stream => NOT_OF_STREAMS.contains(&key) || key.starts_with("ha-"),
        QueueType::Classic | QueueType::Quorum => OF_STREAMS.contains(&key),
    };
    !policy.definition.iter().any(|(key, _)| foreign(key))
}

/// The policy among `policies` that counts for a queue: the highest priority, then the first name.
pub(crate) fn policy_for_queue<'a>(
    policies: impl Iterator<Item = &'a Policy>,
    name: &str,
    queue_type: QueueType,
) -> Option<&'a Policy> {
    strongest(policies.filter(|policy| {
        policy.apply_to.covers_queue(queue_type)
            && suits(policy, queue_type)
            && policy.pattern.matches(name)
    }))
}

/// The policy among `policies` that counts for an exchange.
pub(crate) fn policy_for_exchange<'a>(
    policies: impl Iterator<Item = &'a Policy>,
    name: &str,
) -> Option<&'a Policy> {
    strongest(policies.filter(|p| p.apply_to.covers_exchange() && p.pattern.matches(name)))
}

fn strongest<'a>(matching: impl Iterator<Item = &'a Policy>) -> Option<&'a Policy> {
    matching.min_by(|a, b| {
        b.priority
            .cmp(&a.priority)
            .then_with(|| a.name.cmp(&b.name))
    })
}

/// What a policy and an operator policy say together, sorted by key: of limits the lower, of everything else what the
/// operator policy says.
#[must_use]
pub fn merged_definition<'a>(
    policy: Option<&'a Policy>,
    operator: Option<&'a Policy>,
) -> BTreeMap<&'a str, &'a PolicyValue> {
    let mut merged = BTreeMap::new();
    for (key, value) in policy.into_iter().flat_map(|policy| &policy.definition) {
        merged.insert(&**key, value);
    }
    for (key, value) in operator.into_iter().flat_map(|policy| &policy.definition) {
        let kept = merged.entry(key).or_insert(value);
        let counts = match &**key {
            "delayed-retry-min" => limit(value) >= limit(kept),
            "delayed-retry-max" => limit(value) <= limit(kept),
            key => !NUMBERS.contains(&key) || limit(value) <= limit(kept),
        };
        if counts {
            *kept = value;
        }
    }
    merged
}

/// A limit, to compare it with others: what is negative is none.
fn limit(value: &PolicyValue) -> u64 {
    value.number().unwrap_or(u64::MAX)
}

/// Merges arguments, policy and operator policy: the lowest of numeric limits; of everything else
/// operator policy before argument before policy (on quorum queues policy before argument for
/// the overflow behaviour). Streams have limits of size and age, and nothing else: there the policies' lowest before
/// the argument.
pub(crate) fn merge(
    arguments: &QueueArguments,
    queue_type: QueueType,
    auto_delete: bool,
    policy: Option<&Policy>,
    operator: Option<&Policy>,
) -> EffectiveSettings {
    let settings = if queue_type == QueueType::Stream {
        merge_stream(arguments, policy, operator)
    } else {
        merge_queue(arguments, queue_type, auto_delete, policy, operator)
    };
    EffectiveSettings {
        settings: settings.into(),
        policy: policy.map(|p| p.name.clone()),
        operator_policy: operator.map(|p| p.name.clone()),
    }
}

fn merge_stream(
    arguments: &QueueArguments,
    policy: Option<&Policy>,
    operator: Option<&Policy>,
) -> QueueSettings {
    let policies = || [policy, operator].into_iter().flatten();
    // A policy may also keep more than the argument says.
    let first = |argument: Option<u64>, of: &dyn Fn(&Policy) -> Option<u64>| {
        policies().filter_map(of).min().or(argument)
    };
    QueueSettings {
        queue_type: QueueType::Stream,
        max_length_bytes: first(arguments.max_length_bytes, &|policy| {
            policy.get("max-length-bytes")?.number()
        }),
        max_age_ms: first(arguments.max_age_ms, &|policy| {
            age_ms(policy.get("max-age")?.text()?)
        }),
        ..QueueSettings::default()
    }
}

fn merge_queue(
    arguments: &QueueArguments,
    queue_type: QueueType,
    auto_delete: bool,
    policy: Option<&Policy>,
    operator: Option<&Policy>,
) -> QueueSettings {
    let lowest = |argument: Option<u64>, key: &str| {
        let of = |policy: Option<&Policy>| policy?.get(key)?.number();
        [argument, of(policy), of(operator)]
            .into_iter()
            .flatten()
            .min()
    };
    let first = |argument: Option<&Name>, key: &str| {
        let of = |policy: Option<&Policy>| policy?.get(key)?.text().cloned();
        of(operator)
            .or_else(|| argument.cloned())
            .or_else(|| of(policy))
    };
    let limit_of = |policy: Option<&Policy>| match policy?.get("delivery-limit")? {
        PolicyValue::Integer(value) => delivery_limit(*value),
        _ => None,
    };
    let limits = [
        arguments.delivery_limit,
        limit_of(policy),
        limit_of(operator),
    ];
    let limit = limits.into_iter().flatten().min();
    let overflow_of = |policy: Option<&Policy>| {
        policy?
            .get("overflow")?
            .text()
            .and_then(|t| Overflow::parse(t))
    };
    let overflow = match queue_type {
        QueueType::Classic => overflow_of(operator)
            .or(arguments.overflow)
            .or_else(|| overflow_of(policy)),
        QueueType::Quorum | QueueType::Stream => overflow_of(operator)
            .or_else(|| overflow_of(policy))
            .or(arguments.overflow),
    };
    let dead_letter_exchange = first(
        arguments.dead_letter_exchange.as_ref(),
        "dead-letter-exchange",
    );
    let overflow = overflow.unwrap_or_default();
    let strategy_of = |policy: Option<&Policy>| {
        Some(&**policy?.get("dead-letter-strategy")?.text()? == AT_LEAST_ONCE)
    };
    let at_least_once = strategy_of(operator)
        .or(arguments.dead_letter_at_least_once)
        .or_else(|| strategy_of(policy))
        .unwrap_or_default();
    QueueSettings {
        queue_type,
        message_ttl_ms: lowest(arguments.message_ttl_ms, "message-ttl"),
        expires_ms: lowest(arguments.expires_ms, "expires").filter(|ms| *ms > 0),
        max_length: lowest(arguments.max_length, "max-length"),
        max_length_bytes: lowest(arguments.max_length_bytes, "max-length-bytes"),
        max_age_ms: None,
        overflow,
        dead_letter_routing_key: first(
            arguments.dead_letter_routing_key.as_ref(),
            "dead-letter-routing-key",
        )
        .filter(|_| dead_letter_exchange.is_some()),
        dead_letter_exchange,
        // A queue that drops its oldest messages would lose, and those that went before them would stay.
        keeps_undeliverable: at_least_once && overflow == Overflow::RejectPublish,
        max_priority: arguments.max_priority,
        single_active_consumer: arguments.single_active_consumer,
        delivery_limit: limit,
        delayed_retry: merge_delayed_retry(arguments, policy, operator),
        consumer_timeout_ms: lowest(arguments.consumer_timeout_ms, "consumer-timeout"),
        auto_delete,
        deduplication: arguments.deduplication.clone(),
        store: None,
    }
}

/// Delayed retry: which messages wait by the operator policy, the policy, the argument; the least `min` and `max` of
/// arguments and policies, but the greater `min` of two policies. Without `min` nothing waits; `max` is `min` unless it
/// is given.
fn merge_delayed_retry(
    arguments: &QueueArguments,
    policy: Option<&Policy>,
    operator: Option<&Policy>,
) -> Option<DelayedRetry> {
    let type_of = |policy: Option<&Policy>| policy?.text("delayed-retry-type");
    let retry_type = type_of(operator)
        .or_else(|| type_of(policy))
        .or_else(|| arguments.retry_type.clone());
    let kind = RetryKind::parse(&retry_type?)?;
    let of = |policy: Option<&Policy>, key: &str| policy?.get(key)?.number();
    let min_of = |policy| of(policy, "delayed-retry-min");
    let least_ms = min_of(policy).max(min_of(operator));
    let max_of = |policy| of(policy, "delayed-retry-max");
    let min_ms = least_ms.into_iter().chain(arguments.retry_min_ms).min();
    let min_ms = min_ms.filter(|ms| *ms > 0)?;
    let most_ms = [arguments.retry_max_ms, max_of(policy), max_of(operator)];
    let max_ms = most_ms.into_iter().flatten().min();
    Some(DelayedRetry {
        kind,
        min_ms,
        max_ms: max_ms.filter(|ms| *ms > 0).unwrap_or(min_ms),
    })
}

/// Keys whose values are numbers from 0.
const NUMBERS: [&str; 6] = [
    "message-ttl",
    "expires",
    "max-length",
    "max-length-bytes",
    "delivery-limit",
    "consumer-timeout",
];

/// Keys whose values are text.
const TEXTS: [&str; 5] = [
    "dead-letter-exchange",
    "dead-letter-routing-key",
    "overflow",
    "alternate-exchange",
    "dead-letter-strategy",
];

/// Keys of RabbitMQ's that Warren keeps and does not use, so that definitions from there come in whole.
const KEPT: [&str; 32] = [
    "ha-mode",
    "ha-params",
    "ha-sync-mode",
    "ha-sync-batch-size",
    "ha-promote-on-shutdown",
    "ha-promote-on-failure",
    "queue-master-locator",
    "queue-leader-locator",
    "queue-mode",
    "queue-version",
    "initial-cluster-size",
    "quorum-initial-group-size",
    "target-group-size",
    "max-in-memory-length",
    "max-in-memory-bytes",
    "max-age",
    "stream-max-segment-size-bytes",
    "stream-filter-size-bytes",
    "filter-field-names",
    "federation-upstream",
    "federation-upstream-set",
    "federation-upstream-pattern",
    "shovel",
    "sharding",
    "shards-per-node",
    "routing-key",
    "message-deduplication",
    "x-message-deduplication",
    "deduplicate-cache-size",
    "deduplicate-cache-ttl",
    "consumer-disconnected-timeout",
    "member-placement-tag",
];

/// Keys of delayed retry.
const RETRY: [&str; 3] = [
    "delayed-retry-type",
    "delayed-retry-min",
    "delayed-retry-max",
];

/// What an operator policy may hold: as with RabbitMQ, the last ones without effect.
const OPERATOR_KEYS: [&str; 19] = [
    "expires",
    "message-ttl",
    "max-length",
    "max-length-bytes",
    "overflow",
    "delivery-limit",
    "consumer-timeout",
    "max-in-memory-length",
    "max-in-memory-bytes",
    "queue-version",
    "queue-master-locator",
    "target-group-size",
    "member-placement-tag",
    "delayed-retry-type",
    "delayed-retry-min",
    "delayed-retry-max",
    "ha-mode",
    "ha-params",
    "ha-sync-mode",
];

fn text_of(value: &PolicyValue, known: &[&str]) -> bool {
    value.text().is_some_and(|text| known.contains(&&**text))
}

/// Whether a policy makes sense. Of unknown keys those are accepted that RabbitMQ knows (files exported
/// there hold some).
pub(crate) fn check_policy(spec: &PolicySpec) -> Result<(), CatalogError> {
    let invalid = |text: String| Err(CatalogError::Invalid(text.into()));
    Pattern::check(&spec.pattern)?;
    if ApplyTo::parse(&spec.apply_to).is_none() {
        return invalid(format!("apply-to '{}' is not known", spec.apply_to));
    }
    if spec.definition.is_empty() {
        return invalid("no policy provided".into());
    }
    for (key, value) in &spec.definition {
        let key = &**key;
        if spec.operator && !OPERATOR_KEYS.contains(&key) {
            return invalid(format!(
                "[{{<<\"{key}\">>,...}}] are not recognised policy settings"
            ));
        }
        if ["queue-type", "max-priority", "single-active-consumer"].contains(&key) {
            return invalid(format!("'{key}' cannot be set by a policy"));
        }
        let known = [&NUMBERS[..], &TEXTS, &KEPT, &RETRY];
        if !known.into_iter().flatten().any(|known| *known == key) {
            return invalid(format!(
                "[{{<<\"{key}\">>,...}}] are not recognised policy settings"
            ));
        }
        if key == "delivery-limit" && matches!(value, PolicyValue::Integer(..0)) {
            continue;
        }
        if NUMBERS.contains(&key) && value.number().is_none() {
            return invalid(format!("{value} is not a valid value of '{key}'"));
        }
        if key == "expires" && value.number() == Some(0) {
            return invalid(format!("{value} is not a valid value of '{key}'"));
        }
        if TEXTS.contains(&key) && value.text().is_none() {
            return invalid(format!("{value} is not a valid value of '{key}'"));
        }
        let known = match key {
            "dead-letter-strategy" => text_of(value, &["at-most-once", AT_LEAST_ONCE]),
            "queue-leader-locator" => text_of(
                value,
                &["client-local", "balanced", "random", "least-leaders"],
            ),
            "queue-mode" => text_of(value, &["default", "lazy"]),
            "queue-version" => matches!(value, PolicyValue::Integer(1 | 2)),
            "stream-max-segment-size-bytes" => {
                matches!(value, PolicyValue::Integer(0..=SEGMENT_SIZE_MAX))
            }
            "max-age" => value.text().is_some_and(|age| age_ms(age).is_some()),
            "delayed-retry-type" => text_of(value, &["all", "failed", "returned", "disabled"]),
            "delayed-retry-min" | "delayed-retry-max" => {
                value.number().is_some_and(|number| number > 0)
            }
            _ => true,
        };
        if !known {
            return invalid(format!("{value} is not a valid value of '{key}'"));
        }
        if key == "overflow"
            && value
                .text()
                .is_none_or(|text| Overflow::parse(text).is_none())
        {
            return invalid(format!("{value} is not a valid overflow value"));
        }
    }
    check_delayed_retry(spec)
}

/// What the keys of delayed retry say together.
fn check_delayed_retry(spec: &PolicySpec) -> Result<(), CatalogError> {
    let invalid = |text: String| Err(CatalogError::Invalid(text.into()));
    let get = |wanted: &str| {
        let mut entries = spec.definition.iter();
        entries
            .find(|(key, _)| &**key == wanted)
            .map(|(_, value)| value)
    };
    let number = |key| get(key).and_then(PolicyValue::number);
    let kind = get("delayed-retry-type").and_then(PolicyValue::text);
    match (number("delayed-retry-min"), number("delayed-retry-max")) {
        (None, _) if kind.is_some_and(|kind| &**kind != "disabled") => invalid(format!(
            "delayed-retry-min is required when delayed-retry-type is {}",
            kind.map_or("", |kind| &**kind)
        )),
        (Some(min), Some(max)) if max < min => invalid(format!(
            "delayed-retry-max ({max}) must not be smaller than delayed-retry-min ({min})"
        )),
        _ => Ok(()),
    }
}

impl std::fmt::Display for PolicyValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Integer(value) => write!(f, "{value}"),
            Self::Text(text) => write!(f, "\"{text}\""),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Json(text) => f.write_str(text),
        }
    }
}
