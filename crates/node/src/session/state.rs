//! The state of a session, and how its parts take turns.
//!
//! Everything happens in one task. What must wait (the catalog, a queue's leader) is a future or a
//! question whose answer continues with the session in hand; meanwhile its channel is *busy* and
//! later input of that channel waits, so answers keep their order. Other channels go on.

mod hear;
mod input;

use super::Ends;
use super::channel::{Channel, ChannelKey, Input, Unacked};
use super::consume::{Consumer, Leaving};
use super::driver::IoWanted;
use super::get::Gets;
use super::large_credit::LargeCredit;
use super::large_reads::LargeReads;
use super::outbox::Outbox;
use super::overdue::Former;
use super::services::Services;
use super::tally::Tally;
use super::trace::Traced;
use super::wait::{Tasks, Then, Waits};
use crate::broker::Alarms;
use crate::exchange_flows::Current;
use crate::hub::SessionHandle;
use crate::hub::mailbox::SessionEvents;
use crate::identity::Identity;
use crate::registry::ConnectionEntry;
use amqp_codec::ReplyCode;
use amqp_connection::{Confirm, Connection, EndReason, Mechanism, ProtocolError, ServerConfig};
use broker_model::ids::{ConnectionId, ConsumerId, QueueId};
use bytes::BytesMut;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;
use tokio::sync::watch;
use tracing::{info, warn};

