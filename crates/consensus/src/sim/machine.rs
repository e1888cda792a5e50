//! A machine that remembers the numbers it was given, in order.

use crate::machine::{
    CheckpointJob, Committed, Machine, MachineError, SnapshotReader, SnapshotWriter,
};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Numbers in a snapshot chunk.
const CHUNK: usize = 1000;

/// The state store of a simulated node; it survives crashes.
#[derive(Default)]
pub(crate) struct SimDisk {
    stored: Mutex<Option<(Bytes, Vec<u64>)>>,
    /// Held while a test keeps snapshots from being installed.
    pub(crate) gate: Arc<Mutex<()>>,
    /// Held while a test keeps checkpoints from being written.
    pub(crate) checkpoint_gate: Arc<Mutex<()>>,
    /// Checkpoints whose writing has begun.
    pub(crate) checkpointing: AtomicU64,
    /// Snapshots whose installation has begun.
    pub(crate) installing: AtomicU64,
    /// Views of the last checkpoint that were taken.
    pub(crate) views: AtomicU64,
}

impl SimDisk {
    /// Another disk with the same content.
    pub(crate) fn copy(&self) -> Self {
        Self {
            stored: Mutex::new(self.stored.lock().clone()),
            ..Self::default()
        }
    }
}

pub(crate) struct SimMachine {
    disk: Arc<SimDisk>,
    numbers: Arc<Mutex<Vec<u64>>>,
    /// Milliseconds that each `apply` takes.
    pub(crate) slow_ms: AtomicU64,
}

impl SimMachine {
    pub(crate) fn new(disk: Arc<SimDisk>) -> Arc<Self> {
        let numbers = disk
            .stored
            .lock()
            .as_ref()
            .map(|(_, numbers)| numbers.clone());
        Arc::new(Self {
            disk,
            numbers: Arc::new(Mutex::new(numbers.unwrap_or_default())),
            slow_ms: AtomicU64::new(0),
        })
    }

    pub(crate) fn numbers(&self) -> Vec<u64> {
        self.numbers.lock().clone()
    }
}

impl Machine for SimMachine {
    fn restored(&self) -> Option<Bytes> {
        self.disk
            .stored
            .lock()
            .as_ref()
            .map(|(applied, _)| applied.clone())
    }

    fn apply(&self, entries: &[Committed]) -> Result<Vec<Bytes>, MachineError> {
        let slow = self.slow_ms.load(Ordering::Relaxed);
        if slow > 0 {
            std::thread::sleep(Duration::from_millis(slow));
        }
        let mut numbers = self.numbers.lock();
        let mut replies = Vec::with_capacity(entries.len());
        for entry in entries {
            let mut first = entry
                .payload
                .segments()
                .first()
                .cloned()
                .unwrap_or_default();
            let number = first
                .try_get_u64()
                .map_err(|_| MachineError::new("not a number"))?;
            numbers.push(number);
            replies.push(Bytes::copy_from_slice(
                &(numbers.len() as u64).to_be_bytes(),
            ));
        }
        Ok(replies)
    }

    fn begin_checkpoint(&self) -> Result<CheckpointJob, MachineError> {
        let numbers = self.numbers();
        let disk = Arc::clone(&self.disk);
        Ok(Box::new(move |applied| {
            disk.checkpointing.fetch_add(1, Ordering::Relaxed);
            let _gate = disk.checkpoint_gate.lock();
            *disk.stored.lock() = Some((applied, numbers));
            Ok(())
        }))
    }

    fn snapshot_view(&self) -> Result<Box<dyn SnapshotReader>, MachineError> {
        self.disk.views.fetch_add(1, Ordering::Relaxed);
        let stored = self.disk.stored.lock().clone();
        let (applied, numbers) = stored.ok_or_else(|| MachineError::new("no checkpoint"))?;
        Ok(Box::new(View {
            applied,
            numbers,
            next: 0,
        }))
    }

    fn snapshot_sink(&self) -> Result<Box<dyn SnapshotWriter>, MachineError> {
        Ok(Box::new(Sink {
            disk: Arc::clone(&self.disk),
            numbers: Arc::clone(&self.numbers),
            received: Vec::new(),
        }))
    }
}

struct View {
    applied: Bytes,
    numbers: Vec<u64>,
    next: usize,
}

impl SnapshotReader for View {
    fn applied(&self) -> Bytes {
        self.applied.clone()
    }

    fn next_chunk(&mut self) -> Result<Option<Bytes>, MachineError> {
        let mut chunk = BytesMut::new();
        for number in self.numbers.iter().skip(self.next).take(CHUNK) {
            chunk.put_u64(*number);
        }
        self.next += CHUNK;
        Ok((!chunk.is_empty()).then(|| chunk.freeze()))
    }
}

struct Sink {
    disk: Arc<SimDisk>,
    numbers: Arc<Mutex<Vec<u64>>>,
    received: Vec<u64>,
}

impl SnapshotWriter for Sink {
    fn write(&mut self, mut chunk: Bytes) -> Result<(), MachineError> {
        while chunk.has_remaining() {
            let number = chunk
                .try_get_u64()
                .map_err(|_| MachineError::new("torn chunk"))?;
            self.received.push(number);
        }
        Ok(())
    }

    fn finish(self: Box<Self>, applied: Bytes) -> Result<(), MachineError> {
        self.disk.installing.fetch_add(1, Ordering::Relaxed);
        let _gate = self.disk.gate.lock();
        *self.disk.stored.lock() = Some((applied, self.received.clone()));
        *self.numbers.lock() = self.received;
        Ok(())
    }
}
