//! What callers and the writer share: queued writes, and the views that include them.

use super::backend::Done;
use super::entry::LogEntry;
use super::view::View;
use crate::error::StorageError;
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// A write, as the writer is to do it.
pub(crate) enum Command {
    Append {
        group: u32,
        first: u64,
        entries: Arc<Vec<LogEntry>>,
    },
    Vote {
        group: u32,
        vote: Bytes,
    },
    Truncate {
        group: u32,
        after: Option<u64>,
    },
    Purge {
        group: u32,
        upto: u64,
        meta: Bytes,
    },
    Remove {
        group: u32,
    },
    /// Changes nothing; reports when everything before it is on disk.
    Nothing,
}

/// A queued write.
pub(crate) struct Item {
    pub(crate) ticket: u64,
    pub(crate) bytes: usize,
    pub(crate) command: Command,
    pub(crate) done: Done,
}

/// Everything behind the lock.
#[derive(Default)]
pub(crate) struct Queue {
    pub(crate) items: VecDeque<Item>,
    pub(crate) views: BTreeMap<u32, View>,
    /// Committed positions to be written along with the next write; the newest per group.
    pub(crate) committed: BTreeMap<u32, Bytes>,
    pub(crate) closing: bool,
    pub(crate) failure: Option<StorageError>,
    pub(crate) watchers: Vec<Box<dyn FnOnce(StorageError) + Send>>,
    /// When the writer took the batch that it is at, and its bytes.
    pub(crate) under_way: Option<(Instant, usize)>,
    last_ticket: u64,
}

impl Queue {
    pub(crate) fn next_ticket(&mut self) -> u64 {
        self.last_ticket += 1;
        self.last_ticket
    }

    pub(crate) fn view(&mut self, group: u32) -> &mut View {
        self.views.entry(group).or_default()
    }
}

/// The lock and the writer's bell.
#[derive(Default)]
pub(crate) struct Shared {
    queue: Mutex<Queue>,
    bell: Condvar,
}

/// Writes that go into one batch.
pub(crate) struct Taken {
    pub(crate) items: Vec<Item>,
    pub(crate) committed: BTreeMap<u32, Bytes>,
    pub(crate) bytes: usize,
}

impl Shared {
    pub(crate) fn new(queue: Queue) -> Self {
        Self {
            queue: Mutex::new(queue),
            bell: Condvar::new(),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing panics while it holds the lock halfway through a change.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a write and wakes the writer.
    pub(crate) fn push(&self, mut queue: MutexGuard<'_, Queue>, item: Item) {
        queue.items.push_back(item);
        let first = queue.items.len() == 1;
        drop(queue);
        // A writer that finds more than one item was rung for the first of them.
        if first {
            self.bell.notify_one();
        }
    }

    pub(crate) fn close(&self) {
        self.lock().closing = true;
        self.bell.notify_one();
    }

    /// Waits for writes and takes those that fit one batch; `None` when the store closes and
    /// nothing is queued any more.
    pub(crate) fn take(&self, max_bytes: usize) -> Option<Taken> {
        let mut queue = self.lock();
        queue.under_way = None;
        while queue.items.is_empty() {
            if queue.closing {
                return None;
            }
            queue = self
                .bell
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
        }
        let mut taken = Taken {
            items: Vec::with_capacity(queue.items.len()),
            committed: std::mem::take(&mut queue.committed),
            bytes: 0,
        };
        while let Some(item) = queue.items.pop_front() {
            if !taken.items.is_empty() && taken.bytes + item.bytes > max_bytes {
                queue.items.push_front(item);
                break;
            }
            taken.bytes += item.bytes;
            taken.items.push(item);
        }
        queue.under_way = Some((Instant::now(), taken.bytes));
        Some(taken)
    }
}
