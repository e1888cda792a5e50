//! What a link has to send: sub-batches that wait, and batches that are under way.
//!
//! Waiting sub-batches are merged into numbered batches as far as the window is open. A batch stays
//! until it is answered, so that the next leader gets all that the one before may not have had, in the
//! same order. What waits too long is given up: its publishes are taken out, so that they are not sent
//! again behind newer ones; settles and returns stay.
//!
//! No clock and no channel here: who is told, and how a batch reaches the leader, is the link's.

use crate::hub::api::{SessionId, SubBatch};
use crate::hub::attachment::BatchOps;
use crate::hub::encode_ops;
use broker_model::ids::Origin;
use broker_model::op::{BatchHead, Op};
use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::Instant;

/// Batches sent and not answered, at most.
const IN_FLIGHT_BATCHES: usize = 16;
/// The same for a host in this process.
const IN_FLIGHT_BATCHES_LOCAL: usize = 2;
/// Bytes sent and not answered, at most (one batch may exceed it).
const IN_FLIGHT_BYTES: usize = 16 << 20;
/// Operations merged into one batch, at most.
const BATCH_OPS: usize = 4096;
/// Bytes merged into one batch, at most (one sub-batch may exceed it).
const BATCH_BYTES: usize = 1 << 20;
/// Largest sub-batch that surely fits an entry of the log once it is encoded.
pub(super) const SUB_BATCH_BYTES_MAX: usize = consensus::LARGEST_ENTRY / 16 * 15;

/// A sub-batch inside a batch.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) session: SessionId,
    pub(super) token: u64,
    first_op: u32,
    ops: u32,
    pub(super) bytes: usize,
    created: Instant,
    pub(super) given_up: bool,
    ordered: bool,
}

impl Part {
    /// Those of the batch's refused operations that are this part's, counted from its first.
    pub(super) fn refused(&self, refused_ops: &[u32]) -> Vec<u32> {
        let range = self.range();
        let refused = refused_ops.iter().filter(|op| range.contains(op));
        refused.map(|op| op - self.first_op).collect()
    }

    fn range(&self) -> std::ops::Range<u32> {
        self.first_op..self.first_op + self.ops
    }
}

/// A batch that was sent and is not answered.
#[derive(Debug)]
pub(super) struct SentBatch {
    head: BatchHead,
    ops: BatchOps,
    bytes: usize,
    pub(super) parts: Vec<Part>,
}

impl SentBatch {
    /// How many of the sub-batches later requests wait for.
    fn ordered(&self) -> u64 {
        self.parts.iter().filter(|part| part.ordered).count() as u64
    }
}

#[derive(Debug)]
struct WaitingBatch {
    session: SessionId,
    batch: SubBatch,
    bytes: usize,
    created: Instant,
    given_up: bool,
    /// Later requests wait for its answer. Not if it only settles: that changes nothing that a request sees.
    ordered: bool,
}

impl WaitingBatch {
    /// Takes the publishes out; returns the token of whoever is to be told.
    fn give_up(&mut self) -> u64 {
        self.given_up = true;
        let ops = &mut self.batch.ops;
        ops.retain(|op| op.appends().is_none());
        self.batch.token
    }
}

/// How a sub-batch was taken.
#[derive(Debug)]
pub(super) struct Submitted {
    /// What it accounts for.
    pub(super) bytes: usize,
    /// Bytes of publishes that were given up at once, because no entry of the log can hold them.
    pub(super) too_large: Option<usize>,
}

/// What was given up because it waited too long.
#[derive(Debug, Default)]
pub(super) struct GivenUp {
    /// Sub-batches of which sessions are to be told.
    pub(super) tokens: Vec<(SessionId, u64)>,
    /// Bytes of sub-batches of which nothing is left to be sent.
    pub(super) dropped: Vec<(SessionId, usize)>,
}

/// What waits and what is under way, in order.
#[derive(Debug)]
pub(super) struct SendQueue {
    origin: Origin,
    /// Batches are encoded for the log; false: they go as they are to a host in this process that keeps none.
    encode: bool,
    waiting: VecDeque<WaitingBatch>,
    unanswered: VecDeque<SentBatch>,
    unanswered_bytes: usize,
    next_number: u64,
    /// Number of the batch sent before; 0: none that the host can know of.
    previous: u64,
    answered: u64,
    /// Sub-batches that requests wait for, submitted and answered so far.
    submitted: u64,
    done: u64,
}

impl SendQueue {
    /// Nothing to send yet.
    pub(super) fn new(origin: Origin, encode: bool) -> Self {
        Self {
            origin,
            encode,
            waiting: VecDeque::new(),
            unanswered: VecDeque::new(),
            unanswered_bytes: 0,
            next_number: 1,
            previous: 0,
            answered: 0,
            submitted: 0,
            done: 0,
        }
    }

