//! Accepts AMQP clients.

use crate::broker::Broker;
use crate::config::Config;
use crate::life::process::FileShares;
use crate::node::StartError;
use crate::session;
use crate::tls::TlsAcceptor;
use socket2::SockRef;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tracing::{debug, error, info, warn};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;
/// Pause after `accept` failed for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// A peer that vanished without a word is noticed by the kernel after about this time.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// Between two lines about clients that are turned away.
const COMPLAINT: Duration = Duration::from_secs(10);

/// Ports that are taken and not listened on yet: clients are refused, and try another node.
pub(crate) struct Bound {
    plain: Vec<Port>,
    tls: Option<(Vec<Port>, TlsAcceptor)>,
    proxy_protocol: bool,
}

/// A bound socket.
struct Port {
    socket: socket2::Socket,
    address: SocketAddr,
}

/// Ports that are served.
pub(crate) struct Listeners {
    tasks: Vec<JoinHandle<()>>,
}

impl Listeners {
    /// Takes the ports without listening on them: a conflict is told at once, and a client that
    /// comes before the node can serve it is refused rather than left waiting.
    ///
    /// # Errors
    /// A port is in use, or the TLS files cannot be read.
    pub(crate) fn bind(config: &Config) -> Result<Bound, StartError> {
        let plain = bind_all(config.amqp_listen)?;
        let tls = match &config.amqps {
            Some(tls) => {
                let acceptor = TlsAcceptor::load(tls).map_err(StartError::Tls)?;
                Some((bind_all(tls.listen)?, acceptor))
            }
            None => None,
        };
        Ok(Bound {
            plain,
            tls,
            proxy_protocol: config.proxy_protocol,
        })
    }

