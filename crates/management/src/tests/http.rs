//! Objects over HTTP: made, seen, refused, deleted.

use super::{Server, column};
use node::amqp_codec::FieldTable;
use node::broker_model::catalog::{CatalogCommand, QueueSpec};
use node::broker_model::ids::{NodeId, Placement, ShardId};
use node::{Alarms, Readiness};
use serde_json::{Value, json};

#[tokio::test(start_paused = true)]
async fn logins_and_tags() {
    let server = Server::new();
    server
        .put(
            "/api/users/watcher",
            json!({ "password": "w", "tags": "monitoring" }),
            201,
        )
        .await;
    server
        .put(
            "/api/users/owner",
            json!({ "password": "o", "tags": ["management", "policymaker"] }),
            201,
        )
        .await;
    server
        .put(
            "/api/users/client",
            json!({ "password": "c", "tags": "" }),
            201,
        )
        .await;
    for (login, method, path, expected) in [
        ("", "GET", "/api/overview", 401),
        ("guest:wrong", "GET", "/api/overview", 401),
        ("nobody:x", "GET", "/api/overview", 401),
        ("guest:", "GET", "/api/overview", 401),
        ("client:c", "GET", "/api/whoami", 401), // No tag that lets it in.
        ("watcher:w", "GET", "/api/whoami", 200),
        ("watcher:w", "GET", "/api/nodes", 200),
        ("watcher:w", "GET", "/api/queues/%2F", 200),
        ("watcher:w", "GET", "/api/users", 401),
        ("owner:o", "GET", "/api/nodes", 401),
        ("owner:o", "GET", "/api/queues/%2F", 401),
        ("owner:o", "GET", "/api/queues", 200),
        ("owner:o", "DELETE", "/api/vhosts/%2F", 401),
        ("guest:guest", "GET", "/api/users", 200),
        ("guest:guest", "GET", "/api/no-such-thing", 404),
        ("guest:guest", "PATCH", "/api/users", 405),
    ] {
        let reply = server.send(login, method, path, Value::Null).await;
        assert_eq!(
            reply.status.as_u16(),
            expected,
            "{login} {method} {path}: {}",
            reply.text
        );
        if expected == 401 {
            assert_eq!(reply.body["error"], "not_authorised");
            assert!(reply.headers.contains_key("www-authenticate"));
        }
    }
}

/// What clients of RabbitMQ's API ask for, although there is little to say.
#[tokio::test]
async fn small_questions() {
    let server = Server::new();
    server
        .put("/api/queues/%2F/jobs", json!({ "durable": true }), 201)
        .await;
    let (plain, detailed) = (
        server.get("/api/queues?sort=name").await,
        server.get("/api/queues/detailed?sort=name").await,
    );
    assert_eq!(column(&detailed.body, "name"), ["jobs"]);
    assert_eq!(detailed.body, plain.body);
    for (method, path, expected) in [
        ("GET", "/api/nodes/warren@1/memory", 200),
        ("GET", "/api/nodes/warren@1/memory/relative", 200),
        ("GET", "/api/deprecated-features/used", 200),
        ("DELETE", "/api/reset", 204),
        ("DELETE", "/api/reset/warren@1", 204),
        ("POST", "/api/vhosts/%2F/start/warren@1", 204),
        ("POST", "/api/vhosts/none/start/warren@1", 404),
        ("GET", "/api/nodes/nobody@9/memory", 404),
    ] {
        server.expect(method, path, Value::Null, expected).await;
    }
    let login = server.send("", "GET", "/api/auth", Value::Null).await;
    assert_eq!(login.body, json!({ "oauth_enabled": false }));
}

