//! The byte stream of a client.

use consensus::Wired;
use futures::FutureExt;
use tokio::io::{AsyncRead, AsyncWrite, Interest};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// What a client's connection runs over.
pub trait ClientStream: AsyncRead + AsyncWrite + Unpin + Send {
    /// Whether the client has closed its side or is gone, told without reading. May miss it.
    fn is_left(&self) -> bool {
        false
    }
}

impl ClientStream for TcpStream {
    fn is_left(&self) -> bool {
        matches!(self.ready(Interest::READABLE).now_or_never(), Some(Ok(ready)) if ready.is_read_closed())
    }
}

impl ClientStream for TlsStream<TcpStream> {
    fn is_left(&self) -> bool {
        self.get_ref().0.is_left()
    }
}

impl ClientStream for Box<dyn Wired> {}

/// Within this process.
impl ClientStream for tokio::io::DuplexStream {}
