//! openraft's state machine over a [`Machine`].
//!
//! Applied entries go to the machine in large batches and stay in memory; a checkpoint (what
//! openraft calls a snapshot) writes them down. A checkpoint at an index waits until this node's
//! own log has synced that index: openraft applies what a quorum has, which the local disk may not.
//!
//! Not here: when a checkpoint is due (`checkpoint`).

use crate::group::dirt::{Dirt, Share};
use crate::log::GroupLog;
use crate::machine::{
    CheckpointJob, Committed, Machine, MachineError, SnapshotReader, SnapshotWriter,
};
use crate::raft::{Applied, Entry, EntryPayload, Reply, StoredMembership, Types, position};
use crate::types::Position;
use futures::{Stream, StreamExt};
use openraft::OptionalSend;
use openraft::storage::{
    ApplyResponder, RaftSnapshotBuilder, RaftStateMachine, Snapshot, SnapshotMeta,
};
use openraft::vote::leader_id_std::CommittedLeaderId;
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::watch;

type LogId = crate::raft::LogId;
type Responder = ApplyResponder<Types>;
pub(crate) type Meta = SnapshotMeta<CommittedLeaderId<u64>, u64, openraft::BasicNode>;
pub(crate) type MachineSnapshot =
    Snapshot<CommittedLeaderId<u64>, u64, openraft::BasicNode, Box<dyn SnapshotReader>>;

/// Entries given to the machine at once.
const APPLY_ENTRIES: usize = 1024;
/// Bytes of entries given to the machine at once.
const APPLY_BYTES: usize = 16 << 20;

/// What a group's machine has done; outlives restarts of the Raft core.
pub(crate) struct MachineState {
    machine: Arc<dyn Machine>,
    applied: Mutex<Applied>,
    checkpoint: Mutex<Option<Applied>>,
    /// Held while a checkpoint or a snapshot is written down. A checkpoint may outlive the core that began
    /// it, and must not overwrite a snapshot that was installed meanwhile.
    storing: Mutex<()>,
    /// Counts installed snapshots.
    installed: AtomicU64,
    /// Position of the last applied entry, for waiters.
    progress: watch::Sender<Option<Position>>,
    /// What a checkpoint would be good for.
    share: Mutex<Share>,
    /// The same over all groups.
    dirt: Arc<Dirt>,
}

impl MachineState {
    /// Starts from what the machine has restored.
    pub(crate) fn new(
        machine: Arc<dyn Machine>,
        dirt: Arc<Dirt>,
    ) -> Result<Arc<Self>, MachineError> {
        let restored = match machine.restored() {
            Some(bytes) => Some(Applied::decode(bytes).ok_or_else(|| {
                MachineError::new("the applied state of the checkpoint does not decode")
            })?),
            None => None,
        };
        let applied = restored.clone().unwrap_or_default();
        Ok(Arc::new(Self {
            machine,
            progress: watch::Sender::new(applied.last.as_ref().map(position)),
            applied: Mutex::new(applied),
            checkpoint: Mutex::new(restored),
            storing: Mutex::new(()),
            installed: AtomicU64::new(0),
            share: Mutex::new(Share::default()),
            dirt,
        }))
    }

    pub(crate) fn machine(&self) -> &Arc<dyn Machine> {
        &self.machine
    }

    pub(crate) fn applied(&self) -> Applied {
        self.applied.lock().clone()
    }

    pub(crate) fn last_applied(&self) -> Option<Position> {
        *self.progress.borrow()
    }

    /// Follows the position of the last applied entry.
    pub(crate) fn progress(&self) -> watch::Receiver<Option<Position>> {
        self.progress.subscribe()
    }

    /// Position of the last durable checkpoint.
    pub(crate) fn checkpoint(&self) -> Option<LogId> {
        self.checkpoint
            .lock()
            .as_ref()
            .and_then(|applied| applied.last)
    }

    /// What a checkpoint would be good for now.
    pub(crate) fn dirt(&self) -> Share {
        *self.share.lock()
    }

    /// Everything that is applied is about to be covered by a checkpoint.
    fn clean(&self) {
        self.change(|_| Share::default());
    }

    fn change(&self, change: impl FnOnce(Share) -> Share) {
        let mut share = self.share.lock();
        let now = change(*share);
        self.dirt.change(*share, now);
        *share = now;
    }

