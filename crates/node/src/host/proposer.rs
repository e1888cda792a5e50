//! Merges batches into entries and keeps a few of them on their way.
//!
//! While entries are being replicated, the next one gathers: one operation per entry when idle,
//! hundreds under load. Only settlements by clients wait, a moment at most, for something to go along with: nobody
//! waits for their outcome, and an entry of their own would cost a sync on every node and make the next
//! publish wait for it.

use super::HostClock;
use super::replica::ReplicaState;
use broker_model::dispatch::DeadLetter;
use broker_model::op::{BatchHead, EntryHead, Op, Refusal};
use broker_model::wire::{encode_entry_head, only_settles};
use bytes::Bytes;
use consensus::{Group, Payload, ProposeError};
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::Instant;
use tracing::warn;

/// Entries on their way at the same time.
const ENTRIES_IN_FLIGHT: usize = 3;
/// Leader's operations in one entry, at most.
const LEADER_OPS: usize = 4096;
/// How long settlements wait for something to go along with: about as long as it takes to commit them.
const HOLD: Duration = Duration::from_millis(1);
/// So many batches of them go at once: fewer than a link may have under way, or its publishes would wait too.
const HELD_MAX: usize = 8;

/// How long a proposer that takes no more batches is waited for.
const DRAIN: Duration = Duration::from_secs(5);
/// Of an entry that no dispatcher has admitted.
const NO_TICKET: u64 = 0;

/// What became of an entry.
#[derive(Debug)]
pub struct EntryDone {
    /// Of the dispatcher's admission.
    pub ticket: u64,
    /// Applied, or not (or not surely).
    pub result: Result<u64, ProposeError>,
}

/// The proposer of one shard, in one term.
pub struct Proposer {
    term: u64,
    entry_bytes: usize,
    waiting: VecDeque<(BatchHead, Bytes)>,
    leader_ops: VecDeque<Op>,
    in_flight: FuturesUnordered<BoxFuture<'static, EntryDone>>,
    clock: HostClock,
    /// What waits is more than settlements.
    urgent: bool,
    /// Since when settlements wait for something to go along with.
    held_since: Option<Instant>,
    /// It takes no more batches, and is waited for until then.
    drains_until: Option<Instant>,
}

impl Proposer {
    /// A proposer for `term`; entries hold about `entry_bytes` at most, and the time of `clock`.
    #[must_use]
    pub fn new(term: u64, entry_bytes: usize, clock: HostClock) -> Self {
        Self {
            term,
            entry_bytes,
            waiting: VecDeque::new(),
            leader_ops: VecDeque::new(),
            in_flight: FuturesUnordered::new(),
            clock,
            urgent: false,
            held_since: None,
            drains_until: None,
        }
    }

    /// The term it proposes in.
    #[must_use]
    pub fn term(&self) -> u64 {
        self.term
    }

    /// Adds a batch; order is kept.
    pub fn push_batch(&mut self, head: BatchHead, ops: Bytes) {
        if only_settles(&ops) {
            self.held_since.get_or_insert_with(Instant::now);
        } else {
            self.urgent = true;
        }
        self.waiting.push_back((head, ops));
    }

    /// Adds operations that the leader decided on.
    pub fn push_ops(&mut self, ops: impl IntoIterator<Item = Op>) {
        self.leader_ops.extend(ops);
        // Also what settles: a message that was handed out for good must not come again.
        self.urgent |= !self.leader_ops.is_empty();
    }

    /// When what waits is proposed at the latest; `None` if nothing is held.
    #[must_use]
    pub fn held_until(&self) -> Option<Instant> {
        self.held_since
            .filter(|_| self.in_flight.len() < ENTRIES_IN_FLIGHT)
            .map(|since| since + HOLD)
    }

    /// Whether what waits is worth an entry now.
    fn is_due(&self) -> bool {
        self.urgent
            || self.waiting.len() >= HELD_MAX
            || self.held_since.is_some_and(|since| since.elapsed() >= HOLD)
    }

    /// Proposes what waits, as far as entries may be on their way. Returns messages that were
    /// refused on admission and are to be dead-lettered.
    pub fn propose(&mut self, group: &Group, state: &mut ReplicaState) -> Vec<DeadLetter> {
        let mut refused = Vec::new();
        while self.in_flight.len() < ENTRIES_IN_FLIGHT
            && !(self.waiting.is_empty() && self.leader_ops.is_empty())
            && self.is_due()
        {
            let Some(dispatcher) = &mut state.dispatcher else {
                return refused;
            };
            let batches = self.take_batches();
            let admission = match dispatcher.admit(&batches, &state.machine) {
                Ok(admission) => admission,
                Err(error) => {
                    // Batches are checked when they arrive.
                    warn!(%error, "batches dropped");
                    self.sent();
                    continue;
                }
            };
            refused.extend(admission.dead_letters);
            self.send(group, batches, admission.refusals, admission.ticket);
        }
        refused
    }

