//! openraft's log storage over the node's log store.
//!
//! What is appended can be read at once (from the tail), and is reported as flushed when the
//! node's log writer has synced it. The writer keeps the order of all calls, so truncations,
//! purges and committed positions need no waiting: whatever is acknowledged later is behind them.
//! Only a vote is waited for.

use super::entry::{decode, encode, term};
use super::tail::{Tail, TailBudget};
use crate::raft::{
    Entry, LogId, Types, Vote, log_id, log_id_from_wire, log_id_to_wire, vote_from_wire,
    vote_to_wire,
};
use crate::types::GroupId;
use bytes::Bytes;
use cluster_proto::v1;
use futures::stream::{self, BoxStream, Stream, StreamExt, TryStreamExt};
use openraft::errors::LeaderChanged;
use openraft::storage::{IOFlushed, LeaderBoundedStreamError, RaftLogReader, RaftLogStorage};
use openraft::{LogState, OptionalSend};
use parking_lot::Mutex;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;
use storage::{LogBackend, StorageError};
use tokio::sync::watch;

/// Bytes of entries that one step of a long read brings into memory.
const READ_STEP: usize = 4 << 20;

type LeaderId = openraft::impls::leader_id_std::LeaderId<u64, u64>;

/// The log of one group; shared by all of openraft's handles on it and by its checkpointer.
pub(crate) struct GroupLog {
    group: GroupId,
    backend: Arc<dyn LogBackend>,
    /// Bytes of entries given to a follower in one message.
    append_bytes: usize,
    state: Mutex<State>,
    /// Shared with the completions of writes, which must not hold the store: the last holder of the
    /// store waits for its writer, and completions run on the writer.
    flushed: Arc<watch::Sender<Flushed>>,
}

struct State {
    tail: Tail,
    vote: Option<Vote>,
    committed: Option<LogId>,
    purged: Option<LogId>,
    last: Option<LogId>,
    /// Index of the oldest entry; right behind `purged`, if anything was purged.
    first: Option<u64>,
    /// Counts truncations: a flush that was asked for before one says nothing about what follows.
    epoch: u64,
}

/// How far the log is on this disk.
#[derive(Debug, Clone, Copy, Default)]
struct Flushed {
    epoch: u64,
    index: Option<u64>,
    failed: bool,
}

/// What a group's log holds, for status and metrics.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct LogSpan {
    pub(crate) purged: Option<LogId>,
    pub(crate) last: Option<LogId>,
}

impl GroupLog {
    /// Opens the log of a group as the store has recovered it. Blocking.
    pub(crate) fn open(
        group: GroupId,
        backend: Arc<dyn LogBackend>,
        budget: Arc<TailBudget>,
        append_bytes: usize,
    ) -> Result<Arc<Self>, io::Error> {
        let stored = backend.group(group.0).map_err(io_error)?;
        let purged = match &stored.purged {
            Some((index, meta)) => Some(
                decode_log_id(meta)
                    .filter(|purged| purged.index == *index)
                    .ok_or_else(|| {
                        corrupt(group, &format!("the purge mark at {index} does not decode"))
                    })?,
            ),
            None => None,
        };
        let last = match stored.last {
            Some(index) => {
                let entries = backend
                    .read(group.0, index..index.saturating_add(1), usize::MAX)
                    .map_err(io_error)?;
                let [(_, entry)] = entries.as_slice() else {
                    return Err(corrupt(
                        group,
                        &format!("the last entry {index} cannot be read"),
                    ));
                };
                let term = term(entry).map_err(|error| corrupt(group, &error.to_string()))?;
                Some(log_id(term, index))
            }
            None => purged,
        };
        let vote = match &stored.vote {
            Some(bytes) => {
                Some(decode_vote(bytes).ok_or_else(|| corrupt(group, "the vote does not decode"))?)
            }
            None => None,
        };
        let committed = stored.committed.as_ref().and_then(decode_log_id);
        let flushed = Flushed {
            index: last.map(|last| last.index),
            ..Flushed::default()
        };
        Ok(Arc::new(Self {
            group,
            backend,
            append_bytes,
            state: Mutex::new(State {
                tail: Tail::new(budget),
                vote,
                committed,
                purged,
                last,
                first: stored.first,
                epoch: 0,
            }),
            flushed: Arc::new(watch::Sender::new(flushed)),
        }))
    }

    /// Where the log starts and ends.
    pub(crate) fn span(&self) -> LogSpan {
        let state = self.state.lock();
        LogSpan {
            purged: state.purged,
            last: state.last,
        }
    }

