//! Operations on their way: gathered per place during a turn, submitted as one batch each, and
//! remembered until they are answered.

use super::channel::{ChannelKey, Unacked};
use crate::hub::SessionHandle;
use crate::hub::api::SubBatch;
use broker_model::ids::{ConsumerId, Placement, QueueId, Sequence};
use broker_model::op::{DeathReason, Op, SequenceRanges};
use smallvec::SmallVec;
use std::collections::HashMap;

/// What an operation accounts for, apart from its message.
const OP_OVERHEAD: usize = 512;

/// Among so few queues one is looked for one by one.
const FEW_QUEUES: usize = 16;

/// What happens to messages that a client has done with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Settlement {
    /// Acknowledged.
    Done,
    /// Rejected without requeue.
    Rejected,
    /// Back to the queue; whether that counts as a failed delivery.
    Returned { counted: bool },
}

/// Publishes of one channel that stand next to each other in a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    channel: ChannelKey,
    /// Index of the first operation.
    first_op: u32,
    /// Number of its publish on the channel.
    first_publish: u64,
    count: u32,
}

/// Gathered for one place during a turn.
#[derive(Debug, Default)]
struct Gathered {
    publishes: Vec<Op>,
    runs: Vec<Run>,
    bytes: usize,
    settled: Vec<(Settlement, QueueId, Vec<Sequence>)>,
    /// Where in `settled`, where they are many.
    settled_at: HashMap<(Settlement, QueueId), usize>,
    barriers: SmallVec<[u64; 1]>,
    freed: Vec<Freed>,
}

/// Room in a consumer's prefetch that messages leave when they are back in their queue. Not before:
/// credit that overtakes them would fetch younger ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Freed {
    pub(super) channel: ChannelKey,
    pub(super) consumer: ConsumerId,
    pub(super) count: u32,
}

impl Gathered {
    fn is_empty(&self) -> bool {
        self.publishes.is_empty() && self.settled.is_empty()
    }

    fn settle(&mut self, how: Settlement, queue: QueueId, sequence: Sequence) {
        if let Some(at) = self.find_settled(how, queue)
            && let Some((_, _, sequences)) = self.settled.get_mut(at)
        {
            sequences.push(sequence);
            return;
        }
        self.settled.push((how, queue, vec![sequence]));
        let count = self.settled.len();
        if count == FEW_QUEUES + 1 {
            let places = self.settled.iter().zip(0..);
            self.settled_at = places.map(|((how, of, _), at)| ((*how, *of), at)).collect();
        } else if count > FEW_QUEUES {
            self.settled_at.insert((how, queue), count - 1);
        }
    }

    fn find_settled(&self, how: Settlement, queue: QueueId) -> Option<usize> {
        let is_it =
            |(kind, of, _): &(Settlement, QueueId, Vec<Sequence>)| *kind == how && *of == queue;
        // The last list first: acknowledgements of one queue come in a row.
        if self.settled.last().is_some_and(is_it) {
            return Some(self.settled.len() - 1);
        }
        if self.settled.len() <= FEW_QUEUES {
            return self.settled.iter().rposition(is_it);
        }
        self.settled_at.get(&(how, queue)).copied()
    }
}

/// A submitted batch.
#[derive(Debug)]
struct InFlight {
    bytes: usize,
    runs: Vec<Run>,
    barriers: SmallVec<[u64; 1]>,
    freed: Vec<Freed>,
    /// Whether it ends deliveries.
    settles: bool,
}

/// What the answer to a batch means.
#[derive(Debug, Default)]
pub(super) struct Answered {
    /// Publishes that need an answer: channel, number, accepted.
    pub(super) publishes: Vec<(ChannelKey, u64, bool)>,
    /// Barriers that waited for it.
    pub(super) barriers: SmallVec<[u64; 1]>,
    /// Returned messages are back in their queues.
    pub(super) freed: Vec<Freed>,
}

/// All operations of a session that are not answered.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// Few places: a list is found through faster than a map.
    gathered: Vec<(Placement, Gathered)>,
    in_flight: HashMap<u64, InFlight>,
    last_token: u64,
    unanswered_bytes: usize,
}

