//! Heartbeats of all groups that this node leads, at the same moment.
//!
//! openraft would send them group by group, each by its own clock. Sent together, those to one peer
//! share a message (see `net::link`), which is most of what an idle cluster costs.
//!
//! A leader that no quorum answers falls silent: followers may hear it although it does not hear
//! them, and as long as they hear it they elect no other. Falling silent it asks them to elect another
//! at once (`handover`). It probes now and then, and as soon as a member can be reached again.
//!
//! Only if they could: where those that answer are no quorum without this node, as the other one of two
//! that are left of three, another election brings nothing but a pause. Then it goes on.

use super::core::GroupCore;
use crate::clock;
use crate::inbound::Inbound;
use crate::lateness::Looks;
use openraft::Instant as _;
use openraft::async_runtime::watch::WatchReceiver;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::time::Instant;

/// A leader that no quorum answers sends a heartbeat only once in so many leases: time for two
/// attempts at an election.
const PROBE_LEASES: u32 = 4;
/// A member that was lost so many leases ago does not vote.
const GONE_LEASES: u32 = 4;
/// A follower that has heard nothing for so many intervals looks at its election timer.
const UNHEARD: u32 = 2;
/// A look that comes after so many intervals is late.
const LATE: u32 = 3;

/// The last heartbeat of a group.
#[derive(Debug, Clone, Copy)]
pub(super) struct LastBeat {
    at: Instant,
    /// Voters that could be reached when the leader was found unheard; more than there are while it
    /// is heard.
    reachable: usize,
    /// The term in which this node was seen to lead last, and since when.
    leads: (u64, Instant),
}

impl LastBeat {
    pub(super) fn now() -> Self {
        Self {
            at: Instant::now(),
            reachable: usize::MAX,
            leads: (0, Instant::now()),
        }
    }

    fn heard(&mut self) {
        self.at = Instant::now();
        self.reachable = usize::MAX;
    }

    fn leads_since(&mut self, term: u64) -> Instant {
        if self.leads.0 != term {
            self.leads = (term, Instant::now());
        }
        self.leads.1
    }
}

/// Runs until the groups are gone.
pub(crate) async fn send_heartbeats(groups: Weak<Inbound>, every: Duration) {
    let mut ticks = crate::ticks::every(every);
    let mut looks = Looks::new(every * LATE, Instant::now());
    let mut woke = None;
    loop {
        ticks.tick().await;
        let now = Instant::now();
        if looks.is_excused(now) {
            woke = Some(now);
        }
        let Some(groups) = groups.upgrade() else {
            return;
        };
        let groups = groups.groups();
        clock::look();
        if let Some(group) = groups.first() {
            group.time_round_trips();
            let environment = group.environment();
            let lease = environment.timing.election_max;
            environment.pulse.beat(now, lease);
        }
        let leading = groups.iter().filter(|group| group.leads());
        if let Some(group) = groups.first() {
            group.environment().wire.beats_follow(leading.count());
        }
        for group in groups {
            group.run_clock(every * UNHEARD);
            group.send_heartbeat(woke).await;
        }
    }
}

impl GroupCore {
    /// Whether this node believes to lead.
    pub(crate) fn leads(&self) -> bool {
        self.leadership.borrow().leader == Some(self.me())
    }

    /// Lets openraft's clock of this group run only if it may have to elect: each tick of it wakes the core's task,
    /// which is most of what an idle group costs. A leader needs no clock, its heartbeats are ours; nor does a
    /// follower that heard one lately, for its lease is longer.
    fn run_clock(&self, unheard: Duration) {
        let leads = self.leads();
        let heard = || self.unheard_for().is_some_and(|silence| silence < unheard);
        if let Some(raft) = self.raft() {
            raft.runtime_config().tick(!(leads || heard()));
        }
    }

    /// `woke`: when this process had stood still last, and answers may have waited to be read.
    async fn send_heartbeat(self: &Arc<Self>, woke: Option<Instant>) {
        let leadership = *self.leadership.borrow();
        let leads = leadership.leader == Some(self.me());
        let Some(raft) = self.raft().filter(|_| leads) else {
            self.net().silent.store(false, Ordering::Relaxed);
            return;
        };
        let configured = self.environment().timing.election_max;
        let lease = clock::stretched(configured);
        // Nobody else has to hear of it, and nobody else could lead.
        let alone = self.voters() == [self.me()];
        let leads_since = self.last_beat.lock().leads_since(leadership.term);
        let unheard = !alone && woke.is_none_or(|woke| woke.elapsed() > lease) && {
            let data = raft.data_metrics();
            let data = data.borrow_watched();
            match data.last_quorum_acked {
                // By openraft's clock.
                Some(acked) => acked.elapsed() > configured,
                None => leads_since.elapsed() > lease,
            }
        };
        // Once silent it stays so: those whom it does not hear may hear it, and wait for their leases.
        let was_silent = self.net().silent.load(Ordering::Relaxed);
        let unheard = unheard && (was_silent || self.others_are_quorum(lease));
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
            self.last_beat.lock().heard();
        }
        if super::leadership::leads_now(self) {
            self.note_lead();
        }
        let _ = raft.trigger().heartbeat().await;
    }

    /// Notes how long a message and its answer take between this node and enough others to elect with. Without what the
    /// answer of a vote waits for, but also while nobody asks for votes: heartbeats are waited for no longer.
    fn time_round_trips(&self) {
        let environment = self.environment();
        let voters = self.voters();
        let mut round_trips: Vec<Duration> = voters
            .iter()
            .filter(|voter| **voter != self.me())
            .filter(|voter| environment.wire.unreachable_for(**voter).is_zero())
            .filter_map(|voter| environment.wire.round_trip(*voter))
            .collect();
        round_trips.sort_unstable();
        let needed = voters.len() / 2;
        if let Some(slowest) = needed.checked_sub(1).and_then(|last| round_trips.get(last)) {
            clock::took(*slowest, environment.timing.election_min);
        }
    }

    /// Whether the other members that are there, or were there a moment ago, can elect without this one.
    fn others_are_quorum(&self, lease: Duration) -> bool {
        let wire = &self.environment().wire;
        let voters = self.voters();
        let me = self.me();
        let others = voters.iter().filter(|voter| **voter != me);
        let there = others
            .filter(|voter| wire.unreachable_for(**voter) <= lease * GONE_LEASES)
            .count();
        there > voters.len() / 2
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
