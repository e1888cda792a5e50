//! One trial: a scenario against a running cluster.

use std::thread::sleep;
use std::time::{Duration, Instant};

use amqp_codec::{Method, ShortStr};
use anyhow::{Context as _, bail};

use super::scenarios::{Clients, Scenario, Work, replicated};
use super::table::Figure;
use crate::args::{CompareArgs, ConnectionsArgs, DeclareArgs, QueueArgs, RunArgs};
use crate::brokers::{Cluster, leader};
use crate::client::{CHANNEL, Connection, Uri};
use crate::measure::{Phase, usage_of};
use crate::run::{RunResult, queue_name};
use crate::{connections, declare, run};

/// Runs a scenario once.
pub(super) fn run(
    scenario: &Scenario,
    cluster: &mut Cluster,
    args: &CompareArgs,
) -> anyhow::Result<Vec<Figure>> {
    let scaled = |count: usize| ((count as f64 * args.scale) as usize).max(1);
    match scenario.work {
        Work::Load(clients, prepare) => {
            let result = run_load(cluster, args, clients, prepare)?;
            Ok(throughput(result.measured.as_ref(), &result))
        }
        Work::Latency(clients, prepare) => {
            let result = run_load(cluster, args, clients, prepare)?;
            let phase = result.measured.as_ref().context("nothing was measured")?;
            let confirm = phase.confirm.context("nothing was confirmed")?;
            Ok(vec![
                Figure::higher("confirmed", "/s", phase.confirmed_per_s),
                Figure::lower("confirm p50", "ms", confirm.p50_ns as f64 / 1e6),
                Figure::lower("confirm p99", "ms", confirm.p99_ns as f64 / 1e6),
            ])
        }
        Work::FillAndDrain(count) => {
            let count = (count as f64 * args.scale) as u64;
            let result = run_load(cluster, args, Clients::Leader, |run| {
                replicated(run);
                (run.fill, run.drain) = (Some(count.max(1)), true);
            })?;
            let (fill, drain) = result
                .fill
                .zip(result.drain)
                .context("nothing was measured")?;
            let mut figures = vec![Figure::higher("fill", "msg/s", fill.confirmed_per_s)];
            figures.extend(cpu("fill CPU", &fill));
            figures.push(Figure::higher("drain", "msg/s", drain.received_per_s));
            figures.extend(cpu("drain CPU", &drain));
            Ok(figures)
        }
        Work::Declare(count) => run_declare(cluster, scaled(count)),
        Work::Restart(count) => run_restart(cluster, scaled(count)),
        Work::Connections(count, at_once) => run_connections(cluster, scaled(count), at_once),
        Work::Start => run_start(cluster),
        Work::Idle(count) => run_idle(cluster, scaled(count)),
    }
}

fn run_load(
    cluster: &Cluster,
    args: &CompareArgs,
    clients: Clients,
    prepare: impl Fn(&mut RunArgs),
) -> anyhow::Result<RunResult> {
    let mut run_args = RunArgs::measured(cluster.target(), args.warmup, args.duration);
    prepare(&mut run_args);
    // Declared beforehand, because only then it is known who leads; deleted before that, because a
    // trial that failed may have left messages.
    run_args.keep = true;
    let declare_args = declare_args(cluster, run_args.queue.clone());
    declare::delete(&declare_args)?;
    declare::execute(&declare_args)?;
    let outcome = place_clients(cluster, clients, &mut run_args)
        .and_then(|()| run::execute(&run_args, false))
        .and_then(verified);
    declare::delete(&declare_args)?;
    outcome
}

/// Points producers and consumers at nodes.
fn place_clients(cluster: &Cluster, clients: Clients, run: &mut RunArgs) -> anyhow::Result<()> {
    let all = cluster.target().uris;
    if clients == Clients::All || all.len() == 1 {
        return Ok(());
    }
    let leader = leader::of(cluster, &queue_name(&run.queue, 0))?;
    let here = |wanted: bool| {
        let chosen = all
            .iter()
            .enumerate()
            .filter(|(index, _)| (*index == leader) == wanted);
        chosen.map(|(_, uri)| uri.clone()).collect::<Vec<Uri>>()
    };
    if clients == Clients::Leader {
        run.target.uris = here(true);
    } else {
        let mut followers = here(false);
        run.producer_uris = followers.clone();
        followers.reverse();
        run.consumer_uris = followers;
    }
    Ok(())
}

/// A fast broker that loses messages is not fast.
fn verified(result: RunResult) -> anyhow::Result<RunResult> {
    if let Some(verdict) = &result.verdict
        && (verdict.lost, verdict.duplicates, verdict.out_of_order) != (0, 0, 0)
    {
        bail!(
            "{} lost, {} doubled, {} out of order",
            verdict.lost,
            verdict.duplicates,
            verdict.out_of_order
        );
    }
    if result.nacked + result.unsettled > 0 {
        bail!(
            "{} publishes refused, {} unanswered",
            result.nacked,
            result.unsettled
        );
    }
    Ok(result)
}

fn throughput(phase: Option<&Phase>, result: &RunResult) -> Vec<Figure> {
    let Some(phase) = phase else {
        return Vec::new();
    };
    let mut figures = Vec::new();
    if result.queues > result.producers {
        figures.push(Figure::higher("published", "msg/s", phase.sent_per_s));
    }
    figures.push(Figure::higher("delivered", "msg/s", phase.received_per_s));
    figures.extend(cpu("broker CPU", phase));
    figures
}

