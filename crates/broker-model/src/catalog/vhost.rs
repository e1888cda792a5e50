//! One vhost: its exchanges, queues, bindings and policies, and how they hang together.
//!
//! Queues and exchanges stand at places of a [`Slab`]; bindings refer to places, so that a match
//! costs no lookup by name. Every binding is indexed by source and by destination, so that nothing
//! here looks at all bindings.

use super::arguments::QueueArguments;
use super::check::is_reply_queue;
use super::command::{Destination, Name};
use super::policy::{Policy, merge, policy_for_exchange, policy_for_queue};
use super::record::{
    BindingRecord, EffectiveSettings, ExchangeRecord, Limits, QueueRecord, VhostRecord,
};
use super::settings::QueueType;
use crate::ids::QueueId;
use crate::routing::slab::Slab;
use crate::routing::targets::Target;
use crate::routing::{BindingParts, ExchangeKind, Matcher};
use amqp_codec::FieldTable;
use hashbrown::{HashMap, HashTable};
use std::collections::BTreeMap;
use std::hash::BuildHasher;
use std::sync::Arc;

type Hasher = foldhash::fast::RandomState;

/// The exchanges that every vhost has.
const PREDECLARED: [(&str, ExchangeKind, bool); 6] = [
    ("amq.direct", ExchangeKind::Direct, false),
    ("amq.fanout", ExchangeKind::Fanout, false),
    ("amq.topic", ExchangeKind::Topic, false),
    ("amq.headers", ExchangeKind::Headers, false),
    ("amq.match", ExchangeKind::Headers, false),
    ("amq.rabbitmq.trace", ExchangeKind::Topic, true),
];

/// Whether every vhost has an exchange of this name from the start.
pub(crate) fn is_predeclared(exchange: &str) -> bool {
    exchange.is_empty() || PREDECLARED.iter().any(|(name, ..)| *name == exchange)
}

/// A binding, by places.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Binding {
    pub(crate) source: u32,
    pub(crate) target: Target,
    pub(crate) routing_key: Name,
    pub(crate) arguments: FieldTable,
}

/// Bindings of one source or one destination.
pub(crate) type BindingSet = HashTable<Arc<Binding>>;

/// An exchange with its bindings.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) record: Arc<ExchangeRecord>,
    pub(crate) matcher: Matcher,
    /// Bindings of which it is the source.
    pub(crate) outgoing: BindingSet,
}

/// A vhost.
#[derive(Debug)]
pub(crate) struct Vhost {
    pub(crate) record: VhostRecord,
    /// Log index of the last change that can alter routing.
    pub(crate) version: u64,
    pub(crate) policies: BTreeMap<Name, Policy>,
    pub(crate) operator_policies: BTreeMap<Name, Policy>,
    /// Runtime parameters: JSON text by component and name.
    pub(crate) parameters: BTreeMap<(Name, Name), Name>,
    pub(crate) default_exchange: Arc<ExchangeRecord>,
    queues: Slab<Arc<QueueRecord>>,
    queue_names: HashMap<Name, u32, Hasher>,
    /// Queues behind direct reply-to.
    reply_queues: usize,
    exchanges: Slab<Exchange>,
    exchange_names: HashMap<Name, u32, Hasher>,
    /// Bindings by destination; a destination without bindings has no entry.
    incoming: HashMap<Target, BindingSet, Hasher>,
    hasher: Hasher,
}

