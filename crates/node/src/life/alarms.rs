//! Memory and disk alarms: raised on any node, they block publishers on all.
//!
//! Every node looks at itself and asks the others; a node that does not answer raises nothing.

use super::process;
use crate::broker::Alarms;
use crate::queries::{NodeQueries, NodeReport};
use futures::FutureExt;
use futures::future::BoxFuture;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tracing::warn;

/// How often this node looks at itself: clients of one machine fill a gigabyte in a second.
const LOOK: Duration = Duration::from_millis(100);
/// After so many looks an alarm may end: publishers are not to be stopped and let go in quick turns.
const LASTS: u32 = 10;
/// Every so many looks the other nodes are asked.
const ASK_EVERY: u32 = 20;

/// The limits of this node.
#[derive(Debug, Clone)]
pub struct Watermarks {
    /// Resident bytes above which the memory alarm is raised.
    pub memory_bytes: u64,
    /// Free bytes below which the disk alarm is raised.
    pub disk_free_bytes: u64,
    /// Where the data lives.
    pub data_dir: PathBuf,
}

impl Watermarks {
    /// This node's own alarms now.
    #[must_use]
    pub fn look(&self) -> Alarms {
        Alarms {
            memory: process::resident_bytes() > self.memory_bytes,
            disk: process::disk_free(&self.data_dir)
                .is_some_and(|free| free < self.disk_free_bytes),
        }
    }
}

/// Keeps `alarms` up to date until the node stops.
pub async fn watch(marks: Watermarks, queries: Arc<NodeQueries>, alarms: watch::Sender<Alarms>) {
    let mut ticks = consensus::ticks::every(LOOK);
    let (mut own, mut others) = (Alarms::default(), Alarms::default());
    let (mut looks, mut raised) = (0u32, 0u32);
    // A node that does not answer must not keep this one from looking at itself.
    let mut asking: Option<BoxFuture<'static, Alarms>> = None;
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                let now = marks.look();
                let more = now.memory && !own.memory || now.disk && !own.disk;
                if more {
                    raised = looks;
                }
                if more || looks.wrapping_sub(raised) >= LASTS {
                    own = now;
                }
                if asking.is_none() && looks.is_multiple_of(ASK_EVERY) {
                    asking = Some(ask_others(Arc::clone(&queries)).boxed());
                }
                looks = looks.wrapping_add(1);
            }
            answer = answered(&mut asking) => others = answer,
        }
        let now = Alarms {
            memory: own.memory || others.memory,
            disk: own.disk || others.disk,
        };
        let changed = alarms.send_if_modified(|before| {
            let changed = *before != now;
            *before = now;
            changed
        });
        if changed {
            warn!(
                memory = now.memory,
                disk = now.disk,
                "alarms changed; publishers are blocked while any is raised"
            );
        }
    }
}

async fn ask_others(queries: Arc<NodeQueries>) -> Alarms {
    let mut others = Alarms::default();
    for (node, report) in queries.nodes().await {
        if node != queries.node {
            let NodeReport {
                memory_alarm,
                disk_alarm,
                ..
            } = report.unwrap_or_default();
            others.memory |= memory_alarm;
            others.disk |= disk_alarm;
        }
    }
    others
}

async fn answered(asking: &mut Option<BoxFuture<'static, Alarms>>) -> Alarms {
    match asking {
        Some(answer) => {
            let alarms = answer.await;
            *asking = None;
            alarms
        }
        None => std::future::pending().await,
    }
}
