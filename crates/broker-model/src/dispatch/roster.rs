//! Nodes, consumers and holders of a dispatcher.
//!
//! A *holder* is who messages are held by: a consumer, or a node without a consumer (`basic.get`, or
//! a consumer that was cancelled). It outlives its consumer while it holds anything. When a node's
//! stream is opened anew its consumers get new holders; what the old ones hold and the node does not
//! claim goes back when the node has told everything.

use super::held::HolderSlot;
use super::slab::Slab;
use crate::ids::{ConsumerId, NodeId, Origin};
use crate::protocol::{CREDIT_BYTES_MIN, ConsumerSpec};
use hashbrown::HashMap;
use smallvec::SmallVec;

pub(super) type OriginSlot = u32;
pub(super) type ConsumerSlot = u32;
pub(super) type DeskSlot = u32;

type Map<K, V> = HashMap<K, V, foldhash::fast::FixedState>;

#[derive(Debug)]
pub(super) struct Consumer {
    pub(super) origin: OriginSlot,
    pub(super) id: ConsumerId,
    pub(super) desk: DeskSlot,
    pub(super) spec: ConsumerSpec,
    pub(super) credit: u32,
    /// What its credit is good for, in bytes.
    pub(super) worth: u32,
    /// Of messages that it got since it was last granted credit.
    pub(super) bytes: usize,
    pub(super) holder: HolderSlot,
    /// Its age: order of attachment, kept from leader to leader.
    pub(super) serial: u64,
    /// When it became the single active consumer, counted as `serial`; 0: it is not. More than one
    /// may say so of an earlier leader's time until one is elected.
    pub(super) active_since: u64,
    /// Stands in a ring of its desk.
    pub(super) in_ring: bool,
    /// Listed by its desk as one to be told that it starves.
    pub(super) listed: bool,
    /// Told so since it last got credit.
    pub(super) told: bool,
    /// Told of by its node since the node's stream opened.
    pub(super) confirmed: bool,
    /// No other consumer has or had it here.
    pub(super) stamp: u64,
}

#[derive(Debug)]
pub(super) struct Holder {
    pub(super) origin: OriginSlot,
    pub(super) desk: DeskSlot,
    pub(super) consumer: Option<ConsumerSlot>,
    pub(super) held: u64,
    pub(super) standing: Standing,
}

/// What is known of a holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Holds what it holds.
    Live,
    /// Its node's stream opened anew: what is not claimed until the node has told all goes back.
    Suspect,
    /// Its node is gone: the return of what it holds is on its way.
    Lost,
}

#[derive(Debug, Default)]
pub(super) struct Roster {
    origins: Vec<Origin>,
    by_origin: Map<Origin, OriginSlot>,
    pub(super) consumers: Slab<Consumer>,
    by_id: Map<(OriginSlot, ConsumerId), ConsumerSlot>,
    pub(super) holders: Slab<Holder>,
    /// Holders without a consumer that may still get more.
    loose: Map<(DeskSlot, OriginSlot), HolderSlot>,
    /// Whose stream has opened, and `Resumed` has not come yet.
    telling: SmallVec<[OriginSlot; 2]>,
    serial: u64,
    stamps: u64,
}

impl Roster {
    pub(super) fn origin_slot(&mut self, origin: Origin) -> OriginSlot {
        *self.by_origin.entry(origin).or_insert_with(|| {
            self.origins.push(origin);
            (self.origins.len() - 1) as OriginSlot
        })
    }

    pub(super) fn known_origin(&self, origin: Origin) -> Option<OriginSlot> {
        self.by_origin.get(&origin).copied()
    }

    pub(super) fn origin(&self, slot: OriginSlot) -> Origin {
        let nobody = Origin {
            node: NodeId(0),
            incarnation: 0,
        };
        self.origins.get(slot as usize).copied().unwrap_or(nobody)
    }

    /// A node start tells what it holds, or has told all.
    pub(super) fn set_telling(&mut self, origin: OriginSlot, telling: bool) {
        self.telling.retain(|other| *other != origin);
        if telling {
            self.telling.push(origin);
        }
    }

    /// Whether a node start has yet to tell what it holds and settles: nothing is to be handed out to it.
    pub(super) fn is_telling(&self, origin: OriginSlot) -> bool {
        self.telling.contains(&origin)
    }

    pub(super) fn find(&self, origin: OriginSlot, id: ConsumerId) -> Option<ConsumerSlot> {
        self.by_id.get(&(origin, id)).copied()
    }

    pub(super) fn add(
        &mut self,
        origin: OriginSlot,
        id: ConsumerId,
        desk: DeskSlot,
        spec: ConsumerSpec,
        credit: u32,
    ) -> ConsumerSlot {
        let serial = self.next_serial();
        let holder = self.add_holder(origin, desk);
        self.stamps += 1;
        let slot = self.consumers.insert(Consumer {
            origin,
            id,
            desk,
            spec,
            credit,
            worth: CREDIT_BYTES_MIN,
            bytes: 0,
            holder,
            serial,
            active_since: 0,
            in_ring: false,
            listed: false,
            told: false,
            confirmed: true,
            stamp: self.stamps,
        });
        if let Some(holder) = self.holders.get_mut(holder) {
            holder.consumer = Some(slot);
        }
        self.by_id.insert((origin, id), slot);
        slot
    }

