//! openraft's own tests of storages, over the log in memory and the one on disk.

use super::{SimDisk, SimMachine};
use crate::group::dirt::{Dirt, Share};
use crate::log::{GroupLog, RaftLog, TailBudget};
use crate::machine_adapter::{MachineAdapter, MachineState};
use crate::raft::Types;
use crate::types::GroupId;
use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use std::sync::Arc;
use storage::{LogBackend, LogOptions, LogStore, MemoryLog};
use tempfile::TempDir;

struct Builder {
    disk: bool,
    /// Small, so that reads have to go to the store.
    tail: usize,
}

fn build(backend: Arc<dyn LogBackend>, tail: usize) -> (RaftLog, MachineAdapter) {
    let log = GroupLog::open(GroupId(3), backend, TailBudget::new(tail, tail), 1 << 20).unwrap();
    let state = MachineState::new(
        SimMachine::new(Arc::<SimDisk>::default()),
        Arc::new(Dirt::new(Share {
            log: 1 << 20,
            held: 1 << 20,
        })),
    )
    .unwrap();
    let (adapter, _gone) = MachineAdapter::new(state, Arc::clone(&log));
    (RaftLog(log), adapter)
}

impl StoreBuilder<Types, RaftLog, MachineAdapter, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, RaftLog, MachineAdapter), StorageError<Types>> {
        let dir = tempfile::tempdir().unwrap();
        let backend: Arc<dyn LogBackend> = if self.disk {
            Arc::new(LogStore::open(dir.path(), LogOptions::default()).unwrap())
        } else {
            Arc::new(MemoryLog::new())
        };
        let (log, machine) = build(backend, self.tail);
        Ok((dir, log, machine))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn log_in_memory() {
    Suite::test_all(Builder {
        disk: false,
        tail: 1 << 20,
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn log_in_memory_read_from_the_store() {
    Suite::test_all(Builder {
        disk: false,
        tail: 1,
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn log_on_disk() {
    Suite::test_all(Builder {
        disk: true,
        tail: 1 << 20,
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn log_on_disk_read_from_the_store() {
    Suite::test_all(Builder {
        disk: true,
        tail: 1,
    })
    .await
    .unwrap();
}
