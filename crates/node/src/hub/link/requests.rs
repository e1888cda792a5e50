//! What sessions have asked once and wait to be answered: `basic.get`, counts, purges and the like.
//!
//! A request waits for the operations that were submitted before it, so that a client sees what it did. Not for
//! those that only settle: they change nothing that it could see.

use crate::hub::api::SessionId;
use broker_model::ids::RequestId;
use broker_model::protocol::ToHost;
use std::collections::{BTreeMap, VecDeque};
use tokio::time::Instant;

/// One request.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) session: SessionId,
    pub(super) message: ToHost,
    pub(super) deadline: Instant,
    /// Sent once so many sub-batches are answered: a client sees what it did before it asked.
    pub(super) after: u64,
}

/// All that wait for an answer.
#[derive(Debug, Default)]
pub(super) struct Requests {
    by_id: BTreeMap<RequestId, Request>,
    /// Those that wait for operations submitted before them, in order.
    deferred: VecDeque<RequestId>,
}

impl Requests {
    pub(super) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Keeps a request until it is answered, deferred if it is not sent yet.
    pub(super) fn insert(&mut self, id: RequestId, request: Request, deferred: bool) {
        if deferred {
            self.deferred.push_back(id);
        }
        self.by_id.insert(id, request);
    }

    /// The next deferred request that waits for nothing more, now that `done` sub-batches are answered.
    pub(super) fn next_due(&mut self, done: u64) -> Option<&ToHost> {
        while let Some(&next) = self.deferred.front() {
            let known = self.by_id.get(&next);
            if known.is_some_and(|request| request.after > done) {
                return None;
            }
            self.deferred.pop_front();
            if let Some(request) = known {
                return Some(&request.message);
            }
        }
        None
    }

    /// What a leader is to have been told when `done` sub-batches are answered.
    pub(super) fn due(&self, done: u64) -> impl Iterator<Item = &ToHost> {
        let due = self.by_id.values().filter(move |r| r.after <= done);
        due.map(|request| &request.message)
    }

    /// A request is answered; returns whose it was.
    pub(super) fn remove(&mut self, id: RequestId) -> Option<SessionId> {
        self.by_id.remove(&id).map(|request| request.session)
    }

    /// A session is over.
    pub(super) fn forget_session(&mut self, session: SessionId) {
        self.by_id.retain(|_, request| request.session != session);
    }

    /// Gives up those that have waited too long.
    pub(super) fn give_up_late(&mut self, now: Instant) -> Vec<(RequestId, SessionId)> {
        let late = self.by_id.extract_if(.., |_, r| r.deadline <= now);
        late.map(|(id, request)| (id, request.session)).collect()
    }

    /// Gives up all.
    pub(super) fn give_up_all(&mut self) -> impl Iterator<Item = (RequestId, SessionId)> + use<> {
        self.deferred.clear();
        let all = std::mem::take(&mut self.by_id);
        all.into_iter().map(|(id, request)| (id, request.session))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use broker_model::ids::QueueId;

    #[test]
    fn requests_wait_for_the_operations_before_them() {
        let mut requests = Requests::default();
        let message = |id| ToHost::Purge {
            request: id,
            queue: QueueId(1),
        };
        for (id, after) in [(1, 0), (2, 1), (3, 1), (4, 2)] {
            let request = Request {
                session: SessionId(id),
                message: message(RequestId(id)),
                deadline: Instant::now(),
                after,
            };
            requests.insert(RequestId(id), request, after > 0);
        }
        assert_eq!(requests.next_due(0), None);
        assert!(requests.due(0).eq([&message(RequestId(1))]));
        requests.forget_session(SessionId(2));
        assert_eq!(requests.next_due(1), Some(&message(RequestId(3))));
        assert_eq!(requests.next_due(1), None);
        assert_eq!(requests.remove(RequestId(3)), Some(SessionId(3)));
        assert_eq!(requests.next_due(2), Some(&message(RequestId(4))));
        assert_eq!(requests.next_due(2), None);
        assert_eq!(requests.give_up_all().count(), 2);
    }
}
