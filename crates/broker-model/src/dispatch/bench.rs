//! The consumers of one queue: whose turn it is.
//!
//! Consumers with credit stand in a ring per priority. The highest ring that has anybody gives one
//! message to its first consumer, who then goes to the end. With a single active consumer only that
//! one ever stands in a ring. Who is active is told to its node, which tells the next leader: two
//! must not work at once because the leader changed.

use super::line::Line;
use super::roster::{Consumer, ConsumerSlot, OriginSlot, Roster};
use crate::ids::{RequestId, Sequence};
use smallvec::SmallVec;
use std::cmp::Reverse;
use std::collections::VecDeque;

#[derive(Debug, Default)]
pub(super) struct Bench {
    /// In order of attachment.
    pub(super) consumers: Line,
    /// Highest priority first. One that nobody stands in goes, unless it is the only one.
    rings: SmallVec<[Ring; 1]>,
    /// The single active consumer.
    active: Option<ConsumerSlot>,
    /// Nobody came or went since it was elected.
    elected: bool,
    /// The active one gets no more: one of higher priority waits until it holds nothing.
    drains: bool,
    /// Has the queue to itself.
    pub(super) exclusive: Option<ConsumerSlot>,
    /// Ran out of credit and have not been told that a message waits.
    exhausted: Line,
    pub(super) gets: VecDeque<PendingGet>,
    pub(super) purges: Vec<PendingPurge>,
}

#[derive(Debug)]
struct Ring {
    priority: i32,
    ready: Line,
}

/// A `basic.get` that waits for a load, a mark or the end of the hand-over.
#[derive(Debug, Clone, Copy)]
pub(super) struct PendingGet {
    pub(super) origin: OriginSlot,
    pub(super) request: RequestId,
    pub(super) no_ack: bool,
}

/// A purge whose settle has not been applied.
#[derive(Debug, Clone, Copy)]
pub(super) struct PendingPurge {
    pub(super) origin: OriginSlot,
    pub(super) request: RequestId,
    pub(super) removed: u64,
    /// One of the purged messages: when it is gone they all are.
    pub(super) witness: Sequence,
}

impl Bench {
    pub(super) fn add(&mut self, slot: ConsumerSlot, roster: &Roster) {
        if let Some(consumer) = roster.consumers.get(slot) {
            self.consumers.push(slot, consumer.stamp);
            self.elected = false;
        }
    }

    /// A consumer that `roster` knows no longer.
    pub(super) fn remove(&mut self, slot: ConsumerSlot, gone: &Consumer, roster: &Roster) {
        self.consumers.one_gone(roster);
        self.elected = false;
        if gone.listed {
            self.exhausted.one_gone(roster);
        }
        if gone.in_ring
            && let Ok(at) = self.ring(gone.spec.priority)
            && let Some(ring) = self.rings.get_mut(at)
        {
            ring.ready.one_gone(roster);
            if ring.ready.is_empty() && self.rings.len() > 1 {
                self.rings.remove(at);
            }
        }
        if self.active == Some(slot) {
            self.active = None;
            self.drains = false;
        }
        if self.exclusive == Some(slot) {
            self.exclusive = None;
        }
    }

    /// Index of the ring of this priority, or where it belongs.
    fn ring(&self, priority: i32) -> Result<usize, usize> {
        self.rings
            .binary_search_by(|ring| priority.cmp(&ring.priority))
    }

    /// Whether nobody wants anything.
    pub(super) fn is_unused(&self) -> bool {
        self.consumers.is_empty() && self.gets.is_empty() && self.purges.is_empty()
    }

    /// Whether a consumer may get messages when it has credit.
    pub(super) fn is_eligible(&self, consumer: ConsumerSlot, single_active: bool) -> bool {
        !single_active || self.active == Some(consumer) && !self.drains
    }

    /// Whether a consumer does not wait behind the single active one.
    pub(super) fn is_active(&self, consumer: ConsumerSlot, single_active: bool) -> bool {
        !single_active || self.active == Some(consumer)
    }

