//! The way of one frame through the connection: what it is on its channel, and what is wrong with it.

use super::{Connection, State};
use crate::channels::Slot;
use crate::content::{Misfit, Progress};
use crate::event::{CloseReason, Event, ProtocolError};
use amqp_codec::{
    BODY_SIZE_MAX, BasicPublishRef, ContentHeader, DecodeError, FrameKind, FrameRef, Method,
    ReplyCode, ValueError, class,
};
use std::time::Instant;

impl Connection {
    pub(super) fn handle_frame(
        &mut self,
        frame: &FrameRef<'_>,
        now: Instant,
    ) -> Result<Option<Event>, ProtocolError> {
        if frame.kind == FrameKind::Heartbeat {
            return if !frame.payload.is_empty() {
                let text = "heartbeat frame with a payload";
                Err(ProtocolError::new(ReplyCode::FRAME_ERROR, text))
            } else if frame.channel == 0 {
                Ok(None)
            } else {
                Err(unexpected_frame(format!(
                    "heartbeat frame on channel {}",
                    frame.channel
                )))
            };
        }
        if self.state == State::ServerClosing {
            return Ok(self.frame_while_closing(frame));
        }
        if frame.channel == 0 {
            if frame.kind != FrameKind::Method {
                return Err(unexpected_frame(
                    "expected method frame, got non method frame instead",
                ));
            }
            let method = decode_method(frame)?;
            return self.connection_method(method, now);
        }
        if self.state != State::Open {
            return Err(unexpected_frame(format!(
                "frame on channel {} in connection state {}",
                frame.channel,
                self.state_name()
            )));
        }
        self.channel_frame(frame)
    }

    fn channel_frame(&mut self, frame: &FrameRef<'_>) -> Result<Option<Event>, ProtocolError> {
        let channel = frame.channel;
        let Some(Slot::Open(assembly)) = self.channels.get_mut(channel) else {
            return self.frame_outside_channel(frame);
        };
        match frame.kind {
            FrameKind::Method => {
                assembly.check_method().map_err(misfit)?;
                if let Some(publish) =
                    BasicPublishRef::parse(frame.payload).map_err(|e| decode_error(&e))?
                {
                    let BasicPublishRef {
                        exchange,
                        routing_key,
                        mandatory,
                        immediate,
                    } = publish;
                    assembly.begin(exchange, routing_key, mandatory, immediate);
                    return Ok(None);
                }
                let method = decode_method(frame)?;
                self.channel_method(channel, method)
            }
            FrameKind::Header => {
                assembly.check_header().map_err(misfit)?;
                let ContentHeader {
                    body_size: size,
                    properties,
                } = ContentHeader::decode_part(frame.source, frame.payload)
                    .map_err(|error| header_error(&error).of(60, 40))?;
                if size > BODY_SIZE_MAX {
                    let text = format!(
                        "content body size {size} exceeds maximum allowed size {BODY_SIZE_MAX}"
                    );
                    return Err(ProtocolError::new(ReplyCode::FRAME_ERROR, text).of(60, 40));
                }
                let progress = assembly
                    .header(channel, size, properties, self.config.max_message_size)
                    .map_err(misfit)?;
                self.assembling += assembly.held();
                if let Some(earlier) = self.begun.replace(channel)
                    && earlier != channel
                {
                    self.detach(earlier);
                }
                self.check_assembling()?;
                Ok(self.progressed(channel, progress))
            }
            FrameKind::Body => {
                let held = assembly.held();
                let progress = assembly.body(channel, frame.to_bytes()).map_err(misfit)?;
                self.assembling = self.assembling - held + assembly.held();
                self.check_assembling()?;
                Ok(self.progressed(channel, progress))
            }
            // Handled for all channels alike.
            FrameKind::Heartbeat => Ok(None),
        }
    }

