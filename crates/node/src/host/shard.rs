//! The host of one shard: attached links, proposer and dispatcher while this node leads it.
//!
//! A single task per shard and node. It does nothing while another node leads, but answers links
//! with `NotLeader`.

mod catalog;
mod leadership;
mod links;
mod lost_nodes;
mod readers;

use super::ahead::Ahead;
use super::attached::{AttachedLinks, Replies};
use super::clock::{HostClock, until};
use super::deaths::Deaths;
use super::proposer::{EntryDone, Proposer};
use super::replica::ShardReplica;
use super::report::reports;
use super::streams::Waiting;
use super::{HostContext, HostEvent, HostInput, QueueReport, persist};
use broker_model::dispatch::{Dispatcher, Outbox, Replaced};
use broker_model::ids::{Placement, QueueId, Sequence};
use broker_model::op::Op;
use consensus::{Group, Leadership};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tracing::error;

/// How often queues that the catalog no longer has are looked for.
const RECONCILE: Duration = Duration::from_secs(20);
/// How often it is looked for what has waited long enough.
const HOUSEKEEPING: Duration = Duration::from_millis(400);
/// Inputs taken in one turn, at most.
const INPUTS: usize = 512;
/// When a leader looks again that has not heard a quorum within its lease.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// The task of one shard's host.
pub struct ShardHost {
    context: HostContext,
    replica: Arc<ShardReplica>,
    group: Group,
    placement: Placement,
    inbox: mpsc::UnboundedReceiver<HostInput>,
    to_self: mpsc::UnboundedSender<HostInput>,
    leadership: watch::Receiver<Leadership>,
    links: AttachedLinks,
    /// `Some` while leading.
    proposer: Option<Proposer>,
    /// Of an earlier time in the present term, until all that it has decided is applied.
    former: Option<Proposer>,
    /// What links say while this node is elected and not ready to lead yet, in order.
    early: Vec<HostInput>,
    /// Since this node leads: when nodes must have told what they hold. The dispatcher goes by the wall
    /// clock, which may be set back.
    hand_over_ends: Option<Instant>,
    /// When to look whether this node leads after all.
    look_again: Option<Instant>,
    deaths: Deaths,
    /// Queues that were deleted of late and declared again, also while another node leads.
    replaced: Replaced,
    ahead: Ahead,
    /// Consumers of streams that wait for what comes next.
    readers: Waiting,
    /// What others of them get with the next turn.
    answers: Replies,
    pump_again: bool,
}

impl ShardHost {
    /// A host for `replica`; `to_self` is the sending end of `inbox`.
    pub fn new(
        context: HostContext,
        replica: Arc<ShardReplica>,
        group: Group,
        inbox: mpsc::UnboundedReceiver<HostInput>,
        to_self: mpsc::UnboundedSender<HostInput>,
    ) -> Self {
        let placement = Placement::Shard(replica.shard());
        let leadership = group.leadership();
        Self {
            deaths: Deaths::new(Arc::clone(&context.metrics)),
            context,
            replica,
            group,
            placement,
            inbox,
            to_self,
            leadership,
            links: AttachedLinks::default(),
            proposer: None,
            former: None,
            early: Vec::new(),
            hand_over_ends: None,
            look_again: None,
            replaced: Replaced::default(),
            ahead: Ahead::default(),
            readers: Waiting::default(),
            answers: Replies::default(),
            pump_again: false,
        }
    }

