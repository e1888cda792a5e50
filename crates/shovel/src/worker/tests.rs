//! A shovel between two scripted brokers.

use super::*;
use crate::status::Blocked;
use amqp_codec::{
    Content, Delivery, FieldTable, FrameKind, Method, NO_PROPERTIES, ShortStr, decode,
    write_delivery, write_method,
};
use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use serde_json::json;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

const FRAME_MAX: usize = 128 * 1024;

/// Gives the other ends of the pipes to the test, with the virtual host that was asked for.
struct Pipes(mpsc::UnboundedSender<(String, DuplexStream)>);

impl Dial for Pipes {
    fn dial(
        &self,
        vhost: &str,
        _: Option<&str>,
        _: bool,
    ) -> BoxFuture<'static, Result<Box<dyn Wire>, String>> {
        let (client, server) = duplex(64 * 1024);
        let _ = self.0.send((vhost.to_owned(), server));
        std::future::ready(Ok(Box::new(client) as Box<dyn Wire>)).boxed()
    }
}

/// A broker that does as it is told.
struct Peer {
    stream: DuplexStream,
    input: BytesMut,
    /// Messages in any queue.
    length: u32,
}

impl Peer {
    async fn bytes(&mut self) {
        let read = self.stream.read_buf(&mut self.input).await.unwrap();
        assert!(read > 0, "the shovel has gone");
    }

    async fn say(&mut self, channel: u16, method: &Method) {
        let mut out = BytesMut::new();
        write_method(&mut out, channel, method);
        self.stream.write_all(&out).await.unwrap();
    }

    async fn deliver(&mut self, tag: u64, body: &'static [u8]) {
        let mut out = BytesMut::new();
        let delivery = Delivery {
            consumer_tag: b"c",
            delivery_tag: tag,
            redelivered: false,
            exchange: b"e",
            routing_key: b"k",
            content: Content {
                properties: &NO_PROPERTIES,
                body: &Bytes::from_static(body),
            },
        };
        write_delivery(&mut out, 1, FRAME_MAX, &delivery);
        self.stream.write_all(&out).await.unwrap();
    }

    /// The next method; content that belongs to it is passed over.
    async fn next(&mut self) -> (u16, Method) {
        loop {
            match decode(&mut self.input, FRAME_MAX).unwrap() {
                Some(frame) if frame.kind == FrameKind::Method => {
                    return (frame.channel, Method::decode(frame.payload).unwrap());
                }
                Some(_) => {}
                None => self.bytes().await,
            }
        }
    }

    /// Nothing comes for a long time.
    async fn silence(&mut self) {
        let next = tokio::time::timeout(Duration::from_millis(500), self.next()).await;
        assert!(next.is_err(), "{next:?}");
    }

    async fn greet(&mut self) {
        while self.input.len() < 8 {
            self.bytes().await;
        }
        let _ = self.input.split_to(8);
        let start = Method::ConnectionStart {
            version_major: 0,
            version_minor: 9,
            server_properties: FieldTable::default(),
            mechanisms: Bytes::from_static(b"PLAIN"),
            locales: Bytes::from_static(b"en_US"),
        };
        self.say(0, &start).await;
        self.next().await;
        let tune = Method::ConnectionTune {
            channel_max: 10,
            frame_max: FRAME_MAX as u32,
            heartbeat: 0,
        };
        self.say(0, &tune).await;
        self.next().await;
        self.next().await;
        self.say(0, &Method::ConnectionOpenOk {}).await;
    }

    /// What a method is answered with, if it asks for an answer.
    fn answer(&self, method: &Method) -> Option<Method> {
        Some(match method {
            Method::ChannelOpen {} => Method::ChannelOpenOk {},
            Method::ChannelClose { .. } => Method::ChannelCloseOk {},
            Method::QueueDeclare { queue, .. } => Method::QueueDeclareOk {
                queue: queue.clone(),
                message_count: self.length,
                consumer_count: 0,
            },
            Method::ConfirmSelect { .. } => Method::ConfirmSelectOk {},
            Method::BasicQos { .. } => Method::BasicQosOk {},
            Method::BasicConsume { .. } => Method::BasicConsumeOk {
                consumer_tag: ShortStr::from_static("c"),
            },
            Method::ConnectionClose { .. } => Method::ConnectionCloseOk {},
            _ => return None,
        })
    }

    /// Answers what asks for an answer, up to a method that does not, which is returned; or the end.
    async fn serve(&mut self) -> Method {
        loop {
            let (channel, method) = self.next().await;
            let Some(answer) = self.answer(&method) else {
                return method;
            };
            self.say(channel, &answer).await;
            if answer == (Method::ConnectionCloseOk {}) {
                return answer;
            }
        }
    }

    /// Answers what is asked for, up to the last thing that is asked to begin with.
    async fn set_up(&mut self, last: fn(&Method) -> bool) {
        loop {
            let (channel, method) = self.next().await;
            let answer = self.answer(&method).unwrap();
            self.say(channel, &answer).await;
            if last(&method) {
                return;
            }
        }
    }
}

