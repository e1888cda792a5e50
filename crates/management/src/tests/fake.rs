//! A node without a network: a real catalog, and made-up queues and connections.

use crate::backend::{Answer, Backend, Got, Numbers, Publish, Refusal, Served, Then};
use bytes::Bytes;
use node::amqp_codec::{FieldValue, TableBuilder};
use node::auth_attempts::AttemptsReport;
use node::broker_model::catalog::{
    Bootstrap, Catalog, CatalogAnswer, CatalogCommand, CatalogEntry, Name, NodeRecord, NodeState,
    PasswordAlgorithm, PasswordHash, QueueRecord, UserSpec,
};
use node::broker_model::ids::{NodeId, Placement, QueueId, ShardId};
use node::broker_model::message::Message;
use node::broker_model::wire::StoredMessage;
use node::host::{ConsumerReport, QueueReport, TallyReport};
use node::measured::Distribution;
use node::queries::{
    ChannelReport, ConnectionReport, ExchangeReport, GroupReport, ListenerReport, NodeReport,
    VhostReport,
};
use node::shovels::ShovelReport;
use node::{Alarms, Config, Identity, Readiness};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::ready;
use std::net::IpAddr;
use std::sync::Arc;

/// A member without a record.
const JOINING: NodeId = NodeId(7);

/// A cluster of three of which node 3 is dead; this is node 1, shard 1 is led by node 2.
pub(crate) struct Fake {
    config: Config,
    catalog: Mutex<(u64, Catalog)>,
    pub(crate) counts: Mutex<HashMap<QueueId, QueueReport>>,
    pub(crate) closed: Mutex<Vec<(NodeId, u64, String)>>,
    /// No majority answers.
    pub(crate) cut_off: Mutex<bool>,
    pub(crate) maintained: Mutex<Vec<(NodeId, bool)>>,
    pub(crate) shovels: Mutex<Vec<ShovelReport>>,
    pub(crate) published: Mutex<Vec<Publish>>,
    pub(crate) purged: Mutex<Vec<Name>>,
    pub(crate) taken: Mutex<Vec<(u32, Then)>>,
    pub(crate) looked: Mutex<Vec<(QueueId, u32)>>,
    pub(crate) readiness: Mutex<Readiness>,
    pub(crate) alarms: Mutex<Alarms>,
}

/// `x-priority` is 5, `note` is "x".
fn consumer_arguments() -> Vec<u8> {
    let mut table = TableBuilder::new();
    table.push("x-priority", &FieldValue::I32(5));
    table.push("note", &FieldValue::text("x"));
    table.finish().raw().to_vec()
}

/// The fake's hash is the password itself.
fn hash(password: &str) -> PasswordHash {
    PasswordHash {
        algorithm: PasswordAlgorithm::RabbitSha256,
        hash: Bytes::copy_from_slice(password.as_bytes()),
    }
}

impl Fake {
    pub(crate) fn new() -> Self {
        let node = |id: u64| NodeRecord {
            node: NodeId(id),
            raft_id: id,
            cluster_address: format!("n{id}:25672").into(),
            amqp_address: format!("n{id}:5672").into(),
            management_address: format!("n{id}:15672").into(),
            state: NodeState::Member,
            incarnation: 1,
        };
        let bootstrap = CatalogCommand::Bootstrap(Bootstrap {
            cluster_id: "cluster-id".into(),
            cluster_name: "test".into(),
            shards: 2,
            vhost: "/".into(),
            user: Some(UserSpec {
                name: "guest".into(),
                password: hash("guest"),
                tags: vec!["administrator".into()],
            }),
            nodes: vec![node(1), node(2), node(3)],
        });
        let fake = Self {
            config: Config::default(),
            catalog: Mutex::new((0, Catalog::new())),
            counts: Mutex::default(),
            closed: Mutex::default(),
            cut_off: Mutex::default(),
            maintained: Mutex::default(),
            shovels: Mutex::default(),
            published: Mutex::default(),
            purged: Mutex::default(),
            taken: Mutex::default(),
            looked: Mutex::default(),
            readiness: Mutex::new(Readiness::Ready),
            alarms: Mutex::default(),
        };
        fake.apply(bootstrap).unwrap();
        fake
    }

    pub(crate) fn apply(&self, command: CatalogCommand) -> Result<CatalogAnswer, Refusal> {
        let mut catalog = self.catalog.lock();
        catalog.0 += 1;
        let index = catalog.0;
        let mut replies = catalog
            .1
            .apply(index, &CatalogEntry::of(command), &mut Vec::new());
        Ok(replies.pop().unwrap()?)
    }

