//! Acknowledging, rejecting, recovering.

use super::channel::{ChannelKey, GET, Mode, Unacked};
use super::outbox::{Freed, Settlement};
use super::state::Session;
use amqp_codec::ReplyCode;
use amqp_connection::ProtocolError;
use broker_model::ids::{ConsumerId, QueueId, Sequence};
use std::collections::HashSet;

/// An acknowledgement of more than this gives its memory back.
const SETTLING_KEPT: usize = 4096;

impl Session {
    /// `basic.ack`, `basic.nack` and `basic.reject`.
    pub(super) fn settle(
        &mut self,
        key: ChannelKey,
        tag: u64,
        multiple: bool,
        how: Settlement,
    ) -> Result<(), ProtocolError> {
        let mut settled = std::mem::take(&mut self.settling);
        let Some(channel) = self.channel(key) else {
            return Ok(());
        };
        channel
            .unacked
            .settle(tag, multiple, &mut settled)
            .map_err(|error| {
                ProtocolError::new(ReplyCode::PRECONDITION_FAILED, error.to_string())
            })?;
        if let Mode::Tx(tx) = &mut channel.mode {
            tx.settle(how, settled);
            return Ok(());
        }
        self.count_settled(key, how, settled.len() as u64);
        self.settled(key, how, settled.iter().map(|(_, delivery)| delivery));
        if settled.capacity() <= SETTLING_KEPT {
            settled.clear();
            self.settling = settled;
        }
        Ok(())
    }

    /// Counts what a client has acknowledged or rejected, in a transaction when it is committed.
    pub(super) fn count_settled(&mut self, key: ChannelKey, how: Settlement, count: u64) {
        match how {
            Settlement::Done => {
                if let Some(channel) = self.channel(key) {
                    channel.entry.counts.acknowledged.add_alone(count);
                }
                self.tally.acknowledged += count;
            }
            Settlement::Rejected | Settlement::Returned { .. } => self.tally.rejected += count,
        }
    }

    /// Deliveries of a channel are done with.
    pub(super) fn settled<'a>(
        &mut self,
        key: ChannelKey,
        how: Settlement,
        deliveries: impl Iterator<Item = &'a Unacked>,
    ) {
        // Room is made when they are back in their queue.
        let later = matches!(how, Settlement::Returned { .. });
        let mut run = Freed {
            channel: key,
            consumer: ConsumerId(0),
            count: 0,
        };
        for delivery in deliveries {
            let held = !self.unheld.contains(&delivery.queue);
            if later && held && !delivery.lost {
                self.outbox.give_back(how, delivery, key);
                continue;
            }
            // What the client has done with is done, whoever else has it.
            if !later && held {
                self.outbox.settle(how, delivery);
            }
            // Deliveries of one consumer come in runs.
            if run.consumer != delivery.consumer {
                self.freed(run);
                run = Freed {
                    consumer: delivery.consumer,
                    count: 0,
                    ..run
                };
            }
            run.count += 1;
        }
        self.freed(run);
    }

    /// Deliveries no longer take room in their consumer's prefetch and the channel's window.
    pub(super) fn freed(&mut self, freed: Freed) {
        let Freed {
            channel: key,
            consumer,
            count,
        } = freed;
        if count == 0 {
            return;
        }
        if let Some(consumer) = self.consumers.get_mut(&consumer) {
            consumer.unacked = consumer.unacked.saturating_sub(count);
        }
        self.former_freed(consumer, count);
        if let Some(channel) = self.channel(key)
            && consumer != GET
        {
            channel.window.unacked = channel.window.unacked.saturating_sub(count);
            self.touch(key);
            self.touch_consumer(consumer);
        }
    }

    /// Who else was given these messages now has them alone.
    pub(super) fn lose(&mut self, messages: &HashSet<(QueueId, Sequence)>) {
        let channels = self.channels.values_mut();
        let held = channels.flat_map(|channel| channel.unacked.iter_mut());
        held.filter(|delivery| messages.contains(&(delivery.queue, delivery.sequence)))
            .for_each(|delivery| delivery.lost = true);
    }

    /// `basic.recover` and `basic.recover-async`: everything unacknowledged goes back.
    pub(super) fn recover(&mut self, key: ChannelKey, requeue: bool) -> Result<(), ProtocolError> {
        if !requeue {
            return Err(ProtocolError::new(
                ReplyCode::NOT_IMPLEMENTED,
                "requeue=false",
            ));
        }
        let Some(channel) = self.channel(key) else {
            return Ok(());
        };
        let all = channel.unacked.take_all();
        let how = Settlement::Returned { counted: false };
        self.settled(key, how, all.iter().map(|(_, delivery)| delivery));
        Ok(())
    }
}
