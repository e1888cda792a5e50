//! What a message costs in the pure code: `cargo run --release -p broker-model --example message_cost`.
//!
//! One KiB messages through encode, validate, apply, hand out and settle, in batches, without log,
//! disk and network.

#![allow(clippy::print_stdout)]

use broker_model::catalog::settings::QueueSettings;
use broker_model::dispatch::{Dispatcher, Outbox};
use broker_model::ids::{ConsumerId, NodeId, Origin, QueueId};
use broker_model::message::Message;
use broker_model::op::{BatchHead, EntryHead, Op, Target};
use broker_model::protocol::{ConsumerSpec, FromHost, ToHost};
use broker_model::shard::{Effect, ShardMachine};
use broker_model::wire::{OpsWriter, WireError, encode_entry_head, validate_ops};
use bytes::Bytes;
use std::sync::Arc;
use std::time::{Duration, Instant};

const QUEUE: QueueId = QueueId(1 << 16);
const ORIGIN: Origin = Origin {
    node: NodeId(1),
    incarnation: 1,
};
const BATCH: u64 = 200;

struct Bench {
    machine: ShardMachine,
    dispatcher: Dispatcher,
    out: Outbox,
    index: u64,
    batch: u64,
    effects: Vec<Effect>,
    times: [(&'static str, Duration); 5],
}

impl Bench {
    fn timed<T>(&mut self, phase: usize, work: impl FnOnce(&mut Self) -> T) -> T {
        let start = Instant::now();
        let result = work(self);
        if let Some((_, time)) = self.times.get_mut(phase) {
            *time += start.elapsed();
        }
        result
    }

    fn entry(&mut self, leader_ops: Vec<Op>, batch: Option<Bytes>) -> Result<(), WireError> {
        let mut head = EntryHead {
            now_ms: 1,
            leader_ops,
            ..EntryHead::default()
        };
        if batch.is_some() {
            let number = self.batch + 1;
            head.batches.push(BatchHead {
                origin: ORIGIN,
                previous: self.batch,
                number,
                answered: self.batch,
            });
            self.batch = number;
        }
        let segments: Vec<Bytes> = std::iter::once(encode_entry_head(&head))
            .chain(batch)
            .collect();
        self.index += 1;
        self.timed(2, |this| {
            this.machine
                .apply_entry(this.index, &segments, &mut this.effects, &mut Vec::new())
        })?;
        self.timed(3, |this| {
            this.dispatcher
                .effects(1, &this.effects, &this.machine, &mut this.out);
            this.effects.clear();
            this.dispatcher.pump(1, &this.machine, &mut this.out);
        });
        let leader_ops = std::mem::take(&mut self.out.leader_ops);
        if leader_ops.is_empty() {
            Ok(())
        } else {
            self.entry(leader_ops, None)
        }
    }
}

fn publishes(body: &Bytes) -> Vec<Op> {
    let publish = |_| Op::Publish {
        targets: smallvec::smallvec![Target::plain(QUEUE)],
        message: Message {
            exchange: Bytes::new(),
            routing_key: Bytes::from_static(b"queue"),
            properties: Bytes::from_static(&[0x18, 0, 2, 0, 0, 0, 0]),
            body: body.clone(),
        },
    };
    (0..BATCH).map(publish).collect()
}

fn run(consumers: u64, rounds: u64) -> Result<(), WireError> {
    let machine = ShardMachine::new();
    let dispatcher = Dispatcher::new(1, &machine, None);
    let phases = ["encode", "validate", "apply", "dispatch", "settle ops"]
        .map(|name| (name, Duration::ZERO));
    let mut bench = Bench {
        machine,
        dispatcher,
        out: Outbox::default(),
        index: 0,
        batch: 0,
        effects: Vec::new(),
        times: phases,
    };
    bench.dispatcher.settings(
        1,
        QUEUE,
        Some(Arc::new(QueueSettings::default())),
        &bench.machine,
        &mut bench.out,
    );
    for consumer in 1..=consumers {
        let (consumer, spec) = (ConsumerId(consumer), ConsumerSpec::default());
        let consume = ToHost::Consume {
            consumer,
            queue: QUEUE,
            spec,
            credit: u32::MAX / 2,
            resume: None,
        };
        bench
            .dispatcher
            .handle(1, ORIGIN, consume, &bench.machine, &mut bench.out);
    }
    bench.entry(Vec::new(), None)?;
    let ops = publishes(&Bytes::from(vec![7; 1024]));
    let start = Instant::now();
    let mut delivered = 0;
    for _ in 0..rounds {
        let batch = bench.timed(0, |_| {
            let mut writer = OpsWriter::with_capacity(BATCH as usize * 1100);
            ops.iter().for_each(|op| writer.push(op));
            writer.finish()
        });
        bench.timed(1, |_| validate_ops(&batch))?;
        bench.entry(Vec::new(), Some(batch))?;
        let settles = bench.timed(4, |this| {
            let mut writer = OpsWriter::new();
            for (_, told) in this.out.to_nodes.drain(..) {
                let FromHost::Deliver(deliveries) = told else {
                    continue;
                };
                delivered += deliveries.len() as u64;
                deliveries
                    .iter()
                    .for_each(|delivery| writer.push(&Op::settle_one(QUEUE, delivery.sequence)));
            }
            writer.finish()
        });
        bench.entry(Vec::new(), Some(settles))?;
    }
    let total = start.elapsed();
    println!(
        "{consumers} consumers, {delivered} messages: {} ns per message",
        total.as_nanos() as u64 / delivered.max(1)
    );
    for (name, time) in bench.times {
        println!(
            "  {name:>10}: {:>4} ns",
            time.as_nanos() as u64 / delivered.max(1)
        );
    }
    Ok(())
}

fn main() -> Result<(), WireError> {
    for consumers in [1, 10, 1000] {
        run(consumers, 5_000)?;
    }
    Ok(())
}