    /// Sets what the queue's leader would count.
    pub(crate) fn count(&self, name: &str, ready: u64, unacked: u64) {
        let id = self.catalog.lock().1.queue("/", name).unwrap().id;
        let consumers = vec![ConsumerReport {
            node: 2,
            connection: 7,
            channel: 1,
            tag: "tag".into(),
            ack_required: true,
            prefetch: 10,
            active: true,
            ..ConsumerReport::default()
        }];
        let report = QueueReport {
            queue: id.0,
            ready,
            unacked,
            ready_bytes: ready * 10,
            unacked_bytes: unacked * 10,
            delayed: 0,
            delayed_bytes: 0,
            delayed_ms: None,
            dying: 2,
            dying_bytes: 20,
            consumers,
            in_memory: Some((3, 30)),
            tally: TallyReport {
                published: 9,
                delivered: 5,
                got: 1,
                acknowledged: 2,
                ..TallyReport::default()
            },
        };
        self.counts.lock().insert(id, report);
    }
}

impl Fake {
    fn listeners(&self) -> Vec<ListenerReport> {
        let listeners = self.config.listeners().into_iter();
        listeners
            .map(|(protocol, address)| ListenerReport {
                protocol: protocol.into(),
                address,
            })
            .collect()
    }

    /// Sets how many messages wait in the store of an exchange.
    pub(crate) fn count_delayed(&self, exchange: &str, ready: u64) {
        let store = {
            let catalog = self.catalog.lock();
            catalog.1.exchange("/", exchange).unwrap().store.clone()
        };
        let id = store.unwrap().id;
        let report = QueueReport {
            queue: id.0,
            ready,
            ..QueueReport::default()
        };
        self.counts.lock().insert(id, report);
    }
}

impl Backend for Fake {
    fn config(&self) -> &Config {
        &self.config
    }

    fn look(&self, read: &mut dyn FnMut(&Catalog)) {
        read(&self.catalog.lock().1);
    }

