//! Deliveries from queues to the client.

use super::channel::{Channel, GET, Unacked};
use super::credit::mean_bytes;
use super::outbox::Settlement;
use super::properties::{told, with_delivery_count, with_stream_offset};
use super::reader::offset_of;
use super::state::Session;
use amqp_codec::{Content, Delivery as Frame};
use broker_model::ids::Placement;
use broker_model::protocol::Delivery;
use bytes::Bytes;
use std::borrow::Cow;
use std::sync::Arc;

impl Session {
    /// Messages for consumers, in order.
    pub(super) fn deliver(&mut self, deliveries: Vec<Delivery>) {
        let delivered_s = self.seconds();
        let mut timed = false;
        let traced = self.is_traced();
        for delivery in deliveries {
            let Some(consumer) = self.consumers.get_mut(&delivery.consumer) else {
                self.deliver_to_nobody(&delivery);
                continue;
            };
            let Some(channel) = self.channels.get_mut(&consumer.channel.number) else {
                continue;
            };
            self.large_credit.used(consumer, 1);
            let of_stream = consumer.reader.is_some();
            let size = match of_stream {
                true => delivery.message.body.len(),
                false => delivery.message.weight(),
            };
            consumer.mean_bytes = mean_bytes(consumer.mean_bytes, size);
            let counts = &channel.entry.counts;
            if delivery.redelivered {
                self.tally.redelivered += 1;
                counts.redelivered.add_alone(1);
            }
            let delivery_tag = if consumer.no_ack {
                self.tally.delivered_consume_auto_ack += 1;
                counts.delivered_no_ack.add_alone(1);
                channel.unacked.push_settled()
            } else {
                self.tally.delivered_consume_manual_ack += 1;
                counts.delivered.add_alone(1);
                consumer.unacked += 1;
                timed = true;
                hold(channel, &delivery, consumer.placement, delivered_s)
            };
            let (key, message) = (channel.key, &delivery.message);
            let properties = if of_stream {
                let told = told(&message.properties);
                Cow::Owned(with_stream_offset(&told, offset_of(delivery.sequence)))
            } else {
                properties(&delivery)
            };
            self.conn.send_delivery(
                key.number,
                &Frame {
                    consumer_tag: consumer.tag.as_bytes(),
                    delivery_tag,
                    redelivered: delivery.redelivered,
                    exchange: &message.exchange,
                    routing_key: &message.routing_key,
                    content: Content {
                        properties: &properties,
                        body: &message.body,
                    },
                },
            );
            if traced {
                let queue = Arc::clone(&consumer.queue_name);
                self.trace_delivery(key, &queue, &delivery);
            }
            self.touch_consumer(delivery.consumer);
        }
        if timed {
            self.look_at_timeouts();
        }
    }

    fn deliver_to_nobody(&mut self, delivery: &Delivery) {
        // It was on its way when the consumer left. Nobody has seen it.
        if let Some(leaving) = self.leaving.get(&delivery.consumer) {
            let placement = leaving.placement;
            self.return_unseen(placement, delivery);
        }
    }

    /// A message that the client has not seen goes back.
    pub(super) fn return_unseen(&mut self, placement: Placement, delivery: &Delivery) {
        let how = Settlement::Returned { counted: false };
        self.outbox
            .settle_one(how, placement, delivery.queue, delivery.sequence);
    }
}

/// Takes a delivery into the channel's books; returns its tag.
pub(super) fn hold(
    channel: &mut Channel,
    delivery: &Delivery,
    placement: Placement,
    delivered_s: u32,
) -> u64 {
    if delivery.consumer != GET {
        channel.window.unacked += 1;
    }
    channel.unacked.push(Unacked {
        consumer: delivery.consumer,
        queue: delivery.queue,
        placement,
        sequence: delivery.sequence,
        delivered_s,
        lost: false,
    })
}

/// The properties as the client gets them.
pub(super) fn properties(delivery: &Delivery) -> Cow<'_, Bytes> {
    let told = told(&delivery.message.properties);
    match delivery.delivery_count {
        0 => told,
        count => Cow::Owned(with_delivery_count(&told, count)),
    }
}
