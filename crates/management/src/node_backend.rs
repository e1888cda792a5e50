//! The real [`Backend`]: a node of this process.

use crate::backend::{Answer, Backend, Got, Numbers, Publish, Refusal, Served, Then};
use bytes::Bytes;
use node::auth::{Login, hash_password};
use node::auth_attempts::{AttemptsReport, Door};
use node::broker_model::catalog::{
    Catalog, CatalogAnswer, CatalogCommand, Name, NodeState, PasswordHash, QueueRecord,
};
use node::broker_model::ids::{NodeId, Placement, QueueId};
use node::broker_model::message::Message;
use node::broker_model::wire::StoredMessage;
use node::catalog::writer::WriteError;
use node::host::QueueReport;
use node::queries::{ConnectionReport, ExchangeReport, NodeQueries, NodeReport, VhostReport};
use node::session::operator::{self, Fate};
use node::shovels::ShovelReport;
use node::{Alarms, Broker, Config, Identity, Node, Readiness};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use tracing::warn;

/// A node, as operators see it.
pub struct NodeBackend {
    broker: Arc<Broker>,
    queries: Arc<NodeQueries>,
}

impl NodeBackend {
    /// Of a node that has started.
    #[must_use]
    pub fn new(node: &Node) -> Self {
        Self {
            broker: Arc::clone(node.broker()),
            queries: Arc::clone(node.queries()),
        }
    }
}

fn written(error: WriteError) -> Refusal {
    match error {
        WriteError::Refused(error) => Refusal::Catalog(error),
        WriteError::Timeout | WriteError::Stopping => Refusal::Unavailable(error.to_string()),
    }
}

/// What AMQP would tell a client.
macro_rules! refused {
    () => {
        |error| Refusal::Queue {
            code: error.code,
            text: error.text,
        }
    };
}

impl Backend for NodeBackend {
    fn config(&self) -> &Config {
        self.broker.config()
    }

    fn look(&self, read: &mut dyn FnMut(&Catalog)) {
        read(&self.broker.catalog());
    }

