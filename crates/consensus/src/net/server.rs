//! The listener of the cluster port.

use super::auth::{Doorkeeper, Keys};
use super::presence::Presence;
use crate::config::Limits;
use crate::error::StartError;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::service::{InterceptorLayer, Routes};
use tonic::transport::Server;

/// HTTP/2 frames of bodies: larger than the default, since entries are.
const FRAME: u32 = 256 << 10;
/// Streams of one connection: a node has one link open for every shard, besides calls.
const STREAMS: u32 = 8192;

/// A bound listener.
pub(crate) struct Listening {
    listener: TcpListener,
    pub(crate) address: SocketAddr,
}

pub(crate) async fn listen(address: SocketAddr) -> Result<Listening, StartError> {
    let failed = |error: std::io::Error| StartError::Listen {
        address: address.to_string(),
        reason: error.to_string(),
    };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok(Listening { listener, address })
}

/// The running server; ends with [`stop`](Self::stop) or when dropped.
pub(crate) struct Serving {
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Serving {
    /// Accepts no more connections, and gives open requests a moment.
    pub(crate) async fn stop(mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        let _ = tokio::time::timeout(Duration::from_millis(200), &mut self.task).await;
        self.task.abort();
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves `routes` to callers with good credentials.
pub(crate) fn serve(
    listening: Listening,
    keys: Arc<Keys>,
    presence: Arc<Presence>,
    limits: &Limits,
    routes: Routes,
) -> Serving {
    let (stop, stopped) = oneshot::channel::<()>();
    let router = Server::builder()
        .initial_stream_window_size(limits.stream_window)
        .initial_connection_window_size(limits.connection_window)
        .max_frame_size(FRAME)
        .max_concurrent_streams(Some(STREAMS))
        .http2_keepalive_interval(Some(Duration::from_secs(2)))
        .http2_keepalive_timeout(Some(Duration::from_secs(3)))
        .layer(InterceptorLayer::new(Doorkeeper { keys, presence }))
        .add_routes(routes);
    let incoming = TcpListenerStream::new(listening.listener).map(|stream| {
        if let Ok(stream) = &stream {
            let _ = stream.set_nodelay(true);
        }
        stream
    });
    let task = tokio::spawn(async move {
        let stopped = async {
            let _ = stopped.await;
        };
        if let Err(error) = router.serve_with_incoming_shutdown(incoming, stopped).await {
            tracing::error!(%error, "cluster port");
        }
    });
    Serving {
        stop: Some(stop),
        task,
    }
}
