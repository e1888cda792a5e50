//! Accepts AMQP clients.

use crate::broker::Broker;
use crate::config::Config;
use crate::node::StartError;
use crate::session;
use crate::tls::TlsAcceptor;
use socket2::SockRef;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tracing::{debug, error, info, warn};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;
/// Pause after `accept` failed for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// A peer that vanished without a word is noticed by the kernel after about this time.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Bound ports, not served yet: clients that connect wait in the backlog.
pub(crate) struct Bound {
    plain: Vec<TcpListener>,
    tls: Option<(Vec<TcpListener>, TlsAcceptor)>,
    proxy_protocol: bool,
}

/// Ports that are served.
pub(crate) struct Listeners {
    tasks: Vec<JoinHandle<()>>,
}

impl Listeners {
    /// Takes the ports.
    ///
    /// # Errors
    /// A port is in use, or the TLS files cannot be read.
    pub(crate) async fn bind(config: &Config) -> Result<Bound, StartError> {
        let plain = listen(config.amqp_listen)?;
        let tls = match &config.amqps {
            Some(tls) => {
                let acceptor = TlsAcceptor::load(tls).map_err(StartError::Tls)?;
                Some((listen(tls.listen)?, acceptor))
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
    /// Serves the ports.
    #[must_use]
    pub(crate) fn serve(self, broker: Arc<Broker>) -> Listeners {
        let proxy = self.proxy_protocol;
        let plain = self.plain.into_iter().map(|listener| (listener, None));
        let tls = self.tls.into_iter().flat_map(|(listeners, acceptor)| {
            listeners
                .into_iter()
                .map(move |listener| (listener, Some(acceptor.clone())))
        });
        let tasks = plain
            .chain(tls)
            .map(|(listener, tls)| tokio::spawn(accept(listener, tls, proxy, Arc::clone(&broker))))
            .collect();
        Listeners { tasks }
    }
}

/// Takes a port. Where it is taken on all IPv4 addresses, `localhost` has to work as well for clients
/// that resolve it to `::1`; other IPv6 addresses are served only if they are asked for.
fn listen(address: SocketAddr) -> Result<Vec<TcpListener>, StartError> {
    let first = listen_on(address)?;
    let port = first.local_addr().map_or(0, |bound| bound.port());
    let mut listeners = vec![first];
    if address.ip() == Ipv4Addr::UNSPECIFIED && port > 0 {
        match listen_on((Ipv6Addr::LOCALHOST, port).into()) {
            Ok(listener) => listeners.push(listener),
            // No IPv6 here, or the port is somebody else's there.
            Err(error) => debug!(%error, "not listening on ::1"),
        }
    }
    Ok(listeners)
}

fn listen_on(address: SocketAddr) -> Result<TcpListener, StartError> {
    let bind = || -> std::io::Result<TcpListener> {
        let socket = socket2::Socket::new(
            socket2::Domain::for_address(address),
            socket2::Type::STREAM,
            Some(socket2::Protocol::TCP),
        )?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into())
    };
    bind().map_err(|error| StartError::Listen {
        address: address.to_string(),
        error,
    })
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, proxy: bool, broker: Arc<Broker>) {
    if let Ok(address) = listener.local_addr() {
        info!(%address, tls = tls.is_some(), "listening for AMQP clients");
    }
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                prepare(&stream);
                tokio::spawn(serve(stream, peer, tls.clone(), proxy, Arc::clone(&broker)));
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
    };
    let bound = broker.config().timing.handshake_timeout;
    if proxy {
        match tokio::time::timeout(bound, crate::proxy_protocol::read(&mut stream)).await {
            Ok(Ok(Some(addresses))) => (ends.peer, ends.local) = addresses,
            Ok(Ok(None)) => {}
            Ok(Err(error)) => {
                warn!(%peer, %error, "connection without a valid PROXY protocol header refused");
                return;
            }
            Err(_) => return,
        }
    }
    match tls {
        None => session::serve(broker, stream, ends).await,
        Some(acceptor) => match tokio::time::timeout(bound, acceptor.accept(stream)).await {
            Ok(Ok((stream, user))) => {
                ends.certificate_user = user;
                session::serve(broker, stream, ends).await;
            }
            Ok(Err(error)) => info!(%peer, %error, "TLS handshake failed"),
            Err(_) => info!(%peer, "TLS handshake timed out"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn localhost_is_served_in_both_families() {
        let listeners = listen((Ipv4Addr::UNSPECIFIED, 0).into()).unwrap();
        let port = listeners[0].local_addr().unwrap().port();
        TcpStream::connect((Ipv4Addr::LOCALHOST, port))
            .await
            .unwrap();
        let has_ipv6 = std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
        assert_eq!(listeners.len(), if has_ipv6 { 2 } else { 1 });
        if has_ipv6 {
            TcpStream::connect((Ipv6Addr::LOCALHOST, port))
                .await
                .unwrap();
        }
        let named = listen((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        assert_eq!(named.len(), 1, "an address is served as it is given");
    }
}
