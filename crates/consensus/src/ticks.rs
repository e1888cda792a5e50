//! Timers that fall due together.
//!
//! A node has dozens of tasks that look at something now and then. Each by its own clock would wake an idle process
//! several hundred times a second, which is most of what an idle process costs. All on one grid they share a wake.

use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until};

/// Ticks every `period`, at the same moments as all others of this process with this period or a multiple of it. The
/// first comes after a whole period at most; missed ones are skipped.
#[must_use]
pub fn every(period: Duration) -> Interval {
    let mut ticks = interval_at(next(Instant::now(), period), period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticks
}

/// Waits for the next moment of the grid of `period`: for looks whose period changes from one to the next.
pub async fn next_of(period: Duration) {
    sleep_until(next(Instant::now(), period)).await;
}

/// Between two looks at something that runs short: `often` while it might run out before a look after `seldom`, going by
/// what is left and the most that is used of it in a second.
#[must_use]
pub fn pause(left: u64, used_per_second: u64, often: Duration, seldom: Duration) -> Duration {
    let lasts = Duration::from_secs_f64(left as f64 / used_per_second.max(1) as f64);
    if lasts > seldom { seldom } else { often }
}

static ORIGIN: OnceLock<Instant> = OnceLock::new();

/// A multiple of all periods of grids.
const ROUND: Duration = Duration::from_secs(60);

/// Lays the grid of this process on the system's clock, so that processes of a cluster wake at the same moments: what
/// one sends to another arrives while that is awake anyway. Of use before the first timer only; nothing but the cost
/// depends on it, so a clock that is wrong, or set, does no harm.
pub fn follow_system_clock() {
    let clock = SystemTime::now().duration_since(UNIX_EPOCH);
    let over = clock.map_or(0, |clock| clock.as_nanos() % ROUND.as_nanos());
    let over = Duration::from_nanos(u64::try_from(over).unwrap_or(0));
    let now = Instant::now();
    let _ = ORIGIN.set(now.checked_sub(over).unwrap_or(now));
}

/// The next moment of the grid of `period`, after `now`.
fn next(now: Instant, period: Duration) -> Instant {
    let origin = *ORIGIN.get_or_init(Instant::now);
    // The origin may lie ahead of a clock that stands still, as those of tests do.
    let ahead = origin.saturating_duration_since(now);
    now + match ahead.is_zero() {
        true => until_next(now.saturating_duration_since(origin), period),
        false => until_origin(ahead, period),
    }
}

/// The same where the origin lies `ahead`.
fn until_origin(ahead: Duration, period: Duration) -> Duration {
    let left = ahead.as_nanos() % period.as_nanos().max(1);
    match left {
        0 => period,
        _ => Duration::from_nanos(u64::try_from(left).unwrap_or(0)),
    }
}

fn until_next(since_origin: Duration, period: Duration) -> Duration {
    let over = since_origin.as_nanos() % period.as_nanos().max(1);
    period.saturating_sub(Duration::from_nanos(u64::try_from(over).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn multiples_fall_together() {
        let ms = Duration::from_millis;
        for (since, period, until) in [
            (0, 100, 100),
            (1, 100, 99),
            (99, 100, 1),
            (100, 100, 100),
            (250, 500, 250),
            (1_000_250, 500, 250),
        ] {
            assert_eq!(until_next(ms(since), ms(period)), ms(until));
        }
        for (ahead, period, until) in [(1, 100, 1), (100, 100, 100), (250, 100, 50)] {
            assert_eq!(until_origin(ms(ahead), ms(period)), ms(until));
        }
    }

    #[test]
    fn what_may_run_out_is_looked_at_often() {
        let (often, seldom) = (Duration::from_millis(100), Duration::from_millis(400));
        for (left, expected) in [(0, often), (400, often), (401, seldom), (u64::MAX, seldom)] {
            assert_eq!(pause(left, 1000, often, seldom), expected, "{left}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn tasks_that_start_at_different_times_tick_together() {
        let ms = Duration::from_millis;
        let first = tokio::spawn(async move { every(ms(100)).tick().await });
        tokio::time::advance(ms(250)).await;
        let mut often = every(ms(100));
        tokio::time::advance(ms(37)).await;
        let mut seldom = every(ms(200));
        let (often, seldom) = tokio::join!(
            async {
                often.tick().await;
                often.tick().await
            },
            seldom.tick()
        );
        let first = first.await.unwrap();
        assert_eq!((seldom - first).as_millis() % 100, 0);
        // Where the grid lies depends on what else this process has done.
        let apart = often.max(seldom) - often.min(seldom);
        assert!(apart.is_zero() || apart == ms(100), "{often:?} {seldom:?}");
    }
}
