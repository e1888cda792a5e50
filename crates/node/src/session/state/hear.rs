//! What the hub tells a session.

use super::Session;
use crate::hub::api::SessionEvent;
use crate::session::wait::Answer;
use broker_model::protocol::Subject;
use tracing::info;

impl Session {
    /// What had not been heard when the connection ended: messages go back, and a leader that asked must not
    /// hand out what was acknowledged.
    pub(in super::super) fn hear_at_the_end(&mut self, event: SessionEvent) {
        if let SessionEvent::Deliver(_) | SessionEvent::Got { .. } | SessionEvent::Resume { .. } =
            event
        {
            self.hear(event);
        }
    }

    pub(in super::super) fn hear(&mut self, event: SessionEvent) {
        match event {
            SessionEvent::Outcome {
                token,
                refused_ops,
                given_up,
            } => {
                let answered = self.outbox.answered(token, &refused_ops, given_up);
                for (key, publish, accepted) in answered.publishes {
                    self.publish_answered(key, publish, accepted);
                }
                for freed in answered.freed {
                    self.freed(freed);
                }
                for barrier in answered.barriers {
                    self.step(barrier);
                }
            }
            SessionEvent::Deliver(deliveries) => self.deliver(deliveries),
            SessionEvent::ConsumeOk { consumer } => self.consume_ok(consumer),
            SessionEvent::Cancelled { consumer, by_host } => self.cancelled(consumer, by_host),
            SessionEvent::Revoked { consumer, unused } => self.revoked(consumer, unused),
            SessionEvent::TooLarge {
                consumer,
                unused,
                size,
            } => self.too_large(consumer, unused, size),
            SessionEvent::Starved { consumer } => self.starved(consumer),
            SessionEvent::Read {
                consumer,
                next,
                messages,
            } => self.has_read(consumer, next, messages),
            SessionEvent::Refused {
                subject: Subject::Consumer(consumer),
                why,
            } => {
                self.consume_refused(consumer, Some(why));
            }
            SessionEvent::RequestFailed {
                subject: Subject::Consumer(consumer),
            } => {
                self.consume_refused(consumer, None);
            }
            SessionEvent::Refused {
                subject: Subject::Request(request),
                why,
            } => {
                self.answer(request, Answer::Refused(why));
            }
            SessionEvent::RequestFailed {
                subject: Subject::Request(request),
            } => {
                self.answer(request, Answer::Failed);
            }
            SessionEvent::Got { request, delivery } => self.answer(request, Answer::Got(delivery)),
            SessionEvent::Counts {
                request,
                ready,
                consumers,
                ..
            } => {
                self.answer(request, Answer::Counts { ready, consumers });
            }
            // No client asks for copies.
            SessionEvent::Browsed { .. } => {}
            SessionEvent::Resume { placement, reply } => {
                let _ = reply.send(self.held(placement));
            }
            SessionEvent::Lost { messages } => self.lose(&messages),
            SessionEvent::Moved {
                old,
                new,
                placement,
            } => self.queue_moved(old, new, placement),
            SessionEvent::Close { reason } => {
                self.report_all_confirms();
                if self.conn.force_close(&reason, self.now) {
                    info!(reason, "connection closed by the operator");
                    self.drop_channels();
                }
            }
        }
    }
}