    /// No new clients from now on.
    pub(crate) fn stop_accepting(&self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Bound {
    /// Listens on the ports and serves them.
    ///
    /// # Errors
    /// Another process has begun to listen on a port since it was bound here.
    pub(crate) fn serve(self, broker: Arc<Broker>) -> Result<Listeners, StartError> {
        let proxy = self.proxy_protocol;
        let clients = FileShares::now().clients.min(Semaphore::MAX_PERMITS);
        let room = Arc::new(Semaphore::new(clients));
        let mut listening = Vec::new();
        for port in self.plain {
            listening.push((port.listen()?, None));
        }
        if let Some((ports, acceptor)) = self.tls {
            for port in ports {
                listening.push((port.listen()?, Some(acceptor.clone())));
            }
        }
        let tasks = listening
            .into_iter()
            .map(|(listener, tls)| {
                let (broker, room) = (Arc::clone(&broker), Arc::clone(&room));
                tokio::spawn(accept(listener, tls, proxy, broker, room))
            })
            .collect();
        Ok(Listeners { tasks })
    }
}

/// Takes a port. Where it is taken on all IPv4 addresses, `localhost` has to work as well for clients
/// that resolve it to `::1`; other IPv6 addresses are served only if they are asked for.
fn bind_all(address: SocketAddr) -> Result<Vec<Port>, StartError> {
    let first = Port::bind(address)?;
    let port = first.local_port();
    let mut ports = vec![first];
    if address.ip() == Ipv4Addr::UNSPECIFIED && port > 0 {
        match Port::bind((Ipv6Addr::LOCALHOST, port).into()) {
            Ok(port) => ports.push(port),
            // No IPv6 here, or the port is somebody else's there.
            Err(error) => debug!(%error, "not listening on ::1"),
        }
    }
    Ok(ports)
}

impl Port {
    fn bind(address: SocketAddr) -> Result<Self, StartError> {
        let bind = || -> std::io::Result<socket2::Socket> {
            let socket = socket2::Socket::new(
                socket2::Domain::for_address(address),
                socket2::Type::STREAM,
                Some(socket2::Protocol::TCP),
            )?;
            socket.set_reuse_address(true)?;
            socket.set_nonblocking(true)?;
            socket.bind(&address.into())?;
            Ok(socket)
        };
        match bind() {
            Ok(socket) => Ok(Self { socket, address }),
            Err(error) => Err(refused(address, error)),
        }
    }

    /// The port that was taken; 0 if the system does not say.
    fn local_port(&self) -> u16 {
        let bound = self.socket.local_addr().ok();
        bound
            .and_then(|bound| bound.as_socket())
            .map_or(0, |bound| bound.port())
    }

    fn listen(self) -> Result<TcpListener, StartError> {
        let Self { socket, address } = self;
        socket
            .listen(BACKLOG)
            .and_then(|()| TcpListener::from_std(socket.into()))
            .map_err(|error| refused(address, error))
    }
}

fn refused(address: SocketAddr, error: std::io::Error) -> StartError {
    StartError::Listen {
        address: address.to_string(),
        error,
    }
}

async fn accept(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    proxy: bool,
    broker: Arc<Broker>,
    room: Arc<Semaphore>,
) {
    let mut complained: Option<Instant> = None;
    if let Ok(address) = listener.local_addr() {
        info!(%address, tls = tls.is_some(), "listening for AMQP clients");
    }
    loop {
        match listener.accept().await {
            // In maintenance: it had better try another node.
            Ok(_) if broker.queries.maintenance.is_on() => {}
            Ok((stream, peer)) => {
                let Ok(permit) = Arc::clone(&room).try_acquire_owned() else {
                    if complained.is_none_or(|at| at.elapsed() > COMPLAINT) {
                        complained = Some(Instant::now());
                        warn!(%peer, "clients are turned away: the limit of open files is too low for more");
                    }
                    continue;
                };
                prepare(&stream);
                let (tls, broker) = (tls.clone(), Arc::clone(&broker));
                tokio::spawn(async move {
                    serve(stream, peer, tls, proxy, broker).await;
                    drop(permit);
                });
            }
            Err(error) => {
                error!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn prepare(stream: &TcpStream) {
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "TCP_NODELAY not set");
    }
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(KEEPALIVE)
        .with_interval(KEEPALIVE / 3);
    if let Err(error) = SockRef::from(stream).set_tcp_keepalive(&keepalive) {
        debug!(%error, "TCP keepalive not set");
    }
}

async fn serve(
    mut stream: TcpStream,
    peer: SocketAddr,
    tls: Option<TlsAcceptor>,
    proxy: bool,
    broker: Arc<Broker>,
) {
    let Ok(local) = stream.local_addr() else {
        return;
    };
    // A client of IPv4 on a socket of both kinds is shown as what it is.
    let canonical = |end: SocketAddr| SocketAddr::new(end.ip().to_canonical(), end.port());
    let mut ends = session::Ends {
        peer: canonical(peer),
        local: canonical(local),
        tls: tls.is_some(),
        certificate_user: None,
        known: None,
    };
    let bound = broker.config().timing.handshake_timeout;
    if proxy {
        // Boxed, as what follows: it is over when the connection has begun, and would be held to its end.
        let read = Box::pin(crate::proxy_protocol::read(&mut stream));
        match tokio::time::timeout(bound, read).await {
            Ok(Ok(Some(addresses))) => (ends.peer, ends.local) = addresses,
            Ok(Ok(None)) => {}
            Ok(Err(error)) if error.kind() == ErrorKind::UnexpectedEof => {
                // Load balancers look whether the port is open.
                debug!(%peer, "connection closed before its PROXY protocol header");
                return;
            }
            Ok(Err(error)) => {
                warn!(%peer, %error, "connection without a valid PROXY protocol header refused");
                return;
            }
            Err(_) => return,
        }
    }
    match tls {
        None => session::serve(broker, stream, ends).await,
        // Boxed, or every connection would hold the room for a TLS session.
        Some(acceptor) => Box::pin(serve_tls(stream, ends, acceptor, broker)).await,
    }
}

async fn serve_tls(
    stream: TcpStream,
    mut ends: session::Ends,
    acceptor: TlsAcceptor,
    broker: Arc<Broker>,
) {
    let bound = broker.config().timing.handshake_timeout;
    let peer = ends.peer;
    match tokio::time::timeout(bound, Box::pin(acceptor.accept(stream))).await {
        Ok(Ok((stream, user))) => {
            ends.certificate_user = user;
            session::serve(broker, stream, ends).await;
        }
        Ok(Err(error)) => info!(%peer, %error, "TLS handshake failed"),
        Err(_) => info!(%peer, "TLS handshake timed out"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn localhost_is_served_in_both_families() {
        let ports = bind_all((Ipv4Addr::UNSPECIFIED, 0).into()).unwrap();
        let port = ports[0].local_port();
        let count = ports.len();
        let _listeners: Vec<TcpListener> = ports.into_iter().map(|p| p.listen().unwrap()).collect();
        TcpStream::connect((Ipv4Addr::LOCALHOST, port))
            .await
            .unwrap();
        let has_ipv6 = std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
        assert_eq!(count, if has_ipv6 { 2 } else { 1 });
        if has_ipv6 {
            TcpStream::connect((Ipv6Addr::LOCALHOST, port))
                .await
                .unwrap();
        }
        let named = bind_all((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        assert_eq!(named.len(), 1, "an address is served as it is given");
    }

    #[tokio::test]
    async fn clients_are_refused_until_the_port_is_listened_on() {
        let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        let port = Port::bind(any).expect("bound");
        let address = port
            .socket
            .local_addr()
            .ok()
            .and_then(|address| address.as_socket())
            .expect("a port");
        let early = TcpStream::connect(address).await.map_err(|e| e.kind());
        assert!(matches!(early, Err(std::io::ErrorKind::ConnectionRefused)));
        let listener = port.listen().expect("listening");
        let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        assert!(client.is_ok() && accepted.is_ok());
        assert!(
            matches!(Port::bind(address), Err(StartError::Listen { .. })),
            "a port that is served is a conflict at once"
        );
    }
}
