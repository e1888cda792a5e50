//! Identifiers shared by every part of the broker.

use std::fmt;

/// A node of the cluster, `--node-id`; at least 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u64);

/// A Raft group that holds many durable queues; counted from 1 (0 is the catalog's group).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u32);

/// A queue, for ever: the catalog's log index at which it was declared (high bits) and its place
/// in that entry (low [`QueueId::SLOT_BITS`] bits). Deleting and declaring a name again makes
/// another id, so old messages cannot come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueId(pub u64);

impl QueueId {
    /// Low bits that number the queues declared in one catalog entry.
    pub const SLOT_BITS: u32 = 16;

    /// The id of the `slot`-th queue declared by the catalog entry at `index`.
    #[must_use]
    pub const fn new(index: u64, slot: u16) -> Self {
        Self((index << Self::SLOT_BITS) | slot as u64)
    }

    /// The catalog log index that declared this queue.
    #[must_use]
    pub const fn declared_at(self) -> u64 {
        self.0 >> Self::SLOT_BITS
    }
}

/// One start of one node: incarnations of a node grow with every start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// The node.
    pub node: NodeId,
    /// Its start, growing (milliseconds since the epoch at start, made monotone on disk).
    pub incarnation: u64,
}

/// A client connection: its node's [`Origin`] and a serial number there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId {
    /// The node and start that accepted it.
    pub origin: Origin,
    /// Counts connections of that start from 1.
    pub serial: u64,
}

/// A consumer, numbered by the node that its client is connected to; unique with [`Origin`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConsumerId(pub u64);

/// A request that awaits one reply, numbered by the asking node; unique with [`Origin`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// Position of a message in its queue: 1, 2, 3 … in the order of acceptance, counted per priority
/// level; the level stands in the high byte. A queue without priorities just counts. Each level is
/// dense, so a backlog with priorities still is a few ranges, and a sequence names its level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sequence(pub u64);

impl Sequence {
    /// Bits that count within a level.
    pub const NUMBER_BITS: u32 = 56;
    /// The highest number within a level.
    pub const MAX_NUMBER: u64 = (1 << Self::NUMBER_BITS) - 1;

    /// The `number`-th message of `level`.
    #[must_use]
    pub const fn new(level: u8, number: u64) -> Self {
        Self(((level as u64) << Self::NUMBER_BITS) | (number & Self::MAX_NUMBER))
    }

    /// Priority level of the message.
    #[must_use]
    pub const fn level(self) -> u8 {
        (self.0 >> Self::NUMBER_BITS) as u8
    }

    /// Its place within the level.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0 & Self::MAX_NUMBER
    }
}

/// Where a queue's messages live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Placement {
    /// Replicated in this shard.
    Shard(ShardId),
    /// In the memory of this node only.
    Host(NodeId),
}

impl Placement {
    /// The node whose memory it is; `None` for a shard.
    #[must_use]
    pub const fn host(self) -> Option<NodeId> {
        match self {
            Self::Shard(_) => None,
            Self::Host(node) => Some(node),
        }
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
