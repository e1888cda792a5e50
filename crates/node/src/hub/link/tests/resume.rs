//! A link that comes from one leader to the next.

use super::super::*;
use crate::hub::attachment::HostSender;
use crate::hub::mailbox::mailbox;
use broker_model::ids::{NodeId, QueueId, RequestId, Sequence, ShardId};
use broker_model::op::{Op, SequenceRanges};
use broker_model::protocol::ToHost;
use futures::future::BoxFuture;
use parking_lot::Mutex;

/// Hands out the attachments that a test puts into it.
pub(super) struct Prepared(pub(super) Mutex<mpsc::UnboundedReceiver<Attachment>>);

impl Connector for Prepared {
    fn connect(&self) -> BoxFuture<'_, Result<Attachment, ConnectError>> {
        Box::pin(async move {
            loop {
                if let Ok(attachment) = self.0.lock().try_recv() {
                    return Ok(attachment);
                }
                tokio::task::yield_now().await;
            }
        })
    }

    fn moved(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }

    fn not_leader(&self, _: Option<NodeId>) {}
}

/// A leader as a link sees it.
pub(super) struct Leader {
    heard: mpsc::UnboundedReceiver<ToHost>,
    pub(super) says: mpsc::UnboundedSender<Vec<FromHost>>,
}

pub(super) fn leader() -> (Leader, Attachment) {
    let (sender, heard) = mpsc::unbounded_channel();
    let (says, receiver) = mpsc::unbounded_channel();
    let sender = HostSender::Remote(sender);
    let leader = Leader { heard, says };
    (leader, Attachment { sender, receiver })
}

impl Leader {
    pub(super) fn is_left_alone(&mut self) -> bool {
        self.heard.try_recv().is_err()
    }

    pub(super) async fn hears(&mut self, last: impl Fn(&ToHost) -> bool) -> Vec<ToHost> {
        let mut all = Vec::new();
        loop {
            let message = tokio::time::timeout(Duration::from_secs(10), self.heard.recv());
            let message = message.await.expect("in time").expect("attached");
            let done = last(&message);
            all.push(message);
            if done {
                return all;
            }
        }
    }
}

fn returned(queue: QueueId, sequence: Sequence) -> Vec<Op> {
    vec![Op::Return {
        queue,
        sequences: one(sequence),
        counted: true,
    }]
}

pub(super) fn one(sequence: Sequence) -> SequenceRanges {
    std::iter::once((sequence, sequence)).collect()
}

/// A return that a leader has applied, whose answer was lost with it, is a duplicate for the next
/// one: a claim would hold the message for ever.
#[tokio::test]
async fn what_leaves_by_a_sent_batch_is_not_claimed() {
    let queue = QueueId(7);
    let session = SessionId(1);
    let (attachments, prepared) = mpsc::unbounded_channel();
    let (input, inputs) = mpsc::unbounded_channel();
    let origin = Origin {
        node: NodeId(1),
        incarnation: 1,
    };
    let link = Link::new(
        Placement::Shard(ShardId(1)),
        origin,
        Arc::new(Prepared(Mutex::new(prepared))),
        Duration::from_secs(30),
        inputs,
    );
    let running = tokio::spawn(link.run());
    let (events, mut told) = mailbox();
    let _ = input.send(LinkInput::Session { session, events });
    let (mut first, attachment) = leader();
    let _ = attachments.send(attachment);
    first.hears(|m| *m == ToHost::Resumed).await;
    // The session holds two messages of a `basic.get`, and returns the first.
    let ask = Ask::Get {
        request: RequestId(1),
        queue,
        no_ack: false,
    };
    let _ = input.send(LinkInput::Ask { session, ask });
    let submit = |token, sequence| LinkInput::Submit {
        session,
        batch: SubBatch {
            token,
            ops: returned(queue, sequence),
        },
    };
    let _ = input.send(submit(1, Sequence(1)));
    first.hears(|m| matches!(m, ToHost::Batch { .. })).await;
    drop(first);

    let (mut second, attachment) = leader();
    let _ = attachments.send(attachment);
    let reply = loop {
        match told.recv().await.expect("an event") {
            SessionEvent::Resume { reply, .. } => break reply,
            _ => continue,
        }
    };
    // The second goes back while there is no leader: that is not sent before `Resumed`.
    let _ = input.send(submit(2, Sequence(2)));
    let held = |sequence| Held {
        consumer: ConsumerId(0),
        queue,
        sequences: one(sequence),
    };
    let _ = reply.send(vec![held(Sequence(3))]);
    let heard = second.hears(|m| *m == ToHost::Resumed).await;
    let claimed: Vec<SequenceRanges> = heard
        .iter()
        .filter_map(|message| match message {
            ToHost::Hold { sequences, .. } => Some(sequences.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(claimed, [one(Sequence(2)), one(Sequence(3))]);
    assert!(
        heard.iter().any(|m| matches!(m, ToHost::Batch { .. })),
        "sent again before the hand-over is complete"
    );
    running.abort();
}
