//! From one leader to the next: what a new leader is told before it may deliver.
//!
//! First what sessions hold and have not given back, then the consumers, then all batches that have no
//! answer, then `Resumed`. What consumers of streams wait to read, and requests, follow.

use super::claims::Claims;
use super::{Link, State};
use crate::hub::api::{Held, SessionEvent, SessionId};
use broker_model::ids::ConsumerId;
use broker_model::op::{Op, SequenceRanges};
use broker_model::protocol::ToHost;
use std::collections::HashMap;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::debug;

/// How long sessions may take to say what they hold after a leader change: the publishers of this node wait meanwhile, and
/// the new leader waits no longer either.
const RESUME_TIMEOUT: Duration = Duration::from_secs(1);
/// Who wakes so much later than it wanted was stopped meanwhile.
const STOOD_STILL: Duration = Duration::from_millis(250);

/// A session that was asked what it holds, and its answer.
type Asked = (SessionId, oneshot::Receiver<Vec<Held>>);

impl Link {
    /// The attachment is over.
    pub(super) fn detach(&mut self, why: &'static str) {
        debug!(placement = ?self.placement, why, unanswered = self.send_queue.unanswered_count(), "link detached");
        self.state = State::Detached;
        self.unsure = None;
        // A cancellation under way is answered here: the new leader never hears of the consumer.
        for (consumer, known) in self.consumers.take_cancelling() {
            let by_host = false;
            self.tell(known.session, SessionEvent::Cancelled { consumer, by_host });
        }
        // Credit that was called back is: the new leader is told of none.
        for (consumer, session, unused) in self.consumers.take_revoking() {
            self.tell(session, SessionEvent::Revoked { consumer, unused });
        }
    }

    /// Asks every session that may hold something.
    pub(super) fn ask_what_is_held(&self) -> Vec<Asked> {
        let mut asks = Vec::with_capacity(self.holders.len());
        for session in &self.holders {
            let (reply, answer) = oneshot::channel();
            self.tell(
                *session,
                SessionEvent::Resume {
                    placement: self.placement,
                    reply,
                },
            );
            asks.push((*session, answer));
        }
        asks
    }

    /// Tells the new leader everything, and is attached to it.
    pub(super) fn resume(&mut self, held: Vec<(SessionId, Held)>) {
        let State::Resuming(attachment) = std::mem::replace(&mut self.state, State::Detached)
        else {
            return;
        };
        let sender = &attachment.sender;
        // What is settled or returned, and not sent yet, is held until then. What was sent may have been
        // applied already, and comes before `Resumed` if not: a message that is back in its queue would be
        // held for ever by a claim that comes after its return.
        for op in self.send_queue.waiting_ops() {
            if let Op::Settle { queue, sequences }
            | Op::Kill {
                queue, sequences, ..
            }
            | Op::Return {
                queue, sequences, ..
            } = op
            {
                sender.message(ToHost::Hold {
                    queue: *queue,
                    sequences: sequences.clone(),
                });
            }
        }
        self.claims = Claims::of(&held);
        let mut by_consumer: HashMap<ConsumerId, SequenceRanges> = HashMap::new();
        for (_, held) in held {
            let Held {
                consumer,
                queue,
                sequences,
            } = held;
            let known = self
                .consumers
                .get(consumer)
                .is_some_and(|c| c.confirmed && c.queue == queue);
            if known {
                by_consumer.entry(consumer).or_default().extend(sequences);
            } else {
                sender.message(ToHost::Hold { queue, sequences });
            }
        }
        for (id, consumer) in self.consumers.iter() {
            let mut ranges = by_consumer.remove(&id).unwrap_or_default();
            ranges.sort_unstable();
            sender.message(consumer.consume(id, ranges));
        }
        // What was not answered goes first: a settle among it must count before the new leader
        // takes what nobody claims for ready.
        for (head, ops) in self.send_queue.unanswered() {
            sender.batch(head, ops.clone());
        }
        sender.message(ToHost::Resumed);
        for (id, consumer) in self.consumers.iter() {
            if let Some(message) = consumer.unread(id) {
                sender.message(message);
            }
        }
        for message in self.requests.due(self.send_queue.done()) {
            sender.message(message.clone());
        }
        debug!(
            placement = ?self.placement,
            consumers = self.consumers.len(),
            resent = self.send_queue.unanswered_count(),
            "link attached"
        );
        self.state = State::Attached(attachment);
        if self.send_queue.is_local() {
            self.give_up_unanswered();
        }
    }

    /// The host in this process has these batches, but its answers went to an earlier attachment.
    fn give_up_unanswered(&mut self) {
        for part in self
            .send_queue
            .take_unanswered()
            .iter()
            .flat_map(|batch| &batch.parts)
        {
            self.brake.heard(part.session, part.bytes);
            if !part.given_up {
                self.tell(part.session, SessionEvent::given_up(part.token));
            }
        }
        self.send_deferred();
    }
}

/// What sessions answer in time.
pub(super) async fn gather(asks: Vec<Asked>) -> Vec<(SessionId, Held)> {
    let mut held = Vec::new();
    let mut deadline = Instant::now() + RESUME_TIMEOUT;
    let mut excused = false;
    for (session, mut ask) in asks {
        let mut answer = tokio::time::timeout_at(deadline, &mut ask).await;
        // This process stood still, and its sessions with it: they have not had their time.
        let late = || Instant::now() > deadline + STOOD_STILL;
        if answer.is_err() && !excused && late() {
            excused = true;
            deadline = Instant::now() + RESUME_TIMEOUT;
            answer = tokio::time::timeout_at(deadline, &mut ask).await;
        }
        // A session that ended holds nothing.
        if let Ok(Ok(answer)) = answer {
            held.extend(answer.into_iter().map(|held| (session, held)));
        }
    }
    held
}

#[cfg(test)]
mod tests {
    use super::*;
    use broker_model::ids::{QueueId, Sequence};

    fn told(number: u64) -> Vec<(SessionId, Held)> {
        let held = held(number).into_iter();
        held.map(|held| (SessionId(number), held)).collect()
    }

    fn held(number: u64) -> Vec<Held> {
        vec![Held {
            consumer: ConsumerId(number),
            queue: QueueId(1),
            sequences: SequenceRanges::from_slice(&[(Sequence(number), Sequence(number))]),
        }]
    }

    #[tokio::test(start_paused = true)]
    async fn sessions_that_say_nothing_are_not_waited_for_long() {
        let ((first, a), (_silent, b), (last, c)) =
            (oneshot::channel(), oneshot::channel(), oneshot::channel());
        first.send(held(1)).unwrap();
        last.send(held(3)).unwrap();
        let began = Instant::now();
        let asks = vec![(SessionId(1), a), (SessionId(2), b), (SessionId(3), c)];
        assert_eq!(gather(asks).await, [told(1), told(3)].concat());
        assert_eq!(began.elapsed(), RESUME_TIMEOUT);
    }

    /// What they hold would be given to others.
    #[tokio::test(start_paused = true)]
    async fn sessions_of_a_process_that_stood_still_get_their_time() {
        let (session, asked) = oneshot::channel();
        let gathered = tokio::spawn(gather(vec![(SessionId(1), asked)]));
        tokio::task::yield_now().await;
        // Whoever waits for the time wakes first.
        tokio::time::advance(RESUME_TIMEOUT * 5).await;
        tokio::task::yield_now().await;
        session.send(held(1)).unwrap();
        assert_eq!(gathered.await.unwrap(), told(1));
    }
}
