//! A node for tests: a catalog in memory, two hosts of queues, the hub in between.

use super::Client;
use super::host::TestHost;
use crate::auth::{AuthError, Login};
use crate::broker::Alarms;
use crate::catalog::writer::WriteError;
use crate::config::Config;
use crate::host::HostInput;
use crate::hub::Hub;
use crate::hub::attachment::{Attachment, AttachmentId, HostSender};
use crate::hub::connector::{ConnectError, Connector};
use crate::identity::Identity;
use crate::metrics::Metrics;
use crate::registry::Registry;
use crate::session::{Ends, Services, serve};
use crate::vital::Vital;
use broker_model::catalog::{
    Bootstrap, Catalog, CatalogAnswer, CatalogCommand, CatalogEntry, CatalogEvent, PasswordHash,
    UserSpec,
};
use broker_model::dispatch::Dispatcher;
use broker_model::ids::{NodeId, Origin, Placement, ShardId};
use broker_model::shard::ShardMachine;
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::{RwLock, RwLockReadGuard};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Where durable queues of the test node live.
pub(super) const SHARD: Placement = Placement::Shard(ShardId(1));
/// Where the others live.
pub(super) const HERE: Placement = Placement::Host(NodeId(1));
/// Where they live after [`TestNode::place_elsewhere`].
pub(super) const THERE: Placement = Placement::Host(NodeId(2));

type Inbox = mpsc::UnboundedSender<HostInput>;

pub(super) struct TestNode {
    pub(super) config: Config,
    catalog: Arc<RwLock<Catalog>>,
    version: AtomicU64,
    hub: Arc<Hub>,
    metrics: Metrics,
    registry: Registry,
    pub(super) alarms: watch::Sender<Alarms>,
    shard: Inbox,
    here: Inbox,
    there: Inbox,
    /// While set, nobody can attach.
    down: Arc<AtomicBool>,
    /// While set, nobody can attach to the other node.
    there_down: Arc<AtomicBool>,
    elsewhere: AtomicBool,
    /// While set, nobody tells whether the catalog is up to date.
    pub(super) cut_off: AtomicBool,
    /// While set, the catalog here may be old.
    pub(super) old: AtomicBool,
    /// Bytes of messages of streams that were sent to sessions.
    pub(super) read_bytes: Arc<AtomicU64>,
    /// Channels of everybody on the other nodes.
    pub(super) channels_there: AtomicU64,
}

impl TestNode {
    pub(super) fn start() -> Arc<Self> {
        Self::start_with(|_| {})
    }

    pub(super) fn start_with(configure: impl FnOnce(&mut Config)) -> Arc<Self> {
        let mut config = Config::default();
        config.timing.amqp_heartbeat = Duration::ZERO;
        config.timing.publish_timeout = Duration::from_secs(5);
        configure(&mut config);
        let origin = Origin {
            node: NodeId(1),
            incarnation: 1,
        };
        let mut catalog = Catalog::new();
        let user = |name: &str| UserSpec {
            name: name.into(),
            password: PasswordHash::disabled(),
            tags: vec!["administrator".into()],
        };
        let bootstrap = CatalogCommand::Bootstrap(Bootstrap {
            cluster_id: "test".into(),
            cluster_name: "test".into(),
            shards: 1,
            vhost: "/".into(),
            user: Some(user("guest")),
            nodes: Vec::new(),
        });
        catalog.apply(1, &CatalogEntry::of(bootstrap), &mut Vec::new());
        let version = AtomicU64::new(catalog.version());
        let catalog = Arc::new(RwLock::new(catalog));

        let read_bytes = Arc::new(AtomicU64::new(0));
        let (unused, mut unused_rx) = mpsc::unbounded_channel();
        let host = |placement| {
            let (sender, inbox) = mpsc::unbounded_channel();
            let host = TestHost {
                placement,
                catalog: Arc::clone(&catalog),
                inbox,
                unused: unused.clone(),
                links: Vec::new(),
                machine: ShardMachine::new(),
                dispatcher: Dispatcher::local(),
                readers: Vec::new(),
                read_bytes: Arc::clone(&read_bytes),
            };
            tokio::spawn(host.run());
            sender
        };
        let (shard, here, there) = (host(SHARD), host(HERE), host(THERE));
        let down = Arc::new(AtomicBool::new(false));
        let there_down = Arc::new(AtomicBool::new(false));
        let connectors = {
            let hosts = [shard.clone(), here.clone(), there.clone()];
            let (down, there_down) = (Arc::clone(&down), Arc::clone(&there_down));
            Box::new(move |placement| -> Arc<dyn Connector> {
                let [shard, here, there] = &hosts;
                let (inbox, down) = match placement {
                    SHARD => (shard, &down),
                    THERE => (there, &there_down),
                    _ => (here, &down),
                };
                Arc::new(TestConnector {
                    origin,
                    inbox: inbox.clone(),
                    down: Arc::clone(down),
                })
            })
        };
        let hub = Hub::new(
            origin,
            config.timing.publish_timeout,
            connectors,
            Arc::default(),
            watch::channel(false).1,
            Vital::new(Arc::new(|why: &str| panic!("{why}"))),
        );
        let node = Arc::new(Self {
            config,
            catalog,
            version,
            hub,
            metrics: Metrics::default(),
            registry: Registry::default(),
            alarms: watch::Sender::new(Alarms::default()),
            shard,
            here,
            there,
            down,
            there_down,
            read_bytes,
            channels_there: AtomicU64::new(0),
            cut_off: AtomicBool::new(false),
            old: AtomicBool::new(false),
            elsewhere: AtomicBool::new(false),
        });
        let deleter = Arc::clone(&node);
        tokio::spawn(async move {
            while let Some(queue) = unused_rx.recv().await {
                let record = deleter.catalog.read().queue_by_id(queue).cloned();
                if let Some(record) = record {
                    let (vhost, name) = (Arc::clone(&record.vhost), Arc::clone(&record.name));
                    let delete = CatalogCommand::DeleteQueue {
                        vhost,
                        name,
                        expected: Some(queue),
                    };
                    let _ = deleter.apply(delete);
                }
            }
        });
        node
    }

