//! A run: three nodes, clients, faults from a seed; then everything is mended and must work.

use crate::actors::{Surroundings, consume, publish};
use crate::net::SimNet;
use crate::node::{Clockwork, PUBLISH_TIMEOUT, SimNode};
use crate::record::Record;
use node::broker_model::ids::{Placement, ShardId};
use node::host::HostInput;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::sync::oneshot;

const NODES: u64 = 3;
const QUEUES: usize = 4;
/// Of the cluster's formation, in simulated milliseconds like all that follow.
const START: u64 = 30_000;
/// Of the faults.
const FAULTS: u64 = 12_000;
/// Until every group has a leader again after healing.
const LEADERS: u64 = 8_000;
/// Until every publisher has been confirmed again after healing.
const CONFIRMS: u64 = 15_000;
/// Until everything confirmed has been consumed after healing.
const DRAINED: u64 = 60_000;
/// The longest cut or crash.
const LONGEST: u64 = 6_000;

pub(crate) struct World {
    random: StdRng,
    net: Arc<SimNet>,
    nodes: Vec<SimNode>,
    clients: Clockwork,
    clock: Arc<AtomicU64>,
    now: u64,
    record: Arc<Mutex<Record>>,
    publishing: Arc<AtomicBool>,
    acked: Vec<Arc<AtomicU64>>,
    /// What ends when.
    due: Vec<(u64, End)>,
    /// When each node's log is synced next.
    sync_at: Vec<u64>,
    log: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum End {
    Cut(u64, u64),
    Crash(u64),
    SlowDisk(u64),
    SlowNet,
}

/// What a run came to.
pub(crate) struct Verdict {
    pub(crate) wrong: Vec<String>,
    pub(crate) faults: Vec<String>,
    pub(crate) summary: String,
}

/// Runs one seed.
pub(crate) fn run(seed: u64) -> Verdict {
    let clock = Arc::new(AtomicU64::new(0));
    let net = SimNet::new(seed);
    let record = Arc::new(Mutex::new(Record::new(
        PUBLISH_TIMEOUT.as_millis() as u64 + 3_000,
        LONGEST + 6_000,
    )));
    let mut world = World {
        random: StdRng::seed_from_u64(seed),
        nodes: (1..=NODES).map(|id| SimNode::new(id, NODES)).collect(),
        clients: Clockwork::new("clients".into(), &clock),
        net,
        clock,
        now: 0,
        record,
        publishing: Arc::new(AtomicBool::new(true)),
        acked: Vec::new(),
        due: Vec::new(),
        sync_at: vec![0; NODES as usize],
        log: Vec::new(),
    };
    world.live(seed);
    let record = Arc::clone(&world.record);
    let faults = std::mem::take(&mut world.log);
    drop(world);
    let record = record.lock();
    Verdict {
        wrong: record.wrong.clone(),
        faults,
        summary: format!(
            "{} acked, {} nacked, {} unknown, {} deliveries, {} settled, {:.1} s simulated",
            record.acked,
            record.nacked,
            record.unknown,
            record.delivered,
            record.settled,
            record.now as f64 / 1000.0
        ),
    }
}

impl World {
    fn live(&mut self, seed: u64) {
        for at in 0..self.nodes.len() {
            self.start(at);
        }
        let formed = |world: &Self| world.nodes.iter().all(|node| node.node().is_some());
        if !self.until(START, formed) {
            return self.complain("the cluster was not formed");
        }
        self.send_clients(seed);
        self.run_for(1_000);
        self.break_things();
        self.mend();
        let healed = self.now;
        let soon = self.until(LEADERS, Self::all_led);
        if !soon {
            self.complain("not every group has a leader soon after healing");
        }
        let before: Vec<u64> = self.confirmed();
        let confirmed = |world: &Self| {
            world
                .confirmed()
                .iter()
                .zip(&before)
                .all(|(now, before)| now > before)
        };
        if !self.until(CONFIRMS, confirmed) {
            let now = self.confirmed();
            self.complain(&format!(
                "not every publisher was confirmed after healing at {healed} ms: {before:?}, then {now:?}"
            ));
        }
        self.publishing.store(false, Ordering::Relaxed);
        let done = |world: &Self| {
            let record = world.record.lock();
            record.open() == 0 && record.owed() == 0
        };
        if !self.until(DRAINED, done) {
            let open = self.record.lock().open();
            self.complain(&format!("after healing {open} publishes are open"));
            self.report();
        }
        // Whatever is delivered now was settled long ago, or was never confirmed.
        self.run_for(2_000);
        self.record.lock().complain_of_lost();
    }

