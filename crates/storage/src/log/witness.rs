//! Remembers, outside the write-ahead log, how far the log had been synced.
//!
//! Recovery of a write-ahead log stops at the first damaged record. It cannot tell a torn tail,
//! which nobody was told about, from damage in the middle, behind which acknowledged writes are
//! lost. This small file can: after every sync it is told the number of the batch and where each
//! group ends. It is written without a sync of its own, so after a power loss it may be older than
//! the log, never newer: if it names a batch that recovery did not find, acknowledged writes are
//! gone. After a crash of the process alone it is one batch older at most: it is written when the
//! batch has been reported.
//!
//! Two slots are written in turn; a torn one is recognised by its checksum.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

const MAGIC: [u8; 8] = *b"warrenw1";
const SLOT_LEN: usize = 4096;
const HEAD_LEN: usize = 8 + 8 + 8 + 4;
/// Groups that fit a slot: 12 bytes each, and a checksum. More groups are checked without names.
const MAX_GROUPS: usize = (SLOT_LEN - HEAD_LEN - 4) / 12;

/// What was known to be synced.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Synced {
    /// Number of the last synced batch.
    pub(crate) batch: u64,
    /// Last synced index of groups.
    pub(crate) ends: Vec<(u32, u64)>,
}

/// The open file.
pub(crate) struct Witness {
    file: File,
    serial: u64,
    buffer: Vec<u8>,
}

impl Witness {
    /// Opens or creates the file; returns also what it says, if it says anything.
    pub(crate) fn open(path: &Path) -> io::Result<(Self, Option<Synced>)> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        let mut newest: Option<(u64, Synced)> = None;
        for slot in 0..2u64 {
            let bytes = read_slot(&file, slot)?;
            if let Some((serial, synced)) = decode(&bytes)
                && newest.as_ref().is_none_or(|(other, _)| *other < serial)
            {
                newest = Some((serial, synced));
            }
        }
        let serial = newest.as_ref().map_or(0, |(serial, _)| *serial);
        let witness = Self {
            file,
            serial,
            buffer: Vec::with_capacity(SLOT_LEN),
        };
        Ok((witness, newest.map(|(_, synced)| synced)))
    }

    /// Remembers `batch`; call after its sync, never before.
    pub(crate) fn write(
        &mut self,
        batch: u64,
        ends: impl Iterator<Item = (u32, u64)>,
    ) -> io::Result<()> {
        self.serial += 1;
        self.buffer.clear();
        self.buffer.extend_from_slice(&MAGIC);
        self.buffer.extend_from_slice(&self.serial.to_le_bytes());
        self.buffer.extend_from_slice(&batch.to_le_bytes());
        self.buffer.extend_from_slice(&[0; 4]);
        let mut count = 0u32;
        for (group, last) in ends.take(MAX_GROUPS) {
            self.buffer.extend_from_slice(&group.to_le_bytes());
            self.buffer.extend_from_slice(&last.to_le_bytes());
            count += 1;
        }
        if let Some(place) = self.buffer.get_mut(HEAD_LEN - 4..HEAD_LEN) {
            place.copy_from_slice(&count.to_le_bytes());
        }
        let sum = crc32c::crc32c(&self.buffer);
        self.buffer.extend_from_slice(&sum.to_le_bytes());
        let offset = (self.serial % 2) * SLOT_LEN as u64;
        self.file.write_all_at(&self.buffer, offset)
    }

    /// Makes the file as durable as the log, for a clean end.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }
}

fn read_slot(file: &File, slot: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; SLOT_LEN];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        let offset = slot * SLOT_LEN as u64 + filled as u64;
        match file.read_at(rest, offset) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

fn decode(slot: &[u8]) -> Option<(u64, Synced)> {
    let count = u32::from_le_bytes(*slot.get(HEAD_LEN - 4..)?.first_chunk()?);
    let count = usize::try_from(count)
        .ok()
        .filter(|count| *count <= MAX_GROUPS)?;
    let (body, rest) = slot.split_at_checked(HEAD_LEN + 12 * count)?;
    if crc32c::crc32c(body) != u32::from_le_bytes(*rest.first_chunk()?) {
        return None;
    }
    let (magic, body) = body.split_first_chunk::<8>()?;
    let (serial, body) = body.split_first_chunk::<8>()?;
    let (batch, body) = body.split_first_chunk::<8>()?;
    let (_count, groups) = body.split_first_chunk::<4>()?;
    if *magic != MAGIC {
        return None;
    }
    let ends = groups
        .as_chunks::<12>()
        .0
        .iter()
        .filter_map(|pair| {
            let (group, last) = pair.split_first_chunk::<4>()?;
            let last: [u8; 8] = last.try_into().ok()?;
            Some((u32::from_le_bytes(*group), u64::from_le_bytes(last)))
        })
        .collect();
    let synced = Synced {
        batch: u64::from_le_bytes(*batch),
        ends,
    };
    Some((u64::from_le_bytes(*serial), synced))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_whole_slot_counts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("synced");
        let (mut witness, found) = Witness::open(&path).unwrap();
        assert_eq!(found, None);
        witness.write(1, [(0, 10)].into_iter()).unwrap();
        witness.write(2, [(0, 11), (4, 7)].into_iter()).unwrap();
        let (_, found) = Witness::open(&path).unwrap();
        let newest = Synced {
            batch: 2,
            ends: vec![(0, 11), (4, 7)],
        };
        assert_eq!(found, Some(newest));

        // The slot of batch 2 is torn: batch 1 is still a true statement.
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(&[0xff; 3], 20).unwrap();
        let (mut witness, found) = Witness::open(&path).unwrap();
        assert_eq!(
            found,
            Some(Synced {
                batch: 1,
                ends: vec![(0, 10)]
            })
        );
        witness.write(3, std::iter::empty()).unwrap();
        assert_eq!(
            Witness::open(&path).unwrap().1,
            Some(Synced {
                batch: 3,
                ends: vec![]
            })
        );
    }

    #[test]
    fn more_groups_than_fit_are_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("synced");
        let (mut witness, _) = Witness::open(&path).unwrap();
        witness.write(9, (0..1000).map(|group| (group, 1))).unwrap();
        let found = Witness::open(&path).unwrap().1.unwrap();
        assert_eq!((found.batch, found.ends.len()), (9, MAX_GROUPS));
    }

    #[test]
    fn garbage_says_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("synced");
        for bytes in [vec![0xff; 10_000], vec![0; 8192], vec![1; 3]] {
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(Witness::open(&path).unwrap().1, None);
        }
    }
}
