//! Streams: read from anywhere, by anybody, as often as wanted.

use super::client::{Client, Heard, declare_as, text};
use super::node::TestNode;
use amqp_codec::{FieldTable, FieldValue, Method, TableBuilder};
use std::sync::Arc;
use std::sync::atomic::Ordering;

fn table(entries: &[(&str, FieldValue)]) -> FieldTable {
    let mut table = TableBuilder::new();
    for (key, value) in entries {
        table.push(key, value);
    }
    table.finish()
}

fn declaration(more: &[(&str, FieldValue)]) -> Method {
    let mut entries = vec![("x-queue-type", FieldValue::text("stream"))];
    entries.extend_from_slice(more);
    declare_as("s", true, table(&entries))
}

fn consume(tag: &str, offset: Option<FieldValue>) -> Method {
    let entries: Vec<_> = offset
        .into_iter()
        .map(|offset| ("x-stream-offset", offset))
        .collect();
    Method::BasicConsume {
        queue: text("s"),
        consumer_tag: text(tag),
        no_local: false,
        no_ack: false,
        exclusive: false,
        no_wait: false,
        arguments: table(&entries),
    }
}

/// A channel whose prefetch is `prefetch`, on a node with a stream of so many messages: 0, 1, 2 …
async fn stream(node: &Arc<TestNode>, messages: u32, prefetch: u16) -> Client {
    let mut client = node.channel().await;
    client.declare_with(1, &declaration(&[])).await;
    for n in 0..messages {
        client.publish(1, "s", &n.to_string()).await;
    }
    while client.ready(1, "s").await < messages {}
    client.qos(1, prefetch, false).await;
    client
}

fn offset_of(heard: &Heard) -> i64 {
    match heard.headers().get("x-stream-offset") {
        Some(FieldValue::I64(offset)) => offset,
        other => panic!("{other:?}"),
    }
}

async fn texts(client: &mut Client, count: usize) -> Vec<String> {
    let heard = client.deliveries(count).await;
    for heard in &heard {
        assert_eq!(offset_of(heard).to_string(), heard.text());
        assert!(!heard.redelivered());
    }
    heard.iter().map(Heard::text).collect()
}

async fn ack_all(client: &mut Client) {
    let all = Method::BasicAck {
        delivery_tag: 0,
        multiple: true,
    };
    client.send(1, &all).await;
}

#[tokio::test]
async fn everybody_reads_everything() {
    let node = TestNode::start();
    let mut first = stream(&node, 20, 100).await;
    let mut second = node.channel().await;
    second.qos(1, 100, false).await;
    for client in [&mut first, &mut second] {
        let wanted = consume("t", Some(FieldValue::text("first")));
        client.call(1, &wanted).await;
        let read = texts(client, 20).await;
        assert_eq!(read, (0..20).map(|n| n.to_string()).collect::<Vec<_>>());
        ack_all(client).await;
    }
    first.publish(1, "s", "20").await;
    assert_eq!(texts(&mut first, 1).await, ["20"]);
    assert_eq!(texts(&mut second, 1).await, ["20"]);
    let mut other = node.channel().await;
    assert_eq!(other.ready(1, "s").await, 21);
}

#[tokio::test]
async fn offsets() {
    let node = TestNode::start();
    for (offset, expected) in [
        (Some(FieldValue::text("first")), 0),
        (Some(FieldValue::text("last")), 9),
        (Some(FieldValue::text("next")), 10),
        (None, 10),
        (Some(FieldValue::I32(4)), 4),
        (Some(FieldValue::I64(10)), 10),
    ] {
        let mut client = stream(&node, 0, 100).await;
        while client.ready(1, "s").await < 10 {
            client.publish(1, "s", "x").await;
            client.sync(1).await;
        }
        client.call(1, &consume("t", offset.clone())).await;
        client.publish(1, "s", "the new one").await;
        let heard = client.deliveries(11 - expected).await;
        assert_eq!(offset_of(&heard[0]), expected as i64, "{offset:?}");
        assert_eq!(heard.last().unwrap().text(), "the new one");
        let delete = Method::QueueDelete {
            queue: text("s"),
            if_unused: false,
            if_empty: false,
            no_wait: true,
        };
        client.send(1, &delete).await;
        client
            .expect(|m| matches!(m, Method::BasicCancel { .. }))
            .await;
    }
}

#[tokio::test]
async fn a_place_beyond_the_end_is_waited_for() {
    let node = TestNode::start();
    let mut client = stream(&node, 2, 100).await;
    client
        .call(1, &consume("t", Some(FieldValue::I32(4))))
        .await;
    for n in 2..6 {
        client.publish(1, "s", &n.to_string()).await;
    }
    assert_eq!(texts(&mut client, 2).await, ["4", "5"]);
}

