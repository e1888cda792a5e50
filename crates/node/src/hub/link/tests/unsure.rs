//! A link that cannot be sure that what it hears is the leader's.

use super::super::*;
use super::resume::{Leader, Prepared, leader};
use crate::hub::mailbox::{SessionEvents, mailbox};
use broker_model::ids::{NodeId, QueueId, RequestId, ShardId};
use broker_model::protocol::ToHost;
use futures::future::BoxFuture;
use parking_lot::Mutex;

/// Never sure by itself; `verdict` says what it finds out.
struct Doubtful {
    leaders: Prepared,
    verdict: Mutex<mpsc::UnboundedReceiver<bool>>,
}

impl Connector for Doubtful {
    fn connect(&self) -> BoxFuture<'_, Result<Attachment, ConnectError>> {
        self.leaders.connect()
    }

    fn moved(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }

    fn is_sure(&self) -> bool {
        false
    }

    fn make_sure(&self) -> BoxFuture<'_, bool> {
        Box::pin(async {
            loop {
                if let Ok(verdict) = self.verdict.lock().try_recv() {
                    return verdict;
                }
                tokio::task::yield_now().await;
            }
        })
    }

    fn not_leader(&self, _: Option<NodeId>) {}
}

struct Scene {
    input: mpsc::UnboundedSender<LinkInput>,
    attachments: mpsc::UnboundedSender<Attachment>,
    verdicts: mpsc::UnboundedSender<bool>,
    told: SessionEvents,
}

impl Scene {
    /// A session has asked its leader for a message.
    async fn start() -> (Self, Leader) {
        let (attachments, prepared) = mpsc::unbounded_channel();
        let (verdicts, verdict) = mpsc::unbounded_channel();
        let (input, inputs) = mpsc::unbounded_channel();
        let connector = Doubtful {
            leaders: Prepared(Mutex::new(prepared)),
            verdict: Mutex::new(verdict),
        };
        let origin = Origin {
            node: NodeId(1),
            incarnation: 1,
        };
        let link = Link::new(
            Placement::Shard(ShardId(1)),
            origin,
            Arc::new(connector),
            Duration::from_secs(30),
            inputs,
        );
        tokio::spawn(link.run());
        let session = SessionId(1);
        let (events, told) = mailbox();
        let _ = input.send(LinkInput::Session { session, events });
        let ask = Ask::Get {
            request: RequestId(1),
            queue: QueueId(7),
            no_ack: false,
        };
        let _ = input.send(LinkInput::Ask { session, ask });
        let (mut first, attachment) = leader();
        let _ = attachments.send(attachment);
        first.hears(|m| matches!(m, ToHost::Get { .. })).await;
        let scene = Self {
            input,
            attachments,
            verdicts,
            told,
        };
        (scene, first)
    }

    async fn hears_of_nothing_in_the_queue(&mut self) {
        loop {
            match self.told.recv().await.expect("an event") {
                SessionEvent::Got { delivery, .. } => return assert!(delivery.is_none()),
                SessionEvent::Resume { reply, .. } => drop(reply.send(Vec::new())),
                _ => {}
            }
        }
    }
}

fn nothing() -> Vec<FromHost> {
    vec![FromHost::Got {
        request: RequestId(1),
        delivery: None,
    }]
}

#[tokio::test]
async fn what_is_held_back_is_passed_on_when_the_leader_leads_still() {
    let (mut scene, first) = Scene::start().await;
    let _ = first.says.send(nothing());
    let _ = scene.verdicts.send(true);
    scene.hears_of_nothing_in_the_queue().await;
}

#[tokio::test]
async fn what_a_former_leader_has_said_is_not_acted_upon() {
    let (mut scene, first) = Scene::start().await;
    let _ = first.says.send(nothing());
    let _ = scene.verdicts.send(false);
    // The question was not answered: the next leader hears it again.
    let (mut second, attachment) = leader();
    let _ = scene.attachments.send(attachment);
    second.hears(|m| matches!(m, ToHost::Get { .. })).await;
    let _ = second.says.send(nothing());
    let _ = scene.verdicts.send(true);
    scene.hears_of_nothing_in_the_queue().await;
    drop(scene.input);
}
