//! Consumers: beginning, ending, being ended.

use super::catalog_calls::{catalog_error, usable_queue, write};
use super::channel::ChannelKey;
use super::large_credit::Large;
use super::names;
use super::overdue::Former;
use super::reader::{Reader, check_stream_consumer};
use super::state::Session;
use super::wait::Answer;
use crate::hub::api::Ask;
use amqp_codec::{FieldTable, Method, ReplyCode, ShortStr};
use amqp_connection::ProtocolError;
use broker_model::catalog::record::QueueRecord;
use broker_model::catalog::settings::QueueType;
use broker_model::catalog::{
    CatalogCommand, CatalogError, Permission, Resource, check_consumer_arguments,
};
use broker_model::ids::{ConsumerId, Placement, QueueId, RequestId};
use broker_model::protocol::{CREDIT_BYTES_MIN, ConsumerSpec, Refused};
use futures::FutureExt;
use std::sync::Arc;
use std::time::Duration;

/// `basic.consume`.
pub(super) const CONSUME: (u16, u16) = (60, 20);
/// `basic.cancel`.
const CANCEL: (u16, u16) = (60, 30);
/// A cancel is answered after this time even if an auto-delete queue is still there.
const AUTO_DELETE_WAIT: Duration = Duration::from_secs(2);

/// A consumer of this session.
#[derive(Debug)]
pub(super) struct Consumer {
    pub(super) channel: ChannelKey,
    pub(super) tag: ShortStr,
    pub(super) queue: QueueId,
    pub(super) queue_name: Arc<str>,
    pub(super) placement: Placement,
    pub(super) no_ack: bool,
    /// Most deliveries that may be unacknowledged; 0 is none.
    pub(super) prefetch: u32,
    /// Deliveries not acknowledged.
    pub(super) unacked: u32,
    /// Credit at the queue's leader.
    pub(super) granted: u32,
    /// Credit has been called back; what is left is on its way.
    pub(super) revoking: bool,
    /// A message waits for it, but it has no credit.
    pub(super) hungry: bool,
    /// It is in the channel's list of those to be looked at.
    pub(super) changed: bool,
    /// Recent weight of a message; of a stream's, its body's size.
    pub(super) mean_bytes: u32,
    /// Its part of the room for large messages.
    pub(super) large: Large,
    /// Deliveries must be acknowledged within this time, as it has said itself.
    pub(super) own_timeout: Option<Duration>,
    /// What it reads, if its queue is a stream.
    pub(super) reader: Option<Box<Reader>>,
    /// The leader has not answered yet; the client wants no answer.
    pub(super) starting: Option<Starting>,
    /// The client has cancelled it and waits for the answer.
    pub(super) cancelling: bool,
    /// Its user may no longer read the queue: it is cancelled as soon as it has begun.
    pub(super) withdrawn: bool,
}

/// A consume on its way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Starting {
    pub(super) no_wait: bool,
}

/// A consumer that ends: deliveries that cross its end go back.
#[derive(Debug, Clone, Copy)]
pub(super) struct Leaving {
    pub(super) queue: QueueId,
    pub(super) placement: Placement,
    pub(super) barrier: Option<u64>,
}

/// The arguments of `basic.consume`.
#[derive(Debug)]
pub(super) struct Consume {
    pub(super) queue: ShortStr,
    pub(super) tag: ShortStr,
    pub(super) no_ack: bool,
    pub(super) exclusive: bool,
    pub(super) no_wait: bool,
    pub(super) arguments: FieldTable,
}

/// Asks whether nobody consumes a queue any more: refused while somebody may, as after a leader change.
fn unused(request: RequestId, queue: QueueId) -> Ask {
    Ask::CheckDelete {
        request,
        queue,
        if_unused: true,
        if_empty: false,
    }
}

