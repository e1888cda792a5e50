//! What has waited too long is answered: no session waits for ever for a leader that does not come.

use super::Link;
use crate::hub::api::SessionEvent;
use broker_model::protocol::{Subject, ToHost};
use tokio::time::Instant;
use tracing::warn;

impl Link {
    /// Answers what has waited too long.
    pub(super) fn give_up(&mut self, now: Instant) {
        let given_up = self.send_queue.give_up_late(now, self.publish_timeout);
        for (session, bytes) in given_up.dropped {
            self.brake.heard(session, bytes);
        }
        self.send_deferred();
        if !given_up.tokens.is_empty() {
            warn!(placement = ?self.placement, sub_batches = given_up.tokens.len(), "no majority within the publish timeout; publishes given up");
        }
        for (session, token) in given_up.tokens {
            self.tell(session, SessionEvent::given_up(token));
        }
        for (request, session) in self.requests.give_up_late(now) {
            let subject = Subject::Request(request);
            self.tell(session, SessionEvent::RequestFailed { subject });
        }
        // The host takes it off whenever it comes to it.
        for (consumer, known) in self.consumers.take_late_cancelling(now) {
            let by_host = false;
            self.tell(known.session, SessionEvent::Cancelled { consumer, by_host });
        }
        for (consumer, known) in self.consumers.take_late(now) {
            if let Some(attachment) = self.state.attached() {
                let queue = known.queue;
                attachment
                    .sender
                    .message(ToHost::Cancel { consumer, queue });
            }
            let subject = Subject::Consumer(consumer);
            self.tell(known.session, SessionEvent::RequestFailed { subject });
        }
    }
}
