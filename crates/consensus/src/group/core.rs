//! The life of a group's Raft core: start, stop, restart, and what becomes of a failed one.

use super::contact::Contact;
use super::dirt::{Dirt, Share};
use super::heartbeat::LastBeat;
use super::leadership::supervise;
use super::recency::Recency;
use crate::config::{CheckpointPolicy, Limits, Timing};
use crate::consensus::AbortHook;
use crate::error::StartError;
use crate::lateness::Pulse;
use crate::log::{GroupLog, RaftLog, TailBudget};
use crate::machine::Machine;
use crate::machine_adapter::{MachineAdapter, MachineState};
use crate::raft::{Types, Vote};
use crate::raft_net::{RaftNet, RaftNetFactory};
use crate::stats::LatencyHistogram;
use crate::types::{GroupId, Leadership, RaftNode};
use crate::wire::Wire;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;
use storage::LogBackend;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

pub(crate) type Raft = openraft::Raft<Types, MachineAdapter>;

/// No leader has said what may be purged.
const NOT_TOLD: u64 = u64::MAX;
/// A core that does not stop within this time will not stop at all.
const STOP_WITHIN: Duration = Duration::from_secs(20);

/// What all groups of a node share.
pub(crate) struct GroupEnvironment {
    pub(crate) wire: Arc<dyn Wire>,
    pub(crate) log: Arc<dyn LogBackend>,
    pub(crate) budget: Arc<TailBudget>,
    pub(crate) raft: Arc<openraft::Config>,
    pub(crate) timing: Timing,
    pub(crate) limits: Limits,
    pub(crate) checkpoint: CheckpointPolicy,
    pub(crate) dirt: Arc<Dirt>,
    pub(crate) abort: AbortHook,
    /// Whether this process stood still.
    pub(crate) pulse: Pulse,
    /// Whether the disk has room for more log, see [`crate::Consensus::set_writable`].
    pub(crate) writable: watch::Sender<bool>,
    /// Bytes of entries that may be taken from leaders before the disk is looked at again, see [`crate::Consensus::set_room`].
    pub(crate) room: AtomicI64,
    /// The same for entries of the catalog, which are small: they are taken although there is no room for others, see
    /// [`crate::Consensus::set_catalog_room`].
    pub(crate) catalog_room: AtomicI64,
    /// Whether space on the disk is short, see [`crate::Consensus::set_short_of_space`].
    pub(crate) short: AtomicBool,
    /// Whether this node is about to stop, see [`crate::Consensus::set_stopping`].
    pub(crate) stopping: AtomicBool,
}

impl GroupEnvironment {
    pub(crate) fn new(
        wire: Arc<dyn Wire>,
        log: Arc<dyn LogBackend>,
        timing: Timing,
        limits: Limits,
        checkpoint: CheckpointPolicy,
        abort: AbortHook,
    ) -> Result<Arc<Self>, StartError> {
        Ok(Arc::new(Self {
            wire,
            log,
            budget: TailBudget::new(limits.tail_bytes_per_group, limits.tail_bytes_per_node),
            raft: Arc::new(raft_config(&timing, &limits)?),
            timing,
            limits,
            dirt: Arc::new(Dirt::new(Share {
                log: checkpoint.log_bytes,
                held: checkpoint.held_bytes,
            })),
            checkpoint,
            abort,
            pulse: Pulse::new(),
            writable: watch::Sender::new(true),
            room: AtomicI64::new(i64::MAX),
            catalog_room: AtomicI64::new(i64::MAX),
            short: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
        }))
    }

    pub(crate) fn may_write(&self) -> bool {
        *self.writable.borrow()
    }

    /// Whether entries of so many bytes may be taken from the leader of a group. They count until the disk is looked at again.
    pub(crate) fn has_room_for(&self, group: GroupId, bytes: usize) -> bool {
        let is_catalog = group == GroupId::CATALOG;
        let room = if is_catalog {
            &self.catalog_room
        } else {
            &self.room
        };
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let before = room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |room| {
            (room > 0).then(|| room.saturating_sub(bytes))
        });
        before.is_ok() && (is_catalog || self.may_write())
    }

    pub(crate) fn is_short(&self) -> bool {
        self.short.load(Ordering::Relaxed)
    }
}

fn raft_config(timing: &Timing, limits: &Limits) -> Result<openraft::Config, StartError> {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    openraft::Config {
        cluster_name: "warren".to_owned(),
        // Heartbeats are ours to start (`heartbeat`). What is set here is how long one may take, and, at a
        // fifth of it, how often timers are looked at: each look wakes a task of every group.
        enable_heartbeat: false,
        heartbeat_interval: millis(timing.election_min).saturating_sub(1).max(1),
        heartbeat_min_interval: None,
        election_timeout_min: millis(timing.election_min),
        election_timeout_max: millis(timing.election_max),
        enable_pre_vote: Some(true),
        enable_leader_restore: Some(false),
        // Followers shall get entries before a long pass over queued messages is over.
        broadcast_submitted_on_append: Some(true),
        // Checkpoints and purges are ours to start (`checkpoint`).
        snapshot_policy: openraft::SnapshotPolicy::Never,
        // A disk that has lost what it had acknowledged is given it again, and openraft warns of it; without this
        // its node would be waited for in silence, and the next loss would be one too many.
        allow_log_reversion: Some(true),
        max_in_snapshot_log_to_keep: u64::MAX,
        install_snapshot_timeout: 10_000,
        max_payload_entries: limits.append_entries,
        api_channel_size: Some(8192),
        ..openraft::Config::default()
    }
    .validate()
    .map_err(|error| StartError::Config(error.to_string()))
}

