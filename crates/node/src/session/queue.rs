//! Queues: declare, purge, delete.

use super::catalog_calls::{
    LeadsTo, LookError, catalog_error, check_takes, is_over, look, usable_queue, write,
};
use super::channel::ChannelKey;
use super::consume::unavailable;
use super::names;
use super::services::Services;
use super::state::Session;
use super::wait::Answer;
use crate::hub::api::Ask;
use amqp_codec::{FieldTable, Method, ShortStr};
use amqp_connection::ProtocolError;
use broker_model::catalog::record::QueueRecord;
use broker_model::catalog::{
    CatalogAnswer, CatalogCommand, CatalogError, Permission, QueueSpec, RESERVED_PREFIX, Resource,
    ResourceKind, strip_line_ends,
};
use broker_model::ids::{Placement, QueueId};
use broker_model::protocol::Refused;
use std::sync::Arc;
use std::time::Duration;

/// `queue.declare`.
pub(super) const DECLARE: (u16, u16) = (50, 10);
/// `queue.purge`.
const PURGE: (u16, u16) = (50, 30);
/// `queue.delete`.
const DELETE: (u16, u16) = (50, 40);

/// The exclusive queue of a connection that has just ended is looked at again after this time.
const OWNER_PAUSE: Duration = Duration::from_millis(100);
/// How often, if the owner is known to be over; and if it may be.
const OWNER_TRIES: (u32, u32) = (50, 3);

/// The arguments of `queue.declare`.
pub(super) struct DeclareQueue {
    pub(super) queue: ShortStr,
    pub(super) passive: bool,
    pub(super) durable: bool,
    pub(super) exclusive: bool,
    pub(super) auto_delete: bool,
    pub(super) no_wait: bool,
    pub(super) arguments: FieldTable,
}

/// What a declaration found or made.
struct Declared {
    id: QueueId,
    placement: Placement,
    created: bool,
}

impl Declared {
    fn existing(record: &QueueRecord) -> Self {
        Self {
            id: record.id,
            placement: record.placement,
            created: false,
        }
    }
}

impl Session {
    /// `queue.declare`.
    pub(super) fn declare_queue(
        &mut self,
        key: ChannelKey,
        declare: DeclareQueue,
    ) -> Result<(), ProtocolError> {
        let no_wait = declare.no_wait;
        if declare.queue.starts_with(super::reply_to::PSEUDO_QUEUE) {
            return self.declare_reply_queue(key, &declare.queue, no_wait);
        }
        let (broker, vhost, connection) =
            (Arc::clone(&self.broker), Arc::clone(&self.vhost), self.id);
        if declare.passive {
            // An empty name is nobody's here, unlike elsewhere.
            let name: Arc<str> = strip_line_ends(&declare.queue).into();
            self.check_any_permission(&self.queue_resource(&name))?;
            let found = Arc::clone(&name);
            let find = async move {
                usable_queue(&*broker, &vhost, &found, connection)
                    .await
                    .map(|record| Declared::existing(&record))
            };
            self.later(key, DECLARE, find, move |session, key, declared| {
                session.declared(key, name, &declared, no_wait);
                Ok(())
            });
            return Ok(());
        }
        let server_named = declare.queue.is_empty();
        let name: Arc<str> = if server_named {
            names::queue_name().into()
        } else {
            let name: Arc<str> = strip_line_ends(&declare.queue).into();
            // Even if it exists: a name that the server made is not declared a second time.
            if name.starts_with(RESERVED_PREFIX) {
                let kind = ResourceKind::Queue;
                return Err(catalog_error(&CatalogError::Reserved { kind, name }));
            }
            name
        };
        self.check_permission(Permission::Configure, &self.queue_resource(&name))?;
        let dead_letters = declare.arguments.get("x-dead-letter-exchange");
        let leads_to = LeadsTo {
            user: self.user.clone(),
            from: self.queue_resource(&name),
            exchange: dead_letters
                .as_ref()
                .and_then(|value| value.as_text())
                .map(|exchange| self.exchange_resource(exchange)),
        };
        let spec = QueueSpec {
            vhost,
            name: Arc::clone(&name),
            durable: declare.durable,
            exclusive: declare.exclusive.then_some(connection),
            auto_delete: declare.auto_delete,
            arguments: declare.arguments.detached(),
            placement: self
                .broker
                .place_queue(declare.durable && !declare.exclusive),
            server_named,
        };
        let arguments = {
            let rules = self.broker.config().declarations;
            self.broker.catalog().arguments_to_declare(&spec, rules)
        };
        let spec = QueueSpec { arguments, ..spec };
        self.has_exclusive |= declare.exclusive;
        let declare = async move { find_or_make(&*broker, spec, &leads_to).await };
        self.later(key, DECLARE, declare, move |session, key, declared| {
            session.declared(key, name, &declared, no_wait);
            Ok(())
        });
        Ok(())
    }

