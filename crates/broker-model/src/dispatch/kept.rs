//! What must wait for the end of a hand-over, because the answer is not known before.
//!
//! How many consumers a queue has, and which of its messages are ready, is known when all nodes have told what they consume
//! and hold. Until then counts would say that nobody is there, a queue would be deleted under its consumers, and a purge
//! would take what somebody holds.

use super::Dispatcher;
use super::outbox::Outbox;
use crate::ids::{Origin, QueueId};
use crate::protocol::ToHost;
use crate::shard::ShardMachine;
use std::collections::BTreeSet;

/// Requests that are kept at a time. One more gets no answer: its node gives it up.
const REQUESTS_MAX: usize = 64 << 10;

/// It, in the order in which it came.
#[derive(Debug, Default)]
pub(super) struct Kept {
    requests: Vec<(Origin, ToHost)>,
    /// Auto-delete queues that a consumer has left, and nobody was known to be left behind.
    left: BTreeSet<QueueId>,
}

impl Kept {
    /// Nothing can be done once the hand-over is over, and, if so, nobody is late.
    pub(super) fn is_empty(&self, nobody_is_late: bool) -> bool {
        self.requests.is_empty() && (self.left.is_empty() || !nobody_is_late)
    }

    /// The last known consumer of an auto-delete queue has left.
    pub(super) fn left(&mut self, queue: QueueId) {
        self.left.insert(queue);
    }

    /// Takes out those that were left.
    pub(super) fn take_left(&mut self) -> BTreeSet<QueueId> {
        std::mem::take(&mut self.left)
    }

    /// The node is gone, or is about to ask all again.
    pub(super) fn forget_all(&mut self, origin: Origin) {
        self.requests.retain(|(from, _)| *from != origin);
    }
}

impl Dispatcher {
    /// Returns a message that can be handled now; others are kept.
    pub(super) fn keep_during_hand_over(
        &mut self,
        from: Origin,
        message: ToHost,
    ) -> Option<ToHost> {
        let waits = matches!(
            message,
            ToHost::Count { .. } | ToHost::Purge { .. } | ToHost::CheckDelete { .. }
        );
        if !waits || !self.resuming.holds_back() {
            return Some(message);
        }
        if self.kept.requests.len() < REQUESTS_MAX {
            self.kept.requests.push((from, message));
        }
        None
    }

    /// The hand-over may be over: who came meanwhile takes his turn, and is answered.
    pub(super) fn go_on_after_hand_over(
        &mut self,
        now_ms: u64,
        machine: &ShardMachine,
        out: &mut Outbox,
    ) {
        self.admit_newcomers(now_ms, machine, out);
        if self.resuming.holds_back() {
            return;
        }
        for (from, message) in std::mem::take(&mut self.kept.requests) {
            self.take(now_ms, from, message, machine, out);
        }
        // Where somebody may still come, this waits on.
        if !self.kept.left.is_empty() && !self.resuming.may_bring_more() {
            let left = self.kept.take_left();
            let unused = |queue: &QueueId| {
                let desk = self.desk(*queue);
                desk.is_some_and(|desk| desk.consumer_count() == 0)
            };
            out.unused.extend(left.into_iter().filter(unused));
        }
    }
}
