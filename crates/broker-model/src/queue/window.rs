//! The identities that a queue remembers, so that a publish that is repeated is found out.
//!
//! Part of the replicated state: what is remembered depends on the operations and their times alone.
//! A window holds the last identities that were accepted, as many as the operations say, in memory
//! and in the queue's record. A queue has one window of its own, one per deduplicating exchange
//! that leads to it, a bounded number, and one per queue from which the broker passes messages on to it. Those share a
//! number of identities: with more sources each has fewer, but no fewer than one may have on their way.

use crate::identity::{Fingerprint, Identity, PASSED_ON_TTL_MS, WindowId};
use crate::wire::{Cursor, WireError, put_varint};
use bytes::{BufMut, BytesMut};
use std::collections::{BTreeMap, VecDeque};

/// Windows of one queue at most, without those of sources; the one that was used least recently makes room.
const WINDOWS_MAX: usize = 64;
/// The same of those of sources.
const SOURCES_MAX: usize = 4096;
/// Identities of all sources at most: 25 MB or so.
const PASSED_ON_MAX: usize = 256 << 10;
/// Identities of one source, if there are many sources: it has half as many on their way, and those that find one of their
/// queues without a leader are overtaken by others.
const OF_SOURCE_MIN: usize = 1024;

const MALFORMED: WireError = WireError::Malformed("deduplication window");

/// The windows of one queue.
#[derive(Debug, Clone, Default)]
pub(crate) struct Windows {
    windows: BTreeMap<WindowId, Window>,
    /// Windows of sources, and identities in them.
    sources: usize,
    passed_on: usize,
}

/// The identities of one window.
#[derive(Debug, Clone, Default)]
struct Window {
    /// As they were accepted, with the time until which each is remembered (`u64::MAX`: no bound).
    order: VecDeque<(Fingerprint, u64)>,
    /// The time of each one's last acceptance. Looked into, never walked.
    known: hashbrown::HashMap<Fingerprint, u64, foldhash::fast::RandomState>,
    /// When one was accepted last.
    used_ms: u64,
}

impl Windows {
    /// Whether one of the identities is remembered at `now_ms`.
    pub(crate) fn knows(&self, identities: &[Identity], now_ms: u64) -> bool {
        identities.iter().any(|identity| {
            self.windows
                .get(&identity.window)
                .is_some_and(|window| window.knows(identity.fingerprint, now_ms))
        })
    }

    /// Remembers identities that are not known.
    pub(crate) fn remember(&mut self, identities: &[Identity], now_ms: u64) {
        for identity in identities {
            if identity.cache_ttl_ms == Some(0) {
                continue;
            }
            let is_new = !self.windows.contains_key(&identity.window);
            let mut size = identity.cache_size.max(1) as usize;
            if identity.window.is_passed_on() {
                size = size.min(self.make_room_for_source(identity.window, is_new, now_ms));
            } else if is_new {
                self.make_room();
            }
            let window = self.windows.entry(identity.window).or_default();
            let before = window.order.len();
            window.remember(identity, size, now_ms);
            if identity.window.is_passed_on() {
                self.sources += usize::from(is_new);
                self.passed_on = self.passed_on + window.order.len() - before;
            }
        }
    }

    fn make_room(&mut self) {
        while self.windows.range(..WindowId::FIRST_PASSED_ON).count() >= WINDOWS_MAX {
            let others = self.windows.range(..WindowId::FIRST_PASSED_ON);
            // A queue's own window stays.
            let others = others.filter(|(id, _)| **id != WindowId::QUEUE);
            let Some(oldest) = used_first(others) else {
                return;
            };
            self.windows.remove(&oldest);
        }
    }

    /// Room for one more identity of a source. Returns how many it may have.
    fn make_room_for_source(&mut self, window: WindowId, is_new: bool, now_ms: u64) -> usize {
        if is_new {
            let sources = self.windows.range(WindowId::FIRST_PASSED_ON..);
            let over = sources.filter(|(_, window)| window.used_ms + PASSED_ON_TTL_MS <= now_ms);
            let over: Vec<_> = over.map(|(id, _)| *id).collect();
            over.into_iter().for_each(|id| self.forget_source(id));
        }
        while self.passed_on >= PASSED_ON_MAX || is_new && self.sources >= SOURCES_MAX {
            let others = self.windows.range(WindowId::FIRST_PASSED_ON..);
            let Some(oldest) = used_first(others.filter(|(id, _)| **id != window)) else {
                break;
            };
            self.forget_source(oldest);
        }
        let sources = self.sources + usize::from(is_new);
        (PASSED_ON_MAX / sources.max(1)).max(OF_SOURCE_MIN)
    }

