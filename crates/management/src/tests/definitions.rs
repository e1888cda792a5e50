//! Definitions: exported, imported, reported.

use super::{Server, column};
use crate::Definitions;
use axum::http::Request;
use serde_json::{Value, json};

/// A file as RabbitMQ exports it, with parts that do not exist here.
fn foreign() -> serde_json::Value {
    json!({
        "rabbit_version": "3.13.7",
        "rabbitmq_version": "3.13.7",
        "product_name": "RabbitMQ",
        "rabbitmq_definition_format": "cluster",
        "users": [{
            "name": "ann",
            "password_hash": "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR",
            "hashing_algorithm": "rabbit_password_hashing_sha256",
            "tags": ["administrator"],
            "limits": { "max-connections": 4 },
        }],
        "vhosts": [{ "name": "shop", "metadata": { "description": "d", "tags": ["t"], "default_queue_type": "undefined" } }],
        "permissions": [{ "user": "ann", "vhost": "shop", "configure": "^(?!amq\\.).*", "write": ".*", "read": ".*" }],
        "topic_permissions": [{ "user": "ann", "vhost": "shop", "exchange": "e", "write": "(?<!b)a", "read": "b" }],
        "parameters": [
            { "component": "operator_policy", "name": "op", "vhost": "shop",
              "value": { "pattern": "^(?!amq\\.)", "definition": { "max-length": 9 }, "priority": 0, "apply-to": "queues" } },
            { "component": "vhost-limits", "name": "limits", "vhost": "shop", "value": { "max-queues": 9 } },
            { "component": "shovel", "name": "s", "vhost": "shop", "value": { "src-uri": "amqp://" } },
        ],
        "global_parameters": [{ "name": "cluster_name", "value": "moved" }, { "name": "colour", "value": 1 }],
        "policies": [{ "vhost": "shop", "name": "p", "pattern": "^(?!amq\\.)q", "apply-to": "queues",
                       "definition": { "message-ttl": 1000 }, "priority": 2 }],
        "queues": [
            { "name": "q", "vhost": "shop", "durable": true, "auto_delete": false, "type": "quorum",
              "arguments": { "x-queue-type": "quorum" } },
            { "name": "plain", "vhost": "shop", "durable": true, "auto_delete": false, "arguments": {} },
        ],
        "exchanges": [{ "name": "e", "vhost": "shop", "type": "topic", "durable": true, "auto_delete": false,
                        "internal": false, "arguments": {} }],
        "bindings": [{ "source": "e", "vhost": "shop", "destination": "q", "destination_type": "queue",
                       "routing_key": "k.#", "arguments": { "x": 1 } }],
        "federation_stuff": [],
    })
}

#[tokio::test]
async fn a_file_of_rabbitmq_is_imported_and_comes_out_again() {
    let server = Server::new();
    let report = server
        .expect("POST", "/api/definitions?report=true", foreign(), 200)
        .await
        .body;
    assert_eq!(report["failed"], json!([]));
    assert_eq!(report["imported"]["queues"], 2);
    let notes = report["not_understood"].to_string();
    assert!(
        notes.contains("shovel 's'") && notes.contains("federation_stuff"),
        "{notes}"
    );

    let exported = server.get("/api/definitions").await.body;
    for part in ["policies", "exchanges", "bindings", "topic_permissions"] {
        assert_eq!(exported[part], foreign()[part], "{part}");
    }
    let ann = exported["users"]
        .as_array()
        .unwrap()
        .iter()
        .find(|user| user["name"] == "ann")
        .unwrap();
    assert_eq!(*ann, foreign()["users"][0]);
    assert_eq!(
        exported["vhosts"][1]["metadata"],
        json!({ "description": "d", "tags": ["t"] })
    );
    assert_eq!(column(&exported["queues"], "type"), ["classic", "quorum"]);
    assert_eq!(exported["parameters"].as_array().unwrap().len(), 3);
    let queue = server.get("/api/queues/shop/q").await.body;
    assert_eq!(
        (&queue["policy"], &queue["operator_policy"]),
        (&json!("p"), &json!("op"))
    );
    assert!(column(&exported["global_parameters"], "value").contains(&"moved"));

    // Again, and into another cluster: nothing changes.
    server
        .expect("POST", "/api/definitions", exported.clone(), 204)
        .await;
    let other = Server::new();
    other
        .expect("POST", "/api/definitions", exported.clone(), 204)
        .await;
    assert_eq!(other.get("/api/definitions").await.body, exported);
}