    /// Chooses the single active consumer: who was active under the leader before, else the first by
    /// priority, then age. For one of higher priority the present one is fed no more, and makes
    /// place when it holds nothing. Returns whose part has changed.
    pub(super) fn elect(&mut self, roster: &mut Roster) -> SmallVec<[ConsumerSlot; 2]> {
        let mut changed = SmallVec::new();
        if self.elected && !self.drains {
            return changed;
        }
        let candidates = || {
            self.consumers
                .iter(roster)
                .filter_map(|slot| Some((slot, roster.consumers.get(slot)?)))
        };
        let first = candidates()
            .min_by_key(|(_, consumer)| (Reverse(consumer.spec.priority), consumer.serial));
        let Some((first, highest)) = first.map(|(slot, first)| (slot, first.spec.priority)) else {
            self.active = None;
            self.drains = false;
            return changed;
        };
        if self.active.is_none() {
            let was_active = candidates()
                .filter(|(_, consumer)| consumer.active_since > 0)
                .max_by_key(|(_, consumer)| consumer.active_since);
            if let Some((slot, _)) = was_active {
                self.active = Some(slot);
                self.enter(slot, roster);
            }
        }
        if let Some(active) = self.active {
            let consumer = roster.consumers.get(active);
            let outranked = consumer.is_none_or(|consumer| consumer.spec.priority < highest);
            if !outranked {
                if std::mem::take(&mut self.drains) {
                    self.enter(active, roster);
                }
                self.elected = true;
                self.forget_claims(active, roster, &mut changed);
                return changed;
            }
            self.rings.clear();
            if let Some(consumer) = roster.consumers.get_mut(active) {
                consumer.in_ring = false;
            }
            // What an unconfirmed one holds is not known yet.
            let unconfirmed = roster
                .consumers
                .get(active)
                .is_some_and(|consumer| !consumer.confirmed);
            if unconfirmed || roster.holds_any(active) {
                self.drains = true;
                self.forget_claims(active, roster, &mut changed);
                return changed;
            }
        }
        self.drains = false;
        self.elected = true;
        self.active = Some(first);
        let since = roster.next_serial();
        if let Some(consumer) = roster.consumers.get_mut(first) {
            consumer.active_since = since;
            changed.push(first);
        }
        self.forget_claims(first, roster, &mut changed);
        self.enter(first, roster);
        changed
    }

    /// One is active; the others are not, whatever they were.
    fn forget_claims(
        &self,
        active: ConsumerSlot,
        roster: &mut Roster,
        changed: &mut SmallVec<[ConsumerSlot; 2]>,
    ) {
        let claims = |slot: &ConsumerSlot| {
            let consumer = roster.consumers.get(*slot);
            *slot != active && consumer.is_some_and(|consumer| consumer.active_since > 0)
        };
        let others: SmallVec<[ConsumerSlot; 2]> =
            self.consumers.iter(roster).filter(claims).collect();
        for slot in others {
            if let Some(consumer) = roster.consumers.get_mut(slot) {
                consumer.active_since = 0;
                changed.push(slot);
            }
        }
    }

    /// A consumer that may get messages has credit, or has none and should be told when one waits.
    pub(super) fn enter(&mut self, slot: ConsumerSlot, roster: &mut Roster) {
        let Some(consumer) = roster.consumers.get_mut(slot) else {
            return;
        };
        let stamp = consumer.stamp;
        if consumer.credit == 0 {
            if !consumer.listed && !consumer.told {
                consumer.listed = true;
                self.exhausted.push(slot, stamp);
            }
        } else if !consumer.in_ring {
            consumer.in_ring = true;
            let priority = consumer.spec.priority;
            let at = self.ring(priority).unwrap_or_else(|at| {
                let ready = Line::default();
                self.rings.insert(at, Ring { priority, ready });
                at
            });
            self.rings[at].ready.push(slot, stamp);
        }
    }

