//! Commands as they are written.

use super::command::{
    BindingSpec, Bootstrap, CatalogCommand, Destination, ExchangeSpec, Name, PermissionSpec,
    PolicySpec, QueueSpec, TopicPermissionSpec, UserSpec, VhostSpec,
};
use super::password::{PasswordAlgorithm, PasswordHash};
use super::policy::PolicyValue;
use super::stored::{
    StoredConnection, StoredError, StoredLimits, StoredNode, StoredOrigin, StoredPlacement, names,
    state_number, state_of, table, texts,
};
use crate::ids::{NodeId, QueueId};
use bytes::Bytes;
use prost::{Message, Oneof};

#[derive(Clone, PartialEq, Message)]
pub(crate) struct StoredCommand {
    #[prost(
        oneof = "Kind",
        tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, \
                24, 25, 26, 27, 28, 29, 30"
    )]
    kind: Option<Kind>,
}

#[derive(Clone, PartialEq, Oneof)]
enum Kind {
    #[prost(message, tag = "1")]
    Bootstrap(StoredBootstrap),
    #[prost(string, tag = "2")]
    SetClusterName(String),
    #[prost(message, tag = "3")]
    PutVhost(StoredVhost),
    #[prost(string, tag = "4")]
    DeleteVhost(String),
    #[prost(message, tag = "5")]
    SetVhostLimits(StoredNamedLimits),
    #[prost(message, tag = "6")]
    PutUser(StoredUser),
    #[prost(string, tag = "7")]
    DeleteUser(String),
    #[prost(message, tag = "8")]
    SetUserLimits(StoredNamedLimits),
    #[prost(message, tag = "9")]
    SetPermissions(StoredPermission),
    #[prost(message, tag = "10")]
    ClearPermissions(StoredPermission),
    #[prost(message, tag = "11")]
    SetTopicPermissions(StoredPermission),
    #[prost(message, tag = "12")]
    ClearTopicPermissions(StoredPermission),
    #[prost(message, tag = "13")]
    DeclareExchange(StoredExchange),
    #[prost(message, tag = "14")]
    DeleteExchange(StoredDeletion),
    #[prost(message, tag = "15")]
    Bind(StoredBinding),
    #[prost(message, tag = "16")]
    Unbind(StoredBinding),
    #[prost(message, tag = "17")]
    DeclareQueue(StoredQueue),
    #[prost(message, tag = "18")]
    DeleteQueue(StoredDeletion),
    #[prost(message, tag = "19")]
    DeleteQueuesOf(StoredConnection),
    #[prost(message, tag = "20")]
    NodeStarted(StoredOrigin),
    #[prost(message, tag = "21")]
    NodeDead(StoredDeath),
    #[prost(message, tag = "22")]
    PutPolicy(StoredPolicy),
    #[prost(message, tag = "23")]
    DeletePolicy(StoredDeletion),
    #[prost(message, tag = "24")]
    PutParameter(StoredParameter),
    #[prost(message, tag = "25")]
    DeleteParameter(StoredParameter),
    #[prost(message, tag = "26")]
    PutGlobalParameter(StoredParameter),
    #[prost(string, tag = "27")]
    DeleteGlobalParameter(String),
    #[prost(message, tag = "28")]
    PutNode(StoredNode),
    #[prost(message, tag = "29")]
    SetNodeState(StoredNodeState),
    #[prost(uint64, tag = "30")]
    RemoveNode(u64),
}