    /// A client with an open connection and nothing else.
    pub(super) async fn connect(self: &Arc<Self>) -> Client {
        let mut client = self.connect_raw();
        client.handshake().await;
        client
    }

    /// A client that has said nothing.
    pub(super) fn connect_raw(self: &Arc<Self>) -> Client {
        let (ours, theirs) = tokio::io::duplex(256 * 1024);
        let peer = ([127, 0, 0, 1], 40_000).into();
        let ends = Ends {
            peer,
            local: ([127, 0, 0, 1], 5672).into(),
            tls: false,
            certificate_user: None,
            known: None,
        };
        let services: Arc<dyn Services> = Arc::clone(self) as _;
        tokio::spawn(serve(services, ours, ends));
        Client::new(theirs)
    }

    /// A client with channel 1 open.
    pub(super) async fn channel(self: &Arc<Self>) -> Client {
        let mut client = self.connect().await;
        client.open_channel(1).await;
        client
    }

    /// Breaks the links to the hosts, as a leader change does; nobody can attach while `down`.
    pub(super) fn break_links(&self, down: bool) {
        self.down.store(down, Ordering::SeqCst);
        for inbox in [&self.shard, &self.here] {
            let _ = inbox.send(HostInput::NodeLost { node: NodeId(1) });
        }
    }

    pub(super) fn restore_links(&self) {
        self.down.store(false, Ordering::SeqCst);
    }

    /// Non-durable queues that are declared from now on live on the other node.
    pub(super) fn place_elsewhere(&self) {
        self.elsewhere.store(true, Ordering::SeqCst);
    }

    /// The other node dies.
    pub(super) fn kill_other(&self) {
        self.there_down.store(true, Ordering::SeqCst);
        let _ = self.there.send(HostInput::NodeLost { node: NodeId(1) });
    }

    /// The other node can be reached again.
    pub(super) fn revive_other(&self) {
        self.there_down.store(false, Ordering::SeqCst);
    }

    pub(super) fn apply(&self, command: CatalogCommand) -> Result<CatalogAnswer, WriteError> {
        let mut events = Vec::new();
        let reply = {
            let mut catalog = self.catalog.write();
            let index = catalog.version() + 1;
            let mut replies = catalog.apply(index, &CatalogEntry::of(command), &mut events);
            self.version.store(catalog.version(), Ordering::SeqCst);
            replies.remove(0)
        };
        for event in events {
            match event {
                CatalogEvent::QueueDeleted(record) => {
                    let inbox = match record.placement {
                        SHARD => &self.shard,
                        THERE => &self.there,
                        _ => &self.here,
                    };
                    let _ = inbox.send(HostInput::Settings {
                        queue: record.id,
                        settings: None,
                    });
                }
                CatalogEvent::QueueRehosted { old, new } => {
                    if let Some(from) = old.placement.host() {
                        self.hub.queue_moved(old.id, from, new.id, new.placement);
                    }
                }
                CatalogEvent::MemoryLost { node, start } => self.hub.memory_lost(node, start),
                _ => {}
            }
        }
        reply.map_err(WriteError::Refused)
    }

