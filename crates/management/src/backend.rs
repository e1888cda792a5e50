//! What the HTTP interface needs of a node.
//!
//! A trait, so that the handlers are tested without a cluster. [`crate::node_backend`] is the real
//! one.

use bytes::Bytes;
use node::amqp_codec::ReplyCode;
use node::auth_attempts::AttemptsReport;
use node::broker_model::catalog::{
    Catalog, CatalogAnswer, CatalogCommand, CatalogError, Name, PasswordHash, QueueRecord,
};
use node::broker_model::ids::{NodeId, Placement, QueueId};
use node::broker_model::message::Message;
use node::broker_model::wire::StoredMessage;
use node::host::QueueReport;
use node::measured::Distribution;
use node::queries::{ConnectionReport, ExchangeReport, NodeReport, VhostReport};
use node::shovels::ShovelReport;
use node::{Alarms, Config, Identity, Readiness};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

/// What an asynchronous question returns.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A node, as operators see it.
pub trait Backend: Send + Sync + 'static {
    /// Its configuration.
    fn config(&self) -> &Config;

    /// Lets `read` look at the catalog as applied here.
    fn look(&self, read: &mut dyn FnMut(&Catalog));

    /// Changes the catalog; done when committed and visible on every live node.
    fn change(&self, command: CatalogCommand) -> Answer<'_, Result<CatalogAnswer, Refusal>>;

    /// Brings the catalog here up to date with everything acknowledged on any node; false if no majority answers.
    fn sync(&self) -> Answer<'_, bool>;

    /// The user, if the login is right; an empty name if only a token counts.
    fn authenticate(
        &self,
        user: String,
        password: Vec<u8>,
        from: IpAddr,
    ) -> Answer<'_, Option<Identity>>;

    /// Hashes a new password, slowly.
    fn hash_password(&self, password: String) -> Answer<'_, PasswordHash>;

    /// Where a queue that is about to be declared would live.
    fn place_queue(&self, replicated: bool) -> Placement;

    /// The node that serves a placement now, if known.
    fn leader_of(&self, placement: Placement) -> Option<NodeId>;

    /// Whether a node takes part right now.
    fn is_alive(&self, node: NodeId) -> bool;

    /// Alarms of all nodes.
    fn alarms(&self) -> Alarms;

    /// Whether this node can do what clients want of it.
    fn readiness(&self) -> Readiness;

    /// What this node says about itself.
    fn report(&self) -> NodeReport;

    /// What every node says about itself; `None` for those that do not answer.
    fn reports(&self) -> Answer<'_, Vec<(NodeId, Option<NodeReport>)>>;

    /// Connections of all nodes that answer.
    fn connections(&self) -> Answer<'_, Vec<ConnectionReport>>;

    /// Those of some connections, named by node and serial, whose nodes answer.
    fn connections_of(&self, some: BTreeSet<(u64, u64)>) -> Answer<'_, Vec<ConnectionReport>>;

    /// Connections of this node.
    fn own_connections(&self) -> Vec<ConnectionReport>;

    /// What went through exchanges on all nodes that answer.
    fn exchanges(&self) -> Answer<'_, Vec<ExchangeReport>>;

    /// What has happened in virtual hosts on all nodes that answer.
    fn vhosts(&self) -> Answer<'_, Vec<VhostReport>>;

    /// Counts of queues at the host that serves them; all of that placement if `queues` is empty.
    fn queue_reports(
        &self,
        host: NodeId,
        placement: Placement,
        queues: Vec<QueueId>,
    ) -> Answer<'_, Vec<QueueReport>>;

    /// Logins of a node; `None` if it does not answer.
    fn auth_attempts(&self, node: NodeId) -> Answer<'_, Option<Vec<AttemptsReport>>>;

    /// Has a node count its logins anew; false if it does not answer.
    fn reset_auth_attempts(&self, node: NodeId) -> Answer<'_, bool>;

    /// Closes a connection wherever it is.
    fn close_connection(&self, node: NodeId, serial: u64, reason: String) -> Answer<'_, bool>;

    /// Shovels of all nodes that answer.
    fn shovels(&self) -> Answer<'_, Vec<ShovelReport>>;

    /// Runs a shovel anew; false if it does not run anywhere.
    fn restart_shovel(&self, vhost: String, name: String) -> Answer<'_, bool>;

    /// Begins or ends maintenance of a node; false if it does not answer.
    fn set_maintenance(&self, node: NodeId, on: bool) -> Answer<'_, bool>;

    /// Deletes a queue under conditions.
    fn delete_queue(
        &self,
        vhost: Name,
        name: Name,
        if_unused: bool,
        if_empty: bool,
    ) -> Answer<'_, Result<(), Refusal>>;

    /// Removes the ready messages of a queue.
    fn purge(&self, vhost: Name, name: Name) -> Answer<'_, Result<u64, Refusal>>;

    /// Takes messages off a queue, and does with them what `then` says.
    fn get(
        &self,
        vhost: Name,
        name: Name,
        count: u32,
        then: Then,
    ) -> Answer<'_, Result<Vec<Got>, Refusal>>;

    /// Copies of the last messages that wait in the store of an exchange, what is due first first.
    fn delayed(
        &self,
        store: Arc<QueueRecord>,
        count: u32,
    ) -> Answer<'_, Result<Vec<StoredMessage>, Refusal>>;

    /// Publishes; tells whether a queue took the message.
    fn publish(&self, publish: Publish) -> Answer<'_, Result<bool, Refusal>>;

    /// Numbers of this node for `/metrics`.
    fn numbers(&self) -> Answer<'_, Numbers>;

    /// Spreads leaderships, now.
    fn rebalance(&self) -> Answer<'_, ()>;

    /// Whether a node belongs to the cluster. One that joins may have no record in the catalog yet.
    fn is_member(&self, node: NodeId) -> bool;

    /// Begins to remove a node for good.
    fn forget_node(&self, node: NodeId) -> Answer<'_, Result<(), Refusal>>;
}

