//! What this node answers to other nodes: catalog proposals, barriers, the operator's questions.

use crate::catalog::machine::CatalogMachine;
use crate::catalog::sequencer::Sequencer;
use crate::queries::Queries;
use broker_model::catalog::{CatalogEntry, encode_replies};
use bytes::Bytes;
use cluster_proto::node::v1::{
    BarrierReply, BarrierRequest, Committed, ProposeReply, ProposeRequest, QueryReply,
    QueryRequest, peer_server, propose_reply,
};
use consensus::{Group, ProposeError};
use parking_lot::RwLock;
use std::sync::Arc;
use std::time::Duration;
use tonic::{Request, Response, Status};

/// Longest time that a caller may make this node wait.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// Serves the `Peer` service. Calls are refused until the node's groups run.
#[derive(Default)]
pub struct PeerService {
    inner: RwLock<Option<Inner>>,
}

#[derive(Clone)]
struct Inner {
    group: Group,
    sequencer: Arc<Sequencer>,
    machine: Arc<CatalogMachine>,
    queries: Arc<dyn Queries>,
    writable: Arc<dyn Fn() -> bool + Send + Sync>,
}

impl PeerService {
    /// Begins to serve. `writable` tells whether this node takes entries now.
    pub fn open(
        &self,
        group: Group,
        sequencer: Arc<Sequencer>,
        machine: Arc<CatalogMachine>,
        queries: Arc<dyn Queries>,
        writable: Arc<dyn Fn() -> bool + Send + Sync>,
    ) {
        *self.inner.write() = Some(Inner {
            group,
            sequencer,
            machine,
            queries,
            writable,
        });
    }

    fn inner(&self) -> Result<Inner, Status> {
        self.inner
            .read()
            .clone()
            .ok_or_else(|| Status::unavailable("starting"))
    }
}

fn wait(ms: u32) -> Duration {
    Duration::from_millis(u64::from(ms)).min(WAIT_MAX)
}

/// The service as a cheap handle.
#[derive(Clone)]
pub struct PeerHandle(pub Arc<PeerService>);

#[tonic::async_trait]
impl peer_server::Peer for PeerHandle {
    async fn propose(
        &self,
        request: Request<ProposeRequest>,
    ) -> Result<Response<ProposeReply>, Status> {
        let inner = self.0.inner()?;
        let ProposeRequest { entry, timeout_ms } = request.into_inner();
        let Ok(CatalogEntry { requests }) = CatalogEntry::decode(entry) else {
            return Err(Status::invalid_argument("not a catalog entry"));
        };
        let proposed = inner.sequencer.propose(requests);
        let result = match tokio::time::timeout(wait(timeout_ms), proposed).await {
            Ok(Ok(done)) => propose_reply::Result::Committed(Committed {
                index: done.index,
                replies: vec![encode_replies(&done.replies)],
            }),
            Ok(Err(ProposeError::NotLeader { leader })) => {
                propose_reply::Result::NotLeader(leader.map_or(0, |leader| leader.node()))
            }
            Ok(Err(error)) => propose_reply::Result::Unknown(error.to_string()),
            Err(_) => propose_reply::Result::Unknown("no majority in time".into()),
        };
        Ok(Response::new(ProposeReply {
            result: Some(result),
        }))
    }

    async fn barrier(
        &self,
        request: Request<BarrierRequest>,
    ) -> Result<Response<BarrierReply>, Status> {
        let inner = self.0.inner()?;
        let BarrierRequest { index, timeout_ms } = request.into_inner();
        // Not applied in time: the caller sees it by the index. A node that has no room for its log
        // shows nothing new for a while, and must not hold others up.
        if (inner.writable)() {
            let _ = inner.group.wait_applied(index, wait(timeout_ms)).await;
        }
        let applied = inner.machine.read().applied_index();
        Ok(Response::new(BarrierReply { applied }))
    }

    async fn query(&self, request: Request<QueryRequest>) -> Result<Response<QueryReply>, Status> {
        let inner = self.0.inner()?;
        let QueryRequest {
            question,
            arguments,
        } = request.into_inner();
        match inner.queries.answer(&question, &arguments).await {
            Some(answer) => Ok(Response::new(QueryReply {
                answer: Bytes::from(answer),
            })),
            None => Err(Status::unimplemented("unknown question")),
        }
    }
}