/// As late as an AMQP client hears of it, whatever was wrong; who is let in, or shows nothing, does not wait.
#[tokio::test(start_paused = true)]
async fn a_refused_login_is_told_late() {
    let server = Server::new();
    let client = json!({ "password": "c", "tags": "" });
    server.put("/api/users/client", client, 201).await;
    let mut told = Vec::new();
    for login in ["guest:wrong", "nobody:x", "guest:", "client:c"] {
        let began = tokio::time::Instant::now();
        let reply = server.send(login, "GET", "/api/whoami", Value::Null).await;
        told.push((reply.status, reply.text, began.elapsed().as_secs()));
    }
    let first = told[0].clone();
    assert_eq!(first.2, 1);
    assert!(told.iter().all(|one| *one == first), "{told:?}");
    let began = tokio::time::Instant::now();
    server.send("", "GET", "/api/whoami", Value::Null).await;
    server.get("/api/whoami").await;
    assert_eq!(began.elapsed().as_millis(), 0);
}

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
        ("members", json!(["warren@1", "warren@2", "warren@3"])),
        ("online", json!(["warren@1", "warren@2"])),
        ("state", json!("running")),
        ("messages", json!(7)),
        ("messages_ready", json!(4)),
        ("messages_unacknowledged", json!(3)),
        ("consumers", json!(1)),
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
}

#[tokio::test]
async fn exchanges_and_bindings() {
    let server = Server::new();
    server
        .put("/api/exchanges/%2F/orders", json!({ "type": "topic" }), 201)
        .await;
    server
        .put("/api/exchanges/%2F/orders", json!({ "type": "topic" }), 204)
        .await;
    server
        .put(
            "/api/exchanges/%2F/orders",
            json!({ "type": "fanout" }),
            400,
        )
        .await;
    server
        .put(
            "/api/exchanges/%2F/other",
            json!({ "type": "no-such-type" }),
            400,
        )
        .await;
    server.put("/api/exchanges/%2F/other", json!({}), 400).await;
    let names = server.get("/api/exchanges/%2F").await.body;
    assert!(column(&names, "name").contains(&"amq.topic") && column(&names, "name").contains(&""));
    assert_eq!(
        server.get("/api/exchanges/%2F/amq.default").await.body["type"],
        "direct"
    );

    server.put("/api/queues/%2F/jobs", json!({}), 201).await;
    let bindings = "/api/bindings/%2F/e/orders/q/jobs";
    let made = server
        .expect("POST", bindings, json!({ "routing_key": "eu.#" }), 201)
        .await;
    assert_eq!(made.headers["location"], "jobs/eu.%2523");
    let with = json!({ "routing_key": "us", "arguments": { "z": 1, "a": 2 } });
    let made = server.expect("POST", bindings, with, 201).await;
    let location = made.headers["location"].to_str().unwrap().to_owned();
    assert!(location.starts_with("jobs/us~"), "{location}");
    server
        .expect("POST", "/api/bindings/%2F/e/nope/q/jobs", json!({}), 404)
        .await;

    let rows = server.get(bindings).await.body;
    assert_eq!(column(&rows, "routing_key"), ["eu.#", "us"]);
    let all = server.get("/api/queues/%2F/jobs/bindings").await.body;
    assert_eq!(column(&all, "source"), ["", "orders", "orders"]);
    // The name of a binding is quoted already, and once more in a path.
    assert_eq!(rows[0]["properties_key"], "eu.%23");
    assert_eq!(
        server.get(&format!("{bindings}/eu.%2523")).await.body["routing_key"],
        "eu.#"
    );
    server.delete(&format!("{bindings}/eu.%23"), 404).await;
    let props = location.split_once('/').unwrap().1;
    server.delete(&format!("{bindings}/{props}"), 204).await;
    server.delete(&format!("{bindings}/eu.%2523"), 204).await;
    server.delete(&format!("{bindings}/eu.%2523"), 404).await;
    let odd = json!({ "routing_key": "a.# b~c/ü" });
    let made = server.expect("POST", bindings, odd, 201).await;
    let location = made.headers["location"].to_str().unwrap().to_owned();
    assert_eq!(location, "jobs/a.%2523%2Bb%257Ec%252F%25C3%25BC");
    let props = location.split_once('/').unwrap().1;
    server.delete(&format!("{bindings}/{props}"), 204).await;
    server.delete("/api/exchanges/%2F/orders", 204).await;
}

