//! The life of the cluster: founding it, joining it, returning with an empty disk, leaving it.
//!
//! - **Founding.** The first cluster is formed by the nodes of the static peer list, in any order of
//!   starts. When all of them have said hello, none knows a cluster and all have the same list, the
//!   one with the lowest id makes up the cluster's id, tells the others, and makes all of them voters
//!   of all groups. It notes on disk that it is founding until that is done.
//! - **Restarting** needs no peers: the disk knows.
//! - **Joining.** A node without a cluster whose peers have one asks the leader of the catalog. The
//!   leader gives it a generation that none of its disks had before, so an earlier vote of that node
//!   is never confused with what it says now; then it is made a learner and a voter of every group,
//!   and earlier generations go.
//! - **Removal** takes a node out of all groups, the catalog last.

use crate::config::ConsensusConfig;
use crate::consensus::{Consensus, Inner, wire_members};
use crate::error::{AdminError, StartError};
use crate::group::{Group, GroupCore};
use crate::identity::Standing;
use crate::net::{Connectivity, PeerLink, RateLimit, refusal};
use crate::types::{GroupId, RaftNode};
use cluster_proto::v1;
use cluster_proto::v1::join_answer::Result as JoinResult;
use futures::StreamExt;
use futures::future::join_all;
use futures::stream;
use parking_lot::Mutex;
use rand::RngExt;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};
use tonic::{Request, Response, Status};

/// Between two tries to find or form a cluster.
const RETRY: Duration = Duration::from_millis(200);
/// Between two looks at the members.
const LOOK: Duration = Duration::from_millis(500);
/// For a call that only asks.
const ASK: Duration = Duration::from_secs(2);
/// For a node to get all of a group's state.
const ADMIT: Duration = Duration::from_secs(600);
/// For a removal from one group.
const REMOVE: Duration = Duration::from_secs(30);
/// Groups that a new node gets at the same time.
const ADMIT_AT_ONCE: usize = 3;
/// A node that is no member any more is forgotten after this time.
const FORGET: Duration = Duration::from_secs(10);

/// Admissions under way, by node.
#[derive(Default)]
pub(crate) struct Admissions(Mutex<HashMap<u64, RaftNode>>);

/// The task that brings this node into a cluster and keeps track of the members.
pub(crate) async fn take_part(consensus: Consensus) {
    let inner = &consensus.inner;
    if let Err(error) = enter_cluster(inner).await {
        inner.fail(error);
        return;
    }
    if inner.standing() == Standing::Founding
        && let Err(error) = finish_founding(inner).await
    {
        inner.fail(error);
        return;
    }
    announce(inner).await;
    if inner.standing() == Standing::Joining {
        let joining = Arc::clone(inner);
        tokio::spawn(async move { finish_joining(&joining).await });
    }
    follow_members(inner).await;
}

/// Until this node is part of a cluster and its groups run.
async fn enter_cluster(inner: &Arc<Inner>) -> Result<(), StartError> {
    let waiting = RateLimit::default();
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
        if let Some((contact, _)) = hellos.iter().find(|(_, hello)| cluster_of(hello).is_some()) {
            ask_to_join(inner, contact).await?;
        } else if may_found(inner, &hellos) {
            found(inner).await?;
            continue;
        } else if waiting.permit() {
            let heard: Vec<u64> = hellos
                .iter()
                .filter_map(|(_, hello)| Some(hello.me.as_ref()?.node))
                .collect();
            tracing::info!(?heard, wanted = ?inner.config.peers.keys(), "waiting for the nodes that form the cluster");
        }
        sleep(RETRY).await;
    }
}

fn is_alone(config: &ConsensusConfig) -> bool {
    config.join.is_empty() && config.peers.keys().all(|node| *node == config.node)
}

fn cluster_of(hello: &v1::HelloAnswer) -> Option<u64> {
    hello.me.as_ref()?.cluster
}

