//! Checks without changes: what a command would be refused for, and whether it is needed at all.
//!
//! Nodes call them before they propose, so that a refusal or the redeclaration of something that
//! exists costs no log entry; applying a command calls the same checks again.

use super::arguments::{self, Properties};
use super::command::{BindingSpec, CatalogCommand, Destination, ExchangeSpec, QueueSpec};
use super::error::{CatalogError, Resource, ResourceKind};
use super::pattern::Pattern;
use super::permission::TopicPattern;
use super::policy::check_policy;
use super::record::{ExchangeRecord, QueueRecord};
use super::settings::QueueType;
use super::topology::binding_of;
use super::vhost::Vhost;
use super::{Catalog, Name};
use crate::ids::ConnectionId;
use crate::routing::headers::MatchKind;
use crate::routing::{ExchangeKind, pick};
use amqp_codec::FieldTable;
use std::borrow::Cow;
use std::sync::Arc;

/// Names that begin so are the broker's.
pub const RESERVED_PREFIX: &str = "amq.";

/// Names of direct reply-to begin so.
const REPLY_TO_PREFIX: &str = "amq.rabbitmq.reply-to";

/// Names of the queues behind direct reply-to begin so.
pub const REPLY_QUEUE_PREFIX: &str = "amq.rabbitmq.reply-to.";

/// Whether a queue is one behind a consumer of direct replies. Nobody has declared it: it counts for no
/// limit, stands in no list, and takes no policy.
#[must_use]
pub fn is_reply_queue(name: &str) -> bool {
    name.starts_with(REPLY_QUEUE_PREFIX)
}

/// Longest name, bytes.
const NAME_MAX: usize = 255;

/// A declared name without carriage returns and line feeds, as RabbitMQ takes it.
#[must_use]
pub fn strip_line_ends(name: &str) -> Cow<'_, str> {
    if name.contains(['\r', '\n']) {
        Cow::Owned(name.replace(['\r', '\n'], ""))
    } else {
        Cow::Borrowed(name)
    }
}

impl Catalog {
    /// `queue.declare` that is not passive: the queue if it exists and is as asked, `None` if it is
    /// to be proposed.
    ///
    /// # Errors
    /// Locked, inequivalent, reserved name, invalid arguments, limit.
    pub fn check_declare_queue(
        &self,
        spec: &QueueSpec,
    ) -> Result<Option<Arc<QueueRecord>>, CatalogError> {
        let vhost = self.vhost_state(&spec.vhost)?;
        if let Some(queue) = vhost.queue(&spec.name) {
            check_redeclared(vhost, queue, spec)?;
            return Ok(Some(queue.clone()));
        }
        if spec.name.len() > NAME_MAX {
            return Err(CatalogError::NameTooLong {
                kind: ResourceKind::Queue,
            });
        }
        if spec.name.starts_with(RESERVED_PREFIX) && !spec.server_named {
            return Err(CatalogError::Reserved {
                kind: ResourceKind::Queue,
                name: spec.name.clone(),
            });
        }
        let queue_type = type_of_new(vhost, spec)?;
        if spec.server_named && queue_type != QueueType::Classic {
            return Err(CatalogError::ServerNamed { queue_type });
        }
        let resource = Resource::queue(&vhost.record.name, &spec.name);
        check_exchange_named(&resource, &spec.arguments, "x-dead-letter-exchange")?;
        arguments::check(&resource, queue_type, properties_of(spec), &spec.arguments)?;
        if let Some(limit) = vhost.record.limits.max_queues
            && !is_reply_queue(&spec.name)
            && vhost.declared_count() as u64 >= limit
        {
            return Err(CatalogError::QueueLimit {
                queue: spec.name.clone(),
                vhost: vhost.record.name.clone(),
                limit,
            });
        }
        Ok(None)
    }

    /// Whether the cluster may have one more queue. The limit is a setting of nodes, which replicas do
    /// not know: to be asked before a new queue is proposed.
    ///
    /// # Errors
    /// It has as many as it may have.
    pub fn check_queue_limit(&self, name: &Name, limit: Option<u64>) -> Result<(), CatalogError> {
        match limit {
            Some(limit) if self.declared_queue_count() as u64 >= limit && !is_reply_queue(name) => {
                Err(CatalogError::ClusterQueueLimit {
                    queue: name.clone(),
                    limit,
                })
            }
            _ => Ok(()),
        }
    }

