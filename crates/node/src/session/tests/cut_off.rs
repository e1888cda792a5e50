//! A node that reaches no majority of its cluster does not know what was declared elsewhere, and does not say that it does.

use super::TestNode;
use super::client::{consume, declare_as, text};
use amqp_codec::{FieldTable, Method};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

fn cut_off() -> Arc<TestNode> {
    let wait = Duration::from_millis(60);
    let node = TestNode::start_with(|config| config.timing.publish_timeout = wait);
    node.cut_off.store(true, Ordering::Relaxed);
    node
}

#[tokio::test]
async fn a_node_that_is_cut_off_does_not_confirm_what_it_cannot_route() {
    let node = TestNode::start();
    let mut client = node.channel().await;
    client.confirm_select(1).await;
    let mut before = None;
    for (tag, cut_off) in [(1, false), (2, true), (3, true), (4, false)] {
        node.cut_off.store(cut_off, Ordering::Relaxed);
        if before
            .replace(cut_off)
            .is_some_and(|before| before != cut_off)
        {
            // What was found out is believed for a while, but not of another version of the catalog.
            client.declare(1, &format!("q{tag}"), true).await;
        }
        client.publish(1, "nowhere", "x").await;
        let (delivery_tag, multiple) = (tag, false);
        let expected = if cut_off {
            Method::BasicNack {
                delivery_tag,
                multiple,
                requeue: false,
            }
        } else {
            Method::BasicAck {
                delivery_tag,
                multiple,
            }
        };
        assert_eq!(client.hear().await.method, expected);
    }
}

#[tokio::test]
async fn what_is_missing_there_is_not_said_to_be_missing() {
    let node = cut_off();
    let passive = |method: &mut Method| {
        if let Method::QueueDeclare { passive, .. } = method {
            *passive = true;
        }
    };
    let mut declare = declare_as("none", true, FieldTable::default());
    passive(&mut declare);
    let (queue, exchange) = (text("none"), text("none"));
    for method in [
        declare,
        consume("none", "t", false),
        Method::BasicGet {
            queue: queue.clone(),
            no_ack: true,
        },
        Method::QueueDelete {
            queue: queue.clone(),
            if_unused: false,
            if_empty: false,
            no_wait: false,
        },
        Method::QueueUnbind {
            queue,
            exchange: text("amq.direct"),
            routing_key: text("k"),
            arguments: FieldTable::default(),
        },
        Method::ExchangeDelete {
            exchange: exchange.clone(),
            if_unused: false,
            no_wait: false,
        },
        Method::ExchangeDeclare {
            exchange,
            kind: text("direct"),
            passive: true,
            durable: true,
            auto_delete: false,
            internal: false,
            no_wait: false,
            arguments: FieldTable::default(),
        },
    ] {
        let mut client = node.channel().await;
        client.send(1, &method).await;
        let (code, reason, _) = client.connection_error().await;
        assert_eq!(code, 541, "{method:?}");
        assert!(reason.contains("no majority"), "{reason}");
    }
}

#[tokio::test]
async fn what_is_there_is_found() {
    let node = cut_off();
    let mut client = node.channel().await;
    client.declare(1, "here", true).await;
    assert_eq!(client.ready(1, "here").await, 0);
}

#[tokio::test]
async fn what_comes_meanwhile_is_found() {
    let node = TestNode::start();
    node.cut_off.store(true, Ordering::Relaxed);
    let mut client = node.channel().await;
    let mut elsewhere = node.channel().await;
    client.send(1, &consume("late", "t", false)).await;
    elsewhere.declare(1, "late", true).await;
    node.cut_off.store(false, Ordering::Relaxed);
    client
        .expect(|method| matches!(method, Method::BasicConsumeOk { .. }))
        .await;
}

#[tokio::test]
async fn publishes_to_an_exchange_that_is_missing_there_are_nacked() {
    let node = cut_off();
    let mut client = node.channel().await;
    client.confirm_select(1).await;
    client.queue_publish(1, "none", "k", "x");
    client.flush().await;
    let nack = client.hear().await.method;
    assert!(
        matches!(
            nack,
            Method::BasicNack {
                delivery_tag: 1,
                ..
            }
        ),
        "{nack:?}"
    );
    // Who would not hear of a nack is told that something is wrong.
    client.open_channel(2).await;
    client.queue_publish(2, "none", "k", "x");
    client.flush().await;
    assert_eq!(client.connection_error().await.0, 541);
}

/// A node that stood still may know less than what clients were told elsewhere.
#[tokio::test]
async fn what_was_bound_elsewhere_is_found_before_an_old_catalog_is_believed() {
    let node = TestNode::start();
    let (mut client, mut elsewhere) = (node.channel().await, node.channel().await);
    client.confirm_select(1).await;
    for queue in ["one", "two"] {
        elsewhere.declare(1, queue, true).await;
    }
    elsewhere.bind(1, "one", "amq.fanout", "").await;
    // Its way is remembered.
    client.queue_publish(1, "amq.fanout", "", "x");
    client.flush().await;
    elsewhere.has_ready(1, "one", 1).await;
    node.old.store(true, Ordering::Relaxed);
    node.cut_off.store(true, Ordering::Relaxed);
    client.queue_publish(1, "amq.fanout", "", "y");
    client.queue_publish(1, "", "one", "z");
    client.flush().await;
    elsewhere.bind(1, "two", "amq.fanout", "").await;
    assert_eq!(elsewhere.ready(1, "one").await, 1, "it waits");
    node.cut_off.store(false, Ordering::Relaxed);
    elsewhere.has_ready(1, "two", 1).await;
    elsewhere.has_ready(1, "one", 3).await;
    // A queue that is found by its name needs nobody's word.
    node.old.store(true, Ordering::Relaxed);
    node.cut_off.store(true, Ordering::Relaxed);
    client.queue_publish(1, "", "one", "z");
    client.flush().await;
    elsewhere.has_ready(1, "one", 4).await;
}

#[tokio::test]
async fn what_an_old_catalog_knows_is_no_reason_to_confirm() {
    let node = cut_off();
    node.old.store(true, Ordering::Relaxed);
    let mut elsewhere = node.channel().await;
    elsewhere.declare(1, "one", true).await;
    elsewhere.bind(1, "one", "amq.fanout", "").await;
    let mut client = node.channel().await;
    client.confirm_select(1).await;
    for delivery_tag in [1, 2] {
        client.queue_publish(1, "amq.fanout", "", "x");
        client.flush().await;
        let (multiple, requeue) = (false, false);
        let nack = Method::BasicNack {
            delivery_tag,
            multiple,
            requeue,
        };
        assert_eq!(client.hear().await.method, nack);
    }
    assert_eq!(elsewhere.ready(1, "one").await, 0, "it went nowhere");
    // Who hears nothing of it is served by what is known, as by RabbitMQ.
    client.open_channel(2).await;
    client.queue_publish(2, "amq.fanout", "", "x");
    client.flush().await;
    elsewhere.has_ready(1, "one", 1).await;
}
