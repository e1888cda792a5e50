//! `declare`: how fast queues come into being, and what an idle one costs.

use std::thread::sleep;
use std::time::Instant;

use amqp_codec::{Method, ShortStr};
use anyhow::Context as _;
use serde::Serialize;

use crate::args::DeclareArgs;
use crate::client::{CHANNEL, Connection};
use crate::measure::{Latency, LatencySummary, Usage, now_ns, usage_of};
use crate::output::{self, bytes, duration_ns, line, thousands};
use crate::run::{declare_method, queue_name};

/// The result of `declare`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct DeclareResult {
    pub(crate) queues: usize,
    pub(crate) connections: usize,
    pub(crate) seconds: f64,
    pub(crate) declared_per_s: f64,
    pub(crate) latency: Option<LatencySummary>,
    /// Of all nodes together.
    pub(crate) broker_cpu_us_per_queue: Option<f64>,
    /// Of all nodes together.
    pub(crate) broker_rss_bytes_per_queue: Option<f64>,
    /// Cores that the broker keeps busy with the queues idle.
    pub(crate) idle_cores: Option<f64>,
}

/// Declares and prints the result.
pub(crate) fn main(args: &DeclareArgs) -> anyhow::Result<()> {
    let result = execute(args)?;
    if !args.keep {
        delete(args)?;
    }
    if args.target.json {
        return output::json(&result);
    }
    print(&result);
    Ok(())
}

/// Declares all queues.
pub(crate) fn execute(args: &DeclareArgs) -> anyhow::Result<DeclareResult> {
    let before = usage(args)?;
    let start = Instant::now();
    let mut latency = Latency::new();
    for result in on_all_connections(args, |connection, indices| {
        declare(args, connection, indices)
    })? {
        latency.merge(&result);
    }
    let seconds = start.elapsed().as_secs_f64();
    let after = usage(args)?;
    let idle_cores = match (after, args.hold.is_zero()) {
        (Some(_), false) => {
            let (from, start) = (usage(args)?, Instant::now());
            sleep(args.hold);
            let used = usage(args)?.unwrap_or_default().cpu_ns - from.unwrap_or_default().cpu_ns;
            Some(used as f64 / 1e9 / start.elapsed().as_secs_f64())
        }
        _ => None,
    };
    let count = args.queue.queues.max(1) as f64;
    let difference = before.zip(after);
    Ok(DeclareResult {
        queues: args.queue.queues,
        connections: args.connections,
        seconds,
        declared_per_s: args.queue.queues as f64 / seconds,
        latency: latency.summary(),
        broker_cpu_us_per_queue: difference
            .map(|(before, after)| (after.cpu_ns - before.cpu_ns) as f64 / 1e3 / count),
        broker_rss_bytes_per_queue: difference
            .map(|(before, after)| (after.rss_bytes as f64 - before.rss_bytes as f64) / count),
        idle_cores,
    })
}

/// Deletes the queues again.
pub(crate) fn delete(args: &DeclareArgs) -> anyhow::Result<()> {
    on_all_connections(args, |connection, indices| {
        pipelined(args, connection, indices, |index| {
            Ok(Method::QueueDelete {
                queue: ShortStr::try_from(queue_name(&args.queue, index))?,
                if_unused: false,
                if_empty: false,
                no_wait: false,
            })
        })
    })?;
    Ok(())
}

fn usage(args: &DeclareArgs) -> anyhow::Result<Option<Usage>> {
    let pids = &args.target.broker_pids;
    if pids.is_empty() {
        Ok(None)
    } else {
        usage_of(pids).map(Some)
    }
}

fn declare(
    args: &DeclareArgs,
    connection: &mut Connection,
    indices: impl Iterator<Item = usize>,
) -> anyhow::Result<Latency> {
    pipelined(args, connection, indices, |index| {
        declare_method(&args.queue, index)
    })
}

/// Sends a method for each index, with several under way, and measures the answers.
fn pipelined(
    args: &DeclareArgs,
    connection: &mut Connection,
    indices: impl Iterator<Item = usize>,
    method: impl Fn(usize) -> anyhow::Result<Method>,
) -> anyhow::Result<Latency> {
    let mut latency = Latency::new();
    let mut under_way = std::collections::VecDeque::new();
    let mut answer = |under_way: &mut std::collections::VecDeque<u64>,
                      connection: &mut Connection| {
        connection.receive()?;
        if let Some(sent_ns) = under_way.pop_front() {
            latency.record(now_ns().saturating_sub(sent_ns));
        }
        anyhow::Ok(())
    };
    for index in indices {
        if under_way.len() >= args.pipeline {
            answer(&mut under_way, connection)?;
        }
        under_way.push_back(now_ns());
        connection.send(CHANNEL, &method(index)?)?;
    }
    while !under_way.is_empty() {
        answer(&mut under_way, connection)?;
    }
    Ok(latency)
}

/// Divides the queues among the connections, each on a thread.
fn on_all_connections<T: Send>(
    args: &DeclareArgs,
    work: impl Fn(&mut Connection, std::iter::StepBy<std::ops::Range<usize>>) -> anyhow::Result<T>
    + Sync,
) -> anyhow::Result<Vec<T>> {
    std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = (0..args.connections)
            .map(|index| {
                scope.spawn(move || {
                    let uris = &args.target.uris;
                    let uri = uris
                        .get(index % uris.len().max(1))
                        .context("no broker is named")?;
                    let mut connection = Connection::open(uri, &format!("declare {index}"))?;
                    connection.open_channel()?;
                    let first = index.min(args.queue.queues);
                    let done = work(
                        &mut connection,
                        (first..args.queue.queues).step_by(args.connections),
                    )?;
                    connection.close()?;
                    Ok(done)
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
            .collect()
    })
}

fn print(result: &DeclareResult) {
    line(&format!(
        "{} queues over {} connections",
        result.queues, result.connections
    ));
    line(&format!(
        "  declared     {:>12}/s",
        thousands(result.declared_per_s)
    ));
    if let Some(latency) = &result.latency {
        line(&format!(
            "  latency      p50 {}  p99 {}  max {}",
            duration_ns(latency.p50_ns),
            duration_ns(latency.p99_ns),
            duration_ns(latency.max_ns)
        ));
    }
    if let Some(us) = result.broker_cpu_us_per_queue {
        line(&format!("  broker CPU   {us:>11.1} µs per queue"));
    }
    if let Some(memory) = result.broker_rss_bytes_per_queue {
        line(&format!(
            "  broker RSS   {:>12} per queue, all nodes together",
            bytes(memory)
        ));
    }
    if let Some(cores) = result.idle_cores {
        line(&format!(
            "  idle         {:>9.1} ms of CPU per second",
            cores * 1e3
        ));
    }
}
