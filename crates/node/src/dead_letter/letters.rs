//! The letters that the publisher works on: which targets have accepted, and how many fit.
//!
//! A letter that finds no room is put off: only its place is kept, and its queue offers it again. A
//! letter that was refused is published again to those targets only that have not accepted it.

use broker_model::catalog::record::QueueRecord;
use broker_model::dispatch::DeadLetter;
use broker_model::identity::Identity;
use broker_model::ids::{Placement, QueueId, Sequence};
use broker_model::op::{Op, Target};
use smallvec::SmallVec;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Pause before a refused letter is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// Pause before a letter is asked for again that found no room.
const NO_ROOM: Duration = Duration::from_millis(100);
/// Letters that are put off although some target has accepted them, at most; more stay here.
const PARTLY_ACCEPTED: usize = 65_536;
/// What a letter accounts for beside its message.
const OVERHEAD: usize = 256;
/// What each operation accounts for that it is sent in, beside the letter, until all are answered. Each has a copy of the
/// letter on its way to the log.
const OPERATION: usize = size_of::<Op>() + 128;
/// The same of each target of an operation.
const TARGET: usize = size_of::<Target>() + size_of::<Identity>() + 64;

/// Targets of a letter.
pub(super) type Targets = SmallVec<[QueueId; 2]>;

/// What became of a letter that was offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// It is to be published, under this number.
    Number(u64),
    /// It is being worked on already.
    Known,
    /// There is no room: it will be asked for again.
    PutOff,
    /// There is no room, and no queue keeps it.
    Dropped,
}

/// What an answer is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sent {
    /// Whether this target accepts the letter.
    To(QueueId),
    /// The same of a target that passes on what it refuses (`reject-publish-dlx`): it has taken the letter in any case.
    Through(QueueId),
    /// Whether all of these do, which share a shard, and refuse nothing as a rule: one operation.
    Together(Vec<QueueId>),
    /// Whether all targets do, and it is settled where it was: one operation of one shard.
    AtOnce,
}

/// What an answer of a target means for its letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answered {
    /// Nothing yet.
    Waits,
    /// All targets have accepted it, or it is not tried again.
    Done,
    /// All targets have accepted it, and it is settled where it was.
    Settled,
    /// Some have not, or there are none: it is tried again later.
    Refused,
}

/// A letter that is put off, for its queue to offer it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PutOff {
    pub(super) placement: Placement,
    pub(super) queue: QueueId,
    pub(super) sequence: Sequence,
    bytes: usize,
}

#[derive(Debug)]
struct Open {
    placement: Placement,
    letter: DeadLetter,
    /// The queue that it died in.
    source: Option<Arc<QueueRecord>>,
    /// Operations that are yet to be answered.
    outstanding: usize,
    /// Operations that it accounts for, and their targets.
    operations: usize,
    targets: usize,
    /// Some target refused.
    refused: bool,
    /// It was refused when it was sent at once to several targets: who has accepted, or would have, is not known.
    apart: bool,
    accepted: Targets,
}

fn weight(letter: &DeadLetter) -> usize {
    letter.message.weight().saturating_add(OVERHEAD)
}

/// What operations with a letter of so many bytes account for.
fn cost(bytes: usize, operations: usize, targets: usize) -> usize {
    operations
        .saturating_mul(bytes.saturating_add(OPERATION))
        .saturating_add(targets.saturating_mul(TARGET))
}

/// All of them.
#[derive(Debug)]
pub(super) struct Letters {
    /// Bytes of letters worked on at a time (one letter may exceed it). Of letters that no queue keeps
    /// (`reject-publish-dlx`) four times as much, beyond which they are dropped.
    room: usize,
    open: BTreeMap<u64, Open>,
    /// What they take, with their operations.
    bytes: usize,
    /// Operations that are accounted for.
    operations: usize,
    /// How many the letter took that was sent last, and to how many targets: a guess for the next one.
    last: (usize, usize),
    last_number: u64,
    /// So that one offered twice is not published twice.
    known: HashSet<(QueueId, Sequence)>,
    retry: VecDeque<(Instant, u64)>,
    put_off: VecDeque<(Instant, PutOff)>,
    /// What targets have accepted of letters that are put off.
    accepted: HashMap<(QueueId, Sequence), Targets>,
}

