//! What other nodes ask about the cluster: who is there, a place in it, a change of members.

use super::change::{GroupChange, admit_everywhere, remove};
use crate::consensus::{Inner, wire_members};
use crate::error::AdminError;
use crate::group::Group;
use crate::identity::Standing;
use crate::net::{Connectivity, is_address};
use crate::types::{GroupId, RaftNode};
use cluster_proto::v1;
use cluster_proto::v1::join_answer::Result as JoinResult;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tonic::{Request, Response, Status};

/// A founder is kept waiting for the groups of a member for so long at most.
const GROUPS_RUN: Duration = Duration::from_secs(1);

/// The cluster's services on this node.
pub(crate) struct ClusterService(pub(crate) Weak<Inner>);

impl ClusterService {
    fn inner(&self) -> Result<Arc<Inner>, Status> {
        self.0
            .upgrade()
            .ok_or_else(|| Status::unavailable("stopping"))
    }
}

#[tonic::async_trait]
impl v1::cluster_server::Cluster for ClusterService {
    async fn hello(
        &self,
        request: Request<v1::HelloRequest>,
    ) -> Result<Response<v1::HelloAnswer>, Status> {
        let inner = self.inner()?;
        if let Some(them) = request.into_inner().me {
            // A peer may have moved; but not while it answers where it was, or a second process with
            // its id could take its place.
            let link = inner.peers.link(them.node);
            let lost = link.is_some_and(|link| link.connectivity() != Connectivity::Connected);
            if lost
                && !them.address.is_empty()
                && inner.peers.set_peer(them.node, &them.address).is_err()
            {
                tracing::warn!(
                    node = them.node,
                    address = them.address,
                    "a peer has an unusable address"
                );
            }
        }
        Ok(Response::new(v1::HelloAnswer {
            me: Some(inner.wire_identity()),
            members: wire_members(&inner.member_nodes()),
            reached: super::whereabouts::reached(&inner),
        }))
    }

    async fn found(
        &self,
        request: Request<v1::FoundRequest>,
    ) -> Result<Response<v1::FoundAnswer>, Status> {
        let inner = self.inner()?;
        let caller = caller(&request)?;
        let answer = match accept_founding(&inner, caller, request.into_inner()).await {
            Ok(()) => v1::FoundAnswer {
                accepted: true,
                reason: String::new(),
            },
            Err(reason) => v1::FoundAnswer {
                accepted: false,
                reason,
            },
        };
        Ok(Response::new(answer))
    }

    async fn join(
        &self,
        request: Request<v1::JoinRequest>,
    ) -> Result<Response<v1::JoinAnswer>, Status> {
        let inner = self.inner()?;
        let caller = caller(&request)?;
        let them = request
            .into_inner()
            .me
            .ok_or_else(|| Status::invalid_argument("who?"))?;
        if them.node != caller {
            return Err(Status::invalid_argument("a node joins for itself"));
        }
        let result = Some(place_for(&inner, them));
        Ok(Response::new(v1::JoinAnswer { result }))
    }

    async fn remove(
        &self,
        request: Request<v1::RemoveRequest>,
    ) -> Result<Response<v1::RemoveAnswer>, Status> {
        let inner = self.inner()?;
        let removed = remove(&inner, request.into_inner().node).await;
        Ok(Response::new(v1::RemoveAnswer {
            refused: removed
                .err()
                .map_or_else(String::new, |error| error.to_string()),
            leader: None,
        }))
    }

    async fn change_group(
        &self,
        request: Request<v1::ChangeGroupRequest>,
    ) -> Result<Response<v1::ChangeGroupAnswer>, Status> {
        use v1::change_group_request::Change;
        let inner = self.inner()?;
        let request = request.into_inner();
        let group = inner
            .inbound
            .group(GroupId(request.group))
            .ok_or_else(|| Status::unavailable("the group does not run here"))?;
        let change = match request.change {
            Some(Change::Admit(member)) => {
                GroupChange::Admit(RaftNode(member.member), member.address)
            }
            Some(Change::Remove(_)) => GroupChange::Remove(request.node),
            None => return Err(Status::invalid_argument("no change")),
        };
        let answer = match change.carry_out(&inner, &group).await {
            Ok(()) => v1::ChangeGroupAnswer::default(),
            Err(AdminError::NotLeader { leader }) => v1::ChangeGroupAnswer {
                refused: "not the leader".to_owned(),
                not_leader: true,
                leader: leader.map_or(0, |leader| leader.0),
                ..v1::ChangeGroupAnswer::default()
            },
            Err(error) => v1::ChangeGroupAnswer {
                in_progress: matches!(error, AdminError::InProgress),
                refused: error.to_string(),
                ..v1::ChangeGroupAnswer::default()
            },
        };
        Ok(Response::new(answer))
    }
}

fn caller<T>(request: &Request<T>) -> Result<u64, Status> {
    let caller = request.extensions().get::<crate::net::Caller>();
    caller
        .map(|caller| caller.node)
        .ok_or_else(|| Status::unauthenticated("no credentials"))
}