    /// Whose batches these are.
    pub(super) fn origin(&self) -> Origin {
        self.origin
    }

    /// Whether the host keeps its operations in memory of this process.
    pub(super) fn is_local(&self) -> bool {
        !self.encode
    }

    /// Sub-batches that requests wait for, submitted so far.
    pub(super) fn submitted(&self) -> u64 {
        self.submitted
    }

    /// Those of them that are answered.
    pub(super) fn done(&self) -> u64 {
        self.done
    }

    /// Whether nothing waits and nothing is under way.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.unanswered.is_empty()
    }

    /// Batches under way.
    pub(super) fn unanswered_count(&self) -> usize {
        self.unanswered.len()
    }

    /// Takes a sub-batch of a session.
    pub(super) fn submit(
        &mut self,
        now: Instant,
        session: SessionId,
        batch: SubBatch,
    ) -> Submitted {
        let bytes = batch.ops.iter().map(op_bytes).sum();
        let ordered = !batch.ops.iter().all(|op| matches!(op, Op::Settle { .. }));
        let mut waiting = WaitingBatch {
            session,
            batch,
            bytes,
            created: now,
            given_up: false,
            ordered,
        };
        let mut too_large = None;
        if self.encode && bytes > SUB_BATCH_BYTES_MAX {
            // No leader could take it, and everything behind it would wait.
            waiting.give_up();
            waiting.bytes = waiting.batch.ops.iter().map(op_bytes).sum();
            too_large = Some(bytes - waiting.bytes);
        }
        if too_large.is_none() || !waiting.batch.ops.is_empty() {
            self.submitted += u64::from(ordered);
            self.waiting.push_back(waiting);
        }
        Submitted { bytes, too_large }
    }

    /// Takes an operation of the link's own.
    pub(super) fn submit_own(&mut self, now: Instant, op: Op) {
        self.submitted += 1;
        self.waiting.push_back(WaitingBatch {
            session: SessionId(0),
            bytes: op_bytes(&op),
            batch: SubBatch {
                token: 0,
                ops: vec![op],
            },
            created: now,
            given_up: false,
            ordered: true,
        });
    }

    /// The next batch to send; `None` if nothing waits or the window is closed.
    pub(super) fn next_batch(&mut self) -> Option<(BatchHead, BatchOps)> {
        let open = !self.waiting.is_empty()
            && self.unanswered.len() < self.window()
            && self.unanswered_bytes < IN_FLIGHT_BYTES;
        if !open {
            return None;
        }
        let mut batch = self.merge();
        let ops = if self.encode {
            batch.ops.clone()
        } else {
            // The host is in this process: what is in its inbox is as good as done.
            std::mem::replace(&mut batch.ops, BatchOps::Plain(Vec::new()))
        };
        let head = batch.head;
        self.unanswered_bytes += batch.bytes;
        self.unanswered.push_back(batch);
        Some((head, ops))
    }

    /// One batch is answered. Batches are answered in their order; after an attachment, all that had no
    /// answer are sent again, and the answer to a later one, meant for the attachment before, may come
    /// first: it says nothing about what an earlier one was refused.
    pub(super) fn answer(&mut self, number: u64) -> Option<SentBatch> {
        let done = self
            .unanswered
            .pop_front_if(|front| front.head.number == number)?;
        self.unanswered_bytes -= done.bytes;
        self.answered = number;
        self.done += done.ordered();
        Some(done)
    }

    /// Operations that wait.
    pub(super) fn waiting_ops(&self) -> impl Iterator<Item = &Op> {
        self.waiting.iter().flat_map(|waiting| &waiting.batch.ops)
    }

    /// What the next leader gets again; nothing for a host in this process, which has it.
    pub(super) fn unanswered(&self) -> impl Iterator<Item = (BatchHead, &BatchOps)> {
        let again = self.unanswered.iter().filter(|_| self.encode);
        again.map(|batch| (batch.head, &batch.ops))
    }

    /// Gives up what is under way: the answers will not come.
    pub(super) fn take_unanswered(&mut self) -> VecDeque<SentBatch> {
        let sent = std::mem::take(&mut self.unanswered);
        self.unanswered_bytes = 0;
        if let Some(last) = sent.back() {
            self.answered = last.head.number;
        }
        self.done += sent.iter().map(SentBatch::ordered).sum::<u64>();
        sent
    }

    /// Gives up everything. A host that is told more does not know what was sent before, or not for sure.
    /// Returns sub-batches of which sessions are to be told.
    pub(super) fn give_up_all(&mut self) -> Vec<(SessionId, u64)> {
        let waiting = std::mem::take(&mut self.waiting);
        let sent = std::mem::take(&mut self.unanswered);
        let sent = sent.iter().flat_map(|batch| &batch.parts);
        let tokens = sent
            .filter(|part| !part.given_up)
            .map(|part| (part.session, part.token))
            .chain(
                waiting
                    .iter()
                    .filter(|waiting| !waiting.given_up)
                    .map(|waiting| (waiting.session, waiting.batch.token)),
            )
            .collect();
        self.unanswered_bytes = 0;
        self.done = self.submitted;
        self.previous = 0;
        tokens
    }

    /// Gives up publishes that have waited for `timeout`.
    pub(super) fn give_up_late(&mut self, now: Instant, timeout: Duration) -> GivenUp {
        let late = |created: Instant| now.duration_since(created) >= timeout;
        let mut given_up = GivenUp::default();
        for waiting in &mut self.waiting {
            if !late(waiting.created) {
                break;
            }
            if !waiting.given_up {
                let token = waiting.give_up();
                given_up.tokens.push((waiting.session, token));
            }
        }
        self.waiting.retain(|waiting| {
            let stays = !waiting.batch.ops.is_empty();
            if !stays {
                given_up.dropped.push((waiting.session, waiting.bytes));
                self.done += u64::from(waiting.ordered);
            }
            stays
        });
        for batch in &mut self.unanswered {
            if !batch.parts.first().is_some_and(|part| late(part.created)) {
                break;
            }
            let mut gone = Vec::new();
            for part in batch
                .parts
                .iter_mut()
                .filter(|part| late(part.created) && !part.given_up)
            {
                part.given_up = true;
                gone.push(part.range());
                given_up.tokens.push((part.session, part.token));
            }
            // A host in this process has the operations, and its answer is about all of them.
            if !gone.is_empty() && self.encode {
                strip_publishes(batch, &gone);
            }
        }
        given_up
    }

    /// Batches that may be under way. A host in this process answers at once: with a few of them it turns to
    /// its consumers as often as to its publishers.
    fn window(&self) -> usize {
        if self.encode {
            IN_FLIGHT_BATCHES
        } else {
            IN_FLIGHT_BATCHES_LOCAL
        }
    }

    /// Merges waiting sub-batches into the next batch.
    fn merge(&mut self) -> SentBatch {
        let mut parts = Vec::new();
        let mut ops: Vec<Op> = Vec::new();
        let mut bytes = 0;
        while let Some(next) = self.waiting.front() {
            let full =
                ops.len() + next.batch.ops.len() > BATCH_OPS || bytes + next.bytes > BATCH_BYTES;
            if full && !ops.is_empty() {
                break;
            }
            let Some(next) = self.waiting.pop_front() else {
                break;
            };
            bytes += next.bytes;
            parts.push(Part {
                session: next.session,
                token: next.batch.token,
                first_op: ops.len() as u32,
                ops: next.batch.ops.len() as u32,
                bytes: next.bytes,
                created: next.created,
                given_up: next.given_up,
                ordered: next.ordered,
            });
            if ops.is_empty() {
                ops = next.batch.ops;
            } else {
                ops.extend(next.batch.ops);
            }
        }
        let number = self.next_number;
        self.next_number += 1;
        let head = BatchHead {
            origin: self.origin,
            previous: std::mem::replace(&mut self.previous, number),
            number,
            answered: self.answered,
        };
        let ops = if self.encode {
            BatchOps::Encoded(encode_ops(&ops))
        } else {
            BatchOps::Plain(ops)
        };
        SentBatch {
            head,
            ops,
            bytes,
            parts,
        }
    }
}

/// Bytes that an operation accounts for.
fn op_bytes(op: &Op) -> usize {
    match op.appends() {
        Some((targets, message)) => message.weight() + targets.len() * 16,
        None => 32,
    }
}

/// Takes the publishes of `ranges` out of a batch that may be sent again. Operations that do nothing keep
/// their places: an answer to the batch as it was may be on its way, and counts as it was.
fn strip_publishes(batch: &mut SentBatch, ranges: &[std::ops::Range<u32>]) {
    let ops: Vec<Op> = match &batch.ops {
        BatchOps::Plain(ops) => ops.clone(),
        BatchOps::Encoded(bytes) => broker_model::wire::OpsReader::new(bytes.clone())
            .filter_map(Result::ok)
            .collect(),
    };
    let left = ops.into_iter().zip(0u32..).map(|(op, index)| {
        let strip = op.appends().is_some() && ranges.iter().any(|r| r.contains(&index));
        if strip { Op::nothing() } else { op }
    });
    let left: Vec<Op> = left.collect();
    batch.ops = match &batch.ops {
        BatchOps::Plain(_) => BatchOps::Plain(left),
        BatchOps::Encoded(_) => BatchOps::Encoded(encode_ops(&left)),
    };
}

#[cfg(test)]
mod tests;