    /// Whose turn it is: the first one of the first ring then.
    pub(super) fn turn(&mut self, roster: &mut Roster) -> Option<ConsumerSlot> {
        while let Some(ring) = self.rings.first_mut() {
            let Some(slot) = ring.ready.front(roster) else {
                if self.rings.len() == 1 {
                    // Who stood in it mostly comes again.
                    return None;
                }
                self.rings.remove(0);
                continue;
            };
            let consumer = roster.consumers.get(slot)?;
            if consumer.credit > 0 && !roster.is_telling(consumer.origin) {
                return Some(slot);
            }
            ring.ready.pop_front();
            // Its credit was taken back meanwhile, or it enters when its node has told all.
            let consumer = roster.consumers.get_mut(slot)?;
            consumer.in_ring = false;
            if consumer.credit == 0 && !consumer.listed && !consumer.told {
                consumer.listed = true;
                self.exhausted.push(slot, consumer.stamp);
            }
        }
        None
    }

    /// The message is larger than all that the credit of the consumer whose turn it is is good for: that is taken from it. Returns how much
    /// it was. Its node is told so with the answer to that, and not once more.
    pub(super) fn too_large(&mut self, slot: ConsumerSlot, roster: &mut Roster) -> u32 {
        let Some(consumer) = roster.consumers.get_mut(slot) else {
            return 0;
        };
        if let Some(ring) = self.rings.first_mut() {
            ring.ready.pop_front();
        }
        consumer.in_ring = false;
        consumer.told = true;
        std::mem::take(&mut consumer.credit)
    }

    /// The consumer whose turn it was got a message of so many bytes. Returns the credit that is taken
    /// from it: credit counts messages, and was granted by the size of earlier ones.
    pub(super) fn served(&mut self, slot: ConsumerSlot, bytes: usize, roster: &mut Roster) -> u32 {
        let Some(consumer) = roster.consumers.get_mut(slot) else {
            return 0;
        };
        consumer.credit -= 1;
        consumer.bytes = consumer.bytes.saturating_add(bytes);
        let mut taken = 0;
        if consumer.bytes >= consumer.worth as usize {
            taken = std::mem::take(&mut consumer.credit);
        }
        let Some(ring) = self.rings.first_mut() else {
            return taken;
        };
        if consumer.credit == 0 {
            ring.ready.pop_front();
            consumer.in_ring = false;
            if !consumer.listed {
                consumer.listed = true;
                self.exhausted.push(slot, consumer.stamp);
            }
        } else {
            ring.ready.rotate();
        }
        taken
    }

    /// Consumers to be told that a message waits for them.
    pub(super) fn starving(&mut self, roster: &mut Roster) -> Vec<ConsumerSlot> {
        let mut starving = Vec::new();
        let exhausted = std::mem::take(&mut self.exhausted);
        let slots: Vec<_> = exhausted.iter(roster).collect();
        for slot in slots {
            let Some(consumer) = roster.consumers.get_mut(slot) else {
                continue;
            };
            consumer.listed = false;
            if consumer.credit == 0 && !consumer.told {
                consumer.told = true;
                starving.push(slot);
            }
        }
        starving
    }

    pub(super) fn has_starving(&self) -> bool {
        !self.exhausted.is_empty()
    }

    /// Messages that would be handed out at once: the credit of those who stand in a ring. Behind a single active
    /// consumer nobody does.
    pub(super) fn wanted(&self, roster: &Roster) -> u64 {
        let rings = self.rings.iter().flat_map(|ring| ring.ready.iter(roster));
        let consumers = rings.filter_map(|slot| roster.consumers.get(slot));
        consumers
            .filter(|consumer| !roster.is_telling(consumer.origin))
            .map(|consumer| u64::from(consumer.credit))
            .sum()
    }

    /// Deliveries that its consumers may get now, counted up to `enough`.
    pub(super) fn credit(&self, roster: &Roster, enough: u64) -> u64 {
        let consumers = self.consumers.iter(roster);
        let mut sum = 0;
        for consumer in consumers.filter_map(|slot| roster.consumers.get(slot)) {
            sum += u64::from(consumer.credit);
            if sum >= enough {
                return enough;
            }
        }
        sum
    }
}