impl Session {
    /// `basic.consume`.
    pub(super) fn consume(
        &mut self,
        key: ChannelKey,
        mut consume: Consume,
    ) -> Result<(), ProtocolError> {
        let max = self.broker.config().limits.consumers_per_channel;
        let Some(channel) = self.channel(key) else {
            return Ok(());
        };
        if let Some(max) = max
            && channel.consumers.len() >= max as usize
        {
            let text = format!("reached maximum ({max}) of consumers per channel");
            return Err(ProtocolError::new(ReplyCode::NOT_ALLOWED, text));
        }
        let of_replies = consume.queue == super::reply_to::PSEUDO_QUEUE;
        let replies = channel.reply_consumer.as_ref();
        if consume.tag.is_empty() {
            consume.tag = ShortStr::truncated(&names::consumer_tag());
        } else if of_replies && replies.is_some_and(|first| first.consumer_tag == consume.tag) {
            // Refused as any second one is.
        } else if channel.consumers.contains_key(&consume.tag) {
            let text = format!("attempt to reuse consumer tag '{}'", consume.tag);
            return Err(ProtocolError::new(ReplyCode::NOT_ALLOWED, text));
        } else {
            consume.tag = consume.tag.detached();
        }
        if of_replies {
            return self.consume_replies(key, consume);
        }
        let name = self.queue_name(key, &consume.queue)?;
        self.check_permission(Permission::Read, &Resource::queue(&self.vhost, &name))?;
        let (broker, vhost, connection) =
            (Arc::clone(&self.broker), Arc::clone(&self.vhost), self.id);
        let find = async move { usable_queue(&*broker, &vhost, &name, connection).await };
        self.later(key, CONSUME, find, move |session, key, record| {
            session.start_consumer(key, &record, consume)
        });
        Ok(())
    }

    /// Attaches a consumer to a queue that was found.
    pub(super) fn start_consumer(
        &mut self,
        key: ChannelKey,
        record: &QueueRecord,
        consume: Consume,
    ) -> Result<(), ProtocolError> {
        let resource = Resource::queue(&record.vhost, &record.name);
        check_consumer_arguments(&resource, record.queue_type, &consume.arguments)
            .map_err(|error| catalog_error(&error))?;
        let number = |key| {
            let value = consume.arguments.get(key);
            value.and_then(|value| value.as_integer())
        };
        let priority = number("x-priority").map_or(0, |priority| {
            i32::try_from(priority).unwrap_or(if priority < 0 { i32::MIN } else { i32::MAX })
        });
        let own_timeout = number("x-consumer-timeout")
            .and_then(|ms| u64::try_from(ms).ok())
            .map(Duration::from_millis);
        let id = self.handle.hub().next_consumer();
        let connection = self.id.serial;
        let Some(channel) = self.channel(key) else {
            return Ok(());
        };
        let mut reader = None;
        if record.queue_type == QueueType::Stream {
            check_stream_consumer(&resource, channel, consume.no_ack)?;
            reader = Some(Box::new(Reader::new(&consume.arguments)));
        }
        let prefetch = if consume.no_ack { 0 } else { channel.prefetch };
        let spec = ConsumerSpec {
            tag: consume.tag.bytes().clone(),
            no_ack: consume.no_ack,
            // Who reads a stream takes nothing from others.
            exclusive: consume.exclusive && reader.is_none(),
            priority,
            prefetch,
            connection,
            channel: key.number,
        };
        channel.add_consumer(&consume.tag, id, &consume.arguments);
        self.consumers.insert(
            id,
            Box::new(Consumer {
                channel: key,
                tag: consume.tag,
                queue: record.id,
                queue_name: Arc::clone(&record.name),
                placement: record.placement,
                no_ack: consume.no_ack,
                prefetch,
                unacked: 0,
                granted: 0,
                revoking: false,
                hungry: false,
                changed: false,
                mean_bytes: super::credit::MEAN_BYTES_FIRST,
                large: Large::default(),
                own_timeout,
                reader,
                starting: Some(Starting {
                    no_wait: consume.no_wait,
                }),
                cancelling: false,
                withdrawn: false,
            }),
        );
        self.broker.metrics().consumers.add(1);
        if record.queue_type == QueueType::Stream {
            self.unheld.insert(record.id);
        }
        let credit = self.first_credit(id);
        self.flush_place(record.placement);
        self.handle.ask(
            record.placement,
            Ask::Consume {
                consumer: id,
                queue: record.id,
                spec,
                credit,
            },
        );
        // It is good for more than what any credit is where there are few consumers.
        let bytes = self.on_the_way_bytes();
        if bytes > CREDIT_BYTES_MIN && record.queue_type != QueueType::Stream {
            let (consumer, queue, more) = (id, record.id, 0);
            let credit = Ask::Credit {
                consumer,
                queue,
                more,
                bytes,
            };
            self.handle.ask(record.placement, credit);
        }
        self.hold_channel(key);
        Ok(())
    }

    /// A consumer is attached. One of a stream must have its place before the client hears of it: what comes
    /// from then on is what it wants.
    pub(super) fn consume_ok(&mut self, id: ConsumerId) {
        if !self.finds_place(id) {
            self.has_begun(id);
        }
    }