impl Letters {
    /// `room`: bytes of letters worked on at a time.
    pub(super) fn new(room: usize) -> Self {
        Self {
            room,
            open: BTreeMap::new(),
            bytes: 0,
            operations: 0,
            last: (0, 0),
            last_number: 0,
            known: HashSet::new(),
            retry: VecDeque::new(),
            put_off: VecDeque::new(),
            accepted: HashMap::new(),
        }
    }

    /// A letter of a queue is offered.
    pub(super) fn take(
        &mut self,
        now: Instant,
        placement: Placement,
        letter: DeadLetter,
        source: Option<Arc<QueueRecord>>,
    ) -> Taken {
        let bytes = weight(&letter);
        if let Some(sequence) = letter.sequence {
            if self.known.contains(&(letter.queue, sequence)) {
                return Taken::Known;
            }
            if self.bytes >= self.room {
                let put_off = PutOff {
                    placement,
                    queue: letter.queue,
                    sequence,
                    bytes,
                };
                self.put_off.push_back((now + NO_ROOM, put_off));
                return Taken::PutOff;
            }
            self.known.insert((letter.queue, sequence));
        } else if self.bytes >= self.room.saturating_mul(4) {
            return Taken::Dropped;
        }
        let accepted = letter
            .sequence
            .and_then(|sequence| self.accepted.remove(&(letter.queue, sequence)))
            .unwrap_or_default();
        self.last_number += 1;
        self.bytes = self.bytes.saturating_add(bytes);
        let open = Open {
            placement,
            letter,
            source,
            outstanding: 0,
            operations: 0,
            targets: 0,
            refused: false,
            apart: false,
            accepted,
        };
        self.open.insert(self.last_number, open);
        Taken::Number(self.last_number)
    }

    /// A letter, the queue that it died in, and the targets that have accepted it.
    pub(super) fn get(
        &self,
        number: u64,
    ) -> Option<(&DeadLetter, Option<&Arc<QueueRecord>>, &Targets)> {
        let open = self.open.get(&number)?;
        Some((&open.letter, open.source.as_ref(), &open.accepted))
    }

    /// Where a letter is kept, if it can be sent at once to so many targets, all that are left and all at
    /// `place`, and be settled with that.
    pub(super) fn kept_at(
        &self,
        place: Placement,
        number: u64,
        targets: usize,
    ) -> Option<(QueueId, Sequence)> {
        let open = self.open.get(&number)?;
        let sequence = open.letter.sequence?;
        let whole = open.accepted.is_empty() && (targets == 1 || !open.apart);
        (whole && open.placement == place).then_some((open.letter.queue, sequence))
    }

    /// Whether those of its targets that share a shard may be asked together.
    pub(super) fn may_go_together(&self, number: u64) -> bool {
        self.open.get(&number).is_some_and(|open| !open.apart)
    }

    /// It was sent in so many operations to so many targets.
    pub(super) fn sent(&mut self, number: u64, operations: usize, targets: usize) {
        self.account(number, operations, targets);
        self.last = (operations, targets);
        if let Some(open) = self.open.get_mut(&number) {
            open.outstanding = operations;
            open.refused = false;
        }
    }

    /// From now on a letter accounts for so many operations to so many targets.
    fn account(&mut self, number: u64, operations: usize, targets: usize) {
        if let Some(open) = self.open.get_mut(&number) {
            let bytes = weight(&open.letter);
            let before = cost(bytes, open.operations, open.targets);
            self.operations = (self.operations + operations).saturating_sub(open.operations);
            (open.operations, open.targets) = (operations, targets);
            let now = cost(bytes, operations, targets);
            self.bytes = self.bytes.saturating_add(now).saturating_sub(before);
        }
    }

