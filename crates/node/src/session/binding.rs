//! Bindings: of queues and of exchanges, made and removed.

use super::catalog_calls::{LookError, catalog_error, look_for, usable_queue, write, write_error};
use super::channel::ChannelKey;
use super::operator;
use super::state::Session;
use amqp_codec::{FieldTable, Method, ReplyCode, ShortStr};
use amqp_connection::ProtocolError;
use broker_model::catalog::{
    BindingSpec, Catalog, CatalogCommand, CatalogError, Destination, Permission, is_reply_queue,
    strip_line_ends,
};
use std::sync::Arc;

/// The arguments of the four methods.
pub(super) struct Bind {
    /// The method.
    pub(super) method: (u16, u16),
    pub(super) source: ShortStr,
    pub(super) destination: ShortStr,
    pub(super) routing_key: ShortStr,
    pub(super) no_wait: bool,
    pub(super) arguments: FieldTable,
}

impl Session {
    /// `queue.bind` and `queue.unbind`.
    pub(super) fn bind_queue(
        &mut self,
        key: ChannelKey,
        bind: Bind,
        make: bool,
    ) -> Result<(), ProtocolError> {
        let queue = self.queue_name(key, &bind.destination)?;
        if is_reply_queue(&queue) {
            let text = "cannot bind or unbind to a volatile (direct reply-to) queue";
            return Err(ProtocolError::new(ReplyCode::ACCESS_REFUSED, text));
        }
        // Both empty: the queue that was declared last, by its own name.
        let by_name = bind.destination.is_empty() && bind.routing_key.is_empty();
        let routing_key: Arc<str> = if by_name {
            Arc::clone(&queue)
        } else {
            bind.routing_key.as_str().into()
        };
        self.check_permission(Permission::Write, &self.queue_resource(&queue))?;
        let reply = if make {
            Method::QueueBindOk {}
        } else {
            Method::QueueUnbindOk {}
        };
        self.change_binding(
            key,
            bind,
            Destination::Queue(queue),
            routing_key,
            make,
            reply,
        )
    }

    /// `exchange.bind` and `exchange.unbind`.
    pub(super) fn bind_exchange(
        &mut self,
        key: ChannelKey,
        bind: Bind,
        make: bool,
    ) -> Result<(), ProtocolError> {
        let destination: Arc<str> = strip_line_ends(&bind.destination).into();
        self.check_permission(Permission::Write, &self.exchange_resource(&destination))?;
        let routing_key = bind.routing_key.as_str().into();
        let reply = if make {
            Method::ExchangeBindOk {}
        } else {
            Method::ExchangeUnbindOk {}
        };
        self.change_binding(
            key,
            bind,
            Destination::Exchange(destination),
            routing_key,
            make,
            reply,
        )
    }

    fn change_binding(
        &mut self,
        key: ChannelKey,
        bind: Bind,
        destination: Destination,
        routing_key: Arc<str>,
        make: bool,
        reply: Method,
    ) -> Result<(), ProtocolError> {
        let source: Arc<str> = strip_line_ends(&bind.source).into();
        let to_default = matches!(&destination, Destination::Exchange(name) if name.is_empty());
        if source.is_empty() || to_default {
            return Err(catalog_error(&CatalogError::DefaultExchange));
        }
        self.check_permission(Permission::Read, &self.exchange_resource(&source))?;
        let exchange = self
            .broker
            .catalog()
            .exchange(&self.vhost, &source)
            .cloned();
        if let Some(exchange) = exchange {
            self.check_topic(&exchange, &routing_key)?;
        }
        let spec = BindingSpec {
            vhost: Arc::clone(&self.vhost),
            source,
            destination,
            routing_key,
            arguments: bind.arguments.detached(),
        };
        let (broker, connection) = (Arc::clone(&self.broker), self.id);
        let change = async move {
            let check = |catalog: &Catalog| {
                if make {
                    catalog.check_bind(&spec)
                } else {
                    catalog.check_unbind(&spec)
                }
            };
            // That there is nothing to unbind must be sure.
            let exists = look_for(&*broker, check, |exists| make || *exists).await;
            // Last, and only if there is something to do: what is missing is told before.
            if let (Destination::Queue(queue), Ok(exists)) = (&spec.destination, &exists)
                && (make || *exists)
            {
                let access = usable_queue(&*broker, &spec.vhost, queue, connection).await;
                check_owner(access.map(drop), make)?;
            }
            match exists {
                Ok(exists) if exists == make => Ok(()),
                Ok(true) => write(&*broker, CatalogCommand::Unbind(spec))
                    .await
                    .map(drop),
                Ok(false) => operator::bind(&*broker, spec)
                    .await
                    .map(drop)
                    .map_err(|error| write_error(&error)),
                Err(LookError::Refused(CatalogError::NotFound(_))) if !make => Ok(()),
                Err(error) => Err(error.into()),
            }
        };
        let no_wait = bind.no_wait;
        self.later(key, bind.method, change, move |session, key, ()| {
            session.reply(key, no_wait, &reply);
            Ok(())
        });
        Ok(())
    }
}

/// A binding of a queue that is missing does not exist either: removing it succeeds.
fn check_owner(access: Result<(), ProtocolError>, make: bool) -> Result<(), ProtocolError> {
    match access {
        Err(error) if !make && error.code == amqp_codec::ReplyCode::NOT_FOUND => Ok(()),
        access => access,
    }
}
