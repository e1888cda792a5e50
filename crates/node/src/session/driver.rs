//! The loop of a connection: read, let the session work, write, wait.

use super::services::Services;
use super::stream::ClientStream;
use super::{Ends, Session};
use crate::hub::mailbox::SessionEvents;
use amqp_connection::EndReason;
use bytes::BytesMut;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tracing::{Instrument, debug, info, info_span};

/// Room for the first reads; most connections are idle most of the time.
const READ_MIN: usize = 8 * 1024;
/// A client that fills every read is read in larger steps, up to this.
const READ_MAX: usize = 256 * 1024;
/// Parts handed to one vectored write.
const SLICES: usize = 64;
/// Session events taken in one turn.
const EVENTS: usize = 256;
/// How long the last bytes of a connection may take to be written.
const LINGER: Duration = Duration::from_secs(5);
/// A client that takes none of the bytes that wait for it for so long is given up: what it was sent, and the
/// memory for it, go to others.
const STALL: Duration = Duration::from_secs(30);
/// And this time more.
const STALL_TRIED: Duration = Duration::from_secs(1);
/// How often a client that is not read, for an alarm, is looked after.
const LOOK: Duration = Duration::from_secs(1);
/// Bytes that are read ahead of a login that is under way, at most.
const LOGIN_INPUT_MAX: usize = 64 << 10;
/// How long a client that has heard the last of the server may go on sending, or may take to end the connection that
/// it has closed.
const DRAIN: Duration = Duration::from_secs(2);

/// Serves a client until its connection ends.
pub fn serve<S>(
    broker: Arc<dyn Services>,
    stream: S,
    ends: Ends,
) -> impl Future<Output = ()> + Send + use<S>
where
    S: ClientStream,
{
    let span = info_span!("connection", peer.addr = %ends.peer);
    let (session, events) = Session::new(broker, ends);
    // Boxed, because a future holds what it is given twice: as its argument and as its variable.
    let driver = Box::new(Driver {
        stream,
        session,
        events,
        input: BytesMut::new(),
        read_size: READ_MIN,
        unflushed: false,
        uptake: Uptake::default(),
    });
    // Made here and not in a future of its own, whose size would hold the driver a second time.
    Box::pin(driver.run()).instrument(span)
}

struct Driver<S> {
    stream: S,
    session: Session,
    events: SessionEvents,
    input: BytesMut,
    read_size: usize,
    /// Something was written that the stream may still hold (TLS).
    unflushed: bool,
    uptake: Uptake,
}

/// Whether the client takes what is written for it.
#[derive(Debug, Default)]
struct Uptake {
    stuck: Option<Stuck>,
}

#[derive(Debug, Clone, Copy)]
struct Stuck {
    /// Bytes that have been written, while more wait.
    written: u64,
    until: Instant,
    /// It has been tried once more: it may be this process that stood still.
    tried: bool,
}

impl Uptake {
    /// Until when the client has to take something; `None` while nothing waits for it.
    fn look(&mut self, waits: bool, written: u64, now: Instant) -> Option<Instant> {
        match &mut self.stuck {
            Some(stuck) if waits && stuck.written == written => {
                if stuck.until <= now && !stuck.tried {
                    stuck.tried = true;
                    stuck.until = now + STALL_TRIED;
                }
            }
            stuck => {
                *stuck = waits.then_some(Stuck {
                    written,
                    until: now + STALL,
                    tried: false,
                });
            }
        }
        self.stuck.map(|stuck| stuck.until)
    }
}

/// What the socket did.
enum Socket {
    /// Bytes have arrived.
    Read(usize),
    /// So much was written that the session may go on.
    Drained,
    /// The client has closed its side.
    Closed,
    Failed(io::Error),
}

