//! The host of the queues that live in this node's memory: non-durable and exclusive ones.
//!
//! The same queue code as for durable queues, without a log: operations are applied as they come. Where memory has no room
//! for what waits, a part of it goes to disk ([`super::spill`]), and is gone with the process all the same.

use super::ahead::Ahead;
use super::attached::{AttachedLinks, Replies};
use super::backlogs::Backlogs;
use super::deaths::{Deaths, Died};
use super::local_store::LocalStore;
use super::report::reports;
use super::spill::Spill;
use super::{HostClock, HostContext, HostEvent, HostInput, browse};
use crate::hub::attachment::{AttachmentId, BatchOps};
use broker_model::dispatch::{Dispatcher, Outbox};
use broker_model::ids::{NodeId, Origin, Placement};
use broker_model::op::{BatchHead, Op};
use broker_model::protocol::{FromHost, ToHost};
use broker_model::shard::{Effect, ShardMachine};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tracing::{error, info, warn};

/// How often it is looked for what has waited long enough.
const HOUSEKEEPING: Duration = Duration::from_millis(400);
/// Inputs taken in one turn, at most.
const INPUTS: usize = 512;
/// Rounds of handing out in one turn, at most.
const PUMPS: usize = 16;
/// How often queues that the catalog no longer has are looked for.
const RECONCILE: Duration = Duration::from_secs(20);

/// The task of the local queues' host.
pub struct LocalHost {
    context: HostContext,
    placement: Placement,
    clock: HostClock,
    inbox: mpsc::UnboundedReceiver<HostInput>,
    links: AttachedLinks,
    ahead: Ahead,
    backlogs: Backlogs,
    machine: ShardMachine,
    dispatcher: Dispatcher,
    outbox: Outbox,
    effects: Vec<Effect>,
    died: Died,
    deaths: Deaths,
    replies: Replies,
    spill: Spill,
    /// Answers to batches that wait until the disk has caught up, in order.
    late: Vec<(Origin, FromHost)>,
    pump_again: bool,
}

impl LocalHost {
    /// An empty host; `to_self` is the sending end of `inbox`. Tells `backlog` whether its queues fall behind their
    /// publishers.
    #[must_use]
    pub fn new(
        context: HostContext,
        inbox: mpsc::UnboundedReceiver<HostInput>,
        to_self: mpsc::WeakUnboundedSender<HostInput>,
        backlog: watch::Sender<bool>,
        store: Arc<LocalStore>,
    ) -> Self {
        let placement = Placement::Host(context.node);
        Self {
            died: Died::default(),
            deaths: Deaths::new(Arc::clone(&context.metrics)),
            dispatcher: Dispatcher::local()
                .with_delivery_limit(context.delivery_limit.map(u64::from)),
            context,
            placement,
            clock: HostClock::after(0),
            inbox,
            links: AttachedLinks::default(),
            ahead: Ahead::default(),
            backlogs: Backlogs::new(backlog),
            machine: ShardMachine::new(),
            outbox: Outbox::default(),
            effects: Vec::new(),
            replies: Replies::default(),
            spill: Spill::new(store, to_self),
            late: Vec::new(),
            pump_again: false,
        }
    }

    /// Serves until the node stops.
    pub async fn run(mut self) {
        let mut inputs = Vec::with_capacity(INPUTS);
        let mut reconcile = tokio::time::interval(RECONCILE);
        reconcile.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut housekeeping = consensus::ticks::every(HOUSEKEEPING);
        loop {
            let timeout = self.dispatcher.next_timeout();
            tokio::select! {
                biased;
                // Before the inbox, which may never be empty.
                _ = reconcile.tick() => self.reconcile(),
                _ = housekeeping.tick(), if self.waits() => {
                    self.try_again();
                    self.return_from_silent();
                }
                () = self.spill.writable(), if self.spill.is_sending() => self.spill.send(&self.machine),
                count = self.inbox.recv_many(&mut inputs, INPUTS) => {
                    if count == 0 {
                        return;
                    }
                    for input in inputs.drain(..) {
                        self.handle(input);
                    }
                }
                () = tokio::task::yield_now(), if self.pump_again => {}
                () = self.clock.sleep_until(timeout) => {}
            }
            self.turn();
        }
    }

    /// Whether something is to be looked after now and then.
    fn waits(&self) -> bool {
        !self.ahead.is_empty() || self.links.any_lost()
    }

