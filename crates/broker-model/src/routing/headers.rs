//! Headers exchanges: bindings match by the headers of a message.
//!
//! Every binding is found through an index of header names and values, so a message costs the
//! bindings that share a header with it, not all bindings.

use super::canonical::{Canonical, canonical};
use super::slab::Slab;
use super::targets::{Matches, Target, TargetSet};
use super::{Effort, TooCostly};
use amqp_codec::{FieldTable, FieldValue};
use bytes::Bytes;
use hashbrown::HashMap;
use std::collections::BTreeSet;

/// How many of a binding's headers must match (`x-match`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MatchKind {
    All { with_x: bool },
    Any { with_x: bool },
}

impl MatchKind {
    /// Reads a binding's arguments; the error says what is wrong, in Erlang's notation as RabbitMQ does.
    pub(crate) fn read(arguments: &FieldTable) -> Result<Self, String> {
        let Some(value) = arguments.get("x-match") else {
            return Ok(Self::All { with_x: false });
        };
        match value.as_text() {
            Some("all") => Ok(Self::All { with_x: false }),
            Some("any") => Ok(Self::Any { with_x: false }),
            Some("all-with-x") => Ok(Self::All { with_x: true }),
            Some("any-with-x") => Ok(Self::Any { with_x: true }),
            Some(text) => Err(format!(
                "value <<\"{text}\">>; expected all, any, all-with-x, or any-with-x"
            )),
            None => {
                let printed = crate::catalog::arguments::printed(&value);
                let kind = value.type_name();
                Err(format!("type {kind} (value {printed}); expected longstr"))
            }
        }
    }

    const fn with_x(self) -> bool {
        match self {
            Self::All { with_x } | Self::Any { with_x } => with_x,
        }
    }
}

/// A header that a binding asks for: name, and value unless mere presence is enough.
type Wanted = (Box<[u8]>, Option<Canonical>);

#[derive(Debug)]
struct Binding {
    target: Target,
    kind: MatchKind,
    wanted: Box<[Wanted]>,
    /// For `all`: under which of `wanted` it is indexed.
    indexed: usize,
}

/// Bindings that ask for one header.
#[derive(Debug, Default)]
struct Index {
    present: BTreeSet<u32>,
    values: HashMap<Canonical, BTreeSet<u32>, foldhash::fast::RandomState>,
}

/// All bindings of a headers exchange.
#[derive(Debug, Default)]
pub(crate) struct HeadersTable {
    bindings: Slab<Binding>,
    places: HashMap<(Target, Bytes), u32, foldhash::fast::RandomState>,
    index: HashMap<Box<[u8]>, Index, foldhash::fast::RandomState>,
    /// Bindings that ask for nothing and match everything.
    always: TargetSet,
}

impl HeadersTable {
    /// Adds a binding; `arguments` identifies it together with `target` (the routing key of a
    /// headers binding means nothing, but makes another binding: the caller counts those).
    pub(crate) fn add(&mut self, identity: Bytes, arguments: &FieldTable, target: Target) {
        // What is not understood has been refused before; here it matches as `all`.
        let kind = MatchKind::read(arguments).unwrap_or(MatchKind::All { with_x: false });
        let wanted = wanted(kind, arguments);
        if wanted.is_empty() {
            if matches!(kind, MatchKind::All { .. }) {
                self.always.add(target);
            }
            return;
        }
        // The rarest header is the best key for `all`.
        let indexed = (0..wanted.len())
            .min_by_key(|at| {
                wanted
                    .get(*at)
                    .map_or(usize::MAX, |wanted| self.commonness(wanted))
            })
            .unwrap_or(0);
        let binding = Binding {
            target,
            kind,
            wanted,
            indexed,
        };
        let keys = binding.keys();
        let place = self.bindings.insert(binding);
        for (name, value) in keys {
            let index = self.index.entry(name).or_default();
            match value {
                None => index.present.insert(place),
                Some(value) => index.values.entry(value).or_default().insert(place),
            };
        }
        self.places.insert((target, identity), place);
    }