    fn forget_source(&mut self, window: WindowId) {
        if let Some(window) = self.windows.remove(&window) {
            self.sources -= 1;
            self.passed_on -= window.order.len();
        }
    }

    pub(crate) fn encode(&self, out: &mut BytesMut) {
        put_varint(out, self.windows.len() as u64);
        for (id, window) in &self.windows {
            out.put_u64_le(id.0);
            put_varint(out, window.used_ms);
            put_varint(out, window.order.len() as u64);
            out.reserve(window.order.len() * 24);
            for (fingerprint, until_ms) in &window.order {
                out.put_u64_le(fingerprint.0);
                out.put_u64_le(fingerprint.1);
                // No bound is the shortest.
                put_varint(out, until_ms.wrapping_add(1));
            }
        }
    }

    pub(crate) fn decode(cursor: &mut Cursor<'_>) -> Result<Self, WireError> {
        let mut windows = Self::default();
        let count = cursor.count(10)?;
        if count > WINDOWS_MAX + SOURCES_MAX {
            return Err(MALFORMED);
        }
        for _ in 0..count {
            let id = WindowId(cursor.u64()?);
            let mut window = Window {
                used_ms: cursor.varint()?,
                ..Window::default()
            };
            let identities = cursor.count(17)?;
            window.order.reserve_exact(identities);
            window.known.reserve(identities);
            for _ in 0..identities {
                let fingerprint = Fingerprint(cursor.u64()?, cursor.u64()?);
                let until_ms = cursor.varint()?.wrapping_sub(1);
                window.order.push_back((fingerprint, until_ms));
                window.known.insert(fingerprint, until_ms);
            }
            if id.is_passed_on() {
                windows.sources += 1;
                windows.passed_on += window.order.len();
            }
            if windows.windows.insert(id, window).is_some() {
                return Err(MALFORMED);
            }
        }
        Ok(windows)
    }
}

/// The window that was used least recently.
fn used_first<'a>(windows: impl Iterator<Item = (&'a WindowId, &'a Window)>) -> Option<WindowId> {
    windows
        .min_by_key(|(id, window)| (window.used_ms, **id))
        .map(|(id, _)| *id)
}

impl Window {
    fn knows(&self, fingerprint: Fingerprint, now_ms: u64) -> bool {
        self.known
            .get(&fingerprint)
            .is_some_and(|until_ms| *until_ms > now_ms)
    }

    /// The identity is not known, so if it stands in `order` its time has passed.
    fn remember(&mut self, identity: &Identity, size: usize, now_ms: u64) {
        while self
            .order
            .front()
            .is_some_and(|(_, until_ms)| *until_ms <= now_ms)
        {
            self.forget_oldest();
        }
        while self.order.len() >= size {
            self.forget_oldest();
        }
        let until_ms = identity
            .cache_ttl_ms
            .map_or(u64::MAX, |ttl_ms| now_ms.saturating_add(ttl_ms));
        self.order.push_back((identity.fingerprint, until_ms));
        self.known.insert(identity.fingerprint, until_ms);
        self.used_ms = now_ms;
    }

