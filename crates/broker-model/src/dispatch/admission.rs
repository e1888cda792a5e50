//! Which publishes are refused before they are proposed: of queues that are full (`reject-publish`), or were replaced by others.
//!
//! Refusing needs the number of ready messages *including* what was admitted and is not applied yet, and *without* what
//! consumers have credit for: as long as there are such, messages do not stay.
//! Each admission remembers what it added to which queue until its entry is applied or given up.

use super::Dispatcher;
use super::outbox::{Admission, DeadLetter, Outbox};
use super::stock::alive_within;
use crate::catalog::settings::Overflow;
use crate::identity::Identity;
use crate::ids::QueueId;
use crate::message::Message;
use crate::op::{BatchHead, DeathReason, Op, Refusal, Target};
use crate::queue::{QueueState, share};
use crate::shard::ShardMachine;
use crate::wire::{OpsReader, WireError};
use bytes::Bytes;
use hashbrown::HashMap;
use std::collections::BTreeMap;

#[derive(Debug, Default)]
pub(super) struct Admissions {
    /// Queues that refuse at a limit: as long as there are none, batches are not even read.
    pub(super) rejecting: usize,
    last_ticket: u64,
    open: BTreeMap<u64, Added>,
}

/// What an admission added to queues: messages and bytes. A map, because a fanout may go to thousands.
type Added = HashMap<QueueId, (u64, u64), foldhash::fast::FixedState>;

/// Where an operation stands.
#[derive(Clone, Copy)]
struct Place<'a> {
    /// Of the entry.
    batch: usize,
    op: usize,
    /// Of a batch that may be sent again, to another leader.
    head: Option<&'a BatchHead>,
}

/// What is found out and decided while one entry is admitted.
#[derive(Default)]
struct Admitting {
    added: Added,
    /// Messages that consumers of a queue would take at once, where that was asked for. It is the same for the whole
    /// entry, and a queue may have very many consumers.
    wanted: HashMap<QueueId, u64, foldhash::fast::FixedState>,
}

impl Dispatcher {
    /// Decides about batches that are about to be proposed as one entry. They must have passed
    /// [`crate::wire::validate_ops`].
    ///
    /// # Errors
    /// A batch cannot be read.
    pub fn admit(
        &mut self,
        batches: &[(BatchHead, Bytes)],
        machine: &ShardMachine,
    ) -> Result<Admission, WireError> {
        self.admissions.last_ticket += 1;
        let mut admission = Admission {
            ticket: self.admissions.last_ticket,
            ..Admission::default()
        };
        self.replaced.forget(machine.now_ms());
        if self.admissions.rejecting == 0 && self.replaced.is_empty() {
            return Ok(admission);
        }
        let mut admitting = Admitting::default();
        for (batch, (head, ops)) in batches.iter().enumerate() {
            let known = machine.last_batch(head.origin.node);
            if known.is_some_and(|(start, last)| {
                start == head.origin.incarnation && head.number <= last
            }) {
                // A duplicate adds nothing, and gets the answer of its first time.
                continue;
            }
            for (op, read) in OpsReader::new(ops.clone()).enumerate() {
                let place = Place {
                    batch,
                    op,
                    head: Some(head),
                };
                self.admit_op(place, &read?, machine, &mut admission, &mut admitting);
            }
        }
        if !admitting.added.is_empty() {
            self.admissions
                .open
                .insert(admission.ticket, admitting.added);
        }
        Ok(admission)
    }

    /// As [`Self::admit`] for one batch that is not encoded and is applied before anything else is
    /// (local queues). Refused messages that are to be dead-lettered go to `out`.
    pub fn admit_ops(
        &mut self,
        ops: &[Op],
        machine: &ShardMachine,
        out: &mut Outbox,
    ) -> Vec<Refusal> {
        if self.admissions.rejecting == 0 {
            return Vec::new();
        }
        self.admissions.last_ticket += 1;
        let mut admission = Admission {
            ticket: self.admissions.last_ticket,
            ..Admission::default()
        };
        let mut admitting = Admitting::default();
        for (at, op) in ops.iter().enumerate() {
            let place = Place {
                batch: 0,
                op: at,
                head: None,
            };
            self.admit_op(place, op, machine, &mut admission, &mut admitting);
        }
        // Applied at once: nothing stays pending.
        self.admissions
            .open
            .insert(admission.ticket, admitting.added);
        self.admission_done(admission.ticket);
        out.dead_letters.append(&mut admission.dead_letters);
        admission.refusals
    }

