//! This node's copy of the catalog, driven by the catalog's Raft group.

use crate::metrics::Metrics;
use broker_model::catalog::{Catalog, CatalogEntry, CatalogEvent};
use broker_model::ids::NodeId;
use bytes::Bytes;
use consensus::{
    CheckpointJob, Committed, GroupId, Identity, Machine, MachineError, SnapshotReader,
    SnapshotWriter,
};
use parking_lot::{RwLock, RwLockReadGuard};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use storage::StateStore;
use tokio::sync::mpsc;

/// Name of the stored snapshot.
const SNAPSHOT: &str = "catalog";

/// The catalog as applied here.
pub struct CatalogMachine {
    catalog: RwLock<Catalog>,
    /// Follows [`Catalog::version`], readable without the lock.
    version: AtomicU64,
    events: mpsc::UnboundedSender<Vec<CatalogEvent>>,
    state: Arc<StateStore>,
    restored: Option<Bytes>,
    metrics: Arc<Metrics>,
    /// Itself, for what outlives a call.
    me: Weak<Self>,
}

impl CatalogMachine {
    /// Loads the last checkpoint. What changes is told through `events`.
    ///
    /// # Errors
    /// When the stored catalog cannot be read.
    pub fn load(
        state: Arc<StateStore>,
        events: mpsc::UnboundedSender<Vec<CatalogEvent>>,
        metrics: Arc<Metrics>,
    ) -> Result<Arc<Self>, MachineError> {
        let stored = state
            .get_blob(GroupId::CATALOG.0, SNAPSHOT)
            .map_err(|error| MachineError::new(error.to_string()))?;
        let (catalog, restored) = match stored {
            Some(mut chunks) if !chunks.is_empty() => {
                let applied = chunks.remove(0);
                (decode(&chunks)?, Some(applied))
            }
            _ => (Catalog::new(), None),
        };
        let version = AtomicU64::new(catalog.version());
        Ok(Arc::new_cyclic(|me| Self {
            catalog: RwLock::new(catalog),
            version,
            events,
            state,
            restored,
            metrics,
            me: Weak::clone(me),
        }))
    }

    /// The catalog, for reading. Hold it briefly: the writer waits.
    pub fn read(&self) -> RwLockReadGuard<'_, Catalog> {
        self.catalog.read()
    }

    /// Changes whenever the catalog does.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }
}

fn decode(chunks: &[Bytes]) -> Result<Catalog, MachineError> {
    Catalog::decode_snapshot(chunks)
        .map_err(|error| MachineError::new(format!("the stored catalog cannot be read: {error}")))
}

impl Machine for CatalogMachine {
    fn restored(&self) -> Option<Bytes> {
        self.restored.clone()
    }

    fn generation_of(&self, node: u64) -> Option<u64> {
        let latest = self.catalog.read().latest_start(NodeId(node));
        (latest > 0).then_some(Identity::generation_of(latest))
    }

    fn apply(&self, entries: &[Committed]) -> Result<Vec<Bytes>, MachineError> {
        let mut replies = Vec::with_capacity(entries.len());
        let mut events = Vec::new();
        {
            let mut catalog = self.catalog.write();
            for entry in entries {
                let bytes = entry
                    .payload
                    .segments()
                    .first()
                    .cloned()
                    .unwrap_or_default();
                let decoded = CatalogEntry::decode(bytes).map_err(|error| {
                    MachineError::new(format!(
                        "catalog entry {} cannot be read: {error}",
                        entry.index
                    ))
                })?;
                let answers = catalog.apply(entry.index, &decoded, &mut events);
                replies.push(broker_model::catalog::encode_replies(&answers));
            }
            self.version.store(catalog.version(), Ordering::Release);
            self.metrics.catalog_objects(&catalog);
            if !events.is_empty() {
                // Inside the lock, so that events of consecutive calls stay in order.
                let _ = self.events.send(events);
            }
        }
        Ok(replies)
    }

    fn begin_checkpoint(&self) -> Result<CheckpointJob, MachineError> {
        let chunks = self.catalog.read().encode_snapshot();
        let state = Arc::clone(&self.state);
        Ok(Box::new(move |applied| {
            let mut all = Vec::with_capacity(chunks.len() + 1);
            all.push(applied);
            all.extend(chunks);
            state
                .put_blob(GroupId::CATALOG.0, SNAPSHOT, &all)
                .map_err(|error| MachineError::new(error.to_string()))
        }))
    }

    fn snapshot_view(&self) -> Result<Box<dyn SnapshotReader>, MachineError> {
        let mut chunks = self
            .state
            .get_blob(GroupId::CATALOG.0, SNAPSHOT)
            .map_err(|error| MachineError::new(error.to_string()))?
            .unwrap_or_default();
        if chunks.is_empty() {
            return Err(MachineError::new(
                "there is no checkpoint of the catalog yet",
            ));
        }
        let applied = chunks.remove(0);
        Ok(Box::new(View {
            applied,
            chunks: chunks.into_iter(),
        }))
    }

    fn snapshot_sink(&self) -> Result<Box<dyn SnapshotWriter>, MachineError> {
        let machine = self
            .me
            .upgrade()
            .ok_or_else(|| MachineError::new("the node is stopping"))?;
        Ok(Box::new(Sink {
            machine,
            chunks: Vec::new(),
        }))
    }
}

struct View {
    applied: Bytes,
    chunks: std::vec::IntoIter<Bytes>,
}

impl SnapshotReader for View {
    fn applied(&self) -> Bytes {
        self.applied.clone()
    }

    fn next_chunk(&mut self) -> Result<Option<Bytes>, MachineError> {
        Ok(self.chunks.next())
    }
}

struct Sink {
    machine: Arc<CatalogMachine>,
    chunks: Vec<Bytes>,
}

impl SnapshotWriter for Sink {
    fn write(&mut self, chunk: Bytes) -> Result<(), MachineError> {
        self.chunks.push(chunk);
        Ok(())
    }

    fn finish(self: Box<Self>, applied: Bytes) -> Result<(), MachineError> {
        let received = decode(&self.chunks)?;
        let mut all = vec![applied];
        all.extend(self.chunks);
        let machine = &self.machine;
        machine
            .state
            .put_blob(GroupId::CATALOG.0, SNAPSHOT, &all)
            .map_err(|error| MachineError::new(error.to_string()))?;
        let mut catalog = machine.catalog.write();
        let mut events = Vec::new();
        received.events_since(&catalog, &mut events);
        *catalog = received;
        machine.version.store(catalog.version(), Ordering::Release);
        machine.metrics.catalog_objects(&catalog);
        if !events.is_empty() {
            let _ = machine.events.send(events);
        }
        Ok(())
    }
}
