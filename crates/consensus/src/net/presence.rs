//! Which start of a peer's process this node hears, so that a second process with the id of a
//! running node is found out.
//!
//! A copied disk, or an empty one where the node is not gone at all: both would vote for a node that
//! votes already. The one that was there first counts as long as its heartbeat stream is open and
//! not silent. A process that dies has its stream closed by the kernel, so its next start finds the
//! place free; where nothing was closed (the host is gone), silence frees it.

use super::auth::Caller;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The starts that are heard, one per node.
#[derive(Debug)]
pub(crate) struct Presence {
    /// Silence after which another start may take the place.
    silence: Duration,
    nodes: Mutex<BTreeMap<u64, Present>>,
}

#[derive(Debug)]
struct Present {
    incarnation: u64,
    heard: Instant,
    streams: usize,
}

impl Presence {
    pub(crate) fn new(silence: Duration) -> Arc<Self> {
        Arc::new(Self {
            silence,
            nodes: Mutex::default(),
        })
    }

    /// Whether no other start of the caller's node is heard.
    pub(crate) fn admits(&self, caller: Caller) -> bool {
        self.is_free(self.nodes.lock().get(&caller.node), caller)
    }

    /// Whether some start of a node is heard: so it has connected to this one.
    pub(crate) fn hears(&self, node: u64) -> bool {
        let nodes = self.nodes.lock();
        let present = nodes.get(&node);
        present.is_some_and(|present| present.streams > 0 && present.heard.elapsed() < self.silence)
    }

    fn is_free(&self, present: Option<&Present>, caller: Caller) -> bool {
        present.is_none_or(|present| {
            present.incarnation == caller.incarnation
                || present.streams == 0
                || present.heard.elapsed() >= self.silence
        })
    }

    /// The caller's heartbeat stream opens; `None` if another start of its node is heard.
    pub(crate) fn enter(self: &Arc<Self>, caller: Caller) -> Option<Heard> {
        let mut nodes = self.nodes.lock();
        if !self.is_free(nodes.get(&caller.node), caller) {
            return None;
        }
        let streams = nodes
            .get(&caller.node)
            .filter(|present| present.incarnation == caller.incarnation)
            .map_or(0, |present| present.streams);
        let present = Present {
            incarnation: caller.incarnation,
            heard: Instant::now(),
            streams: streams.saturating_add(1),
        };
        nodes.insert(caller.node, present);
        drop(nodes);
        Some(Heard {
            presence: Arc::clone(self),
            caller,
        })
    }
}

/// A heartbeat stream of a peer, for as long as it is open.
#[derive(Debug)]
pub(crate) struct Heard {
    presence: Arc<Presence>,
    caller: Caller,
}

impl Heard {
    /// Something came in; false if another start of the node has taken the place meanwhile.
    pub(crate) fn again(&self) -> bool {
        let mut nodes = self.presence.nodes.lock();
        match nodes.get_mut(&self.caller.node) {
            Some(present) if present.incarnation == self.caller.incarnation => {
                present.heard = Instant::now();
                true
            }
            _ => false,
        }
    }
}

impl Drop for Heard {
    fn drop(&mut self) {
        let mut nodes = self.presence.nodes.lock();
        if let Some(present) = nodes.get_mut(&self.caller.node)
            && present.incarnation == self.caller.incarnation
        {
            present.streams = present.streams.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(incarnation: u64) -> Caller {
        Caller {
            node: 2,
            generation: 0,
            incarnation,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_start_keeps_its_place_while_it_is_heard() {
        let presence = Presence::new(Duration::from_secs(1));
        assert!(presence.admits(start(5)));
        let first = presence.enter(start(5)).unwrap();
        assert!(presence.admits(start(5)) && !presence.admits(start(6)));
        assert!(presence.enter(start(6)).is_none());
        assert!(presence.hears(2) && !presence.hears(3));
        tokio::time::advance(Duration::from_millis(900)).await;
        assert!(first.again());
        tokio::time::advance(Duration::from_millis(900)).await;
        assert!(presence.hears(2));
        assert!(!presence.admits(start(6)), "it was heard a moment ago");
        drop(first);
        assert!(presence.admits(start(6)), "its stream is closed");
        assert!(!presence.hears(2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_start_loses_its_place_and_learns_of_it() {
        let presence = Presence::new(Duration::from_secs(1));
        let frozen = presence.enter(start(5)).unwrap();
        tokio::time::advance(Duration::from_secs(1)).await;
        let second = presence.enter(start(6)).unwrap();
        assert!(!frozen.again() && second.again());
        assert!(!presence.admits(start(5)));
        drop(frozen);
        assert!(!presence.admits(start(5)), "an old stream frees nothing");
        drop(second);
        assert!(presence.admits(start(5)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_reconnect_of_the_same_start_may_overlap() {
        let presence = Presence::new(Duration::from_secs(1));
        let before = presence.enter(start(5)).unwrap();
        let after = presence.enter(start(5)).unwrap();
        drop(before);
        assert!(!presence.admits(start(6)));
        drop(after);
        assert!(presence.admits(start(6)));
    }
}
