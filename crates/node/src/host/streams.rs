//! What consumers of streams read: messages that stay where they are.
//!
//! A reader says from where on it wants messages, and how many. What is in memory is copied at once (no body is),
//! what is in the state store is read on a blocking thread; who is at the end waits here until something
//! comes. Readers' places are kept by their nodes: when the leader changes they ask the next one.
//!
//! Not here: what goes when it is too old or too much (`broker_model::dispatch`).

use super::persist;
use super::replica::ShardReplica;
use crate::hub::attachment::AttachmentId;
use broker_model::dispatch::Load;
use broker_model::ids::{ConsumerId, QueueId, Sequence};
use broker_model::protocol::{ANNOUNCE, ReadFrom, ToHost};
use broker_model::queue::QueueState;
use broker_model::shard::{Effect, ShardMachine};
use broker_model::wire::StoredMessage;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use storage::StorageError;
use tokio::sync::Semaphore;
use tracing::error;

/// Messages in one answer at most, and their bytes.
const COUNT_MAX: u32 = 4096;
const BYTES_MAX: u64 = 4 << 20;
/// Reads from the state store at a time, of all streams of a node: each has its bytes in memory.
static READS: Semaphore = Semaphore::const_new(16);
/// Between two attempts to read messages that cannot be read.
const AGAIN: Duration = Duration::from_secs(1);
/// The only level of a stream.
const LEVEL: u8 = 0;

/// What the consumer of a stream wants.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    pub(crate) attachment: AttachmentId,
    pub(crate) consumer: ConsumerId,
    pub(super) queue: QueueId,
    from: ReadFrom,
    count: usize,
    bytes: u64,
    /// A first message that is larger shall only be announced.
    announce: bool,
}

/// What a question that fetches a message says about bytes: the message that was announced, however large.
const FETCH: u64 = 0;

impl Wanted {
    /// What a link asks for, if this is such a question.
    pub(crate) fn of(attachment: AttachmentId, message: &ToHost) -> Option<Self> {
        match *message {
            ToHost::Read {
                consumer,
                queue,
                from,
                count,
                bytes,
            } => Some(Self::new(attachment, consumer, queue, from, count, bytes)),
            _ => None,
        }
    }

    fn new(
        attachment: AttachmentId,
        consumer: ConsumerId,
        queue: QueueId,
        from: ReadFrom,
        count: u32,
        bytes: u64,
    ) -> Self {
        Self {
            attachment,
            consumer,
            queue,
            from,
            count: count.clamp(1, COUNT_MAX) as usize,
            bytes: (bytes & !ANNOUNCE).min(BYTES_MAX),
            announce: bytes & ANNOUNCE != 0,
        }
    }
}

impl Wanted {
    /// Whether it fetches what was announced. Room is kept for that, so it is answered at once, if only that there is
    /// nothing.
    fn fetches(&self) -> bool {
        self.bytes == FETCH && !self.announce
    }

    /// Whether the first of these is too large to be sent before it is asked for.
    pub(super) fn is_exceeded_by(&self, messages: &[(u64, StoredMessage)]) -> bool {
        let first = messages.first();
        let weight = first.map_or(0, |(_, stored)| stored.message.weight() as u64);
        weight > self.bytes && self.announce
    }
}

/// What a look at a stream has brought.
#[derive(Debug)]
pub(crate) enum Found {
    /// Messages, and where to read on; none where a place was asked for.
    Here(u64, Vec<(u64, StoredMessage)>),
    /// Messages of these numbers are in the state store.
    Stored(u64, u64),
    /// The place of a time is to be searched for.
    Search(u64),
    /// There is nothing yet.
    Later,
}

/// What reading from the state store has brought.
#[derive(Debug)]
pub enum Outcome {
    /// What there was from this number on, with numbers.
    Messages(u64, Vec<(u64, StoredMessage)>),
    /// The place of a time.
    Place(u64),
    /// Nothing; it has been waited for a while since.
    Failed,
    /// Nothing from this number on: the store is damaged there, or they have gone meanwhile.
    Damaged(u64, String),
}

