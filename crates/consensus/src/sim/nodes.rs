//! Whole nodes over real connections on the loopback device, each in a runtime of its own, so that
//! one can die with all its sockets as a process does.

use super::machine::{SimDisk, SimMachine};
use crate::config::{CheckpointPolicy, ConsensusConfig, Secret, Timing};
use crate::consensus::{Consensus, Parts};
use crate::group::Group;
use crate::types::{GroupId, Payload};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};
use storage::{LogBackend, LogOptions, LogStore, MemoryLog};
use tempfile::TempDir;
use tokio::net::TcpSocket;
use tokio::runtime::Runtime;

/// Where a node's log is.
#[derive(Clone)]
pub(crate) enum NodeLog {
    Memory(MemoryLog),
    Disk,
}

pub(crate) struct Node {
    pub(crate) id: u64,
    pub(crate) config: ConsensusConfig,
    dir: TempDir,
    log: NodeLog,
    disks: Arc<Mutex<BTreeMap<GroupId, Arc<SimDisk>>>>,
    running: Option<Running>,
    pub(crate) aborts: Arc<Mutex<Vec<String>>>,
}

struct Running {
    runtime: Runtime,
    consensus: Consensus,
    machines: Arc<Mutex<BTreeMap<GroupId, Arc<SimMachine>>>>,
}

/// A port of the loopback device that nobody else is given while this process lives.
///
/// One that is only found free may be somebody else's when it is listened on, as the near end of a connection above all. So
/// it stays bound, to a socket that never listens: Linux lets a listener share such a port, both sockets allowing it, and gives
/// it to nobody who asks for any port. A connection to it is refused while no node listens.
pub(crate) fn free_address() -> SocketAddr {
    static HELD: Mutex<Vec<TcpSocket>> = Mutex::new(Vec::new());
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = socket.local_addr().unwrap();
    if cfg!(target_os = "linux") {
        HELD.lock().push(socket);
    }
    address
}

impl Node {
    /// A node that knows `peers`, not started yet.
    pub(crate) fn new(id: u64, peers: &BTreeMap<u64, String>, disk_log: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = ConsensusConfig::new(id, dir.path());
        config.listen = peers
            .get(&id)
            .map_or_else(free_address, |address| address.parse().unwrap());
        config.peers = if peers.contains_key(&id) {
            peers.clone()
        } else {
            BTreeMap::new()
        };
        config.join = if peers.contains_key(&id) {
            Vec::new()
        } else {
            peers.values().cloned().collect()
        };
        config.secret = Secret::new("a secret");
        config.shards = 2;
        Self {
            id,
            config,
            dir,
            log: if disk_log {
                NodeLog::Disk
            } else {
                NodeLog::Memory(MemoryLog::new())
            },
            disks: Arc::default(),
            running: None,
            aborts: Arc::default(),
        }
    }