    fn check_assembling(&self) -> Result<(), ProtocolError> {
        if self.assembling > self.config.unfinished_bytes_max {
            let text = "too many bytes in unfinished messages";
            return Err(ProtocolError::new(ReplyCode::RESOURCE_ERROR, text).of(60, 40));
        }
        Ok(())
    }

    pub(super) fn detach(&mut self, channel: u16) {
        if let Some(Slot::Open(assembly)) = self.channels.get_mut(channel) {
            assembly.detach();
        }
    }

    fn progressed(&mut self, channel: u16, progress: Progress) -> Option<Event> {
        match progress {
            Progress::More => None,
            Progress::Complete(publish) => Some(Event::Publish(publish)),
            Progress::TooLarge { size } => {
                let max = self.config.max_message_size;
                let text = format!("message size {size} is larger than configured max size {max}");
                let error = ProtocolError::new(ReplyCode::PRECONDITION_FAILED, text).of(60, 40);
                Some(Event::ChannelFailed { channel, error })
            }
        }
    }

    /// A frame for a number that is not open: free, or being closed.
    fn frame_outside_channel(
        &mut self,
        frame: &FrameRef<'_>,
    ) -> Result<Option<Event>, ProtocolError> {
        let channel = frame.channel;
        let method = method_ids(frame);
        match (self.channels.get_mut(channel), method) {
            (Some(Slot::Failing), Some((class::CHANNEL, CLOSE_OK))) => {
                self.channels.failure_seen(channel);
                Ok(None)
            }
            // Both sides closed at once; or the client closes what has been closed.
            (Some(Slot::Failing | Slot::Failed), Some((class::CHANNEL, CLOSE))) => {
                self.write_method(channel, &Method::ChannelCloseOk {});
                Ok(None)
            }
            (Some(Slot::Failing), _) => Ok(None),
            (Some(Slot::Closing), Some((class::CHANNEL, OPEN))) => {
                Err(channel_error("second 'channel.open' seen").of(class::CHANNEL, OPEN))
            }
            (Some(Slot::Closing), _) => Ok(None),
            (None | Some(Slot::Failed), Some((class::CHANNEL, OPEN))) => {
                decode_method(frame)?;
                self.open_channel(channel)
            }
            // Sent before the client knew; see the module `channels`.
            (
                Some(Slot::Failed),
                Some((class::BASIC, 80 | 90 | 120) | (class::CHANNEL, CLOSE_OK)),
            ) => Ok(None),
            (None | Some(Slot::Failed), Some((class_id, method_id))) => {
                decode_method(frame)?;
                Err(channel_error("expected 'channel.open'").of(class_id, method_id))
            }
            (None | Some(Slot::Failed), None) => Err(misfit(Misfit::ExpectedMethod)),
            // Open channels are handled before.
            (Some(Slot::Open(_)), _) => Ok(None),
        }
    }

    fn open_channel(&mut self, channel: u16) -> Result<Option<Event>, ProtocolError> {
        let max = self.channel_max;
        if max > 0 && self.channels.used() >= usize::from(max) {
            let used = self.channels.used();
            let text = format!(
                "number of channels opened ({used}) has reached the negotiated channel_max ({max})"
            );
            return Err(ProtocolError::new(ReplyCode::NOT_ALLOWED, text).of(class::CHANNEL, OPEN));
        }
        self.channels.open(channel);
        Ok(Some(Event::OpenChannel(channel)))
    }

    fn channel_method(
        &mut self,
        channel: u16,
        method: Method,
    ) -> Result<Option<Event>, ProtocolError> {
        let (class_id, method_id) = (method.class_id(), method.method_id());
        match method {
            Method::ChannelOpen {} => {
                Err(channel_error("second 'channel.open' seen").of(class_id, method_id))
            }
            Method::ChannelClose {
                reply_code,
                reply_text,
                ..
            } => {
                self.leave_channel(channel, Slot::Closing);
                let reason = CloseReason {
                    reply_code,
                    reply_text: reply_text.detached(),
                };
                Ok(Some(Event::ChannelClosed { channel, reason }))
            }
            // Answers to what the server sends without waiting.
            Method::ChannelFlowOk { .. } | Method::BasicCancelOk { .. } => Ok(None),
            method if is_request(&method) => Ok(Some(Event::Method { channel, method })),
            _ => Err(
                ProtocolError::new(ReplyCode::COMMAND_INVALID, "unimplemented method")
                    .of(class_id, method_id),
            ),
        }
    }
}

