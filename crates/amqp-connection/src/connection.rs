//! The connection machine: its state, and the way of a frame through it.
//!
//! ```text
//! AwaitingHeader ─► AwaitingStartOk ─► Authenticating ─► AwaitingTuneOk ─► AwaitingOpen ─► Opening ─► Open
//!                                           │ refused                                                  │
//!                                           ▼                                  ClientClosing ◄─────────┤
//!                                        Refused ──────────► Ended ◄────────── ServerClosing ◄─────────┘
//! ```
//!
//! Frames are taken one at a time, when the driver asks for the next event: what the driver decided
//! about the last one (an error, say) is in force when the next one is looked at.
//!
//! Not here: what a frame means (`frames`), handshake (`handshake`), errors and closing (`closing`), output
//! (`send`).

mod frames;

use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;
use std::time::Instant;

use amqp_codec::{FRAME_OVERHEAD, FrameBatch, INITIAL_FRAME_MAX, Method, Segments, take_frames};
use bytes::{Buf as _, BytesMut};

use crate::channels::{Channels, Slot};
use crate::closing::is_close;
use crate::config::ServerConfig;
use crate::event::{ClientInfo, EndReason, Event, ProtocolError};
use crate::heartbeat::Heartbeat;
use frames::decode_error;
pub(crate) use frames::method_ids;

/// Where the connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Nothing has arrived yet.
    AwaitingHeader,
    /// `connection.start` is sent.
    AwaitingStartOk,
    /// The driver checks the credentials.
    Authenticating,
    /// The login was refused; the socket is held for a moment.
    Refused,
    /// `connection.tune` is sent.
    AwaitingTuneOk,
    /// The limits are agreed on.
    AwaitingOpen,
    /// The driver opens the virtual host.
    Opening,
    /// Channels may be opened.
    Open,
    /// The client has sent `connection.close`; the driver gives back what it holds.
    ClientClosing,
    /// The server has sent `connection.close`.
    ServerClosing,
    /// Over.
    Ended,
}

/// The server side of one AMQP 0-9-1 connection, without sockets and clock.
#[derive(Debug)]
pub struct Connection {
    pub(crate) config: Arc<ServerConfig>,
    pub(crate) state: State,
    pub(crate) client: ClientInfo,
    /// Events that input did not cause.
    pub(crate) pending: VecDeque<Event>,
    pub(crate) channels: Channels,
    pub(crate) output: Segments,
    pub(crate) heartbeat: Heartbeat,
    /// When the state that waits for the peer ends by itself.
    pub(crate) deadline: Option<Instant>,
    /// When a refused login is told to the client.
    pub(crate) tell_refusal_at: Option<Instant>,
    /// Largest frame, both ways.
    pub(crate) frame_max: usize,
    pub(crate) channel_max: u16,
    /// Frames taken from the input and not looked at: from this offset on.
    frames: Option<(FrameBatch, usize)>,
    /// The input is no longer in step with frames.
    pub(crate) deaf: bool,
    /// Further closes of the client that are not answered yet.
    pub(crate) more_closes: usize,
    /// Bytes received.
    received: u64,
    /// Bytes written.
    written: u64,
    /// Bytes of unfinished messages.
    pub(crate) assembling: usize,
    /// The channel whose message may hold a slice of the frames being looked at.
    begun: Option<u16>,
}

impl Connection {
    /// A connection that was accepted at `now`.
    #[must_use]
    pub fn new(config: Arc<ServerConfig>, now: Instant) -> Self {
        let deadline = Some(now + config.handshake_timeout);
        let channel_max = config.channel_max;
        Self {
            config,
            state: State::AwaitingHeader,
            client: ClientInfo::default(),
            pending: VecDeque::new(),
            channels: Channels::default(),
            output: Segments::new(),
            heartbeat: Heartbeat::new(0, now),
            deadline,
            tell_refusal_at: None,
            frame_max: INITIAL_FRAME_MAX,
            channel_max,
            frames: None,
            deaf: false,
            more_closes: 0,
            received: 0,
            written: 0,
            assembling: 0,
            begun: None,
        }
    }

