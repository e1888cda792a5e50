//! How many deliveries a queue's leader may send: prefetch, the channel's shared window, and what
//! this node is ready to hold for a client that does not read.
//!
//! Three limits, the lowest counts. A consumer's own prefetch, the channel's window (shared by its
//! consumers that acknowledge), and a number of messages on their way that comes from their size, so
//! that a window of large messages does not fill the memory. While more output waits for the client
//! than configured nothing is granted at all.
//!
//! The shared window is given out in equal shares. A consumer whose queue has a message but which has
//! no credit says so; then what others do not use is called back and goes there.

use super::channel::{Channel, ChannelKey};
use super::state::Session;
use crate::hub::api::Ask;
use broker_model::ids::ConsumerId;

/// Bytes of deliveries on their way to one connection, over all its consumers.
const ON_THE_WAY_BYTES: u32 = 4 << 20;
/// At least so many of them for each consumer.
const ON_THE_WAY_BYTES_MIN: u32 = 64 << 10;
/// Messages on their way to one consumer, at most.
const ON_THE_WAY_MAX: u32 = 2048;
/// What a message is taken for before any has come: rather too large, so that a queue of large ones
/// is no surprise; small ones correct it quickly.
pub(super) const MEAN_BYTES_FIRST: u32 = 256 << 10;
/// A consumer without a prefetch may hold so many deliveries.
const UNACKED_MAX: u32 = 1 << 20;

/// The window that all consumers of a channel share.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// Its size; 0 is no limit.
    pub(super) limit: u32,
    /// Unacknowledged deliveries of the channel, gets included.
    pub(super) unacked: u32,
    /// Whose turn it is to get credit first.
    turn: usize,
}

impl Session {
    /// `basic.qos`.
    pub(super) fn set_qos(&mut self, key: ChannelKey, prefetch: u16, global: bool) {
        let Some(channel) = self.channel(key) else {
            return;
        };
        if !global {
            channel.prefetch = u32::from(prefetch);
            return;
        }
        let before = std::mem::replace(&mut channel.window.limit, u32::from(prefetch));
        let narrower = prefetch != 0 && (before == 0 || u32::from(prefetch) < before);
        self.touch(key);
        if narrower {
            self.call_back(key, |_| true);
        }
    }

    /// The credit that a new consumer begins with.
    pub(super) fn first_credit(&mut self, id: ConsumerId) -> u32 {
        let Some(key) = self.consumers.get(&id).map(|consumer| consumer.channel) else {
            return 0;
        };
        if self.is_choked() {
            return 0;
        }
        let Some(channel) = self.channels.get(&key.number) else {
            return 0;
        };
        let room = self.room_in_window(channel);
        let share = fair_share(channel);
        let most = self.most_for(id);
        let Some(consumer) = self.consumers.get_mut(&id) else {
            return 0;
        };
        consumer.granted = if consumer.no_ack {
            most
        } else {
            most.min(room).min(share)
        };
        consumer.granted
    }

    /// Grants what may be granted to the consumers of a channel.
    pub(super) fn replenish(&mut self, key: ChannelKey) {
        if self
            .channels
            .get(&key.number)
            .is_none_or(|channel| channel.key != key)
        {
            return;
        }
        if self.is_choked() {
            self.choked = true;
            return;
        }
        let Some(channel) = self.channels.get(&key.number) else {
            return;
        };
        if channel.consumers.is_empty() {
            return;
        }
        let ids: Vec<ConsumerId> = channel.consumers.values().copied().collect();
        let shared = channel.window.limit > 0;
        if !shared {
            for id in ids {
                self.top_up(id, u32::MAX);
            }
            return;
        }
        for id in &ids {
            if self
                .consumers
                .get(id)
                .is_some_and(|consumer| consumer.no_ack)
            {
                self.top_up(*id, u32::MAX);
            }
        }
        self.share_window(key, &ids);
    }

    /// Gives out the shared window: first to those who have a message waiting, then in equal shares.
    fn share_window(&mut self, key: ChannelKey, ids: &[ConsumerId]) {
        let Some(channel) = self.channels.get(&key.number) else {
            return;
        };
        let mut room = self.room_in_window(channel);
        let share = fair_share(channel);
        let turn = channel.window.turn;
        let wants = |session: &Self, id: &ConsumerId, hungry: bool| {
            session
                .consumers
                .get(id)
                .is_some_and(|c| !c.no_ack && c.hungry == hungry && c.is_grantable())
        };
        let mut order: Vec<ConsumerId> = ids.to_vec();
        order.rotate_left(turn % ids.len().max(1));
        let hungry: Vec<ConsumerId> = order
            .iter()
            .filter(|id| wants(self, id, true))
            .copied()
            .collect();
        let mut left = hungry.len() as u32;
        let mut served = false;
        for id in &hungry {
            let part = room.div_ceil(left.max(1));
            left -= 1;
            let given = self.top_up(*id, part);
            room -= given;
            served |= given > 0;
        }
        for id in &order {
            if !wants(self, id, false) {
                continue;
            }
            let granted = self
                .consumers
                .get(id)
                .map_or(0, |consumer| consumer.granted);
            room -= self.top_up(*id, room.min(share.saturating_sub(granted)));
        }
        if served && let Some(channel) = self.channel(key) {
            channel.window.turn = channel.window.turn.wrapping_add(1);
        }
        let starves = hungry.iter().any(|id| {
            self.consumers
                .get(id)
                .is_some_and(|consumer| consumer.hungry && self.most_for(*id) > 0)
        });
        if starves {
            self.call_back(key, |hungry| !hungry);
        }
    }