    /// Serves until the node stops.
    pub async fn run(mut self) {
        let mut inputs = Vec::with_capacity(INPUTS);
        let mut reconcile = tokio::time::interval(RECONCILE);
        reconcile.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut housekeeping = consensus::ticks::every(HOUSEKEEPING);
        self.follow_leadership();
        loop {
            let (clock, timeout) = self.next_timeout();
            let leading = self.proposer.is_some();
            let held_until = self.proposer.as_ref().and_then(Proposer::held_until);
            tokio::select! {
                biased;
                changed = self.leadership.changed() => {
                    if changed.is_err() {
                        self.step_down(None);
                        return;
                    }
                    self.follow_leadership();
                }
                done = done(&mut self.proposer), if leading => self.entry_done(done),
                _ = done(&mut self.former), if self.former.is_some() => self.go_on_draining(),
                // Before the inbox, which may never be empty.
                _ = reconcile.tick() => self.reconcile(),
                _ = housekeeping.tick(), if self.waits() => {
                    if self.former.as_ref().is_some_and(Proposer::is_drained) {
                        self.follow_leadership();
                    }
                    self.try_again();
                    self.end_hand_over();
                    self.return_from_silent();
                }
                count = self.inbox.recv_many(&mut inputs, INPUTS) => {
                    if count == 0 {
                        return;
                    }
                    for input in inputs.drain(..) {
                        self.handle(input);
                    }
                }
                () = tokio::task::yield_now(), if self.pump_again => {}
                () = clock.sleep_until(timeout), if leading => {}
                () = until(held_until), if held_until.is_some() => {}
                () = until(self.look_again), if self.look_again.is_some() => {}
            }
            self.turn();
        }
    }

    /// Whether something is to be looked after now and then.
    fn waits(&self) -> bool {
        self.former.is_some()
            || self.hand_over_ends.is_some()
            || !self.ahead.is_empty()
            || self.links.any_lost()
    }

    /// After anything happened: hand out, propose, answer.
    fn turn(&mut self) {
        self.links.send(&mut self.answers);
        let Some(proposer) = &mut self.proposer else {
            return;
        };
        // A process that stood still does not know yet that others have gone on: what it would hand out, they have.
        self.look_again = (!self.group.leads_now()).then(|| Instant::now() + LOOK_AGAIN);
        if self.look_again.is_some() {
            return;
        }
        let mut replies = Replies::default();
        let (outbox, died) = {
            let mut guard = self.replica.lock();
            let state = &mut *guard;
            let Some(dispatcher) = &mut state.dispatcher else {
                return;
            };
            self.pump_again =
                dispatcher.pump(state.clock.now_ms(), &state.machine, &mut state.outbox);
            proposer.push_ops(state.outbox.leader_ops.drain(..));
            let refused = proposer.propose(&self.group, state);
            state.died.note_refused(&refused);
            state.outbox.dead_letters.extend(refused);
            (std::mem::take(&mut state.outbox), state.died.take())
        };
        self.deaths.count(died, &self.context.catalog);
        self.carry_out(outbox, &mut replies);
        self.links.send(&mut replies);
    }

    fn carry_out(&mut self, outbox: Outbox, replies: &mut Replies) {
        for (origin, message) in outbox.to_nodes {
            replies.push(origin, message);
        }
        for load in outbox.loads {
            persist::load_messages(self.replica.shelf(), load, self.to_self.clone());
        }
        for letter in outbox.dead_letters {
            let placement = self.placement;
            let _ = self.context.events.send(HostEvent::DeadLetter {
                placement,
                letter: Box::new(letter),
            });
        }
        for queue in outbox.unused {
            let _ = self.context.events.send(HostEvent::Unused { queue });
        }
        for queue in outbox.expired {
            let _ = self.context.events.send(HostEvent::Expired { queue });
        }
        if let Some((queue, sequence)) = outbox.missing.first() {
            self.store_is_damaged(*queue, *sequence);
        }
    }

    fn store_is_damaged(&self, queue: QueueId, sequence: Sequence) {
        let text = format!(
            "message {} of queue {} in {:?} is not in the state store; the store is damaged: \
             stop this node, move its data directory away and start it again, it gets its data from the others",
            sequence.0, queue.0, self.placement
        );
        self.end_node(&text);
    }

    /// The store is damaged: the others go on with their good copies.
    fn end_node(&self, text: &str) {
        error!(shard = ?self.placement, text);
        let state = self.replica.state_store();
        crate::stores::note_damage(state, text);
        (self.context.abort)(text);
    }

