//! The way into a cluster: founding one, or joining the one that others have.

use super::change::admit_everywhere;
use super::waiting::{self, root_cause};
use super::{ASK, RETRY};
use crate::config::ConsensusConfig;
use crate::consensus::{Inner, wire_members};
use crate::error::StartError;
use crate::identity::Standing;
use crate::net::{PeerLink, RateLimit, displacement, refusal};
use crate::types::RaftNode;
use cluster_proto::v1;
use cluster_proto::v1::join_answer::Result as JoinResult;
use futures::future::join_all;
use rand::RngExt;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// Until this node is part of a cluster and its groups run.
pub(super) async fn enter_cluster(inner: &Arc<Inner>) -> Result<(), StartError> {
    let told = RateLimit::default();
    loop {
        if inner.file.lock().identity.cluster.is_some() {
            if !inner.is_formed() {
                inner.start_groups().await?;
            }
            return Ok(());
        }
        if is_alone(&inner.config) {
            found(inner).await?;
            continue;
        }
        let hellos = say_hello(inner).await;
        let members = || hellos.answers.iter();
        if let Some(cluster) = members().find_map(|(_, hello)| cluster_of(hello)) {
            // One that is cut off from the others, or was removed, may know of no leader.
            for (contact, _) in members().filter(|(_, hello)| cluster_of(hello) == Some(cluster)) {
                ask_to_join(inner, contact).await?;
                if inner.file.lock().identity.cluster.is_some() {
                    break;
                }
            }
        } else if may_found(inner, &hellos.answers) {
            found(inner).await?;
            continue;
        } else if told.permit() {
            waiting::tell(inner, &hellos);
        }
        // A founder may make this node part of a cluster meanwhile.
        let _ = timeout(RETRY, inner.entered.notified()).await;
    }
}

pub(super) fn is_alone(config: &ConsensusConfig) -> bool {
    config.join.is_empty() && config.peers.keys().all(|node| *node == config.node)
}

fn cluster_of(hello: &v1::HelloAnswer) -> Option<u64> {
    hello.me.as_ref()?.cluster
}

/// A way to a node: one that is known, or an address of which only the node there knows the id.
pub(super) enum Contact {
    Peer(Arc<PeerLink>),
    Address(String),
}

impl Contact {
    fn client(
        &self,
        inner: &Inner,
    ) -> Result<v1::cluster_client::ClusterClient<crate::net::PeerChannel>, StartError> {
        match self {
            Self::Peer(link) => Ok(link.cluster()),
            Self::Address(address) => inner.peers.stranger(address),
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Peer(link) => link.address().to_owned(),
            Self::Address(address) => address.clone(),
        }
    }
}

/// What asking around has brought.
pub(super) struct Hellos {
    /// Those that answer.
    pub(super) answers: Vec<(Contact, v1::HelloAnswer)>,
    /// Addresses of those that do not, and why.
    pub(super) silent: Vec<(String, String)>,
}

/// Asks all that might know a cluster.
pub(super) async fn say_hello(inner: &Arc<Inner>) -> Hellos {
    let peers = inner
        .peers
        .addresses()
        .into_keys()
        .filter_map(|node| inner.peers.link(node));
    let mut contacts: Vec<Contact> = peers.map(Contact::Peer).collect();
    contacts.extend(inner.config.join.iter().cloned().map(Contact::Address));
    let asked = contacts.into_iter().map(|contact| async move {
        match hello(inner, &contact).await {
            Ok(answer) => Ok((contact, answer)),
            Err(why) => Err((contact.name(), why)),
        }
    });
    let (mut answers, mut silent) = (Vec::new(), Vec::new());
    for asked in join_all(asked).await {
        match asked {
            Ok(answer) => answers.push(answer),
            Err(reason) => silent.push(reason),
        }
    }
    Hellos { answers, silent }
}

/// The same of one peer.
pub(super) async fn hello_to(inner: &Inner, link: Arc<PeerLink>) -> Option<v1::HelloAnswer> {
    hello(inner, &Contact::Peer(link)).await.ok()
}

