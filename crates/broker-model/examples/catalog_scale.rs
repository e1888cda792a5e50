//! Prints what the catalog costs at scale: memory per queue, time per binding, route and snapshot.
//!
//! `cargo run --release -p broker-model --example catalog_scale`
#![allow(clippy::print_stdout, clippy::expect_used)]

use amqp_codec::FieldTable;
use broker_model::catalog::{
    BindingSpec, Catalog, CatalogCommand, CatalogEntry, Destination, QueueSpec, VhostSpec,
};
use broker_model::ids::{Placement, ShardId};
use broker_model::routing::{Effort, RouteInput};
use std::time::Instant;

const COUNT: u32 = 100_000;

fn resident_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
        .unwrap_or(0)
}

struct Log {
    catalog: Catalog,
    index: u64,
}

impl Log {
    fn apply(&mut self, command: CatalogCommand) {
        self.index += 1;
        let mut events = Vec::new();
        for reply in self
            .catalog
            .apply(self.index, &CatalogEntry::of(command), &mut events)
        {
            reply.expect("accepted");
        }
    }

    fn timed(&mut self, what: &str, mut step: impl FnMut(&mut Self, u32)) {
        let before = resident_kib();
        let start = Instant::now();
        for number in 0..COUNT {
            step(self, number);
        }
        let each = start.elapsed().as_nanos() / u128::from(COUNT);
        let grown = resident_kib().saturating_sub(before) * 1024 / COUNT as usize;
        println!("{what:<44} {each:>7} ns each, {grown:>5} bytes each");
    }
}

fn binding(exchange: &str, queue: &str, key: String) -> BindingSpec {
    BindingSpec {
        vhost: "/".into(),
        source: exchange.into(),
        destination: Destination::Queue(queue.into()),
        routing_key: key.into(),
        arguments: FieldTable::empty(),
    }
}

fn main() {
    let mut log = Log {
        catalog: Catalog::new(),
        index: 0,
    };
    log.apply(CatalogCommand::PutVhost(VhostSpec::named("/")));
    log.timed("declare durable queues", |log, number| {
        log.apply(CatalogCommand::DeclareQueue(QueueSpec {
            vhost: "/".into(),
            name: format!("queue-{number}").into(),
            durable: true,
            exclusive: None,
            auto_delete: false,
            arguments: FieldTable::empty(),
            placement: Placement::Shard(ShardId(number % 12 + 1)),
            server_named: false,
        }));
    });
    let mut found = Vec::new();
    let mut route = |log: &mut Log, what: &str, exchange: &str, key: &dyn Fn(u32) -> String| {
        let keys: Vec<_> = (0..COUNT).map(key).collect();
        log.timed(what, |log, number| {
            found.clear();
            let key = keys.get(number as usize).map_or("", String::as_str);
            let input = RouteInput::key(key);
            log.catalog
                .route("/", exchange, &input, &mut Effort::at_once(), &mut found)
                .expect("an exchange");
            assert_eq!(found.len(), 1);
        });
    };
    route(&mut log, "route, default exchange", "", &|number| {
        format!("queue-{number}")
    });
    log.timed("bind, direct, one key per queue", |log, number| {
        let queue = format!("queue-{number}");
        log.apply(CatalogCommand::Bind(binding(
            "amq.direct",
            &queue,
            format!("key-{number}"),
        )));
    });
    route(
        &mut log,
        "route, direct, 100,000 bindings",
        "amq.direct",
        &|n| format!("key-{n}"),
    );
    log.timed("bind, topic, to one queue", |log, number| {
        let key = format!("a.{number}.*.#");
        log.apply(CatalogCommand::Bind(binding("amq.topic", "queue-0", key)));
    });
    route(
        &mut log,
        "route, topic, 100,000 patterns",
        "amq.topic",
        &|n| format!("a.{n}.x.y"),
    );
    let start = Instant::now();
    let chunks = log.catalog.encode_snapshot();
    let bytes: usize = chunks.iter().map(bytes::Bytes::len).sum();
    println!(
        "snapshot: {} chunks, {bytes} bytes, {:?}",
        chunks.len(),
        start.elapsed()
    );
    let start = Instant::now();
    let restored = Catalog::decode_snapshot(&chunks).expect("a snapshot");
    println!(
        "restore: {} queues, {:?}",
        restored.queue_count(),
        start.elapsed()
    );
    drop(restored);
    log.timed("unbind, topic", |log, number| {
        let key = format!("a.{number}.*.#");
        log.apply(CatalogCommand::Unbind(binding("amq.topic", "queue-0", key)));
    });
    log.timed("delete queues with their bindings", |log, number| {
        log.apply(CatalogCommand::DeleteQueue {
            vhost: "/".into(),
            name: format!("queue-{number}").into(),
            expected: None,
        });
    });
}
