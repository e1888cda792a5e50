//! The scenarios, by letter.

use crate::args::RunArgs;

/// What a scenario runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nodes {
    /// A cluster of one.
    One,
    /// A cluster of three.
    Three,
    /// Nodes that it starts itself.
    Own,
}

/// Where clients connect, seen from the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Clients {
    Leader,
    Followers,
    All,
}

/// What a scenario does.
#[derive(Debug, Clone, Copy)]
pub(super) enum Work {
    /// Publish and consume for a time: throughput and processor time.
    Load(Clients, fn(&mut RunArgs)),
    /// The same for what it says about latency.
    Latency(Clients, fn(&mut RunArgs)),
    /// Publish this many without consumers, then consume them.
    FillAndDrain(u64),
    /// Declare this many queues.
    Declare(usize),
    /// Restart a node of a cluster with this many queues.
    Restart(usize),
    /// Open this many connections, so many at a time.
    Connections(usize, usize),
    /// Start a node with an empty disk.
    Start,
    /// Hold this many queues and do nothing.
    Idle(usize),
}

/// One row of the comparison.
#[derive(Debug)]
pub(super) struct Scenario {
    pub(super) id: &'static str,
    pub(super) title: &'static str,
    pub(super) nodes: Nodes,
    pub(super) work: Work,
}

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        id: "A",
        title: "transient, auto-ack, 16 B",
        nodes: Nodes::One,
        work: Work::Load(Clients::Leader, |run| transient(run, 16)),
    },
    Scenario {
        id: "B",
        title: "transient, auto-ack, 1 KiB",
        nodes: Nodes::One,
        work: Work::Load(Clients::Leader, |run| transient(run, 1024)),
    },
    Scenario {
        id: "C",
        title: "durable, persistent, confirms 1000, 1 KiB",
        nodes: Nodes::One,
        work: Work::Load(Clients::Leader, |run| {
            replicated(run);
            // One node has nothing to replicate to: its classic queue is the fair opponent.
            run.queue.queue_type = None;
        }),
    },
    Scenario {
        id: "D",
        title: "replicated, persistent, confirms 1000, 1 KiB",
        nodes: Nodes::Three,
        work: Work::Load(Clients::Leader, replicated),
    },
    Scenario {
        id: "E",
        title: "D with 16 B",
        nodes: Nodes::Three,
        work: Work::Load(Clients::Leader, |run| {
            replicated(run);
            run.size = 16;
        }),
    },
    Scenario {
        id: "F",
        title: "D with 64 KiB",
        nodes: Nodes::Three,
        work: Work::Load(Clients::Leader, |run| {
            replicated(run);
            run.size = 64 * 1024;
        }),
    },
    Scenario {
        id: "G",
        title: "D with clients on followers",
        nodes: Nodes::Three,
        work: Work::Load(Clients::Followers, replicated),
    },
    Scenario {
        id: "H",
        title: "D with ack every 1, 4 producers, 4 consumers",
        nodes: Nodes::Three,
        work: Work::Load(Clients::Leader, |run| {
            replicated(run);
            (run.producers, run.consumers, run.ack_every) = (4, 4, 1);
        }),
    },
    Scenario {
        id: "I",
        title: "ten replicated queues, 10p10c, confirms 200, 1 KiB",
        nodes: Nodes::Three,
        work: Work::Load(Clients::All, |run| {
            replicated(run);
            (run.queue.queues, run.producers, run.consumers) = (10, 10, 10);
            run.confirm_window = 200;
        }),
    },
    Scenario {
        id: "J",
        title: "fanout to ten replicated queues, 10 consumers, 1 KiB",
        nodes: Nodes::Three,
        work: Work::Load(Clients::All, |run| {
            replicated(run);
            (run.queue.queues, run.consumers) = (10, 10);
            run.exchange = Some("bench-fanout".to_owned());
            run.confirm_window = 200;
        }),
    },
    Scenario {
        id: "K",
        title: "500 msg/s, one in flight, replicated",
        nodes: Nodes::Three,
        work: Work::Latency(Clients::Leader, |run| {
            replicated(run);
            (run.confirm_window, run.rate, run.ack_every) = (1, Some(500.0), 1);
        }),
    },
    Scenario {
        id: "L",
        title: "one in flight, unthrottled, replicated",
        nodes: Nodes::Three,
        work: Work::Latency(Clients::Leader, |run| {
            replicated(run);
            (run.confirm_window, run.ack_every) = (1, 1);
        }),
    },
    Scenario {
        id: "M",
        title: "declare 1,000 replicated queues, 3 connections",
        nodes: Nodes::Three,
        work: Work::Declare(1000),
    },
    Scenario {
        id: "N",
        title: "restart of a node with 1,000 replicated queues",
        nodes: Nodes::Three,
        work: Work::Restart(1000),
    },
    Scenario {
        id: "O",
        title: "1,000 connections, each an exclusive queue",
        nodes: Nodes::One,
        work: Work::Connections(1000, 8),
    },
    Scenario {
        id: "O64",
        title: "O, 64 connections opened at a time",
        nodes: Nodes::One,
        work: Work::Connections(1000, 64),
    },
    Scenario {
        id: "P",
        title: "fill 500,000 × 1 KiB, drain, replicated",
        nodes: Nodes::Three,
        work: Work::FillAndDrain(500_000),
    },
    Scenario {
        id: "Q",
        title: "cold start of one node, idle memory",
        nodes: Nodes::Own,
        work: Work::Start,
    },
    Scenario {
        id: "R",
        title: "idle with 1,000 replicated queues",
        nodes: Nodes::Three,
        work: Work::Idle(1000),
    },
];

fn transient(run: &mut RunArgs, size: usize) {
    run.size = size;
    run.auto_ack = true;
}

/// One replicated queue, persistent messages of 1 KiB, confirms and acknowledgements.
pub(super) fn replicated(run: &mut RunArgs) {
    run.replicated();
}
