//! How many deliveries a queue's leader may send: prefetch, the channel's shared window, and what
//! this node is ready to hold for a client that does not read.
//!
//! The number of messages on their way comes from their size, so that a window of large messages does
//! not fill the memory. While more output waits for the client than configured nothing is granted.
//!
//! Not here: who gets how much ([`super::credit_plan`]).

use super::channel::{Changed, Channel, ChannelKey};
use super::consume::Consumer;
use super::credit_plan::{Decision, View};
use super::state::Session;
use crate::hub::api::Ask;
use broker_model::ids::ConsumerId;
use broker_model::protocol::CREDIT_BYTES_MIN;

/// Bytes of deliveries on their way to one connection, over all its consumers; less where very many connections share a
/// node's memory.
const ON_THE_WAY_BYTES: u32 = 4 << 20;
/// At least so many of them for each consumer.
const ON_THE_WAY_BYTES_MIN: u32 = CREDIT_BYTES_MIN;
/// Messages on their way to one consumer, at most.
const ON_THE_WAY_MAX: u32 = 16 * 1024;
/// What a message on its way takes apart from its body.
const MESSAGE_OVERHEAD: u32 = 256;
/// What a message is taken for before any has come: rather too large, so that a queue of large ones
/// is no surprise; small ones correct it quickly.
pub(super) const MEAN_BYTES_FIRST: u32 = 64 << 10;
/// A consumer without a prefetch may hold so many deliveries.
const UNACKED_MAX: u32 = 1 << 20;

impl Session {
    /// `basic.qos`. A prefetch for consumers to come lifts the limit that is shared by all of the channel, as with
    /// RabbitMQ: the two hold together only where the shared one is set last.
    pub(super) fn set_qos(&mut self, key: ChannelKey, prefetch: u16, global: bool) {
        let Some(channel) = self.channel(key) else {
            return;
        };
        let shared = if global { u32::from(prefetch) } else { 0 };
        if !global {
            channel.prefetch = u32::from(prefetch);
            channel.entry.prefetch_each.set(i64::from(prefetch));
        }
        if channel.window.limit != shared {
            channel.window.resize(shared);
            channel.changed = Changed::All;
            self.touch(key);
        }
    }

    /// The credit that a new consumer begins with.
    pub(super) fn first_credit(&mut self, id: ConsumerId) -> u32 {
        let Some(consumer) = self.consumers.get(&id) else {
            return 0;
        };
        let Some(channel) = self.channels.get(&consumer.channel.number) else {
            return 0;
        };
        // Who reads a stream asks for what it wants.
        if self.is_choked() || consumer.reader.is_some() {
            return 0;
        }
        let most = self.most_for(consumer);
        let credit = if consumer.no_ack {
            if channel.window.is_full() { 0 } else { most }
        } else if channel.window.limit == 0 {
            most
        } else {
            let (_, views) = self.views(channel);
            let sharing = views.iter().filter(|view| view.shares).count();
            most.min(channel.window.room(&views))
                .min(channel.window.share(sharing))
        };
        if let Some(consumer) = self.consumers.get_mut(&id) {
            consumer.granted = credit;
        }
        credit
    }

    /// Grants what may be granted to the consumers of a channel, and calls back what must be.
    pub(super) fn replenish(&mut self, key: ChannelKey) {
        if self.is_choked() {
            self.choked = true;
            return;
        }
        let Some(channel) = self.channel(key) else {
            return;
        };
        match &mut channel.changed {
            // Without a window to share, what one has is nothing to the others.
            Changed::Some(changed) if channel.window.limit == 0 => {
                let changed = std::mem::take(changed);
                for id in &changed {
                    if let Some(consumer) = self.consumers.get_mut(id) {
                        consumer.changed = false;
                    }
                    if let Some(consumer) = self.consumers.get(id) {
                        self.carry_out(*id, self.view(consumer).raise(u32::MAX));
                    }
                }
                self.list_again(key, changed);
            }
            Changed::Some(_) | Changed::All => {
                channel.changed = Changed::Some(Vec::new());
                self.replenish_all(key.number);
            }
        }
    }

    fn replenish_all(&mut self, number: u16) {
        let Some(channel) = self.channels.get(&number) else {
            return;
        };
        let (ids, views) = self.views(channel);
        let Some(channel) = self.channels.get_mut(&number) else {
            return;
        };
        for (id, decision) in ids.into_iter().zip(channel.window.plan(&views)) {
            if let Some(consumer) = self.consumers.get_mut(&id) {
                consumer.changed = false;
            }
            self.carry_out(id, decision);
        }
    }