impl<S> Driver<S>
where
    S: ClientStream,
{
    async fn run(mut self: Box<Self>) {
        let mut events = Vec::new();
        let ended = loop {
            let now = Instant::now();
            self.session.turn(&mut self.input, now);
            if let Some(reason) = self.session.ended() {
                debug!(?reason, "connection ended");
                break Some(reason);
            }
            let conn = &self.session.conn;
            let (waits, written) = (conn.output_len() > 0, conn.bytes_written());
            let given_up_at = self.uptake.look(waits, written, now);
            if given_up_at.is_some_and(|at| at <= now) {
                info!("client does not read what it is sent; connection given up");
                break None;
            }
            if self.session.is_blocked() && self.stream.is_left() {
                self.session.client_left();
                continue;
            }
            if self.session.has_more_to_do() {
                // Nothing else may come that would wake it.
                tokio::task::yield_now().await;
                continue;
            }
            let look_at = self.session.is_blocked().then(|| now + LOOK);
            let timeout = [self.session.next_timeout(), given_up_at, look_at]
                .into_iter()
                .flatten()
                .min();
            let session = &mut self.session;
            let (stream, input) = (&mut self.stream, &mut self.input);
            let (read_size, unflushed) = (&mut self.read_size, &mut self.unflushed);
            // The machine and the tasks are both part of the session, but wait apart.
            let (conn, tasks, alarms, mut io_wanted) = session.waiting_parts();
            // While a password is being checked nothing is taken: what comes meanwhile stays in the socket.
            let logs_in = !conn.is_open() && !tasks.is_empty();
            io_wanted.read &= !logs_in || input.len() < LOGIN_INPUT_MAX;
            tokio::select! {
                socket = poll_socket(stream, conn, input, read_size, unflushed, io_wanted) => match socket {
                    Socket::Read(count) => self.session.received(count),
                    Socket::Drained => {}
                    Socket::Closed => {
                        if self.session.was_health_check() {
                            debug!("connection closed without a byte");
                        } else if self.session.is_open() {
                            info!("client closed the connection without closing AMQP");
                        }
                        break None;
                    }
                    Socket::Failed(error) => {
                        info!(%error, "connection lost");
                        break None;
                    }
                },
                _ = self.events.recv_many(&mut events, EVENTS) => {
                    self.session.set_now(Instant::now());
                    for event in events.drain(..) {
                        self.session.hear(event);
                    }
                }
                Some(then) = next_task(tasks) => {
                    self.session.set_now(Instant::now());
                    self.session.continue_with(then);
                }
                // Only fails when the node is going down, which tells sessions itself.
                Ok(()) = alarms.changed() => self.session.alarms_changed(),
                () = sleep_until(timeout) => {
                    // Time passes where nothing else happens: what was made for a burst is given back.
                    self.read_size = READ_MIN;
                    events = Vec::new();
                    self.session.timed_out(Instant::now());
                }
            }
        };
        self.session.finish();
        // Whoever sends from now on learns that nobody hears it, and takes deliveries back.
        self.events.close();
        while let Some(event) = self.events.try_recv() {
            self.session.hear_at_the_end(event);
        }
        self.session.flush();
        // The client may be slow to read its end; nobody else waits for that.
        if let Some(reason) = ended {
            Box::pin(self.say_goodbye(reason)).await;
        }
    }

    async fn say_goodbye(&mut self, reason: EndReason) {
        let by_client = reason == EndReason::ClientClosed;
        if by_client {
            let _ = tokio::time::timeout(DRAIN, self.leave_to_client()).await;
        }
        let written = tokio::time::timeout(LINGER, self.write_end()).await;
        if reason.is_told() && !by_client && matches!(written, Ok(Ok(()))) {
            let _ = tokio::time::timeout(DRAIN, self.drain()).await;
        }
    }

    /// Its close is answered: it is the client that ends the connection. Until then it may close again, from
    /// another of its tasks.
    async fn leave_to_client(&mut self) -> io::Result<()> {
        loop {
            self.session.conn.hear_after_close(&mut self.input);
            self.write_rest().await?;
            self.input.reserve(READ_MIN);
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Ok(());
            }
        }
    }

    /// Reads, and forgets, what the client was still sending, until it closes its side. A socket that
    /// is closed with bytes unread resets the connection, and the client may never see what was
    /// written last: its `connection.close-ok`, or why it was refused.
    async fn drain(&mut self) {
        loop {
            self.input.clear();
            self.input.reserve(READ_MIN);
            if !matches!(self.stream.read_buf(&mut self.input).await, Ok(1..)) {
                return;
            }
        }
    }

    async fn write_rest(&mut self) -> io::Result<()> {
        while self.session.conn.output_len() > 0 {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let count = self.session.conn.output_slices(&mut slices);
            let written = self
                .stream
                .write_vectored(slices.get(..count).unwrap_or_default())
                .await?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.session.conn.output_written(written);
        }
        self.stream.flush().await
    }

    async fn write_end(&mut self) -> io::Result<()> {
        self.write_rest().await?;
        self.stream.shutdown().await
    }
}

