//! Why the catalog refuses, with the texts and codes that clients compare.

use super::command::Name;
use super::settings::QueueType;
use amqp_codec::ReplyCode;
use std::fmt;

/// A queue or exchange as texts name it: `queue 'q' in vhost '/'`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// Which kind.
    pub kind: ResourceKind,
    /// Its name.
    pub name: Name,
    /// Its vhost.
    pub vhost: Name,
}

impl Resource {
    /// A queue.
    #[must_use]
    pub fn queue(vhost: &str, name: &str) -> Self {
        Self {
            kind: ResourceKind::Queue,
            name: name.into(),
            vhost: vhost.into(),
        }
    }

    /// An exchange.
    #[must_use]
    pub fn exchange(vhost: &str, name: &str) -> Self {
        Self {
            kind: ResourceKind::Exchange,
            name: name.into(),
            vhost: vhost.into(),
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} '{}' in vhost '{}'",
            self.kind.as_str(),
            self.name,
            self.vhost
        )
    }
}

/// The two kinds of resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ResourceKind {
    /// A queue.
    Queue,
    /// An exchange.
    Exchange,
}

impl ResourceKind {
    /// The word in texts.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Exchange => "exchange",
        }
    }
}

/// A refusal. The text is the explanation after `NAME - `.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CatalogError {
    /// No such queue or exchange.
    #[error("no {0}")]
    NotFound(Resource),
    /// No such vhost.
    #[error("vhost {vhost} not found")]
    NoVhost {
        /// The name asked for.
        vhost: Name,
    },
    /// A vhost that operators have protected.
    #[error("Refusing to delete virtual host '{vhost}' because it is protected from deletion")]
    Protected {
        /// Its name.
        vhost: Name,
    },
    /// No such user.
    #[error("no user '{user}'")]
    NoUser {
        /// The name asked for.
        user: Name,
    },
    /// A redeclaration that differs. `received` and `current` are complete phrases.
    #[error(
        "inequivalent arg '{key}' for {resource}: received {received} but current is {current}"
    )]
    Inequivalent {
        /// Property or argument.
        key: Name,
        /// Queue or exchange.
        resource: Resource,
        /// In the declaration.
        received: Name,
        /// In force.
        current: Name,
    },
    /// An exclusive queue of another connection, or a declaration that differs in exclusivity.
    #[error(
        "cannot obtain exclusive access to locked {0}. It could be originally declared on another \
         connection or the exclusive property value does not match that of the original declaration."
    )]
    Locked(Resource),
    /// The user has no such permission.
    #[error("{permission} access to {resource} refused for user '{user}'")]
    AccessRefused {
        /// `configure`, `write` or `read`.
        permission: &'static str,
        /// Queue or exchange.
        resource: Resource,
        /// User.
        user: Name,
    },
    /// The user has no permission for the topic.
    #[error("{permission} access to topic '{topic}' in {exchange} refused for user '{user}'")]
    TopicRefused {
        /// `write` or `read`.
        permission: &'static str,
        /// Routing key.
        topic: Name,
        /// Exchange.
        exchange: Resource,
        /// User.
        user: Name,
    },
    /// Names that begin with `amq.` are the broker's.
    #[error("{} name '{name}' contains reserved prefix 'amq.*'", kind.as_str())]
    Reserved {
        /// Queue or exchange.
        kind: ResourceKind,
        /// The name.
        name: Name,
    },
    /// Declare, delete, bind or unbind of the default exchange.
    #[error("operation not permitted on the default exchange")]
    DefaultExchange,
    /// A predeclared exchange cannot be deleted.
    #[error("deletion of system {0} not allowed")]
    SystemExchange(Resource),
    /// Publish to an internal exchange.
    #[error("cannot publish to internal {0}")]
    InternalExchange(Resource),
    /// Delete with `if-unused`, or of something that must be unused.
    #[error("{0} in use")]
    InUse(Resource),
    /// Delete with `if-empty`.
    #[error("{0} not empty")]
    NotEmpty(Resource),
    /// Consume while another consumer has the queue exclusively.
    #[error("{0} in exclusive use")]
    ExclusiveUse(Resource),
    /// An exchange type that does not exist here.
    #[error("unknown exchange type '{kind}'")]
    UnknownExchangeType {
        /// The type asked for.
        kind: Name,
    },
    /// An argument with a value that is not allowed. `reason` is printed as it is.
    #[error("invalid arg '{argument}' for {resource}: {reason}")]
    InvalidArgument {
        /// Argument.
        argument: Name,
        /// Queue or exchange.
        resource: Resource,
        /// What is wrong.
        reason: Name,
    },
    /// An argument that exists only for another type of queue.
    #[error("invalid arg '{argument}' for {resource} of queue type {}", queue_type.module_name())]
    ArgumentOfOtherType {
        /// Argument.
        argument: Name,
        /// Queue.
        resource: Resource,
        /// Type declared.
        queue_type: QueueType,
    },
    /// A property that the type of queue cannot have.
    #[error("invalid property '{property}' for {resource}")]
    InvalidProperty {
        /// `exclusive-owner`, `auto-delete` or `non-durable`.
        property: &'static str,
        /// Queue.
        resource: Resource,
    },
    /// A quorum queue or stream needs a name.
    #[error("Cannot declare a server-named queue for type {}", queue_type.module_name())]
    ServerNamed {
        /// Type declared.
        queue_type: QueueType,
    },
    /// A binding to a headers exchange with an unknown `x-match`.
    #[error("Invalid x-match field {problem}")]
    InvalidMatch {
        /// What is wrong with it, and what is expected.
        problem: Name,
    },
    /// Direct reply-to is not a queue that can be bound.
    #[error("binding of {0} not permitted")]
    ReplyTo(Resource),
    /// The vhost has as many queues as it may have.
    #[error("cannot declare queue '{queue}': queue limit in vhost '{vhost}' ({limit}) is reached")]
    QueueLimit {
        /// Queue to be declared.
        queue: Name,
        /// Vhost.
        vhost: Name,
        /// The limit.
        limit: u64,
    },
    /// The cluster has as many queues as it may have.
    #[error("cannot declare queue '{queue}': queue limit in cluster ({limit}) is reached")]
    ClusterQueueLimit {
        /// Queue to be declared.
        queue: Name,
        /// The limit.
        limit: u64,
    },
    /// A name, pattern, policy or parameter that makes no sense; the text says why.
    #[error("{0}")]
    Invalid(Name),
    /// A name is longer than 255 bytes.
    #[error("{} name is longer than 255 bytes", kind.as_str())]
    NameTooLong {
        /// Queue or exchange.
        kind: ResourceKind,
    },
    /// Finding the way of a message takes more steps than it may.
    #[error(
        "finding the queues of this message takes too many steps: it has too many routing keys (headers CC and BCC), or too \
         many bindings may fit it"
    )]
    TooCostly,
    /// A refusal that was received from another node.
    #[error("{text}")]
    Remote {
        /// Its code.
        code: ReplyCode,
        /// Its text.
        text: Name,
    },
}

