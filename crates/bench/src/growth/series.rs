//! The series, and how a point of each is measured.

use std::path::Path;

use anyhow::Context as _;

use super::Point;
use super::bindings::Bindings;
use super::held::Held;
use crate::args::{DeclareArgs, GrowthArgs, QueueArgs, RunArgs};
use crate::brokers::{Broker, Cluster};
use crate::measure::{Phase, usage_of};
use crate::{declare, run};

/// Messages a second while latency is measured, unless they are large.
const RATE: f64 = 1000.0;
/// Bytes a second while latency is measured.
const RATE_BYTES: f64 = 16.0 * 1024.0 * 1024.0;
/// Bytes that may await their confirm.
const WINDOW_BYTES: usize = 32 << 20;
/// The exchange of the series on bindings.
const EXCHANGE: &str = "bench-grow";

/// What a series varies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Varied {
    Size,
    Queues,
    Connections,
    Consumers,
    Bindings { topic: bool },
    Backlog,
    Nodes,
}

/// One chart.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) id: &'static str,
    pub(super) title: &'static str,
    /// What is under the horizontal axis.
    pub(super) axis: &'static str,
    points: &'static [u64],
    varied: Varied,
}

pub(super) const SERIES: &[Series] = &[
    Series {
        id: "size",
        title: "Message size",
        axis: "bytes of a body",
        points: &[16, 256, 1024, 4096, 16_384, 65_536, 262_144, 1_048_576],
        varied: Varied::Size,
    },
    Series {
        id: "queues",
        title: "Durable queues in the cluster",
        axis: "idle durable queues beside the one in use",
        points: &[1, 10, 100, 1000, 10_000, 100_000],
        varied: Varied::Queues,
    },
    Series {
        id: "connections",
        title: "Connections",
        axis: "idle connections with a channel",
        points: &[10, 100, 1000, 5000, 20_000],
        varied: Varied::Connections,
    },
    Series {
        id: "consumers",
        title: "Consumers of the queue",
        axis: "consumers",
        points: &[1, 4, 16, 64, 256, 1000],
        varied: Varied::Consumers,
    },
    Series {
        id: "bindings",
        title: "Bindings of a direct exchange",
        axis: "bindings",
        points: &[1, 10, 100, 1000, 10_000, 100_000],
        varied: Varied::Bindings { topic: false },
    },
    Series {
        id: "topics",
        title: "Patterns of a topic exchange",
        axis: "bindings with wildcards",
        points: &[1, 10, 100, 1000, 10_000, 100_000],
        varied: Varied::Bindings { topic: true },
    },
    Series {
        id: "backlog",
        title: "Messages of 100 bytes that wait: filling and draining",
        axis: "messages in the queue",
        points: &[10_000, 100_000, 1_000_000, 5_000_000, 20_000_000],
        varied: Varied::Backlog,
    },
    Series {
        id: "nodes",
        title: "Nodes",
        axis: "nodes, each with a copy",
        points: &[1, 3, 5],
        varied: Varied::Nodes,
    },
];

/// Measures the points of a series in order.
pub(super) fn measure(
    series: &Series,
    broker: &Broker,
    home: &Path,
    args: &GrowthArgs,
    found: &mut dyn FnMut(Point),
) -> anyhow::Result<()> {
    let points = series.points.iter().copied();
    let points = points.filter(|x| args.at_most.is_none_or(|most| *x <= most));
    if series.varied == Varied::Nodes {
        for x in points {
            let mut cluster = start(broker, x as usize, &home.join(format!("of-{x}")))?;
            found(both(&cluster, args, x, |_| {})?);
            cluster.stop();
        }
        return Ok(());
    }
    let mut cluster = start(broker, 3, home)?;
    let first = cluster.uri(0)?;
    let mut bindings = match series.varied {
        Varied::Bindings { topic } => Some(Bindings::declare(&first, EXCHANGE, topic)?),
        _ => None,
    };
    let mut held = Held::default();
    let mut declared = 0;
    for x in points {
        let count = usize::try_from(x)?;
        let point = match series.varied {
            Varied::Size => both(&cluster, args, x, |run| {
                run.size = count;
                run.confirm_window = (WINDOW_BYTES / count).clamp(1, 1000);
            })?,
            Varied::Queues => {
                declare_more(&cluster, &mut declared, count)?;
                both(&cluster, args, x, |_| {})?
            }
            Varied::Connections => {
                held.grow(&cluster.target().uris, count)?;
                both(&cluster, args, x, |_| {})?
            }
            Varied::Consumers => both(&cluster, args, x, |run| {
                run.consumers = count;
                run.prefetch = 100;
            })?,
            Varied::Bindings { topic } => {
                if let Some(bindings) = &mut bindings {
                    bindings.grow(x)?;
                }
                both(&cluster, args, x, |run| {
                    run.exchange = Some(EXCHANGE.to_owned());
                    run.exchange_type = if topic { "topic" } else { "direct" }.to_owned();
                    // Its exchange is ours and stays.
                    run.keep = true;
                })?
            }
            Varied::Backlog => fill_and_drain(&cluster, args, x)?,
            Varied::Nodes => unreachable!("measured above"),
        };
        found(point);
    }
    drop(held);
    cluster.stop();
    Ok(())
}

