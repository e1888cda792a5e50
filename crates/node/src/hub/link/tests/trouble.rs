//! Sessions that go, leaders that go, answers that come in a bad moment.

use super::super::*;
use super::publish;
use super::resume::{Leader, Prepared, leader, one};
use crate::hub::mailbox::{SessionEvents, mailbox};
use broker_model::ids::{NodeId, QueueId, RequestId, Sequence, ShardId};
use broker_model::message::Message;
use broker_model::op::{BatchOutcome, BatchStatus, Op};
use broker_model::protocol::{ConsumerSpec, Delivery, ToHost};
use bytes::Bytes;
use parking_lot::Mutex;

const QUEUE: QueueId = QueueId(7);
const SESSION: SessionId = SessionId(1);
const CONSUMER: ConsumerId = ConsumerId(1);
const ORIGIN: Origin = Origin {
    node: NodeId(1),
    incarnation: 1,
};

struct World {
    input: mpsc::UnboundedSender<LinkInput>,
    told: SessionEvents,
    leader: Leader,
    attachments: mpsc::UnboundedSender<Attachment>,
}

/// A link with a leader and one session.
async fn world() -> World {
    let (attachments, prepared) = mpsc::unbounded_channel();
    let (input, inputs) = mpsc::unbounded_channel();
    let link = Link::new(
        Placement::Shard(ShardId(1)),
        ORIGIN,
        Arc::new(Prepared(Mutex::new(prepared))),
        Duration::from_secs(30),
        inputs,
    );
    tokio::spawn(link.run());
    let (events, told) = mailbox();
    let session = SESSION;
    let _ = input.send(LinkInput::Session { session, events });
    let (mut leader, attachment) = leader();
    let _ = attachments.send(attachment);
    leader.hears(|m| *m == ToHost::Resumed).await;
    World {
        input,
        told,
        leader,
        attachments,
    }
}

impl World {
    fn ask(&self, ask: Ask) {
        let session = SESSION;
        let _ = self.input.send(LinkInput::Ask { session, ask });
    }

    fn submit(&self, token: u64, ops: Vec<Op>) {
        let (session, batch) = (SESSION, SubBatch { token, ops });
        let _ = self.input.send(LinkInput::Submit { session, batch });
    }

    fn say(&self, message: FromHost) {
        let _ = self.leader.says.send(vec![message]);
    }

    fn answer(&self, number: u64, status: BatchStatus, refused_ops: &[u32]) {
        self.say(FromHost::Outcome(BatchOutcome {
            origin: ORIGIN,
            number,
            status,
            refused_ops: refused_ops.to_vec(),
        }));
    }

    async fn consume(&mut self, credit: u32) {
        self.ask(Ask::Consume {
            consumer: CONSUMER,
            queue: QUEUE,
            spec: ConsumerSpec {
                tag: Bytes::new(),
                no_ack: false,
                exclusive: false,
                priority: 0,
                prefetch: 0,
                connection: 1,
                channel: 1,
            },
            credit,
        });
        self.leader
            .hears(|m| matches!(m, ToHost::Consume { .. }))
            .await;
        let consumer = CONSUMER;
        self.say(FromHost::ConsumeOk { consumer, order: 7 });
        self.hears(&SessionEvent::ConsumeOk { consumer }).await;
    }

    /// The next event that is not about a new leader, which is told that nothing is held.
    async fn hears(&mut self, expected: &SessionEvent) {
        loop {
            let event = tokio::time::timeout(Duration::from_secs(10), self.told.recv());
            match event.await.expect("in time").expect("a link") {
                SessionEvent::Resume { reply, .. } => {
                    let _ = reply.send(Vec::new());
                }
                event => return assert_eq!(format!("{event:?}"), format!("{expected:?}")),
            }
        }
    }

    /// The leader is lost; another is there.
    fn change_leader(&mut self) {
        let (next, attachment) = leader();
        self.leader = next;
        let _ = self.attachments.send(attachment);
    }

