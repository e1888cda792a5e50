//! Queues that belong to connections, alarms, operators.

use super::TestNode;
use super::client::{declare, text};
use super::node::{THERE, eventually};
use crate::broker::Alarms;
use crate::config::Config;
use crate::session::Services;
use amqp_codec::{FieldTable, Method};
use broker_model::catalog::{CatalogCommand, Limits, QueueSpec};
use broker_model::ids::{ConnectionId, NodeId, Origin};
use std::sync::atomic::Ordering;
use std::time::Duration;

fn exclusive(queue: &str) -> Method {
    Method::QueueDeclare {
        queue: text(queue),
        passive: false,
        durable: true,
        exclusive: true,
        auto_delete: false,
        no_wait: false,
        arguments: FieldTable::default(),
    }
}

#[tokio::test]
async fn exclusive_queues_end_with_their_connection() {
    let node = TestNode::start();
    for lose in [false, true] {
        let mut client = node.channel().await;
        client.declare_with(1, &exclusive("mine")).await;
        let mut other = node.channel().await;
        other
            .send(
                1,
                &Method::BasicGet {
                    queue: text("mine"),
                    no_ack: true,
                },
            )
            .await;
        let (code, error, _) = other.channel_error(1).await;
        assert_eq!(code, 405);
        assert!(error.starts_with(
            "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'mine' in vhost '/'."
        ));
        if lose {
            drop(client);
            // Whoever reconnects may declare it at once.
            let mut again = node.channel().await;
            again.declare_with(1, &exclusive("mine")).await;
            again.close().await;
        } else {
            client.close().await;
            assert!(
                !node.has_queue("mine"),
                "gone before the close was answered"
            );
        }
    }
}

/// A node may accept the next connection before it has seen that the last one is gone.
#[tokio::test]
async fn an_exclusive_queue_of_a_connection_that_is_just_going_is_waited_for() {
    let node = TestNode::start();
    let mut client = node.channel().await;
    client.declare_with(1, &exclusive("mine")).await;
    let mut again = node.channel().await;
    let declare = exclusive("mine");
    let lost = async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        drop(client);
    };
    let ((name, ..), ()) = tokio::join!(again.declare_with(1, &declare), lost);
    assert_eq!(name, "mine");
}

/// Its node is struck off only after a while; who reconnects at once is not told that he himself is in the way.
#[tokio::test]
async fn an_exclusive_queue_of_a_dead_node_is_waited_for() {
    let node = TestNode::start();
    let dead = Origin {
        node: NodeId(2),
        incarnation: 7,
    };
    let owner = ConnectionId {
        origin: dead,
        serial: 1,
    };
    let spec = QueueSpec {
        vhost: "/".into(),
        name: "mine".into(),
        durable: false,
        exclusive: Some(owner),
        auto_delete: false,
        arguments: FieldTable::default(),
        placement: THERE,
        server_named: false,
    };
    node.apply(CatalogCommand::DeclareQueue(spec)).unwrap();
    node.kill_other();
    let reconnected = async {
        let mut client = node.channel().await;
        client.declare_with(1, &exclusive("mine")).await
    };
    let struck_off = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        node.apply(CatalogCommand::NodeDead {
            origin: dead,
            new_host: NodeId(1),
        })
    };
    let ((name, ..), gone) = tokio::join!(reconnected, struck_off);
    assert!(gone.is_ok());
    assert_eq!(name, "mine");
}

#[tokio::test]
async fn server_named_queues() {
    let node = TestNode::start();
    let mut client = node.channel().await;
    let (name, ..) = client.declare_with(1, &declare("", false)).await;
    assert!(name.starts_with("amq.gen-") && name.len() == 30, "{name}");
    client.publish(1, &name, "x").await;
    // An empty name stands for the one declared last.
    assert_eq!(client.get(1, "", true).await.unwrap().text(), "x");
}

#[tokio::test]
async fn auto_delete_queues_go_with_their_last_consumer() {
    let node = TestNode::start();
    let mut client = node.channel().await;
    let auto_delete = Method::QueueDeclare {
        queue: text("q"),
        passive: false,
        durable: false,
        exclusive: false,
        auto_delete: true,
        no_wait: false,
        arguments: FieldTable::default(),
    };
    client.declare_with(1, &auto_delete).await;
    assert_eq!(client.get(1, "q", true).await, None);
    assert!(node.has_queue("q"));
    client.consume(1, "q", "t", true).await;
    client.close_channel(1).await;
    eventually("the queue is gone", || !node.has_queue("q")).await;
}

#[tokio::test]
async fn publishers_are_blocked_by_an_alarm_and_consumers_are_not() {
    let node = TestNode::start();
    let mut consumer = node.channel().await;
    consumer.declare(1, "q", false).await;
    consumer.consume(1, "q", "t", true).await;
    let mut publisher = node.channel().await;
    node.alarms.send_replace(Alarms {
        memory: true,
        disk: false,
    });
    publisher.publish(1, "q", "held").await;
    let blocked = Method::ConnectionBlocked {
        reason: text("low on memory"),
    };
    assert_eq!(publisher.hear().await.method, blocked);
    publisher.publish(1, "q", "waits").await;
    assert_eq!(consumer.hear_soon().await, None);
    consumer.sync(1).await;
    node.alarms.send_replace(Alarms::default());
    assert_eq!(
        publisher.hear().await.method,
        Method::ConnectionUnblocked {}
    );
    assert_eq!(consumer.delivery().await.text(), "held");
    assert_eq!(consumer.delivery().await.text(), "waits");
}