    /// The client is told that its consumer has begun.
    pub(super) fn has_begun(&mut self, id: ConsumerId) {
        let Some(consumer) = self.consumers.get_mut(&id) else {
            return;
        };
        let Some(Starting { no_wait }) = consumer.starting.take() else {
            return;
        };
        let (key, consumer_tag) = (consumer.channel, consumer.tag.clone());
        let withdrawn = consumer.withdrawn;
        self.touch_consumer(id);
        self.resume_channel(key, CONSUME, |session| {
            session.reply(key, no_wait, &Method::BasicConsumeOk { consumer_tag });
            if withdrawn {
                session.withdraw(id);
            }
            Ok(())
        });
    }

    /// The broker cancels a consumer. What it holds may still be acknowledged.
    pub(super) fn withdraw(&mut self, id: ConsumerId) {
        match self.consumers.get_mut(&id) {
            // It ends in any case.
            Some(consumer) if consumer.cancelling => return,
            Some(consumer) if consumer.starting.is_some() => {
                consumer.withdrawn = true;
                return;
            }
            _ => {}
        }
        let Some(consumer) = self.forget_consumer(id) else {
            return;
        };
        let (queue, placement) = (consumer.queue, consumer.placement);
        let leaving = Leaving {
            queue,
            placement,
            barrier: None,
        };
        self.leaving.insert(id, leaving);
        self.flush_place(placement);
        let cancel = Ask::Cancel {
            consumer: id,
            queue,
        };
        self.handle.ask(placement, cancel);
        self.note_gone(consumer.channel, consumer.tag);
    }

    /// A consumer has ended without its client: it is told, if it wants to know.
    fn note_gone(&mut self, key: ChannelKey, consumer_tag: ShortStr) {
        if !self.conn.client().consumer_cancel_notify {
            return;
        }
        if let Some(channel) = self.channel(key) {
            channel.gone.push(consumer_tag);
        }
        self.tell_gone(key);
    }

    pub(super) fn consume_refused(&mut self, id: ConsumerId, why: Option<Refused>) {
        if let Some(leaving) = self.leaving.remove(&id) {
            self.left(leaving);
            return;
        }
        let Some(consumer) = self.consumers.get(&id) else {
            return;
        };
        if consumer.starting.is_none() {
            self.cancelled(id, true);
            return;
        }
        let (key, name) = (consumer.channel, Arc::clone(&consumer.queue_name));
        self.forget_consumer(id);
        let resource = Resource::queue(&self.vhost, &name);
        self.resume_channel(key, CONSUME, |_| {
            Err(match why {
                Some(Refused::ExclusiveUse) => catalog_error(&CatalogError::ExclusiveUse(resource)),
                Some(Refused::NoQueue | Refused::InUse | Refused::NotEmpty) => {
                    catalog_error(&CatalogError::NotFound(resource))
                }
                None => unavailable(&resource),
            })
        });
    }

    /// `basic.cancel`. What acknowledgements before it have made room for comes first, as with RabbitMQ: what a consumer gets
    /// must not depend on whether its methods were read together.
    pub(super) fn cancel(&mut self, key: ChannelKey, consumer_tag: ShortStr, no_wait: bool) {
        self.replenish(key);
        let id = self
            .channel(key)
            .and_then(|channel| channel.consumers.get(&consumer_tag).copied());
        let Some((id, consumer)) =
            id.and_then(|id| self.consumers.get_mut(&id).map(|consumer| (id, consumer)))
        else {
            self.reply(key, no_wait, &Method::BasicCancelOk { consumer_tag });
            return;
        };
        let (queue, placement) = (consumer.queue, consumer.placement);
        consumer.cancelling = true;
        consumer.starting = Some(Starting { no_wait });
        self.hold_channel(key);
        self.flush_place(placement);
        self.handle.ask(
            placement,
            Ask::Cancel {
                consumer: id,
                queue,
            },
        );
    }

    /// The last word about a consumer.
    pub(super) fn cancelled(&mut self, id: ConsumerId, by_host: bool) {
        if let Some(leaving) = self.leaving.remove(&id) {
            self.left(leaving);
            return;
        }
        let Some(consumer) = self.forget_consumer(id) else {
            return;
        };
        let (key, consumer_tag) = (consumer.channel, consumer.tag);
        if consumer.cancelling {
            let no_wait = consumer.starting.is_some_and(|starting| starting.no_wait);
            let (queue, placement) = (consumer.queue, consumer.placement);
            self.resume_channel(key, CANCEL, |session| {
                let cancel_ok = Method::BasicCancelOk { consumer_tag };
                session.answer_cancel(key, queue, placement, cancel_ok, no_wait);
                Ok(())
            });
        } else if consumer.starting.is_some() {
            // Its queue went while it was being attached.
            let resource = Resource::queue(&self.vhost, &consumer.queue_name);
            self.resume_channel(key, CONSUME, |_| {
                Err(catalog_error(&CatalogError::NotFound(resource)))
            });
        } else if by_host {
            self.note_gone(key, consumer_tag);
        }
    }