impl Vhost {
    /// A vhost with nothing but the predeclared exchanges.
    pub(crate) fn new(name: Name, version: u64) -> Self {
        let exchange = |exchange: &str, kind, internal| ExchangeRecord {
            vhost: name.clone(),
            name: exchange.into(),
            kind,
            durable: true,
            auto_delete: false,
            internal,
            arguments: FieldTable::empty(),
            alternate: None,
            policy: None,
            id: QueueId(0),
            deduplication: None,
            store: None,
        };
        let predeclared: Vec<_> = PREDECLARED
            .into_iter()
            .map(|(name, kind, internal)| exchange(name, kind, internal))
            .collect();
        let default_exchange = Arc::new(exchange("", ExchangeKind::Direct, false));
        let mut vhost = Self {
            record: VhostRecord {
                name,
                description: "".into(),
                tags: Vec::new(),
                default_queue_type: None,
                protected: false,
                tracing: false,
                limits: Limits::default(),
            },
            version,
            policies: BTreeMap::new(),
            operator_policies: BTreeMap::new(),
            parameters: BTreeMap::new(),
            default_exchange,
            queues: Slab::default(),
            queue_names: HashMap::default(),
            reply_queues: 0,
            exchanges: Slab::default(),
            exchange_names: HashMap::default(),
            incoming: HashMap::default(),
            hasher: Hasher::default(),
        };
        for record in predeclared {
            vhost.insert_exchange(record);
        }
        vhost
    }

    // Queues.

    pub(crate) fn queue(&self, name: &str) -> Option<&Arc<QueueRecord>> {
        self.queues.get(self.queue_place(name)?)
    }

    pub(crate) fn queue_place(&self, name: &str) -> Option<u32> {
        self.queue_names.get(name).copied()
    }

    pub(crate) fn queue_at(&self, target: Target) -> Option<&Arc<QueueRecord>> {
        match target {
            Target::Queue(place) => self.queues.get(place),
            Target::Exchange(_) => None,
        }
    }

    pub(crate) fn queues(&self) -> impl Iterator<Item = &Arc<QueueRecord>> {
        self.queues.iter().map(|(_, queue)| queue)
    }

    pub(crate) fn queue_count(&self) -> usize {
        self.queue_names.len()
    }

    /// Queues that somebody has declared.
    pub(crate) fn declared_count(&self) -> usize {
        self.queue_names.len() - self.reply_queues
    }

    /// Adds a queue whose name is free.
    pub(crate) fn insert_queue(&mut self, record: Arc<QueueRecord>) {
        let name = record.name.clone();
        self.reply_queues += usize::from(is_reply_queue(&name));
        let place = self.queues.insert(record);
        self.queue_names.insert(name, place);
    }

    /// Puts another record in the place of the queue of that name; bindings stay.
    pub(crate) fn replace_queue(&mut self, record: Arc<QueueRecord>) {
        if let Some(place) = self.queue_place(&record.name)
            && let Some(slot) = self.queues.get_mut(place)
        {
            *slot = record;
        }
    }

    /// Removes a queue and its bindings. Exchanges that go with their last binding are named in
    /// `deleted`.
    pub(crate) fn remove_queue(
        &mut self,
        name: &str,
        deleted: &mut Vec<Arc<ExchangeRecord>>,
    ) -> Option<Arc<QueueRecord>> {
        let place = self.queue_names.remove(name)?;
        self.reply_queues -= usize::from(is_reply_queue(name));
        let target = Target::Queue(place);
        // Matchers are told the destination's name, so bindings go before the queue does.
        let unused = self.remove_incoming(target);
        let record = self.queues.remove(place);
        self.remove_exchanges(unused, deleted);
        record
    }

    /// Settings that arguments and policies come to.
    pub(crate) fn effective_settings(
        &self,
        name: &str,
        queue_type: QueueType,
        auto_delete: bool,
        arguments: &FieldTable,
    ) -> EffectiveSettings {
        let policy = |policies| match is_reply_queue(name) {
            true => None,
            false => policy_for_queue(BTreeMap::values(policies), name, queue_type),
        };
        merge(
            &QueueArguments::read(arguments),
            queue_type,
            auto_delete,
            policy(&self.policies),
            policy(&self.operator_policies),
        )
    }

    // Exchanges.

    pub(crate) fn exchange(&self, name: &str) -> Option<&Exchange> {
        self.exchanges.get(self.exchange_place(name)?)
    }

    pub(crate) fn exchange_place(&self, name: &str) -> Option<u32> {
        self.exchange_names.get(name).copied()
    }

