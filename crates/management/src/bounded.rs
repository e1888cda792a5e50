//! A listener for a bounded number of connections, none of which may stand still for long: whoever
//! reaches the management port must not use up the file descriptors that AMQP clients need.

use axum::serve::Listener;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep_until};

/// A connection on which neither side gets anything through for so long is closed. Longer than the
/// pauses between the questions of monitoring.
const STILL: Duration = Duration::from_secs(150);

/// The listener.
pub(crate) struct Bounded {
    listener: TcpListener,
    /// Connections at a time; further ones wait to be accepted.
    permits: Arc<Semaphore>,
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
            still,
        }
    }
}

impl Listener for Bounded {
    type Io = Watched;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Watched, SocketAddr) {
        // Never closed, so it always comes.
        let permit = Arc::clone(&self.permits).acquire_owned().await.ok();
        // The listener itself says what became of failures, and pauses after them.
        let (stream, peer) = Listener::accept(&mut self.listener).await;
        let watched = Watched {
            stream,
            still: self.still,
            deadline: Box::pin(sleep_until(Instant::now() + self.still)),
            moved: Instant::now(),
            _permit: permit,
        };
        (watched, peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        TcpListener::local_addr(&self.listener)
    }
}

/// A connection that ends when it stands still.
pub(crate) struct Watched {
    stream: TcpStream,
    still: Duration,
    /// Armed for the last movement, or an earlier one.
    deadline: Pin<Box<Sleep>>,
    moved: Instant,
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
        self.watch(context, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";

    #[tokio::test]
    async fn idlers_are_closed_and_make_way() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let bounded = Bounded::with(listener, 3, Duration::from_millis(300));
        let router = Router::new().route("/", get(async || "here"));
        let server = tokio::spawn(async move { axum::serve(bounded, router).await });
        let mut idlers = Vec::new();
        for at in 0..6 {
            let mut idler = TcpStream::connect(address).await.unwrap();
            if at % 2 == 0 {
                idler.write_all(b"GET / HT").await.unwrap();
            }
            idlers.push(idler);
        }
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(REQUEST).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("here"), "{answer}");
        for mut idler in idlers {
            let mut rest = Vec::new();
            let _ = idler.read_to_end(&mut rest).await;
        }
        server.abort();
    }
}
