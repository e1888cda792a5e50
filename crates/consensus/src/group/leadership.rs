//! Follows a running core: who leads, whether this node may act as the leader, whether it died.

use super::core::{GroupCore, Raft};
use crate::types::{Leadership, RaftNode};
use openraft::async_runtime::watch::WatchReceiver;
use openraft::{Instant as _, ServerState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// How often a leader looks again that is not ready yet, or has lost its quorum.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Runs as long as the core does.
pub(super) async fn supervise(
    group: Arc<GroupCore>,
    raft: Raft,
    mut gone: oneshot::Receiver<()>,
    expected: Arc<AtomicBool>,
) {
    let mut server = raft.server_metrics();
    let mut progress = group.state().progress();
    let mut writable = group.environment().writable.subscribe();
    let mut unheeded = group.unheeded.subscribe();
    let mut machine_gone = false;
    loop {
        let look_again = publish(&group, &raft);
        let wait_for_apply = look_again.is_some();
        let deadline = look_again.unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
        tokio::select! {
            changed = server.changed() => if changed.is_err() { break },
            _ = &mut gone => { machine_gone = true; break }
            Ok(()) = writable.changed() => {}
            Ok(()) = unheeded.changed() => {}
            () = tokio::time::sleep_until(deadline), if look_again.is_some() => {}
            // Only until everything of earlier terms is applied; not at every entry afterwards.
            _ = progress.changed(), if wait_for_apply && !group.leadership.borrow().ready => {}
        }
    }
    group.leadership.send_modify(|leadership| {
        leadership.leader = None;
        leadership.ready = false;
    });
    if !expected.load(Ordering::Acquire) {
        group.abort(&reason(&raft, machine_gone).await);
    }
    drop(raft);
    if !machine_gone {
        let _ = gone.await;
    }
}

/// Tells what is known now; returns when to look again although nothing has been announced.
fn publish(group: &GroupCore, raft: &Raft) -> Option<Instant> {
    let (term, leader, leading, alone) = {
        let unheeded = *group.unheeded.borrow();
        let server = raft.server_metrics();
        let server = server.borrow_watched();
        let me = group.me();
        let mut term = server.vote.leader_id.term;
        let mut leader = server.current_leader.map(RaftNode);
        if let Some(other) = unheeded.map(|vote| vote.leader_id)
            && (other.term > term || other.term == term && leader.is_none())
        {
            term = other.term;
            leader = Some(RaftNode(other.voted_for));
        }
        let leading = server.state == ServerState::Leader && leader == Some(me);
        let alone = server.membership_config.voter_ids().eq([me.0]);
        (term, leader, leading, alone)
    };
    let mut look_again = None;
    let mut ready = false;
    if leading {
        let now = Instant::now();
        // The first entry of a term follows all entries of earlier terms.
        let caught_up = group
            .state()
            .last_applied()
            .is_some_and(|applied| applied.term == term);
        let heard_until = heard_until(group, raft, alone, now);
        let heard = heard_until.is_some_and(|until| now < until);
        ready = caught_up && heard && group.environment().may_write();
        look_again = if ready {
            heard_until
        } else {
            Some(now + LOOK_AGAIN)
        };
    }
    let new = Leadership {
        term,
        leader,
        ready,
    };
    group.leadership.send_if_modified(|old| {
        if *old == new {
            return false;
        }
        if old.ready && !ready && leading {
            tracing::debug!(group = %group.id(), term, "leader has not heard a quorum within its lease");
        }
        if old.leader != leader || old.term != term {
            *group.handing_over.lock() = None;
            tracing::info!(group = %group.id(), term, leader = ?leader, "leader");
        }
        *old = new;
        true
    });
    look_again
}

/// Whether this node may act as the leader at this moment. What was told last may be older: when a process has stood still,
/// tasks of all kinds run before the one that finds out.
pub(super) fn leads_now(group: &GroupCore) -> bool {
    if !group.leadership.borrow().ready {
        return false;
    }
    let now = Instant::now();
    let environment = group.environment();
    if !(environment.pulse).is_steady(now, environment.timing.election_max) {
        return false;
    }
    let heard_until = group.raft().and_then(|raft| {
        let alone = is_alone(group, &raft);
        heard_until(group, &raft, alone, now)
    });
    heard_until.is_some_and(|until| now < until)
}

/// Whether there is no other voter.
fn is_alone(group: &GroupCore, raft: &Raft) -> bool {
    let server = raft.server_metrics();
    let server = server.borrow_watched();
    server.membership_config.voter_ids().eq([group.me().0])
}

/// When this leader's lease ends, by the last round that a quorum answered.
fn heard_until(group: &GroupCore, raft: &Raft, alone: bool, now: Instant) -> Option<Instant> {
    let lease = group.environment().timing.election_max;
    if alone {
        return Some(now + lease);
    }
    let data = raft.data_metrics();
    let data = data.borrow_watched();
    let ago = data.last_quorum_acked?.elapsed();
    Some(now + crate::clock::stretched(lease.saturating_sub(ago)))
}

async fn reason(raft: &Raft, machine_gone: bool) -> String {
    let asked = tokio::time::timeout(Duration::from_secs(2), raft.is_initialized()).await;
    match asked {
        Ok(Err(fatal)) => fatal.to_string(),
        _ if machine_gone => "the state machine's task has ended".to_owned(),
        _ => "the Raft core has ended".to_owned(),
    }
}
