//! Routing: which queues a message reaches.
//!
//! One file per way of matching: `direct`, `fanout`, `topic`, `headers`, `pick` (the
//! hashing and random kinds). `route` walks from exchange to exchange. Everything is read-only
//! here; bindings are made and removed by the catalog.
//!
//! Not here: permissions, CC and BCC (they are more routing keys of the same message), what queues
//! do with a message.

pub(crate) mod canonical;
mod delay;
mod direct;
mod effort;
mod fanout;
mod hash;
pub(crate) mod headers;
pub(crate) mod pick;
mod route;
pub(crate) mod slab;
pub(crate) mod targets;
mod topic;

pub use delay::{DELAY_HEADER, HISTORY_NO_STORE_HEADER, delay_ms, without_delay};
pub use effort::{Effort, TooCostly};
pub use hash::stable_hash;

use crate::catalog::Name;
use crate::ids::Placement;
use amqp_codec::{FieldTable, PropertiesView};
use bytes::{BufMut, Bytes, BytesMut};
use targets::{Matches, Target, Thinned};

/// The exchange types that exist here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ExchangeKind {
    /// Routing key equals binding key.
    Direct,
    /// Everything.
    Fanout,
    /// Patterns of words.
    Topic,
    /// By headers.
    Headers,
    /// One binding, by hash and weight.
    ConsistentHash,
    /// One binding, at random.
    Random,
    /// One binding, at random, of those to queues that are served by the node of the publisher.
    LocalRandom,
    /// One binding, by hash modulo their number.
    ModulusHash,
    /// As another kind, which an argument names, when the time of the message has come.
    DelayedMessage,
    /// Everything; what comes later gets the last messages too.
    RecentHistory,
}

impl ExchangeKind {
    /// All kinds, for display.
    pub const ALL: [Self; 10] = [
        Self::Direct,
        Self::Fanout,
        Self::Topic,
        Self::Headers,
        Self::ConsistentHash,
        Self::Random,
        Self::LocalRandom,
        Self::ModulusHash,
        Self::DelayedMessage,
        Self::RecentHistory,
    ];

    /// The name in `exchange.declare`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Fanout => "fanout",
            Self::Topic => "topic",
            Self::Headers => "headers",
            Self::ConsistentHash => "x-consistent-hash",
            Self::Random => "x-random",
            Self::LocalRandom => "x-local-random",
            Self::ModulusHash => "x-modulus-hash",
            Self::DelayedMessage => "x-delayed-message",
            Self::RecentHistory => "x-recent-history",
        }
    }

    /// Reads a name of `exchange.declare`.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// Properties of a message that some exchanges look at. They are asked for only then.
pub trait RouteProperties {
    /// The header table.
    fn headers(&self) -> Option<FieldTable> {
        None
    }

    /// The `message-id` property.
    fn message_id(&self) -> Option<&[u8]> {
        None
    }

    /// The `correlation-id` property.
    fn correlation_id(&self) -> Option<&[u8]> {
        None
    }

    /// The `timestamp` property.
    fn timestamp(&self) -> Option<u64> {
        None
    }

    /// A random number for this message instead of [`RouteInput::random`]: for callers that want
    /// to know whether the route depends on it.
    fn random(&self) -> Option<u64> {
        None
    }
}

/// A message without properties.
impl RouteProperties for () {}

/// A published message.
impl RouteProperties for PropertiesView<'_> {
    fn headers(&self) -> Option<FieldTable> {
        PropertiesView::headers(*self)
    }

    fn message_id(&self) -> Option<&[u8]> {
        PropertiesView::message_id(*self)
    }

    fn correlation_id(&self) -> Option<&[u8]> {
        PropertiesView::correlation_id(*self)
    }

    fn timestamp(&self) -> Option<u64> {
        PropertiesView::timestamp(*self)
    }
}

/// A message of which only the headers matter.
impl RouteProperties for FieldTable {
    fn headers(&self) -> Option<FieldTable> {
        Some(self.clone())
    }
}

/// What is routed.
#[derive(Clone, Copy)]
pub struct RouteInput<'a> {
    /// Routing key.
    pub routing_key: &'a str,
    /// More routing keys of the same message, of its headers CC and BCC. Every exchange on its way
    /// looks at all of them.
    pub more_keys: &'a [&'a str],
    /// Properties.
    pub properties: &'a dyn RouteProperties,
    /// A random number, drawn by the caller for each message.
    pub random: u64,
    /// Whether the node that routes serves the queues of this placement.
    pub is_here: &'a dyn Fn(Placement) -> bool,
}

impl<'a> RouteInput<'a> {
    /// A message of which only the routing key is known.
    #[must_use]
    pub fn key(routing_key: &'a str) -> Self {
        Self {
            routing_key,
            more_keys: &[],
            properties: &(),
            random: 0,
            is_here: &|_| true,
        }
    }
}

/// The bindings of one exchange in the form that its type matches by.
#[derive(Debug)]
pub(crate) enum Matcher {
    Direct(direct::DirectTable),
    Fanout(fanout::FanoutTable),
    Topic(topic::TopicTrie),
    Headers(headers::HeadersTable),
    ConsistentHash(pick::HashOn, pick::PickList),
    Random(pick::PickList),
    ModulusHash(pick::PickList),
}

