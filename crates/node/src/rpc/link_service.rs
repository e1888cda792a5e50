//! The serving end of links from other nodes: frames in, [`HostInput`]s out.

use crate::host::{HostDirectory, HostInput};
use crate::hub::attachment::{AttachmentId, BatchOps};
use broker_model::ids::{NodeId, Origin, Placement, ShardId};
use broker_model::protocol::{FromHost, ToHost};
use broker_model::wire;
use bytes::{Bytes, BytesMut};
use cluster_proto::node::v1::{LinkFrame, link_server};
use consensus::Caller;
use consensus::streams::{BothWays, Messages};
use futures::stream::{BoxStream, Stream, StreamExt};
use std::sync::Arc;
use tokio::sync::mpsc;
use tonic::{Request, Status};
use tracing::debug;

/// Bytes of messages put into one frame, at most (one message may exceed it).
pub(crate) const FRAME_BYTES: usize = 1 << 20;
/// Batches of fewer bytes are copied out of the buffer that they came in.
const OWN_BELOW: usize = 64 << 10;
/// Lists of messages put into one frame, at most.
const FRAME_LISTS: usize = 64;

/// Serves the `Link` service of one node.
pub struct LinkService {
    /// Where shards and local queues of this node are found.
    pub hosts: Arc<HostDirectory>,
}

impl BothWays for LinkService {
    const SERVICE: &'static str = link_server::SERVICE_NAME;
    const PATH: &'static str = "/warren.node.v1.Link/Attach";
    type Request = LinkFrame;
    type Answer = LinkFrame;

    async fn begin(
        &self,
        request: Request<Messages<LinkFrame>>,
    ) -> Result<BoxStream<'static, Result<LinkFrame, Status>>, Status> {
        let caller = request.extensions().get::<Caller>().copied();
        let mut frames = request.into_inner();
        let first = frames
            .message()
            .await?
            .ok_or_else(|| Status::invalid_argument("no hello"))?;
        let hello = first
            .hello
            .ok_or_else(|| Status::invalid_argument("the first frame has no hello"))?;
        if caller.is_some_and(|caller| caller.node != hello.node) {
            return Err(Status::permission_denied("a link for another node"));
        }
        let origin = Origin {
            node: NodeId(hello.node),
            incarnation: hello.incarnation,
        };
        let placement = match hello.shard {
            0 => {
                // Another start has other queues in its memory, under other ids.
                if hello.host_incarnation != 0 && hello.host_incarnation != self.hosts.start() {
                    return Err(Status::failed_precondition("another start of this node"));
                }
                Placement::Host(self.hosts.node())
            }
            shard => Placement::Shard(ShardId(shard)),
        };
        let inbox = self
            .hosts
            .inbox(placement)
            .ok_or_else(|| Status::not_found("no such shard here"))?;
        let attachment = self.hosts.next_attachment();
        let (replies, outgoing) = mpsc::unbounded_channel();
        let attach = HostInput::Attach {
            attachment,
            origin,
            replies,
        };
        inbox
            .send(attach)
            .map_err(|_| Status::unavailable("the host has ended"))?;
        let guard = Detach {
            attachment,
            inbox: inbox.clone(),
        };
        tokio::spawn(async move {
            // Dropped with the task, however it ends.
            let _guard = guard;
            while let Ok(Some(frame)) = frames.message().await {
                if let Err(error) = pass_on(frame, attachment, &inbox) {
                    debug!(%origin.node, %error, "malformed link frame");
                    break;
                }
            }
        });
        Ok(frames_of(outgoing).boxed())
    }
}

/// Tells the host when the stream has ended, however it ended.
struct Detach {
    attachment: AttachmentId,
    inbox: mpsc::UnboundedSender<HostInput>,
}

impl Drop for Detach {
    fn drop(&mut self) {
        let _ = self.inbox.send(HostInput::Detach {
            attachment: self.attachment,
        });
    }
}

