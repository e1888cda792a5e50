//! Who may do what: users, tags, virtual hosts, permissions, limits.

use super::{Server, column};
use axum::body::Body;
use axum::http::Request;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
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
        // As if it were not there.
        ("owner:o", "GET", "/api/queues/%2F", 404),
        ("owner:o", "GET", "/api/queues/none", 404),
        ("owner:o", "PUT", "/api/policies/%2F/p", 404),
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
    assert!(vhost.get("message_stats").is_none() && vhost.get("recv_oct").is_none());
    let used = server.get("/api/vhosts/%2F").await.body;
    for (key, value) in [("recv_oct", 100), ("send_oct", 200)] {
        assert_eq!(used[key], value, "{key}");
    }
    for (key, value) in [("publish", 5), ("get_empty", 2), ("deliver_get", 0)] {
        assert_eq!(used["message_stats"][key], value, "{key}");
    }
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
    server.put(&enable("stream_queue"), json!({}), 204).await;
    let refused = server.put(&enable("no_such_flag"), json!({}), 400).await;
    assert_eq!(refused.body["reason"], "unsupported");
    let flags = server.get("/api/feature-flags").await.body;
    let names = column(&flags, "name");
    assert!(names.contains(&"detailed_queues_endpoint") && names.contains(&"rabbitmq_4.3.0"));
    assert_eq!(column(&flags, "doc_url").len(), names.len());
    // That of RabbitMQ's series is the only one that is not required there.
    let rows = flags.as_array().unwrap().iter();
    let stable = rows.filter(|row| row["stability"] == "stable" && row["state"] == "enabled");
    let stable: Vec<&Value> = stable.map(|row| &row["name"]).collect();
    assert_eq!(stable, ["rabbitmq_4.3.0"]);
}

/// Others may wait for the room of a body.
#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_given_up() {
    let server = Server::new();
    let never = futures::stream::pending::<Result<Vec<u8>, std::io::Error>>();
    let request = Request::builder()
        .method("PUT")
        .uri("/api/vhosts/late")
        .header(
            "Authorization",
            format!("Basic {}", STANDARD.encode("guest:guest")),
        );
    let reply = server.answer(request, Body::from_stream(never)).await;
    assert_eq!(reply.status, 400, "{}", reply.text);
    assert!(
        reply.text.contains("did not come in time"),
        "{}",
        reply.text
    );
}
