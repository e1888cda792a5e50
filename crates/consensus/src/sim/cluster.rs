//! Nodes that can be crashed and restarted, each with one group.

use super::machine::{SimDisk, SimMachine};
use super::net::{SimNet, SimWire};
use crate::config::{CheckpointPolicy, Limits, Timing};
use crate::group::{Group, GroupCore, GroupEnvironment};
use crate::inbound::Inbound;
use crate::types::{GroupId, Payload, RaftNode};
use bytes::{BufMut, Bytes, BytesMut};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use storage::{LogBackend, MemoryLog};

pub(crate) struct SimOptions {
    pub(crate) nodes: u64,
    pub(crate) timing: Timing,
    pub(crate) limits: Limits,
    pub(crate) checkpoint: CheckpointPolicy,
    /// Bytes of a proposal.
    pub(crate) payload: usize,
}

impl Default for SimOptions {
    fn default() -> Self {
        Self {
            nodes: 3,
            timing: Timing::default(),
            limits: Limits::default(),
            checkpoint: CheckpointPolicy::default(),
            payload: 8,
        }
    }
}

pub(crate) struct SimNode {
    pub(crate) log: MemoryLog,
    pub(crate) disk: Arc<SimDisk>,
    pub(crate) running: Option<SimRunning>,
}

pub(crate) struct SimRunning {
    pub(crate) group: Group,
    pub(crate) machine: Arc<SimMachine>,
    inbound: Arc<Inbound>,
}

pub(crate) struct SimCluster {
    pub(crate) net: Arc<SimNet>,
    pub(crate) nodes: BTreeMap<u64, SimNode>,
    pub(crate) options: SimOptions,
    pub(crate) aborts: Arc<Mutex<Vec<String>>>,
    /// The groups that run, for clients.
    pub(crate) groups: Arc<Mutex<BTreeMap<u64, Group>>>,
}

pub(crate) const GROUP: GroupId = GroupId(1);

impl SimCluster {
    /// Starts the nodes and makes them one group.
    pub(crate) async fn start(seed: u64, options: SimOptions) -> Self {
        let cluster = Self::unformed(seed, options).await;
        cluster.form().await;
        cluster
    }

    /// Starts the nodes, which are no group yet.
    pub(crate) async fn unformed(seed: u64, options: SimOptions) -> Self {
        let nodes = (1..=options.nodes)
            .map(|node| {
                let state = SimNode {
                    log: MemoryLog::new(),
                    disk: Arc::default(),
                    running: None,
                };
                (node, state)
            })
            .collect();
        let mut cluster = Self {
            net: SimNet::new(seed),
            nodes,
            options,
            aborts: Arc::default(),
            groups: Arc::default(),
        };
        let all: Vec<u64> = cluster.nodes.keys().copied().collect();
        for node in &all {
            cluster.start_node(*node).await;
        }
        cluster
    }

    /// Makes the nodes one group.
    pub(crate) async fn form(&self) {
        let members = self
            .nodes
            .keys()
            .map(|node| (RaftNode::new(*node, 0), format!("node{node}")))
            .collect();
        self.group(1).0.initialize(&members).await.unwrap();
    }

    pub(crate) async fn start_node(&mut self, node: u64) {
        let aborts = Arc::clone(&self.aborts);
        let state = self.nodes.get_mut(&node).unwrap();
        let wire = SimWire {
            net: Arc::clone(&self.net),
            me: node,
        };
        let backend: Arc<dyn LogBackend> = Arc::new(state.log.clone());
        let environment = GroupEnvironment::new(
            Arc::new(wire),
            backend,
            self.options.timing.clone(),
            self.options.limits.clone(),
            self.options.checkpoint.clone(),
            Arc::new(move |reason: &str| aborts.lock().push(format!("node {node}: {reason}"))),
        )
        .unwrap();
        let machine = SimMachine::new(Arc::clone(&state.disk));
        let core = GroupCore::open(
            GROUP,
            RaftNode::new(node, 0),
            Arc::clone(&machine) as _,
            environment,
        )
        .unwrap();
        core.start().await.unwrap();
        let inbound = Arc::new(Inbound::default());
        inbound.insert(Arc::clone(&core));
        let every = self.options.timing.heartbeat;
        tokio::spawn(crate::group::send_heartbeats(
            Arc::downgrade(&inbound),
            every,
        ));
        self.net.attach(node, Arc::clone(&inbound));
        let group = Group(core);
        self.groups.lock().insert(node, group.clone());
        state.running = Some(SimRunning {
            group,
            machine,
            inbound,
        });
    }

