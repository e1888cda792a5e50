//! Policies and parameters.

use super::Server;
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
