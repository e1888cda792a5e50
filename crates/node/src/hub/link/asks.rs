//! What sessions tell a link: operations, and what they ask about queues.

use super::Link;
use super::consumers::{Consumer, Reading};
use super::requests::Request;
use crate::hub::api::{Ask, SessionEvent, SessionId, SubBatch};
use broker_model::ids::RequestId;
use broker_model::op::SequenceRanges;
use broker_model::protocol::ToHost;
use tokio::time::Instant;
use tracing::error;

impl Link {
    pub(super) fn submit(&mut self, session: SessionId, batch: SubBatch) {
        let token = batch.token;
        let taken = self.send_queue.submit(Instant::now(), session, batch);
        self.brake.submitted(session, taken.bytes);
        if let Some(given_up) = taken.too_large {
            error!(placement = ?self.placement, bytes = taken.bytes, "publishes that are too large for one entry of the log are given up");
            self.tell(session, SessionEvent::given_up(token));
            self.brake.heard(session, given_up);
        }
    }

    pub(super) fn asked(&mut self, session: SessionId, ask: Ask) {
        let Some(ask) = self.follow(session, ask) else {
            return;
        };
        let deadline = Instant::now() + self.publish_timeout;
        match ask {
            Ask::Consume {
                consumer,
                queue,
                spec,
                credit,
            } => {
                self.holders.insert(session);
                let known = Consumer::new(session, queue, spec, credit, deadline);
                if let Some(attachment) = self.state.attached() {
                    let message = known.consume(consumer, SequenceRanges::new());
                    attachment.sender.message(message);
                }
                self.consumers.insert(consumer, known);
            }
            Ask::Cancel { consumer, queue } => {
                if let Some(attachment) = self.state.attached() {
                    attachment
                        .sender
                        .message(ToHost::Cancel { consumer, queue });
                    if let Some(known) = self.consumers.get_mut(consumer) {
                        known.cancel(deadline);
                    }
                } else {
                    self.forget_consumer(consumer, false);
                }
            }
            Ask::Credit {
                consumer,
                queue,
                more,
                bytes,
            } => {
                if let Some(known) = self.consumers.get_mut(consumer) {
                    known.credit = known.credit.saturating_add(more);
                    if let Some(attachment) = self.state.attached() {
                        attachment.sender.message(ToHost::Credit {
                            consumer,
                            queue,
                            more,
                            bytes,
                        });
                    }
                }
            }
            Ask::Revoke { consumer, queue } => {
                if let Some(attachment) = self.state.attached() {
                    attachment
                        .sender
                        .message(ToHost::Revoke { consumer, queue });
                    if let Some(known) = self.consumers.get_mut(consumer) {
                        known.revoking = true;
                    }
                } else if let Some(known) = self.consumers.get_mut(consumer) {
                    let unused = std::mem::take(&mut known.credit);
                    let session = known.session;
                    self.tell(session, SessionEvent::Revoked { consumer, unused });
                }
            }
            Ask::Get {
                request,
                queue,
                no_ack,
            } => {
                self.holders.insert(session);
                let message = ToHost::Get {
                    request,
                    queue,
                    no_ack,
                };
                self.request(session, request, message, deadline);
            }
            Ask::Count { request, queue } => {
                let message = ToHost::Count {
                    request,
                    queue,
                    used: true,
                };
                self.request(session, request, message, deadline);
            }
            Ask::Purge { request, queue } => {
                self.request(session, request, ToHost::Purge { request, queue }, deadline);
            }
            Ask::CheckDelete {
                request,
                queue,
                if_unused,
                if_empty,
            } => {
                let message = ToHost::CheckDelete {
                    request,
                    queue,
                    if_unused,
                    if_empty,
                };
                self.request(session, request, message, deadline);
            }
            Ask::Browse {
                request,
                queue,
                count,
                bytes,
            } => {
                let message = ToHost::Browse {
                    request,
                    queue,
                    count,
                    bytes,
                };
                self.request(session, request, message, deadline);
            }
            Ask::Read {
                consumer,
                queue: _,
                from,
                count,
                bytes,
            } => {
                if let Some(known) = self.consumers.get_mut(consumer) {
                    let message = known.read(consumer, Reading { from, count, bytes }, deadline);
                    if let Some(attachment) = self.state.attached() {
                        attachment.sender.message(message);
                    }
                }
            }
        }
    }

    fn request(
        &mut self,
        session: SessionId,
        request: RequestId,
        message: ToHost,
        deadline: Instant,
    ) {
        let after = self.send_queue.submitted();
        let deferred = after > self.send_queue.done();
        if !deferred && let Some(attachment) = self.state.attached() {
            attachment.sender.message(message.clone());
        }
        let known = Request {
            session,
            message,
            deadline,
            after,
        };
        self.requests.insert(request, known, deferred);
    }

    /// Sends requests whose time has come.
    pub(super) fn send_deferred(&mut self) {
        while let Some(message) = self.requests.next_due(self.send_queue.done()) {
            if let Some(attachment) = self.state.attached() {
                attachment.sender.message(message.clone());
            }
        }
    }

    pub(super) fn session_gone(&mut self, session: SessionId) {
        for (consumer, known) in self.consumers.take_of(session) {
            if let Some(attachment) = self.state.attached() {
                let queue = known.queue;
                attachment
                    .sender
                    .message(ToHost::Cancel { consumer, queue });
            }
        }
        self.brake.gone(session);
        self.moved_session_gone(session);
        self.requests.forget_session(session);
        self.holders.remove(&session);
        self.sessions.remove(&session);
    }
}
