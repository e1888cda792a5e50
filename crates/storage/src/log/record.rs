//! Records: what a segment of the log consists of, and how a batch of them is put together.
//!
//! A record is a header and a payload. The header's checksum covers the rest of the header and the payload; with the
//! number of its segment and of its batch in it, what an earlier use of the file has left behind is never
//! taken for what was written last. The mark is a random number that all records of a segment share: what a client has put into a
//! message, to be found behind the end of the log one day, is no record. All numbers are little-endian.
//!
//! | bytes | |
//! |---|---|
//! | 0–3 | CRC-32C of everything behind it |
//! | 4–7 | length of the payload |
//! | 8 | kind |
//! | 9 | version of the format |
//! | 10–11 | zero |
//! | 12–15 | group |
//! | 16–23 | index, or a count (see [`Kind`]) |
//! | 24–27 | number of the segment |
//! | 28–31 | mark of the segment |
//! | 32–39 | number of the batch |
//!
//! In every version, checksum, length, version, number and mark of the segment stand where they do here, so that an older
//! program knows what it must not touch.
//!
//! Payload of an entry: number of segments, length of the head, length of each segment (4 bytes each), the head, the segments.

use super::entry::LogEntry;
use bytes::Bytes;
use std::io::IoSlice;
use std::ops::Range;
use std::sync::Arc;

/// Length of a header.
pub(crate) const HEADER_LEN: usize = 40;
/// Longest payload.
pub(crate) const MAX_PAYLOAD: usize = 1 << 30;
/// Format version of records.
pub(crate) const VERSION: u8 = 1;
/// Parts of an entry up to this size are copied: that costs less than a part of a vectored write of their own.
const COPY_MAX: usize = 256;

/// What a record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// What a group's log held when the segment began: from `index` to the number in the payload, exclusive.
    Range,
    /// The entry at `index`, which follows the last one.
    Entry,
    /// The entry at `index`, which stood in a segment that goes.
    Copy,
    /// The group's vote.
    Vote,
    /// Everything up to `index` is purged; the payload is what was saved with it.
    Purged,
    /// The group's committed position.
    Committed,
    /// Entries from `index` on are removed.
    Truncate,
    /// Nothing of the group is left.
    Remove,
    /// The batch is whole; `index` is the number of its other records.
    End,
}

impl Kind {
    const fn to_byte(self) -> u8 {
        match self {
            Self::Range => 1,
            Self::Entry => 2,
            Self::Copy => 3,
            Self::Vote => 4,
            Self::Purged => 5,
            Self::Committed => 6,
            Self::Truncate => 7,
            Self::Remove => 8,
            Self::End => 9,
        }
    }

    const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Range,
            2 => Self::Entry,
            3 => Self::Copy,
            4 => Self::Vote,
            5 => Self::Purged,
            6 => Self::Committed,
            7 => Self::Truncate,
            8 => Self::Remove,
            9 => Self::End,
            _ => return None,
        })
    }
}

/// A header, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    /// Checksum of the rest.
    pub(crate) sum: u32,
    /// Length of the payload.
    pub(crate) len: u32,
    /// What the record says.
    pub(crate) kind: Kind,
    /// Of which group.
    pub(crate) group: u32,
    /// Index or count.
    pub(crate) index: u64,
    /// The segment in which it was written.
    pub(crate) segment: u32,
    /// What the segment's records are known by.
    pub(crate) mark: u32,
    /// The batch with which it was written.
    pub(crate) batch: u64,
}