fn pass_on(
    frame: LinkFrame,
    attachment: AttachmentId,
    inbox: &mpsc::UnboundedSender<HostInput>,
) -> Result<(), Status> {
    for message in frame.messages {
        let message = wire::decode_to_host(message)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let input = match message {
            ToHost::Batch { head, ops } => HostInput::Batch {
                attachment,
                head,
                ops: BatchOps::Encoded(own(ops)),
            },
            message => HostInput::Message {
                attachment,
                message,
            },
        };
        inbox
            .send(input)
            .map_err(|_| Status::unavailable("the host has ended"))?;
    }
    Ok(())
}

/// A small batch becomes part of an entry, which may live long, and would keep the whole buffer of the connection.
fn own(ops: Bytes) -> Bytes {
    if ops.len() < OWN_BELOW {
        Bytes::copy_from_slice(&ops)
    } else {
        ops
    }
}

/// Frames of what the host says, as many lists to a frame as wait.
fn frames_of(
    receiver: mpsc::UnboundedReceiver<Vec<FromHost>>,
) -> impl Stream<Item = Result<LinkFrame, Status>> + Send {
    struct Out {
        receiver: mpsc::UnboundedReceiver<Vec<FromHost>>,
        lists: Vec<Vec<FromHost>>,
        /// Encoded and not sent, because a frame was full.
        left: std::collections::VecDeque<Bytes>,
    }
    let out = Out {
        receiver,
        lists: Vec::new(),
        left: std::collections::VecDeque::new(),
    };
    futures::stream::unfold(out, |mut out| async move {
        if out.left.is_empty() {
            let count = out.receiver.recv_many(&mut out.lists, FRAME_LISTS).await;
            if count == 0 {
                return None;
            }
            for message in out.lists.drain(..).flatten() {
                encode_split(message, &mut out.left);
            }
        }
        let messages = take_frame(&mut out.left);
        Some((
            Ok(LinkFrame {
                hello: None,
                messages,
            }),
            out,
        ))
    })
}

/// Takes encoded messages for one frame: as many as fit, but at least one.
pub(super) fn take_frame(encoded: &mut std::collections::VecDeque<Bytes>) -> Vec<Bytes> {
    let mut messages = Vec::new();
    let mut bytes = 0_usize;
    while let Some(next) = encoded.front() {
        bytes = bytes.saturating_add(next.len());
        if !messages.is_empty() && bytes > FRAME_BYTES {
            break;
        }
        messages.extend(encoded.pop_front());
    }
    messages
}

/// Encodes a message; long lists of deliveries are split so that frames stay small.
fn encode_split(message: FromHost, out: &mut std::collections::VecDeque<Bytes>) {
    let encode = |message: &FromHost| {
        let mut buffer = BytesMut::new();
        wire::encode_from_host(message, &mut buffer);
        buffer.freeze()
    };
    let FromHost::Deliver(deliveries) = message else {
        out.push_back(encode(&message));
        return;
    };
    let mut chunk = Vec::new();
    let mut bytes = 0;
    for delivery in deliveries {
        bytes += delivery.message.weight();
        chunk.push(delivery);
        if bytes >= FRAME_BYTES {
            out.push_back(encode(&FromHost::Deliver(std::mem::take(&mut chunk))));
            bytes = 0;
        }
    }
    if !chunk.is_empty() {
        out.push_back(encode(&FromHost::Deliver(chunk)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_bounded_whatever_waits() {
        let sizes = [10, FRAME_BYTES, 20, FRAME_BYTES * 3, 5, 5];
        let mut encoded = sizes
            .iter()
            .map(|size| Bytes::from(vec![0; *size]))
            .collect();
        let mut frames: Vec<Vec<usize>> = Vec::new();
        loop {
            let frame = take_frame(&mut encoded);
            if frame.is_empty() {
                break;
            }
            frames.push(frame.iter().map(Bytes::len).collect());
        }
        let (large, huge) = (FRAME_BYTES, FRAME_BYTES * 3);
        assert_eq!(
            frames,
            [vec![10], vec![large], vec![20], vec![huge], vec![5, 5]]
        );
    }
}
