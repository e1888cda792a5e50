//! Channels and connections begin and end; what they held goes back.

use super::channel::{Channel, ChannelKey, Mode};
use super::consume::Leaving;
use super::outbox::Settlement;
use super::state::Session;
use crate::catalog::writer::WriteError;
use crate::config::Config;
use crate::hub::api::{Ask, Held};
use amqp_codec::ReplyCode;
use amqp_connection::ProtocolError;
use broker_model::catalog::CatalogCommand;
use broker_model::ids::{ConsumerId, Placement, QueueId};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tracing::{debug, warn};

/// Pause before the exclusive queues of a lost connection are tried to be deleted again.
const RETRY: Duration = Duration::from_secs(5);
/// How often that is tried.
const RETRIES: u32 = 120;
/// `channel.open`.
const OPEN: (u16, u16) = (20, 10);

impl Session {
    /// The client opens a channel. Other nodes are asked only where its user's channels are limited; what the client
    /// sends on the channel meanwhile waits.
    pub(super) fn open_channel(&mut self, number: u16) {
        let key = ChannelKey {
            number,
            opening: self.next_number(),
        };
        self.channels.insert(number, Box::new(Channel::new(key)));
        if self.user_limit().is_none() {
            if let Err(error) = self.accept_channel(key, 0) {
                self.fail(key, error, OPEN);
            }
            return;
        }
        let (broker, user) = (Arc::clone(&self.broker), Arc::clone(self.user.name()));
        let ask = async move { Ok(broker.channels_elsewhere(&user).await) };
        self.later(key, OPEN, ask, Self::accept_channel);
    }

    /// Tells the client that its channel is open, unless there are too many; `elsewhere` are those of the user on
    /// other nodes.
    fn accept_channel(&mut self, key: ChannelKey, elsewhere: u64) -> Result<(), ProtocolError> {
        self.check_channel_limits(elsewhere)?;
        let channel = self.channel(key).map(|channel| Arc::clone(&channel.entry));
        if let (Some(entry), Some(channel)) = (&self.entry, channel) {
            entry.channels.lock().insert(key.number, channel);
        }
        self.broker.metrics().channels.add(1);
        self.broker.metrics().counts.channels_opened.add(1);
        self.conn.channel_opened(key.number);
        Ok(())
    }

    /// How many channels the user may have.
    fn user_limit(&self) -> Option<u64> {
        let catalog = self.broker.catalog();
        catalog.user(self.user.name())?.limits.max_channels
    }

    fn check_channel_limits(&self, elsewhere: u64) -> Result<(), ProtocolError> {
        let refuse = |of: String, kind: &str, limit: u64| {
            let text = format!(
                "number of channels opened {of} has reached the maximum allowed {kind} of {limit}"
            );
            Err(ProtocolError::new(ReplyCode::NOT_ALLOWED, text))
        };
        if let Some(limit) = self.user_limit()
            && self.broker.registry().channels_of(self.user.name()) + elsewhere >= limit
        {
            return refuse(format!("for user '{}'", self.user), "user limit", limit);
        }
        if let Some(limit) = self.broker.config().limits.channels
            && self.broker.metrics().channels.value() >= i64::from(limit)
        {
            let node = Config::node_name(self.broker.origin().node);
            return refuse(format!("on node '{node}'"), "limit", u64::from(limit));
        }
        Ok(())
    }

    /// The client closes a channel: it is answered when what the channel held is back in its queues
    /// and its consumers are gone, with the queues that go with their last one, so that whoever comes next finds it so. What it acknowledged is settled
    /// then: it does not come again, whichever node is lost.
    pub(super) fn close_channel(&mut self, key: ChannelKey) {
        self.report_confirms(key);
        let barrier = self.barrier(move |session| session.conn.channel_closed(key.number));
        self.give_back(key.number, Some(barrier));
        self.await_settled(barrier);
        self.step(barrier);
    }

    /// A barrier waits for what ends deliveries, whichever channel it is from.
    fn await_settled(&mut self, barrier: u64) {
        for _ in 0..self.outbox.await_settled(barrier) {
            self.await_step(barrier);
        }
    }

    /// A channel is gone because of an error, or with its connection.
    pub(super) fn drop_channel(&mut self, number: u16) {
        self.give_back(number, None);
    }

    /// All channels are gone.
    pub(super) fn drop_channels(&mut self) {
        let all: Vec<u16> = self.channels.keys().copied().collect();
        for number in all {
            self.give_back(number, None);
        }
    }