#[tokio::test]
async fn exchanges_count_delayed_messages() {
    let server = Server::new();
    let delayed =
        json!({ "type": "x-delayed-message", "arguments": { "x-delayed-type": "topic" } });
    server.put("/api/exchanges/%2F/delayed", delayed, 201).await;
    let bare = json!({ "type": "x-delayed-message" });
    let refused = server.put("/api/exchanges/%2F/bad", bare, 400).await;
    assert!(
        refused
            .text
            .contains("'x-delayed-type' must be an existing exchange type"),
        "{}",
        refused.text
    );
    let one = server.get("/api/exchanges/%2F/delayed").await.body;
    assert_eq!(one["messages_delayed"], 0);
    server.fake.count_delayed("delayed", 7);
    let one = server.get("/api/exchanges/%2F/delayed").await.body;
    assert_eq!(one["messages_delayed"], 7);
    let rows = server.get("/api/exchanges/%2F").await.body;
    let rows = rows.as_array().unwrap();
    let with = rows
        .iter()
        .filter(|row| row.get("messages_delayed").is_some());
    assert_eq!(with.count(), 1);
    assert_eq!(server.get("/api/queues").await.body, json!([]));
}

#[tokio::test]
async fn delayed_messages_are_shown() {
    let server = Server::new();
    let delayed =
        json!({ "type": "x-delayed-message", "arguments": { "x-delayed-type": "topic" } });
    server.put("/api/exchanges/%2F/later", delayed, 201).await;
    let history = json!({ "type": "x-recent-history" });
    server.put("/api/exchanges/%2F/last", history, 201).await;
    let path = "/api/exchanges/%2F/later/delayed";
    let rows = server.get(&format!("{path}?truncate=3")).await.body;
    assert_eq!(column(&rows, "payload"), ["soo", "//4="]);
    assert_eq!(column(&rows, "payload_encoding"), ["string", "base64"]);
    assert_eq!(
        rows[0],
        json!({
            "payload": "soo", "payload_bytes": 4, "payload_encoding": "string", "properties": {},
            "exchange": "later", "routing_key": "key", "due_at": 10,
        })
    );
    let rows = server.get(&format!("{path}?encoding=base64")).await.body;
    assert_eq!(column(&rows, "payload"), ["c29vbg==", "//4="]);
    server.get(&format!("{path}?count=20000")).await;
    let counts: Vec<u32> = server.fake.looked.lock().iter().map(|(_, n)| *n).collect();
    assert_eq!(counts, [100, 100, 10_000]);
    for (path, expected) in [
        ("/api/exchanges/%2F/last/delayed", 404), // A store, but of another kind.
        ("/api/exchanges/%2F/amq.topic/delayed", 404),
        ("/api/exchanges/%2F/amq.default/delayed", 404),
        ("/api/exchanges/%2F/none/delayed", 404),
        ("/api/exchanges/none/later/delayed", 404),
        ("/api/exchanges/%2F/later/delayed?encoding=x", 400),
        ("/api/exchanges/%2F/later/delayed?count=x", 400),
    ] {
        assert_eq!(server.get(path).await.status, expected, "{path}");
    }
    // As for reading.
    let user = json!({ "password": "p", "tags": "management" });
    server.put("/api/users/ann", user, 201).await;
    for (read, expected) in [("", 401), ("later", 200)] {
        let grant = json!({ "configure": ".*", "write": ".*", "read": read });
        let at = "/api/permissions/%2F/ann";
        server.send("guest:guest", "PUT", at, grant).await;
        let reply = server.send("ann:p", "GET", path, Value::Null).await;
        assert_eq!(reply.status, expected, "{read:?}: {}", reply.text);
    }
}

