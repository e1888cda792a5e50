//! The parts of commands as they are written: one message per kind of thing.

use super::command::{
    BindingSpec, Destination, ExchangeSpec, Name, PolicySpec, QueueSpec, UserSpec, VhostSpec,
};
use super::password::{PasswordAlgorithm, PasswordHash};
use super::policy::PolicyValue;
use super::stored::{
    StoredConnection, StoredError, StoredLimits, StoredNode, StoredOrigin, StoredPlacement, names,
    table, texts,
};
use crate::ids::QueueId;
use bytes::Bytes;
use prost::{Message, Oneof};

#[derive(Clone, PartialEq, Message)]
pub(crate) struct StoredBootstrap {
    #[prost(string, tag = "1")]
    pub(crate) cluster_id: String,
    #[prost(string, tag = "2")]
    pub(crate) cluster_name: String,
    #[prost(uint32, tag = "3")]
    pub(crate) shards: u32,
    #[prost(string, tag = "4")]
    pub(crate) vhost: String,
    #[prost(message, optional, tag = "5")]
    pub(crate) user: Option<StoredUser>,
    #[prost(message, repeated, tag = "6")]
    pub(crate) nodes: Vec<StoredNode>,
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
    #[prost(bool, optional, tag = "5")]
    protected: Option<bool>,
    #[prost(bool, optional, tag = "6")]
    tracing: Option<bool>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredTags {
    #[prost(string, repeated, tag = "1")]
    tags: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct StoredNamedLimits {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) limits: Option<StoredLimits>,
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
    /// In snapshots: what it was given when it was declared; 0: nothing.
    #[prost(uint64, tag = "8")]
    pub(crate) id: u64,
}

/// A deletion in a vhost; what is not needed stays empty.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct StoredDeletion {
    #[prost(string, tag = "1")]
    pub(crate) vhost: String,
    #[prost(string, tag = "2")]
    pub(crate) name: String,
    /// `if_unused` of an exchange, `operator` of a policy.
    #[prost(bool, tag = "3")]
    pub(crate) flag: bool,
    #[prost(uint64, optional, tag = "4")]
    pub(crate) expected: Option<u64>,
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
pub(crate) struct StoredDeath {
    #[prost(message, optional, tag = "1")]
    pub(crate) origin: Option<StoredOrigin>,
    #[prost(uint64, tag = "2")]
    pub(crate) new_host: u64,
}

/// Begins like [`StoredOrigin`].
#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct StoredStart {
    #[prost(uint64, tag = "1")]
    pub(crate) node: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) incarnation: u64,
    #[prost(uint64, optional, tag = "3")]
    pub(crate) all_were_down_in: Option<u64>,
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
pub(crate) struct StoredNodeState {
    #[prost(uint64, tag = "1")]
    pub(crate) node: u64,
    #[prost(uint32, tag = "2")]
    pub(crate) state: u32,
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
            protected: spec.protected,
            tracing: spec.tracing,
        }
    }

    pub(crate) fn restore(self) -> VhostSpec {
        VhostSpec {
            name: self.name.into(),
            description: self.description.map(Name::from),
            tags: self.tags.map(|tags| names(tags.tags)),
            default_queue_type: self.default_queue_type.map(Name::from),
            protected: self.protected,
            tracing: self.tracing,
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
            id: 0,
        }
    }

    pub(crate) fn with_id(spec: &ExchangeSpec, id: QueueId) -> Self {
        Self {
            id: id.0,
            ..Self::of(spec)
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
