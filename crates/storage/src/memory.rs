//! A log store in memory that knows what a power loss would take: for simulations and tests.
//!
//! Owns: the same contract as the store on disk, with written and synced state kept apart. A test
//! decides when a sync happens ([`MemoryLog::sync`]) and which unsynced writes survive a crash
//! ([`MemoryLog::crash`]). Not here: delays and randomness, which the simulation brings.

use crate::error::StorageError;
use crate::log::{Done, GroupLog, LogBackend, LogEntry};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A simulated log disk and the process that has it open. Clones share both.
#[derive(Clone)]
pub struct MemoryLog {
    shared: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// What a crash leaves.
    durable: BTreeMap<u32, Group>,
    /// What reads see.
    written: BTreeMap<u32, Group>,
    /// Writes between the two, in order.
    unsynced: VecDeque<(Write, Option<Done>)>,
    manual: bool,
    failure: Option<StorageError>,
    watchers: Vec<Box<dyn FnOnce(StorageError) + Send>>,
}

#[derive(Default, Clone)]
struct Group {
    entries: BTreeMap<u64, LogEntry>,
    purged: Option<(u64, Bytes)>,
    vote: Option<Bytes>,
    committed: Option<Bytes>,
}

#[derive(Clone)]
enum Write {
    Append(u32, u64, Vec<LogEntry>),
    Vote(u32, Bytes),
    Truncate(u32, Option<u64>),
    Purge(u32, u64, Bytes),
    Committed(u32, Bytes),
    Remove(u32),
}

impl Default for MemoryLog {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryLog {
    /// An empty log in which every write is synced at once.
    #[must_use]
    pub fn new() -> Self {
        Self {
            shared: Arc::new(Mutex::new(State::default())),
        }
    }

    /// An empty log in which writes stay unsynced until [`MemoryLog::sync`].
    #[must_use]
    pub fn manual() -> Self {
        let log = Self::new();
        log.lock().manual = true;
        log
    }

    /// Chooses whether writes wait for [`MemoryLog::sync`]; switching to automatic syncs.
    pub fn set_manual(&self, manual: bool) {
        self.lock().manual = manual;
        if !manual {
            self.sync();
        }
    }

    /// Number of writes that a crash could take.
    #[must_use]
    pub fn unsynced(&self) -> usize {
        self.lock().unsynced.len()
    }

    /// Syncs everything written so far and reports it.
    pub fn sync(&self) {
        self.sync_some(usize::MAX);
    }

    /// Syncs the first `count` of the unsynced writes and reports them.
    pub fn sync_some(&self, count: usize) {
        let mut finished = Vec::new();
        {
            let mut guard = self.lock();
            let state = &mut *guard;
            if state.failure.is_some() {
                return;
            }
            let count = count.min(state.unsynced.len());
            for (write, done) in state.unsynced.drain(..count) {
                apply(&mut state.durable, write);
                finished.extend(done);
            }
        }
        for done in finished {
            done(Ok(()));
        }
    }

    /// A power loss: what this returns is the disk after it, opened anew. The first `survivors` of
    /// the unsynced writes made it to the disk, without anybody having been told. This handle (the
    /// dead process) fails from now on.
    #[must_use]
    pub fn crash(&self, survivors: usize) -> Self {
        let mut guard = self.lock();
        let state = &mut *guard;
        let count = survivors.min(state.unsynced.len());
        for (write, _) in state.unsynced.drain(..count) {
            apply(&mut state.durable, write);
        }
        let durable = std::mem::take(&mut state.durable);
        let manual = state.manual;
        state.failure = Some(StorageError::Closed);
        let lost: Vec<Done> = state
            .unsynced
            .drain(..)
            .filter_map(|(_, done)| done)
            .collect();
        drop(guard);
        for done in lost {
            done(Err(StorageError::Closed));
        }
        Self {
            shared: Arc::new(Mutex::new(State {
                written: durable.clone(),
                durable,
                manual,
                ..State::default()
            })),
        }
    }

