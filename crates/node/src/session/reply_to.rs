//! Direct reply-to: answers without declaring a queue for them.
//!
//! A consumer of the pseudo queue gets a queue of its own behind the scenes: in this node's memory,
//! exclusive, with a name that cannot be guessed, gone with the consumer. Requests carry that name,
//! so that an answer published on any node finds its way through the default exchange.

use super::catalog_calls::{look, usable_queue, write};
use super::channel::ChannelKey;
use super::consume::{CONSUME, Consume};
use super::names;
use super::queue::DECLARE;
use super::state::Session;
use amqp_codec::{FieldTable, ReplyCode, ShortStr};
use amqp_connection::ProtocolError;
use broker_model::catalog::{CatalogCommand, QueueSpec, Resource};
use std::sync::Arc;

/// What clients consume from, and put into `reply_to`.
pub(super) const PSEUDO_QUEUE: &str = "amq.rabbitmq.reply-to";

/// The consumer of a channel that gets answers.
#[derive(Debug, Clone)]
pub(super) struct ReplyConsumer {
    /// The queue behind it.
    pub(super) queue: Arc<str>,
    pub(super) consumer_tag: ShortStr,
}

impl Session {
    /// `basic.consume` of the pseudo queue.
    pub(super) fn consume_replies(
        &mut self,
        key: ChannelKey,
        mut consume: Consume,
    ) -> Result<(), ProtocolError> {
        let precondition =
            |text: &str| Err(ProtocolError::new(ReplyCode::PRECONDITION_FAILED, text));
        if !consume.no_ack {
            return precondition("reply consumer cannot acknowledge");
        }
        let Some(channel) = self.channel(key) else {
            return Ok(());
        };
        if channel.reply_consumer.is_some() {
            return precondition("reply consumer already set");
        }
        let name: Arc<str> = names::reply_address().into();
        channel.reply_consumer = Some(ReplyConsumer {
            queue: Arc::clone(&name),
            consumer_tag: consume.tag.clone(),
        });
        consume.exclusive = false;
        self.has_exclusive = true;
        let spec = QueueSpec {
            vhost: Arc::clone(&self.vhost),
            name: Arc::clone(&name),
            durable: false,
            exclusive: Some(self.id),
            auto_delete: true,
            arguments: FieldTable::default(),
            placement: self.broker.place_queue(false),
            server_named: true,
        };
        let (broker, vhost, connection) =
            (Arc::clone(&self.broker), Arc::clone(&self.vhost), self.id);
        let make = async move {
            write(&*broker, CatalogCommand::DeclareQueue(spec)).await?;
            usable_queue(&*broker, &vhost, &name, connection).await
        };
        self.later(key, CONSUME, make, move |session, key, record| {
            session.start_consumer(key, &record, consume)
        });
        Ok(())
    }

    /// `queue.declare` of a name that a request carried tells whether the one who asked is there.
    pub(super) fn declare_reply_queue(
        &mut self,
        key: ChannelKey,
        name: &ShortStr,
        no_wait: bool,
    ) -> Result<(), ProtocolError> {
        let name: Arc<str> = name.as_str().into();
        let (broker, vhost) = (Arc::clone(&self.broker), Arc::clone(&self.vhost));
        let wanted = Arc::clone(&name);
        let find = async move {
            if &*wanted == PSEUDO_QUEUE {
                return Ok(());
            }
            let missing =
                || broker_model::catalog::CatalogError::NotFound(Resource::queue(&vhost, &wanted));
            look(&*broker, |catalog| {
                catalog.queue(&vhost, &wanted).map(drop).ok_or_else(missing)
            })
            .await
            .map_err(ProtocolError::from)
        };
        self.later(key, DECLARE, find, move |session, key, ()| {
            if let Some(channel) = session.channel(key) {
                channel.last_queue = Some(Arc::clone(&name));
            }
            if !no_wait {
                session.declare_ok(key, &name, 0, 1);
            }
            Ok(())
        });
        Ok(())
    }
}
