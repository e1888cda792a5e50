//! Accepts AMQP clients.

use crate::broker::Broker;
use crate::config::Config;
use crate::node::StartError;
use crate::session;
use crate::tls::TlsAcceptor;
use socket2::SockRef;
use std::net::SocketAddr;
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
    plain: TcpListener,
    tls: Option<(TcpListener, TlsAcceptor)>,
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
        let mut tasks = Vec::new();
        let proxy = self.proxy_protocol;
        tasks.push(tokio::spawn(accept(
            self.plain,
            None,
            proxy,
            Arc::clone(&broker),
        )));
        if let Some((listener, acceptor)) = self.tls {
            tasks.push(tokio::spawn(accept(
                listener,
                Some(acceptor),
                proxy,
                broker,
            )));
        }
        Listeners { tasks }
    }
}

fn listen(address: SocketAddr) -> Result<TcpListener, StartError> {
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
    let mut ends = session::Ends {
        peer,
        local,
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
