//! The replicated state of one shard: many queues, and which batches of which node are in them.
//!
//! Every replica applies the same entries in the same order, so nothing here reads a clock, draws a
//! random number or knows a queue's settings: the leader decides (expiry, overflow, delivery limit)
//! and its decisions arrive as operations. What happened leaves as [`Effect`]s, which only the
//! leader's [`crate::dispatch::Dispatcher`] looks at.
//!
//! Invariants:
//! - A batch is applied at most once, whatever is re-sent, and never before its predecessor.
//! - Entries are applied once: those at or below the last index do nothing.
//! - Hash maps are looked into, never walked, where the order could show: checkpoints are sorted.
//! - A checkpoint costs what changed since the last one, and copies no bodies.
//!
//! Not here: who consumes (`dispatch`), where entries come from (`consensus`), where checkpoints go
//! (`storage`).

mod checkpoint;
mod effect;
mod origins;
mod spill;
#[cfg(test)]
mod tests;

pub use checkpoint::{CheckpointDelta, CheckpointToken, DeadRange, MessageKey, Stretch};
pub use effect::Effect;

use crate::ids::{NodeId, Origin, QueueId, Sequence};
use crate::message::Message;
use crate::op::{BatchHead, BatchOutcome, BatchStatus, Op, Refusal, Target};
use crate::queue::QueueState;
use crate::wire::{StoredMessage, WireError, decode_entry_head, each_op, validate_ops};
use bytes::Bytes;
use origins::Origins;
use smallvec::SmallVec;

/// The replicated state of one shard (or of all local queues of a node).
#[derive(Debug, Default)]
pub struct ShardMachine {
    /// Slots stay where they are while a queue lives, so that a run of operations on one queue looks
    /// it up once.
    slots: Vec<Option<(QueueId, QueueState)>>,
    free: Vec<usize>,
    index: hashbrown::HashMap<QueueId, usize, foldhash::fast::FixedState>,
    /// The queue of the last operation.
    recent: Option<(QueueId, usize)>,
    origins: Origins,
    applied_index: u64,
    now_ms: u64,
    tail_bytes: usize,
    /// How many of them the running checkpoint stores.
    storing_bytes: usize,
    /// Queues changed since the last checkpoint began; each is flagged.
    dirty: Vec<QueueId>,
    /// Queues deleted since the last checkpoint began, and whether any message of them was stored.
    dropped: Vec<(QueueId, bool)>,
    checkpoints: u64,
    /// The checkpoint that is being written, and its queues.
    running: Option<(u64, Vec<QueueId>)>,
}

impl ShardMachine {
    /// An empty shard.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Applies the entry at `index`: `segments[0]` is its [`crate::op::EntryHead`], the others the
    /// ops of its batches. Entries at or below the last applied index do nothing.
    ///
    /// # Errors
    /// The bytes are not an entry: the log is corrupt and the caller must stop the node. Part of the
    /// entry may have been applied.
    pub fn apply_entry(
        &mut self,
        index: u64,
        segments: &[Bytes],
        effects: &mut Vec<Effect>,
        outcomes: &mut Vec<BatchOutcome>,
    ) -> Result<(), WireError> {
        if index <= self.applied_index {
            return Ok(());
        }
        let Some((head, batches)) = segments.split_first() else {
            return Err(WireError::Malformed("entry: no head"));
        };
        let head = decode_entry_head(head)?;
        if head.batches.len() != batches.len() {
            return Err(WireError::Malformed("entry: batches and heads"));
        }
        self.applied_index = index;
        self.advance(head.now_ms);
        let mut refusals = head.refusals.as_slice();
        for (position, (batch, ops)) in head.batches.iter().zip(batches).enumerate() {
            let own = refusals.partition_point(|refusal| refusal.batch as usize <= position);
            let (own, rest) = refusals.split_at_checked(own).unwrap_or((refusals, &[]));
            refusals = rest;
            outcomes.push(self.run_batch(batch, ops, own, effects)?);
        }
        for op in head.leader_ops {
            self.run(None, op, effects);
        }
        Ok(())
    }

