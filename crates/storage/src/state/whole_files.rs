//! Which keys may lose their whole files so that nothing that is dead comes back.
//!
//! A file of an upper level may hold nothing but the deletions of what is in a deeper one. If the
//! upper one lies within a range that is dead and the deeper one reaches over its edge, dropping
//! the files within the range takes the deletions and leaves what they delete. Files of level 0 are
//! never dropped, and are newer than all others: they neither take anything away nor bring it back.

use super::inner::Inner;
use super::options::MESSAGES;
use crate::error::StorageError;
use std::collections::BTreeSet;

/// A sorted file of messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct File {
    name: String,
    level: i32,
    first: Vec<u8>,
    last: Vec<u8>,
    /// Whether it holds more than deletions.
    holds: bool,
}

/// Keys from `first` to `last`, both included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Keys {
    pub(crate) first: Vec<u8>,
    pub(crate) last: Vec<u8>,
}

impl File {
    fn overlaps(&self, keys: &Keys) -> bool {
        self.first <= keys.last && self.last >= keys.first
    }

    fn is_within(&self, keys: &Keys) -> bool {
        self.first >= keys.first && self.last <= keys.last
    }

    fn keys(&self) -> Keys {
        Keys {
            first: self.first.clone(),
            last: self.last.clone(),
        }
    }
}

impl Keys {
    /// What is left without the keys of a file that reaches over one edge; `None` over both.
    fn without(mut self, file: &File) -> Option<Self> {
        if file.first >= self.first {
            self.last = before(&file.first)?;
        } else if file.last <= self.last {
            self.first.clone_from(&file.last);
            self.first.push(0);
        } else {
            return None;
        }
        (self.first <= self.last).then_some(self)
    }
}

/// The files of messages below level 0.
pub(crate) fn list(inner: &Inner) -> Result<Vec<File>, StorageError> {
    let files = inner
        .db
        .live_files()
        .map_err(|error| StorageError::read(&error))?;
    let files = files
        .into_iter()
        .filter(|file| file.column_family_name == MESSAGES && file.level > 0);
    Ok(files
        .map(|file| File {
            // RocksDB may not have counted yet.
            holds: file.num_entries == 0 || file.num_entries > file.num_deletions,
            name: file.name,
            level: file.level,
            first: file.start_key.unwrap_or_default(),
            last: file.end_key.unwrap_or_default(),
        })
        .collect())
}

/// The largest part of `keys`, all of them dead, whose whole files may go; `None` if there are none.
pub(crate) fn droppable(files: &[File], mut keys: Keys) -> Option<Keys> {
    let files: Vec<&File> = files.iter().filter(|file| file.overlaps(&keys)).collect();
    loop {
        let upmost = upmost(files.iter().copied(), &keys)?;
        let brings_back = files.iter().find(|file| {
            file.holds
                && file.level > upmost
                && file.overlaps(&keys)
                && !file.is_within(&keys)
                && files.iter().any(|upper| {
                    upper.level < file.level
                        && upper.is_within(&keys)
                        && upper.overlaps(&file.keys())
                })
        });
        match brings_back {
            Some(file) => keys = keys.without(file)?,
            None => return Some(keys),
        }
    }
}

/// Of `keys`, whose files were dropped, what may have come back: what is in files that were being
/// merged meanwhile.
pub(crate) fn come_back(before: &[File], after: &[File], keys: &Keys) -> Vec<Keys> {
    let Some(upmost) = upmost(before.iter(), keys) else {
        return Vec::new();
    };
    let known: BTreeSet<&str> = before.iter().map(|file| file.name.as_str()).collect();
    let stayed = after.iter().filter(|file| {
        file.holds
            && file.level > upmost
            && file.overlaps(keys)
            && (file.is_within(keys) || !known.contains(file.name.as_str()))
    });
    stayed
        .map(|file| Keys {
            first: file.first.clone().max(keys.first.clone()),
            last: file.last.clone().min(keys.last.clone()),
        })
        .collect()
}

/// The upmost level with a file within `keys`.
fn upmost<'a>(files: impl Iterator<Item = &'a File>, keys: &Keys) -> Option<i32> {
    let within = files.filter(|file| file.is_within(keys));
    within.map(|file| file.level).min()
}