#[tokio::test]
async fn users_vhosts_permissions_limits() {
    let server = Server::new();
    server
        .put(
            "/api/vhosts/shop",
            json!({ "description": "Orders", "tags": "a,b" }),
            201,
        )
        .await;
    server.put("/api/vhosts/shop", json!({}), 204).await;
    let vhost = server.get("/api/vhosts/shop").await.body;
    assert_eq!(
        (&vhost["description"], &vhost["tags"]),
        (&json!("Orders"), &json!(["a", "b"]))
    );

    server
        .put("/api/users/ann", json!({ "password": "p" }), 400)
        .await; // Tags must be said.
    server
        .put(
            "/api/users/ann",
            json!({ "password": "p", "tags": "management" }),
            201,
        )
        .await;
    server
        .put(
            "/api/users/ann",
            json!({ "password_hash": "!", "tags": "" }),
            400,
        )
        .await;
    let ann = server.get("/api/users/ann").await.body;
    assert_eq!(ann["tags"], json!(["management"]));
    // What is shown can be put back: the password stays.
    server.put("/api/users/ann", ann, 204).await;
    assert_eq!(
        server
            .send("ann:p", "GET", "/api/whoami", Value::Null)
            .await
            .status,
        200
    );

    let all = json!({ "configure": ".*", "write": "", "read": ".*" });
    server
        .put("/api/permissions/shop/ann", all.clone(), 201)
        .await;
    server
        .put("/api/permissions/shop/ann", all.clone(), 204)
        .await;
    server
        .put("/api/permissions/shop/nobody", all.clone(), 400)
        .await;
    server
        .put(
            "/api/permissions/shop/ann",
            json!({ "configure": "(", "write": "", "read": "" }),
            400,
        )
        .await;
    assert_eq!(
        column(
            &server.get("/api/users/ann/permissions").await.body,
            "vhost"
        ),
        ["shop"]
    );
    let topics = json!({ "exchange": "amq.topic", "write": "^a", "read": ".*" });
    server
        .put("/api/topic-permissions/shop/ann", topics, 201)
        .await;
    assert_eq!(
        column(&server.get("/api/topic-permissions").await.body, "exchange"),
        ["amq.topic"]
    );
    server.delete("/api/topic-permissions/shop/ann", 204).await;

    // Ann sees her vhost only, may declare there, and may not write.
    let seen = server
        .send("ann:p", "GET", "/api/vhosts", Value::Null)
        .await
        .body;
    assert_eq!(column(&seen, "name"), ["shop"]);
    let declared = server
        .send("ann:p", "PUT", "/api/queues/shop/q", json!({}))
        .await;
    assert_eq!(declared.status, 201);
    let publish = json!({ "routing_key": "q", "payload": "x", "payload_encoding": "string", "properties": {} });
    let refused = server
        .send(
            "ann:p",
            "POST",
            "/api/exchanges/shop/amq.default/publish",
            publish,
        )
        .await;
    assert_eq!(refused.status, 401);
    assert!(
        refused.text.contains(
            "write access to exchange 'amq.default' in vhost 'shop' refused for user 'ann'"
        )
    );

    server
        .put(
            "/api/vhost-limits/shop/max-queues",
            json!({ "value": 3 }),
            204,
        )
        .await;
    server
        .put(
            "/api/vhost-limits/shop/max-colour",
            json!({ "value": 3 }),
            400,
        )
        .await;
    server
        .put(
            "/api/vhost-limits/shop/max-channels",
            json!({ "value": 3 }),
            400,
        )
        .await;
    server
        .put(
            "/api/permissions/nowhere/ann",
            json!({ "configure": "", "write": "", "read": "" }),
            400,
        )
        .await;
    server
        .expect(
            "POST",
            "/api/queues/shop/none/actions",
            json!({ "action": "sync" }),
            404,
        )
        .await;
    assert_eq!(
        server.get("/api/vhost-limits/shop").await.body[0]["value"],
        json!({ "max-queues": 3 })
    );
    server
        .delete("/api/vhost-limits/shop/max-queues", 204)
        .await;
    assert_eq!(server.get("/api/vhost-limits").await.body, json!([]));
    server
        .put(
            "/api/user-limits/ann/max-channels",
            json!({ "value": 5 }),
            204,
        )
        .await;
    assert_eq!(
        server.get("/api/users/ann").await.body["limits"],
        json!({ "max-channels": 5 })
    );

    server.delete("/api/permissions/shop/ann", 204).await;
    server.delete("/api/vhosts/shop", 204).await;
    server
        .expect(
            "POST",
            "/api/users/bulk-delete",
            json!({ "users": ["ann"] }),
            204,
        )
        .await;
    server.delete("/api/users/ann", 404).await;
}

