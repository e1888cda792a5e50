//! The Raft services of the cluster port: what arrives goes to [`Inbound`].

use super::auth::{Caller, Refusal};
use super::presence::Presence;
use super::streams::{BothWays, Messages};
use crate::inbound::Inbound;
use crate::types::GroupId;
use cluster_proto::v1;
use cluster_proto::v1::raft_control_server::RaftControl;
use cluster_proto::v1::raft_snapshot_server::RaftSnapshot;
use futures::StreamExt;
use futures::stream::{BoxStream, FuturesUnordered};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// Answers that may wait for the connection.
const ANSWERS: usize = 256;
/// Answers to heartbeats in one message, at most.
const BEATS: usize = 256;

/// Appends.
pub(crate) struct LogService(pub(crate) Arc<Inbound>);

impl BothWays for LogService {
    const SERVICE: &'static str = v1::raft_log_server::SERVICE_NAME;
    const PATH: &'static str = "/warren.cluster.v1.RaftLog/Append";
    type Request = v1::AppendRequest;
    type Answer = v1::AppendAnswer;

    async fn begin(
        &self,
        request: Request<Messages<v1::AppendRequest>>,
    ) -> Result<BoxStream<'static, Result<v1::AppendAnswer, Status>>, Status> {
        let mut requests = request.into_inner();
        let (answers, receiver) = mpsc::channel(ANSWERS);
        let mut demux = self.0.appends(answers.clone());
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    request = requests.message() => match request {
                        Ok(Some(request)) => demux.handle(request),
                        Ok(None) | Err(_) => return,
                    },
                    () = answers.closed() => return,
                }
            }
        });
        Ok(ReceiverStream::new(receiver).map(Ok).boxed())
    }
}

/// Heartbeats and calls.
pub(crate) struct ControlService {
    pub(crate) inbound: Arc<Inbound>,
    pub(crate) presence: Arc<Presence>,
}

#[tonic::async_trait]
impl RaftControl for ControlService {
    type BeatStream = BoxStream<'static, Result<v1::HeartbeatAnswers, Status>>;

    async fn beat(
        &self,
        request: Request<Streaming<v1::Heartbeats>>,
    ) -> Result<Response<Self::BeatStream>, Status> {
        let caller = request.extensions().get::<Caller>().copied();
        let caller = caller.ok_or_else(|| Status::unauthenticated("no credentials"))?;
        let in_use = || Refusal::InUse { node: caller.node }.status();
        let heard = self.presence.enter(caller).ok_or_else(in_use)?;
        let mut requests = request.into_inner();
        let inbound = Arc::clone(&self.inbound);
        let (sender, receiver) = mpsc::channel(ANSWERS);
        tokio::spawn(async move {
            while let Ok(Some(message)) = requests.message().await {
                if !heard.again() {
                    return;
                }
                if message.beats.is_empty() {
                    // The caller wants to hear that this process lives.
                    if sender.send(v1::HeartbeatAnswers::default()).await.is_err() {
                        return;
                    }
                    continue;
                }
                // A group that is busy, or waits for its disk, must not keep the others' answers back.
                let (inbound, sender) = (Arc::clone(&inbound), sender.clone());
                tokio::spawn(async move {
                    let beats = message.beats.into_iter();
                    let answers: FuturesUnordered<_> =
                        beats.map(|beat| inbound.beat(beat)).collect();
                    let mut answers = answers.ready_chunks(BEATS);
                    while let Some(answers) = answers.next().await {
                        if sender.send(v1::HeartbeatAnswers { answers }).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver).map(Ok).boxed()))
    }

    async fn request_vote(
        &self,
        request: Request<v1::VoteRequest>,
    ) -> Result<Response<v1::VoteAnswer>, Status> {
        let answer = self.inbound.vote(request.into_inner()).await;
        answer.map(Response::new).map_err(Status::unavailable)
    }

    async fn transfer_leader(
        &self,
        request: Request<v1::TransferRequest>,
    ) -> Result<Response<v1::TransferAnswer>, Status> {
        let answer = self.inbound.transfer(request.into_inner()).await;
        answer.map(Response::new).map_err(Status::unavailable)
    }

    async fn read_index(
        &self,
        request: Request<v1::ReadIndexRequest>,
    ) -> Result<Response<v1::ReadIndexAnswer>, Status> {
        let caller = request.extensions().get::<Caller>().copied();
        let request = request.into_inner();
        // A node that was removed while it ran may never hear of it from the log.
        if caller.is_some_and(|caller| !self.inbound.has_member(request.group, caller.node)) {
            return Ok(Response::new(v1::ReadIndexAnswer {
                index: None,
                not_a_member: self.inbound.leads(request.group),
            }));
        }
        Ok(Response::new(self.inbound.read_index(request).await))
    }

    async fn last_log(
        &self,
        request: Request<v1::LastLogRequest>,
    ) -> Result<Response<v1::LastLogAnswer>, Status> {
        let answer = self.inbound.last_log(request.into_inner());
        answer.map(Response::new).map_err(Status::unavailable)
    }
}

/// Snapshots.
pub(crate) struct SnapshotService(pub(crate) Arc<Inbound>);

#[tonic::async_trait]
impl RaftSnapshot for SnapshotService {
    async fn install(
        &self,
        request: Request<Streaming<v1::SnapshotPart>>,
    ) -> Result<Response<v1::SnapshotAnswer>, Status> {
        let mut parts = request.into_inner();
        let Some(v1::SnapshotPart {
            part: Some(v1::snapshot_part::Part::Head(head)),
        }) = parts.message().await?
        else {
            return Err(Status::invalid_argument("a snapshot starts with its head"));
        };
        let group = self
            .0
            .group(GroupId(head.group))
            .ok_or_else(|| Status::unavailable("the group does not run here"))?;
        if group.me().0 != head.target {
            return Err(Status::unavailable(
                "another generation of this node is meant",
            ));
        }
        if !group.environment().may_write() {
            return Err(Status::unavailable(crate::inbound::NO_ROOM));
        }
        let parts = parts.map(|part| part.map_err(|status| status.message().to_owned()));
        let answer = group.receive_snapshot(head, parts).await;
        answer.map(Response::new).map_err(Status::unavailable)
    }
}