    /// Whether the consumer with this stamp is still in its slot.
    pub(super) fn is(&self, slot: ConsumerSlot, stamp: u64) -> bool {
        let there = self.consumers.get(slot);
        there.is_some_and(|consumer| consumer.stamp == stamp)
    }

    /// The next in the order of attachments and elections.
    pub(super) fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    /// A consumer comes with what an earlier leader told it: the order goes on from there.
    pub(super) fn resumes(&mut self, slot: ConsumerSlot, order: u64, active_since: u64) {
        self.serial = self.serial.max(order).max(active_since);
        if let Some(consumer) = self.consumers.get_mut(slot) {
            if order > 0 {
                consumer.serial = order;
            }
            consumer.active_since = active_since;
        }
    }

    /// Forgets a consumer; its holder stays while it holds anything.
    pub(super) fn remove(&mut self, slot: ConsumerSlot) -> Option<Consumer> {
        let consumer = self.consumers.remove(slot)?;
        self.by_id.remove(&(consumer.origin, consumer.id));
        self.abandon(consumer.holder);
        Some(consumer)
    }

    fn add_holder(&mut self, origin: OriginSlot, desk: DeskSlot) -> HolderSlot {
        self.holders.insert(Holder {
            origin,
            desk,
            consumer: None,
            held: 0,
            standing: Standing::Live,
        })
    }

    /// The holder takes no more: it goes when it holds nothing.
    fn abandon(&mut self, slot: HolderSlot) {
        if let Some(holder) = self.holders.get_mut(slot) {
            holder.consumer = None;
            if holder.held == 0 {
                self.holders.remove(slot);
            }
        }
    }

    /// Who holds what a node has of a queue without a consumer.
    pub(super) fn loose_holder(&mut self, desk: DeskSlot, origin: OriginSlot) -> HolderSlot {
        if let Some(slot) = self.loose.get(&(desk, origin)) {
            return *slot;
        }
        let slot = self.add_holder(origin, desk);
        self.loose.insert((desk, origin), slot);
        slot
    }

    /// A holder got a message.
    pub(super) fn gained(&mut self, slot: HolderSlot) {
        if let Some(holder) = self.holders.get_mut(slot) {
            holder.held += 1;
        }
    }

    /// A holder has a message no longer.
    pub(super) fn released(&mut self, slot: HolderSlot) {
        let Some(holder) = self.holders.get_mut(slot) else {
            return;
        };
        holder.held = holder.held.saturating_sub(1);
        if holder.held == 0 && holder.consumer.is_none() {
            let key = (holder.desk, holder.origin);
            if self.loose.get(&key) == Some(&slot) {
                self.loose.remove(&key);
            }
            self.holders.remove(slot);
        }
    }

    pub(super) fn holds_any(&self, consumer: ConsumerSlot) -> bool {
        let holder = self
            .consumers
            .get(consumer)
            .and_then(|consumer| self.holders.get(consumer.holder));
        holder.is_some_and(|holder| holder.held > 0)
    }

    /// All holders of a node start get another standing. The loose ones take nothing new.
    pub(super) fn set_standing(&mut self, origin: OriginSlot, standing: Standing) {
        self.loose.retain(|(_, of), _| *of != origin);
        let slots: Vec<HolderSlot> = self
            .holders
            .iter()
            .filter(|(_, holder)| holder.origin == origin)
            .map(|(slot, _)| slot)
            .collect();
        for slot in slots {
            let Some(holder) = self.holders.get_mut(slot) else {
                continue;
            };
            holder.standing = standing;
            let (desk, consumer) = (holder.desk, holder.consumer);
            if let Some(consumer) = consumer {
                let fresh = self.add_holder(origin, desk);
                if let Some(holder) = self.holders.get_mut(fresh) {
                    holder.consumer = Some(consumer);
                }
                if let Some(consumer) = self.consumers.get_mut(consumer) {
                    consumer.holder = fresh;
                }
            }
            self.abandon(slot);
        }
    }

    /// Consumers of a node start.
    pub(super) fn consumers_of(&self, origin: OriginSlot) -> Vec<ConsumerSlot> {
        self.consumers
            .iter()
            .filter(|(_, consumer)| consumer.origin == origin)
            .map(|(slot, _)| slot)
            .collect()
    }

    /// Desks of which a node start holds something in this standing, ascending.
    pub(super) fn desks_held(&self, origin: OriginSlot, standing: Standing) -> Vec<DeskSlot> {
        let held = self
            .holders
            .iter()
            .filter(|(_, holder)| holder.origin == origin && holder.standing == standing);
        let mut desks: Vec<DeskSlot> = held
            .filter(|(_, holder)| holder.held > 0)
            .map(|(_, holder)| holder.desk)
            .collect();
        desks.sort_unstable();
        desks.dedup();
        desks
    }

    /// The queue of this desk is gone.
    pub(super) fn forget_desk(&mut self, desk: DeskSlot) {
        let loose: Vec<HolderSlot> = self
            .loose
            .iter()
            .filter(|((of, _), _)| *of == desk)
            .map(|(_, holder)| *holder)
            .collect();
        if loose.is_empty() {
            return;
        }
        self.loose.retain(|(of, _), _| *of != desk);
        loose.into_iter().for_each(|holder| self.abandon(holder));
    }
}