#[tokio::test]
async fn policies_and_parameters() {
    let server = Server::new();
    let policy = json!({ "pattern": "^jobs", "definition": { "max-length": 7 }, "priority": 1, "apply-to": "queues" });
    server
        .put("/api/policies/%2F/short", policy.clone(), 201)
        .await;
    server
        .put("/api/operator-policies/%2F/short", policy.clone(), 201)
        .await;
    server
        .put(
            "/api/policies/%2F/bad",
            json!({ "pattern": "(", "definition": {} }),
            400,
        )
        .await;
    server
        .put("/api/policies/%2F/bad", json!({ "pattern": "x" }), 400)
        .await;
    server.put("/api/queues/%2F/jobs-1", json!({}), 201).await;
    let queue = server.get("/api/queues/%2F/jobs-1").await.body;
    assert_eq!(
        (&queue["policy"], &queue["operator_policy"]),
        (&json!("short"), &json!("short"))
    );
    assert_eq!(
        queue["effective_policy_definition"],
        json!({ "max-length": 7 })
    );
    // The lower one counts, whoever says it.
    for (operator, shown) in [(9, 7), (3, 3)] {
        let body = json!({ "pattern": "^jobs", "definition": { "max-length": operator }, "apply-to": "queues" });
        server
            .put("/api/operator-policies/%2F/short", body, 204)
            .await;
        let queue = server.get("/api/queues/%2F/jobs-1").await.body;
        let definition = &queue["effective_policy_definition"];
        assert_eq!(definition, &json!({ "max-length": shown }), "{operator}");
    }
    let row = server.get("/api/policies/%2F/short").await.body;
    for key in ["pattern", "definition", "priority", "apply-to"] {
        assert_eq!(row[key], policy[key], "{key}");
    }
    server.delete("/api/policies/%2F/short", 204).await;
    server.delete("/api/policies/%2F/short", 404).await;

    server
        .put(
            "/api/parameters/shovel/%2F/s",
            json!({ "value": { "uri": "x" } }),
            201,
        )
        .await;
    assert_eq!(
        server.get("/api/parameters/shovel/%2F/s").await.body["value"],
        json!({ "uri": "x" })
    );
    server.delete("/api/parameters/shovel/%2F/s", 204).await;
    server.delete("/api/parameters/shovel/%2F/s", 404).await;
    server
        .put(
            "/api/global-parameters/colour",
            json!({ "value": "red" }),
            201,
        )
        .await;
    assert_eq!(
        server.get("/api/global-parameters/colour").await.body["value"],
        "red"
    );
}

#[tokio::test]
async fn connections_channels_consumers() {
    let server = Server::new();
    server.put("/api/queues/%2F/jobs", json!({}), 201).await;
    server.fake.count("jobs", 1, 0);
    let rows = server.get("/api/connections").await.body;
    assert_eq!(column(&rows, "user_provided_name"), ["worker"]);
    assert_eq!(column(&rows, "node"), ["warren@2"]);
    let channels = server.get("/api/channels").await.body;
    assert_eq!(
        column(&channels, "name"),
        ["127.0.0.1:4000 -> 127.0.0.1:5672 (1)"]
    );
    assert_eq!(channels[0]["messages_unacknowledged"], 3);
    let consumers = server.get("/api/consumers/%2F").await.body;
    assert_eq!(
        consumers[0]["queue"],
        json!({ "name": "jobs", "vhost": "/" })
    );
    assert_eq!(consumers[0]["channel_details"]["user"], "guest");

    let name = "127.0.0.1%3A4000%20-%3E%20127.0.0.1%3A5672";
    server
        .delete(&format!("/api/connections/{name}"), 204)
        .await;
    server.delete("/api/connections/nobody", 404).await;
    let closed = server.fake.closed.lock().clone();
    assert_eq!(
        closed,
        [(NodeId(2), 7, "Closed via management plugin".to_owned())]
    );
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
async fn overview_nodes_and_status() {
    let server = Server::new();
    server.put("/api/queues/%2F/jobs", json!({}), 201).await;
    server.fake.count("jobs", 4, 3);
    let overview = server.get("/api/overview").await.body;
    assert_eq!(overview["cluster_name"], "test");
    assert_eq!(overview["node"], "warren@1");
    assert_eq!(overview["queue_totals"]["messages"], 7);
    assert_eq!(overview["object_totals"]["connections"], 1);
    assert_eq!(overview["message_stats"]["publish"], 10); // Both nodes that answer.

    let nodes = server.get("/api/nodes").await.body;
    let running: Vec<bool> = nodes
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|row| row["running"].as_bool())
        .collect();
    assert_eq!(running, [true, true, false]);
    assert_eq!(
        server.get("/api/nodes/warren@2").await.body["name"],
        "warren@2"
    );
    assert_eq!(server.get("/api/nodes/warren@9").await.status, 404);

    let status = server.get("/api/cluster/status").await.body;
    assert_eq!(status["healthy"], false);
    let warnings = status["warnings"].to_string();
    assert!(
        warnings.contains("warren@3 does not answer") && warnings.contains("shard-2 has no leader"),
        "{warnings}"
    );
    assert_eq!(
        column(&status["groups"], "name"),
        ["catalog", "shard-1", "shard-2"]
    );
    assert_eq!(status["groups"][1]["leader"], "warren@2");
    server
        .put("/api/cluster-name", json!({ "name": "renamed" }), 204)
        .await;
    assert_eq!(
        server.get("/api/cluster-name").await.body["name"],
        "renamed"
    );
    server.delete("/api/cluster/nodes/warren@3", 204).await;
    server
        .expect("POST", "/api/rebalance/queues", json!({}), 204)
        .await;
}

