//! Users as requests and files describe them.

use super::Server;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// Each kind of hash has its form; what is not said is told by it.
#[tokio::test]
async fn hashes_without_an_algorithm() {
    let server = Server::new();
    for (hash, algorithm) in [
        (vec![1; 20], "rabbit_password_hashing_md5"),
        (vec![1; 36], "rabbit_password_hashing_sha256"),
        (vec![1; 68], "rabbit_password_hashing_sha512"),
        (vec![1; 7], "rabbit_password_hashing_sha256"),
        (
            b"$argon2id$v=19$m=8".to_vec(),
            "warren_password_hashing_argon2id",
        ),
    ] {
        let hash = STANDARD.encode(hash);
        let described = json!({ "name": "file", "password_hash": hash, "tags": "" });
        let file = json!({ "rabbit_version": "3.5.8", "users": [described] });
        server.expect("POST", "/api/definitions", file, 204).await;
        server.expect("PUT", "/api/users/put", described, 201).await;
        for name in ["file", "put"] {
            let user = server.get(&format!("/api/users/{name}")).await.body;
            assert_eq!(user["hashing_algorithm"], algorithm, "{name}");
            assert_eq!(user["password_hash"], hash, "{name}");
        }
        server.delete("/api/users/put", 204).await;
    }
}

#[tokio::test]
async fn tags_and_passwords() {
    let server = Server::new();
    for (body, expected, tags) in [
        (json!({ "administrator": "false" }), 201, json!([])),
        (
            json!({ "administrator": true }),
            201,
            json!(["administrator"]),
        ),
        (
            json!({ "administrator": "true", "tags": "monitoring" }),
            201,
            json!(["monitoring"]),
        ),
        (json!({ "administrator": 7 }), 400, Value::Null),
        (json!({}), 400, Value::Null),
        (json!({ "password": "", "tags": "" }), 201, json!([])),
        (
            json!({ "password": "p", "password_hash": "", "tags": "" }),
            400,
            Value::Null,
        ),
    ] {
        let said = body.to_string();
        let reply = server
            .send("guest:guest", "PUT", "/api/users/ann", body)
            .await;
        assert_eq!(reply.status.as_u16(), expected, "{said}: {}", reply.text);
        let shown = server.get("/api/users/ann").await.body;
        assert_eq!(shown.get("tags").cloned().unwrap_or_default(), tags);
        if expected == 201 {
            server.delete("/api/users/ann", 204).await;
        }
    }
}

#[tokio::test]
async fn limits_and_permissions_of_a_new_user() {
    let server = Server::new();
    let all = json!({ "configure": "^a", "write": "", "read": ".*" });
    let mut ann = json!({
        "password": "p", "tags": "management", "limits": { "max-channels": 3 }, "permissions": { "/": all },
    });
    server.put("/api/users/ann", ann.clone(), 201).await;
    let permissions = server.get("/api/permissions/%2F/ann").await.body;
    assert_eq!(permissions["configure"], "^a");
    // Those that are not named stay; permissions of a user who is there are left alone.
    ann["limits"] = json!({ "max-connections": 2 });
    ann["permissions"] = json!({ "/": { "configure": "", "write": "", "read": "" } });
    server.put("/api/users/ann", ann.clone(), 204).await;
    let permissions = server.get("/api/permissions/%2F/ann").await.body;
    assert_eq!(permissions["configure"], "^a");
    let limits = json!({ "max-channels": 3, "max-connections": 2 });
    assert_eq!(server.get("/api/users/ann").await.body["limits"], limits);
    let own = server
        .send("ann:p", "GET", "/api/user-limits/ann", Value::Null)
        .await;
    assert_eq!(own.body[0]["value"], limits);
    let others = server
        .send("ann:p", "GET", "/api/user-limits/guest", Value::Null)
        .await;
    assert_eq!(others.status, 401);
    for wrong in [
        json!({ "tags": "", "limits": { "max-queues": 1 } }),
        json!({ "tags": "", "permissions": { "/": { "configure": "" } } }),
        json!({ "tags": "", "permissions": { "/": "all" } }),
    ] {
        server.put("/api/users/bob", wrong, 400).await;
        assert_eq!(server.get("/api/users/bob").await.status, 404);
    }
}

