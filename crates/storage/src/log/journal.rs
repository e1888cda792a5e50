//! The files of the log: a row of numbered segments, of which the last one is written.
//!
//! A batch is written behind the last one, without copying what is large in it, and synced. Each
//! segment begins with what all groups' logs were at that moment, so the oldest may go as soon as no entry in it is needed: the next one
//! is a beginning as good. Where few entries keep much from going, they are copied to the
//! end of the row. What has gone is written again under a new number: a sync that changes no file's size or blocks is
//! the cheapest.

use super::index::{Index, Place};
use super::options::LogOptions;
use super::queue::{Command, Item};
use super::record::{Gather, Kind};
use super::segment::Segment;
use crate::disk;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A batch from this size on is not worth writing ahead for.
const AHEAD_FOR: u64 = 64 << 10;
/// Zeros.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
/// A segment counts as this part of a full one, at least, when it is asked whether too many are kept.
const LEAST: u64 = 32;
/// So many full segments are kept, besides twice what is needed, before entries are copied.
const FILES_TOO_MANY: u64 = 3;
/// And so many where no segment was begun: when one group purges, the others are about to, and copies of what they let go would be
/// wasted. But nobody may write until there is space again.
const FILES_FAR_TOO_MANY: u64 = 8;
/// Copied with one sync.
const COPY_STEP: u64 = 8 << 20;

/// The index, for the writer and for readers.
#[derive(Debug, Default)]
pub(crate) struct SharedIndex(Mutex<Index>);