    /// The saved vote.
    pub(crate) fn vote(&self) -> Option<Vote> {
        self.state.lock().vote
    }

    /// The store behind.
    pub(crate) fn backend(&self) -> &Arc<dyn LogBackend> {
        &self.backend
    }

    /// Waits until the entry at `index`, which must be committed (it can then never be truncated),
    /// is on this disk. An error if it never will be.
    pub(crate) async fn wait_flushed(&self, index: u64) -> Result<(), io::Error> {
        if self.span().last.is_none_or(|last| last.index < index) {
            // It came with a snapshot: the log never had it and cannot lose it.
            return Ok(());
        }
        let mut flushed = self.flushed.subscribe();
        let seen = flushed
            .wait_for(|flushed| flushed.failed || flushed.index.is_some_and(|at| at >= index))
            .await
            .map_err(|_| io::Error::other("log closed"))?;
        if seen.failed {
            return Err(io::Error::other("log store failed"));
        }
        Ok(())
    }

    /// Makes room for a snapshot at `at` that does not continue this log: drops what follows the
    /// `applied` entry. Durable on return.
    pub(crate) async fn cut_for_snapshot(&self, applied: Option<LogId>) -> Result<(), io::Error> {
        self.truncate(applied, true).await
    }

    /// The position of the entry at `index`, if the log has it (or purged exactly up to it).
    pub(crate) async fn position_at(
        self: &Arc<Self>,
        index: u64,
    ) -> Result<Option<LogId>, io::Error> {
        {
            let state = self.state.lock();
            if let Some(purged) = state.purged
                && index <= purged.index
            {
                return Ok((index == purged.index).then_some(purged));
            }
            if state.last.is_none_or(|last| last.index < index) {
                return Ok(None);
            }
        }
        let entries = self.read(index, index.saturating_add(1), 1).await?;
        Ok(entries.first().map(|entry| entry.log_id))
    }

    /// Forgets entries up to `upto` although the log may end before it. Durable on return.
    pub(crate) async fn purge_for_snapshot(&self, upto: LogId) -> Result<(), io::Error> {
        let waiter = {
            let mut state = self.state.lock();
            let (done, waiter) = durable();
            self.purge_locked(&mut state, upto, done);
            waiter
        };
        waiter.await
    }

    /// Writes an entry behind the last one, and a vote, while no core runs; durable on return.
    pub(crate) async fn write_down(&self, entry: &Entry, vote: &Vote) -> Result<(), io::Error> {
        let (voted, vote_kept) = durable();
        let bytes = prost::Message::encode_to_vec(&vote_to_wire(vote));
        self.backend.save_vote(self.group.0, bytes.into(), voted);
        vote_kept.await?;
        let (written, entry_kept) = durable();
        let (index, entries) = (entry.log_id.index, vec![encode(entry)]);
        self.backend.append(self.group.0, index, entries, written);
        entry_kept.await
    }

    /// Reads from the tail, or else from the store: at least one entry, then as many as fit
    /// `max_bytes`; empty only if the log has no entry at `start`.
    async fn read(
        self: &Arc<Self>,
        start: u64,
        end: u64,
        max_bytes: usize,
    ) -> Result<Vec<Entry>, io::Error> {
        let end = {
            let state = self.state.lock();
            let Some(last) = state.last else {
                return Ok(Vec::new());
            };
            let end = end.min(last.index.saturating_add(1));
            if start >= end {
                return Ok(Vec::new());
            }
            if let Some(entries) = state.tail.read(start, end, max_bytes) {
                return Ok(entries);
            }
            end
        };
        let this = Arc::clone(self);
        tokio::task::spawn_blocking(move || this.read_stored(start, end, max_bytes))
            .await
            .map_err(|_| io::Error::other("log read was interrupted"))?
    }

