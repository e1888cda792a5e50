//! A host of queues without a log: operations are applied as they come.

use crate::host::HostInput;
use crate::host::streams::{Found, Wanted, find};
use crate::hub::attachment::{AttachmentId, BatchOps};
use broker_model::catalog::Catalog;
use broker_model::dispatch::{Dispatcher, Outbox};
use broker_model::ids::{Origin, Placement, QueueId};
use broker_model::protocol::FromHost;
use broker_model::shard::ShardMachine;
use parking_lot::RwLock;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;

pub(super) struct TestHost {
    pub(super) placement: Placement,
    pub(super) catalog: Arc<RwLock<Catalog>>,
    pub(super) inbox: mpsc::UnboundedReceiver<HostInput>,
    /// Queues that lost their last consumer.
    pub(super) unused: mpsc::UnboundedSender<QueueId>,
    pub(super) links: Vec<(AttachmentId, Origin, mpsc::UnboundedSender<Vec<FromHost>>)>,
    pub(super) machine: ShardMachine,
    pub(super) dispatcher: Dispatcher,
    /// Consumers of streams, until there is something for them.
    pub(super) readers: Vec<Wanted>,
    /// Bytes of messages of streams that were sent.
    pub(super) read_bytes: Arc<AtomicU64>,
}

impl TestHost {
    pub(super) async fn run(mut self) {
        let mut out = Outbox::default();
        let mut effects = Vec::new();
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        loop {
            tokio::select! {
                input = self.inbox.recv() => match input {
                    Some(input) => self.handle(input, &mut out),
                    None => return,
                },
                _ = tick.tick() => {}
            }
            while self.dispatcher.pump(now_ms(), &self.machine, &mut out)
                || !out.leader_ops.is_empty()
            {
                for op in std::mem::take(&mut out.leader_ops) {
                    self.machine.apply_op(now_ms(), None, op, &mut effects);
                }
                self.dispatcher
                    .effects(now_ms(), &effects, &self.machine, &mut out);
                effects.clear();
            }
            let readers = std::mem::take(&mut self.readers);
            readers.into_iter().for_each(|wanted| self.read(wanted));
            for (origin, message) in out.to_nodes.drain(..) {
                if let Some((_, _, replies)) = self.links.iter().find(|(_, of, _)| *of == origin) {
                    let _ = replies.send(vec![message]);
                }
            }
            for queue in out.unused.drain(..) {
                let _ = self.unused.send(queue);
            }
            out.dead_letters.clear();
            out.expired.clear();
        }
    }

    fn handle(&mut self, input: HostInput, out: &mut Outbox) {
        match input {
            HostInput::Attach {
                attachment,
                origin,
                replies,
            } => {
                self.links.push((attachment, origin, replies));
                self.dispatcher.attached(origin);
            }
            HostInput::Detach { attachment } => {
                self.links.retain(|(id, ..)| *id != attachment);
                self.readers
                    .retain(|wanted| wanted.attachment != attachment);
            }
            HostInput::Batch {
                attachment,
                head,
                ops,
            } => {
                let ops = match ops {
                    BatchOps::Plain(ops) => ops,
                    BatchOps::Encoded(bytes) => broker_model::wire::OpsReader::new(bytes)
                        .map(Result::unwrap)
                        .collect(),
                };
                for op in &ops {
                    if let broker_model::op::Op::Publish { targets, .. } = op {
                        targets
                            .iter()
                            .for_each(|target| self.learn(target.queue, out));
                    }
                }
                let refusals = self.dispatcher.admit_ops(&ops, &self.machine, out);
                let mut effects = Vec::new();
                let outcome =
                    self.machine
                        .apply_plain(now_ms(), &head, ops, &refusals, &mut effects);
                self.dispatcher
                    .effects(now_ms(), &effects, &self.machine, out);
                if let Some((_, _, replies)) = self.links.iter().find(|(id, ..)| *id == attachment)
                {
                    let _ = replies.send(vec![FromHost::Outcome(outcome)]);
                }
            }
            HostInput::Message {
                attachment,
                message,
            } => {
                let Some((_, origin, _)) = self.links.iter().find(|(id, ..)| *id == attachment)
                else {
                    return;
                };
                let origin = *origin;
                if let Some(wanted) = Wanted::of(attachment, &message) {
                    self.read(wanted);
                    return;
                }
                if let Some(queue) = message.queue() {
                    self.learn(queue, out);
                }
                self.dispatcher
                    .handle(now_ms(), origin, message, &self.machine, out);
            }
            HostInput::Settings { queue, settings } => {
                self.dispatcher
                    .settings(now_ms(), queue, settings, &self.machine, out);
            }
            HostInput::NodeLost { .. } => self.links.clear(),
            _ => {}
        }
    }

    fn read(&mut self, wanted: Wanted) {
        let Found::Here(next, messages) = find(&self.machine, &wanted) else {
            self.readers.push(wanted);
            return;
        };
        let bytes = messages.iter().map(|(_, stored)| stored.message.weight());
        self.read_bytes
            .fetch_add(bytes.sum::<usize>() as u64, Ordering::Relaxed);
        let answer = FromHost::Read {
            consumer: wanted.consumer,
            next,
            messages,
        };
        let links = &self.links;
        if let Some((_, _, replies)) = links.iter().find(|(id, ..)| *id == wanted.attachment) {
            let _ = replies.send(vec![answer]);
        }
    }

    /// A queue is looked up when it is first named.
    fn learn(&mut self, queue: QueueId, out: &mut Outbox) {
        if self.dispatcher.knows(queue) {
            return;
        }
        let settings = {
            let catalog = self.catalog.read();
            let record = catalog
                .queue_by_id(queue)
                .filter(|record| record.placement == self.placement);
            record.map(|record| catalog.queue_settings(record))
        };
        if settings.is_some() {
            self.dispatcher
                .settings(now_ms(), queue, settings, &self.machine, out);
        }
    }
}

pub(super) fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64)
}
