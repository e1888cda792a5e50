//! Opening the log: reads all of it, and refuses to start when acknowledged writes are not there.

use super::index::{GroupIndex, Index, Place};
use super::journal::{Found, SharedIndex};
use super::queue::Queue;
use super::record::{self, HEADER_LEN, Header, Kind, SIGNATURE_AT};
use super::segment::{self, Segment};
use super::sizes::Sizes;
use super::view::View;
use super::witness::Synced;
use crate::disk;
use crate::error::StorageError;
use bytes::Bytes;
use memchr::memmem;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// Read at once.
const CHUNK: usize = 1 << 20;

/// A record that was read and checked.
struct Record {
    header: Header,
    offset: u64,
    /// Empty for entries: they are only checked.
    payload: Bytes,
}

/// Reads the segments in `dir`, checks them against each other and against what is known to have been synced.
pub(crate) fn recover(dir: &Path, synced: Option<&Synced>) -> Result<(Queue, Found), StorageError> {
    let io = |error: io::Error| disk::open_error(dir, &error.to_string());
    let (numbers, spares) = segment::list(dir).map_err(io)?;
    // What is older than a gap had been let go; if it had not, entries will be missing.
    let gap = numbers.windows(2).rposition(|pair| {
        let [one, next] = pair else { return false };
        one.checked_add(1) != Some(*next)
    });
    let (left, row) = numbers.split_at(gap.map_or(0, |at| at + 1));
    let mut index = Index::default();
    let mut last: Option<Batch> = None;
    let mut begun = None;
    for number in row {
        let newest = row.last() == Some(number);
        begun = read_segment(dir, *number, newest, &mut index, &mut last)?;
    }
    let batch = last.as_ref().map_or(0, |last| last.number);
    if let Some(synced) = synced {
        check_synced(synced, batch, &index)?;
    }
    if let Some(last) = &last {
        check_end(last)?;
    }
    if let Some(begun) = &begun {
        check_begun(begun, last.as_ref())?;
    }
    let mut queue = Queue::default();
    for (group, log) in &index.groups {
        queue.views.insert(*group, view(*group, log)?);
    }
    if let Some(last) = &last
        && synced.is_none_or(|synced| synced.batch < last.number)
    {
        settle(last).map_err(|error| disk::open_error(dir, &error))?;
    }
    // Nothing in them counts; they are only in the way. The number of one that was begun is given again, so nothing of it may stay.
    for number in left
        .iter()
        .copied()
        .chain(begun.map(|begun| begun.segment.number()))
    {
        let path = Segment::path_of(dir, number);
        std::fs::remove_file(&path).map_err(io)?;
    }
    recovered().map_err(|error| disk::open_error(dir, &error))?;
    let found = Found {
        last_number: index.segments.last_key_value().map_or(0, |(last, _)| *last),
        index: Arc::new(SharedIndex::new(index)),
        spares,
        batch,
    };
    Ok((queue, found))
}

fn view(group: u32, log: &GroupIndex) -> Result<View, StorageError> {
    let mut sizes = Sizes::default();
    for (index, place) in (log.first..).zip(&log.places) {
        if *place == Place::UNKNOWN {
            return Err(StorageError::Hole {
                group,
                index,
                context: "the file of the log in which it stood is missing".to_owned(),
            });
        }
        sizes.push(index, u64::from(place.len));
    }
    Ok(View::recovered(
        log.first..log.next(),
        sizes,
        log.purged.clone(),
        log.vote.clone(),
        log.committed.clone(),
    ))
}

/// A batch that was found whole.
struct Batch {
    number: u64,
    segment: Arc<Segment>,
    /// What the segment's records are known by.
    mark: u32,
    /// Where in the segment it stands.
    range: Range<u64>,
}

/// Refuses a log in which writes stand behind the one that is torn: that one had been synced before they were begun. The note of what was
/// synced may be older.
fn check_end(last: &Batch) -> Result<(), StorageError> {
    let signature = record::signature(last.segment.number(), last.mark);
    let torn = last.number.saturating_add(1);
    refuse_later(&last.segment, last.range.end, &signature, torn)
}