    fn admit_op(
        &mut self,
        place: Place<'_>,
        op: &Op,
        machine: &ShardMachine,
        admission: &mut Admission,
        admitting: &mut Admitting,
    ) {
        let Some((targets, message)) = op.appends() else {
            return;
        };
        for target in targets {
            if self.replaced.is(target) {
                // Also where others take it: who is told that it has arrived relies on all of them.
                admission.refusals.push(Refusal {
                    batch: place.batch as u32,
                    op: place.op as u32,
                    queue: target.queue,
                });
                continue;
            }
            if let Some(overflow) = self.refuses(target, message, machine, admitting) {
                admission.refusals.push(Refusal {
                    batch: place.batch as u32,
                    op: place.op as u32,
                    queue: target.queue,
                });
                if overflow == Overflow::RejectPublishDlx {
                    let letter = refused_letter(target.queue, message, place);
                    admission.dead_letters.push(letter);
                }
            }
        }
    }

    /// The entry of this admission was applied (and its effects handed over), or given up.
    pub fn admission_done(&mut self, ticket: u64) {
        for (queue, (messages, bytes)) in self.admissions.open.remove(&ticket).unwrap_or_default() {
            let Some(slot) = self.index.get(&queue).copied() else {
                continue;
            };
            if let Some(desk) = self.desks.get_mut(slot) {
                desk.pending = desk.pending.saturating_sub(messages);
                desk.pending_bytes = desk.pending_bytes.saturating_sub(bytes);
            }
        }
    }

    /// Whether the queue of `target` is full, and what that means; else the message counts from now.
    fn refuses(
        &mut self,
        target: &Target,
        message: &Message,
        machine: &ShardMachine,
        admitting: &mut Admitting,
    ) -> Option<Overflow> {
        // What nodes hold and have not told yet would count as ready.
        let unsure = self.resuming.holds_back();
        let desk = self.desks.get_mut(*self.index.get(&target.queue)?)?;
        let limits = desk
            .limits()
            .filter(|limits| limits.overflow != Overflow::DropHead)?;
        let state = machine.queue(target.queue);
        // What is there already takes no room: it is accepted and dropped.
        if state.is_some_and(|state| state.is_duplicate(&target.identities, machine.now_ms())) {
            return None;
        }
        let counts = desk.counts(state);
        let kept = state.filter(|_| desk.keeps_undeliverable());
        let (dying, dying_bytes) =
            kept.map_or((0, 0), |state| (state.dying(), state.dying_bytes()));
        let (kept, kept_bytes) = (dying + counts.delayed, dying_bytes + counts.delayed_bytes);
        let bytes = message.body.len() as u64;
        // With what is ready and what consumers would take of that.
        let is_full = |ready: u64, ready_bytes: u64, wanted: u64| {
            let before = ready.saturating_add(desk.pending);
            let left = before.saturating_sub(wanted);
            // Sizes of messages on disk are not known: as if all were as large.
            let bytes_before = ready_bytes.saturating_add(desk.pending_bytes);
            let bytes_left = share(bytes_before, left, before);
            left.saturating_add(1).saturating_add(kept) > limits.length
                || bytes_left.saturating_add(bytes).saturating_add(kept_bytes) > limits.bytes
        };
        if is_full(counts.ready, counts.ready_bytes, 0) {
            let (ready, ready_bytes) = match state.filter(|_| unsure) {
                Some(state) => never_handed_out(state),
                None => (counts.ready, counts.ready_bytes),
            };
            let wanted = *admitting.wanted.entry(target.queue).or_insert_with(|| {
                let bench = desk.bench();
                bench.map_or(0, |bench| bench.wanted(&self.roster))
            });
            if is_full(ready, ready_bytes, wanted) {
                return Some(limits.overflow);
            }
        }
        desk.pending += 1;
        desk.pending_bytes += bytes;
        let (messages, sum) = admitting.added.entry(target.queue).or_default();
        *messages += 1;
        *sum += bytes;
        None
    }
}

/// Messages that no node can hold, and their bytes as far as all messages are about as large.
fn never_handed_out(state: &QueueState) -> (u64, u64) {
    let beyond = |level: u8| -> u64 {
        let first = state.mark(level).saturating_add(1);
        let alive = alive_within(state, level, first, u64::MAX);
        alive.map(|(from, to)| to - from + 1).sum()
    };
    let messages: u64 = state.levels().map(beyond).sum();
    let mean = state.alive_bytes().checked_div(state.alive()).unwrap_or(0);
    (messages, messages.saturating_mul(mean))
}

fn refused_letter(queue: QueueId, message: &Message, place: Place<'_>) -> DeadLetter {
    DeadLetter {
        queue,
        sequence: None,
        identity: (place.head).map(|head| Identity::refused(queue, head, place.op as u32)),
        reason: DeathReason::MaxLength,
        delivery_count: 0,
        expires_at_ms: None,
        message: message.clone(),
    }
}
