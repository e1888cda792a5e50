//! `basic.get`.

use super::catalog_calls::{catalog_error, check_takes, usable_queue};
use super::channel::ChannelKey;
use super::consume::unavailable;
use super::deliver::{hold, properties};
use super::state::Session;
use super::wait::Answer;
use crate::hub::api::Ask;
use amqp_codec::{Content, Delivery as Frame, Method, ShortStr};
use amqp_connection::ProtocolError;
use broker_model::catalog::{CatalogError, Permission};
use broker_model::ids::Placement;
use broker_model::protocol::Delivery;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// `basic.get`.
const GET: (u16, u16) = (60, 70);

/// Gets that may be under way on a connection at a time, on all its channels: each may bring a large message.
const AT_ONCE: usize = 8;

/// Whose turn it is.
#[derive(Debug, Default)]
pub(super) struct Gets {
    turns: Option<Arc<Semaphore>>,
    /// Of those who have got something that the client has not read yet.
    pub(super) kept: Vec<OwnedSemaphorePermit>,
}

impl Gets {
    fn turn(&mut self) -> Arc<Semaphore> {
        let turns = self
            .turns
            .get_or_insert_with(|| Arc::new(Semaphore::new(AT_ONCE)));
        Arc::clone(turns)
    }
}

impl Session {
    /// `basic.get`.
    pub(super) fn get(
        &mut self,
        key: ChannelKey,
        queue: &ShortStr,
        no_ack: bool,
    ) -> Result<(), ProtocolError> {
        let name = self.queue_name(key, queue)?;
        self.check_permission(Permission::Read, &self.queue_resource(&name))?;
        let (broker, vhost, connection) =
            (Arc::clone(&self.broker), Arc::clone(&self.vhost), self.id);
        let wanted = Arc::clone(&name);
        let turn = self.gets.turn();
        let find = async move {
            // Never closed, so it always comes.
            let turn = turn.acquire_owned().await.ok();
            let record = usable_queue(&*broker, &vhost, &wanted, connection).await?;
            Ok((record, turn))
        };
        self.later(key, GET, find, move |session, key, (record, turn)| {
            check_takes(&record, "basic.get")?;
            let (placement, queue) = (record.placement, record.id);
            let get = |request| Ask::Get {
                request,
                queue,
                no_ack,
            };
            session.ask(key, GET, placement, get, move |session, key, answer| {
                let resource = session.queue_resource(&name);
                match answer {
                    Answer::Got(Some((delivery, left))) => {
                        session.got(key, placement, &delivery, left, no_ack);
                        if session.is_traced() {
                            session.trace_delivery(key, &name, &delivery);
                        }
                    }
                    Answer::Got(None) => {
                        session.broker.metrics().counts.get_empty.add(1);
                        if let Some(channel) = session.channel(key) {
                            channel.entry.counts.get_empty.add_alone(1);
                        }
                        session
                            .conn
                            .send_method(key.number, &Method::BasicGetEmpty {});
                    }
                    Answer::Refused(_) => {
                        return Err(catalog_error(&CatalogError::NotFound(resource)));
                    }
                    Answer::Counts { .. } | Answer::Failed => return Err(unavailable(&resource)),
                }
                // While the client does not read nobody has it.
                if session.is_choked() {
                    session.choked = true;
                    session.gets.kept.extend(turn);
                }
                Ok(())
            });
            Ok(())
        });
        Ok(())
    }

    fn got(
        &mut self,
        key: ChannelKey,
        placement: Placement,
        delivery: &Delivery,
        left: u64,
        no_ack: bool,
    ) {
        let delivered_s = self.seconds();
        let Some(channel) = self.channel(key) else {
            return;
        };
        let delivery_tag = if no_ack {
            channel.unacked.push_settled()
        } else {
            hold(channel, delivery, placement, delivered_s)
        };
        let own = &channel.entry.counts;
        let redelivered = u64::from(delivery.redelivered);
        own.redelivered.add_alone(redelivered);
        if no_ack {
            own.got_no_ack.add_alone(1);
        } else {
            own.got.add_alone(1);
        }
        let counts = &self.broker.metrics().counts;
        if no_ack {
            counts.delivered_get_auto_ack.add(1);
        } else {
            counts.delivered_get_manual_ack.add(1);
        }
        counts.redelivered.add(redelivered);
        let message = &delivery.message;
        self.conn.send_get_ok(
            key.number,
            &Frame {
                consumer_tag: b"",
                delivery_tag,
                redelivered: delivery.redelivered,
                exchange: &message.exchange,
                routing_key: &message.routing_key,
                content: Content {
                    properties: &properties(delivery),
                    body: &message.body,
                },
            },
            u32::try_from(left).unwrap_or(u32::MAX),
        );
        self.touch(key);
        if !no_ack {
            self.look_at_timeouts();
        }
    }
}