#[derive(Clone, PartialEq, Message)]
struct StoredBootstrap {
    #[prost(string, tag = "1")]
    cluster_id: String,
    #[prost(string, tag = "2")]
    cluster_name: String,
    #[prost(uint32, tag = "3")]
    shards: u32,
    #[prost(string, tag = "4")]
    vhost: String,
    #[prost(message, optional, tag = "5")]
    user: Option<StoredUser>,
    #[prost(message, repeated, tag = "6")]
    nodes: Vec<StoredNode>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct StoredVhost {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, optional, tag = "2")]
    description: Option<String>,
    #[prost(message, optional, tag = "3")]
    tags: Option<StoredTags>,
    #[prost(string, optional, tag = "4")]
    default_queue_type: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredTags {
    #[prost(string, repeated, tag = "1")]
    tags: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredNamedLimits {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    limits: Option<StoredLimits>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct StoredUser {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(uint32, tag = "2")]
    algorithm: u32,
    #[prost(bytes = "bytes", tag = "3")]
    hash: Bytes,
    #[prost(string, repeated, tag = "4")]
    tags: Vec<String>,
}

/// Permissions and topic permissions, set or cleared; what is not needed stays empty.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct StoredPermission {
    #[prost(string, tag = "1")]
    pub(crate) user: String,
    #[prost(string, tag = "2")]
    pub(crate) vhost: String,
    #[prost(string, tag = "3")]
    pub(crate) configure: String,
    #[prost(string, tag = "4")]
    pub(crate) write: String,
    #[prost(string, tag = "5")]
    pub(crate) read: String,
    #[prost(string, optional, tag = "6")]
    pub(crate) exchange: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct StoredExchange {
    #[prost(string, tag = "1")]
    vhost: String,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(string, tag = "3")]
    kind: String,
    #[prost(bool, tag = "4")]
    durable: bool,
    #[prost(bool, tag = "5")]
    auto_delete: bool,
    #[prost(bool, tag = "6")]
    internal: bool,
    #[prost(bytes = "bytes", tag = "7")]
    arguments: Bytes,
}

/// A deletion in a vhost; what is not needed stays empty.
#[derive(Clone, PartialEq, Message)]
struct StoredDeletion {
    #[prost(string, tag = "1")]
    vhost: String,
    #[prost(string, tag = "2")]
    name: String,
    /// `if_unused` of an exchange, `operator` of a policy.
    #[prost(bool, tag = "3")]
    flag: bool,
    #[prost(uint64, optional, tag = "4")]
    expected: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct StoredBinding {
    #[prost(string, tag = "1")]
    vhost: String,
    #[prost(string, tag = "2")]
    source: String,
    #[prost(string, tag = "3")]
    destination: String,
    #[prost(bool, tag = "4")]
    to_exchange: bool,
    #[prost(string, tag = "5")]
    routing_key: String,
    #[prost(bytes = "bytes", tag = "6")]
    arguments: Bytes,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct StoredQueue {
    #[prost(string, tag = "1")]
    vhost: String,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(bool, tag = "3")]
    durable: bool,
    #[prost(message, optional, tag = "4")]
    exclusive: Option<StoredConnection>,
    #[prost(bool, tag = "5")]
    auto_delete: bool,
    #[prost(bytes = "bytes", tag = "6")]
    arguments: Bytes,
    #[prost(message, optional, tag = "7")]
    placement: Option<StoredPlacement>,
    #[prost(bool, tag = "8")]
    server_named: bool,
}

#[derive(Clone, PartialEq, Message)]
struct StoredDeath {
    #[prost(message, optional, tag = "1")]
    origin: Option<StoredOrigin>,
    #[prost(uint64, tag = "2")]
    new_host: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct StoredPolicy {
    #[prost(string, tag = "1")]
    vhost: String,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(bool, tag = "3")]
    operator: bool,
    #[prost(string, tag = "4")]
    pattern: String,
    #[prost(string, tag = "5")]
    apply_to: String,
    #[prost(sint64, tag = "6")]
    priority: i64,
    #[prost(message, repeated, tag = "7")]
    definition: Vec<StoredSetting>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredSetting {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(oneof = "StoredValue", tags = "2, 3, 4, 5")]
    value: Option<StoredValue>,
}

#[derive(Clone, PartialEq, Oneof)]
enum StoredValue {
    #[prost(sint64, tag = "2")]
    Integer(i64),
    #[prost(string, tag = "3")]
    Text(String),
    #[prost(bool, tag = "4")]
    Bool(bool),
    #[prost(string, tag = "5")]
    Json(String),
}

/// Parameters and global parameters; what is not needed stays empty.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct StoredParameter {
    #[prost(string, tag = "1")]
    pub(crate) vhost: String,
    #[prost(string, tag = "2")]
    pub(crate) component: String,
    #[prost(string, tag = "3")]
    pub(crate) name: String,
    #[prost(string, tag = "4")]
    pub(crate) value: String,
}

#[derive(Clone, PartialEq, Message)]
struct StoredNodeState {
    #[prost(uint64, tag = "1")]
    node: u64,
    #[prost(uint32, tag = "2")]
    state: u32,
}

