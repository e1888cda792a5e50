//! Direct reply-to.

use super::TestNode;
use super::client::{consume, text};
use super::node::eventually;
use amqp_codec::{FieldTable, Method, Properties};
use bytes::Bytes;

const PSEUDO: &str = "amq.rabbitmq.reply-to";

fn passive(queue: &str) -> Method {
    Method::QueueDeclare {
        queue: text(queue),
        passive: true,
        durable: false,
        exclusive: false,
        auto_delete: false,
        no_wait: false,
        arguments: FieldTable::default(),
    }
}

#[tokio::test]
async fn request_and_reply() {
    let node = TestNode::start();
    let mut server = node.channel().await;
    server.declare(1, "rpc", false).await;
    server.consume(1, "rpc", "s", true).await;
    let mut client = node.channel().await;
    client.consume(1, PSEUDO, "c", true).await;
    let request = Properties {
        reply_to: Some(Bytes::from_static(PSEUDO.as_bytes())),
        ..Properties::default()
    };
    client.queue_content(1, "", "rpc", &request, b"ask", false);
    client.flush().await;
    let asked = server.delivery().await;
    let address = Properties::decode(&asked.properties)
        .unwrap()
        .reply_to
        .unwrap();
    let address = String::from_utf8(address.to_vec()).unwrap();
    assert!(
        address.starts_with("amq.rabbitmq.reply-to.") && address.len() > 40,
        "{address}"
    );
    server.publish(1, &address, "answer").await;
    let answer = client.delivery().await;
    assert_eq!(answer.text(), "answer");
    assert!(
        matches!(&answer.method, Method::BasicDeliver { consumer_tag, routing_key, .. }
            if consumer_tag == "c" && *routing_key == address.as_str())
    );

    // Others can tell whether the requester is there, and no more.
    assert_eq!(
        server.declare_with(1, &passive(&address)).await,
        (address.clone(), 0, 1)
    );
    assert_eq!(
        server.declare_with(1, &passive(PSEUDO)).await,
        (PSEUDO.to_owned(), 0, 1)
    );
    let mut thief = node.channel().await;
    thief.send(1, &consume(&address, "t", true)).await;
    assert_eq!(thief.channel_error(1).await.0, 405);

    client.close_channel(1).await;
    eventually("the requester is gone", || !node.has_queue(&address)).await;
    // Nobody is told that the answer comes too late; what was never an address is another matter.
    let none = "amq.rabbitmq.reply-to.none";
    for key in [&address, none] {
        server.queue_content(1, "", key, &Properties::default(), b"to nobody", true);
    }
    server.flush().await;
    server
        .expect(|method| matches!(method, Method::BasicReturn { routing_key, .. } if routing_key == none))
        .await;
    server.send(1, &passive(&address)).await;
    assert_eq!(server.channel_error(1).await.0, 404);
}

#[tokio::test]
async fn rules() {
    let node = TestNode::start();
    let mut client = node.channel().await;
    client.send(1, &consume(PSEUDO, "t", false)).await;
    let expected = "PRECONDITION_FAILED - reply consumer cannot acknowledge";
    assert_eq!(
        client.channel_error(1).await,
        (406, expected.to_owned(), (60, 20))
    );
    client.open_channel(1).await;
    client.consume(1, PSEUDO, "t", true).await;
    for tag in ["u", "t"] {
        client.send(1, &consume(PSEUDO, tag, true)).await;
        let expected = "PRECONDITION_FAILED - reply consumer already set";
        assert_eq!(
            client.channel_error(1).await,
            (406, expected.to_owned(), (60, 20))
        );
        client.open_channel(1).await;
        client.consume(1, PSEUDO, "t", true).await;
    }
}
