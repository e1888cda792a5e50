//! Finds and reaches the leader of a shard, and the hosts of local queues.

use super::link_client;
use crate::catalog::machine::CatalogMachine;
use crate::host::{HostDirectory, HostInput};
use crate::hub::attachment::{Attachment, HostSender};
use crate::hub::connector::{ConnectError, Connector, HostStarts};
use broker_model::ids::{NodeId, Origin, Placement};
use consensus::{Connectivity, Group, Leadership, PeerNet};
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tracing::debug;

/// How long one attempt may take before the link tries anew.
const ATTEMPT: Duration = Duration::from_secs(1);
/// Pause after a refusal or failure, unless the leader changes meanwhile.
const PAUSE: Duration = Duration::from_millis(25);
/// How long a leader may take to say that it is one.
const SURE_WITHIN: Duration = Duration::from_secs(2);

/// What all connectors of a node share.
#[derive(Clone)]
pub struct Reach {
    /// This node and its start.
    pub origin: Origin,
    /// Hosts in this process.
    pub hosts: Arc<HostDirectory>,
    /// Connections to other nodes.
    pub peers: PeerNet,
    /// The catalog here.
    pub catalog: Arc<CatalogMachine>,
    /// Which starts of nodes links to local queues may attach to.
    pub starts: Arc<HostStarts>,
}

impl Reach {
    fn attach_here(&self, placement: Placement) -> Option<Attachment> {
        let inbox = self.hosts.inbox(placement)?;
        let attachment = self.hosts.next_attachment();
        let (replies, receiver) = mpsc::unbounded_channel();
        inbox
            .send(HostInput::Attach {
                attachment,
                origin: self.origin,
                replies,
            })
            .ok()?;
        Some(Attachment {
            sender: HostSender::Local { attachment, inbox },
            receiver,
        })
    }

    async fn attach(&self, node: NodeId, placement: Placement) -> Result<Attachment, ConnectError> {
        let unreachable = |reason: String| ConnectError::Unreachable { node, reason };
        if node == self.origin.node {
            return self
                .attach_here(placement)
                .ok_or_else(|| unreachable("not hosted here".into()));
        }
        let channel = self
            .peers
            .channel(node.0)
            .ok_or_else(|| unreachable("not a member of the cluster".into()))?;
        let (shard, start) = match placement {
            Placement::Shard(shard) => (shard.0, 0),
            Placement::Host(node) => {
                let latest = || self.catalog.read().latest_start(node);
                (0, self.starts.get(node, latest))
            }
        };
        link_client::attach(channel, shard, start, self.origin, ATTEMPT)
            .await
            .map_err(|status| unreachable(status.message().to_owned()))
    }
}

/// Follows the leader of a shard.
pub struct ShardConnector {
    reach: Reach,
    placement: Placement,
    /// The shard's group, if it runs here.
    group: Option<Group>,
    leadership: watch::Receiver<Leadership>,
    last: Mutex<Last>,
}

#[derive(Default)]
struct Last {
    /// Node last connected to.
    node: Option<NodeId>,
    /// It said no, or could not be reached.
    refused: bool,
    /// Who leads, as another node says that was asked.
    hint: Option<NodeId>,
    /// Node that was asked last because nobody here knows who leads.
    asked: Option<NodeId>,
}

impl ShardConnector {
    /// A connector to the leader of `group`.
    pub fn new(reach: Reach, placement: Placement, group: Option<Group>) -> Self {
        // A shard that does not run here cannot come from a valid catalog.
        let never = || watch::channel(Leadership::default()).1;
        let leadership = group.as_ref().map_or_else(never, Group::leadership);
        Self {
            reach,
            placement,
            group,
            leadership,
            last: Mutex::new(Last::default()),
        }
    }

    /// The node last connected to is known to lead, or nothing is known here: this node is no member yet.
    fn leads(&self) -> bool {
        let last = self.last.lock().node;
        let known = self.leadership.borrow();
        known.term == 0 || known.leader.map(|leader| NodeId(leader.node())) == last
    }