    /// The process dies and the machine loses power: of what the log has not synced, `survivors`
    /// writes are on the disk all the same.
    pub(crate) async fn crash(&mut self, node: u64, survivors: usize) {
        self.net.detach(node);
        self.groups.lock().remove(&node);
        let state = self.nodes.get_mut(&node).unwrap();
        let after = state.log.crash(survivors);
        if let Some(running) = state.running.take() {
            running.inbound.clear();
            // The dead core may complain about its closed log; it is not a finding.
            running.group.0.shutdown().await;
        }
        state.log = after;
    }

    pub(crate) fn running(&self) -> impl Iterator<Item = (u64, &SimRunning)> {
        self.nodes
            .iter()
            .filter_map(|(node, state)| Some((*node, state.running.as_ref()?)))
    }

    pub(crate) fn group(&self, node: u64) -> Group {
        self.nodes[&node].running.as_ref().unwrap().group.clone()
    }

    pub(crate) fn machine(&self, node: u64) -> Arc<SimMachine> {
        Arc::clone(&self.nodes[&node].running.as_ref().unwrap().machine)
    }

    /// The node that may act as the leader; waits for one.
    pub(crate) async fn leader(&self) -> u64 {
        self.leader_within(Duration::from_secs(20))
            .await
            .expect("a leader in time")
    }

    pub(crate) async fn leader_within(&self, within: Duration) -> Option<u64> {
        let until = tokio::time::Instant::now() + within;
        while tokio::time::Instant::now() < until {
            let ready = self
                .running()
                .find(|(_, running)| running.group.leadership().borrow().ready)
                .map(|(node, _)| node);
            if ready.is_some() {
                return ready;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        None
    }

    pub(crate) fn payload(&self, number: u64) -> Payload {
        payload(number, self.options.payload)
    }

    /// Proposes at the current leader until it is accepted.
    pub(crate) async fn put(&self, number: u64) {
        loop {
            let leader = self.leader().await;
            let proposed = self.group(leader).propose(self.payload(number)).await;
            if proposed.is_ok() {
                return;
            }
        }
    }

    /// Waits until all running nodes show the same `len` numbers, and returns them.
    pub(crate) async fn converged(&self, len: usize) -> Vec<u64> {
        let until = tokio::time::Instant::now() + Duration::from_secs(30);
        loop {
            let all: Vec<Vec<u64>> = self
                .running()
                .map(|(_, running)| running.machine.numbers())
                .collect();
            if all
                .iter()
                .all(|numbers| numbers.len() >= len && *numbers == all[0])
            {
                return all[0].clone();
            }
            let lens: Vec<usize> = all.iter().map(Vec::len).collect();
            let status: Vec<_> = self
                .running()
                .map(|(_, running)| running.group.status())
                .collect();
            assert!(
                tokio::time::Instant::now() < until,
                "not converged: {lens:?} of {len}, aborts {:?}, {status:#?}",
                self.aborts.lock()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

pub(crate) fn payload(number: u64, len: usize) -> Payload {
    let mut bytes = BytesMut::with_capacity(len.max(8));
    bytes.put_u64(number);
    bytes.resize(len.max(8), 0);
    Payload::from(vec![bytes.freeze(), Bytes::new()])
}
