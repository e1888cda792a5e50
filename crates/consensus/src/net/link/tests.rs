use super::super::auth::{Caller, Keys, Me};
use super::super::greet;
use super::super::tls::Bound;
use super::super::transport::{Listening, Network, Wired};
use super::super::{Connectivity, PeerNet};
use crate::config::{Limits, Secret, Timing};
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::time::{Instant, sleep, timeout};

const PEER: u64 = 2;

/// A peer that ends each connection before it has said anything, and listens for so many only.
struct Mute {
    connections: AtomicUsize,
    listens_for: usize,
}

impl Network for Mute {
    fn connect(&self, _: &str) -> BoxFuture<'static, io::Result<Box<dyn Wired>>> {
        let earlier = self.connections.fetch_add(1, Ordering::Relaxed);
        let listens = earlier < self.listens_for;
        async move {
            if !listens {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            let (here, _ended) = tokio::io::duplex(1024);
            Ok(Box::new(here) as Box<dyn Wired>)
        }
        .boxed()
    }

    fn listen(&self, _: SocketAddr) -> BoxFuture<'static, io::Result<Listening>> {
        async { Err(io::ErrorKind::Unsupported.into()) }.boxed()
    }
}

/// A peer that stands still: its kernel accepts connections, and nothing is ever said.
#[derive(Default)]
struct Frozen {
    accepted: Mutex<Vec<tokio::io::DuplexStream>>,
}

impl Network for Frozen {
    fn connect(&self, _: &str) -> BoxFuture<'static, io::Result<Box<dyn Wired>>> {
        let (here, there) = tokio::io::duplex(1 << 16);
        self.accepted.lock().push(there);
        async move { Ok(Box::new(here) as Box<dyn Wired>) }.boxed()
    }

    fn listen(&self, _: SocketAddr) -> BoxFuture<'static, io::Result<Listening>> {
        async { Err(io::ErrorKind::Unsupported.into()) }.boxed()
    }
}

/// Another node of the cluster has the peer's address.
#[derive(Default)]
struct Elsewhere {
    /// Bytes that came on each connection after the greeting, until it was closed.
    heard: Arc<Mutex<Vec<usize>>>,
}

impl Network for Elsewhere {
    fn connect(&self, _: &str) -> BoxFuture<'static, io::Result<Box<dyn Wired>>> {
        let (here, there) = tokio::io::duplex(1 << 16);
        let heard = Arc::clone(&self.heard);
        tokio::spawn(async move {
            let bound = Bound {
                stream: Box::new(there),
                binding: [0; 32],
            };
            let answered = greet::answer(&keys_of(PEER + 1), bound, &mut None).await;
            if let Ok((mut stream, _)) = answered {
                let mut bytes = Vec::new();
                let _ = stream.read_to_end(&mut bytes).await;
                heard.lock().push(bytes.len());
            }
        });
        async move { Ok(Box::new(here) as Box<dyn Wired>) }.boxed()
    }

    fn listen(&self, _: SocketAddr) -> BoxFuture<'static, io::Result<Listening>> {
        async { Err(io::ErrorKind::Unsupported.into()) }.boxed()
    }
}

fn keys_of(node: u64) -> Arc<Keys> {
    let caller = Caller {
        node,
        generation: 0,
        incarnation: 1,
    };
    let me = Me {
        caller,
        cluster: None,
    };
    Keys::new(Secret::new("s"), me)
}

fn connecting_to<N: Network>(peer: &Arc<N>) -> PeerNet {
    let network = Arc::clone(peer) as Arc<dyn Network>;
    let keys = keys_of(1);
    let net = PeerNet::new(network, None, keys, Timing::default(), Limits::default());
    net.set_peer(PEER, "peer:1").unwrap();
    net
}

/// Its sockets are closed one by one, and a connection that is just being greeted may be the first.
#[tokio::test(start_paused = true)]
async fn a_process_that_dies_while_it_is_greeted_is_dead_at_once() {
    for listens_for in 1..=3 {
        let peer = Arc::new(Mute {
            connections: AtomicUsize::new(0),
            listens_for,
        });
        let began = Instant::now();
        let net = connecting_to(&peer);
        let mut connectivity = net.connectivity();
        let dead = connectivity.wait_for(|all| all.get(&PEER) == Some(&Connectivity::Refused));
        timeout(Duration::from_secs(10), dead)
            .await
            .unwrap_or_else(|_| panic!("{listens_for}: not found out"))
            .unwrap();
        let took = began.elapsed();
        assert!(took < Duration::from_millis(60), "{listens_for}: {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_refuses_this_node_is_silent_and_asked_seldom() {
    let peer = Arc::new(Mute {
        connections: AtomicUsize::new(0),
        listens_for: usize::MAX,
    });
    let net = connecting_to(&peer);
    sleep(Duration::from_secs(10)).await;
    assert_eq!(net.connectivity().borrow()[&PEER], Connectivity::Silent);
    let connections = peer.connections.load(Ordering::Relaxed);
    assert!((20..=160).contains(&connections), "{connections}");
}

/// It was connected when this node was frozen itself, and the connections have ended meanwhile.
#[tokio::test(start_paused = true)]
async fn a_peer_that_accepts_and_does_not_greet_is_not_connected() {
    let peer = Arc::new(Frozen::default());
    let net = connecting_to(&peer);
    let link = net.link(PEER).unwrap();
    link.set(Connectivity::Connected);
    sleep(Duration::from_secs(4)).await;
    assert_eq!(net.connectivity().borrow()[&PEER], Connectivity::Silent);
    assert!(link.condition().borrow().lost_at.is_some());
}

/// The address is looked up anew for each connection, so none to the wrong node may last.
#[tokio::test(start_paused = true)]
async fn a_connection_to_another_node_is_not_kept() {
    let peer = Arc::new(Elsewhere::default());
    let net = connecting_to(&peer);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(net.connectivity().borrow()[&PEER], Connectivity::Silent);
    let heard = peer.heard.lock();
    assert!((5..=80).contains(&heard.len()), "{}", heard.len());
    assert!(heard.iter().all(|bytes| *bytes == 0), "{heard:?}");
}