/// One client connection.
pub(super) struct Session {
    pub(super) broker: Arc<dyn Services>,
    pub(super) conn: Connection,
    pub(super) ends: Ends,
    pub(super) handle: SessionHandle,
    pub(super) id: ConnectionId,
    /// Empty before the login.
    pub(super) user: Identity,
    pub(super) may_impersonate: bool,
    /// Whether it ever asked for confirms: then it knows itself how much it may have unanswered.
    pub(super) wants_confirms: bool,
    /// Empty before the connection is open.
    pub(super) vhost: Arc<str>,
    pub(super) entry: Option<Arc<ConnectionEntry>>,
    /// Boxed, because a map has room for eleven and most connections have one.
    pub(super) channels: BTreeMap<u16, Box<Channel>>,
    /// Boxed for the same reason.
    pub(super) consumers: BTreeMap<ConsumerId, Box<Consumer>>,
    /// Consumers that end: what still comes for them goes back.
    pub(super) leaving: BTreeMap<ConsumerId, Leaving>,
    /// Consumers that were cancelled and still hold deliveries.
    pub(super) former: BTreeMap<ConsumerId, Former>,
    pub(super) outbox: Outbox,
    /// Queues of which nothing is held, whatever was delivered: those that are gone, and streams.
    pub(super) unheld: HashSet<QueueId>,
    /// It declared an exclusive queue.
    pub(super) has_exclusive: bool,
    /// The client has closed and waits until the channels are done.
    pub(super) closing: bool,
    pub(super) now: Instant,
    pub(super) started: Instant,
    /// Channels to be looked at when the turn ends.
    pub(super) touched: Vec<ChannelKey>,
    /// More output waits than the client reads: no deliveries are granted.
    pub(super) choked: bool,
    pub(super) waits: Waits,
    alarms: watch::Receiver<Alarms>,
    /// The client publishes during an alarm: it is not read.
    blocked: bool,
    /// What it published then, to be done when the alarm is over.
    held: Option<Box<(ChannelKey, Input)>>,
    /// The client is gone: what it had sent is the last of it, and read in any case.
    left: bool,
    /// A new token is being checked: nothing is read until it is.
    pub(super) refreshing: bool,
    /// When the login ends.
    pub(super) expires_at: Option<Instant>,
    /// Too much is unanswered: the socket is not read.
    pub(super) paused: bool,
    reading: bool,
    backlog_len: usize,
    backlog_bytes: usize,
    pub(super) look_at: Option<Instant>,
    ended: Option<EndReason>,
    finished: bool,
    pub(super) confirms: Vec<Confirm>,
    /// Written bytes that have been counted.
    pub(super) counted_written: u64,
    pub(super) tally: Tally,
    /// Large messages of streams.
    pub(super) large: LargeReads,
    pub(super) large_credit: LargeCredit,
    pub(super) gets: Gets,
    /// Bytes of publishes that wait before they are sent: for their way, or for the catalog.
    pub(super) waiting_publishes: Arc<AtomicU64>,
    /// What was published to exchanges and not told yet.
    pub(super) flow: Current,
    /// Whether deliveries are copied to the firehose.
    pub(super) traced: Traced,
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
        let large_credit = LargeCredit::within(broker.config().memory.large_messages_bytes);
        let session = Self {
            conn: Connection::new(broker.registry().offer(server_config(&*broker, &ends)), now),
            ends,
            handle,
            id,
            user: Identity::stored(""),
            may_impersonate: false,
            wants_confirms: false,
            vhost: "".into(),
            entry: None,
            channels: BTreeMap::new(),
            consumers: BTreeMap::new(),
            leaving: BTreeMap::new(),
            former: BTreeMap::new(),
            outbox: Outbox::default(),
            unheld: HashSet::new(),
            has_exclusive: false,
            closing: false,
            now,
            started: now,
            touched: Vec::new(),
            choked: false,
            waits: Waits::default(),
            alarms,
            blocked: false,
            held: None,
            left: false,
            refreshing: false,
            expires_at: None,
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
            large: LargeReads::default(),
            large_credit,
            gets: Gets::default(),
            waiting_publishes: Arc::default(),
            flow: Current::default(),
            traced: Traced::default(),
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
        if self.conn.unfinished_bytes() > 0 {
            // What is begun takes memory too, and may never end.
            self.block_if_alarmed();
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
        (
            &mut self.conn,
            &mut self.waits.tasks,
            &mut self.alarms,
            wanted,
        )
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
        let barriers = self.waits.next_timeout();
        let expiry = self.expires_at.filter(|_| self.conn.is_open());
        let call_back = self.large_credit.call_back_at;
        let look_again = self.large_credit.look_again_at;
        let all = [
            self.conn.next_timeout(),
            barriers,
            self.look_at,
            expiry,
            call_back,
            look_again,
        ];
        all.into_iter().flatten().min()
    }

    pub(super) fn timed_out(&mut self, now: Instant) {
        self.now = now;
        self.conn.handle_timeout(now);
        self.pass_barriers(now);
        if self.look_at.is_some_and(|at| at <= now) {
            self.look_at = None;
            self.check_timeouts();
        }
        self.call_back_large();
        if self.conn.is_open() && self.expires_at.is_some_and(|at| at <= now) {
            self.expire();
        }
    }

    /// Alarms have come or gone.
    pub(super) fn alarms_changed(&mut self) {
        if self.blocked && self.alarms.borrow_and_update().reason().is_none() {
            self.blocked = false;
            self.conn.send_unblocked();
            self.show_state("running");
            self.release();
        }
    }

    /// Whether the client is not read because of an alarm.
    pub(super) fn is_blocked(&self) -> bool {
        self.blocked && self.conn.is_open()
    }

    /// The client that is blocked will send no more. Its end is found by reading what it has sent, and
    /// until then it keeps what it has begun in memory, which may be what the alarm is about.
    pub(super) fn client_left(&mut self) {
        self.left = true;
        self.blocked = false;
        self.release();
    }

    /// Does what was held for an alarm.
    fn release(&mut self) {
        if let Some(held) = self.held.take() {
            let (key, input) = *held;
            self.input(key, input);
        }
    }

    /// Gives back what is left when the connection is over, in whatever way.
    pub(super) fn finish(&mut self) {
        if self.finished {
            return;
        }
        self.finished = true;
        self.tally.count(self.broker.metrics());
        self.flow.tell();
        self.drop_channels();
        self.delete_exclusive_queues_later();
        self.flush();
        if let Some(entry) = self.entry.take() {
            let registry = self.broker.registry();
            registry
                .vhosts
                .connection_ended(&self.broker.catalog(), &entry);
            registry.remove(entry.session);
            self.broker.metrics().connections.add(-1);
            self.broker.metrics().counts.connections_closed.add(1);
        }
    }

    pub(super) fn show_state(&self, state: &'static str) {
        if let Some(entry) = &self.entry {
            *entry.state.lock() = state;
        }
    }

    // ---- channels ----

    pub(super) fn key_of(&self, channel: u16) -> Option<ChannelKey> {
        self.channels.get(&channel).map(|channel| channel.key)
    }

    /// The channel, if it is still the same opening.
    pub(super) fn channel(&mut self, key: ChannelKey) -> Option<&mut Channel> {
        self.channels
            .get_mut(&key.number)
            .map(|channel| &mut **channel)
            .filter(|channel| channel.key == key)
    }

    /// Closes a channel, or with a hard error the connection, after the client has been told which publishes are
    /// confirmed.
    pub(super) fn fail(&mut self, key: ChannelKey, error: ProtocolError, method: (u16, u16)) {
        let (class_id, method_id) = method;
        let error = error.of(class_id, method_id);
        if error.code.is_hard() {
            warn!(channel = key.number, %error, "connection closed by error");
            self.report_all_confirms();
            if self.conn.connection_error(&error, self.now) {
                self.drop_channels();
            } else {
                // The client closes the connection itself; nothing more is done for the channel.
                self.drop_channel(key.number);
            }
        } else {
            info!(channel = key.number, %error, "channel closed by error");
            self.report_confirms(key);
            self.conn.channel_error(key.number, &error, self.now);
            self.drop_channel(key.number);
        }
    }

    /// Closes the connection, after the client has been told which publishes are confirmed.
    pub(super) fn connection_error(&mut self, error: &ProtocolError) {
        warn!(%error, "connection closed by error");
        self.report_all_confirms();
        if self.conn.connection_error(error, self.now) {
            self.drop_channels();
        }
    }

    /// Seconds since the session began.
    pub(super) fn seconds(&self) -> u32 {
        u32::try_from(self.now.saturating_duration_since(self.started).as_secs())
            .unwrap_or(u32::MAX)
    }
}

/// What clients of this listener are told and held to.
fn server_config(broker: &dyn Services, ends: &Ends) -> ServerConfig {
    let config = broker.config();
    let cluster_name = broker.catalog().cluster_name().map(|name| name.to_string());
    let mut mechanisms = vec![Mechanism::Plain, Mechanism::AmqPlain, Mechanism::Anonymous];
    if ends.certificate_user.is_some() {
        mechanisms.push(Mechanism::External);
    }
    let defaults = ServerConfig::default();
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
        // The largest message, and what other channels have under way.
        unfinished_bytes_max: defaults
            .unfinished_bytes_max
            .saturating_add(usize::try_from(config.limits.message_size).unwrap_or(usize::MAX)),
        ..defaults
    }
}

/// An error that no precondition of the client's explains.
pub(super) fn internal(text: &str) -> ProtocolError {
    ProtocolError::new(ReplyCode::INTERNAL_ERROR, text)
}