    fn change(&self, command: CatalogCommand) -> Answer<'_, Result<CatalogAnswer, Refusal>> {
        Box::pin(ready(self.apply(command)))
    }

    fn sync(&self) -> Answer<'_, bool> {
        Box::pin(ready(!*self.cut_off.lock()))
    }

    fn authenticate(
        &self,
        user: String,
        password: Vec<u8>,
        _from: IpAddr,
    ) -> Answer<'_, Option<Identity>> {
        let catalog = self.catalog.lock();
        let found = catalog
            .1
            .user(&user)
            .filter(|user| !password.is_empty() && user.password.hash == password);
        Box::pin(ready(
            found.map(|user| Identity::stored(Arc::clone(&user.name))),
        ))
    }

    fn hash_password(&self, password: String) -> Answer<'_, PasswordHash> {
        Box::pin(ready(hash(&password)))
    }

    fn place_queue(&self, replicated: bool) -> Placement {
        if replicated {
            Placement::Shard(ShardId(1))
        } else {
            Placement::Host(NodeId(1))
        }
    }

    fn leader_of(&self, placement: Placement) -> Option<NodeId> {
        match placement {
            Placement::Host(node) => Some(node),
            Placement::Shard(ShardId(1)) => Some(NodeId(2)),
            Placement::Shard(_) => None,
        }
    }

    fn is_alive(&self, node: NodeId) -> bool {
        node != NodeId(3)
    }

    fn alarms(&self) -> Alarms {
        *self.alarms.lock()
    }

    fn readiness(&self) -> Readiness {
        *self.readiness.lock()
    }

    fn report(&self) -> NodeReport {
        let maintained = self.maintained.lock();
        let last = maintained.iter().rev().find(|(node, _)| *node == NodeId(1));
        let maintenance = last.is_some_and(|(_, on)| *on);
        let group = |group, leader| GroupReport {
            group,
            term: 3,
            leader,
            ready: leader == Some(1),
            committed: 10,
            applied: 9,
            last_log: 11,
            voters: vec![1, 2, 3],
            ..GroupReport::default()
        };
        NodeReport {
            node: 1,
            maintenance,
            version: "0.1.0".into(),
            pid: 77,
            uptime_ms: 5000,
            memory_used: 1 << 20,
            connections: 1,
            listeners: self.listeners(),
            groups: vec![group(0, Some(1)), group(1, Some(2)), group(2, None)],
            counts: [("published".to_owned(), 5)].into(),
            ..NodeReport::default()
        }
    }

    fn reports(&self) -> Answer<'_, Vec<(NodeId, Option<NodeReport>)>> {
        let own = self.report();
        let other = NodeReport {
            node: 2,
            ..own.clone()
        };
        Box::pin(ready(vec![
            (NodeId(1), Some(own)),
            (NodeId(2), Some(other)),
            (NodeId(3), None),
        ]))
    }

    fn connections(&self) -> Answer<'_, Vec<ConnectionReport>> {
        Box::pin(ready(self.own_connections()))
    }

    fn shovels(&self) -> Answer<'_, Vec<ShovelReport>> {
        Box::pin(ready(self.shovels.lock().clone()))
    }

    fn restart_shovel(&self, vhost: String, name: String) -> Answer<'_, bool> {
        let shovels = self.shovels.lock();
        let found = shovels
            .iter()
            .any(|shovel| (&shovel.vhost, &shovel.name) == (&vhost, &name));
        Box::pin(ready(found))
    }

    fn auth_attempts(&self, node: NodeId) -> Answer<'_, Option<Vec<AttemptsReport>>> {
        let attempts = AttemptsReport {
            protocol: "amqp091".into(),
            succeeded: 3,
            failed: 2,
        };
        Box::pin(ready((node != NodeId(3)).then(|| vec![attempts])))
    }

    fn reset_auth_attempts(&self, node: NodeId) -> Answer<'_, bool> {
        Box::pin(ready(node != NodeId(3)))
    }

    fn set_maintenance(&self, node: NodeId, on: bool) -> Answer<'_, bool> {
        let answers = node != NodeId(3);
        if answers {
            self.maintained.lock().push((node, on));
        }
        Box::pin(ready(answers))
    }

    fn connections_of(&self, some: BTreeSet<(u64, u64)>) -> Answer<'_, Vec<ConnectionReport>> {
        let mut connections = self.own_connections();
        connections.retain(|connection| some.contains(&(connection.node, connection.serial)));
        Box::pin(ready(connections))
    }

    fn exchanges(&self) -> Answer<'_, Vec<ExchangeReport>> {
        Box::pin(ready(vec![ExchangeReport {
            vhost: "/".into(),
            name: "amq.topic".into(),
            published: 7,
            routed: 9,
        }]))
    }

    fn vhosts(&self) -> Answer<'_, Vec<VhostReport>> {
        let counts = [("published", 5), ("get_empty", 2)];
        Box::pin(ready(vec![VhostReport {
            vhost: "/".into(),
            received: 100,
            sent: 200,
            counts: counts.map(|(name, count)| (name.to_owned(), count)).into(),
        }]))
    }

    fn own_connections(&self) -> Vec<ConnectionReport> {
        let connection = ConnectionReport {
            node: 2,
            serial: 7,
            name: "127.0.0.1:4000 -> 127.0.0.1:5672".into(),
            user: "guest".into(),
            vhost: "/".into(),
            peer_host: "127.0.0.1".into(),
            peer_port: 4000,
            host: "127.0.0.1".into(),
            port: 5672,
            tls: false,
            mechanism: "PLAIN".into(),
            client_name: Some("worker".into()),
            client_properties: Vec::new(),
            connected_at_ms: 1,
            frame_max: 131_072,
            channel_max: 2047,
            heartbeat: 60,
            state: "running".into(),
            received: 1,
            sent: 2,
            channels: vec![ChannelReport {
                number: 1,
                consumers: 1,
                prefetch: 0,
                prefetch_each: 9,
                unacked: 3,
                unconfirmed: 4,
                confirms: true,
                transactional: false,
                counts: [("published", 5), ("delivered", 2), ("got_no_ack", 1)]
                    .map(|(name, count)| (name.to_owned(), count))
                    .into(),
                arguments: BTreeMap::from([("tag".to_owned(), consumer_arguments())]),
            }],
        };
        vec![connection]
    }

    fn queue_reports(
        &self,
        host: NodeId,
        placement: Placement,
        queues: Vec<QueueId>,
    ) -> Answer<'_, Vec<QueueReport>> {
        assert_eq!(Some(host), self.leader_of(placement));
        let catalog = self.catalog.lock();
        let counts = self.counts.lock();
        let here = |id: &QueueId| {
            catalog
                .1
                .queue_by_id(*id)
                .is_some_and(|queue| queue.placement == placement)
        };
        let asked = |id: &QueueId| queues.is_empty() || queues.contains(id);
        let found = counts
            .iter()
            .filter(|(id, _)| here(id) && asked(id))
            .map(|(_, report)| report.clone());
        Box::pin(ready(found.collect()))
    }

    fn close_connection(&self, node: NodeId, serial: u64, reason: String) -> Answer<'_, bool> {
        self.closed.lock().push((node, serial, reason));
        Box::pin(ready(true))
    }

    fn delete_queue(
        &self,
        vhost: Name,
        name: Name,
        if_unused: bool,
        if_empty: bool,
    ) -> Answer<'_, Result<(), Refusal>> {
        let _ = (if_unused, if_empty);
        let result = self.apply(CatalogCommand::DeleteQueue {
            vhost,
            name,
            expected: None,
        });
        Box::pin(ready(result.map(drop)))
    }

    fn purge(&self, _vhost: Name, name: Name) -> Answer<'_, Result<u64, Refusal>> {
        self.purged.lock().push(name);
        Box::pin(ready(Ok(1)))
    }

    fn get(
        &self,
        _: Name,
        _: Name,
        count: u32,
        then: Then,
    ) -> Answer<'_, Result<Vec<Got>, Refusal>> {
        self.taken.lock().push((count, then));
        let message = |body: &'static [u8]| Message {
            exchange: Bytes::from_static(b"amq.topic"),
            routing_key: Bytes::from_static(b"key"),
            properties: Bytes::from_static(&[0, 0]),
            body: Bytes::from_static(body),
        };
        Box::pin(ready(Ok(vec![
            Got {
                message: message(b"hello"),
                redelivered: false,
                remaining: 1,
            },
            Got {
                message: message(b"\xff\xfe"),
                redelivered: true,
                remaining: 0,
            },
        ])))
    }

    fn delayed(
        &self,
        store: Arc<QueueRecord>,
        count: u32,
    ) -> Answer<'_, Result<Vec<StoredMessage>, Refusal>> {
        self.looked.lock().push((store.id, count));
        let waits = |body: &'static [u8], due: u64| StoredMessage {
            message: Message {
                exchange: Bytes::from_static(b"later"),
                routing_key: Bytes::from_static(b"key"),
                properties: Bytes::from_static(&[0, 0]),
                body: Bytes::from_static(body),
            },
            expires_at_ms: Some(due),
        };
        Box::pin(ready(Ok(vec![waits(b"soon", 10), waits(b"\xff\xfe", 20)])))
    }

    fn publish(&self, publish: Publish) -> Answer<'_, Result<bool, Refusal>> {
        self.published.lock().push(publish);
        Box::pin(ready(Ok(true)))
    }

    fn numbers(&self) -> Answer<'_, Numbers> {
        let numbers = Numbers {
            counts: vec![
                ("published", 5),
                ("nacked", 2),
                ("auth_attempts", 3),
                ("auth_failed", 1),
            ],
            connections: 1,
            channels: 2,
            consumers: 3,
            publishers: 2,
            served: Served {
                queues: 4,
                ready: 5,
                unacked: 6,
                messages: 11,
                consumers: 7,
            },
            histograms: vec![
                Distribution {
                    name: "warren_log_fsync_seconds",
                    help: "Time of a sync",
                    labels: "",
                    buckets: vec![(0.001, 3), (0.01, 4)],
                    sum: 0.5,
                    count: 5,
                },
                Distribution {
                    name: "rabbitmq_message_size_bytes",
                    help: "Sizes",
                    labels: "protocol=\"amqp091\"",
                    buckets: vec![(100.0, 1)],
                    sum: 1010.0,
                    count: 2,
                },
            ],
            gauges: vec![("warren_log_bytes", "Bytes of the log", 12.0)],
        };
        Box::pin(ready(numbers))
    }

    fn rebalance(&self) -> Answer<'_, ()> {
        Box::pin(ready(()))
    }

    fn is_member(&self, node: NodeId) -> bool {
        node == JOINING
    }

    fn forget_node(&self, node: NodeId) -> Answer<'_, Result<(), Refusal>> {
        if node == JOINING {
            return Box::pin(ready(Ok(())));
        }
        let result = self.apply(CatalogCommand::SetNodeState {
            node,
            state: NodeState::Leaving,
        });
        Box::pin(ready(result.map(drop)))
    }
}
