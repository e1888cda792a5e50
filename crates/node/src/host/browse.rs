//! Copies of the last messages of a queue, for those who want to see them and not to have them.
//!
//! What is in memory is copied at once (no body is); what is in the state store is read on a blocking
//! thread. A message that ends meanwhile may be missing.

use super::persist;
use broker_model::dispatch::Load;
use broker_model::ids::{QueueId, Sequence};
use broker_model::message::Message;
use broker_model::queue::QueueState;
use broker_model::shard::ShardMachine;
use broker_model::wire::StoredMessage;
use std::collections::BTreeMap;
use tracing::warn;

/// Numbers looked through before those below them; more where none is alive.
const NUMBERS_AT_ONCE: u64 = 1024;

/// The last messages of a queue.
#[derive(Debug)]
pub(super) struct Last {
    /// Those in memory.
    pub(super) found: BTreeMap<Sequence, StoredMessage>,
    /// Those in the state store, which are older; the newest first.
    stored: Vec<Sequence>,
    room: Room,
}

/// The last `count` messages, and of those in memory no more than `bytes` (but at least one).
pub(super) fn last(machine: &ShardMachine, queue: QueueId, count: u32, bytes: u64) -> Last {
    let mut last = Last {
        found: BTreeMap::new(),
        stored: Vec::new(),
        room: Room::new(bytes),
    };
    let Some(state) = machine.queue(queue) else {
        return last;
    };
    for sequence in newest_alive(state, count) {
        match state.in_memory(sequence) {
            Some(stored) => {
                if !last.room.takes(&stored.message) {
                    break;
                }
                last.found.insert(sequence, stored.clone());
            }
            None => last.stored.push(sequence),
        }
    }
    last
}

/// The last `count` messages that are alive, the newest first; a queue that is browsed has one level.
///
/// From the end, a few numbers at a time: a store of delayed messages may be millions of short
/// stretches, and its shard stands still meanwhile.
fn newest_alive(state: &QueueState, count: u32) -> Vec<Sequence> {
    let count = count as usize;
    let mut newest = Vec::new();
    for level in state.levels().rev() {
        let Some((first, _)) = state.alive_from(level, 0) else {
            continue;
        };
        let mut above = state.next_number(level);
        let mut span = NUMBERS_AT_ONCE;
        while above > first && newest.len() < count {
            let from = above.saturating_sub(span).max(first);
            let is_alive = state
                .alive_from(level, from)
                .is_some_and(|(at, _)| at < above);
            if !is_alive {
                above = from;
                span = span.saturating_mul(2);
                continue;
            }
            if span > NUMBERS_AT_ONCE {
                span /= 2;
                continue;
            }
            let mut here = Vec::new();
            let mut at = from;
            while let Some((from, to)) = state.alive_from(level, at)
                && from < above
            {
                let to = to.min(above - 1);
                here.extend((from..=to).map(|number| Sequence::new(level, number)));
                at = to + 1;
            }
            let wanted = count - newest.len();
            newest.extend(here.into_iter().rev().take(wanted));
            above = from;
        }
    }
    newest
}

/// Hands all of `last` to `done`, the oldest first, after reading what is not in memory but on the shelf.
pub(super) fn answer(
    shelf: Option<persist::Shelf>,
    queue: QueueId,
    last: Last,
    done: impl FnOnce(Vec<StoredMessage>) + Send + 'static,
) {
    let Some(shelf) = shelf.filter(|_| !last.stored.is_empty()) else {
        return done(last.found.into_values().collect());
    };
    tokio::task::spawn_blocking(move || {
        let Last {
            mut found,
            stored,
            mut room,
        } = last;
        // One by one: how many there is room for is not known before, nor what is dead in between.
        'reading: for wanted in stored {
            let load = Load {
                queue,
                level: wanted.level(),
                from: wanted,
                to: wanted,
                max_count: 1,
                max_bytes: usize::MAX,
            };
            let read = match persist::read(&shelf, &load) {
                Ok(read) => read,
                Err(error) => {
                    warn!(queue = queue.0, %error, "stored messages cannot be read");
                    break;
                }
            };
            for (sequence, stored) in read {
                if !room.takes(&stored.message) {
                    break 'reading;
                }
                found.insert(sequence, stored);
            }
        }
        done(found.into_values().collect());
    });
}

