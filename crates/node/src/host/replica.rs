//! This node's replica of a shard: the replicated state and, while this node leads, the dispatcher
//! that goes with it.
//!
//! One lock guards both; it is taken once per batch of applied entries and once per turn of the
//! host's loop, never per message. Nothing under it does IO.

use super::deaths::Died;
use super::persist::{self, InstallSink};
use super::streams::Watch;
use super::{HostClock, HostInput};
use broker_model::dispatch::{Dispatcher, Outbox};
use broker_model::ids::{QueueId, ShardId};
use broker_model::op::BatchOutcome;
use broker_model::shard::{Effect, ShardMachine};
use bytes::Bytes;
use consensus::{CheckpointJob, Committed, Machine, MachineError, SnapshotReader, SnapshotWriter};
use parking_lot::{Mutex, MutexGuard};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use storage::StateStore;
use tokio::sync::mpsc;

/// State of a shard on this node.
pub struct ShardReplica {
    shard: ShardId,
    state: Arc<StateStore>,
    restored: Mutex<Option<Bytes>>,
    inner: Mutex<ReplicaState>,
    /// Memory of what no checkpoint stores, after the last apply.
    held: AtomicU64,
    /// The host's inbox, told when something was applied while leading.
    inbox: mpsc::UnboundedSender<HostInput>,
    /// Itself, for what outlives a call.
    me: Weak<Self>,
}

/// What the lock guards.
pub struct ReplicaState {
    /// The replicated part.
    pub machine: ShardMachine,
    /// What deadlines go by, while this node leads.
    pub clock: HostClock,
    /// The volatile part, while this node leads.
    pub dispatcher: Option<Dispatcher>,
    /// What the dispatcher wants done.
    pub outbox: Outbox,
    /// What has died since this node leads, to be counted.
    pub died: Died,
    /// Streams that somebody waits for, while this node leads.
    pub watch: Watch,
    effects: Vec<Effect>,
    outcomes: Vec<BatchOutcome>,
}

impl ReplicaState {
    /// What belongs together while this node leads: the time, the dispatcher, what it reads, and what it wants
    /// done.
    pub fn leading(&mut self) -> Option<(u64, &mut Dispatcher, &ShardMachine, &mut Outbox)> {
        let dispatcher = self.dispatcher.as_mut()?;
        let now_ms = self.clock.now_ms();
        Some((now_ms, dispatcher, &self.machine, &mut self.outbox))
    }
}

impl ShardReplica {
    /// Loads the last checkpoint.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn load(
        shard: ShardId,
        state: Arc<StateStore>,
        inbox: mpsc::UnboundedSender<HostInput>,
    ) -> Result<Arc<Self>, MachineError> {
        let (machine, restored) = persist::load(&state, shard)?;
        Ok(Arc::new_cyclic(|me| Self {
            shard,
            state,
            restored: Mutex::new(restored),
            inner: Mutex::new(ReplicaState {
                clock: HostClock::after(machine.now_ms()),
                machine,
                dispatcher: None,
                outbox: Outbox::default(),
                died: Died::default(),
                watch: Watch::default(),
                effects: Vec::new(),
                outcomes: Vec::new(),
            }),
            held: AtomicU64::new(0),
            inbox,
            me: Weak::clone(me),
        }))
    }

    /// The shard.
    #[must_use]
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// Its stored messages.
    #[must_use]
    pub fn state_store(&self) -> &Arc<StateStore> {
        &self.state
    }

    /// Where its messages are stored.
    pub(super) fn shelf(&self) -> persist::Shelf {
        persist::Shelf {
            store: Arc::clone(&self.state),
            shard: self.shard,
        }
    }

    /// Whether this node leads and its dispatcher does not have the queue.
    pub(super) fn lacks(&self, queue: QueueId) -> bool {
        let state = self.lock();
        let dispatcher = state.dispatcher.as_ref();
        dispatcher.is_some_and(|dispatcher| !dispatcher.knows(queue))
    }

    /// Locks the state; for a moment.
    pub fn lock(&self) -> MutexGuard<'_, ReplicaState> {
        self.inner.lock()
    }

    fn me(&self) -> Result<Arc<Self>, MachineError> {
        self.me
            .upgrade()
            .ok_or_else(|| MachineError::new("the node is stopping"))
    }

    pub(super) fn replace(&self, machine: ShardMachine) {
        let mut inner = self.inner.lock();
        inner.machine = machine;
        // A replica that was sent a checkpoint does not lead.
        inner.dispatcher = None;
        inner.outbox = Outbox::default();
    }
}

impl Machine for ShardReplica {
    fn restored(&self) -> Option<Bytes> {
        self.restored.lock().clone()
    }

    fn apply(&self, entries: &[Committed]) -> Result<Vec<Bytes>, MachineError> {
        let mut guard = self.inner.lock();
        let inner = &mut *guard;
        for entry in entries {
            let segments = entry.payload.segments();
            inner
                .machine
                .apply_entry(
                    entry.index,
                    segments,
                    &mut inner.effects,
                    &mut inner.outcomes,
                )
                .map_err(|error| {
                    MachineError::new(format!(
                        "entry {} of shard {} cannot be applied: {error}; the log is damaged",
                        entry.index, self.shard
                    ))
                })?;
        }
        let held = inner.machine.unstored_bytes() as u64;
        self.held.store(held, Ordering::Relaxed);
        let outcomes = std::mem::take(&mut inner.outcomes);
        if let Some(dispatcher) = &mut inner.dispatcher {
            dispatcher.effects(
                inner.clock.now_ms(),
                &inner.effects,
                &inner.machine,
                &mut inner.outbox,
            );
            inner.died.note(&inner.effects);
            inner.watch.note(&inner.effects);
            inner.effects.clear();
            drop(guard);
            let _ = self.inbox.send(HostInput::Applied { outcomes });
        } else {
            inner.effects.clear();
        }
        Ok(vec![Bytes::new(); entries.len()])
    }

    fn held_bytes(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    fn begin_checkpoint(&self) -> Result<CheckpointJob, MachineError> {
        let me = self.me()?;
        let delta = self.inner.lock().machine.begin_checkpoint();
        Ok(Box::new(move |applied| persist::write(&me, delta, applied)))
    }

    fn snapshot_view(&self) -> Result<Box<dyn SnapshotReader>, MachineError> {
        persist::view(&self.state, self.shard)
    }

    fn snapshot_sink(&self) -> Result<Box<dyn SnapshotWriter>, MachineError> {
        Ok(Box::new(InstallSink::begin(self.me()?)?))
    }
}