    /// The queue, if `connection` may use it (passive declare, bind, consume, get, purge, delete).
    ///
    /// # Errors
    /// Missing, or exclusive to another connection.
    pub fn check_queue_access(
        &self,
        vhost: &str,
        name: &str,
        connection: Option<ConnectionId>,
    ) -> Result<&Arc<QueueRecord>, CatalogError> {
        let vhost = self.vhost_state(vhost)?;
        let missing = || CatalogError::NotFound(Resource::queue(&vhost.record.name, name));
        let queue = vhost.queue(name).ok_or_else(missing)?;
        if queue.exclusive.is_some() && queue.exclusive != connection {
            return Err(CatalogError::Locked(Resource::queue(
                &vhost.record.name,
                name,
            )));
        }
        Ok(queue)
    }

    /// `exchange.declare` that is not passive: the exchange if it exists and is as asked, `None` if
    /// it is to be proposed.
    ///
    /// # Errors
    /// Default exchange, inequivalent, reserved name, unknown type, invalid arguments.
    pub fn check_declare_exchange(
        &self,
        spec: &ExchangeSpec,
    ) -> Result<Option<Arc<ExchangeRecord>>, CatalogError> {
        let vhost = self.vhost_state(&spec.vhost)?;
        if spec.name.is_empty() {
            return Err(CatalogError::DefaultExchange);
        }
        let kind =
            ExchangeKind::parse(&spec.kind).ok_or_else(|| CatalogError::UnknownExchangeType {
                kind: spec.kind.clone(),
            })?;
        let resource = Resource::exchange(&vhost.record.name, &spec.name);
        if let Some(exchange) = vhost.exchange(&spec.name) {
            check_exchange_equivalent(&resource, &exchange.record, kind, spec)?;
            return Ok(Some(exchange.record.clone()));
        }
        if spec.name.len() > NAME_MAX {
            return Err(CatalogError::NameTooLong {
                kind: ResourceKind::Exchange,
            });
        }
        if spec.name.starts_with(RESERVED_PREFIX) {
            return Err(CatalogError::Reserved {
                kind: ResourceKind::Exchange,
                name: spec.name.clone(),
            });
        }
        check_exchange_named(&resource, &spec.arguments, "alternate-exchange")?;
        super::exchange::check(&resource, kind, &spec.arguments)?;
        let matching = super::exchange::matching(kind, &spec.arguments);
        if matching == ExchangeKind::ConsistentHash {
            pick::HashOn::read(&spec.arguments)
                .map_err(|text| CatalogError::Invalid(text.into()))?;
        }
        Ok(None)
    }

    /// `exchange.declare` with passive, and every other use of an exchange by name.
    ///
    /// # Errors
    /// Missing.
    pub fn check_exchange(
        &self,
        vhost: &str,
        name: &str,
    ) -> Result<&Arc<ExchangeRecord>, CatalogError> {
        let vhost = self.vhost_state(vhost)?;
        if name.is_empty() {
            return Ok(&vhost.default_exchange);
        }
        vhost
            .exchange(name)
            .map(|exchange| &exchange.record)
            .ok_or_else(|| CatalogError::NotFound(Resource::exchange(&vhost.record.name, name)))
    }

    /// Whether clients may publish to the exchange, permissions aside.
    ///
    /// # Errors
    /// Missing or internal.
    pub fn check_publish(
        &self,
        vhost: &str,
        exchange: &str,
    ) -> Result<&Arc<ExchangeRecord>, CatalogError> {
        let record = self.check_exchange(vhost, exchange)?;
        if record.internal {
            return Err(CatalogError::InternalExchange(Resource::exchange(
                vhost, exchange,
            )));
        }
        Ok(record)
    }

    /// `exchange.delete`: whether there is something to delete.
    ///
    /// # Errors
    /// The default exchange or one of the broker's, in use.
    pub fn check_delete_exchange(
        &self,
        vhost: &str,
        name: &str,
        if_unused: bool,
    ) -> Result<bool, CatalogError> {
        let vhost = self.vhost_state(vhost)?;
        if name.is_empty() {
            return Err(CatalogError::DefaultExchange);
        }
        let resource = || Resource::exchange(&vhost.record.name, name);
        // As RabbitMQ answers for every such name, whether there is an exchange or not.
        if name.starts_with(RESERVED_PREFIX) {
            return Err(CatalogError::SystemExchange(resource()));
        }
        match vhost.exchange(name) {
            None => Ok(false),
            Some(exchange) if if_unused && !exchange.outgoing.is_empty() => {
                Err(CatalogError::InUse(resource()))
            }
            Some(_) => Ok(true),
        }
    }