impl StoredVhost {
    pub(crate) fn of(spec: &VhostSpec) -> Self {
        Self {
            name: spec.name.to_string(),
            description: spec.description.as_ref().map(Name::to_string),
            tags: spec
                .tags
                .as_ref()
                .map(|tags| StoredTags { tags: texts(tags) }),
            default_queue_type: spec.default_queue_type.as_ref().map(Name::to_string),
        }
    }

    pub(crate) fn restore(self) -> VhostSpec {
        VhostSpec {
            name: self.name.into(),
            description: self.description.map(Name::from),
            tags: self.tags.map(|tags| names(tags.tags)),
            default_queue_type: self.default_queue_type.map(Name::from),
        }
    }
}

impl StoredUser {
    pub(crate) fn of(spec: &UserSpec) -> Self {
        let algorithm = match spec.password.algorithm {
            PasswordAlgorithm::Argon2id => 0,
            PasswordAlgorithm::RabbitSha256 => 1,
            PasswordAlgorithm::RabbitSha512 => 2,
            PasswordAlgorithm::RabbitMd5 => 3,
        };
        let hash = spec.password.hash.clone();
        Self {
            name: spec.name.to_string(),
            algorithm,
            hash,
            tags: texts(&spec.tags),
        }
    }

    pub(crate) fn restore(self) -> Result<UserSpec, StoredError> {
        let algorithm = match self.algorithm {
            0 => PasswordAlgorithm::Argon2id,
            1 => PasswordAlgorithm::RabbitSha256,
            2 => PasswordAlgorithm::RabbitSha512,
            3 => PasswordAlgorithm::RabbitMd5,
            _ => return Err(StoredError::Unknown("password algorithm")),
        };
        Ok(UserSpec {
            name: self.name.into(),
            password: PasswordHash {
                algorithm,
                hash: Bytes::copy_from_slice(&self.hash),
            },
            tags: names(self.tags),
        })
    }
}

impl StoredExchange {
    pub(crate) fn of(spec: &ExchangeSpec) -> Self {
        Self {
            vhost: spec.vhost.to_string(),
            name: spec.name.to_string(),
            kind: spec.kind.to_string(),
            durable: spec.durable,
            auto_delete: spec.auto_delete,
            internal: spec.internal,
            arguments: spec.arguments.raw().clone(),
        }
    }

    pub(crate) fn restore(self) -> Result<ExchangeSpec, StoredError> {
        Ok(ExchangeSpec {
            vhost: self.vhost.into(),
            name: self.name.into(),
            kind: self.kind.into(),
            durable: self.durable,
            auto_delete: self.auto_delete,
            internal: self.internal,
            arguments: table(self.arguments)?,
        })
    }
}

impl StoredBinding {
    pub(crate) fn of(spec: &BindingSpec) -> Self {
        Self {
            vhost: spec.vhost.to_string(),
            source: spec.source.to_string(),
            destination: spec.destination.name().to_string(),
            to_exchange: matches!(spec.destination, Destination::Exchange(_)),
            routing_key: spec.routing_key.to_string(),
            arguments: spec.arguments.raw().clone(),
        }
    }

    pub(crate) fn restore(self) -> Result<BindingSpec, StoredError> {
        let destination = self.destination.into();
        Ok(BindingSpec {
            vhost: self.vhost.into(),
            source: self.source.into(),
            destination: if self.to_exchange {
                Destination::Exchange(destination)
            } else {
                Destination::Queue(destination)
            },
            routing_key: self.routing_key.into(),
            arguments: table(self.arguments)?,
        })
    }
}

impl StoredQueue {
    pub(crate) fn of(spec: &QueueSpec) -> Self {
        Self {
            vhost: spec.vhost.to_string(),
            name: spec.name.to_string(),
            durable: spec.durable,
            exclusive: spec.exclusive.map(StoredConnection::of),
            auto_delete: spec.auto_delete,
            arguments: spec.arguments.raw().clone(),
            placement: Some(StoredPlacement::of(spec.placement)),
            server_named: spec.server_named,
        }
    }

    pub(crate) fn restore(self) -> Result<QueueSpec, StoredError> {
        Ok(QueueSpec {
            vhost: self.vhost.into(),
            name: self.name.into(),
            durable: self.durable,
            exclusive: self.exclusive.map(StoredConnection::restore).transpose()?,
            auto_delete: self.auto_delete,
            arguments: table(self.arguments)?,
            placement: self
                .placement
                .ok_or(StoredError::Unknown("placement"))?
                .restore()?,
            server_named: self.server_named,
        })
    }
}

