//! Prefetch, the shared window, and clients that do not read.

use super::{TestNode, both};
use amqp_codec::Method;
use std::time::Duration;

both!(prefetch_of_a_consumer, durable, node, {
    let mut client = node.channel().await;
    client.declare(1, "q", durable).await;
    for n in 0..20 {
        client.queue_publish(1, "", "q", &n.to_string());
    }
    client.qos(1, 3, false).await;
    client.consume(1, "q", "t", false).await;
    client.deliveries(3).await;
    assert_eq!(client.hear_soon().await, None);
    client.ack(1, 2).await;
    assert_eq!(client.delivery().await.text(), "3");
    assert_eq!(client.hear_soon().await, None);
    client
        .send(
            1,
            &Method::BasicNack {
                delivery_tag: 0,
                multiple: true,
                requeue: false,
            },
        )
        .await;
    client.deliveries(3).await;
    assert_eq!(client.hear_soon().await, None);
});

both!(no_ack_ignores_prefetch, durable, node, {
    let mut client = node.channel().await;
    client.declare(1, "q", durable).await;
    for n in 0..100 {
        client.queue_publish(1, "", "q", &n.to_string());
    }
    client.qos(1, 1, true).await;
    client.qos(1, 1, false).await;
    client.consume(1, "q", "t", true).await;
    client.deliveries(100).await;
});

// A prefetch of consumers to come lifts the limit of the channel; set the other way round, both hold.
both!(the_limit_that_is_set_last_counts, durable, node, {
    let mut client = node.channel().await;
    client.declare(1, "q", durable).await;
    for n in 0..20 {
        client.queue_publish(1, "", "q", &n.to_string());
    }
    client.qos(1, 1, true).await;
    client.consume(1, "q", "old", false).await;
    client.deliveries(1).await;
    assert_eq!(client.hear_soon().await, None);
    client.qos(1, 3, false).await;
    client.deliveries(19).await;
    let nack = Method::BasicNack {
        delivery_tag: 0,
        multiple: true,
        requeue: true,
    };
    client
        .send(
            1,
            &Method::BasicCancel {
                consumer_tag: super::client::text("old"),
                no_wait: true,
            },
        )
        .await;
    client.send(1, &nack).await;
    client.consume(1, "q", "new", false).await;
    client.deliveries(3).await;
    assert_eq!(client.hear_soon().await, None);
    client.qos(1, 2, true).await;
    client
        .send(
            1,
            &Method::BasicAck {
                delivery_tag: 0,
                multiple: true,
            },
        )
        .await;
    client.deliveries(2).await;
    assert_eq!(client.hear_soon().await, None);
});

both!(a_window_is_shared_between_queues, durable, node, {
    let mut client = node.channel().await;
    client.declare(1, "idle", durable).await;
    client.declare(1, "busy", durable).await;
    client.qos(1, 10, true).await;
    client.consume(1, "idle", "i", false).await;
    client.consume(1, "busy", "b", false).await;
    for n in 0..30 {
        client.queue_publish(1, "", "busy", &n.to_string());
    }
    client.flush().await;
    // The busy queue gets what the idle one does not use.
    let first = client.deliveries(10).await;
    assert_eq!(client.hear_soon().await, None);
    client.publish(1, "idle", "late").await;
    assert_eq!(client.hear_soon().await, None, "the window is full");
    client.ack(1, first[0].delivery_tag()).await;
    client.ack(1, first[1].delivery_tag()).await;
    let next = client.deliveries(2).await;
    assert!(next.iter().any(|heard| heard.text() == "late"), "{next:?}");
    client
        .send(
            1,
            &Method::BasicAck {
                delivery_tag: 0,
                multiple: true,
            },
        )
        .await;
    client.deliveries(10).await;
});

both!(a_window_of_one_alternates, durable, node, {
    let mut client = node.channel().await;
    for queue in ["a", "b"] {
        client.declare(1, queue, durable).await;
        for _ in 0..10 {
            client.queue_publish(1, "", queue, queue);
        }
    }
    client.qos(1, 1, true).await;
    client.queue(1, &super::client::consume("a", "a", false));
    client.queue(1, &super::client::consume("b", "b", false));
    client.flush().await;
    let mut found = Vec::new();
    let mut answers = 0;
    while found.len() < 20 || answers < 2 {
        let heard = client.hear().await;
        match heard.method {
            Method::BasicConsumeOk { .. } => answers += 1,
            _ => {
                found.push(heard.text());
                client.ack(1, heard.delivery_tag()).await;
            }
        }
    }
    let early = found[..10].iter().filter(|text| *text == "b").count();
    assert!((3..=7).contains(&early), "{found:?}");
});

