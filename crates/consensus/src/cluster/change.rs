//! Putting a node into all groups, or taking it out, at the leaders of the groups.

use super::RETRY;
use crate::consensus::Inner;
use crate::error::AdminError;
use crate::group::{Group, GroupCore};
use crate::net::Connectivity;
use crate::types::{GroupId, RaftNode};
use cluster_proto::v1;
use futures::StreamExt;
use futures::stream;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

/// For a node to get all of a group's state.
const ADMIT: Duration = Duration::from_secs(600);
/// For a removal from one group.
const REMOVE: Duration = Duration::from_secs(30);
/// Groups that a new node gets at the same time.
const ADMIT_AT_ONCE: usize = 3;

/// Admissions under way, by node.
#[derive(Default)]
pub(crate) struct Admissions(Mutex<HashMap<u64, (RaftNode, AbortHandle)>>);

impl Admissions {
    /// The admission of a node that is being removed ends, if it is under way here.
    pub(super) fn give_up(&self, node: u64) {
        if let Some((member, task)) = self.0.lock().remove(&node) {
            tracing::info!(%member, "an admission is given up: the node is being removed");
            task.abort();
        }
    }

    fn has(&self, node: u64) -> bool {
        self.0.lock().contains_key(&node)
    }
}

/// Starts to make `member` a voter of all groups, unless that is under way. The admission of another
/// generation of its node ends: that one lost its disk once more, and will never catch up.
pub(super) fn admit_everywhere(inner: &Arc<Inner>, member: RaftNode, address: String) {
    let mut admissions = inner.admissions.0.lock();
    match admissions.get(&member.node()) {
        Some((admitted, _)) if admitted.generation() >= member.generation() => return,
        Some((former, task)) => {
            tracing::info!(%former, %member, "an admission is given up for a later one");
            task.abort();
        }
        None => {}
    }
    if let Err(error) = inner.peers.set_peer(member.node(), &address) {
        tracing::warn!(%error, "a joining node has an unusable address");
    }
    let task = tokio::spawn(admit_to_all(Arc::clone(inner), member, address));
    admissions.insert(member.node(), (member, task.abort_handle()));
}

async fn admit_to_all(inner: Arc<Inner>, member: RaftNode, address: String) {
    let change = GroupChange::Admit(member, address);
    // The catalog first: it is where the next leader looks for the generations of a node.
    let mut done = change_group(&inner, GroupId::CATALOG, &change).await;
    if done.is_ok() {
        let shards: Vec<GroupId> = inner
            .inbound
            .groups()
            .iter()
            .map(|group| group.id())
            .collect();
        let shards = shards
            .into_iter()
            .filter(|group| *group != GroupId::CATALOG);
        let changes = shards.map(|group| {
            let (inner, change) = (&inner, &change);
            async move {
                // It may have been removed while others were changed.
                let result = if in_catalog(inner, member) {
                    change_group(inner, group, change).await
                } else {
                    Err(AdminError::Refused("it was removed meanwhile".to_owned()))
                };
                (group, result)
            }
        });
        let mut changes = stream::iter(changes).buffer_unordered(ADMIT_AT_ONCE);
        while let Some((group, result)) = changes.next().await {
            if let Err(error) = &result {
                tracing::warn!(%group, %member, %error, "a node was not admitted; it will ask again");
                done = result;
            }
        }
    }
    match done {
        Ok(()) => tracing::info!(%member, "a node was admitted to all groups"),
        Err(error) => tracing::warn!(%member, %error, "a node was not admitted everywhere"),
    }
    let mut admissions = inner.admissions.0.lock();
    if admissions
        .get(&member.node())
        .is_some_and(|(admitted, _)| *admitted == member)
    {
        admissions.remove(&member.node());
    }
}

fn in_catalog(inner: &Inner, member: RaftNode) -> bool {
    let catalog = inner.inbound.group(GroupId::CATALOG);
    catalog.is_some_and(|catalog| catalog.members().contains_key(&member))
}

/// Whether a node belongs to any group, as far as is known here, or is about to.
pub(crate) fn is_known(inner: &Inner, node: u64) -> bool {
    let groups = inner.inbound.groups();
    let mut members = groups.iter().flat_map(|group| group.members().into_keys());
    inner.admissions.has(node) || members.any(|member| member.node() == node)
}