    /// A queue is there: remembered as the channel's last one, and counted for the answer.
    fn declared(&mut self, key: ChannelKey, name: Arc<str>, declared: &Declared, no_wait: bool) {
        let counts = &self.broker.metrics().counts;
        counts.queues_declared.add(1);
        counts.queues_created.add(u64::from(declared.created));
        if let Some(channel) = self.channel(key) {
            channel.last_queue = Some(Arc::clone(&name));
        }
        if no_wait {
            return;
        }
        if declared.created {
            self.declare_ok(key, &name, 0, 0);
            return;
        }
        let (placement, queue) = (declared.placement, declared.id);
        let count = |request| Ask::Count { request, queue };
        self.ask(
            key,
            DECLARE,
            placement,
            count,
            move |session, key, answer| {
                let (ready, consumers) = session.counts(&name, answer)?;
                session.declare_ok(key, &name, ready, consumers);
                Ok(())
            },
        );
    }

    pub(super) fn declare_ok(&mut self, key: ChannelKey, name: &str, ready: u64, consumers: u64) {
        let declare_ok = Method::QueueDeclareOk {
            queue: ShortStr::truncated(name),
            message_count: count(ready),
            consumer_count: count(consumers),
        };
        self.conn.send_method(key.number, &declare_ok);
    }

    /// Ready messages and consumers, or why they are not known.
    fn counts(&self, name: &str, answer: Answer) -> Result<(u64, u64), ProtocolError> {
        let resource = self.queue_resource(name);
        match answer {
            Answer::Counts { ready, consumers } => Ok((ready, consumers)),
            Answer::Refused(why) => Err(catalog_error(&refusal(why, resource))),
            Answer::Failed | Answer::Got(_) => Err(unavailable(&resource)),
        }
    }

    /// `queue.purge`.
    pub(super) fn purge(
        &mut self,
        key: ChannelKey,
        queue: &ShortStr,
        no_wait: bool,
    ) -> Result<(), ProtocolError> {
        let name = self.queue_name(key, queue)?;
        self.check_permission(Permission::Read, &self.queue_resource(&name))?;
        let (broker, vhost, connection) =
            (Arc::clone(&self.broker), Arc::clone(&self.vhost), self.id);
        let wanted = Arc::clone(&name);
        let find = async move { usable_queue(&*broker, &vhost, &wanted, connection).await };
        self.later(key, PURGE, find, move |session, key, record| {
            check_takes(&record, "queue.purge")?;
            let (placement, queue) = (record.placement, record.id);
            let purge = |request| Ask::Purge { request, queue };
            session.ask(key, PURGE, placement, purge, move |session, key, answer| {
                let (removed, _) = session.counts(&name, answer)?;
                session.reply(
                    key,
                    no_wait,
                    &Method::QueuePurgeOk {
                        message_count: count(removed),
                    },
                );
                Ok(())
            });
            Ok(())
        });
        Ok(())
    }

    /// `queue.delete`: its leader checks the conditions, then its record goes.
    pub(super) fn delete_queue(
        &mut self,
        key: ChannelKey,
        queue: &ShortStr,
        if_unused: bool,
        if_empty: bool,
        no_wait: bool,
    ) -> Result<(), ProtocolError> {
        let name = self.queue_name(key, queue)?;
        self.check_permission(Permission::Configure, &self.queue_resource(&name))?;
        let (broker, vhost, connection) =
            (Arc::clone(&self.broker), Arc::clone(&self.vhost), self.id);
        let wanted = Arc::clone(&name);
        let find = async move {
            let find = look(&*broker, |catalog| {
                catalog
                    .check_queue_access(&vhost, &wanted, Some(connection))
                    .cloned()
            });
            match find.await {
                Ok(record) => Ok(Some(record)),
                // What is not there is deleted already.
                Err(LookError::Refused(CatalogError::NotFound(_))) => Ok(None),
                Err(error) => Err(error.into()),
            }
        };
        self.later(key, DELETE, find, move |session, key, record| {
            match record {
                Some(record) => session.delete_checked(key, record, if_unused, if_empty, no_wait),
                None => session.reply(key, no_wait, &Method::QueueDeleteOk { message_count: 0 }),
            }
            Ok(())
        });
        Ok(())
    }