#[tokio::test]
async fn health() {
    let server = Server::new();
    for (path, expected) in [
        ("/health/live", 200),
        ("/health/ready", 200),
        ("/api/health/checks/alarms", 200),
        ("/api/health/checks/port-listener/5672", 200),
        ("/api/health/checks/port-listener/1", 503),
        ("/api/health/checks/protocol-listener/amqp", 200),
        ("/api/health/checks/protocol-listener/amqps", 503),
        ("/api/health/checks/node-is-quorum-critical", 503), // Node 3 is dead already.
        ("/api/health/checks/metadata-store/initialized", 200),
        ("/api/health/checks/no-such-check", 404),
        // No certificate is in use.
        ("/api/health/checks/certificate-expiration/1/months", 200),
        ("/api/health/checks/certificate-expiration/1/hours", 400),
        ("/api/health/checks/certificate-expiration/soon/days", 400),
        ("/api/aliveness-test/%2F", 200),
        ("/api/healthchecks/node", 200),
        ("/api/healthchecks/node/warren@1", 200),
        ("/api/healthchecks/node/nobody", 404),
        // One last slash is as good as none.
        ("/api/healthchecks/node/", 200),
        ("/api/queues/%2F/?disable_stats=true", 200),
        ("/api/overview//", 404),
        ("/", 404),
    ] {
        assert_eq!(server.get(path).await.status.as_u16(), expected, "{path}");
    }
    let node = server.get("/api/healthchecks/node/warren@1").await.body;
    assert_eq!(node, json!({ "status": "ok" }));
    let gone = server.get("/api/healthchecks/node/warren@3").await.body;
    assert_eq!(gone["status"], "failed");
    *server.fake.readiness.lock() = Readiness::NoMajority;
    assert_eq!(
        server.get("/api/healthchecks/node").await.body["status"],
        "failed"
    );
    *server.fake.alarms.lock() = Alarms {
        memory: true,
        disk: false,
    };
    for (path, expected) in [
        ("/health/live", 200),
        ("/health/ready", 503),
        ("/api/health/checks/alarms", 503),
        ("/api/health/checks/ready-to-serve-clients", 503),
    ] {
        let reply = server.send("guest:guest", "GET", path, Value::Null).await;
        assert_eq!(reply.status.as_u16(), expected, "{path}");
        if path == "/health/ready" {
            let reason = Readiness::NoMajority.reason();
            assert_eq!(reply.body["reason"].as_str(), reason);
        }
    }
    let status = server.get("/api/cluster/status").await.body;
    assert_eq!(status["ready"], false);
    let warnings = status["warnings"].to_string();
    assert!(warnings.contains("warren@1 is not ready"), "{warnings}");
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

#[tokio::test]
async fn connections_of_a_user_and_feature_flags() {
    let server = Server::new();
    for (user, count) in [("guest", 1), ("nobody", 0)] {
        let rows = server
            .get(&format!("/api/connections/username/{user}"))
            .await
            .body;
        assert_eq!(rows.as_array().unwrap().len(), count, "{user}");
    }
    let enable = |flag: &str| format!("/api/feature-flags/{flag}/enable");
    server.put(&enable("quorum_queue"), json!({}), 204).await;
    let refused = server.put(&enable("stream_queue"), json!({}), 400).await;
    assert_eq!(refused.body["reason"], "unsupported");
}
