//! Receiving a snapshot: into the store first, then into a group whose core is stopped.
//!
//! openraft can install a snapshot into a running core, but may then apply entries that it has
//! just purged, and panics (openraft issue 2116). Here the core is stopped, machine and log are
//! set to the snapshot, and a new core starts from them as after a restart of the process. The
//! order of the steps leaves a state that a start accepts wherever a crash may fall:
//!
//! 1. entries that contradict the snapshot are cut off, down to what is applied;
//! 2. the machine switches to the snapshot, durably and atomically;
//! 3. the log forgets what lies before the snapshot (a start does the same if it finds the machine
//!    ahead of the log).
//!
//! The steps are a task of their own: whoever sends the snapshot may go away at any moment, and a group
//! whose core was stopped must get another. Of several snapshots that arrive at a time the last one to
//! begin counts: an earlier sender may be a leader no more, and not know.

use super::core::GroupCore;
use crate::machine::{MachineError, SnapshotWriter};
use crate::raft::{AppendRequest, Applied, LogId, Vote, vote_from_wire, vote_to_wire};
use cluster_proto::v1;
use futures::{Stream, StreamExt};
use openraft::raft::AppendEntriesResponse;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;

/// How long a member that could not store a snapshot takes no other: it is sent again at once, and its disk may be full.
const NOT_AGAIN_FOR: Duration = Duration::from_secs(10);
/// The sender must not pause longer than this between two parts.
const PART_WITHIN: Duration = Duration::from_secs(15);

type Part = Result<v1::SnapshotPart, String>;

impl GroupCore {
    /// Receives and installs what follows `head`.
    pub(crate) async fn receive_snapshot(
        self: &Arc<Self>,
        head: v1::SnapshotHead,
        parts: impl Stream<Item = Part> + Send + Unpin,
    ) -> Result<v1::SnapshotAnswer, String> {
        let vote = head.vote.as_ref().ok_or("snapshot without a vote")?;
        let applied = head
            .applied
            .as_ref()
            .and_then(Applied::from_wire)
            .ok_or("snapshot without a position")?;
        let last = applied.last.ok_or("snapshot of nothing")?;
        if let Some(higher) = self.accept_leader(vote_from_wire(vote)).await? {
            return Ok(answer(Some(higher)));
        }
        if self.has(last.index) {
            return Ok(answer(self.log().vote()));
        }
        if let Some((at, reason)) = &*self.snapshot_failed.lock()
            && at.elapsed() < NOT_AGAIN_FOR
        {
            return Err(format!(
                "a snapshot could not be stored a moment ago: {reason}"
            ));
        }
        tracing::info!(group = %self.id(), at = %last, "receiving a snapshot");
        let turn = self.snapshots_begun.fetch_add(1, Ordering::AcqRel) + 1;
        let held = self.write_parts(turn, parts).await?;
        let this = Arc::clone(self);
        tokio::spawn(async move { this.switch_to(turn, held, applied, last).await })
            .await
            .map_err(|_| "the installation of a snapshot was interrupted".to_owned())?
    }

    /// Installs what was received, whatever becomes of its sender.
    async fn switch_to(
        self: Arc<Self>,
        turn: u64,
        held: Held,
        applied: Applied,
        last: LogId,
    ) -> Result<v1::SnapshotAnswer, String> {
        let _life = self.life.lock().await;
        if self.is_stopped() {
            return Err("group stopped".to_owned());
        }
        if self.has(last.index) {
            return Ok(answer(self.log().vote()));
        }
        self.is_current(turn)?;
        if let Err(error) = self.install(held, applied).await {
            let reason = format!("a snapshot at {last} could not be installed: {error}");
            self.abort(&reason);
            return Err(reason);
        }
        tracing::info!(group = %self.id(), at = %last, "installed a snapshot");
        Ok(answer(self.log().vote()))
    }

    /// An error if another snapshot has begun to arrive since `turn`.
    fn is_current(&self, turn: u64) -> Result<(), String> {
        if self.snapshots_begun.load(Ordering::Acquire) == turn {
            Ok(())
        } else {
            Err("another snapshot has begun to arrive".to_owned())
        }
    }