/// A binding as matchers see it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BindingParts<'a> {
    pub(crate) routing_key: &'a Name,
    pub(crate) arguments: &'a FieldTable,
    pub(crate) target: Target,
    /// Name of the destination.
    pub(crate) name: &'a str,
}

impl Matcher {
    /// For an exchange of `kind` with `arguments`.
    pub(crate) fn new(kind: ExchangeKind, arguments: &FieldTable) -> Self {
        match kind {
            ExchangeKind::Direct => Self::Direct(Default::default()),
            // Two of them never match as themselves: see `ExchangeRecord::matching`. From what matches the last one,
            // `route` picks.
            ExchangeKind::Fanout
            | ExchangeKind::DelayedMessage
            | ExchangeKind::RecentHistory
            | ExchangeKind::LocalRandom => Self::Fanout(Default::default()),
            ExchangeKind::Topic => Self::Topic(Default::default()),
            ExchangeKind::Headers => Self::Headers(Default::default()),
            ExchangeKind::ConsistentHash => Self::ConsistentHash(
                pick::HashOn::read(arguments).unwrap_or_default(),
                Default::default(),
            ),
            ExchangeKind::Random => Self::Random(Default::default()),
            ExchangeKind::ModulusHash => Self::ModulusHash(Default::default()),
        }
    }

    /// Takes a binding in. Each is taken in once.
    pub(crate) fn add(&mut self, binding: BindingParts<'_>) {
        let BindingParts {
            routing_key,
            arguments,
            target,
            name,
        } = binding;
        match self {
            Self::Direct(table) => table.add(routing_key, target),
            Self::Fanout(table) => table.add(target),
            Self::Topic(trie) => trie.add(routing_key, target),
            Self::Headers(table) => table.add(headers_identity(binding), arguments, target),
            Self::ConsistentHash(_, list) => {
                list.add(name, target, pick::weight(routing_key).unwrap_or(1));
            }
            Self::Random(list) | Self::ModulusHash(list) => list.add(name, target, 1),
        }
    }

    /// Takes a binding out that was taken in.
    pub(crate) fn remove(&mut self, binding: BindingParts<'_>) {
        let BindingParts {
            routing_key,
            arguments,
            target,
            name,
        } = binding;
        match self {
            Self::Direct(table) => table.remove(routing_key, target),
            Self::Fanout(table) => table.remove(target),
            Self::Topic(trie) => trie.remove(routing_key, target),
            Self::Headers(table) => table.remove(&headers_identity(binding), arguments, target),
            Self::ConsistentHash(_, list) => {
                list.remove(name, target, pick::weight(routing_key).unwrap_or(1));
            }
            Self::Random(list) | Self::ModulusHash(list) => list.remove(name, target, 1),
        }
    }

    /// Adds the targets of a message to `out`; some may be added more than once.
    pub(crate) fn matches(
        &self,
        input: &RouteInput<'_>,
        effort: &mut Effort,
        out: &mut Matches,
    ) -> Result<(), TooCostly> {
        match self {
            Self::Fanout(table) => table.matches(effort, out)?,
            Self::Headers(table) => {
                table.matches(input.properties.headers().as_ref(), effort, out)?;
            }
            Self::Random(list) => {
                list.at(input.properties.random().unwrap_or(input.random), out);
            }
            // One of the bindings, by the message's own key: more keys choose no more.
            Self::ConsistentHash(on, list) => {
                let hash = on.hash(input.routing_key, input.properties, effort)?;
                list.by_weight(hash, effort, out)?;
            }
            Self::ModulusHash(list) => list.at(stable_hash(input.routing_key.as_bytes()), out),
            Self::Direct(_) | Self::Topic(_) => {
                self.matches_key(input.routing_key, effort, out)?;
                let mut thinned = Thinned::default();
                for key in input.more_keys {
                    thinned.thin(out);
                    self.matches_key(key, effort, out)?;
                }
            }
        }
        Ok(())
    }

    /// The same for one key, where each of them leads on.
    fn matches_key(
        &self,
        key: &str,
        effort: &mut Effort,
        out: &mut Matches,
    ) -> Result<(), TooCostly> {
        match self {
            Self::Direct(table) => table.matches(key, effort, out),
            Self::Topic(trie) => trie.matches(key, effort, out),
            Self::ConsistentHash(..)
            | Self::ModulusHash(_)
            | Self::Fanout(_)
            | Self::Headers(_)
            | Self::Random(_) => Ok(()),
        }
    }
}

/// Routing key and arguments in one: what tells headers bindings of one target apart.
fn headers_identity(binding: BindingParts<'_>) -> Bytes {
    let (key, arguments) = (binding.routing_key.as_bytes(), binding.arguments.raw());
    let mut identity = BytesMut::with_capacity(8 + key.len() + arguments.len());
    identity.put_u64(key.len() as u64);
    identity.put_slice(key);
    identity.put_slice(arguments);
    identity.freeze()
}
