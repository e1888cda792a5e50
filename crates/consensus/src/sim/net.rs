//! A network whose faults are drawn from a seed.

use crate::inbound::Inbound;
use crate::types::{GroupId, RaftNode};
use crate::wire::{Answer, AnswerFuture, AppendPipe, Queued, Room, Wire, WireError};
use cluster_proto::v1;
use futures::FutureExt;
use futures::StreamExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_stream::wrappers::ReceiverStream;

/// What the network does to messages.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weather {
    /// Shortest and longest way of a message, in microseconds.
    pub(crate) delay_us: (u64, u64),
    /// In a thousand messages, how many break their connection.
    pub(crate) breaks_per_mille: u32,
    /// In a thousand messages, how many vanish without a trace.
    pub(crate) lost_per_mille: u32,
}

impl Weather {
    pub(crate) const CALM: Self = Self {
        delay_us: (50, 200),
        breaks_per_mille: 0,
        lost_per_mille: 0,
    };
}

pub(crate) struct SimNet {
    nodes: Mutex<BTreeMap<u64, Arc<Inbound>>>,
    /// Directed pairs between which nothing passes.
    cut: Mutex<BTreeSet<(u64, u64)>>,
    weather: Mutex<Weather>,
    random: Mutex<StdRng>,
    sessions: AtomicU64,
}

enum Fate {
    Arrives(Duration),
    Breaks,
    Vanishes,
}

impl SimNet {
    pub(crate) fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self {
            nodes: Mutex::default(),
            cut: Mutex::default(),
            weather: Mutex::new(Weather::CALM),
            random: Mutex::new(StdRng::seed_from_u64(seed)),
            sessions: AtomicU64::new(1),
        })
    }

    pub(crate) fn attach(&self, node: u64, inbound: Arc<Inbound>) {
        self.nodes.lock().insert(node, inbound);
    }

    pub(crate) fn detach(&self, node: u64) {
        self.nodes.lock().remove(&node);
    }

    pub(crate) fn set_weather(&self, weather: Weather) {
        *self.weather.lock() = weather;
    }

    pub(crate) fn cut(&self, from: u64, to: u64) {
        self.cut.lock().insert((from, to));
    }

    pub(crate) fn heal(&self) {
        self.cut.lock().clear();
        self.set_weather(Weather::CALM);
    }

    fn fate(&self, from: u64, to: u64) -> Fate {
        if self.cut.lock().contains(&(from, to)) {
            return Fate::Vanishes;
        }
        let weather = *self.weather.lock();
        let mut random = self.random.lock();
        let draw = random.random_range(0..1000);
        if draw < weather.breaks_per_mille {
            return Fate::Breaks;
        }
        if draw < weather.breaks_per_mille + weather.lost_per_mille {
            return Fate::Vanishes;
        }
        let (shortest, longest) = weather.delay_us;
        Fate::Arrives(Duration::from_micros(
            random.random_range(shortest..=longest),
        ))
    }

    fn inbound(&self, node: u64) -> Answer<Arc<Inbound>> {
        let found = self.nodes.lock().get(&node).cloned();
        found.ok_or_else(|| WireError::Unreachable("down".to_owned()))
    }

    async fn travel(&self, from: u64, to: u64) -> Answer<()> {
        match self.fate(from, to) {
            Fate::Arrives(delay) => {
                sleep(delay).await;
                Ok(())
            }
            Fate::Breaks => Err(WireError::Unreachable("broke".to_owned())),
            Fate::Vanishes => {
                sleep(Duration::from_secs(3)).await;
                Err(WireError::Timeout)
            }
        }
    }
}

/// One node's end of the network.
pub(crate) struct SimWire {
    pub(crate) net: Arc<SimNet>,
    pub(crate) me: u64,
}

impl SimWire {
    fn call<T: Send + 'static, F>(
        &self,
        to: RaftNode,
        handle: impl FnOnce(Arc<Inbound>) -> F + Send + 'static,
    ) -> AnswerFuture<T>
    where
        F: Future<Output = Result<T, String>> + Send,
    {
        let (net, me, to) = (Arc::clone(&self.net), self.me, to.node());
        async move {
            net.travel(me, to).await?;
            let inbound = net.inbound(to)?;
            let answer = handle(inbound).await.map_err(WireError::Unreachable)?;
            net.travel(to, me).await?;
            Ok(answer)
        }
        .boxed()
    }
}

