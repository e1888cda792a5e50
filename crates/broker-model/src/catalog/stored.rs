//! How the catalog's commands and answers are written: protobuf, with messages written by hand.
//!
//! Tags are never reused. Fields that are unknown are skipped; a command that is unknown is an
//! error, because replicas that skipped it would differ from those that know it.

use super::command::{CatalogAnswer, CatalogEntry, CatalogReply, CatalogRequest, Name, RequestKey};
use super::error::CatalogError;
use super::record::{Limits, NodeRecord, NodeState};
use super::stored_command::StoredCommand;
use crate::ids::{ConnectionId, NodeId, Origin, Placement, QueueId, ShardId};
use amqp_codec::{FieldTable, ReplyCode};
use bytes::Bytes;
use prost::{Message, Oneof};

/// Version of the encodings below, raised when old programs must not read them.
const FORMAT: u32 = 1;

/// Bytes that are not an entry, reply or snapshot of this version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoredError {
    /// Not protobuf of the expected shape.
    #[error("malformed: {0}")]
    Malformed(#[from] prost::DecodeError),
    /// Written by a later version.
    #[error("format {found} is newer than {FORMAT}, the latest that this version reads")]
    Newer {
        /// The format found.
        found: u32,
    },
    /// A required part is missing or of a kind that this version does not know.
    #[error("missing or unknown: {0}")]
    Unknown(&'static str),
    /// A field table is malformed.
    #[error("malformed field table")]
    Table,
}

#[derive(Clone, PartialEq, Message)]
struct StoredEntry {
    #[prost(uint32, tag = "1")]
    format: u32,
    #[prost(message, repeated, tag = "2")]
    requests: Vec<StoredRequest>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredRequest {
    #[prost(message, optional, tag = "1")]
    key: Option<StoredKey>,
    #[prost(message, optional, tag = "2")]
    command: Option<StoredCommand>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct StoredKey {
    #[prost(message, optional, tag = "1")]
    origin: Option<StoredOrigin>,
    #[prost(uint64, tag = "2")]
    number: u64,
}

impl StoredKey {
    pub(crate) fn of(key: RequestKey) -> Self {
        Self {
            origin: Some(StoredOrigin::of(key.origin)),
            number: key.number,
        }
    }

    pub(crate) fn restore(self) -> Result<RequestKey, StoredError> {
        let origin = self.origin.ok_or(StoredError::Unknown("origin"))?.restore();
        Ok(RequestKey {
            origin,
            number: self.number,
        })
    }
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct StoredOrigin {
    #[prost(uint64, tag = "1")]
    node: u64,
    #[prost(uint64, tag = "2")]
    incarnation: u64,
}

impl StoredOrigin {
    pub(crate) const fn of(origin: Origin) -> Self {
        Self {
            node: origin.node.0,
            incarnation: origin.incarnation,
        }
    }

    pub(crate) const fn restore(self) -> Origin {
        Origin {
            node: NodeId(self.node),
            incarnation: self.incarnation,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct StoredConnection {
    #[prost(message, optional, tag = "1")]
    origin: Option<StoredOrigin>,
    #[prost(uint64, tag = "2")]
    serial: u64,
}

impl StoredConnection {
    pub(crate) const fn of(connection: ConnectionId) -> Self {
        Self {
            origin: Some(StoredOrigin::of(connection.origin)),
            serial: connection.serial,
        }
    }

    pub(crate) fn restore(self) -> Result<ConnectionId, StoredError> {
        let origin = self.origin.ok_or(StoredError::Unknown("origin"))?.restore();
        Ok(ConnectionId {
            origin,
            serial: self.serial,
        })
    }
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct StoredPlacement {
    #[prost(oneof = "StoredPlace", tags = "1, 2")]
    place: Option<StoredPlace>,
}

#[derive(Clone, Copy, PartialEq, Oneof)]
enum StoredPlace {
    #[prost(uint32, tag = "1")]
    Shard(u32),
    #[prost(uint64, tag = "2")]
    Host(u64),
}

impl StoredPlacement {
    pub(crate) const fn of(placement: Placement) -> Self {
        let place = match placement {
            Placement::Shard(shard) => StoredPlace::Shard(shard.0),
            Placement::Host(node) => StoredPlace::Host(node.0),
        };
        Self { place: Some(place) }
    }

    pub(crate) fn restore(self) -> Result<Placement, StoredError> {
        match self.place.ok_or(StoredError::Unknown("placement"))? {
            StoredPlace::Shard(shard) => Ok(Placement::Shard(ShardId(shard))),
            StoredPlace::Host(node) => Ok(Placement::Host(NodeId(node))),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct StoredLimits {
    #[prost(uint64, optional, tag = "1")]
    max_connections: Option<u64>,
    #[prost(uint64, optional, tag = "2")]
    max_queues: Option<u64>,
    #[prost(uint64, optional, tag = "3")]
    max_channels: Option<u64>,
}

impl StoredLimits {
    pub(crate) const fn of(limits: Limits) -> Self {
        let Limits {
            max_connections,
            max_queues,
            max_channels,
        } = limits;
        Self {
            max_connections,
            max_queues,
            max_channels,
        }
    }

    pub(crate) const fn restore(self) -> Limits {
        let Self {
            max_connections,
            max_queues,
            max_channels,
        } = self;
        Limits {
            max_connections,
            max_queues,
            max_channels,
        }
    }
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct StoredNode {
    #[prost(uint64, tag = "1")]
    node: u64,
    #[prost(uint64, tag = "2")]
    raft_id: u64,
    #[prost(string, tag = "3")]
    cluster_address: String,
    #[prost(string, tag = "4")]
    amqp_address: String,
    #[prost(string, tag = "5")]
    management_address: String,
    #[prost(uint32, tag = "6")]
    state: u32,
    #[prost(uint64, tag = "7")]
    incarnation: u64,
}

impl StoredNode {
    pub(crate) fn of(record: &NodeRecord) -> Self {
        Self {
            node: record.node.0,
            raft_id: record.raft_id,
            cluster_address: record.cluster_address.to_string(),
            amqp_address: record.amqp_address.to_string(),
            management_address: record.management_address.to_string(),
            state: state_number(record.state),
            incarnation: record.incarnation,
        }
    }

    pub(crate) fn restore(self) -> Result<NodeRecord, StoredError> {
        Ok(NodeRecord {
            node: NodeId(self.node),
            raft_id: self.raft_id,
            cluster_address: self.cluster_address.into(),
            amqp_address: self.amqp_address.into(),
            management_address: self.management_address.into(),
            state: state_of(self.state)?,
            incarnation: self.incarnation,
        })
    }
}

pub(crate) const fn state_number(state: NodeState) -> u32 {
    match state {
        NodeState::Joining => 0,
        NodeState::Member => 1,
        NodeState::Leaving => 2,
        NodeState::Dead => 3,
    }
}

pub(crate) const fn state_of(number: u32) -> Result<NodeState, StoredError> {
    match number {
        0 => Ok(NodeState::Joining),
        1 => Ok(NodeState::Member),
        2 => Ok(NodeState::Leaving),
        3 => Ok(NodeState::Dead),
        _ => Err(StoredError::Unknown("node state")),
    }
}

/// Reads a table.
pub(crate) fn table(raw: Bytes) -> Result<FieldTable, StoredError> {
    FieldTable::from_raw(raw).map_err(|_| StoredError::Table)
}

/// Text of a list of names.
pub(crate) fn texts(names: &[Name]) -> Vec<String> {
    names.iter().map(|name| name.to_string()).collect()
}

/// Names of a list of texts.
pub(crate) fn names(texts: Vec<String>) -> Vec<Name> {
    texts.into_iter().map(Name::from).collect()
}

/// Refuses what a later version wrote.
pub(crate) const fn check_format(found: u32) -> Result<(), StoredError> {
    if found > FORMAT {
        Err(StoredError::Newer { found })
    } else {
        Ok(())
    }
}

/// The format written now.
pub(crate) const fn format() -> u32 {
    FORMAT
}

impl CatalogEntry {
    /// The bytes of this entry.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let requests = self.requests.iter().map(|request| StoredRequest {
            key: request.key.map(StoredKey::of),
            command: Some(StoredCommand::of(&request.command)),
        });
        let stored = StoredEntry {
            format: FORMAT,
            requests: requests.collect(),
        };
        stored.encode_to_vec().into()
    }

    /// Reads an entry.
    ///
    /// # Errors
    /// The bytes are not an entry of a version that is understood.
    pub fn decode(bytes: Bytes) -> Result<Self, StoredError> {
        let stored = StoredEntry::decode(bytes)?;
        check_format(stored.format)?;
        let requests = stored.requests.into_iter().map(|request| {
            let command = request
                .command
                .ok_or(StoredError::Unknown("command"))?
                .restore()?;
            Ok(CatalogRequest {
                key: request.key.map(StoredKey::restore).transpose()?,
                command,
            })
        });
        Ok(Self {
            requests: requests.collect::<Result<_, StoredError>>()?,
        })
    }
}

#[derive(Clone, PartialEq, Message)]
struct StoredReplies {
    #[prost(uint32, tag = "1")]
    format: u32,
    #[prost(message, repeated, tag = "2")]
    replies: Vec<StoredReply>,
}

/// An answer or a refusal. Refusals travel as what clients are told.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct StoredReply {
    #[prost(oneof = "StoredAnswer", tags = "1, 2, 3")]
    answer: Option<StoredAnswer>,
}

#[derive(Clone, PartialEq, Oneof)]
enum StoredAnswer {
    #[prost(bool, tag = "1")]
    Done(bool),
    #[prost(message, tag = "2")]
    Queue(StoredQueueAnswer),
    #[prost(message, tag = "3")]
    Refused(StoredRefusal),
}

#[derive(Clone, PartialEq, Message)]
struct StoredQueueAnswer {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(message, optional, tag = "2")]
    placement: Option<StoredPlacement>,
    #[prost(bool, tag = "3")]
    created: bool,
}

#[derive(Clone, PartialEq, Message)]
struct StoredRefusal {
    #[prost(uint32, tag = "1")]
    code: u32,
    #[prost(string, tag = "2")]
    text: String,
}

impl StoredReply {
    pub(crate) fn of(reply: &CatalogReply) -> Self {
        let answer = match reply {
            Ok(CatalogAnswer::Done { created }) => StoredAnswer::Done(*created),
            Ok(CatalogAnswer::Queue {
                id,
                placement,
                created,
            }) => StoredAnswer::Queue(StoredQueueAnswer {
                id: id.0,
                placement: Some(StoredPlacement::of(*placement)),
                created: *created,
            }),
            Err(error) => StoredAnswer::Refused(StoredRefusal {
                code: u32::from(error.reply_code().0),
                text: error.to_string(),
            }),
        };
        Self {
            answer: Some(answer),
        }
    }

    pub(crate) fn restore(self) -> Result<CatalogReply, StoredError> {
        match self.answer.ok_or(StoredError::Unknown("reply"))? {
            StoredAnswer::Done(created) => Ok(Ok(CatalogAnswer::Done { created })),
            StoredAnswer::Queue(queue) => Ok(Ok(CatalogAnswer::Queue {
                id: QueueId(queue.id),
                placement: queue
                    .placement
                    .ok_or(StoredError::Unknown("placement"))?
                    .restore()?,
                created: queue.created,
            })),
            StoredAnswer::Refused(StoredRefusal { code, text }) => {
                let code = u16::try_from(code).map_err(|_| StoredError::Unknown("reply code"))?;
                Ok(Err(CatalogError::Remote {
                    code: ReplyCode(code),
                    text: text.into(),
                }))
            }
        }
    }
}

/// The bytes of the replies to one entry.
#[must_use]
pub fn encode_replies(replies: &[CatalogReply]) -> Bytes {
    let replies = replies.iter().map(StoredReply::of).collect();
    StoredReplies {
        format: FORMAT,
        replies,
    }
    .encode_to_vec()
    .into()
}

/// Reads the replies to one entry. Refusals come back as [`CatalogError::Remote`], with the same
/// code and text.
///
/// # Errors
/// The bytes are not replies of a version that is understood.
pub fn decode_replies(bytes: Bytes) -> Result<Vec<CatalogReply>, StoredError> {
    let stored = StoredReplies::decode(bytes)?;
    check_format(stored.format)?;
    stored
        .replies
        .into_iter()
        .map(StoredReply::restore)
        .collect()
}
