//! A connection: bytes in and out, frames to events, heartbeats.

use super::content::Partial;
use super::{Error, Event, Wire};
use amqp_codec::{
    Content, FRAME_OVERHEAD, FrameKind, Method, RawFrame, Segments, ShortStr, decode, write_ack,
    write_heartbeat, write_method, write_nack, write_publish,
};
use bytes::{Buf, BytesMut};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::IoSlice;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};

/// Room for one read.
const READ: usize = 64 * 1024;
/// Parts handed to one vectored write.
const SLICES: usize = 32;
/// Events that may come while an answer is waited for.
const EARLY_MAX: usize = 256;
/// How long an answer may take: a broker that looks for a majority answers before.
const ANSWER: Duration = Duration::from_secs(60);

/// An open connection.
pub struct Client {
    stream: Box<dyn Wire>,
    input: BytesMut,
    output: Segments,
    pub(super) frame_max: usize,
    pub(super) heartbeat: Option<Duration>,
    last_heard: Instant,
    last_written: Instant,
    unflushed: bool,
    partial: Option<Partial>,
    early: VecDeque<Event>,
}

/// What the stream did.
enum Io {
    Read(usize),
    Drained,
}

impl Client {
    pub(super) fn new(stream: Box<dyn Wire>) -> Self {
        let now = Instant::now();
        Self {
            stream,
            input: BytesMut::new(),
            output: Segments::new(),
            frame_max: amqp_codec::INITIAL_FRAME_MAX,
            heartbeat: None,
            last_heard: now,
            last_written: now,
            unflushed: false,
            partial: None,
            early: VecDeque::new(),
        }
    }

    /// Bytes that wait to be written.
    #[must_use]
    pub fn output_len(&self) -> usize {
        self.output.len()
    }

    pub(super) fn output(&mut self) -> &mut Segments {
        &mut self.output
    }

    /// Sends a method.
    pub fn send(&mut self, channel: u16, method: &Method) {
        write_method(&mut self.output, channel, method);
    }

    /// Publishes a message.
    pub fn publish(
        &mut self,
        channel: u16,
        exchange: &ShortStr,
        routing_key: &ShortStr,
        mandatory: bool,
        content: Content<'_>,
    ) {
        write_publish(
            &mut self.output,
            channel,
            self.frame_max,
            exchange.as_bytes(),
            routing_key.as_bytes(),
            mandatory,
            content,
        );
    }

    /// Acknowledges deliveries.
    pub fn ack(&mut self, channel: u16, tag: u64, multiple: bool) {
        write_ack(&mut self.output, channel, tag, multiple);
    }

    /// Gives a delivery back.
    pub fn give_back(&mut self, channel: u16, tag: u64) {
        write_nack(&mut self.output, channel, tag, false, true);
    }

    /// Sends a method and waits for its answer.
    ///
    /// # Errors
    /// The connection is lost, the broker does not answer, or closes the channel instead.
    pub async fn call(&mut self, channel: u16, method: &Method) -> Result<Method, Error> {
        self.send(channel, method);
        timeout(ANSWER, self.answer(channel))
            .await
            .map_err(|_| Error::Timeout)?
    }

    pub(super) async fn answer(&mut self, on: u16) -> Result<Method, Error> {
        loop {
            match self.next(true, None).await? {
                Event::Answer { channel, method } if channel == on => return Ok(method),
                Event::ChannelClosed {
                    channel,
                    code,
                    text,
                } if channel == on => return Err(Error::ChannelClosed { code, text }),
                _ if self.early.len() >= EARLY_MAX => return Err(Error::Unexpected("flood")),
                event => self.early.push_back(event),
            }
        }
    }

    /// Waits for the next event, and writes what is to be sent. Without `read` nothing is read: the broker has to wait. With
    /// `drained_at` it also returns when no more than so many bytes wait. Nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// The connection cannot go on.
    pub async fn turn(&mut self, read: bool, drained_at: Option<usize>) -> Result<Event, Error> {
        if read && let Some(event) = self.early.pop_front() {
            return Ok(event);
        }
        self.next(read, drained_at).await
    }

    async fn next(&mut self, read: bool, drained_at: Option<usize>) -> Result<Event, Error> {
        loop {
            if !read {
                // What it says meanwhile is not heard.
                self.last_heard = Instant::now();
            } else if let Some(event) = self.decode()? {
                return Ok(event);
            }
            let io = match self.look_at_clock(read)? {
                Some(at) => match timeout_at(at, self.io(read, drained_at)).await {
                    Ok(io) => io?,
                    Err(_) => continue,
                },
                None => self.io(read, drained_at).await?,
            };
            match io {
                Io::Read(0) => return Err(Error::Lost),
                Io::Read(_) => self.last_heard = Instant::now(),
                Io::Drained => return Ok(Event::Drained),
            }
        }
    }

