//! The node before it has started: nothing is known, everything is refused.

use crate::backend::{Answer, Backend, Got, Numbers, Publish, Refusal, Then};
use node::auth_attempts::AttemptsReport;
use node::broker_model::catalog::{
    Catalog, CatalogAnswer, CatalogCommand, Name, PasswordHash, QueueRecord,
};
use node::broker_model::ids::{NodeId, Placement, QueueId};
use node::broker_model::wire::StoredMessage;
use node::host::QueueReport;
use node::queries::{ConnectionReport, ExchangeReport, NodeReport, VhostReport};
use node::shovels::ShovelReport;
use node::{Alarms, Config, Identity, Readiness};
use std::collections::BTreeSet;
use std::future::ready;
use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

/// Stands in until [`crate::Management::open`].
pub(crate) struct Closed;

static CONFIG: LazyLock<Config> = LazyLock::new(Config::default);

fn refused<'a, T: Send + 'a>() -> Answer<'a, Result<T, Refusal>> {
    Box::pin(ready(Err(Refusal::Unavailable(
        "the node is not ready yet".into(),
    ))))
}

impl Backend for Closed {
    fn config(&self) -> &Config {
        &CONFIG
    }

    fn look(&self, _read: &mut dyn FnMut(&Catalog)) {}

    fn change(&self, _command: CatalogCommand) -> Answer<'_, Result<CatalogAnswer, Refusal>> {
        refused()
    }

    fn sync(&self) -> Answer<'_, bool> {
        Box::pin(ready(false))
    }

    fn authenticate(
        &self,
        _user: String,
        _password: Vec<u8>,
        _from: IpAddr,
    ) -> Answer<'_, Option<Identity>> {
        Box::pin(ready(None))
    }

    fn hash_password(&self, _password: String) -> Answer<'_, PasswordHash> {
        Box::pin(ready(PasswordHash::disabled()))
    }

    fn place_queue(&self, _replicated: bool) -> Placement {
        Placement::Host(CONFIG.node_id)
    }

    fn leader_of(&self, _placement: Placement) -> Option<NodeId> {
        None
    }

    fn is_alive(&self, _node: NodeId) -> bool {
        false
    }

    fn alarms(&self) -> Alarms {
        Alarms::default()
    }

    fn readiness(&self) -> Readiness {
        Readiness::Starting
    }

    fn report(&self) -> NodeReport {
        NodeReport::default()
    }

    fn reports(&self) -> Answer<'_, Vec<(NodeId, Option<NodeReport>)>> {
        Box::pin(ready(Vec::new()))
    }

    fn connections(&self) -> Answer<'_, Vec<ConnectionReport>> {
        Box::pin(ready(Vec::new()))
    }

    fn shovels(&self) -> Answer<'_, Vec<ShovelReport>> {
        Box::pin(ready(Vec::new()))
    }

    fn restart_shovel(&self, _vhost: String, _name: String) -> Answer<'_, bool> {
        Box::pin(ready(false))
    }

    fn set_maintenance(&self, _node: NodeId, _on: bool) -> Answer<'_, bool> {
        Box::pin(ready(false))
    }

    fn connections_of(&self, _some: BTreeSet<(u64, u64)>) -> Answer<'_, Vec<ConnectionReport>> {
        Box::pin(ready(Vec::new()))
    }

    fn exchanges(&self) -> Answer<'_, Vec<ExchangeReport>> {
        Box::pin(ready(Vec::new()))
    }

    fn vhosts(&self) -> Answer<'_, Vec<VhostReport>> {
        Box::pin(ready(Vec::new()))
    }

    fn auth_attempts(&self, _node: NodeId) -> Answer<'_, Option<Vec<AttemptsReport>>> {
        Box::pin(ready(None))
    }

    fn reset_auth_attempts(&self, _node: NodeId) -> Answer<'_, bool> {
        Box::pin(ready(false))
    }

    fn own_connections(&self) -> Vec<ConnectionReport> {
        Vec::new()
    }

    fn queue_reports(
        &self,
        _host: NodeId,
        _placement: Placement,
        _queues: Vec<QueueId>,
    ) -> Answer<'_, Vec<QueueReport>> {
        Box::pin(ready(Vec::new()))
    }

    fn close_connection(&self, _node: NodeId, _serial: u64, _reason: String) -> Answer<'_, bool> {
        Box::pin(ready(false))
    }

    fn delete_queue(&self, _: Name, _: Name, _: bool, _: bool) -> Answer<'_, Result<(), Refusal>> {
        refused()
    }

    fn purge(&self, _vhost: Name, _name: Name) -> Answer<'_, Result<u64, Refusal>> {
        refused()
    }

    fn get(&self, _: Name, _: Name, _: u32, _: Then) -> Answer<'_, Result<Vec<Got>, Refusal>> {
        refused()
    }

    fn delayed(
        &self,
        _store: Arc<QueueRecord>,
        _count: u32,
    ) -> Answer<'_, Result<Vec<StoredMessage>, Refusal>> {
        refused()
    }

    fn publish(&self, _publish: Publish) -> Answer<'_, Result<bool, Refusal>> {
        refused()
    }

    fn numbers(&self) -> Answer<'_, Numbers> {
        Box::pin(ready(Numbers::default()))
    }

    fn rebalance(&self) -> Answer<'_, ()> {
        Box::pin(ready(()))
    }

    fn is_member(&self, _node: NodeId) -> bool {
        false
    }

    fn forget_node(&self, _node: NodeId) -> Answer<'_, Result<(), Refusal>> {
        refused()
    }
}