    /// Streams the entries of a range, all of which the log must have.
    fn stream(
        self: &Arc<Self>,
        start: u64,
        end: u64,
    ) -> BoxStream<'static, Result<Entry, io::Error>> {
        // The usual case without any await: everything is in the tail.
        if let Some(entries) = self.state.lock().tail.read(start, end, usize::MAX)
            && entries.len() as u64 == end.saturating_sub(start)
        {
            return stream::iter(entries.into_iter().map(Ok)).boxed();
        }
        let log = Arc::clone(self);
        stream::try_unfold(start, move |next| {
            let log = Arc::clone(&log);
            async move {
                if next >= end {
                    return Ok(None);
                }
                let entries = log.read(next, end, READ_STEP).await?;
                let Some(last) = entries.last() else {
                    // A committed entry that is not there: never skip it silently.
                    return Err(corrupt(log.group, &format!("entry {next} is missing")));
                };
                let following = last.log_id.index.saturating_add(1);
                Ok(Some((stream::iter(entries.into_iter().map(Ok)), following)))
            }
        })
        .try_flatten()
        .boxed()
    }

    fn read_stored(&self, start: u64, end: u64, max_bytes: usize) -> Result<Vec<Entry>, io::Error> {
        let stored = self
            .backend
            .read(self.group.0, start..end, max_bytes)
            .map_err(io_error)?;
        let mut result = Vec::with_capacity(stored.len());
        for (expected, (index, entry)) in (start..).zip(stored) {
            if index != expected {
                return Err(corrupt(self.group, &format!("entry {expected} is missing")));
            }
            let entry = decode(index, &entry)
                .map_err(|error| corrupt(self.group, &format!("entry {index}: {error}")))?;
            result.push(entry);
        }
        Ok(result)
    }

    async fn truncate(&self, after: Option<LogId>, wait: bool) -> Result<(), io::Error> {
        let waiter = {
            let mut state = self.state.lock();
            state.tail.truncate_after(after.map(|after| after.index));
            state.last = state.last.min(after.or(state.purged));
            if state.last.map(|last| last.index) < state.first {
                state.first = None;
            }
            state.epoch = state.epoch.wrapping_add(1);
            let (epoch, end) = (state.epoch, state.last.map(|last| last.index));
            self.flushed.send_modify(|flushed| {
                flushed.epoch = epoch;
                flushed.index = flushed.index.min(end);
            });
            let (done, waiter) = durable();
            self.backend
                .truncate_after(self.group.0, after.map(|after| after.index), done);
            waiter
        };
        if wait { waiter.await } else { Ok(()) }
    }

    fn purge_locked(&self, state: &mut State, upto: LogId, done: storage::Done) {
        state.tail.purge(upto.index);
        state.purged = state.purged.max(Some(upto));
        state.first = state.first.max(upto.index.checked_add(1));
        if state.last.is_none_or(|last| last.index <= upto.index) {
            state.last = Some(upto);
            state.first = None;
            self.flushed
                .send_modify(|flushed| flushed.index = flushed.index.max(Some(upto.index)));
        }
        let meta = prost::Message::encode_to_vec(&log_id_to_wire(&upto));
        self.backend
            .purge(self.group.0, upto.index, meta.into(), done);
    }
}

fn note_flushed(
    flushed: &watch::Sender<Flushed>,
    epoch: u64,
    index: u64,
    result: &Result<(), StorageError>,
) {
    flushed.send_if_modified(|flushed| {
        if result.is_err() {
            flushed.failed = true;
            return true;
        }
        let newer = flushed.epoch == epoch && flushed.index.is_none_or(|at| at < index);
        if newer {
            flushed.index = Some(index);
        }
        newer
    });
}

/// A completion that can be awaited.
fn durable() -> (
    storage::Done,
    impl Future<Output = Result<(), io::Error>> + Send,
) {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let done: storage::Done = Box::new(move |result| {
        let _ = sender.send(result);
    });
    let waiter = async move {
        match receiver.await {
            Ok(result) => result.map_err(io_error),
            Err(_) => Err(io::Error::other("log store closed")),
        }
    };
    (done, waiter)
}

fn io_error(error: StorageError) -> io::Error {
    io::Error::other(error)
}

fn corrupt(group: GroupId, what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("log of group {group}: {what}"),
    )
}

fn decode_log_id(bytes: &Bytes) -> Option<LogId> {
    let wire: v1::LogId = prost::Message::decode(bytes.clone()).ok()?;
    Some(log_id_from_wire(&wire))
}

fn decode_vote(bytes: &Bytes) -> Option<Vote> {
    let wire: v1::Vote = prost::Message::decode(bytes.clone()).ok()?;
    Some(vote_from_wire(&wire))
}

/// openraft's handle on a group's log; its readers are clones.
#[derive(Clone)]
pub(crate) struct RaftLog(pub(crate) Arc<GroupLog>);

