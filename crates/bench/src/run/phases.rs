//! The order of events in a run: declare, connect, warm up, measure, settle, clean up.

use std::thread::{Builder, Scope, ScopedJoinHandle, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::progress::Progress;
use super::report::RunResult;
use super::topology::Topology;
use crate::args::RunArgs;
use crate::client::Uri;
use crate::load::{
    Consumed, Consumer, ConsumerConfig, Produced, Producer, ProducerConfig, Shared, Stamp, Verdict,
};
use crate::measure::{Latency, Phase, Snapshot, cpu_of_self, now_ns, usage_of};

/// The threads need little: buffers are on the heap.
const STACK_BYTES: usize = 256 * 1024;
/// How often the course of a run is looked at.
const STEP: Duration = Duration::from_millis(20);

/// Runs; `watched` shows progress on standard error.
pub(crate) fn execute(args: &RunArgs, watched: bool) -> anyhow::Result<RunResult> {
    check(args)?;
    let producer_uris = non_empty(&args.producer_uris, &args.target.uris)?;
    let consumer_uris = non_empty(&args.consumer_uris, &args.target.uris)?;
    let control = producer_uris.first().context("no broker is named")?;
    let topology = Topology::declare(args, control)?;
    let shared = Shared::new(topology.queues.len());
    let outcome = std::thread::scope(|scope| {
        let mut run = Run {
            args,
            shared: &shared,
            queues: &topology.queues,
            producer_uris,
            consumer_uris,
            scope,
            producers: Vec::new(),
            consumers: Vec::new(),
            progress: watched.then(Progress::new),
        };
        let outcome = run.phases();
        // Whatever happened, no thread may wait for ever.
        if outcome.is_err() {
            shared.abort.set();
        }
        outcome.and_then(|phases| run.finish(phases))
    });
    // The first failure of a thread explains all that follows from it.
    let result = match (shared.take_failure(), outcome) {
        (Some(failure), _) => Err(failure),
        (None, outcome) => outcome,
    };
    let removed = topology.remove();
    let result = result?;
    removed.context("deleting the queues")?;
    Ok(result)
}

fn non_empty<'a>(these: &'a [Uri], or_those: &'a [Uri]) -> anyhow::Result<&'a [Uri]> {
    match (these, or_those) {
        ([], []) => bail!("no broker is named"),
        ([], those) => Ok(those),
        (these, _) => Ok(these),
    }
}

/// What the command line cannot say about combinations.
fn check(args: &RunArgs) -> anyhow::Result<()> {
    if args.fill.is_some() && args.confirm_window == 0 {
        bail!("--fill needs --confirm-window: only confirms tell when the queues are full");
    }
    if !args.auto_ack && args.prefetch > 0 && args.ack_every > u32::from(args.prefetch) {
        bail!("--ack-every above --prefetch would wait for ever");
    }
    if args.queue.queues == 0 || args.producers == 0 {
        bail!("a run needs at least one queue and one producer");
    }
    if args.producers > Stamp::PRODUCERS_MAX {
        bail!(
            "more than {} producers cannot be told apart",
            Stamp::PRODUCERS_MAX
        );
    }
    if args
        .rate
        .is_some_and(|rate| !rate.is_finite() || rate <= 0.0)
    {
        bail!("--rate must be above 0");
    }
    Ok(())
}

struct Run<'scope, 'env> {
    args: &'env RunArgs,
    shared: &'env Shared,
    queues: &'env [String],
    producer_uris: &'env [Uri],
    consumer_uris: &'env [Uri],
    scope: &'scope Scope<'scope, 'env>,
    producers: Vec<ScopedJoinHandle<'scope, Option<Produced>>>,
    consumers: Vec<ScopedJoinHandle<'scope, Option<Consumed>>>,
    progress: Option<Progress>,
}

/// What was measured before the threads are joined.
#[derive(Default)]
struct Phases {
    measured: Option<Phase>,
    fill: Option<Phase>,
    drain: Option<Phase>,
}

impl Run<'_, '_> {
    fn phases(&mut self) -> anyhow::Result<Phases> {
        let mut phases = Phases::default();
        match (self.args.fill, self.args.messages) {
            (Some(_), _) => {
                self.start_producers()?;
                phases.fill = Some(self.count_until("filling", Self::all_confirmed)?);
                if self.args.drain {
                    // The consumers connect before the clock starts; what they are sent until then
                    // is little and waits in their sockets.
                    let before = self.snapshot()?;
                    self.start_consumers()?;
                    self.shared.measuring.set();
                    self.wait("draining", Self::all_received)?;
                    phases.drain = Some(Phase::between(&before, &self.snapshot()?));
                }
            }
            (None, Some(_)) => {
                self.start_consumers()?;
                self.start_producers()?;
                let none = self.args.consumers == 0;
                let done = if none {
                    Self::all_confirmed
                } else {
                    Self::all_received
                };
                phases.measured = Some(self.count_until("running", done)?);
            }
            (None, None) => {
                self.start_consumers()?;
                self.start_producers()?;
                self.shared.go.set();
                self.pass("warming up", self.args.warmup)?;
                let before = self.snapshot()?;
                self.shared.measuring.set();
                self.pass("measuring", self.args.duration)?;
                self.shared.measuring.clear();
                phases.measured = Some(Phase::between(&before, &self.snapshot()?));
                self.shared.stop_producing.set();
                self.wait("settling", Self::all_received)?;
            }
        }
        Ok(phases)
    }

    /// Lets the producers go and measures until `done`.
    fn count_until(&mut self, label: &str, done: fn(&Self) -> bool) -> anyhow::Result<Phase> {
        let before = self.snapshot()?;
        self.shared.measuring.set();
        self.shared.go.set();
        self.wait(label, done)?;
        self.shared.measuring.clear();
        Ok(Phase::between(&before, &self.snapshot()?))
    }

    /// Lets time pass.
    fn pass(&mut self, label: &str, time: Duration) -> anyhow::Result<()> {
        let end = Instant::now() + time;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            sleep(left.min(STEP));
            self.look(label)?;
        }
    }

    /// Waits until `done`, or until nothing has moved for the time to settle.
    fn wait(&mut self, label: &str, done: fn(&Self) -> bool) -> anyhow::Result<()> {
        let (mut moved, mut last) = (Instant::now(), self.movements());
        while !done(self) && moved.elapsed() < self.args.settle {
            sleep(STEP.min(Duration::from_millis(1)));
            self.look(label)?;
            let now = self.movements();
            if now != last {
                (moved, last) = (Instant::now(), now);
            }
        }
        Ok(())
    }

    fn movements(&self) -> [u64; 4] {
        let Shared {
            sent,
            confirmed,
            nacked,
            received,
            ..
        } = self.shared;
        [
            sent.count(),
            confirmed.count(),
            nacked.count(),
            received.count(),
        ]
    }

    fn look(&mut self, label: &str) -> anyhow::Result<()> {
        if self.shared.abort.is_set() {
            bail!("a connection failed");
        }
        if let Some(progress) = &mut self.progress {
            progress.show(label, self.shared);
        }
        Ok(())
    }

    /// Everything is published and answered.
    fn all_confirmed(&self) -> bool {
        self.shared.producers_running.count() == 0
    }

    /// Every copy of every accepted message has arrived.
    fn all_received(&self) -> bool {
        if !self.all_confirmed() {
            return false;
        }
        let accepted = if self.args.confirm_window > 0 {
            self.shared.confirmed.count()
        } else {
            self.shared.sent.count()
        };
        self.args.consumers == 0 || self.shared.received.count() >= accepted * self.copies()
    }

    /// Queues that get a copy of each message.
    fn copies(&self) -> u64 {
        match &self.args.exchange {
            Some(_) if self.args.exchange_type == "fanout" => self.queues.len() as u64,
            _ => 1,
        }
    }

    fn snapshot(&self) -> anyhow::Result<Snapshot> {
        let pids = &self.args.target.broker_pids;
        let broker = if pids.is_empty() {
            None
        } else {
            Some(usage_of(pids)?)
        };
        let [sent, confirmed, nacked, received] = self.movements();
        let client_cpu_ns = cpu_of_self();
        Ok(Snapshot {
            at_ns: now_ns(),
            sent,
            confirmed,
            nacked,
            received,
            broker,
            client_cpu_ns,
        })
    }

    fn start_producers(&mut self) -> anyhow::Result<()> {
        let args = self.args;
        let total = args.fill.or(args.messages);
        for index in 0..args.producers {
            let share = |total: u64| {
                let (count, index) = (args.producers as u64, index as u64);
                total / count + u64::from(index < total % count)
            };
            let config = ProducerConfig {
                index,
                producers: args.producers,
                exchange: args.exchange.clone().unwrap_or_default(),
                routing_key: in_turn(self.queues, index)?.clone(),
                persistent: args.persistent,
                size: args.size,
                confirm_window: args.confirm_window,
                rate: args.rate,
                limit: total.map(share),
                settle: args.settle,
            };
            let producer = Producer::open(in_turn(self.producer_uris, index)?, config)?;
            let shared = self.shared;
            shared.producers_running.add(1);
            let thread = Builder::new()
                .name(format!("producer-{index}"))
                .stack_size(STACK_BYTES);
            self.producers
                .push(thread.spawn_scoped(self.scope, move || {
                    let produced = producer
                        .run(shared)
                        .map_err(|error| shared.fail(error))
                        .ok();
                    shared.producers_running.subtract_one();
                    produced
                })?);
        }
        Ok(())
    }

    fn start_consumers(&mut self) -> anyhow::Result<()> {
        let args = self.args;
        for index in 0..args.consumers {
            let config = ConsumerConfig {
                index,
                queue: in_turn(self.queues, index)?.clone(),
                queue_index: index % self.queues.len().max(1),
                prefetch: args.prefetch,
                ack_every: (!args.auto_ack).then_some(args.ack_every),
            };
            let consumer = Consumer::open(in_turn(self.consumer_uris, index)?, config)?;
            let shared = self.shared;
            let thread = Builder::new()
                .name(format!("consumer-{index}"))
                .stack_size(STACK_BYTES);
            self.consumers
                .push(thread.spawn_scoped(self.scope, move || {
                    consumer
                        .run(shared)
                        .map_err(|error| shared.fail(error))
                        .ok()
                })?);
        }
        Ok(())
    }

    /// Ends the threads and puts their results together.
    fn finish(&mut self, phases: Phases) -> anyhow::Result<RunResult> {
        self.shared.stop_producing.set();
        let produced = join(std::mem::take(&mut self.producers))?;
        self.shared.stop_consuming.set();
        let consumed = join(std::mem::take(&mut self.consumers))?;
        if let Some(progress) = &mut self.progress {
            progress.end();
        }
        let (mut confirm, mut end_to_end) = (Latency::new(), Latency::new());
        produced
            .iter()
            .for_each(|producer| confirm.merge(&producer.confirm));
        consumed
            .iter()
            .for_each(|consumer| end_to_end.merge(&consumer.end_to_end));
        let Phases {
            mut measured,
            mut fill,
            mut drain,
        } = phases;
        if let Some(phase) = measured.as_mut().or(fill.as_mut()) {
            phase.confirm = confirm.summary();
        }
        if let Some(phase) = measured.as_mut().or(drain.as_mut()) {
            phase.end_to_end = end_to_end.summary();
        }
        // Older messages in queues that were kept can be told apart by a whole stamp only.
        let known = !self.args.keep || self.args.size >= Stamp::LEN;
        let consumes = !consumed.is_empty() && known;
        Ok(RunResult {
            size: self.args.size,
            producers: self.args.producers,
            consumers: self.args.consumers,
            queues: self.queues.len(),
            measured,
            fill,
            drain,
            sent: produced.iter().map(|producer| producer.sent).sum(),
            unsettled: produced.iter().map(|producer| producer.unsettled).sum(),
            nacked: produced.iter().map(|producer| producer.nacked).sum(),
            received: consumed.iter().map(|consumer| consumer.received).sum(),
            verdict: consumes.then(|| self.verdict(&produced, &consumed)),
        })
    }

    /// Compares what was accepted with what was received. What was refused or never answered may
    /// or may not have been delivered, so `lost` is a lower bound where there is such.
    fn verdict(&self, produced: &[Produced], consumed: &[Consumed]) -> Verdict {
        let accepted: u64 = produced
            .iter()
            .map(|producer| producer.sent - producer.nacked - producer.unsettled)
            .sum::<u64>()
            * self.copies();
        let received: u64 = consumed.iter().map(|consumer| consumer.received).sum();
        let ledger = &self.shared.ledger;
        let distinct: u64 = (0..self.queues.len())
            .map(|queue| ledger.distinct(queue))
            .sum();
        let known = if distinct > 0 { distinct } else { received };
        Verdict {
            lost: accepted.saturating_sub(known),
            duplicates: ledger.duplicates(),
            out_of_order: consumed.iter().map(|consumer| consumer.out_of_order).sum(),
            redelivered: consumed.iter().map(|consumer| consumer.redelivered).sum(),
            foreign: consumed.iter().map(|consumer| consumer.foreign).sum(),
        }
    }
}

/// The item whose turn it is.
fn in_turn<T>(items: &[T], index: usize) -> anyhow::Result<&T> {
    items
        .get(index % items.len().max(1))
        .context("nothing to choose from")
}

fn join<T>(threads: Vec<ScopedJoinHandle<'_, Option<T>>>) -> anyhow::Result<Vec<T>> {
    let mut results = Vec::new();
    for thread in threads {
        match thread.join() {
            Ok(Some(result)) => results.push(result),
            Ok(None) => bail!("a connection failed"),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
    Ok(results)
}
