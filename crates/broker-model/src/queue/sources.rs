//! What a queue remembers of messages that the broker has passed on to it: dead letters, and delayed ones that were due.
//!
//! Each queue that they come from is a source. What it passes on is named by its place there, and by and large it comes in order, so
//! what is remembered of a source are a few runs of numbers; a dead letter exchange that leads to a thousand
//! queues leaves a few words in each. Messages that were refused have had no place, and are remembered as those of publishers are
//! ([`Window`]).
//!
//! Part of the replicated state, as the windows are.

use super::window::{MALFORMED, Window};
use crate::identity::{Fingerprint, Identity, PASSED_ON_TTL_MS, WindowId};
use crate::wire::{Cursor, WireError, put_varint};
use bytes::{BufMut, BytesMut};
use std::collections::{BTreeMap, VecDeque};

/// Sources of one queue at most; the one that was used least recently makes room.
pub(super) const SOURCES_MAX: usize = 4096;
/// Identities of all sources at most: 15 MB or so, if each is a run of its own.
const IDENTITIES_MAX: usize = 256 << 10;
/// Identities of one source, if there are many sources: it has half as many on their way, and those that find one of their
/// queues without a leader are overtaken by others.
const OF_SOURCE_MIN: usize = 1024;

/// The sources of one queue.
#[derive(Debug, Clone, Default)]
pub(super) struct Sources {
    sources: BTreeMap<WindowId, Source>,
    /// Identities in them.
    identities: usize,
}

/// What has come from one queue.
#[derive(Debug, Clone, Default)]
struct Source {
    /// Places of messages that came one after the other, by the first of them.
    runs: BTreeMap<u64, Run>,
    /// The runs by their first places, as they came.
    order: VecDeque<u64>,
    /// Places in `runs`.
    placed: usize,
    /// Messages without a place.
    others: Window,
    /// When the last one came.
    used_ms: u64,
}

/// Places that came one after the other.
#[derive(Debug, Clone, Copy)]
struct Run {
    last: u64,
    /// Until when they are remembered: the time of the one that came last.
    until_ms: u64,
}

/// The place of a message that has one.
fn place(identity: &Identity) -> Option<u64> {
    let Fingerprint(source, sequence) = identity.fingerprint;
    let placed = WindowId(WindowId::FIRST_PASSED_ON.0 | source) == identity.window;
    placed.then_some(sequence)
}

impl Sources {
    pub(super) fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    pub(super) fn knows(&self, identity: &Identity, now_ms: u64) -> bool {
        let source = self.sources.get(&identity.window);
        source.is_some_and(|source| source.knows(identity, now_ms))
    }

    /// Remembers an identity that is not known.
    pub(super) fn remember(&mut self, identity: &Identity, now_ms: u64) {
        let is_new = !self.sources.contains_key(&identity.window);
        let size = identity.cache_size.max(1) as usize;
        let size = size.min(self.make_room(identity.window, is_new, now_ms));
        let source = self.sources.entry(identity.window).or_default();
        let before = source.len();
        source.remember(identity, size, now_ms);
        self.identities = self.identities + source.len() - before;
    }

    /// Room for one more identity. Returns how many its source may have.
    fn make_room(&mut self, window: WindowId, is_new: bool, now_ms: u64) -> usize {
        if is_new {
            let sources = self.sources.iter();
            let over = sources.filter(|(_, source)| source.used_ms + PASSED_ON_TTL_MS <= now_ms);
            let over: Vec<_> = over.map(|(id, _)| *id).collect();
            over.into_iter().for_each(|id| self.forget(id));
        }
        while self.identities >= IDENTITIES_MAX || is_new && self.sources.len() >= SOURCES_MAX {
            let others = self.sources.iter().filter(|(id, _)| **id != window);
            let Some((_, oldest)) = others.map(|(id, source)| (source.used_ms, *id)).min() else {
                break;
            };
            self.forget(oldest);
        }
        let sources = self.sources.len() + usize::from(is_new);
        (IDENTITIES_MAX / sources.max(1)).max(OF_SOURCE_MIN)
    }

    fn forget(&mut self, window: WindowId) {
        if let Some(source) = self.sources.remove(&window) {
            self.identities -= source.len();
        }
    }

    pub(super) fn encode(&self, out: &mut BytesMut) {
        put_varint(out, self.sources.len() as u64);
        for (id, source) in &self.sources {
            out.put_u64_le(id.0);
            source.encode(out);
        }
    }