    /// The room of a list that was gone through is used again.
    fn list_again(&mut self, key: ChannelKey, mut list: Vec<ConsumerId>) {
        list.clear();
        if let Some(channel) = self.channel(key)
            && let Changed::Some(changed) = &mut channel.changed
            && changed.is_empty()
        {
            *changed = list;
        }
    }

    fn carry_out(&mut self, id: ConsumerId, decision: Decision) {
        let share = self.on_the_way_bytes();
        let Some(consumer) = self.consumers.get_mut(&id) else {
            return;
        };
        if let Some(reader) = &consumer.reader {
            match decision {
                Decision::Leave => {}
                Decision::Grant(more) => consumer.granted += more,
                Decision::CallBack if reader.is_waiting() => {}
                Decision::CallBack => consumer.granted = 0,
            }
            self.read_on(id);
            return;
        }
        let (placement, queue) = (consumer.placement, consumer.queue);
        let ask = match decision {
            Decision::Leave => return,
            Decision::Grant(most) => {
                let Some((more, bytes)) = self.large_credit.grant(id, consumer, most, share) else {
                    // When there is room for it.
                    return;
                };
                consumer.hungry = false;
                Ask::Credit {
                    consumer: id,
                    queue,
                    more,
                    bytes,
                }
            }
            Decision::CallBack => {
                consumer.revoking = true;
                Ask::Revoke {
                    consumer: id,
                    queue,
                }
            }
        };
        self.handle.ask(placement, ask);
    }

    /// Credit that was called back.
    pub(super) fn revoked(&mut self, id: ConsumerId, unused: u32) {
        let Some(consumer) = self.consumers.get_mut(&id) else {
            return;
        };
        self.large_credit.used(consumer, unused);
        consumer.revoking = false;
        self.touch_consumer(id);
    }

    /// A message waits that is larger than what the credit of its consumer was good for.
    pub(super) fn too_large(&mut self, id: ConsumerId, unused: u32, size: u32) {
        let Some(consumer) = self.consumers.get_mut(&id) else {
            return;
        };
        self.large_credit.used(consumer, unused);
        consumer.mean_bytes = consumer.mean_bytes.max(size);
        self.starved(id);
    }

    /// A message waits for a consumer without credit.
    pub(super) fn starved(&mut self, id: ConsumerId) {
        let Some(consumer) = self.consumers.get_mut(&id) else {
            return;
        };
        // With credit on its way this is old news.
        if consumer.granted == 0 {
            consumer.hungry = true;
            self.touch_consumer(id);
        }
    }

    /// The consumers of a channel and what the decision must know of them.
    fn views(&self, channel: &Channel) -> (Vec<ConsumerId>, Vec<View>) {
        let consumers = channel
            .consumers
            .values()
            .filter_map(|id| Some((*id, self.consumers.get(id)?)));
        consumers
            .map(|(id, consumer)| (id, self.view(consumer)))
            .unzip()
    }

    fn view(&self, consumer: &Consumer) -> View {
        View {
            granted: consumer.granted,
            most: self.most_for(consumer),
            shares: !consumer.no_ack && consumer.reader.is_none(),
            hungry: consumer.hungry,
            settled: consumer.starting.is_none() && !consumer.revoking && !consumer.cancelling,
        }
    }

    /// Bytes of deliveries on their way to one consumer.
    pub(super) fn on_the_way_bytes(&self) -> u32 {
        let consumers = u32::try_from(self.consumers.len())
            .unwrap_or(u32::MAX)
            .max(1);
        let connections = self.broker.metrics().connections.value().max(1);
        let of_node = self.broker.config().memory.large_messages_bytes / connections.unsigned_abs();
        let bytes = u32::try_from(of_node)
            .map_or(ON_THE_WAY_BYTES, |of_node| of_node.min(ON_THE_WAY_BYTES));
        (bytes / consumers).max(ON_THE_WAY_BYTES_MIN)
    }

    /// The most credit that a consumer may have now, the shared window aside.
    fn most_for(&self, consumer: &Consumer) -> u32 {
        let bytes = self.on_the_way_bytes();
        let on_the_way =
            (bytes / consumer.mean_bytes.saturating_add(MESSAGE_OVERHEAD)).clamp(1, ON_THE_WAY_MAX);
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

    pub(super) fn is_choked(&self) -> bool {
        self.conn.output_len() > self.output_limit()
    }
}

/// The recent size of messages, after one of `size` has come: at once in large ones, soon in small
/// ones.
pub(super) fn mean_bytes(mean_bytes: u32, size: usize) -> u32 {
    let size = u32::try_from(size).unwrap_or(u32::MAX);
    if size > mean_bytes {
        size
    } else {
        mean_bytes - (mean_bytes - size) / 4
    }
}
