//! Consuming, getting, acknowledging, giving back.

use super::client::{consume, declare_counting, text};
use super::{TestNode, both};
use crate::hub::api::SessionEvent;
use crate::session::Services;
use amqp_codec::{FieldValue, Method, Properties};
use broker_model::ids::Sequence;
use bytes::Bytes;

both!(publish_consume_acknowledge, durable, node, {
    let mut client = node.channel().await;
    client.declare(1, "q", durable).await;
    client.consume(1, "q", "t", false).await;
    for n in 0..50 {
        client.queue_publish(1, "", "q", &n.to_string());
    }
    client.flush().await;
    for (n, heard) in client.deliveries(50).await.iter().enumerate() {
        assert_eq!(
            (heard.text(), heard.delivery_tag(), heard.redelivered()),
            (n.to_string(), n as u64 + 1, false)
        );
    }
    client
        .send(
            1,
            &Method::BasicAck {
                delivery_tag: 0,
                multiple: true,
            },
        )
        .await;
    client.close().await;
    let mut other = node.channel().await;
    assert_eq!(other.ready(1, "q").await, 0);
});

both!(
    what_is_not_acknowledged_comes_back_in_order,
    durable,
    node,
    {
        let mut other = node.channel().await;
        other.declare_with(1, &declare_counting("q", durable)).await;
        for lose in 0..3 {
            let mut client = node.channel().await;
            for n in 0..6 {
                client.queue_publish(1, "", "q", &n.to_string());
            }
            client.flush().await;
            client.consume_all(1, "q", 6).await;
            client.ack(1, 2).await;
            client.ack(1, 5).await;
            client.sync(1).await;
            match lose {
                0 => client.close_channel(1).await,
                1 => client.close().await,
                _ => drop(client),
            }
            let mut found = Vec::new();
            while found.len() < 4 {
                match other.get(1, "q", true).await {
                    Some(heard) => {
                        assert!(heard.redelivered());
                        assert_eq!(
                            heard.headers().get("x-delivery-count"),
                            Some(FieldValue::I64(1))
                        );
                        found.push(heard.text());
                    }
                    // A connection that just vanished is noticed a moment later.
                    None => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
                }
            }
            assert_eq!(found, ["0", "2", "3", "5"]);
        }
    }
);

both!(rejected_and_returned, durable, node, {
    let mut client = node.channel().await;
    client
        .declare_with(1, &declare_counting("q", durable))
        .await;
    for n in 0..4 {
        client.publish(1, "q", &n.to_string()).await;
    }
    let mut tags = Vec::new();
    for _ in 0..4 {
        tags.push(client.get(1, "q", false).await.unwrap().delivery_tag());
    }
    client
        .send(
            1,
            &Method::BasicReject {
                delivery_tag: tags[2],
                requeue: true,
            },
        )
        .await;
    client
        .send(
            1,
            &Method::BasicReject {
                delivery_tag: tags[1],
                requeue: false,
            },
        )
        .await;
    client
        .send(
            1,
            &Method::BasicNack {
                delivery_tag: tags[0],
                multiple: false,
                requeue: true,
            },
        )
        .await;
    let first = client.get(1, "q", true).await.unwrap();
    assert_eq!((first.text(), first.redelivered()), ("0".to_owned(), true));
    assert_eq!(
        first.headers().get("x-delivery-count"),
        None,
        "a nack does not count as failed"
    );
    let second = client.get(1, "q", true).await.unwrap();
    assert_eq!(
        (second.text(), second.redelivered()),
        ("2".to_owned(), true)
    );
    assert_eq!(
        second.headers().get("x-delivery-count"),
        Some(FieldValue::I64(1))
    );
    assert_eq!(client.get(1, "q", true).await, None);
});

both!(recover, durable, node, {
    let mut client = node.channel().await;
    client.declare(1, "q", durable).await;
    client.publish(1, "q", "x").await;
    assert!(!client.get(1, "q", false).await.unwrap().redelivered());
    assert_eq!(
        client
            .call(1, &Method::BasicRecover { requeue: true })
            .await,
        Method::BasicRecoverOk {}
    );
    assert!(client.get(1, "q", true).await.unwrap().redelivered());
});