    /// Hands out, and applies what the dispatcher decides, until nothing is left to decide.
    fn turn(&mut self) {
        // Consumers that keep up come before publishers, which must not run away from them.
        for _ in 0..PUMPS {
            self.pump_again =
                self.dispatcher
                    .pump(self.clock.now_ms(), &self.machine, &mut self.outbox);
            while !self.outbox.leader_ops.is_empty() {
                let ops = std::mem::take(&mut self.outbox.leader_ops);
                self.apply_own(ops);
            }
            if !self.pump_again {
                break;
            }
        }
        self.deaths.count(self.died.take(), &self.context.catalog);
        let (dispatcher, machine) = (&self.dispatcher, &self.machine);
        self.backlogs.look(Instant::now(), |queue| {
            dispatcher.queue_counts(machine, queue)
        });
        // What was applied now may be for the dead letter publisher, or make way for another.
        self.pump_again |= self.dispatcher.has_work();
        self.pump_again |= self.spill.go_on(&mut self.machine);
        if !self.spill.is_behind(&self.machine) {
            for (origin, answer) in self.late.drain(..) {
                self.replies.push(origin, answer);
            }
        }
        let outbox = std::mem::take(&mut self.outbox);
        for (origin, message) in outbox.to_nodes {
            self.replies.push(origin, message);
        }
        for load in outbox.loads {
            self.spill.load(load);
        }
        if let Some((queue, sequence)) = outbox.missing.first() {
            self.end_node(&format!(
                "message {} of the local queue {} is not where it was written to",
                sequence.0, queue.0
            ));
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
        self.links.send(&mut self.replies);
    }

    fn apply_own(&mut self, ops: Vec<Op>) {
        let now_ms = self.clock.now_ms();
        for op in ops {
            self.machine.apply_op(now_ms, None, op, &mut self.effects);
        }
        self.tell_effects(now_ms);
    }

    fn tell_effects(&mut self, now_ms: u64) {
        self.dispatcher
            .effects(now_ms, &self.effects, &self.machine, &mut self.outbox);
        self.died.note(&self.effects);
        self.effects.clear();
    }

    fn handle(&mut self, input: HostInput) {
        match input {
            HostInput::Attach {
                attachment,
                origin,
                replies,
            } => {
                if let Some(former) = self.links.attach(attachment, origin, replies) {
                    let now_ms = self.clock.now_ms();
                    self.dispatcher.node_lost(now_ms, former, &mut self.outbox);
                }
                self.dispatcher.attached(origin);
                self.replies.forget(origin);
                self.late.retain(|(to, _)| *to != origin);
                self.outbox.to_nodes.retain(|(to, _)| *to != origin);
            }
            HostInput::Detach { attachment } => {
                let origin = self.links.origin(attachment);
                self.links.detach(attachment);
                let Some(Origin { node, .. }) =
                    origin.inspect(|origin| self.dispatcher.detached(*origin))
                else {
                    return;
                };
                if node == self.context.node || self.context.process_is_dead(node) {
                    self.node_lost(node);
                }
            }
            HostInput::Batch {
                attachment,
                head,
                ops,
            } => self.batch(attachment, head, ops),
            HostInput::Message {
                attachment,
                message,
            } => self.message(attachment, message),
            HostInput::Applied { .. }
            | HostInput::Replaced { .. }
            | HostInput::StreamRead { .. } => {}
            HostInput::Spilled { result } => self.spill.written(result),
            HostInput::Loaded { load, messages } => {
                let now_ms = self.clock.now_ms();
                self.dispatcher
                    .loaded(now_ms, &load, messages, &self.machine, &mut self.outbox);
            }
            HostInput::LoadFailed { load, damage } => {
                let state = self.machine.queue(load.queue);
                let is_there = state.is_some_and(|state| state.exists(load.from));
                // What is being removed may look damaged.
                match damage.filter(|_| is_there) {
                    Some(damage) => self.end_node(&damage),
                    None => self.dispatcher.load_failed(&load),
                }
            }
            HostInput::Browsed { attachment, answer } => {
                if let Some(origin) = self.links.origin(attachment) {
                    self.replies.push(origin, answer);
                }
            }
            HostInput::Settings { queue, settings } => {
                let now_ms = self.clock.now_ms();
                self.dispatcher
                    .settings(now_ms, queue, settings, &self.machine, &mut self.outbox);
                self.try_again();
            }
            HostInput::DeadLettered { queue, sequence } => {
                self.apply_own(vec![Op::settle_one(queue, sequence)]);
            }
            HostInput::DeadLetterPutOff { queue, sequence } => {
                self.dispatcher.dead_letter_again(queue, sequence);
            }
            HostInput::NodeLost { node } => self.node_lost(node),
            HostInput::Report { queues, reply } => {
                let _ = reply.send(reports(&self.dispatcher, &self.machine, &queues));
            }
        }
    }

    fn batch(&mut self, attachment: AttachmentId, head: BatchHead, ops: BatchOps) {
        let Some(origin) = self.links.origin(attachment) else {
            return;
        };
        if head.origin != origin {
            return;
        }
        let now_ms = self.clock.now_ms();
        let outcome = match ops {
            BatchOps::Plain(ops) => {
                self.note_published(&ops);
                let refusals = self
                    .dispatcher
                    .admit_ops(&ops, &self.machine, &mut self.outbox);
                self.machine
                    .apply_plain(now_ms, &head, ops, &refusals, &mut self.effects)
            }
            BatchOps::Encoded(ops) => {
                let admitted = self.dispatcher.admit(&[(head, ops.clone())], &self.machine);
                let applied = admitted.and_then(|admission| {
                    let refusals = &admission.refusals;
                    let outcome =
                        self.machine
                            .apply_batch(now_ms, &head, &ops, refusals, &mut self.effects);
                    self.dispatcher.admission_done(admission.ticket);
                    self.died.note_refused(&admission.dead_letters);
                    self.outbox.dead_letters.extend(admission.dead_letters);
                    outcome
                });
                match applied {
                    Ok(outcome) => outcome,
                    Err(error) => {
                        warn!(node = %origin.node, %error, "a malformed batch was refused");
                        self.links.detach(attachment);
                        return;
                    }
                }
            }
        };
        self.tell_effects(now_ms);
        // In order: later ones do not overtake.
        self.late.push((origin, FromHost::Outcome(outcome)));
    }

    /// What is on disk cannot be read: it is only this process that needed it.
    fn end_node(&self, text: &str) {
        let text = format!(
            "{text}; the disk may be damaged. Local queues end with this process: start the node again"
        );
        error!(text);
        (self.context.abort)(&text);
    }

    /// The last publish of a batch stands for all: a queue that is flooded will be met.
    fn note_published(&mut self, ops: &[Op]) {
        let last = ops
            .iter()
            .rev()
            .find_map(|op| op.appends().and_then(|(targets, _)| targets.first()));
        if let Some(target) = last {
            let counts = self.dispatcher.queue_counts(&self.machine, target.queue);
            self.backlogs
                .published(Instant::now(), target.queue, counts);
        }
    }

    fn message(&mut self, attachment: AttachmentId, message: ToHost) {
        let Some(origin) = self.links.origin(attachment) else {
            return;
        };
        let (dispatcher, context) = (&self.dispatcher, &self.context);
        let is_ahead = |queue| !dispatcher.knows(queue) && context.is_ahead(queue);
        if let Some(message) = self.ahead.keep(attachment, message, is_ahead) {
            self.take(attachment, origin, message);
        }
    }

    fn try_again(&mut self) {
        loop {
            let (dispatcher, context) = (&self.dispatcher, &self.context);
            let is_ahead = |queue| !dispatcher.knows(queue) && context.is_ahead(queue);
            let Some((attachment, message)) = self.ahead.next(is_ahead) else {
                return;
            };
            if let Some(origin) = self.links.origin(attachment) {
                self.take(attachment, origin, message);
            }
        }
    }

    fn take(&mut self, attachment: AttachmentId, origin: Origin, message: ToHost) {
        if let ToHost::Browse {
            request,
            queue,
            count,
            bytes,
        } = message
        {
            let last = browse::last(&self.machine, queue, count, bytes);
            let inbox = self.spill.inbox();
            browse::answer(self.spill.shelf(), queue, last, move |messages| {
                let answer = FromHost::Browsed { request, messages };
                if let Some(inbox) = inbox {
                    let _ = inbox.send(HostInput::Browsed { attachment, answer });
                }
            });
            return;
        }
        let now_ms = self.clock.now_ms();
        if let Some(queue) = message.queue()
            && !self.dispatcher.knows(queue)
        {
            let settings = {
                let catalog = self.context.catalog.read();
                catalog
                    .queue_by_id(queue)
                    .filter(|record| record.placement == self.placement)
                    .map(|record| catalog.queue_settings(record))
            };
            if settings.is_some() {
                self.dispatcher
                    .settings(now_ms, queue, settings, &self.machine, &mut self.outbox);
            }
        }
        self.dispatcher
            .handle(now_ms, origin, message, &self.machine, &mut self.outbox);
    }

    fn node_lost(&mut self, node: NodeId) {
        if let Some(origin) = self.links.lost_now(node) {
            self.dispatcher
                .node_lost(self.clock.now_ms(), origin, &mut self.outbox);
        }
    }

    fn return_from_silent(&mut self) {
        let Some(before) = Instant::now().checked_sub(self.context.silence) else {
            return;
        };
        for origin in self.links.lost_before(before) {
            info!(node = %origin.node, "taking back what the consumers of a lost node hold of local queues");
            self.dispatcher
                .node_lost(self.clock.now_ms(), origin, &mut self.outbox);
        }
    }

    /// Forgets queues that the catalog has deleted, or has given to another node.
    fn reconcile(&mut self) {
        self.spill.keep_house(&mut self.machine);
        let mut gone: Vec<_> = self.machine.queues().map(|(queue, _)| queue).collect();
        {
            let catalog = self.context.catalog.read();
            let applied = catalog.applied_index();
            gone.retain(|queue| {
                queue.declared_at() <= applied
                    && catalog
                        .queue_by_id(*queue)
                        .is_none_or(|r| r.placement != self.placement)
            });
        }
        for queue in gone {
            self.dispatcher.settings(
                self.clock.now_ms(),
                queue,
                None,
                &self.machine,
                &mut self.outbox,
            );
        }
    }
}
