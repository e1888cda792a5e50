//! What sessions ask of the catalog: look-ups that are sure, writes, permissions.

use super::channel::ChannelKey;
use super::services::Services;
use super::state::{Session, internal};
use crate::catalog::writer::WriteError;
use crate::hub::api::SessionId;
use crate::identity::Identity;
use amqp_codec::{ReplyCode, ShortStr};
use amqp_connection::ProtocolError;
use broker_model::catalog::record::QueueRecord;
use broker_model::catalog::settings::QueueType;
use broker_model::catalog::{
    Catalog, CatalogAnswer, CatalogCommand, CatalogError, ExchangeRecord, Permission, Resource,
};
use broker_model::ids::ConnectionId;
use broker_model::routing::Effort;
use futures::future::BoxFuture;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Between attempts to bring the catalog up to date, which mostly wait themselves.
const PAUSE: Duration = Duration::from_millis(50);

/// A refusal of the catalog, as the client is told.
pub(super) fn catalog_error(error: &CatalogError) -> ProtocolError {
    ProtocolError::new(error.reply_code(), error.to_string())
}

pub(super) fn write_error(error: &WriteError) -> ProtocolError {
    match error {
        WriteError::Refused(error) => catalog_error(error),
        WriteError::Timeout => internal(&error.to_string()),
        WriteError::Stopping => ProtocolError::new(
            ReplyCode::CONNECTION_FORCED,
            "broker forced connection closure with reason 'shutdown'",
        ),
    }
}

/// Why a look at the catalog found nothing.
#[derive(Debug)]
pub(super) enum LookError {
    /// The catalog refuses.
    Refused(CatalogError),
    /// It is not here, but no majority of the nodes could be asked whether it is there by now.
    Unsure,
}

impl From<LookError> for ProtocolError {
    fn from(error: LookError) -> Self {
        match error {
            LookError::Refused(error) => catalog_error(&error),
            LookError::Unsure => cut_off(),
        }
    }
}

/// What a client is told that asks for what this node has not heard of, while it is cut off from the others.
pub(super) fn cut_off() -> ProtocolError {
    internal("this node reaches no majority of its cluster, and cannot tell what exists")
}

/// Looks at the catalog. What it refuses is looked at again when the catalog here is up to date with
/// all nodes: what was declared elsewhere a moment ago counts.
pub(super) async fn look<T>(
    broker: &dyn Services,
    look: impl Fn(&Catalog) -> Result<T, CatalogError>,
) -> Result<T, LookError> {
    look_for(broker, look, |_| true).await
}

/// The same, where some of what is found means that something is missing: only what is `there` is believed at once.
pub(super) async fn look_for<T>(
    broker: &dyn Services,
    look: impl Fn(&Catalog) -> Result<T, CatalogError>,
    there: impl Fn(&T) -> bool,
) -> Result<T, LookError> {
    let first = look(&broker.catalog());
    if first.as_ref().is_ok_and(there) {
        return first.map_err(LookError::Refused);
    }
    if is_up_to_date(broker).await {
        return look(&broker.catalog()).map_err(LookError::Refused);
    }
    match first {
        Ok(_) | Err(CatalogError::NotFound(_)) => Err(LookError::Unsure),
        Err(error) => Err(LookError::Refused(error)),
    }
}

/// Brings the catalog up to date; waits for a majority as long as a write would.
async fn is_up_to_date(broker: &dyn Services) -> bool {
    again_and_again(broker, || broker.catalog_sync()).await
}

/// Brings the catalog up to date unless nobody could know more; waits as long.
pub(super) async fn becomes_recent(broker: &dyn Services) -> bool {
    again_and_again(broker, || broker.catalog_freshen()).await
}

async fn again_and_again<'a>(
    broker: &dyn Services,
    attempt: impl Fn() -> BoxFuture<'a, bool>,
) -> bool {
    let deadline = Instant::now() + broker.config().timing.publish_timeout;
    while !attempt().await {
        if Instant::now() >= deadline {
            return false;
        }
        tokio::time::sleep(PAUSE).await;
    }
    true
}

/// The queue, if this connection may use it.
pub(super) async fn usable_queue(
    broker: &dyn Services,
    vhost: &str,
    name: &str,
    connection: ConnectionId,
) -> Result<Arc<QueueRecord>, ProtocolError> {
    look(broker, |catalog| {
        catalog
            .check_queue_access(vhost, name, Some(connection))
            .cloned()
    })
    .await
    .map_err(ProtocolError::from)
}