    pub(super) fn decode(cursor: &mut Cursor<'_>) -> Result<Self, WireError> {
        let count = cursor.count(10)?;
        let mut sources = Self::default();
        for _ in 0..count {
            let id = WindowId(cursor.u64()?);
            sources.insert(id, Source::decode(cursor)?)?;
        }
        Ok(sources)
    }

    /// Adds what an earlier version has stored of one source: a window like those of publishers.
    pub(super) fn insert_window(&mut self, id: WindowId, window: Window) -> Result<(), WireError> {
        let mut source = Source {
            used_ms: window.used_ms(),
            ..Source::default()
        };
        for (fingerprint, until_ms) in window.identities() {
            let identity = Identity {
                window: id,
                fingerprint,
                cache_size: u32::MAX,
                cache_ttl_ms: None,
            };
            match place(&identity) {
                // Once, whatever was stored.
                Some(place) if source.run_of(place).is_some() => {}
                Some(place) => source.put(place, until_ms),
                None => source.others.put(fingerprint, until_ms),
            }
        }
        self.insert(id, source)
    }

    fn insert(&mut self, id: WindowId, source: Source) -> Result<(), WireError> {
        self.identities += source.len();
        match self.sources.insert(id, source) {
            None if id.is_passed_on() && self.sources.len() <= SOURCES_MAX => Ok(()),
            _ => Err(MALFORMED),
        }
    }
}

impl Source {
    fn len(&self) -> usize {
        self.placed + self.others.len()
    }

    fn knows(&self, identity: &Identity, now_ms: u64) -> bool {
        let Some(place) = place(identity) else {
            return self.others.knows(identity.fingerprint, now_ms);
        };
        self.run_of(place).is_some_and(|run| run.until_ms > now_ms)
    }

    fn run_of(&self, place: u64) -> Option<&Run> {
        let (_, run) = self.runs.range(..=place).next_back()?;
        (place <= run.last).then_some(run)
    }

    /// The identity is not known, so if it stands in a run the time of that is over.
    fn remember(&mut self, identity: &Identity, size: usize, now_ms: u64) {
        self.used_ms = now_ms;
        let Some(place) = place(identity) else {
            return self.others.remember(identity, size, now_ms);
        };
        while let Some(run) = self.oldest()
            && (run.until_ms <= now_ms || self.run_of(place).is_some())
        {
            self.forget_oldest_run();
        }
        while self.placed >= size && !self.order.is_empty() {
            self.forget_oldest();
        }
        let ttl_ms = identity.cache_ttl_ms;
        let until_ms = ttl_ms.map_or(u64::MAX, |ms| now_ms.saturating_add(ms));
        self.put(place, until_ms);
    }

    /// Adds a place that is in no run.
    fn put(&mut self, place: u64, until_ms: u64) {
        self.placed += 1;
        let newest = self.order.back().and_then(|first| self.runs.get_mut(first));
        match newest {
            Some(run) if run.last.checked_add(1) == Some(place) => {
                (run.last, run.until_ms) = (place, run.until_ms.max(until_ms));
            }
            _ => self.push(
                place,
                Run {
                    last: place,
                    until_ms,
                },
            ),
        }
    }

    fn push(&mut self, first: u64, run: Run) {
        self.order.push_back(first);
        self.runs.insert(first, run);
    }

    fn oldest(&self) -> Option<&Run> {
        self.runs.get(self.order.front()?)
    }

    fn forget_oldest_run(&mut self) -> Option<(u64, Run)> {
        let first = self.order.pop_front()?;
        let run = self.runs.remove(&first)?;
        self.placed -= (run.last - first + 1) as usize;
        Some((first, run))
    }

    fn forget_oldest(&mut self) {
        if let Some((first, run)) = self.forget_oldest_run()
            && first < run.last
        {
            self.placed += (run.last - first) as usize;
            self.order.push_front(first + 1);
            self.runs.insert(first + 1, run);
        }
    }

    fn encode(&self, out: &mut BytesMut) {
        put_varint(out, self.used_ms);
        self.others.encode(out);
        put_varint(out, self.order.len() as u64);
        for first in &self.order {
            let Some(run) = self.runs.get(first) else {
                continue;
            };
            put_varint(out, *first);
            put_varint(out, run.last - first);
            // No bound is the shortest.
            put_varint(out, run.until_ms.wrapping_add(1));
        }
    }