    pub(crate) fn try_start(&mut self) -> Result<(), crate::StartError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name(format!("node{}", self.id))
            .enable_all()
            .build()
            .unwrap();
        let log: Arc<dyn LogBackend> = match &self.log {
            NodeLog::Memory(log) => Arc::new(log.clone()),
            NodeLog::Disk => Arc::new(
                LogStore::open(self.dir.path().join("log"), LogOptions::default()).unwrap(),
            ),
        };
        let machines: Arc<Mutex<BTreeMap<GroupId, Arc<SimMachine>>>> = Arc::default();
        let (made, disks) = (Arc::clone(&machines), Arc::clone(&self.disks));
        let aborts = Arc::clone(&self.aborts);
        let parts = Parts {
            network: Arc::new(crate::net::Tcp),
            log,
            machines: Box::new(move |group| {
                let disk = Arc::clone(disks.lock().entry(group).or_default());
                let machine = SimMachine::new(disk);
                made.lock().insert(group, Arc::clone(&machine));
                Ok(machine)
            }),
            services: None,
            abort: Arc::new(move |reason: &str| aborts.lock().push(reason.to_owned())),
        };
        let consensus = runtime.block_on(Consensus::start(self.config.clone(), parts))?;
        self.running = Some(Running {
            runtime,
            consensus,
            machines,
        });
        Ok(())
    }

    pub(crate) fn start(&mut self) {
        self.try_start().unwrap();
    }

    /// The process dies; what the log has not synced is lost.
    pub(crate) fn kill(&mut self) {
        if let Some(running) = self.running.take() {
            // What the dying process says about its log is no finding.
            let aborts = self.aborts.lock().clone();
            if let NodeLog::Memory(log) = &mut self.log {
                let after = log.crash(0);
                *log = after;
            }
            drop(running.consensus);
            running.runtime.shutdown_timeout(Duration::from_millis(200));
            self.wait_closed();
            *self.aborts.lock() = aborts;
        }
    }

    /// A thread of the runtime that was busy may hold the listener a little longer than the runtime is waited for.
    fn wait_closed(&self) {
        let until = Instant::now() + Duration::from_secs(20);
        while let Err(error) = TcpListener::bind(self.config.listen) {
            if Instant::now() >= until {
                // A test that fails already is to say why.
                assert!(std::thread::panicking(), "still listening: {error}");
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The disk forgets the last `count` entries of a group, synced as they are.
    pub(crate) fn lose_entries(&self, group: u32, count: u64) {
        assert!(self.running.is_none());
        let NodeLog::Memory(log) = &self.log else {
            panic!("only of a log in memory");
        };
        let last = log.group(group).unwrap().last.unwrap();
        let after = last.checked_sub(count);
        log.truncate_after(group, after, Box::new(|lost| lost.unwrap()));
    }

    /// The directory of the log is removed, and nothing else.
    pub(crate) fn lose_log(&mut self) {
        assert!(self.running.is_none());
        match &mut self.log {
            NodeLog::Memory(log) => *log = MemoryLog::new(),
            NodeLog::Disk => std::fs::remove_dir_all(self.dir.path().join("log")).unwrap(),
        }
    }

    /// A clean stop.
    pub(crate) fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.runtime.block_on(async {
                running.consensus.hand_over(Duration::from_secs(2)).await;
                running.consensus.shutdown().await;
            });
            running.runtime.shutdown_timeout(Duration::from_secs(2));
            self.wait_closed();
        }
    }

    /// The disk is replaced by an empty one.
    pub(crate) fn wipe(&mut self) {
        assert!(self.running.is_none());
        let listen = self.config.listen;
        let peers = self.config.peers.clone();
        let join = self.config.join.clone();
        let disk = matches!(self.log, NodeLog::Disk);
        let mut new = Self::new(self.id, &peers, disk);
        new.config.listen = listen;
        new.config.join = join;
        new.config.timing = self.config.timing.clone();
        new.config.checkpoint = self.config.checkpoint.clone();
        *self = new;
    }

    /// A second node with a copy of this one's disk, listening elsewhere.
    pub(crate) fn copy(&self) -> Self {
        assert!(self.running.is_none());
        let mut copy = Self::new(self.id, &self.config.peers, true);
        copy_files(self.dir.path(), copy.dir.path());
        copy.config.listen = free_address();
        copy.config.timing = self.config.timing.clone();
        let disks = self.disks.lock();
        let copied = disks
            .iter()
            .map(|(group, disk)| (*group, Arc::new(disk.copy())));
        *copy.disks.lock() = copied.collect();
        drop(disks);
        copy
    }

    pub(crate) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    pub(crate) fn consensus(&self) -> &Consensus {
        &self.running.as_ref().unwrap().consensus
    }

    pub(crate) fn group(&self, group: u32) -> Group {
        self.consensus().group(GroupId(group)).unwrap()
    }

    pub(crate) fn machine(&self, group: u32) -> Arc<SimMachine> {
        Arc::clone(&self.running.as_ref().unwrap().machines.lock()[&GroupId(group)])
    }

    pub(crate) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.running.as_ref().unwrap().runtime.block_on(future)
    }

    pub(crate) fn formed(&self) {
        let formed = self.consensus().formed();
        self.block_on(async { tokio::time::timeout(Duration::from_secs(30), formed).await })
            .unwrap()
            .unwrap();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

pub(crate) fn copy_files(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        let target = to.join(file.file_name());
        if file.file_type().unwrap().is_dir() {
            copy_files(&file.path(), &target);
        } else {
            std::fs::copy(file.path(), target).unwrap();
        }
    }
}

