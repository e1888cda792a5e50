//! Stories and properties of the replicated state.

mod batches;
mod checkpoints;
mod dead_letters;
mod deduplication;
mod messages;
mod spills;

use super::*;
use crate::identity::{Fingerprint, Identity, WindowId};
use crate::ids::NodeId;
use crate::message::Message;
use crate::op::{DeathReason, EntryHead, SequenceRanges};
use crate::wire::{OpsWriter, encode_entry_head};

const QUEUE: QueueId = QueueId(1 << 16);
const OTHER: QueueId = QueueId(2 << 16);

fn publish(queues: &[QueueId], level: u8, body: &str) -> Op {
    let targets = queues
        .iter()
        .map(|queue| Target {
            queue: *queue,
            level,
            ttl_ms: None,
            identities: Box::default(),
        })
        .collect();
    Op::Publish {
        targets,
        message: Message {
            body: Bytes::from(body.to_owned()),
            ..Message::default()
        },
    }
}

fn ranges(from: u64, to: u64) -> SequenceRanges {
    smallvec::smallvec![(Sequence(from), Sequence(to))]
}

fn settle(from: u64, to: u64) -> Op {
    Op::Settle {
        queue: QUEUE,
        sequences: ranges(from, to),
    }
}

fn encode(ops: &[Op]) -> Bytes {
    let mut writer = OpsWriter::new();
    ops.iter().for_each(|op| writer.push(op));
    writer.finish()
}

fn head(previous: u64, number: u64) -> BatchHead {
    BatchHead {
        origin: Origin {
            node: NodeId(1),
            incarnation: 1,
        },
        previous,
        number,
        answered: 0,
    }
}

/// Applies one entry with the given batches.
fn apply(
    machine: &mut ShardMachine,
    batches: &[(BatchHead, Vec<Op>)],
    refusals: &[Refusal],
) -> (Vec<Effect>, Vec<BatchOutcome>) {
    let heads = batches.iter().map(|(head, _)| *head).collect();
    let entry = EntryHead {
        now_ms: 1_000,
        batches: heads,
        refusals: refusals.to_vec(),
        leader_ops: vec![],
    };
    let mut segments = vec![encode_entry_head(&entry)];
    segments.extend(batches.iter().map(|(_, ops)| encode(ops)));
    let (mut effects, mut outcomes) = (Vec::new(), Vec::new());
    machine
        .apply_entry(
            machine.applied_index() + 1,
            &segments,
            &mut effects,
            &mut outcomes,
        )
        .unwrap();
    (effects, outcomes)
}

/// Applies operations as the leader's own.
fn run(machine: &mut ShardMachine, ops: Vec<Op>) -> Vec<Effect> {
    let mut effects = Vec::new();
    ops.into_iter()
        .for_each(|op| machine.apply_op(1_000, None, op, &mut effects));
    effects
}

/// What a checkpoint stores now.
fn messages(machine: &ShardMachine, delta: &CheckpointDelta) -> Vec<(MessageKey, StoredMessage)> {
    let mut found = Vec::new();
    for stretch in &delta.stretches {
        let mut stretch = *stretch;
        while machine.take_messages(&mut stretch, 1, &mut found) {}
    }
    found
}
