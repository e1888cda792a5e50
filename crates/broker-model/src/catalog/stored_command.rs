//! Commands as they are written.

use super::command::{Bootstrap, CatalogCommand, Name, PermissionSpec, TopicPermissionSpec};
use super::stored::{
    StoredConnection, StoredError, StoredLimits, StoredNode, StoredOrigin, state_number, state_of,
};
use super::stored_spec::{
    StoredBinding, StoredBootstrap, StoredDeath, StoredDeletion, StoredExchange, StoredNamedLimits,
    StoredNodeState, StoredParameter, StoredPermission, StoredPolicy, StoredQueue, StoredStart,
    StoredUser, StoredVhost,
};
use crate::ids::{NodeId, Origin, QueueId};
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
    NodeStarted(StoredStart),
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
            CatalogCommand::NodeStarted {
                origin,
                all_were_down_in,
            } => Kind::NodeStarted(StoredStart {
                node: origin.node.0,
                incarnation: origin.incarnation,
                all_were_down_in: *all_were_down_in,
            }),
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
                origin: Origin {
                    node: NodeId(stored.node),
                    incarnation: stored.incarnation,
                },
                all_were_down_in: stored.all_were_down_in,
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