    /// Applies one batch without a log (local queues): same order and duplicate rules. Of `refusals`
    /// only operation and queue count.
    ///
    /// # Errors
    /// The bytes are not operations; nothing was applied.
    pub fn apply_batch(
        &mut self,
        now_ms: u64,
        head: &BatchHead,
        ops: &Bytes,
        refusals: &[Refusal],
        effects: &mut Vec<Effect>,
    ) -> Result<BatchOutcome, WireError> {
        validate_ops(ops)?;
        self.advance(now_ms);
        self.run_batch(head, ops, refusals, effects)
    }

    /// As [`Self::apply_batch`] for operations that were never encoded.
    pub fn apply_plain(
        &mut self,
        now_ms: u64,
        head: &BatchHead,
        ops: Vec<Op>,
        refusals: &[Refusal],
        effects: &mut Vec<Effect>,
    ) -> BatchOutcome {
        self.advance(now_ms);
        let (status, mut refused_ops) = self.origins.admit(head);
        if status == BatchStatus::Applied {
            let mut refusals = refusals;
            for (position, op) in ops.into_iter().enumerate() {
                self.run_unless_refused(
                    head.origin,
                    position,
                    op,
                    &mut refusals,
                    &mut refused_ops,
                    effects,
                );
            }
            self.origins.remember(head, &refused_ops);
        }
        BatchOutcome {
            origin: head.origin,
            number: head.number,
            status,
            refused_ops,
        }
    }

    /// Applies one operation without a log (the leader's own, on local queues: `by` is `None`).
    pub fn apply_op(&mut self, now_ms: u64, by: Option<Origin>, op: Op, effects: &mut Vec<Effect>) {
        self.advance(now_ms);
        self.run(by, op, effects);
    }

    /// A queue's state; `None` until the first operation names it.
    #[must_use]
    pub fn queue(&self, queue: QueueId) -> Option<&QueueState> {
        let slot = match self.recent {
            Some((recent, slot)) if recent == queue => slot,
            _ => *self.index.get(&queue)?,
        };
        self.slots.get(slot)?.as_ref().map(|(_, state)| state)
    }

    /// All queues, in no order.
    pub fn queues(&self) -> impl Iterator<Item = (QueueId, &QueueState)> {
        self.slots
            .iter()
            .flatten()
            .map(|(queue, state)| (*queue, state))
    }

    /// Bytes of messages that no checkpoint has stored yet.
    #[must_use]
    pub fn tail_bytes(&self) -> usize {
        self.tail_bytes
    }

    /// The same without those that the running checkpoint is storing; fewer, where some of these have died meanwhile.
    #[must_use]
    pub fn unstored_bytes(&self) -> usize {
        self.tail_bytes.saturating_sub(self.storing_bytes)
    }

    /// Index of the last applied entry.
    #[must_use]
    pub fn applied_index(&self) -> u64 {
        self.applied_index
    }

    /// The time of the last entry: a new leader's clock must not be behind it.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// The newest start of `node` that is known and its last applied batch.
    #[must_use]
    pub fn last_batch(&self, node: NodeId) -> Option<(u64, u64)> {
        self.origins.last(node)
    }

    fn advance(&mut self, now_ms: u64) {
        self.now_ms = self.now_ms.max(now_ms);
    }

    fn run_batch(
        &mut self,
        head: &BatchHead,
        ops: &Bytes,
        refusals: &[Refusal],
        effects: &mut Vec<Effect>,
    ) -> Result<BatchOutcome, WireError> {
        let (status, mut refused_ops) = self.origins.admit(head);
        if status == BatchStatus::Applied {
            let mut refusals = refusals;
            each_op(ops, |position, op| {
                self.run_unless_refused(
                    head.origin,
                    position,
                    op,
                    &mut refusals,
                    &mut refused_ops,
                    effects,
                );
            })?;
            self.origins.remember(head, &refused_ops);
        }
        Ok(BatchOutcome {
            origin: head.origin,
            number: head.number,
            status,
            refused_ops,
        })
    }

