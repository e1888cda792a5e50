//! What the host tells a link, passed on to the sessions that it is for.

use super::Link;
use crate::hub::api::{SessionEvent, SessionId};
use broker_model::ids::{ConsumerId, RequestId};
use broker_model::op::{BatchOutcome, BatchStatus, Op, SequenceRanges};
use broker_model::protocol::{Delivery, FromHost, Refused, Subject};
use std::time::Duration;
use tokio::time::Instant;
use tracing::error;

/// What should not happen happens again at once: so much for not filling the log with it.
const PAUSE: Duration = Duration::from_secs(1);

impl Link {
    pub(super) fn hear(&mut self, message: FromHost) {
        match message {
            FromHost::Outcome(outcome) => self.outcome(&outcome),
            FromHost::ConsumeOk { consumer, order } => {
                if let Some(known) = self.consumers.get_mut(consumer) {
                    known.order = order;
                    if !std::mem::replace(&mut known.confirmed, true) {
                        let session = known.session;
                        self.tell(session, SessionEvent::ConsumeOk { consumer });
                    }
                }
            }
            FromHost::Active { consumer, since } => {
                if let Some(known) = self.consumers.get_mut(consumer) {
                    known.active_since = since;
                }
            }
            FromHost::Refused { subject, why } => self.refused(subject, why),
            FromHost::Cancelled { consumer, by_host } => self.forget_consumer(consumer, by_host),
            FromHost::Deliver(deliveries) => self.deliver(deliveries),
            FromHost::Revoked { consumer, unused } => {
                if let Some(known) = self.consumers.get_mut(consumer) {
                    known.credit = known.credit.saturating_sub(unused);
                    known.revoking = false;
                    let session = known.session;
                    self.tell(session, SessionEvent::Revoked { consumer, unused });
                }
            }
            FromHost::TooLarge {
                consumer,
                unused,
                size,
            } => {
                if let Some(known) = self.consumers.get_mut(consumer) {
                    known.credit = known.credit.saturating_sub(unused);
                    let session = known.session;
                    let too_large = SessionEvent::TooLarge {
                        consumer,
                        unused,
                        size,
                    };
                    self.tell(session, too_large);
                }
            }
            FromHost::Starved { consumer } => {
                if let Some(known) = self.consumers.get(consumer) {
                    self.tell(known.session, SessionEvent::Starved { consumer });
                }
            }
            FromHost::Got { request, delivery } => {
                if let Some((delivery, _)) = &delivery {
                    self.tell_who_has_lost([&**delivery]);
                }
                let got = SessionEvent::Got { request, delivery };
                let unheard = match self.requests.remove(request) {
                    Some(session) => self.offer(session, got).err(),
                    None => Some(got),
                };
                // The session left while the message was on its way: it goes back.
                if let Some(SessionEvent::Got {
                    delivery: Some((delivery, _)),
                    ..
                }) = unheard
                {
                    self.return_unclaimed(&delivery);
                }
            }
            FromHost::Counts {
                request,
                ready,
                unacked,
                consumers,
                ..
            } => {
                let counts = SessionEvent::Counts {
                    request,
                    ready,
                    unacked,
                    consumers,
                };
                self.answer(request, counts);
            }
            FromHost::Browsed { request, messages } => {
                self.answer(request, SessionEvent::Browsed { request, messages });
            }
            FromHost::Read {
                consumer,
                next,
                messages,
            } => {
                if let Some(known) = self.consumers.get_mut(consumer) {
                    known.reading = None;
                    let read = SessionEvent::Read {
                        consumer,
                        next,
                        messages,
                    };
                    let session = known.session;
                    self.tell(session, read);
                }
            }
            FromHost::NotLeader { leader } => {
                self.connector.not_leader(leader);
                self.detach("it is not the leader");
            }
        }
    }

    /// Passes on what was held back for long enough.
    pub(super) fn release(&mut self) {
        let now = Instant::now();
        while let Some((session, event)) = self.brake.release(now) {
            self.tell(session, event);
        }
    }

