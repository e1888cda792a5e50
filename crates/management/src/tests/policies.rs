//! Policies and parameters.

use super::{Server, column};
use serde_json::json;

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
            "/api/parameters/federation-upstream/%2F/s",
            json!({ "value": { "uri": "x" } }),
            201,
        )
        .await;
    assert_eq!(
        server
            .get("/api/parameters/federation-upstream/%2F/s")
            .await
            .body["value"],
        json!({ "uri": "x" })
    );
    server
        .delete("/api/parameters/federation-upstream/%2F/s", 204)
        .await;
    server
        .delete("/api/parameters/federation-upstream/%2F/s", 404)
        .await;
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

/// What has a place of its own here is a parameter for RabbitMQ's tools.
#[tokio::test]
async fn parameters_with_a_place_of_their_own() {
    let server = Server::new();
    let at = "/api/parameters/operator_policy/%2F/op";
    let value = json!({ "pattern": "^x", "definition": { "max-length": 3 }, "apply-to": "queues", "priority": 0 });
    server.put(at, json!({ "value": value }), 201).await;
    server.put(at, json!({ "value": value }), 204).await;
    assert_eq!(server.get(at).await.body["value"], value);
    let policy = server.get("/api/operator-policies/%2F/op").await.body;
    assert_eq!(policy["definition"], value["definition"]);

    let limits = "/api/parameters/vhost-limits/%2F/limits";
    assert_eq!(server.get(limits).await.status, 404);
    let some = json!({ "value": { "max-queues": 5 } });
    server.put(limits, some.clone(), 201).await;
    server.put(limits, some.clone(), 204).await;
    server
        .put(limits, json!({ "value": { "max-colour": 5 } }), 400)
        .await;
    server
        .put("/api/parameters/vhost-limits/%2F/other", some, 400)
        .await;
    let shown = server.get("/api/vhost-limits/%2F").await.body;
    assert_eq!(shown[0]["value"], json!({ "max-queues": 5 }));

    let listed = server.get("/api/parameters").await.body;
    assert_eq!(
        column(&listed, "component"),
        ["operator_policy", "vhost-limits"]
    );
    let exported = server.get("/api/definitions").await.body;
    assert_eq!(exported["parameters"], listed);

    for path in [at, limits] {
        server.delete(path, 204).await;
        server.delete(path, 404).await;
    }
    let own = json!({ "pattern": "^x", "definition": { "max-length": 3 } });
    let path = "/api/parameters/policy/%2F/p";
    let refused = server.put(path, json!({ "value": own }), 400).await;
    assert_eq!(
        refused.body["reason"],
        "policies may not be set using this method"
    );
    server.put("/api/policies/%2F/p", own, 201).await;
    assert_eq!(server.get(path).await.body["value"]["pattern"], "^x");
    server.delete(path, 400).await;
    assert_eq!(server.get("/api/parameters").await.body, json!([]));
}

#[tokio::test]
async fn name_and_identity_are_global_parameters() {
    let server = Server::new();
    let maker = json!({ "password": "p", "tags": "policymaker" });
    server.put("/api/users/maker", maker, 201).await;
    let put = |name: &str| format!("/api/global-parameters/{name}");
    let long = "n".repeat(256);
    for (who, name, value, expected) in [
        ("maker:p", "cluster_name", json!("mine"), 401),
        ("guest:guest", "cluster_name", json!("renamed"), 204),
        ("guest:guest", "cluster_name", json!(5), 400),
        ("guest:guest", "cluster_name", json!(long), 400),
        ("maker:p", "internal_cluster_id", json!("x"), 400),
        ("maker:p", "colour", json!("red"), 201),
    ] {
        let body = json!({ "value": value });
        let reply = server.send(who, "PUT", &put(name), body).await;
        assert_eq!(reply.status.as_u16(), expected, "{name}: {}", reply.text);
    }
    let rows = server.get("/api/global-parameters").await.body;
    let names = ["colour", "cluster_name", "internal_cluster_id"];
    assert_eq!(column(&rows, "name"), names);
    assert_eq!(column(&rows, "value"), ["red", "renamed", "cluster-id"]);
    let name = server.get("/api/cluster-name").await.body;
    assert_eq!(name["name"], "renamed");
    // A cluster keeps its identity, whatever it imports.
    let exported = server.get("/api/definitions").await.body;
    let names = ["colour", "cluster_name"];
    assert_eq!(column(&exported["global_parameters"], "name"), names);
    server
        .expect(
            "POST",
            "/api/definitions",
            json!({ "global_parameters": rows }),
            204,
        )
        .await;
    let again = server.get("/api/global-parameters").await.body;
    assert_eq!(again, rows);
    for name in ["cluster_name", "internal_cluster_id"] {
        server.delete(&put(name), 400).await;
    }
}

/// Tools look for these words.
#[tokio::test]
async fn what_is_wrong_is_a_failed_validation() {
    let server = Server::new();
    let empty = json!({ "pattern": "^x", "definition": {} });
    let bad = json!({ "pattern": "^x", "definition": { "max-length": "x" } });
    let wrong = "\"x\" is not a valid value of 'max-length'";
    for (path, body, text) in [
        ("policies/%2F/p", empty.clone(), "no policy provided"),
        ("policies/%2F/p", bad.clone(), wrong),
        ("operator-policies/%2F/p", empty, "no policy provided"),
        ("operator-policies/%2F/p", bad.clone(), wrong),
        (
            "policies/%2F/p",
            json!({ "pattern": "^x", "definition": { "max-length": 1 }, "priority": "high" }),
            "priority must be a number",
        ),
        (
            "parameters/operator_policy/%2F/p",
            json!({ "value": bad }),
            wrong,
        ),
        (
            "parameters/vhost-limits/%2F/limits",
            json!({ "value": { "max-colour": 5 } }),
            "Unrecognised terms [{<<\"max-colour\">>,5}] in limits",
        ),
        (
            "vhost-limits/%2F/max-queues",
            json!({ "value": "x" }),
            "max-queues should be a number, actually was \"x\"",
        ),
        (
            "vhost-limits/%2F/max-channels",
            json!({ "value": 1 }),
            "Unrecognised terms [{<<\"max-channels\">>,1}] in limits",
        ),
    ] {
        let reply = server.put(&format!("/api/{path}"), body, 400).await;
        let reason = format!("Validation failed\n\n{text}\n");
        assert_eq!(
            reply.body,
            json!({ "error": "bad_request", "reason": reason }),
            "{path}"
        );
    }
    // As with RabbitMQ, what is missing, and a user's limits, are told otherwise.
    for (path, body, reason) in [
        (
            "policies/%2F/p",
            json!({ "pattern": "^x" }),
            "definition must be given",
        ),
        (
            "vhost-limits/%2F/max-queues",
            json!({}),
            "value must be given",
        ),
        (
            "user-limits/guest/max-queues",
            json!({ "value": 1 }),
            "Unrecognised terms [{<<\"max-queues\">>,1}] in user-limits",
        ),
    ] {
        let reply = server.put(&format!("/api/{path}"), body, 400).await;
        assert_eq!(reply.body["reason"], reason, "{path}");
    }
}
