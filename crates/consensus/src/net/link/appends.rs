//! The stream of appends to a peer: one for all groups.

use super::super::Connectivity;
use super::super::service::LogService;
use super::super::streams::{self, BothWays as _};
use super::{Condition, PeerLink};
use crate::wire::Queued;
use cluster_proto::v1;
use futures::StreamExt as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::service::interceptor::InterceptedService;

/// Keeps the append stream up while the peer is connected.
pub(super) async fn run(link: Arc<PeerLink>) {
    let mut condition = link.condition.subscribe();
    loop {
        let connected = condition.wait_for(|now| now.connectivity == Connectivity::Connected);
        if connected.await.is_err() {
            return;
        }
        append_stream(&link, &mut condition).await;
        *link.appends.lock() = None;
        link.fail_sessions("connection closed");
        sleep(Duration::from_millis(20)).await;
    }
}

async fn append_stream(link: &Arc<PeerLink>, condition: &mut watch::Receiver<Condition>) {
    let (requests, receiver) = mpsc::unbounded_channel::<Queued>();
    let sent = {
        // The stream may outlive the link in the connection's hands.
        let link = Arc::downgrade(link);
        UnboundedReceiverStream::new(receiver).filter_map(move |queued| {
            let goes_on = (link.upgrade()).is_some_and(|link| link.goes_on(queued.request.session));
            std::future::ready(goes_on.then_some(queued.request))
        })
    };
    let channel = InterceptedService::new(link.log.clone(), link.credentials.clone());
    let call = streams::call::<v1::AppendRequest, v1::AppendAnswer>(
        channel,
        LogService::PATH,
        sent,
        link.limits.decode_bytes,
    );
    let mut answers = match timeout(link.opens_within(), call).await {
        Ok(Ok(answers)) => answers,
        Ok(Err(status)) => return link.note_failure("log connection", &status),
        Err(_) => return,
    };
    *link.appends.lock() = Some(requests);
    loop {
        let answer = tokio::select! {
            answer = answers.message() => answer,
            changed = condition.changed() => {
                if changed.is_err() || condition.borrow().connectivity == Connectivity::Refused {
                    return;
                }
                continue;
            }
        };
        let Ok(Some(answer)) = answer else { return };
        let mut sessions = link.sessions.lock();
        let number = answer.session;
        if let Some(session) = sessions.get(&number)
            && session.answers.send(Ok(answer)).is_err()
        {
            sessions.remove(&number);
        }
    }
}
