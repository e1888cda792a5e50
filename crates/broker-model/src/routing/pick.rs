//! Exchanges that pick one of their bindings: `x-consistent-hash`, `x-modulus-hash`, `x-random`.

use super::RouteProperties;
use super::canonical::canonical;
use super::hash::{mix, stable_hash};
use super::targets::{Matches, Target};
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
    /// moves only the keys that it gains or gives up.
    pub(crate) fn by_weight(&self, hash: u64, out: &mut Matches) {
        let score = |pick: &Pick| {
            let drawn = mix(hash ^ pick.name_hash);
            // In (0, 1): 53 random bits, never 0.
            let uniform = ((drawn >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
            -uniform.ln() / f64::from(pick.weight.max(1))
        };
        let best = self
            .entries
            .iter()
            .min_by(|a, b| score(a).total_cmp(&score(b)));
        out.extend(best.map(|pick| pick.target));
    }
}

/// The weight that a binding key of an `x-consistent-hash` exchange stands for.
pub(crate) fn weight(key: &str) -> Option<u32> {
    key.parse().ok().filter(|weight| *weight > 0)
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
    /// Reads the exchange's arguments; `None` if they make no sense.
    pub(crate) fn read(arguments: &FieldTable) -> Option<Self> {
        let header = arguments.get("hash-header");
        let property = arguments.get("hash-property");
        match (header, property) {
            (None, None) => Some(Self::RoutingKey),
            (Some(header), None) => Some(Self::Header(header.as_text()?.into())),
            (None, Some(property)) => match property.as_text()? {
                "message_id" => Some(Self::MessageId),
                "correlation_id" => Some(Self::CorrelationId),
                "timestamp" => Some(Self::Timestamp),
                _ => None,
            },
            (Some(_), Some(_)) => None,
        }
    }

    /// The hash of a message. A property or header that is missing counts as empty.
    pub(crate) fn hash(&self, routing_key: &str, properties: &dyn RouteProperties) -> u64 {
        match self {
            Self::RoutingKey => stable_hash(routing_key.as_bytes()),
            Self::Header(name) => {
                let value = properties.headers().and_then(|headers| headers.get(name));
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
        }
    }
}
