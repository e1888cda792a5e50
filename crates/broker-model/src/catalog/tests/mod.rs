//! Tests of the catalog: texts by table, stories by scenario, bookkeeping by property.

mod bindings;
mod declare;
mod declare_rules;
mod exchanges;
mod lifecycle;
mod model;
mod permissions;
mod policies;
mod policies_retry;
mod policies_streams;
mod redeclare;
mod routes;
mod snapshots;

use super::*;
use crate::ids::{ConnectionId, NodeId, Origin, Placement, QueueId, ShardId};
use amqp_codec::{FieldTable, FieldValue, TableBuilder};

/// A catalog that is driven like a log drives it.
pub(super) struct Driver {
    pub(super) catalog: Catalog,
    pub(super) events: Vec<CatalogEvent>,
}

impl Driver {
    /// A formed cluster with vhost `/` and user `guest`.
    pub(super) fn new() -> Self {
        let mut driver = Self {
            catalog: Catalog::new(),
            events: Vec::new(),
        };
        driver
            .apply(CatalogCommand::Bootstrap(Bootstrap {
                cluster_id: "c".into(),
                cluster_name: "warren".into(),
                shards: 4,
                vhost: "/".into(),
                user: Some(UserSpec {
                    name: "guest".into(),
                    password: PasswordHash::disabled(),
                    tags: vec!["administrator".into()],
                }),
                nodes: Vec::new(),
            }))
            .expect("a new cluster");
        driver.events.clear();
        driver
    }

    /// Applies one command as the next entry, through its encoding.
    pub(super) fn apply(&mut self, command: CatalogCommand) -> CatalogReply {
        self.apply_request(CatalogRequest { key: None, command })
    }

    pub(super) fn apply_request(&mut self, request: CatalogRequest) -> CatalogReply {
        let entry = CatalogEntry {
            requests: vec![request],
        };
        let decoded = CatalogEntry::decode(entry.encode()).expect("an entry");
        assert_eq!(decoded, entry);
        let index = self.catalog.applied_index() + 1;
        self.events.clear();
        let mut replies = self.catalog.apply(index, &decoded, &mut self.events);
        assert_eq!(replies.len(), 1);
        replies.pop().expect("one reply")
    }

    /// Applies a command that must succeed.
    pub(super) fn ok(&mut self, command: CatalogCommand) -> CatalogAnswer {
        let text = format!("{command:?}");
        self.apply(command)
            .unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    /// The refusal of a command as clients see it.
    pub(super) fn refusal(&mut self, command: CatalogCommand) -> String {
        let error = self.apply(command).expect_err("a refusal");
        shown(&error)
    }

    pub(super) fn queue(&mut self, name: &str) -> QueueId {
        match self.ok(CatalogCommand::DeclareQueue(queue(name))) {
            CatalogAnswer::Queue { id, .. } => id,
            CatalogAnswer::Done { .. } => panic!("not a queue"),
        }
    }

    pub(super) fn exchange(&mut self, name: &str, kind: &str) {
        self.ok(CatalogCommand::DeclareExchange(exchange(name, kind)));
    }

    pub(super) fn bind(&mut self, source: &str, queue: &str, key: &str) -> CatalogAnswer {
        self.ok(CatalogCommand::Bind(binding(source, queue, key)))
    }

    /// Names of the queues that a message reaches.
    pub(super) fn route(&self, exchange: &str, key: &str) -> Vec<String> {
        self.route_with(exchange, &crate::routing::RouteInput::key(key))
    }

    pub(super) fn route_with(
        &self,
        exchange: &str,
        input: &crate::routing::RouteInput<'_>,
    ) -> Vec<String> {
        let mut found = Vec::new();
        self.catalog
            .route(
                "/",
                exchange,
                input,
                &mut crate::routing::Effort::at_length(),
                &mut found,
            )
            .expect("an exchange");
        found.iter().map(|queue| queue.name.to_string()).collect()
    }
}

pub(super) fn shown(error: &CatalogError) -> String {
    format!("{} {error}", error.reply_code())
}

pub(super) fn table(entries: &[(&str, FieldValue)]) -> FieldTable {
    let mut builder = TableBuilder::new();
    for (key, value) in entries {
        builder.push(key, value);
    }
    builder.finish()
}

pub(super) fn queue(name: &str) -> QueueSpec {
    QueueSpec {
        vhost: "/".into(),
        name: name.into(),
        durable: true,
        exclusive: None,
        auto_delete: false,
        arguments: FieldTable::empty(),
        placement: Placement::Shard(ShardId(1)),
        server_named: false,
    }
}

pub(super) fn exchange(name: &str, kind: &str) -> ExchangeSpec {
    ExchangeSpec {
        vhost: "/".into(),
        name: name.into(),
        kind: kind.into(),
        durable: true,
        auto_delete: false,
        internal: false,
        arguments: FieldTable::empty(),
    }
}

pub(super) fn binding(source: &str, queue: &str, key: &str) -> BindingSpec {
    BindingSpec {
        vhost: "/".into(),
        source: source.into(),
        destination: Destination::Queue(queue.into()),
        routing_key: key.into(),
        arguments: FieldTable::empty(),
    }
}

pub(super) fn to_exchange(source: &str, destination: &str, key: &str) -> BindingSpec {
    BindingSpec {
        destination: Destination::Exchange(destination.into()),
        ..binding(source, "", key)
    }
}

pub(super) const fn origin(node: u64, incarnation: u64) -> Origin {
    Origin {
        node: NodeId(node),
        incarnation,
    }
}

pub(super) const fn connection(node: u64, incarnation: u64, serial: u64) -> ConnectionId {
    ConnectionId {
        origin: origin(node, incarnation),
        serial,
    }
}