both!(a_window_may_change, durable, node, {
    let mut client = node.channel().await;
    client.declare(1, "q", durable).await;
    client.consume(1, "q", "t", false).await;
    client.qos(1, 2, true).await;
    client.sync(1).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    for n in 0..20 {
        client.queue_publish(1, "", "q", &n.to_string());
    }
    client.flush().await;
    client.deliveries(2).await;
    assert_eq!(client.hear_soon().await, None);
    client.qos(1, 5, true).await;
    client.deliveries(3).await;
    assert_eq!(client.hear_soon().await, None);
    client.qos(1, 0, true).await;
    client.deliveries(15).await;
});

both!(gets_take_no_room_in_the_window, durable, node, {
    let mut client = node.channel().await;
    client.declare(1, "q", durable).await;
    for n in 0..5 {
        client.queue_publish(1, "", "q", &n.to_string());
    }
    client.qos(1, 2, true).await;
    let before = client.get(1, "q", false).await.unwrap();
    client.consume(1, "q", "t", false).await;
    client.deliveries(2).await;
    assert_eq!(client.hear_soon().await, None);
    let got = client.get(1, "q", false).await.unwrap();
    for tag in [before.delivery_tag(), got.delivery_tag()] {
        client.ack(1, tag).await;
        assert_eq!(client.hear_soon().await, None, "nothing was freed");
    }
    client.ack(1, 2).await;
    client.deliveries(1).await;
});

both!(a_full_window_holds_all_consumers, durable, node, {
    let mut client = node.channel().await;
    client.declare(1, "q", durable).await;
    client.declare(1, "automatic", durable).await;
    client.qos(1, 1, true).await;
    client.consume(1, "q", "t", false).await;
    client.queue_publish(1, "", "q", "1");
    client.flush().await;
    client.deliveries(1).await;
    client.consume(1, "automatic", "a", true).await;
    client.queue_publish(1, "", "automatic", "2");
    client.flush().await;
    assert_eq!(client.hear_soon().await, None, "although it takes no room");
    client.ack(1, 1).await;
    client.deliveries(1).await;
});

#[tokio::test]
async fn a_client_that_does_not_read_is_sent_a_bounded_amount() {
    let node = TestNode::start_with(|config| config.limits.connection_output_bytes = 1 << 20);
    let mut client = node.channel().await;
    client.declare(1, "q", false).await;
    let body = "x".repeat(10_000);
    for _ in 0..2_000 {
        client.publish(1, "q", &body).await;
    }
    client.sync(1).await;
    let mut other = node.channel().await;
    assert_eq!(other.ready(1, "q").await, 2_000);
    client
        .send(1, &super::client::consume("q", "t", true))
        .await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let left = other.ready(1, "q").await;
    assert!(left > 1_000, "{left} messages are left");
    assert!(matches!(
        client.hear().await.method,
        Method::BasicConsumeOk { .. }
    ));
    client.deliveries(2_000).await;
    assert_eq!(other.ready(1, "q").await, 0);
}

both!(
    a_returned_message_comes_before_younger_ones,
    durable,
    node,
    {
        let mut client = node.channel().await;
        client.declare(1, "q", durable).await;
        client.publish(1, "q", "boomerang").await;
        client.publish(1, "q", "behind").await;
        client.qos(1, 1, false).await;
        client.consume(1, "q", "t", false).await;
        for attempt in 0..20 {
            let heard = client.delivery().await;
            assert_eq!(
                (heard.text(), heard.redelivered()),
                ("boomerang".to_owned(), attempt > 0)
            );
            let tag = heard.delivery_tag();
            client
                .send(
                    1,
                    &Method::BasicReject {
                        delivery_tag: tag,
                        requeue: true,
                    },
                )
                .await;
        }
        let heard = client.delivery().await;
        client.ack(1, heard.delivery_tag()).await;
        assert_eq!(client.delivery().await.text(), "behind");
    }
);
