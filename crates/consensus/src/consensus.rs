//! All groups of a node, its peers, and the life of the cluster.

use crate::config::ConsensusConfig;
use crate::error::{AdminError, StartError};
use crate::group::Group;
use crate::machine::{Machine, MachineError};
use crate::net::PeerNet;
use crate::types::GroupId;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Makes (or restores from the state store) the machine of a group. Called on a blocking thread,
/// once per group, when the number of groups is known.
pub type MachineFactory =
    Box<dyn Fn(GroupId) -> Result<Arc<dyn Machine>, MachineError> + Send + Sync>;

/// Called once when a group's core has failed; the process has to end (a supervisor restarts it).
pub type AbortHook = Arc<dyn Fn(GroupId, &str) + Send + Sync>;

/// Further services for the cluster port. Requests reach them authenticated, see
/// [`Caller`](crate::Caller).
pub type ServiceFactory = Box<dyn FnOnce(&PeerNet) -> tonic::service::Routes + Send>;

/// What [`Consensus::start`] is given besides the configuration.
pub struct Parts {
    /// The node's log store, opened.
    pub log: Arc<dyn storage::LogBackend>,
    /// Brings the state machines.
    pub machines: MachineFactory,
    /// Brings the node's own services.
    pub services: Option<ServiceFactory>,
    /// Ends the process.
    pub abort: AbortHook,
}

/// Who this node is, from its data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The node.
    pub node: u64,
    /// Counts the disks this node has had.
    pub generation: u64,
    /// Grows with every start of the process, also across disks as far as clocks allow
    /// (milliseconds since the epoch, made monotone on disk).
    pub incarnation: u64,
    /// The cluster, once it is formed or joined.
    pub cluster: Option<u64>,
    /// Groups besides the catalog, fixed when the cluster was formed.
    pub shards: u32,
}

/// All groups of a node; clones share them.
#[derive(Clone)]
pub struct Consensus {}

impl Consensus {
    /// Listens for peers and starts what the disk knows. A node without a cluster founds, joins or
    /// rejoins one in the background: wait for [`formed`](Self::formed).
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(_config: ConsensusConfig, _parts: Parts) -> Result<Self, StartError> {
        todo!()
    }

    /// Waits until the cluster is known and all groups run here (they may not have leaders yet).
    /// Returns at once after a restart.
    ///
    /// # Errors
    /// When the cluster refuses this node, or a group cannot start.
    pub async fn formed(&self) -> Result<(), StartError> {
        todo!()
    }

    /// Who this node is.
    #[must_use]
    pub fn identity(&self) -> Identity {
        todo!()
    }

    /// A group by id, once formed.
    #[must_use]
    pub fn group(&self, _id: GroupId) -> Option<Group> {
        todo!()
    }

    /// All groups, the catalog first, once formed.
    #[must_use]
    pub fn groups(&self) -> Vec<Group> {
        todo!()
    }

    /// The other nodes and the connections to them.
    #[must_use]
    pub fn peers(&self) -> &PeerNet {
        todo!()
    }

    /// Nodes that are members of the catalog group, with their addresses.
    #[must_use]
    pub fn members(&self) -> BTreeMap<u64, String> {
        todo!()
    }

    /// Removes a node from all groups, whether it is up or not. Any member can be asked.
    ///
    /// # Errors
    /// See [`AdminError`].
    pub async fn remove_node(&self, _node: u64, _timeout: Duration) -> Result<(), AdminError> {
        todo!()
    }

    /// Hands away every leadership that this node holds, to live members, as far as possible in
    /// `timeout`.
    pub async fn hand_over(&self, _timeout: Duration) {
        todo!()
    }

    /// Stops all groups and the listener.
    pub async fn shutdown(&self) {
        todo!()
    }
}