    /// Waits until all has been told to the new leader.
    async fn resumed(&mut self) {
        let Some(SessionEvent::Resume { reply, .. }) = self.told.recv().await else {
            panic!("not asked what is held");
        };
        let _ = reply.send(Vec::new());
        self.leader.hears(|m| *m == ToHost::Resumed).await;
    }
}

fn delivery(sequence: u64) -> Delivery {
    Delivery {
        consumer: CONSUMER,
        queue: QUEUE,
        sequence: Sequence(sequence),
        redelivered: false,
        delivery_count: 0,
        message: Message {
            exchange: Bytes::new(),
            routing_key: Bytes::new(),
            properties: Bytes::new(),
            body: Bytes::new(),
        },
    }
}

/// Until the link hears that a session is over, it takes back what it can no longer pass on.
#[tokio::test]
async fn deliveries_to_a_session_that_has_ended_go_back() {
    let mut world = world().await;
    world.consume(10).await;
    world.told.close();
    world.say(FromHost::Deliver(vec![delivery(5)]));
    let heard = world
        .leader
        .hears(|m| matches!(m, ToHost::Batch { .. }))
        .await;
    let Some(ToHost::Batch { ops, .. }) = heard.last() else {
        panic!("no batch");
    };
    let ops: Vec<Op> = broker_model::wire::OpsReader::new(ops.clone())
        .map(|op| op.expect("readable"))
        .collect();
    let back = Op::Return {
        queue: QUEUE,
        sequences: one(Sequence(5)),
        counted: false,
    };
    assert_eq!(ops, [back]);
}

#[tokio::test]
async fn an_answer_to_a_later_batch_says_nothing_about_an_earlier_one() {
    let mut world = world().await;
    // Sessions with consumers are asked what they hold.
    world.consume(10).await;
    for token in [1, 2] {
        world.submit(token, vec![publish(10)]);
        world
            .leader
            .hears(|m| matches!(m, ToHost::Batch { .. }))
            .await;
    }
    world.change_leader();
    world.resumed().await;
    // Meant for the attachment before.
    world.answer(2, BatchStatus::Applied, &[]);
    world.answer(1, BatchStatus::Duplicate, &[0]);
    world.answer(2, BatchStatus::Duplicate, &[]);
    for (token, refused_ops) in [(1, vec![0]), (2, vec![])] {
        let outcome = SessionEvent::Outcome {
            token,
            refused_ops,
            given_up: false,
        };
        world.hears(&outcome).await;
    }
}

/// A node that stops waits for what its sessions, gone by then, have acknowledged.
#[tokio::test(start_paused = true)]
async fn what_ended_sessions_have_sent_is_waited_for() {
    let mut world = world().await;
    let ask = |world: &World| {
        let (reply, answered) = oneshot::channel();
        let _ = world.input.send(LinkInput::WhenAnswered { reply });
        answered
    };
    ask(&world).await.expect("nothing is unanswered");
    world.submit(1, vec![Op::settle_one(QUEUE, Sequence(1))]);
    let session = SESSION;
    let _ = world.input.send(LinkInput::SessionGone { session });
    let mut answered = ask(&world);
    world
        .leader
        .hears(|m| matches!(m, ToHost::Batch { .. }))
        .await;
    assert!(answered.try_recv().is_err());
    // The leader dies; the next one has the batch already.
    world.change_leader();
    world.leader.hears(|m| *m == ToHost::Resumed).await;
    assert!(answered.try_recv().is_err());
    world.answer(1, BatchStatus::Duplicate, &[]);
    answered.await.expect("settled");
}