    /// Runs the operation at `position` of a batch, without the targets that are refused. `refusals`
    /// are sorted; those of this operation are taken off.
    fn run_unless_refused(
        &mut self,
        origin: Origin,
        position: usize,
        mut op: Op,
        refusals: &mut &[Refusal],
        refused_ops: &mut Vec<u32>,
        effects: &mut Vec<Effect>,
    ) {
        if refusals
            .first()
            .is_some_and(|refusal| refusal.op as usize <= position)
            && let own = refusals.partition_point(|refusal| refusal.op as usize <= position)
            && let Some((own, rest)) = refusals.split_at_checked(own)
        {
            *refusals = rest;
            if let Op::Publish { targets, .. } | Op::PassOn { targets, .. } = &mut op {
                let before = targets.len();
                let mut refused: SmallVec<[QueueId; 8]> =
                    own.iter().map(|refusal| refusal.queue).collect();
                refused.sort_unstable();
                targets.retain(|target| refused.binary_search(&target.queue).is_err());
                if targets.len() < before {
                    refused_ops.push(position as u32);
                    op = op.without_settling();
                }
            }
        }
        self.run(Some(origin), op, effects);
    }

    fn run(&mut self, by: Option<Origin>, op: Op, effects: &mut Vec<Effect>) {
        match op {
            Op::Publish { targets, message } => self.append(&targets, message, effects),
            Op::PassOn {
                from,
                sequence,
                targets,
                message,
            } => {
                let keeps = |state: &QueueState| state.reason_of(sequence).is_some();
                if self.queue(from).is_none_or(keeps) {
                    self.append(&targets, message, effects);
                    self.settle(from, &[(sequence, sequence)], effects);
                }
            }
            Op::Settle { queue, sequences } => self.settle(queue, &sequences, effects),
            Op::Kill {
                queue,
                sequences,
                reason,
                dead_letter,
            } => {
                let Some(state) = self.existing(queue) else {
                    return;
                };
                let mut freed = 0;
                let mut killed = SmallVec::new();
                for (from, to) in sequences {
                    if dead_letter {
                        state.kill(from, to, reason, &mut killed);
                    } else {
                        freed += state.settle(from, to, &mut killed);
                    }
                }
                self.changed(queue, freed);
                if !killed.is_empty() {
                    effects.push(Effect::Killed {
                        queue,
                        sequences: killed,
                        reason,
                        dead_letter,
                    });
                }
            }
            Op::Return {
                queue,
                sequences,
                counted,
            } => {
                let Some(state) = self.existing(queue) else {
                    return;
                };
                let mut returned = SmallVec::new();
                for (from, to) in sequences {
                    state.give_back(from, to, counted, &mut returned);
                }
                if counted {
                    self.changed(queue, 0);
                }
                if !returned.is_empty() {
                    effects.push(Effect::Returned {
                        queue,
                        sequences: returned,
                        counted,
                        by,
                    });
                }
            }
            Op::Delay {
                queue,
                sequences,
                until_ms,
            } => {
                let Some(state) = self.existing(queue) else {
                    return;
                };
                for (from, to) in sequences {
                    state.delay(from, to, until_ms);
                }
                self.changed(queue, 0);
            }
            Op::Delete { queue } => {
                if self.forget(queue) {
                    effects.push(Effect::Deleted { queue });
                }
            }
            Op::Mark { queue, upto } => {
                self.state(queue).set_mark(upto);
                self.changed(queue, 0);
                effects.push(Effect::Marked { queue, upto });
            }
        }
    }

