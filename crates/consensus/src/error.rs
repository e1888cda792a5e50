//! What can go wrong, as the caller sees it.

use crate::types::RaftNode;

/// A proposal that did not, or not surely, succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Certain refusal: this node does not lead (or not in the asked term). Nothing was or will be
    /// applied.
    #[error("not the leader (leader: {leader:?})")]
    NotLeader {
        /// Who leads instead, if known.
        leader: Option<RaftNode>,
    },
    /// Certain refusal: too many proposals of this group await their outcome.
    #[error("too many proposals in flight")]
    Busy,
    /// Certain refusal: the entry could not be sent to the other members in one message.
    #[error("entry of {bytes} bytes is too large, the limit is {limit}")]
    TooLarge {
        /// Size of the payload.
        bytes: usize,
        /// Largest payload.
        limit: usize,
    },
    /// The entry was taken but its fate is not known: it may still be applied, by this or the next
    /// leader. Resending needs deduplication.
    #[error("outcome unknown")]
    Unknown,
    /// Certain refusal: the group is shutting down or has failed.
    #[error("group stopped")]
    Stopped,
}

/// A read index that could not be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// No leader is known, or it did not answer or confirm in time.
    #[error("no leader confirmed in time")]
    NoLeader,
    /// Waited too long for the index to be applied here.
    #[error("index {index} not applied in time")]
    NotApplied {
        /// What was waited for.
        index: u64,
    },
    /// The group is shutting down or has failed.
    #[error("group stopped")]
    Stopped,
}

/// An administrative request (members, leadership) that was not carried out.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AdminError {
    /// Only the leader can do this.
    #[error("not the leader (leader: {leader:?})")]
    NotLeader {
        /// Who leads instead, if known.
        leader: Option<RaftNode>,
    },
    /// Not done in time; it may still happen.
    #[error("not done in time")]
    Timeout,
    /// Another change of members is under way.
    #[error("another change of members is under way")]
    InProgress,
    /// Refused, and why.
    #[error("{0}")]
    Refused(String),
    /// The group is shutting down or has failed.
    #[error("group stopped")]
    Stopped,
}

/// Why a node could not start.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StartError {
    /// A setting that makes no sense.
    #[error("configuration: {0}")]
    Config(String),
    /// The identity file is unreadable, foreign or from another version.
    #[error("identity in {path}: {reason}")]
    Identity {
        /// The file.
        path: String,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// The cluster port cannot be used.
    #[error("cannot listen on {address}: {reason}")]
    Listen {
        /// The address.
        address: String,
        /// From the operating system.
        reason: String,
    },
    /// The log is not the one that this node has voted with.
    #[error(
        "{0}. This node has voted with its log, and without it would vote for the loss of what was confirmed. \
         Restore it, or move the data directory away and start again: the node rejoins as a fresh replica"
    )]
    Log(String),
    /// The log store, or a machine, could not be read.
    #[error("group {group}: {reason}")]
    Group {
        /// The group.
        group: u32,
        /// What is wrong.
        reason: String,
    },
    /// The cluster refuses this node.
    #[error("refused by the cluster: {0}")]
    Refused(String),
}