/// A way to a node: one that is known, or an address of which only the node there knows the id.
enum Contact {
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

/// Asks all that might know a cluster; those that answer.
async fn say_hello(inner: &Arc<Inner>) -> Vec<(Contact, v1::HelloAnswer)> {
    let peers = inner
        .peers
        .addresses()
        .into_keys()
        .filter_map(|node| inner.peers.link(node));
    let mut contacts: Vec<Contact> = peers.map(Contact::Peer).collect();
    contacts.extend(inner.config.join.iter().cloned().map(Contact::Address));
    let asked = contacts.into_iter().map(|contact| async move {
        let request = v1::HelloRequest {
            me: Some(inner.wire_identity()),
        };
        let mut client = contact.client(inner).ok()?;
        match timeout(ASK, client.hello(request)).await {
            Ok(Ok(answer)) => Some((contact, answer.into_inner())),
            Ok(Err(status)) => {
                if let Some(reason) = refusal(&status) {
                    tracing::warn!(contact = contact.name(), reason, "hello refused");
                }
                None
            }
            Err(_) => None,
        }
    });
    join_all(asked).await.into_iter().flatten().collect()
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
async fn finish_founding(inner: &Arc<Inner>) -> Result<(), StartError> {
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
                    inner.peers.set_peer(member.member, &member.address)?;
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
            Some(JoinResult::Leader(leader)) => client = inner.peers.stranger(&leader.address)?,
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
async fn finish_joining(inner: &Arc<Inner>) {
    loop {
        let me = inner.member();
        let groups = inner.inbound.groups();
        if !groups.is_empty() && groups.iter().all(|group| group.voters().contains(&me)) {
            match inner.set_standing(Standing::Member).await {
                Ok(()) => tracing::info!("this node has a vote in every group"),
                Err(error) => inner.fail(error),
            }
            return;
        }
        for (contact, hello) in say_hello(inner).await {
            if cluster_of(&hello).is_none() {
                continue;
            }
            let request = v1::JoinRequest {
                me: Some(inner.wire_identity()),
            };
            let Ok(mut client) = contact.client(inner) else {
                continue;
            };
            let asked = timeout(ASK, client.join(request.clone())).await;
            let Ok(Ok(answer)) = asked else { continue };
            match answer.into_inner().result {
                Some(JoinResult::Leader(leader)) => {
                    if let Ok(mut client) = inner.peers.stranger(&leader.address) {
                        let _ = timeout(ASK, client.join(request)).await;
                    }
                    break;
                }
                Some(JoinResult::Refused(why)) => {
                    inner.fail(StartError::Refused(why));
                    return;
                }
                Some(JoinResult::Accepted(_) | JoinResult::NotNow(_)) => break,
                None => {}
            }
        }
        sleep(Duration::from_secs(1)).await;
    }
}

/// Tells everybody where this node is to be found: its address may have changed, and they may take
/// a while to give up the old one.
async fn announce(inner: &Arc<Inner>) {
    let inner = Arc::downgrade(inner);
    tokio::spawn(async move {
        for pause in [0, 1, 4, 15] {
            sleep(Duration::from_secs(pause)).await;
            let Some(inner) = inner.upgrade() else { return };
            let _ = say_hello(&inner).await;
        }
    });
}

/// Connects to new members, forgets former ones.
async fn follow_members(inner: &Arc<Inner>) {
    let mut absent: HashMap<u64, Instant> = HashMap::new();
    loop {
        sleep(LOOK).await;
        if let Err(error) = inner.know_members() {
            tracing::warn!(%error, "a member cannot be reached");
        }
        let members = inner.member_nodes();
        if inner.standing() != Standing::Member || members.len() <= 1 && !is_alone(&inner.config) {
            continue;
        }
        let known = inner.peers.addresses();
        absent.retain(|node, _| known.contains_key(node) && !members.contains_key(node));
        for node in known.into_keys().filter(|node| !members.contains_key(node)) {
            let since = *absent.entry(node).or_insert_with(Instant::now);
            if since.elapsed() >= FORGET {
                tracing::info!(peer = node, "no member any more");
                inner.peers.remove_peer(node);
            }
        }
    }
}

/// The services of this module.
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
        let answer = match change.apply(&group).await {
            Ok(()) => v1::ChangeGroupAnswer::default(),
            Err(AdminError::NotLeader { leader }) => v1::ChangeGroupAnswer {
                refused: "not the leader".to_owned(),
                not_leader: true,
                leader: leader.map_or(0, |leader| leader.0),
            },
            Err(error) => v1::ChangeGroupAnswer {
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
    // The disk has to know before the founder counts on this node's vote; its groups start in
    // `enter_cluster`.
    inner
        .enter(request.cluster, request.shards, 0, Standing::Member)
        .await
        .map_err(|error| error.to_string())?;
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
    if them.node == 0 || them.node > RaftNode::MAX_NODE || them.address.is_empty() {
        return JoinResult::Refused("no usable node id or address".to_owned());
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
            generations
                .iter()
                .max()
                .map_or(0, |last| last.saturating_add(1))
        }
    };
    JoinResult::Accepted(v1::JoinAccepted {
        cluster,
        shards: identity.shards,
        generation,
        members: wire_members(&inner.member_nodes()),
    })
}

/// Starts to make `member` a voter of all groups, unless that is under way.
fn admit_everywhere(inner: &Arc<Inner>, member: RaftNode, address: String) {
    if inner
        .admissions
        .0
        .lock()
        .insert(member.node(), member)
        .is_some()
    {
        return;
    }
    if let Err(error) = inner.peers.set_peer(member.node(), &address) {
        tracing::warn!(%error, "a joining node has an unusable address");
    }
    let inner = Arc::clone(inner);
    tokio::spawn(async move {
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
                async move { (group, change_group(inner, group, change).await) }
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
        inner.admissions.0.lock().remove(&member.node());
    });
}

/// Removes a node from all groups, the catalog last.
pub(crate) async fn remove(inner: &Arc<Inner>, node: u64) -> Result<(), AdminError> {
    if !inner.member_nodes().contains_key(&node) {
        return Err(AdminError::Refused(format!("node {node} is no member")));
    }
    let mut groups: Vec<GroupId> = inner
        .inbound
        .groups()
        .iter()
        .map(|group| group.id())
        .collect();
    groups.sort_by_key(|group| *group == GroupId::CATALOG);
    for group in groups {
        change_group(inner, group, &GroupChange::Remove(node)).await?;
    }
    Ok(())
}

#[derive(Debug, Clone)]
enum GroupChange {
    Admit(RaftNode, String),
    Remove(u64),
}

impl GroupChange {
    async fn apply(&self, group: &GroupCore) -> Result<(), AdminError> {
        match self {
            Self::Admit(member, address) => group.admit(*member, address, ADMIT).await,
            Self::Remove(node) => group.remove(*node, REMOVE).await,
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
            Some(leader) if leader == group.me() => change.apply(&group).await,
            Some(leader) => change_at(inner, leader, id, change).await,
            None => Err(AdminError::NotLeader { leader: None }),
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
    if answer.refused.is_empty() {
        return Ok(());
    }
    Err(AdminError::Refused(answer.refused))
}