#[tokio::test]
async fn permissions_that_are_not_there() {
    let server = Server::new();
    let ann = json!({ "password": "p", "tags": "" });
    server.put("/api/users/ann", ann, 201).await;
    for path in ["permissions/%2F/ann", "topic-permissions/%2F/ann"] {
        let path = format!("/api/{path}");
        assert_eq!(server.get(&path).await.status, 404, "{path}");
        server.delete(&path, 404).await;
    }
    server
        .delete("/api/topic-permissions/%2F/ann/amq.topic", 404)
        .await;
    let none = json!({ "exchange": "none", "write": "", "read": "" });
    let refused = server
        .put("/api/topic-permissions/%2F/ann", none, 400)
        .await;
    assert_eq!(
        refused.body["reason"],
        "no_such_exchange: 'none' in vhost '/'"
    );
    let topics = json!({ "exchange": "amq.topic", "write": "", "read": "" });
    server
        .put("/api/topic-permissions/%2F/ann", topics, 201)
        .await;
    server.delete("/api/topic-permissions/%2F/ann", 204).await;
    let page = server.get("/api/users/ann/permissions?page=1").await.body;
    assert_eq!(page["total_count"], 0);
    let path = "/api/vhosts/%2F/topic-permissions?page=1";
    assert_eq!(server.get(path).await.body["items"], json!([]));
}

#[tokio::test]
async fn no_more_tags_than_rabbitmq_takes() {
    let server = Server::new();
    let tags = |count: usize| {
        let tags: Vec<String> = (0..count).map(|tag| format!("t{tag}")).collect();
        tags.join(",")
    };
    for (tags, expected) in [(tags(33), 400), (tags(32), 201)] {
        let user = json!({ "password": "p", "tags": tags });
        server.put("/api/users/many", user, expected).await;
    }
}

/// Who may not see all sees what is the user's own, and is told so about the rest.
#[tokio::test]
async fn what_is_somebody_elses() {
    let server = Server::new();
    let policy = json!({ "pattern": "^x", "definition": { "max-length": 1 } });
    for kind in ["policies", "operator-policies"] {
        let path = format!("/api/{kind}/%2F/p");
        server.put(&path, policy.clone(), 201).await;
    }
    for tag in ["management", "monitoring", "policymaker"] {
        let user = json!({ "password": "p", "tags": tag, "permissions": { "/": { "configure": "", "write": "", "read": "" } } });
        server.put(&format!("/api/users/{tag}"), user, 201).await;
    }
    let connection = "connections/127.0.0.1%3A4000%20-%3E%20127.0.0.1%3A5672";
    for (path, management, monitoring, policymaker) in [
        (connection, 401, 200, 401),
        (&format!("{connection}/channels"), 401, 200, 401),
        (&format!("{connection}/sessions"), 401, 400, 401),
        (
            "channels/127.0.0.1%3A4000%20-%3E%20127.0.0.1%3A5672%20(1)",
            401,
            200,
            401,
        ),
        ("connections/none", 404, 404, 404),
        ("channels/none", 404, 404, 404),
        ("connections/username/guest", 401, 200, 401),
        ("connections/username/management", 200, 200, 401),
        ("policies/%2F", 200, 200, 200),
        ("policies/%2F/p", 401, 401, 200),
        ("operator-policies/%2F", 200, 200, 200),
        ("operator-policies/%2F/p", 401, 401, 401),
    ] {
        for (user, expected) in [
            ("management", management),
            ("monitoring", monitoring),
            ("policymaker", policymaker),
        ] {
            let path = format!("/api/{path}");
            let reply = server
                .send(&format!("{user}:p"), "GET", &path, Value::Null)
                .await;
            assert_eq!(reply.status.as_u16(), expected, "{user} {path}");
        }
    }
}