/// What `contact` answers, or why it does not.
async fn hello(inner: &Inner, contact: &Contact) -> Result<v1::HelloAnswer, String> {
    let request = v1::HelloRequest {
        me: Some(inner.wire_identity()),
    };
    let mut client = contact.client(inner).map_err(|error| error.to_string())?;
    match timeout(ASK, client.hello(request)).await {
        Ok(Ok(answer)) => {
            inner.peers.displaced().accepted(&contact.name());
            Ok(answer.into_inner())
        }
        Ok(Err(status)) => {
            if let Some(reason) = displacement(&status) {
                inner.peers.displaced().refused(&contact.name(), reason);
            }
            if let Some(reason) = refusal(&status)
                && inner.hello_refusals.permit()
            {
                tracing::warn!(contact = contact.name(), reason, "hello refused");
            }
            Err(root_cause(&status))
        }
        Err(_) => Err("silence".to_owned()),
    }
}

/// All of the static peers are there, know no cluster, and agree on who they are; and it is this
/// node's part to found.
fn may_found(inner: &Inner, hellos: &[(Contact, v1::HelloAnswer)]) -> bool {
    let peers = &inner.config.peers;
    let Some(lowest) = peers.keys().next() else {
        return false;
    };
    let mine = wire_members(peers);
    let ready = |node: &u64| {
        *node == inner.config.node
            || hellos.iter().any(|(_, hello)| {
                hello.me.as_ref().is_some_and(|them| {
                    them.node == *node && them.cluster.is_none() && them.peers == mine
                })
            })
    };
    *lowest == inner.config.node && peers.keys().all(ready)
}

/// Makes up a cluster.
async fn found(inner: &Arc<Inner>) -> Result<(), StartError> {
    let cluster = rand::rng().random_range(1..u64::MAX);
    tracing::info!(
        cluster = format!("{cluster:016x}"),
        shards = inner.config.shards,
        "founding a cluster"
    );
    inner
        .enter(cluster, inner.config.shards, 0, Standing::Founding)
        .await
}

/// Tells the others, and makes all of them voters.
pub(super) async fn finish_founding(inner: &Arc<Inner>) -> Result<(), StartError> {
    // Done but for the note that it is. One of the others may be gone by now, and would be waited for.
    let groups = inner.inbound.groups();
    let are_begun = groups.iter().all(|group| group.log().span().last.is_some());
    if !groups.is_empty() && are_begun {
        return inner.set_standing(Standing::Member).await;
    }
    let identity = inner.file.lock().identity.clone();
    let mut members = inner.config.peers.clone();
    members.insert(inner.config.node, inner.advertised.clone());
    let request = v1::FoundRequest {
        cluster: identity.cluster.unwrap_or_default(),
        shards: identity.shards,
        members: wire_members(&members),
    };
    let mut missing: Vec<u64> = members
        .keys()
        .copied()
        .filter(|node| *node != inner.config.node)
        .collect();
    while !missing.is_empty() {
        let asked = missing.iter().map(|node| async {
            let link = inner.peers.link(*node)?;
            let answer = timeout(ASK, link.cluster().found(request.clone()))
                .await
                .ok()?
                .ok()?
                .into_inner();
            if !answer.accepted {
                tracing::warn!(
                    node = *node,
                    reason = answer.reason,
                    "a node does not join the new cluster"
                );
            }
            answer.accepted.then_some(*node)
        });
        let accepted: Vec<u64> = join_all(asked).await.into_iter().flatten().collect();
        missing.retain(|node| !accepted.contains(node));
        if !missing.is_empty() {
            sleep(RETRY).await;
        }
    }
    let voters: BTreeMap<RaftNode, String> = members
        .iter()
        .map(|(node, address)| (RaftNode::new(*node, 0), address.clone()))
        .collect();
    for group in inner.inbound.groups() {
        group
            .initialize(&voters)
            .await
            .map_err(|error| StartError::Group {
                group: group.id().0,
                reason: error.to_string(),
            })?;
    }
    inner.set_standing(Standing::Member).await
}