    fn decode(cursor: &mut Cursor<'_>) -> Result<Self, WireError> {
        let mut source = Self {
            used_ms: cursor.varint()?,
            others: Window::decode(cursor)?,
            ..Self::default()
        };
        for _ in 0..cursor.count(3)? {
            let (first, more) = (cursor.varint()?, cursor.varint()?);
            let until_ms = cursor.varint()?.wrapping_sub(1);
            let last = first.checked_add(more).ok_or(MALFORMED)?;
            let before = source.runs.range(..=last).next_back();
            if before.is_some_and(|(_, run)| run.last >= first) || more >= IDENTITIES_MAX as u64 {
                return Err(MALFORMED);
            }
            source.placed += more as usize + 1;
            source.push(first, Run { last, until_ms });
        }
        Ok(source)
    }
}

#[cfg(test)]
mod tests {
    use super::super::window::Windows;
    use super::*;
    use crate::ids::{NodeId, Origin, QueueId, Sequence};
    use crate::op::BatchHead;
    use bytes::Bytes;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use std::collections::HashMap;

    const SIZE: u64 = 2048;

    fn letter(source: u64, number: u64) -> Identity {
        Identity::passed_on(QueueId(source), Sequence(number))
    }

    /// Whether it is accepted.
    fn publish(sources: &mut Sources, identity: Identity, now_ms: u64) -> bool {
        let new = !sources.knows(&identity, now_ms);
        if new {
            sources.remember(&identity, now_ms);
        }
        new
    }

    fn copied(sources: &Sources) -> Sources {
        let mut out = BytesMut::new();
        sources.encode(&mut out);
        let bytes: Bytes = out.freeze();
        let mut cursor = Cursor::at(&bytes, 0);
        let copy = Sources::decode(&mut cursor).unwrap();
        cursor.end().unwrap();
        copy
    }

    /// What is on the way from many busy queues when the leader of all of them is lost comes again, and is known.
    #[test]
    fn sources_do_not_push_each_other_out() {
        const ON_THEIR_WAY: u64 = 512;
        let mut sources = Sources::default();
        for number in 1..=3 * ON_THEIR_WAY {
            for source in 1..=100 {
                assert!(publish(&mut sources, letter(source << 16, number), number));
            }
        }
        let mut copy = copied(&sources);
        assert_eq!(
            (copy.sources.len(), copy.identities),
            (100, sources.identities)
        );
        for source in 1..=100 {
            for number in 2 * ON_THEIR_WAY + 1..=3 * ON_THEIR_WAY {
                assert!(
                    !publish(&mut copy, letter(source << 16, number), 5_000),
                    "{source}.{number} is doubled"
                );
            }
        }
    }

    #[test]
    fn what_sources_share_is_bounded_and_given_back() {
        let mut sources = Sources::default();
        for source in 1..=SOURCES_MAX as u64 + 50 {
            assert!(publish(&mut sources, letter(source << 16, 1), source));
        }
        assert_eq!(
            (sources.sources.len(), sources.identities),
            (SOURCES_MAX, SOURCES_MAX)
        );
        let busy = IDENTITIES_MAX as u64 / OF_SOURCE_MIN as u64 + 20;
        for source in 1..=busy {
            for number in 2..=OF_SOURCE_MIN as u64 + 20 {
                publish(&mut sources, letter(source << 16, number), 10_000 + number);
            }
            assert!(sources.identities <= IDENTITIES_MAX);
        }
        let counted = sources.sources.values().map(Source::len);
        assert_eq!(counted.sum::<usize>(), sources.identities);
        publish(&mut sources, letter(1 << 20, 1), 20_000 + PASSED_ON_TTL_MS);
        assert_eq!((sources.sources.len(), sources.identities), (1, 1));
    }

    /// Those that come in order take little room, the others no more than their number allows.
    #[test]
    fn the_last_ones_of_a_source_are_remembered_in_little_room() {
        for (step, runs) in [(1, 1), (2, SIZE)] {
            let mut sources = Sources::default();
            for number in 0..3 * SIZE {
                assert!(publish(
                    &mut sources,
                    letter(7, number * step),
                    number / 100
                ));
                let source = sources.sources.values().next().unwrap();
                assert_eq!(source.runs.len(), source.order.len());
                assert!(source.runs.len() as u64 <= runs, "{}", source.runs.len());
            }
            for number in 2 * SIZE..3 * SIZE {
                assert!(!publish(&mut sources, letter(7, number * step), 100));
            }
            assert!(publish(&mut sources, letter(7, (2 * SIZE - 1) * step), 100));
        }
    }