/// A group on this node.
pub(crate) struct GroupCore {
    id: GroupId,
    me: RaftNode,
    environment: Arc<GroupEnvironment>,
    log: Arc<GroupLog>,
    state: Arc<MachineState>,
    net: Arc<RaftNet>,
    running: Mutex<Option<Running>>,
    /// Serializes start, stop and the installation of snapshots.
    pub(super) life: tokio::sync::Mutex<()>,
    /// Counts the snapshots that have begun to arrive.
    pub(super) snapshots_begun: AtomicU64,
    /// When one that was received could not be stored, and why.
    pub(super) snapshot_failed: Mutex<Option<(Instant, String)>>,
    pub(super) leadership: watch::Sender<Leadership>,
    /// The vote of a leader that the core has not come to know yet, because it waits for its disk.
    pub(super) unheeded: watch::Sender<Option<Vote>>,
    pub(super) proposals: Arc<Semaphore>,
    /// Proposals are held off until then, because leadership is being handed to this member.
    pub(super) handing_over: Mutex<Option<(RaftNode, Instant)>>,
    pub(super) latency: Arc<LatencyHistogram>,
    /// What the leader has said may be purged.
    purge_allowed: AtomicU64,
    pub(super) checkpoint_wanted: Notify,
    pub(super) last_beat: Mutex<LastBeat>,
    /// When a leader's heartbeat was taken last.
    heard: Mutex<Option<Instant>>,
    pub(super) recency: Recency,
    pub(super) contact: Contact,
    stopped: AtomicBool,
}

struct Running {
    raft: Raft,
    /// The core is being stopped on purpose.
    expected: Arc<AtomicBool>,
    supervisor: JoinHandle<()>,
}

impl GroupCore {
    /// Reads the group's log and machine; blocking. The core starts with [`start`](Self::start).
    pub(crate) fn open(
        id: GroupId,
        me: RaftNode,
        machine: Arc<dyn Machine>,
        environment: Arc<GroupEnvironment>,
    ) -> Result<Arc<Self>, StartError> {
        let failed = |reason: String| StartError::Group {
            group: id.0,
            reason,
        };
        let log = GroupLog::open(
            id,
            Arc::clone(&environment.log),
            Arc::clone(&environment.budget),
            environment.limits.append_bytes,
        )
        .map_err(|error| failed(error.to_string()))?;
        let state = MachineState::new(machine, Arc::clone(&environment.dirt))
            .map_err(|error| failed(error.to_string()))?;
        if let Some(purged) = log.span().purged
            && state
                .checkpoint()
                .is_none_or(|checkpoint| checkpoint < purged)
        {
            return Err(failed(format!(
                "the log starts after {purged}, but the last checkpoint is older ({:?}): the state store is not the \
                 one that this log belongs to. Restore it, or start with an empty data directory to rejoin",
                state.checkpoint().map(|checkpoint| checkpoint.index)
            )));
        }
        // Before anything is applied it is in the log, or a vote for whoever sent a snapshot is.
        let span = log.span();
        if let Some(checkpoint) = state.checkpoint()
            && (span.last, span.purged, log.vote()) == (None, None, None)
        {
            return Err(failed(format!(
                "the state store has a checkpoint at {}, but the log knows nothing of this group: the log is not the one that \
                 this state belongs to. Restore it, or move the whole data directory away to rejoin as an empty node",
                checkpoint.index
            )));
        }
        let net = Arc::new(RaftNet {
            wire: Arc::clone(&environment.wire),
            group: id,
            append_in_flight: environment.limits.append_in_flight,
            tells_commits: id == GroupId::CATALOG,
            call: environment.timing.call,
            patience: environment.timing.election_min,
            shown: watch::Sender::default(),
            purgeable: Mutex::new(None),
            silent: AtomicBool::new(false),
            ballots: Default::default(),
        });
        Ok(Arc::new(Self {
            id,
            me,
            proposals: Arc::new(Semaphore::new(environment.limits.proposals_in_flight)),
            environment,
            log,
            state,
            net,
            running: Mutex::new(None),
            life: tokio::sync::Mutex::new(()),
            snapshots_begun: AtomicU64::new(0),
            snapshot_failed: Mutex::default(),
            leadership: watch::Sender::new(Leadership::default()),
            unheeded: watch::Sender::new(None),
            handing_over: Mutex::new(None),
            latency: Arc::default(),
            purge_allowed: AtomicU64::new(NOT_TOLD),
            checkpoint_wanted: Notify::new(),
            last_beat: Mutex::new(LastBeat::now()),
            heard: Mutex::new(None),
            recency: Recency::new(),
            contact: Contact::new(),
            stopped: AtomicBool::new(false),
        }))
    }

