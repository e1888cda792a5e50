//! Gives disk space of consumed messages back at once, by dropping whole sorted files.
//!
//! Range deletions alone free space only when compaction comes by. What was consumed is
//! remembered per level as one growing range, so that a file that several checkpoints consumed
//! together is dropped as well.

use super::inner::Inner;
use super::message_key::{MessageKey, Scope};
use super::messages::DeadRange;
use super::options::MESSAGES;
use std::collections::HashMap;
use std::sync::atomic::Ordering;

/// Consumed positions of a level that are worth a look for whole files.
const WORTHWHILE: u64 = 2048;
/// Levels remembered; beyond them space comes back by compaction.
const MAX_LEVELS: usize = 4096;

#[derive(Default)]
pub(crate) struct Reclaim {
    levels: HashMap<(Scope, u64, u8), Consumed>,
    /// Ranges of keys to be looked at when no view is being streamed.
    due: Vec<Due>,
}

struct Due {
    /// The queue whose messages are meant; `None` for whole epochs.
    queue: Option<(Scope, u64)>,
    from: Vec<u8>,
    end: Vec<u8>,
}

struct Consumed {
    from: u64,
    to: u64,
    /// Positions since the last look.
    fresh: u64,
}

impl Reclaim {
    /// Notes that a range was deleted.
    pub(crate) fn consumed(&mut self, scope: Scope, range: DeadRange) {
        let key = (scope, range.queue, range.level);
        if self.levels.len() >= MAX_LEVELS && !self.levels.contains_key(&key) {
            return;
        }
        let consumed = self.levels.entry(key).or_insert(Consumed {
            from: range.from,
            to: range.from.saturating_sub(1),
            fresh: 0,
        });
        let touches = range.from <= consumed.to.saturating_add(1)
            && range.to.saturating_add(1) >= consumed.from;
        if touches {
            consumed.from = consumed.from.min(range.from);
            consumed.to = consumed.to.max(range.to);
        } else if range.to > consumed.to {
            // Something alive lies between: begin anew behind it.
            *consumed = Consumed {
                from: range.from,
                to: range.to,
                fresh: consumed.fresh,
            };
        } else {
            return;
        }
        consumed.fresh = consumed.fresh.saturating_add(range.len());
        if consumed.fresh >= WORTHWHILE {
            consumed.fresh = 0;
            let dead = DeadRange {
                from: consumed.from,
                to: consumed.to,
                ..range
            };
            let from = dead.first().to_bytes(scope).to_vec();
            self.due(Some((scope, range.queue)), from, dead.last().after(scope));
        }
    }

    /// All that was consumed is looked at next, however little it is.
    pub(crate) fn all_due(&mut self) {
        let mut ranges = Vec::new();
        for ((scope, queue, level), consumed) in &mut self.levels {
            if std::mem::take(&mut consumed.fresh) > 0 {
                let dead = DeadRange {
                    queue: *queue,
                    level: *level,
                    from: consumed.from,
                    to: consumed.to,
                };
                ranges.push((*scope, dead));
            }
        }
        for (scope, dead) in ranges {
            let from = dead.first().to_bytes(scope).to_vec();
            self.due(Some((scope, dead.queue)), from, dead.last().after(scope));
        }
    }

    /// Notes that a queue was dropped.
    pub(crate) fn dropped(&mut self, scope: Scope, queue: u64) {
        self.levels
            .retain(|(in_scope, of, _), _| (*in_scope, *of) != (scope, queue));
        let (from, end) = MessageKey::queue_range(scope, queue);
        self.due(Some((scope, queue)), from, end);
    }

    /// Notes that whole epochs were dropped.
    pub(crate) fn dropped_scopes(&mut self, from: Scope, end: Scope) {
        self.levels
            .retain(|(scope, ..), _| *scope < from || *scope >= end);
        self.due(None, from.to_bytes().to_vec(), end.to_bytes().to_vec());
    }

    /// Notes that messages of `queue` are stored: a dropped queue may have come back, and its
    /// files must not be dropped by a look that was put off.
    pub(crate) fn stored(&mut self, scope: Scope, queue: u64) {
        self.due.retain(|due| due.queue != Some((scope, queue)));
    }

    fn due(&mut self, queue: Option<(Scope, u64)>, from: Vec<u8>, end: Vec<u8>) {
        if self.due.len() < MAX_LEVELS {
            self.due.push(Due { queue, from, end });
        }
    }

    /// Drops files. Only after the deletions were flushed: files are gone at once, and a crash must
    /// not bring the deletions back out of what remains.
    pub(crate) fn run(&mut self, inner: &Inner) {
        if self.due.is_empty() || inner.views.load(Ordering::Acquire) > 0 {
            return;
        }
        let Ok(family) = inner.family(MESSAGES) else {
            return;
        };
        for Due { from, end, .. } in self.due.drain(..) {
            // RocksDB takes the end as inclusive: no message's key equals one of these ends.
            if let Err(error) = inner.db.delete_file_in_range_cf(family, from, end) {
                tracing::warn!(%error, "cannot drop files of consumed messages");
            }
        }
    }
}