    /// Makes a received snapshot the machine's state, durably. Nothing may be applied meanwhile.
    pub(crate) async fn install(
        self: &Arc<Self>,
        writer: Box<dyn SnapshotWriter>,
        applied: Applied,
    ) -> Result<(), io::Error> {
        let state = Arc::clone(self);
        blocking(move || {
            let _storing = state.storing.lock();
            writer.finish(applied.encode())?;
            state.installed.fetch_add(1, Ordering::AcqRel);
            state.show(applied);
            Ok(())
        })
        .await
    }

    /// The machine now shows an installed snapshot.
    fn show(&self, applied: Applied) {
        let last = applied.last.as_ref().map(position);
        *self.checkpoint.lock() = Some(applied.clone());
        *self.applied.lock() = applied;
        self.clean();
        self.progress.send_replace(last);
    }

    fn begin_checkpoint(self: &Arc<Self>, log: &Arc<GroupLog>) -> Checkpointing {
        Checkpointing {
            job: Mutex::new(Some(self.machine.begin_checkpoint())),
            applied: self.applied(),
            installed: self.installed.load(Ordering::Acquire),
            state: Arc::clone(self),
            log: Arc::clone(log),
        }
    }
}

impl Drop for MachineState {
    fn drop(&mut self) {
        // What a group leaves behind must not count for the others.
        self.clean();
    }
}

/// openraft's handle; the core's worker owns it.
pub(crate) struct MachineAdapter {
    state: Arc<MachineState>,
    log: Arc<GroupLog>,
    /// Dropped with the worker, which tells a restart that nothing is applied any more.
    _alive: tokio::sync::oneshot::Sender<()>,
}

impl MachineAdapter {
    /// The receiver resolves when openraft has let go of the machine.
    pub(crate) fn new(
        state: Arc<MachineState>,
        log: Arc<GroupLog>,
    ) -> (Self, tokio::sync::oneshot::Receiver<()>) {
        let (alive, gone) = tokio::sync::oneshot::channel();
        let adapter = Self {
            state,
            log,
            _alive: alive,
        };
        (adapter, gone)
    }
}

/// Entries on their way to the machine.
#[derive(Default)]
struct Batch {
    committed: Vec<Committed>,
    /// Who waits for each of `committed`.
    waiting: Vec<Option<Responder>>,
    /// Who waits for entries that the machine does not see.
    others: Vec<Responder>,
    bytes: usize,
    last: Option<LogId>,
    membership: Option<StoredMembership>,
}

impl Batch {
    fn add(&mut self, entry: Entry, responder: Option<Responder>) {
        self.last = Some(entry.log_id);
        match entry.payload {
            EntryPayload::Normal(payload) => {
                self.bytes = self.bytes.saturating_add(payload.len_bytes());
                self.committed.push(Committed {
                    index: entry.log_id.index,
                    term: entry.log_id.leader_id.term,
                    payload,
                });
                self.waiting.push(responder);
            }
            EntryPayload::Membership(membership) => {
                self.membership = Some(StoredMembership::new(Some(entry.log_id), membership));
                self.others.extend(responder);
            }
            EntryPayload::Blank => self.others.extend(responder),
        }
    }

    fn is_full(&self) -> bool {
        self.committed.len() >= APPLY_ENTRIES || self.bytes >= APPLY_BYTES
    }
}

impl MachineState {
    fn apply(&self, batch: Batch) -> Result<(), io::Error> {
        let Some(last) = batch.last else {
            return Ok(());
        };
        let replies = if batch.committed.is_empty() {
            Vec::new()
        } else {
            self.machine
                .apply(&batch.committed)
                .map_err(machine_error)?
        };
        if replies.len() != batch.committed.len() {
            return Err(io::Error::other(
                "the machine must reply once to every entry",
            ));
        }
        let bytes = batch.bytes as u64 + 64 * batch.committed.len() as u64;
        let held = self.machine.held_bytes();
        self.change(|share| Share {
            log: share.log.saturating_add(bytes),
            held,
        });
        {
            let mut applied = self.applied.lock();
            applied.last = Some(last);
            if let Some(membership) = batch.membership {
                applied.membership = membership;
            }
        }
        self.progress.send_replace(Some(position(&last)));
        for (responder, reply) in batch.waiting.into_iter().zip(replies) {
            if let Some(responder) = responder {
                responder.send(Reply(reply));
            }
        }
        for responder in batch.others {
            responder.send(Reply(bytes::Bytes::new()));
        }
        Ok(())
    }
}