    /// `count` bytes have arrived.
    pub fn received(&mut self, count: usize) {
        self.received += count as u64;
        if count > 0 {
            self.heartbeat.note_read();
        }
    }

    /// Bytes that have arrived so far; a connection that ends with none was a health check.
    #[must_use]
    pub fn bytes_received(&self) -> u64 {
        self.received
    }

    /// Bytes that have been written so far.
    #[must_use]
    pub fn bytes_written(&self) -> u64 {
        self.written
    }

    /// What comes next, from `input` or by itself; `None` until more arrives or the driver has
    /// answered. Whole frames are taken off the front of `input`.
    pub fn poll_event(&mut self, input: &mut BytesMut, now: Instant) -> Option<Event> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Some(event);
            }
            match self.state {
                State::AwaitingHeader => {
                    if !self.handle_protocol_header(input) {
                        return None;
                    }
                }
                // The driver's answer decides how to go on.
                State::Authenticating | State::Opening => return None,
                State::Refused => {
                    self.frames = None;
                    input.clear();
                    return None;
                }
                State::ClientClosing | State::Ended => {
                    self.note_closes(input);
                    return None;
                }
                State::ServerClosing if self.deaf => {
                    if !self.find_close_ok(input) {
                        return None;
                    }
                }
                State::AwaitingStartOk
                | State::AwaitingTuneOk
                | State::AwaitingOpen
                | State::Open
                | State::ServerClosing => match self.next_frames(input, now) {
                    Step::Happened(event) => return Some(event),
                    Step::Went => {}
                    Step::Starved => return None,
                },
            }
        }
    }

    /// Looks at frames until one leads to an event or changes the state.
    fn next_frames(&mut self, input: &mut BytesMut, now: Instant) -> Step {
        let (batch, mut at) = match self.frames.take() {
            Some(frames) => frames,
            None => match take_frames(input, self.frame_max) {
                Ok(Some(batch)) => (batch, 0),
                Ok(None) => return Step::Starved,
                Err(error) => {
                    self.deaf = true;
                    return self
                        .failed(decode_error(&error))
                        .map_or(Step::Went, Step::Happened);
                }
            },
        };
        let state = self.state;
        let mut event = None;
        for frame in batch.frames_from(at) {
            at += frame.payload.len() + FRAME_OVERHEAD;
            event = match self.handle_frame(&frame, now) {
                Ok(event) => event,
                Err(error) => self.failed(error),
            };
            if event.is_some() || self.state != state || !self.pending.is_empty() {
                break;
            }
        }
        if at < batch.len_bytes() {
            self.frames = Some((batch, at));
        } else if let Some(channel) = self.begun.take() {
            self.detach(channel);
        }
        event.map_or(Step::Went, Step::Happened)
    }

    /// Takes all whole frames, and counts those that close the connection once more. Bytes that are no frames are dropped.
    pub(crate) fn note_closes(&mut self, input: &mut BytesMut) {
        loop {
            let (batch, at) = match self.frames.take() {
                Some(frames) => frames,
                None => match take_frames(input, self.frame_max) {
                    Ok(Some(batch)) => (batch, 0),
                    Ok(None) => return,
                    Err(_) => return input.clear(),
                },
            };
            self.more_closes += batch.frames_from(at).filter(is_close).count();
        }
    }

    /// An error of the client, unless the connection is closed because of one already.
    fn failed(&self, error: ProtocolError) -> Option<Event> {
        (self.state != State::ServerClosing).then_some(Event::Failed(error))
    }

    /// Bytes of messages of which a part has not arrived.
    #[must_use]
    pub fn unfinished_bytes(&self) -> usize {
        self.assembling
    }

    /// The driver has a channel: its client is told so.
    pub fn channel_opened(&mut self, channel: u16) {
        if self.is_channel_heard(channel) {
            self.write_method(channel, &Method::ChannelOpenOk {});
        }
    }

    /// Leaves the open state of a channel; false if it was not open.
    pub(crate) fn leave_channel(&mut self, channel: u16, next: Slot) -> bool {
        match self.channels.leave_open(channel, next) {
            Some(assembly) => {
                self.assembling -= assembly.held();
                true
            }
            None => false,
        }
    }

    /// Bytes that wait to be written; the driver bounds what it causes by this.
    #[must_use]
    pub fn output_len(&self) -> usize {
        self.output.len()
    }

    /// Fills `slices` with what to write next; returns how many were set.
    pub fn output_slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        self.output.chunks_vectored(slices)
    }

    /// The first `count` bytes of the output have been written.
    pub fn output_written(&mut self, count: usize) {
        if count > 0 {
            self.written += count as u64;
            self.heartbeat.note_written();
            self.output.advance(count);
        }
    }

    /// When [`Self::handle_timeout`] must be called at the latest.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        if self.state == State::Ended {
            return None;
        }
        let heartbeat = self.heartbeat.next_timeout();
        [self.deadline, self.tell_refusal_at, heartbeat]
            .into_iter()
            .flatten()
            .min()
    }

    /// Does what is due at `now`; calling it early does nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.state == State::Ended {
            return;
        }
        if self.tell_refusal_at.is_some_and(|at| now >= at) {
            self.tell_refusal_at = None;
            self.tell_refusal();
        }
        if self.deadline.is_some_and(|deadline| now >= deadline) {
            self.deadline = None;
            self.end(match self.state {
                State::Refused => EndReason::LoginRefused,
                State::ServerClosing | State::Open | State::ClientClosing | State::Ended => {
                    EndReason::CloseTimeout
                }
                State::AwaitingHeader
                | State::AwaitingStartOk
                | State::Authenticating
                | State::AwaitingTuneOk
                | State::AwaitingOpen
                | State::Opening => EndReason::HandshakeTimeout,
            });
            return;
        }
        let due = self.heartbeat.check(now);
        if due.dead {
            // Without connection.close: nobody is there to read it.
            self.output = Segments::new();
            self.end(EndReason::HeartbeatTimeout);
        } else if due.send {
            if self.output.is_empty() {
                // Nobody has written for a while: idle connections keep no buffers.
                self.output = Segments::new();
            }
            self.write_heartbeat();
        }
    }

    /// Tells whether the driver reads the socket; while it does not, silence proves nothing.
    pub fn set_reading(&mut self, reading: bool, now: Instant) {
        self.heartbeat.pause_receiving(!reading, now);
    }

    /// What the client said about itself.
    #[must_use]
    pub fn client(&self) -> &ClientInfo {
        &self.client
    }

    /// Negotiated limits: channel_max, frame_max, and the heartbeat in seconds.
    #[must_use]
    pub fn limits(&self) -> (u16, usize, u64) {
        let heartbeat_s = self
            .heartbeat
            .interval()
            .map_or(0, |interval| interval.as_secs());
        (self.channel_max, self.frame_max, heartbeat_s)
    }

    /// Whether the connection is open for channels.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// Whether a channel may be sent to: it is open, or the client has closed it, or the connection, and
    /// waits for the answers to what it sent before.
    #[must_use]
    pub fn is_channel_heard(&self, channel: u16) -> bool {
        self.answers() && self.channels.is_heard(channel)
    }

    /// Whether what the client has asked on channels is answered.
    pub(crate) fn answers(&self) -> bool {
        matches!(self.state, State::Open | State::ClientClosing)
    }

    pub(crate) fn state_name(&self) -> &'static str {
        match self.state {
            State::AwaitingHeader => "pre_init",
            State::AwaitingStartOk | State::Authenticating | State::Refused => "starting",
            State::AwaitingTuneOk => "tuning",
            State::AwaitingOpen | State::Opening => "opening",
            State::Open => "running",
            State::ClientClosing | State::ServerClosing => "closing",
            State::Ended => "closed",
        }
    }
}

/// What looking at frames led to.
enum Step {
    /// This.
    Happened(Event),
    /// Nothing to tell; there may be more.
    Went,
    /// More input is needed.
    Starved,
}