    fn change(&self, command: CatalogCommand) -> Answer<'_, Result<CatalogAnswer, Refusal>> {
        Box::pin(async move {
            match command {
                CatalogCommand::Bind(binding) => operator::bind(&*self.broker, binding)
                    .await
                    .map(|created| CatalogAnswer::Done { created }),
                command => self.broker.catalog_write(command).await,
            }
            .map_err(written)
        })
    }

    fn sync(&self) -> Answer<'_, bool> {
        Box::pin(self.broker.catalog_sync())
    }

    fn authenticate(
        &self,
        user: String,
        password: Vec<u8>,
        from: IpAddr,
    ) -> Answer<'_, Option<Identity>> {
        let login = Login {
            user,
            password: Some(password),
            address: from,
            door: Door::Http,
        };
        Box::pin(async move {
            let name = login.user.clone();
            let result = self.broker.authenticate(login).await;
            result
                .inspect_err(
                    |error| warn!(user = name, %error, "login to the management API refused"),
                )
                .ok()
        })
    }

    fn hash_password(&self, password: String) -> Answer<'_, PasswordHash> {
        Box::pin(async move {
            let hashed = tokio::task::spawn_blocking(move || hash_password(&password)).await;
            hashed.unwrap_or_else(|_| PasswordHash::disabled())
        })
    }

    fn place_queue(&self, replicated: bool) -> Placement {
        self.broker.place_queue(replicated)
    }

    fn leader_of(&self, placement: Placement) -> Option<NodeId> {
        self.broker.leader_of(placement)
    }

    fn is_alive(&self, node: NodeId) -> bool {
        self.broker.is_alive(node)
    }

    fn alarms(&self) -> Alarms {
        *self.broker.alarms().borrow()
    }

    fn readiness(&self) -> Readiness {
        *self.broker.ready().borrow()
    }

    fn report(&self) -> NodeReport {
        (self.queries.report)()
    }

    fn reports(&self) -> Answer<'_, Vec<(NodeId, Option<NodeReport>)>> {
        Box::pin(self.queries.nodes())
    }

    fn connections(&self) -> Answer<'_, Vec<ConnectionReport>> {
        Box::pin(self.queries.connections())
    }

    fn shovels(&self) -> Answer<'_, Vec<ShovelReport>> {
        Box::pin(self.queries.shovels())
    }

    fn restart_shovel(&self, vhost: String, name: String) -> Answer<'_, bool> {
        Box::pin(async move { self.queries.restart_shovel(&vhost, &name).await })
    }

    fn set_maintenance(&self, node: NodeId, on: bool) -> Answer<'_, bool> {
        Box::pin(async move { self.queries.set_maintenance(node, on).await.is_some() })
    }

    fn connections_of(&self, some: BTreeSet<(u64, u64)>) -> Answer<'_, Vec<ConnectionReport>> {
        Box::pin(async move { self.queries.connections_of(&some).await })
    }

    fn exchanges(&self) -> Answer<'_, Vec<ExchangeReport>> {
        Box::pin(self.queries.exchanges())
    }

    fn vhosts(&self) -> Answer<'_, Vec<VhostReport>> {
        Box::pin(self.queries.vhosts())
    }

    fn own_connections(&self) -> Vec<ConnectionReport> {
        self.queries.connections_here()
    }

    fn queue_reports(
        &self,
        host: NodeId,
        placement: Placement,
        queues: Vec<QueueId>,
    ) -> Answer<'_, Vec<QueueReport>> {
        Box::pin(async move { self.queries.queues(host, placement, &queues).await })
    }

    fn auth_attempts(&self, node: NodeId) -> Answer<'_, Option<Vec<AttemptsReport>>> {
        Box::pin(self.queries.auth_attempts(node))
    }

    fn reset_auth_attempts(&self, node: NodeId) -> Answer<'_, bool> {
        Box::pin(self.queries.reset_auth_attempts(node))
    }

    fn close_connection(&self, node: NodeId, serial: u64, reason: String) -> Answer<'_, bool> {
        Box::pin(async move { self.queries.close_connection(node, serial, &reason).await })
    }

    fn delete_queue(
        &self,
        vhost: Name,
        name: Name,
        if_unused: bool,
        if_empty: bool,
    ) -> Answer<'_, Result<(), Refusal>> {
        Box::pin(async move {
            operator::delete(&*self.broker, &vhost, &name, if_unused, if_empty)
                .await
                .map_err(refused!())
        })
    }

    fn purge(&self, vhost: Name, name: Name) -> Answer<'_, Result<u64, Refusal>> {
        Box::pin(async move {
            operator::purge(&*self.broker, &vhost, &name)
                .await
                .map_err(refused!())
        })
    }

    fn get(
        &self,
        vhost: Name,
        name: Name,
        count: u32,
        then: Then,
    ) -> Answer<'_, Result<Vec<Got>, Refusal>> {
        let fate = match then {
            Then::Requeue => Fate::Return { counted: false },
            Then::RejectRequeue => Fate::Return { counted: true },
            Then::Ack => Fate::Settle,
            Then::Reject => Fate::Reject,
        };
        Box::pin(async move {
            let taken = operator::take(&*self.broker, &vhost, &name, count, fate)
                .await
                .map_err(refused!())?;
            let got = taken.into_iter().map(|taken| Got {
                redelivered: taken.delivery.redelivered,
                message: taken.delivery.message,
                remaining: taken.left,
            });
            Ok(got.collect())
        })
    }

    fn delayed(
        &self,
        store: Arc<QueueRecord>,
        count: u32,
    ) -> Answer<'_, Result<Vec<StoredMessage>, Refusal>> {
        Box::pin(async move {
            operator::delayed(&*self.broker, &store, count)
                .await
                .map_err(refused!())
        })
    }

    fn publish(&self, publish: Publish) -> Answer<'_, Result<bool, Refusal>> {
        let bytes = |name: &Name| Bytes::copy_from_slice(name.as_bytes());
        let message = Message {
            exchange: bytes(&publish.exchange),
            routing_key: bytes(&publish.routing_key),
            properties: publish.properties,
            body: publish.body,
        };
        Box::pin(async move {
            operator::publish(&*self.broker, &publish.user, &publish.vhost, message)
                .await
                .map_err(refused!())
        })
    }

    fn numbers(&self) -> Answer<'_, Numbers> {
        Box::pin(async move {
            let metrics = self.broker.metrics();
            let count = |gauge: i64| u64::try_from(gauge).unwrap_or_default();
            let measured = self.broker.measured();
            Numbers {
                counts: metrics.counts.values(),
                connections: count(metrics.connections.value()),
                channels: count(metrics.channels.value()),
                consumers: count(metrics.consumers.value()),
                publishers: self.queries.registry.publishers(),
                served: self.served().await,
                histograms: measured.histograms,
                gauges: measured.gauges,
            }
        })
    }

    fn rebalance(&self) -> Answer<'_, ()> {
        // Every leader looks at its leaderships every few seconds and moves them by itself.
        Box::pin(std::future::ready(()))
    }

    fn is_member(&self, node: NodeId) -> bool {
        self.broker.consensus().is_known(node.0)
    }

    fn forget_node(&self, node: NodeId) -> Answer<'_, Result<(), Refusal>> {
        Box::pin(async move {
            let leaving = CatalogCommand::SetNodeState {
                node,
                state: NodeState::Leaving,
            };
            // One that joins, or came back while it was removed, may be a member without a record.
            let recorded = self.broker.catalog().node(node).is_some();
            if recorded || !self.is_member(node) {
                self.change(leaving).await?;
            }
            let broker = Arc::clone(&self.broker);
            // Moving replicas takes its time; `status` shows how far it is.
            tokio::spawn(async move {
                if let Err(error) = broker.remove_node(node).await {
                    tracing::warn!(%node, %error, "node not removed");
                }
            });
            Ok(())
        })
    }
}

impl NodeBackend {
    /// Sums over the queues that this node leads or hosts.
    async fn served(&self) -> Served {
        let me = self.broker.origin().node;
        let shards = (1..=self.broker.catalog().shards())
            .map(|shard| Placement::Shard(node::broker_model::ids::ShardId(shard)));
        let placements = shards
            .chain([Placement::Host(me)])
            .filter(|placement| self.leader_of(*placement) == Some(me));
        let asked = placements.map(|placement| self.queries.queues(me, placement, &[]));
        let mut served = Served::default();
        for report in futures::future::join_all(asked).await.into_iter().flatten() {
            served.queues += 1;
            served.ready += report.ready;
            served.unacked += report.unacked;
            served.messages += report.messages();
            served.consumers += report.consumers.len() as u64;
        }
        served
    }
}
