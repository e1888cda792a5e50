//! When to checkpoint, and how much of the log to keep.
//!
//! The log is kept for followers that are reachable, so that they catch up from it: a snapshot is
//! for those that were away for long. The leader knows how far its followers are and tells them
//! with its heartbeats what may go, so that any of them can lead next.

use super::core::GroupCore;
use crate::types::RaftNode;
use openraft::async_runtime::watch::WatchReceiver;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Between two looks at a group.
const LOOK: Duration = Duration::from_secs(1);
/// Between two looks while a checkpoint is being taken: what it covers is purged as soon as it may.
const LOOK_AFTER_CHECKPOINT: Duration = Duration::from_millis(50);
/// Something may stay without a checkpoint for so long while space on the disk is short: only a checkpoint gives the space of
/// what was consumed back.
const DIRTY_WHILE_SHORT: Duration = Duration::from_secs(1);
/// How long a member must have been unreachable to be given up while space on the disk is short.
const ABSENT: Duration = Duration::from_secs(5);
/// A checkpoint that takes longer is looked at every [`LOOK`] only.
const CHECKPOINT_LOOKS: u32 = 100;

/// The task of a group.
pub(super) async fn run(group: Arc<GroupCore>) {
    let mut dirty_since = None;
    // The checkpoint that was there before the one now being taken, and looks left for it.
    let mut awaited: Option<(Option<u64>, u32)> = None;
    let mut ticks = crate::ticks::every(LOOK);
    let mut passed = group.environment().dirt.passed();
    while !group.is_stopped() {
        let wanted = tokio::select! {
            _ = ticks.tick() => false,
            () = tokio::time::sleep(LOOK_AFTER_CHECKPOINT), if awaited.is_some() => false,
            // The sender is in the environment, which outlives its groups.
            _ = passed.changed() => group.environment().dirt.is_worth(group.state().dirt()),
            () = group.checkpoint_wanted.notified() => true,
        };
        let Some(raft) = group.raft() else {
            continue;
        };
        if wanted || is_due(&group, &mut dirty_since) {
            dirty_since = None;
            awaited = Some((checkpoint_index(&group), CHECKPOINT_LOOKS));
            let _ = raft.trigger().snapshot().await;
        }
        awaited = awaited.and_then(|(before, looks)| {
            let taken = checkpoint_index(&group) != before;
            let left = looks.checked_sub(1)?;
            (!taken).then_some((before, left))
        });
        if let Some(upto) = purge_upto(&group) {
            tracing::debug!(group = %group.id(), upto, "purging the log");
            let _ = raft.trigger().purge_log(upto).await;
        }
    }
}

fn checkpoint_index(group: &GroupCore) -> Option<u64> {
    group
        .state()
        .checkpoint()
        .map(|checkpoint| checkpoint.index)
}

fn is_due(group: &GroupCore, dirty_since: &mut Option<Instant>) -> bool {
    let policy = &group.environment().checkpoint;
    let state = group.state();
    let checkpoint = state.checkpoint().as_ref().map(crate::raft::position);
    if state.last_applied() <= checkpoint {
        *dirty_since = None;
        return false;
    }
    let since = *dirty_since.get_or_insert_with(Instant::now);
    let dirty_for = if group.environment().is_short() {
        policy.dirty_for.min(DIRTY_WHILE_SHORT)
    } else {
        policy.dirty_for
    };
    group.environment().dirt.is_due(state.dirt()) || since.elapsed() >= dirty_for
}

/// What can be purged now, if it is worth it.
fn purge_upto(group: &GroupCore) -> Option<u64> {
    let policy = &group.environment().checkpoint;
    let safe = known_by_all(group);
    if !group.environment().may_write() {
        // What is kept for others would keep this node, and with it perhaps the group, from having room again.
        // They get a snapshot.
        let checkpoint = group.state().checkpoint()?.index;
        let purged = group.log().span().purged;
        return purged
            .is_none_or(|purged| purged.index < checkpoint)
            .then_some(checkpoint);
    }
    let backend = group.log().backend();
    let group_id = group.id().0;
    // What is kept is for all groups together, each has its share.
    let retained = backend.retained_bytes(group_id);
    let all = backend.retained_bytes_of_all().max(1);
    let share = |bytes: u64| (u128::from(bytes) * u128::from(retained) / u128::from(all)) as u64;
    let (keep, step) = if group.environment().is_short() {
        // Only what a member that is there still needs.
        (0, 0)
    } else {
        (policy.keep_bytes, policy.purge_step)
    };
    let keep_bytes = share(keep);
    if retained <= keep_bytes.saturating_add(share(step)) {
        return None;
    }
    let checkpoint = group.state().checkpoint()?.index;
    let keep = backend.purge_candidate(group_id, keep_bytes);
    // Whoever is further behind than this gets a snapshot.
    let cap = backend.purge_candidate(group_id, policy.lag_bytes);
    let upto = match (safe, keep) {
        (Some(safe), Some(keep)) => Some(safe.min(keep)),
        _ => None,
    };
    let upto = upto.max(cap)?.min(checkpoint);
    let purged = group.log().span().purged;
    purged
        .is_none_or(|purged| purged.index < upto)
        .then_some(upto)
}

/// The highest index that every member has that is not given up; told to the followers if this node
/// leads, known from the leader otherwise.
fn known_by_all(group: &GroupCore) -> Option<u64> {
    let raft = group.raft()?;
    let replication = {
        let data = raft.data_metrics();
        let data = data.borrow_watched();
        data.replication.clone()
    };
    let environment = group.environment();
    let short = environment.is_short();
    let Some(replication) = replication else {
        *group.net().purgeable.lock() = None;
        return if short {
            // The leader may have space, and keeps it for whoever is behind.
            checkpoint_index(group)
        } else {
            group.purge_allowed()
        };
    };
    let lag_for = if short {
        environment.checkpoint.lag_for.min(ABSENT)
    } else {
        environment.checkpoint.lag_for
    };
    let mut lowest = group.state().last_applied().map(|applied| applied.index);
    for (member, matched) in replication {
        if member == group.me().0 || environment.wire.unreachable_for(RaftNode(member)) > lag_for {
            continue;
        }
        lowest = lowest.min(matched.map(|matched| matched.index));
    }
    *group.net().purgeable.lock() = lowest;
    lowest
}
