//! The one openraft type configuration of all groups, and its translation to the wire.
//!
//! Here and in the adapters (`log::store`, `machine_adapter`, `raft_net`) openraft is spoken; the
//! rest of the crate knows [`crate::types`] only.

use crate::types::{Payload, Position};
use bytes::Bytes;
use cluster_proto::v1;
use openraft::raft::responder::Responder;
use openraft::vote::leader_id_std::CommittedLeaderId;
use openraft::{BasicNode, OptionalSend, RaftTypeConfig};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The type configuration.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Types;

impl RaftTypeConfig for Types {
    type D = Payload;
    type R = Reply;
    type NodeId = u64;
    type Node = BasicNode;
    type Term = u64;
    // One leader per term, so that a term alone is a fencing token.
    type LeaderId = openraft::impls::leader_id_std::LeaderId<u64, u64>;
    type Vote = openraft::impls::Vote<Self::LeaderId>;
    type Payload = openraft::EntryPayload<Payload, u64, BasicNode>;
    type Entry = openraft::Entry<CommittedLeaderId<u64>, Self::Payload>;
    type AsyncRuntime = crate::clock::Runtime;
    type Responder<T>
        = QuietResponder<T>
    where
        T: OptionalSend + 'static;
    type Batch<T>
        = openraft::impls::InlineBatch<T>
    where
        T: OptionalSend + 'static;
    type ErrorSource = openraft::impls::BoxedErrorSource;
}

pub(crate) type LogId = openraft::LogId<CommittedLeaderId<u64>>;
pub(crate) type Vote = openraft::impls::Vote<openraft::impls::leader_id_std::LeaderId<u64, u64>>;
pub(crate) type Entry = openraft::Entry<CommittedLeaderId<u64>, EntryPayload>;
pub(crate) type EntryPayload = openraft::EntryPayload<Payload, u64, BasicNode>;
pub(crate) type Membership = openraft::Membership<u64, BasicNode>;
pub(crate) type StoredMembership =
    openraft::StoredMembership<CommittedLeaderId<u64>, u64, BasicNode>;
pub(crate) type AppendRequest = openraft::raft::AppendEntriesRequest<Types>;
pub(crate) type StreamAppendResult = openraft::raft::StreamAppendResult<Types>;

/// What the machine replied to an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reply(pub(crate) Bytes);

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// Answers a proposal; unlike openraft's own it does not complain when nobody listens any more.
pub(crate) struct QuietResponder<T: OptionalSend + 'static> {
    sender: tokio::sync::oneshot::Sender<T>,
}

impl<T: OptionalSend + 'static> QuietResponder<T> {
    pub(crate) fn pair() -> (Self, tokio::sync::oneshot::Receiver<T>) {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        (Self { sender }, receiver)
    }
}

impl<T: OptionalSend + 'static> Responder<Types, T> for QuietResponder<T> {
    fn on_complete(self, result: T) {
        let _ = self.sender.send(result);
    }
}

pub(crate) fn log_id(term: u64, index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(term), index)
}

pub(crate) fn position(log_id: &LogId) -> Position {
    Position {
        term: log_id.leader_id.term,
        index: log_id.index,
    }
}

pub(crate) fn log_id_to_wire(log_id: &LogId) -> v1::LogId {
    v1::LogId {
        term: log_id.leader_id.term,
        index: log_id.index,
    }
}

pub(crate) fn log_id_from_wire(wire: &v1::LogId) -> LogId {
    log_id(wire.term, wire.index)
}

pub(crate) fn vote_to_wire(vote: &Vote) -> v1::Vote {
    v1::Vote {
        term: vote.leader_id.term,
        member: vote.leader_id.voted_for,
        committed: vote.committed,
    }
}

pub(crate) fn vote_from_wire(wire: &v1::Vote) -> Vote {
    if wire.committed {
        Vote::new_committed(wire.term, wire.member)
    } else {
        Vote::new(wire.term, wire.member)
    }
}

pub(crate) fn membership_to_wire(membership: &Membership) -> v1::Membership {
    v1::Membership {
        configs: membership
            .get_joint_config()
            .iter()
            .map(|voters| v1::VoterSet {
                members: voters.iter().copied().collect(),
            })
            .collect(),
        members: membership
            .nodes()
            .map(|(member, node)| v1::Member {
                member: *member,
                address: node.addr.clone(),
            })
            .collect(),
    }
}

/// `None` when the parts contradict each other (a voter without a node, an empty set).
pub(crate) fn membership_from_wire(wire: &v1::Membership) -> Option<Membership> {
    let configs: Vec<BTreeSet<u64>> = wire
        .configs
        .iter()
        .map(|set| set.members.iter().copied().collect())
        .collect();
    let nodes: BTreeMap<u64, BasicNode> = wire
        .members
        .iter()
        .map(|member| (member.member, BasicNode::new(&member.address)))
        .collect();
    if configs.is_empty() && nodes.is_empty() {
        return Some(Membership::default());
    }
    Membership::new(configs, nodes).ok()
}

/// What a machine has applied: where, and who the members were.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Applied {
    pub(crate) last: Option<LogId>,
    pub(crate) membership: StoredMembership,
}

impl Applied {
    pub(crate) fn to_wire(&self) -> v1::AppliedState {
        v1::AppliedState {
            last: self.last.as_ref().map(log_id_to_wire),
            membership_at: self.membership.log_id().as_ref().map(log_id_to_wire),
            membership: Some(membership_to_wire(self.membership.membership())),
        }
    }

    pub(crate) fn from_wire(wire: &v1::AppliedState) -> Option<Self> {
        let membership = membership_from_wire(wire.membership.as_ref()?)?;
        let at = wire.membership_at.as_ref().map(log_id_from_wire);
        Some(Self {
            last: wire.last.as_ref().map(log_id_from_wire),
            membership: StoredMembership::new(at, membership),
        })
    }

    pub(crate) fn encode(&self) -> Bytes {
        prost::Message::encode_to_vec(&self.to_wire()).into()
    }

    pub(crate) fn decode(bytes: Bytes) -> Option<Self> {
        let wire: v1::AppliedState = prost::Message::decode(bytes).ok()?;
        Self::from_wire(&wire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn applied_state_round_trips() {
        let nodes: BTreeMap<u64, BasicNode> =
            [(1, BasicNode::new("a:1")), (2, BasicNode::new("b:2"))].into();
        let membership = Membership::new(vec![[1].into(), [1, 2].into()], nodes).unwrap();
        let applied = Applied {
            last: Some(log_id(3, 70)),
            membership: StoredMembership::new(Some(log_id(2, 4)), membership),
        };
        assert_eq!(Applied::decode(applied.encode()), Some(applied));
        assert_eq!(
            Applied::decode(Applied::default().encode()),
            Some(Applied::default())
        );
    }

    #[test]
    fn a_membership_that_contradicts_itself_is_refused() {
        let wire = v1::Membership {
            configs: vec![v1::VoterSet { members: vec![7] }],
            members: vec![],
        };
        assert_eq!(membership_from_wire(&wire), None);
        assert_eq!(Applied::decode(Bytes::from_static(b"\xff\xff")), None);
    }

    #[test]
    fn votes_round_trip() {
        for vote in [Vote::new(3, 65_537), Vote::new_committed(9, 2)] {
            assert_eq!(vote_from_wire(&vote_to_wire(&vote)), vote);
        }
    }
}
