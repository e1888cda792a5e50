//! Looks after groups that stand still: a core that answers nothing any more, a group that elects
//! nobody although it could, and one whose voters are for ever about to change: whoever was to end the change is gone.
//!
//! None of it happens as long as everything works as it is meant to. If it does, it must not go unnoticed:
//! every queue of the shard would wait for ever.

use super::core::{GroupCore, Raft};
use openraft::async_runtime::watch::WatchReceiver;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// Between two looks at a group.
const LOOK: Duration = Duration::from_secs(1);
/// The core is asked at every so many looks: each question wakes it.
const ASK_EVERY: u32 = 5;
/// A group may be without a leader for so many of the longest election timeouts, a quorum being
/// reachable, before it is made to elect.
const ELECTIONS: u32 = 8;
/// Whoever changes the voters of a group does it in two steps at once. A second one that is missing for so long is made here.
const CHANGING: Duration = Duration::from_secs(3);
/// For that step.
const FINISH: Duration = Duration::from_secs(2);

/// The task of a group.
pub(super) async fn run(group: Arc<GroupCore>) {
    let look = LOOK.min(group.environment().timing.core_answer);
    let mut looks = 0_u32;
    let mut ticks = crate::ticks::every(look);
    let mut leaderless = Leaderless::default();
    let mut changing = Changing::default();
    while !group.is_stopped() {
        ticks.tick().await;
        let Some(raft) = group.raft() else {
            leaderless = Leaderless::default();
            changing = Changing::default();
            continue;
        };
        looks = looks.wrapping_add(1);
        if looks.is_multiple_of(ASK_EVERY) {
            ask(&group, &raft).await;
        }
        leaderless.look(&group, &raft).await;
        changing.look(&group).await;
    }
}

/// Ends the process if the core does not answer.
async fn ask(group: &Arc<GroupCore>, raft: &Raft) {
    let within = group.environment().timing.core_answer;
    // Any answer will do, also that the core has ended: others see to that.
    if timeout(within, raft.is_initialized()).await.is_ok() {
        return;
    }
    // A core that is being stopped on purpose is waited for by whoever stops it.
    let Ok(_life) = group.life.try_lock() else {
        return;
    };
    if !group.is_stopped() {
        let reason = format!(
            "its core has not answered for {within:?}; {}",
            state(group, raft)
        );
        group.abort(&reason);
    }
}

/// Since when a group has had no leader without need.
#[derive(Default)]
struct Leaderless {
    since: Option<Instant>,
    /// Elections that were started here without getting a leader.
    tried: u32,
}

impl Leaderless {
    async fn look(&mut self, group: &Arc<GroupCore>, raft: &Raft) {
        if group.leadership.borrow().leader.is_some() || !quorum_is_reachable(group) {
            *self = Self::default();
            return;
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        let longest = crate::clock::stretched(group.environment().timing.election_max);
        let patience = longest.saturating_mul(ELECTIONS);
        if since.elapsed() < patience {
            return;
        }
        // At first as openraft would itself; if that leads to nothing, without asking whether others
        // would agree.
        let pre_vote = self.tried == 0;
        tracing::warn!(
            group = %group.id(), for_ms = since.elapsed().as_millis(), pre_vote, state = state(group, raft),
            "no leader although a quorum can be reached: starting an election"
        );
        let _ = raft.trigger().elect(pre_vote).await;
        self.tried = self.tried.saturating_add(1);
        self.since = Some(Instant::now());
    }
}

/// Since when a group that this node leads has been between two sets of voters.
#[derive(Default)]
struct Changing {
    since: Option<Instant>,
}

impl Changing {
    async fn look(&mut self, group: &GroupCore) {
        if !group.leadership.borrow().ready || !group.is_changing() {
            self.since = None;
            return;
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        if since.elapsed() < CHANGING {
            return;
        }
        self.since = None;
        match timeout(FINISH, group.finish_change()).await {
            Ok(Ok(())) => {
                tracing::warn!(group = %group.id(), "a change of the voters that was left half done is finished");
            }
            Ok(Err(error)) => {
                tracing::info!(group = %group.id(), %error, "a change of the voters is not finished");
            }
            Err(_) => {}
        }
    }
}

/// Whether this member votes and reaches enough others.
fn quorum_is_reachable(group: &GroupCore) -> bool {
    let voters = group.voters();
    let wire = &group.environment().wire;
    let reachable = voters
        .iter()
        .filter(|voter| **voter == group.me() || wire.unreachable_for(**voter).is_zero())
        .count();
    voters.contains(&group.me()) && reachable > voters.len() / 2
}

/// All that is known of the core without asking it.
fn state(group: &GroupCore, raft: &Raft) -> String {
    let metrics = raft.metrics();
    let metrics = metrics.borrow_watched();
    let span = group.log().span();
    let backend = group.log().backend();
    format!(
        "saved vote: {:?}, log: {:?} … {:?}, synced: {:?}, log store: {}, metrics: {}",
        group.log().vote(),
        span.purged,
        span.last,
        backend.synced(group.id().0),
        backend
            .poisoned()
            .map_or("works".to_owned(), |error| error.to_string()),
        *metrics,
    )
}