    /// Says what the leaders think of their queues.
    fn report(&mut self) {
        let mut asked = Vec::new();
        for node in &self.nodes {
            let id = node.id;
            let Some(node) = node.node() else { continue };
            for shard in 1..=2 {
                let inbox = node
                    .broker()
                    .hosts()
                    .inbox(Placement::Shard(ShardId(shard)));
                let (reply, answer) = oneshot::channel();
                if let Some(inbox) = inbox {
                    let _ = inbox.send(HostInput::Report {
                        queues: Vec::new(),
                        reply,
                    });
                    asked.push((id, shard, answer));
                }
            }
        }
        self.run_for(100);
        for (id, shard, mut answer) in asked {
            if let Ok(queues) = answer.try_recv() {
                self.complain(&format!("node {id}, shard {shard}: {queues:?}"));
            }
        }
    }

    fn complain(&self, what: &str) {
        self.record.lock().complain(what.to_owned());
    }

    fn confirmed(&self) -> Vec<u64> {
        self.acked
            .iter()
            .map(|count| count.load(Ordering::Relaxed))
            .collect()
    }

    fn all_led(&self) -> bool {
        self.nodes.iter().all(|node| node.node().is_some())
            && (0..=2).all(|group| {
                let ready = |node: &SimNode| {
                    let node = node.node()?;
                    let group = node.broker().consensus().group(consensus::GroupId(group))?;
                    let ready = group.leadership().borrow().ready;
                    ready.then_some(())
                };
                self.nodes.iter().any(|node| ready(node).is_some())
            })
    }

    fn send_clients(&mut self, seed: u64) {
        let around = Surroundings {
            net: Arc::clone(&self.net),
            record: Arc::clone(&self.record),
            publishing: Arc::clone(&self.publishing),
            queues: QUEUES,
        };
        for node in 1..=NODES {
            let acked = Arc::new(AtomicU64::new(0));
            self.acked.push(Arc::clone(&acked));
            let seed = seed.wrapping_mul(1000).wrapping_add(node);
            self.clients
                .runtime
                .spawn(publish(around.clone(), seed, node, acked));
        }
        for (number, queue) in (0..QUEUES + 2).enumerate() {
            let node = 1 + number as u64 % NODES;
            let seed = seed.wrapping_mul(1000).wrapping_add(100 + number as u64);
            self.clients
                .runtime
                .spawn(consume(around.clone(), seed, node, queue % QUEUES));
        }
    }

    fn break_things(&mut self) {
        let end = self.now + FAULTS;
        while self.now < end {
            self.fault();
            let pause = self.random.random_range(200..2_500);
            self.run_for(pause);
        }
    }

