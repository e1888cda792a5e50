//! openraft's clock, which runs slower where messages or syncs take long.
//!
//! openraft takes all its times from one configuration that is fixed at the start: how long an election waits for votes,
//! how long a follower waits for its leader, how long a heartbeat may take. Times that suit one data centre let no election
//! end where a message takes 200 ms, or a sync half a second; times that suit those make every fault last longer elsewhere.
//! So openraft is told a time that passes `1 / factor` as fast, see [`Pace`] for when: all its times grow together.
//!
//! There is one such clock in a process, because openraft asks for the time without saying for whom; simulated nodes that
//! share a process have one each ([`SimulatedClock`]). Nothing but how long things take depends on it: which leader counts
//! is for terms and logs to say.

mod pace;
mod runtime;
mod told;

pub(crate) use self::runtime::Runtime;

use self::pace::Pace;
use self::told::Slowed;
use parking_lot::{Mutex, RwLock};
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;
use tokio::time::Instant;

struct Clock {
    /// Whether it ever ran slower: until then both times are the same.
    ever: AtomicBool,
    factor: AtomicU32,
    slowed: RwLock<Option<Slowed>>,
    pace: Mutex<Pace>,
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock {
    const fn new() -> Self {
        Self {
            ever: AtomicBool::new(false),
            factor: AtomicU32::new(1),
            slowed: RwLock::new(None),
            pace: Mutex::new(Pace::new()),
        }
    }

    fn told(&self, at: Instant) -> Instant {
        if !self.ever.load(Ordering::Acquire) {
            return at;
        }
        self.slowed.read().map_or(at, |slowed| slowed.told(at))
    }

    fn real(&self, told: Instant) -> Instant {
        if !self.ever.load(Ordering::Acquire) {
            return told;
        }
        self.slowed.read().map_or(told, |slowed| slowed.real(told))
    }

    fn factor(&self) -> u32 {
        self.factor.load(Ordering::Relaxed)
    }

    fn follow(&self, factor: Option<u32>, now: Instant) {
        let Some(factor) = factor else { return };
        {
            let mut slowed = self.slowed.write();
            let before = slowed.unwrap_or_else(|| Slowed::starting(now));
            *slowed = Some(before.changed(factor, now));
        }
        self.ever.store(true, Ordering::Release);
        self.factor.store(factor, Ordering::Relaxed);
        tracing::info!(
            factor,
            "messages between nodes or syncs take long, or no longer: elections and leases last so many times as long"
        );
    }
}

static OF_THE_PROCESS: Clock = Clock::new();

thread_local! {
    /// The clock of what this thread runs, if it is not that of the process. Tests each have one of their own.
    static OF_THE_THREAD: RefCell<Option<Arc<Clock>>> =
        RefCell::new(cfg!(test).then(|| Arc::new(Clock::new())));
}

fn with<T>(use_it: impl FnOnce(&Clock) -> T) -> T {
    OF_THE_THREAD.with_borrow(|own| use_it(own.as_deref().unwrap_or(&OF_THE_PROCESS)))
}

/// A clock for one node of several that are simulated in a process. Each has a runtime of one thread and a time of
/// its own, so that one clock would go back for some of them when it changes its pace for another.
#[derive(Default)]
pub struct SimulatedClock(Arc<Clock>);

impl SimulatedClock {
    /// Runs something of that node: until it returns, this thread goes by the node's clock.
    pub fn during<T>(&self, run: impl FnOnce() -> T) -> T {
        struct Restore(Option<Arc<Clock>>);
        impl Drop for Restore {
            fn drop(&mut self) {
                OF_THE_THREAD.set(self.0.take());
            }
        }
        let _restore = Restore(OF_THE_THREAD.replace(Some(Arc::clone(&self.0))));
        run()
    }
}

impl std::fmt::Debug for SimulatedClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SimulatedClock(1 / {})", self.0.factor())
    }
}

/// How many times as long as configured everything lasts for openraft now.
pub(crate) fn factor() -> u32 {
    with(Clock::factor)
}

/// How long what lasts `configured` for openraft really lasts.
pub(crate) fn stretched(configured: Duration) -> Duration {
    configured.saturating_mul(factor())
}

/// Notes that something an election waits for took so long, where `patience` is how long it is waited for by
/// configuration.
pub(crate) fn took(time: Duration, patience: Duration) {
    let now = Instant::now();
    with(|clock| {
        let factor = clock.pace.lock().took(time, patience, now);
        clock.follow(factor, now);
    });
}

/// To be called now and then: a clock that has not been found too fast for a while runs as configured again.
pub(crate) fn look() {
    let now = Instant::now();
    with(|clock| {
        if clock.factor() > 1 {
            let factor = clock.pace.lock().look(now);
            clock.follow(factor, now);
        }
    });
}