/// Looks for what is wanted.
pub(crate) fn find(machine: &ShardMachine, wanted: &Wanted) -> Found {
    let nothing = QueueState::default();
    let state = machine.queue(wanted.queue).unwrap_or(&nothing);
    let next = state.next_number(LEVEL);
    let first = state.alive_from(LEVEL, 0).map_or(next, |(first, _)| first);
    let place = |number| Found::Here(number, Vec::new());
    match wanted.from {
        ReadFrom::First => place(first),
        ReadFrom::Next => place(next),
        // The newest message stays unless all are too old.
        ReadFrom::Last => place(first.max(next.saturating_sub(1))),
        ReadFrom::Since(_) if first == next => place(next),
        ReadFrom::Since(ms) => Found::Search(ms),
        ReadFrom::Number(number) => collect(state, number, wanted),
    }
}

fn collect(state: &QueueState, from: u64, wanted: &Wanted) -> Found {
    let mut messages = Vec::new();
    let mut room = wanted.bytes;
    let mut at = from;
    while let Some((from, to)) = state.alive_from(LEVEL, at) {
        for number in from..=to {
            let Some(stored) = state.in_memory(Sequence::new(LEVEL, number)) else {
                if messages.is_empty() {
                    return Found::Stored(number, to.min(state.stored_upto(LEVEL)));
                }
                return Found::Here(at, messages);
            };
            let weight = stored.message.weight() as u64;
            let has_room = weight <= room || messages.is_empty() && !wanted.announce;
            if !has_room || messages.len() == wanted.count {
                return Found::Here(at, messages);
            }
            room = room.saturating_sub(weight);
            messages.push((number, stored.clone()));
            at = number + 1;
        }
    }
    if messages.is_empty() && !wanted.fetches() {
        Found::Later
    } else {
        Found::Here(at, messages)
    }
}

/// Whether the message should be in the state store.
pub(super) fn is_stored(machine: &ShardMachine, queue: QueueId, number: u64) -> bool {
    let sequence = Sequence::new(LEVEL, number);
    machine
        .queue(queue)
        .is_some_and(|state| state.is_alive(sequence) && state.in_memory(sequence).is_none())
}

/// Reads messages `from..=to` in the background.
pub(super) fn read(
    replica: Arc<ShardReplica>,
    wanted: Wanted,
    (from, to): (u64, u64),
    done: impl FnOnce(Outcome) + Send + 'static,
) {
    let load = Load {
        queue: wanted.queue,
        level: LEVEL,
        from: Sequence::new(LEVEL, from),
        to: Sequence::new(LEVEL, to),
        max_count: wanted.count,
        max_bytes: usize::try_from(wanted.bytes).unwrap_or(usize::MAX),
    };
    in_background(replica, wanted.queue, done, move |replica| {
        let found = match persist::read(&replica.shelf(), &load) {
            Ok(found) => found,
            Err(error) => match persist::damage(&error) {
                Some(damage) => {
                    error!(queue = wanted.queue.0, %error, "messages of a stream cannot be read");
                    return Ok(Outcome::Damaged(from, damage));
                }
                None => return Err(error),
            },
        };
        let found = found.into_iter();
        let messages = found.map(|(sequence, stored)| (sequence.number(), stored));
        Ok(Outcome::Messages(from, messages.collect()))
    });
}

/// Searches for the first message that came at `since_ms` or later, in the background.
pub(super) fn search(
    replica: Arc<ShardReplica>,
    queue: QueueId,
    since_ms: u64,
    done: impl FnOnce(Outcome) + Send + 'static,
) {
    in_background(replica, queue, done, move |replica| {
        first_since(replica, queue, since_ms).map(Outcome::Place)
    });
}

fn in_background(
    replica: Arc<ShardReplica>,
    queue: QueueId,
    done: impl FnOnce(Outcome) + Send + 'static,
    look: impl FnOnce(&ShardReplica) -> Result<Outcome, StorageError> + Send + 'static,
) {
    tokio::spawn(async move {
        // It is never closed.
        let Ok(reading) = READS.acquire().await else {
            return;
        };
        let looking = tokio::task::spawn_blocking(move || look(&replica));
        // Only interrupted when the node ends.
        let Ok(outcome) = looking.await else {
            return;
        };
        drop(reading);
        match outcome {
            Ok(outcome) => done(outcome),
            Err(error) => {
                error!(queue = queue.0, %error, "messages of a stream cannot be read");
                tokio::time::sleep(AGAIN).await;
                done(Outcome::Failed);
            }
        }
    });
}