/// Whether a method may take messages out of the queue: those of a stream are read and stay.
pub(super) fn check_takes(queue: &QueueRecord, method: &str) -> Result<(), ProtocolError> {
    if queue.queue_type != QueueType::Stream {
        return Ok(());
    }
    let resource = Resource::queue(&queue.vhost, &queue.name);
    let text = format!("{method} not supported by stream queues {resource}");
    Err(ProtocolError::new(ReplyCode::NOT_IMPLEMENTED, text))
}

/// A queue or exchange that is declared may lead to an exchange: that of its dead letters, or of what it does not
/// route. Who makes it needs the right to read the one and to write to the other. Who only declares what is there
/// needs neither.
pub(super) struct LeadsTo {
    pub(super) user: Identity,
    pub(super) from: Resource,
    pub(super) exchange: Option<Resource>,
}

impl LeadsTo {
    pub(super) fn check(&self, catalog: &Catalog) -> Result<(), CatalogError> {
        let Some(exchange) = &self.exchange else {
            return Ok(());
        };
        for (permission, resource) in [
            (Permission::Read, &self.from),
            (Permission::Write, exchange),
        ] {
            self.user.check_permission(
                catalog,
                &resource.vhost,
                permission,
                resource.kind,
                &resource.name,
            )?;
        }
        Ok(())
    }
}

/// Changes the catalog.
pub(super) async fn write(
    broker: &dyn Services,
    command: CatalogCommand,
) -> Result<CatalogAnswer, ProtocolError> {
    broker
        .catalog_write(command)
        .await
        .map_err(|error| write_error(&error))
}

/// Whether the connection that has a queue to itself is known to be over, so that the queue will be
/// deleted any moment.
pub(super) fn is_over(broker: &dyn Services, owner: ConnectionId) -> bool {
    if owner.origin == broker.origin() {
        return broker.registry().get(SessionId(owner.serial)).is_none();
    }
    broker.is_dead(owner.origin.node)
        || broker.catalog().latest_start(owner.origin.node) > owner.origin.incarnation
}

impl Session {
    /// The queue that a method names; empty is the one that the channel declared last.
    pub(super) fn queue_name(
        &mut self,
        key: ChannelKey,
        name: &ShortStr,
    ) -> Result<Arc<str>, ProtocolError> {
        if !name.is_empty() {
            return Ok(broker_model::catalog::strip_line_ends(name).into());
        }
        self.channel(key)
            .and_then(|channel| channel.last_queue.clone())
            .ok_or_else(|| ProtocolError::new(ReplyCode::NOT_FOUND, "no previously declared queue"))
    }

    /// Whether the user may do something with a queue or exchange.
    pub(super) fn check_permission(
        &self,
        permission: Permission,
        resource: &Resource,
    ) -> Result<(), ProtocolError> {
        self.user
            .check_permission(
                &self.broker.catalog(),
                &self.vhost,
                permission,
                resource.kind,
                &resource.name,
            )
            .map_err(|error| catalog_error(&error))
    }

    /// Whether the user may do anything at all with a queue or exchange.
    pub(super) fn check_any_permission(&self, resource: &Resource) -> Result<(), ProtocolError> {
        self.check_permission(Permission::Read, resource)
            .or_else(|_| self.check_permission(Permission::Write, resource))
            .or_else(|_| self.check_permission(Permission::Configure, resource))
    }

    /// Whether the user may bind to an exchange by this key.
    pub(super) fn check_topic(
        &self,
        exchange: &ExchangeRecord,
        key: &str,
    ) -> Result<(), ProtocolError> {
        self.user
            .check_topic_permission(
                &self.broker.catalog(),
                Permission::Read,
                exchange,
                &[key],
                &mut Effort::at_once(),
            )
            .map_err(|error| catalog_error(&error))
    }

    /// A queue of this vhost, for texts and permissions.
    pub(super) fn queue_resource(&self, name: &str) -> Resource {
        Resource::queue(&self.vhost, name)
    }

    /// An exchange of this vhost, for texts and permissions.
    pub(super) fn exchange_resource(&self, name: &str) -> Resource {
        Resource::exchange(&self.vhost, name)
    }
}
