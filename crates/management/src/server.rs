//! Serves HTTP on one port, to whoever comes: what a stranger may take of memory and time is bounded.

use crate::bounded::{Bounded, Watched};
use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use node::tls::OperatorTls;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use tower::ServiceExt;

/// The head of a request comes within this time, or its connection ends; so does one on which none comes.
const HEAD_WITHIN: Duration = Duration::from_secs(60);
/// The handshake of TLS takes no longer.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// Bytes of a head, and of what is read ahead of a handler, at most.
const HEAD_MAX: usize = 32 << 10;

/// A connection, with TLS or without.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// Answers at most so many connections at a time until it is told to stop; then what is being asked is still
/// answered.
pub(crate) fn serve(
    listener: TcpListener,
    connections: usize,
    tls: Option<OperatorTls>,
    router: Router,
    stop: &watch::Sender<bool>,
) -> JoinHandle<()> {
    tokio::spawn(run(
        Bounded::new(listener, connections),
        tls,
        router,
        stop.subscribe(),
    ))
}

async fn run(
    mut listener: Bounded,
    tls: Option<OperatorTls>,
    router: Router,
    mut stopped: watch::Receiver<bool>,
) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(HEAD_MAX);
    let mut connections = JoinSet::new();
    loop {
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopped.wait_for(|stop| *stop) => break,
        };
        let service = router
            .clone()
            .map_request(move |request| from_peer(request, peer));
        let (http, tls, mut stopped) = (http.clone(), tls.clone(), stopped.clone());
        connections.spawn(async move {
            let opened = tokio::select! {
                opened = opened(stream, tls) => opened,
                _ = stopped.wait_for(|stop| *stop) => None,
            };
            let Some(stream) = opened else { return };
            let connection =
                http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
            let mut connection = pin!(connection);
            // What ends a connection early is the client's business.
            tokio::select! {
                _ = connection.as_mut() => return,
                _ = stopped.wait_for(|stop| *stop) => connection.as_mut().graceful_shutdown(),
            }
            let _ = connection.await;
        });
        while connections.try_join_next().is_some() {}
    }
    while connections.join_next().await.is_some() {}
}

/// After the handshake, if there is one; none if it fails, which is the client's business.
async fn opened(stream: Watched, tls: Option<OperatorTls>) -> Option<Box<dyn Stream>> {
    let Some(tls) = tls else {
        return Some(Box::new(stream));
    };
    let stream = timeout(HANDSHAKE_WITHIN, tls.accept(stream)).await.ok()?;
    Some(Box::new(stream.ok()?))
}

/// Handlers learn the peer's address.
fn from_peer(request: hyper::Request<Incoming>, peer: SocketAddr) -> Request {
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(ConnectInfo(peer));
    request
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";

    async fn start(connections: usize) -> (SocketAddr, watch::Sender<bool>, JoinHandle<()>) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = watch::Sender::new(false);
        let here = async |ConnectInfo(peer): ConnectInfo<SocketAddr>| peer.ip().to_string();
        let router = Router::new().route("/", get(here));
        let server = serve(listener, connections, None, router, &stop);
        (address, stop, server)
    }

    async fn ask(address: SocketAddr) -> String {
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(REQUEST).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn whoever_asks_is_answered_in_a_crowd_that_does_not() {
        let (address, stop, server) = start(3).await;
        let mut crowd = Vec::new();
        for _ in 0..10 {
            let mut idler = TcpStream::connect(address).await.unwrap();
            idler.write_all(b"GET / HT").await.unwrap();
            crowd.push(idler);
        }
        for _ in 0..5 {
            let answer = ask(address).await;
            assert!(answer.ends_with("127.0.0.1"), "{answer}");
        }
        stop.send_replace(true);
        drop(crowd);
        server.await.unwrap();
    }

    #[tokio::test]
    async fn a_head_without_end_is_refused() {
        let (address, _stop, _server) = start(3).await;
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nx: ").await.unwrap();
        // What is left unread resets the connection, perhaps before the answer is seen.
        while client.write_all(&[b'y'; 1024]).await.is_ok() {}
        assert!(ask(address).await.ends_with("127.0.0.1"));
    }
}
