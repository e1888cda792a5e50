//! Errors and ends: closing channels, closing the connection, from either side.

use std::time::{Duration, Instant};

use amqp_codec::{FrameRef, Method, ReplyCode, class, reply_text};
use bytes::{Buf, BytesMut};

use crate::channels::Slot;
use crate::connection::{Connection, State, method_ids};
use crate::event::{EndReason, Event, ProtocolError};

/// The longest wait for the client's close-ok.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(30);
const CLOSE: u16 = 50;
const CLOSE_OK: u16 = 51;
/// Further closes of one connection that are answered together, at most.
const CLOSES_MAX: usize = 1_000;
/// The whole frame of `connection.close-ok`.
const CLOSE_OK_FRAME: [u8; 12] = [1, 0, 0, 0, 0, 0, 4, 0, 10, 0, 51, 0xCE];

impl Connection {
    /// Closes a channel with a soft error. What else the client sends on it is discarded until it
    /// has seen this. Returns false, and does nothing, if the channel is neither
    /// open nor being closed by the client.
    ///
    /// A hard code closes the connection instead, as [`Self::connection_error`] does.
    pub fn channel_error(&mut self, channel: u16, error: &ProtocolError, now: Instant) -> bool {
        if error.code.is_hard() {
            return self.connection_error(error, now);
        }
        self.is_channel_heard(channel) && self.close_channel(channel, error)
    }

    /// Closes the connection with an error; [`Event::Ended`] follows when the client has seen it.
    /// Returns false, and does nothing, if it is closing already.
    pub fn connection_error(&mut self, error: &ProtocolError, now: Instant) -> bool {
        match self.state {
            State::ServerClosing | State::ClientClosing | State::Refused | State::Ended => {
                return false;
            }
            // Nothing can be said to a peer that has not spoken yet.
            State::AwaitingHeader => self.end(EndReason::ServerClosed),
            State::AwaitingStartOk
            | State::Authenticating
            | State::AwaitingTuneOk
            | State::AwaitingOpen
            | State::Opening
            | State::Open => {
                self.channels.clear();
                self.assembling = 0;
                self.write_close(error);
                self.state = State::ServerClosing;
                let deadline = now + self.close_timeout();
                // Who has not logged in yet gets no more time than for the whole handshake.
                self.deadline = Some(self.deadline.map_or(deadline, |set| set.min(deadline)));
            }
        }
        true
    }

    /// Closes the connection for the operator, as in `broker forced connection closure with reason
    /// 'shutdown'`.
    pub fn force_close(&mut self, explanation: &str, now: Instant) -> bool {
        self.connection_error(
            &ProtocolError::new(ReplyCode::CONNECTION_FORCED, explanation),
            now,
        )
    }

    /// The driver has given back what the channel held: its number is free.
    pub fn channel_closed(&mut self, channel: u16) {
        if self.channels.closed(channel) && self.answers() {
            self.write_method(channel, &Method::ChannelCloseOk {});
        }
    }

    /// The driver has given back everything: the client's close is answered.
    pub fn finish_close(&mut self) {
        if self.state == State::ClientClosing {
            self.write_method(0, &Method::ConnectionCloseOk {});
            self.answer_more_closes();
            self.end(EndReason::ClientClosed);
        }
    }

    /// What the client sends after its close was answered is dropped, but for further closes, which are answered
    /// too: several tasks of one program may close a connection at the same time, each waiting for an answer.
    pub fn hear_after_close(&mut self, input: &mut BytesMut) {
        self.note_closes(input);
        self.answer_more_closes();
    }

    fn answer_more_closes(&mut self) {
        for _ in 0..std::mem::take(&mut self.more_closes).min(CLOSES_MAX) {
            self.write_method(0, &Method::ConnectionCloseOk {});
        }
    }

    /// The channels are left until [`Self::finish_close`]: what was asked on them is answered.
    pub(crate) fn begin_client_close(&mut self, now: Instant) {
        self.channels.forget_unfinished();
        self.assembling = 0;
        self.state = State::ClientClosing;
        self.deadline = Some(now + CLOSE_TIMEOUT);
    }

    fn close_channel(&mut self, channel: u16, error: &ProtocolError) -> bool {
        let crossing = self.channels.fail_closing(channel);
        if !crossing && !self.leave_channel(channel, Slot::Failing) {
            return false;
        }
        let close = Method::ChannelClose {
            reply_code: error.code.0,
            reply_text: reply_text(error.code, &error.text),
            class_id: error.class_id,
            method_id: error.method_id,
        };
        self.write_method(channel, &close);
        if crossing {
            self.write_method(channel, &Method::ChannelCloseOk {});
        }
        true
    }

    pub(crate) fn write_close(&mut self, error: &ProtocolError) {
        let close = Method::ConnectionClose {
            reply_code: error.code.0,
            reply_text: reply_text(error.code, &error.text),
            class_id: error.class_id,
            method_id: error.method_id,
        };
        self.write_method(0, &close);
    }

    /// Everything but close and close-ok is ignored.
    pub(crate) fn frame_while_closing(&mut self, frame: &FrameRef<'_>) -> Option<Event> {
        if is_close(frame) {
            // Both sides closed at once.
            self.write_method(0, &Method::ConnectionCloseOk {});
            self.end(EndReason::ServerClosed);
        } else if is_connection_method(frame, CLOSE_OK) {
            self.end(EndReason::ServerClosed);
        }
        None
    }

    /// After a framing error the input cannot be followed, but the client's close-ok can be looked
    /// for: these twelve bytes are hardly anything else. True when they are there.
    pub(crate) fn find_close_ok(&mut self, input: &mut BytesMut) -> bool {
        if input
            .windows(CLOSE_OK_FRAME.len())
            .any(|window| window == CLOSE_OK_FRAME)
        {
            input.clear();
            self.end(EndReason::ServerClosed);
            return true;
        }
        input.advance(input.len().saturating_sub(CLOSE_OK_FRAME.len() - 1));
        false
    }

    pub(crate) fn end(&mut self, reason: EndReason) {
        if self.state != State::Ended {
            self.state = State::Ended;
            self.deadline = None;
            self.channels.clear();
            self.assembling = 0;
            self.pending.push_back(Event::Ended(reason));
        }
    }

    fn close_timeout(&self) -> Duration {
        self.heartbeat
            .interval()
            .unwrap_or(CLOSE_TIMEOUT)
            .min(CLOSE_TIMEOUT)
    }
}

/// Whether the frame is `connection.close`.
pub(crate) fn is_close(frame: &FrameRef<'_>) -> bool {
    is_connection_method(frame, CLOSE)
}

fn is_connection_method(frame: &FrameRef<'_>, method: u16) -> bool {
    frame.channel == 0 && method_ids(frame) == Some((class::CONNECTION, method))
}
