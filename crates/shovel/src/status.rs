//! How a shovel is doing, as the operator is told.

use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Reasons are cut to so many bytes: some come from other brokers.
const REASON_MAX: usize = 1024;
/// Stands for "no limit" in a counter.
const UNLIMITED: u64 = u64::MAX;

/// Where a shovel is in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It connects.
    Starting,
    /// It moves messages.
    Running(Running),
    /// It has failed, and may be tried again.
    Terminated {
        /// Why.
        reason: String,
    },
}

/// What it moves from where to where.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Running {
    /// What is told of the two ends, by RabbitMQ's names.
    pub ends: Vec<(&'static str, String)>,
}

/// Whether the destination takes what it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Blocked {
    /// It does.
    #[default]
    No,
    /// Slowly: the source is not read for the moment.
    Flow,
    /// It has told that it does not, for want of memory or disk.
    Yes,
}

impl Blocked {
    /// RabbitMQ's name for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::No => "running",
            Self::Flow => "flow",
            Self::Yes => "blocked",
        }
    }
}

#[derive(Debug)]
struct Shown {
    state: State,
    blocked: Blocked,
    since_s: u64,
}

/// Written by the worker, read by whoever asks.
#[derive(Debug)]
pub struct Status {
    shown: Mutex<Shown>,
    remaining: AtomicU64,
    remaining_unacked: AtomicU64,
    pending: AtomicU64,
    forwarded: AtomicU64,
}

/// A status as it was at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Report {
    pub state: State,
    pub blocked: Blocked,
    /// When the state was entered, seconds since the Unix epoch.
    pub since_s: u64,
    /// Messages until it ends by itself; `None`: it does not.
    pub remaining: Option<u64>,
    pub remaining_unacked: Option<u64>,
    /// Messages that wait here because the destination is blocked.
    pub pending: u64,
    /// Messages that were published since it began to run.
    pub forwarded: u64,
}

impl Default for Status {
    fn default() -> Self {
        Self {
            shown: Mutex::new(Shown {
                state: State::Starting,
                blocked: Blocked::No,
                since_s: now_s(),
            }),
            remaining: AtomicU64::new(UNLIMITED),
            remaining_unacked: AtomicU64::new(UNLIMITED),
            pending: AtomicU64::new(0),
            forwarded: AtomicU64::new(0),
        }
    }
}

impl Status {
    /// The state is another one from now on.
    pub fn enter(&self, state: State) {
        let mut shown = self.shown.lock();
        shown.state = state;
        shown.blocked = Blocked::No;
        shown.since_s = now_s();
    }

    /// It has failed.
    pub fn terminated(&self, reason: &str) {
        let end = (0..=REASON_MAX.min(reason.len()))
            .rev()
            .find(|at| reason.is_char_boundary(*at));
        let reason = reason.get(..end.unwrap_or(0)).unwrap_or_default();
        self.enter(State::Terminated {
            reason: reason.to_owned(),
        });
    }

    pub(crate) fn set_blocked(&self, blocked: Blocked) {
        self.shown.lock().blocked = blocked;
    }

    pub(crate) fn count(
        &self,
        remaining: Option<u64>,
        unacked: Option<u64>,
        pending: usize,
        forwarded: u64,
    ) {
        let limit = |count: Option<u64>| count.unwrap_or(UNLIMITED);
        self.remaining.store(limit(remaining), Ordering::Relaxed);
        self.remaining_unacked
            .store(limit(unacked), Ordering::Relaxed);
        self.pending.store(pending as u64, Ordering::Relaxed);
        self.forwarded.store(forwarded, Ordering::Relaxed);
    }

    /// How it is doing now.
    #[must_use]
    pub fn report(&self) -> Report {
        let limit = |count: &AtomicU64| {
            Some(count.load(Ordering::Relaxed)).filter(|count| *count != UNLIMITED)
        };
        let shown = self.shown.lock();
        Report {
            state: shown.state.clone(),
            blocked: shown.blocked,
            since_s: shown.since_s,
            remaining: limit(&self.remaining),
            remaining_unacked: limit(&self.remaining_unacked),
            pending: self.pending.load(Ordering::Relaxed),
            forwarded: self.forwarded.load(Ordering::Relaxed),
        }
    }
}

/// Seconds since the Unix epoch.
pub(crate) fn now_s() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