    /// Tells the client which consumers are gone, unless the channel is busy.
    pub(super) fn tell_gone(&mut self, key: ChannelKey) {
        let idle = self.channel(key).filter(|channel| !channel.busy);
        let gone = idle.map(|channel| std::mem::take(&mut channel.gone));
        for consumer_tag in gone.into_iter().flatten() {
            let cancel = Method::BasicCancel {
                consumer_tag,
                no_wait: true,
            };
            self.conn.send_method(key.number, &cancel);
        }
    }

    /// Answers a cancel. An auto-delete queue that has lost its last consumer is gone before the client
    /// hears of it: clients look at once whether it is.
    fn answer_cancel(
        &mut self,
        key: ChannelKey,
        queue: QueueId,
        placement: Placement,
        cancel_ok: Method,
        no_wait: bool,
    ) {
        let record = self.broker.catalog().queue_by_id(queue).cloned();
        let Some(record) = record.filter(|record| record.auto_delete) else {
            self.reply(key, no_wait, &cancel_ok);
            return;
        };
        let unused = |request| unused(request, queue);
        self.ask(
            key,
            CANCEL,
            placement,
            unused,
            move |session, key, answer| {
                if !matches!(answer, Answer::Counts { .. }) {
                    session.reply(key, no_wait, &cancel_ok);
                    return Ok(());
                }
                let delete = session.delete_unused(&record).map(Ok);
                session.later(key, CANCEL, delete, move |session, key, ()| {
                    session.reply(key, no_wait, &cancel_ok);
                    Ok(())
                });
                Ok(())
            },
        );
    }

    /// A consumer of a channel that is closed is gone: whoever waits for that goes on, but not before a queue that
    /// is deleted with its last consumer is.
    fn left(&mut self, leaving: Leaving) {
        let Some(barrier) = leaving.barrier else {
            return;
        };
        let record = self.broker.catalog().queue_by_id(leaving.queue).cloned();
        let Some(record) = record.filter(|record| record.auto_delete) else {
            self.step(barrier);
            return;
        };
        let queue = record.id;
        let unused = |request| unused(request, queue);
        self.ask_at_the_end(leaving.placement, unused, move |session, answer| {
            if matches!(answer, Answer::Counts { .. }) {
                let delete = session.delete_unused(&record);
                session.run(delete, move |session, ()| session.step(barrier));
            } else {
                session.step(barrier);
            }
        });
    }

    /// Deletes a queue that has lost its last consumer. Its host does so too; whoever comes second finds it deleted.
    fn delete_unused(&self, record: &QueueRecord) -> impl Future<Output = ()> + Send + use<> {
        let command = CatalogCommand::DeleteQueue {
            vhost: Arc::clone(&record.vhost),
            name: Arc::clone(&record.name),
            expected: Some(record.id),
        };
        let broker = Arc::clone(&self.broker);
        async move {
            let _ = tokio::time::timeout(AUTO_DELETE_WAIT, write(&*broker, command)).await;
        }
    }

    /// Takes a consumer out of the books of the session; its channel's are left.
    pub(super) fn take_consumer(&mut self, id: ConsumerId) -> Option<Box<Consumer>> {
        let consumer = self.consumers.remove(&id)?;
        self.broker.metrics().consumers.add(-1);
        if let Some(reader) = &consumer.reader {
            self.large_is_here(reader.large, None);
        }
        self.large_credit.give_back(consumer.large.room);
        Some(consumer)
    }

    fn forget_consumer(&mut self, id: ConsumerId) -> Option<Consumer> {
        let consumer = self.take_consumer(id)?;
        if consumer.unacked > 0 && consumer.reader.is_none() {
            let former = Former {
                queue: consumer.queue,
                channel: consumer.channel,
                unacked: consumer.unacked,
                own_timeout: consumer.own_timeout,
            };
            self.former.insert(id, former);
        }
        if let Some(channel) = self.channel(consumer.channel) {
            channel.remove_consumer(&consumer.tag);
            if channel
                .reply_consumer
                .as_ref()
                .is_some_and(|reply| reply.consumer_tag == consumer.tag)
            {
                channel.reply_consumer = None;
            }
        }
        self.touch(consumer.channel);
        Some(*consumer)
    }
}

/// The queue's leader was not found within the bound.
pub(super) fn unavailable(resource: &Resource) -> ProtocolError {
    let text = format!("failed to perform operation on {resource} due to timeout");
    ProtocolError::new(ReplyCode::NOT_FOUND, text)
}
