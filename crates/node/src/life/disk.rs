//! Keeps the disk's reserve: before it is used up this node hands its leaderships away and takes no
//! more log; when there is space again it takes part as before.
//!
//! Writing on until a write fails would stop the process: what a failed sync leaves on a disk cannot
//! be relied on.

use super::process;
use consensus::Consensus;
use consensus::ticks::{self, next_of};
use std::path::PathBuf;
use std::sync::Arc;
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

/// From one time to the next that the state is asked to give back the space of what was consumed, while it is short.
const GIVE_BACK: Duration = Duration::from_secs(5);

/// Asks the state to give back space, now and then, one time after the other.
struct GivesBack {
    state: Arc<StateStore>,
    under_way: Option<JoinHandle<()>>,
    next: Instant,
}

impl GivesBack {
    fn new(state: Arc<StateStore>) -> Self {
        Self {
            state,
            under_way: None,
            next: Instant::now(),
        }
    }

    /// Space is short.
    fn ask(&mut self) {
        self.under_way.take_if(|task| task.is_finished());
        if self.under_way.is_some() || Instant::now() < self.next {
            return;
        }
        self.next = Instant::now() + GIVE_BACK;
        let state = Arc::clone(&self.state);
        self.under_way = Some(tokio::task::spawn_blocking(move || {
            if let Err(error) = state.give_back_space() {
                error!(%error, "the space of what was consumed is not given back");
            }
        }));
    }
}

/// Runs until the node stops. To be started before the node announces itself: a node may start with
/// a full disk. Below `alarm`, where publishers are blocked, no log is kept for members that are away: blocked for their sake, publishers
/// would wait until they come back.
pub(crate) async fn keep_reserve(
    consensus: Consensus,
    state: Arc<StateStore>,
    free: FreeSpace,
    reserve: u64,
    alarm: u64,
) {
    let mut gives_back = GivesBack::new(state);
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
        consensus.set_short_of_space(short);
        if short {
            gives_back.ask();
        }
        match step(now, reserve, consensus.is_writable()) {
            Step::Stay => {}
            Step::Close => {
                error!(
                    free = now,
                    reserve,
                    "the disk is nearly full: this node leads nothing and writes nothing until there is space"
                );
                consensus.hand_over(HAND_OVER).await;
                consensus.set_writable(false);
            }
            Step::Open => {
                consensus.set_writable(true);
                info!(
                    free = now,
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