/// Reads something from the catalog.
pub(crate) fn read<T>(backend: &dyn Backend, read: impl FnOnce(&Catalog) -> T) -> Option<T> {
    let mut read = Some(read);
    let mut result = None;
    backend.look(&mut |catalog| result = read.take().map(|read| read(catalog)));
    result
}

/// What becomes of messages that an operator took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// They go back, as if nobody had seen them but for the redelivered flag.
    Requeue,
    /// They go back as a failed delivery.
    RejectRequeue,
    /// They are gone.
    Ack,
    /// They are dead-lettered, or gone.
    Reject,
}

/// A message that an operator took.
#[derive(Debug, Clone)]
pub struct Got {
    /// The message.
    pub message: Message,
    /// Handed out before.
    pub redelivered: bool,
    /// Ready messages left behind it.
    pub remaining: u64,
}

/// A message that an operator publishes.
#[derive(Debug, Clone)]
pub struct Publish {
    /// Who.
    pub user: Identity,
    /// Vhost.
    pub vhost: Name,
    /// Exchange; empty for the default one.
    pub exchange: Name,
    /// Routing key.
    pub routing_key: Name,
    /// Encoded properties.
    pub properties: Bytes,
    /// Body.
    pub body: Bytes,
}

/// What a node counts and measures.
#[derive(Debug, Clone, Default)]
pub struct Numbers {
    /// Names and values of counters, as in [`NodeReport::counts`].
    pub counts: Vec<(&'static str, u64)>,
    /// Open client connections here.
    pub connections: u64,
    /// Open channels here.
    pub channels: u64,
    /// Consumers of clients of this node.
    pub consumers: u64,
    /// Channels of clients of this node on which anything was published.
    pub publishers: u64,
    /// Ready and unacknowledged messages, and consumers, of the queues that this node serves.
    pub served: Served,
    /// Measured durations and sizes.
    pub histograms: Vec<Distribution>,
    /// Named values of the store and its files: name without prefix, help, value.
    pub gauges: Vec<(&'static str, &'static str, f64)>,
}

/// Sums over the queues that a node serves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Served {
    /// Queues.
    pub queues: u64,
    /// Ready messages.
    pub ready: u64,
    /// Unacknowledged messages.
    pub unacked: u64,
    /// All of them, with those that wait before they are handed out again.
    pub messages: u64,
    /// Consumers.
    pub consumers: u64,
}

/// Why something was not done.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Refusal {
    /// Refused by the catalog.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// Refused by the queue.
    #[error("{text}")]
    Queue {
        /// As AMQP would tell it.
        code: ReplyCode,
        /// Why.
        text: String,
    },
    /// Not done in time: no majority, or no leader.
    #[error("{0}")]
    Unavailable(String),
}

/// Shared by all handlers.
pub(crate) type SharedBackend = Arc<dyn Backend>;