/// Times never go back within a shard, so the place is found by bisection.
fn first_since(replica: &ShardReplica, queue: QueueId, since_ms: u64) -> Result<u64, StorageError> {
    let (mut from, mut to) = {
        let state = replica.lock();
        let Some(state) = state.machine.queue(queue) else {
            return Ok(1);
        };
        let next = state.next_number(LEVEL);
        let first = state.alive_from(LEVEL, 0).map_or(next, |(first, _)| first);
        (first, next)
    };
    while from < to {
        let middle = from + (to - from) / 2;
        match time_of(replica, queue, middle)? {
            Some((number, came_ms)) if came_ms < since_ms => from = number + 1,
            _ => to = middle,
        }
    }
    Ok(from)
}

/// The first message at or above `number` that is there, and when it came.
fn time_of(
    replica: &ShardReplica,
    queue: QueueId,
    number: u64,
) -> Result<Option<(u64, u64)>, StorageError> {
    let sequence = {
        let state = replica.lock();
        let Some(state) = state.machine.queue(queue) else {
            return Ok(None);
        };
        let Some((number, _)) = state.alive_from(LEVEL, number) else {
            return Ok(None);
        };
        let sequence = Sequence::new(LEVEL, number);
        if let Some(stored) = state.in_memory(sequence) {
            return Ok(Some((number, stored.expires_at_ms.unwrap_or(0))));
        }
        sequence
    };
    let load = Load {
        queue,
        level: LEVEL,
        from: sequence,
        to: sequence,
        max_count: 1,
        max_bytes: usize::MAX,
    };
    let found = persist::read(&replica.shelf(), &load)?;
    // Gone meanwhile: it was one of the oldest.
    let came_ms = found
        .first()
        .map_or(0, |(_, stored)| stored.expires_at_ms.unwrap_or(0));
    Ok(Some((sequence.number(), came_ms)))
}

/// Which streams somebody waits for, beside the replica: told by what is applied.
#[derive(Debug, Default)]
pub struct Watch {
    watched: HashSet<QueueId>,
    grown: Vec<QueueId>,
}

impl Watch {
    /// Somebody waits for what comes next.
    pub(super) fn add(&mut self, queue: QueueId) {
        self.watched.insert(queue);
    }

    /// A stream is gone.
    pub(super) fn forget(&mut self, queue: QueueId) {
        self.watched.remove(&queue);
    }

    /// Takes note of what was applied.
    pub(super) fn note(&mut self, effects: &[Effect]) {
        if self.watched.is_empty() {
            return;
        }
        for effect in effects {
            if let Effect::Enqueued { queue, .. } = effect
                && self.watched.remove(queue)
            {
                self.grown.push(*queue);
            }
        }
    }

    /// Streams that were waited for and have grown.
    pub(super) fn take_grown(&mut self) -> Vec<QueueId> {
        std::mem::take(&mut self.grown)
    }
}

/// Readers that wait for what comes next.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    by_queue: HashMap<QueueId, Vec<Wanted>>,
}

impl Waiting {
    pub(super) fn is_empty(&self) -> bool {
        self.by_queue.is_empty()
    }

    pub(super) fn add(&mut self, wanted: Wanted) {
        self.by_queue.entry(wanted.queue).or_default().push(wanted);
    }

    /// Those of a queue, which is deleted or has grown.
    pub(super) fn take(&mut self, queue: QueueId) -> Vec<Wanted> {
        self.by_queue.remove(&queue).unwrap_or_default()
    }

    /// A consumer is cancelled.
    pub(super) fn cancel(&mut self, link: AttachmentId, queue: QueueId, consumer: ConsumerId) {
        if let Some(waiting) = self.by_queue.get_mut(&queue) {
            waiting.retain(|wanted| (wanted.attachment, wanted.consumer) != (link, consumer));
            if waiting.is_empty() {
                self.by_queue.remove(&queue);
            }
        }
    }

    /// A link is gone.
    pub(super) fn forget(&mut self, link: AttachmentId) {
        self.by_queue.retain(|_, waiting| {
            waiting.retain(|wanted| wanted.attachment != link);
            !waiting.is_empty()
        });
    }

