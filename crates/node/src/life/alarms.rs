//! Memory and disk alarms: raised on any node, they block publishers on all.
//!
//! Every node looks at itself and asks the others; a node that does not answer raises nothing.

use super::disk::FILLED_PER_SECOND as DISK_PER_SECOND;
use super::process;
use crate::broker::Alarms;
use crate::queries::{NodeQueries, NodeReport};
use consensus::ticks::{self, next_of};
use futures::FutureExt;
use futures::future::BoxFuture;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::warn;

/// How often this node looks at itself when it may soon be at a limit …
const OFTEN: Duration = Duration::from_millis(100);
/// … and when it is far from both.
const SELDOM: Duration = Duration::from_millis(400);
/// Bytes of memory that clients of one machine fill in a second.
const MEMORY_PER_SECOND: u64 = 1 << 30;
/// After so long an alarm may end: publishers are not to be stopped and let go in quick turns.
const LASTS: Duration = Duration::from_secs(1);
/// From one question to the other nodes to the next.
const ASK_EVERY: Duration = Duration::from_secs(2);

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
    /// This node's own alarms now, and how long it is not to look again.
    #[must_use]
    pub fn look(&self) -> (Alarms, Duration) {
        let resident = process::resident_bytes();
        let free = process::disk_free(&self.data_dir);
        let alarms = Alarms {
            memory: resident > self.memory_bytes,
            disk: free.is_some_and(|free| free < self.disk_free_bytes),
        };
        let memory = self.memory_bytes.abs_diff(resident);
        let disk = free.map_or(u64::MAX, |free| free.abs_diff(self.disk_free_bytes));
        let pause = |away, filled| ticks::pause(away, filled, OFTEN, SELDOM);
        let pauses = [
            pause(memory, MEMORY_PER_SECOND),
            pause(disk, DISK_PER_SECOND),
        ];
        (alarms, pauses[0].min(pauses[1]))
    }
}

/// Keeps `alarms` up to date until the node stops.
pub async fn watch(marks: Watermarks, queries: Arc<NodeQueries>, alarms: watch::Sender<Alarms>) {
    let (mut own, mut others) = (Alarms::default(), Alarms::default());
    let (mut raised, mut asked): (Option<Instant>, Option<Instant>) = (None, None);
    let mut pause = OFTEN;
    // A node that does not answer must not keep this one from looking at itself.
    let mut asking: Option<BoxFuture<'static, Alarms>> = None;
    loop {
        tokio::select! {
            () = next_of(pause) => {
                let (now, rest) = marks.look();
                pause = rest;
                let more = now.memory && !own.memory || now.disk && !own.disk;
                if more {
                    raised = Some(Instant::now());
                }
                if more || raised.is_none_or(|raised| raised.elapsed() >= LASTS) {
                    own = now;
                }
                if asking.is_none() && asked.is_none_or(|asked| asked.elapsed() >= ASK_EVERY) {
                    asked = Some(Instant::now());
                    asking = Some(ask_others(Arc::clone(&queries)).boxed());
                }
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
