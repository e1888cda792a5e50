//! The methods of a channel, and what they lead to.

use super::binding::Bind;
use super::channel::ChannelKey;
use super::consume::Consume;
use super::exchange::DeclareExchange;
use super::outbox::Settlement;
use super::queue::DeclareQueue;
use super::state::Session;
use amqp_codec::{Method, ReplyCode};
use amqp_connection::ProtocolError;

impl Session {
    /// A method of a channel that is not busy.
    pub(super) fn method(&mut self, key: ChannelKey, method: Method) -> Result<(), ProtocolError> {
        let ids = (method.class_id(), method.method_id());
        match method {
            Method::BasicAck {
                delivery_tag,
                multiple,
            } => self.settle(key, delivery_tag, multiple, Settlement::Done),
            Method::BasicNack {
                delivery_tag,
                multiple,
                requeue: false,
            } => self.settle(key, delivery_tag, multiple, Settlement::Rejected),
            // A nack says "not now"; only a reject counts as a failed delivery (RabbitMQ 4.3), unless
            // the operator wants it otherwise.
            Method::BasicNack {
                delivery_tag,
                multiple,
                requeue: true,
            } => {
                let counted = self.broker.config().limits.delivery_limit_counts_nacks;
                self.settle(
                    key,
                    delivery_tag,
                    multiple,
                    Settlement::Returned { counted },
                )
            }
            Method::BasicReject {
                delivery_tag,
                requeue: false,
            } => self.settle(key, delivery_tag, false, Settlement::Rejected),
            Method::BasicReject {
                delivery_tag,
                requeue: true,
            } => self.settle(
                key,
                delivery_tag,
                false,
                Settlement::Returned { counted: true },
            ),
            Method::BasicRecoverAsync { requeue } => self.recover(key, requeue),
            Method::BasicRecover { requeue } => {
                self.recover(key, requeue)?;
                self.conn
                    .send_method(key.number, &Method::BasicRecoverOk {});
                Ok(())
            }
            Method::BasicGet { queue, no_ack } => self.get(key, &queue, no_ack),
            Method::BasicConsume {
                queue,
                consumer_tag: tag,
                no_local: _,
                no_ack,
                exclusive,
                no_wait,
                arguments,
            } => {
                let arguments = arguments.detached();
                self.consume(
                    key,
                    Consume {
                        queue,
                        tag,
                        no_ack,
                        exclusive,
                        no_wait,
                        arguments,
                    },
                )
            }
            Method::BasicCancel {
                consumer_tag,
                no_wait,
            } => {
                self.cancel(key, consumer_tag, no_wait);
                Ok(())
            }
            Method::BasicQos {
                prefetch_size,
                prefetch_count,
                global,
            } => {
                if prefetch_size != 0 {
                    let text = format!("prefetch_size!=0 ({prefetch_size})");
                    return Err(ProtocolError::new(ReplyCode::NOT_IMPLEMENTED, text));
                }
                self.set_qos(key, prefetch_count, global);
                self.conn.send_method(key.number, &Method::BasicQosOk {});
                Ok(())
            }
            Method::ConfirmSelect { no_wait } => {
                self.select_confirms(key)?;
                self.reply(key, no_wait, &Method::ConfirmSelectOk {});
                Ok(())
            }
            Method::TxSelect {} => self.select_tx(key),
            Method::TxCommit {} => self.commit(key),
            Method::TxRollback {} => self.rollback(key),
            Method::ExchangeDeclare {
                exchange,
                kind,
                passive,
                durable,
                auto_delete,
                internal,
                no_wait,
                arguments,
            } => self.declare_exchange(
                key,
                DeclareExchange {
                    exchange,
                    kind,
                    passive,
                    durable,
                    auto_delete,
                    internal,
                    no_wait,
                    arguments,
                },
            ),
            Method::ExchangeDelete {
                exchange,
                if_unused,
                no_wait,
            } => self.delete_exchange(key, &exchange, if_unused, no_wait),
            Method::ExchangeBind {
                destination,
                source,
                routing_key,
                no_wait,
                arguments,
            } => {
                let bind = Bind {
                    method: ids,
                    source,
                    destination,
                    routing_key,
                    no_wait,
                    arguments,
                };
                self.bind_exchange(key, bind, true)
            }
            Method::ExchangeUnbind {
                destination,
                source,
                routing_key,
                no_wait,
                arguments,
            } => {
                let bind = Bind {
                    method: ids,
                    source,
                    destination,
                    routing_key,
                    no_wait,
                    arguments,
                };
                self.bind_exchange(key, bind, false)
            }
            Method::QueueDeclare {
                queue,
                passive,
                durable,
                exclusive,
                auto_delete,
                no_wait,
                arguments,
            } => self.declare_queue(
                key,
                DeclareQueue {
                    queue,
                    passive,
                    durable,
                    exclusive,
                    auto_delete,
                    no_wait,
                    arguments,
                },
            ),
            Method::QueueBind {
                queue,
                exchange,
                routing_key,
                no_wait,
                arguments,
            } => {
                let (source, destination) = (exchange, queue);
                let bind = Bind {
                    method: ids,
                    source,
                    destination,
                    routing_key,
                    no_wait,
                    arguments,
                };
                self.bind_queue(key, bind, true)
            }
            Method::QueueUnbind {
                queue,
                exchange,
                routing_key,
                arguments,
            } => {
                let (source, destination) = (exchange, queue);
                let bind = Bind {
                    method: ids,
                    source,
                    destination,
                    routing_key,
                    no_wait: false,
                    arguments,
                };
                self.bind_queue(key, bind, false)
            }
            Method::QueuePurge { queue, no_wait } => self.purge(key, &queue, no_wait),
            Method::QueueDelete {
                queue,
                if_unused,
                if_empty,
                no_wait,
            } => self.delete_queue(key, &queue, if_unused, if_empty, no_wait),
            Method::ChannelFlow { active: true } => {
                self.conn
                    .send_method(key.number, &Method::ChannelFlowOk { active: true });
                Ok(())
            }
            Method::ChannelFlow { active: false } => Err(ProtocolError::new(
                ReplyCode::NOT_IMPLEMENTED,
                "active=false",
            )),
            Method::AccessRequest { .. } => {
                self.conn
                    .send_method(key.number, &Method::AccessRequestOk { ticket: 1 });
                Ok(())
            }
            // The machine passes on no others.
            _ => Err(ProtocolError::new(
                ReplyCode::COMMAND_INVALID,
                "unimplemented method",
            )),
        }
    }
}
