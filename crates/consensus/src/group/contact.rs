//! Whether a member can be sure that the leader it knows of leads still.
//!
//! What a leader has sent may be read late: by a process that stood still, or behind a network that was cut for a while. By
//! then the others may have another leader, and have gone on. So whoever acts on what a leader says asks whether
//! the member has heard its heartbeats without a gap. After a gap the leader is asked for a read index, which takes a majority.

use super::core::GroupCore;
use crate::error::ReadError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// For so long a heartbeat counts. Shorter than the time after which others take a silent node for gone; two
/// heartbeats fit into it.
const KEPT: Duration = Duration::from_millis(500);

/// Until when a member is in contact with a leader.
#[derive(Debug)]
pub(super) struct Contact {
    origin: Instant,
    /// Microseconds after `origin`.
    until_us: AtomicU64,
}

impl Contact {
    pub(super) fn new() -> Self {
        Self {
            origin: Instant::now(),
            until_us: AtomicU64::new(0),
        }
    }

    fn after_origin(&self, at: Instant) -> u64 {
        u64::try_from(at.duration_since(self.origin).as_micros()).unwrap_or(u64::MAX)
    }

    fn is_kept(&self, now: Instant) -> bool {
        self.after_origin(now) < self.until_us.load(Ordering::Acquire)
    }

    /// A leader was the leader at `at`.
    fn confirmed(&self, at: Instant) {
        let until = self.after_origin(at + KEPT);
        self.until_us.fetch_max(until, Ordering::AcqRel);
    }

    /// A heartbeat came at `at`. After a gap it may be as old as that.
    fn heard(&self, at: Instant) {
        if self.is_kept(at) {
            self.confirmed(at);
        }
    }
}

impl GroupCore {
    pub(super) fn keep_contact(&self, at: Instant) {
        self.contact.heard(at);
    }

    pub(super) fn is_in_contact(&self) -> bool {
        self.contact.is_kept(Instant::now())
    }

    pub(super) async fn renew_contact(&self, within: Duration) -> Result<(), ReadError> {
        let began = Instant::now();
        self.read_index(within).await?;
        self.contact.confirmed(began);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heartbeats_count_until_there_is_a_gap() {
        let contact = Contact::new();
        let at = |ms: u64| contact.origin + Duration::from_millis(ms);
        contact.heard(at(0));
        assert!(!contact.is_kept(at(1)), "nobody was asked yet");
        contact.confirmed(at(100));
        for ms in [300, 500, 900, 1_300] {
            contact.heard(at(ms));
            assert!(contact.is_kept(at(ms + 499)), "{ms}");
            assert!(!contact.is_kept(at(ms + 500)), "{ms}");
        }
        // It stood still: what comes then may be old.
        contact.heard(at(1_800));
        assert!(!contact.is_kept(at(1_800)));
        contact.confirmed(at(1_801));
        assert!(contact.is_kept(at(1_802)));
    }
}