impl StoredPolicy {
    pub(crate) fn of(spec: &PolicySpec) -> Self {
        let setting = |(key, value): &(Name, PolicyValue)| StoredSetting {
            key: key.to_string(),
            value: Some(match value {
                PolicyValue::Integer(value) => StoredValue::Integer(*value),
                PolicyValue::Text(text) => StoredValue::Text(text.to_string()),
                PolicyValue::Bool(value) => StoredValue::Bool(*value),
                PolicyValue::Json(text) => StoredValue::Json(text.to_string()),
            }),
        };
        Self {
            vhost: spec.vhost.to_string(),
            name: spec.name.to_string(),
            operator: spec.operator,
            pattern: spec.pattern.to_string(),
            apply_to: spec.apply_to.to_string(),
            priority: spec.priority,
            definition: spec.definition.iter().map(setting).collect(),
        }
    }

    pub(crate) fn restore(self) -> Result<PolicySpec, StoredError> {
        let setting = |setting: StoredSetting| {
            let value = match setting.value.ok_or(StoredError::Unknown("policy value"))? {
                StoredValue::Integer(value) => PolicyValue::Integer(value),
                StoredValue::Text(text) => PolicyValue::Text(text.into()),
                StoredValue::Bool(value) => PolicyValue::Bool(value),
                StoredValue::Json(text) => PolicyValue::Json(text.into()),
            };
            Ok((setting.key.into(), value))
        };
        Ok(PolicySpec {
            vhost: self.vhost.into(),
            name: self.name.into(),
            operator: self.operator,
            pattern: self.pattern.into(),
            apply_to: self.apply_to.into(),
            priority: self.priority,
            definition: self
                .definition
                .into_iter()
                .map(setting)
                .collect::<Result<_, StoredError>>()?,
        })
    }
}

fn permission(user: &Name, vhost: &Name) -> StoredPermission {
    StoredPermission {
        user: user.to_string(),
        vhost: vhost.to_string(),
        ..StoredPermission::default()
    }
}

fn deletion(vhost: &Name, name: &Name, flag: bool, expected: Option<QueueId>) -> StoredDeletion {
    let (vhost, name) = (vhost.to_string(), name.to_string());
    StoredDeletion {
        vhost,
        name,
        flag,
        expected: expected.map(|id| id.0),
    }
}

fn parameter(vhost: &str, component: &str, name: &Name, value: &str) -> StoredParameter {
    StoredParameter {
        vhost: vhost.into(),
        component: component.into(),
        name: name.to_string(),
        value: value.into(),
    }
}