#[tokio::test]
async fn one_vhost() {
    let server = Server::new();
    server
        .expect("POST", "/api/definitions", foreign(), 204)
        .await;
    let exported = server.get("/api/definitions/shop").await.body;
    assert!(exported.get("users").is_none());
    assert!(exported["queues"][0].get("vhost").is_none());
    server.put("/api/vhosts/copy", json!({}), 201).await;
    server
        .expect("POST", "/api/definitions/copy", exported, 204)
        .await;
    assert_eq!(
        column(&server.get("/api/queues/copy").await.body, "name"),
        ["plain", "q"]
    );
}

#[tokio::test]
async fn what_fails_is_reported_and_the_rest_is_done() {
    let server = Server::new();
    let file = json!({
        "users": "all of them",
        "queues": [
            { "name": "good", "vhost": "/", "durable": true },
            { "name": "homeless", "vhost": "nowhere", "durable": true },
            { "name": "log", "vhost": "/", "durable": true, "arguments": { "x-queue-type": "journal" } },
            "not an object",
        ],
        "bindings": [{ "source": "amq.topic", "vhost": "/", "destination": "missing", "destination_type": "queue" }],
    });
    let report = server
        .expect("POST", "/api/definitions?report=true", file.clone(), 200)
        .await
        .body;
    let failed = report["failed"].as_array().unwrap();
    assert_eq!(failed.len(), 5, "{report}");
    assert_eq!(report["imported"], json!({ "queues": 1 }));
    assert_eq!(server.get("/api/queues/%2F/good").await.status, 200);
    let refused = server.expect("POST", "/api/definitions", file, 400).await;
    assert_eq!(refused.body["error"], "bad_request");
}

#[tokio::test]
async fn what_is_there_and_reserved_names_are_left_alone() {
    let server = Server::new();
    server
        .put("/api/queues/%2F/q", json!({ "durable": true }), 201)
        .await;
    let file = json!({
        "queues": [
            { "name": "q", "vhost": "/", "durable": false },
            { "name": "amq.gen-1", "vhost": "/", "durable": true },
        ],
        "exchanges": [
            { "name": "amq.topic", "vhost": "/", "type": "fanout", "durable": true },
            { "name": "amq.other", "vhost": "/", "type": "fanout", "durable": true },
        ],
    });
    let report = server
        .expect("POST", "/api/definitions?report=true", file.clone(), 200)
        .await
        .body;
    assert_eq!(report["failed"], json!([]));
    let notes = report["not_understood"].as_array().unwrap();
    assert_eq!(notes.len(), 4, "{notes:?}");
    assert_eq!(server.get("/api/queues/%2F/q").await.body["durable"], true);
    server.expect("POST", "/api/definitions", file, 204).await;
}

#[tokio::test]
async fn a_byte_order_mark_is_passed_over() {
    let server = Server::new();
    let text = "\u{feff}{\"vhosts\": [{\"name\": \"marked\"}]}";
    let request = Request::post("/api/definitions")
        .header("Authorization", "Basic Z3Vlc3Q6Z3Vlc3Q=")
        .header("Content-Type", "application/json");
    let reply = server.answer(request, text.into()).await;
    assert_eq!(reply.status.as_u16(), 204, "{}", reply.text);
}