impl Header {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.sum.to_le_bytes());
        out.extend_from_slice(&self.len.to_le_bytes());
        out.extend_from_slice(&[self.kind.to_byte(), VERSION, 0, 0]);
        out.extend_from_slice(&self.group.to_le_bytes());
        out.extend_from_slice(&self.index.to_le_bytes());
        out.extend_from_slice(&signature(self.segment, self.mark));
        out.extend_from_slice(&self.batch.to_le_bytes());
    }

    /// The header in `bytes`, unchecked but for its form; `None` if it is none.
    pub(crate) fn parse(bytes: &[u8; HEADER_LEN]) -> Option<Self> {
        let (sum, rest) = bytes.split_first_chunk::<4>()?;
        let (len, rest) = rest.split_first_chunk::<4>()?;
        let (&[kind, version, 0, 0], rest) = rest.split_first_chunk::<4>()? else {
            return None;
        };
        let (group, rest) = rest.split_first_chunk::<4>()?;
        let (index, rest) = rest.split_first_chunk::<8>()?;
        let (segment, rest) = rest.split_first_chunk::<4>()?;
        let (mark, rest) = rest.split_first_chunk::<4>()?;
        let (batch, _) = rest.split_first_chunk::<8>()?;
        (version == VERSION).then_some(())?;
        Some(Self {
            sum: u32::from_le_bytes(*sum),
            len: u32::from_le_bytes(*len),
            kind: Kind::from_byte(kind)?,
            group: u32::from_le_bytes(*group),
            index: u64::from_le_bytes(*index),
            segment: u32::from_le_bytes(*segment),
            mark: u32::from_le_bytes(*mark),
            batch: u64::from_le_bytes(*batch),
        })
    }

    /// Whether header and payload are what was written.
    pub(crate) fn fits(&self, header: &[u8; HEADER_LEN], payload: &[u8]) -> bool {
        sum(header, payload) == self.sum
    }
}

/// The checksum of a record.
pub(crate) fn sum(header: &[u8; HEADER_LEN], payload: &[u8]) -> u32 {
    let sum = header.get(4..).map_or(0, crc32c::crc32c);
    crc32c::crc32c_append(sum, payload)
}

/// What is known of the header of a record in another version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OtherVersion {
    pub(crate) version: u8,
    pub(crate) sum: u32,
    pub(crate) len: u32,
    pub(crate) segment: u32,
    pub(crate) mark: u32,
}

/// The header in `bytes`, unchecked, if it says that it is of another version than this one.
pub(crate) fn other_version(bytes: &[u8; HEADER_LEN]) -> Option<OtherVersion> {
    let word = |at: usize| {
        let bytes = bytes.get(at..)?.first_chunk()?;
        Some(u32::from_le_bytes(*bytes))
    };
    let version = *bytes.get(9)?;
    (version != VERSION).then_some(())?;
    Some(OtherVersion {
        version,
        sum: word(0)?,
        len: word(4)?,
        segment: word(SIGNATURE_AT)?,
        mark: word(SIGNATURE_AT + 4)?,
    })
}

/// Where in a header the segment's signature stands.
pub(crate) const SIGNATURE_AT: usize = 24;

/// What all headers of a segment have in common.
pub(crate) fn signature(segment: u32, mark: u32) -> [u8; 8] {
    (u64::from(segment) | u64::from(mark) << 32).to_le_bytes()
}

/// A batch under construction: its records' small parts in one buffer, large parts where they are.
#[derive(Debug)]
pub(crate) struct Gather {
    segment: u32,
    mark: u32,
    batch: u64,
    /// Where in the segment the batch begins.
    offset: u64,
    len: u64,
    records: u64,
    small: Vec<u8>,
    parts: Vec<Part>,
}

#[derive(Debug)]
enum Part {
    Small(Range<usize>),
    Large(Bytes),
}

impl Gather {
    pub(crate) fn new() -> Self {
        Self {
            segment: 0,
            mark: 0,
            batch: 0,
            offset: 0,
            len: 0,
            records: 0,
            small: Vec::new(),
            parts: Vec::new(),
        }
    }

    /// Begins a batch in the segment with this number and mark. Room of the one before is used again, but not for ever.
    pub(crate) fn begin(&mut self, segment: (u32, u32), offset: u64, batch: u64) {
        (self.segment, self.mark) = segment;
        self.batch = batch;
        self.offset = offset;
        self.len = 0;
        self.records = 0;
        self.small.clear();
        self.small.shrink_to(1 << 20);
        self.parts.clear();
        self.parts.shrink_to(4096);
    }

    /// Bytes of the batch so far.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Adds a record without parts of its own.
    pub(crate) fn put(&mut self, kind: Kind, group: u32, index: u64, payload: &[u8]) {
        let start = self.start(kind, group, index, payload.len());
        self.small.extend_from_slice(payload);
        let end = self.small.len();
        let sum = crc32c::crc32c(self.small.get(start + 4..end).unwrap_or_default());
        self.seal(start, sum);
        self.list(start..end);
        self.len += (end - start) as u64;
        self.records += 1;
    }

