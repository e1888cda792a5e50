//! Queues and what is in them.

use super::{Server, column};
use node::amqp_codec::FieldTable;
use node::broker_model::catalog::{CatalogCommand, QueueSpec};
use node::broker_model::ids::{ConnectionId, NodeId, Origin, Placement, ShardId};
use serde_json::{Value, json};

#[tokio::test]
async fn queues() {
    let server = Server::new();
    let path = "/api/queues/%2F/jobs";
    server
        .put(
            path,
            json!({ "durable": true, "arguments": { "x-max-length": 10 } }),
            201,
        )
        .await;
    server
        .put(
            path,
            json!({ "durable": true, "arguments": { "x-max-length": 10 } }),
            204,
        )
        .await;
    let refused = server
        .put(
            path,
            json!({ "durable": true, "arguments": { "x-max-length": 11 } }),
            400,
        )
        .await;
    assert_eq!(refused.body["error"], "bad_request");
    assert!(
        refused.body["reason"]
            .as_str()
            .unwrap()
            .contains("inequivalent arg 'x-max-length' for queue 'jobs'")
    );

    server.fake.count("jobs", 4, 3);
    let queue = server.get(path).await.body;
    assert!(queue.get("messages_dlx").is_none());
    let arguments = json!({ "arguments": { "x-dead-letter-exchange": "amq.fanout" } });
    server.put("/api/queues/%2F/mortal", arguments, 201).await;
    server.fake.count("mortal", 4, 3);
    let mortal = server.get("/api/queues/%2F/mortal").await.body;
    assert_eq!(mortal["messages_dlx"], 2);
    assert_eq!(mortal["message_bytes_dlx"], 20);
    server
        .expect("DELETE", "/api/queues/%2F/mortal", Value::Null, 204)
        .await;
    for (key, value) in [
        ("name", json!("jobs")),
        ("vhost", json!("/")),
        ("type", json!("classic")),
        ("durable", json!(true)),
        ("leader", json!("warren@2")),
        ("node", json!("warren@2")),
        ("exclusive_consumer_tag", Value::Null),
        ("consumer_capacity", json!(0)),
        ("members", json!(["warren@1", "warren@2", "warren@3"])),
        ("online", json!(["warren@1", "warren@2"])),
        ("state", json!("running")),
        ("messages", json!(7)),
        ("messages_ready", json!(4)),
        ("messages_unacknowledged", json!(3)),
        ("consumers", json!(1)),
        ("message_bytes", json!(70)),
        ("message_bytes_ready", json!(40)),
        ("message_bytes_unacknowledged", json!(30)),
        ("messages_ram", json!(3)),
        ("message_bytes_ram", json!(30)),
        ("message_bytes_persistent", json!(70)),
        ("consumer_utilisation", json!(0)),
        ("arguments", json!({ "x-max-length": 10 })),
        ("messages_details", json!({ "rate": 0.0 })),
    ] {
        assert_eq!(queue[key], value, "{key}");
    }
    for (key, value) in [
        ("publish", 9),
        ("deliver", 5),
        ("deliver_get", 6),
        ("get", 1),
        ("ack", 2),
    ] {
        let stats = &queue["message_stats"];
        assert_eq!(stats[key], value, "{key}");
        assert_eq!(stats[format!("{key}_details")]["rate"], 0.0, "{key}");
    }
    assert_eq!(server.get("/api/queues/%2F/nope").await.status, 404);
    assert_eq!(server.get("/api/queues/nope/jobs").await.status, 404);

    server.delete("/api/queues/%2F/jobs/contents", 204).await;
    assert_eq!(server.fake.purged.lock().len(), 1);
    server.delete(path, 204).await;
    server.delete(path, 404).await;
}

/// As over AMQP they are their connection's alone.
#[tokio::test]
async fn exclusive_queues_are_neither_deleted_nor_emptied() {
    let server = Server::new();
    // One that is open, and one that is not.
    for (name, serial) in [("mine", 7), ("left", 8)] {
        let spec = QueueSpec {
            vhost: "/".into(),
            name: name.into(),
            durable: false,
            server_named: false,
            exclusive: Some(ConnectionId {
                origin: Origin {
                    node: NodeId(2),
                    incarnation: 1,
                },
                serial,
            }),
            auto_delete: false,
            arguments: FieldTable::empty(),
            placement: Placement::Host(NodeId(2)),
        };
        let declare = CatalogCommand::DeclareQueue(spec);
        server.fake.apply(declare).unwrap();
    }
    server.delete("/api/queues/%2F/left", 204).await;
    let refused = server.delete("/api/queues/%2F/mine", 400).await;
    let reason = refused.body["reason"].as_str().unwrap();
    assert!(reason.starts_with("cannot obtain exclusive access to locked queue 'mine'"));
    server.delete("/api/queues/%2F/mine/contents", 400).await;
    assert_eq!(server.get("/api/queues/%2F/mine").await.status, 200);
}