struct Scene {
    source: Peer,
    destination: Peer,
    status: Arc<Status>,
    stop: watch::Sender<bool>,
    run: JoinHandle<End>,
    more: mpsc::UnboundedReceiver<(String, DuplexStream)>,
}

/// A running shovel with `changes` to its definition, and `length` messages in its queue.
async fn scene(changes: &[(&str, Value)], length: u32) -> Scene {
    let mut value = json!({ "src-uri": "amqp:///src", "src-queue": "a",
                            "dest-uri": "amqp:///dst", "dest-queue": "b" });
    for (key, change) in changes {
        value[*key] = change.clone();
    }
    let shovel = Shovel {
        vhost: "/".into(),
        name: "s".into(),
        cluster: "c".into(),
        value,
    };
    let (pipes, mut more) = mpsc::unbounded_channel();
    let (stop, stopped) = watch::channel(false);
    let status = Arc::new(Status::default());
    let run = {
        let status = Arc::clone(&status);
        tokio::spawn(async move { shovel.run(&Pipes(pipes), &status, stopped).await })
    };
    let mut peer = async |expected: &str| {
        let (vhost, stream) = more.recv().await.unwrap();
        assert_eq!(vhost, expected);
        let mut peer = Peer {
            stream,
            input: BytesMut::new(),
            length,
        };
        peer.greet().await;
        peer
    };
    let mut source = peer("src").await;
    let mut destination = peer("dst").await;
    let confirms = changes.iter().all(|(key, _)| *key != "ack-mode");
    if confirms {
        destination
            .set_up(|method| matches!(method, Method::ConfirmSelect { .. }))
            .await;
    } else {
        destination
            .set_up(|method| matches!(method, Method::ChannelClose { .. }))
            .await;
    }
    source
        .set_up(|method| matches!(method, Method::BasicConsume { .. }))
        .await;
    Scene {
        source,
        destination,
        status,
        stop,
        run,
        more,
    }
}

fn ack(delivery_tag: u64, multiple: bool) -> Method {
    Method::BasicAck {
        delivery_tag,
        multiple,
    }
}

fn nack(delivery_tag: u64) -> Method {
    Method::BasicNack {
        delivery_tag,
        multiple: false,
        requeue: true,
    }
}

fn is_publish(method: &Method, to: &str, is_mandatory: bool) -> bool {
    matches!(method, Method::BasicPublish { exchange, routing_key, mandatory, .. }
        if exchange.is_empty() && routing_key.as_str() == to && *mandatory == is_mandatory)
}