/// The newest segment, without a first batch that is whole.
struct Begun {
    segment: Arc<Segment>,
    /// What its records are known by, unless the first header is gone.
    mark: Option<u32>,
}

/// Refuses a log whose newest segment has no whole first batch, but one behind it: the first one had been synced, and is damaged. Where its
/// mark is not known, the number alone tells its records from what the file held before.
fn check_begun(begun: &Begun, last: Option<&Batch>) -> Result<(), StorageError> {
    let number = begun.segment.number();
    let signature = record::signature(number, begun.mark.unwrap_or(0));
    let number = number.to_le_bytes();
    let known = match begun.mark {
        Some(_) => signature.as_slice(),
        None => number.as_slice(),
    };
    let torn = last.map_or(0, |last| last.number).saturating_add(1);
    refuse_later(&begun.segment, 0, known, torn)
}

/// An error if behind `from` there is a whole record of a batch after `torn`. `signature` is what the headers of the segment have at
/// [`SIGNATURE_AT`].
fn refuse_later(
    segment: &Segment,
    from: u64,
    signature: &[u8],
    torn: u64,
) -> Result<(), StorageError> {
    let later = find_later(segment, from, signature, torn)
        .map_err(|error| disk::open_error(segment.path(), &error.to_string()))?;
    match later {
        None => Ok(()),
        Some(later) => Err(damaged(
            segment,
            from,
            &format!("write {torn} is not whole, but {later} stands behind it"),
        )),
    }
}

fn find_later(
    segment: &Segment,
    from: u64,
    signature: &[u8],
    torn: u64,
) -> io::Result<Option<u64>> {
    let file = segment.file();
    let finder = memmem::Finder::new(signature);
    let len = file.metadata()?.len();
    let mut bytes = Vec::new();
    let mut payload = Vec::new();
    // Pieces overlap by a header.
    for at in (from..len).step_by(CHUNK) {
        let size = (len - at).min((CHUNK + HEADER_LEN) as u64);
        bytes.resize(usize::try_from(size).unwrap_or(CHUNK), 0);
        file.read_exact_at(&mut bytes, at)?;
        for found in finder.find_iter(&bytes) {
            let Some(place) = found.checked_sub(SIGNATURE_AT) else {
                continue;
            };
            let Some(head) = bytes.get(place..).and_then(<[u8]>::first_chunk) else {
                continue;
            };
            let behind = at + (place + HEADER_LEN) as u64;
            let header = Header::parse(head).filter(|header| {
                header.segment == segment.number()
                    && header.batch > torn
                    && u64::from(header.len) <= len.saturating_sub(behind)
            });
            let Some(header) = header else {
                continue;
            };
            payload.resize(header.len as usize, 0);
            file.read_exact_at(&mut payload, behind)?;
            if header.fits(head, &payload) {
                return Ok(Some(header.batch));
            }
        }
    }
    Ok(None)
}

/// Writes the last batch where it stands once more, and syncs it. A process that was killed, or whose sync failed, may have left it in
/// memory only; what is read there is relied on from now on. A sync alone does not write again what a failed one has given up.
fn settle(last: &Batch) -> Result<(), String> {
    let file = last.segment.file();
    let again = || {
        let mut bytes = Vec::new();
        let mut at = last.range.start;
        while at < last.range.end {
            let len = (last.range.end - at).min(CHUNK as u64);
            bytes.resize(usize::try_from(len).unwrap_or(CHUNK), 0);
            file.read_exact_at(&mut bytes, at)?;
            file.write_all_at(&bytes, at)?;
            at += len;
        }
        file.sync_data()
    };
    again().map_err(|error: io::Error| format!("{}: {error}", last.segment.path().display()))?;
    crate::failpoint!("log-tail-synced");
    Ok(())
}

fn recovered() -> Result<(), String> {
    crate::failpoint!("log-recovered");
    Ok(())
}