    /// Sends a heartbeat if it is time, and tells when to look again.
    fn look_at_clock(&mut self, read: bool) -> Result<Option<Instant>, Error> {
        let Some(heartbeat) = self.heartbeat else {
            return Ok(None);
        };
        let now = Instant::now();
        let silent_at = self.last_heard + heartbeat * 2;
        if read && silent_at <= now {
            return Err(Error::Heartbeat);
        }
        if self.last_written + heartbeat / 2 <= now {
            // A broker that takes nothing gets no more of them.
            if self.output.is_empty() {
                write_heartbeat(&mut self.output);
            }
            self.last_written = now;
        }
        let write_at = self.last_written + heartbeat / 2;
        Ok(Some(if read {
            write_at.min(silent_at)
        } else {
            write_at
        }))
    }

    async fn io(&mut self, read: bool, drained_at: Option<usize>) -> Result<Io, Error> {
        poll_fn(|cx| {
            while !self.output.is_empty() {
                let mut slices = [IoSlice::new(&[]); SLICES];
                let count = self.output.chunks_vectored(&mut slices);
                let slices = slices.get(..count).unwrap_or_default();
                let written = {
                    let write = pin!(self.stream.write_vectored(slices));
                    write.poll(cx)
                };
                match written {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Err(Error::Lost)),
                    Poll::Ready(Ok(written)) => {
                        self.output.advance(written);
                        self.unflushed = true;
                        self.last_written = Instant::now();
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                    Poll::Pending => break,
                }
            }
            if self.unflushed && self.output.is_empty() {
                match pin!(self.stream.flush()).poll(cx) {
                    Poll::Ready(Ok(())) => self.unflushed = false,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                    Poll::Pending => {}
                }
            }
            if drained_at.is_some_and(|limit| self.output.len() <= limit) {
                return Poll::Ready(Ok(Io::Drained));
            }
            if read {
                if self.input.capacity() - self.input.len() < READ / 4 {
                    self.input.reserve(READ);
                }
                let read = pin!(self.stream.read_buf(&mut self.input)).poll(cx);
                return read.map(|read| Ok(Io::Read(read?)));
            }
            Poll::Pending
        })
        .await
    }

    /// The next event of what has been read.
    fn decode(&mut self) -> Result<Option<Event>, Error> {
        while let Some(frame) = decode(&mut self.input, self.frame_max + FRAME_OVERHEAD)? {
            if let Some(event) = self.frame(frame)? {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    fn frame(&mut self, frame: RawFrame) -> Result<Option<Event>, Error> {
        let RawFrame {
            kind,
            channel,
            payload,
        } = frame;
        match kind {
            FrameKind::Heartbeat => Ok(None),
            FrameKind::Method if self.partial.is_some() => Err(Error::Unexpected("method")),
            FrameKind::Method => match Partial::begin(channel, Method::decode(payload)?) {
                Ok(partial) => {
                    self.partial = Some(partial);
                    Ok(None)
                }
                Err(method) => self.method(channel, method),
            },
            FrameKind::Header | FrameKind::Body => {
                let partial = self.partial.take();
                let partial = partial
                    .filter(|partial| partial.channel() == channel)
                    .ok_or(Error::Unexpected("content"))?;
                let next = if kind == FrameKind::Header {
                    partial.header(payload)?
                } else {
                    partial.body(payload)?
                };
                match next {
                    Ok(event) => Ok(Some(event)),
                    Err(partial) => {
                        self.partial = Some(partial);
                        Ok(None)
                    }
                }
            }
        }
    }

    fn method(&mut self, channel: u16, method: Method) -> Result<Option<Event>, Error> {
        Ok(Some(match method {
            Method::ConnectionClose {
                reply_code,
                reply_text,
                ..
            } => {
                return Err(Error::Closed {
                    code: reply_code,
                    text: reply_text,
                });
            }
            Method::ConnectionBlocked { .. } => Event::Blocked,
            Method::ConnectionUnblocked {} => Event::Unblocked,
            Method::ChannelClose {
                reply_code,
                reply_text,
                ..
            } => {
                self.send(channel, &Method::ChannelCloseOk {});
                Event::ChannelClosed {
                    channel,
                    code: reply_code,
                    text: reply_text,
                }
            }
            Method::ChannelFlow { active } => {
                self.send(channel, &Method::ChannelFlowOk { active });
                return Ok(None);
            }
            Method::BasicAck {
                delivery_tag,
                multiple,
            } => Event::Confirmed {
                sequence: delivery_tag,
                multiple,
            },
            Method::BasicNack {
                delivery_tag,
                multiple,
                ..
            } => Event::Refused {
                sequence: delivery_tag,
                multiple,
            },
            Method::BasicCancel { .. } => Event::Cancelled,
            method => Event::Answer { channel, method },
        }))
    }

    /// Ends the connection in order, within `patience`. Whether what was sent before has come.
    pub async fn close(mut self, patience: Duration) -> bool {
        self.send(
            0,
            &Method::ConnectionClose {
                reply_code: 200,
                reply_text: ShortStr::from_static("Goodbye"),
                class_id: 0,
                method_id: 0,
            },
        );
        let said = async {
            loop {
                match self.next(true, None).await {
                    Ok(Event::Answer {
                        channel: 0,
                        method: Method::ConnectionCloseOk {},
                    }) => break,
                    Err(_) => return false,
                    Ok(_) => {}
                }
            }
            let _ = self.stream.shutdown().await;
            true
        };
        timeout(patience, said).await.unwrap_or(false)
    }
}