/// What cannot be mended by trying again is not tried again at once, or the log fills with it.
#[tokio::test(start_paused = true)]
async fn a_batch_of_an_earlier_start_is_not_sent_again_at_once() {
    let mut world = world().await;
    world.submit(1, vec![publish(10)]);
    world
        .leader
        .hears(|m| matches!(m, ToHost::Batch { .. }))
        .await;
    let (next, attachment) = leader();
    let _ = world.attachments.send(attachment);
    let refused = tokio::time::Instant::now();
    world.answer(1, BatchStatus::Stale, &[]);
    world.leader = next;
    world
        .leader
        .hears(|m| matches!(m, ToHost::Batch { .. }))
        .await;
    assert!(refused.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn credit_that_was_called_back_from_a_lost_leader_is_back() {
    let mut world = world().await;
    world.consume(10).await;
    world.ask(Ask::Revoke {
        consumer: CONSUMER,
        queue: QUEUE,
    });
    world
        .leader
        .hears(|m| matches!(m, ToHost::Revoke { .. }))
        .await;
    world.change_leader();
    let revoked = SessionEvent::Revoked {
        consumer: CONSUMER,
        unused: 10,
    };
    world.hears(&revoked).await;
    world.resumed().await;
}

#[tokio::test(start_paused = true)]
async fn a_cancel_that_no_leader_answers_ends_in_time() {
    let mut world = world().await;
    world.consume(10).await;
    let asked = Instant::now();
    world.ask(Ask::Cancel {
        consumer: CONSUMER,
        queue: QUEUE,
    });
    let (consumer, by_host) = (CONSUMER, false);
    let cancelled = SessionEvent::Cancelled { consumer, by_host };
    let event = tokio::time::timeout(Duration::from_secs(60), world.told.recv());
    let event = event.await.expect("in time").expect("a link");
    assert_eq!(format!("{event:?}"), format!("{cancelled:?}"));
    assert!(asked.elapsed() >= Duration::from_secs(30));
}

/// A host goes before sessions have said what they hold; what they say then starts no second attempt to attach, whose
/// success would take the place of the first.
#[tokio::test]
async fn what_was_said_for_one_attachment_does_not_disturb_the_next() {
    let mut world = world().await;
    let get = |number| Ask::Get {
        request: RequestId(number),
        queue: QUEUE,
        no_ack: true,
    };
    world.ask(get(1));
    world
        .leader
        .hears(|m| matches!(m, ToHost::Get { .. }))
        .await;
    world.change_leader();
    let Some(SessionEvent::Resume { reply, .. }) = world.told.recv().await else {
        panic!("not asked what is held");
    };
    let _ = world
        .input
        .send(LinkInput::MemoryLost { moves: Vec::new() });
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    let _ = reply.send(Vec::new());
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    world.change_leader();
    while !world.told.recv().await.is_some_and(|event| match event {
        SessionEvent::Resume { reply, .. } => reply.send(Vec::new()).is_ok(),
        _ => false,
    }) {}
    world.leader.hears(|m| *m == ToHost::Resumed).await;
    let (mut nobody, attachment) = leader();
    let _ = world.attachments.send(attachment);
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    world.ask(get(2));
    world
        .leader
        .hears(|m| matches!(m, ToHost::Get { .. }))
        .await;
    assert!(nobody.is_left_alone());
}

/// Its leader had given the message away when the link claimed it.
#[tokio::test]
async fn who_claimed_what_a_newcomer_gets_has_lost_it() {
    let mut world = world().await;
    world.consume(10).await;
    world.change_leader();
    let Some(SessionEvent::Resume { reply, .. }) = world.told.recv().await else {
        panic!("not asked what is held");
    };
    let held = Held {
        consumer: CONSUMER,
        queue: QUEUE,
        sequences: one(Sequence(5)),
    };
    let _ = reply.send(vec![held]);
    world.leader.hears(|m| *m == ToHost::Resumed).await;
    let again = |sequence| Delivery {
        redelivered: true,
        ..delivery(sequence)
    };
    let lost = SessionEvent::Lost {
        messages: [(QUEUE, Sequence(5))].into(),
    };
    // Once; another message is nobody's loss.
    for (sequence, is_lost) in [(6, false), (5, true), (5, false)] {
        world.say(FromHost::Deliver(vec![again(sequence)]));
        if is_lost {
            world.hears(&lost).await;
        }
        let deliver = SessionEvent::Deliver(vec![again(sequence)]);
        world.hears(&deliver).await;
    }
}