/// What the session wants of the socket.
#[derive(Debug, Clone, Copy)]
pub(super) struct IoWanted {
    /// Whether to read.
    pub(super) read: bool,
    /// Tell when no more than this waits to be written.
    pub(super) drained_at: Option<usize>,
}

/// Writes what waits, reads what comes; both directions make progress in one poll.
async fn poll_socket<S>(
    stream: &mut S,
    conn: &mut amqp_connection::Connection,
    input: &mut BytesMut,
    read_size: &mut usize,
    unflushed: &mut bool,
    wanted: IoWanted,
) -> Socket
where
    S: ClientStream,
{
    poll_fn(|cx| {
        while conn.output_len() > 0 {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let count = conn.output_slices(&mut slices);
            let written = {
                let write = pin!(stream.write_vectored(slices.get(..count).unwrap_or_default()));
                write.poll(cx)
            };
            match written {
                Poll::Ready(Ok(0)) => return Poll::Ready(Socket::Closed),
                Poll::Ready(Ok(written)) => {
                    conn.output_written(written);
                    *unflushed = true;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Socket::Failed(error)),
                Poll::Pending => break,
            }
        }
        if *unflushed && conn.output_len() == 0 {
            match pin!(stream.flush()).poll(cx) {
                Poll::Ready(Ok(())) => *unflushed = false,
                Poll::Ready(Err(error)) => return Poll::Ready(Socket::Failed(error)),
                Poll::Pending => {}
            }
        }
        if wanted.read {
            if input.capacity() - input.len() < *read_size / 2 {
                input.reserve(*read_size);
            }
            let room = input.capacity() - input.len();
            let read = pin!(stream.read_buf(input)).poll(cx);
            match read {
                Poll::Ready(Ok(0)) => return Poll::Ready(Socket::Closed),
                Poll::Ready(Ok(count)) => {
                    if count == room {
                        *read_size = (*read_size * 2).min(READ_MAX);
                    } else if count < *read_size / 8 {
                        *read_size = (*read_size / 2).max(READ_MIN);
                    }
                    return Poll::Ready(Socket::Read(count));
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Socket::Failed(error)),
                // Most connections say nothing most of the time, and need no room for it.
                Poll::Pending if input.is_empty() && *read_size == READ_MIN => {
                    *input = BytesMut::new();
                }
                Poll::Pending => {}
            }
        }
        if wanted
            .drained_at
            .is_some_and(|limit| conn.output_len() <= limit)
        {
            return Poll::Ready(Socket::Drained);
        }
        Poll::Pending
    })
    .await
}

async fn next_task(tasks: &mut super::wait::Tasks) -> Option<super::wait::Then> {
    if tasks.is_empty() {
        return None;
    }
    futures::StreamExt::next(tasks).await
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_given_up_when_it_takes_nothing() {
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let mut uptake = Uptake::default();
        for (waits, written, now, given_up, why) in [
            (false, 10, 0, None, "nothing waits"),
            (true, 10, 5, Some(35), "from now on"),
            (true, 10, 20, Some(35), "nothing was taken"),
            (true, 11, 30, Some(60), "a byte was"),
            (false, 11, 50, None, "all of it was"),
            (true, 11, 70, Some(100), "something waits again"),
            (true, 11, 170, Some(171), "the node may have been frozen"),
            (true, 12, 171, Some(201), "it was"),
            (true, 12, 201, Some(202), "not this time"),
            (true, 12, 202, Some(202), "over"),
        ] {
            assert_eq!(
                uptake.look(waits, written, at(now)),
                given_up.map(at),
                "{why}"
            );
        }
    }
}
