//! Whether this node can do what clients want of it: it has been introduced, is a member, and a majority
//! answers it. Load balancers and supervisors look at this; clients that are connected stay, and get their
//! bounded answers.

use crate::broker::Broker;
use consensus::Connectivity;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{info, warn};

/// How often this node looks at itself.
const LOOK: Duration = Duration::from_millis(400);
/// How often a majority is asked although nothing looks wrong.
const CONFIRM: Duration = Duration::from_secs(5);
/// How long a majority may take to answer.
const ANSWER: Duration = Duration::from_secs(1);
/// Without a majority for so long the node is not ready: longer than a leader change takes.
const GRACE: Duration = Duration::from_secs(2);

/// What clients of a node that was removed are told.
const REMOVED: &str =
    "broker forced connection closure with reason 'this node was removed from the cluster'";

/// What a node can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// It has not begun to serve.
    Starting,
    /// It serves.
    Ready,
    /// No majority of the nodes answers it: nothing that needs one can succeed now.
    NoMajority,
    /// Its disk is nearly full: it leads nothing, and what it knows may be old.
    NoSpace,
    /// It was removed from the cluster while it ran.
    Removed,
    /// An operator has taken it out of service for a while.
    Maintenance,
    /// It is being stopped.
    Stopping,
}

impl Readiness {
    /// Whether new clients are welcome.
    #[must_use]
    pub fn is_ready(self) -> bool {
        self == Self::Ready
    }

    /// Why the node is not ready, for people; `None` if it is.
    #[must_use]
    pub fn reason(self) -> Option<&'static str> {
        match self {
            Self::Starting => Some("the node is starting"),
            Self::Ready => None,
            Self::NoMajority => Some(
                "no majority of the nodes answers this node, or it was removed from the cluster",
            ),
            Self::NoSpace => Some("the disk of this node is nearly full"),
            Self::Removed => Some(
                "this node was removed from the cluster: stop it, and empty its data directory before it joins again",
            ),
            Self::Maintenance => Some("this node is in maintenance"),
            Self::Stopping => Some("the node is stopping"),
        }
    }
}

/// What was found out so far.
#[derive(Debug)]
struct Findings {
    /// A majority was there.
    good: Instant,
    /// A majority has answered.
    confirmed: Option<Instant>,
}

impl Findings {
    /// Whether a majority has to be asked, given that a leader is heard.
    fn ask(&self, now: Instant) -> bool {
        self.confirmed
            .is_none_or(|at| now.duration_since(at) >= CONFIRM)
    }

    /// Takes in one look: `well` if a leader is heard and the last question was answered.
    fn look(&mut self, well: bool, now: Instant, before: Readiness) -> Readiness {
        if well {
            self.good = now;
            return Readiness::Ready;
        }
        self.confirmed = None;
        if now.duration_since(self.good) >= GRACE {
            return Readiness::NoMajority;
        }
        before
    }
}

/// Keeps `readiness`, which is `Ready` now, up to date until the node stops.
pub(crate) async fn watch(
    broker: Arc<Broker>,
    mut stopping: watch::Receiver<bool>,
    readiness: watch::Sender<Readiness>,
) {
    // Whoever is introduced has just had an answer of a majority.
    let now = Instant::now();
    let mut findings = Findings {
        good: now,
        confirmed: Some(now),
    };
    let mut ticks = consensus::ticks::every(LOOK);
    loop {
        tokio::select! {
            () = asked_to_stop(&mut stopping) => {
                readiness.send_replace(Readiness::Stopping);
                // Kept so that the last word stays.
                readiness.closed().await;
                return;
            }
            _ = ticks.tick() => {}
        }
        let mut well = hears_leader(&broker);
        if well && findings.ask(Instant::now()) {
            well = broker.catalog_group.read_index(ANSWER).await.is_ok();
            if well {
                findings.confirmed = Some(Instant::now());
            }
        }
        let before = *readiness.borrow();
        let mut now = findings.look(well, Instant::now(), before);
        if now.is_ready() && !broker.consensus.is_writable() {
            now = Readiness::NoSpace;
        }
        if broker.queries.maintenance.is_on() {
            now = Readiness::Maintenance;
        }
        let members = broker.consensus.members();
        let removed = !members.contains_key(&broker.origin.node.0)
            || now == Readiness::NoMajority && broker.catalog_group.is_disowned(ANSWER).await;
        if removed {
            now = Readiness::Removed;
            // It serves nobody any more: clients are better off with another node, those too that have come since.
            broker.hub.close_all_sessions(REMOVED);
        }
        if now != before {
            match now.reason() {
                None => info!("ready again"),
                Some(reason) => warn!(reason, "not ready"),
            }
            readiness.send_replace(now);
        }
    }
}

/// Resolves when the node is being stopped, or is gone.
async fn asked_to_stop(stopping: &mut watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

/// Whether the catalog has a leader that can be reached. Costs nothing.
fn hears_leader(broker: &Broker) -> bool {
    let leadership = *broker.catalog_group.leadership().borrow();
    let Some(leader) = leadership.leader.map(|leader| leader.node()) else {
        return false;
    };
    if leader == broker.origin.node.0 {
        return leadership.ready;
    }
    let peers = broker.consensus.peers().connectivity();
    peers
        .borrow()
        .get(&leader)
        .is_some_and(|state| *state == Connectivity::Connected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_change_is_not_the_loss_of_a_majority() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut findings = Findings {
            good: start,
            confirmed: Some(start),
        };
        let mut now = Readiness::Ready;
        for (ms, well, expected) in [
            (500, true, Readiness::Ready),
            (1000, false, Readiness::Ready),
            (2000, false, Readiness::Ready),
            (2400, true, Readiness::Ready),
            (3000, false, Readiness::Ready),
            (4400, false, Readiness::NoMajority),
            (9000, false, Readiness::NoMajority),
            (9500, true, Readiness::Ready),
        ] {
            now = findings.look(well, at(ms), now);
            assert_eq!(now, expected, "after {ms} ms");
        }
    }

    #[test]
    fn a_majority_is_asked_now_and_then_and_after_every_doubt() {
        let start = Instant::now();
        let mut findings = Findings {
            good: start,
            confirmed: Some(start),
        };
        assert!(!findings.ask(start + LOOK));
        assert!(findings.ask(start + CONFIRM));
        findings.look(false, start + LOOK, Readiness::Ready);
        assert!(findings.ask(start + LOOK));
    }
}
