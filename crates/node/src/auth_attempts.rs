//! How many have tried to log in, by how they came.

use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicU64, Ordering};

/// How somebody comes who wants to log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// With a client's connection.
    Amqp,
    /// With a request to the management API.
    Http,
}

/// Logins of a node since its start, or since somebody began to count anew.
#[derive(Debug, Default)]
pub struct AuthAttempts {
    amqp: Attempts,
    http: Attempts,
}

#[derive(Debug, Default)]
struct Attempts {
    succeeded: AtomicU64,
    failed: AtomicU64,
}

/// Logins by one protocol.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptsReport {
    /// By RabbitMQ's name for it.
    pub protocol: String,
    /// Those that were let in.
    pub succeeded: u64,
    /// Those that were not.
    pub failed: u64,
}

impl AuthAttempts {
    const fn of(&self, door: Door) -> &Attempts {
        match door {
            Door::Amqp => &self.amqp,
            Door::Http => &self.http,
        }
    }

    pub(crate) fn count(&self, door: Door, succeeded: bool) {
        let attempts = self.of(door);
        let count = if succeeded {
            &attempts.succeeded
        } else {
            &attempts.failed
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts of the protocols by which anybody has tried.
    pub(crate) fn reports(&self) -> Vec<AttemptsReport> {
        let doors = [("amqp091", Door::Amqp), ("http", Door::Http)];
        let reports = doors.map(|(protocol, door)| AttemptsReport {
            protocol: protocol.to_owned(),
            succeeded: self.of(door).succeeded.load(Ordering::Relaxed),
            failed: self.of(door).failed.load(Ordering::Relaxed),
        });
        let tried = reports
            .into_iter()
            .filter(|report| report.succeeded + report.failed > 0);
        tried.collect()
    }

    /// Counts anew.
    pub(crate) fn reset(&self) {
        for door in [Door::Amqp, Door::Http] {
            let attempts = self.of(door);
            attempts.succeeded.store(0, Ordering::Relaxed);
            attempts.failed.store(0, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_tried_is_not_told() {
        let attempts = AuthAttempts::default();
        assert_eq!(attempts.reports(), []);
        attempts.count(Door::Http, true);
        attempts.count(Door::Http, true);
        attempts.count(Door::Http, false);
        let http = AttemptsReport {
            protocol: "http".into(),
            succeeded: 2,
            failed: 1,
        };
        assert_eq!(attempts.reports(), [http]);
        attempts.reset();
        assert_eq!(attempts.reports(), []);
    }
}
