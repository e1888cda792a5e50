//! Transactions.

use super::TestNode;
use super::both;
use super::client::{Client, text};
use super::node::eventually;
use crate::session::services::Services;
use amqp_codec::{FieldTable, Method, Properties};

async fn select(client: &mut Client) {
    assert_eq!(
        client.call(1, &Method::TxSelect {}).await,
        Method::TxSelectOk {}
    );
}

async fn commit(client: &mut Client) {
    assert_eq!(
        client.call(1, &Method::TxCommit {}).await,
        Method::TxCommitOk {}
    );
}

async fn rollback(client: &mut Client) {
    assert_eq!(
        client.call(1, &Method::TxRollback {}).await,
        Method::TxRollbackOk {}
    );
}

both!(publishes_wait_for_the_commit, durable, node, {
    let mut client = node.channel().await;
    client.declare(1, "q", durable).await;
    select(&mut client).await;
    client.publish(1, "q", "never").await;
    rollback(&mut client).await;
    for n in 0..100 {
        client.queue_publish(1, "", "q", &n.to_string());
    }
    client.flush().await;
    let mut other = node.channel().await;
    client.sync(1).await;
    assert_eq!(other.ready(1, "q").await, 0);
    commit(&mut client).await;
    assert_eq!(other.ready(1, "q").await, 100);
    assert_eq!(other.get(1, "q", true).await.unwrap().text(), "0");
    commit(&mut client).await;
});

both!(acknowledgements_wait_for_the_commit, durable, node, {
    let mut client = node.channel().await;
    client.declare(1, "q", durable).await;
    for n in 0..4 {
        client.publish(1, "q", &n.to_string()).await;
    }
    select(&mut client).await;
    let mut tags = Vec::new();
    for _ in 0..4 {
        tags.push(client.get(1, "q", false).await.unwrap().delivery_tag());
    }
    client.ack(1, tags[0]).await;
    rollback(&mut client).await;
    client.ack(1, tags[0]).await;
    client
        .send(
            1,
            &Method::BasicReject {
                delivery_tag: tags[1],
                requeue: true,
            },
        )
        .await;
    client.sync(1).await;
    assert_eq!(client.ready(1, "q").await, 0);
    commit(&mut client).await;
    assert_eq!(client.ready(1, "q").await, 1);
    client.ack(1, tags[2]).await;
    // Not committed: comes back with what was not acknowledged.
    client.close_channel(1).await;
    client.open_channel(1).await;
    let mut found = Vec::new();
    while let Some(heard) = client.get(1, "q", true).await {
        found.push(heard.text());
    }
    assert_eq!(found, ["1", "2", "3"]);
});

both!(returns_come_with_the_commit, durable, node, {
    let _ = durable;
    let mut client = node.channel().await;
    select(&mut client).await;
    client.queue_content(1, "", "nowhere", &Properties::default(), b"x", true);
    client.sync(1).await;
    client.send(1, &Method::TxCommit {}).await;
    assert!(matches!(
        client.hear().await.method,
        Method::BasicReturn { .. }
    ));
    assert_eq!(client.hear().await.method, Method::TxCommitOk {});
});

/// Nothing else comes that would wake the session.
#[tokio::test]
async fn commits_that_come_all_at_once_are_all_answered() {
    let node = TestNode::start();
    let mut client = node.channel().await;
    select(&mut client).await;
    for _ in 0..50 {
        client.queue(1, &Method::TxCommit {});
    }
    client.flush().await;
    for _ in 0..50 {
        assert_eq!(client.hear().await.method, Method::TxCommitOk {});
    }
}

both!(modes_exclude_each_other, durable, node, {
    let _ = durable;
    let mut client = node.channel().await;
    select(&mut client).await;
    client
        .send(1, &Method::ConfirmSelect { no_wait: false })
        .await;
    let expected = "PRECONDITION_FAILED - cannot switch from tx to confirm mode";
    assert_eq!(
        client.channel_error(1).await,
        (406, expected.to_owned(), (85, 10))
    );
    client.open_channel(1).await;
    client.confirm_select(1).await;
    client.send(1, &Method::TxSelect {}).await;
    let expected = "PRECONDITION_FAILED - cannot switch from confirm to tx mode";
    assert_eq!(
        client.channel_error(1).await,
        (406, expected.to_owned(), (90, 10))
    );
});

