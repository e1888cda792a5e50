//! What has been received: finds what is lost, doubled or out of order.

use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use super::stamp::Origin;

/// What the broker did to the messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Verdict {
    /// Messages that a queue accepted and never delivered.
    pub(crate) lost: u64,
    /// Deliveries of a message that the same queue had delivered before.
    pub(crate) duplicates: u64,
    /// Deliveries after a later message of the same producer, on one consumer, not redelivered.
    pub(crate) out_of_order: u64,
    /// Deliveries flagged as redelivered.
    pub(crate) redelivered: u64,
    /// Deliveries of messages of another run, which no other figure contains.
    pub(crate) foreign: u64,
}

/// Everything received, one bit a message, per queue and producer.
#[derive(Debug)]
pub(crate) struct Ledger {
    queues: Vec<Mutex<QueueLedger>>,
}

#[derive(Debug, Default)]
struct QueueLedger {
    producers: Vec<Seen>,
    duplicates: u64,
}

impl Ledger {
    pub(crate) fn new(queues: usize) -> Self {
        Self {
            queues: (0..queues).map(|_| Mutex::default()).collect(),
        }
    }

    /// Enters what one consumer of `queue` has received.
    pub(crate) fn enter(&self, queue: usize, received: &[Origin]) {
        let Some(ledger) = self.queues.get(queue) else {
            return;
        };
        let mut ledger = ledger.lock().unwrap_or_else(PoisonError::into_inner);
        for Origin {
            producer, sequence, ..
        } in received
        {
            let producer = usize::from(*producer);
            if ledger.producers.len() <= producer {
                ledger.producers.resize_with(producer + 1, Seen::default);
            }
            let new = ledger
                .producers
                .get_mut(producer)
                .is_none_or(|seen| seen.insert(*sequence));
            ledger.duplicates += u64::from(!new);
        }
    }

    /// How many different messages `queue` has delivered.
    pub(crate) fn distinct(&self, queue: usize) -> u64 {
        self.queues.get(queue).map_or(0, |ledger| {
            let ledger = ledger.lock().unwrap_or_else(PoisonError::into_inner);
            ledger.producers.iter().map(|seen| seen.count).sum()
        })
    }

    /// Duplicates in all queues.
    pub(crate) fn duplicates(&self) -> u64 {
        let lock = |ledger: &Mutex<QueueLedger>| {
            ledger
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .duplicates
        };
        self.queues.iter().map(lock).sum()
    }
}

/// The messages of one producer that were seen in one queue.
#[derive(Debug, Default)]
struct Seen {
    bits: Vec<u64>,
    count: u64,
}

impl Seen {
    /// More than a run can send; a stamp beyond is not ours.
    const SEQUENCE_MAX: u64 = 1 << 36;

    /// Whether it is new.
    fn insert(&mut self, sequence: u64) -> bool {
        if sequence >= Self::SEQUENCE_MAX {
            return false;
        }
        let (word, bit) = ((sequence / 64) as usize, 1 << (sequence % 64));
        if self.bits.len() <= word {
            self.bits.resize((word + 1).next_power_of_two(), 0);
        }
        let Some(word) = self.bits.get_mut(word) else {
            return false;
        };
        let new = *word & bit == 0;
        *word |= bit;
        self.count += u64::from(new);
        new
    }
}

/// The order in which one consumer receives.
#[derive(Debug, Default)]
pub(crate) struct Order {
    /// The next sequence number at the earliest, per producer.
    next: Vec<u64>,
    pub(crate) out_of_order: u64,
    pub(crate) redelivered: u64,
}

impl Order {
    /// Enters a delivery. A redelivered message may come late.
    pub(crate) fn enter(&mut self, origin: Origin, redelivered: bool) {
        if redelivered {
            self.redelivered += 1;
            return;
        }
        let producer = usize::from(origin.producer);
        if self.next.len() <= producer {
            self.next.resize(producer + 1, 0);
        }
        let Some(next) = self.next.get_mut(producer) else {
            return;
        };
        if origin.sequence < *next {
            self.out_of_order += 1;
        } else {
            *next = origin.sequence + 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origins(producer: u16, sequences: &[u64]) -> Vec<Origin> {
        sequences
            .iter()
            .map(|&sequence| Origin {
                run: 1,
                producer,
                sequence,
            })
            .collect()
    }

    #[test]
    fn doubled_and_missing() {
        let ledger = Ledger::new(2);
        ledger.enter(0, &origins(0, &[0, 1, 2, 5000]));
        ledger.enter(0, &origins(1, &[0, 1]));
        ledger.enter(1, &origins(0, &[1]));
        assert_eq!(
            (ledger.distinct(0), ledger.distinct(1), ledger.duplicates()),
            (6, 1, 0)
        );
        ledger.enter(0, &origins(0, &[2, 3]));
        assert_eq!((ledger.distinct(0), ledger.duplicates()), (7, 1));
        // Nonsense from a foreign producer must not exhaust memory.
        ledger.enter(0, &origins(0, &[u64::MAX >> 16]));
        assert_eq!(ledger.distinct(0), 7);
        ledger.enter(7, &origins(0, &[1]));
    }

    #[test]
    fn order() {
        let mut order = Order::default();
        for (producer, sequence, redelivered) in [
            (0, 0, false),
            (1, 5, false),
            (0, 2, false),
            (1, 3, true),
            (0, 3, false),
        ] {
            order.enter(
                Origin {
                    run: 1,
                    producer,
                    sequence,
                },
                redelivered,
            );
        }
        assert_eq!((order.out_of_order, order.redelivered), (0, 1));
        order.enter(
            Origin {
                run: 1,
                producer: 0,
                sequence: 3,
            },
            false,
        );
        assert_eq!(order.out_of_order, 1);
    }
}