both!(
    cancel_leaves_deliveries_to_be_acknowledged,
    durable,
    node,
    {
        let mut client = node.channel().await;
        client.declare(1, "q", durable).await;
        client.publish(1, "q", "1").await;
        client.publish(1, "q", "2").await;
        client.consume(1, "q", "t", false).await;
        client.deliveries(2).await;
        let cancel = Method::BasicCancel {
            consumer_tag: text("t"),
            no_wait: false,
        };
        let cancel_ok = Method::BasicCancelOk {
            consumer_tag: text("t"),
        };
        assert_eq!(client.call(1, &cancel).await, cancel_ok);
        assert_eq!(
            client.call(1, &cancel).await,
            cancel_ok,
            "a consumer that is unknown is cancelled"
        );
        client.publish(1, "q", "3").await;
        client.ack(1, 1).await;
        assert_eq!(client.ready(1, "q").await, 1);
        client.close_channel(1).await;
        client.open_channel(1).await;
        let first = client.get(1, "q", true).await.unwrap();
        assert_eq!((first.text(), first.redelivered()), ("2".to_owned(), true));
    }
);

both!(
    what_was_made_room_for_comes_before_the_end_of_a_consumer,
    durable,
    node,
    {
        let mut client = node.channel().await;
        client.declare(1, "q", durable).await;
        for body in ["1", "2", "3"] {
            client.publish(1, "q", body).await;
        }
        client.sync(1).await;
        client.qos(1, 1, false).await;
        client.consume(1, "q", "t", false).await;
        let first = client.delivery().await;
        assert_eq!(first.text(), "1");
        client.queue(
            1,
            &Method::BasicAck {
                delivery_tag: first.delivery_tag(),
                multiple: false,
            },
        );
        client.queue(
            1,
            &Method::BasicCancel {
                consumer_tag: text("t"),
                no_wait: false,
            },
        );
        client.flush().await;
        assert_eq!(client.delivery().await.text(), "2");
        let end = client.hear().await.method;
        assert!(matches!(end, Method::BasicCancelOk { .. }), "{end:?}");
        assert_eq!(client.ready(1, "q").await, 1);
    }
);

both!(a_deleted_queue_cancels_its_consumers, durable, node, {
    let mut client = node.channel().await;
    client.declare(1, "q", durable).await;
    client.publish(1, "q", "held").await;
    client.consume(1, "q", "t", false).await;
    let held = client.delivery().await;
    let mut other = node.channel().await;
    let delete = Method::QueueDelete {
        queue: text("q"),
        if_unused: false,
        if_empty: false,
        no_wait: false,
    };
    assert_eq!(
        other.call(1, &delete).await,
        Method::QueueDeleteOk { message_count: 0 }
    );
    let cancel = Method::BasicCancel {
        consumer_tag: text("t"),
        no_wait: true,
    };
    assert_eq!(client.hear().await.method, cancel);
    client.ack(1, held.delivery_tag()).await;
    client.sync(1).await;
    assert_eq!(
        client.call(1, &delete).await,
        Method::QueueDeleteOk { message_count: 0 }
    );
});

both!(exclusive_consumers, durable, node, {
    let mut client = node.channel().await;
    client.declare(1, "q", durable).await;
    let Method::BasicConsume {
        queue,
        consumer_tag,
        arguments,
        ..
    } = consume("q", "t", false)
    else {
        unreachable!()
    };
    let exclusive = Method::BasicConsume {
        queue,
        consumer_tag,
        no_local: false,
        no_ack: false,
        exclusive: true,
        no_wait: false,
        arguments,
    };
    client.call(1, &exclusive).await;
    let mut other = node.channel().await;
    other.send(1, &consume("q", "u", false)).await;
    let text = "ACCESS_REFUSED - queue 'q' in vhost '/' in exclusive use";
    assert_eq!(
        other.channel_error(1).await,
        (403, text.to_owned(), (60, 20))
    );
    client.close_channel(1).await;
    other.open_channel(1).await;
    other.consume(1, "q", "u", false).await;
});

both!(
    replies_of_pipelined_methods_keep_their_order,
    durable,
    node,
    {
        let mut client = node.channel().await;
        client.queue(1, &super::client::declare("q", durable));
        client.queue_publish(1, "", "q", "1");
        client.queue_publish(1, "", "q", "2");
        client.queue(
            1,
            &Method::BasicGet {
                queue: text("q"),
                no_ack: true,
            },
        );
        client.queue(
            1,
            &Method::QueuePurge {
                queue: text("q"),
                no_wait: false,
            },
        );
        client.queue(
            1,
            &Method::BasicGet {
                queue: text("q"),
                no_ack: true,
            },
        );
        client.queue(1, &Method::ChannelFlow { active: true });
        client.flush().await;
        assert!(matches!(
            client.hear().await.method,
            Method::QueueDeclareOk {
                message_count: 0,
                ..
            }
        ));
        assert_eq!(client.hear().await.text(), "1");
        assert_eq!(
            client.hear().await.method,
            Method::QueuePurgeOk { message_count: 1 }
        );
        assert_eq!(client.hear().await.method, Method::BasicGetEmpty {});
        assert_eq!(
            client.hear().await.method,
            Method::ChannelFlowOk { active: true }
        );
    }
);