    /// Takes no more batches, and proposes what was decided before: messages that were handed out are to be settled
    /// before anybody hands out again in this term.
    pub fn drain(&mut self, group: &Group) {
        self.waiting.clear();
        self.drains_until
            .get_or_insert_with(|| Instant::now() + DRAIN);
        while self.in_flight.len() < ENTRIES_IN_FLIGHT && !self.leader_ops.is_empty() {
            self.send(group, Vec::new(), Vec::new(), NO_TICKET);
        }
    }

    /// Whether the fate of all that was proposed is known and nothing waits, or it takes too long.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        let late = self.drains_until.is_some_and(|at| at <= Instant::now());
        late || (self.in_flight.is_empty() && self.leader_ops.is_empty())
    }

    fn send(
        &mut self,
        group: &Group,
        batches: Vec<(BatchHead, Bytes)>,
        refusals: Vec<Refusal>,
        ticket: u64,
    ) {
        let count = self.leader_ops.len().min(LEADER_OPS);
        let head = EntryHead {
            now_ms: self.clock.now_ms(),
            batches: batches.iter().map(|(head, _)| *head).collect(),
            leader_ops: self.leader_ops.drain(..count).collect(),
            refusals,
        };
        let mut segments = Vec::with_capacity(batches.len() + 1);
        segments.push(encode_entry_head(&head));
        segments.extend(batches.into_iter().map(|(_, ops)| ops));
        self.sent();
        let proposed = group.propose_in_term(Payload::from(segments), self.term);
        self.in_flight.push(
            async move {
                EntryDone {
                    ticket,
                    result: proposed.await.map(|done| done.index),
                }
            }
            .boxed(),
        );
    }

    /// Nothing is held any more, if nothing waits.
    fn sent(&mut self) {
        if self.waiting.is_empty() && self.leader_ops.is_empty() {
            self.urgent = false;
            self.held_since = None;
        }
    }

    fn take_batches(&mut self) -> Vec<(BatchHead, Bytes)> {
        let mut batches = Vec::new();
        let mut bytes = 0;
        while let Some((_, ops)) = self.waiting.front() {
            if !batches.is_empty() && bytes + ops.len() > self.entry_bytes {
                break;
            }
            bytes += ops.len();
            batches.extend(self.waiting.pop_front());
        }
        batches
    }

    /// The next entry whose fate is known; for ever pending while none is on its way.
    pub async fn done(&mut self) -> EntryDone {
        match self.in_flight.next().await {
            Some(done) => done,
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::encode_ops;
    use broker_model::ids::{NodeId, Origin, QueueId, Sequence};

    fn proposer(batches: &[Op]) -> Proposer {
        let mut proposer = Proposer::new(1, 1 << 20, HostClock::after(0));
        for (number, op) in (1..).zip(batches) {
            let head = BatchHead {
                origin: Origin {
                    node: NodeId(1),
                    incarnation: 1,
                },
                previous: number - 1,
                number,
                answered: 0,
            };
            proposer.push_batch(head, encode_ops(std::slice::from_ref(op)));
        }
        proposer
    }

    #[tokio::test(start_paused = true)]
    async fn settlements_of_clients_wait_a_moment_for_company() {
        let settle = || Op::settle_one(QueueId(7), Sequence(1));
        let delete = || Op::Delete { queue: QueueId(7) };
        assert_eq!(proposer(&[]).held_until(), None);
        let held = proposer(&[settle(), settle()]);
        assert!(!held.is_due());
        assert_eq!(held.held_until(), Some(Instant::now() + HOLD));
        tokio::time::advance(HOLD).await;
        assert!(held.is_due());

        assert!(proposer(&[settle(), delete()]).is_due());
        assert!(proposer(&[delete(), settle()]).is_due());
        assert!(proposer(&vec![settle(); HELD_MAX]).is_due());
        // What the leader has handed out for good must not come again.
        let mut leaders = proposer(&[]);
        leaders.push_ops([settle()]);
        assert!(leaders.is_due());
        let mut idle = proposer(&[settle()]);
        idle.push_ops([]);
        assert!(!idle.is_due());
    }

    #[tokio::test]
    async fn what_was_sent_holds_nothing_back() {
        let mut proposer = proposer(&[Op::settle_one(QueueId(7), Sequence(1))]);
        proposer.push_ops([Op::settle_one(QueueId(7), Sequence(2))]);
        assert_eq!(proposer.take_batches().len(), 1);
        proposer.leader_ops.clear();
        proposer.sent();
        assert!(!proposer.is_due() && proposer.held_until().is_none());
    }
}
