//! The state of a session, and how its parts take turns.
//!
//! Everything happens in one task. What must wait (the catalog, a queue's leader) is a future or a
//! question whose answer continues with the session in hand; meanwhile its channel is *busy* and
//! later input of that channel waits, so answers keep their order. Other channels go on.

use super::Ends;
use super::channel::{Channel, ChannelKey, Input, Unacked};
use super::consume::{Consumer, Leaving};
use super::driver::IoWanted;
use super::outbox::Outbox;
use super::services::Services;
use super::tally::Tally;
use crate::broker::Alarms;
use crate::hub::SessionHandle;
use crate::hub::api::{Ask, SessionEvent, SessionEvents};
use crate::registry::ConnectionEntry;
use amqp_codec::{Method, ReplyCode};
use amqp_connection::{
    Confirm, Connection, EndReason, Event, Mechanism, ProtocolError, ServerConfig,
};
use broker_model::ids::{ConnectionId, ConsumerId, Placement, QueueId, RequestId};
use broker_model::protocol::{Delivery, Refused, Subject};
use bytes::BytesMut;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tracing::{debug, info, warn};

/// How a wait goes on.
pub(super) type Then = Box<dyn FnOnce(&mut Session) + Send>;
/// Waits of a session.
pub(super) type Tasks = FuturesUnordered<BoxFuture<'static, Then>>;

/// Input that may wait for busy channels before the socket is not read any more.
const BACKLOG_MAX: usize = 2048;
/// Answers that a client's close waits for are not waited for longer.
const BARRIER: Duration = Duration::from_secs(3);
/// How often held deliveries are compared with the consumer timeout.
const TIMEOUT_LOOK: Duration = Duration::from_secs(10);

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

/// Something to be done when several answers are there, or the time is over.
struct Barrier {
    left: usize,
    deadline: Instant,
    then: Then,
}

/// One client connection.
pub(super) struct Session {
    pub(super) broker: Arc<dyn Services>,
    pub(super) conn: Connection,
    pub(super) ends: Ends,
    pub(super) handle: SessionHandle,
    pub(super) id: ConnectionId,
    /// Empty before the login.
    pub(super) user: Arc<str>,
    pub(super) may_impersonate: bool,
    /// Empty before the connection is open.
    pub(super) vhost: Arc<str>,
    pub(super) entry: Option<Arc<ConnectionEntry>>,
    pub(super) channels: BTreeMap<u16, Channel>,
    pub(super) consumers: BTreeMap<ConsumerId, Consumer>,
    /// Consumers that end: what still comes for them goes back.
    pub(super) leaving: BTreeMap<ConsumerId, Leaving>,
    pub(super) outbox: Outbox,
    /// Queues that are gone with what was held of them.
    pub(super) gone_queues: HashSet<QueueId>,
    /// It declared an exclusive queue.
    pub(super) has_exclusive: bool,
    /// The client has closed and waits until the channels are done.
    pub(super) closing: bool,
    pub(super) now: Instant,
    pub(super) started: Instant,
    /// Channels to be looked at when the turn ends.
    touched: Vec<ChannelKey>,
    /// More output waits than the client reads: no deliveries are granted.
    pub(super) choked: bool,
    requests: HashMap<RequestId, Request>,
    tasks: Tasks,
    barriers: BTreeMap<u64, Barrier>,
    last_number: u64,
    alarms: watch::Receiver<Alarms>,
    /// The client publishes during an alarm: it is not read.
    blocked: bool,
    /// Too much is unanswered: the socket is not read.
    paused: bool,
    reading: bool,
    backlog_len: usize,
    backlog_bytes: usize,
    look_at: Option<Instant>,
    ended: Option<EndReason>,
    finished: bool,
    confirms: Vec<Confirm>,
    /// Written bytes that have been counted.
    counted_written: u64,
    pub(super) tally: Tally,
    /// Room for what an acknowledgement settles, used again and again.
    pub(super) settling: Vec<(u64, Unacked)>,
}