/// What messages there is room for, the newest first.
#[derive(Debug)]
struct Room {
    left: u64,
    /// Nothing was taken yet.
    whole: bool,
}

impl Room {
    fn new(bytes: u64) -> Self {
        Self {
            left: bytes,
            whole: true,
        }
    }

    /// Takes the message in, if it fits or is the first.
    fn takes(&mut self, message: &Message) -> bool {
        let weight = message.weight() as u64;
        let fits = weight <= self.left || self.whole;
        self.left = self.left.saturating_sub(weight);
        self.whole = false;
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use broker_model::op::{Op, Target};
    use bytes::Bytes;

    const QUEUE: QueueId = QueueId(1 << 16);

    fn message(size: u64) -> Message {
        Message {
            body: Bytes::from(vec![0; usize::try_from(size).unwrap_or_default()]),
            ..Message::default()
        }
    }

    /// A queue with messages of these sizes, without those at `settled`.
    fn queue(sizes: impl Iterator<Item = u64>, settled: &[(u64, u64)]) -> ShardMachine {
        let mut machine = ShardMachine::new();
        let publish = sizes.map(|size| Op::Publish {
            targets: smallvec::smallvec![Target::plain(QUEUE)],
            message: message(size),
        });
        let settle = Op::Settle {
            queue: QUEUE,
            sequences: settled
                .iter()
                .map(|(a, b)| (Sequence(*a), Sequence(*b)))
                .collect(),
        };
        for op in publish.chain([settle]) {
            machine.apply_op(1, None, op, &mut Vec::new());
        }
        machine
    }

    #[test]
    fn the_newest_that_are_alive() {
        // Also over gaps that take several looks.
        let machine = queue((0..5000).map(|_| 1), &[(1, 9), (11, 2000), (4998, 4999)]);
        let hollow = queue((0..50_000).map(|_| 1), &[(2, 30_000), (30_002, 49_999)]);
        let found = last(&hollow, QUEUE, 9, u64::MAX).found;
        assert!(found.keys().map(|at| at.number()).eq([1, 30_001, 50_000]));
        for (count, expected) in [
            (0, vec![]),
            (2, vec![4997, 5000]),
            (
                3001,
                [10].into_iter().chain(2001..4998).chain([5000]).collect(),
            ),
            (2, vec![4997, 5000]),
        ] {
            let last = last(&machine, QUEUE, count, u64::MAX);
            let numbers: Vec<u64> = last.found.keys().map(|at| at.number()).collect();
            assert_eq!(numbers, expected, "{count}");
        }
        assert!(last(&machine, QueueId(2 << 16), 5, 5).found.is_empty());
    }

    #[test]
    fn the_oldest_make_place() {
        let overhead = Message::default().weight() as u64;
        // Sizes of bodies, room for so many and so much of them, and which are found.
        for (sizes, messages, bytes, expected) in [
            (vec![10, 10, 10], 3, 30, vec![10, 10, 10]),
            (vec![10, 11, 12], 2, 23, vec![11, 12]),
            (vec![1, 200, 3], 2, 100, vec![3]), // No gaps.
            (vec![1, 200], 0, 0, vec![200]),    // At least one.
        ] {
            let machine = queue(sizes.iter().copied(), &[]);
            let last = last(&machine, QUEUE, 9, messages * overhead + bytes);
            let bodies = last.found.values().map(|stored| stored.message.body.len());
            assert_eq!(bodies.collect::<Vec<_>>(), expected, "{sizes:?}");
        }
    }
}