    /// Raises a consumer's credit by `room` at most; returns by how much.
    fn top_up(&mut self, id: ConsumerId, room: u32) -> u32 {
        let most = self.most_for(id);
        let Some(consumer) = self.consumers.get_mut(&id) else {
            return 0;
        };
        if !consumer.is_grantable() {
            return 0;
        }
        let more = most.saturating_sub(consumer.granted).min(room);
        // In steps of a quarter, unless it runs low: credit costs a message.
        let worth_it = more.saturating_mul(4) >= most || consumer.granted < most / 2;
        if more == 0 || !worth_it {
            return 0;
        }
        consumer.granted += more;
        consumer.hungry = false;
        let (placement, queue) = (consumer.placement, consumer.queue);
        self.handle.ask(
            placement,
            Ask::Credit {
                consumer: id,
                queue,
                more,
            },
        );
        more
    }

    /// Calls back the credit of those consumers that acknowledge, have some, and are `wanted` by
    /// whether they are hungry.
    fn call_back(&mut self, key: ChannelKey, wanted: impl Fn(bool) -> bool) {
        let Some(channel) = self.channels.get(&key.number) else {
            return;
        };
        for id in channel.consumers.values() {
            let Some(consumer) = self.consumers.get_mut(id) else {
                continue;
            };
            if consumer.granted > 0
                && !consumer.no_ack
                && consumer.is_grantable()
                && wanted(consumer.hungry)
            {
                consumer.revoking = true;
                let (placement, queue) = (consumer.placement, consumer.queue);
                self.handle.ask(
                    placement,
                    Ask::Revoke {
                        consumer: *id,
                        queue,
                    },
                );
            }
        }
    }

    pub(super) fn revoked(&mut self, id: ConsumerId, unused: u32) {
        let Some(consumer) = self.consumers.get_mut(&id) else {
            return;
        };
        consumer.granted = consumer.granted.saturating_sub(unused);
        consumer.revoking = false;
        let key = consumer.channel;
        self.touch(key);
    }

    pub(super) fn starved(&mut self, id: ConsumerId) {
        let Some(consumer) = self.consumers.get_mut(&id) else {
            return;
        };
        // With credit on its way this is old news.
        if consumer.granted == 0 {
            consumer.hungry = true;
            let key = consumer.channel;
            self.touch(key);
        }
    }

    /// A delivery of this size has come.
    pub(super) fn note_size(mean_bytes: u32, size: usize) -> u32 {
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        // Quick to believe in small ones, which cost little, and at once in large ones.
        if size > mean_bytes {
            size
        } else {
            mean_bytes - (mean_bytes - size) / 4
        }
    }

    /// The most credit that a consumer may have now, the shared window aside.
    fn most_for(&self, id: ConsumerId) -> u32 {
        let Some(consumer) = self.consumers.get(&id) else {
            return 0;
        };
        let consumers = u32::try_from(self.consumers.len())
            .unwrap_or(u32::MAX)
            .max(1);
        let bytes = (ON_THE_WAY_BYTES / consumers).max(ON_THE_WAY_BYTES_MIN);
        let on_the_way = (bytes / consumer.mean_bytes.max(1)).clamp(1, ON_THE_WAY_MAX);
        if consumer.no_ack {
            return on_the_way;
        }
        let limit = if consumer.prefetch == 0 {
            UNACKED_MAX
        } else {
            consumer.prefetch
        };
        limit.saturating_sub(consumer.unacked).min(on_the_way)
    }

    /// What is left of the shared window.
    fn room_in_window(&self, channel: &Channel) -> u32 {
        let window = &channel.window;
        if window.limit == 0 {
            return u32::MAX;
        }
        let granted: u32 = channel
            .consumers
            .values()
            .filter_map(|id| self.consumers.get(id))
            .filter(|consumer| !consumer.no_ack)
            .map(|consumer| consumer.granted)
            .sum();
        window
            .limit
            .saturating_sub(window.unacked)
            .saturating_sub(granted)
    }

    fn is_choked(&self) -> bool {
        self.conn.output_len() > self.output_limit()
    }
}

impl super::consume::Consumer {
    /// Credit may be given or taken.
    fn is_grantable(&self) -> bool {
        self.starting.is_none() && !self.revoking && !self.cancelling
    }
}

/// An equal share of the window for each consumer of a channel.
fn fair_share(channel: &Channel) -> u32 {
    let consumers = u32::try_from(channel.consumers.len())
        .unwrap_or(u32::MAX)
        .max(1);
    match channel.window.limit {
        0 => u32::MAX,
        limit => (limit / consumers).max(1),
    }
}