    fn handle(&mut self, input: HostInput) {
        let of_a_link = matches!(
            input,
            HostInput::Attach { .. }
                | HostInput::Detach { .. }
                | HostInput::Batch { .. }
                | HostInput::Message { .. }
        );
        if of_a_link && self.proposer.is_none() && self.is_elected() {
            // Links are often here before the first entry of the term is. What they may have under
            // way bounds what is kept.
            self.early.push(input);
            return;
        }
        match input {
            HostInput::Attach {
                attachment,
                origin,
                replies,
            } => self.attach(attachment, origin, replies),
            HostInput::Detach { attachment } => self.detach(attachment),
            HostInput::Batch {
                attachment,
                head,
                ops,
            } => self.batch(attachment, head, ops),
            HostInput::Message {
                attachment,
                message,
            } => self.message(attachment, message),
            HostInput::Applied { outcomes } => self.applied(outcomes),
            HostInput::Loaded { load, messages } => {
                if let Some((now_ms, dispatcher, machine, outbox)) = self.replica.lock().leading() {
                    dispatcher.loaded(now_ms, &load, messages, machine, outbox);
                }
            }
            HostInput::LoadFailed { load, damage } => {
                let mut guard = self.replica.lock();
                let state = guard.machine.queue(load.queue);
                let is_there = state.is_some_and(|state| state.exists(load.from));
                // What is being removed may look damaged.
                if let Some(damage) = damage.filter(|_| is_there) {
                    drop(guard);
                    self.end_node(&damage);
                } else if let Some(dispatcher) = &mut guard.dispatcher {
                    dispatcher.load_failed(&load);
                }
            }
            HostInput::Settings { queue, settings } => {
                if settings.is_none() {
                    // Its consumers hear that it is gone.
                    self.readers.take(queue);
                    self.replica.lock().watch.forget(queue);
                }
                if let Some((now_ms, dispatcher, machine, outbox)) = self.replica.lock().leading() {
                    dispatcher.settings(now_ms, queue, settings, machine, outbox);
                }
                self.try_again();
            }
            HostInput::Replaced { former } => {
                let mut guard = self.replica.lock();
                let now_ms = guard.clock.now_ms();
                self.replaced.note(now_ms, former);
                if let Some((now_ms, dispatcher, ..)) = guard.leading() {
                    dispatcher.replaced(now_ms, former);
                }
            }
            HostInput::DeadLettered { queue, sequence } => {
                if let Some(proposer) = &mut self.proposer {
                    proposer.push_ops([Op::settle_one(queue, sequence)]);
                }
            }
            HostInput::DeadLetterPutOff { queue, sequence } => {
                if let Some(dispatcher) = &mut self.replica.lock().dispatcher {
                    dispatcher.dead_letter_again(queue, sequence);
                }
            }
            HostInput::Browsed { attachment, answer } => self.browsed(attachment, answer),
            HostInput::StreamRead { wanted, outcome } => self.stream_read(wanted, outcome),
            HostInput::Spilled { .. } => {}
            HostInput::NodeLost { node } => self.node_lost(node),
            HostInput::Report { queues, reply } => {
                let _ = reply.send(self.report(&queues));
            }
        }
    }

    fn report(&self, queues: &[QueueId]) -> Vec<QueueReport> {
        let guard = self.replica.lock();
        let Some(dispatcher) = &guard.dispatcher else {
            return Vec::new();
        };
        reports(dispatcher, &guard.machine, queues)
    }

    fn next_timeout(&self) -> (HostClock, Option<u64>) {
        let state = self.replica.lock();
        let dispatcher = state.dispatcher.as_ref();
        let leading = dispatcher.filter(|_| self.proposer.is_some());
        (state.clock, leading.and_then(Dispatcher::next_timeout))
    }
}

async fn done(proposer: &mut Option<Proposer>) -> EntryDone {
    match proposer {
        Some(proposer) => proposer.done().await,
        None => std::future::pending().await,
    }
}