impl Session {
    /// A session for a connection that was just accepted.
    pub(super) fn new(broker: Arc<dyn Services>, ends: Ends) -> (Self, SessionEvents) {
        let now = Instant::now();
        let (handle, events) = broker.hub().attach();
        let id = ConnectionId {
            origin: broker.origin(),
            serial: handle.id().0,
        };
        let mut alarms = broker.alarms();
        alarms.mark_unchanged();
        let session = Self {
            conn: Connection::new(Arc::new(server_config(&*broker, &ends)), now),
            ends,
            handle,
            id,
            user: "".into(),
            may_impersonate: false,
            vhost: "".into(),
            entry: None,
            channels: BTreeMap::new(),
            consumers: BTreeMap::new(),
            leaving: BTreeMap::new(),
            outbox: Outbox::default(),
            gone_queues: HashSet::new(),
            has_exclusive: false,
            closing: false,
            now,
            started: now,
            touched: Vec::new(),
            choked: false,
            requests: HashMap::new(),
            tasks: Tasks::new(),
            barriers: BTreeMap::new(),
            last_number: 0,
            alarms,
            blocked: false,
            paused: false,
            reading: true,
            backlog_len: 0,
            backlog_bytes: 0,
            look_at: None,
            ended: None,
            finished: false,
            confirms: Vec::new(),
            counted_written: 0,
            tally: Tally::default(),
            settling: Vec::new(),
            broker,
        };
        (session, events)
    }

    // ---- the driver's side ----

    /// Works on everything that has arrived, then sends off what that led to.
    pub(super) fn turn(&mut self, input: &mut BytesMut, now: Instant) {
        self.now = now;
        self.end_turn();
        while self.takes_input() {
            match self.conn.poll_event(input, now) {
                Some(event) => self.handle(event),
                None => break,
            }
        }
        self.end_turn();
        let reading = self.takes_input();
        if reading != self.reading {
            self.reading = reading;
            self.conn.set_reading(reading, now);
        }
    }

    pub(super) fn set_now(&mut self, now: Instant) {
        self.now = now;
    }

    pub(super) fn received(&mut self, count: usize) {
        self.conn.received(count);
        self.broker
            .metrics()
            .counts
            .bytes_received
            .add(count as u64);
        if let Some(entry) = &self.entry {
            entry.received.add(count as u64);
        }
    }

    /// What the driver waits on, apart.
    pub(super) fn waiting_parts(
        &mut self,
    ) -> (
        &mut Connection,
        &mut Tasks,
        &mut watch::Receiver<Alarms>,
        IoWanted,
    ) {
        let drained_at = if self.choked {
            Some(self.output_limit() / 2)
        } else {
            (self.conn.output_len() > self.output_max()).then(|| self.output_max())
        };
        let wanted = IoWanted {
            read: self.reading,
            drained_at,
        };
        (&mut self.conn, &mut self.tasks, &mut self.alarms, wanted)
    }

    pub(super) fn continue_with(&mut self, then: Then) {
        then(self);
    }

    /// Why it is over, if it is.
    pub(super) fn ended(&self) -> Option<EndReason> {
        self.ended
    }

    pub(super) fn is_open(&self) -> bool {
        self.conn.is_open()
    }

    pub(super) fn was_health_check(&self) -> bool {
        self.conn.bytes_received() == 0
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let barriers = self.barriers.values().map(|barrier| barrier.deadline).min();
        [self.conn.next_timeout(), barriers, self.look_at]
            .into_iter()
            .flatten()
            .min()
    }