#[tokio::test]
async fn lists_of_queues_are_paged_and_sorted() {
    let server = Server::new();
    for (name, ready) in [("a", 5), ("b", 9), ("c", 1)] {
        server
            .put(&format!("/api/queues/%2F/{name}"), json!({}), 201)
            .await;
        server.fake.count(name, ready, 0);
    }
    for (query, expected) in [
        ("", vec!["a", "b", "c"]),
        (
            "?sort=messages_ready&sort_reverse=true",
            vec!["b", "a", "c"],
        ),
        ("?name=b", vec!["b"]),
        ("?columns=name", vec!["a", "b", "c"]),
    ] {
        let reply = server.get(&format!("/api/queues{query}")).await;
        assert_eq!(column(&reply.body, "name"), expected, "{query}");
    }
    let page = server
        .get("/api/queues?page=2&page_size=2&sort=name&sort_reverse=true")
        .await
        .body;
    assert_eq!(column(&page["items"], "name"), ["a"]);
    assert_eq!(page["items"][0]["messages"], 5);
    assert_eq!(
        (&page["page_count"], &page["total_count"]),
        (&json!(2), &json!(3))
    );
    let bare = server
        .get("/api/queues?disable_stats=true&page=1")
        .await
        .body;
    assert!(bare["items"][0].get("messages").is_none());
    for figure in [
        "messages",
        "messages_ready",
        "message_bytes",
        "consumers",
        "messages_dlx",
    ] {
        let by_figure =
            |query: &str| format!("/api/queues?page=1&page_size=2&sort={figure}{query}");
        let page = server.get(&by_figure("&sort_reverse=true")).await.body;
        let names = column(&page["items"], "name");
        if figure.starts_with("messages") && figure != "messages_dlx" {
            assert_eq!(names, ["b", "a"], "{figure}");
            assert_eq!(page["items"][0]["messages_ready"], 9);
        }
        assert_eq!((names.len(), &page["page_count"]), (2, &json!(2)));
    }
    let totals = "/api/queues?disable_stats=true&enable_queue_totals=true&sort=messages&page=1";
    let totals = server.get(totals).await.body;
    assert_eq!(column(&totals["items"], "name"), ["c", "a", "b"]);
    assert_eq!(totals["items"][2]["messages"], 9);
    assert!(totals["items"][2].get("consumers").is_none());
}

#[tokio::test]
async fn messages() {
    let server = Server::new();
    server.put("/api/queues/%2F/jobs", json!({}), 201).await;
    let path = "/api/exchanges/%2F/amq.default/publish";
    let body = json!({
        "properties": { "delivery_mode": 2, "headers": { "a": 1 } },
        "routing_key": "jobs",
        "payload": "aGk=",
        "payload_encoding": "base64",
    });
    assert_eq!(
        server.expect("POST", path, body, 200).await.body,
        json!({ "routed": true })
    );
    let published = server.fake.published.lock().pop().unwrap();
    assert_eq!(
        (
            &*published.exchange,
            &*published.routing_key,
            &published.body[..]
        ),
        ("", "jobs", &b"hi"[..])
    );
    for wrong in [
        json!({ "routing_key": "jobs", "payload": 5 }),
        json!({ "routing_key": "jobs", "payload": "?", "payload_encoding": "base64" }),
        json!({ "routing_key": "jobs", "payload": "x", "properties": { "user_id": "other" } }),
    ] {
        server.expect("POST", path, wrong, 400).await;
    }

    let get =
        json!({ "count": 5, "ackmode": "ack_requeue_true", "encoding": "auto", "truncate": 3 });
    let rows = server
        .expect("POST", "/api/queues/%2F/jobs/get", get, 200)
        .await
        .body;
    assert_eq!(column(&rows, "payload"), ["hel", "//4="]);
    assert_eq!(column(&rows, "payload_encoding"), ["string", "base64"]);
    assert_eq!(
        (&rows[0]["payload_bytes"], &rows[1]["redelivered"]),
        (&json!(5), &json!(true))
    );
    server
        .expect(
            "POST",
            "/api/queues/%2F/jobs/get",
            json!({ "count": 1, "ackmode": "eat" }),
            400,
        )
        .await;
}

#[tokio::test]
async fn queues_without_a_leader() {
    let server = Server::new();
    server.put("/api/vhosts/shop", json!({}), 201).await;
    for (name, shard) in [("led", 1), ("orphan-1", 2), ("orphan-2", 2)] {
        let spec = QueueSpec {
            vhost: "/".into(),
            name: name.into(),
            durable: true,
            server_named: false,
            exclusive: None,
            auto_delete: false,
            arguments: FieldTable::empty(),
            placement: Placement::Shard(ShardId(shard)),
        };
        server
            .fake
            .apply(CatalogCommand::DeclareQueue(spec))
            .unwrap();
    }
    // Tools want a node; the state tells the rest.
    for (name, node, leader, state) in [
        ("led", "warren@2", json!("warren@2"), "running"),
        ("orphan-1", "warren@1", Value::Null, "minority"),
    ] {
        let row = server.get(&format!("/api/queues/%2F/{name}")).await.body;
        assert_eq!(row["node"], node, "{name}");
        assert_eq!((&row["leader"], &row["state"]), (&leader, &json!(state)));
    }
    let check = "/api/health/checks/quorum-queues-without-elected-leaders";
    for (path, names) in [
        ("all-vhosts", vec!["orphan-1", "orphan-2"]),
        ("all-vhosts/", vec!["orphan-1", "orphan-2"]),
        ("all-vhosts/pattern/%5E(%3F!orphan).*", vec![]),
        ("vhost/%2F", vec!["orphan-1", "orphan-2"]),
        ("vhost/%2F/pattern/1$", vec!["orphan-1"]),
        ("vhost/shop", vec![]),
    ] {
        let reply = server.get(&format!("{check}/{path}")).await;
        if names.is_empty() {
            assert_eq!(reply.status, 200, "{path}: {}", reply.text);
            assert_eq!(reply.body, json!({ "status": "ok" }), "{path}");
            continue;
        }
        assert_eq!(reply.status, 503, "{path}: {}", reply.text);
        let mut found = column(&reply.body["queues"], "name");
        found.sort_unstable();
        assert_eq!(found, names, "{path}");
    }
    for (path, expected) in [("all-vhosts/pattern/(", 400), ("vhost/none", 404)] {
        let reply = server.get(&format!("{check}/{path}")).await;
        assert_eq!(reply.status.as_u16(), expected, "{path}: {}", reply.text);
    }
}