impl CatalogError {
    /// What the client is told. `NOT_ALLOWED` closes the connection, everything else the channel.
    #[must_use]
    pub fn reply_code(&self) -> ReplyCode {
        match self {
            Self::NotFound(_) | Self::NoUser { .. } => ReplyCode::NOT_FOUND,
            Self::NoVhost { .. } => ReplyCode::NOT_ALLOWED,
            Self::Locked(_) => ReplyCode::RESOURCE_LOCKED,
            Self::AccessRefused { .. }
            | Self::TopicRefused { .. }
            | Self::Reserved { .. }
            | Self::DefaultExchange
            | Self::SystemExchange(_)
            | Self::InternalExchange(_)
            | Self::ExclusiveUse(_)
            | Self::ReplyTo(_) => ReplyCode::ACCESS_REFUSED,
            Self::Inequivalent { .. }
            | Self::Protected { .. }
            | Self::InUse(_)
            | Self::NotEmpty(_)
            | Self::UnknownExchangeType { .. }
            | Self::InvalidArgument { .. }
            | Self::ArgumentOfOtherType { .. }
            | Self::InvalidProperty { .. }
            | Self::ServerNamed { .. }
            | Self::InvalidMatch { .. }
            | Self::QueueLimit { .. }
            | Self::ClusterQueueLimit { .. }
            | Self::Invalid(_)
            | Self::TooCostly
            | Self::NameTooLong { .. } => ReplyCode::PRECONDITION_FAILED,
            Self::Remote { code, .. } => *code,
        }
    }
}

impl From<crate::routing::TooCostly> for CatalogError {
    fn from(_: crate::routing::TooCostly) -> Self {
        Self::TooCostly
    }
}