    pub(super) fn forget_consumer(&mut self, consumer: ConsumerId, by_host: bool) {
        if let Some(known) = self.consumers.remove(consumer) {
            self.tell(known.session, SessionEvent::Cancelled { consumer, by_host });
        }
    }

    /// Answers a request, if its session is still there.
    fn answer(&mut self, request: RequestId, event: SessionEvent) {
        if let Some(session) = self.requests.remove(request) {
            self.tell(session, event);
        }
    }

    fn refused(&mut self, subject: Subject, why: Refused) {
        match subject {
            Subject::Consumer(consumer) => {
                if let Some(known) = self.consumers.remove(consumer) {
                    // A confirmed consumer that a new leader refuses has lost its queue.
                    let event = if known.confirmed {
                        SessionEvent::Cancelled {
                            consumer,
                            by_host: true,
                        }
                    } else {
                        SessionEvent::Refused { subject, why }
                    };
                    self.tell(known.session, event);
                }
            }
            Subject::Request(request) => {
                self.answer(request, SessionEvent::Refused { subject, why });
            }
        }
    }

    fn outcome(&mut self, outcome: &BatchOutcome) {
        if outcome.origin != self.send_queue.origin() {
            return;
        }
        match outcome.status {
            BatchStatus::Applied | BatchStatus::Duplicate => {
                self.batch_done(outcome.number, &outcome.refused_ops);
            }
            BatchStatus::Gap => {
                // Cannot happen on an ordered stream that starts with what is unanswered.
                error!(placement = ?self.placement, number = outcome.number, "a batch was sent before its predecessor was applied");
                self.pause = PAUSE;
                self.detach("a gap in the batches");
            }
            BatchStatus::Stale => {
                error!(placement = ?self.placement, "a later start of this node is known: is another process running with this node's id, or is its data an old copy and its clock behind?");
                self.pause = PAUSE;
                self.detach("a later start of this node is known");
            }
        }
    }

    fn batch_done(&mut self, number: u64, refused_ops: &[u32]) {
        let Some(done) = self.send_queue.answer(number) else {
            return;
        };
        let now = Instant::now();
        for part in &done.parts {
            if part.given_up {
                self.brake.heard(part.session, part.bytes);
                continue;
            }
            let event = SessionEvent::Outcome {
                token: part.token,
                refused_ops: part.refused(refused_ops),
                given_up: false,
            };
            let heard = self.brake.answered(now, part.session, part.bytes, event);
            if let Some(event) = heard {
                self.tell(part.session, event);
            }
        }
        self.send_deferred();
    }

    fn deliver(&mut self, deliveries: Vec<Delivery>) {
        self.tell_who_has_lost(&deliveries);
        if let Some(session) = self.consumers.use_credit(&deliveries) {
            self.hand_out(session, deliveries);
            return;
        }
        let mut by_session: Vec<(SessionId, Vec<Delivery>)> = Vec::new();
        for delivery in deliveries {
            match self.consumers.get(delivery.consumer) {
                Some(known) => match by_session
                    .iter_mut()
                    .find(|(session, _)| *session == known.session)
                {
                    Some((_, list)) => list.push(delivery),
                    None => by_session.push((known.session, vec![delivery])),
                },
                None => self.return_unclaimed(&delivery),
            }
        }
        for (session, list) in by_session {
            self.hand_out(session, list);
        }
    }

    /// Passes deliveries on; those of a session that has ended go back.
    fn hand_out(&mut self, session: SessionId, deliveries: Vec<Delivery>) {
        if let Err(SessionEvent::Deliver(deliveries)) =
            self.offer(session, SessionEvent::Deliver(deliveries))
        {
            for delivery in &deliveries {
                self.return_unclaimed(delivery);
            }
        }
    }

    /// A message for a consumer or request that is gone goes back uncounted.
    fn return_unclaimed(&mut self, delivery: &Delivery) {
        let sequences = SequenceRanges::from_slice(&[(delivery.sequence, delivery.sequence)]);
        let op = Op::Return {
            queue: delivery.queue,
            sequences,
            counted: false,
        };
        self.send_queue.submit_own(Instant::now(), op);
    }
}