    pub(super) fn clear(&mut self) {
        self.by_queue.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use broker_model::message::Message;
    use broker_model::op::{Op, Target};
    use bytes::Bytes;

    const QUEUE: QueueId = QueueId(1 << 16);

    fn apply(machine: &mut ShardMachine, now_ms: u64, op: Op) -> Vec<Effect> {
        let mut effects = Vec::new();
        machine.apply_op(now_ms, None, op, &mut effects);
        effects
    }

    fn publish(machine: &mut ShardMachine, now_ms: u64, size: usize) -> Vec<Effect> {
        let target = Target {
            ttl_ms: Some(0),
            ..Target::plain(QUEUE)
        };
        let message = Message {
            body: Bytes::from(vec![0; size]),
            ..Message::default()
        };
        let targets = smallvec::smallvec![target];
        apply(machine, now_ms, Op::Publish { targets, message })
    }

    fn wanted(from: ReadFrom, count: u32, bytes: u64) -> Wanted {
        Wanted::new(AttachmentId(1), ConsumerId(1), QUEUE, from, count, bytes)
    }

    /// Numbers found, and where to read on; `None`: nothing yet.
    fn numbers(machine: &ShardMachine, wanted: &Wanted) -> Option<(u64, Vec<u64>)> {
        match find(machine, wanted) {
            Found::Here(next, found) => {
                Some((next, found.into_iter().map(|(number, _)| number).collect()))
            }
            Found::Later => None,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn places_and_messages() {
        let mut machine = ShardMachine::new();
        for from in [ReadFrom::First, ReadFrom::Last, ReadFrom::Next] {
            assert_eq!(numbers(&machine, &wanted(from, 9, 9)), Some((1, vec![])));
        }
        assert_eq!(numbers(&machine, &wanted(ReadFrom::Number(1), 9, 9)), None);
        for size in [10, 20, 30, 40] {
            publish(&mut machine, 5, size);
        }
        // The first is gone.
        apply(&mut machine, 6, Op::settle_one(QUEUE, Sequence(1)));
        let overhead = Message::default().weight() as u64;
        for (from, count, bytes, expected) in [
            (ReadFrom::First, 9, 0, Some((2, vec![]))),
            (ReadFrom::Last, 9, 0, Some((4, vec![]))),
            (ReadFrom::Next, 9, 0, Some((5, vec![]))),
            (ReadFrom::Number(0), 9, 1000, Some((5, vec![2, 3, 4]))),
            (ReadFrom::Number(1), 2, 1000, Some((4, vec![2, 3]))),
            (ReadFrom::Number(4), 9, 1000, Some((5, vec![4]))),
            // One at least, however large, or none and the same place.
            (ReadFrom::Number(3), 9, 0, Some((4, vec![3]))),
            (ReadFrom::Number(3), 9, 20 | ANNOUNCE, Some((3, vec![]))),
            (
                ReadFrom::Number(3),
                9,
                1000 | ANNOUNCE,
                Some((5, vec![3, 4])),
            ),
            (
                ReadFrom::Number(2),
                9,
                2 * overhead + 50,
                Some((4, vec![2, 3])),
            ),
            (ReadFrom::Number(5), 9, 1000, None),
            (ReadFrom::Number(100), 9, 1000, None),
            // Nothing was announced: whoever fetches it must not keep room until something comes.
            (ReadFrom::Number(5), 1, 0, Some((5, vec![]))),
            (ReadFrom::Number(5), 1, ANNOUNCE, None),
        ] {
            let found = numbers(&machine, &wanted(from, count, bytes));
            assert_eq!(found, expected, "{from:?} {count} {bytes}");
        }
        assert!(matches!(
            find(&machine, &wanted(ReadFrom::Since(5), 1, 1)),
            Found::Search(5)
        ));
    }

    #[test]
    fn a_stream_that_is_waited_for_grows_once() {
        let mut machine = ShardMachine::new();
        let mut watch = Watch::default();
        watch.note(&publish(&mut machine, 1, 1));
        assert!(watch.take_grown().is_empty(), "nobody waits");
        watch.add(QUEUE);
        watch.note(&publish(&mut machine, 1, 1));
        watch.note(&publish(&mut machine, 1, 1));
        assert_eq!(watch.take_grown(), [QUEUE]);
        assert!(watch.take_grown().is_empty());
    }

    #[test]
    fn who_waits_is_forgotten() {
        let mut waiting = Waiting::default();
        let of = |link, consumer| Wanted {
            attachment: AttachmentId(link),
            consumer: ConsumerId(consumer),
            ..wanted(ReadFrom::Number(1), 1, 1)
        };
        for (link, consumer) in [(1, 1), (1, 2), (2, 1)] {
            waiting.add(of(link, consumer));
        }
        waiting.cancel(AttachmentId(1), QUEUE, ConsumerId(1));
        waiting.forget(AttachmentId(2));
        let left: Vec<_> = waiting.take(QUEUE).iter().map(|w| w.consumer.0).collect();
        assert_eq!(left, [2]);
        assert!(waiting.is_empty());
    }
}
