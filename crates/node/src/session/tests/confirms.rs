//! Publisher confirms and returns.

use super::both;
use super::client::text;
use amqp_codec::{FieldTable, Method, Properties};

both!(every_publish_is_confirmed_once, durable, node, {
    let mut client = node.channel().await;
    client.declare(1, "q", durable).await;
    client.confirm_select(1).await;
    for n in 0..500 {
        client.queue_publish(1, "", "q", &n.to_string());
    }
    client.flush().await;
    let mut confirmed = 0;
    while confirmed < 500 {
        match client.hear().await.method {
            Method::BasicAck {
                delivery_tag,
                multiple,
            } => {
                assert!(delivery_tag > confirmed);
                assert!(multiple || delivery_tag == confirmed + 1);
                confirmed = delivery_tag;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(client.ready(1, "q").await, 500);
    assert_eq!(client.hear_soon().await, None);
});

both!(a_return_comes_before_its_confirm, durable, node, {
    let _ = durable;
    let mut client = node.channel().await;
    client.confirm_select(1).await;
    for tag in 1..=2 {
        client.queue_content(1, "", "nowhere", &Properties::default(), b"back", true);
        client.flush().await;
        let returned = client.hear().await;
        assert_eq!(
            returned.method,
            Method::BasicReturn {
                reply_code: 312,
                reply_text: text("NO_ROUTE"),
                exchange: text(""),
                routing_key: text("nowhere"),
            }
        );
        assert_eq!(returned.text(), "back");
        assert_eq!(
            client.hear().await.method,
            Method::BasicAck {
                delivery_tag: tag,
                multiple: false
            }
        );
    }
    // Not mandatory: just confirmed.
    client.publish(1, "nowhere", "dropped").await;
    assert_eq!(
        client.hear().await.method,
        Method::BasicAck {
            delivery_tag: 3,
            multiple: false
        }
    );
});

both!(
    one_message_to_queues_in_several_places_is_confirmed_once,
    durable,
    node,
    {
        let mut client = node.channel().await;
        for (queue, durable) in [("a", durable), ("b", true), ("c", false)] {
            client.declare(1, queue, durable).await;
            let bind = Method::QueueBind {
                queue: text(queue),
                exchange: text("amq.fanout"),
                routing_key: text(""),
                no_wait: false,
                arguments: FieldTable::default(),
            };
            assert_eq!(client.call(1, &bind).await, Method::QueueBindOk {});
        }
        client.confirm_select(1).await;
        client.queue_publish(1, "amq.fanout", "", "x");
        client.flush().await;
        assert_eq!(
            client.hear().await.method,
            Method::BasicAck {
                delivery_tag: 1,
                multiple: false
            }
        );
        for queue in ["a", "b", "c"] {
            assert_eq!(client.get(1, queue, true).await.unwrap().text(), "x");
        }
        assert_eq!(client.hear_soon().await, None);
    }
);

both!(a_full_queue_refuses, durable, node, {
    let mut client = node.channel().await;
    let mut arguments = amqp_codec::TableBuilder::new();
    arguments
        .push("x-max-length", &amqp_codec::FieldValue::I32(2))
        .push(
            "x-overflow",
            &amqp_codec::FieldValue::text("reject-publish"),
        );
    let Method::QueueDeclare { queue, .. } = super::client::declare("q", durable) else {
        unreachable!()
    };
    let declare = Method::QueueDeclare {
        queue,
        passive: false,
        durable,
        exclusive: false,
        auto_delete: false,
        no_wait: false,
        arguments: arguments.finish(),
    };
    client.declare_with(1, &declare).await;
    client.confirm_select(1).await;
    for n in 0..4 {
        client.queue_publish(1, "", "q", &n.to_string());
    }
    client.flush().await;
    let mut refused = Vec::new();
    let mut done = 0;
    while done < 4 {
        match client.hear().await.method {
            Method::BasicAck { delivery_tag, .. } => done = done.max(delivery_tag),
            Method::BasicNack {
                delivery_tag,
                multiple,
                ..
            } => {
                let from = if multiple { done + 1 } else { delivery_tag };
                refused.extend(from..=delivery_tag);
                done = done.max(delivery_tag);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(refused, [3, 4]);
});