/// `channel.open`.
const OPEN: u16 = 10;
/// `channel.close`.
const CLOSE: u16 = 40;
/// `channel.close-ok`.
const CLOSE_OK: u16 = 41;

/// Class and method of a method frame, arguments unseen.
pub(crate) fn method_ids(frame: &FrameRef<'_>) -> Option<(u16, u16)> {
    match (frame.kind, frame.payload.first_chunk::<4>()) {
        (FrameKind::Method, Some(&[c0, c1, m0, m1])) => {
            Some((u16::from_be_bytes([c0, c1]), u16::from_be_bytes([m0, m1])))
        }
        _ => None,
    }
}

fn decode_method(frame: &FrameRef<'_>) -> Result<Method, ProtocolError> {
    Method::decode_part(frame.source, frame.payload).map_err(|error| decode_error(&error))
}

pub(super) fn decode_error(error: &DecodeError) -> ProtocolError {
    let (class_id, method_id) = error.failing_method();
    ProtocolError::new(error.reply_code(), error.to_string()).of(class_id, method_id)
}

fn header_error(error: &DecodeError) -> ProtocolError {
    match error {
        DecodeError::ContentHeader {
            reason: ValueError::ContentClass { class_id, .. },
        } if *class_id != class::BASIC => unexpected_frame(format!(
            "expected content header for class 60, got one for class {class_id} instead"
        )),
        error => decode_error(error),
    }
}

fn unexpected_frame(text: impl Into<String>) -> ProtocolError {
    ProtocolError::new(ReplyCode::UNEXPECTED_FRAME, text)
}

fn channel_error(text: &str) -> ProtocolError {
    ProtocolError::new(ReplyCode::CHANNEL_ERROR, text)
}

fn misfit(misfit: Misfit) -> ProtocolError {
    match misfit {
        Misfit::ExpectedMethod => {
            unexpected_frame("expected method frame, got non method frame instead")
        }
        Misfit::ExpectedHeader => unexpected_frame(
            "expected content header for class 60, got non content header frame instead",
        )
        .of(60, 40),
        Misfit::ExpectedBody => {
            unexpected_frame("expected content body, got non content body frame instead").of(60, 40)
        }
        Misfit::BodyTooLong { size, arrived } => {
            let text = format!("content body of {arrived} bytes exceeds the announced size {size}");
            ProtocolError::new(ReplyCode::FRAME_ERROR, text).of(60, 40)
        }
    }
}

/// Methods that a client may send on an open channel and the driver acts on.
fn is_request(method: &Method) -> bool {
    matches!(
        method,
        Method::ChannelFlow { .. }
            | Method::AccessRequest { .. }
            | Method::ExchangeDeclare { .. }
            | Method::ExchangeDelete { .. }
            | Method::ExchangeBind { .. }
            | Method::ExchangeUnbind { .. }
            | Method::QueueDeclare { .. }
            | Method::QueueBind { .. }
            | Method::QueuePurge { .. }
            | Method::QueueDelete { .. }
            | Method::QueueUnbind { .. }
            | Method::BasicQos { .. }
            | Method::BasicConsume { .. }
            | Method::BasicCancel { .. }
            | Method::BasicGet { .. }
            | Method::BasicAck { .. }
            | Method::BasicReject { .. }
            | Method::BasicRecoverAsync { .. }
            | Method::BasicRecover { .. }
            | Method::BasicNack { .. }
            | Method::ConfirmSelect { .. }
            | Method::TxSelect {}
            | Method::TxCommit {}
            | Method::TxRollback {}
    )
}
