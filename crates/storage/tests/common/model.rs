//! What a log should hold, and random writes to it.
#![allow(dead_code, unreachable_pub)] // Each test program uses some of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;
use storage::{Done, LogBackend, LogEntry, StorageError};

/// A generator of numbers that a seed decides (xorshift).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        let mut random = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        for _ in 0..8 {
            random.next();
        }
        random
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub fn one_in(&mut self, chances: usize) -> bool {
        self.below(chances) == 0
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Group {
    /// What tells entries apart, and their sizes.
    pub entries: BTreeMap<u64, (u64, usize)>,
    pub purged: Option<(u64, Bytes)>,
    pub vote: Option<Bytes>,
}

impl Group {
    fn next(&self) -> Option<u64> {
        let last = self.entries.last_key_value().map(|(index, _)| *index);
        let end = last.or(self.purged.as_ref().map(|(upto, _)| *upto));
        end.map(|end| end + 1)
    }
}

/// Groups of which anything is known.
pub type State = BTreeMap<u32, Group>;

fn entry(mark: u64, size: usize) -> LogEntry {
    let body: Vec<u8> = (0..size as u64)
        .map(|at| (at.wrapping_mul(mark | 1) >> 3) as u8)
        .collect();
    let body = Bytes::from(body);
    let cut = size / 3;
    let parts = [body.slice(..cut), body.slice(cut..)];
    LogEntry::new(Bytes::from(mark.to_string()), Arc::from(parts))
}

/// What a store holds, checked down to the bytes of entries.
pub fn state_of(log: &dyn LogBackend) -> Result<State, String> {
    let mut state = State::new();
    for group in log.groups() {
        let found = log.group(group).map_err(|error| error.to_string())?;
        let mut entries = BTreeMap::new();
        if let (Some(first), Some(last)) = (found.first, found.last) {
            let read = log
                .read(group, first..last + 1, usize::MAX)
                .map_err(|error| error.to_string())?;
            for (at, (index, found)) in (first..).zip(&read) {
                let mark: u64 = std::str::from_utf8(&found.head)
                    .ok()
                    .and_then(|head| head.parse().ok())
                    .ok_or("a head is not what was written")?;
                let size = found.len_bytes() - found.head.len();
                if at != *index || *found != entry(mark, size) {
                    return Err(format!("entry {index} of {group} is not what was written"));
                }
                entries.insert(*index, (mark, size));
            }
            if entries.len() as u64 != last + 1 - first {
                return Err(format!("group {group} has holes"));
            }
        }
        let known = Group {
            entries,
            purged: found.purged,
            vote: found.vote,
        };
        if known != Group::default() {
            state.insert(group, known);
        }
    }
    Ok(state)
}

/// Group 0 says little and keeps its entries long; the others come and go.
const GROUPS: u32 = 4;

/// Something to write.
#[derive(Debug, Clone)]
pub enum Step {
    Append(u32, u64, Vec<(u64, usize)>),
    Vote(u32, Bytes),
    Truncate(u32, Option<u64>),
    Purge(u32, u64, Bytes),
    Remove(u32),
}

impl Step {
    pub fn random(state: &State, random: &mut Random) -> Self {
        let group = if random.one_in(12) {
            0
        } else {
            1 + random.below(GROUPS as usize - 1) as u32
        };
        let empty = Group::default();
        let log = state.get(&group).unwrap_or(&empty);
        let next = log.next();
        let filled = log.entries.first_key_value().map(|(first, _)| *first);
        match random.below(if group == 0 { 13 } else { 20 }) {
            0..=10 => {
                let first = next.unwrap_or_else(|| random.below(2) as u64 * 7);
                let size = |random: &mut Random| match random.below(30) {
                    0 => random.below(40_000),
                    1..=9 => random.below(40),
                    _ => random.below(2500),
                };
                let count = 1 + random.below(5);
                let entries = (0..count).map(|_| (random.next(), size(random))).collect();
                Self::Append(group, first, entries)
            }
            11 | 12 => {
                let bytes = 1 + random.below(300);
                Self::Vote(group, Bytes::from(vec![random.next() as u8; bytes]))
            }
            13 | 14 => {
                let back = 1 + random.below(6) as u64;
                let after = next.and_then(|next| next.checked_sub(1 + back));
                Self::Truncate(group, after.filter(|_| !random.one_in(8)))
            }
            15..=18 => {
                let end = next.unwrap_or(0);
                let upto = if random.one_in(8) {
                    end + random.below(5) as u64
                } else {
                    end.saturating_sub(1 + random.below(6) as u64)
                };
                let upto = upto.max(filled.unwrap_or(0));
                Self::Purge(group, upto, Bytes::from(format!("purged {upto}")))
            }
            _ if random.one_in(3) => Self::Remove(group),
            _ => Self::Vote(group, Bytes::from_static(b"a vote")),
        }
    }

    pub fn note(&self, state: &mut State) {
        match self {
            Self::Append(group, first, entries) => {
                let log = state.entry(*group).or_default();
                log.entries.extend((*first..).zip(entries.iter().copied()));
            }
            Self::Vote(group, vote) => state.entry(*group).or_default().vote = Some(vote.clone()),
            Self::Truncate(group, after) => {
                let from = after.map_or(0, |after| after + 1);
                if let Some(log) = state.get_mut(group) {
                    log.entries.split_off(&from);
                    if *log == Group::default() {
                        state.remove(group);
                    }
                }
            }
            Self::Purge(group, upto, meta) => {
                let log = state.entry(*group).or_default();
                if log.purged.as_ref().is_none_or(|(known, _)| known < upto) {
                    log.entries = log.entries.split_off(&(upto + 1));
                    log.purged = Some((*upto, meta.clone()));
                }
            }
            Self::Remove(group) => {
                state.remove(group);
            }
        }
    }

    pub fn write(self, log: &dyn LogBackend, done: Done) {
        match self {
            Self::Append(group, first, entries) => {
                let entries = entries
                    .into_iter()
                    .map(|(mark, size)| entry(mark, size))
                    .collect();
                log.append(group, first, entries, done);
            }
            Self::Vote(group, vote) => log.save_vote(group, vote, done),
            Self::Truncate(group, after) => log.truncate_after(group, after, done),
            Self::Purge(group, upto, meta) => log.purge(group, upto, meta, done),
            Self::Remove(group) => log.remove_group(group, done),
        }
    }
}

/// Fails a test if a write was refused; a store that has failed may say so.
pub fn not_refused(result: &Result<(), StorageError>) {
    assert!(
        !matches!(result, Err(StorageError::Refused(_))),
        "{result:?}"
    );
}
