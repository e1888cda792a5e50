//! A node of the simulation: a runtime with a clock of its own that is moved from outside, a log
//! that loses what was not synced, and the real state store.

use crate::actors::client_address;
use crate::net::{NodeNetwork, SimNet};
use consensus::SimulatedClock;
use node::config::{NodeId, Peer, Secret};
use node::{Config, Ground, Node};
use parking_lot::Mutex;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use storage::{LogBackend, MemoryLog};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tokio::time::Instant;

/// A publish or a declare without a majority is answered after this time.
pub(crate) const PUBLISH_TIMEOUT: Duration = Duration::from_secs(6);

/// A clock that goes as far as it is told.
pub(crate) struct Clockwork {
    pub(crate) runtime: Runtime,
    start: Instant,
    /// What openraft goes by.
    raft: SimulatedClock,
    dispatch: tracing::Dispatch,
}

impl Clockwork {
    pub(crate) fn new(name: String, clock: &Arc<AtomicU64>) -> Self {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .expect("a runtime");
        let start = runtime.block_on(async { Instant::now() })
            - Duration::from_millis(clock.load(Ordering::Relaxed));
        Self {
            runtime,
            start,
            raft: SimulatedClock::default(),
            dispatch: log_of(name, Arc::clone(clock)),
        }
    }

    pub(crate) fn advance(&self, to: u64) {
        let until = self.start + Duration::from_millis(to);
        tracing::dispatcher::with_default(&self.dispatch, || {
            self.raft.during(|| {
                self.runtime
                    .block_on(async { tokio::time::sleep_until(until).await });
            });
        });
    }
}

/// With `WARREN_SIM_LOG=filter`, what nodes log, each line with the simulated time.
fn log_of(name: String, clock: Arc<AtomicU64>) -> tracing::Dispatch {
    struct Lines(String, Arc<AtomicU64>);
    impl Write for Lines {
        fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
            let mut text =
                format!("{:>6} {} ", self.1.load(Ordering::Relaxed), self.0).into_bytes();
            text.extend_from_slice(line);
            std::io::stderr().lock().write_all(&text)?;
            Ok(line.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    match std::env::var("WARREN_SIM_LOG") {
        Ok(filter) => tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_ansi(false)
            .without_time()
            .with_writer(move || Lines(name.clone(), Arc::clone(&clock)))
            .finish()
            .into(),
        Err(_) => tracing::Dispatch::none(),
    }
}

pub(crate) struct SimNode {
    pub(crate) id: u64,
    pub(crate) log: MemoryLog,
    /// Milliseconds that a sync takes at most.
    pub(crate) sync_ms: u64,
    dir: TempDir,
    peers: u64,
    pub(crate) running: Option<Running>,
}

pub(crate) struct Running {
    clockwork: Clockwork,
    node: Arc<Mutex<Option<Arc<Node>>>>,
    /// Why the process would have ended by itself.
    failure: Arc<Mutex<Option<String>>>,
}

fn temporary() -> TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() {
        tempfile::tempdir_in(memory)
    } else {
        tempfile::tempdir()
    };
    made.expect("a temporary directory")
}

impl SimNode {
    pub(crate) fn new(id: u64, peers: u64) -> Self {
        Self {
            id,
            log: MemoryLog::manual(),
            sync_ms: 2,
            dir: temporary(),
            peers,
            running: None,
        }
    }

    fn config(&self) -> Config {
        let mut config = Config {
            node_id: NodeId(self.id),
            data_dir: self.dir.path().to_owned(),
            amqp_listen: ([127, 0, 0, 1], 0).into(),
            cluster_listen: cluster_address(self.id).parse().expect("an address"),
            peers: (1..=self.peers)
                .map(|id| Peer {
                    id: NodeId(id),
                    address: cluster_address(id),
                })
                .collect(),
            cluster_secret: Some(Secret::new("simulated")),
            ..Config::default()
        };
        config.sharding.shards = 2;
        config.timing.publish_timeout = PUBLISH_TIMEOUT;
        config.memory.total_bytes = Some(u64::MAX / 2);
        config.storage.disk_free_limit_bytes = 0;
        config.storage.disk_reserve_bytes = 0;
        // Checkpoints, purges and snapshots as often as they can come.
        config.storage.checkpoint_bytes = 64 * 1024;
        config.storage.checkpoint_interval = Duration::from_secs(2);
        config.storage.log_keep_bytes = 256 * 1024;
        config
    }

    pub(crate) fn start(&mut self, net: &Arc<SimNet>, clock: &Arc<AtomicU64>) {
        let clockwork = Clockwork::new(format!("node {}", self.id), clock);
        let started: Arc<Mutex<Option<Arc<Node>>>> = Arc::default();
        let failure: Arc<Mutex<Option<String>>> = Arc::default();
        let ground = Ground {
            network: Arc::new(NodeNetwork {
                net: Arc::clone(net),
                node: self.id,
            }),
            log: Some(Arc::new(self.log.clone()) as Arc<dyn LogBackend>),
        };
        let config = self.config();
        let (id, net) = (self.id, Arc::clone(net));
        let (place, failed) = (Arc::clone(&started), Arc::clone(&failure));
        clockwork.runtime.spawn(async move {
            let aborted = Arc::clone(&failed);
            let abort = Arc::new(move |reason: &str| {
                aborted.lock().get_or_insert_with(|| reason.to_owned());
            });
            let node = match Node::start_on(ground, config, abort).await {
                Ok(node) => Arc::new(node),
                Err(error) => {
                    failed
                        .lock()
                        .get_or_insert_with(|| format!("cannot start: {error}"));
                    return;
                }
            };
            *place.lock() = Some(Arc::clone(&node));
            let mut clients = net.listen(id, &client_address(id));
            while let Some(Ok(stream)) = clients.recv().await {
                let node = Arc::clone(&node);
                tokio::spawn(async move {
                    node.serve_client(stream, ([127, 0, 0, 1], 40_000).into())
                        .await;
                });
            }
        });
        self.running = Some(Running {
            clockwork,
            node: started,
            failure,
        });
    }

    /// The process dies and its machine loses power; the first `survivors` of the writes that were
    /// not synced are on the disk all the same.
    pub(crate) fn crash(&mut self, net: &SimNet, survivors: usize) {
        let Some(running) = self.running.take() else {
            return;
        };
        net.close_ports(self.id);
        let after = self.log.crash(survivors);
        running.node.lock().take();
        // Waits for what runs on other threads, so that the state store is closed.
        running
            .clockwork
            .runtime
            .shutdown_timeout(Duration::from_secs(60));
        self.log = after;
    }

    pub(crate) fn advance(&self, to: u64) {
        if let Some(running) = &self.running {
            running.clockwork.advance(to);
        }
    }

    pub(crate) fn node(&self) -> Option<Arc<Node>> {
        self.running.as_ref()?.node.lock().clone()
    }

    pub(crate) fn failure(&self) -> Option<String> {
        self.running.as_ref()?.failure.lock().take()
    }
}

fn cluster_address(node: u64) -> String {
    format!("10.0.0.{node}:25672")
}
