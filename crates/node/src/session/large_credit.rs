//! Credit for large messages.
//!
//! Usual credit is good for a consumer's share of what may be on its way to the connection. A queue's leader hands out no larger
//! message on it, but says how large that is: very many consumers of one client would have as many large messages on their way
//! before it is known whether the client reads. Credit for larger ones is good for as much as they take, and all of it fits
//! [`LARGE_BYTES`] for a connection. Who finds no room although a message waits for it waits for its turn. Others may have taken
//! the messages that credit was for: while somebody waits, credit that is not used is called back after a moment.
//!
//! Not here: streams ([`super::large_reads`]), whose messages come to every consumer.

use super::consume::Consumer;
use super::state::Session;
use crate::hub::api::Ask;
use broker_model::ids::ConsumerId;
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Large messages that may be on their way to one connection, in bytes; one that is larger comes alone.
const LARGE_BYTES: u64 = 16 << 20;
/// Credit that was not used for so long is called back while others wait for its room.
const UNUSED: Duration = Duration::from_millis(100);

/// Consumers that have gone are not looked for among so few.
const GONE_MIN: usize = 64;

/// A consumer's part of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Large {
    /// Bytes that may come on the credit that it has.
    pub(super) room: u64,
    place: Place,
}

/// Where it stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Place {
    /// Nowhere.
    #[default]
    Out,
    /// It waits for room.
    Waits,
    /// It is its turn.
    Turn,
}

/// The room of a session.
#[derive(Debug, Default)]
pub(super) struct LargeCredit {
    /// Bytes that may come on all credit for large messages.
    bytes: u64,
    /// Who waits for room, with what it needs, in order. Some may have gone meanwhile.
    waiting: VecDeque<(ConsumerId, u64)>,
    /// When unused credit is called back.
    pub(super) call_back_at: Option<Instant>,
}

impl LargeCredit {
    /// Grants a consumer `most` further messages, or fewer, of the size that it gets; `share` is what usual credit is good for. Returns how many, and
    /// what they may weigh together; `None`: it waits for room.
    pub(super) fn grant(
        &mut self,
        id: ConsumerId,
        consumer: &mut Consumer,
        most: u32,
        share: u32,
    ) -> Option<(u32, u32)> {
        let mean = consumer.mean_bytes;
        if mean <= share {
            consumer.granted += most;
            return Some((most, share));
        }
        let size = mean.saturating_add(mean / 4);
        let large = &mut consumer.large;
        let more = self.take(id, large, size, most, consumer.hungry)?;
        consumer.granted += more;
        Some((more, size.saturating_mul(more)))
    }

    /// Takes room for `most` messages of this size, or for fewer. Who waits for a message gets in line if there is none; whose
    /// turn it is has one.
    fn take(
        &mut self,
        id: ConsumerId,
        large: &mut Large,
        size: u32,
        most: u32,
        hungry: bool,
    ) -> Option<u32> {
        let each = u64::from(size);
        let fitting = u32::try_from(self.fitting(each)).unwrap_or(u32::MAX);
        let more = match large.place {
            Place::Turn => most.min(fitting).min(1),
            _ if self.waiting.is_empty() => most.min(fitting),
            _ => 0,
        };
        if more > 0 {
            if large.place != Place::Out {
                self.leaves(id);
            }
            large.place = Place::Out;
            let room = each * u64::from(more);
            large.room += room;
            self.bytes += room;
            return Some(more);
        }
        match large.place {
            Place::Out if hungry => self.waiting.push_back((id, each)),
            Place::Out => return None,
            // It may need more room than before.
            Place::Waits | Place::Turn => self.stands(id, each),
        }
        large.place = Place::Waits;
        None
    }

    /// What one that waits needs.
    fn stands(&mut self, id: ConsumerId, each: u64) {
        if let Some(place) = self.waiting.iter_mut().find(|(waits, _)| *waits == id) {
            place.1 = each;
        }
    }

    fn leaves(&mut self, id: ConsumerId) {
        if let Some(at) = self.waiting.iter().position(|(waits, _)| *waits == id) {
            self.waiting.remove(at);
        }
    }

    /// How many messages of this size there is room for.
    fn fitting(&self, size: u64) -> u64 {
        let fitting = LARGE_BYTES.saturating_sub(self.bytes) / size.max(1);
        fitting.max(u64::from(self.bytes == 0))
    }

    /// A consumer has used so much of its credit, or it was taken back.
    pub(super) fn used(&mut self, consumer: &mut Consumer, credit: u32) {
        let (room, granted) = (consumer.large.room, consumer.granted);
        consumer.granted = granted.saturating_sub(credit);
        if room > 0 {
            let back = match consumer.granted {
                0 => room,
                _ => room / u64::from(granted) * u64::from(credit),
            };
            consumer.large.room -= back;
            self.give_back(back);
        }
    }

    /// So much will not come, or is here.
    pub(super) fn give_back(&mut self, room: u64) {
        self.bytes = self.bytes.saturating_sub(room);
    }
}