impl StoredCommand {
    pub(crate) fn of(command: &CatalogCommand) -> Self {
        let kind = match command {
            CatalogCommand::Bootstrap(bootstrap) => Kind::Bootstrap(StoredBootstrap {
                cluster_id: bootstrap.cluster_id.to_string(),
                cluster_name: bootstrap.cluster_name.to_string(),
                shards: bootstrap.shards,
                vhost: bootstrap.vhost.to_string(),
                user: bootstrap.user.as_ref().map(StoredUser::of),
                nodes: bootstrap.nodes.iter().map(StoredNode::of).collect(),
            }),
            CatalogCommand::SetClusterName { name } => Kind::SetClusterName(name.to_string()),
            CatalogCommand::PutVhost(spec) => Kind::PutVhost(StoredVhost::of(spec)),
            CatalogCommand::DeleteVhost { name } => Kind::DeleteVhost(name.to_string()),
            CatalogCommand::SetVhostLimits {
                vhost: name,
                limits,
            } => Kind::SetVhostLimits(StoredNamedLimits {
                name: name.to_string(),
                limits: Some(StoredLimits::of(*limits)),
            }),
            CatalogCommand::PutUser(spec) => Kind::PutUser(StoredUser::of(spec)),
            CatalogCommand::DeleteUser { name } => Kind::DeleteUser(name.to_string()),
            CatalogCommand::SetUserLimits { user: name, limits } => {
                Kind::SetUserLimits(StoredNamedLimits {
                    name: name.to_string(),
                    limits: Some(StoredLimits::of(*limits)),
                })
            }
            CatalogCommand::SetPermissions(spec) => Kind::SetPermissions(StoredPermission {
                configure: spec.configure.to_string(),
                write: spec.write.to_string(),
                read: spec.read.to_string(),
                ..permission(&spec.user, &spec.vhost)
            }),
            CatalogCommand::ClearPermissions { user, vhost } => {
                Kind::ClearPermissions(permission(user, vhost))
            }
            CatalogCommand::SetTopicPermissions(spec) => {
                Kind::SetTopicPermissions(StoredPermission {
                    write: spec.write.to_string(),
                    read: spec.read.to_string(),
                    exchange: Some(spec.exchange.to_string()),
                    ..permission(&spec.user, &spec.vhost)
                })
            }
            CatalogCommand::ClearTopicPermissions {
                user,
                vhost,
                exchange,
            } => Kind::ClearTopicPermissions(StoredPermission {
                exchange: exchange.as_ref().map(Name::to_string),
                ..permission(user, vhost)
            }),
            CatalogCommand::DeclareExchange(spec) => {
                Kind::DeclareExchange(StoredExchange::of(spec))
            }
            CatalogCommand::DeleteExchange {
                vhost,
                name,
                if_unused,
            } => Kind::DeleteExchange(deletion(vhost, name, *if_unused, None)),
            CatalogCommand::Bind(spec) => Kind::Bind(StoredBinding::of(spec)),
            CatalogCommand::Unbind(spec) => Kind::Unbind(StoredBinding::of(spec)),
            CatalogCommand::DeclareQueue(spec) => Kind::DeclareQueue(StoredQueue::of(spec)),
            CatalogCommand::DeleteQueue {
                vhost,
                name,
                expected,
            } => Kind::DeleteQueue(deletion(vhost, name, false, *expected)),
            CatalogCommand::DeleteQueuesOf { connection } => {
                Kind::DeleteQueuesOf(StoredConnection::of(*connection))
            }
            CatalogCommand::NodeStarted { origin } => Kind::NodeStarted(StoredOrigin::of(*origin)),
            CatalogCommand::NodeDead { origin, new_host } => Kind::NodeDead(StoredDeath {
                origin: Some(StoredOrigin::of(*origin)),
                new_host: new_host.0,
            }),
            CatalogCommand::PutPolicy(spec) => Kind::PutPolicy(StoredPolicy::of(spec)),
            CatalogCommand::DeletePolicy {
                vhost,
                name,
                operator,
            } => Kind::DeletePolicy(deletion(vhost, name, *operator, None)),
            CatalogCommand::PutParameter {
                vhost,
                component,
                name,
                value,
            } => Kind::PutParameter(parameter(vhost, component, name, value)),
            CatalogCommand::DeleteParameter {
                vhost,
                component,
                name,
            } => Kind::DeleteParameter(parameter(vhost, component, name, "")),
            CatalogCommand::PutGlobalParameter { name, value } => {
                Kind::PutGlobalParameter(parameter("", "", name, value))
            }
            CatalogCommand::DeleteGlobalParameter { name } => {
                Kind::DeleteGlobalParameter(name.to_string())
            }
            CatalogCommand::PutNode(record) => Kind::PutNode(StoredNode::of(record)),
            CatalogCommand::SetNodeState { node, state } => Kind::SetNodeState(StoredNodeState {
                node: node.0,
                state: state_number(*state),
            }),
            CatalogCommand::RemoveNode { node } => Kind::RemoveNode(node.0),
        };
        Self { kind: Some(kind) }
    }

