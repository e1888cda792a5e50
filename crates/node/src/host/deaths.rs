//! Messages that died in queues that this node hosts: counted, and those that failed too often told.
//!
//! Nobody else may hear of a message that dies at the delivery limit of a queue without a dead letter
//! exchange, so that is a line in the log, for a queue that goes on so one a while.

use crate::catalog::machine::CatalogMachine;
use crate::metrics::Metrics;
use broker_model::dispatch::DeadLetter;
use broker_model::ids::QueueId;
use broker_model::op::DeathReason;
use broker_model::shard::Effect;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tracing::warn;

/// A queue is told of once in this time at most.
const QUIET: Duration = Duration::from_secs(30);
/// Queues that are kept apart. What dies in others is told at once.
const QUEUES_MAX: usize = 1024;

/// Deaths that were applied and are not counted yet.
#[derive(Debug, Default)]
pub struct Died(Vec<(QueueId, DeathReason, u64)>);

impl Died {
    /// Takes note of what was applied on the leader.
    pub fn note(&mut self, effects: &[Effect]) {
        for effect in effects {
            let Effect::Killed {
                queue,
                sequences,
                reason,
                ..
            } = effect
            else {
                continue;
            };
            let count: u64 = sequences
                .iter()
                .map(|(from, to)| to.0.saturating_sub(from.0).saturating_add(1))
                .sum();
            self.add(*queue, *reason, count);
        }
    }

    /// Takes note of messages that a full queue refused and dead-letters: they never were in it.
    pub fn note_refused(&mut self, letters: &[DeadLetter]) {
        for letter in letters {
            self.add(letter.queue, letter.reason, 1);
        }
    }

    fn add(&mut self, queue: QueueId, reason: DeathReason, count: u64) {
        match self.0.last_mut() {
            Some((of, why, sum)) if *of == queue && *why == reason => *sum += count,
            _ => self.0.push((queue, reason, count)),
        }
    }

    /// Takes what was noted.
    pub fn take(&mut self) -> Vec<(QueueId, DeathReason, u64)> {
        std::mem::take(&mut self.0)
    }
}

/// What of a queue is told and to be told.
#[derive(Debug)]
struct Told {
    at: Instant,
    since: u64,
}

/// Counts deaths and tells of them.
#[derive(Debug)]
pub struct Deaths {
    metrics: Arc<Metrics>,
    told: HashMap<QueueId, Told>,
}

impl Deaths {
    /// Nothing has died.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            metrics,
            told: HashMap::new(),
        }
    }

    /// Counts, and tells where it must.
    pub fn count(&mut self, died: Vec<(QueueId, DeathReason, u64)>, catalog: &CatalogMachine) {
        for (queue, reason, count) in died {
            let catalog = catalog.read();
            let record = catalog.queue_by_id(queue);
            // What "dies" in a queue of the broker itself goes on its way.
            if record.is_some_and(|record| record.settings().store.is_some()) {
                continue;
            }
            let counts = &self.metrics.counts;
            let counter = match reason {
                DeathReason::Rejected => &counts.died_rejected,
                DeathReason::Expired => &counts.died_expired,
                DeathReason::MaxLength => &counts.died_maxlen,
                DeathReason::DeliveryLimit => &counts.died_delivery_limit,
            };
            counter.add(count);
            if reason != DeathReason::DeliveryLimit {
                continue;
            }
            let Some(messages) = self.due(queue, count, Instant::now()) else {
                continue;
            };
            let name = record.map_or("?", |record| &*record.name);
            let vhost = record.map_or("?", |record| &*record.vhost);
            let dead_lettered =
                record.is_some_and(|record| record.settings().dead_letter_exchange.is_some());
            warn!(
                queue = name,
                vhost,
                messages,
                dead_lettered,
                "messages failed more often than the delivery limit allows"
            );
        }
    }

    /// How many messages of a queue are to be told of now.
    fn due(&mut self, queue: QueueId, count: u64, now: Instant) -> Option<u64> {
        if self.told.len() >= QUEUES_MAX {
            self.told
                .retain(|_, told| now.duration_since(told.at) < QUIET);
        }
        match self.told.get_mut(&queue) {
            Some(told) if now.duration_since(told.at) < QUIET => {
                told.since += count;
                None
            }
            Some(told) => {
                told.at = now;
                Some(std::mem::take(&mut told.since) + count)
            }
            None => {
                if self.told.len() < QUEUES_MAX {
                    self.told.insert(queue, Told { at: now, since: 0 });
                }
                Some(count)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use broker_model::ids::Sequence;
    use broker_model::message::Message;

    const A: QueueId = QueueId(1 << 16);
    const B: QueueId = QueueId(2 << 16);

    #[test]
    fn deaths_are_summed_up() {
        let killed = |queue, reason, from, to| Effect::Killed {
            queue,
            sequences: smallvec::smallvec![(Sequence(from), Sequence(to))],
            reason,
            dead_letter: false,
        };
        let mut died = Died::default();
        died.note(&[
            killed(A, DeathReason::Expired, 1, 3),
            killed(A, DeathReason::Expired, 5, 5),
            Effect::Deleted { queue: A },
            killed(B, DeathReason::MaxLength, 1, 1),
        ]);
        let expected = [(A, DeathReason::Expired, 4), (B, DeathReason::MaxLength, 1)];
        assert_eq!(died.take(), expected);
        assert_eq!(died.take(), []);
    }

    #[test]
    fn what_a_full_queue_refuses_and_dead_letters_has_died() {
        let letter = DeadLetter {
            queue: A,
            sequence: None,
            identity: None,
            reason: DeathReason::MaxLength,
            delivery_count: 0,
            expires_at_ms: None,
            message: Message::default(),
        };
        let mut died = Died::default();
        died.note_refused(&[letter.clone(), letter]);
        assert_eq!(died.take(), [(A, DeathReason::MaxLength, 2)]);
    }

    #[tokio::test]
    async fn a_queue_is_told_of_once_in_a_while_and_nothing_is_left_out() {
        let mut deaths = Deaths::new(Arc::default());
        let start = Instant::now();
        // (seconds, queue, died, told)
        for (at, queue, count, told) in [
            (0, A, 2, Some(2)),
            (1, A, 3, None),
            (1, B, 1, Some(1)),
            (29, A, 4, None),
            (31, A, 1, Some(8)),
            (32, A, 1, None),
        ] {
            let now = start + Duration::from_secs(at);
            assert_eq!(deaths.due(queue, count, now), told, "{at}");
        }
    }
}