    pub(crate) fn exchange_at(&self, place: u32) -> Option<&Exchange> {
        self.exchanges.get(place)
    }

    /// All but the default exchange.
    pub(crate) fn exchanges(&self) -> impl Iterator<Item = &Exchange> {
        self.exchanges.iter().map(|(_, exchange)| exchange)
    }

    pub(crate) fn exchange_count(&self) -> usize {
        self.exchange_names.len()
    }

    /// Adds an exchange whose name is free. Alternate and policy of `record` are computed here.
    pub(crate) fn insert_exchange(&mut self, mut record: ExchangeRecord) {
        (record.alternate, record.policy) = self.exchange_policy(&record.name, &record.arguments);
        let matcher = Matcher::new(record.matching(), &record.arguments);
        let name = record.name.clone();
        let exchange = Exchange {
            record: Arc::new(record),
            matcher,
            outgoing: BindingSet::default(),
        };
        let place = self.exchanges.insert(exchange);
        self.exchange_names.insert(name, place);
    }

    /// Computes alternates again after a change of policies.
    pub(crate) fn refresh_exchanges(&mut self) {
        let places: Vec<u32> = self.exchanges.iter().map(|(place, _)| place).collect();
        for place in places {
            let Some(exchange) = self.exchanges.get(place) else {
                continue;
            };
            let record = &exchange.record;
            let (alternate, policy) = self.exchange_policy(&record.name, &record.arguments);
            if (&alternate, &policy) == (&record.alternate, &record.policy) {
                continue;
            }
            let record = ExchangeRecord {
                alternate,
                policy,
                ..(**record).clone()
            };
            if let Some(exchange) = self.exchanges.get_mut(place) {
                exchange.record = Arc::new(record);
            }
        }
    }

    /// Alternate exchange and policy in force.
    fn exchange_policy(&self, name: &str, arguments: &FieldTable) -> (Option<Name>, Option<Name>) {
        let policy = policy_for_exchange(self.policies.values(), name);
        let argument = arguments.get("alternate-exchange");
        let alternate = argument
            .as_ref()
            .and_then(|value| value.as_text())
            .map(Name::from)
            .or_else(|| policy?.text("alternate-exchange"));
        (alternate, policy.map(|policy| policy.name.clone()))
    }

    /// Removes an exchange and its bindings on both sides; it and those that go with their last
    /// binding are named in `deleted`.
    pub(crate) fn remove_exchange(&mut self, name: &str, deleted: &mut Vec<Arc<ExchangeRecord>>) {
        if let Some(place) = self.exchange_place(name) {
            self.remove_exchanges(vec![place], deleted);
        }
    }

    fn remove_exchanges(&mut self, mut places: Vec<u32>, deleted: &mut Vec<Arc<ExchangeRecord>>) {
        while let Some(place) = places.pop() {
            let target = Target::Exchange(place);
            places.extend(self.remove_incoming(target));
            // An exchange may be bound to itself, and may have been removed meanwhile.
            let Some(exchange) = self.exchanges.remove(place) else {
                continue;
            };
            self.exchange_names.remove(&exchange.record.name);
            for binding in exchange.outgoing {
                self.forget_incoming(&binding);
            }
            places.retain(|other| *other != place);
            deleted.push(exchange.record);
        }
    }

    // Bindings.

    /// Places of source and destination, if they exist.
    pub(crate) fn destination(&self, destination: &Destination) -> Option<Target> {
        match destination {
            Destination::Queue(name) => self.queue_place(name).map(Target::Queue),
            Destination::Exchange(name) => self.exchange_place(name).map(Target::Exchange),
        }
    }

    /// Whether the binding exists.
    pub(crate) fn has_binding(&self, binding: &Binding) -> bool {
        let hash = self.hasher.hash_one(binding);
        self.exchanges
            .get(binding.source)
            .is_some_and(|exchange| exchange.outgoing.find(hash, |b| **b == *binding).is_some())
    }