    pub(super) fn has_queue(&self, name: &str) -> bool {
        self.catalog.read().queue("/", name).is_some()
    }

    pub(super) fn sessions(&self) -> usize {
        self.hub.session_count()
    }
}

impl Services for TestNode {
    fn config(&self) -> &Config {
        &self.config
    }

    fn origin(&self) -> Origin {
        self.hub.origin()
    }

    fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    fn registry(&self) -> &Registry {
        &self.registry
    }

    fn catalog(&self) -> RwLockReadGuard<'_, Catalog> {
        self.catalog.read()
    }

    fn catalog_version(&self) -> u64 {
        self.version.load(Ordering::SeqCst)
    }

    fn catalog_write(
        &self,
        command: CatalogCommand,
    ) -> BoxFuture<'_, Result<CatalogAnswer, WriteError>> {
        async move {
            tokio::task::yield_now().await;
            self.apply(command)
        }
        .boxed()
    }

    fn catalog_sync(&self) -> BoxFuture<'_, bool> {
        async {
            tokio::task::yield_now().await;
            !self.cut_off.load(Ordering::Relaxed)
        }
        .boxed()
    }

    fn catalog_is_recent(&self) -> bool {
        !self.old.load(Ordering::Relaxed)
    }

    fn catalog_freshen(&self) -> BoxFuture<'_, bool> {
        async {
            let sure = self.catalog_is_recent() || self.catalog_sync().await;
            if sure {
                self.old.store(false, Ordering::Relaxed);
            }
            sure
        }
        .boxed()
    }

    fn authenticate(&self, login: Login) -> BoxFuture<'_, Result<Identity, AuthError>> {
        async move {
            let password = login.password.as_deref();
            if let Some(user) = password.and_then(super::tokens::user_of) {
                return Ok(user);
            }
            match password {
                Some(b"guest") => Ok(Identity::stored(login.user)),
                _ => Err(AuthError::WrongPassword),
            }
        }
        .boxed()
    }

    fn is_dead(&self, node: NodeId) -> bool {
        node == NodeId(2) && self.there_down.load(Ordering::SeqCst)
    }

    fn place_queue(&self, replicated: bool) -> Placement {
        match (replicated, self.elsewhere.load(Ordering::SeqCst)) {
            (true, _) => SHARD,
            (false, true) => THERE,
            (false, false) => HERE,
        }
    }

    fn is_here(&self, placement: Placement) -> bool {
        placement != THERE
    }

    fn open_of<'a>(&'a self, user: &'a str, vhost: &'a str) -> BoxFuture<'a, (u64, u64)> {
        std::future::ready(self.registry.open_of(user, vhost)).boxed()
    }

    fn channels_elsewhere<'a>(&'a self, _: &'a str) -> BoxFuture<'a, u64> {
        async {
            tokio::task::yield_now().await;
            self.channels_there.load(Ordering::SeqCst)
        }
        .boxed()
    }

    fn alarms(&self) -> watch::Receiver<Alarms> {
        self.alarms.subscribe()
    }
}

struct TestConnector {
    origin: Origin,
    inbox: Inbox,
    down: Arc<AtomicBool>,
}

static ATTACHMENTS: AtomicU64 = AtomicU64::new(1);

impl Connector for TestConnector {
    fn connect(&self) -> BoxFuture<'_, Result<Attachment, ConnectError>> {
        async {
            if self.down.load(Ordering::SeqCst) {
                tokio::time::sleep(Duration::from_millis(10)).await;
                return Err(ConnectError::NoLeader);
            }
            let attachment = AttachmentId(ATTACHMENTS.fetch_add(1, Ordering::SeqCst));
            let (replies, receiver) = mpsc::unbounded_channel();
            let attach = HostInput::Attach {
                attachment,
                origin: self.origin,
                replies,
            };
            let _ = self.inbox.send(attach);
            Ok(Attachment {
                sender: HostSender::Local {
                    attachment,
                    inbox: self.inbox.clone(),
                },
                receiver,
            })
        }
        .boxed()
    }

    fn moved(&self) -> BoxFuture<'_, ()> {
        std::future::pending().boxed()
    }

    fn not_leader(&self, _: Option<NodeId>) {}
}

/// Waits until something is so.
pub(super) async fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    for _ in 0..500 {
        if is() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not in time: {what}");
}