both!(
    messages_published_just_before_the_close_are_kept,
    durable,
    node,
    {
        let mut client = node.channel().await;
        client.declare(1, "q", durable).await;
        // The exchange must be looked up, which takes a moment; then the connection is closed at once.
        for n in 0..20 {
            client.queue_publish(1, "", "unknown yet", "x");
            client.queue_publish(1, "", "q", &n.to_string());
        }
        client.close().await;
        let mut other = node.channel().await;
        assert_eq!(other.ready(1, "q").await, 20);
    }
);

impl super::Client {
    async fn consume_all(&mut self, channel: u16, queue: &str, count: usize) {
        self.consume(channel, queue, "all", false).await;
        self.deliveries(count).await;
    }
}

both!(
    a_time_to_live_of_zero_reaches_a_waiting_consumer,
    durable,
    node,
    {
        let mut client = node.channel().await;
        client.declare(1, "q", durable).await;
        client.consume(1, "q", "t", false).await;
        let properties = Properties {
            expiration: Some(Bytes::from_static(b"0")),
            ..Properties::default()
        };
        client.queue_content(1, "", "q", &properties, b"direct", false);
        client.flush().await;
        assert_eq!(client.delivery().await.text(), "direct");
    }
);

both!(
    a_client_that_deletes_its_queue_hears_that_before_the_cancel,
    durable,
    node,
    {
        let mut client = node.channel().await;
        client.declare(1, "q", durable).await;
        client.consume(1, "q", "t", false).await;
        let delete = Method::QueueDelete {
            queue: text("q"),
            if_unused: false,
            if_empty: false,
            no_wait: false,
        };
        client.queue(1, &delete);
        client.flush().await;
        let first = client.hear().await.method;
        assert!(matches!(first, Method::QueueDeleteOk { .. }), "{first:?}");
        let then = client.hear().await.method;
        assert!(matches!(then, Method::BasicCancel { .. }), "{then:?}");
    }
);

both!(
    what_was_on_its_way_to_a_client_that_goes_comes_back,
    durable,
    node,
    {
        let mut other = node.channel().await;
        other.declare(1, "q", durable).await;
        for _ in 0..20 {
            let mut client = node.channel().await;
            for n in 0..50 {
                client.queue_publish(1, "", "q", &n.to_string());
            }
            client.flush().await;
            client.sync(1).await;
            client.consume(1, "q", "t", false).await;
            // It has read nothing of what is sent to it.
            drop(client);
            let mut found = 0;
            while found < 50 {
                found += usize::from(other.get(1, "q", true).await.is_some());
            }
        }
    }
);

/// The node was taken for lost meanwhile, and the messages are another client's: one that goes back would be taken from it.
#[tokio::test]
async fn what_others_were_given_is_not_given_back() {
    for how in 0..3 {
        let node = TestNode::start();
        let mut client = node.channel().await;
        client.declare(1, "q", true).await;
        for n in 0..3 {
            client.publish(1, "q", &n.to_string()).await;
        }
        let mut tags = Vec::new();
        for _ in 0..3 {
            tags.push(client.get(1, "q", false).await.unwrap().delivery_tag());
        }
        let queue = node.catalog().queue("/", "q").unwrap().id;
        let lost = [1, 3].map(|number| (queue, Sequence(number)));
        node.hub().tell_sessions(|| SessionEvent::Lost {
            messages: lost.into(),
        });
        client.sync(1).await;
        match how {
            0 => {
                let back = Method::BasicNack {
                    delivery_tag: 0,
                    multiple: true,
                    requeue: true,
                };
                client.send(1, &back).await;
                client.sync(1).await;
            }
            1 => client.close_channel(1).await,
            // What is done is done all the same.
            _ => {
                client.ack(1, tags[0]).await;
                client.close().await;
            }
        }
        let mut other = node.channel().await;
        assert_eq!(other.get(1, "q", true).await.unwrap().text(), "1");
        assert!(other.get(1, "q", true).await.is_none());
    }
}