    /// Adds a binding between an existing exchange and an existing destination; false if it was there.
    pub(crate) fn insert_binding(&mut self, binding: Binding) -> bool {
        if self.has_binding(&binding) {
            return false;
        }
        let hasher = self.hasher.clone();
        let hash = hasher.hash_one(&binding);
        let Some(name) = self.target_name(binding.target) else {
            return false;
        };
        let Some(exchange) = self.exchanges.get_mut(binding.source) else {
            return false;
        };
        exchange.matcher.add(parts(&binding, &name));
        let binding = Arc::new(binding);
        exchange
            .outgoing
            .insert_unique(hash, binding.clone(), |b| hasher.hash_one(&**b));
        let incoming = self.incoming.entry(binding.target).or_default();
        incoming.insert_unique(hash, binding, |b| hasher.hash_one(&**b));
        true
    }

    /// Removes a binding; false if there was none. Exchanges that go with it are named in `deleted`.
    pub(crate) fn remove_binding(
        &mut self,
        binding: &Binding,
        deleted: &mut Vec<Arc<ExchangeRecord>>,
    ) -> bool {
        if !self.has_binding(binding) {
            return false;
        }
        self.forget_incoming(binding);
        let unused = self.forget_outgoing(binding);
        self.remove_exchanges(unused.into_iter().collect(), deleted);
        true
    }

    /// Takes a binding out of its destination's index.
    fn forget_incoming(&mut self, binding: &Binding) {
        let hash = self.hasher.hash_one(binding);
        if let Some(set) = self.incoming.get_mut(&binding.target) {
            if let Ok(entry) = set.find_entry(hash, |b| **b == *binding) {
                entry.remove();
            }
            if set.is_empty() {
                self.incoming.remove(&binding.target);
            }
        }
    }

    /// Takes a binding out of its source; returns the source if that was its last and it goes then.
    fn forget_outgoing(&mut self, binding: &Binding) -> Option<u32> {
        let hash = self.hasher.hash_one(binding);
        let name = self.target_name(binding.target)?;
        let exchange = self.exchanges.get_mut(binding.source)?;
        let entry = exchange
            .outgoing
            .find_entry(hash, |b| **b == *binding)
            .ok()?;
        entry.remove();
        exchange.matcher.remove(parts(binding, &name));
        (exchange.record.auto_delete && exchange.outgoing.is_empty()).then_some(binding.source)
    }

    /// Removes all bindings that lead to `target`; returns the sources that go with them.
    fn remove_incoming(&mut self, target: Target) -> Vec<u32> {
        let bindings = self.incoming.remove(&target).unwrap_or_default();
        bindings
            .iter()
            .filter_map(|binding| self.forget_outgoing(binding))
            .collect()
    }

    fn target_name(&self, target: Target) -> Option<Name> {
        match target {
            Target::Queue(place) => self.queues.get(place).map(|queue| queue.name.clone()),
            Target::Exchange(place) => self
                .exchanges
                .get(place)
                .map(|exchange| exchange.record.name.clone()),
        }
    }

    /// Bindings to a destination, without a queue's implicit one.
    pub(crate) fn incoming(&self, target: Target) -> impl Iterator<Item = &Arc<Binding>> {
        self.incoming.get(&target).into_iter().flatten()
    }

    /// A binding with names.
    pub(crate) fn binding_record(&self, binding: &Binding) -> Option<BindingRecord> {
        let destination = match binding.target {
            Target::Queue(_) => Destination::Queue(self.target_name(binding.target)?),
            Target::Exchange(_) => Destination::Exchange(self.target_name(binding.target)?),
        };
        Some(BindingRecord {
            vhost: self.record.name.clone(),
            source: self.exchanges.get(binding.source)?.record.name.clone(),
            destination,
            routing_key: binding.routing_key.clone(),
            arguments: binding.arguments.clone(),
        })
    }
}

fn parts<'a>(binding: &'a Binding, name: &'a str) -> BindingParts<'a> {
    BindingParts {
        routing_key: &binding.routing_key,
        arguments: &binding.arguments,
        target: binding.target,
        name,
    }
}
