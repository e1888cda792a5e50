//! How recent is what is applied here: known from the leader's heartbeats, so that nobody has to ask.
//!
//! A heartbeat says up to where the log is committed. A member that has applied that far shows everything that was
//! acknowledged before the heartbeat was sent, and counts as recent for [`RECENT`] from its arrival. Whoever acknowledges a
//! change waits until the other members show it, or for longer than that.
//!
//! A process that stood still does not know how old what waits in its sockets is. So a heartbeat counts only while this
//! member is still recent; once it is not, the leader has to be asked ([`Group::catch_up`](super::Group::catch_up)).

use super::core::GroupCore;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// A member that was up to date a moment ago counts as recent for so long: some heartbeats may be late.
pub const RECENT: Duration = Duration::from_secs(1);

/// Until when a member is recent.
#[derive(Debug)]
pub(super) struct Recency {
    origin: Instant,
    /// Microseconds after `origin`.
    until_us: AtomicU64,
    /// The index that was committed when a heartbeat came, as long as it is not applied, and when that was.
    awaited: Mutex<Option<(u64, Instant)>>,
    /// Held by the one who asks for all.
    asking: tokio::sync::Mutex<()>,
}

impl Recency {
    pub(super) fn new() -> Self {
        Self {
            origin: Instant::now(),
            until_us: AtomicU64::new(0),
            awaited: Mutex::new(None),
            asking: tokio::sync::Mutex::new(()),
        }
    }

    fn after_origin(&self, at: Instant) -> u64 {
        u64::try_from(at.duration_since(self.origin).as_micros()).unwrap_or(u64::MAX)
    }

    fn is_recent(&self, now: Instant) -> bool {
        self.after_origin(now) < self.until_us.load(Ordering::Acquire)
    }

    /// What is applied shows everything that was acknowledged before `at`.
    fn was_current(&self, at: Instant) {
        let until = self.after_origin(at + RECENT);
        self.until_us.fetch_max(until, Ordering::AcqRel);
    }

    /// A heartbeat came at `at`, when the log was committed up to `committed`; `applied` is what is applied now.
    fn heard(&self, committed: u64, applied: u64, at: Instant) {
        self.look(applied);
        if !self.is_recent(at) {
            return;
        }
        if committed <= applied {
            self.was_current(at);
        } else {
            // The oldest one counts: under load there is always something that is not applied yet.
            self.awaited.lock().get_or_insert((committed, at));
        }
    }

    /// So much is applied now.
    fn look(&self, applied: u64) {
        let mut awaited = self.awaited.lock();
        if let Some((_, at)) = awaited.take_if(|(index, _)| *index <= applied) {
            self.was_current(at);
        }
    }
}

impl GroupCore {
    fn applied_index(&self) -> u64 {
        let applied = self.state().last_applied();
        applied.map_or(0, |applied| applied.index)
    }

    /// Notes that a heartbeat has come at `at`, with which the log was committed up to `committed`.
    pub(crate) fn hear_committed(&self, committed: u64, at: Instant) {
        self.keep_contact(at);
        self.recency.heard(committed, self.applied_index(), at);
    }

    /// Notes that this node leads now, by the clock: it has applied what it has acknowledged.
    pub(super) fn note_lead(&self) {
        let now = Instant::now();
        if self.recency.is_recent(now) {
            self.recency.was_current(now);
        }
    }

    pub(super) fn is_recent(&self) -> bool {
        let now = Instant::now();
        if self.recency.is_recent(now) {
            return true;
        }
        self.recency.look(self.applied_index());
        self.recency.is_recent(now)
    }

    pub(super) async fn catch_up(&self, within: Duration) -> bool {
        let began = Instant::now();
        let Ok(index) = self.read_index(within).await else {
            return false;
        };
        let left = within.saturating_sub(began.elapsed());
        let applied = self.wait_applied(index, left).await.is_ok();
        if applied {
            self.recency.was_current(began);
        }
        applied
    }

    pub(super) async fn freshen(&self, within: Duration) -> bool {
        let began = Instant::now();
        let until = began + within;
        let Ok(_asking) = timeout_at(until, self.recency.asking.lock()).await else {
            return self.is_recent();
        };
        // Whoever asked before may have been answered.
        self.is_recent() || self.catch_up(until.duration_since(Instant::now())).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What came, and whether it is recent half a lease after that.
    #[test]
    fn heartbeats_count_as_long_as_they_come_in_time() {
        let recency = Recency::new();
        let at = |ms: u64| recency.origin + Duration::from_millis(ms);
        let soon = |ms: u64| recency.is_recent(at(ms + 500));
        recency.heard(5, 5, at(0));
        assert!(!soon(0), "nobody was asked yet");
        recency.was_current(at(100));
        assert!(soon(100));
        recency.heard(5, 5, at(900));
        assert!(soon(900));
        // What is committed and not applied: the member is as recent as it was, until it is.
        recency.heard(9, 5, at(1200));
        recency.heard(11, 7, at(1400));
        assert!(!soon(1450));
        recency.look(8);
        assert!(!soon(1450));
        recency.look(9);
        assert!(soon(1450) && !soon(1750));
        recency.heard(11, 11, at(2000));
        assert!(soon(2000));
        // It stood still: the next ones may be as old as that.
        recency.heard(11, 11, at(3100));
        recency.heard(11, 11, at(3200));
        assert!(!soon(3200));
        recency.was_current(at(3300));
        recency.heard(11, 11, at(3400));
        assert!(soon(3400));
    }
}
