//! Exchanges that pick one of their bindings: `x-consistent-hash`, `x-modulus-hash`, `x-random`.

use super::RouteProperties;
use super::canonical::canonical;
use super::hash::{mix, stable_hash};
use super::targets::{Matches, Target};
use super::{Effort, TooCostly};
use crate::catalog::arguments::printed;
use amqp_codec::{FieldTable, FieldValue};

/// Bindings in an order that is the same on every node.
#[derive(Debug, Default)]
pub(crate) struct PickList {
    entries: Vec<Pick>,
}

/// A binding: hash of the destination's name, destination, weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Pick {
    name_hash: u64,
    target: Target,
    weight: u32,
}

impl PickList {
    pub(crate) fn add(&mut self, name: &str, target: Target, weight: u32) {
        let pick = Pick {
            name_hash: stable_hash(name.as_bytes()),
            target,
            weight,
        };
        let at = self.entries.partition_point(|other| *other < pick);
        self.entries.insert(at, pick);
    }

    pub(crate) fn remove(&mut self, name: &str, target: Target, weight: u32) {
        let pick = Pick {
            name_hash: stable_hash(name.as_bytes()),
            target,
            weight,
        };
        if let Ok(at) = self.entries.binary_search(&pick) {
            self.entries.remove(at);
        }
    }

    /// The one at `number` modulo their count.
    pub(crate) fn at(&self, number: u64, out: &mut Matches) {
        let count = self.entries.len() as u64;
        if let Some(at) = number.checked_rem(count) {
            out.extend(self.entries.get(at as usize).map(|pick| pick.target));
        }
    }

    /// The one that `hash` falls to by weight. Every binding draws a number from the hash and its
    /// own name, the best wins ("rendezvous"): shares are exact, and a binding that comes or goes
    /// moves only the keys that it gains or gives up. Of several bindings of one destination one counts:
    /// the lightest, on all nodes and after every restart, where nobody knows which came first.
    pub(crate) fn by_weight(
        &self,
        hash: u64,
        effort: &mut Effort,
        out: &mut Matches,
    ) -> Result<(), TooCostly> {
        effort.walk(self.entries.len())?;
        let score = |drawn: u64, weight: u32| {
            // In (0, 1): 53 random bits, never 0.
            let uniform = (drawn as f64 + 0.5) / (1u64 << 53) as f64;
            -uniform.ln() / f64::from(weight.max(1))
        };
        let picks = self
            .entries
            .chunk_by(|a, b| (a.name_hash, a.target) == (b.name_hash, b.target))
            .filter_map(|of_one| of_one.first());
        let drawn = |pick: &Pick| mix(hash ^ pick.name_hash) >> 11;
        let best = picks.map(|pick| (drawn(pick), pick)).reduce(|best, other| {
            // Mostly all weights are the same, and then the numbers themselves tell, without logarithms.
            let wins = if other.1.weight == best.1.weight {
                other.0 > best.0
            } else {
                score(other.0, other.1.weight) < score(best.0, best.1.weight)
            };
            if wins { other } else { best }
        });
        out.extend(best.map(|(_, pick)| pick.target));
        Ok(())
    }
}

/// The weight that a binding key of an `x-consistent-hash` exchange stands for.
pub(crate) fn weight(key: &str) -> Option<u32> {
    key.parse().ok().filter(|weight| *weight > 0)
}

/// Heaviest binding of an `x-consistent-hash` exchange.
const WEIGHT_MAX: u32 = 10_000;

/// Whether a binding key is a weight; the error is what clients are told. Bindings above the maximum that
/// are there already stay.
pub(crate) fn check_weight(key: &str) -> Result<(), String> {
    let digits = key.strip_prefix(['+', '-']).unwrap_or(key);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("The binding key must be an integer: <<\"{key}\">>"));
    }
    let none = key.starts_with('-') || digits.bytes().all(|byte| byte == b'0');
    if none {
        return Err("The binding key must be greater than 0".to_owned());
    }
    match weight(key) {
        Some(..=WEIGHT_MAX) => Ok(()),
        _ => Err(format!("The binding key must not exceed {WEIGHT_MAX}")),
    }
}

/// What an `x-consistent-hash` exchange hashes.
#[derive(Debug, Default)]
pub(crate) enum HashOn {
    #[default]
    RoutingKey,
    Header(Box<str>),
    MessageId,
    CorrelationId,
    Timestamp,
}

impl HashOn {
    /// Reads the exchange's arguments; the error is what clients are told.
    pub(crate) fn read(arguments: &FieldTable) -> Result<Self, String> {
        let header = arguments.get("hash-header");
        let property = arguments.get("hash-property");
        match (header, property) {
            (None, None) => Ok(Self::RoutingKey),
            (Some(header), None) => match header.as_text() {
                Some(name) => Ok(Self::Header(name.into())),
                None => Err(format!("Unsupported header: {}", printed(&header))),
            },
            (None, Some(property)) => match property.as_text() {
                Some("message_id") => Ok(Self::MessageId),
                Some("correlation_id") => Ok(Self::CorrelationId),
                Some("timestamp") => Ok(Self::Timestamp),
                _ => Err(format!("Unsupported property: {}", printed(&property))),
            },
            (Some(_), Some(_)) => {
                Err("hash-header and hash-property are mutually exclusive".to_owned())
            }
        }
    }

    /// The hash of a message. A property or header that is missing counts as empty.
    pub(crate) fn hash(
        &self,
        routing_key: &str,
        properties: &dyn RouteProperties,
        effort: &mut Effort,
    ) -> Result<u64, TooCostly> {
        Ok(match self {
            Self::RoutingKey => stable_hash(routing_key.as_bytes()),
            Self::Header(name) => {
                let headers = properties.headers();
                effort.read(headers.as_ref())?;
                let value = headers.and_then(|headers| headers.get(name));
                match value {
                    Some(FieldValue::LongStr(text)) => stable_hash(&text),
                    Some(value) => stable_hash(&canonical(&value)),
                    None => stable_hash(&[]),
                }
            }
            Self::MessageId => stable_hash(properties.message_id().unwrap_or_default()),
            Self::CorrelationId => stable_hash(properties.correlation_id().unwrap_or_default()),
            Self::Timestamp => stable_hash(
                &properties
                    .timestamp()
                    .map(u64::to_be_bytes)
                    .unwrap_or_default(),
            ),
        })
    }
}
