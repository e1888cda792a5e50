//! Whom the other nodes hear, as they say when they are asked. A node whose disk is not well says: nobody.

use crate::broker::Broker;
use broker_model::ids::NodeId;
use futures::future::join_all;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::timeout;

/// How long a node may take to answer.
const ANSWER: Duration = Duration::from_secs(1);

/// Whom one node hears; `None`: it did not say in time.
pub(super) async fn of(broker: &Broker, node: NodeId) -> Option<BTreeSet<NodeId>> {
    timeout(ANSWER, broker.queries.hears(node)).await.ok()?
}

/// Whom these nodes hear, of those that say so.
pub(super) async fn of_all(
    broker: &Broker,
    nodes: impl Iterator<Item = NodeId>,
) -> Vec<(NodeId, BTreeSet<NodeId>)> {
    let asked = nodes.map(|node| async move { Some((node, of(broker, node).await?)) });
    join_all(asked).await.into_iter().flatten().collect()
}

/// Those of these nodes whose disks sync their log within `limit`, by what they say. One that says nothing is taken for one
/// of an earlier version, which cannot say.
pub(super) async fn swift(
    broker: &Broker,
    nodes: impl Iterator<Item = NodeId>,
    limit: Duration,
) -> BTreeSet<NodeId> {
    let asked = nodes.map(|node| async move {
        let time = timeout(ANSWER, broker.queries.sync_time(node)).await;
        let time = time.ok().flatten();
        time.is_none_or(|time| time <= limit).then_some(node)
    });
    join_all(asked).await.into_iter().flatten().collect()
}

/// The members of the cluster as this node knows them, itself included.
pub(super) fn members(broker: &Broker) -> BTreeSet<NodeId> {
    let members = broker.consensus.members();
    members.keys().map(|node| NodeId(*node)).collect()
}

/// Whether this node believes to lead anything.
pub(super) fn leads_any(broker: &Broker) -> bool {
    let groups = broker.consensus.groups();
    let mut led = groups
        .iter()
        .map(|group| (group.leadership().borrow().leader, group.me()));
    led.any(|(leader, me)| leader == Some(me))
}

/// The other nodes that answer, hear this one, and are well.
pub(super) async fn well_others(broker: &Broker) -> BTreeSet<NodeId> {
    let me = broker.origin.node;
    let members = members(broker).into_iter();
    let others = members.filter(|node| *node != me);
    let answers = of_all(broker, others).await.into_iter();
    let well = answers.filter(|(_, hears)| hears.contains(&me));
    well.map(|(node, _)| node).collect()
}