    fn fault(&mut self) {
        let node = self.random.random_range(1..=NODES);
        let other = 1 + (node + self.random.random_range(0..NODES - 1)) % NODES;
        let until = self.now + self.random.random_range(100..LONGEST);
        match self.random.random_range(0..12) {
            0 | 1 => self.cut(node, other, until),
            2 => {
                self.cut(node, other, until);
                self.cut(other, node, until);
            }
            3 | 4 => {
                for other in (1..=NODES).filter(|other| *other != node) {
                    self.cut(node, other, until);
                    self.cut(other, node, until);
                }
            }
            5 => {
                for other in (1..=NODES).filter(|other| *other != node) {
                    self.cut(node, other, until);
                }
            }
            6..9 => self.crash(node, until),
            9 => {
                let down = self.random.random_range(100..3_000);
                for node in 1..=NODES {
                    self.crash(node, self.now + down + node * 37);
                }
            }
            10 => {
                self.note(format!("disk of {node} is slow until {until}"));
                self.nodes[node as usize - 1].sync_ms = 400;
                self.due.push((until, End::SlowDisk(node)));
            }
            _ => {
                let longest = self.random.random_range(5..150);
                self.note(format!("network takes up to {longest} ms until {until}"));
                self.net.set_delay((0, longest));
                self.due.push((until, End::SlowNet));
            }
        }
    }

    fn note(&mut self, what: String) {
        self.log.push(format!("{:>6} ms: {what}", self.now));
    }

    fn cut(&mut self, from: u64, to: u64, until: u64) {
        self.note(format!("{from} -> {to} is cut until {until}"));
        self.net.cut(from, to);
        self.due.retain(|(_, end)| *end != End::Cut(from, to));
        self.due.push((until, End::Cut(from, to)));
    }

    fn crash(&mut self, node: u64, until: u64) {
        let at = node as usize - 1;
        if self.nodes[at].running.is_none() {
            return;
        }
        let unsynced = self.nodes[at].log.unsynced();
        let survivors = self.random.random_range(0..=unsynced);
        self.note(format!(
            "{node} crashes until {until}, {survivors} of {unsynced} writes survive"
        ));
        let net = Arc::clone(&self.net);
        self.nodes[at].crash(&net, survivors);
        self.due.push((until, End::Crash(node)));
    }

    fn start(&mut self, at: usize) {
        let (net, clock) = (Arc::clone(&self.net), Arc::clone(&self.clock));
        if self.nodes[at].running.is_none() {
            self.nodes[at].start(&net, &clock);
        }
    }

    fn mend(&mut self) {
        self.note("everything is mended".to_owned());
        for (_, end) in std::mem::take(&mut self.due) {
            self.end(end);
        }
        self.net.heal();
    }

    fn end(&mut self, end: End) {
        match end {
            End::Cut(from, to) => self.net.mend(from, to),
            End::Crash(node) => self.start(node as usize - 1),
            End::SlowDisk(node) => self.nodes[node as usize - 1].sync_ms = 2,
            End::SlowNet => self.net.set_delay((0, 1)),
        }
    }

    fn run_for(&mut self, time: u64) {
        self.until(time, |_| false);
    }

    /// Runs until something is so; false if it is not within the time.
    fn until(&mut self, within: u64, is: impl Fn(&Self) -> bool) -> bool {
        let end = self.now + within;
        while self.now < end {
            self.tick();
            if self.now.is_multiple_of(20) && is(self) {
                return true;
            }
        }
        is(self)
    }

    fn tick(&mut self) {
        self.now += 1;
        self.clock.store(self.now, Ordering::Relaxed);
        self.record.lock().now = self.now;
        let (ended, due) = std::mem::take(&mut self.due)
            .into_iter()
            .partition(|(at, _)| *at <= self.now);
        self.due = due;
        let ended: Vec<(u64, End)> = ended;
        for (_, end) in ended {
            self.end(end);
        }
        self.net.deliver(self.now);
        for at in 0..self.nodes.len() {
            let node = &self.nodes[at];
            if node.running.is_some() && self.sync_at[at] <= self.now && node.log.unsynced() > 0 {
                node.log.sync();
                self.sync_at[at] = self.now + self.random.random_range(1..=node.sync_ms);
            }
            node.advance(self.now);
            if let Some(failure) = node.failure() {
                let id = node.id;
                self.record
                    .lock()
                    .complain(format!("node {id} ends: {failure}"));
            }
        }
        self.clients.advance(self.now);
        if self.now.is_multiple_of(500) {
            self.record.lock().check_bounds();
        }
    }
}
