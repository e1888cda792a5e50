//! `connections`: how fast connections open, and what an idle one costs.

use std::sync::Mutex;
use std::thread::sleep;
use std::time::Instant;

use amqp_codec::{FieldTable, Method, ShortStr};
use anyhow::Context as _;
use serde::Serialize;

use crate::args::ConnectionsArgs;
use crate::client::{CHANNEL, Connection, Input};
use crate::measure::{Latency, LatencySummary, Usage, now_ns, usage_of};
use crate::output::{self, bytes, duration_ns, line, thousands};

/// The result of `connections`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ConnectionsResult {
    pub(crate) connections: usize,
    pub(crate) seconds: f64,
    pub(crate) opened_per_s: f64,
    /// From connecting to the queue's declaration.
    pub(crate) latency: Option<LatencySummary>,
    pub(crate) broker_cpu_us_per_connection: Option<f64>,
    pub(crate) broker_rss_bytes_per_connection: Option<f64>,
    /// Cores that the broker keeps busy with the connections idle.
    pub(crate) idle_cores: Option<f64>,
}

/// What is said when all connections are open that are to be held.
pub(crate) const ALL_OPEN: &str = "all are open";

/// Opens the connections, holds them, prints the result.
pub(crate) fn main(args: &ConnectionsArgs) -> anyhow::Result<()> {
    if args.until_stdin_ends {
        let _held = open_all(args)?;
        line(ALL_OPEN);
        std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
        return Ok(());
    }
    let result = execute(args)?;
    if args.target.json {
        return output::json(&result);
    }
    print(&result);
    Ok(())
}

/// Opens the connections and holds them for a while.
pub(crate) fn execute(args: &ConnectionsArgs) -> anyhow::Result<ConnectionsResult> {
    let pids = &args.target.broker_pids;
    let usage = || {
        if pids.is_empty() {
            Ok(None)
        } else {
            usage_of(pids).map(Some)
        }
    };
    let before: Option<Usage> = usage()?;
    let start = Instant::now();
    let (held, latency) = open_all(args)?;
    let seconds = start.elapsed().as_secs_f64();
    let after = usage()?;
    let start = Instant::now();
    sleep(args.hold);
    let idle = after
        .zip(usage()?)
        .map(|(from, to)| (to.cpu_ns - from.cpu_ns) as f64 / 1e9);
    let held_s = start.elapsed().as_secs_f64();
    let count = held.len().max(1) as f64;
    // Closed by dropping the sockets, as most clients of the world do.
    drop(held);
    let difference = before.zip(after);
    Ok(ConnectionsResult {
        connections: args.connections,
        seconds,
        opened_per_s: args.connections as f64 / seconds,
        latency: latency.summary(),
        broker_cpu_us_per_connection: difference
            .map(|(before, after)| (after.cpu_ns - before.cpu_ns) as f64 / 1e3 / count),
        broker_rss_bytes_per_connection: difference
            .map(|(before, after)| (after.rss_bytes as f64 - before.rss_bytes as f64) / count),
        idle_cores: idle.map(|seconds| seconds / held_s),
    })
}

/// Opens the connections, several at a time.
pub(crate) fn open_all(args: &ConnectionsArgs) -> anyhow::Result<(Vec<Connection>, Latency)> {
    let held = Mutex::new((Vec::with_capacity(args.connections), Latency::new()));
    let outcomes: Vec<anyhow::Result<()>> = std::thread::scope(|scope| {
        let held = &held;
        let threads: Vec<_> = (0..args.threads)
            .map(|thread| {
                scope.spawn(move || {
                    let mut latency = Latency::new();
                    let mut mine = Vec::new();
                    let mut input = None;
                    for index in (thread..args.connections).step_by(args.threads) {
                        let start_ns = now_ns();
                        let (connection, large) = open(args, index, input.take())?;
                        mine.push(connection);
                        input = large;
                        latency.record(now_ns() - start_ns);
                    }
                    let mut all = held
                        .lock()
                        .unwrap_or_else(std::sync::PoisonError::into_inner);
                    all.0.append(&mut mine);
                    all.1.merge(&latency);
                    Ok(())
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
    });
    outcomes.into_iter().collect::<anyhow::Result<()>>()?;
    Ok(held
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner))
}

/// A connection, and its buffer for the next one.
fn open(
    args: &ConnectionsArgs,
    index: usize,
    input: Option<Input>,
) -> anyhow::Result<(Connection, Option<Input>)> {
    let uris = &args.target.uris;
    let uri = uris
        .get(index % uris.len().max(1))
        .context("no broker is named")?;
    let input = input.unwrap_or_else(Input::new);
    let mut connection = Connection::open_with(uri, &format!("idle {index}"), input)?;
    connection.open_channel()?;
    if !args.no_queue {
        connection.call(
            CHANNEL,
            &Method::QueueDeclare {
                queue: ShortStr::empty(),
                passive: false,
                durable: false,
                exclusive: true,
                auto_delete: false,
                no_wait: false,
                arguments: FieldTable::empty(),
            },
        )?;
    }
    let large = connection.input.shrink();
    Ok((connection, large))
}

fn print(result: &ConnectionsResult) {
    line(&format!(
        "{} connections",
        thousands(result.connections as f64)
    ));
    line(&format!(
        "  opened       {:>12}/s",
        thousands(result.opened_per_s)
    ));
    if let Some(latency) = &result.latency {
        line(&format!(
            "  latency      p50 {}  p99 {}  max {}",
            duration_ns(latency.p50_ns),
            duration_ns(latency.p99_ns),
            duration_ns(latency.max_ns)
        ));
    }
    if let Some(us) = result.broker_cpu_us_per_connection {
        line(&format!("  broker CPU   {us:>11.1} µs per connection"));
    }
    if let Some(memory) = result.broker_rss_bytes_per_connection {
        line(&format!(
            "  broker RSS   {:>12} per connection",
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