pub(crate) struct Nodes {
    pub(crate) nodes: BTreeMap<u64, Node>,
}

impl Nodes {
    /// `count` nodes that know each other, none started.
    pub(crate) fn new(count: u64, disk_log: bool) -> Self {
        let peers: BTreeMap<u64, String> = (1..=count)
            .map(|id| (id, free_address().to_string()))
            .collect();
        let nodes = (1..=count)
            .map(|id| (id, Node::new(id, &peers, disk_log)))
            .collect();
        Self { nodes }
    }

    pub(crate) fn configure(mut self, timing: &Timing, checkpoint: &CheckpointPolicy) -> Self {
        for node in self.nodes.values_mut() {
            node.config.timing = timing.clone();
            node.config.checkpoint = checkpoint.clone();
        }
        self
    }

    pub(crate) fn started(mut self) -> Self {
        for node in self.nodes.values_mut() {
            node.start();
        }
        for node in self.nodes.values() {
            node.formed();
        }
        self
    }

    pub(crate) fn node(&mut self, id: u64) -> &mut Node {
        self.nodes.get_mut(&id).unwrap()
    }

    /// The node that may act as the leader of a group.
    pub(crate) fn leader(&self, group: u32) -> u64 {
        let until = Instant::now() + Duration::from_secs(20);
        while Instant::now() < until {
            let running = self.nodes.values().filter(|node| node.is_running());
            for node in running {
                let ready = node
                    .consensus()
                    .group(GroupId(group))
                    .is_some_and(|group| group.leadership().borrow().ready);
                if ready {
                    return node.id;
                }
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        panic!("no leader of group {group}");
    }

    pub(crate) fn put(&self, group: u32, number: u64) {
        let until = Instant::now() + Duration::from_secs(30);
        while Instant::now() < until {
            let leader = &self.nodes[&self.leader(group)];
            let proposed = leader.group(group).propose(payload(number));
            if leader.block_on(proposed).is_ok() {
                return;
            }
        }
        panic!("{number} was not accepted");
    }

    /// Waits until all running nodes have the same numbers, at least `len`, and returns them.
    pub(crate) fn converged(&self, group: u32, len: usize) -> Vec<u64> {
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            let all: Vec<Vec<u64>> = self
                .nodes
                .values()
                .filter(|node| node.is_running())
                .map(|node| node.machine(group).numbers())
                .collect();
            if all
                .iter()
                .all(|numbers| numbers.len() >= len && *numbers == all[0])
            {
                return all[0].clone();
            }
            assert!(
                Instant::now() < until,
                "group {group} not converged: {:?}",
                all.iter().map(Vec::len).collect::<Vec<_>>()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn no_aborts(&self) {
        for node in self.nodes.values() {
            assert!(
                node.aborts.lock().is_empty(),
                "node {}: {:?}",
                node.id,
                node.aborts.lock()
            );
        }
    }
}

pub(crate) fn payload(number: u64) -> Payload {
    super::cluster::payload(number, 8)
}

#[test]
fn a_port_that_was_given_out_is_nobody_elses() {
    let address = free_address();
    if cfg!(target_os = "linux") {
        let exclusive = TcpSocket::new_v4().unwrap().bind(address);
        assert!(exclusive.is_err(), "it is free for others");
    }
    // The node that it is for may use it, as often as it starts.
    for _ in 0..2 {
        let listener = TcpListener::bind(address).unwrap();
        assert!(std::net::TcpStream::connect(address).is_ok());
        drop(listener);
        let refused = std::net::TcpStream::connect(address).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    }
}
