//! How long this node's disk takes for a sync, lately.
//!
//! Voters answer a candidate after they have synced their vote. Where that takes as long as a candidate waits, no election
//! ends; whoever is to lead for no other reason than that leaders be spread must not be asked then: the leader would be
//! deposed for nobody.

use parking_lot::Mutex;
use std::time::Duration;
use tokio::time::Instant;

/// What is counted is that of the time since two of these ended, as far as there were syncs.
const WINDOW: Duration = Duration::from_secs(5);

/// All syncs since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counted {
    /// How many.
    pub(crate) syncs: u64,
    /// What they took together, in microseconds.
    pub(crate) micros: u64,
}

/// Syncs of this node's log, as looked at now and then.
#[derive(Debug, Default)]
pub(crate) struct Syncs(Mutex<Marks>);

#[derive(Debug, Default)]
struct Marks {
    /// Where the window begins.
    from: Counted,
    /// Where the next one will begin, and since when.
    next: Option<(Counted, Instant)>,
    /// At the last look.
    last: Counted,
    /// For how long one had been under way at the last look.
    under_way: Duration,
}

impl Syncs {
    /// What has been counted until now, and for how long a sync has been under way.
    pub(crate) fn look(&self, now: Counted, under_way: Duration) {
        let mut marks = self.0.lock();
        marks.last = now;
        marks.under_way = under_way;
        match marks.next {
            None => marks.next = Some((now, Instant::now())),
            // Without any since, those before are the last ones.
            Some((next, since)) if since.elapsed() >= WINDOW && next.syncs < now.syncs => {
                marks.from = next;
                marks.next = Some((now, Instant::now()));
            }
            Some(_) => {}
        }
    }

    /// What a sync took on the average lately, or what the one takes that is under way, if that is longer.
    pub(crate) fn recent(&self) -> Duration {
        let marks = self.0.lock();
        let syncs = marks.last.syncs.saturating_sub(marks.from.syncs);
        let micros = marks.last.micros.saturating_sub(marks.from.micros);
        let mean = micros.checked_div(syncs).unwrap_or(0);
        Duration::from_micros(mean).max(marks.under_way)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_last_syncs_count_and_not_those_long_ago() {
        let syncs = Syncs::default();
        assert_eq!(syncs.recent(), Duration::ZERO);
        let mut counted = Counted::default();
        let mut run = async |each_ms: u64, looks: u32| {
            for _ in 0..looks {
                counted.syncs += 2;
                counted.micros += 2_000 * each_ms;
                syncs.look(counted, Duration::ZERO);
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            syncs.recent()
        };
        assert_eq!(run(5, 20).await, Duration::from_millis(5));
        // One slow one says little.
        assert!(run(100, 1).await < Duration::from_millis(40));
        assert_eq!(run(400, 15).await, Duration::from_millis(400));
        assert_eq!(run(5, 15).await, Duration::from_millis(5));
        assert_eq!(run(400, 15).await, Duration::from_millis(400));
        // Nothing is written any more: what is known of the disk stays.
        for _ in 0..30 {
            syncs.look(counted, Duration::ZERO);
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(syncs.recent(), Duration::from_millis(400));
        syncs.look(counted, Duration::from_secs(2));
        assert_eq!(syncs.recent(), Duration::from_secs(2));
    }
}
