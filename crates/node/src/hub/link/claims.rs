//! What sessions of this node claimed to hold when the link attached last.
//!
//! A leader that has given such a message away meanwhile takes no claim for it, and says nothing: the node was taken for
//! lost, or told too late. The client goes on holding it. When the message comes to somebody of this same node then, what
//! that client gives back would be taken for the newcomer's, who holds it now, and go to a third.

use super::Link;
use crate::hub::api::{Held, SessionEvent, SessionId};
use broker_model::ids::{QueueId, Sequence};
use broker_model::protocol::Delivery;
use std::collections::{HashMap, HashSet};

/// Ranges of each queue, ascending, with the sessions that claimed them.
#[derive(Debug, Default)]
pub(super) struct Claims {
    by_queue: HashMap<QueueId, Vec<(Sequence, Sequence, SessionId)>>,
    /// What is claimed no longer: whoever had it has given it back, or was told.
    over: HashSet<(QueueId, Sequence)>,
}

impl Claims {
    pub(super) fn of(held: &[(SessionId, Held)]) -> Self {
        let mut by_queue: HashMap<QueueId, Vec<_>> = HashMap::new();
        for (session, held) in held {
            let ranges = held.sequences.iter();
            let claimed = ranges.map(|(from, to)| (*from, *to, *session));
            by_queue.entry(held.queue).or_default().extend(claimed);
        }
        // No message is held twice, so no two ranges overlap.
        (by_queue.values_mut()).for_each(|ranges| ranges.sort_unstable());
        Self {
            by_queue,
            over: HashSet::new(),
        }
    }

    /// Which session claimed a message that somebody is given now. It does so once.
    fn take(&mut self, queue: QueueId, sequence: Sequence) -> Option<SessionId> {
        let ranges = self.by_queue.get(&queue)?;
        let behind = ranges.partition_point(|(from, ..)| *from <= sequence);
        let (_, to, session) = *ranges.get(behind.checked_sub(1)?)?;
        (sequence <= to && self.over.insert((queue, sequence))).then_some(session)
    }
}

impl Link {
    /// To be called before deliveries are passed on: whoever claimed one of the messages, and has not given it back since, has it no
    /// longer. Each session is told once for all of them, because it has to look through all that it holds.
    pub(super) fn tell_who_has_lost<'a>(
        &mut self,
        deliveries: impl IntoIterator<Item = &'a Delivery>,
    ) {
        if self.claims.by_queue.is_empty() {
            return;
        }
        let mut lost: HashMap<SessionId, HashSet<(QueueId, Sequence)>> = HashMap::new();
        // What was never out is nobody's.
        for delivery in deliveries.into_iter().filter(|given| given.redelivered) {
            let message = (delivery.queue, delivery.sequence);
            if let Some(session) = self.claims.take(message.0, message.1) {
                lost.entry(session).or_default().insert(message);
            }
        }
        for (session, messages) in lost {
            self.tell(session, SessionEvent::Lost { messages });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use broker_model::ids::ConsumerId;

    #[test]
    fn what_is_claimed() {
        let held = |queue, ranges: &[(u64, u64)]| {
            let held = Held {
                consumer: ConsumerId(7),
                queue: QueueId(queue),
                sequences: (ranges.iter())
                    .map(|(from, to)| (Sequence(*from), Sequence(*to)))
                    .collect(),
            };
            (SessionId(queue), held)
        };
        let mut claims = Claims::of(&[
            held(1, &[(7, 9), (20, 20)]),
            held(2, &[(5, 5)]),
            held(1, &[(1, 2), (10, 11)]),
        ]);
        assert_eq!(
            claims.take(QueueId(2), Sequence(5)),
            Some(SessionId(2)),
            "whose it was"
        );
        let mut of = |queue| -> Vec<u64> {
            let numbers = 0..=30;
            (numbers.filter(|number| claims.take(QueueId(queue), Sequence(*number)).is_some()))
                .collect()
        };
        assert_eq!(of(1), [1, 2, 7, 8, 9, 10, 11, 20]);
        assert_eq!((of(1), of(2), of(3)), (vec![], vec![], vec![]), "once");
    }
}