/// Removes a node from all groups, the catalog last. One that was being admitted may have come into a group meanwhile that it
/// had been taken out of: no longer once the catalog does not know it, so the others are gone through once more then.
pub(crate) async fn remove(inner: &Arc<Inner>, node: u64) -> Result<(), AdminError> {
    if !is_known(inner, node) {
        return Err(AdminError::Refused(format!("node {node} is no member")));
    }
    inner.admissions.give_up(node);
    let groups = inner.inbound.groups();
    let shards = groups
        .iter()
        .map(|group| group.id())
        .filter(|group| *group != GroupId::CATALOG);
    let order = shards.clone().chain([GroupId::CATALOG]);
    for group in order {
        change_group(inner, group, &GroupChange::Remove(node)).await?;
    }
    for group in shards {
        // It may come back with another disk at once, and is then to stay.
        if inner.member_nodes().contains_key(&node) {
            break;
        }
        change_group(inner, group, &GroupChange::Remove(node)).await?;
    }
    Ok(())
}

#[derive(Debug, Clone)]
pub(super) enum GroupChange {
    Admit(RaftNode, String),
    Remove(u64),
}

impl GroupChange {
    /// At the leader of the group.
    pub(super) async fn carry_out(
        &self,
        inner: &Inner,
        group: &GroupCore,
    ) -> Result<(), AdminError> {
        match self {
            Self::Admit(member, address) => group.admit(*member, address, ADMIT).await,
            Self::Remove(node) => {
                inner.admissions.give_up(*node);
                group.remove(*node, REMOVE).await
            }
        }
    }

    fn to_wire(&self, group: GroupId) -> v1::ChangeGroupRequest {
        use v1::change_group_request::Change;
        let (node, change) = match self {
            Self::Admit(member, address) => {
                let admitted = v1::Member {
                    member: member.0,
                    address: address.clone(),
                };
                (member.node(), Change::Admit(admitted))
            }
            Self::Remove(node) => (*node, Change::Remove(true)),
        };
        v1::ChangeGroupRequest {
            group: group.0,
            node,
            change: Some(change),
        }
    }
}

/// Carries a change out at the leader of the group, wherever that is.
async fn change_group(
    inner: &Arc<Inner>,
    id: GroupId,
    change: &GroupChange,
) -> Result<(), AdminError> {
    let mut last = AdminError::NotLeader { leader: None };
    for _ in 0..50 {
        let group = inner.inbound.group(id).ok_or(AdminError::Stopped)?;
        let leader = Group(Arc::clone(&group)).leadership().borrow().leader;
        let result = match leader {
            Some(leader) if leader == group.me() => change.carry_out(inner, &group).await,
            Some(leader) => change_at(inner, leader, id, change).await,
            None => change_anywhere(inner, id, change).await,
        };
        match result {
            Ok(()) => return Ok(()),
            Err(error @ (AdminError::NotLeader { .. } | AdminError::InProgress)) => last = error,
            Err(error) => return Err(error),
        }
        sleep(RETRY).await;
    }
    Err(last)
}

/// Carries a change out at whichever node leads a group of which this one is no member (yet), and hears nothing.
async fn change_anywhere(
    inner: &Arc<Inner>,
    id: GroupId,
    change: &GroupChange,
) -> Result<(), AdminError> {
    let nodes: Vec<u64> = inner.member_nodes().into_keys().collect();
    for node in nodes {
        // One that does not answer now would be waited for as long as the change may take.
        let link = inner.peers.link(node);
        if link.is_none_or(|link| link.connectivity() != Connectivity::Connected) {
            continue;
        }
        match change_at(inner, RaftNode::new(node, 0), id, change).await {
            Err(AdminError::NotLeader { .. }) => {}
            result => return result,
        }
    }
    Err(AdminError::NotLeader { leader: None })
}

async fn change_at(
    inner: &Arc<Inner>,
    leader: RaftNode,
    id: GroupId,
    change: &GroupChange,
) -> Result<(), AdminError> {
    let unreachable = AdminError::NotLeader {
        leader: Some(leader),
    };
    let Some(link) = inner.peers.link(leader.node()) else {
        return Err(unreachable);
    };
    let within = match change {
        GroupChange::Admit(..) => ADMIT,
        GroupChange::Remove(_) => REMOVE,
    };
    let answer = match timeout(within, link.cluster().change_group(change.to_wire(id))).await {
        Ok(Ok(answer)) => answer.into_inner(),
        Ok(Err(_)) => return Err(unreachable),
        Err(_) => return Err(AdminError::Timeout),
    };
    if answer.not_leader {
        return Err(unreachable);
    }
    if answer.in_progress {
        return Err(AdminError::InProgress);
    }
    if answer.refused.is_empty() {
        return Ok(());
    }
    Err(AdminError::Refused(answer.refused))
}
