//! One priority level of a queue.

use super::alive::AliveSet;
use super::tail::Tail;
use crate::wire::StoredMessage;

/// The messages of one level, numbered 1, 2, 3 …
///
/// Where a message that exists (alive or dying) is: in `tail` if its number is above `stored`, else
/// in the state store. Numbers in `stored + 1 ..= storing` are in both as far as anyone knows: the
/// running checkpoint writes them.
#[derive(Debug, Clone)]
pub(super) struct Level {
    /// Which level.
    pub(super) level: u8,
    /// Number of the next message.
    pub(super) next: u64,
    /// Messages up to this number may have been handed out.
    pub(super) mark: u64,
    /// Messages that exist and are not dying.
    pub(super) alive: AliveSet,
    /// Messages in memory.
    pub(super) tail: Tail,
    /// Messages up to this number are in the state store.
    pub(super) stored: u64,
    /// Messages up to this number are there when the running checkpoint is done.
    pub(super) storing: u64,
    /// Stored messages that died since the last checkpoint began.
    pub(super) dead: Vec<(u64, u64)>,
    /// No message here expires after this time; 0: none expires at all.
    pub(super) expires_until_ms: u64,
}

impl Level {
    pub(super) fn new(level: u8) -> Self {
        Self {
            level,
            next: 1,
            mark: 0,
            alive: AliveSet::default(),
            tail: Tail::default(),
            stored: 0,
            storing: 0,
            dead: Vec::new(),
            expires_until_ms: 0,
        }
    }

    /// Appends a message and returns its number.
    pub(super) fn push(&mut self, message: StoredMessage) -> u64 {
        let number = self.next;
        self.next += 1;
        if let Some(expires_at_ms) = message.expires_at_ms {
            // A time of 0 would read as "none": such a message has expired in any case.
            self.expires_until_ms = self.expires_until_ms.max(expires_at_ms).max(1);
        }
        self.alive.append(number);
        self.tail.push(number, message);
        number
    }

    /// Notes that `from..=to` (which existed) are gone, as far as they are stored.
    pub(super) fn bury(&mut self, from: u64, to: u64) {
        let to = to.min(self.storing);
        if from > to {
            return;
        }
        match self.dead.last_mut() {
            Some(last) if last.1 + 1 == from => last.1 = to,
            _ => self.dead.push((from, to)),
        }
    }

    /// The dead stored ranges since the last call, sorted and merged over what is not alive anyway
    /// (and not dying: `dying_between` tells), so that few deletions cover them.
    pub(super) fn take_dead(
        &mut self,
        dying_between: impl Fn(u64, u64) -> bool,
    ) -> Vec<(u64, u64)> {
        let mut dead = std::mem::take(&mut self.dead);
        dead.sort_unstable();
        let mut merged: Vec<(u64, u64)> = Vec::with_capacity(dead.len().min(16));
        for (from, to) in dead {
            match merged.last_mut() {
                Some(last)
                    if self
                        .alive
                        .next_from(last.1.saturating_add(1))
                        .is_none_or(|alive| alive > from)
                        && !dying_between(last.1, from) =>
                {
                    last.1 = last.1.max(to);
                }
                _ => merged.push((from, to)),
            }
        }
        merged
    }

    /// Whether nothing of it needs memory.
    pub(super) fn trim(&mut self) {
        self.tail.trim();
        self.alive.trim();
        if self.dead.is_empty() {
            self.dead = Vec::new();
        }
    }
}