    async fn try_connect(&self) -> Result<Attachment, ConnectError> {
        let mut leadership = self.leadership.clone();
        leadership.borrow_and_update();
        if std::mem::take(&mut self.last.lock().refused) {
            let _ = tokio::time::timeout(PAUSE, leadership.changed()).await;
        }
        let mine = self.reach.origin.node;
        // Waits for a leader; for this node to be ready, if it is the leader itself.
        let usable = |l: &Leadership| {
            l.leader
                .is_some_and(|leader| leader.node() != mine.0 || l.ready)
        };
        // Whoever has named a leader is believed before that.
        let named = self.last.lock().hint.is_some();
        let patience = if named { PAUSE } else { ATTEMPT };
        let found = tokio::time::timeout(patience, async {
            leadership
                .wait_for(usable)
                .await
                .map(|found| found.leader)
                .unwrap_or_default()
        });
        let found = match found.await {
            Ok(None) => {
                // The group has stopped; the node is about to end.
                tokio::time::sleep(ATTEMPT).await;
                None
            }
            found => found.ok().flatten(),
        };
        let node = match found {
            Some(leader) => NodeId(leader.node()),
            // A member hears of the next leader as soon as there is one.
            None if leadership.borrow().term > 0 => {
                // It was not so: no more haste.
                self.last.lock().hint = None;
                return Err(ConnectError::NoLeader);
            }
            None => self.ask_around().ok_or(ConnectError::NoLeader)?,
        };
        // A leader that is dead or cut off answers late or never; the next one is not to wait for it.
        let result = tokio::select! {
            biased;
            result = self.reach.attach(node, self.placement) => result,
            () = other_leader(&mut leadership, node) => return Err(ConnectError::NoLeader),
        };
        let mut last = self.last.lock();
        last.node = Some(node);
        last.refused = result.is_err();
        result
    }

    /// Whom to ask where nobody here has ever heard of a leader: a node that has just joined is no member of the shard
    /// yet. The node that another one has named, or the next that is connected.
    fn ask_around(&self) -> Option<NodeId> {
        let connectivity = self.reach.peers.connectivity();
        let connected: BTreeSet<NodeId> = connectivity
            .borrow()
            .iter()
            .filter(|(_, state)| **state == Connectivity::Connected)
            .map(|(node, _)| NodeId(*node))
            .collect();
        let mut last = self.last.lock();
        if let Some(named) = last.hint.take().filter(|named| connected.contains(named)) {
            return Some(named);
        }
        let after = last.asked.map_or(Bound::Unbounded, Bound::Excluded);
        let next = connected.range((after, Bound::Unbounded)).next();
        last.asked = next.or(connected.first()).copied();
        last.asked
    }
}

impl Connector for ShardConnector {
    fn connect(&self) -> BoxFuture<'_, Result<Attachment, ConnectError>> {
        self.try_connect().boxed()
    }

    fn moved(&self) -> BoxFuture<'_, ()> {
        let Some(node) = self.last.lock().node else {
            return std::future::pending().boxed();
        };
        let mut leadership = self.leadership.clone();
        async move { other_leader(&mut leadership, node).await }.boxed()
    }

    fn is_sure(&self) -> bool {
        let here = self.last.lock().node == Some(self.reach.origin.node);
        let known = self.leadership.borrow().term > 0;
        // The host here sees to that itself.
        here || !known || self.leads() && self.group.as_ref().is_none_or(Group::is_in_contact)
    }

    fn make_sure(&self) -> BoxFuture<'_, bool> {
        async {
            if let Some(group) = &self.group
                && let Err(error) = group.renew_contact(SURE_WITHIN).await
            {
                debug!(placement = ?self.placement, %error, "nobody says who leads");
                return false;
            }
            self.leads()
        }
        .boxed()
    }

    fn not_leader(&self, leader: Option<NodeId>) {
        // The local replica hears of the new leader by itself, if it is one.
        let mut last = self.last.lock();
        last.refused = true;
        last.hint = leader;
    }
}

/// Waits until another node than `node` is known to lead; for ever once the group has stopped.
async fn other_leader(leadership: &mut watch::Receiver<Leadership>, node: NodeId) {
    let other = |l: &Leadership| l.leader.is_some_and(|leader| leader.node() != node.0);
    if leadership.wait_for(other).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Reaches the local queues of one node.
pub struct HostConnector {
    reach: Reach,
    node: NodeId,
    refused: Mutex<bool>,
}

impl HostConnector {
    /// A connector to the local queues of `node`.
    pub fn new(reach: Reach, node: NodeId) -> Self {
        Self {
            reach,
            node,
            refused: Mutex::new(false),
        }
    }
}

impl Connector for HostConnector {
    fn connect(&self) -> BoxFuture<'_, Result<Attachment, ConnectError>> {
        async move {
            let refused = std::mem::take(&mut *self.refused.lock());
            if refused {
                tokio::time::sleep(PAUSE).await;
            }
            let result = self
                .reach
                .attach(self.node, Placement::Host(self.node))
                .await;
            *self.refused.lock() = result.is_err();
            result
        }
        .boxed()
    }

    fn moved(&self) -> BoxFuture<'_, ()> {
        std::future::pending().boxed()
    }

    fn not_leader(&self, _leader: Option<NodeId>) {
        *self.refused.lock() = true;
    }
}
