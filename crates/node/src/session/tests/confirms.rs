//! Publisher confirms and returns.

use super::client::{declare, text};
use super::{TestNode, both};
use amqp_codec::{FieldTable, Method, Properties};

fn ack(delivery_tag: u64) -> Method {
    Method::BasicAck {
        delivery_tag,
        multiple: false,
    }
}

/// In whatever way the channel ends: what nobody waits for is confirmed before.
#[tokio::test]
async fn what_is_due_is_confirmed_before_the_end() {
    let node = TestNode::start_with(|config| config.limits.message_size = 100);
    let channel_close = Method::ChannelClose {
        reply_code: 200,
        reply_text: text(""),
        class_id: 0,
        method_id: 0,
    };
    let unknown = Method::BasicAck {
        delivery_tag: 9,
        multiple: false,
    };
    let refused = Method::ChannelFlow { active: false };
    let too_large = [0; 101];
    for (end, body, exchange) in [
        (Some(channel_close), None, ""),
        (Some(unknown), None, ""),
        (Some(refused), None, ""),
        (None, Some(&b"x"[..]), "none"),
        (None, Some(&too_large[..]), ""),
    ] {
        let mut client = node.channel().await;
        client.confirm_select(1).await;
        client.queue_publish(1, "", "nowhere", "dropped");
        if let Some(end) = &end {
            client.queue(1, end);
        }
        if let Some(body) = body {
            // It waits, and what follows waits behind it.
            client.queue(1, &declare("q", true));
            client.queue_content(1, exchange, "k", &Properties::default(), body, false);
        }
        client.flush().await;
        assert_eq!(client.hear().await.method, ack(1), "{end:?} {exchange}");
        if body.is_some() {
            client
                .expect(|method| matches!(method, Method::QueueDeclareOk { .. }))
                .await;
        }
        client
            .expect(|method| {
                matches!(
                    method,
                    Method::ChannelCloseOk {}
                        | Method::ChannelClose { .. }
                        | Method::ConnectionClose { .. }
                )
            })
            .await;
    }
}

/// The error is of another channel.
#[tokio::test]
async fn what_is_due_is_confirmed_on_all_channels_before_the_connection_ends() {
    let node = TestNode::start();
    let mut client = node.channel().await;
    client.open_channel(2).await;
    client.confirm_select(2).await;
    for tag in 1..=2 {
        client.queue_publish(2, "", "nowhere", "dropped");
        if tag == 1 {
            // From now on it is known that there is no such queue, without asking.
            client.flush().await;
            assert_eq!(client.hear().await.method, ack(1));
        }
    }
    client.queue(1, &Method::ChannelFlow { active: false });
    client.flush().await;
    let confirmed = client.hear().await;
    assert_eq!((confirmed.channel, confirmed.method), (2, ack(2)));
    assert_eq!(client.connection_error().await.0, 540);
}

both!(what_was_asked_before_a_close_is_answered, durable, node, {
    let mut client = node.channel().await;
    client.confirm_select(1).await;
    client.queue(1, &declare("q", durable));
    client.queue_publish(1, "", "nowhere", "dropped");
    client.queue(
        0,
        &Method::ConnectionClose {
            reply_code: 200,
            reply_text: text(""),
            class_id: 0,
            method_id: 0,
        },
    );
    client.flush().await;
    client
        .expect(|method| matches!(method, Method::QueueDeclareOk { .. }))
        .await;
    assert_eq!(client.hear().await.method, ack(1));
    assert_eq!(client.hear().await.method, Method::ConnectionCloseOk {});
    assert!(client.ends().await);
});

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

#[tokio::test]
async fn what_finds_no_queue_is_confirmed_singly_and_in_order() {
    let node = TestNode::start();
    let mut client = node.channel().await;
    client.confirm_select(1).await;
    // From then on it is known that there is no such queue, without asking: the others are read and sent on in one turn.
    client.queue_publish(1, "", "nowhere", "dropped");
    client.flush().await;
    assert_eq!(client.hear().await.method, ack(1));
    let nothing = Properties::default();
    for mandatory in [false, true, true, false] {
        client.queue_content(1, "", "nowhere", &nothing, b"x", mandatory);
    }
    client.flush().await;
    for (tag, mandatory) in [(2, false), (3, true), (4, true), (5, false)] {
        if mandatory {
            let method = client.hear().await.method;
            assert!(matches!(method, Method::BasicReturn { .. }), "{method:?}");
        }
        assert_eq!(client.hear().await.method, ack(tag));
    }
}

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
