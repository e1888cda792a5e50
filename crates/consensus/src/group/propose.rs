//! Proposals: queued in order at the call, answered when applied.

use super::core::GroupCore;
use crate::error::ProposeError;
use crate::raft::{QuietResponder, Types};
use crate::types::{Payload, RaftNode};
use bytes::Bytes;
use futures::FutureExt;
use openraft::errors::ClientWriteError;
use openraft::raft::ClientWriteResult;
use openraft::vote::leader_id_std::CommittedLeaderId;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;

/// An entry that was committed and applied here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposed {
    /// Its index in the log.
    pub index: u64,
    /// What the machine replied.
    pub reply: Bytes,
}

/// A proposal that the core has in its queue.
struct Submitted {
    result: oneshot::Receiver<ClientWriteResult<Types>>,
    at: Instant,
    _permit: OwnedSemaphorePermit,
}

impl GroupCore {
    /// Queues the entry now; the future tells its fate.
    pub(super) fn propose(
        self: &Arc<Self>,
        payload: Payload,
        term: Option<u64>,
    ) -> impl Future<Output = Result<Proposed, ProposeError>> + Send + 'static + use<> {
        let submitted = self.submit(payload, term);
        let latency = Arc::clone(&self.latency);
        async move {
            let submitted = submitted?;
            let result = outcome(submitted.result.await);
            if result.is_ok() {
                latency.record(submitted.at.elapsed());
            }
            result
        }
    }

    fn submit(&self, payload: Payload, term: Option<u64>) -> Result<Submitted, ProposeError> {
        if self.is_stopped() {
            return Err(ProposeError::Stopped);
        }
        let limit = self.environment().limits.entry_bytes();
        let bytes = payload.len_bytes();
        if bytes > limit {
            return Err(ProposeError::TooLarge { bytes, limit });
        }
        if !self.environment().may_write() {
            return Err(ProposeError::NotLeader { leader: None });
        }
        let leadership = *self.leadership.borrow();
        if leadership.leader != Some(self.me()) || term.is_some_and(|term| term != leadership.term)
        {
            return Err(ProposeError::NotLeader {
                leader: leadership.leader.filter(|leader| *leader != self.me()),
            });
        }
        if let Some((to, until)) = *self.handing_over.lock()
            && Instant::now() < until
        {
            return Err(ProposeError::NotLeader { leader: Some(to) });
        }
        let permit = Arc::clone(&self.proposals)
            .try_acquire_owned()
            .map_err(|_| ProposeError::Busy)?;
        let raft = self
            .raft()
            .ok_or(ProposeError::NotLeader { leader: None })?;
        let (responder, result) = QuietResponder::pair();
        // The core's queue takes it at once or is full; waiting would lose the order of calls. A
        // future that has not finished has not queued anything.
        let queued = match term {
            None => {
                let queueing = raft.client_write_ff(payload, Some(responder));
                tokio::task::unconstrained(queueing).now_or_never()
            }
            Some(term) => {
                let write = raft
                    .write(payload)
                    .with_leader(CommittedLeaderId::new(term))
                    .responder(responder);
                tokio::task::unconstrained(write.into_future()).now_or_never()
            }
        };
        match queued {
            Some(Ok(())) => Ok(Submitted {
                result,
                at: Instant::now(),
                _permit: permit,
            }),
            Some(Err(_)) => Err(ProposeError::Stopped),
            None => Err(ProposeError::Busy),
        }
    }
}

fn outcome(
    result: Result<ClientWriteResult<Types>, oneshot::error::RecvError>,
) -> Result<Proposed, ProposeError> {
    match result {
        Ok(Ok(applied)) => Ok(Proposed {
            index: applied.log_id.index,
            reply: applied.data.0,
        }),
        // Refused before it was appended.
        Ok(Err(ClientWriteError::ForwardToLeader(forward))) => Err(ProposeError::NotLeader {
            leader: forward.leader_id.map(RaftNode),
        }),
        // Overwritten here by another leader's log, which may or may not contain it; or the core
        // stopped with it.
        Ok(Err(_)) | Err(_) => Err(ProposeError::Unknown),
    }
}