/// As a browser and `curl -F file=@definitions.json` send it.
#[tokio::test]
async fn a_file_is_imported_from_a_form() {
    let server = Server::new();
    for (part, expected) in [("file", 204), ("other", 400)] {
        let form = format!(
            "--b\r\nContent-Disposition: form-data; name=\"{part}\"; filename=\"d.json\"\r\n\r\n{}\r\n--b--\r\n",
            json!({ "vhosts": [{ "name": "shop" }] })
        );
        let request = Request::post("/api/definitions")
            .header("Authorization", "Basic Z3Vlc3Q6Z3Vlc3Q=")
            .header("Content-Type", "multipart/form-data; boundary=b");
        let reply = server.answer(request, form.into()).await;
        assert_eq!(reply.status.as_u16(), expected, "{}", reply.text);
    }
    server
        .expect("GET", "/api/vhosts/shop", json!(null), 200)
        .await;
}

#[tokio::test]
async fn limits_that_are_no_numbers_are_reported() {
    let server = Server::new();
    let limits = json!({ "max-connections": "twomincepies" });
    let reply = server
        .expect(
            "POST",
            "/api/definitions?report=true",
            json!({
                "vhosts": [{ "name": "v", "limits": limits }],
                "users": [{ "name": "u", "password_hash": "", "tags": "", "limits": limits }],
                "parameters": [
                    { "vhost": "v", "component": "vhost-limits", "name": "limits", "value": { "max-channels": 1 } },
                ],
            }),
            200,
        )
        .await;
    let failed = reply.body["failed"].as_array().expect("a list");
    assert_eq!(failed.len(), 3, "{}", reply.text);
}

#[tokio::test]
async fn protected_vhosts_stay() {
    let server = Server::new();
    let metadata = json!({ "protected_from_deletion": true });
    let file = json!({ "vhosts": [{ "name": "kept", "metadata": metadata }] });
    server.expect("POST", "/api/definitions", file, 204).await;
    let shown = server.get("/api/vhosts/kept").await.body;
    assert_eq!(shown["protected_from_deletion"], true);
    assert_eq!(shown["metadata"]["protected_from_deletion"], true);
    let exported = server.get("/api/definitions").await.body;
    let exported = exported["vhosts"].as_array().expect("a list");
    let kept = exported.iter().find(|vhost| vhost["name"] == "kept");
    assert_eq!(
        kept.expect("there")["metadata"]["protected_from_deletion"],
        true
    );
    let refused = server.delete("/api/vhosts/kept", 412).await;
    assert_eq!(
        refused.body["reason"],
        "Refusing to delete virtual host 'kept' because it is protected from deletion"
    );
    let at = "/api/vhosts/kept/deletion/protection";
    server.delete(at, 204).await;
    server.expect("POST", at, Value::Null, 204).await;
    server.delete("/api/vhosts/kept", 412).await;
    server.delete(at, 204).await;
    server.delete("/api/vhosts/kept", 204).await;
    server.expect("POST", at, Value::Null, 404).await;
}

/// All but what is the broker's, or a connection's alone.
#[tokio::test]
async fn what_is_not_durable_is_exported_too() {
    let server = Server::new();
    let transient = json!({ "durable": false });
    server
        .put("/api/queues/%2F/passing", transient.clone(), 201)
        .await;
    let exchange = json!({ "type": "fanout", "durable": false, "auto_delete": true });
    server.put("/api/exchanges/%2F/wind", exchange, 201).await;
    server.exclusive("mine");
    for (source, queue) in [("wind", "passing"), ("amq.topic", "mine")] {
        let path = format!("/api/bindings/%2F/e/{source}/q/{queue}");
        server.expect("POST", &path, json!({}), 201).await;
    }
    for path in ["/api/definitions", "/api/definitions/%2F"] {
        let exported = server.get(path).await.body;
        assert_eq!(column(&exported["queues"], "name"), ["passing"], "{path}");
        assert_eq!(exported["queues"][0]["durable"], false);
        assert_eq!(column(&exported["exchanges"], "name"), ["wind"], "{path}");
        assert_eq!(column(&exported["bindings"], "source"), ["wind"], "{path}");
    }
    let exported = server.get("/api/definitions").await.body;
    let other = Server::new();
    other
        .expect("POST", "/api/definitions", exported.clone(), 204)
        .await;
    assert_eq!(other.get("/api/definitions").await.body, exported);
}

