//! The listener of the cluster port.

use super::auth::{Doorkeeper, Keys};
use super::dial::{FRAME, KEEP_ALIVE, PING_EVERY};
use super::greet::{self, GreetError};
use super::presence::Presence;
use super::tls::{Bound, Tls};
use super::transport::{Accepted, Listening, Wired};
use crate::config::Limits;
use futures::Stream;
use futures::stream::BoxStream;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::{InterceptorLayer, Routes};
use tonic::transport::Server;

/// Pause after a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Streams of one connection: a node has one link open for every shard, besides calls.
const STREAMS: u32 = 8192;

/// A TLS handshake takes no longer.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// The connections whose other side has proven that it is a node of the cluster.
fn greeted(
    mut incoming: BoxStream<'static, io::Result<Box<dyn Wired>>>,
    keys: Arc<Keys>,
    tls: Option<Arc<Tls>>,
    greeting: usize,
) -> impl Stream<Item = io::Result<Accepted>> {
    let (sender, receiver) = mpsc::channel(greeting.max(1));
    let permits = Arc::new(Semaphore::new(greeting));
    tokio::spawn(async move {
        loop {
            let stream = tokio::select! {
                stream = incoming.next() => stream,
                () = sender.closed() => return,
            };
            let stream = match stream {
                Some(Ok(stream)) => stream,
                Some(Err(error)) => {
                    tracing::warn!(%error, "cannot accept a connection on the cluster port");
                    // Out of file descriptors, most likely.
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
                None => return,
            };
            let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
                if keys.refusals.permit() {
                    tracing::warn!(
                        "too many connections on the cluster port that do not say who they are"
                    );
                }
                continue;
            };
            let (keys, tls, sender) = (Arc::clone(&keys), tls.clone(), sender.clone());
            tokio::spawn(async move {
                let _permit = permit;
                let mut who = None;
                match greet(stream, &keys, tls.as_deref(), &mut who).await {
                    Ok(accepted) => {
                        let _ = sender.send(Ok(accepted)).await;
                    }
                    Err(GreetError::Silent) => {}
                    Err(error) => note(&keys, who, &error),
                }
            });
        }
    });
    ReceiverStream::new(receiver)
}

/// Says why there is no connection: this node refused it, or it broke before anybody refused anything.
fn note(keys: &Keys, who: Option<u64>, error: &GreetError) {
    if !keys.refusals.permit() {
        return;
    }
    match error {
        GreetError::Io(error) => tracing::info!(
            from_node = ?who, %error, "a connection on the cluster port broke before both sides had proven who they are"
        ),
        error => tracing::warn!(
            from_node = ?who, reason = %error, "refused a connection on the cluster port"
        ),
    }
}

async fn greet(
    stream: Box<dyn Wired>,
    keys: &Keys,
    tls: Option<&Tls>,
    who: &mut Option<u64>,
) -> Result<Accepted, GreetError> {
    let bound = match tls {
        None => Bound {
            stream,
            binding: [0; 32],
        },
        Some(tls) => timeout(HANDSHAKE, tls.accept(stream))
            .await
            .map_err(|_| GreetError::Late)?
            .map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => GreetError::Silent,
                _ => GreetError::Tls(error),
            })?,
    };
    let (stream, greeted) = greet::answer(keys, bound, who).await?;
    Ok(Accepted(stream, greeted))
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
    tls: Option<Arc<Tls>>,
    limits: &Limits,
    routes: Routes,
) -> Serving {
    let (stop, stopped) = oneshot::channel::<()>();
    let router = Server::builder()
        .initial_stream_window_size(limits.stream_window)
        .initial_connection_window_size(limits.connection_window)
        .max_frame_size(FRAME)
        .max_concurrent_streams(Some(STREAMS))
        // A node that stood still finds the calls that were given up meanwhile; more than 20 of them would end
        // the connection by default.
        .http2_max_pending_accept_reset_streams(Some(STREAMS as usize))
        .http2_keepalive_interval(Some(PING_EVERY))
        .http2_keepalive_timeout(Some(KEEP_ALIVE))
        .layer(InterceptorLayer::new(Doorkeeper {
            keys: Arc::clone(&keys),
            presence,
        }))
        .add_routes(routes);
    let incoming = greeted(listening.incoming, keys, tls, limits.greeting);
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