    /// A target has answered.
    pub(super) fn answered(
        &mut self,
        now: Instant,
        number: u64,
        sent: Sent,
        accepted: bool,
    ) -> Answered {
        let Some(open) = self.open.get_mut(&number) else {
            return Answered::Waits;
        };
        match sent {
            Sent::AtOnce if accepted => return Answered::Settled,
            Sent::To(target) | Sent::Through(target) if accepted => open.accepted.push(target),
            Sent::Together(targets) if accepted => open.accepted.extend(targets),
            Sent::AtOnce | Sent::Together(_) => (open.refused, open.apart) = (true, true),
            Sent::To(_) | Sent::Through(_) => open.refused = true,
        }
        self.one_less(now, number)
    }

    /// An operation was given up: what became of it is not known, and it is sent again as it was.
    pub(super) fn given_up(&mut self, now: Instant, number: u64) -> Answered {
        if let Some(open) = self.open.get_mut(&number) {
            open.refused = true;
        }
        self.one_less(now, number)
    }

    fn one_less(&mut self, now: Instant, number: u64) -> Answered {
        let Some(open) = self.open.get_mut(&number) else {
            return Answered::Waits;
        };
        open.outstanding = open.outstanding.saturating_sub(1);
        if open.outstanding > 0 {
            return Answered::Waits;
        }
        let refused = open.refused;
        self.account(number, 0, 0);
        if refused {
            self.refused(now, number)
        } else {
            Answered::Done
        }
    }

    /// It was not accepted by all, or there is no queue for it: it is tried again later, if a queue keeps it.
    pub(super) fn refused(&mut self, now: Instant, number: u64) -> Answered {
        let Some(open) = self.open.get(&number) else {
            return Answered::Waits;
        };
        let Some(sequence) = open.letter.sequence else {
            return Answered::Done;
        };
        // Letters that cannot be delivered now must not take the place of those that can.
        let fits = open.accepted.is_empty() || self.accepted.len() < PARTLY_ACCEPTED;
        if self.bytes > self.room / 4 && fits {
            let put_off = PutOff {
                placement: open.placement,
                queue: open.letter.queue,
                sequence,
                bytes: weight(&open.letter),
            };
            if let Some(open) = self.remove(number)
                && !open.accepted.is_empty()
            {
                let place = (put_off.queue, put_off.sequence);
                self.accepted.insert(place, open.accepted);
            }
            self.put_off.push_back((now + RETRY, put_off));
        } else {
            self.retry.push_back((now + RETRY, number));
        }
        Answered::Refused
    }

    /// A letter is done with; returns where it was, unless no queue keeps it.
    pub(super) fn finish(&mut self, number: u64) -> Option<(Placement, QueueId, Sequence)> {
        let open = self.remove(number)?;
        let sequence = open.letter.sequence?;
        Some((open.placement, open.letter.queue, sequence))
    }

    fn remove(&mut self, number: u64) -> Option<Open> {
        self.account(number, 0, 0);
        let open = self.open.remove(&number)?;
        self.bytes = self.bytes.saturating_sub(weight(&open.letter));
        if let Some(sequence) = open.letter.sequence {
            self.known.remove(&(open.letter.queue, sequence));
        }
        Some(open)
    }

