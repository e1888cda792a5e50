//! Heartbeats of all groups that this node leads, at the same moment.
//!
//! openraft would send them group by group, each by its own clock. Sent together, those to one peer
//! share a message (see `net::link`), which is most of what an idle cluster costs.

use super::core::GroupCore;
use crate::inbound::Inbound;
use std::sync::Weak;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

/// Runs until the groups are gone.
pub(crate) async fn send_heartbeats(groups: Weak<Inbound>, every: Duration) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(groups) = groups.upgrade() else {
            return;
        };
        for group in groups.groups() {
            group.send_heartbeat().await;
        }
    }
}

impl GroupCore {
    async fn send_heartbeat(&self) {
        let leads = self.leadership.borrow().leader == Some(self.me());
        if leads && let Some(raft) = self.raft() {
            let _ = raft.trigger().heartbeat().await;
        }
    }
}