    pub(crate) fn restore(self) -> Result<CatalogCommand, StoredError> {
        Ok(match self.kind.ok_or(StoredError::Unknown("command"))? {
            Kind::Bootstrap(stored) => CatalogCommand::Bootstrap(Bootstrap {
                cluster_id: stored.cluster_id.into(),
                cluster_name: stored.cluster_name.into(),
                shards: stored.shards,
                vhost: stored.vhost.into(),
                user: stored.user.map(StoredUser::restore).transpose()?,
                nodes: stored
                    .nodes
                    .into_iter()
                    .map(StoredNode::restore)
                    .collect::<Result<_, _>>()?,
            }),
            Kind::SetClusterName(name) => CatalogCommand::SetClusterName { name: name.into() },
            Kind::PutVhost(stored) => CatalogCommand::PutVhost(stored.restore()),
            Kind::DeleteVhost(name) => CatalogCommand::DeleteVhost { name: name.into() },
            Kind::SetVhostLimits(stored) => CatalogCommand::SetVhostLimits {
                vhost: stored.name.into(),
                limits: stored.limits.map(StoredLimits::restore).unwrap_or_default(),
            },
            Kind::PutUser(stored) => CatalogCommand::PutUser(stored.restore()?),
            Kind::DeleteUser(name) => CatalogCommand::DeleteUser { name: name.into() },
            Kind::SetUserLimits(stored) => CatalogCommand::SetUserLimits {
                user: stored.name.into(),
                limits: stored.limits.map(StoredLimits::restore).unwrap_or_default(),
            },
            Kind::SetPermissions(stored) => CatalogCommand::SetPermissions(PermissionSpec {
                user: stored.user.into(),
                vhost: stored.vhost.into(),
                configure: stored.configure.into(),
                write: stored.write.into(),
                read: stored.read.into(),
            }),
            Kind::ClearPermissions(stored) => CatalogCommand::ClearPermissions {
                user: stored.user.into(),
                vhost: stored.vhost.into(),
            },
            Kind::SetTopicPermissions(stored) => {
                CatalogCommand::SetTopicPermissions(TopicPermissionSpec {
                    user: stored.user.into(),
                    vhost: stored.vhost.into(),
                    exchange: stored.exchange.unwrap_or_default().into(),
                    write: stored.write.into(),
                    read: stored.read.into(),
                })
            }
            Kind::ClearTopicPermissions(stored) => CatalogCommand::ClearTopicPermissions {
                user: stored.user.into(),
                vhost: stored.vhost.into(),
                exchange: stored.exchange.map(Name::from),
            },
            Kind::DeclareExchange(stored) => CatalogCommand::DeclareExchange(stored.restore()?),
            Kind::DeleteExchange(stored) => CatalogCommand::DeleteExchange {
                vhost: stored.vhost.into(),
                name: stored.name.into(),
                if_unused: stored.flag,
            },
            Kind::Bind(stored) => CatalogCommand::Bind(stored.restore()?),
            Kind::Unbind(stored) => CatalogCommand::Unbind(stored.restore()?),
            Kind::DeclareQueue(stored) => CatalogCommand::DeclareQueue(stored.restore()?),
            Kind::DeleteQueue(stored) => CatalogCommand::DeleteQueue {
                vhost: stored.vhost.into(),
                name: stored.name.into(),
                expected: stored.expected.map(QueueId),
            },
            Kind::DeleteQueuesOf(stored) => CatalogCommand::DeleteQueuesOf {
                connection: stored.restore()?,
            },
            Kind::NodeStarted(stored) => CatalogCommand::NodeStarted {
                origin: stored.restore(),
            },
            Kind::NodeDead(stored) => CatalogCommand::NodeDead {
                origin: stored
                    .origin
                    .ok_or(StoredError::Unknown("origin"))?
                    .restore(),
                new_host: NodeId(stored.new_host),
            },
            Kind::PutPolicy(stored) => CatalogCommand::PutPolicy(stored.restore()?),
            Kind::DeletePolicy(stored) => CatalogCommand::DeletePolicy {
                vhost: stored.vhost.into(),
                name: stored.name.into(),
                operator: stored.flag,
            },
            Kind::PutParameter(stored) => CatalogCommand::PutParameter {
                vhost: stored.vhost.into(),
                component: stored.component.into(),
                name: stored.name.into(),
                value: stored.value.into(),
            },
            Kind::DeleteParameter(stored) => CatalogCommand::DeleteParameter {
                vhost: stored.vhost.into(),
                component: stored.component.into(),
                name: stored.name.into(),
            },
            Kind::PutGlobalParameter(stored) => CatalogCommand::PutGlobalParameter {
                name: stored.name.into(),
                value: stored.value.into(),
            },
            Kind::DeleteGlobalParameter(name) => {
                CatalogCommand::DeleteGlobalParameter { name: name.into() }
            }
            Kind::PutNode(stored) => CatalogCommand::PutNode(stored.restore()?),
            Kind::SetNodeState(stored) => CatalogCommand::SetNodeState {
                node: NodeId(stored.node),
                state: state_of(stored.state)?,
            },
            Kind::RemoveNode(node) => CatalogCommand::RemoveNode { node: NodeId(node) },
        })
    }
}
