//! The items of a snapshot.

use super::command::{ExchangeSpec, Name, PolicySpec, QueueSpec};
use super::policy::Policy;
use super::record::{ExchangeRecord, QueueRecord};
use super::settings::QueueType;
use super::stored::{StoredError, StoredKey, StoredLimits, StoredNode, StoredOrigin, StoredReply};
use super::stored_spec::{
    StoredBinding, StoredExchange, StoredParameter, StoredPermission, StoredPolicy, StoredQueue,
    StoredUser, StoredVhost,
};
use crate::ids::QueueId;
use crate::routing::ExchangeKind;
use prost::{Message, Oneof};

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Item {
    #[prost(oneof = "Kind", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13")]
    pub(crate) kind: Option<Kind>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum Kind {
    #[prost(message, tag = "1")]
    Head(Head),
    #[prost(message, tag = "2")]
    Node(StoredNode),
    #[prost(message, tag = "3")]
    Start(StoredOrigin),
    #[prost(message, tag = "4")]
    Vhost(VhostItem),
    #[prost(message, tag = "5")]
    Policy(StoredPolicy),
    #[prost(message, tag = "6")]
    Parameter(StoredParameter),
    #[prost(message, tag = "7")]
    GlobalParameter(StoredParameter),
    #[prost(message, tag = "8")]
    Exchange(StoredExchange),
    #[prost(message, tag = "9")]
    Queue(QueueItem),
    #[prost(message, tag = "10")]
    Binding(StoredBinding),
    #[prost(message, tag = "11")]
    User(UserItem),
    #[prost(message, tag = "12")]
    Permission(PermissionItem),
    #[prost(message, tag = "13")]
    Reply(ReplyItem),
}

/// Always the first item.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Head {
    #[prost(uint32, tag = "1")]
    pub(crate) format: u32,
    #[prost(uint64, tag = "2")]
    pub(crate) index: u64,
    #[prost(string, optional, tag = "3")]
    pub(crate) cluster_id: Option<String>,
    #[prost(string, optional, tag = "4")]
    pub(crate) cluster_name: Option<String>,
    #[prost(uint32, tag = "5")]
    pub(crate) shards: u32,
    /// Number of items that follow, so that a snapshot cut off at an item is noticed.
    #[prost(uint64, tag = "6")]
    pub(crate) items: u64,
    #[prost(uint64, tag = "7")]
    pub(crate) era: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct VhostItem {
    #[prost(message, optional, tag = "1")]
    pub(crate) vhost: Option<StoredVhost>,
    #[prost(message, optional, tag = "2")]
    pub(crate) limits: Option<StoredLimits>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct QueueItem {
    #[prost(message, optional, tag = "1")]
    pub(crate) queue: Option<StoredQueue>,
    #[prost(uint64, tag = "2")]
    pub(crate) id: u64,
    /// Declared type: 0 classic, 1 quorum. Not read from the arguments again, because the vhost's
    /// default may have changed since.
    #[prost(uint32, tag = "3")]
    pub(crate) queue_type: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct UserItem {
    #[prost(message, optional, tag = "1")]
    pub(crate) user: Option<StoredUser>,
    #[prost(message, optional, tag = "2")]
    pub(crate) limits: Option<StoredLimits>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct PermissionItem {
    #[prost(message, optional, tag = "1")]
    pub(crate) permission: Option<StoredPermission>,
    #[prost(bool, tag = "2")]
    pub(crate) topic: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ReplyItem {
    #[prost(message, optional, tag = "1")]
    pub(crate) key: Option<StoredKey>,
    #[prost(message, optional, tag = "2")]
    pub(crate) reply: Option<StoredReply>,
}

pub(crate) const fn type_number(queue_type: QueueType) -> u32 {
    match queue_type {
        QueueType::Classic => 0,
        QueueType::Quorum => 1,
        QueueType::Stream => 2,
    }
}

pub(crate) const fn type_of(number: u32) -> Result<QueueType, StoredError> {
    match number {
        0 => Ok(QueueType::Classic),
        1 => Ok(QueueType::Quorum),
        2 => Ok(QueueType::Stream),
        _ => Err(StoredError::Unknown("queue type")),
    }
}

impl Policy {
    /// The command that makes this policy.
    pub(crate) fn to_spec(&self, vhost: Name, operator: bool) -> PolicySpec {
        PolicySpec {
            vhost,
            name: self.name.clone(),
            operator,
            pattern: self.pattern.source().clone(),
            apply_to: self.apply_to.as_str().into(),
            priority: self.priority,
            definition: self.definition.clone(),
        }
    }
}

impl ExchangeRecord {
    /// The exchange that a command makes, before policies.
    pub(crate) fn from_spec(
        spec: ExchangeSpec,
        kind: ExchangeKind,
        vhost: Name,
        id: QueueId,
    ) -> Self {
        Self {
            id,
            // One that was declared before there was deduplication has no id to remember by.
            deduplication: super::arguments::deduplication(&spec.arguments)
                .filter(|_| id != QueueId(0)),
            store: None,
            vhost,
            name: spec.name,
            kind,
            durable: spec.durable,
            auto_delete: spec.auto_delete,
            internal: spec.internal,
            arguments: super::topology::kept(&spec.arguments),
            alternate: None,
            policy: None,
        }
    }

    pub(crate) fn to_spec(&self) -> ExchangeSpec {
        ExchangeSpec {
            vhost: self.vhost.clone(),
            name: self.name.clone(),
            kind: self.kind.as_str().into(),
            durable: self.durable,
            auto_delete: self.auto_delete,
            internal: self.internal,
            arguments: self.arguments.clone(),
        }
    }
}

impl QueueRecord {
    pub(crate) fn to_spec(&self) -> QueueSpec {
        QueueSpec {
            vhost: self.vhost.clone(),
            name: self.name.clone(),
            durable: self.durable,
            exclusive: self.exclusive,
            auto_delete: self.auto_delete,
            arguments: self.arguments.clone(),
            placement: self.placement,
            server_named: false,
        }
    }
}
