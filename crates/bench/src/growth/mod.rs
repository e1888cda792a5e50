//! `growth`: how the cost and the latency of a message grow, drawn as charts.
//!
//! Each series varies one thing and keeps the rest: three nodes, one replicated queue, 1 KiB,
//! persistent, confirms. Cost is measured as fast as it goes, latency at a low fixed rate.

mod bindings;
mod chart;
mod held;
mod series;

use std::fs;

use anyhow::{Context as _, bail};
use serde::Serialize;

use crate::args::GrowthArgs;
use crate::brokers::{Broker, Directory};
use crate::output::{self, bytes, line};

use series::{SERIES, Series};

/// What was measured at one point of a series.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct Point {
    /// What the series varies.
    pub(super) x: u64,
    /// Messages per second, as fast as it goes.
    pub(super) rate: f64,
    /// Processor time of all nodes per message in microseconds, as fast as it goes.
    pub(super) cpu_us: f64,
    /// The same for taking out what waited; backlog only.
    pub(super) drain_cpu_us: Option<f64>,
    /// Messages per second of taking out what waited; backlog only.
    pub(super) drain_rate: Option<f64>,
    /// Median from publish to confirm at the fixed rate, in milliseconds.
    pub(super) confirm_p50_ms: Option<f64>,
    /// The 99th percentile of the same.
    pub(super) confirm_p99_ms: Option<f64>,
    /// Resident memory of one node in MiB, the mean of all.
    pub(super) rss_mib: f64,
}

/// Measures the series, writes a chart and the figures of each.
pub(crate) fn main(args: &GrowthArgs) -> anyhow::Result<()> {
    let chosen = choose(&args.series)?;
    let broker = Broker::warren(&args.warren)?;
    fs::create_dir_all(&args.out).with_context(|| format!("creating {}", args.out.display()))?;
    for series in chosen {
        let directory = Directory::new(None)?;
        let mut points = Vec::new();
        line(series.title);
        series::measure(series, &broker, directory.path(), args, &mut |point| {
            print(&point);
            points.push(point);
        })?;
        let path = |kind: &str| args.out.join(format!("{}.{kind}", series.id));
        fs::write(path("json"), serde_json::to_string_pretty(&points)? + "\n")?;
        chart::draw(&path("svg"), series, &points)
            .with_context(|| format!("drawing {}", path("svg").display()))?;
    }
    Ok(())
}

fn print(point: &Point) {
    let optional = |value: Option<f64>, unit: &str| {
        value.map_or_else(|| "–".to_owned(), |value| format!("{value:.2} {unit}"))
    };
    line(&format!(
        "  {:>12}: {:>9}/s  {:>7.2} µs  drain {} at {}  confirm p50 {} p99 {}  {} a node",
        output::thousands(point.x as f64),
        output::thousands(point.rate),
        point.cpu_us,
        optional(point.drain_cpu_us, "µs"),
        optional(point.drain_rate, "/s"),
        optional(point.confirm_p50_ms, "ms"),
        optional(point.confirm_p99_ms, "ms"),
        bytes(point.rss_mib * 1024.0 * 1024.0),
    ));
}

fn choose(ids: &[String]) -> anyhow::Result<Vec<&'static Series>> {
    for id in ids {
        if !SERIES.iter().any(|series| series.id == id) {
            let known: Vec<_> = SERIES.iter().map(|series| series.id).collect();
            bail!("there is no series '{id}'; there are {}", known.join(", "));
        }
    }
    let wanted = |series: &&Series| ids.is_empty() || ids.iter().any(|id| series.id == id);
    Ok(SERIES.iter().filter(wanted).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_chosen_by_name() {
        assert_eq!(choose(&[]).unwrap().len(), SERIES.len());
        let chosen = choose(&["nodes".to_owned(), "size".to_owned()]).unwrap();
        let ids: Vec<_> = chosen.iter().map(|series| series.id).collect();
        assert_eq!(ids, ["size", "nodes"]);
        assert!(choose(&["depth".to_owned()]).is_err());
    }
}
