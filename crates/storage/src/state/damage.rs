//! What was found damaged in a state store, noted beside its files: reading again does not help, and whoever starts the
//! process again should know.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// The note's name in the store's directory.
const NAME: &str = "DAMAGED";
/// Most bytes of it that are read.
const MOST: usize = 4096;

/// Notes `what` was found; the first finding stays. It is on the disk on return.
pub(super) fn note(dir: &Path, what: &str) -> io::Result<()> {
    let created = File::options()
        .write(true)
        .create_new(true)
        .open(dir.join(NAME));
    let mut file = match created {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(error) => return Err(error),
    };
    writeln!(file, "{what}")?;
    file.sync_all()?;
    File::open(dir)?.sync_all()
}

/// What was noted, if anything was. A note that cannot be read is one all the same.
pub(super) fn read(dir: &Path) -> Option<String> {
    match fs::read(dir.join(NAME)) {
        Ok(bytes) => {
            let bytes = &bytes[..bytes.len().min(MOST)];
            Some(String::from_utf8_lossy(bytes).trim().to_owned())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => Some(format!("(the note cannot be read: {error})")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_finding_stays() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path()), None);
        note(dir.path(), "message 7 is missing").unwrap();
        note(dir.path(), "message 8 is missing").unwrap();
        assert_eq!(read(dir.path()).as_deref(), Some("message 7 is missing"));
    }

    #[test]
    fn a_note_that_was_cut_short_is_one() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(NAME), b"").unwrap();
        assert_eq!(read(dir.path()).as_deref(), Some(""));
    }
}
