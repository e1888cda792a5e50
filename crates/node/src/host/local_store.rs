//! The store of what local queues have on disk: made when it is needed, worth nothing to the next process.

use super::persist::Shelf;
use broker_model::ids::ShardId;
use parking_lot::Mutex;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use storage::{Reserve, StateOptions, StateStore, StorageError};
use tracing::warn;

/// All local queues, in a store that holds nothing else.
pub(super) const LOCAL: ShardId = ShardId(0);
/// How much of local queues stays in memory, and where the rest goes.
#[derive(Debug, Clone)]
pub struct LocalStoreOptions {
    /// Directory for what does not stay. Nothing else may be in it: it is removed.
    pub dir: PathBuf,
    /// Bytes of messages that stay in memory, about.
    pub memory_bytes: usize,
    /// The store's own memory, and the free space that it leaves alone.
    pub store: StateOptions,
}

/// The store, which is opened when it is first needed.
pub struct LocalStore {
    options: LocalStoreOptions,
    store: Mutex<Option<Arc<StateStore>>>,
}

impl LocalStore {
    /// A store that is not open yet.
    #[must_use]
    pub fn new(options: LocalStoreOptions) -> Self {
        Self {
            options,
            store: Mutex::new(None),
        }
    }

    /// Bytes of messages that stay in memory, about.
    pub(super) fn memory_bytes(&self) -> usize {
        self.options.memory_bytes
    }

    /// Where it lies.
    pub(super) fn dir(&self) -> &Path {
        &self.options.dir
    }

    /// As [`StateStore::give_back_space`], if it is open. Blocks.
    ///
    /// # Errors
    /// The store has failed, now or before.
    pub(crate) fn give_back_space(&self, thorough: bool) -> Result<(), StorageError> {
        let store = self.store.lock().clone();
        store.map_or(Ok(()), |store| store.give_back_space(thorough))
    }

    /// Opens it, empty, unless it is open. Blocks.
    pub(super) fn open(&self) -> Result<Arc<StateStore>, StorageError> {
        let mut store = self.store.lock();
        if let Some(store) = &*store {
            return Ok(Arc::clone(store));
        }
        self.remove().map_err(|error| {
            let dir = self.options.dir.display();
            StorageError::Read(format!("{dir} cannot be removed: {error}"))
        })?;
        let opened = StateStore::open(&self.options.dir, self.options.store.clone())?;
        Ok(Arc::clone(store.insert(Arc::new(opened))))
    }

    /// What is in it, if it is open. While it is being opened there is nothing.
    pub(super) fn shelf(&self) -> Option<Shelf> {
        let store = self.store.try_lock()?.clone()?;
        Some(Shelf {
            store,
            shard: LOCAL,
        })
    }

    /// Removes what an earlier process has left, unless this one uses it.
    pub(super) fn clear(&self) {
        let store = self.store.lock();
        if store.is_some() {
            return;
        }
        if let Err(error) = self.remove() {
            let dir = self.options.dir.display();
            warn!(%error, %dir, "what is left of an earlier start's local queues cannot be removed");
        }
    }

    fn remove(&self) -> io::Result<()> {
        match std::fs::remove_dir_all(&self.options.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Whether there is room on the disk for so many bytes, beside what the store may hold back in memory.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        let store = &self.options.store;
        let needed = 2 * store.write_buffer_bytes as u64 + bytes as u64;
        let Some(parent) = self.options.dir.parent() else {
            return false;
        };
        Reserve::new(parent.to_owned(), store.reserve_bytes + needed)
            .check()
            .is_ok()
    }
}
