//! Links that break, as a leader change breaks them: clients notice a pause and nothing else.

use super::client::text;
use super::node::eventually;
use super::{TestNode, both};
use amqp_codec::{FieldTable, Method};
use std::time::Duration;

const A_MOMENT: Duration = Duration::from_millis(60);

both!(held_deliveries_stay_with_their_consumer, durable, node, {
    let mut client = node.channel().await;
    client.declare(1, "q", durable).await;
    for n in 0..10 {
        client.queue_publish(1, "", "q", &n.to_string());
    }
    client.qos(1, 5, false).await;
    client.consume(1, "q", "t", false).await;
    let held = client.deliveries(5).await;
    node.break_links(true);
    tokio::time::sleep(A_MOMENT).await;
    // Acknowledged while nobody leads: settled all the same.
    client.ack(1, held[0].delivery_tag()).await;
    client.ack(1, held[3].delivery_tag()).await;
    tokio::time::sleep(A_MOMENT).await;
    node.restore_links();
    let next: Vec<_> = client
        .deliveries(2)
        .await
        .iter()
        .map(|heard| (heard.text(), heard.redelivered()))
        .collect();
    assert_eq!(next, [("5".to_owned(), false), ("6".to_owned(), false)]);
    client
        .send(
            1,
            &Method::BasicAck {
                delivery_tag: 0,
                multiple: true,
            },
        )
        .await;
    let rest: Vec<_> = client
        .deliveries(3)
        .await
        .iter()
        .map(|heard| heard.text())
        .collect();
    assert_eq!(rest, ["7", "8", "9"]);
    assert_eq!(client.hear_soon().await, None);
});

both!(
    a_close_is_answered_when_what_was_acknowledged_is_settled,
    durable,
    node,
    {
        for whole_connection in [false, true] {
            let mut client = node.channel().await;
            client.declare(1, "q", durable).await;
            client.publish(1, "q", "x").await;
            let got = client.get(1, "q", false).await.unwrap();
            node.break_links(true);
            tokio::time::sleep(A_MOMENT).await;
            client.ack(1, got.delivery_tag()).await;
            let mut close = std::pin::pin!(async {
                if whole_connection {
                    client.close().await;
                } else {
                    client.close_channel(1).await;
                }
            });
            let too_early = tokio::time::timeout(A_MOMENT, &mut close).await;
            assert!(too_early.is_err(), "settled nowhere, and answered");
            node.restore_links();
            close.await;
            let mut other = node.channel().await;
            assert_eq!(other.ready(1, "q").await, 0);
        }
    }
);

both!(publishes_are_held_and_confirmed_once, durable, node, {
    let mut client = node.channel().await;
    client.declare(1, "q", durable).await;
    client.confirm_select(1).await;
    for round in 0..5 {
        node.break_links(true);
        for n in 0..20 {
            client.queue_publish(1, "", "q", &(round * 20 + n).to_string());
        }
        client.flush().await;
        tokio::time::sleep(A_MOMENT).await;
        node.restore_links();
    }
    let mut confirmed = 0;
    while confirmed < 100 {
        match client.hear().await.method {
            Method::BasicAck { delivery_tag, .. } => confirmed = delivery_tag,
            other => panic!("{other:?}"),
        }
    }
    for n in 0..100 {
        assert_eq!(
            client.get(1, "q", true).await.unwrap().text(),
            n.to_string()
        );
    }
    assert_eq!(client.get(1, "q", true).await, None);
});

both!(gets_and_consumes_wait, durable, node, {
    let mut client = node.channel().await;
    client.declare(1, "q", durable).await;
    client.publish(1, "q", "x").await;
    client.sync(1).await;
    tokio::time::sleep(A_MOMENT).await;
    node.break_links(true);
    tokio::time::sleep(A_MOMENT).await;
    client.queue(1, &super::client::consume("q", "t", false));
    client.flush().await;
    assert_eq!(client.hear_soon().await, None);
    node.restore_links();
    assert!(matches!(
        client.hear().await.method,
        Method::BasicConsumeOk { .. }
    ));
    assert_eq!(client.delivery().await.text(), "x");
});

both!(
    a_session_that_ends_without_a_leader_gives_everything_back,
    durable,
    node,
    {
        let mut client = node.channel().await;
        client.declare(1, "q", durable).await;
        client.publish(1, "q", "x").await;
        client.consume(1, "q", "t", false).await;
        client.delivery().await;
        node.break_links(true);
        drop(client);
        tokio::time::sleep(A_MOMENT).await;
        node.restore_links();
        eventually("the session is over", || node.sessions() == 0).await;
        let mut other = node.channel().await;
        other.consume(1, "q", "u", false).await;
        let again = other.delivery().await;
        assert_eq!((again.text(), again.redelivered()), ("x".to_owned(), true));
    }
);

#[tokio::test]
async fn a_small_message_for_many_queues_is_as_large_as_all_of_it() {
    const QUEUES: usize = 100;
    let node = TestNode::start_with(|config| {
        config.limits.connection_unconfirmed_bytes = 64 * 1024;
    });
    let mut client = node.channel().await;
    for number in 0..QUEUES {
        let queue = format!("q{number}");
        client.declare(1, &queue, false).await;
        let bind = Method::QueueBind {
            queue: text(&queue),
            exchange: text("amq.fanout"),
            routing_key: text(""),
            no_wait: false,
            arguments: FieldTable::default(),
        };
        client.call(1, &bind).await;
    }
    node.break_links(true);
    tokio::time::sleep(A_MOMENT).await;
    for _ in 0..50 {
        client.queue_publish(1, "amq.fanout", "", "tiny");
    }
    client.flush().await;
    tokio::time::sleep(A_MOMENT).await;
    // Not read before what was published is answered.
    let flow = Method::ChannelFlow { active: true };
    client.send(1, &flow).await;
    assert_eq!(client.hear_soon().await, None);
    node.restore_links();
    let heard = client.hear().await;
    assert_eq!(heard.method, Method::ChannelFlowOk { active: true });
    assert_eq!(client.ready(1, "q0").await, 50);
}

/// It waits for nothing, so all that it may have on its way stands in front of what consumers acknowledge.
#[tokio::test]
async fn a_client_without_confirms_has_less_on_its_way() {
    for confirms in [false, true] {
        let node = TestNode::start();
        let mut client = node.channel().await;
        client.declare(1, "q", true).await;
        if confirms {
            let select = Method::ConfirmSelect { no_wait: false };
            client.call(1, &select).await;
        }
        node.break_links(true);
        tokio::time::sleep(A_MOMENT).await;
        for _ in 0..5_000 {
            client.queue_publish(1, "", "q", "small");
        }
        client.flush().await;
        tokio::time::sleep(A_MOMENT).await;
        let flow = Method::ChannelFlow { active: true };
        client.send(1, &flow).await;
        let heard = client.hear_soon().await.map(|heard| heard.method);
        let expected = confirms.then_some(Method::ChannelFlowOk { active: true });
        assert_eq!(heard, expected, "confirms: {confirms}");
        node.restore_links();
    }
}
