//! Waiting: for the catalog, for a queue's leader, for several answers together.
//!
//! A wait ends with a closure that goes on with the session in hand. While a method waits, its channel
//! is busy and later input of the channel waits behind it.

use super::channel::ChannelKey;
use super::state::Session;
use crate::hub::api::Ask;
use amqp_connection::ProtocolError;
use broker_model::ids::{Placement, RequestId};
use broker_model::protocol::{Delivery, Refused};
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

/// How a wait goes on.
pub(super) type Then = Box<dyn FnOnce(&mut Session) + Send>;
/// Waits of a session.
pub(super) type Tasks = FuturesUnordered<BoxFuture<'static, Then>>;

/// Answers that a client's close waits for are not waited for longer.
const BARRIER: Duration = Duration::from_secs(3);
/// The answer to a question to a queue's leader.
#[derive(Debug)]
pub(super) enum Answer {
    /// To a get.
    Got(Option<(Box<Delivery>, u64)>),
    /// To count, purge and delete checks.
    Counts {
        ready: u64,
        consumers: u64,
    },
    Refused(Refused),
    /// No leader within the bound.
    Failed,
}

type AnswerThen =
    Box<dyn FnOnce(&mut Session, ChannelKey, Answer) -> Result<(), ProtocolError> + Send>;

struct Request {
    channel: ChannelKey,
    method: (u16, u16),
    placement: Placement,
    then: AnswerThen,
}

type AtTheEnd = Box<dyn FnOnce(&mut Session, Answer) + Send>;

/// Something to be done when several answers are there, or the time is over.
struct Barrier {
    left: usize,
    deadline: Instant,
    then: Then,
}

/// What a session waits for.
#[derive(Default)]
pub(super) struct Waits {
    requests: HashMap<RequestId, Request>,
    /// Questions of a close, whose channel is gone.
    at_the_end: HashMap<RequestId, AtTheEnd>,
    pub(super) tasks: Tasks,
    barriers: BTreeMap<u64, Barrier>,
    last_number: u64,
}

impl Waits {
    /// When the next barrier is not waited for any longer.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.barriers.values().map(|barrier| barrier.deadline).min()
    }
}

impl Session {
    pub(super) fn set_busy(&mut self, key: ChannelKey, busy: bool) {
        if let Some(channel) = self.channel(key) {
            channel.busy = busy;
        }
    }

    /// Waits for a future, then goes on with its result. The channel is busy meanwhile.
    pub(super) fn later<T: Send + 'static>(
        &mut self,
        key: ChannelKey,
        method: (u16, u16),
        future: impl Future<Output = Result<T, ProtocolError>> + Send + 'static,
        then: impl FnOnce(&mut Self, ChannelKey, T) -> Result<(), ProtocolError> + Send + 'static,
    ) {
        self.set_busy(key, true);
        self.run(future, move |session, result| {
            session.resume_channel(key, method, |session| then(session, key, result?));
        });
    }

    /// Waits for a future that is no channel's.
    pub(super) fn run<T: Send + 'static>(
        &mut self,
        future: impl Future<Output = T> + Send + 'static,
        then: impl FnOnce(&mut Self, T) + Send + 'static,
    ) {
        self.waits.tasks.push(Box::pin(async move {
            let result = future.await;
            Box::new(move |session: &mut Self| then(session, result)) as Then
        }));
    }

    /// Asks a queue's leader; goes on with the answer. The channel is busy meanwhile.
    pub(super) fn ask(
        &mut self,
        key: ChannelKey,
        method: (u16, u16),
        placement: Placement,
        ask: impl FnOnce(RequestId) -> Ask,
        then: impl FnOnce(&mut Self, ChannelKey, Answer) -> Result<(), ProtocolError> + Send + 'static,
    ) {
        self.set_busy(key, true);
        // What was published before must have arrived when the question does.
        self.flush_place(placement);
        let request = self.handle.hub().next_request();
        self.waits.requests.insert(
            request,
            Request {
                channel: key,
                method,
                placement,
                then: Box::new(then),
            },
        );
        self.handle.ask(placement, ask(request));
    }

    /// Asks a queue's leader for a close that waits, which is no channel's question any more.
    pub(super) fn ask_at_the_end(
        &mut self,
        placement: Placement,
        ask: impl FnOnce(RequestId) -> Ask,
        then: impl FnOnce(&mut Self, Answer) + Send + 'static,
    ) {
        let request = self.handle.hub().next_request();
        self.waits.at_the_end.insert(request, Box::new(then));
        self.handle.ask(placement, ask(request));
    }

    pub(super) fn answer(&mut self, request: RequestId, answer: Answer) {
        if let Some(then) = self.waits.at_the_end.remove(&request) {
            then(self, answer);
            return;
        }
        let Some(Request {
            channel,
            method,
            placement,
            then,
        }) = self.waits.requests.remove(&request)
        else {
            return;
        };
        if self.channel(channel).is_none() {
            if let Answer::Got(Some((delivery, _))) = answer {
                self.return_unseen(placement, &delivery);
            }
            return;
        }
        self.resume_channel(channel, method, |session| then(session, channel, answer));
    }

    /// The channel does what it waited for, then what waited on it.
    pub(super) fn resume_channel(
        &mut self,
        key: ChannelKey,
        method: (u16, u16),
        act: impl FnOnce(&mut Self) -> Result<(), ProtocolError>,
    ) {
        if self.channel(key).is_some() {
            self.set_busy(key, false);
            if let Err(error) = act(self) {
                self.fail(key, error, method);
            }
            self.go_on(key);
        } else {
            self.close_if_idle();
        }
    }

    /// Keeps a channel busy until [`Session::resume_channel`].
    pub(super) fn hold_channel(&mut self, key: ChannelKey) {
        self.set_busy(key, true);
    }

    /// A number that was not given before.
    pub(super) fn next_number(&mut self) -> u64 {
        self.waits.last_number += 1;
        self.waits.last_number
    }

    /// Something to be done after steps that [`Session::await_step`] and others announce. It counts
    /// one step itself, to be taken when all are announced.
    pub(super) fn barrier(&mut self, then: impl FnOnce(&mut Self) + Send + 'static) -> u64 {
        let id = self.next_number();
        let deadline = self.now + BARRIER;
        self.waits.barriers.insert(
            id,
            Barrier {
                left: 1,
                deadline,
                then: Box::new(then),
            },
        );
        id
    }

    /// One more step.
    pub(super) fn await_step(&mut self, barrier: u64) {
        if let Some(barrier) = self.waits.barriers.get_mut(&barrier) {
            barrier.left += 1;
        }
    }

    /// A step is done.
    pub(super) fn step(&mut self, id: u64) {
        let Some(barrier) = self.waits.barriers.get_mut(&id) else {
            return;
        };
        barrier.left -= 1;
        if barrier.left == 0
            && let Some(barrier) = self.waits.barriers.remove(&id)
        {
            (barrier.then)(self);
        }
    }

    /// Goes on where the time for answers is over.
    pub(super) fn pass_barriers(&mut self, now: Instant) {
        let barriers = &self.waits.barriers;
        let due: Vec<u64> = barriers
            .iter()
            .filter(|(_, barrier)| barrier.deadline <= now)
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            if let Some(barrier) = self.waits.barriers.remove(&id) {
                (barrier.then)(self);
            }
        }
    }
}
