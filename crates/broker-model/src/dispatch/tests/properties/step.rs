//! What may happen.

use super::world::{NODES, QUEUES};
use proptest::prelude::*;

#[derive(Debug, Clone)]
pub(super) enum Step {
    Publish {
        queue: usize,
        level: u8,
        count: usize,
    },
    Consume {
        node: u64,
        queue: usize,
        credit: u32,
        no_ack: bool,
        priority: i32,
    },
    Credit {
        consumer: usize,
        more: u32,
    },
    Cancel {
        consumer: usize,
    },
    Settle {
        node: u64,
        mask: u64,
    },
    Return {
        node: u64,
        mask: u64,
        counted: bool,
    },
    Kill {
        node: u64,
        mask: u64,
        dead_letter: bool,
    },
    SettleDead,
    Get {
        node: u64,
        queue: usize,
        no_ack: bool,
    },
    Purge {
        queue: usize,
    },
    NodeLost {
        node: u64,
    },
    Flap {
        node: u64,
        lost: u64,
    },
    FailOver {
        lost: u64,
        written: bool,
    },
    BeginCheckpoint,
    EndCheckpoint,
    /// What the leader decided is applied.
    Arrive,
    /// Time passes.
    Wait {
        ms: u64,
    },
    /// A node that was taken for lost says something of what it held after all.
    Late {
        mask: u64,
        settle: bool,
    },
}

pub(super) fn any_step() -> impl Strategy<Value = Step> {
    let node = || 1..=NODES;
    let queue = || 0..QUEUES.len();
    prop_oneof![
        6 => (queue(), 0u8..3, 1usize..6).prop_map(|(queue, level, count)| Step::Publish { queue, level: level / 2, count }),
        4 => (node(), queue(), 0u32..6, any::<bool>(), 0..2).prop_map(|(node, queue, credit, no_ack, priority)| {
            Step::Consume { node, queue, credit, no_ack: no_ack && priority == 1, priority }
        }),
        5 => (any::<usize>(), 1u32..6).prop_map(|(consumer, more)| Step::Credit { consumer, more }),
        1 => any::<usize>().prop_map(|consumer| Step::Cancel { consumer }),
        5 => (node(), any::<u64>()).prop_map(|(node, mask)| Step::Settle { node, mask }),
        3 => (node(), any::<u64>(), any::<bool>()).prop_map(|(node, mask, counted)| Step::Return { node, mask, counted }),
        2 => (node(), any::<u64>(), any::<bool>()).prop_map(|(node, mask, dead_letter)| Step::Kill { node, mask, dead_letter }),
        1 => Just(Step::SettleDead),
        2 => (node(), queue(), any::<bool>()).prop_map(|(node, queue, no_ack)| Step::Get { node, queue, no_ack }),
        1 => queue().prop_map(|queue| Step::Purge { queue }),
        1 => node().prop_map(|node| Step::NodeLost { node }),
        1 => (node(), any::<u64>()).prop_map(|(node, lost)| Step::Flap { node, lost }),
        1 => (any::<u64>(), any::<bool>()).prop_map(|(lost, written)| Step::FailOver { lost, written }),
        2 => Just(Step::BeginCheckpoint),
        2 => Just(Step::EndCheckpoint),
        4 => Just(Step::Arrive),
        2 => (1u64..100).prop_map(|ms| Step::Wait { ms }),
        2 => (any::<u64>(), any::<bool>()).prop_map(|(mask, settle)| Step::Late { mask, settle }),
    ]
}
