//! Keeps the disk's reserve: before it is used up this node hands its leaderships away and takes no
//! more log; when there is space again it takes part as before.
//!
//! Writing on until a write fails would stop the process: what a failed sync leaves on a disk cannot
//! be relied on.

use super::process;
use crate::host::local_store::LocalStore;
use consensus::Consensus;
use consensus::ticks::{self, next_of};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use storage::StateStore;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::{error, info};

/// How often the free space is looked at when it may soon be at a limit …
const OFTEN: Duration = Duration::from_millis(100);
/// … and when it is far from all.
const SELDOM: Duration = Duration::from_millis(400);
/// Bytes that all who use a disk write in a second, on a fast one.
pub(super) const FILLED_PER_SECOND: u64 = 4 << 30;
/// How long leaderships may take to move before the log is closed: the reserve has to last for it.
const HAND_OVER: Duration = Duration::from_millis(700);

/// Tells the free bytes of the disk that holds the data; `None` if that cannot be told.
pub type FreeSpace = Arc<dyn Fn() -> Option<u64> + Send + Sync>;

/// What the file system of `data_dir` says.
#[must_use]
pub fn free_space(data_dir: PathBuf) -> FreeSpace {
    Arc::new(move || process::disk_free(&data_dir))
}

/// What to do about the free space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Stay,
    /// The reserve is reached.
    Close,
    /// There is enough space again.
    Open,
}

/// Opens only with a tenth more than the reserve, so that it does not go back and forth.
fn step(free: Option<u64>, reserve: u64, writable: bool) -> Step {
    match free {
        Some(free) if writable && free < reserve => Step::Close,
        Some(free) if !writable && free >= reserve.saturating_add(reserve / 10) => Step::Open,
        _ => Step::Stay,
    }
}

/// From one time to the next that the state is asked to give back the space of what was consumed, while it is short …
const GIVE_BACK: Duration = Duration::from_secs(5);
/// … and otherwise.
const GIVE_BACK_SELDOM: Duration = Duration::from_secs(120);
/// What this may take of a processor, as one part of so many.
const GIVE_BACK_PART: u32 = 50;

/// Asks the stores to give back space, now and then, one time after the other.
struct GivesBack {
    state: Arc<StateStore>,
    local: Arc<LocalStore>,
    under_way: Option<JoinHandle<()>>,
    began: Instant,
    /// How long the last time took.
    took: Arc<AtomicU64>,
}

impl GivesBack {
    fn new(state: Arc<StateStore>, local: Arc<LocalStore>) -> Self {
        Self {
            state,
            local,
            under_way: None,
            began: Instant::now(),
            took: Arc::default(),
        }
    }

    fn look(&mut self, short: bool) {
        self.under_way.take_if(|task| task.is_finished());
        let took = Duration::from_millis(self.took.load(Ordering::Relaxed));
        let pause = if short {
            GIVE_BACK
        } else {
            GIVE_BACK_SELDOM.max(took * GIVE_BACK_PART)
        };
        if self.under_way.is_some() || self.began.elapsed() < pause {
            return;
        }
        self.began = Instant::now();
        let (state, local) = (Arc::clone(&self.state), Arc::clone(&self.local));
        let took = Arc::clone(&self.took);
        self.under_way = Some(tokio::task::spawn_blocking(move || {
            let began = Instant::now();
            for given_back in [state.give_back_space(short), local.give_back_space(short)] {
                if let Err(error) = given_back {
                    error!(%error, "the space of what was consumed is not given back");
                }
            }
            let millis = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
            took.store(millis, Ordering::Relaxed);
        }));
    }
}

/// Runs until the node stops. To be started before the node announces itself: a node may start with
/// a full disk. Below `alarm`, where publishers are blocked, no log is kept for members that are away: blocked for their sake, publishers
/// would wait until they come back.
pub(crate) async fn keep_reserve(
    consensus: Consensus,
    (state, local): (Arc<StateStore>, Arc<LocalStore>),
    free: FreeSpace,
    reserve: u64,
    alarm: u64,
) {
    let mut gives_back = GivesBack::new(state, local);
    let mut short = false;
    loop {
        // What is yet to be stored takes its room whatever is done now.
        let now = free().map(|free| free.saturating_sub(consensus.unstored_bytes()));
        match step(now, alarm, !short) {
            Step::Stay => {}
            Step::Close => short = true,
            Step::Open => short = false,
        }
        // What is taken is written twice before the first copy can go: into the log, and as state.
        consensus.set_room(now.map_or(u64::MAX, |free| free.saturating_sub(reserve) / 2));
        // The last half of the reserve is for what has to be written whatever comes.
        consensus
            .set_catalog_room(now.map_or(u64::MAX, |free| free.saturating_sub(reserve / 2) / 2));
        consensus.set_short_of_space(short);
        gives_back.look(short);
        match step(now, reserve, consensus.is_writable()) {
            Step::Stay => {}
            Step::Close => {
                error!(
                    left = now,
                    reserve,
                    "the disk is nearly full: this node leads nothing and writes no messages until there is space"
                );
                consensus.hand_over(HAND_OVER).await;
                consensus.set_writable(false);
            }
            Step::Open => {
                consensus.set_writable(true);
                info!(
                    left = now,
                    reserve, "there is space on the disk again: this node takes part"
                );
            }
        }
        let away = [alarm, reserve].map(|limit| now.map_or(u64::MAX, |free| free.abs_diff(limit)));
        let away = away[0].min(away[1]);
        next_of(ticks::pause(away, FILLED_PER_SECOND, OFTEN, SELDOM)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closes_at_the_reserve_and_opens_above_it() {
        for (free, writable, expected) in [
            (Some(1000), true, Step::Stay),
            (Some(999), true, Step::Close),
            (Some(0), true, Step::Close),
            (None, true, Step::Stay),
            (Some(1000), false, Step::Stay),
            (Some(1099), false, Step::Stay),
            (Some(1100), false, Step::Open),
            (None, false, Step::Stay),
        ] {
            assert_eq!(step(free, 1000, writable), expected, "{free:?} {writable}");
        }
        // No reserve wanted.
        assert_eq!(step(Some(0), 0, true), Step::Stay);
    }
}