/// Every way to be done with a message makes room for the next one, and none comes back.
#[tokio::test]
async fn prefetch() {
    let node = TestNode::start();
    let mut client = stream(&node, 8, 2).await;
    client
        .call(1, &consume("t", Some(FieldValue::I32(0))))
        .await;
    assert_eq!(texts(&mut client, 2).await, ["0", "1"]);
    assert_eq!(client.hear_soon().await, None);
    client.ack(1, 1).await;
    assert_eq!(texts(&mut client, 1).await, ["2"]);
    let nack = Method::BasicNack {
        delivery_tag: 2,
        multiple: false,
        requeue: true,
    };
    client.send(1, &nack).await;
    assert_eq!(texts(&mut client, 1).await, ["3"]);
    let reject = Method::BasicReject {
        delivery_tag: 3,
        requeue: false,
    };
    client.send(1, &reject).await;
    assert_eq!(texts(&mut client, 1).await, ["4"]);
    let recover = Method::BasicRecover { requeue: true };
    client.call(1, &recover).await;
    assert_eq!(texts(&mut client, 2).await, ["5", "6"]);
    client.close().await;
    let mut other = node.channel().await;
    assert_eq!(other.ready(1, "s").await, 8);
}

#[tokio::test]
async fn filters() {
    let node = TestNode::start();
    let mut client = stream(&node, 0, 100).await;
    for n in 0..9 {
        let value = FieldValue::text(["a", "b", "c"][n % 3]);
        let properties = amqp_codec::Properties {
            headers: Some(table(&[("x-stream-filter-value", value)])),
            ..amqp_codec::Properties::default()
        };
        client.queue_content(1, "", "s", &properties, n.to_string().as_bytes(), false);
    }
    client.flush().await;
    let Method::BasicConsume { queue, .. } = consume("t", None) else {
        unreachable!()
    };
    let wanted = Method::BasicConsume {
        queue,
        consumer_tag: text("t"),
        no_local: false,
        no_ack: false,
        exclusive: false,
        no_wait: false,
        arguments: table(&[
            ("x-stream-offset", FieldValue::text("first")),
            ("x-stream-filter", FieldValue::text("b")),
        ]),
    };
    client.call(1, &wanted).await;
    assert_eq!(texts(&mut client, 3).await, ["1", "4", "7"]);
    assert_eq!(client.hear_soon().await, None);
}

#[tokio::test]
async fn a_leader_that_is_lost_is_a_pause() {
    let node = TestNode::start();
    let mut client = stream(&node, 6, 3).await;
    client
        .call(1, &consume("t", Some(FieldValue::text("first"))))
        .await;
    let mut waiting = node.channel().await;
    waiting.qos(1, 10, false).await;
    waiting.call(1, &consume("w", None)).await;
    let read = client.deliveries(3).await;
    node.break_links(true);
    client.ack(1, read[2].delivery_tag()).await;
    client.ack(1, read[0].delivery_tag()).await;
    client.publish(1, "s", "6").await;
    node.restore_links();
    assert_eq!(texts(&mut client, 2).await, ["3", "4"]);
    assert_eq!(texts(&mut waiting, 1).await, ["6"]);
    // Nothing of it is held, nothing has come back.
    let mut other = node.channel().await;
    assert_eq!(other.ready(1, "s").await, 7);
}

#[tokio::test]
async fn what_streams_refuse() {
    let node = TestNode::start();
    let mut client = stream(&node, 1, 0).await;
    client.send(1, &consume("t", None)).await;
    let (code, why, _) = client.channel_error(1).await;
    assert_eq!(
        (code, &*why),
        (
            406,
            "PRECONDITION_FAILED - consumer prefetch count is not set for stream queue 's' in vhost '/'"
        )
    );
    let get = Method::BasicGet {
        queue: text("s"),
        no_ack: true,
    };
    let purge = Method::QueuePurge {
        queue: text("s"),
        no_wait: false,
    };
    let mut automatic = consume("t", None);
    if let Method::BasicConsume { no_ack, .. } = &mut automatic {
        *no_ack = true;
    }
    for (method, global, expected) in [
        (
            get,
            false,
            "basic.get not supported by stream queues queue 's' in vhost '/'",
        ),
        (
            purge,
            false,
            "queue.purge not supported by stream queues queue 's' in vhost '/'",
        ),
        (
            automatic,
            false,
            "automatic acknowledgement not supported by stream queue 's' in vhost '/'",
        ),
        (
            consume("t", None),
            true,
            "queue 's' in vhost '/' does not support global qos",
        ),
    ] {
        let mut client = node.channel().await;
        client.qos(1, 10, false).await;
        if global {
            client.qos(1, 10, true).await;
        }
        client.send(1, &method).await;
        let (code, why, _) = client.connection_error().await;
        assert_eq!((code, why), (540, format!("NOT_IMPLEMENTED - {expected}")));
    }
}

#[tokio::test]
async fn who_waits_hears_that_the_stream_is_gone() {
    let node = TestNode::start();
    let mut client = stream(&node, 0, 10).await;
    client.call(1, &consume("t", None)).await;
    let mut other = node.channel().await;
    let delete = Method::QueueDelete {
        queue: text("s"),
        if_unused: false,
        if_empty: false,
        no_wait: false,
    };
    other.call(1, &delete).await;
    client
        .expect(|m| matches!(m, Method::BasicCancel { .. }))
        .await;
}