    /// The client closes the connection and all channels are done: it is answered when everything is
    /// given back and its exclusive queues are deleted.
    pub(super) fn close_connection(&mut self) {
        self.report_all_confirms();
        let barrier = self.barrier(|session| session.conn.finish_close());
        let all: Vec<u16> = self.channels.keys().copied().collect();
        for number in all {
            self.give_back(number, Some(barrier));
        }
        self.await_settled(barrier);
        if self.has_exclusive {
            self.await_step(barrier);
            let (broker, connection) = (Arc::clone(&self.broker), self.id);
            let delete = async move {
                broker
                    .catalog_write(CatalogCommand::DeleteQueuesOf { connection })
                    .await
            };
            self.run(delete, move |session, result| {
                // Otherwise it is tried again when the session ends.
                session.has_exclusive = result.is_err();
                session.step(barrier);
            });
        }
        self.step(barrier);
    }

    /// Takes a channel out, ends its consumers and returns what it held.
    fn give_back(&mut self, number: u16, barrier: Option<u64>) {
        let Some(mut channel) = self.channels.remove(&number) else {
            return;
        };
        self.forget_backlog(&channel);
        for consumer in channel.consumers.values() {
            self.leave(*consumer, barrier);
        }
        let settlement = Settlement::Returned { counted: true };
        let mut held: Vec<_> = channel
            .unacked
            .take_all()
            .into_iter()
            .map(|(_, delivery)| delivery)
            .collect();
        if let Mode::Tx(tx) = channel.mode {
            held.extend(tx.into_held());
        }
        for delivery in held {
            if delivery.lost || self.unheld.contains(&delivery.queue) {
                continue;
            }
            self.outbox.settle(settlement, &delivery);
        }
        let shown = self.entry.as_ref();
        if let Some(shown) = shown.and_then(|entry| entry.channels.lock().remove(&number)) {
            let flows = &self.broker.registry().vhosts;
            flows.channel_ended(&self.broker.catalog(), &self.vhost, &shown.counts);
            self.broker.metrics().channels.add(-1);
            self.broker.metrics().counts.channels_closed.add(1);
        }
    }

    /// Ends a consumer that the client no longer asks for.
    pub(super) fn leave(&mut self, id: ConsumerId, barrier: Option<u64>) {
        let Some(consumer) = self.take_consumer(id) else {
            return;
        };
        if let Some(barrier) = barrier {
            self.await_step(barrier);
        }
        let (queue, placement) = (consumer.queue, consumer.placement);
        let leaving = Leaving {
            queue,
            placement,
            barrier,
        };
        self.leaving.insert(id, leaving);
        // Acknowledgements before it count for who comes next.
        self.flush_place(placement);
        self.handle.ask(
            placement,
            Ask::Cancel {
                consumer: id,
                queue,
            },
        );
    }

    /// Deletes the exclusive queues of a connection that ended without a close.
    pub(super) fn delete_exclusive_queues_later(&mut self) {
        if !std::mem::take(&mut self.has_exclusive) {
            return;
        }
        let (broker, connection) = (Arc::clone(&self.broker), self.id);
        tokio::spawn(async move {
            for _ in 0..RETRIES {
                match broker
                    .catalog_write(CatalogCommand::DeleteQueuesOf { connection })
                    .await
                {
                    Ok(_) => return,
                    Err(WriteError::Stopping) => return,
                    Err(error) => debug!(%error, "exclusive queues not deleted yet"),
                }
                tokio::time::sleep(RETRY).await;
            }
            warn!(
                connection = connection.serial,
                "exclusive queues of a closed connection not deleted"
            );
        });
    }

    /// Messages of a place that this session holds: a new leader must not hand them out.
    pub(super) fn held(&mut self, placement: Placement) -> Vec<Held> {
        self.flush_place(placement);
        let mut by_holder: BTreeMap<(ConsumerId, QueueId), Vec<_>> = BTreeMap::new();
        for channel in self.channels.values() {
            let in_tx = match &channel.mode {
                Mode::Tx(tx) => Some(tx.held()),
                Mode::Plain | Mode::Confirm => None,
            };
            let open = channel.unacked.iter().map(|(_, delivery)| delivery);
            for delivery in open
                .chain(in_tx.into_iter().flatten())
                .filter(|d| d.placement == placement && !self.unheld.contains(&d.queue))
                .filter(|d| !d.lost)
            {
                by_holder
                    .entry((delivery.consumer, delivery.queue))
                    .or_default()
                    .push(delivery.sequence);
            }
        }
        by_holder
            .into_iter()
            .map(|((consumer, queue), sequences)| Held {
                consumer,
                queue,
                sequences: super::outbox::ranges(sequences),
            })
            .collect()
    }

    /// A local queue lives elsewhere now, empty, because its host died.
    pub(super) fn queue_moved(&mut self, old: QueueId, new: QueueId, placement: Placement) {
        self.unheld.insert(old);
        let mut moved = Vec::new();
        for (id, consumer) in &mut self.consumers {
            if consumer.queue == old {
                consumer.queue = new;
                consumer.placement = placement;
                moved.push(*id);
            }
        }
        debug!(
            ?old,
            ?new,
            consumers = moved.len(),
            "consumers of a local queue moved"
        );
    }
}