/// A key in front of `key` and behind all others of the family that are; `None` in front of the first.
fn before(key: &[u8]) -> Option<Vec<u8>> {
    let (last, rest) = key.split_last()?;
    let mut before = rest.to_vec();
    if let Some(smaller) = last.checked_sub(1) {
        before.extend([smaller, u8::MAX]);
    }
    Some(before)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn keys(first: u8, last: u8) -> Keys {
        Keys {
            first: vec![first],
            last: vec![last],
        }
    }

    fn file(level: i32, first: u8, last: u8) -> File {
        File {
            name: format!("{level}-{first}-{last}"),
            level,
            first: vec![first],
            last: vec![last],
            holds: true,
        }
    }

    fn of_deletions(level: i32, first: u8, last: u8) -> File {
        File {
            holds: false,
            ..file(level, first, last)
        }
    }

    #[test]
    fn what_nothing_reaches_over_goes_as_a_whole() {
        let files = [file(5, 10, 20), file(6, 10, 30), file(6, 40, 50)];
        assert_eq!(droppable(&files, keys(5, 35)), Some(keys(5, 35)));
        assert_eq!(droppable(&files, keys(12, 35)), None, "nothing is within");
        // Nothing above the one that reaches over is dropped.
        let files = [file(6, 10, 30), file(6, 31, 40), file(5, 20, 50)];
        assert_eq!(droppable(&files, keys(25, 45)), Some(keys(25, 45)));
    }

    #[test]
    fn deletions_of_what_stays_stay() {
        let files = [
            of_deletions(5, 10, 20),
            of_deletions(5, 30, 40),
            file(6, 5, 12),
            file(6, 20, 29),
        ];
        let kept = droppable(&files, keys(8, 45)).unwrap();
        assert_eq!((kept.first, kept.last), (vec![12, 0], vec![45]));
        let kept = droppable(&files[..3], keys(8, 35));
        assert_eq!(kept, None, "nothing is left");
        let both = [of_deletions(5, 10, 20), file(6, 5, 50)];
        assert_eq!(droppable(&both, keys(8, 45)), None);
        let upper_edge = [file(6, 10, 15), of_deletions(5, 20, 30), file(6, 30, 50)];
        let kept = droppable(&upper_edge, keys(8, 45)).unwrap();
        assert_eq!((kept.first, kept.last), (vec![8], vec![29, 255]));
    }

    #[test]
    fn what_is_only_deletions_brings_nothing_back() {
        let files = [
            of_deletions(4, 20, 25),
            of_deletions(5, 1, 30),
            file(6, 10, 30),
        ];
        assert_eq!(droppable(&files, keys(8, 45)), Some(keys(8, 45)));
    }

    #[test]
    fn what_was_being_merged_is_found() {
        let before = [of_deletions(5, 10, 30), file(6, 10, 20), file(6, 21, 30)];
        let whole = keys(8, 35);
        assert_eq!(come_back(&before, &[], &whole), Vec::new());
        assert_eq!(
            come_back(&before, &before[2..], &whole),
            vec![keys(21, 30)],
            "it was being merged"
        );
        let merged = [file(6, 25, 50)];
        assert_eq!(come_back(&before, &merged, &whole), vec![keys(25, 35)]);
        let reaching = [of_deletions(5, 10, 20), file(6, 30, 50)];
        assert_eq!(
            come_back(&reaching, &reaching[1..], &whole),
            Vec::new(),
            "nothing that was dropped spoke of it"
        );
    }

    proptest! {
        #[test]
        fn a_key_before_is_before_and_nothing_is_between(
            a in prop::collection::vec(any::<u8>(), 3),
            b in prop::collection::vec(any::<u8>(), 3),
            after in any::<bool>(),
        ) {
            let mut b = b;
            if after {
                b.push(0);
            }
            let found = before(&b).unwrap();
            prop_assert!(found < b);
            prop_assert_eq!(a < b, a <= found);
        }

        /// Whatever stays has all deletions above it that it had.
        #[test]
        fn no_deletion_goes_without_what_it_deletes(
            files in prop::collection::vec((1..5_i32, 0..60_u8, 0..12_u8, any::<bool>()), 0..20),
            from in 0..60_u8,
            len in 0..40_u8,
        ) {
            let files: Vec<File> = files
                .into_iter()
                .map(|(level, first, len, holds)| File { holds, ..file(level, first, first + len) })
                .collect();
            let dead = keys(from, from + len);
            if let Some(kept) = droppable(&files, dead.clone()) {
                prop_assert!(kept.first >= dead.first && kept.last <= dead.last);
                let (gone, stay): (Vec<&File>, Vec<&File>) =
                    files.iter().partition(|file| file.is_within(&kept));
                prop_assert!(!gone.is_empty());
                for stays in stay.into_iter().filter(|file| file.holds) {
                    let upper = gone.iter().find(|upper| {
                        upper.level < stays.level && upper.overlaps(&stays.keys())
                    });
                    prop_assert_eq!(upper, None, "{:?} comes back", stays);
                }
            }
        }
    }
}
