//! One file of the log.

use super::entry::LogEntry;
use super::record::{self, HEADER_LEN, Header, Kind};
use crate::error::StorageError;
use bytes::Bytes;
use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Ending of the names of segments; before it stands the number, in hexadecimal digits.
const ENDING: &str = "seg";
/// Beginning of the names of files that wait for their next use.
const SPARE: &str = "spare-";
/// Parts handed to one vectored write: what Linux takes at most.
const SLICES: usize = 1024;

/// A segment: an open file under its number.
#[derive(Debug)]
pub(crate) struct Segment {
    number: u32,
    path: PathBuf,
    file: File,
}

impl Segment {
    /// Where the segment with this number is.
    pub(crate) fn path_of(dir: &Path, number: u32) -> PathBuf {
        dir.join(format!("{number:08x}.{ENDING}"))
    }

    /// Where a file that was this segment waits for its next use.
    pub(crate) fn spare_of(dir: &Path, number: u32) -> PathBuf {
        dir.join(format!("{SPARE}{number:08x}"))
    }

    /// Opens a segment that is there.
    pub(crate) fn open(dir: &Path, number: u32) -> io::Result<Self> {
        let path = Self::path_of(dir, number);
        let file = OpenOptions::new().read(true).write(true).open(&path)?;
        Ok(Self { number, path, file })
    }

    /// Creates a segment, out of `spare` if there is one; returns also how much of the file was written before.
    pub(crate) fn create(dir: &Path, number: u32, spare: Option<&Path>) -> io::Result<(Self, u64)> {
        let path = Self::path_of(dir, number);
        if let Some(spare) = spare {
            std::fs::rename(spare, &path)?;
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(spare.is_none())
            .open(&path)?;
        let written = file.metadata()?.len();
        Ok((Self { number, path, file }, written))
    }

    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Writes `slices` one behind the other from `offset` on.
    pub(crate) fn write<'a>(
        &self,
        mut offset: u64,
        slices: impl Iterator<Item = IoSlice<'a>>,
    ) -> io::Result<()> {
        let mut slices = slices.peekable();
        let mut some: Vec<IoSlice<'_>> = Vec::new();
        while slices.peek().is_some() {
            some.clear();
            some.extend(slices.by_ref().take(SLICES));
            let mut rest = some.as_mut_slice();
            while !rest.is_empty() {
                match rustix::io::pwritev(&self.file, rest, offset) {
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Ok(written) => {
                        offset += written as u64;
                        IoSlice::advance_slices(&mut rest, written);
                    }
                    Err(rustix::io::Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    /// Reads the entry of `group` at `index`, which stands at `offset` and has a payload of `len` bytes.
    pub(crate) fn read(
        &self,
        group: u32,
        index: u64,
        offset: u64,
        len: u32,
    ) -> Result<LogEntry, StorageError> {
        let corrupt = |problem: &str| StorageError::Corrupt {
            what: format!(
                "entry {index} of the log of group {group}, at {offset} in {}",
                self.path.display()
            ),
            problem: problem.to_owned(),
        };
        let mut bytes = vec![0; HEADER_LEN + len as usize];
        match self.file.read_exact_at(&mut bytes, offset) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(corrupt("the file ends before it"));
            }
            Err(error) => {
                let path = self.path.display();
                return Err(StorageError::Read(format!("{path}: {error}")));
            }
        }
        let mut bytes = Bytes::from(bytes);
        let head = bytes.split_to(HEADER_LEN);
        let header = head
            .first_chunk()
            .and_then(|head| Header::parse(head).filter(|header| header.fits(head, &bytes)))
            .ok_or_else(|| corrupt("its checksum is wrong"))?;
        let expected = (self.number, group, index, len);
        let found = (header.segment, header.group, header.index, header.len);
        if found != expected || !matches!(header.kind, Kind::Entry | Kind::Copy) {
            return Err(corrupt("something else stands there"));
        }
        record::entry(bytes).ok_or_else(|| corrupt("its lengths do not fit its size"))
    }
}

/// The segments and the waiting files in `dir`.
pub(crate) fn list(dir: &Path) -> io::Result<(Vec<u32>, Vec<PathBuf>)> {
    let mut segments = Vec::new();
    let mut spares = Vec::new();
    for file in std::fs::read_dir(dir)? {
        let path = file?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let Some(name) = name else {
            continue;
        };
        if name.starts_with(SPARE) {
            spares.push(path);
        } else if let Some((number, ENDING)) = name.rsplit_once('.')
            && let Ok(number) = u32::from_str_radix(number, 16)
        {
            segments.push(number);
        }
    }
    segments.sort_unstable();
    Ok((segments, spares))
}