impl RaftLogStorage<Types> for RaftLog {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, io::Error> {
        let span = self.0.span();
        Ok(LogState {
            last_purged_log_id: span.purged,
            last_log_id: span.last,
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let bytes = prost::Message::encode_to_vec(&vote_to_wire(vote));
        let (done, waiter) = durable();
        self.0.backend.save_vote(self.0.group.0, bytes.into(), done);
        waiter.await?;
        self.0.state.lock().vote = Some(*vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        let Some(committed) = committed else {
            return Ok(());
        };
        self.0.state.lock().committed = Some(committed);
        let bytes = prost::Message::encode_to_vec(&log_id_to_wire(&committed));
        self.0.backend.save_committed(self.0.group.0, bytes.into());
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        // It is not synced by itself: the log may have lost entries that it names.
        let state = self.0.state.lock();
        Ok(state.committed.min(state.last))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let flushed = Arc::clone(&self.0.flushed);
        let mut state = self.0.state.lock();
        let mut stored = Vec::new();
        let mut span: Option<(u64, u64)> = None;
        for entry in entries {
            let index = entry.log_id.index;
            span = Some((span.map_or(index, |(first, _)| first), index));
            stored.push(encode(&entry));
            state.first.get_or_insert(index);
            state.last = Some(entry.log_id);
            state.tail.push(entry);
        }
        state.tail.shrink();
        let Some((first, last)) = span else {
            drop(state);
            callback.io_completed(Ok(()));
            return Ok(());
        };
        let epoch = state.epoch;
        let done: storage::Done = Box::new(move |result| {
            note_flushed(&flushed, epoch, last, &result);
            callback.io_completed(result.map_err(io_error));
        });
        // Under the lock, so that the store sees appends and truncations in the order of the tail.
        self.0.backend.append(self.0.group.0, first, stored, done);
        Ok(())
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        self.0.truncate(last_log_id, false).await
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        let mut state = self.0.state.lock();
        let flushed = Arc::clone(&self.0.flushed);
        let done: storage::Done = Box::new(move |result| {
            if result.is_err() {
                note_flushed(&flushed, 0, 0, &result);
            }
        });
        self.0.purge_locked(&mut state, log_id, done);
        Ok(())
    }
}

impl RaftLogReader<Types> for RaftLog {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        let (start, end) = self.bounds(&range);
        // Before the log begins there is nothing; a gap later is an error.
        let mut next = start.max(self.0.state.lock().first.unwrap_or(start));
        let mut result = Vec::new();
        while next < end {
            let entries = self.0.read(next, end, usize::MAX).await?;
            let Some(last) = entries.last() else {
                break;
            };
            next = last.log_id.index.saturating_add(1);
            result.extend(entries);
        }
        Ok(result)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.0.vote())
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, io::Error> {
        self.0.read(start, end, self.0.append_bytes).await
    }

    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = Result<Entry, io::Error>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (start, end) = self.bounds(&range);
        self.0.stream(start, end)
    }

    async fn leader_bounded_stream<RB>(
        &mut self,
        leader: LeaderId,
        range: RB,
    ) -> impl Stream<Item = Result<Entry, LeaderBoundedStreamError<Types>>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let log = Arc::clone(&self.0);
        let changed = move |vote: Option<Vote>| {
            let holds = vote.is_some_and(|vote| vote.committed && vote.leader_id == leader);
            (!holds)
                .then(|| LeaderBoundedStreamError::LeaderChanged(LeaderChanged::new(leader, vote)))
        };
        let first = changed(log.vote());
        let entries = if first.is_none() {
            let (start, end) = self.bounds(&range);
            self.0.stream(start, end)
        } else {
            stream::empty().boxed()
        };
        let entries = entries.map(move |entry| match changed(log.vote()) {
            Some(error) => Err(error),
            None => entry.map_err(LeaderBoundedStreamError::IoError),
        });
        // Nothing may follow an error.
        stream::iter(first.map(Err))
            .chain(entries)
            .scan(false, |failed, item| {
                let ended = *failed;
                *failed = item.is_err();
                async move { (!ended).then_some(item) }
            })
            .boxed()
    }
}

impl RaftLog {
    fn bounds(&self, range: &impl RangeBounds<u64>) -> (u64, u64) {
        let span = self.0.span();
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(start) => start.saturating_add(1),
            Bound::Unbounded => 0,
        };
        // What was purged is no hole.
        let start = start.max(
            span.purged
                .map_or(0, |purged| purged.index.saturating_add(1)),
        );
        let end = match range.end_bound() {
            Bound::Included(end) => end.saturating_add(1),
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        let end = end.min(span.last.map_or(0, |last| last.index.saturating_add(1)));
        (start, end)
    }
}
