//! Where on disk what is.
//!
//! The writer changes it after each sync, in the order of the writes; recovery makes it out of the segments in the
//! same way. What callers have queued meanwhile is the business of the [`View`](super::view::View)s.

use super::segment::Segment;
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Where an entry stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// Number of the segment; [`Place::UNKNOWN`] has none.
    pub(crate) segment: u32,
    /// Length of its payload.
    pub(crate) len: u32,
    /// Offset of its header.
    pub(crate) offset: u64,
}

impl Place {
    /// An entry that stood in a segment which is gone, and of which no copy was met yet.
    pub(crate) const UNKNOWN: Self = Self {
        segment: 0,
        len: 0,
        offset: 0,
    };
}

/// Room that a log's list of places keeps.
const PLACES_MIN: usize = 256;

/// A group's log on disk.
#[derive(Debug, Default)]
pub(crate) struct GroupIndex {
    pub(crate) vote: Option<Bytes>,
    pub(crate) committed: Option<Bytes>,
    pub(crate) purged: Option<(u64, Bytes)>,
    /// Index of the first of `places`, or where it would be.
    pub(crate) first: u64,
    pub(crate) places: VecDeque<Place>,
}

impl GroupIndex {
    /// Index behind the last entry.
    pub(crate) fn next(&self) -> u64 {
        self.first + self.places.len() as u64
    }

    /// Whether an append at `index` follows what is there.
    pub(crate) fn fits(&self, index: u64) -> bool {
        (self.places.is_empty() && self.purged.is_none()) || index == self.next()
    }

    /// Where `index` is.
    pub(crate) fn place(&self, index: u64) -> Option<Place> {
        let at = usize::try_from(index.checked_sub(self.first)?).ok()?;
        self.places.get(at).copied()
    }
}

/// How much of a segment is needed.
#[derive(Debug)]
pub(crate) struct Use {
    pub(crate) segment: Arc<Segment>,
    /// Bytes of the file.
    pub(crate) len: u64,
    /// Entries that stand in it and belong to a log.
    pub(crate) entries: u64,
    /// Bytes of their payloads.
    pub(crate) bytes: u64,
}

/// All groups and segments.
#[derive(Debug, Default)]
pub(crate) struct Index {
    pub(crate) groups: BTreeMap<u32, GroupIndex>,
    pub(crate) segments: BTreeMap<u32, Use>,
}

impl Index {
    /// A segment begins to be used.
    pub(crate) fn add_segment(&mut self, segment: Arc<Segment>, len: u64) {
        let number = segment.number();
        let used = Use {
            segment,
            len,
            entries: 0,
            bytes: 0,
        };
        self.segments.insert(number, used);
    }

    pub(crate) fn group(&mut self, group: u32) -> &mut GroupIndex {
        self.groups.entry(group).or_default()
    }

    /// The entry at `index`, which follows the last one, is at `place`.
    pub(crate) fn append(&mut self, group: u32, index: u64, place: Place) {
        let log = self.groups.entry(group).or_default();
        if log.places.is_empty() {
            log.first = index;
        }
        log.places.push_back(place);
        count(&mut self.segments, place);
    }

    /// The entry at `index` is also at `place`, and its other place will go. Nothing if it belongs to no log.
    pub(crate) fn copy(&mut self, group: u32, index: u64, place: Place) {
        let Some(log) = self.groups.get_mut(&group) else {
            return;
        };
        let at = index
            .checked_sub(log.first)
            .and_then(|at| usize::try_from(at).ok());
        if let Some(known) = at.and_then(|at| log.places.get_mut(at)) {
            uncount(&mut self.segments, *known);
            *known = place;
            count(&mut self.segments, place);
        }
    }

    /// Entries from `from` on are gone.
    pub(crate) fn truncate(&mut self, group: u32, from: u64) {
        let log = self.groups.entry(group).or_default();
        while log.next() > from
            && let Some(place) = log.places.pop_back()
        {
            uncount(&mut self.segments, place);
        }
    }

    /// Entries up to `upto` are purged.
    pub(crate) fn purge(&mut self, group: u32, upto: u64, meta: Bytes) {
        let log = self.groups.entry(group).or_default();
        if log.places.is_empty() && log.purged.is_none() {
            // Where a log had been that is empty does not matter.
            log.first = 0;
        }
        log.purged = Some((upto, meta));
        while log.first <= upto
            && let Some(place) = log.places.pop_front()
        {
            log.first += 1;
            uncount(&mut self.segments, place);
        }
        if log.places.is_empty() {
            log.first = log.first.max(upto.saturating_add(1));
        }
        if log.places.len() < log.places.capacity() / 4 {
            log.places.shrink_to((2 * log.places.len()).max(PLACES_MIN));
        }
    }

    /// Nothing of the group is left.
    pub(crate) fn remove(&mut self, group: u32) {
        if let Some(log) = self.groups.remove(&group) {
            for place in log.places {
                uncount(&mut self.segments, place);
            }
        }
    }

    /// Entries that stand in a segment, in order.
    pub(crate) fn standing_in(&self, segment: u32) -> Vec<(u32, u64, Place)> {
        let mut found = Vec::new();
        for (group, log) in &self.groups {
            let places = (log.first..).zip(&log.places);
            let here = places.filter(|(_, place)| place.segment == segment);
            found.extend(here.map(|(index, place)| (*group, index, *place)));
        }
        found
    }

    /// The oldest segment, if nothing in it is needed and it is not the newest.
    pub(crate) fn dead(&self) -> Option<u32> {
        let (oldest, used) = self.segments.first_key_value()?;
        (used.entries == 0 && self.segments.len() > 1).then_some(*oldest)
    }
}

fn count(segments: &mut BTreeMap<u32, Use>, place: Place) {
    if let Some(used) = segments.get_mut(&place.segment) {
        used.entries += 1;
        used.bytes += u64::from(place.len);
    }
}

fn uncount(segments: &mut BTreeMap<u32, Use>, place: Place) {
    if let Some(used) = segments.get_mut(&place.segment) {
        used.entries = used.entries.saturating_sub(1);
        used.bytes = used.bytes.saturating_sub(u64::from(place.len));
    }
}
