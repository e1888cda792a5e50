//! Shovels: who may define and see them, and what is told of them.

use super::{Server, column};
use node::shovels::ShovelReport;
use serde_json::{Value, json};

fn value(src: &str, dest: &str) -> Value {
    json!({ "src-uri": src, "src-queue": "a", "dest-uri": dest, "dest-queue": "b" })
}

fn report(vhost: &str, name: &str, state: &str) -> ShovelReport {
    ShovelReport {
        node: 1,
        vhost: vhost.into(),
        name: name.into(),
        state: state.into(),
        since_s: 951_782_400,
        reason: (state == "terminated").then(|| "lost".into()),
        blocked: "flow".into(),
        ends: [("src_uri".to_owned(), "amqp://h".to_owned())].into(),
        remaining: None,
        remaining_unacked: Some(3),
        pending: 2,
        forwarded: 7,
    }
}

/// Of `shop` only what `owner` may; `secret` is nobody's but the administrator's.
async fn server() -> Server {
    let server = Server::new();
    for vhost in ["shop", "secret"] {
        server
            .put(&format!("/api/vhosts/{vhost}"), json!({}), 201)
            .await;
    }
    for (user, tags) in [("owner", "policymaker"), ("watcher", "monitoring")] {
        let body = json!({ "password": "x", "tags": tags });
        server.put(&format!("/api/users/{user}"), body, 201).await;
        let all = json!({ "configure": ".*", "write": ".*", "read": ".*" });
        server
            .put(&format!("/api/permissions/shop/{user}"), all, 201)
            .await;
    }
    server
}

#[tokio::test]
async fn definitions_are_checked() {
    let server = server().await;
    let path = "/api/parameters/shovel/shop/s";
    let put = async |value: Value| {
        let body = json!({ "value": value });
        server.send("owner:x", "PUT", path, body).await
    };
    let missing = put(json!({ "src-uri": "amqp://h" })).await;
    assert_eq!(missing.status.as_u16(), 400);
    let reason = missing.body["reason"].as_str().unwrap();
    assert_eq!(
        reason,
        "Validation failed\n\nMust specify 'src-exchange' or 'src-queue'\nKey \"dest-uri\" not found in s\n"
    );
    let good = put(value("amqp:///shop", "amqp://h/secret")).await;
    assert_eq!(good.status.as_u16(), 201, "{}", good.text);
    for (src, dest) in [
        ("amqp:///secret", "amqp://h"),
        ("amqp://h", "amqp://guest@/secret"),
        ("amqp:///none", "amqp://h"),
    ] {
        let refused = put(value(src, dest)).await;
        assert_eq!(refused.status.as_u16(), 400, "{src} {dest}");
        let reason = refused.body["reason"].as_str().unwrap();
        assert!(
            reason.contains("user \"owner\" may not connect to vhost"),
            "{reason}"
        );
    }
}

#[tokio::test]
async fn files_reach_no_further_than_who_brings_them() {
    let server = server().await;
    let file = |uri: &str| json!({ "parameters": [{ "component": "shovel", "name": "s", "value": value(uri, "amqp://h") }] });
    let path = "/api/definitions/shop";
    let refused = server
        .send("owner:x", "POST", path, file("amqp:///secret"))
        .await;
    assert_eq!(refused.status.as_u16(), 400, "{}", refused.text);
    assert_eq!(server.get("/api/parameters/shovel").await.body, json!([]));
    let taken = server
        .send("owner:x", "POST", path, file("amqp:///shop"))
        .await;
    assert_eq!(taken.status.as_u16(), 204, "{}", taken.text);
    assert_eq!(
        column(&server.get("/api/parameters/shovel").await.body, "name"),
        ["s"]
    );
}

#[tokio::test]
async fn they_are_shown_without_secrets_to_whom_they_concern() {
    let server = server().await;
    let body = json!({ "value": value("amqp://u:geheim@h/v", "amqp:///shop") });
    let put = server
        .send("owner:x", "PUT", "/api/parameters/shovel/shop/s", body)
        .await;
    assert_eq!(put.status.as_u16(), 201);
    *server.fake.shovels.lock() = vec![
        report("shop", "s", "running"),
        report("secret", "t", "running"),
        report("shop", "gone", "terminated"),
    ];
    let list = server
        .send("watcher:x", "GET", "/api/shovels", Value::Null)
        .await;
    assert_eq!(column(&list.body, "name"), ["gone", "s"], "{}", list.text);
    let row = &list.body[1];
    for (key, expected) in [
        ("node", json!("warren@1")),
        ("timestamp", json!("2000-02-29 0:00:00")),
        ("vhost", json!("shop")),
        ("type", json!("dynamic")),
        ("state", json!("flow")),
        ("blocked_status", json!("flow")),
        ("src_uri", json!("amqp://h")),
        ("remaining", json!("unlimited")),
        ("remaining_unacked", json!(3)),
        ("pending", json!(2)),
        ("forwarded", json!(7)),
    ] {
        assert_eq!(row[key], expected, "{key}");
    }
    assert_eq!(list.body[0]["state"], "terminated");
    assert_eq!(list.body[0]["reason"], "lost");
    let other = server
        .send("watcher:x", "GET", "/api/shovels/secret", Value::Null)
        .await;
    assert_eq!(other.body, json!([]));
    assert_eq!(
        server
            .send("owner:x", "GET", "/api/shovels", Value::Null)
            .await
            .status,
        401
    );

    let path = "/api/shovels/vhost/shop/s";
    let one = server.send("watcher:x", "GET", path, Value::Null).await;
    assert_eq!(one.body["value"]["src-uri"], "amqp://h/v");
    assert!(!one.text.contains("geheim"));
    for (login, path, expected) in [
        ("watcher:x", path, 401),
        ("owner:x", "/api/shovels/vhost/secret/t", 404),
        ("owner:x", "/api/shovels/vhost/shop/other/restart", 404),
        ("owner:x", "/api/shovels/vhost/shop/s/restart", 204),
        ("owner:x", path, 204),
        ("owner:x", path, 204),
    ] {
        let reply = server.send(login, "DELETE", path, Value::Null).await;
        assert_eq!(
            reply.status.as_u16(),
            expected,
            "{login} {path}: {}",
            reply.text
        );
    }
    assert_eq!(server.get("/api/parameters/shovel").await.body, json!([]));
}

#[tokio::test]
async fn protected_ones_are_not_deleted_by_themselves() {
    let server = server().await;
    let mut owned = value("amqp://h", "amqp:///shop");
    owned["internal"] = true.into();
    let path = "/api/parameters/shovel/shop/s";
    let body = json!({ "value": owned });
    assert_eq!(server.send("owner:x", "PUT", path, body).await.status, 201);
    let kept = "/api/shovels/vhost/shop/s";
    assert_eq!(
        server
            .send("owner:x", "DELETE", kept, Value::Null)
            .await
            .status,
        405
    );
    assert_eq!(
        server
            .send("owner:x", "DELETE", path, Value::Null)
            .await
            .status,
        204
    );
}
