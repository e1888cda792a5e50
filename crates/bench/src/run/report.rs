//! The result of a run, as JSON and as text.

use serde::Serialize;

use crate::load::Verdict;
use crate::measure::{LatencySummary, Phase};
use crate::output::{bytes, duration_ns, line, thousands};

/// The result of a run.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct RunResult {
    pub(crate) size: usize,
    pub(crate) producers: usize,
    pub(crate) consumers: usize,
    pub(crate) queues: usize,
    /// The measured time, or the whole run if it was for a number of messages.
    pub(crate) measured: Option<Phase>,
    pub(crate) fill: Option<Phase>,
    pub(crate) drain: Option<Phase>,
    /// Counts of the whole run, warm-up included.
    pub(crate) sent: u64,
    /// Publishes that were neither confirmed nor refused.
    pub(crate) unsettled: u64,
    pub(crate) nacked: u64,
    pub(crate) received: u64,
    /// `None` without consumers, and with queues that may hold older messages.
    pub(crate) verdict: Option<Verdict>,
}

/// Prints the result for people.
pub(super) fn print(result: &RunResult) {
    line(&format!(
        "{} producers, {} consumers, {} queues, {} bytes",
        result.producers, result.consumers, result.queues, result.size
    ));
    for (label, phase) in [
        ("measured", &result.measured),
        ("fill", &result.fill),
        ("drain", &result.drain),
    ] {
        if let Some(phase) = phase {
            print_phase(label, phase);
        }
    }
    line(&format!(
        "in all: {} sent, {} received, {} refused, {} unanswered",
        thousands(result.sent as f64),
        thousands(result.received as f64),
        thousands(result.nacked as f64),
        thousands(result.unsettled as f64)
    ));
    if let Some(Verdict {
        lost,
        duplicates,
        out_of_order,
        redelivered,
        foreign,
    }) = result.verdict
    {
        line(&format!(
            "lost {lost}, doubled {duplicates}, out of order {out_of_order}, redelivered \
             {redelivered}, of other runs {foreign}"
        ));
    }
}

fn print_phase(label: &str, phase: &Phase) {
    line(&format!("{label} ({:.1} s)", phase.seconds));
    for (name, count, rate) in [
        ("sent", phase.sent, phase.sent_per_s),
        ("confirmed", phase.confirmed, phase.confirmed_per_s),
        ("received", phase.received, phase.received_per_s),
    ] {
        if count > 0 {
            line(&format!("  {name:<12} {:>12}/s", thousands(rate)));
        }
    }
    if let Some(us) = phase.broker_cpu_us_per_message {
        let cores = phase.broker_cores.unwrap_or_default();
        line(&format!(
            "  broker CPU   {us:>11.2} µs per message ({cores:.2} cores)"
        ));
    }
    if let Some(rss) = phase.broker_rss_bytes {
        line(&format!("  broker RSS   {:>12}", bytes(rss as f64)));
    }
    if let Some(us) = phase.client_cpu_us_per_message {
        line(&format!("  client CPU   {us:>11.2} µs per message"));
    }
    for (name, summary) in [
        ("confirm", &phase.confirm),
        ("end to end", &phase.end_to_end),
    ] {
        if let Some(summary) = summary {
            line(&format!("  {name:<12} {}", percentiles(summary)));
        }
    }
}

/// The percentiles of a latency on one line.
fn percentiles(summary: &LatencySummary) -> String {
    format!(
        "p50 {}  p90 {}  p99 {}  p99.9 {}  max {}",
        duration_ns(summary.p50_ns),
        duration_ns(summary.p90_ns),
        duration_ns(summary.p99_ns),
        duration_ns(summary.p999_ns),
        duration_ns(summary.max_ns)
    )
}