    fn append(&mut self, targets: &[Target], message: Message, effects: &mut Vec<Effect>) {
        // The last target takes the message, the others share it.
        if let Some((last, others)) = targets.split_last() {
            for target in others {
                let stored = StoredMessage {
                    message: message.clone(),
                    expires_at_ms: None,
                };
                self.publish(target, stored, effects);
            }
            self.publish(
                last,
                StoredMessage {
                    message,
                    expires_at_ms: None,
                },
                effects,
            );
        }
    }

    fn settle(
        &mut self,
        queue: QueueId,
        sequences: &[(Sequence, Sequence)],
        effects: &mut Vec<Effect>,
    ) {
        let Some(state) = self.existing(queue) else {
            return;
        };
        let mut freed = 0;
        let mut gone = SmallVec::new();
        for (from, to) in sequences {
            freed += state.settle(*from, *to, &mut gone);
        }
        self.changed(queue, freed);
        effect::settled(effects, queue, gone);
    }

    fn publish(&mut self, target: &Target, mut stored: StoredMessage, effects: &mut Vec<Effect>) {
        if !target.identities.is_empty() {
            let now_ms = self.now_ms;
            let state = self.state(target.queue);
            if state.is_duplicate(&target.identities, now_ms) {
                return;
            }
            state.remember(&target.identities, now_ms);
        }
        stored.expires_at_ms = target
            .ttl_ms
            .map(|ttl_ms| self.now_ms.saturating_add(ttl_ms));
        self.tail_bytes += stored.message.weight();
        let sequence = self.state(target.queue).push(target.level, stored);
        self.changed(target.queue, 0);
        effect::enqueued(effects, target.queue, sequence);
    }

    /// The slot of a queue, if it has one; remembered for the next operation.
    fn slot(&mut self, queue: QueueId) -> Option<usize> {
        match self.recent {
            Some((recent, slot)) if recent == queue => Some(slot),
            _ => {
                let slot = *self.index.get(&queue)?;
                self.recent = Some((queue, slot));
                Some(slot)
            }
        }
    }

    fn existing(&mut self, queue: QueueId) -> Option<&mut QueueState> {
        let slot = self.slot(queue)?;
        self.slots.get_mut(slot)?.as_mut().map(|(_, state)| state)
    }

    /// The state of a queue, created if this is the first operation on it.
    fn state(&mut self, queue: QueueId) -> &mut QueueState {
        let slot = self
            .slot(queue)
            .unwrap_or_else(|| self.insert(queue, QueueState::default()));
        &mut self.slots[slot]
            .get_or_insert_with(|| (queue, QueueState::default()))
            .1
    }

    fn insert(&mut self, queue: QueueId, state: QueueState) -> usize {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.slots[slot] = Some((queue, state));
        self.index.insert(queue, slot);
        self.recent = Some((queue, slot));
        slot
    }

    /// Puts the queue on the list of the next checkpoint.
    fn changed(&mut self, queue: QueueId, freed: usize) {
        self.tail_bytes = self.tail_bytes.saturating_sub(freed);
        if let Some(state) = self.existing(queue)
            && !state.dirty
        {
            state.dirty = true;
            self.dirty.push(queue);
        }
    }

    fn forget(&mut self, queue: QueueId) -> bool {
        let Some(slot) = self.index.remove(&queue) else {
            return false;
        };
        self.recent = None;
        let mut was_stored = false;
        if let Some((_, state)) = self.slots.get_mut(slot).and_then(Option::take) {
            self.tail_bytes = self.tail_bytes.saturating_sub(state.tail_bytes());
            was_stored = state.was_stored();
        }
        self.free.push(slot);
        self.dropped.push((queue, was_stored));
        true
    }

    /// A queue's highest sequence of a level, for tests and displays.
    #[must_use]
    pub fn last_sequence(&self, queue: QueueId, level: u8) -> Option<Sequence> {
        let next = self.queue(queue)?.next_number(level);
        (next > 1).then(|| Sequence::new(level, next - 1))
    }
}
