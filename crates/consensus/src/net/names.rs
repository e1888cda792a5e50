//! Names of nodes, and what they were last resolved to.
//!
//! A connection between two nodes may break while nobody resolves names (a cluster's name server often runs on the machines that
//! fail). Then the addresses count that the name had when it was resolved last: most likely the node is still there, and who it is
//! is proven by whoever answers.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::time::timeout;

/// A name that was resolved before is waited for so long.
const PATIENCE: Duration = Duration::from_millis(500);
/// Names that are remembered; a node asks for a few.
const NAMES_MAX: usize = 1024;

/// What names were resolved to last.
#[derive(Debug, Default)]
pub(super) struct Names(Mutex<Option<HashMap<String, Vec<SocketAddr>>>>);

impl Names {
    pub(super) const fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// The addresses of `name`, which `resolving` finds out.
    pub(super) async fn resolve(
        &self,
        name: &str,
        resolving: impl Future<Output = io::Result<Vec<SocketAddr>>>,
    ) -> io::Result<Vec<SocketAddr>> {
        let known = self
            .0
            .lock()
            .as_ref()
            .and_then(|names| names.get(name).cloned());
        let resolved = match &known {
            None => resolving.await,
            Some(_) => timeout(PATIENCE, resolving)
                .await
                .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())),
        };
        match (resolved, known) {
            (Ok(addresses), _) => {
                self.keep(name, &addresses);
                Ok(addresses)
            }
            (Err(_), Some(known)) => Ok(known),
            (Err(error), None) => Err(error),
        }
    }

    fn keep(&self, name: &str, addresses: &[SocketAddr]) {
        let mut names = self.0.lock();
        let names = names.get_or_insert_default();
        if names.len() >= NAMES_MAX && !names.contains_key(name) {
            names.clear();
        }
        names.insert(name.to_owned(), addresses.to_vec());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, ready};

    #[tokio::test(start_paused = true)]
    async fn the_last_addresses_count_while_nobody_resolves_names() {
        let names = Names::new();
        let one: SocketAddr = ([10, 0, 0, 1], 1).into();
        let two: SocketAddr = ([10, 0, 0, 2], 1).into();
        let fails = || ready(Err(io::ErrorKind::NotFound.into()));
        assert!(names.resolve("a:1", fails()).await.is_err());
        let found = names.resolve("a:1", ready(Ok(vec![one]))).await.unwrap();
        assert_eq!(found, [one]);
        assert_eq!(names.resolve("a:1", fails()).await.unwrap(), [one]);
        assert_eq!(names.resolve("a:1", pending()).await.unwrap(), [one]);
        assert!(names.resolve("b:1", fails()).await.is_err());
        // As soon as names are resolved again, that counts.
        let moved = names.resolve("a:1", ready(Ok(vec![two]))).await.unwrap();
        assert_eq!(moved, [two]);
        assert_eq!(names.resolve("a:1", fails()).await.unwrap(), [two]);
    }
}
