//! Reads that see everything acknowledged before they began, on any member.

use super::core::GroupCore;
use crate::error::ReadError;
use cluster_proto::v1;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use openraft::ReadPolicy;
use std::time::Duration;
use tokio::time::{Instant, timeout, timeout_at};

/// Before asking again for a leader.
const RETRY: Duration = Duration::from_millis(20);

impl GroupCore {
    /// The read index, if this node leads and a quorum confirms it.
    pub(crate) async fn leader_read_index(&self) -> Result<u64, ReadError> {
        let raft = self.raft().ok_or(ReadError::Stopped)?;
        // Not by lease: a follower may be elected during it when this process is taken for dead.
        let asked = timeout(
            self.environment().timing.call,
            raft.get_read_log_id(ReadPolicy::ReadIndex),
        )
        .await;
        match asked {
            Ok(Ok((read, _))) => Ok(read.index()),
            Ok(Err(_)) | Err(_) => Err(ReadError::NoLeader),
        }
    }

    pub(super) async fn read_index(&self, within: Duration) -> Result<u64, ReadError> {
        let until = Instant::now() + within;
        loop {
            if self.is_stopped() {
                return Err(ReadError::Stopped);
            }
            let leader = self.leadership.borrow().leader;
            let mut leadership = self.leadership.subscribe();
            // A leader that is frozen or cut off does not say that it leads no longer.
            let replaced = leadership.wait_for(|now| now.leader.is_some() && now.leader != leader);
            let asked = Box::pin(async {
                match leader {
                    Some(leader) if leader == self.me() => self.leader_read_index().await.ok(),
                    Some(leader) => {
                        let request = v1::ReadIndexRequest { group: self.id().0 };
                        let answer = self.environment().wire.read_index(leader, request).await;
                        answer.ok().and_then(|answer| answer.index)
                    }
                    None => None,
                }
            });
            let answer = timeout_at(until, async {
                tokio::select! {
                    answer = asked => answer,
                    _ = replaced, if leader.is_some() => None,
                }
            })
            .await
            .map_err(|_| ReadError::NoLeader)?;
            if let Some(index) = answer {
                return Ok(index);
            }
            if Instant::now() + RETRY >= until {
                return Err(ReadError::NoLeader);
            }
            let mut leadership = self.leadership.subscribe();
            let _ = timeout(RETRY, leadership.changed()).await;
        }
    }

    /// Whether a leader of the group says that this node is no member. Who was removed may never hear of it from the
    /// log, and not know who leads: so everybody is asked who was a member.
    pub(super) async fn is_disowned(&self, within: Duration) -> bool {
        let mut asked: FuturesUnordered<_> = self
            .members()
            .into_keys()
            .filter(|member| *member != self.me())
            .map(|member| {
                let request = v1::ReadIndexRequest { group: self.id().0 };
                self.environment().wire.read_index(member, request)
            })
            .collect();
        let disowned = async {
            while let Some(answer) = asked.next().await {
                if answer.is_ok_and(|answer| answer.not_a_member) {
                    return true;
                }
            }
            false
        };
        timeout(within, disowned).await.unwrap_or(false)
    }

    pub(crate) async fn wait_applied(&self, index: u64, within: Duration) -> Result<(), ReadError> {
        let mut progress = self.state().progress();
        let reached =
            progress.wait_for(|applied| applied.is_some_and(|applied| applied.index >= index));
        match timeout(within, reached).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(ReadError::Stopped),
            Err(_) => Err(ReadError::NotApplied { index }),
        }
    }
}
