//! Messages about queues that this node's catalog does not have yet: the sender's is ahead of it.
//!
//! To refuse them would cancel consumers of a queue that exists. They wait, and what follows them on the same
//! attachment waits behind them.

use crate::hub::attachment::AttachmentId;
use broker_model::ids::QueueId;
use broker_model::protocol::ToHost;
use std::collections::{BTreeMap, VecDeque};

/// Messages kept, at most; more are taken as they are.
const KEPT_MAX: usize = 64 * 1024;

/// The messages that wait, by attachment; none is without any.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    kept: BTreeMap<AttachmentId, VecDeque<ToHost>>,
    count: usize,
}

impl Ahead {
    /// Keeps a message if its queue is ahead of the catalog or an earlier one of the attachment waits; else returns it.
    pub(super) fn keep(
        &mut self,
        attachment: AttachmentId,
        message: ToHost,
        is_ahead: impl FnOnce(QueueId) -> bool,
    ) -> Option<ToHost> {
        let keeps = self.kept.contains_key(&attachment) || message.queue().is_some_and(is_ahead);
        if !keeps || self.count >= KEPT_MAX {
            return Some(message);
        }
        self.kept.entry(attachment).or_default().push_back(message);
        self.count += 1;
        None
    }

    /// The next message that need not wait any longer. Looks at the first of each attachment only, so that a catalog
    /// that comes up queue by queue costs no walk of all that waits for each.
    pub(super) fn next(
        &mut self,
        is_ahead: impl Fn(QueueId) -> bool,
    ) -> Option<(AttachmentId, ToHost)> {
        let attachment = self.kept.iter().find_map(|(attachment, kept)| {
            let waits = kept.front()?.queue().is_some_and(&is_ahead);
            (!waits).then_some(*attachment)
        })?;
        let kept = self.kept.get_mut(&attachment)?;
        let message = kept.pop_front()?;
        if kept.is_empty() {
            self.kept.remove(&attachment);
        }
        self.count -= 1;
        Some((attachment, message))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Forgets what waits: the links tell it again to whoever is attached to next.
    pub(super) fn clear(&mut self) {
        self.kept.clear();
        self.count = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::{Ahead, KEPT_MAX};
    use crate::hub::attachment::AttachmentId;
    use broker_model::ids::{QueueId, RequestId};
    use broker_model::protocol::ToHost;
    use std::cell::Cell;

    const A: AttachmentId = AttachmentId(1);
    const B: AttachmentId = AttachmentId(2);

    fn about(queue: u64) -> ToHost {
        ToHost::Purge {
            request: RequestId(queue),
            queue: QueueId(queue),
        }
    }

    fn queues(ahead: &mut Ahead, known: u64) -> Vec<(AttachmentId, u64)> {
        std::iter::from_fn(|| ahead.next(|queue| queue.0 > known))
            .map(|(attachment, message)| (attachment, message.queue().map_or(0, |queue| queue.0)))
            .collect()
    }

    #[test]
    fn what_follows_on_an_attachment_waits_and_other_attachments_do_not() {
        let mut ahead = Ahead::default();
        assert_eq!(ahead.keep(A, about(7), |_| true), None);
        assert_eq!(ahead.keep(A, about(1), |_| false), None);
        assert_eq!(ahead.keep(A, ToHost::Resumed, |_| false), None);
        assert_eq!(ahead.keep(B, about(1), |_| false), Some(about(1)));
        assert_eq!(ahead.keep(B, about(5), |_| true), None);

        assert_eq!(queues(&mut ahead, 4), []);
        assert_eq!(queues(&mut ahead, 5), [(B, 5)]);
        assert_eq!(queues(&mut ahead, 7), [(A, 7), (A, 1), (A, 0)]);
        assert_eq!(ahead.keep(A, about(1), |_| false), Some(about(1)));
    }

    #[test]
    fn a_catalog_that_comes_up_queue_by_queue_costs_a_look_each() {
        let mut ahead = Ahead::default();
        for queue in 1..=10_000 {
            ahead.keep(A, about(queue), |_| true);
        }
        let looks = Cell::new(0);
        for known in 1..=10_000 {
            while ahead
                .next(|queue| {
                    looks.set(looks.get() + 1);
                    queue.0 > known
                })
                .is_some()
            {}
        }
        assert!(looks.get() < 20_001, "{} looks", looks.get());
    }

    #[test]
    fn beyond_the_bound_messages_are_taken_as_they_are() {
        let mut ahead = Ahead::default();
        for _ in 0..KEPT_MAX {
            assert_eq!(ahead.keep(A, about(1), |_| true), None);
        }
        assert_eq!(ahead.keep(A, about(2), |_| true), Some(about(2)));
        assert!(ahead.next(|_| false).is_some());
        assert_eq!(ahead.keep(A, about(2), |_| true), None);
        ahead.clear();
        assert_eq!(ahead.keep(A, about(2), |_| false), Some(about(2)));
    }
}
