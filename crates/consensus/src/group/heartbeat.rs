//! Heartbeats of all groups that this node leads, at the same moment.
//!
//! openraft would send them group by group, each by its own clock. Sent together, those to one peer
//! share a message (see `net::link`), which is most of what an idle cluster costs.
//!
//! A leader that no quorum answers falls silent: followers may hear it although it does not hear
//! them, and as long as they hear it they elect no other. Falling silent it asks them to elect another
//! at once (`handover`). It probes now and then, and as soon as a member can be reached again.

use super::core::GroupCore;
use crate::inbound::Inbound;
use crate::lateness::Looks;
use openraft::Instant as _;
use openraft::async_runtime::watch::WatchReceiver;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// A leader that no quorum answers sends a heartbeat only once in so many leases: time for two
/// attempts at an election.
const PROBE_LEASES: u32 = 4;
/// A look that comes after so many intervals is late.
const LATE: u32 = 3;

/// The last heartbeat of a group.
#[derive(Debug, Clone, Copy)]
pub(super) struct LastBeat {
    at: Instant,
    /// Voters that could be reached when the leader was found unheard; more than there are while it
    /// is heard.
    reachable: usize,
}

impl LastBeat {
    pub(super) fn now() -> Self {
        Self {
            at: Instant::now(),
            reachable: usize::MAX,
        }
    }
}

/// Runs until the groups are gone.
pub(crate) async fn send_heartbeats(groups: Weak<Inbound>, every: Duration) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut looks = Looks::new(every * LATE, Instant::now());
    loop {
        ticks.tick().await;
        let excused = looks.is_excused(Instant::now());
        let Some(groups) = groups.upgrade() else {
            return;
        };
        for group in groups.groups() {
            group.send_heartbeat(excused).await;
        }
    }
}

impl GroupCore {
    /// `excused`: this process stood still, and answers may wait to be read.
    async fn send_heartbeat(self: &Arc<Self>, excused: bool) {
        let leads = self.leadership.borrow().leader == Some(self.me());
        let Some(raft) = self.raft().filter(|_| leads) else {
            self.net().silent.store(false, Ordering::Relaxed);
            return;
        };
        let lease = self.environment().timing.election_max;
        // Nobody else has to hear of it, and nobody else could lead.
        let alone = self.voters() == [self.me()];
        let unheard = !alone && !excused && {
            let data = raft.data_metrics();
            let data = data.borrow_watched();
            data.last_quorum_acked
                .is_some_and(|acked| acked.elapsed() > lease)
        };
        // Without room for its log it must not keep others from leading either.
        let may_lead = self.environment().may_write();
        let silent = self
            .net()
            .silent
            .swap(unheard || !may_lead, Ordering::Relaxed);
        if unheard && !silent {
            tokio::spawn(super::handover::resign(Arc::clone(self)));
        }
        if !may_lead || (unheard && !self.may_probe(lease)) {
            return;
        }
        if !unheard {
            *self.last_beat.lock() = LastBeat::now();
        }
        let _ = raft.trigger().heartbeat().await;
    }

    fn may_probe(&self, lease: Duration) -> bool {
        let wire = &self.environment().wire;
        let voters = self.voters();
        let reachable = voters
            .iter()
            .filter(|voter| wire.unreachable_for(**voter).is_zero())
            .count();
        let mut last = self.last_beat.lock();
        let probe = reachable > last.reachable || last.at.elapsed() >= lease * PROBE_LEASES;
        last.reachable = reachable;
        if probe {
            last.at = Instant::now();
        }
        probe
    }
}