impl Outbox {
    /// Bytes of publishes that were handed over and are not answered.
    pub(super) fn unanswered_bytes(&self) -> usize {
        self.unanswered_bytes
    }

    /// Adds a publish. `awaited` names who is to be told of its answer.
    pub(super) fn publish(
        &mut self,
        placement: Placement,
        op: Op,
        bytes: usize,
        awaited: Option<(ChannelKey, u64)>,
    ) {
        self.unanswered_bytes += bytes + OP_OVERHEAD;
        let gathered = self.of(placement);
        gathered.bytes += bytes + OP_OVERHEAD;
        if let Some((channel, number)) = awaited {
            let at = gathered.publishes.len() as u32;
            match gathered.runs.last_mut() {
                Some(run)
                    if run.channel == channel
                        && run.first_op + run.count == at
                        && run.first_publish + u64::from(run.count) == number =>
                {
                    run.count += 1;
                }
                _ => gathered.runs.push(Run {
                    channel,
                    first_op: at,
                    first_publish: number,
                    count: 1,
                }),
            }
        }
        gathered.publishes.push(op);
    }

    /// Adds the end of a delivery.
    pub(super) fn settle(&mut self, how: Settlement, delivery: &Unacked) {
        self.settle_one(how, delivery.placement, delivery.queue, delivery.sequence);
    }

    /// Adds the return of a delivery whose channel goes on.
    pub(super) fn give_back(&mut self, how: Settlement, delivery: &Unacked, channel: ChannelKey) {
        self.settle(how, delivery);
        let consumer = delivery.consumer;
        let freed = &mut self.of(delivery.placement).freed;
        match freed.last_mut() {
            Some(last) if last.channel == channel && last.consumer == consumer => last.count += 1,
            _ => freed.push(Freed {
                channel,
                consumer,
                count: 1,
            }),
        }
    }

    /// Adds the end of a message handed out.
    pub(super) fn settle_one(
        &mut self,
        how: Settlement,
        placement: Placement,
        queue: QueueId,
        sequence: Sequence,
    ) {
        self.of(placement).settle(how, queue, sequence);
    }

    /// Steps a barrier whenever one of the batches that end deliveries is answered, also of those that are only
    /// gathered yet. Returns how often.
    pub(super) fn await_settled(&mut self, barrier: u64) -> usize {
        let gathered = self.gathered.iter_mut().map(|(_, gathered)| gathered);
        let to_come = gathered
            .filter(|gathered| !gathered.settled.is_empty())
            .map(|gathered| &mut gathered.barriers);
        let on_their_way = self
            .in_flight
            .values_mut()
            .filter(|batch| batch.settles)
            .map(|batch| &mut batch.barriers);
        let mut count = 0;
        for barriers in to_come.chain(on_their_way) {
            barriers.push(barrier);
            count += 1;
        }
        count
    }

    /// Submits what is gathered for one place. `dead_letters` tells whether a queue has a dead
    /// letter exchange now.
    pub(super) fn flush(
        &mut self,
        placement: Placement,
        handle: &mut SessionHandle,
        dead_letters: impl Fn(QueueId) -> bool,
    ) {
        let Some((_, gathered)) = self.gathered.iter_mut().find(|(of, _)| *of == placement) else {
            return;
        };
        if gathered.is_empty() {
            return;
        }
        let settles = !gathered.settled.is_empty();
        let Gathered {
            publishes: mut ops,
            runs,
            bytes,
            settled,
            settled_at: _,
            barriers,
            freed,
        } = std::mem::take(gathered);
        for (how, queue, sequences) in settled {
            let sequences = ranges(sequences);
            ops.push(match how {
                Settlement::Done => Op::Settle { queue, sequences },
                Settlement::Rejected => Op::Kill {
                    queue,
                    sequences,
                    reason: DeathReason::Rejected,
                    dead_letter: dead_letters(queue),
                },
                Settlement::Returned { counted } => Op::Return {
                    queue,
                    sequences,
                    counted,
                },
            });
        }
        self.last_token += 1;
        let token = self.last_token;
        self.in_flight.insert(
            token,
            InFlight {
                bytes,
                runs,
                barriers,
                freed,
                settles,
            },
        );
        handle.submit(placement, SubBatch { token, ops });
    }

