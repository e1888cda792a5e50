//! The calling end of a link to another node.

use super::link_service::{LinkService, take_frame};
use crate::hub::attachment::{Attachment, HostSender};
use broker_model::ids::Origin;
use broker_model::protocol::{FromHost, ToHost};
use broker_model::wire;
use bytes::BytesMut;
use cluster_proto::node::v1::{LinkFrame, LinkHello};
use consensus::streams::{self, BothWays as _};
use consensus::{LARGEST_MESSAGE, PeerChannel};
use futures::Stream;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::sync::mpsc;
use tonic::Status;
use tracing::debug;

/// Messages put into one frame, at most.
const FRAME_MESSAGES: usize = 256;

/// Attaches to the host of `shard` (0: local queues) behind `channel`; `start` is the start of
/// that node that is meant, 0 for any.
///
/// # Errors
/// When the node cannot be reached in `timeout` or refuses.
pub async fn attach(
    channel: PeerChannel,
    shard: u32,
    start: u64,
    origin: Origin,
    timeout: Duration,
) -> Result<Attachment, Status> {
    let (sender, outgoing) = mpsc::unbounded_channel::<ToHost>();
    let hello = LinkHello {
        shard,
        node: origin.node.0,
        incarnation: origin.incarnation,
        host_incarnation: start,
    };
    let call = streams::call::<LinkFrame, LinkFrame>(
        channel,
        LinkService::PATH,
        frames_of(hello, outgoing),
        LARGEST_MESSAGE,
    );
    let mut frames = tokio::time::timeout(timeout, call)
        .await
        .map_err(|_| Status::deadline_exceeded("no answer"))??;
    let (replies, receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                frame = frames.message() => match frame {
                    Ok(Some(frame)) => {
                        let decoded: Result<Vec<FromHost>, _> =
                            frame.messages.into_iter().map(wire::decode_from_host).collect();
                        match decoded {
                            Ok(messages) => {
                                if replies.send(messages).is_err() {
                                    return;
                                }
                            }
                            Err(error) => {
                                debug!(%error, "malformed frame from the host of a link");
                                return;
                            }
                        }
                    }
                    Ok(None) | Err(_) => return,
                },
                () = replies.closed() => return,
            }
        }
    });
    Ok(Attachment {
        sender: HostSender::Remote(sender),
        receiver,
    })
}

/// The hello, then frames of what waits.
fn frames_of(
    hello: LinkHello,
    receiver: mpsc::UnboundedReceiver<ToHost>,
) -> impl Stream<Item = LinkFrame> + Send + 'static {
    let first = futures::stream::iter([LinkFrame {
        hello: Some(hello),
        messages: Vec::new(),
    }]);
    let rest = futures::stream::unfold(
        (receiver, Vec::new(), VecDeque::new()),
        |(mut receiver, mut waiting, mut encoded)| async move {
            if encoded.is_empty() {
                let count = receiver.recv_many(&mut waiting, FRAME_MESSAGES).await;
                if count == 0 {
                    return None;
                }
                for message in waiting.drain(..) {
                    let mut buffer = BytesMut::new();
                    wire::encode_to_host(&message, &mut buffer);
                    encoded.push_back(buffer.freeze());
                }
            }
            let frame = LinkFrame {
                hello: None,
                messages: take_frame(&mut encoded),
            };
            Some((frame, (receiver, waiting, encoded)))
        },
    );
    futures::StreamExt::chain(first, rest)
}
