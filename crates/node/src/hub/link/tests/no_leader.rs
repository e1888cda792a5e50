//! A link that finds no leader.

use super::super::send_queue::SUB_BATCH_BYTES_MAX;
use super::super::*;
use super::publish;
use crate::hub::mailbox::{SessionEvents, mailbox};
use broker_model::ids::{NodeId, QueueId, ShardId};
use broker_model::op::Op;
use futures::FutureExt;
use futures::future::BoxFuture;

struct Nobody;

impl Connector for Nobody {
    fn connect(&self) -> BoxFuture<'_, Result<Attachment, ConnectError>> {
        std::future::pending().boxed()
    }

    fn moved(&self) -> BoxFuture<'_, ()> {
        std::future::pending().boxed()
    }

    fn not_leader(&self, _: Option<NodeId>) {}
}

fn start() -> (mpsc::UnboundedSender<LinkInput>, SessionEvents) {
    let (input, receiver) = mpsc::unbounded_channel();
    let origin = Origin {
        node: NodeId(1),
        incarnation: 1,
    };
    let link = Link::new(
        Placement::Shard(ShardId(1)),
        origin,
        Arc::new(Nobody),
        Duration::from_secs(30),
        receiver,
    );
    tokio::spawn(link.run());
    let (events, heard) = mailbox();
    let _ = input.send(LinkInput::Session {
        session: SessionId(1),
        events,
    });
    (input, heard)
}

fn submit(token: u64, ops: Vec<Op>) -> LinkInput {
    LinkInput::Submit {
        session: SessionId(1),
        batch: SubBatch { token, ops },
    }
}

#[tokio::test(start_paused = true)]
async fn what_fits_no_entry_is_given_up_at_once_and_the_rest_in_time() {
    let (input, mut heard) = start();
    let started = Instant::now();
    let _ = input.send(submit(1, vec![publish(10)]));
    let _ = input.send(submit(2, vec![publish(SUB_BATCH_BYTES_MAX + 1)]));
    let settle = Op::settle_one(QueueId(1), broker_model::ids::Sequence(1));
    let _ = input.send(submit(3, vec![publish(SUB_BATCH_BYTES_MAX + 1), settle]));
    for (expected, at_once) in [(2, true), (3, true), (1, false)] {
        match heard.recv().await {
            Some(SessionEvent::Outcome {
                token,
                given_up: true,
                ..
            }) => assert_eq!(token, expected),
            other => panic!("{other:?}"),
        }
        assert_eq!(started.elapsed() < Duration::from_secs(1), at_once);
    }
}