/// Asks for a place in the cluster of `contact`.
async fn ask_to_join(inner: &Arc<Inner>, contact: &Contact) -> Result<(), StartError> {
    let request = v1::JoinRequest {
        me: Some(inner.wire_identity()),
    };
    let mut client = contact.client(inner)?;
    for _ in 0..3 {
        let answer = match timeout(ASK, client.join(request.clone())).await {
            Ok(Ok(answer)) => answer.into_inner(),
            Ok(Err(status)) => {
                tracing::info!(
                    contact = contact.name(),
                    status = status.message(),
                    "asked to join"
                );
                return Ok(());
            }
            Err(_) => return Ok(()),
        };
        match answer.result {
            Some(JoinResult::Accepted(place)) => {
                tracing::info!(
                    cluster = format!("{:016x}", place.cluster),
                    generation = place.generation,
                    "joining a cluster"
                );
                for member in &place.members {
                    if let Err(error) = inner.peers.set_peer(member.member, &member.address) {
                        tracing::warn!(%error, "a member cannot be reached");
                    }
                }
                return inner
                    .enter(
                        place.cluster,
                        place.shards,
                        place.generation,
                        Standing::Joining,
                    )
                    .await;
            }
            Some(JoinResult::Leader(leader)) => match inner.peers.stranger(&leader.address) {
                Ok(leader) => client = leader,
                Err(_) => return Ok(()),
            },
            Some(JoinResult::Refused(why)) => return Err(StartError::Refused(why)),
            Some(JoinResult::NotNow(why)) => {
                tracing::info!(why, "cannot join yet");
                return Ok(());
            }
            None => return Ok(()),
        }
    }
    Ok(())
}

/// Asks to be made a voter until this node is one in every group.
pub(super) async fn finish_joining(inner: &Arc<Inner>) {
    loop {
        let me = inner.member();
        let groups = inner.inbound.groups();
        if !groups.is_empty() && groups.iter().all(|group| group.has_settled(me)) {
            match inner.set_standing(Standing::Member).await {
                Ok(()) => tracing::info!("this node has a vote in every group"),
                Err(error) => inner.fail(error),
            }
            return;
        }
        for (contact, hello) in say_hello(inner).await.answers {
            if cluster_of(&hello).is_none() {
                continue;
            }
            match ask_for_votes(inner, &contact).await {
                Ok(true) => break,
                // It is cut off from the others, or was removed: another one may know more.
                Ok(false) => {}
                Err(error) => {
                    inner.fail(error);
                    return;
                }
            }
        }
        sleep(Duration::from_secs(1)).await;
    }
}

/// Asks by way of `contact` to be made a voter; whether the leader has heard of it. An error if it refuses.
async fn ask_for_votes(inner: &Arc<Inner>, contact: &Contact) -> Result<bool, StartError> {
    let request = v1::JoinRequest {
        me: Some(inner.wire_identity()),
    };
    let Ok(mut client) = contact.client(inner) else {
        return Ok(false);
    };
    // The contact, and whom it takes for the leader.
    for _ in 0..2 {
        let asked = timeout(ASK, client.join(request.clone())).await;
        let Ok(Ok(answer)) = asked else {
            return Ok(false);
        };
        match answer.into_inner().result {
            Some(JoinResult::Accepted(_)) => return Ok(true),
            // A node may lead the catalog before it is a member of every shard.
            Some(JoinResult::Leader(leader)) if leader.member == inner.config.node => {
                admit_everywhere(inner, inner.member(), inner.advertised.clone());
                return Ok(true);
            }
            Some(JoinResult::Leader(leader)) => match inner.peers.stranger(&leader.address) {
                Ok(leader) => client = leader,
                Err(_) => return Ok(false),
            },
            Some(JoinResult::Refused(why)) => return Err(StartError::Refused(why)),
            Some(JoinResult::NotNow(_)) | None => return Ok(false),
        }
    }
    Ok(false)
}