    /// Adds an entry; returns where it stands in the segment, and the length of its payload.
    pub(crate) fn put_entry(
        &mut self,
        kind: Kind,
        group: u32,
        index: u64,
        entry: &LogEntry,
    ) -> (u64, u32) {
        let at = self.offset + self.len;
        let len = entry_len(entry);
        let start = self.start(kind, group, index, len);
        for part in [entry.segments.len(), entry.head.len()]
            .into_iter()
            .chain(entry.segments.iter().map(Bytes::len))
        {
            self.small.extend_from_slice(&length(part).to_le_bytes());
        }
        self.small.extend_from_slice(&entry.head);
        let mut sum = 0;
        // Up to where the small parts are in the checksum and in the list of parts.
        let mut done = start + 4;
        let mut listed = start;
        for segment in entry.segments.iter() {
            if segment.len() <= COPY_MAX {
                self.small.extend_from_slice(segment);
                continue;
            }
            let end = self.small.len();
            sum = crc32c::crc32c_append(sum, self.small.get(done..end).unwrap_or_default());
            sum = crc32c::crc32c_append(sum, segment);
            self.list(listed..end);
            self.parts.push(Part::Large(segment.clone()));
            done = end;
            listed = end;
        }
        let end = self.small.len();
        sum = crc32c::crc32c_append(sum, self.small.get(done..end).unwrap_or_default());
        self.list(listed..end);
        self.seal(start, sum);
        self.len += (HEADER_LEN + len) as u64;
        self.records += 1;
        (at, length(len))
    }

    /// Ends the batch.
    pub(crate) fn end(&mut self) {
        self.put(Kind::End, 0, self.records, &[]);
    }

    fn start(&mut self, kind: Kind, group: u32, index: u64, len: usize) -> usize {
        let start = self.small.len();
        let header = Header {
            sum: 0,
            len: length(len),
            kind,
            group,
            index,
            segment: self.segment,
            mark: self.mark,
            batch: self.batch,
        };
        header.put(&mut self.small);
        start
    }

    fn seal(&mut self, start: usize, sum: u32) {
        if let Some(place) = self.small.get_mut(start..start + 4) {
            place.copy_from_slice(&sum.to_le_bytes());
        }
    }

    /// Adds a part of the buffer to the list; neighbours become one.
    fn list(&mut self, range: Range<usize>) {
        if range.is_empty() {
            return;
        }
        match self.parts.last_mut() {
            Some(Part::Small(last)) if last.end == range.start => last.end = range.end,
            _ => self.parts.push(Part::Small(range)),
        }
    }

    /// The batch, for vectored writes.
    pub(crate) fn slices(&self) -> impl Iterator<Item = IoSlice<'_>> {
        self.parts.iter().map(|part| match part {
            Part::Small(range) => IoSlice::new(self.small.get(range.clone()).unwrap_or_default()),
            Part::Large(bytes) => IoSlice::new(bytes),
        })
    }

    /// Lets go of what is not its own.
    pub(crate) fn release(&mut self) {
        self.parts.clear();
    }
}

/// Length of an entry's payload.
pub(crate) fn entry_len(entry: &LogEntry) -> usize {
    8 + 4 * entry.segments.len() + entry.len_bytes()
}