    fn forget_oldest(&mut self) {
        // It may have been accepted again since its time passed: then the later one stands.
        if let Some((fingerprint, until_ms)) = self.order.pop_front()
            && self.known.get(&fingerprint) == Some(&until_ms)
        {
            self.known.remove(&fingerprint);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{QueueId, Sequence};
    use bytes::Bytes;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn identity(window: u64, number: u64, size: u32, ttl_ms: Option<u64>) -> Identity {
        Identity {
            window: WindowId(window),
            fingerprint: Fingerprint(0, number),
            cache_size: size,
            cache_ttl_ms: ttl_ms,
        }
    }

    /// Whether it is accepted.
    fn publish(windows: &mut Windows, identity: Identity, now_ms: u64) -> bool {
        let new = !windows.knows(&[identity], now_ms);
        if new {
            windows.remember(&[identity], now_ms);
        }
        new
    }

    fn copied(windows: &Windows) -> Windows {
        let mut out = BytesMut::new();
        windows.encode(&mut out);
        let bytes: Bytes = out.freeze();
        let mut cursor = Cursor::at(&bytes, 0);
        let copy = Windows::decode(&mut cursor).unwrap();
        cursor.end().unwrap();
        copy
    }

    #[test]
    fn what_is_accepted() {
        let mut windows = Windows::default();
        for (number, size, ttl_ms, now_ms, accepted, why) in [
            (1, 2, None, 0, true, "the first"),
            (1, 2, None, 9, false, "again"),
            (2, 2, None, 9, true, "another"),
            (3, 2, None, 9, true, "pushes 1 out"),
            (1, 2, None, 9, true, "1 is forgotten, and pushes 2 out"),
            (3, 2, None, 9, false, "3 is not"),
            (4, 2, Some(5), 10, true, "for a time"),
            (4, 2, Some(5), 14, false, "within it"),
            (4, 2, Some(5), 15, true, "after it"),
            (4, 2, Some(5), 19, false, "the time begins anew"),
            (5, 2, Some(0), 20, true, "not remembered at all"),
            (5, 2, Some(0), 20, true, "not remembered at all, again"),
        ] {
            assert_eq!(
                publish(&mut windows, identity(0, number, size, ttl_ms), now_ms),
                accepted,
                "{why}"
            );
        }
    }

    #[test]
    fn windows_are_apart_and_bounded() {
        let mut windows = Windows::default();
        for window in 0..2 * WINDOWS_MAX as u64 {
            assert!(publish(&mut windows, identity(window, 1, 10, None), window));
        }
        assert_eq!(windows.windows.len(), WINDOWS_MAX);
        assert!(
            !publish(&mut windows, identity(0, 1, 10, None), 1_000),
            "the queue's own stays"
        );
        assert!(publish(&mut windows, identity(1, 1, 10, None), 1_000));
    }

    /// What is on the way from many busy queues when the leader of all of them is lost comes again, and is known.
    #[test]
    fn sources_do_not_push_each_other_out() {
        const ON_THEIR_WAY: u64 = 512;
        let mut windows = Windows::default();
        let letter =
            |source: u64, number| Identity::passed_on(QueueId(source << 16), Sequence(number));
        for number in 1..=3 * ON_THEIR_WAY {
            for source in 1..=100 {
                assert!(publish(&mut windows, letter(source, number), number));
            }
        }
        let mut copy = copied(&windows);
        assert_eq!((copy.sources, copy.passed_on), (100, windows.passed_on));
        for source in 1..=100 {
            for number in 2 * ON_THEIR_WAY + 1..=3 * ON_THEIR_WAY {
                assert!(
                    !publish(&mut copy, letter(source, number), 5_000),
                    "{source}.{number} is doubled"
                );
            }
        }
    }

    #[test]
    fn what_sources_share_is_bounded_and_given_back() {
        let mut windows = Windows::default();
        let letter =
            |source: u64, number| Identity::passed_on(QueueId(source << 16), Sequence(number));
        for source in 1..=SOURCES_MAX as u64 + 50 {
            assert!(publish(&mut windows, letter(source, 1), source));
        }
        assert_eq!(
            (windows.sources, windows.passed_on),
            (SOURCES_MAX, SOURCES_MAX)
        );
        let busy = PASSED_ON_MAX as u64 / OF_SOURCE_MIN as u64 + 20;
        for source in 1..=busy {
            for number in 2..=OF_SOURCE_MIN as u64 + 20 {
                publish(&mut windows, letter(source, number), 10_000 + number);
            }
            assert!(windows.passed_on <= PASSED_ON_MAX);
        }
        let counted = windows.windows.values().map(|window| window.order.len());
        assert_eq!(counted.sum::<usize>(), windows.passed_on);
        publish(&mut windows, letter(1 << 20, 1), 20_000 + PASSED_ON_TTL_MS);
        assert_eq!((windows.sources, windows.passed_on), (1, 1));
    }

    proptest! {
        /// A window remembers no more than its size, whatever the times, and a copy made at any
        /// point goes on as the original does.
        #[test]
        fn bounded_and_the_same_after_a_snapshot(
            steps in vec((0u64..12, 0u64..4, 0u64..5, any::<bool>()), 1..200),
            size in 1u32..6,
            copy_at in 0usize..200,
        ) {
            let mut windows = Windows::default();
            let mut copy = None;
            let mut now_ms = 0;
            for (at, (number, later, ttl_ms, bounded)) in steps.into_iter().enumerate() {
                if at == copy_at {
                    copy = Some(copied(&windows));
                }
                now_ms += later;
                let identity = identity(0, number, size, bounded.then_some(ttl_ms));
                let accepted = publish(&mut windows, identity, now_ms);
                if let Some(copy) = &mut copy {
                    prop_assert_eq!(publish(copy, identity, now_ms), accepted);
                }
                for window in windows.windows.values() {
                    prop_assert!(window.order.len() <= size as usize);
                    prop_assert!(window.known.len() <= window.order.len());
                }
            }
        }
    }
}