impl Wire for SimWire {
    fn append(&self, to: RaftNode, _group: GroupId) -> Answer<AppendPipe> {
        let to = to.node();
        let inbound = self.net.inbound(to)?;
        let (requests, mut sent) = mpsc::unbounded_channel::<Queued>();
        let (answers, received) = mpsc::unbounded_channel();
        let (back, mut returning) = mpsc::channel(64);
        let (net, me) = (Arc::clone(&self.net), self.me);
        let (net_back, answers_back) = (Arc::clone(&self.net), answers.clone());
        tokio::spawn(async move {
            let mut demux = inbound.appends(back);
            while let Some(Queued { request, .. }) = sent.recv().await {
                if let Err(error) = net.travel(me, to).await {
                    let _ = answers.send(Err(error));
                    return;
                }
                if net.inbound(to).is_err() {
                    let _ = answers.send(Err(WireError::Unreachable("down".to_owned())));
                    return;
                }
                demux.handle(request);
            }
        });
        tokio::spawn(async move {
            while let Some(answer) = returning.recv().await {
                let answer = net_back.travel(to, me).await.map(|()| answer);
                let broken = answer.is_err();
                if answers_back.send(answer).is_err() || broken {
                    return;
                }
            }
        });
        Ok(AppendPipe {
            requests,
            room: Room::new(),
            answers: received,
            session: self.net.sessions.fetch_add(1, Ordering::Relaxed),
        })
    }

    fn beat(&self, to: RaftNode, beat: v1::Heartbeat) -> AnswerFuture<v1::AppendAnswer> {
        self.call(
            to,
            move |inbound| async move { Ok(inbound.beat(beat).await) },
        )
    }

    fn vote(&self, to: RaftNode, request: v1::VoteRequest) -> AnswerFuture<v1::VoteAnswer> {
        self.call(
            to,
            move |inbound| async move { inbound.vote(request).await },
        )
    }

    fn transfer(
        &self,
        to: RaftNode,
        request: v1::TransferRequest,
    ) -> AnswerFuture<v1::TransferAnswer> {
        self.call(
            to,
            move |inbound| async move { inbound.transfer(request).await },
        )
    }

    fn read_index(
        &self,
        to: RaftNode,
        request: v1::ReadIndexRequest,
    ) -> AnswerFuture<v1::ReadIndexAnswer> {
        self.call(to, move |inbound| async move {
            Ok(inbound.read_index(request).await)
        })
    }

    fn last_log(
        &self,
        to: RaftNode,
        request: v1::LastLogRequest,
    ) -> AnswerFuture<v1::LastLogAnswer> {
        self.call(to, move |inbound| async move { inbound.last_log(request) })
    }

    fn snapshot(
        &self,
        to: RaftNode,
        mut parts: mpsc::Receiver<v1::SnapshotPart>,
    ) -> AnswerFuture<v1::SnapshotAnswer> {
        let (net, me, to) = (Arc::clone(&self.net), self.me, to.node());
        async move {
            let (forward, arriving) = mpsc::channel(4);
            let Some(v1::SnapshotPart {
                part: Some(v1::snapshot_part::Part::Head(head)),
            }) = parts.recv().await
            else {
                return Err(WireError::Unreachable("no head".to_owned()));
            };
            net.travel(me, to).await?;
            let inbound = net.inbound(to)?;
            let group = inbound
                .group(GroupId(head.group))
                .ok_or_else(|| WireError::Unreachable("no group".to_owned()))?;
            let net_forward = Arc::clone(&net);
            tokio::spawn(async move {
                while let Some(part) = parts.recv().await {
                    let part = net_forward
                        .travel(me, to)
                        .await
                        .map(|()| part)
                        .map_err(|error| error.to_string());
                    let broken = part.is_err();
                    if forward.send(part).await.is_err() || broken {
                        return;
                    }
                }
            });
            let arriving = ReceiverStream::new(arriving).boxed();
            let answer = group
                .receive_snapshot(head, arriving)
                .await
                .map_err(WireError::Unreachable)?;
            net.travel(to, me).await?;
            Ok(answer)
        }
        .boxed()
    }

    fn unreachable_for(&self, to: RaftNode) -> Duration {
        if self.net.inbound(to.node()).is_ok() {
            Duration::ZERO
        } else {
            // Longer than a moment, shorter than anybody is waited for.
            Duration::from_secs(10)
        }
    }

    /// As long as both ways take on average.
    fn round_trip(&self, _to: RaftNode) -> Option<Duration> {
        let (shortest, longest) = self.net.weather.lock().delay_us;
        Some(Duration::from_micros(shortest + longest))
    }

    fn reached(&self, to: RaftNode) -> BoxFuture<'static, ()> {
        let net = Arc::clone(&self.net);
        async move {
            while net.inbound(to.node()).is_err() {
                sleep(Duration::from_millis(5)).await;
            }
        }
        .boxed()
    }
}