/// Lengths are checked against [`MAX_PAYLOAD`] when an append is accepted.
fn length(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

/// The entry in a payload, as slices of it.
pub(crate) fn entry(mut payload: Bytes) -> Option<LogEntry> {
    let count = take_len(&mut payload)?;
    let head_len = take_len(&mut payload)?;
    let table_len = count.checked_mul(4)?;
    let mut table = checked_split(&mut payload, table_len)?;
    let head = checked_split(&mut payload, head_len)?;
    let mut segments = Vec::with_capacity(count);
    for _ in 0..count {
        let len = take_len(&mut table)?;
        segments.push(checked_split(&mut payload, len)?);
    }
    payload.is_empty().then(|| LogEntry {
        head,
        segments: Arc::from(segments),
    })
}

fn take_len(bytes: &mut Bytes) -> Option<usize> {
    let len = checked_split(bytes, 4)?;
    let len: [u8; 4] = len.as_ref().try_into().ok()?;
    usize::try_from(u32::from_le_bytes(len)).ok()
}

fn checked_split(bytes: &mut Bytes, len: usize) -> Option<Bytes> {
    (len <= bytes.len()).then(|| bytes.split_to(len))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(gather: &Gather) -> Vec<u8> {
        gather.slices().flat_map(|slice| slice.to_vec()).collect()
    }

    fn segments() -> impl Strategy<Value = Vec<Vec<u8>>> {
        prop::collection::vec(prop::collection::vec(any::<u8>(), 0..2 * COPY_MAX), 0..6)
    }

    /// The records in `bytes`, until there is none.
    fn records(bytes: &[u8]) -> Vec<(Header, Bytes)> {
        let mut rest = bytes;
        let mut found = Vec::new();
        while let Some((header, after)) = rest.split_first_chunk::<HEADER_LEN>()
            && let Some(parsed) = Header::parse(header)
            && let Some((payload, after)) = after.split_at_checked(parsed.len as usize)
            && parsed.fits(header, payload)
        {
            found.push((parsed, Bytes::copy_from_slice(payload)));
            rest = after;
        }
        found
    }

    proptest! {
        #[test]
        fn a_batch_comes_back(
            entries in prop::collection::vec((any::<Vec<u8>>(), segments()), 0..5), vote in any::<Vec<u8>>()
        ) {
            let mut gather = Gather::new();
            gather.begin((7, 9), 1000, 3);
            gather.put(Kind::Vote, 4, 0, &vote);
            let mut places = Vec::new();
            let mut expected = Vec::new();
            for (index, (head, parts)) in entries.into_iter().enumerate() {
                let parts: Vec<Bytes> = parts.into_iter().map(Bytes::from).collect();
                let entry = LogEntry::new(Bytes::from(head), Arc::from(parts));
                places.push(gather.put_entry(Kind::Entry, 9, index as u64, &entry));
                expected.push(entry);
            }
            gather.end();
            let bytes = written(&gather);
            prop_assert_eq!(bytes.len() as u64, gather.len());
            let found = records(&bytes);
            prop_assert_eq!(found.len(), expected.len() + 2);
            prop_assert_eq!((found[0].0.kind, found[0].0.group), (Kind::Vote, 4));
            prop_assert_eq!(&found[0].1, &vote);
            let last = found.last().unwrap().0;
            prop_assert_eq!((last.kind, last.index), (Kind::End, expected.len() as u64 + 1));
            for ((header, payload), (wanted, place)) in found[1..].iter().zip(expected.iter().zip(places)) {
                prop_assert_eq!((header.segment, header.mark, header.batch), (7, 9, 3));
                prop_assert_eq!(header.len, place.1);
                let at = usize::try_from(place.0 - 1000).unwrap();
                let stands = &bytes[at..at + HEADER_LEN];
                prop_assert_eq!(Header::parse(stands.try_into().unwrap()), Some(*header));
                prop_assert_eq!(&entry(payload.clone()).unwrap(), wanted);
            }
        }

        #[test]
        fn any_changed_byte_is_noticed(
            payload in prop::collection::vec(any::<u8>(), 0..40), at in any::<usize>(), flip in 1..=255u8
        ) {
            let mut gather = Gather::new();
            gather.begin((1, 2), 0, 1);
            gather.put(Kind::Committed, 2, 0, &payload);
            let mut bytes = written(&gather);
            let at = at % bytes.len();
            bytes[at] ^= flip;
            prop_assert!(records(&bytes).is_empty());
        }

        #[test]
        fn garbage_never_panics(bytes in any::<Vec<u8>>()) {
            let _ = records(&bytes);
            let _ = entry(Bytes::from(bytes));
        }
    }

    #[test]
    fn an_entry_is_read_as_slices_of_its_payload() {
        let body = Bytes::from(vec![7; 5000]);
        let written_entry = LogEntry::new(Bytes::from_static(b"head"), Arc::from([body]));
        let mut gather = Gather::new();
        gather.begin((1, 2), 0, 1);
        gather.put_entry(Kind::Entry, 1, 1, &written_entry);
        let payload = records(&written(&gather)).remove(0).1;
        let range = payload.as_ptr_range();
        let read = entry(payload.clone()).unwrap();
        assert_eq!(read, written_entry);
        assert!(range.contains(&read.segments[0].as_ptr()));
    }

    #[test]
    fn zeros_are_no_record() {
        assert!(records(&[0; 400]).is_empty());
    }
}