/// Which virtual host the definitions of a single one are for is not in them.
#[tokio::test]
async fn definitions_of_one_vhost_are_refused_where_those_of_all_belong() {
    let server = Server::new();
    let policy = json!({ "pattern": "^x", "definition": { "max-length": 1 } });
    server.put("/api/policies/%2F/p", policy, 201).await;
    let one = server.get("/api/definitions/%2F").await.body;
    for (part, item) in [
        ("policies", one["policies"][0].clone()),
        ("queues", json!({ "name": "q" })),
        ("queues", json!({ "name": "q", "vhost": null })),
        ("exchanges", json!({ "name": "e", "type": "topic" })),
        (
            "bindings",
            json!({ "source": "amq.topic", "destination": "q", "destination_type": "queue" }),
        ),
        (
            "parameters",
            json!({ "component": "shovel", "name": "s", "value": {} }),
        ),
    ] {
        let file = json!({ "vhosts": [{ "name": "made" }], part: [item] });
        for path in ["/api/definitions", "/api/definitions?report=true"] {
            let reply = server.expect("POST", path, file.clone(), 400).await;
            let reason = reply.body["reason"].as_str().unwrap();
            let begin = format!("invalid_definitions_file: {part}");
            assert!(reason.starts_with(&begin), "{reason}");
        }
        let at_start = Definitions::parse(file.to_string().as_bytes()).err();
        assert!(at_start.is_some_and(|error| error.contains(part)), "{part}");
    }
    assert_eq!(column(&server.get("/api/vhosts").await.body, "name"), ["/"]);
    assert_eq!(server.get("/api/queues").await.body, json!([]));
    assert!(Definitions::parse(foreign().to_string().as_bytes()).is_ok());
}

#[tokio::test]
async fn a_single_vhost_is_described() {
    let server = Server::new();
    let vhost = json!({ "description": "Orders", "tags": "a,b", "default_queue_type": "quorum" });
    server.put("/api/vhosts/shop", vhost, 201).await;
    let limit = json!({ "value": 7 });
    server
        .put("/api/vhost-limits/shop/max-queues", limit, 204)
        .await;
    let (all, one) = (
        server.get("/api/definitions").await.body,
        server.get("/api/definitions/shop").await.body,
    );
    for key in ["rabbitmq_version", "product_name", "product_version"] {
        assert!(one[key].is_string() && one[key] == all[key], "{key}");
    }
    for (key, expected) in [
        ("description", json!("Orders")),
        ("limits", json!({ "max-queues": 7 })),
        (
            "metadata",
            json!({ "description": "Orders", "tags": ["a", "b"], "default_queue_type": "quorum" }),
        ),
    ] {
        assert_eq!(one[key], expected, "{key}");
        assert_eq!(all["vhosts"][1][key], expected, "{key}");
    }
}

#[tokio::test]
async fn definitions_are_downloaded_under_a_name() {
    let server = Server::new();
    for (query, expected) in [
        ("", None),
        (
            "?download=warren_1.json",
            Some("attachment; filename=warren_1.json"),
        ),
        ("?download=a%20b.json", None),
        ("?download=a%22%0D%0Ab", None),
        ("?download=", None),
    ] {
        for path in ["/api/definitions", "/api/definitions/%2F"] {
            let reply = server.get(&format!("{path}{query}")).await;
            assert_eq!(reply.status, 200);
            let header = reply.headers.get("content-disposition");
            let header = header.map(|value| value.to_str().unwrap());
            assert_eq!(header, expected, "{query}");
        }
    }
}
