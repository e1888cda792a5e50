//! Local queues whose node dies or starts anew: they move, empty, and their consumers follow.

use super::{Client, TestNode};
use amqp_codec::Method;
use broker_model::catalog::CatalogCommand;
use broker_model::ids::{NodeId, Origin};

const OTHER: Origin = Origin {
    node: NodeId(2),
    incarnation: 1,
};

fn dead() -> CatalogCommand {
    CatalogCommand::NodeDead {
        origin: OTHER,
        new_host: NodeId(1),
    }
}

fn started(incarnation: u64) -> CatalogCommand {
    CatalogCommand::NodeStarted {
        origin: Origin {
            incarnation,
            ..OTHER
        },
        all_were_down_in: None,
    }
}

async fn confirmed(client: &mut Client, tag: u64) {
    let answer = client.hear().await.method;
    assert!(
        matches!(answer, Method::BasicAck { delivery_tag, .. } if delivery_tag == tag),
        "{answer:?}"
    );
}

#[tokio::test]
async fn consumers_follow_and_publishes_are_given_up() {
    let node = TestNode::start();
    node.place_elsewhere();
    node.apply(started(1)).unwrap();
    let mut client = node.channel().await;
    client.declare(1, "q", false).await;
    client.qos(1, 2, false).await;
    client.consume(1, "q", "t", false).await;
    let mut publisher = node.channel().await;
    publisher.confirm_select(1).await;
    publisher.publish(1, "q", "before").await;
    confirmed(&mut publisher, 1).await;
    let held = client.delivery().await;
    node.kill_other();
    publisher.publish(1, "q", "lost").await;
    assert_eq!(publisher.hear_soon().await, None, "it is held");
    node.apply(dead()).unwrap();
    let answer = publisher.hear().await.method;
    assert!(
        matches!(
            answer,
            Method::BasicNack {
                delivery_tag: 2,
                ..
            }
        ),
        "{answer:?}"
    );
    // The consumer noticed nothing, and has its whole prefetch but for what it still holds.
    for (tag, text) in [(3, "after"), (4, "more")] {
        publisher.publish(1, "q", text).await;
        confirmed(&mut publisher, tag).await;
    }
    let next = client.delivery().await;
    assert_eq!(
        (next.text(), next.redelivered()),
        ("after".to_owned(), false)
    );
    assert_eq!(client.hear_soon().await, None);
    client.ack(1, held.delivery_tag()).await;
    let last = client.delivery().await;
    assert_eq!(last.text(), "more");
    client.ack(1, next.delivery_tag()).await;
    client.ack(1, last.delivery_tag()).await;
    let cancel = Method::BasicCancel {
        consumer_tag: super::client::text("t"),
        no_wait: false,
    };
    assert!(matches!(
        client.call(1, &cancel).await,
        Method::BasicCancelOk { .. }
    ));
    assert_eq!(client.ready(1, "q").await, 0);
}

#[tokio::test]
async fn a_node_that_comes_back_hosts_what_it_had() {
    let node = TestNode::start();
    node.place_elsewhere();
    node.apply(started(1)).unwrap();
    let mut client = node.channel().await;
    client.declare(1, "q", false).await;
    client.consume(1, "q", "t", true).await;
    client.publish(1, "q", "before").await;
    assert_eq!(client.delivery().await.text(), "before");
    for round in 2..5 {
        node.kill_other();
        node.revive_other();
        node.apply(started(round)).unwrap();
        client.publish(1, "q", &round.to_string()).await;
        assert_eq!(client.delivery().await.text(), round.to_string());
    }
    client.close().await;
}

#[tokio::test]
async fn a_session_that_ends_meanwhile_leaves_no_consumer() {
    let node = TestNode::start();
    node.place_elsewhere();
    node.apply(started(1)).unwrap();
    let mut gone = node.channel().await;
    gone.declare(1, "q", false).await;
    gone.consume(1, "q", "t", true).await;
    node.kill_other();
    drop(gone);
    node.apply(dead()).unwrap();
    super::node::eventually("the session ends", || node.sessions() == 0).await;
    let mut client = node.channel().await;
    client.confirm_select(1).await;
    client.publish(1, "q", "kept").await;
    confirmed(&mut client, 1).await;
    assert_eq!(client.ready(1, "q").await, 1);
}