/// Reads one segment into `index`. `last` is the last whole batch, none before the first segment. Returns the segment if it
/// does not count: the newest one may have been begun only.
fn read_segment(
    dir: &Path,
    number: u32,
    newest: bool,
    index: &mut Index,
    last: &mut Option<Batch>,
) -> Result<Option<Begun>, StorageError> {
    let io = |error: io::Error| disk::open_error(dir, &error.to_string());
    let segment = Arc::new(Segment::open(dir, number).map_err(io)?);
    let mut reader = Reader::new(segment.file(), number).map_err(io)?;
    let mut records = Vec::new();
    let mut head = true;
    let mut end = 0;
    index.add_segment(Arc::clone(&segment), 0);
    while let Some(record) = reader.next().map_err(io)? {
        let Header {
            kind,
            index: count,
            batch: of,
            ..
        } = record.header;
        let expected = last.as_ref().map(|last| last.number.saturating_add(1));
        if expected.is_some_and(|expected| expected != of) {
            return Err(damaged(
                &segment,
                record.offset,
                &format!(
                    "write {of} stands there, but {} follows",
                    expected.unwrap_or(0)
                ),
            ));
        }
        if kind != Kind::End {
            records.push(record);
            continue;
        }
        if count != records.len() as u64 {
            return Err(damaged(
                &segment,
                record.offset,
                "a batch has lost some of its records",
            ));
        }
        for record in records.drain(..) {
            apply(&segment, record, head && last.is_none(), head, index)?;
        }
        head = false;
        *last = Some(Batch {
            number: of,
            segment: Arc::clone(&segment),
            mark: reader.mark.unwrap_or(0),
            range: end..reader.offset,
        });
        end = reader.offset;
        if let Some(used) = index.segments.get_mut(&number) {
            used.len = end;
        }
    }
    if let Some((version, whole)) = reader.other_version().map_err(io)? {
        let path = segment.path();
        if whole {
            return Err(StorageError::Newer {
                path: path.to_owned(),
                found: version,
                known: record::VERSION,
            });
        }
        if reader.offset == 0 {
            let problem = format!("format {version} is not known, or its beginning is damaged");
            return Err(damaged(&segment, 0, &problem));
        }
    }
    // The one before a segment goes only when the segment's beginning is synced.
    let begun = newest && (last.is_some() || number == 1);
    if head && !begun {
        return Err(damaged(&segment, 0, "it does not begin as it must"));
    }
    Ok(head.then(|| {
        index.segments.remove(&number);
        Begun {
            segment,
            mark: reader.mark,
        }
    }))
}

fn damaged(segment: &Segment, offset: u64, problem: &str) -> StorageError {
    StorageError::Corrupt {
        what: format!("the log, at {offset} in {}", segment.path().display()),
        problem: problem.to_owned(),
    }
}

/// Does once more what a record says. `first`: it is in the first batch of the oldest segment, which says what was before;
/// `head`: in the first one of another.
fn apply(
    segment: &Segment,
    record: Record,
    first: bool,
    head: bool,
    index: &mut Index,
) -> Result<(), StorageError> {
    let Record {
        header,
        offset,
        payload,
    } = record;
    let Header {
        group, index: at, ..
    } = header;
    let place = Place {
        segment: segment.number(),
        len: header.len,
        offset,
    };
    match header.kind {
        Kind::Range => {
            let next = payload
                .first_chunk()
                .map(|next| u64::from_le_bytes(*next))
                .filter(|next| *next >= at)
                .ok_or_else(|| damaged(segment, offset, "a range that is none"))?;
            let log = index.group(group);
            if first {
                log.first = at;
                let count = usize::try_from(next - at)
                    .ok()
                    .filter(|count| *count <= MAX_ENTRIES)
                    .ok_or_else(|| damaged(segment, offset, "more entries than can be"))?;
                log.places.resize(count, Place::UNKNOWN);
            } else if (log.first, log.next()) != (at, next) {
                return Err(StorageError::Hole {
                    group,
                    index: log.next(),
                    context: format!(
                        "{} says that the log went from {at} to {next} (exclusive)",
                        segment.path().display()
                    ),
                });
            }
        }
        Kind::Entry => {
            if !index.group(group).fits(at) {
                return Err(StorageError::Hole {
                    group,
                    index: index.group(group).next(),
                    context: format!("entry {at} follows"),
                });
            }
            index.append(group, at, place);
        }
        Kind::Copy => index.copy(group, at, place),
        Kind::Vote => index.group(group).vote = Some(payload),
        Kind::Committed => index.group(group).committed = Some(payload),
        Kind::Purged if head && !first => {}
        Kind::Purged => index.purge(group, at, payload),
        Kind::Truncate => index.truncate(group, at),
        Kind::Remove => index.remove(group),
        Kind::End => {}
    }
    Ok(())
}