    /// Submits everything that is gathered.
    pub(super) fn flush_all(
        &mut self,
        handle: &mut SessionHandle,
        dead_letters: impl Fn(QueueId) -> bool,
    ) {
        for at in 0..self.gathered.len() {
            if let Some((placement, gathered)) = self.gathered.get(at)
                && !gathered.is_empty()
            {
                let placement = *placement;
                self.flush(placement, handle, &dead_letters);
            }
        }
    }

    /// A batch is answered.
    pub(super) fn answered(&mut self, token: u64, refused_ops: &[u32], given_up: bool) -> Answered {
        let Some(batch) = self.in_flight.remove(&token) else {
            return Answered::default();
        };
        self.unanswered_bytes -= batch.bytes;
        let count = batch.runs.iter().map(|run| run.count as usize).sum();
        let mut publishes = Vec::with_capacity(count);
        let mut refused = refused_ops.iter().copied().peekable();
        for run in batch.runs {
            for nth in 0..run.count {
                let op = run.first_op + nth;
                while refused.next_if(|refused| *refused < op).is_some() {}
                let accepted = !given_up && refused.next_if_eq(&op).is_none();
                publishes.push((run.channel, run.first_publish + u64::from(nth), accepted));
            }
        }
        Answered {
            publishes,
            barriers: batch.barriers,
            freed: batch.freed,
        }
    }

    fn of(&mut self, placement: Placement) -> &mut Gathered {
        let at = match self.gathered.iter().position(|(of, _)| *of == placement) {
            Some(at) => at,
            None => {
                self.gathered.push((placement, Gathered::default()));
                self.gathered.len() - 1
            }
        };
        // The place was found or made just now.
        #[allow(clippy::indexing_slicing, reason = "see above")]
        &mut self.gathered[at].1
    }
}

/// Sequences in any order as sorted, disjoint ranges.
pub(super) fn ranges(mut sequences: Vec<Sequence>) -> SequenceRanges {
    if !sequences.is_sorted() {
        sequences.sort_unstable();
    }
    let mut ranges = SequenceRanges::new();
    for sequence in sequences {
        match ranges.last_mut() {
            Some((_, last)) if last.0 + 1 >= sequence.0 => *last = (*last).max(sequence),
            _ => ranges.push((sequence, sequence)),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_settled_is_gathered_by_queue_and_kind() {
        use Settlement::{Done, Rejected};
        for queues in [1, FEW_QUEUES as u64, FEW_QUEUES as u64 + 1, 1000] {
            let mut gathered = Gathered::default();
            for sequence in 0..3 {
                for queue in 0..queues {
                    for how in [Done, Rejected] {
                        gathered.settle(how, QueueId(queue), Sequence(sequence));
                    }
                }
            }
            assert_eq!(gathered.settled.len() as u64, 2 * queues);
            let all = [0, 1, 2].map(Sequence);
            assert!(
                gathered
                    .settled
                    .iter()
                    .all(|(_, _, sequences)| **sequences == all)
            );
        }
    }

    #[test]
    fn sequences_become_ranges() {
        for (sequences, expected) in [
            (vec![], vec![]),
            (vec![5], vec![(5, 5)]),
            (vec![1, 2, 3, 7, 8, 10], vec![(1, 3), (7, 8), (10, 10)]),
            (vec![10, 2, 8, 1, 3, 7], vec![(1, 3), (7, 8), (10, 10)]),
            (vec![4, 4, 5], vec![(4, 5)]),
        ] {
            let got = ranges(sequences.into_iter().map(Sequence).collect());
            let expected: Vec<_> = expected
                .into_iter()
                .map(|(a, b)| (Sequence(a), Sequence(b)))
                .collect();
            assert_eq!(got.to_vec(), expected);
        }
    }
}