impl Session {
    /// Those that wait longest have their turn, as many as there is room for: before channels are looked at, and after.
    pub(super) fn admit_large(&mut self) {
        if self.large_credit.waiting.is_empty() {
            self.large_credit.call_back_at = None;
            return;
        }
        // They are looked at again when the client reads.
        if self.is_choked() {
            self.choked = true;
            return;
        }
        let consumers = &mut self.consumers;
        let LargeCredit {
            bytes,
            waiting,
            call_back_at,
        } = &mut self.large_credit;
        if waiting.len() > 2 * consumers.len() + GONE_MIN {
            waiting.retain(|(id, _)| consumers.contains_key(id));
        }
        let mut turns: SmallVec<[ConsumerId; 8]> = SmallVec::new();
        let mut all = *bytes;
        let mut left = false;
        for (id, each) in waiting {
            let Some(consumer) = consumers.get_mut(id) else {
                continue;
            };
            left = all > 0 && all + *each > LARGE_BYTES;
            if left {
                break;
            }
            all += *each;
            consumer.large.place = Place::Turn;
            turns.push(*id);
        }
        if left {
            call_back_at.get_or_insert(self.now + UNUSED);
        } else {
            *call_back_at = None;
        }
        for id in turns {
            self.touch_consumer(id);
        }
    }

    /// Who had its turn and did not want credit any more waits no longer.
    pub(super) fn pass_large(&mut self) {
        // Not all have had it.
        if !self.touched.is_empty() {
            return;
        }
        while let Some((id, _)) = self.large_credit.waiting.front() {
            match self.consumers.get_mut(id) {
                Some(consumer) if consumer.large.place == Place::Turn => {
                    consumer.large.place = Place::Out;
                }
                Some(_) => return,
                None => {}
            }
            self.large_credit.waiting.pop_front();
        }
    }

    /// Calls back credit for large messages that nobody has used, if it is time.
    pub(super) fn call_back_large(&mut self) {
        let due = self
            .large_credit
            .call_back_at
            .is_some_and(|at| at <= self.now);
        if !due {
            return;
        }
        self.large_credit.call_back_at = None;
        for (id, consumer) in &mut self.consumers {
            let settled = consumer.starting.is_none() && !consumer.cancelling;
            if consumer.large.room > 0 && settled && !consumer.revoking {
                consumer.revoking = true;
                let revoke = Ask::Revoke {
                    consumer: *id,
                    queue: consumer.queue,
                };
                self.handle.ask(consumer.placement, revoke);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u32 = 1 << 20;
    const A: ConsumerId = ConsumerId(1);
    const B: ConsumerId = ConsumerId(2);

    fn give_back(credit: &mut LargeCredit, large: &mut Large) {
        credit.give_back(std::mem::take(&mut large.room));
    }

    #[test]
    fn all_of_it_fits_the_room() {
        let mut credit = LargeCredit::default();
        let (mut a, mut b) = (Large::default(), Large::default());
        assert_eq!(credit.take(A, &mut a, 4 * MIB, 3, false), Some(3));
        assert_eq!(credit.take(B, &mut b, 4 * MIB, 3, false), Some(1));
        assert_eq!(credit.take(B, &mut b, 4 * MIB, 2, false), None);
        assert!(credit.waiting.is_empty(), "no message waits for it");
        give_back(&mut credit, &mut a);
        assert_eq!(credit.take(B, &mut b, 4 * MIB, 2, false), Some(2));
        give_back(&mut credit, &mut b);
        assert_eq!(credit.bytes, 0);
        // One that is larger than the room comes alone.
        assert_eq!(credit.take(A, &mut a, 100 * MIB, 3, true), Some(1));
        assert_eq!(credit.take(B, &mut b, MIB, 1, false), None);
    }

    #[test]
    fn who_waits_goes_before_who_comes() {
        let mut credit = LargeCredit::default();
        let (mut a, mut b) = (Large::default(), Large::default());
        assert_eq!(credit.take(A, &mut a, 16 * MIB, 1, false), Some(1));
        assert_eq!(credit.take(B, &mut b, 2 * MIB, 3, true), None);
        assert_eq!(credit.take(B, &mut b, 2 * MIB, 3, true), None);
        assert_eq!(credit.waiting.len(), 1, "once");
        give_back(&mut credit, &mut a);
        assert_eq!(credit.take(A, &mut a, 16 * MIB, 1, true), None);
        // Its turn: one message, so that all whose turn it is find the room that was counted for them.
        b.place = Place::Turn;
        assert_eq!(credit.take(B, &mut b, 2 * MIB, 3, true), Some(1));
        assert_eq!(credit.waiting.len(), 1);
        // Whose turn came too early keeps its place, and what it needs now is known.
        a.place = Place::Turn;
        assert_eq!(credit.take(A, &mut a, 15 * MIB, 1, true), None);
        assert_eq!(credit.waiting, [(A, u64::from(15 * MIB))]);
        assert_eq!(a.place, Place::Waits);
    }
}