    pub(crate) fn id(&self) -> GroupId {
        self.id
    }

    pub(crate) fn me(&self) -> RaftNode {
        self.me
    }

    pub(crate) fn environment(&self) -> &GroupEnvironment {
        &self.environment
    }

    pub(crate) fn log(&self) -> &Arc<GroupLog> {
        &self.log
    }

    pub(crate) fn state(&self) -> &Arc<MachineState> {
        &self.state
    }

    pub(crate) fn net(&self) -> &Arc<RaftNet> {
        &self.net
    }

    /// The core, unless it is stopped or restarting.
    pub(crate) fn raft(&self) -> Option<Raft> {
        self.running
            .lock()
            .as_ref()
            .map(|running| running.raft.clone())
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// Starts the core and the group's own tasks.
    pub(crate) async fn start(self: &Arc<Self>) -> Result<(), StartError> {
        let _life = self.life.lock().await;
        self.start_core().await?;
        tokio::spawn(super::checkpoint::run(Arc::clone(self)));
        tokio::spawn(super::watchdog::run(Arc::clone(self)));
        Ok(())
    }

    /// Starts a core over log and machine as they are; `life` is held.
    pub(super) async fn start_core(self: &Arc<Self>) -> Result<(), StartError> {
        let (adapter, gone) = MachineAdapter::new(Arc::clone(&self.state), Arc::clone(&self.log));
        let raft = Raft::new(
            self.me.0,
            Arc::clone(&self.environment.raft),
            RaftNetFactory(Arc::clone(&self.net)),
            RaftLog(Arc::clone(&self.log)),
            adapter,
        )
        .await
        .map_err(|error| StartError::Group {
            group: self.id.0,
            reason: error.to_string(),
        })?;
        let expected = Arc::new(AtomicBool::new(false));
        let supervisor = tokio::spawn(supervise(
            Arc::clone(self),
            raft.clone(),
            gone,
            Arc::clone(&expected),
        ));
        *self.running.lock() = Some(Running {
            raft,
            expected,
            supervisor,
        });
        self.follow_writable();
        Ok(())
    }

    /// A member that has no room for a log does not ask to lead.
    pub(crate) fn follow_writable(&self) {
        if let Some(raft) = self.raft() {
            raft.runtime_config().elect(self.environment.may_write());
        }
    }

    /// Stops the core; `life` is held. On return nothing is applied or logged any more.
    pub(super) async fn stop_core(&self) -> Result<(), String> {
        let Some(running) = self.running.lock().take() else {
            return Ok(());
        };
        running.expected.store(true, Ordering::Release);
        let stop = async {
            let _ = running.raft.shutdown().await;
            drop(running.raft);
            let _ = running.supervisor.await;
        };
        tokio::time::timeout(STOP_WITHIN, stop)
            .await
            .map_err(|_| "the core does not stop".to_owned())
    }

    /// Stops the group for good.
    pub(crate) async fn shutdown(&self) {
        self.stopped.store(true, Ordering::Release);
        self.checkpoint_wanted.notify_one();
        let _life = self.life.lock().await;
        if let Err(error) = self.stop_core().await {
            tracing::warn!(group = %self.id, error, "group did not stop in time");
        }
    }

    /// Ends the process: this group cannot go on, and a node must not serve without it.
    pub(super) fn abort(&self, reason: &str) {
        if !self.stopped.swap(true, Ordering::AcqRel) {
            tracing::error!(group = %self.id, reason, "group failed");
            (self.environment.abort)(&format!("Raft group {} has failed: {reason}", self.id));
        }
    }

    /// Notes a leader of whom the core does not know yet: it has not saved its vote. Whoever looks for the leader finds
    /// it already.
    pub(crate) fn hear_of(&self, vote: &Vote) {
        if vote.committed && self.log.vote().is_none_or(|saved| saved < *vote) {
            self.unheeded.send_if_modified(|known| {
                let newer = known.is_none_or(|known| known < *vote);
                if newer {
                    *known = Some(*vote);
                }
                newer
            });
        }
    }

    /// Notes that a leader's heartbeat was taken.
    pub(crate) fn hear(&self) {
        *self.heard.lock() = Some(Instant::now());
    }

    /// How long no leader's heartbeat was taken; `None`: none ever was.
    pub(super) fn unheard_for(&self) -> Option<Duration> {
        self.heard.lock().map(|at| at.elapsed())
    }

    /// Notes what the leader lets this member purge.
    pub(crate) fn allow_purge(&self, upto: Option<u64>) {
        self.purge_allowed
            .store(upto.unwrap_or(NOT_TOLD), Ordering::Relaxed);
    }

    /// What the leader lets this member purge.
    pub(super) fn purge_allowed(&self) -> Option<u64> {
        Some(self.purge_allowed.load(Ordering::Relaxed)).filter(|upto| *upto != NOT_TOLD)
    }
}