    pub(super) fn timed_out(&mut self, now: Instant) {
        self.now = now;
        self.conn.handle_timeout(now);
        let due: Vec<u64> = self
            .barriers
            .iter()
            .filter(|(_, barrier)| barrier.deadline <= now)
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            if let Some(barrier) = self.barriers.remove(&id) {
                (barrier.then)(self);
            }
        }
        if self.look_at.is_some_and(|at| at <= now) {
            self.look_at = None;
            self.check_consumer_timeouts();
        }
    }

    /// Alarms have come or gone.
    pub(super) fn alarms_changed(&mut self) {
        if self.blocked && self.alarms.borrow_and_update().reason().is_none() {
            self.blocked = false;
            self.conn.send_unblocked();
            self.show_state("running");
        }
    }

    /// Gives back what is left when the connection is over, in whatever way.
    pub(super) fn finish(&mut self) {
        if self.finished {
            return;
        }
        self.finished = true;
        self.tally.count(&self.broker.metrics().counts);
        self.drop_channels();
        self.delete_exclusive_queues_later();
        self.flush();
        if let Some(entry) = self.entry.take() {
            self.broker.registry().remove(entry.session);
            self.broker.metrics().connections.add(-1);
            self.broker.metrics().counts.connections_closed.add(1);
        }
    }

    // ---- input ----

    fn takes_input(&self) -> bool {
        if self.ended.is_some() {
            return false;
        }
        // Whoever closes is listened to in any case.
        !self.conn.is_open()
            || !self.blocked
                && !self.paused
                && self.backlog_len < BACKLOG_MAX
                && self.backlog_bytes < self.unanswered_limit()
                && self.conn.output_len() <= self.output_max()
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Publish(publish) => {
                if let Some(key) = self.key_of(publish.channel) {
                    self.input(key, Input::Publish(publish));
                    self.block_if_alarmed();
                }
            }
            Event::Method { channel, method } => {
                if let Some(key) = self.key_of(channel) {
                    self.input(key, Input::Method(method));
                }
            }
            Event::ChannelOpened(channel) => self.channel_opened(channel),
            Event::ChannelClosed { channel, reason } => {
                debug!(channel, code = reason.reply_code, text = %reason.reply_text, "client closes channel");
                if let Some(key) = self.key_of(channel) {
                    self.input(key, Input::Close);
                } else {
                    self.conn.channel_closed(channel);
                }
            }
            Event::ChannelFailed { channel, error } => {
                info!(channel, %error, "channel closed by error");
                self.drop_channel(channel);
            }
            Event::Authenticate(credentials) => self.authenticate(credentials),
            Event::OpenVhost(vhost) => self.open_vhost(vhost),
            Event::UpdateSecret(secret) => self.update_secret(secret),
            Event::CloseRequested(reason) => {
                debug!(code = reason.reply_code, text = %reason.reply_text, "client closes connection");
                self.closing = true;
                self.close_if_idle();
            }
            Event::Failed(error) => {
                warn!(%error, "connection closed by error");
                self.drop_channels();
            }
            Event::Ended(reason) => self.ended = Some(reason),
        }
    }

    /// Input of a channel, now or when what it waits for is done.
    fn input(&mut self, key: ChannelKey, input: Input) {
        let Some(channel) = self.channels.get_mut(&key.number) else {
            return;
        };
        if channel.busy || !channel.backlog.is_empty() {
            self.backlog_len += 1;
            self.backlog_bytes += input.weight();
            channel.backlog.push_back(input);
        } else {
            self.act_on(key, input);
        }
    }

    fn act_on(&mut self, key: ChannelKey, input: Input) {
        let (result, ids) = match input {
            Input::Publish(publish) => (self.publish(key, publish), (60, 40)),
            Input::Method(method) => {
                let ids = (method.class_id(), method.method_id());
                (self.method(key, method), ids)
            }
            Input::Close => {
                self.close_channel(key);
                return;
            }
        };
        if let Err(error) = result {
            self.fail(key, error, ids);
        }
    }

    /// Goes on with what waited on a channel.
    fn go_on(&mut self, key: ChannelKey) {
        while let Some(channel) = self.channels.get_mut(&key.number)
            && channel.key == key
            && !channel.busy
        {
            let Some(input) = channel.backlog.pop_front() else {
                break;
            };
            self.backlog_len -= 1;
            self.backlog_bytes -= input.weight();
            self.act_on(key, input);
        }
        self.close_if_idle();
    }

    /// Takes note that a channel's backlog is dropped.
    pub(super) fn forget_backlog(&mut self, channel: &Channel) {
        self.backlog_len -= channel.backlog.len();
        self.backlog_bytes -= channel.backlog.iter().map(Input::weight).sum::<usize>();
    }

    /// The client closed, and all channels are done.
    fn close_if_idle(&mut self) {
        if self.closing && self.channels.values().all(|channel| !channel.busy) {
            self.closing = false;
            self.close_connection();
        }
    }

    fn block_if_alarmed(&mut self) {
        if self.blocked {
            return;
        }
        let reason = self.alarms.borrow().reason();
        if let Some(reason) = reason {
            self.blocked = true;
            self.conn.send_blocked(reason);
            self.show_state("blocked");
        }
    }

    pub(super) fn show_state(&self, state: &'static str) {
        if let Some(entry) = &self.entry {
            *entry.state.lock() = state;
        }
    }

    // ---- from the hub ----

    pub(super) fn hear(&mut self, event: SessionEvent) {
        match event {
            SessionEvent::Outcome {
                token,
                refused_ops,
                given_up,
            } => {
                let answered = self.outbox.answered(token, &refused_ops, given_up);
                for (key, publish, accepted) in answered.publishes {
                    self.publish_answered(key, publish, accepted);
                }
                for freed in answered.freed {
                    self.freed(freed);
                }
                for barrier in answered.barriers {
                    self.step(barrier);
                }
            }
            SessionEvent::Deliver(deliveries) => self.deliver(deliveries),
            SessionEvent::ConsumeOk { consumer } => self.consume_ok(consumer),
            SessionEvent::Cancelled { consumer, by_host } => self.cancelled(consumer, by_host),
            SessionEvent::Revoked { consumer, unused } => self.revoked(consumer, unused),
            SessionEvent::Starved { consumer } => self.starved(consumer),
            SessionEvent::Refused {
                subject: Subject::Consumer(consumer),
                why,
            } => {
                self.consume_refused(consumer, Some(why));
            }
            SessionEvent::RequestFailed {
                subject: Subject::Consumer(consumer),
            } => {
                self.consume_refused(consumer, None);
            }
            SessionEvent::Refused {
                subject: Subject::Request(request),
                why,
            } => {
                self.answer(request, Answer::Refused(why));
            }
            SessionEvent::RequestFailed {
                subject: Subject::Request(request),
            } => {
                self.answer(request, Answer::Failed);
            }
            SessionEvent::Got { request, delivery } => self.answer(request, Answer::Got(delivery)),
            SessionEvent::Counts {
                request,
                ready,
                consumers,
                ..
            } => {
                self.answer(request, Answer::Counts { ready, consumers });
            }
            SessionEvent::Resume { placement, reply } => {
                let _ = reply.send(self.held(placement));
            }
            SessionEvent::Moved {
                old,
                new,
                placement,
            } => self.queue_moved(old, new, placement),
            SessionEvent::Close { reason } => {
                if self.conn.force_close(&reason, self.now) {
                    info!(reason, "connection closed by the operator");
                    self.drop_channels();
                }
            }
        }
    }

    // ---- waiting ----

    pub(super) fn key_of(&self, channel: u16) -> Option<ChannelKey> {
        self.channels.get(&channel).map(|channel| channel.key)
    }

    /// The channel, if it is still the same opening.
    pub(super) fn channel(&mut self, key: ChannelKey) -> Option<&mut Channel> {
        self.channels
            .get_mut(&key.number)
            .filter(|channel| channel.key == key)
    }

    fn set_busy(&mut self, key: ChannelKey, busy: bool) {
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
        self.tasks.push(Box::pin(async move {
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
        self.requests.insert(
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

    fn answer(&mut self, request: RequestId, answer: Answer) {
        let Some(Request {
            channel,
            method,
            placement,
            then,
        }) = self.requests.remove(&request)
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

    /// Closes a channel, or with a hard error the connection.
    pub(super) fn fail(&mut self, key: ChannelKey, error: ProtocolError, method: (u16, u16)) {
        let (class_id, method_id) = method;
        let error = error.of(class_id, method_id);
        if error.code.is_hard() {
            warn!(channel = key.number, %error, "connection closed by error");
            if self.conn.connection_error(&error, self.now) {
                self.drop_channels();
            }
        } else {
            info!(channel = key.number, %error, "channel closed by error");
            self.conn.channel_error(key.number, &error, self.now);
            self.drop_channel(key.number);
        }
    }

    pub(super) fn connection_error(&mut self, error: &ProtocolError) {
        warn!(%error, "connection closed by error");
        if self.conn.connection_error(error, self.now) {
            self.drop_channels();
        }
    }

    /// A number that was not given before.
    pub(super) fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// Something to be done after steps that [`Session::await_step`] and others announce. It counts
    /// one step itself, to be taken when all are announced.
    pub(super) fn barrier(&mut self, then: impl FnOnce(&mut Self) + Send + 'static) -> u64 {
        let id = self.next_number();
        let deadline = self.now + BARRIER;
        self.barriers.insert(
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
        if let Some(barrier) = self.barriers.get_mut(&barrier) {
            barrier.left += 1;
        }
    }

    /// A step is done.
    pub(super) fn step(&mut self, id: u64) {
        let Some(barrier) = self.barriers.get_mut(&id) else {
            return;
        };
        barrier.left -= 1;
        if barrier.left == 0
            && let Some(barrier) = self.barriers.remove(&id)
        {
            (barrier.then)(self);
        }
    }

    // ---- the end of a turn ----

    /// Has a channel looked at when the turn ends.
    pub(super) fn touch(&mut self, key: ChannelKey) {
        if let Some(channel) = self.channels.get_mut(&key.number)
            && channel.key == key
            && !channel.touched
        {
            channel.touched = true;
            self.touched.push(key);
        }
    }

    fn end_turn(&mut self) {
        self.flush();
        self.count_written();
        self.tally.count(&self.broker.metrics().counts);
        if self.choked && self.conn.output_len() <= self.output_limit() / 2 {
            self.choked = false;
            let all: Vec<ChannelKey> = self.channels.values().map(|channel| channel.key).collect();
            for key in all {
                self.touch(key);
            }
        }
        let mut rounds = 0;
        // Looking at one may touch another; what remains waits for the next turn.
        while !self.touched.is_empty() && rounds < 4 {
            rounds += 1;
            for key in std::mem::take(&mut self.touched) {
                if let Some(channel) = self.channel(key) {
                    channel.touched = false;
                    self.finish_channel(key);
                }
            }
        }
        self.flush();
        let unanswered = self.outbox.unanswered_bytes();
        if self.paused {
            self.paused = unanswered > self.unanswered_limit() / 2;
        } else if unanswered > self.unanswered_limit() {
            self.paused = true;
        }
    }

    fn count_written(&mut self) {
        let written = self.conn.bytes_written();
        let more = written - std::mem::replace(&mut self.counted_written, written);
        if more > 0 {
            self.broker.metrics().counts.bytes_sent.add(more);
            if let Some(entry) = &self.entry {
                entry.sent.add(more);
            }
        }
    }

    fn finish_channel(&mut self, key: ChannelKey) {
        self.report_confirms(key);
        self.finish_commit(key);
        self.replenish(key);
        if let Some(channel) = self.channel(key) {
            channel.show();
        }
    }

    fn report_confirms(&mut self, key: ChannelKey) {
        let Some(channel) = self
            .channels
            .get_mut(&key.number)
            .filter(|channel| channel.key == key)
        else {
            return;
        };
        if !matches!(channel.mode, super::channel::Mode::Confirm) || !channel.confirms.has_news() {
            return;
        }
        let before = channel.confirms.unconfirmed();
        channel.confirms.report(&mut self.confirms);
        let done = before - channel.confirms.unconfirmed();
        let nacked = self
            .confirms
            .iter()
            .filter(|confirm| !confirm.accepted)
            .count();
        for confirm in self.confirms.drain(..) {
            self.conn.send_confirm(key.number, confirm);
        }
        self.tally.confirmed += done.saturating_sub(nacked) as u64;
        self.tally.nacked += nacked as u64;
    }

    /// Submits everything that is gathered.
    pub(super) fn flush(&mut self) {
        let Self {
            outbox,
            handle,
            broker,
            ..
        } = self;
        outbox.flush_all(handle, |queue| has_dead_letters(&**broker, queue));
    }

    /// Submits what is gathered for one place.
    pub(super) fn flush_place(&mut self, placement: Placement) {
        let Self {
            outbox,
            handle,
            broker,
            ..
        } = self;
        outbox.flush(placement, handle, |queue| {
            has_dead_letters(&**broker, queue)
        });
    }

    pub(super) fn output_limit(&self) -> usize {
        self.broker.config().limits.connection_output_bytes
    }

    /// With more output than this a client that only writes is not read any more.
    fn output_max(&self) -> usize {
        4 * self.output_limit()
    }

    fn unanswered_limit(&self) -> usize {
        self.broker.config().limits.connection_unconfirmed_bytes
    }

    /// Sends the answer to a method, unless the client wants none.
    pub(super) fn reply(&mut self, key: ChannelKey, no_wait: bool, method: &Method) {
        if !no_wait {
            self.conn.send_method(key.number, method);
        }
    }

    /// Has the held deliveries looked at from time to time.
    pub(super) fn look_at_timeouts(&mut self) {
        if self.look_at.is_none() {
            self.look_at = Some(self.now + TIMEOUT_LOOK);
        }
    }

    /// Seconds since the session began.
    pub(super) fn seconds(&self) -> u32 {
        u32::try_from(self.now.saturating_duration_since(self.started).as_secs())
            .unwrap_or(u32::MAX)
    }
}

fn has_dead_letters(broker: &dyn Services, queue: QueueId) -> bool {
    broker
        .catalog()
        .queue_by_id(queue)
        .is_some_and(|record| record.settings().dead_letter_exchange.is_some())
}

/// What clients of this listener are told and held to.
fn server_config(broker: &dyn Services, ends: &Ends) -> ServerConfig {
    let config = broker.config();
    let cluster_name = broker.catalog().cluster_name().map(|name| name.to_string());
    let mut mechanisms = vec![Mechanism::Plain, Mechanism::AmqPlain];
    if ends.certificate_user.is_some() {
        mechanisms.push(Mechanism::External);
    }
    ServerConfig {
        product: config.product.clone(),
        version: config.product_version.clone(),
        cluster_name: cluster_name.unwrap_or_else(|| config.cluster_name.clone()),
        mechanisms,
        frame_max: config.limits.frame_max,
        channel_max: config.limits.channels_per_connection,
        heartbeat_s: u16::try_from(config.timing.amqp_heartbeat.as_secs()).unwrap_or(u16::MAX),
        handshake_timeout: config.timing.handshake_timeout,
        refusal_delay: config.timing.login_failure_delay,
        max_message_size: config.limits.message_size,
        ..ServerConfig::default()
    }
}

/// An error that no precondition of the client's explains.
pub(super) fn internal(text: &str) -> ProtocolError {
    ProtocolError::new(ReplyCode::INTERNAL_ERROR, text)
}