#[tokio::test]
async fn operators_close_connections() {
    let node = TestNode::start();
    let mut client = node.channel().await;
    let session = node.registry().connections()[0].session;
    assert!(
        node.hub()
            .close_session(session, "Closed via management plugin")
    );
    let (code, error, ids) = client.connection_error().await;
    assert_eq!(
        (code, &error[..], ids),
        (
            320,
            "CONNECTION_FORCED - Closed via management plugin",
            (0, 0)
        )
    );
    eventually("the session is over", || node.sessions() == 0).await;
    assert!(node.registry().connections().is_empty());
}

#[tokio::test]
async fn counters() {
    let node = TestNode::start();
    let mut client = node.channel().await;
    client.declare(1, "q", true).await;
    client.confirm_select(1).await;
    client.publish(1, "q", "x").await;
    client.hear().await;
    let got = client.get(1, "q", false).await.unwrap();
    client.ack(1, got.delivery_tag()).await;
    client.sync(1).await;
    let counts = &node.metrics().counts;
    eventually("all is counted", || counts.acknowledged.value() == 1).await;
    assert_eq!(
        (
            counts.published.value(),
            counts.confirmed.value(),
            counts.delivered_get_manual_ack.value()
        ),
        (1, 1, 1)
    );
    assert!(counts.bytes_received.value() > 0 && counts.bytes_sent.value() > 0);
    assert_eq!(
        (
            node.metrics().connections.value(),
            node.metrics().channels.value()
        ),
        (1, 1)
    );
    client.close().await;
    eventually("nothing is left", || {
        node.metrics().connections.value() == 0
    })
    .await;
    assert_eq!(node.metrics().channels.value(), 0);
}

#[tokio::test]
async fn connection_limits() {
    let node = TestNode::start();
    let limits = Limits {
        max_connections: Some(1),
        ..Limits::default()
    };
    node.apply(CatalogCommand::SetVhostLimits {
        vhost: "/".into(),
        limits,
    })
    .unwrap();
    let mut first = node.connect().await;
    let mut second = node.connect_raw();
    second.handshake_as("guest", "guest").await;
    second
        .expect(|method| matches!(method, Method::ConnectionTune { .. }))
        .await;
    let tune_ok = Method::ConnectionTuneOk {
        channel_max: 9,
        frame_max: 8192,
        heartbeat: 0,
    };
    second.send(0, &tune_ok).await;
    second
        .send(
            0,
            &Method::ConnectionOpen {
                virtual_host: text("/"),
            },
        )
        .await;
    let (code, error, ids) = second.connection_error().await;
    let expected = "NOT_ALLOWED - access to vhost '/' refused for user 'guest': connection limit (1) is reached";
    assert_eq!((code, &error[..], ids), (530, expected, (10, 40)));
    first.close().await;
    eventually("the first is gone", || node.sessions() == 0).await;
    node.connect().await;
}

/// A channel that may not be is never said to be open.
#[tokio::test]
async fn channel_limits() {
    let node = TestNode::start_with(|config| config.limits.channels = Some(1));
    let mut client = node.channel().await;
    client.send(2, &Method::ChannelOpen {}).await;
    let refused = client.hear().await;
    let name = Config::node_name(node.origin().node);
    let text = format!(
        "NOT_ALLOWED - number of channels opened on node '{name}' has reached the maximum allowed limit of 1"
    );
    assert!(
        matches!(&refused.method, Method::ConnectionClose { reply_code: 530, reply_text, .. } if reply_text.as_str() == text),
        "{:?}",
        refused.method
    );
    assert_eq!(node.metrics().channels.value(), 0);
}

/// Those of the other nodes count too. What is sent before the answer waits for it.
#[tokio::test]
async fn channels_of_a_user() {
    let node = TestNode::start();
    let limits = Limits {
        max_channels: Some(3),
        ..Limits::default()
    };
    node.apply(CatalogCommand::SetUserLimits {
        user: "guest".into(),
        limits,
    })
    .unwrap();
    node.channels_there.store(2, Ordering::SeqCst);
    let mut client = node.connect().await;
    client.queue(1, &Method::ChannelOpen {});
    client.queue(1, &declare("q", false));
    client.queue(
        1,
        &Method::ChannelClose {
            reply_code: 200,
            reply_text: text("bye"),
            class_id: 0,
            method_id: 0,
        },
    );
    client.flush().await;
    for is_next in [
        |method: &Method| *method == Method::ChannelOpenOk {},
        |method: &Method| matches!(method, Method::QueueDeclareOk { .. }),
        |method: &Method| *method == Method::ChannelCloseOk {},
    ] {
        client.expect(is_next).await;
    }
    client.open_channel(1).await;
    client.send(2, &Method::ChannelOpen {}).await;
    let (code, error, ids) = client.connection_error().await;
    let expected = "NOT_ALLOWED - number of channels opened for user 'guest' has reached the maximum allowed user limit of 3";
    assert_eq!((code, &error[..], ids), (530, expected, (20, 10)));
    eventually("it is over", || node.sessions() == 0).await;
    assert_eq!(node.metrics().channels.value(), 0);
}

/// Clients that write in turns for their channels close the connection before what they have published.
#[tokio::test]
async fn what_is_sent_after_a_close_does_not_spoil_its_answer() {
    let node = TestNode::start();
    let mut client = node.channel().await;
    client.close_amqp().await;
    let body = "x".repeat(1024);
    for _ in 0..600 {
        client.queue_publish(1, "", "q", &body);
    }
    client.flush().await;
    // From another task of the program, which waits for an answer too.
    client.close_amqp().await;
    client.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_leave_after_its_close_is_left() {
    let node = TestNode::start();
    let mut client = node.channel().await;
    client.close_amqp().await;
    assert!(client.ends().await);
    eventually("the session is over", || node.sessions() == 0).await;
}
