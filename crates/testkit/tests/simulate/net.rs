//! A network in memory: bytes travel in order, take their time, and stop where a link is cut.
//!
//! A cut link holds what was sent, as TCP does, and delivers it when it is healed. What a process
//! that dies has sent still arrives, then the end of the stream.

use bytes::{Buf, Bytes};
use consensus::{Listening, Network, Wired};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{mpsc, oneshot};

/// Where clients are.
pub(crate) const CLIENTS: u64 = 0;
/// Bytes that one direction of a connection holds before its writer waits.
const WINDOW: usize = 1 << 20;

type Stream = Box<dyn Wired>;

pub(crate) struct SimNet(Mutex<State>);

struct State {
    now: u64,
    random: StdRng,
    /// Shortest and longest way of bytes between nodes, in milliseconds.
    delay: (u64, u64),
    /// Directed pairs between which nothing passes.
    cut: BTreeSet<(u64, u64)>,
    listeners: BTreeMap<String, (u64, mpsc::UnboundedSender<io::Result<Stream>>)>,
    connecting: Vec<Connecting>,
    pipes: Vec<Weak<Mutex<Pipe>>>,
}

struct Connecting {
    at: u64,
    from: u64,
    address: String,
    reply: oneshot::Sender<io::Result<Stream>>,
}

/// One direction of a connection.
struct Pipe {
    from: u64,
    to: u64,
    /// With the time of arrival; empty bytes are the end.
    flying: VecDeque<(u64, Bytes)>,
    arrived: VecDeque<Bytes>,
    bytes: usize,
    ended: bool,
    reader_gone: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl SimNet {
    pub(crate) fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            now: 0,
            random: StdRng::seed_from_u64(seed),
            delay: (0, 1),
            cut: BTreeSet::new(),
            listeners: BTreeMap::new(),
            connecting: Vec::new(),
            pipes: Vec::new(),
        })))
    }

    pub(crate) fn cut(&self, from: u64, to: u64) {
        self.0.lock().cut.insert((from, to));
    }

    pub(crate) fn mend(&self, from: u64, to: u64) {
        self.0.lock().cut.remove(&(from, to));
    }

    pub(crate) fn set_delay(&self, delay: (u64, u64)) {
        self.0.lock().delay = delay;
    }

    pub(crate) fn heal(&self) {
        let mut state = self.0.lock();
        state.cut.clear();
        state.delay = (0, 1);
    }

    /// Lets arrive what is due at `now`.
    pub(crate) fn deliver(self: &Arc<Self>, now: u64) {
        let mut wake = Vec::new();
        let mut state = self.0.lock();
        state.now = now;
        let waiting = std::mem::take(&mut state.connecting);
        // Ends that nobody wanted tell the network when they are dropped.
        let mut unwanted = Vec::new();
        for request in waiting {
            self.connect_one(&mut state, request, &mut unwanted);
        }
        let State { pipes, cut, .. } = &mut *state;
        pipes.retain(|pipe| {
            let Some(pipe) = pipe.upgrade() else {
                return false;
            };
            let mut pipe = pipe.lock();
            if cut.contains(&(pipe.from, pipe.to)) {
                return true;
            }
            while let Some((_, bytes)) = pipe.flying.pop_front_if(|(at, _)| *at <= now) {
                if bytes.is_empty() {
                    pipe.ended = true;
                } else {
                    pipe.arrived.push_back(bytes);
                }
                wake.extend(pipe.reader.take());
            }
            true
        });
        drop(state);
        drop(unwanted);
        for waker in wake {
            waker.wake();
        }
    }

    fn connect_one(
        self: &Arc<Self>,
        state: &mut State,
        request: Connecting,
        unwanted: &mut Vec<Stream>,
    ) {
        if request.reply.is_closed() {
            return;
        }
        let listener = state.listeners.get(&request.address);
        let Some((to, sender)) = listener.map(|(to, sender)| (*to, sender.clone())) else {
            let _ = request
                .reply
                .send(Err(io::ErrorKind::ConnectionRefused.into()));
            return;
        };
        let from = request.from;
        if request.at > state.now
            || state.cut.contains(&(from, to))
            || state.cut.contains(&(to, from))
        {
            state.connecting.push(request);
            return;
        }
        let (ours, theirs) = self.pair(state, from, to);
        let answer = match sender.send(Ok(Box::new(theirs))) {
            Ok(()) => Ok(Box::new(ours) as Stream),
            Err(refused) => {
                unwanted.extend(refused.0.ok());
                unwanted.push(Box::new(ours));
                Err(io::ErrorKind::ConnectionRefused.into())
            }
        };
        if let Err(Ok(stream)) = request.reply.send(answer) {
            unwanted.push(stream);
        }
    }

    fn pair(self: &Arc<Self>, state: &mut State, from: u64, to: u64) -> (End, End) {
        let pipe = |from, to| {
            Arc::new(Mutex::new(Pipe {
                from,
                to,
                flying: VecDeque::new(),
                arrived: VecDeque::new(),
                bytes: 0,
                ended: false,
                reader_gone: false,
                reader: None,
                writer: None,
            }))
        };
        let (there, back) = (pipe(from, to), pipe(to, from));
        state
            .pipes
            .extend([Arc::downgrade(&there), Arc::downgrade(&back)]);
        let end = |read: &Arc<Mutex<Pipe>>, write: &Arc<Mutex<Pipe>>| End {
            net: Arc::clone(self),
            read: Arc::clone(read),
            write: Arc::clone(write),
            shut: false,
        };
        (end(&back, &there), end(&there, &back))
    }

    /// A client's connection to whoever listens at `address`.
    pub(crate) fn connect(
        &self,
        from: u64,
        address: &str,
    ) -> BoxFuture<'static, io::Result<Stream>> {
        let (reply, answer) = oneshot::channel();
        let mut state = self.0.lock();
        let at = state.now + state.way(from, CLIENTS);
        state.connecting.push(Connecting {
            at,
            from,
            address: address.to_owned(),
            reply,
        });
        async move {
            answer
                .await
                .unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()))
        }
        .boxed()
    }

    pub(crate) fn listen(
        &self,
        node: u64,
        address: &str,
    ) -> mpsc::UnboundedReceiver<io::Result<Stream>> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.0
            .lock()
            .listeners
            .insert(address.to_owned(), (node, sender));
        receiver
    }

    /// Nobody listens on the ports of `node` any more.
    pub(crate) fn close_ports(&self, node: u64) {
        self.0
            .lock()
            .listeners
            .retain(|_, (owner, _)| *owner != node);
    }
}