both!(an_error_in_a_transaction_undoes_it, durable, node, {
    let mut client = node.channel().await;
    client.declare(1, "q", durable).await;
    select(&mut client).await;
    client.publish(1, "q", "held").await;
    client.queue_publish(1, "none", "k", "x");
    client.flush().await;
    assert_eq!(client.channel_error(1).await.0, 404);
    client.open_channel(1).await;
    assert_eq!(client.ready(1, "q").await, 0);
});

both!(
    what_was_routed_is_delivered_whatever_changes,
    durable,
    node,
    {
        let mut client = node.channel().await;
        let mut other = node.channel().await;
        client.declare(1, "q", durable).await;
        let exchange = Method::ExchangeDeclare {
            exchange: text("e"),
            kind: text("fanout"),
            passive: false,
            durable: true,
            auto_delete: false,
            internal: false,
            no_wait: false,
            arguments: FieldTable::default(),
        };
        other.call(1, &exchange).await;
        let bind = Method::QueueBind {
            queue: text("q"),
            exchange: text("e"),
            routing_key: text(""),
            no_wait: false,
            arguments: FieldTable::default(),
        };
        other.call(1, &bind).await;
        select(&mut client).await;
        client.publish(1, "q", "directly").await;
        client.queue_publish(1, "e", "", "by the exchange");
        client.queue_content(1, "", "later", &Properties::default(), b"lost", true);
        client.flush().await;
        client.sync(1).await;
        let delete = Method::ExchangeDelete {
            exchange: text("e"),
            if_unused: false,
            no_wait: false,
        };
        other.call(1, &delete).await;
        other.declare(1, "later", durable).await;
        client.send(1, &Method::TxCommit {}).await;
        // There was no queue when it was published.
        let returned = client.hear().await;
        assert!(matches!(returned.method, Method::BasicReturn { .. }));
        assert_eq!(client.hear().await.method, Method::TxCommitOk {});
        assert_eq!(other.ready(1, "later").await, 0);
        for body in ["directly", "by the exchange"] {
            assert_eq!(other.get(1, "q", true).await.unwrap().text(), body);
        }
    }
);

both!(
    what_was_routed_to_a_queue_that_is_gone_is_lost,
    durable,
    node,
    {
        let mut client = node.channel().await;
        let mut other = node.channel().await;
        client.declare(1, "q", durable).await;
        client.declare(1, "stays", durable).await;
        select(&mut client).await;
        client.publish(1, "q", "lost").await;
        client.publish(1, "stays", "here").await;
        client.sync(1).await;
        let delete = Method::QueueDelete {
            queue: text("q"),
            if_unused: false,
            if_empty: false,
            no_wait: false,
        };
        other.call(1, &delete).await;
        other.declare(1, "q", durable).await;
        commit(&mut client).await;
        assert_eq!(other.ready(1, "q").await, 0);
        assert_eq!(other.ready(1, "stays").await, 1);
    }
);

both!(requests_of_a_transaction_name_who_asked, durable, node, {
    // The one who asks may stop listening before the commit; that fails nothing.
    let mut client = node.channel().await;
    client.declare(1, "q", durable).await;
    client.consume(1, "amq.rabbitmq.reply-to", "me", true).await;
    select(&mut client).await;
    let asks = Properties {
        reply_to: Some(b"amq.rabbitmq.reply-to".as_slice().into()),
        ..Properties::default()
    };
    client.queue_content(1, "", "q", &asks, b"?", false);
    client.flush().await;
    let cancel = Method::BasicCancel {
        consumer_tag: text("me"),
        no_wait: false,
    };
    client.call(1, &cancel).await;
    commit(&mut client).await;
    let asked = client.get(1, "q", true).await.unwrap();
    let reply_to = Properties::decode(&asked.properties).unwrap().reply_to;
    assert!(reply_to.unwrap().starts_with(b"amq.rabbitmq.reply-to."));
});

both!(
    acknowledgements_count_when_they_are_committed,
    durable,
    node,
    {
        let mut client = node.channel().await;
        client.declare(1, "q", durable).await;
        client.publish(1, "q", "x").await;
        select(&mut client).await;
        let tag = client.get(1, "q", false).await.unwrap().delivery_tag();
        client.ack(1, tag).await;
        rollback(&mut client).await;
        client.ack(1, tag).await;
        client.sync(1).await;
        let counts = &node.metrics().counts;
        assert_eq!(counts.acknowledged.value(), 0);
        commit(&mut client).await;
        eventually("it is counted", || counts.acknowledged.value() == 1).await;
    }
);
