//! What a user may do, and when that is looked at.

use super::TestNode;
use super::client::{Client, consume, declare, declare_as, text};
use crate::session::Services;
use amqp_codec::{FieldTable, FieldValue, Method, TableBuilder};
use broker_model::catalog::{CatalogCommand, PermissionSpec};
use bytes::Bytes;
use std::sync::Arc;

/// Lets the user of all clients configure what begins so, write nothing but what begins so, and read `read`.
fn restrict(node: &TestNode, own: &str, read: &str) {
    let spec = PermissionSpec {
        user: "guest".into(),
        vhost: "/".into(),
        configure: own.into(),
        write: own.into(),
        read: read.into(),
    };
    node.apply(CatalogCommand::SetPermissions(spec)).unwrap();
}

fn table(entries: &[(&str, FieldValue)]) -> FieldTable {
    let mut table = TableBuilder::new();
    for (key, value) in entries {
        table.push(key, value);
    }
    table.finish()
}

fn exchange(name: &str, kind: &str, arguments: FieldTable) -> Method {
    Method::ExchangeDeclare {
        exchange: text(name),
        kind: text(kind),
        passive: false,
        durable: true,
        auto_delete: false,
        internal: false,
        no_wait: false,
        arguments,
    }
}

/// The answer, or the code of the error.
async fn outcome(client: &mut Client, method: &Method) -> Result<Method, u16> {
    client.send(1, method).await;
    let heard = client.hear().await.method;
    match heard {
        Method::ChannelClose { reply_code, .. } => {
            client.send(1, &Method::ChannelCloseOk {}).await;
            client.open_channel(1).await;
            Err(reply_code)
        }
        heard => Ok(heard),
    }
}

/// Rights on where it leads to are needed by who makes it, not by who declares what is there.
#[tokio::test]
async fn rights_on_other_exchanges_are_needed_to_make_and_not_to_declare_again() {
    let node = TestNode::start();
    let mut client = node.channel().await;
    let dead_letters = |name| table(&[("x-dead-letter-exchange", FieldValue::text(name))]);
    let alternate = |name| table(&[("alternate-exchange", FieldValue::text(name))]);
    client
        .declare_with(1, &declare_as("mine", true, dead_letters("other")))
        .await;
    let made = client
        .call(1, &exchange("mine-x", "direct", alternate("other")))
        .await;
    assert_eq!(made, Method::ExchangeDeclareOk {});
    restrict(&node, "^mine", "^mine");
    for (method, expected) in [
        (declare_as("mine", true, dead_letters("other")), Ok(())),
        (declare_as("mine", true, dead_letters("third")), Err(406)),
        (declare_as("mine2", true, dead_letters("other")), Err(403)),
        (declare_as("mine2", true, dead_letters("mine-x")), Ok(())),
        (exchange("mine-x", "direct", alternate("other")), Ok(())),
        (exchange("mine-x", "direct", alternate("third")), Err(406)),
        (exchange("mine-y", "direct", alternate("other")), Err(403)),
        (exchange("mine-y", "nonsense", alternate("other")), Err(406)),
        (exchange("mine-y", "direct", alternate("mine-x")), Ok(())),
        (
            exchange("other", "nonsense", FieldTable::default()),
            Err(406),
        ),
    ] {
        let found = outcome(&mut client, &method).await;
        assert_eq!(found.map(drop), expected, "{method:?}");
    }
}

fn update_secret() -> Method {
    Method::ConnectionUpdateSecret {
        new_secret: Bytes::from_static(b"guest"),
        reason: text("it is time"),
    }
}

#[tokio::test]
async fn consumers_of_what_may_not_be_read_any_more_end_with_a_new_secret() {
    let node = TestNode::start();
    let mut client = node.channel().await;
    for queue in ["mine", "other"] {
        client.declare(1, queue, false).await;
        client.consume(1, queue, queue, false).await;
    }
    client
        .consume(1, "amq.rabbitmq.reply-to", "replies", true)
        .await;
    client.publish(1, "other", "held").await;
    let held = client.delivery().await;
    restrict(&node, "^mine", "^mine");
    client.send(0, &update_secret()).await;
    let cancel = Method::BasicCancel {
        consumer_tag: text("other"),
        no_wait: true,
    };
    assert_eq!(client.hear().await.method, cancel);
    assert_eq!(
        client.hear().await.method,
        Method::ConnectionUpdateSecretOk {}
    );
    // What it had got is still its own.
    client.ack(1, held.delivery_tag()).await;
    client.sync(1).await;
    assert_eq!(
        outcome(&mut client, &consume("other", "again", false)).await,
        Err(403)
    );
}

#[tokio::test]
async fn who_may_not_use_the_vhost_any_more_goes_with_a_new_secret() {
    let node = TestNode::start();
    let mut client = node.channel().await;
    node.apply(CatalogCommand::ClearPermissions {
        user: "guest".into(),
        vhost: "/".into(),
    })
    .unwrap();
    client.send(0, &update_secret()).await;
    let text = "NOT_ALLOWED - access to vhost '/' refused for user 'guest'";
    assert_eq!(
        client.connection_error().await,
        (530, text.to_owned(), (10, 70))
    );
}

/// It waits for nothing: however many come, none is kept.
#[tokio::test]
async fn a_new_secret_is_answered_before_what_comes_after_it() {
    let node = TestNode::start();
    let mut client = node.channel().await;
    for _ in 0..3 {
        client.queue(0, &update_secret());
        client.queue(1, &Method::ConfirmSelect { no_wait: false });
    }
    client.flush().await;
    for _ in 0..3 {
        assert_eq!(
            client.hear().await.method,
            Method::ConnectionUpdateSecretOk {}
        );
        assert_eq!(client.hear().await.method, Method::ConfirmSelectOk {});
    }
}

/// Tools that know no type write an empty one, or `undefined`.
#[tokio::test]
async fn the_usual_type_of_queue_may_be_named_by_nothing() {
    let node = TestNode::start();
    let mut client = node.channel().await;
    let typed = |name| table(&[("x-queue-type", FieldValue::text(name))]);
    for name in ["", "undefined", "classic"] {
        for again in ["", "undefined", "classic"] {
            client
                .declare_with(1, &declare_as("q", true, typed(name)))
                .await;
            client
                .declare_with(1, &declare_as("q", true, typed(again)))
                .await;
            client.declare_with(1, &declare("q", true)).await;
            let delete = Method::QueueDelete {
                queue: text("q"),
                if_unused: false,
                if_empty: false,
                no_wait: false,
            };
            client.call(1, &delete).await;
        }
    }
    assert!(Arc::clone(&node).catalog().queue("/", "q").is_none());
    let nonsense = declare_as("q", true, typed("nonsense"));
    assert_eq!(outcome(&mut client, &nonsense).await, Err(406));
}
