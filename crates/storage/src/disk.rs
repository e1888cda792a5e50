//! Space on the disk, and errors of opening what is there.

use crate::error::StorageError;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Bytes that an unprivileged process may still write to the file system of `path`.
///
/// # Errors
/// The file system cannot be asked.
pub fn free_bytes(path: &Path) -> Result<u64, StorageError> {
    match rustix::fs::statvfs(path) {
        Ok(stat) => Ok(stat.f_bavail.saturating_mul(stat.f_frsize)),
        Err(error) => Err(StorageError::Read(format!(
            "free space of {}: {error}",
            path.display()
        ))),
    }
}

/// Bytes that must stay free on a disk. Below them a node hands its leaderships away and takes no
/// more writes; it goes on when there is space again. Writing into the last byte instead would
/// fail a sync, after which nothing on this disk could be relied on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reserve {
    path: PathBuf,
    bytes: u64,
}

impl Reserve {
    /// Keeps `bytes` free on the file system of `path`.
    #[must_use]
    pub fn new(path: PathBuf, bytes: u64) -> Self {
        Self { path, bytes }
    }

    /// Whether more than the reserve is free; the bytes above it.
    ///
    /// # Errors
    /// [`StorageError::DiskFull`], or the file system cannot be asked.
    pub fn check(&self) -> Result<u64, StorageError> {
        let free = free_bytes(&self.path)?;
        free.checked_sub(self.bytes).ok_or(StorageError::DiskFull {
            free,
            reserve: self.bytes,
        })
    }
}

/// Bytes of disk that the files below `dir` occupy. Files that vanish meanwhile count nothing.
#[must_use]
pub fn usage(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return 0;
    };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => usage(&entry.path()),
            Ok(meta) => meta.blocks() * 512,
            Err(_) => 0,
        })
        .sum()
}

/// Creates a directory and those above it that are missing; their names are on the disk on return. Without that a power loss may
/// take a directory away with all that was synced in it.
///
/// # Errors
/// A directory cannot be created, or its name not be synced.
pub fn create_dir_all(dir: &Path) -> io::Result<()> {
    create_dirs(dir, |parent| File::open(parent)?.sync_all())
}

fn create_dirs(dir: &Path, mut sync: impl FnMut(&Path) -> io::Result<()>) -> io::Result<()> {
    let mut missing = Vec::new();
    let mut at = dir;
    while !at.as_os_str().is_empty() && !at.is_dir() {
        missing.push(at);
        let Some(above) = at.parent() else { break };
        at = above;
    }
    for dir in missing.iter().rev() {
        // Another one may have been faster; and "a/.." is there as soon as "a" is.
        std::fs::create_dir_all(dir)?;
        sync(above(&dir.canonicalize()?))?;
    }
    if missing.is_empty() {
        // Whoever created it may have been killed before this. If it was somebody else, what is above may be none of our business.
        let _ = sync(above(&dir.canonicalize()?));
    }
    Ok(())
}

/// The directory in which the name of `dir` stands.
fn above(dir: &Path) -> &Path {
    dir.parent().unwrap_or(dir)
}

/// Whether another process has the database, as the log and RocksDB put it. The path may say `lock` too.
fn is_locked(cause: &str) -> bool {
    ["holds its lock", "While lock file", "lock hold by"]
        .iter()
        .any(|text| cause.contains(text))
}

/// An error of opening a database, with advice that fits it.
pub(crate) fn open_error(path: &Path, cause: &str) -> StorageError {
    StorageError::Open {
        path: path.to_owned(),
        cause: cause.to_owned(),
        advice: advice(cause),
    }
}

/// What to do about an error of the data directory, by its text.
#[must_use]
pub fn advice(cause: &str) -> &'static str {
    if cause.contains("ermission denied") {
        // First, because what could not be opened may be the lock.
        "it belongs to another user: give the data directory, with all that is in it, to the user that the node runs as \
         (chown -R; in Warren's image that is 5672:5672), or run the node as the user that it belongs to"
    } else if cause.contains("Read-only file system") {
        "the data directory has to be on a volume that can be written to"
    } else if is_locked(cause) {
        "another process uses this data directory: stop it, or choose another directory"
    } else if cause.contains("No space left") {
        "free some space on the disk and start again"
    } else if cause.contains("Corruption") || lacks_a_file(cause) {
        "check the disk; then move the data directory away and start again: the node rejoins as a \
         fresh replica and copies the data from the other nodes"
    } else {
        "check that the directory exists on a healthy disk and belongs to this user"
    }
}

