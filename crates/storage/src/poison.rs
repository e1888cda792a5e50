//! The refusal to go on after a failed write.

use crate::error::StorageError;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Called once with the failure.
pub(crate) type Watcher = Box<dyn FnOnce(StorageError) + Send>;

#[derive(Default)]
struct State {
    failure: Option<StorageError>,
    watchers: Vec<Watcher>,
}

/// Whether a store has failed. Once it has, it stays so until the process restarts.
#[derive(Default)]
pub(crate) struct Poison {
    state: Mutex<State>,
}

impl Poison {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses if the store has failed.
    pub(crate) fn check(&self) -> Result<(), StorageError> {
        self.failure().map_or(Ok(()), Err)
    }

    pub(crate) fn failure(&self) -> Option<StorageError> {
        self.lock().failure.clone()
    }

    /// Notes a failure and tells the watchers; returns the first failure.
    pub(crate) fn fail(&self, failure: StorageError) -> StorageError {
        let (error, watchers) = {
            let mut state = self.lock();
            let error = state.failure.get_or_insert(failure).clone();
            (error, std::mem::take(&mut state.watchers))
        };
        for watcher in watchers {
            watcher(error.clone());
        }
        error
    }

    /// Calls `watcher` at the failure, at once if it has happened.
    pub(crate) fn watch(&self, watcher: Watcher) {
        let mut state = self.lock();
        match state.failure.clone() {
            Some(error) => {
                drop(state);
                watcher(error);
            }
            None => state.watchers.push(watcher),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn the_first_failure_stays_and_everybody_hears_of_it_once() {
        let poison = Poison::default();
        let heard = Arc::new(AtomicUsize::new(0));
        let watcher = || -> Watcher {
            let heard = Arc::clone(&heard);
            Box::new(move |_| {
                heard.fetch_add(1, Ordering::SeqCst);
            })
        };
        poison.watch(watcher());
        assert!(poison.check().is_ok());
        let first = poison.fail(StorageError::write("first".to_owned()));
        assert_eq!(poison.fail(StorageError::write("second".to_owned())), first);
        poison.watch(watcher());
        assert_eq!(heard.load(Ordering::SeqCst), 2);
        assert_eq!(poison.check(), Err(first));
    }
}
