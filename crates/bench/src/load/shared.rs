//! What the threads of a run share: signals and counters.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::Ledger;

/// Signals to the threads, and what they have done.
///
/// Counters are added to once per read or write, not per message.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Tells the messages of this run from what an earlier one has left in a broker.
    pub(crate) run: u16,
    /// Producers begin.
    pub(crate) go: Signal,
    /// Latencies count.
    pub(crate) measuring: Signal,
    /// Producers end, after their confirms.
    pub(crate) stop_producing: Signal,
    /// Consumers end, after their acknowledgements.
    pub(crate) stop_consuming: Signal,
    /// Nobody waits for anything any more.
    pub(crate) abort: Signal,
    pub(crate) sent: Counter,
    pub(crate) confirmed: Counter,
    pub(crate) nacked: Counter,
    pub(crate) received: Counter,
    pub(crate) producers_running: Counter,
    pub(crate) ledger: Ledger,
    failure: Mutex<Option<anyhow::Error>>,
}

impl Shared {
    pub(crate) fn new(queues: usize) -> Self {
        Self {
            run: run_id(),
            go: Signal::default(),
            measuring: Signal::default(),
            stop_producing: Signal::default(),
            stop_consuming: Signal::default(),
            abort: Signal::default(),
            sent: Counter::default(),
            confirmed: Counter::default(),
            nacked: Counter::default(),
            received: Counter::default(),
            producers_running: Counter::default(),
            ledger: Ledger::new(queues),
            failure: Mutex::default(),
        }
    }

    /// A thread has failed: the first failure is the run's, all others follow from it.
    pub(crate) fn fail(&self, error: anyhow::Error) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.abort.is_set() {
            *failure = Some(error);
        }
        self.abort.set();
    }

    /// What went wrong, if anything.
    pub(crate) fn take_failure(&self) -> Option<anyhow::Error> {
        self.failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

/// A number that runs one after the other are unlikely to share.
fn run_id() -> u16 {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    (since.as_millis() as u16) ^ (std::process::id() as u16).rotate_left(7)
}

/// Set once by one thread, looked at by others.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Signal(AtomicBool);

impl Signal {
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub(crate) fn clear(&self) {
        self.0.store(false, Ordering::Release);
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// A count on a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn subtract_one(&self) {
        self.0.fetch_sub(1, Ordering::Release);
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}
