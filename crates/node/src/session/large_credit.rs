//! Credit for large messages.
//!
//! Usual credit is good for a consumer's share of what may be on its way to the connection. A queue's leader hands out no larger
//! message on it, but says how large that is: very many consumers of one client would have as many large messages on their way
//! before it is known whether the client reads. Credit for larger ones is good for as much as they take, and all of it fits
//! [`LARGE_BYTES`] for a connection. Who finds no room although a message waits for it waits for its turn. Others may have taken
//! the messages that credit was for: while somebody waits, credit that is not used is called back after a moment.
//!
//! All connections of a node share a part of its memory for it, in which what a client has not read counts too: very many
//! connections whose clients do not read would have a large message each. A client that takes nothing is given up after a while
//! ([`super::driver`]), and its part goes to others.
//!
//! Not here: streams ([`super::large_reads`]), whose messages come to every consumer.

use super::consume::Consumer;
use super::held::Held;
use super::state::Session;
use crate::hub::api::Ask;
use broker_model::ids::ConsumerId;
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

/// Large messages that may be on their way to one connection, in bytes; one that is larger comes alone.
const LARGE_BYTES: u64 = 16 << 20;
/// Output that waits for a client counts as unread from so many bytes on.
const UNREAD_MIN: u64 = 256 << 10;
/// Who waits for what other connections have looks again so often.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Credit that was not used for so long is called back while others wait for its room.
const UNUSED: Duration = Duration::from_millis(100);

/// Consumers that have gone are not looked for among so few.
const GONE_MIN: usize = 64;

/// Bytes that all connections of this process have on credit or unread.
static HELD: LazyLock<Arc<AtomicU64>> = LazyLock::new(Arc::default);
/// Connections of this process that wait for what others hold.
static SHORT: LazyLock<Arc<AtomicU64>> = LazyLock::new(Arc::default);

/// Whether there is room for so many bytes beside what others and this connection hold. What is nearly as large as all of it, or larger,
/// comes where others hold little.
fn fits_node(others: u64, own: u64, size: u64, all_max: u64) -> bool {
    let all = others.saturating_add(own);
    all.saturating_add(size) <= all_max || size > all_max / 4 * 3 && all <= all_max / 4
}

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
#[derive(Debug)]
pub(super) struct LargeCredit {
    /// Bytes that may come on all credit for large messages.
    bytes: u64,
    /// Bytes that the client has not read.
    unread: u64,
    /// Both, with those of the other connections.
    held: Held,
    /// What all connections may hold.
    all_max: u64,
    /// Whether this one waits for what others hold (0 or 1), with the others that do.
    short: Held,
    /// When it is looked whether others hold less.
    pub(super) look_again_at: Option<Instant>,
    /// Who waits for room, with what it needs, in order. Some may have gone meanwhile.
    waiting: VecDeque<(ConsumerId, u64)>,
    /// When unused credit is called back.
    pub(super) call_back_at: Option<Instant>,
}

impl LargeCredit {
    /// None yet, on a node whose connections may hold so many bytes together.
    pub(super) fn within(all_max: u64) -> Self {
        Self::of(&HELD, &SHORT, all_max)
    }

    fn of(all: &Arc<AtomicU64>, short: &Arc<AtomicU64>, all_max: u64) -> Self {
        Self {
            bytes: 0,
            unread: 0,
            held: Held::of(all),
            all_max,
            short: Held::of(short),
            look_again_at: None,
            waiting: VecDeque::new(),
            call_back_at: None,
        }
    }

    /// So much output waits for the client.
    pub(super) fn waits_for_client(&mut self, bytes: usize) {
        let bytes = bytes as u64;
        self.unread = if bytes < UNREAD_MIN { 0 } else { bytes };
        self.hold();
    }

    fn hold(&mut self) {
        let all = self.bytes.saturating_add(self.unread);
        if all != self.held.own() {
            self.held.set(all);
        }
    }

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