/// Whether a database names a file of its own that is not there.
fn lacks_a_file(cause: &str) -> bool {
    let named = ["MANIFEST", "CURRENT", ".sst", ".blob"];
    cause.contains("No such file") && named.iter().any(|name| cause.contains(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserve_larger_than_the_disk_is_full() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_owned();
        assert!(free_bytes(&path).unwrap() > 0);
        assert!(Reserve::new(path.clone(), 0).check().is_ok());
        let full = Reserve::new(path, u64::MAX).check();
        assert!(matches!(full, Err(StorageError::DiskFull { .. })));
    }

    #[test]
    fn a_database_that_lacks_a_file_is_not_opened_by_trying_again() {
        let path = Path::new("/data/state");
        let lacking = "IO error: No such file or directory: While opening a file for sequentially reading: \
                       /data/state/MANIFEST-000005: No such file or directory";
        let advice = open_error(path, lacking).to_string();
        assert!(advice.contains("fresh replica"), "{advice}");
        let nowhere = "No such file or directory (os error 2)";
        let advice = open_error(path, nowhere).to_string();
        assert!(
            advice.contains("check that the directory exists"),
            "{advice}"
        );
    }

    #[test]
    fn a_directory_of_another_user_is_told_from_one_that_is_in_use() {
        let path = Path::new("/mnt/blocks/state");
        for (cause, expected) in [
            (
                "IO error: While lock file: /d/LOCK: Resource temporarily unavailable",
                "another process",
            ),
            ("another process holds its lock", "another process"),
            (
                "IO error: while open a file for lock: /d/LOCK: Permission denied",
                "chown",
            ),
            ("Permission denied (os error 13)", "chown"),
            (
                "IO error: While mkdir if missing: /mnt/blocks/state: Read-only file system",
                "volume",
            ),
            (
                "IO error: While mkdir: /mnt/blocks/state: Not a directory",
                "check that the directory",
            ),
        ] {
            let advice = open_error(path, cause).to_string();
            assert!(advice.contains(expected), "{advice}");
        }
    }

    #[test]
    fn the_names_of_new_directories_are_synced_where_they_stand() {
        let top = tempfile::tempdir().unwrap();
        let top = top.path().canonicalize().unwrap();
        let synced = |dir: &Path| {
            let mut synced = Vec::new();
            create_dirs(dir, |parent| {
                synced.push(parent.to_owned());
                Ok(())
            })
            .unwrap();
            assert!(dir.is_dir());
            synced
        };
        let dir = top.join("a/b/c");
        assert_eq!(
            synced(&dir),
            [top.clone(), top.join("a"), top.join("a/b")],
            "from the top down"
        );
        assert_eq!(synced(&dir), [top.join("a/b")]);
        // Through a link, it is the name of the directory itself that counts.
        std::os::unix::fs::symlink(top.join("a/b"), top.join("link")).unwrap();
        assert_eq!(synced(&top.join("link/d")), [top.join("a/b")]);
        assert_eq!(synced(&top.join("link")), [top.join("a")]);

        let failing = |_: &Path| Err(io::Error::other("no"));
        assert!(create_dirs(&top.join("new"), failing).is_err());
        assert!(create_dirs(&top, failing).is_ok());
        std::fs::write(top.join("file"), "").unwrap();
        assert!(create_dir_all(&top.join("file")).is_err());
        assert!(create_dir_all(&top.join("file/below")).is_err());
    }

    #[test]
    fn usage_counts_files_in_subdirectories() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        std::fs::write(dir.path().join("sub/file"), vec![1; 100_000]).unwrap();
        assert!(usage(dir.path()) >= 100_000);
        assert_eq!(usage(&dir.path().join("missing")), 0);
    }
}
