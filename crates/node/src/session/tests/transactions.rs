//! Transactions.

use super::both;
use super::client::Client;
use amqp_codec::{Method, Properties};

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