    /// `queue.bind` and `exchange.bind`: whether the binding exists already. Whether the connection
    /// may use the queue is [`Catalog::check_queue_access`]'s question.
    ///
    /// # Errors
    /// Default exchange, missing source or destination, arguments that the exchange refuses.
    pub fn check_bind(&self, spec: &BindingSpec) -> Result<bool, CatalogError> {
        let there = self.check_bind_applied(spec)?;
        let vhost = self.vhost_state(&spec.vhost)?;
        let source = vhost.exchange(&spec.source);
        if source.is_some_and(|source| source.record.matching() == ExchangeKind::ConsistentHash) {
            pick::check_weight(&spec.routing_key)
                .map_err(|text| CatalogError::Invalid(text.into()))?;
        }
        Ok(there)
    }

    /// The same where a command is applied: what earlier versions have put into the log is taken, so that
    /// all replicas come to the same.
    pub(crate) fn check_bind_applied(&self, spec: &BindingSpec) -> Result<bool, CatalogError> {
        let vhost = self.vhost_state(&spec.vhost)?;
        check_binding_names(vhost, spec)?;
        let name = &vhost.record.name;
        let source = vhost
            .exchange(&spec.source)
            .ok_or_else(|| CatalogError::NotFound(Resource::exchange(name, &spec.source)))?;
        if vhost.destination(&spec.destination).is_none() {
            return Err(CatalogError::NotFound(match &spec.destination {
                Destination::Queue(queue) => Resource::queue(name, queue),
                Destination::Exchange(exchange) => Resource::exchange(name, exchange),
            }));
        }
        match source.record.matching() {
            ExchangeKind::Headers => {
                MatchKind::read(&spec.arguments).map_err(|problem| CatalogError::InvalidMatch {
                    problem: problem.into(),
                })?;
            }
            ExchangeKind::ConsistentHash if pick::weight(&spec.routing_key).is_none() => {
                pick::check_weight(&spec.routing_key)
                    .map_err(|text| CatalogError::Invalid(text.into()))?;
            }
            ExchangeKind::LocalRandom => check_local(vhost, spec)?,
            _ => {}
        }
        Ok(binding_of(vhost, spec).is_some_and(|binding| vhost.has_binding(&binding)))
    }

    /// `queue.unbind` and `exchange.unbind`: whether there is something to remove.
    ///
    /// # Errors
    /// Default exchange.
    pub fn check_unbind(&self, spec: &BindingSpec) -> Result<bool, CatalogError> {
        let vhost = self.vhost_state(&spec.vhost)?;
        check_binding_names(vhost, spec)?;
        Ok(binding_of(vhost, spec).is_some_and(|binding| vhost.has_binding(&binding)))
    }