#[tokio::test(start_paused = true)]
async fn acknowledged_when_confirmed() {
    let mut s = scene(&[], 0).await;
    for (tag, body) in [(1, b"x"), (2, b"y"), (3, b"z")] {
        s.source.deliver(tag, body).await;
        let publish = s.destination.serve().await;
        assert!(is_publish(&publish, "b", true), "{publish:?}");
    }
    s.source.silence().await;
    s.destination.say(1, &ack(2, false)).await;
    s.source.silence().await;
    s.destination.say(1, &ack(1, false)).await;
    assert_eq!(s.source.next().await, (1, ack(2, true)));
    let report = s.status.report();
    assert_eq!((report.forwarded, report.remaining), (3, None));
    assert!(matches!(report.state, State::Running(_)));
    s.stop.send_replace(true);
    s.destination.serve().await;
    s.source.serve().await;
    assert_eq!(s.run.await.unwrap(), End::Stopped);
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_goes_back_and_not_at_once() {
    let mut s = scene(&[], 0).await;
    for tag in [1, 2, 3] {
        s.source.deliver(tag, b"x").await;
        s.destination.serve().await;
    }
    let before = tokio::time::Instant::now();
    s.destination.say(1, &nack(2)).await;
    s.destination.say(1, &ack(3, false)).await;
    s.destination.say(1, &ack(1, false)).await;
    assert_eq!(
        s.source.next().await,
        (1, ack(1, true)),
        "not the refused one behind it"
    );
    assert_eq!(s.source.next().await, (1, nack(2)));
    assert!(before.elapsed() >= Duration::from_millis(900));
    assert_eq!(s.source.next().await, (1, ack(3, true)));
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_is_gone_loses_nothing() {
    let mut s = scene(&[], 0).await;
    s.source.deliver(1, b"x").await;
    s.destination.serve().await;
    let returned = Method::BasicReturn {
        reply_code: 312,
        reply_text: ShortStr::from_static("NO_ROUTE"),
        exchange: ShortStr::default(),
        routing_key: ShortStr::from_static("b"),
    };
    let mut out = BytesMut::new();
    write_method(&mut out, 1, &returned);
    let content = Content {
        properties: &NO_PROPERTIES,
        body: &Bytes::from_static(b"x"),
    };
    amqp_codec::write_content(&mut out, 1, FRAME_MAX, content);
    write_method(&mut out, 1, &ack(1, false));
    s.destination.stream.write_all(&out).await.unwrap();
    // It closes both, acknowledges nothing, and comes again.
    assert_eq!(s.destination.serve().await, Method::ConnectionCloseOk {});
    assert_eq!(s.source.serve().await, Method::ConnectionCloseOk {});
    assert_eq!(s.more.recv().await.unwrap().0, "src");
}

#[tokio::test(start_paused = true)]
async fn it_ends_with_what_waited() {
    let mut s = scene(&[("src-delete-after", "queue-length".into())], 2).await;
    for tag in [1, 2, 3] {
        s.source.deliver(tag, b"x").await;
    }
    s.destination.serve().await;
    s.destination.serve().await;
    s.destination.silence().await;
    s.destination.say(1, &ack(2, true)).await;
    assert_eq!(s.destination.serve().await, Method::ConnectionCloseOk {});
    assert_eq!(s.source.next().await, (1, ack(2, true)), "not the third");
    assert_eq!(s.source.serve().await, Method::ConnectionCloseOk {});
    assert_eq!(s.run.await.unwrap(), End::Done);
}

#[tokio::test(start_paused = true)]
async fn it_holds_on_while_the_destination_is_blocked() {
    let mut s = scene(&[], 0).await;
    let blocked = Method::ConnectionBlocked {
        reason: ShortStr::default(),
    };
    s.destination.say(0, &blocked).await;
    while s.status.report().blocked != Blocked::Yes {
        tokio::task::yield_now().await;
    }
    s.source.deliver(1, b"x").await;
    s.destination.silence().await;
    assert_eq!(s.status.report().pending, 1);
    s.destination.say(0, &Method::ConnectionUnblocked {}).await;
    assert!(is_publish(&s.destination.serve().await, "b", true));
    while s.status.report().pending > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(s.status.report().blocked, Blocked::No);
}

#[tokio::test(start_paused = true)]
async fn other_modes_do_not_wait() {
    let mut s = scene(&[("ack-mode", "on-publish".into())], 0).await;
    s.source.deliver(1, b"x").await;
    assert!(is_publish(&s.destination.serve().await, "b", false));
    assert_eq!(s.source.next().await, (1, ack(1, false)));

    let mut s = scene(&[("ack-mode", "no-ack".into())], 0).await;
    s.source.deliver(1, b"x").await;
    assert!(is_publish(&s.destination.serve().await, "b", false));
    s.source.silence().await;
}

#[tokio::test(start_paused = true)]
async fn it_tries_again_after_its_pause_and_no_more_often() {
    let (pipes, mut dialled) = mpsc::unbounded_channel();
    let shovel = Shovel {
        vhost: "/".into(),
        name: "s".into(),
        cluster: "c".into(),
        value: json!({ "src-uri": "amqp:///src", "src-queue": "a", "dest-uri": "amqp:///dst",
                       "reconnect-delay": 7 }),
    };
    let (stop, stopped) = watch::channel(false);
    let status = Arc::new(Status::default());
    let run = {
        let status = Arc::clone(&status);
        tokio::spawn(async move { shovel.run(&Pipes(pipes), &status, stopped).await })
    };
    let start = tokio::time::Instant::now();
    for _ in 0..4 {
        // The stream is dropped: a broker that hangs up.
        assert_eq!(dialled.recv().await.unwrap().0, "src");
    }
    assert_eq!(start.elapsed().as_secs(), 21);
    while matches!(status.report().state, State::Starting) {
        tokio::task::yield_now().await;
    }
    match status.report().state {
        State::Terminated { reason } => {
            assert!(
                reason.starts_with("failed to connect to source"),
                "{reason}"
            );
        }
        other => panic!("{other:?}"),
    }
    stop.send_replace(true);
    assert_eq!(run.await.unwrap(), End::Stopped);
}

#[tokio::test(start_paused = true)]
async fn a_definition_that_makes_no_sense_waits_to_be_replaced() {
    let (pipes, mut dialled) = mpsc::unbounded_channel();
    let shovel = Shovel {
        vhost: "/".into(),
        name: "s".into(),
        cluster: "c".into(),
        value: json!({ "src-protocol": "amqp10" }),
    };
    let (stop, stopped) = watch::channel(false);
    let status = Status::default();
    let pipes = Pipes(pipes);
    let run = shovel.run(&pipes, &status, stopped);
    let look = async {
        tokio::time::sleep(Duration::from_secs(100)).await;
        let state = status.report().state;
        assert!(matches!(state, State::Terminated { reason } if reason.contains("amqp10")));
        stop.send_replace(true);
    };
    let (end, ()) = tokio::join!(run, look);
    assert_eq!(end, End::Stopped);
    assert!(dialled.try_recv().is_err());
}
