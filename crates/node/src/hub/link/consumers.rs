//! The consumers of a placement that are on this node, as far as the next leader has to know them.

use crate::hub::api::SessionId;
use broker_model::ids::{ConsumerId, QueueId};
use broker_model::op::SequenceRanges;
use broker_model::protocol::{ConsumerSpec, Delivery, ReadFrom, Resume, ToHost};
use std::collections::BTreeMap;
use tokio::time::Instant;

/// One consumer.
#[derive(Debug)]
pub(super) struct Consumer {
    pub(super) session: SessionId,
    pub(super) queue: QueueId,
    spec: ConsumerSpec,
    /// Granted and not yet used, as far as delivered messages have arrived here.
    pub(super) credit: u32,
    /// `ConsumeOk` has been passed on.
    pub(super) confirmed: bool,
    /// Its age, and since when it is the single active one, for the next leader.
    pub(super) order: u64,
    pub(super) active_since: u64,
    /// The client has cancelled; the host is yet to answer.
    pub(super) cancelling: bool,
    /// Its credit is called back; the host is yet to answer.
    pub(super) revoking: bool,
    /// What it waits to read, if its queue is a stream.
    pub(super) reading: Option<Reading>,
    /// Until it is confirmed, and has its place in a stream, or while it is cancelled: when to give up.
    deadline: Instant,
}

/// What the consumer of a stream has asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading {
    pub(super) from: ReadFrom,
    pub(super) count: u32,
    pub(super) bytes: u64,
}

impl Consumer {
    /// One that no host has confirmed yet; until `deadline` it may.
    pub(super) fn new(
        session: SessionId,
        queue: QueueId,
        spec: ConsumerSpec,
        credit: u32,
        deadline: Instant,
    ) -> Self {
        Self {
            session,
            queue,
            spec,
            credit,
            confirmed: false,
            order: 0,
            active_since: 0,
            cancelling: false,
            revoking: false,
            reading: None,
            deadline,
        }
    }

    /// Takes note of what it asks for, and returns what a host is told of it. A place must be found until
    /// `deadline`; messages may be waited for as long as it takes.
    pub(super) fn read(&mut self, id: ConsumerId, reading: Reading, deadline: Instant) -> ToHost {
        self.reading = Some(reading);
        self.deadline = deadline;
        reading.message(id, self.queue)
    }

    /// What it waits for at a host, for the next one.
    pub(super) fn unread(&self, id: ConsumerId) -> Option<ToHost> {
        Some(self.reading?.message(id, self.queue))
    }

    /// The client has cancelled it; the host answers until `deadline`.
    pub(super) fn cancel(&mut self, deadline: Instant) {
        self.cancelling = true;
        self.deadline = deadline;
    }

    /// Whether its client waits for it.
    fn begins(&self) -> bool {
        let has_place = self
            .reading
            .is_none_or(|reading| matches!(reading.from, ReadFrom::Number(_)));
        !self.confirmed || !has_place
    }

    /// What a host is told of it; `held`: what its session has of it.
    pub(super) fn consume(&self, id: ConsumerId, held: SequenceRanges) -> ToHost {
        ToHost::Consume {
            consumer: id,
            queue: self.queue,
            spec: self.spec.clone(),
            credit: self.credit,
            resume: self.confirmed.then_some(Resume {
                sequences: held,
                order: self.order,
                active_since: self.active_since,
            }),
        }
    }
}

impl Reading {
    fn message(&self, consumer: ConsumerId, queue: QueueId) -> ToHost {
        ToHost::Read {
            consumer,
            queue,
            from: self.from,
            count: self.count,
            bytes: self.bytes,
        }
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Consumers {
    by_id: BTreeMap<ConsumerId, Consumer>,
}

impl Consumers {
    pub(super) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn get(&self, id: ConsumerId) -> Option<&Consumer> {
        self.by_id.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: ConsumerId) -> Option<&mut Consumer> {
        self.by_id.get_mut(&id)
    }

    pub(super) fn insert(&mut self, id: ConsumerId, consumer: Consumer) {
        self.by_id.insert(id, consumer);
    }

    pub(super) fn remove(&mut self, id: ConsumerId) -> Option<Consumer> {
        self.by_id.remove(&id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (ConsumerId, &Consumer)> {
        self.by_id.iter().map(|(id, consumer)| (*id, consumer))
    }

    /// All of them, taken out.
    pub(super) fn take(&mut self) -> BTreeMap<ConsumerId, Consumer> {
        std::mem::take(&mut self.by_id)
    }

    /// Takes out those of a session.
    pub(super) fn take_of(&mut self, session: SessionId) -> Vec<(ConsumerId, Consumer)> {
        let gone = self.by_id.extract_if(.., |_, c| c.session == session);
        gone.collect()
    }

    /// Takes out those that are being cancelled.
    pub(super) fn take_cancelling(&mut self) -> Vec<(ConsumerId, Consumer)> {
        self.by_id.extract_if(.., |_, c| c.cancelling).collect()
    }

    /// Takes out those that no host has cancelled in time.
    pub(super) fn take_late_cancelling(&mut self, now: Instant) -> Vec<(ConsumerId, Consumer)> {
        let late = |consumer: &Consumer| consumer.cancelling && consumer.deadline <= now;
        self.by_id.extract_if(.., |_, c| late(c)).collect()
    }

    /// Takes out those that no host has confirmed, or found a place for, in time.
    pub(super) fn take_late(&mut self, now: Instant) -> Vec<(ConsumerId, Consumer)> {
        let late = |consumer: &Consumer| consumer.begins() && consumer.deadline <= now;
        self.by_id.extract_if(.., |_, c| late(c)).collect()
    }

    /// Takes back the credit that is being called back: consumer, session, how much.
    pub(super) fn take_revoking(&mut self) -> Vec<(ConsumerId, SessionId, u32)> {
        let revoking = self.by_id.iter_mut().filter(|(_, c)| c.revoking);
        revoking
            .map(|(id, known)| {
                known.revoking = false;
                (*id, known.session, std::mem::take(&mut known.credit))
            })
            .collect()
    }

    /// Takes the credit that deliveries have used. Returns the session of all of them, if it is one.
    pub(super) fn use_credit(&mut self, deliveries: &[Delivery]) -> Option<SessionId> {
        let mut session = None;
        let mut same = true;
        for run in deliveries.chunk_by(|a, b| a.consumer == b.consumer) {
            let Some(first) = run.first() else {
                continue;
            };
            let Some(known) = self.by_id.get_mut(&first.consumer) else {
                same = false;
                continue;
            };
            known.credit = known.credit.saturating_sub(run.len() as u32);
            same &= *session.get_or_insert(known.session) == known.session;
        }
        session.filter(|_| same)
    }
}