fn start(broker: &Broker, nodes: usize, home: &Path) -> anyhow::Result<Cluster> {
    let mut cluster = Cluster::new(broker.clone(), nodes, home)?;
    cluster.start()?;
    Ok(cluster)
}

fn load(cluster: &Cluster, args: &GrowthArgs) -> RunArgs {
    let mut run = RunArgs::measured(cluster.target(), args.warmup, args.duration);
    run.replicated();
    run
}

/// Cost as fast as it goes, then latency at a fixed rate.
fn both(
    cluster: &Cluster,
    args: &GrowthArgs,
    x: u64,
    prepare: impl Fn(&mut RunArgs),
) -> anyhow::Result<Point> {
    let mut fast = load(cluster, args);
    prepare(&mut fast);
    let result = run::execute(&fast, false)?;
    let phase = result.measured.context("nothing was measured")?;
    let mut slow = load(cluster, args);
    prepare(&mut slow);
    slow.rate = Some(RATE.min((RATE_BYTES / slow.size.max(1) as f64).max(1.0)));
    slow.ack_every = 1;
    let result = run::execute(&slow, false)?;
    let confirm = result.measured.and_then(|phase| phase.confirm);
    let ms = |ns: u64| ns as f64 / 1e6;
    Ok(Point {
        x,
        rate: phase.received_per_s,
        cpu_us: cpu(&phase),
        confirm_p50_ms: confirm.map(|confirm| ms(confirm.p50_ns)),
        confirm_p99_ms: confirm.map(|confirm| ms(confirm.p99_ns)),
        rss_mib: rss_mib(cluster)?,
        ..Point::default()
    })
}

fn fill_and_drain(cluster: &Cluster, args: &GrowthArgs, x: u64) -> anyhow::Result<Point> {
    let mut run = load(cluster, args);
    run.size = 100;
    (run.fill, run.drain) = (Some(x), true);
    let result = run::execute(&run, false)?;
    let fill = result.fill.context("nothing was measured")?;
    let drain = result.drain.context("nothing was measured")?;
    let nodes = cluster.len() as f64;
    Ok(Point {
        x,
        rate: fill.confirmed_per_s,
        cpu_us: cpu(&fill),
        drain_cpu_us: Some(cpu(&drain)),
        drain_rate: Some(drain.received_per_s),
        // When the queue was full, not after it was emptied.
        rss_mib: fill.broker_rss_bytes.unwrap_or_default() as f64 / 1048576.0 / nodes,
        ..Point::default()
    })
}

fn cpu(phase: &Phase) -> f64 {
    phase.broker_cpu_us_per_message.unwrap_or_default()
}

fn rss_mib(cluster: &Cluster) -> anyhow::Result<f64> {
    let target = cluster.target();
    let usage = usage_of(&target.broker_pids)?;
    Ok(usage.rss_bytes as f64 / 1048576.0 / target.broker_pids.len().max(1) as f64)
}

/// Declares idle queues until there are `count`.
fn declare_more(cluster: &Cluster, declared: &mut usize, count: usize) -> anyhow::Result<()> {
    let more = count.saturating_sub(*declared);
    if more > 0 {
        declare::execute(&DeclareArgs {
            target: cluster.target(),
            queue: QueueArgs {
                queue: format!("idle-{declared}-%i"),
                queues: more,
                durable: true,
                queue_type: Some("quorum".to_owned()),
                arguments: Vec::new(),
            },
            connections: 3.min(more),
            pipeline: 64,
            keep: true,
            hold: std::time::Duration::ZERO,
        })?;
        *declared = count;
    }
    Ok(())
}