impl RaftStateMachine<Types> for MachineAdapter {
    type SnapshotData = Box<dyn SnapshotReader>;
    type SnapshotBuilder = Checkpointing;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let applied = self.state.applied();
        Ok((applied.last, applied.membership))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<(Entry, Option<Responder>), io::Error>> + Unpin + OptionalSend,
    {
        let mut batch = Batch::default();
        while let Some(item) = entries.next().await {
            let (entry, responder) = item?;
            batch.add(entry, responder);
            if batch.is_full() {
                self.state.apply(std::mem::take(&mut batch))?;
                // A long catch-up must not keep a worker thread from everything else.
                tokio::task::yield_now().await;
            }
        }
        self.state.apply(batch)
    }

    async fn try_create_snapshot_builder(&mut self, force: bool) -> Option<Checkpointing> {
        // The worker calls this between two applies: applied state and job belong together.
        let last = self.state.applied().last;
        let current = self.state.checkpoint();
        if !force && last <= current {
            return None;
        }
        self.state.clean();
        Some(self.state.begin_checkpoint(&self.log))
    }

    async fn get_snapshot_builder(&mut self) -> Checkpointing {
        self.state.begin_checkpoint(&self.log)
    }

    async fn install_snapshot(
        &mut self,
        meta: &Meta,
        mut snapshot: Box<dyn SnapshotReader>,
    ) -> Result<(), io::Error> {
        // A running core is never given a snapshot (see `install`); this serves a reader that is
        // at hand, as in openraft's own tests of storages.
        let applied = Applied {
            last: meta.last_log_id,
            membership: meta.last_membership.clone(),
        };
        let state = Arc::clone(&self.state);
        let sink = blocking(move || {
            let mut sink = state.machine.snapshot_sink()?;
            while let Some(chunk) = snapshot.next_chunk()? {
                sink.write(chunk)?;
            }
            Ok(sink)
        })
        .await?;
        self.state.install(sink, applied).await
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<MachineSnapshot>, io::Error> {
        current_snapshot(&self.state).await
    }
}

/// A view of the last durable checkpoint; `None` if there is none.
pub(crate) async fn current_snapshot(
    state: &Arc<MachineState>,
) -> Result<Option<MachineSnapshot>, io::Error> {
    if state.checkpoint.lock().is_none() {
        return Ok(None);
    }
    let state = Arc::clone(state);
    blocking(move || {
        let view = state.machine.snapshot_view()?;
        let applied = Applied::decode(view.applied()).ok_or_else(|| {
            MachineError::new("the applied state of the checkpoint does not decode")
        })?;
        Ok(Some(Snapshot {
            meta: Meta {
                last_log_id: applied.last,
                last_membership: applied.membership,
            },
            snapshot: view,
        }))
    })
    .await
}

/// A checkpoint that has been captured and is being written.
pub(crate) struct Checkpointing {
    /// In a lock because openraft wants builders to be `Sync`.
    job: Mutex<Option<Result<CheckpointJob, MachineError>>>,
    applied: Applied,
    /// Snapshots that were installed before it was captured.
    installed: u64,
    state: Arc<MachineState>,
    log: Arc<GroupLog>,
}

impl RaftSnapshotBuilder<Types> for Checkpointing {
    type SnapshotData = Box<dyn SnapshotReader>;

    async fn build_snapshot(&mut self) -> Result<MachineSnapshot, io::Error> {
        let job = self
            .job
            .get_mut()
            .take()
            .ok_or_else(|| io::Error::other("a checkpoint is written once"))?
            .map_err(machine_error)?;
        if let Some(last) = self.applied.last {
            self.log.wait_flushed(last.index).await?;
        }
        let (state, applied, installed) = (
            Arc::clone(&self.state),
            self.applied.clone(),
            self.installed,
        );
        blocking(move || {
            let _storing = state.storing.lock();
            if state.installed.load(Ordering::Acquire) != installed {
                return Err(MachineError::new(
                    "a snapshot has taken the place of what the checkpoint would store",
                ));
            }
            job(applied.encode())?;
            *state.checkpoint.lock() = Some(applied);
            Ok(())
        })
        .await?;
        current_snapshot(&self.state)
            .await?
            .ok_or_else(|| io::Error::other("the checkpoint just written cannot be read"))
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, MachineError> + Send + 'static,
) -> Result<T, io::Error> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| io::Error::other("a storage task was interrupted"))?
        .map_err(machine_error)
}

fn machine_error(error: MachineError) -> io::Error {
    io::Error::other(error)
}