    fn delete_checked(
        &mut self,
        key: ChannelKey,
        record: Arc<QueueRecord>,
        if_unused: bool,
        if_empty: bool,
        no_wait: bool,
    ) {
        let (placement, queue) = (record.placement, record.id);
        let check = |request| Ask::CheckDelete {
            request,
            queue,
            if_unused,
            if_empty,
        };
        self.ask(
            key,
            DELETE,
            placement,
            check,
            move |session, key, answer| {
                let ready = match answer {
                    // Its leader does not know it: then nothing speaks against it.
                    Answer::Refused(Refused::NoQueue) => 0,
                    answer => session.counts(&record.name, answer)?.0,
                };
                let broker = Arc::clone(&session.broker);
                let command = CatalogCommand::DeleteQueue {
                    vhost: Arc::clone(&record.vhost),
                    name: Arc::clone(&record.name),
                    expected: Some(record.id),
                };
                let delete = async move { write(&*broker, command).await };
                session.later(key, DELETE, delete, move |session, key, answer| {
                    if matches!(answer, CatalogAnswer::Done { created: true }) {
                        session.broker.metrics().counts.queues_deleted.add(1);
                    }
                    session.reply(
                        key,
                        no_wait,
                        &Method::QueueDeleteOk {
                            message_count: count(ready),
                        },
                    );
                    Ok(())
                });
                Ok(())
            },
        );
    }
}

/// Finds a queue as it is declared, or makes it.
async fn find_or_make(
    broker: &dyn Services,
    spec: QueueSpec,
    leads_to: &LeadsTo,
) -> Result<Declared, ProtocolError> {
    let mut tries = 0;
    loop {
        let limit = broker.config().limits.queues;
        let found = look(broker, |catalog| {
            if catalog.queue(&spec.vhost, &spec.name).is_none() {
                leads_to.check(catalog)?;
            }
            let found = catalog.check_declare_queue(&spec)?;
            if found.is_none() {
                catalog.check_queue_limit(&spec.name, limit)?;
            }
            Ok(found)
        })
        .await;
        match found {
            Ok(Some(record)) => return Ok(Declared::existing(&record)),
            Ok(None) => {
                return match write(broker, CatalogCommand::DeclareQueue(spec)).await? {
                    CatalogAnswer::Queue {
                        id,
                        placement,
                        created,
                    } => Ok(Declared {
                        id,
                        placement,
                        created,
                    }),
                    CatalogAnswer::Done { .. } => {
                        Err(super::state::internal("the queue was not declared"))
                    }
                };
            }
            Err(LookError::Refused(CatalogError::Locked(_))) if tries < patience(broker, &spec) => {
                tries += 1;
                tokio::time::sleep(OWNER_PAUSE).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// A client that reconnects declares the exclusive queue of its last connection again: that one is
/// deleted as soon as the end of the connection is known everywhere.
fn patience(broker: &dyn Services, spec: &QueueSpec) -> u32 {
    let owner = broker
        .catalog()
        .queue(&spec.vhost, &spec.name)
        .and_then(|record| record.exclusive);
    match owner {
        // Gone meanwhile, or exclusive to nobody.
        None => 0,
        Some(owner) if Some(owner) == spec.exclusive => 0,
        Some(owner) if is_over(broker, owner) => OWNER_TRIES.0,
        // Its end may not have been noticed yet, not even here.
        Some(_) => OWNER_TRIES.1,
    }
}

pub(super) fn refusal(why: Refused, resource: Resource) -> CatalogError {
    match why {
        Refused::NoQueue => CatalogError::NotFound(resource),
        Refused::ExclusiveUse => CatalogError::ExclusiveUse(resource),
        Refused::InUse => CatalogError::InUse(resource),
        Refused::NotEmpty => CatalogError::NotEmpty(resource),
    }
}

fn count(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