    /// Lets the disk fail: unsynced writes report it, later calls are refused.
    pub fn fail(&self, cause: &str) {
        let error = StorageError::Poisoned {
            cause: cause.to_owned(),
        };
        let (lost, watchers) = {
            let mut state = self.lock();
            state.failure.get_or_insert(error.clone());
            let lost: Vec<Done> = state
                .unsynced
                .drain(..)
                .filter_map(|(_, done)| done)
                .collect();
            (lost, std::mem::take(&mut state.watchers))
        };
        for done in lost {
            done(Err(error.clone()));
        }
        for watcher in watchers {
            watcher(error.clone());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn submit(&self, write: Write, done: Option<Done>) {
        let result = {
            let mut guard = self.lock();
            let state = &mut *guard;
            let checked = match &state.failure {
                Some(error) => Err(error.clone()),
                None => check(&state.written, &write),
            };
            if checked.is_ok() {
                apply(&mut state.written, write.clone());
                if state.manual {
                    state.unsynced.push_back((write, done));
                    return;
                }
                apply(&mut state.durable, write);
            }
            checked
        };
        if let Some(done) = done {
            done(result);
        }
    }
}

fn check(groups: &BTreeMap<u32, Group>, write: &Write) -> Result<(), StorageError> {
    let Write::Append(group, first, _) = write else {
        return Ok(());
    };
    let Some(next) = groups.get(group).and_then(Group::next) else {
        return Ok(());
    };
    if next == *first {
        return Ok(());
    }
    Err(StorageError::Refused(format!(
        "append to group {group} at {first}, but the next index is {next}"
    )))
}

fn apply(groups: &mut BTreeMap<u32, Group>, write: Write) {
    match write {
        Write::Append(group, first, entries) => {
            let log = groups.entry(group).or_default();
            log.entries.extend((first..).zip(entries));
        }
        Write::Vote(group, vote) => groups.entry(group).or_default().vote = Some(vote),
        Write::Truncate(group, after) => {
            let from = after.map_or(0, |index| index.saturating_add(1));
            groups.entry(group).or_default().entries.split_off(&from);
        }
        Write::Purge(group, upto, meta) => {
            let log = groups.entry(group).or_default();
            if log.purged.as_ref().is_none_or(|(purged, _)| *purged < upto) {
                log.entries = log.entries.split_off(&upto.saturating_add(1));
                log.purged = Some((upto, meta));
            }
        }
        Write::Committed(group, committed) => {
            groups.entry(group).or_default().committed = Some(committed);
        }
        Write::Remove(group) => {
            groups.remove(&group);
        }
    }
}

impl Group {
    fn last(&self) -> Option<u64> {
        self.entries.last_key_value().map(|(index, _)| *index)
    }

    fn next(&self) -> Option<u64> {
        let end = self
            .last()
            .or(self.purged.as_ref().map(|(index, _)| *index));
        end.map(|index| index.saturating_add(1))
    }
}

impl LogBackend for MemoryLog {
    fn append(&self, group: u32, first_index: u64, entries: Vec<LogEntry>, done: Done) {
        self.submit(Write::Append(group, first_index, entries), Some(done));
    }

    fn save_vote(&self, group: u32, vote: Bytes, done: Done) {
        self.submit(Write::Vote(group, vote), Some(done));
    }

    fn truncate_after(&self, group: u32, after: Option<u64>, done: Done) {
        self.submit(Write::Truncate(group, after), Some(done));
    }

    fn purge(&self, group: u32, upto: u64, meta: Bytes, done: Done) {
        self.submit(Write::Purge(group, upto, meta), Some(done));
    }

    fn save_committed(&self, group: u32, committed: Bytes) {
        self.submit(Write::Committed(group, committed), None);
    }

    fn remove_group(&self, group: u32, done: Done) {
        self.submit(Write::Remove(group), Some(done));
    }

    fn read(
        &self,
        group: u32,
        range: Range<u64>,
        max_bytes: usize,
    ) -> Result<Vec<(u64, LogEntry)>, StorageError> {
        let state = self.lock();
        if let Some(error) = &state.failure {
            return Err(error.clone());
        }
        let Some(log) = state.written.get(&group) else {
            return Ok(Vec::new());
        };
        match &log.purged {
            Some((upto, _)) if range.start <= *upto && !range.is_empty() => {
                return Err(StorageError::Purged { group, upto: *upto });
            }
            _ => {}
        }
        let mut result = Vec::new();
        let mut bytes = 0;
        if range.is_empty() {
            return Ok(result);
        }
        for (index, entry) in log.entries.range(range) {
            bytes += entry.len_bytes();
            if bytes > max_bytes && !result.is_empty() {
                break;
            }
            result.push((*index, entry.clone()));
        }
        Ok(result)
    }

    fn group(&self, group: u32) -> Result<GroupLog, StorageError> {
        let state = self.lock();
        if let Some(error) = &state.failure {
            return Err(error.clone());
        }
        Ok(state
            .written
            .get(&group)
            .map_or_else(GroupLog::default, |log| GroupLog {
                first: log.entries.first_key_value().map(|(index, _)| *index),
                last: log.last(),
                purged: log.purged.clone(),
                vote: log.vote.clone(),
                committed: log.committed.clone(),
            }))
    }

    fn groups(&self) -> Vec<u32> {
        self.lock().written.keys().copied().collect()
    }

    fn synced(&self, group: u32) -> Option<u64> {
        let state = self.lock();
        // A truncated entry is not in the log any more, although the disk still has it.
        let durable = state.durable.get(&group)?.next()?.checked_sub(1)?;
        let written = state.written.get(&group)?.next()?.checked_sub(1)?;
        Some(durable.min(written))
    }

    fn retained_bytes(&self, group: u32) -> u64 {
        let state = self.lock();
        state.written.get(&group).map_or(0, |log| {
            log.entries
                .values()
                .map(|entry| entry.len_bytes() as u64)
                .sum()
        })
    }

    fn retained_bytes_of_all(&self) -> u64 {
        let groups: Vec<u32> = self.lock().written.keys().copied().collect();
        groups
            .into_iter()
            .map(|group| self.retained_bytes(group))
            .sum()
    }

    fn purge_candidate(&self, group: u32, keep_bytes: u64) -> Option<u64> {
        let state = self.lock();
        let mut kept = 0;
        for (index, entry) in state.written.get(&group)?.entries.iter().rev() {
            if kept >= keep_bytes {
                return Some(*index);
            }
            kept += entry.len_bytes() as u64;
        }
        None
    }

    fn poisoned(&self) -> Option<StorageError> {
        self.lock().failure.clone()
    }

    fn on_poison(&self, callback: Box<dyn FnOnce(StorageError) + Send>) {
        let mut state = self.lock();
        match state.failure.clone() {
            Some(error) => {
                drop(state);
                callback(error);
            }
            None => state.watchers.push(callback),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn entry(text: &'static str) -> LogEntry {
        LogEntry::new(
            Bytes::from_static(b"h"),
            Arc::from([Bytes::from_static(text.as_bytes())]),
        )
    }

    fn counting(counter: &Arc<AtomicUsize>) -> Done {
        let counter = Arc::clone(counter);
        Box::new(move |result| {
            if result.is_ok() {
                counter.fetch_add(1, Ordering::SeqCst);
            }
        })
    }

    #[test]
    fn a_crash_takes_what_was_not_synced() {
        let log = MemoryLog::manual();
        let done = Arc::new(AtomicUsize::new(0));
        log.append(1, 1, vec![entry("a"), entry("b")], counting(&done));
        log.sync();
        log.append(1, 3, vec![entry("c")], counting(&done));
        log.save_vote(1, Bytes::from_static(b"v"), counting(&done));
        assert_eq!(
            log.group(1).unwrap().last,
            Some(3),
            "readable before it is synced"
        );
        assert_eq!(log.synced(1), Some(2));

        let after = log.crash(0);
        assert_eq!(done.load(Ordering::SeqCst), 1);
        assert_eq!(after.group(1).unwrap().last, Some(2));
        assert_eq!(after.group(1).unwrap().vote, None);
        assert_eq!(
            log.group(1),
            Err(StorageError::Closed),
            "the dead process writes no more"
        );
    }

    #[test]
    fn unsynced_writes_may_survive_a_crash() {
        let log = MemoryLog::manual();
        let done = Arc::new(AtomicUsize::new(0));
        log.append(1, 0, vec![entry("a")], counting(&done));
        log.append(1, 1, vec![entry("b")], counting(&done));
        let after = log.crash(1);
        assert_eq!(after.group(1).unwrap().last, Some(0));
        assert_eq!(done.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn a_failed_disk_reports_and_refuses() {
        let log = MemoryLog::manual();
        let failed = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&failed);
        log.on_poison(Box::new(move |_| {
            seen.fetch_add(1, Ordering::SeqCst);
        }));
        log.fail("no such disk");
        assert_eq!(failed.load(Ordering::SeqCst), 1);
        assert!(matches!(
            log.poisoned(),
            Some(StorageError::Poisoned { .. })
        ));
    }
}
