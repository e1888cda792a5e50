//! How bytes reach other nodes: TCP, or what a simulation puts in its place.

use super::greet::Greeted;
use super::names::Names;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, lookup_host};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::server::Connected;

/// An open connection: bytes in order, both ways.
pub trait Wired: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Wired for T {}

/// A bound port of the cluster network.
pub struct Listening {
    /// Where it listens.
    pub address: SocketAddr,
    /// Connections as they come.
    pub incoming: BoxStream<'static, io::Result<Box<dyn Wired>>>,
}

/// The network between nodes. Implemented by TCP, and by simulations that delay, cut and break.
pub trait Network: Send + Sync + 'static {
    /// Opens a connection to `host:port`. A peer that refuses is `ConnectionRefused` or
    /// `ConnectionReset`; silence is no answer at all, the caller waits no longer than it likes.
    fn connect(&self, address: &str) -> BoxFuture<'static, io::Result<Box<dyn Wired>>>;

    /// Binds a port; port 0 takes a free one.
    fn listen(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<Listening>>;
}

/// What is sent and not acknowledged by the other machine for so long ends a connection. Otherwise the kernel sends it
/// again after longer and longer pauses, and where a network was cut for ten seconds it goes on only five seconds after it is whole.
/// A connection to a process that stands still is kept, as long as there is room for what is sent to it.
const UNACKNOWLEDGED: Duration = Duration::from_secs(2);

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    #[cfg(target_os = "linux")]
    socket2::SockRef::from(stream).set_tcp_user_timeout(Some(UNACKNOWLEDGED))?;
    Ok(())
}

static NAMES: Names = Names::new();

/// The real network.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tcp;

impl Network for Tcp {
    fn connect(&self, address: &str) -> BoxFuture<'static, io::Result<Box<dyn Wired>>> {
        let address = address.to_owned();
        async move {
            let resolving = async { Ok(lookup_host(&address).await?.collect()) };
            let found: Vec<SocketAddr> = NAMES.resolve(&address, resolving).await?;
            let stream = TcpStream::connect(found.as_slice()).await?;
            prepare(&stream)?;
            Ok(Box::new(stream) as Box<dyn Wired>)
        }
        .boxed()
    }

    fn listen(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<Listening>> {
        async move {
            let listener = TcpListener::bind(address).await?;
            let address = listener.local_addr()?;
            let incoming = TcpListenerStream::new(listener)
                .map(|stream| {
                    let stream = stream?;
                    prepare(&stream)?;
                    Ok(Box::new(stream) as Box<dyn Wired>)
                })
                .boxed();
            Ok(Listening { address, incoming })
        }
        .boxed()
    }
}

/// A connection that a peer has opened, as the server of the cluster port takes it.
pub(crate) struct Accepted(pub(crate) Box<dyn Wired>, pub(crate) Greeted);

impl Connected for Accepted {
    type ConnectInfo = Greeted;

    fn connect_info(&self) -> Greeted {
        self.1
    }
}

impl AsyncRead for Accepted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }
}