    pub(crate) fn remove(&mut self, identity: &Bytes, arguments: &FieldTable, target: Target) {
        let Some(place) = self.places.remove(&(target, identity.clone())) else {
            let kind = MatchKind::read(arguments).unwrap_or(MatchKind::All { with_x: false });
            if matches!(kind, MatchKind::All { .. }) && wanted(kind, arguments).is_empty() {
                self.always.remove(target);
            }
            return;
        };
        let Some(binding) = self.bindings.remove(place) else {
            return;
        };
        for (name, value) in binding.keys() {
            let Some(index) = self.index.get_mut(&name) else {
                continue;
            };
            match value {
                None => {
                    index.present.remove(&place);
                }
                Some(value) => {
                    if let Some(places) = index.values.get_mut(&value) {
                        places.remove(&place);
                        if places.is_empty() {
                            index.values.remove(&value);
                        }
                    }
                }
            }
            if index.present.is_empty() && index.values.is_empty() {
                self.index.remove(&name);
            }
        }
    }

    pub(crate) fn matches(
        &self,
        headers: Option<&FieldTable>,
        effort: &mut Effort,
        out: &mut Matches,
    ) -> Result<(), TooCostly> {
        self.always.collect(effort, out)?;
        let Some(headers) = headers.filter(|_| !self.index.is_empty()) else {
            return Ok(());
        };
        effort.read(Some(headers))?;
        let message = MessageHeaders::read(headers);
        for (name, value) in &message.sorted {
            let Some(index) = self.index.get(*name) else {
                continue;
            };
            let by_value = index.values.get(value).into_iter().flatten();
            for binding in index
                .present
                .iter()
                .chain(by_value)
                .filter_map(|at| self.bindings.get(*at))
            {
                effort.take(1 + binding.wanted.len())?;
                if binding.matches(&message) {
                    out.push(binding.target);
                }
            }
        }
        Ok(())
    }

    fn commonness(&self, (name, value): &Wanted) -> usize {
        let Some(index) = self.index.get(name) else {
            return 0;
        };
        match value {
            None => index.present.len(),
            Some(value) => index.values.get(value).map_or(0, BTreeSet::len),
        }
    }
}

impl Binding {
    /// Under which headers it is indexed: `any` under each, `all` under one.
    fn keys(&self) -> Vec<Wanted> {
        match self.kind {
            MatchKind::Any { .. } => self.wanted.to_vec(),
            MatchKind::All { .. } => self.wanted.get(self.indexed).cloned().into_iter().collect(),
        }
    }

    /// Whether the message it was found through does match it.
    fn matches(&self, message: &MessageHeaders<'_>) -> bool {
        match self.kind {
            MatchKind::Any { .. } => true,
            MatchKind::All { .. } => {
                self.wanted
                    .iter()
                    .all(|(name, value)| match (message.get(name), value) {
                        (None, _) => false,
                        (Some(_), None) => true,
                        (Some(found), Some(value)) => found == value,
                    })
            }
        }
    }
}

/// The headers that a binding asks for, each once (the last counts).
fn wanted(kind: MatchKind, arguments: &FieldTable) -> Box<[Wanted]> {
    let mut wanted: Vec<Wanted> = Vec::new();
    for entry in arguments {
        let name = entry.key_bytes();
        let skipped = if kind.with_x() {
            name == b"x-match"
        } else {
            name.starts_with(b"x-")
        };
        if skipped {
            continue;
        }
        let value = match entry.value() {
            FieldValue::Void => None,
            value => Some(canonical(&value)),
        };
        wanted.push((name.into(), value));
    }
    wanted.reverse();
    wanted.sort_by(|a, b| a.0.cmp(&b.0));
    wanted.dedup_by(|a, b| a.0 == b.0);
    wanted.into()
}

/// The headers of one message, sorted by name.
struct MessageHeaders<'a> {
    sorted: Vec<(&'a [u8], Canonical)>,
}

impl<'a> MessageHeaders<'a> {
    fn read(headers: &'a FieldTable) -> Self {
        let mut sorted: Vec<_> = headers
            .iter()
            .map(|entry| (entry.key_bytes(), canonical(&entry.value())))
            .collect();
        sorted.reverse();
        sorted.sort_by(|a, b| a.0.cmp(b.0));
        sorted.dedup_by(|a, b| a.0 == b.0);
        Self { sorted }
    }

    fn get(&self, name: &[u8]) -> Option<&Canonical> {
        let at = self
            .sorted
            .binary_search_by(|entry| entry.0.cmp(name))
            .ok()?;
        self.sorted.get(at).map(|entry| &entry.1)
    }
}
