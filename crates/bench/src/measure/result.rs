//! Snapshots of the counters and what lies between two of them.

use serde::Serialize;

use super::{LatencySummary, Usage};

/// The counters at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Snapshot {
    pub(crate) at_ns: u64,
    pub(crate) sent: u64,
    pub(crate) confirmed: u64,
    pub(crate) nacked: u64,
    pub(crate) received: u64,
    /// `None` if no processes were named.
    pub(crate) broker: Option<Usage>,
    pub(crate) client_cpu_ns: u64,
}

/// What happened between two snapshots.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct Phase {
    pub(crate) seconds: f64,
    pub(crate) sent: u64,
    pub(crate) confirmed: u64,
    pub(crate) nacked: u64,
    pub(crate) received: u64,
    pub(crate) sent_per_s: f64,
    pub(crate) confirmed_per_s: f64,
    pub(crate) received_per_s: f64,
    /// Processor time of the broker for each message: delivered ones if there are consumers, else
    /// confirmed ones, else sent ones.
    pub(crate) broker_cpu_us_per_message: Option<f64>,
    /// Cores that the broker kept busy.
    pub(crate) broker_cores: Option<f64>,
    /// Resident memory of the broker at the end.
    pub(crate) broker_rss_bytes: Option<u64>,
    pub(crate) client_cpu_us_per_message: Option<f64>,
    /// From send to confirm.
    pub(crate) confirm: Option<LatencySummary>,
    /// From send to receipt.
    pub(crate) end_to_end: Option<LatencySummary>,
}

impl Phase {
    /// What lies between two snapshots, without latencies.
    pub(crate) fn between(from: &Snapshot, to: &Snapshot) -> Self {
        let elapsed_ns = to.at_ns.saturating_sub(from.at_ns);
        let seconds = elapsed_ns as f64 / 1e9;
        let sent = to.sent.saturating_sub(from.sent);
        let confirmed = to.confirmed.saturating_sub(from.confirmed);
        let received = to.received.saturating_sub(from.received);
        let messages = [received, confirmed, sent]
            .into_iter()
            .find(|count| *count > 0);
        let broker_cpu_ns = match (from.broker, to.broker) {
            (Some(from), Some(to)) => Some(to.cpu_ns.saturating_sub(from.cpu_ns)),
            _ => None,
        };
        let client_cpu_ns = to.client_cpu_ns.saturating_sub(from.client_cpu_ns);
        let per_message = |cpu_ns: u64| messages.map(|count| cpu_ns as f64 / 1e3 / count as f64);
        let per_second = |count: u64| {
            if elapsed_ns == 0 {
                0.0
            } else {
                count as f64 / seconds
            }
        };
        Self {
            seconds,
            sent,
            confirmed,
            nacked: to.nacked.saturating_sub(from.nacked),
            received,
            sent_per_s: per_second(sent),
            confirmed_per_s: per_second(confirmed),
            received_per_s: per_second(received),
            broker_cpu_us_per_message: broker_cpu_ns.and_then(per_message),
            broker_cores: broker_cpu_ns.map(|cpu_ns| per_second(cpu_ns) / 1e9),
            broker_rss_bytes: to.broker.map(|usage| usage.rss_bytes),
            client_cpu_us_per_message: per_message(client_cpu_ns),
            confirm: None,
            end_to_end: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(at_s: u64, sent: u64, confirmed: u64, received: u64, cpu_ms: u64) -> Snapshot {
        Snapshot {
            at_ns: at_s * 1_000_000_000,
            sent,
            confirmed,
            received,
            broker: Some(Usage {
                cpu_ns: cpu_ms * 1_000_000,
                rss_bytes: 7,
            }),
            ..Snapshot::default()
        }
    }

    #[test]
    fn what_a_message_is() {
        let start = snapshot(1, 100, 100, 100, 10);
        for (end, expected) in [
            (snapshot(3, 2100, 1100, 600, 20), 20.0), // 500 deliveries in 10 ms.
            (snapshot(3, 2100, 1100, 100, 20), 10.0),
            (snapshot(3, 2100, 100, 100, 20), 5.0),
        ] {
            let phase = Phase::between(&start, &end);
            assert_eq!(phase.broker_cpu_us_per_message, Some(expected));
            assert_eq!(phase.sent_per_s, 1000.0);
            assert_eq!(phase.broker_cores, Some(0.005));
        }
        let nothing = Phase::between(&start, &start);
        assert_eq!(
            (nothing.sent_per_s, nothing.broker_cpu_us_per_message),
            (0.0, None)
        );
    }
}
