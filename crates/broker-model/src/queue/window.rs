//! The identities that a queue remembers, so that a publish that is repeated is found out.
//!
//! Part of the replicated state: what is remembered depends on the operations and their times alone.
//! A window holds the last identities that were accepted, as many as the operations say, in memory
//! and in the queue's record. A queue has one window of its own, one per deduplicating exchange
//! that leads to it, a bounded number, and sources: see [`super::sources`].

use super::sources::{SOURCES_MAX, Sources};
use crate::identity::{Fingerprint, Identity, WindowId};
use crate::wire::{Cursor, WireError, put_varint};
use bytes::{BufMut, BytesMut};
use std::collections::{BTreeMap, VecDeque};

/// Windows of one queue at most, without its sources; the one that was used least recently makes room.
const WINDOWS_MAX: usize = 64;
/// Added to the number of windows where sources are stored apart from them, as they were not in earlier versions.
const SOURCES_APART: u64 = 1 << 16;

pub(super) const MALFORMED: WireError = WireError::Malformed("deduplication window");

/// The windows of one queue.
#[derive(Debug, Clone, Default)]
pub(crate) struct Windows {
    windows: BTreeMap<WindowId, Window>,
    sources: Sources,
}

/// The identities of one window.
#[derive(Debug, Clone, Default)]
pub(super) struct Window {
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
            if identity.window.is_passed_on() {
                return self.sources.knows(identity, now_ms);
            }
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
            if identity.window.is_passed_on() {
                self.sources.remember(identity, now_ms);
                continue;
            }
            if !self.windows.contains_key(&identity.window) {
                self.make_room();
            }
            let size = identity.cache_size.max(1) as usize;
            let window = self.windows.entry(identity.window).or_default();
            window.remember(identity, size, now_ms);
        }
    }

    fn make_room(&mut self) {
        while self.windows.len() >= WINDOWS_MAX {
            // A queue's own window stays.
            let others = self
                .windows
                .iter()
                .filter(|(id, _)| **id != WindowId::QUEUE);
            let Some((_, oldest)) = others.map(|(id, window)| (window.used_ms, *id)).min() else {
                return;
            };
            self.windows.remove(&oldest);
        }
    }

    pub(crate) fn encode(&self, out: &mut BytesMut) {
        let apart = if self.sources.is_empty() {
            0
        } else {
            SOURCES_APART
        };
        put_varint(out, self.windows.len() as u64 + apart);
        for (id, window) in &self.windows {
            out.put_u64_le(id.0);
            window.encode(out);
        }
        if !self.sources.is_empty() {
            self.sources.encode(out);
        }
    }

    pub(crate) fn decode(cursor: &mut Cursor<'_>) -> Result<Self, WireError> {
        let mut windows = Self::default();
        let count = cursor.varint()?;
        let apart = count >= SOURCES_APART;
        let count = count % SOURCES_APART;
        if count > (WINDOWS_MAX + SOURCES_MAX) as u64 {
            return Err(MALFORMED);
        }
        for _ in 0..count {
            let id = WindowId(cursor.u64()?);
            let window = Window::decode(cursor)?;
            if id.is_passed_on() {
                windows.sources.insert_window(id, window)?;
            } else if windows.windows.insert(id, window).is_some() {
                return Err(MALFORMED);
            }
        }
        if apart {
            windows.sources = Sources::decode(cursor)?;
        }
        Ok(windows)
    }
}

impl Window {
    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    pub(super) fn used_ms(&self) -> u64 {
        self.used_ms
    }

    /// Identities in the order of their acceptance, with the time until which each is remembered.
    pub(super) fn identities(&self) -> impl Iterator<Item = (Fingerprint, u64)> + '_ {
        self.order.iter().copied()
    }

    pub(super) fn knows(&self, fingerprint: Fingerprint, now_ms: u64) -> bool {
        self.known
            .get(&fingerprint)
            .is_some_and(|until_ms| *until_ms > now_ms)
    }

    /// The identity is not known, so if it stands in `order` its time has passed.
    pub(super) fn remember(&mut self, identity: &Identity, size: usize, now_ms: u64) {
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
        self.put(identity.fingerprint, until_ms);
        self.used_ms = now_ms;
    }

    pub(super) fn put(&mut self, fingerprint: Fingerprint, until_ms: u64) {
        self.order.push_back((fingerprint, until_ms));
        self.known.insert(fingerprint, until_ms);
    }

    pub(super) fn encode(&self, out: &mut BytesMut) {
        put_varint(out, self.used_ms);
        put_varint(out, self.order.len() as u64);
        out.reserve(self.order.len() * 24);
        for (fingerprint, until_ms) in &self.order {
            out.put_u64_le(fingerprint.0);
            out.put_u64_le(fingerprint.1);
            // No bound is the shortest.
            put_varint(out, until_ms.wrapping_add(1));
        }
    }

    pub(super) fn decode(cursor: &mut Cursor<'_>) -> Result<Self, WireError> {
        let mut window = Self {
            used_ms: cursor.varint()?,
            ..Self::default()
        };
        let identities = cursor.count(17)?;
        window.order.reserve_exact(identities);
        window.known.reserve(identities);
        for _ in 0..identities {
            let fingerprint = Fingerprint(cursor.u64()?, cursor.u64()?);
            window.put(fingerprint, cursor.varint()?.wrapping_sub(1));
        }
        Ok(window)
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
