//! Deliveries that nobody acknowledges in time.
//!
//! Every consumer's oldest delivery counts, also that of a consumer which was cancelled and still holds
//! something. What the queue allows is looked up each time, so that a policy reaches consumers that are
//! there. All that a late consumer holds goes back to its queue, counted as failed: a message that no
//! consumer gets done must reach its delivery limit. The consumer is cancelled. A client that would
//! not understand that loses its channel, and so does one that holds what it got with `basic.get`: there
//! is no consumer to cancel.

use super::channel::{ChannelKey, GET};
use super::outbox::Settlement;
use super::state::Session;
use amqp_codec::ReplyCode;
use amqp_connection::ProtocolError;
use broker_model::ids::{ConsumerId, QueueId};
use std::collections::BTreeMap;
use std::time::Duration;

/// A consumer that was cancelled while it held deliveries, which may still be acknowledged.
#[derive(Debug)]
pub(super) struct Former {
    pub(super) queue: QueueId,
    pub(super) channel: ChannelKey,
    /// Deliveries not acknowledged.
    pub(super) unacked: u32,
    /// The time that it named itself.
    pub(super) own_timeout: Option<Duration>,
}

impl Session {
    /// Deliveries of a consumer that was cancelled are done with.
    pub(super) fn former_freed(&mut self, id: ConsumerId, count: u32) {
        if let Some(former) = self.former.get_mut(&id) {
            former.unacked = former.unacked.saturating_sub(count);
            if former.unacked == 0 {
                self.former.remove(&id);
            }
        }
    }

    /// Ends consumers, and channels that have got messages, that hold one for longer than they may.
    pub(super) fn check_timeouts(&mut self) {
        self.check_consumer_timeouts();
        self.check_get_timeouts();
    }

    /// Cancels consumers that hold a delivery for longer than they may.
    fn check_consumer_timeouts(&mut self) {
        let channels = &self.channels;
        self.former.retain(|_, former| {
            channels
                .get(&former.channel.number)
                .is_some_and(|channel| channel.key == former.channel)
        });
        let holding = self
            .consumers
            .iter()
            // One that is being cancelled is looked at when it is. Who reads a stream keeps nothing from others.
            .filter(|(_, consumer)| {
                consumer.unacked > 0 && !consumer.cancelling && consumer.reader.is_none()
            })
            .map(|(id, consumer)| (*id, consumer.queue, consumer.own_timeout))
            .chain(
                self.former
                    .iter()
                    .map(|(id, former)| (*id, former.queue, former.own_timeout)),
            );
        let timeouts: BTreeMap<ConsumerId, Option<Duration>> = holding
            .map(|(id, queue, own)| (id, self.timeout_of(queue, own)))
            .collect();
        if !timeouts.is_empty() || self.consumers.values().any(|consumer| consumer.unacked > 0) {
            self.look_at_timeouts();
        }
        if timeouts.values().all(Option::is_none) {
            return;
        }
        for (key, id, timeout) in self.overdue(&timeouts) {
            if self.conn.client().consumer_cancel_notify {
                self.expire_consumer(key, id);
            } else {
                self.close_for_timeout(key, timeout);
            }
        }
    }

    /// Closes channels that hold what they have got for longer than the queue allows.
    fn check_get_timeouts(&mut self) {
        let mut oldest: BTreeMap<(ChannelKey, QueueId), u32> = BTreeMap::new();
        for channel in self.channels.values() {
            let got = channel
                .unacked
                .iter()
                .map(|(_, delivery)| delivery)
                .filter(|delivery| delivery.consumer == GET)
                .filter(|delivery| !self.unheld.contains(&delivery.queue));
            // Oldest first.
            for delivery in got {
                oldest
                    .entry((channel.key, delivery.queue))
                    .or_insert(delivery.delivered_s);
            }
        }
        if !oldest.is_empty() {
            self.look_at_timeouts();
        }
        for ((key, queue), delivered_s) in oldest {
            if let Some(timeout) = self.timeout_of(queue, None)
                && self.age(delivered_s) > timeout
            {
                self.close_for_timeout(key, timeout);
            }
        }
    }

    fn age(&self, delivered_s: u32) -> Duration {
        Duration::from_secs(u64::from(self.seconds().saturating_sub(delivered_s)))
    }

    fn timeout_of(&self, queue: QueueId, own: Option<Duration>) -> Option<Duration> {
        let of_queue = || {
            let catalog = self.broker.catalog();
            let settings = catalog.queue_by_id(queue)?.settings();
            settings.consumer_timeout_ms.map(Duration::from_millis)
        };
        own.or_else(of_queue)
            .or(self.broker.config().timing.consumer_timeout)
    }

    /// Consumers whose oldest delivery is too old.
    fn overdue(
        &self,
        timeouts: &BTreeMap<ConsumerId, Option<Duration>>,
    ) -> Vec<(ChannelKey, ConsumerId, Duration)> {
        let mut late = Vec::new();
        for channel in self.channels.values() {
            let mut oldest: BTreeMap<ConsumerId, u32> = BTreeMap::new();
            for (_, delivery) in channel.unacked.iter() {
                oldest
                    .entry(delivery.consumer)
                    .and_modify(|at| *at = delivery.delivered_s.min(*at))
                    .or_insert(delivery.delivered_s);
            }
            for (id, delivered_s) in oldest {
                if let Some(Some(timeout)) = timeouts.get(&id)
                    && self.age(delivered_s) > *timeout
                {
                    late.push((channel.key, id, *timeout));
                }
            }
        }
        late
    }

    /// Takes back what a consumer holds, and cancels it.
    fn expire_consumer(&mut self, key: ChannelKey, id: ConsumerId) {
        self.former.remove(&id);
        let tag = self.consumers.get(&id).map(|consumer| consumer.tag.clone());
        // First, or the messages would come to it once more.
        self.leave(id, None);
        let Some(channel) = self.channel(key) else {
            return;
        };
        let late = channel.unacked.expire(|delivery| delivery.consumer == id);
        if let Some(tag) = tag {
            channel.remove_consumer(&tag);
            channel.gone.push(tag);
        }
        let how = Settlement::Returned { counted: true };
        self.settled(key, how, late.iter().map(|(_, delivery)| delivery));
        self.touch(key);
        self.tell_gone(key);
    }

    fn close_for_timeout(&mut self, key: ChannelKey, timeout: Duration) {
        if self.channel(key).is_none() {
            return;
        }
        let text = format!(
            "delivery acknowledgement on channel {} timed out. Timeout value used: {} ms. This timeout \
             value can be configured, see consumers doc guide to learn more",
            key.number,
            timeout.as_millis()
        );
        let error = ProtocolError::new(ReplyCode::PRECONDITION_FAILED, text);
        self.fail(key, error, (0, 0));
    }
}
