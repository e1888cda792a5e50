//! Becoming and ceasing to be the leader of a shard.

use super::super::HostClock;
use super::super::proposer::{EntryDone, Proposer};
use super::super::streams::Watch;
use super::ShardHost;
use broker_model::dispatch::{Dispatcher, HandOver, Outbox};
use broker_model::ids::NodeId;
use consensus::Connectivity;
use std::collections::BTreeMap;
use tokio::time::Instant;
use tracing::debug;

impl ShardHost {
    pub(super) fn follow_leadership(&mut self) {
        let now = *self.leadership.borrow_and_update();
        let elected = now.leader == Some(self.group.me());
        self.former
            .take_if(|former| !elected || former.term() != now.term || former.is_drained());
        match (&self.proposer, now.ready) {
            (Some(proposer), true) if proposer.term() == now.term => {}
            (Some(_), _) => {
                self.step_down(now.leader.map(|leader| NodeId(leader.node())));
                self.former.take_if(|former| former.term() != now.term);
                if now.ready && self.former.is_none() {
                    self.take_over(now.term);
                }
            }
            (None, true) if self.former.is_none() => self.take_over(now.term),
            (None, _) => {}
        }
        if self.proposer.is_some() || !self.is_elected() {
            for input in std::mem::take(&mut self.early) {
                self.handle(input);
            }
        }
    }

    /// Whether this node is the leader by its votes, ready or not.
    pub(super) fn is_elected(&self) -> bool {
        let leadership = self.leadership.borrow();
        leadership.leader == Some(self.group.me())
    }

    fn take_over(&mut self, term: u64) {
        let clock = HostClock::after(self.replica.lock().machine.now_ms());
        let now_ms = clock.now_ms();
        let (nodes, silent) = {
            let all = self.context.peers.connectivity();
            let all = all.borrow();
            awaited(self.context.node, &all)
        };
        let hand_over = HandOver {
            deadline_ms: now_ms + self.context.hand_over.as_millis() as u64,
            nodes,
            silent,
        };
        let queues = self.queues_of_catalog();
        {
            let mut guard = self.replica.lock();
            let state = &mut *guard;
            let mut dispatcher = Dispatcher::new(now_ms, &state.machine, Some(hand_over))
                .with_delivery_limit(self.context.delivery_limit.map(u64::from))
                .with_replaced(self.replaced.clone());
            state.outbox = Outbox::default();
            for (queue, settings) in queues {
                dispatcher.settings(
                    now_ms,
                    queue,
                    Some(settings),
                    &state.machine,
                    &mut state.outbox,
                );
            }
            state.clock = clock;
            state.dispatcher = Some(dispatcher);
        }
        self.proposer = Some(Proposer::new(term, self.context.entry_bytes, clock));
        self.hand_over_ends = Some(Instant::now() + self.context.hand_over);
        self.reconcile();
        debug!(shard = %self.replica.shard(), term, "leading shard");
    }

    pub(super) fn end_hand_over(&mut self) {
        if self
            .hand_over_ends
            .take_if(|at| *at <= Instant::now())
            .is_none()
        {
            return;
        }
        if let Some((now_ms, dispatcher, _, _)) = self.replica.lock().leading() {
            dispatcher.end_hand_over(now_ms);
        }
    }

    pub(super) fn step_down(&mut self, leader: Option<NodeId>) {
        let Some(mut proposer) = self.proposer.take() else {
            return;
        };
        proposer.drain(&self.group);
        self.former = (!proposer.is_drained()).then_some(proposer);
        {
            let mut state = self.replica.lock();
            state.dispatcher = None;
            state.outbox = Outbox::default();
            state.watch = Watch::default();
        }
        self.links.dismiss(leader);
        self.ahead.clear();
        self.readers.clear();
        self.hand_over_ends = None;
        self.look_again = None;
        self.pump_again = false;
        debug!(shard = %self.replica.shard(), leader = ?leader.map(|l| l.0), "no longer leading shard");
    }

    pub(super) fn entry_done(&mut self, done: EntryDone) {
        {
            let mut state = self.replica.lock();
            if let Some(dispatcher) = &mut state.dispatcher {
                dispatcher.admission_done(done.ticket);
            }
        }
        if let Err(error) = done.result {
            debug!(shard = %self.replica.shard(), %error, "an entry was not applied");
            // Links send again what has no answer; everything volatile is told anew.
            self.step_down(None);
            self.follow_leadership();
        }
    }

    /// An entry of the former proposer is done.
    pub(super) fn go_on_draining(&mut self) {
        if let Some(former) = &mut self.former {
            former.drain(&self.group);
            if former.is_drained() {
                self.follow_leadership();
            }
        }
    }
}

/// The nodes that a new leader waits for, and those that it does not. A majority has just heard it: if fewer are connected as
/// far as is known here, that is old, and the silent ones are awaited too. After a cut from all others the same node may
/// lead again before it is told that they are back.
fn awaited(me: NodeId, peers: &BTreeMap<u64, Connectivity>) -> (Vec<NodeId>, Vec<NodeId>) {
    let are = |state: Connectivity| -> Vec<NodeId> {
        let these = peers.iter().filter(|(_, now)| **now == state);
        these.map(|(node, _)| NodeId(*node)).collect()
    };
    let (mut nodes, mut silent) = (are(Connectivity::Connected), are(Connectivity::Silent));
    nodes.push(me);
    if 2 * nodes.len() <= peers.len() + 1 {
        nodes.append(&mut silent);
    }
    (nodes, silent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Connectivity::{Connected, Refused, Silent};

    #[test]
    fn a_majority_is_awaited() {
        for (peers, nodes, silent) in [
            (&[Connected, Connected][..], &[2, 3, 1][..], &[][..]),
            (&[Connected, Silent], &[2, 1], &[3]),
            (&[Connected, Refused], &[2, 1], &[]),
            (&[Silent, Silent], &[1, 2, 3], &[]),
            (&[Silent, Refused], &[1, 2], &[]),
            (&[Connected, Silent, Silent, Silent], &[2, 1, 3, 4, 5], &[]),
            (&[Connected, Connected, Silent, Refused], &[2, 3, 1], &[4]),
            (&[], &[1], &[]),
        ] {
            let peers = (2..).zip(peers.iter().copied()).collect();
            let ids = |ids: &[u64]| ids.iter().copied().map(NodeId).collect::<Vec<_>>();
            assert_eq!(
                awaited(NodeId(1), &peers),
                (ids(nodes), ids(silent)),
                "{peers:?}"
            );
        }
    }
}
