//! What leaves in the course of a call: messages to nodes, gathered, and the desks' timers.

use super::desk::Desk;
use super::outbox::Outbox;
use super::roster::{ConsumerSlot, DeskSlot, OriginSlot, Roster};
use crate::protocol::{Delivery, FromHost};
use std::collections::BTreeSet;

/// A message to a node carries deliveries up to these bounds.
const PARCEL_COUNT: usize = 1024;
const PARCEL_BYTES: usize = 1 << 20;

/// Gathers deliveries per node. Order per node is kept: whatever else goes to a node first sends
/// off the deliveries before it.
#[derive(Debug, Default)]
pub(super) struct Post {
    parcels: Vec<Parcel>,
    /// Nodes whose parcel is not empty.
    open: Vec<OriginSlot>,
}

#[derive(Debug, Default)]
struct Parcel {
    deliveries: Vec<Delivery>,
    bytes: usize,
}

impl Post {
    pub(super) fn deliver(
        &mut self,
        roster: &Roster,
        to: OriginSlot,
        delivery: Delivery,
        out: &mut Outbox,
    ) {
        let at = to as usize;
        if at >= self.parcels.len() {
            self.parcels.resize_with(at + 1, Parcel::default);
        }
        let Some(parcel) = self.parcels.get_mut(at) else {
            return;
        };
        if parcel.deliveries.is_empty() {
            self.open.push(to);
        }
        parcel.bytes += delivery.message.weight();
        parcel.deliveries.push(delivery);
        if parcel.deliveries.len() >= PARCEL_COUNT || parcel.bytes >= PARCEL_BYTES {
            self.send_off(roster, to, out);
        }
    }

    /// Sends something else to a node.
    pub(super) fn send(
        &mut self,
        roster: &Roster,
        to: OriginSlot,
        message: FromHost,
        out: &mut Outbox,
    ) {
        self.send_off(roster, to, out);
        out.to_nodes.push((roster.origin(to), message));
    }

    /// Tells consumers whether they are the single active one.
    pub(super) fn tell_active(
        &mut self,
        roster: &Roster,
        slots: &[ConsumerSlot],
        out: &mut Outbox,
    ) {
        for consumer in slots.iter().filter_map(|slot| roster.consumers.get(*slot)) {
            let active = FromHost::Active {
                consumer: consumer.id,
                since: consumer.active_since,
            };
            self.send(roster, consumer.origin, active, out);
        }
    }

    fn send_off(&mut self, roster: &Roster, to: OriginSlot, out: &mut Outbox) {
        if let Some(parcel) = self.parcels.get_mut(to as usize)
            && !parcel.deliveries.is_empty()
        {
            parcel.bytes = 0;
            let deliveries = std::mem::take(&mut parcel.deliveries);
            self.open.retain(|open| *open != to);
            out.to_nodes
                .push((roster.origin(to), FromHost::Deliver(deliveries)));
        }
    }

    /// Sends off everything.
    pub(super) fn flush(&mut self, roster: &Roster, out: &mut Outbox) {
        for to in std::mem::take(&mut self.open) {
            self.send_off(roster, to, out);
        }
    }
}

/// When which desk wants to be served although nothing happens to it. One time per desk: the
/// earliest; a desk that is served too early sets its timer again.
#[derive(Debug, Default)]
pub(super) struct Timers {
    times: BTreeSet<(u64, DeskSlot)>,
}

impl Timers {
    pub(super) fn set(&mut self, desk: &mut Desk, slot: DeskSlot, at_ms: u64) {
        // 0 stands for none.
        let at_ms = at_ms.max(1);
        if desk.timer_ms != 0 {
            if desk.timer_ms <= at_ms {
                return;
            }
            self.times.remove(&(desk.timer_ms, slot));
        }
        desk.timer_ms = at_ms;
        self.times.insert((at_ms, slot));
    }

    pub(super) fn clear(&mut self, desk: &mut Desk, slot: DeskSlot) {
        self.times.remove(&(desk.timer_ms, slot));
        desk.timer_ms = 0;
    }

    pub(super) fn first(&self) -> Option<u64> {
        self.times.first().map(|(at_ms, _)| *at_ms)
    }

    /// Takes out a desk whose time has come.
    pub(super) fn pop_due(&mut self, now_ms: u64) -> Option<DeskSlot> {
        let due = self
            .times
            .first()
            .copied()
            .filter(|(at_ms, _)| *at_ms <= now_ms)?;
        self.times.remove(&due);
        Some(due.1)
    }
}