impl SharedIndex {
    pub(crate) fn new(index: Index) -> Self {
        Self(Mutex::new(index))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Index> {
        // Nothing panics while it holds the lock halfway through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The writing side.
#[derive(Debug)]
pub(crate) struct Journal {
    dir: PathBuf,
    /// To sync names.
    handle: File,
    options: LogOptions,
    index: Arc<SharedIndex>,
    active: Option<Active>,
    last_number: u32,
    spares: Vec<PathBuf>,
    gather: Gather,
    /// Number of the last batch.
    batch: u64,
    /// A segment was begun, or entries were purged, since it was last looked for segments that may go.
    look: bool,
    /// A segment was begun since then.
    begun: bool,
    /// Keeps other processes out.
    _lock: File,
}

/// The segment that is written.
#[derive(Debug)]
struct Active {
    segment: Arc<Segment>,
    /// What its records are known by.
    mark: u32,
    /// Bytes written to it.
    len: u64,
    /// Up to where the file had been written before.
    ready: u64,
}

/// What recovery found.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) index: Arc<SharedIndex>,
    pub(crate) last_number: u32,
    pub(crate) spares: Vec<PathBuf>,
    pub(crate) batch: u64,
}

fn failed(what: &str, path: &Path, error: &io::Error) -> String {
    format!("{what} {}: {error}", path.display())
}

impl Journal {
    /// Goes on behind what recovery has found, in a segment of its own.
    pub(crate) fn new(
        dir: &Path,
        options: LogOptions,
        found: Found,
        lock: File,
    ) -> io::Result<Self> {
        Ok(Self {
            dir: dir.to_owned(),
            handle: File::open(dir)?,
            options,
            index: found.index,
            active: None,
            last_number: found.last_number,
            spares: found.spares,
            gather: Gather::new(),
            batch: found.batch,
            look: false,
            begun: false,
            _lock: lock,
        })
    }

    /// Number of the last batch.
    pub(crate) fn batch(&self) -> u64 {
        self.batch
    }

    /// Writes one batch; on disk when it returns.
    pub(crate) fn write(
        &mut self,
        items: &[Item],
        committed: &BTreeMap<u32, Bytes>,
    ) -> Result<(), String> {
        let (segment, offset) = self.begin()?;
        let mut places = Vec::new();
        for item in items {
            gather(&mut self.gather, &item.command, segment, &mut places);
        }
        for (group, position) in committed {
            self.gather.put(Kind::Committed, *group, 0, position);
        }
        self.gather.end();
        self.flush(offset)?;
        let mut index = self.index.lock();
        let mut places = places.into_iter();
        for item in items {
            note(&mut index, &item.command, &mut places);
            self.look |= matches!(item.command, Command::Purge { .. } | Command::Remove { .. });
        }
        for (group, position) in committed {
            index.group(*group).committed = Some(position.clone());
        }
        Ok(())
    }

    /// Begins a batch, in a new segment if the last one is full; returns where.
    fn begin(&mut self) -> Result<(u32, u64), String> {
        let full = |active: &Active| active.len >= self.options.segment_bytes;
        if self.active.as_ref().is_none_or(full) {
            self.begin_segment()?;
        }
        let active = self.active.as_ref().ok_or("there is no segment")?;
        let (number, offset) = (active.segment.number(), active.len);
        let segment = (number, active.mark);
        self.gather.begin(segment, offset, self.batch + 1);
        Ok((number, offset))
    }

    /// Begins a segment with what the logs are now.
    fn begin_segment(&mut self) -> Result<(), String> {
        let number = self
            .last_number
            .checked_add(1)
            .ok_or("the log has no numbers left for its files")?;
        let spare = self.spares.pop();
        let path = Segment::path_of(&self.dir, number);
        let (segment, ready) = Segment::create(&self.dir, number, spare.as_deref())
            .map_err(|error| failed("cannot create", &path, &error))?;
        crate::failpoint!("log-file-begun");
        // Before anything in it counts.
        self.handle
            .sync_all()
            .map_err(|error| failed("cannot sync", &self.dir, &error))?;
        crate::failpoint!("log-names-synced");
        self.last_number = number;
        let segment = Arc::new(segment);
        let mark = RandomState::new().hash_one(number) as u32;
        self.active = Some(Active {
            segment: Arc::clone(&segment),
            mark,
            len: 0,
            ready,
        });
        self.gather.begin((number, mark), 0, self.batch + 1);
        {
            let mut index = self.index.lock();
            index.add_segment(segment, 0);
            for (group, log) in &index.groups {
                if let Some((upto, meta)) = &log.purged {
                    self.gather.put(Kind::Purged, *group, *upto, meta);
                }
                let next = log.next().to_le_bytes();
                self.gather.put(Kind::Range, *group, log.first, &next);
                if let Some(vote) = &log.vote {
                    self.gather.put(Kind::Vote, *group, 0, vote);
                }
                if let Some(committed) = &log.committed {
                    self.gather.put(Kind::Committed, *group, 0, committed);
                }
            }
        }
        self.gather.end();
        self.flush(0)?;
        self.look = true;
        self.begun = true;
        Ok(())
    }

    /// Writes what was gathered and syncs it.
    fn flush(&mut self, offset: u64) -> Result<(), String> {
        let active = self.active.as_mut().ok_or("there is no segment")?;
        let segment = &active.segment;
        let len = self.gather.len();
        let end = offset + len;
        let path = segment.path();
        segment
            .write(offset, self.gather.slices())
            .map_err(|error| failed("cannot write", path, &error))?;
        self.gather.release();
        // Small batches find blocks that are there: the next syncs need not note new ones.
        if end > active.ready && len < AHEAD_FOR && self.options.ahead_bytes > 0 {
            match write_ahead(segment, end, self.options.ahead_bytes) {
                Ok(ready) => active.ready = ready,
                // This batch has found its room; the next one finds out for itself.
                Err(error) if is_full(&error) => {}
                Err(error) => return Err(failed("cannot write", path, &error)),
            }
        }
        crate::failpoint!("log-written");
        segment
            .file()
            .sync_data()
            .map_err(|error| failed("cannot sync", path, &error))?;
        crate::failpoint!("log-synced");
        active.len = end;
        active.ready = active.ready.max(end);
        self.batch += 1;
        let number = segment.number();
        if let Some(used) = self.index.lock().segments.get_mut(&number) {
            used.len = end;
        }
        Ok(())
    }

    /// Lets segments go that are not needed, after a new one was begun or entries were purged: nobody
    /// may write until there is space again.
    pub(crate) fn tidy(&mut self) -> Result<(), String> {
        if !std::mem::take(&mut self.look) {
            return Ok(());
        }
        self.drop_dead()?;
        let begun = std::mem::take(&mut self.begun);
        let files = if begun {
            FILES_TOO_MANY
        } else {
            FILES_FAR_TOO_MANY
        };
        let mut copied = 0;
        while self.holds_too_much(files) {
            if copied >= self.options.segment_bytes {
                // Others wait to write.
                self.look = true;
                break;
            }
            let more = self.copy_oldest()?;
            self.drop_dead()?;
            if more == 0 {
                break;
            }
            copied += more;
        }
        if !self.spares.is_empty() && self.is_short_of_room() {
            for spare in self.spares.drain(..) {
                std::fs::remove_file(&spare)
                    .map_err(|error| failed("cannot remove", &spare, &error))?;
            }
        }
        Ok(())
    }

    /// Whether what is kept for reuse is worth more as free space.
    fn is_short_of_room(&self) -> bool {
        let files = u64::try_from(self.options.recycled_files).unwrap_or(u64::MAX);
        let wanted = files.saturating_mul(self.options.segment_bytes);
        disk::free_bytes(&self.dir).is_ok_and(|free| free < wanted.saturating_mul(2))
    }

    fn drop_dead(&mut self) -> Result<(), String> {
        loop {
            let gone = {
                let mut index = self.index.lock();
                let Some(number) = index.dead() else {
                    return Ok(());
                };
                index.segments.remove(&number)
            };
            let Some(gone) = gone.map(|used| used.segment) else {
                return Ok(());
            };
            let path = gone.path().to_owned();
            let spare = Segment::spare_of(&self.dir, gone.number());
            // One that a huge entry has made long would stay so.
            let most = self.options.segment_bytes.saturating_mul(2);
            let len = gone.file().metadata().map(|meta| meta.len());
            let handy = len.is_ok_and(|len| len <= most);
            // Somebody may still read from it; nobody comes any more.
            let unread = Arc::try_unwrap(gone).is_ok();
            if unread && handy && self.spares.len() < self.options.recycled_files {
                std::fs::rename(&path, &spare)
                    .map_err(|error| failed("cannot rename", &path, &error))?;
                self.spares.push(spare);
            } else {
                std::fs::remove_file(&path)
                    .map_err(|error| failed("cannot remove", &path, &error))?;
            }
            crate::failpoint!("log-file-let-go");
        }
    }

    /// Whether most of what is kept is not needed.
    fn holds_too_much(&self, files: u64) -> bool {
        let index = self.index.lock();
        let least = self.options.segment_bytes / LEAST;
        let kept = index.segments.values().map(|used| used.len.max(least));
        let needed: u64 = index.segments.values().map(|used| used.bytes).sum();
        index.segments.len() > 1
            && kept.sum::<u64>() > 2 * needed + files * self.options.segment_bytes
    }

    /// Copies what is needed of the oldest segment to the end of the log; returns how many bytes.
    fn copy_oldest(&mut self) -> Result<u64, String> {
        let (segment, entries) = {
            let index = self.index.lock();
            let Some((number, used)) = index.segments.first_key_value() else {
                return Ok(0);
            };
            (Arc::clone(&used.segment), index.standing_in(*number))
        };
        let mut entries = entries.into_iter().peekable();
        let mut written = 0;
        while entries.peek().is_some() {
            let active = self.active.as_ref().ok_or("there is no segment")?;
            let (number, offset) = (active.segment.number(), active.len);
            self.gather
                .begin((number, active.mark), offset, self.batch + 1);
            let mut copied = Vec::new();
            while self.gather.len() < COPY_STEP
                && let Some((group, index, place)) = entries.next()
            {
                let entry = segment
                    .read(group, index, place.offset, place.len)
                    .map_err(|error| error.to_string())?;
                let (offset, len) = self.gather.put_entry(Kind::Copy, group, index, &entry);
                let segment = number;
                copied.push((
                    group,
                    index,
                    Place {
                        segment,
                        len,
                        offset,
                    },
                ));
            }
            self.gather.end();
            written += self.gather.len();
            self.flush(offset)?;
            let mut index = self.index.lock();
            for (group, at, place) in copied {
                index.copy(group, at, place);
            }
        }
        Ok(written)
    }
}

/// Fills at least so many bytes from `end` on; returns up to where.
fn write_ahead(segment: &Segment, end: u64, bytes: u64) -> io::Result<u64> {
    fail::fail_point!("log-ahead", |_| Err(io::ErrorKind::StorageFull.into()));
    let times = usize::try_from(bytes)
        .unwrap_or(usize::MAX)
        .div_ceil(ZEROS.len());
    segment.write(end, std::iter::repeat_n(IoSlice::new(&ZEROS), times))?;
    Ok(end + (times * ZEROS.len()) as u64)
}

fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded)
}

