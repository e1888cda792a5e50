//! The host of one shard: attached links, proposer and dispatcher while this node leads it.
//!
//! A single task per shard and node. It does nothing while another node leads, but answers links
//! with `NotLeader`.

use super::ahead::Ahead;
use super::attached::{AttachedLinks, Replies};
use super::deaths::Deaths;
use super::proposer::{EntryDone, Proposer};
use super::replica::ShardReplica;
use super::{ConsumerReport, HostEvent, HostInput, QueueReport, browse, persist, wall_clock_ms};
use crate::catalog::machine::CatalogMachine;
use crate::hub::attachment::{AttachmentId, BatchOps};
use crate::hub::encode_ops;
use crate::metrics::Metrics;
use broker_model::dispatch::{Dispatcher, HandOver, Outbox};
use broker_model::ids::{NodeId, Origin, Placement, QueueId};
use broker_model::op::{BatchHead, Op};
use broker_model::protocol::{FromHost, ToHost};
use broker_model::wire::validate_ops;
use consensus::{Connectivity, Group, Leadership, PeerNet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

/// How often queues that the catalog no longer has are looked for.
const RECONCILE: Duration = Duration::from_secs(20);
/// How often it is looked for what has waited long enough.
const HOUSEKEEPING: Duration = Duration::from_millis(500);
/// Inputs taken in one turn, at most.
const INPUTS: usize = 512;

/// What all shard hosts of a node share.
#[derive(Clone)]
pub struct HostContext {
    /// This node.
    pub node: NodeId,
    /// The catalog here.
    pub catalog: Arc<CatalogMachine>,
    /// The other nodes.
    pub peers: PeerNet,
    /// Things for the rest of the node to do.
    pub events: mpsc::UnboundedSender<HostEvent>,
    /// How long a new leader waits for nodes to tell what they hold.
    pub hand_over: Duration,
    /// How long consumers of a node that is silent keep what they hold.
    pub silence: Duration,
    /// Bytes of batches in one entry.
    pub entry_bytes: usize,
    /// `x-delivery-limit` of queues that name none.
    pub delivery_limit: Option<u32>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Ends the process: the state is damaged.
    pub abort: Arc<dyn Fn(&str) + Send + Sync>,
}

impl HostContext {
    /// Whether the queue was declared by a catalog entry that is not applied here yet.
    pub(super) fn is_ahead(&self, queue: QueueId) -> bool {
        queue.declared_at() > self.catalog.read().applied_index()
    }
}

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
    deaths: Deaths,
    ahead: Ahead,
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
            ahead: Ahead::default(),
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
            let timeout = self.next_timeout();
            let leading = self.proposer.is_some();
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
                count = self.inbox.recv_many(&mut inputs, INPUTS) => {
                    if count == 0 {
                        return;
                    }
                    for input in inputs.drain(..) {
                        self.handle(input);
                    }
                }
                () = tokio::task::yield_now(), if self.pump_again => {}
                () = sleep_until(timeout), if leading => {}
                _ = reconcile.tick() => self.reconcile(),
                _ = housekeeping.tick(), if self.waits() => {
                    if self.former.as_ref().is_some_and(Proposer::is_drained) {
                        self.follow_leadership();
                    }
                    self.try_again();
                    self.end_hand_over();
                    self.return_from_silent();
                }
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
        let Some(proposer) = &mut self.proposer else {
            return;
        };
        let mut replies = Replies::default();
        let (outbox, died) = {
            let mut guard = self.replica.lock();
            let state = &mut *guard;
            let Some(dispatcher) = &mut state.dispatcher else {
                return;
            };
            self.pump_again = dispatcher.pump(wall_clock_ms(), &state.machine, &mut state.outbox);
            proposer.push_ops(state.outbox.leader_ops.drain(..));
            let refused = proposer.propose(&self.group, state);
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
            persist::load_messages(Arc::clone(&self.replica), load, self.to_self.clone());
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
            let text = format!(
                "message {} of queue {} in {:?} is not in the state store; the store is damaged: \
                 stop this node, move its data directory away and start it again, it gets its data from the others",
                sequence.0, queue.0, self.placement
            );
            error!(text);
            (self.context.abort)(&text);
        }
    }

    // ---- leadership ----

    fn follow_leadership(&mut self) {
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
    fn is_elected(&self) -> bool {
        let leadership = self.leadership.borrow();
        leadership.leader == Some(self.group.me())
    }

    fn take_over(&mut self, term: u64) {
        let now_ms = wall_clock_ms();
        let mut nodes: Vec<NodeId> = self
            .context
            .peers
            .connectivity()
            .borrow()
            .iter()
            .filter(|(_, state)| **state == Connectivity::Connected)
            .map(|(node, _)| NodeId(*node))
            .collect();
        nodes.push(self.context.node);
        let hand_over = HandOver {
            deadline_ms: now_ms + self.context.hand_over.as_millis() as u64,
            nodes,
        };
        let queues = self.queues_of_catalog();
        {
            let mut guard = self.replica.lock();
            let state = &mut *guard;
            let mut dispatcher = Dispatcher::new(now_ms, &state.machine, Some(hand_over))
                .with_delivery_limit(self.context.delivery_limit.map(u64::from));
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
            state.dispatcher = Some(dispatcher);
        }
        self.proposer = Some(Proposer::new(term, self.context.entry_bytes));
        self.hand_over_ends = Some(Instant::now() + self.context.hand_over);
        self.reconcile();
        debug!(shard = %self.replica.shard(), term, "leading shard");
    }

    fn end_hand_over(&mut self) {
        if self
            .hand_over_ends
            .take_if(|at| *at <= Instant::now())
            .is_none()
        {
            return;
        }
        let mut guard = self.replica.lock();
        let state = &mut *guard;
        if let Some(dispatcher) = &mut state.dispatcher {
            dispatcher.end_hand_over(wall_clock_ms());
        }
    }

    fn step_down(&mut self, leader: Option<NodeId>) {
        let Some(mut proposer) = self.proposer.take() else {
            return;
        };
        proposer.drain(&self.group);
        self.former = (!proposer.is_drained()).then_some(proposer);
        {
            let mut state = self.replica.lock();
            state.dispatcher = None;
            state.outbox = Outbox::default();
        }
        self.links.dismiss(leader);
        self.ahead.clear();
        self.hand_over_ends = None;
        self.pump_again = false;
        debug!(shard = %self.replica.shard(), leader = ?leader.map(|l| l.0), "no longer leading shard");
    }

    fn entry_done(&mut self, done: EntryDone) {
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
    fn go_on_draining(&mut self) {
        if let Some(former) = &mut self.former {
            former.drain(&self.group);
            if former.is_drained() {
                self.follow_leadership();
            }
        }
    }

    // ---- links ----

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
            HostInput::Detach { attachment } => {
                let node = self.links.origin(attachment).map(|origin| origin.node);
                self.links.detach(attachment);
                if let Some(node) = node
                    && self.process_is_dead(node)
                {
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
            HostInput::Applied { outcomes } => {
                let mut replies = Replies::default();
                let mut resumed = Vec::new();
                for outcome in outcomes {
                    let origin = outcome.origin;
                    if self.links.outcome(outcome, &mut replies) {
                        resumed.push(origin);
                    }
                }
                self.links.send(&mut replies);
                for origin in resumed {
                    self.dispatch(origin, ToHost::Resumed);
                }
            }
            HostInput::Loaded { load, messages } => {
                let mut guard = self.replica.lock();
                let state = &mut *guard;
                if let Some(dispatcher) = &mut state.dispatcher {
                    let now_ms = wall_clock_ms();
                    dispatcher.loaded(now_ms, &load, messages, &state.machine, &mut state.outbox);
                }
            }
            HostInput::LoadFailed { load } => {
                if let Some(dispatcher) = &mut self.replica.lock().dispatcher {
                    dispatcher.load_failed(&load);
                }
            }
            HostInput::Settings { queue, settings } => {
                let mut guard = self.replica.lock();
                let state = &mut *guard;
                if let Some(dispatcher) = &mut state.dispatcher {
                    let now_ms = wall_clock_ms();
                    dispatcher.settings(now_ms, queue, settings, &state.machine, &mut state.outbox);
                }
                drop(guard);
                self.try_again();
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
            HostInput::Browsed { attachment, answer } => {
                if let Some(origin) = self.links.origin(attachment) {
                    let mut replies = Replies::default();
                    replies.push(origin, answer);
                    self.links.send(&mut replies);
                }
            }
            HostInput::NodeLost { node } => self.node_lost(node),
            HostInput::Report { queues, reply } => {
                let _ = reply.send(self.report(&queues));
            }
        }
    }

    fn attach(
        &mut self,
        attachment: AttachmentId,
        origin: Origin,
        replies: mpsc::UnboundedSender<Vec<FromHost>>,
    ) {
        if self.proposer.is_none() {
            let leader = self
                .leadership
                .borrow()
                .leader
                .map(|leader| NodeId(leader.node()));
            let _ = replies.send(vec![FromHost::NotLeader { leader }]);
            return;
        }
        debug!(shard = %self.replica.shard(), node = %origin.node, "link attached");
        let former = self.links.attach(attachment, origin, replies);
        let mut guard = self.replica.lock();
        let state = &mut *guard;
        if let Some(dispatcher) = &mut state.dispatcher {
            if let Some(former) = former {
                dispatcher.node_lost(wall_clock_ms(), former, &mut state.outbox);
            }
            dispatcher.attached(origin);
        }
    }

    fn batch(&mut self, attachment: AttachmentId, head: BatchHead, ops: BatchOps) {
        let Some(origin) = self.links.origin(attachment) else {
            return;
        };
        let ops = match ops {
            BatchOps::Encoded(ops) => ops,
            BatchOps::Plain(ops) => encode_ops(&ops),
        };
        if head.origin != origin || validate_ops(&ops).is_err() {
            warn!(node = %origin.node, "a malformed batch was refused");
            self.links.detach(attachment);
            return;
        }
        self.links.batch_received(attachment, head.number);
        if let Some(proposer) = &mut self.proposer {
            proposer.push_batch(head, ops);
        }
    }

    fn message(&mut self, attachment: AttachmentId, message: ToHost) {
        let Some(origin) = self.links.origin(attachment) else {
            return;
        };
        let (replica, context) = (&self.replica, &self.context);
        let is_ahead = |queue| is_ahead(replica, context, queue);
        if let Some(message) = self.ahead.keep(attachment, message, is_ahead) {
            self.take(attachment, origin, message);
        }
    }

    fn try_again(&mut self) {
        loop {
            let (replica, context) = (&self.replica, &self.context);
            let Some((attachment, message)) =
                self.ahead.next(|queue| is_ahead(replica, context, queue))
            else {
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
            let last = browse::last(&self.replica.lock().machine, queue, count, bytes);
            let (replica, inbox) = (Arc::clone(&self.replica), self.to_self.clone());
            browse::answer(replica, queue, last, move |messages| {
                let answer = FromHost::Browsed { request, messages };
                let _ = inbox.send(HostInput::Browsed { attachment, answer });
            });
            return;
        }
        if message == ToHost::Resumed {
            let replica = Arc::clone(&self.replica);
            let answered = |origin: Origin| {
                let last = replica.lock().machine.last_batch(origin.node);
                last.filter(|(incarnation, _)| *incarnation == origin.incarnation)
                    .map_or(0, |(_, n)| n)
            };
            if !self.links.resume_now(attachment, answered) {
                return;
            }
        }
        self.dispatch(origin, message);
    }

    fn dispatch(&mut self, origin: Origin, message: ToHost) {
        let unknown = message
            .queue()
            .and_then(|queue| self.settings_if_unknown(queue));
        let mut guard = self.replica.lock();
        let state = &mut *guard;
        let Some(dispatcher) = &mut state.dispatcher else {
            return;
        };
        let now_ms = wall_clock_ms();
        if let Some((queue, settings)) = unknown {
            dispatcher.settings(
                now_ms,
                queue,
                Some(settings),
                &state.machine,
                &mut state.outbox,
            );
        }
        dispatcher.handle(now_ms, origin, message, &state.machine, &mut state.outbox);
    }

    // ---- nodes that are gone ----

    fn process_is_dead(&self, node: NodeId) -> bool {
        self.context.peers.connectivity().borrow().get(&node.0) == Some(&Connectivity::Refused)
    }

    fn node_lost(&mut self, node: NodeId) {
        match self.links.lost_now(node) {
            Some(origin) => self.return_from(origin),
            // It never came to this leader: delivering does not wait for it any longer.
            None if !self.links.is_attached(node) => {
                let origin = Origin {
                    node,
                    incarnation: 0,
                };
                self.give_back(origin);
            }
            None => {}
        }
    }

    fn return_from_silent(&mut self) {
        if self.proposer.is_none() {
            return;
        }
        let Some(before) = Instant::now().checked_sub(self.context.silence) else {
            return;
        };
        for origin in self.links.lost_before(before) {
            self.return_from(origin);
        }
    }

    fn return_from(&mut self, origin: Origin) {
        info!(shard = %self.replica.shard(), node = %origin.node, "taking back what the consumers of a lost node hold");
        self.give_back(origin);
    }

    fn give_back(&mut self, origin: Origin) {
        let mut guard = self.replica.lock();
        let state = &mut *guard;
        if let Some(dispatcher) = &mut state.dispatcher {
            dispatcher.node_lost(wall_clock_ms(), origin, &mut state.outbox);
        }
    }

    // ---- the catalog ----

    fn queues_of_catalog(
        &self,
    ) -> Vec<(QueueId, Arc<broker_model::catalog::settings::QueueSettings>)> {
        let catalog = self.context.catalog.read();
        catalog
            .all_queues()
            .chain(catalog.stores())
            .filter(|record| record.placement == self.placement)
            .map(|record| (record.id, catalog.queue_settings(record)))
            .collect()
    }

    fn settings_if_unknown(
        &self,
        queue: QueueId,
    ) -> Option<(QueueId, Arc<broker_model::catalog::settings::QueueSettings>)> {
        if self
            .replica
            .lock()
            .dispatcher
            .as_ref()
            .is_none_or(|dispatcher| dispatcher.knows(queue))
        {
            return None;
        }
        let catalog = self.context.catalog.read();
        let record = catalog
            .queue_by_id(queue)
            .filter(|record| record.placement == self.placement)?;
        Some((queue, catalog.queue_settings(record)))
    }

    /// Forgets queues that the catalog has deleted: late operations may have made their state anew.
    fn reconcile(&mut self) {
        if self.proposer.is_none() {
            return;
        }
        let mut known: Vec<QueueId> = self
            .replica
            .lock()
            .machine
            .queues()
            .map(|(queue, _)| queue)
            .collect();
        {
            let catalog = self.context.catalog.read();
            let applied = catalog.applied_index();
            known.retain(|queue| {
                queue.declared_at() <= applied && catalog.queue_by_id(*queue).is_none()
            });
        }
        if known.is_empty() {
            return;
        }
        debug!(shard = %self.replica.shard(), queues = known.len(), "forgetting deleted queues");
        let mut guard = self.replica.lock();
        let state = &mut *guard;
        if let Some(dispatcher) = &mut state.dispatcher {
            for queue in known {
                dispatcher.settings(
                    wall_clock_ms(),
                    queue,
                    None,
                    &state.machine,
                    &mut state.outbox,
                );
            }
        }
    }

    // ---- the operator's view ----

    fn report(&self, queues: &[QueueId]) -> Vec<QueueReport> {
        let guard = self.replica.lock();
        let Some(dispatcher) = &guard.dispatcher else {
            return Vec::new();
        };
        reports(dispatcher, &guard.machine, queues)
    }

    fn next_timeout(&self) -> Option<u64> {
        self.proposer.as_ref()?;
        self.replica
            .lock()
            .dispatcher
            .as_ref()
            .and_then(Dispatcher::next_timeout)
    }
}

/// Counts of `queues` (all, if empty) as the dispatcher knows them.
pub(super) fn reports(
    dispatcher: &Dispatcher,
    machine: &broker_model::shard::ShardMachine,
    queues: &[QueueId],
) -> Vec<QueueReport> {
    let mut reports = Vec::new();
    dispatcher.counts(machine, queues, |queue, counts, consumers| {
        reports.push(QueueReport {
            queue: queue.0,
            ready: counts.ready,
            unacked: counts.unacked,
            ready_bytes: counts.ready_bytes,
            dying: counts.dying,
            dying_bytes: counts.dying_bytes,
            tally: counts.tally.into(),
            consumers: consumers
                .iter()
                .map(|consumer| ConsumerReport {
                    node: consumer.origin.node.0,
                    connection: consumer.spec.connection,
                    channel: consumer.spec.channel,
                    tag: String::from_utf8_lossy(&consumer.spec.tag).into_owned(),
                    ack_required: !consumer.spec.no_ack,
                    exclusive: consumer.spec.exclusive,
                    prefetch: consumer.spec.prefetch,
                    priority: consumer.spec.priority,
                    active: consumer.active,
                })
                .collect(),
        });
    });
    reports
}

/// Whether this node leads, and neither its dispatcher nor its catalog has the queue yet.
fn is_ahead(replica: &ShardReplica, context: &HostContext, queue: QueueId) -> bool {
    let state = replica.lock();
    let known = state.dispatcher.as_ref().is_none_or(|d| d.knows(queue));
    drop(state);
    !known && context.is_ahead(queue)
}

async fn done(proposer: &mut Option<Proposer>) -> EntryDone {
    match proposer {
        Some(proposer) => proposer.done().await,
        None => std::future::pending().await,
    }
}

/// Sleeps until a time of the wall clock; for ever without one.
pub(super) async fn sleep_until(at_ms: Option<u64>) {
    match at_ms {
        Some(at_ms) => {
            let left = at_ms.saturating_sub(wall_clock_ms());
            tokio::time::sleep(Duration::from_millis(left)).await;
        }
        None => std::future::pending().await,
    }
}