fn cpu(name: &'static str, phase: &Phase) -> Option<Figure> {
    phase
        .broker_cpu_us_per_message
        .map(|us| Figure::lower(name, "µs/msg", us))
}

fn run_declare(cluster: &Cluster, count: usize) -> anyhow::Result<Vec<Figure>> {
    let args = declare_args(cluster, replicated_queues(count));
    let result = declare::execute(&args)?;
    declare::delete(&args)?;
    let mut figures = vec![Figure::higher("declared", "/s", result.declared_per_s)];
    let nodes = cluster.len() as f64;
    figures.extend(
        result
            .broker_cpu_us_per_queue
            .map(|us| Figure::lower("CPU per queue", "ms", us / 1e3)),
    );
    figures.extend(result.broker_rss_bytes_per_queue.map(|bytes| {
        Figure::lower(
            "memory per queue and node",
            "KiB",
            bytes.max(0.0) / 1024.0 / nodes,
        )
    }));
    Ok(figures)
}

fn run_idle(cluster: &Cluster, count: usize) -> anyhow::Result<Vec<Figure>> {
    let args = declare_args(cluster, replicated_queues(count));
    declare::execute(&args)?;
    sleep(Duration::from_secs(3));
    let pids = cluster.target().broker_pids;
    let (before, since) = (usage_of(&pids)?, Instant::now());
    sleep(Duration::from_secs(5));
    let used_ns = usage_of(&pids)?.cpu_ns - before.cpu_ns;
    declare::delete(&args)?;
    let per_second = used_ns as f64 / 1e6 / since.elapsed().as_secs_f64();
    Ok(vec![Figure::lower("idle CPU", "ms/s", per_second)])
}

fn run_restart(cluster: &mut Cluster, count: usize) -> anyhow::Result<Vec<Figure>> {
    let args = declare_args(cluster, replicated_queues(count));
    declare::execute(&args)?;
    let last = cluster.len().saturating_sub(1);
    let since = Instant::now();
    cluster.stop_node(last);
    let stopped = since.elapsed();
    let since = Instant::now();
    cluster.spawn(last)?;
    cluster.await_service(last)?;
    // A node serves when it knows the queues.
    let mut connection = Connection::open(&cluster.uri(last)?, "after restart")?;
    connection.open_channel()?;
    let queue = ShortStr::try_from(queue_name(&args.queue, count - 1))?;
    let is_there = Method::QueueDeclare {
        queue,
        passive: true,
        durable: false,
        exclusive: false,
        auto_delete: false,
        no_wait: false,
        arguments: amqp_codec::FieldTable::empty(),
    };
    connection.call(CHANNEL, &is_there)?;
    let serves = since.elapsed();
    connection.close()?;
    declare::delete(&declare_args(cluster, replicated_queues(count)))?;
    Ok(vec![
        Figure::lower("stop", "s", stopped.as_secs_f64()),
        Figure::lower("start until it serves", "s", serves.as_secs_f64()),
    ])
}

fn run_connections(cluster: &Cluster, count: usize, at_once: usize) -> anyhow::Result<Vec<Figure>> {
    let args = ConnectionsArgs {
        target: cluster.target(),
        connections: count,
        threads: at_once,
        no_queue: false,
        hold: Duration::from_secs(1),
        until_stdin_ends: false,
    };
    let result = connections::execute(&args)?;
    // Until the broker has forgotten them, so that the next trial does not pay.
    sleep(Duration::from_secs(2));
    let mut figures = vec![Figure::higher("opened", "/s", result.opened_per_s)];
    figures.extend(
        result
            .broker_cpu_us_per_connection
            .map(|us| Figure::lower("CPU per connection", "ms", us / 1e3)),
    );
    figures.extend(
        result
            .broker_rss_bytes_per_connection
            .map(|bytes| Figure::lower("memory per connection", "KiB", bytes.max(0.0) / 1024.0)),
    );
    Ok(figures)
}

fn run_start(cluster: &mut Cluster) -> anyhow::Result<Vec<Figure>> {
    cluster.stop();
    for place in cluster.places() {
        if place.home.exists() {
            std::fs::remove_dir_all(&place.home)?;
        }
    }
    let since = Instant::now();
    cluster.start()?;
    let serves = since.elapsed();
    sleep(Duration::from_secs(3));
    let memory = usage_of(&cluster.target().broker_pids)?.rss_bytes;
    cluster.stop();
    Ok(vec![
        Figure::lower("start until it serves", "s", serves.as_secs_f64()),
        Figure::lower("idle memory", "MiB", memory as f64 / 1024.0 / 1024.0),
    ])
}

fn replicated_queues(count: usize) -> QueueArgs {
    QueueArgs {
        queue: "bench-many-%i".to_owned(),
        queues: count,
        durable: true,
        queue_type: Some("quorum".to_owned()),
        arguments: Vec::new(),
    }
}

fn declare_args(cluster: &Cluster, queue: QueueArgs) -> DeclareArgs {
    DeclareArgs {
        target: cluster.target(),
        connections: cluster.len().min(queue.queues),
        queue,
        pipeline: 1,
        keep: true,
        hold: Duration::ZERO,
    }
}