    /// What an operator's command would be refused for, before it is proposed. Declarations and
    /// bindings have their own checks, which this calls.
    ///
    /// # Errors
    /// Expressions that do not compile, policies that make no sense, missing users and vhosts …
    pub fn check(&self, command: &CatalogCommand) -> Result<(), CatalogError> {
        match command {
            CatalogCommand::PutVhost(spec) => {
                check_label("vhost", &spec.name)?;
                match spec.default_queue_type.as_deref() {
                    None | Some("" | "undefined") => Ok(()),
                    Some(name) if QueueType::parse(name).is_some() => Ok(()),
                    Some(name) => {
                        let text = format!("unsupported default queue type '{name}'");
                        Err(CatalogError::Invalid(text.into()))
                    }
                }
            }
            CatalogCommand::PutUser(spec) => check_label("user", &spec.name),
            CatalogCommand::SetPermissions(spec) => {
                self.vhost_state(&spec.vhost)?;
                self.check_user(&spec.user)?;
                [&spec.configure, &spec.write, &spec.read]
                    .into_iter()
                    .try_for_each(|pattern| Pattern::check(pattern))
            }
            CatalogCommand::SetTopicPermissions(spec) => {
                self.vhost_state(&spec.vhost)?;
                self.check_user(&spec.user)?;
                [&spec.write, &spec.read]
                    .into_iter()
                    .try_for_each(|pattern| {
                        match TopicPattern::new(pattern.clone()) {
                            TopicPattern::Plain(_) => Pattern::check(pattern),
                            // Braces of variables are not expressions.
                            TopicPattern::Template(text) => Pattern::check(
                                &text
                                    .replace("{username}", "u")
                                    .replace("{vhost}", "v")
                                    .replace("{client_id}", "c"),
                            ),
                        }
                    })
            }
            CatalogCommand::PutPolicy(spec) => {
                self.vhost_state(&spec.vhost)?;
                check_label("policy", &spec.name)?;
                check_policy(spec)
            }
            CatalogCommand::DeclareExchange(spec) => self.check_declare_exchange(spec).map(drop),
            CatalogCommand::DeleteExchange {
                vhost,
                name,
                if_unused,
            } => self
                .check_delete_exchange(vhost, name, *if_unused)
                .map(drop),
            CatalogCommand::DeleteVhost { name } => match self.vhost(name) {
                Some(vhost) if vhost.protected => Err(CatalogError::Protected {
                    vhost: name.clone(),
                }),
                _ => Ok(()),
            },
            CatalogCommand::Bind(spec) => self.check_bind(spec).map(drop),
            CatalogCommand::Unbind(spec) => self.check_unbind(spec).map(drop),
            CatalogCommand::DeclareQueue(spec) => self.check_declare_queue(spec).map(drop),
            CatalogCommand::DeleteQueue { vhost, .. }
            | CatalogCommand::SetVhostLimits { vhost, .. }
            | CatalogCommand::DeletePolicy { vhost, .. }
            | CatalogCommand::PutParameter { vhost, .. }
            | CatalogCommand::DeleteParameter { vhost, .. } => self.vhost_state(vhost).map(drop),
            CatalogCommand::SetUserLimits { user, .. }
            | CatalogCommand::ClearPermissions { user, .. }
            | CatalogCommand::ClearTopicPermissions { user, .. } => self.check_user(user),
            CatalogCommand::Bootstrap(_)
            | CatalogCommand::SetClusterName { .. }
            | CatalogCommand::DeleteUser { .. }
            | CatalogCommand::DeleteQueuesOf { .. }
            | CatalogCommand::NodeStarted { .. }
            | CatalogCommand::NodeDead { .. }
            | CatalogCommand::PutGlobalParameter { .. }
            | CatalogCommand::DeleteGlobalParameter { .. }
            | CatalogCommand::PutNode(_)
            | CatalogCommand::SetNodeState { .. }
            | CatalogCommand::RemoveNode { .. } => Ok(()),
        }
    }

    fn check_user(&self, user: &Name) -> Result<(), CatalogError> {
        match self.users.get(user) {
            Some(_) => Ok(()),
            None => Err(CatalogError::NoUser { user: user.clone() }),
        }
    }
}

/// A name that operators give.
fn check_label(kind: &str, name: &str) -> Result<(), CatalogError> {
    if name.is_empty() {
        return Err(CatalogError::Invalid(
            format!("{kind} name is empty").into(),
        ));
    }
    if name.len() > NAME_MAX {
        let text = format!("{kind} name is longer than {NAME_MAX} bytes");
        return Err(CatalogError::Invalid(text.into()));
    }
    Ok(())
}

const fn properties_of(spec: &QueueSpec) -> Properties {
    let exclusive = spec.exclusive.is_some();
    // Exclusive queues end with their connection, so durable means nothing for them.
    Properties {
        durable: spec.durable && !exclusive,
        exclusive,
        auto_delete: spec.auto_delete,
    }
}

/// The type that a declaration asks for.
pub(crate) fn type_of_new(vhost: &Vhost, spec: &QueueSpec) -> Result<QueueType, CatalogError> {
    let resource = Resource::queue(&vhost.record.name, &spec.name);
    let default = vhost.record.default_queue_type.as_deref();
    arguments::queue_type(&resource, properties_of(spec), &spec.arguments, default)
}

