//! Durable queues that were deleted of late, by their names: one that is declared again takes their place.

use broker_model::catalog::record::QueueRecord;
use broker_model::ids::{Placement, QueueId};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long a name is remembered: longer than a publish waits at a node that is cut off.
const REMEMBERED: Duration = Duration::from_secs(600);
/// Queues remembered, at most, the latest.
const MOST: usize = 4096;

/// Vhost and name.
type Names = (Arc<str>, Arc<str>);

/// Those that are remembered.
#[derive(Debug, Default)]
pub(super) struct Deleted {
    order: VecDeque<(Instant, Names, QueueId)>,
    by_name: HashMap<Names, Vec<(QueueId, Placement)>>,
}

impl Deleted {
    /// A queue was deleted. Those in a node's memory are not remembered: they go with it.
    pub(super) fn note(&mut self, record: &QueueRecord) {
        if !matches!(record.placement, Placement::Shard(_)) {
            return;
        }
        let names = names(record);
        let former = self.by_name.entry(names.clone()).or_default();
        former.push((record.id, record.placement));
        self.order.push_back((Instant::now(), names, record.id));
        while self.order.len() > MOST || self.is_over() {
            self.forget_oldest();
        }
    }

    /// The queues in whose place this one is. They are told once.
    pub(super) fn take(&mut self, record: &QueueRecord) -> Vec<(QueueId, Placement)> {
        while self.is_over() {
            self.forget_oldest();
        }
        self.by_name.remove(&names(record)).unwrap_or_default()
    }

    fn is_over(&self) -> bool {
        let oldest = self.order.front();
        oldest.is_some_and(|(noted, ..)| noted.elapsed() > REMEMBERED)
    }

    fn forget_oldest(&mut self) {
        let Some((_, names, queue)) = self.order.pop_front() else {
            return;
        };
        if let Some(former) = self.by_name.get_mut(&names) {
            former.retain(|(id, _)| *id != queue);
            if former.is_empty() {
                self.by_name.remove(&names);
            }
        }
    }
}

fn names(record: &QueueRecord) -> Names {
    (Arc::clone(&record.vhost), Arc::clone(&record.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use broker_model::catalog::QueueType;
    use broker_model::ids::{NodeId, ShardId};

    fn record(id: u64, name: &str, placement: Placement) -> QueueRecord {
        QueueRecord {
            id: QueueId(id),
            vhost: "/".into(),
            name: name.into(),
            placement,
            exclusive: None,
            durable: true,
            auto_delete: false,
            queue_type: QueueType::Classic,
            arguments: Default::default(),
            effective: Arc::default(),
        }
    }

    fn in_shard(id: u64, name: &str) -> QueueRecord {
        record(id, name, Placement::Shard(ShardId(1)))
    }

    #[tokio::test(start_paused = true)]
    async fn one_of_the_same_name_takes_their_places_once() {
        let mut deleted = Deleted::default();
        let one = Placement::Shard(ShardId(1));
        deleted.note(&in_shard(1, "a"));
        deleted.note(&in_shard(2, "a"));
        deleted.note(&in_shard(3, "b"));
        deleted.note(&record(4, "a", Placement::Host(NodeId(1))));
        assert_eq!(deleted.take(&in_shard(5, "c")), []);
        let former = [(QueueId(1), one), (QueueId(2), one)];
        assert_eq!(deleted.take(&in_shard(6, "a")), former);
        assert_eq!(deleted.take(&in_shard(7, "a")), []);
        tokio::time::advance(REMEMBERED + Duration::from_secs(1)).await;
        assert_eq!(deleted.take(&in_shard(8, "b")), []);
        assert!(deleted.order.is_empty() && deleted.by_name.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_than_so_many() {
        let mut deleted = Deleted::default();
        for id in 0..2 * MOST as u64 {
            deleted.note(&in_shard(id, &id.to_string()));
        }
        assert_eq!((deleted.order.len(), deleted.by_name.len()), (MOST, MOST));
        assert_eq!(deleted.take(&in_shard(0, "0")), []);
        let last = (2 * MOST - 1).to_string();
        assert_eq!(deleted.take(&in_shard(0, &last)).len(), 1);
    }
}