    /// Follows the sender if its vote is current; else returns the higher vote.
    async fn accept_leader(&self, vote: Vote) -> Result<Option<Vote>, String> {
        let raft = self.raft().ok_or("group is restarting")?;
        let nothing = AppendRequest {
            vote,
            prev_log_id: None,
            entries: Vec::new(),
            leader_commit: None,
        };
        match raft.append_entries(nothing).await {
            Ok(AppendEntriesResponse::HigherVote(higher)) => Ok(Some(higher)),
            Ok(_) => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }

    fn has(&self, index: u64) -> bool {
        self.state()
            .last_applied()
            .is_some_and(|applied| applied.index >= index)
    }

    async fn write_parts(
        &self,
        turn: u64,
        mut parts: impl Stream<Item = Part> + Send + Unpin,
    ) -> Result<Held, String> {
        use v1::snapshot_part::Part;
        let machine = Arc::clone(self.state().machine());
        let mut held = Held(Some(blocking(move || machine.snapshot_sink()).await?));
        let mut received = 0_u64;
        loop {
            let part = tokio::time::timeout(PART_WITHIN, parts.next())
                .await
                .map_err(|_| "the sender of the snapshot fell silent")?
                .ok_or("the snapshot ended early")??;
            self.is_current(turn)?;
            match part.part {
                Some(Part::Chunk(chunk)) => {
                    if crc32c::crc32c(&chunk.data) != chunk.crc32c {
                        return Err("a chunk of the snapshot was damaged on its way".to_owned());
                    }
                    received += 1;
                    let mut writer = held.take()?;
                    let writer = blocking(move || {
                        writer.write(chunk.data)?;
                        Ok(writer)
                    });
                    held.0 = Some(
                        writer
                            .await
                            .inspect_err(|reason| self.cannot_store(reason))?,
                    );
                }
                Some(Part::End(end)) if end.chunks == received => return Ok(held),
                Some(Part::End(_)) => return Err("chunks of the snapshot are missing".to_owned()),
                Some(Part::Head(_)) | None => return Err("malformed snapshot".to_owned()),
            }
        }
    }

    fn cannot_store(&self, reason: &str) {
        tracing::warn!(group = %self.id(), reason, "a snapshot of this group cannot be stored: this node stays behind until it can");
        *self.snapshot_failed.lock() = Some((Instant::now(), reason.to_owned()));
    }

    /// The steps of the module's description; `life` is held.
    async fn install(self: &Arc<Self>, mut held: Held, applied: Applied) -> Result<(), String> {
        self.stop_core().await?;
        let log = self.log();
        let text = |error: std::io::Error| error.to_string();
        let last = applied.last.ok_or("snapshot of nothing")?;
        let continues = log.position_at(last.index).await.map_err(text)? == Some(last);
        if !continues {
            log.cut_for_snapshot(self.state().applied().last)
                .await
                .map_err(text)?;
        }
        let writer = held.take()?;
        self.state().install(writer, applied).await.map_err(text)?;
        if !continues {
            log.purge_for_snapshot(last).await.map_err(text)?;
        }
        self.start_core().await.map_err(|error| error.to_string())
    }
}

/// What is being written, and is thrown away on a thread that may wait for the disk.
struct Held(Option<Box<dyn SnapshotWriter>>);

impl Held {
    fn take(&mut self) -> Result<Box<dyn SnapshotWriter>, String> {
        self.0
            .take()
            .ok_or_else(|| "the snapshot was taken away".to_owned())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let Some(writer) = self.0.take() else {
            return;
        };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn_blocking(move || drop(writer));
        }
    }
}

fn answer(vote: Option<Vote>) -> v1::SnapshotAnswer {
    v1::SnapshotAnswer {
        vote: vote.as_ref().map(vote_to_wire),
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, MachineError> + Send + 'static,
) -> Result<T, String> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| "a storage task was interrupted".to_owned())?
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::log_id;
    use crate::sim::{SimCluster, SimOptions};
    use bytes::Bytes;
    use std::sync::mpsc::{Sender, channel};
    use std::thread::ThreadId;

    /// Tells the thread on which it is thrown away.
    struct Probe(Sender<ThreadId>);

    impl SnapshotWriter for Probe {
        fn write(&mut self, _: Bytes) -> Result<(), MachineError> {
            Ok(())
        }

        fn finish(self: Box<Self>, _: Bytes) -> Result<(), MachineError> {
            Err(MachineError::new("not to be installed"))
        }
    }

    impl Drop for Probe {
        fn drop(&mut self) {
            let _ = self.0.send(std::thread::current().id());
        }
    }

    #[tokio::test]
    async fn a_snapshot_that_is_not_wanted_any_more_is_thrown_away_elsewhere() {
        let cluster = SimCluster::start(23, SimOptions::default()).await;
        cluster.put(0).await;
        cluster.converged(1).await;
        let core = &cluster.group(1).0;
        let (tell, told) = channel();
        let switch = |turn: u64, index: u64| {
            let held = Held(Some(Box::new(Probe(tell.clone()))));
            let last = log_id(1, index);
            Arc::clone(core).switch_to(turn, held, Applied::default(), last)
        };
        // It is applied already; another one has begun to arrive; the group is stopped.
        switch(0, 0).await.unwrap();
        switch(7, 1000).await.unwrap_err();
        core.shutdown().await;
        switch(0, 1000).await.unwrap_err();
        let here = std::thread::current().id();
        for _ in 0..3 {
            let on = told.recv_timeout(Duration::from_secs(10));
            assert_ne!(
                on.unwrap(),
                here,
                "the async worker would have waited for the disk"
            );
        }
    }
}