    #[test]
    fn refused_messages_have_no_place() {
        let head = BatchHead {
            origin: Origin {
                node: NodeId(1),
                incarnation: 1,
            },
            number: 1,
            previous: 0,
            answered: 0,
        };
        let mut sources = Sources::default();
        for op in 0..10 {
            let refused = Identity::refused(QueueId(7), &head, op);
            assert!(publish(&mut sources, refused, 1));
            assert!(!publish(&mut sources, refused, 2));
        }
        assert!(publish(&mut sources, letter(7, 1), 3));
        let mut copy = copied(&sources);
        assert!(!publish(
            &mut copy,
            Identity::refused(QueueId(7), &head, 3),
            4
        ));
        assert!(!publish(&mut copy, letter(7, 1), 4));
        assert_eq!((copy.sources.len(), copy.identities), (1, 11));
    }

    /// Earlier versions stored a window for each source.
    #[test]
    fn what_earlier_versions_stored_is_read() {
        let mut out = BytesMut::new();
        put_varint(&mut out, 1);
        out.put_u64_le(WindowId::passed_on(QueueId(7)).0);
        put_varint(&mut out, 50);
        put_varint(&mut out, 4);
        let stored = [((7, 1), 100), ((7, 2), 110), ((7, 1), 110), ((9, 9), 120)];
        for (fingerprint, until_ms) in stored {
            out.put_u64_le(fingerprint.0);
            out.put_u64_le(fingerprint.1);
            put_varint(&mut out, until_ms + 1);
        }
        let bytes: Bytes = out.freeze();
        let mut cursor = Cursor::at(&bytes, 0);
        let mut windows = Windows::decode(&mut cursor).unwrap();
        cursor.end().unwrap();
        let other = Identity {
            fingerprint: Fingerprint(9, 9),
            ..letter(7, 9)
        };
        for (identity, known) in [(letter(7, 1), true), (letter(7, 3), false), (other, true)] {
            assert_eq!(windows.knows(&[identity], 99), known, "{identity:?}");
            assert!(!windows.knows(&[identity], 120), "{identity:?}");
        }
        // One that is named twice is one.
        let next = Identity {
            cache_size: 1,
            ..letter(7, 5)
        };
        windows.remember(&[next], 60);
        assert!(windows.knows(&[next], 61) && !windows.knows(&[letter(7, 1)], 61));
    }

    proptest! {
        /// The last ones are known while their time lasts, nothing is known that did not come, and a copy made at any point
        /// goes on as the original does.
        #[test]
        fn as_long_as_promised_and_the_same_after_a_snapshot(
            steps in vec((0u64..30, 0u64..4), 1..400),
            size in 1u32..12,
            ttl_ms in 1u64..100,
            copy_at in 0usize..400,
        ) {
            let mut sources = Sources::default();
            let mut copy = None;
            let mut now_ms = 0;
            let mut came: HashMap<u64, (usize, u64)> = HashMap::new();
            let mut accepted = 0;
            for (at, (number, later)) in steps.into_iter().enumerate() {
                if at == copy_at {
                    copy = Some(copied(&sources));
                }
                now_ms += later;
                let identity = Identity {
                    cache_size: size,
                    cache_ttl_ms: Some(ttl_ms),
                    ..letter(7, number)
                };
                let new = publish(&mut sources, identity, now_ms);
                if let Some(copy) = &mut copy {
                    prop_assert_eq!(publish(copy, identity, now_ms), new);
                }
                match came.get(&number) {
                    None => prop_assert!(new),
                    Some((nth, until_ms)) if accepted - nth <= size as usize => {
                        prop_assert!(!new || *until_ms <= now_ms);
                    }
                    Some(_) => {}
                }
                let source = sources.sources.values().next().unwrap();
                prop_assert!(source.placed <= size as usize);
                let places = source.runs.iter().map(|(first, run)| run.last - first + 1);
                prop_assert_eq!(places.sum::<u64>(), source.placed as u64);
                if new {
                    came.insert(number, (accepted, now_ms + ttl_ms));
                    accepted += 1;
                }
            }
        }
    }
}
