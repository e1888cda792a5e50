//! Whether a queue falls behind its publishers although its consumers work.
//!
//! Only then publishers are slowed down (`hub::link::brake`): a queue without consumers, or one whose consumers take
//! nothing, is what it is, and waiting would not help.

use broker_model::dispatch::QueueCounts;
use broker_model::ids::QueueId;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// A backlog is what has so many messages ready …
const MANY: u64 = 16 * 1024;
/// … or so many bytes of them, until half of it is left.
const LARGE: u64 = 16 << 20;
/// Consumers that have taken nothing for so long do not work.
const STALLED: Duration = Duration::from_millis(50);
/// Queues looked at, at most.
const QUEUES: usize = 64;

#[derive(Debug)]
struct Watched {
    queue: QueueId,
    handed_out: u64,
    /// When it was seen to grow last.
    at: Instant,
}

/// The queues that publishes went to.
#[derive(Debug)]
pub(super) struct Backlogs {
    watched: Vec<Watched>,
    is_there: watch::Sender<bool>,
}

impl Backlogs {
    /// Tells `is_there`.
    pub(super) fn new(is_there: watch::Sender<bool>) -> Self {
        Self {
            watched: Vec::new(),
            is_there,
        }
    }

    /// A queue is published to.
    pub(super) fn published(&mut self, now: Instant, queue: QueueId, counts: QueueCounts) {
        let known = self.watched.iter().any(|watched| watched.queue == queue);
        if is_backlog(counts, 1) && !known && self.watched.len() < QUEUES {
            self.watched.push(Watched {
                queue,
                handed_out: counts.handed_out,
                at: now.checked_sub(STALLED).unwrap_or(now),
            });
        }
    }

    /// Looks at all of them, after something was handed out.
    pub(super) fn look(&mut self, now: Instant, counts: impl Fn(QueueId) -> QueueCounts) {
        if self.watched.is_empty() {
            return;
        }
        let mut is_there = false;
        self.watched.retain_mut(|watched| {
            let counts = counts(watched.queue);
            if counts.handed_out != watched.handed_out {
                watched.handed_out = counts.handed_out;
                watched.at = now;
            }
            let works = now.duration_since(watched.at) < STALLED;
            let keeps = is_backlog(counts, 2);
            is_there |= keeps && works && counts.consumers > 0;
            keeps
        });
        self.is_there
            .send_if_modified(|before| std::mem::replace(before, is_there) != is_there);
    }
}

fn is_backlog(counts: QueueCounts, share: u64) -> bool {
    counts.ready >= MANY / share || counts.ready_bytes >= LARGE / share
}

#[cfg(test)]
mod tests {
    use super::{Backlogs, LARGE, MANY, STALLED};
    use broker_model::dispatch::QueueCounts;
    use broker_model::ids::QueueId;
    use tokio::sync::watch;
    use tokio::time::Instant;

    const QUEUE: QueueId = QueueId(7);

    fn counts(ready: u64, ready_bytes: u64, handed_out: u64) -> QueueCounts {
        QueueCounts {
            ready,
            ready_bytes,
            handed_out,
            consumers: 1,
            ..QueueCounts::default()
        }
    }

    #[tokio::test]
    async fn a_backlog_is_told_while_consumers_work_on_it() {
        let (told, is_there) = watch::channel(false);
        let mut backlogs = Backlogs::new(told);
        let mut now = Instant::now();
        let look = |backlogs: &mut Backlogs, now, counts| {
            backlogs.published(now, QUEUE, counts);
            backlogs.look(now, |queue| {
                assert_eq!(queue, QUEUE);
                counts
            });
            *is_there.borrow()
        };
        assert!(!look(&mut backlogs, now, counts(MANY - 1, 0, 1)));
        // Nobody has taken anything yet.
        assert!(!look(&mut backlogs, now, counts(MANY, 0, 1)));
        assert!(look(&mut backlogs, now, counts(MANY, 0, 2)));
        assert!(look(&mut backlogs, now, counts(MANY / 2, 0, 3)));
        now += STALLED;
        assert!(!look(&mut backlogs, now, counts(MANY, 0, 3)));
        assert!(look(&mut backlogs, now, counts(MANY, 0, 4)));
        assert!(!look(&mut backlogs, now, counts(MANY / 2 - 1, 0, 5)));
        assert!(!look(&mut backlogs, now, counts(1, LARGE, 6)));
        assert!(look(&mut backlogs, now, counts(1, LARGE, 7)));
        let unconsumed = QueueCounts {
            consumers: 0,
            ..counts(MANY, 0, 8)
        };
        assert!(!look(&mut backlogs, now, unconsumed));
    }
}