    /// Whether more than half of what all connections may hold is held: the rest is for those for whom a message waits.
    fn is_crowded(&self) -> bool {
        self.held.others().saturating_add(self.held.own()) > self.all_max / 2
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
            Place::Out if self.is_crowded() && !hungry => 0,
            Place::Out if self.is_crowded() && self.waiting.is_empty() => most.min(fitting).min(1),
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
            self.hold();
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
        let fitting = fitting.max(u64::from(self.bytes == 0));
        let (others, own) = (self.held.others(), self.held.own());
        let left = self.all_max.saturating_sub(others + own) / size.max(1);
        let fits = self.bytes == 0 && fits_node(others, own, size, self.all_max);
        fitting.min(left.max(u64::from(fits)))
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
        self.hold();
    }
}

impl Session {
    /// Those that wait longest have their turn, as many as there is room for: before channels are looked at, and after.
    pub(super) fn admit_large(&mut self) {
        let output = self.conn.output_len();
        let credit = &mut self.large_credit;
        credit.waits_for_client(output);
        // Others may wait for credit that is not used here.
        let idle = credit.bytes > 0 && credit.is_crowded();
        credit.look_again_at = idle.then(|| self.now + LOOK_AGAIN);
        if credit.waiting.is_empty() {
            credit.short.set(0);
            if idle && credit.short.others() > 0 {
                credit.call_back_at.get_or_insert(self.now + UNUSED);
            } else {
                credit.call_back_at = None;
            }
            return;
        }
        // They are looked at again when the client reads.
        if self.is_choked() {
            self.large_credit.short.set(0);
            self.choked = true;
            return;
        }
        let consumers = &mut self.consumers;
        let LargeCredit {
            bytes,
            unread,
            held,
            all_max,
            short,
            look_again_at,
            waiting,
            call_back_at,
        } = &mut self.large_credit;
        if waiting.len() > 2 * consumers.len() + GONE_MIN {
            waiting.retain(|(id, _)| consumers.contains_key(id));
        }
        let mut turns: SmallVec<[ConsumerId; 8]> = SmallVec::new();
        let mut all = *bytes;
        let mut left = false;
        let others = held.others();
        short.set(0);
        for (id, each) in waiting {
            let Some(consumer) = consumers.get_mut(id) else {
                continue;
            };
            left = all > 0 && all + *each > LARGE_BYTES;
            if !fits_node(others, *unread + all, *each, *all_max) {
                *look_again_at = Some(self.now + LOOK_AGAIN);
                short.set(1);
                left |= all > 0;
                break;
            }
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
        let mut credit = LargeCredit::of(&Arc::default(), &Arc::default(), u64::MAX / 2);
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
    fn connections_share_what_a_node_has() {
        let all = Arc::default();
        let on = |all| LargeCredit::of(all, &Arc::default(), u64::from(20 * MIB));
        let (mut one, mut two) = (on(&all), on(&all));
        let (mut a, mut b) = (Large::default(), Large::default());
        assert_eq!(one.take(A, &mut a, 12 * MIB, 1, true), Some(1));
        assert_eq!(
            two.take(B, &mut b, MIB, 1, false),
            None,
            "no message waits for it"
        );
        assert_eq!(two.take(B, &mut b, 12 * MIB, 1, true), None);
        // It has come, and is not read.
        give_back(&mut one, &mut a);
        one.waits_for_client(12 << 20);
        b.place = Place::Turn;
        assert_eq!(two.take(B, &mut b, 12 * MIB, 1, true), None);
        one.waits_for_client(1000);
        b.place = Place::Turn;
        assert_eq!(two.take(B, &mut b, 12 * MIB, 1, true), Some(1));
        // One that is larger than all comes alone.
        assert_eq!(one.take(A, &mut a, 100 * MIB, 1, true), None);
        drop(two);
        a.place = Place::Turn;
        assert_eq!(one.take(A, &mut a, 100 * MIB, 1, true), Some(1));
    }

    #[test]
    fn who_waits_goes_before_who_comes() {
        let mut credit = LargeCredit::of(&Arc::default(), &Arc::default(), u64::MAX / 2);
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
