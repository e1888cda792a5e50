//! Opens connections to a peer, and notices at once when they break.
//!
//! tonic reconnects silently; what this node wants to know is how a connection ended. A process
//! that dies has its sockets closed by the kernel, so an end of stream or a reset is news; silence
//! is not.

use super::auth::{Keys, Refusal};
use super::greet::{self, GreetError};
use super::tls::{Bound, Tls};
use super::transport::{Network, Wired};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::{Channel, Endpoint};

/// A connection that is not open by then will not open. Until it is, three messages go each way, and more with TLS.
const CONNECT: Duration = Duration::from_secs(4);
/// A connection whose peer answers no ping for so long is closed. Heartbeats tell much earlier whether a node
/// lives; a process that stood still for a few seconds keeps its connections.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Between pings of HTTP/2. Heartbeats find out sooner about the peer; these are for the other connections.
pub(super) const PING_EVERY: Duration = Duration::from_secs(5);

/// HTTP/2 frames, at most: larger than the default, since entries are, and what comes in one frame is not copied.
pub(super) const FRAME: u32 = 1 << 20;

/// Windows and limits of connections.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Windows {
    pub(crate) stream: u32,
    pub(crate) connection: u32,
}

/// How this node reaches others.
#[derive(Clone)]
pub(crate) struct Ways {
    pub(crate) network: Arc<dyn Network>,
    /// `None`: in the clear.
    pub(crate) tls: Option<Arc<Tls>>,
    pub(crate) keys: Arc<Keys>,
}

/// A channel that connects when it is first used, and again after a failure. `node`: who has to be there. A connection to
/// another is not kept: it would last, although the name may be the right node's again.
pub(crate) fn channel(
    ways: &Ways,
    node: Option<u64>,
    address: &str,
    windows: Windows,
    closed: Arc<Closed>,
) -> Result<Channel, tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?
        .initial_stream_window_size(windows.stream)
        .initial_connection_window_size(windows.connection)
        .max_frame_size(FRAME)
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .connect_timeout(CONNECT);
    let dialer = Dialer {
        ways: ways.clone(),
        node,
        address: Arc::from(address),
        closed,
    };
    Ok(endpoint.connect_with_connector_lazy(dialer))
}

/// Whether `address` has the form of one that can be dialled. Names are resolved when that is done.
pub(crate) fn is_address(address: &str) -> bool {
    let uri = address.parse::<http::uri::Authority>();
    uri.is_ok_and(|uri| {
        let has_port = uri.port_u16().is_some_and(|port| port != 0);
        has_port && !uri.host().is_empty() && !address.contains('@')
    })
}

/// Whether the peer accepts connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Probe {
    Accepts,
    Refuses,
    /// Neither within the time given, or the name does not resolve.
    Nothing,
}

/// Tries to connect once.
pub(crate) async fn probe(network: &dyn Network, address: &str, within: Duration) -> Probe {
    match tokio::time::timeout(within, network.connect(address)).await {
        Ok(Ok(_)) => Probe::Accepts,
        Ok(Err(error)) if is_refusal(&error) => Probe::Refuses,
        Ok(Err(_)) | Err(_) => Probe::Nothing,
    }
}

fn is_refusal(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset
    )
}

/// Counts the connections that the other side has closed or reset, and keeps why it let none come
/// about.
#[derive(Debug, Default)]
pub(crate) struct Closed {
    count: AtomicU64,
    refused: Mutex<Option<String>>,
}

impl Closed {
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// Why the last connection was refused, if that was not asked before.
    pub(crate) fn take_refusal(&self) -> Option<String> {
        self.refused.lock().take()
    }
}

#[derive(Clone)]
struct Dialer {
    ways: Ways,
    node: Option<u64>,
    address: Arc<str>,
    closed: Arc<Closed>,
}

impl tower_service::Service<tonic::transport::Uri> for Dialer {
    type Response = TokioIo<Box<dyn Wired>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, io::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: tonic::transport::Uri) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let stream = this.ways.network.connect(&this.address).await?;
            let watched = Watched {
                stream,
                closed: Some(Arc::clone(&this.closed)),
            };
            match this.introduce(Box::new(watched)).await {
                Ok(stream) => Ok(TokioIo::new(stream)),
                Err(error) => {
                    if this.ways.keys.refusals.permit() {
                        tracing::warn!(address = %this.address, %error, "no connection to a node of the cluster");
                    }
                    *this.closed.refused.lock() = Some(error.to_string());
                    Err(io::Error::other(error))
                }
            }
        })
    }
}

impl Dialer {
    async fn introduce(&self, stream: Box<dyn Wired>) -> Result<Box<dyn Wired>, GreetError> {
        let bound = match &self.ways.tls {
            None => Bound {
                stream,
                binding: [0; 32],
            },
            Some(tls) => tokio::time::timeout(CONNECT, tls.connect(&self.address, stream))
                .await
                .map_err(|_| GreetError::Late)?
                .map_err(GreetError::Tls)?,
        };
        let (stream, there) = greet::call(&self.ways.keys, bound).await?;
        match self.node {
            Some(wanted) if wanted != there.node => {
                let here = there.node;
                Err(Refusal::WrongNode { here, wanted }.into())
            }
            _ => Ok(stream),
        }
    }
}

/// A stream that tells when the other side ends it.
struct Watched {
    stream: Box<dyn Wired>,
    closed: Option<Arc<Closed>>,
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let room = buffer.remaining() > 0;
        let result = Pin::new(&mut self.stream).poll_read(context, buffer);
        let ended = match &result {
            Poll::Ready(Ok(())) => room && buffer.filled().len() == before,
            Poll::Ready(Err(error)) => error.kind() != io::ErrorKind::TimedOut,
            Poll::Pending => false,
        };
        if ended && let Some(closed) = self.closed.take() {
            closed.count.fetch_add(1, Ordering::AcqRel);
        }
        result
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
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
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::is_address;

    #[test]
    fn addresses_have_a_host_and_a_port() {
        for address in [
            "a:1",
            "one.example:25672",
            "my_node-1:2",
            "10.0.0.1:3",
            "[fd00::5]:4",
        ] {
            assert!(is_address(address), "{address}");
        }
        for address in [
            "",
            "a",
            "a:",
            ":1",
            "a:0",
            "a:65536",
            "fd00::5:25672",
            "[fd00::5]",
            "a b:1",
            "http://a:1",
            "user@a:1",
        ] {
            assert!(!is_address(address), "{address}");
        }
    }
}