/// Becomes part of a cluster that a peer is founding.
async fn accept_founding(
    inner: &Arc<Inner>,
    caller: u64,
    request: v1::FoundRequest,
) -> Result<(), String> {
    let ours = inner.file.lock().identity.cluster;
    if ours == Some(request.cluster) {
        return Ok(());
    }
    if ours.is_some() {
        return Err("this node is part of another cluster".to_owned());
    }
    if inner.config.peers.keys().next() != Some(&caller) {
        return Err("it is not this peer's part to found the cluster".to_owned());
    }
    let nodes: Vec<u64> = request.members.iter().map(|member| member.member).collect();
    if !inner.config.peers.keys().eq(&nodes) {
        return Err(format!("peer lists differ: {nodes:?}"));
    }
    // The disk has to know before the founder counts on this node's vote.
    inner
        .enter(request.cluster, request.shards, 0, Standing::Member)
        .await
        .map_err(|error| error.to_string())?;
    // The groups start in `enter_cluster`. With them running the founder's first elections succeed
    // at once; if they take longer, later ones will.
    let _ = tokio::time::timeout(GROUPS_RUN, inner.groups_run()).await;
    if inner.file.lock().identity.cluster != Some(request.cluster) {
        return Err("this node has just become part of another cluster".to_owned());
    }
    Ok(())
}

/// What a node is told that asks for a place.
fn place_for(inner: &Arc<Inner>, them: v1::NodeIdentity) -> JoinResult {
    let not_now = |why: &str| JoinResult::NotNow(why.to_owned());
    let identity = inner.file.lock().identity.clone();
    let (Some(cluster), Some(catalog)) = (identity.cluster, inner.inbound.group(GroupId::CATALOG))
    else {
        return not_now("the cluster is being formed");
    };
    if them.node == 0 || them.node > RaftNode::MAX_NODE {
        return JoinResult::Refused(format!("no usable node id: {}", them.node));
    }
    // It would be among the members' for good.
    if !is_address(&them.address) {
        return JoinResult::Refused(format!(
            "its address '{}' is not of the form host:port",
            them.address
        ));
    }
    let leadership = *Group(Arc::clone(&catalog)).leadership().borrow();
    if !leadership.ready {
        let leader = leadership.leader.filter(|leader| *leader != catalog.me());
        let address = leader.and_then(|leader| inner.peers.addresses().remove(&leader.node()));
        return match (leader, address) {
            (Some(leader), Some(address)) => JoinResult::Leader(v1::Member {
                member: leader.node(),
                address,
            }),
            _ => not_now("the catalog has no leader"),
        };
    }
    let generations: Vec<u64> = catalog
        .members()
        .into_keys()
        .filter(|member| member.node() == them.node)
        .map(RaftNode::generation)
        .collect();
    let generation = match them.cluster {
        // It has its place already and wants its votes.
        Some(theirs) if theirs == cluster => {
            let known = catalog.state().machine().generation_of(them.node);
            if is_removed(them.generation, &generations, known) {
                return JoinResult::Refused(
                    "it was removed from the cluster: empty its data directory before it joins again".to_owned(),
                );
            }
            admit_everywhere(
                inner,
                RaftNode::new(them.node, them.generation),
                them.address,
            );
            them.generation
        }
        Some(_) => return JoinResult::Refused("it is part of another cluster".to_owned()),
        None => {
            if let Some(link) = inner.peers.link(them.node)
                && link.address() != them.address
                && link.connectivity() == Connectivity::Connected
            {
                return JoinResult::Refused(format!(
                    "node id {} is in use at {}",
                    them.node,
                    link.address()
                ));
            }
            // Also one that was removed: a disk of it may still be somewhere, and what it has sent is known by its starts.
            let known = catalog.state().machine().generation_of(them.node);
            let last = generations.iter().copied().chain(known).max();
            last.map_or(0, |last| last.saturating_add(1))
        }
    };
    JoinResult::Accepted(v1::JoinAccepted {
        cluster,
        shards: identity.shards,
        generation,
        members: wire_members(&inner.member_nodes()),
    })
}

/// Whether a node that says it belongs here, with its disk of `generation`, was removed: the catalog has `members` of its
/// generations, and has `known` one that had started.
fn is_removed(generation: u64, members: &[u64], known: Option<u64>) -> bool {
    !members.contains(&generation) && known.is_some_and(|known| known >= generation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removed_node_is_told_from_one_that_comes() {
        for (generation, members, known, removed) in [
            // It has just been given its place.
            (0, &[][..], None, false),
            (1, &[], Some(0), false),
            // In place of an earlier disk, which is still a member.
            (1, &[0], Some(0), false),
            // It has started, and waits for votes.
            (1, &[1], Some(1), false),
            (1, &[0, 1], Some(1), false),
            // It had started, and is no member.
            (0, &[], Some(0), true),
            (1, &[], Some(1), true),
            // Another disk has taken its place.
            (0, &[1], Some(1), true),
            (0, &[], Some(2), true),
        ] {
            let told = is_removed(generation, members, known);
            assert_eq!(told, removed, "{generation} {members:?} {known:?}");
        }
    }
}
