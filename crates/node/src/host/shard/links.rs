//! What attached links say: batches go to the proposer, everything else to the dispatcher.

use super::super::attached::Replies;
use super::super::replica::ShardReplica;
use super::super::streams::Wanted;
use super::super::{HostContext, HostInput, browse};
use super::ShardHost;
use crate::hub::attachment::{AttachmentId, BatchOps};
use crate::hub::encode_ops;
use broker_model::ids::{NodeId, Origin, QueueId};
use broker_model::op::{BatchHead, BatchOutcome};
use broker_model::protocol::{FromHost, ToHost};
use broker_model::wire::validate_ops;
use std::sync::Arc;
use tokio::sync::mpsc;
use tracing::{debug, warn};

impl ShardHost {
    pub(super) fn attach(
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
        // It asks again for what was to be answered to its stream before.
        self.answers.forget(origin);
        if let Some((now_ms, dispatcher, _, outbox)) = self.replica.lock().leading() {
            if let Some(former) = former {
                dispatcher.node_lost(now_ms, former, outbox);
            }
            dispatcher.attached(origin);
            outbox.to_nodes.retain(|(to, _)| *to != origin);
        }
    }

    pub(super) fn detach(&mut self, attachment: AttachmentId) {
        let origin = self.links.origin(attachment);
        self.links.detach(attachment);
        self.readers.forget(attachment);
        let Some(origin) = origin else {
            return;
        };
        if let Some(dispatcher) = &mut self.replica.lock().dispatcher {
            dispatcher.detached(origin);
        }
        if self.context.process_is_dead(origin.node) {
            self.node_lost(origin.node);
        }
    }

    pub(super) fn batch(&mut self, attachment: AttachmentId, head: BatchHead, ops: BatchOps) {
        let Some(origin) = self.links.origin(attachment) else {
            return;
        };
        let ops = match ops {
            BatchOps::Encoded(ops) => ops,
            BatchOps::Plain(ops) => encode_ops(&ops),
        };
        if head.origin != origin || validate_ops(&ops).is_err() {
            warn!(node = %origin.node, "a malformed batch was refused");
            self.detach(attachment);
            return;
        }
        self.links.batch_received(attachment, head.number);
        if let Some(proposer) = &mut self.proposer {
            proposer.push_batch(head, ops);
        }
    }

    pub(super) fn message(&mut self, attachment: AttachmentId, message: ToHost) {
        let Some(origin) = self.links.origin(attachment) else {
            return;
        };
        let (replica, context) = (&self.replica, &self.context);
        let is_ahead = |queue| is_ahead(replica, context, queue);
        if let Some(message) = self.ahead.keep(attachment, message, is_ahead) {
            self.take(attachment, origin, message);
        }
    }

    pub(super) fn try_again(&mut self) {
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
            let inbox = self.to_self.clone();
            browse::answer(Some(self.replica.shelf()), queue, last, move |messages| {
                let answer = FromHost::Browsed { request, messages };
                let _ = inbox.send(HostInput::Browsed { attachment, answer });
            });
            return;
        }
        if let Some(wanted) = Wanted::of(attachment, &message) {
            self.read(wanted);
            return;
        }
        if let ToHost::Cancel { consumer, queue } = message {
            self.readers.cancel(attachment, queue, consumer);
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
        let mut state = self.replica.lock();
        let Some((now_ms, dispatcher, machine, outbox)) = state.leading() else {
            return;
        };
        if let Some((queue, settings)) = unknown {
            dispatcher.settings(now_ms, queue, Some(settings), machine, outbox);
        }
        dispatcher.handle(now_ms, origin, message, machine, outbox);
    }

    /// Entries were applied: their outcomes are passed on, and every `Resumed` that has waited for one.
    pub(super) fn applied(&mut self, outcomes: Vec<BatchOutcome>) {
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
        self.serve_readers();
    }

    pub(super) fn browsed(&mut self, attachment: AttachmentId, answer: FromHost) {
        if let Some(origin) = self.links.origin(attachment) {
            let mut replies = Replies::default();
            replies.push(origin, answer);
            self.links.send(&mut replies);
        }
    }
}

/// Whether this node leads, and neither its dispatcher nor its catalog has the queue yet.
fn is_ahead(replica: &ShardReplica, context: &HostContext, queue: QueueId) -> bool {
    replica.lacks(queue) && context.is_ahead(queue)
}