/// Adds a command to a batch; entries' places are added to `places`.
fn gather(batch: &mut Gather, command: &Command, segment: u32, places: &mut Vec<Place>) {
    match command {
        Command::Append {
            group,
            first,
            entries,
        } => {
            for (index, entry) in (*first..).zip(entries.iter()) {
                let (offset, len) = batch.put_entry(Kind::Entry, *group, index, entry);
                places.push(Place {
                    segment,
                    len,
                    offset,
                });
            }
        }
        Command::Vote { group, vote } => batch.put(Kind::Vote, *group, 0, vote),
        Command::Truncate { group, after } => {
            if let Some(from) = first_cut(*after) {
                batch.put(Kind::Truncate, *group, from, &[]);
            }
        }
        Command::Purge { group, upto, meta } => batch.put(Kind::Purged, *group, *upto, meta),
        Command::Remove { group } => batch.put(Kind::Remove, *group, 0, &[]),
        Command::Nothing => {}
    }
}

/// Notes a command that is on disk.
fn note(index: &mut Index, command: &Command, places: &mut impl Iterator<Item = Place>) {
    match command {
        Command::Append {
            group,
            first,
            entries,
        } => {
            for (at, place) in (*first..).zip(places.take(entries.len())) {
                index.append(*group, at, place);
            }
        }
        Command::Vote { group, vote } => index.group(*group).vote = Some(vote.clone()),
        Command::Truncate { group, after } => {
            if let Some(from) = first_cut(*after) {
                index.truncate(*group, from);
            }
        }
        Command::Purge { group, upto, meta } => index.purge(*group, *upto, meta.clone()),
        Command::Remove { group } => index.remove(*group),
        Command::Nothing => {}
    }
}

/// The first index that a truncation removes; `None`: there can be none.
fn first_cut(after: Option<u64>) -> Option<u64> {
    after.map_or(Some(0), |after| after.checked_add(1))
}