/// Entries of one group that are believed to have been in segments which are gone.
const MAX_ENTRIES: usize = 1 << 28;

fn check_synced(synced: &Synced, batch: u64, index: &Index) -> Result<(), StorageError> {
    // Only the batch number decides: a group may rightly end earlier, after a truncation.
    if batch >= synced.batch {
        return Ok(());
    }
    let end = |group: &u32| index.groups.get(group).map_or(0, GroupIndex::next);
    let missing = synced.ends.iter().find(|(group, last)| end(group) <= *last);
    Err(match missing {
        Some((group, last)) => StorageError::Hole {
            group: *group,
            index: end(group),
            context: format!(
                "it had been synced up to {last}; the log was found up to write {batch} of {}",
                synced.batch
            ),
        },
        None => StorageError::LostWrites {
            found: batch,
            expected: synced.batch,
            detail: "no entries are missing, but votes or purge marks may be".to_owned(),
        },
    })
}

/// Reads records one behind the other, until there is none.
struct Reader<'a> {
    file: BufReader<&'a File>,
    segment: u32,
    /// The segment's mark, once a record was read.
    mark: Option<u32>,
    offset: u64,
    len: u64,
    payload: Vec<u8>,
}

impl<'a> Reader<'a> {
    fn new(file: &'a File, segment: u32) -> io::Result<Self> {
        Ok(Self {
            len: file.metadata()?.len(),
            file: BufReader::with_capacity(CHUNK, file),
            segment,
            mark: None,
            offset: 0,
            payload: Vec::new(),
        })
    }

    /// The version of the record that stands where the reader has stopped, if it is one of this segment in a format that is not known here;
    /// and whether it is whole.
    fn other_version(&mut self) -> io::Result<Option<(u8, bool)>> {
        let left = self.len.saturating_sub(self.offset);
        let Some(left) = left.checked_sub(HEADER_LEN as u64) else {
            return Ok(None);
        };
        let file = *self.file.get_ref();
        let mut head = [0; HEADER_LEN];
        file.read_exact_at(&mut head, self.offset)?;
        let Some(other) = record::other_version(&head).filter(|other| {
            other.segment == self.segment && self.mark.is_none_or(|mark| mark == other.mark)
        }) else {
            return Ok(None);
        };
        let mut whole = false;
        if u64::from(other.len) <= left {
            self.payload.resize(other.len as usize, 0);
            file.read_exact_at(&mut self.payload, self.offset + HEADER_LEN as u64)?;
            whole = record::sum(&head, &self.payload) == other.sum;
        }
        Ok(Some((other.version, whole)))
    }

    fn next(&mut self) -> io::Result<Option<Record>> {
        let offset = self.offset;
        let mut head = [0; HEADER_LEN];
        let left = self.len.saturating_sub(offset);
        if left < HEADER_LEN as u64 {
            return Ok(None);
        }
        self.file.read_exact(&mut head)?;
        let Some(header) = Header::parse(&head).filter(|header| {
            header.segment == self.segment
                && self.mark.is_none_or(|mark| mark == header.mark)
                && u64::from(header.len) <= left - HEADER_LEN as u64
        }) else {
            return Ok(None);
        };
        self.payload.resize(header.len as usize, 0);
        self.file.read_exact(&mut self.payload)?;
        if !header.fits(&head, &self.payload) {
            return Ok(None);
        }
        self.mark = Some(header.mark);
        self.offset = offset + HEADER_LEN as u64 + u64::from(header.len);
        let payload = match header.kind {
            Kind::Entry | Kind::Copy => Bytes::new(),
            _ => Bytes::copy_from_slice(&self.payload),
        };
        Ok(Some(Record {
            header,
            offset,
            payload,
        }))
    }
}
