//! A listener for a bounded number of connections, none of which may stand still for long: whoever
//! reaches the management port must not use up the file descriptors that AMQP clients need.

use axum::serve::Listener;
use futures::task::AtomicWaker;
use socket2::SockRef;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep_until};

/// A connection on which neither side gets anything through for so long is closed. Longer than the
/// pauses between the questions of monitoring.
const STILL: Duration = Duration::from_secs(150);

/// Bytes of an answer that the kernel takes ahead of the client, which reads at its leisure (it takes twice as much into
/// account). It would be up to megabytes, and they count in a container's memory.
const SEND_AHEAD: usize = 128 << 10;

/// The listener.
pub(crate) struct Bounded {
    listener: TcpListener,
    /// Connections at a time; further ones wait to be accepted.
    permits: Arc<Semaphore>,
    connections: usize,
    /// Connections that may never have been sent anything, oldest first.
    strangers: VecDeque<Weak<Guest>>,
    still: Duration,
}

impl Bounded {
    pub(crate) fn new(listener: TcpListener, connections: usize) -> Self {
        Self::with(listener, connections, STILL)
    }

    fn with(listener: TcpListener, connections: usize, still: Duration) -> Self {
        Self {
            listener,
            permits: Arc::new(Semaphore::new(connections)),
            connections,
            strangers: VecDeque::new(),
            still,
        }
    }
}

impl Bounded {
    /// The next connection. Where there are as many as there may be, the oldest that was never sent anything
    /// makes way: whoever asks something is answered in a crowd that does not.
    pub(crate) async fn accept(&mut self) -> (Watched, SocketAddr) {
        // The listener itself says what became of failures, and pauses after them.
        let (stream, peer) = Listener::accept(&mut self.listener).await;
        // If it cannot be set, more is taken ahead.
        let _ = SockRef::from(&stream).set_send_buffer_size(SEND_AHEAD);
        let permits = Arc::clone(&self.permits);
        let permit = match permits.try_acquire_owned() {
            Ok(permit) => Some(permit),
            Err(_) => {
                self.make_way();
                // Never closed, so it always comes.
                Arc::clone(&self.permits).acquire_owned().await.ok()
            }
        };
        let guest = Arc::new(Guest::default());
        self.strangers.push_back(Arc::downgrade(&guest));
        if self.strangers.len() > 2 * self.connections {
            self.strangers.retain(|guest| guest.strong_count() > 0);
        }
        let watched = Watched {
            stream,
            still: self.still,
            deadline: Box::pin(sleep_until(Instant::now() + self.still)),
            moved: Instant::now(),
            guest,
            _permit: permit,
        };
        (watched, peer)
    }

    /// Ends the oldest connection that was never sent anything, if there is one.
    fn make_way(&mut self) {
        while let Some(guest) = self.strangers.pop_front() {
            if let Some(guest) = guest.upgrade()
                && !guest.served.load(Ordering::Relaxed)
            {
                guest.dismissed.store(true, Ordering::Release);
                guest.waker.wake();
                return;
            }
        }
    }
}

/// What the listener knows of a connection.
#[derive(Debug, Default)]
struct Guest {
    /// It was sent something.
    served: AtomicBool,
    /// It is to end.
    dismissed: AtomicBool,
    waker: AtomicWaker,
}

/// A connection that ends when it stands still.
pub(crate) struct Watched {
    stream: TcpStream,
    still: Duration,
    /// Armed for the last movement, or an earlier one.
    deadline: Pin<Box<Sleep>>,
    moved: Instant,
    guest: Arc<Guest>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Watched {
    /// Notes movement; turns a wait that is too long into an error.
    fn watch<T>(
        &mut self,
        context: &mut Context<'_>,
        result: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.moved = Instant::now();
            return result;
        }
        self.guest.waker.register(context.waker());
        if self.guest.dismissed.load(Ordering::Acquire) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        while self.deadline.as_mut().poll(context).is_ready() {
            let ends = self.moved + self.still;
            if ends <= Instant::now() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            self.deadline.as_mut().reset(ends);
        }
        Poll::Pending
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.watch(context, result)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.guest.served.store(true, Ordering::Relaxed);
        self.watch(context, result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.guest.served.store(true, Ordering::Relaxed);
        self.watch(context, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn one_that_stands_still_ends() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut bounded = Bounded::with(listener, 1, Duration::from_millis(50));
        let mut client = TcpStream::connect(address).await.unwrap();
        let (mut watched, _) = bounded.accept().await;
        client.write_all(b"GET").await.unwrap();
        let mut read = Vec::new();
        let ended = watched.read_to_end(&mut read).await.unwrap_err();
        assert_eq!(ended.kind(), io::ErrorKind::TimedOut);
        assert_eq!(read, b"GET");
    }

    #[tokio::test]
    async fn the_oldest_that_was_sent_nothing_makes_way() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut bounded = Bounded::new(listener, 2);
        let mut clients = Vec::new();
        let mut guests = Vec::new();
        for _ in 0..2 {
            clients.push(TcpStream::connect(address).await.unwrap());
            guests.push(bounded.accept().await.0);
        }
        guests[0].write_all(b"answer").await.unwrap();
        clients.push(TcpStream::connect(address).await.unwrap());
        let mut second = guests.remove(1);
        let (next, ended) = tokio::join!(bounded.accept(), async move {
            let ended = second.read_u8().await.unwrap_err();
            drop(second);
            ended.kind()
        });
        assert_eq!(ended, io::ErrorKind::ConnectionAborted);
        clients[2].write_all(b"x").await.unwrap();
        let mut third = next.0;
        assert_eq!(third.read_u8().await.unwrap(), b'x');
        drop(guests);
    }
}