impl State {
    fn way(&mut self, from: u64, to: u64) -> u64 {
        let (shortest, longest) = if from == CLIENTS || to == CLIENTS {
            (0, 1)
        } else {
            self.delay
        };
        self.random.random_range(shortest..=longest)
    }
}

/// One node's way into the network.
pub(crate) struct NodeNetwork {
    pub(crate) net: Arc<SimNet>,
    pub(crate) node: u64,
}

impl Network for NodeNetwork {
    fn connect(&self, address: &str) -> BoxFuture<'static, io::Result<Stream>> {
        self.net.connect(self.node, address)
    }

    fn listen(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<Listening>> {
        let incoming = self.net.listen(self.node, &address.to_string());
        let incoming = stream::unfold(incoming, |mut incoming| async move {
            incoming.recv().await.map(|stream| (stream, incoming))
        });
        std::future::ready(Ok(Listening {
            address,
            incoming: incoming.boxed(),
        }))
        .boxed()
    }
}

/// One end of a connection.
struct End {
    net: Arc<SimNet>,
    read: Arc<Mutex<Pipe>>,
    write: Arc<Mutex<Pipe>>,
    shut: bool,
}

impl End {
    fn send(&mut self, bytes: Bytes) {
        let mut state = self.net.0.lock();
        let mut pipe = self.write.lock();
        let mut at = state.now + state.way(pipe.from, pipe.to);
        if let Some((last, _)) = pipe.flying.back() {
            at = at.max(*last);
        }
        pipe.bytes += bytes.len();
        pipe.flying.push_back((at, bytes));
    }
}

impl AsyncRead for End {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut pipe = self.read.lock();
        let pipe = &mut *pipe;
        let Some(front) = pipe.arrived.front_mut() else {
            if pipe.ended {
                return Poll::Ready(Ok(()));
            }
            pipe.reader = Some(context.waker().clone());
            return Poll::Pending;
        };
        let count = front.len().min(buffer.remaining());
        buffer.put_slice(&front[..count]);
        front.advance(count);
        if front.is_empty() {
            pipe.arrived.pop_front();
        }
        pipe.bytes -= count;
        if let Some(writer) = pipe.writer.take() {
            writer.wake();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for End {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let count = {
            let mut pipe = self.write.lock();
            if pipe.reader_gone || self.shut {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            let room = WINDOW.saturating_sub(pipe.bytes);
            if room == 0 {
                pipe.writer = Some(context.waker().clone());
                return Poll::Pending;
            }
            bytes.len().min(room)
        };
        self.send(Bytes::copy_from_slice(&bytes[..count]));
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.shut {
            self.shut = true;
            self.send(Bytes::new());
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for End {
    fn drop(&mut self) {
        if !self.shut {
            self.send(Bytes::new());
        }
        // The pipe itself must outlive this end until its bytes have arrived: the other end holds it.
        let writer = {
            let mut pipe = self.read.lock();
            pipe.reader_gone = true;
            pipe.writer.take()
        };
        if let Some(writer) = writer {
            writer.wake();
        }
    }
}