#[tokio::test]
async fn what_is_too_much_goes() {
    let node = TestNode::start();
    let mut client = node.channel().await;
    let limit = ("x-max-length-bytes", FieldValue::I32(10));
    client.declare_with(1, &declaration(&[limit])).await;
    client.qos(1, 100, false).await;
    for n in 0..10 {
        client.publish(1, "s", &format!("{n}{n}{n}{n}")).await;
    }
    while client.ready(1, "s").await != 2 {}
    // The newest stays, however large.
    client.publish(1, "s", &"x".repeat(100)).await;
    while client.ready(1, "s").await != 1 {}
    client
        .call(1, &consume("t", Some(FieldValue::I32(0))))
        .await;
    let heard = client.delivery().await;
    assert_eq!((heard.text().len(), offset_of(&heard)), (100, 10));
}

/// With a filter more is looked through than there is room for; nothing is left out.
#[tokio::test]
async fn a_filter_and_a_small_prefetch() {
    let node = TestNode::start();
    let mut client = stream(&node, 0, 2).await;
    for n in 0..40 {
        let value = FieldValue::text(if n % 4 == 3 { "wanted" } else { "other" });
        let properties = amqp_codec::Properties {
            headers: Some(table(&[("x-stream-filter-value", value)])),
            ..amqp_codec::Properties::default()
        };
        client.queue_content(1, "", "s", &properties, n.to_string().as_bytes(), false);
    }
    client.flush().await;
    let mut wanted = consume("t", None);
    if let Method::BasicConsume { arguments, .. } = &mut wanted {
        *arguments = table(&[
            ("x-stream-offset", FieldValue::text("first")),
            ("x-stream-filter", FieldValue::text("wanted")),
        ]);
    }
    client.call(1, &wanted).await;
    for first in (3..40).step_by(8) {
        let expected = [first.to_string(), (first + 4).to_string()];
        assert_eq!(texts(&mut client, 2).await, expected);
        assert_eq!(client.hear_soon().await, None);
        ack_all(&mut client).await;
    }
}

#[tokio::test]
async fn nobody_has_a_stream_to_himself() {
    let node = TestNode::start();
    let mut client = stream(&node, 1, 10).await;
    for tag in ["a", "b"] {
        let mut wanted = consume(tag, Some(FieldValue::text("first")));
        if let Method::BasicConsume { exclusive, .. } = &mut wanted {
            *exclusive = true;
        }
        client.call(1, &wanted).await;
        assert_eq!(texts(&mut client, 1).await, ["0"]);
    }
}

#[tokio::test]
async fn large_messages_come_to_very_many_a_few_at_a_time() {
    const CONSUMERS: usize = 60;
    const SIZE: usize = 1 << 20;
    let node = TestNode::start();
    let mut client = stream(&node, 0, 10).await;
    for number in 0..CONSUMERS {
        let first = Some(FieldValue::text("first"));
        client.call(1, &consume(&number.to_string(), first)).await;
    }
    let mut publisher = node.channel().await;
    publisher.confirm_select(1).await;
    for text in ["x".repeat(SIZE).as_str(), "small"] {
        publisher.publish(1, "s", text).await;
        publisher.hear().await;
    }
    // Everybody else does what there is to do, but the client does not read.
    for _ in 0..10_000 {
        tokio::task::yield_now().await;
    }
    let before = node.read_bytes.load(Ordering::Relaxed);
    assert!(before < 30 * SIZE as u64, "{before}");
    let heard = client.deliveries(2 * CONSUMERS).await;
    let large = heard.iter().filter(|heard| heard.text().len() == SIZE);
    assert_eq!(large.count(), CONSUMERS);
}

/// Who has read a large message fetches the next one at once: what is kept for it is not kept until one comes.
#[tokio::test]
async fn at_the_end_of_a_stream_no_room_is_kept_for_large_messages() {
    const SIZE: usize = 6 << 20;
    let node = TestNode::start();
    let mut client = stream(&node, 0, 10).await;
    let mut publisher = node.channel().await;
    publisher.confirm_select(1).await;
    for round in 0..2 {
        publisher.publish(1, "s", &"x".repeat(SIZE)).await;
        publisher.hear().await;
        if round == 0 {
            for tag in ["a", "b", "c"] {
                let first = Some(FieldValue::text("first"));
                client.call(1, &consume(tag, first)).await;
                assert_eq!(client.delivery().await.text().len(), SIZE, "{tag}");
            }
        }
    }
    let heard = client.deliveries(3).await;
    assert!(heard.iter().all(|heard| heard.text().len() == SIZE));
    publisher.publish(1, "s", "small").await;
    assert_eq!(client.deliveries(3).await[2].text(), "small");
}