    /// When something is to be done without an event.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let retry = self.retry.front().map(|(at, _)| *at);
        let put_off = self.put_off.front().map(|(at, _)| *at);
        retry.into_iter().chain(put_off).min()
    }

    /// A letter to be published again now. While operations take all the room, none is.
    pub(super) fn due(&mut self, now: Instant) -> Option<u64> {
        if self.bytes >= self.room && self.operations > 0 {
            if let Some((at, _)) = self.retry.front_mut() {
                *at = (*at).max(now + NO_ROOM);
            }
            return None;
        }
        let (_, number) = self.retry.pop_front_if(|(at, _)| *at <= now)?;
        Some(number)
    }

    /// Letters to be asked for again now: as many as there is room for.
    pub(super) fn wanted(&mut self, now: Instant) -> Vec<PutOff> {
        let mut wanted = Vec::new();
        let mut room = self.room.saturating_sub(self.bytes);
        if room < self.room / 2 {
            // Later, many at a time.
            if let Some((at, _)) = self.put_off.front_mut() {
                *at = (*at).max(now + NO_ROOM);
            }
            return wanted;
        }
        while room > 0
            && let Some((_, put_off)) = self.put_off.pop_front_if(|(at, _)| *at <= now)
        {
            let (operations, targets) = self.last;
            room = room.saturating_sub(put_off.bytes).saturating_sub(cost(
                put_off.bytes,
                operations,
                targets,
            ));
            wanted.push(put_off);
        }
        if let Some((at, _)) = self.put_off.front_mut() {
            *at = (*at).max(now + NO_ROOM);
        }
        wanted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use broker_model::ids::ShardId;
    use broker_model::message::Message;
    use broker_model::op::DeathReason;
    use bytes::Bytes;

    const HERE: Placement = Placement::Shard(ShardId(1));
    const MIB: usize = 1 << 20;
    const BYTES: usize = 64 << 20;

    fn letter(number: Option<u64>, bytes: usize) -> DeadLetter {
        DeadLetter {
            expires_at_ms: None,
            queue: QueueId(1),
            sequence: number.map(Sequence),
            identity: None,
            reason: DeathReason::Rejected,
            delivery_count: 0,
            message: Message {
                exchange: Bytes::new(),
                routing_key: Bytes::new(),
                properties: Bytes::new(),
                body: Bytes::from(vec![0; bytes]),
            },
        }
    }

    fn number(taken: Taken) -> u64 {
        match taken {
            Taken::Number(number) => number,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_target_that_has_accepted_is_not_sent_the_letter_again() {
        let now = Instant::now();
        let (a, b) = (QueueId(10), QueueId(11));
        let mut letters = Letters::new(BYTES);
        let number = number(letters.take(now, HERE, letter(Some(1), 10), None));
        letters.sent(number, 2, 2);
        assert_eq!(
            letters.answered(now, number, Sent::To(a), true),
            Answered::Waits
        );
        assert_eq!(
            letters.answered(now, number, Sent::To(b), false),
            Answered::Refused
        );
        assert_eq!(letters.due(now), None);
        assert_eq!(letters.due(now + RETRY), Some(number));
        assert_eq!(letters.due(now + RETRY), None);
        let (_, _, accepted) = letters.get(number).unwrap();
        assert_eq!(accepted.as_slice(), [a]);
        letters.sent(number, 1, 1);
        assert_eq!(
            letters.answered(now, number, Sent::To(b), true),
            Answered::Done
        );
        assert_eq!(
            letters.finish(number),
            Some((HERE, QueueId(1), Sequence(1)))
        );
        assert_eq!(letters.bytes, 0);
    }

    #[test]
    fn a_letter_that_stays_in_its_shard_goes_at_once() {
        let now = Instant::now();
        let elsewhere = Placement::Shard(ShardId(2));
        let mut letters = Letters::new(BYTES);
        let kept = number(letters.take(now, HERE, letter(Some(1), 10), None));
        let place = Some((QueueId(1), Sequence(1)));
        assert_eq!(letters.kept_at(elsewhere, kept, 1), None);
        assert_eq!(letters.kept_at(HERE, kept, 2), place);
        letters.sent(kept, 1, 1);
        let answered = letters.answered(now, kept, Sent::AtOnce, false);
        assert_eq!(answered, Answered::Refused);
        // Who of the two refused is asked one by one.
        assert_eq!(letters.due(now + RETRY), Some(kept));
        assert_eq!(letters.kept_at(HERE, kept, 2), None);
        assert_eq!(letters.kept_at(HERE, kept, 1), place);
        letters.sent(kept, 2, 2);
        letters.answered(now, kept, Sent::To(QueueId(10)), true);
        letters.answered(now, kept, Sent::To(QueueId(11)), false);
        assert_eq!(letters.kept_at(HERE, kept, 1), None);
        // What no queue keeps has no place.
        let unkept = number(letters.take(now, HERE, letter(None, 10), None));
        assert_eq!(letters.kept_at(HERE, unkept, 1), None);

        let whole = number(letters.take(now, HERE, letter(Some(2), 10), None));
        letters.sent(whole, 1, 1);
        let answered = letters.answered(now, whole, Sent::AtOnce, true);
        assert_eq!(answered, Answered::Settled);
        assert_eq!(letters.finish(whole), Some((HERE, QueueId(1), Sequence(2))));
    }

    #[test]
    fn targets_are_asked_together_until_one_refuses() {
        let now = Instant::now();
        let targets = || vec![QueueId(10), QueueId(11)];
        let mut letters = Letters::new(BYTES);
        let number = number(letters.take(now, HERE, letter(Some(1), 10), None));
        letters.sent(number, 2, 3);
        let answered = letters.answered(now, number, Sent::Together(targets()), true);
        assert_eq!(answered, Answered::Waits);
        // What became of it is not known.
        assert_eq!(letters.given_up(now, number), Answered::Refused);
        assert_eq!(letters.due(now + RETRY), Some(number));
        assert_eq!(letters.get(number).unwrap().2.as_slice(), targets());
        assert!(letters.may_go_together(number));
        letters.sent(number, 1, 2);
        let others = vec![QueueId(12), QueueId(13)];
        let answered = letters.answered(now, number, Sent::Together(others), false);
        assert_eq!(answered, Answered::Refused);
        assert_eq!(letters.get(number).unwrap().2.as_slice(), targets());
        assert!(!letters.may_go_together(number));
        letters.sent(number, 1, 1);
        let answered = letters.answered(now, number, Sent::To(QueueId(12)), true);
        assert_eq!(answered, Answered::Done);
        assert!(letters.finish(number).is_some());
        assert_eq!((letters.bytes, letters.operations), (0, 0));
    }

    #[test]
    fn what_has_no_room_is_put_off_and_asked_for_again() {
        let mut now = Instant::now();
        let mut letters = Letters::new(BYTES);
        let mut numbers = Vec::new();
        let mut put_off = 0;
        for at in 0..200 {
            match letters.take(now, HERE, letter(Some(at), MIB), None) {
                Taken::Number(number) => numbers.push(number),
                Taken::PutOff => put_off += 1,
                other => panic!("{other:?}"),
            }
        }
        assert!(letters.bytes < BYTES + 2 * MIB);
        assert_eq!(put_off + numbers.len(), 200);
        let mut done = 0;
        while done < 200 {
            for number in numbers.drain(..) {
                letters.sent(number, 1, 1);
                let answered = letters.answered(now, number, Sent::To(QueueId(10)), true);
                assert_eq!(answered, Answered::Done);
                assert!(letters.finish(number).is_some());
                done += 1;
            }
            now += NO_ROOM;
            let wanted = letters.wanted(now);
            assert!(wanted.len() <= BYTES / MIB);
            for put_off in wanted {
                let sequence = put_off.sequence;
                numbers.push(number(letters.take(
                    now,
                    put_off.placement,
                    letter(Some(sequence.0), MIB),
                    None,
                )));
            }
            assert!(done == 200 || !numbers.is_empty(), "stuck at {done}");
        }
        assert_eq!(letters.next_due(), None);
    }

    #[test]
    fn refused_letters_leave_room_for_others() {
        let now = Instant::now();
        let mut letters = Letters::new(BYTES);
        for at in 0..200 {
            if let Taken::Number(number) = letters.take(now, HERE, letter(Some(at), MIB), None) {
                letters.sent(number, 1, 1);
                let answered = letters.answered(now, number, Sent::To(QueueId(10)), false);
                assert_eq!(answered, Answered::Refused);
            }
        }
        assert!(letters.bytes <= BYTES / 4 + 2 * MIB, "{}", letters.bytes);
        assert!(matches!(
            letters.take(now, HERE, letter(Some(1000), MIB), None),
            Taken::Number(_)
        ));
        assert!(letters.wanted(now).is_empty());
        assert!(!letters.wanted(now + RETRY).is_empty());
    }

    /// A small letter for very many queues is large.
    #[test]
    fn operations_take_room_until_they_are_answered() {
        let now = Instant::now();
        let mut letters = Letters::new(BYTES);
        let many = BYTES / OPERATION + 1;
        let first = number(letters.take(now, HERE, letter(Some(1), 10), None));
        letters.sent(first, many, many);
        let later = letters.take(now, HERE, letter(Some(2), 10), None);
        assert_eq!(later, Taken::PutOff);
        assert!(letters.wanted(now + RETRY).is_empty(), "there is no room");
        for at in 0..many {
            let target = QueueId(10 + at as u64);
            letters.answered(now, first, Sent::To(target), at > 0);
        }
        assert!(letters.bytes < BYTES / 4, "{}", letters.bytes);
        assert_eq!(letters.wanted(now + RETRY * 2).len(), 1);
        // All of them wait for their second try: that must not wait for room.
        assert_eq!(letters.due(now + RETRY), Some(first));
        letters.sent(first, many, many);
        assert!(letters.finish(first).is_some());
        assert_eq!((letters.bytes, letters.operations), (0, 0));
    }

    #[test]
    fn a_second_try_waits_for_room() {
        let now = Instant::now();
        let mut letters = Letters::new(BYTES);
        let small = number(letters.take(now, HERE, letter(Some(1), 10), None));
        letters.sent(small, 1, 1);
        letters.answered(now, small, Sent::To(QueueId(10)), false);
        let large = number(letters.take(now, HERE, letter(Some(2), 10), None));
        letters.sent(large, BYTES / OPERATION + 1, 1);
        assert_eq!(letters.due(now + RETRY), None);
        assert_eq!(letters.next_due(), Some(now + RETRY + NO_ROOM));
        letters.finish(large);
        assert_eq!(letters.due(now + RETRY + NO_ROOM), Some(small));
    }

    #[test]
    fn what_targets_have_accepted_outlasts_a_pause() {
        let now = Instant::now();
        let mut letters = Letters::new(BYTES);
        for at in 0..30 {
            letters.take(now, HERE, letter(Some(100 + at), MIB), None);
        }
        let number_of_first = number(letters.take(now, HERE, letter(Some(1), MIB), None));
        letters.sent(number_of_first, 2, 2);
        letters.answered(now, number_of_first, Sent::To(QueueId(10)), true);
        letters.answered(now, number_of_first, Sent::To(QueueId(11)), false);
        assert!(letters.get(number_of_first).is_none());
        let again = number(letters.take(now, HERE, letter(Some(1), MIB), None));
        let (_, _, accepted) = letters.get(again).unwrap();
        assert_eq!(accepted.as_slice(), [QueueId(10)]);
    }

    #[test]
    fn one_offered_twice_is_published_once_and_unkept_ones_are_bounded() {
        let now = Instant::now();
        let mut letters = Letters::new(BYTES);
        number(letters.take(now, HERE, letter(Some(1), 10), None));
        assert_eq!(
            letters.take(now, HERE, letter(Some(1), 10), None),
            Taken::Known
        );
        let dropped = (0..300)
            .filter(|_| letters.take(now, HERE, letter(None, MIB), None) == Taken::Dropped)
            .count();
        assert!(dropped >= 300 - 4 * BYTES / MIB - 1, "{dropped}");
        assert!(letters.bytes < 4 * BYTES + 2 * MIB);
    }
}
