//! Exchanges, bindings, and messages that exchanges hold back.

use super::{Server, column};
use serde_json::{Value, json};

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
    // As RabbitMQ's: of a type that is not said.
    server.put("/api/exchanges/%2F/other", json!({}), 201).await;
    let other = server.get("/api/exchanges/%2F/other").await.body;
    assert_eq!(other["type"], "direct");
    server.delete("/api/exchanges/%2F/other", 204).await;
    let names = server.get("/api/exchanges/%2F").await.body;
    assert!(column(&names, "name").contains(&"amq.topic") && column(&names, "name").contains(&""));
    let used = server.get("/api/exchanges/%2F/amq.topic").await.body;
    let stats = &used["message_stats"];
    assert_eq!(
        (&stats["publish_in"], &stats["publish_out"]),
        (&7.into(), &9.into())
    );
    let unused = server.get("/api/exchanges/%2F/orders").await.body;
    assert!(unused.get("message_stats").is_none());
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

    for path in [
        "bindings/%2F/e/nope/q/jobs",
        "bindings/%2F/e/orders/q/nope",
        "queues/%2F/nope/bindings",
        "exchanges/%2F/nope/bindings/source",
        "exchanges/%2F/nope/bindings/destination",
    ] {
        let reply = server.get(&format!("/api/{path}")).await;
        assert_eq!(
            (reply.status.as_u16(), reply.body),
            (200, json!([])),
            "{path}"
        );
    }
    let one = server.get("/api/bindings/%2F/e/nope/q/jobs/~").await;
    assert_eq!(one.status, 404);
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
    // Many clients quote it once only, which RabbitMQ finds as well.
    assert_eq!(
        server.get(&format!("{bindings}/eu.%23")).await.body["routing_key"],
        "eu.#"
    );
    server.delete(&format!("{bindings}/eu.%24"), 404).await;
    server.delete(&format!("{bindings}/eu.%23~00"), 404).await;
    let props = location.split_once('/').unwrap().1;
    server.delete(&format!("{bindings}/{props}"), 204).await;
    server.delete(&format!("{bindings}/eu.%2523"), 204).await;
    server.delete(&format!("{bindings}/eu.%2523"), 404).await;
    let again = json!({ "routing_key": "eu.#" });
    server.expect("POST", bindings, again, 201).await;
    server.delete(&format!("{bindings}/eu.%23"), 204).await;
    server.delete(&format!("{bindings}/eu.%23"), 404).await;
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

/// The default exchange has no name, and one for paths.
#[tokio::test]
async fn publishing_to_the_default_exchange() {
    let server = Server::new();
    for path in [
        "/api/exchanges/%2F//publish",
        "/api/exchanges/%2F/amq.default/publish",
    ] {
        let message = json!({ "routing_key": "q", "payload": "hello", "properties": {},
                              "payload_encoding": "string" });
        let reply = server.expect("POST", path, message, 200).await;
        assert_eq!(reply.body, json!({ "routed": true }), "{path}");
        let publish = server.fake.published.lock().pop().unwrap();
        assert_eq!(
            (&*publish.exchange, &*publish.routing_key, &*publish.body),
            ("", "q", b"hello".as_slice()),
            "{path}"
        );
    }
}

/// As over AMQP: who makes an exchange that leads elsewhere may read the one and write to the other.
#[tokio::test]
async fn an_alternate_exchange_needs_rights() {
    let server = Server::new();
    let user = json!({ "password": "p", "tags": "management" });
    server.put("/api/users/ann", user, 201).await;
    let path = "/api/exchanges/%2F/mine";
    let plain = json!({ "type": "topic" });
    let leading = json!({ "type": "topic", "arguments": { "alternate-exchange": "theirs" } });
    for (write, read, body, expected) in [
        ("^mine$", "^mine$", &leading, 401),
        ("^theirs$", "^$", &leading, 401),
        ("^$", "^$", &plain, 201),
        // It is there, with other arguments.
        ("^$", "^$", &leading, 400),
        ("^theirs$", "^mine$", &leading, 201),
        // It is there as it is wanted.
        ("^$", "^$", &leading, 204),
    ] {
        if expected == 201 {
            server
                .send("guest:guest", "DELETE", path, Value::Null)
                .await;
        }
        let grant = json!({ "configure": "^mine$", "write": write, "read": read });
        let at = "/api/permissions/%2F/ann";
        server.send("guest:guest", "PUT", at, grant).await;
        let reply = server.send("ann:p", "PUT", path, body.clone()).await;
        assert_eq!(reply.status, expected, "{write} {read}: {}", reply.text);
    }
}
