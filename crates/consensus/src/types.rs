//! Names and values that cross the border of this crate. No openraft type appears here.

use bytes::Bytes;
use std::fmt;
use std::sync::Arc;

/// A Raft group: 0 is the catalog's, 1 … N are the shards'.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub u32);

impl GroupId {
    /// The group that replicates the catalog over all nodes.
    pub const CATALOG: Self = Self(0);
}

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A member of a group: a node and the generation of its disk.
///
/// A node whose disk was lost comes back under a new generation, so that nobody takes it for the
/// voter that it was: the value is `generation << 16 | node`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RaftNode(pub u64);

impl RaftNode {
    /// Nodes are numbered 1 … 65535.
    pub const MAX_NODE: u64 = 0xffff;

    /// The member that `node` is with a disk of this `generation`.
    #[must_use]
    pub const fn new(node: u64, generation: u64) -> Self {
        Self((generation << 16) | (node & Self::MAX_NODE))
    }

    /// The node, as in `--node-id`.
    #[must_use]
    pub const fn node(self) -> u64 {
        self.0 & Self::MAX_NODE
    }

    /// Counts the disks that this node has had, from 0.
    #[must_use]
    pub const fn generation(self) -> u64 {
        self.0 >> 16
    }
}

impl fmt::Display for RaftNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.node(), self.generation())
    }
}

/// What an entry carries: opaque segments that are stored, sent and applied as they are.
///
/// A clone shares the segments. Nothing in this crate re-encodes or concatenates them.
#[derive(Clone, PartialEq, Eq)]
pub struct Payload(pub Arc<[Bytes]>);

impl Payload {
    /// A payload of one segment.
    #[must_use]
    pub fn one(segment: Bytes) -> Self {
        Self(Arc::from([segment]))
    }

    /// The segments in order.
    #[must_use]
    pub fn segments(&self) -> &[Bytes] {
        &self.0
    }

    /// Bytes in all segments.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }
}

impl From<Vec<Bytes>> for Payload {
    fn from(segments: Vec<Bytes>) -> Self {
        Self(Arc::from(segments))
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Payload {
    // Entries are logged by openraft at debug level: say how much, never what.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} segments, {} bytes", self.0.len(), self.len_bytes())
    }
}

/// Place of an entry in a group's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position {
    /// Term of the leader that proposed it.
    pub term: u64,
    /// Index, counted from 0.
    pub index: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.term, self.index)
    }
}

/// Who leads a group, as this node sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Leadership {
    /// The highest term that this node has seen.
    pub term: u64,
    /// The leader of that term, if known. It may be this node while `ready` is still false.
    pub leader: Option<RaftNode>,
    /// This node leads, has applied everything of earlier terms, and has heard a quorum within
    /// the lease. Only then may it act as the leader (deliver, decide, answer reads).
    pub ready: bool,
}