/// Checks a redeclaration in the order that clients observe: exclusivity, durable, auto-delete,
/// arguments.
fn check_redeclared(
    vhost: &Vhost,
    queue: &QueueRecord,
    spec: &QueueSpec,
) -> Result<(), CatalogError> {
    let resource = Resource::queue(&queue.vhost, &queue.name);
    if queue.exclusive != spec.exclusive {
        return Err(CatalogError::Locked(resource));
    }
    let asked = properties_of(spec);
    check_flag(&resource, "durable", asked.durable, queue.durable)?;
    check_flag(
        &resource,
        "auto_delete",
        asked.auto_delete,
        queue.auto_delete,
    )?;
    let queue_type = type_of_new(vhost, spec)?;
    if queue_type != queue.queue_type {
        // Where a declaration names no type, it asks for the default one, and is told so.
        return Err(CatalogError::Inequivalent {
            key: "x-queue-type".into(),
            resource,
            received: format!("'{}'", queue_type.as_str()).into(),
            current: format!("'{}'", queue.queue_type.as_str()).into(),
        });
    }
    arguments::check_equivalent(
        &resource,
        queue.queue_type,
        &queue.arguments,
        &spec.arguments,
    )
}

fn check_exchange_equivalent(
    resource: &Resource,
    current: &ExchangeRecord,
    kind: ExchangeKind,
    spec: &ExchangeSpec,
) -> Result<(), CatalogError> {
    if kind != current.kind {
        return Err(CatalogError::Inequivalent {
            key: "type".into(),
            resource: resource.clone(),
            received: format!("'{}'", kind.as_str()).into(),
            current: format!("'{}'", current.kind.as_str()).into(),
        });
    }
    check_flag(resource, "durable", spec.durable, current.durable)?;
    check_flag(
        resource,
        "auto_delete",
        spec.auto_delete,
        current.auto_delete,
    )?;
    check_flag(resource, "internal", spec.internal, current.internal)?;
    if current.arguments.raw() == spec.arguments.raw() {
        return Ok(());
    }
    super::exchange::compared(kind).try_for_each(|key| {
        arguments::check_value_equivalent(
            resource,
            key,
            current.arguments.get(key).as_ref(),
            spec.arguments.get(key).as_ref(),
        )
    })
}

/// An argument that names an exchange, if it is there.
fn check_exchange_named(
    resource: &Resource,
    arguments: &FieldTable,
    key: &str,
) -> Result<(), CatalogError> {
    match arguments.get(key) {
        Some(value) if value.as_text().is_none() => {
            let kind = value.type_name();
            let text = format!("invalid type '{kind}' for arg '{key}' in {resource}");
            Err(CatalogError::Invalid(text.into()))
        }
        _ => Ok(()),
    }
}

fn check_flag(
    resource: &Resource,
    key: &str,
    received: bool,
    current: bool,
) -> Result<(), CatalogError> {
    if received == current {
        return Ok(());
    }
    Err(CatalogError::Inequivalent {
        key: key.into(),
        resource: resource.clone(),
        received: format!("'{received}'").into(),
        current: format!("'{current}'").into(),
    })
}

/// Names that bindings cannot have on either side.
/// `x-local-random`: classic queues only, without a key.
fn check_local(vhost: &Vhost, spec: &BindingSpec) -> Result<(), CatalogError> {
    let key = &spec.routing_key;
    if !key.is_empty() {
        let text = format!("Non empty binding '{key}' key not permitted");
        return Err(CatalogError::Invalid(text.into()));
    }
    let queue = match &spec.destination {
        Destination::Queue(name) => vhost.queue(name),
        Destination::Exchange(_) => None,
    };
    match queue.map(|queue| queue.queue_type) {
        Some(QueueType::Classic) => Ok(()),
        Some(other) => {
            let name = other.module_name();
            let text = format!("Queue type {name} not valid for this exchange type");
            Err(CatalogError::Invalid(text.into()))
        }
        None => Err(CatalogError::Invalid("Destination not found".into())),
    }
}

fn check_binding_names(vhost: &Vhost, spec: &BindingSpec) -> Result<(), CatalogError> {
    if spec.source.is_empty() {
        return Err(CatalogError::DefaultExchange);
    }
    match &spec.destination {
        Destination::Exchange(name) if name.is_empty() => Err(CatalogError::DefaultExchange),
        Destination::Queue(name) if name.starts_with(REPLY_TO_PREFIX) => Err(
            CatalogError::ReplyTo(Resource::queue(&vhost.record.name, name)),
        ),
        _ => Ok(()),
    }
}
