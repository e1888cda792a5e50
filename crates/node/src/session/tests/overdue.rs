//! Deliveries that are not acknowledged in time.

use super::client::{Client, consume, declare_as, text};
use super::{TestNode, both};
use amqp_codec::{FieldTable, FieldValue, Method, TableBuilder};
use broker_model::catalog::{CatalogCommand, PolicySpec, PolicyValue};
use std::time::Duration;

fn arguments(entries: &[(&str, i64)]) -> FieldTable {
    let mut arguments = TableBuilder::new();
    for (key, value) in entries {
        arguments.push(key, &FieldValue::I64(*value));
    }
    arguments.finish()
}

fn cancel_of(tag: &str) -> Method {
    Method::BasicCancel {
        consumer_tag: text(tag),
        no_wait: true,
    }
}

/// A queue with one message.
async fn queue(client: &mut Client, name: &str, durable: bool, named: &[(&str, i64)]) {
    let declare = declare_as(name, durable, arguments(named));
    client.declare_with(1, &declare).await;
    client.publish(1, name, name).await;
    client.sync(1).await;
}

both!(a_late_consumer_is_cancelled, durable, node, {
    let mut client = node.channel().await;
    let named = [("x-consumer-timeout", 1), ("x-delivery-limit", 5)];
    queue(&mut client, "q", durable, &named).await;
    client.consume(1, "q", "t", false).await;
    let late = client.delivery().await.delivery_tag();
    assert_eq!(client.hear().await.method, cancel_of("t"));
    let again = client.get(1, "q", true).await.expect("it is back");
    assert!(again.redelivered());
    let count = again.headers().get("x-delivery-count");
    assert_eq!(count, Some(FieldValue::I64(1)));
    // Late is not wrong.
    client.ack(1, late).await;
    client.sync(1).await;
    // The tag of the consumer is free.
    client.consume(1, "q", "t", false).await;
    client.ack(1, late).await;
    assert_eq!(client.channel_error(1).await.0, 406);
});

#[tokio::test]
async fn without_the_capability_the_channel_is_closed() {
    let node = TestNode::start();
    let mut client = node.connect_raw();
    client.cancel_notify = false;
    client.handshake().await;
    client.open_channel(1).await;
    queue(&mut client, "q", true, &[("x-consumer-timeout", 1)]).await;
    client.consume(1, "q", "t", false).await;
    client.delivery().await;
    let expected = "PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out. Timeout value \
                    used: 1 ms. This timeout value can be configured, see consumers doc guide to learn more";
    let (code, told, _) = client.channel_error(1).await;
    assert_eq!((code, told.as_str()), (406, expected));
    client.open_channel(1).await;
    assert!(client.get(1, "q", true).await.is_some());
}

both!(who_holds_what_it_got_loses_its_channel, durable, node, {
    let mut client = node.channel().await;
    queue(&mut client, "hasty", durable, &[("x-consumer-timeout", 1)]).await;
    let patient = [("x-consumer-timeout", 3_600_000)];
    queue(&mut client, "patient", durable, &patient).await;
    for (channel, name) in [(2, "hasty"), (3, "patient")] {
        client.open_channel(channel).await;
        client.get(channel, name, false).await.expect("a message");
    }
    let expected = "PRECONDITION_FAILED - delivery acknowledgement on channel 2 timed out. Timeout value \
                    used: 1 ms. This timeout value can be configured, see consumers doc guide to learn more";
    let (code, told, _) = client.channel_error(2).await;
    assert_eq!((code, told.as_str()), (406, expected));
    let again = client.get(1, "hasty", true).await.expect("it is back");
    assert!(again.redelivered());
    assert_eq!(client.ready(1, "patient").await, 0);
});

#[tokio::test]
async fn each_consumer_has_a_time_of_its_own() {
    let node = TestNode::start();
    let mut client = node.channel().await;
    queue(
        &mut client,
        "patient",
        true,
        &[("x-consumer-timeout", 3_600_000)],
    )
    .await;
    queue(&mut client, "hasty", true, &[("x-consumer-timeout", 1)]).await;
    queue(&mut client, "named", true, &[]).await;
    queue(&mut client, "cancelled", true, &[("x-consumer-timeout", 1)]).await;
    for name in ["patient", "hasty", "cancelled"] {
        client.consume(1, name, name, false).await;
        client.delivery().await;
    }
    let mut named = consume("named", "named", false);
    if let Method::BasicConsume { arguments: of, .. } = &mut named {
        *of = arguments(&[("x-consumer-timeout", 1)]);
    }
    client.call(1, &named).await;
    let held = client.delivery().await.delivery_tag();
    let cancel = Method::BasicCancel {
        consumer_tag: text("cancelled"),
        no_wait: false,
    };
    client.call(1, &cancel).await;
    let mut gone = [client.hear().await.method, client.hear().await.method];
    if gone[0] == cancel_of("named") {
        gone.swap(0, 1);
    }
    assert_eq!(gone, [cancel_of("hasty"), cancel_of("named")]);
    // Who was cancelled is told nothing; what it held is back.
    assert_eq!(client.hear_soon().await, None);
    assert!(client.get(1, "cancelled", true).await.is_some());
    client.ack(1, held).await;
    client.sync(1).await;
    // A policy reaches consumers that are there.
    let policy = PolicySpec {
        vhost: "/".into(),
        name: "p".into(),
        operator: false,
        pattern: "patient".into(),
        apply_to: "all".into(),
        priority: 0,
        definition: vec![("consumer-timeout".into(), PolicyValue::Integer(1))],
    };
    node.apply(CatalogCommand::PutPolicy(policy))
        .expect("applied");
    assert_eq!(client.hear().await.method, cancel_of("patient"));
}

#[tokio::test]
async fn who_acknowledges_in_time_stays() {
    let node = TestNode::start();
    let mut client = node.channel().await;
    queue(&mut client, "q", true, &[("x-consumer-timeout", 1)]).await;
    client.consume(1, "q", "t", false).await;
    let tag = client.delivery().await.delivery_tag();
    client.ack(1, tag).await;
    // Longer than it would take, timeouts being looked at in whole seconds, for a cancellation that must not come.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    client.publish(1, "q", "more").await;
    assert_eq!(client.delivery().await.text(), "more");
}
