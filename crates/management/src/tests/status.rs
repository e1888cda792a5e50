//! Nodes, health, connections, and small questions.

use super::{Server, column};
use node::broker_model::ids::NodeId;
use node::{Alarms, Readiness};
use serde_json::{Value, json};

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

#[tokio::test]
async fn logins_are_counted_by_node() {
    let server = Server::new();
    let path = "/api/auth/attempts/warren@2";
    let expected = json!([{
        "protocol": "amqp091",
        "auth_attempts": 5,
        "auth_attempts_failed": 2,
        "auth_attempts_succeeded": 3,
    }]);
    assert_eq!(server.get(path).await.body, expected);
    let by_source = server.get("/api/auth/attempts/warren@2/source").await;
    assert_eq!(by_source.body, json!([]));
    server.delete(path, 204).await;
    for (node, expected) in [("warren@3", 503), ("warren@9", 404)] {
        let path = format!("/api/auth/attempts/{node}");
        assert_eq!(server.get(&path).await.status, expected);
        server.delete(&path, expected).await;
    }
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
    let stats = &channels[0]["message_stats"];
    assert_eq!(
        (&stats["publish"], &stats["deliver_get"]),
        (&5.into(), &3.into())
    );
    assert_eq!(stats["publish_details"]["rate"], 0.0);
    let consumers = server.get("/api/consumers/%2F").await.body;
    assert_eq!(
        consumers[0]["queue"],
        json!({ "name": "jobs", "vhost": "/" })
    );
    assert_eq!(consumers[0]["channel_details"]["user"], "guest");
    assert_eq!(
        consumers[0]["arguments"],
        json!({ "x-priority": 5, "note": "x" })
    );
    assert_eq!(consumers[0]["activity_status"], "up");
    assert_eq!(consumers[0]["consumer_timeout"], 0);
    // The pages of a queue and of a channel show the same.
    let queue = server.get("/api/queues/%2F/jobs").await.body;
    assert_eq!(queue["consumer_details"], consumers);
    let channel = server
        .get("/api/channels/127.0.0.1%3A4000%20-%3E%20127.0.0.1%3A5672%20(1)")
        .await
        .body;
    assert_eq!(channel["consumer_details"], consumers);
    assert_eq!(channel["prefetch_count"], 9);
    let path = "/api/channels/127.0.0.1%3A4000%20-%3E%20127.0.0.1%3A5672%20(1)?disable_stats=true";
    let bare = server.get(path).await.body;
    assert!(bare.get("consumer_details").is_none());
    let arguments = json!({ "x-single-active-consumer": true, "x-consumer-timeout": 90_000 });
    server
        .put(
            "/api/queues/%2F/one",
            json!({ "arguments": arguments }),
            201,
        )
        .await;
    server.fake.count("one", 1, 0);
    let one = server.get("/api/queues/%2F/one").await.body;
    let consumer = &one["consumer_details"][0];
    assert_eq!(consumer["activity_status"], "single_active");
    assert_eq!(consumer["consumer_timeout"], 90_000);

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
    // It joins, and has no record yet.
    server.delete("/api/cluster/nodes/warren@7", 204).await;
    server.delete("/api/cluster/nodes/warren@9", 404).await;
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
        (
            "/api/health/checks/metadata-store/initialized/with-data",
            200,
        ),
        // Node 3 is dead.
        ("/api/health/checks/reached-target-cluster-size", 503),
        (
            "/api/health/checks/protocol-listener/AMQP0.9.1,management,ui,cli",
            200,
        ),
        ("/api/health/checks/protocol-listener/amqp10", 503),
        ("/api/health/checks/protocol-listener/amqp,mqtt", 503),
        ("/api/health/checks/port-listener/many", 400),
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
        ("/", 200),
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
        if path == "/api/health/checks/alarms" {
            let alarms = json!([{ "node": "", "resource": "memory" }]);
            assert_eq!(reply.body["alarms"], alarms);
        }
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

/// What scripts read of the answers.
#[tokio::test]
async fn checks_say_what_is_there_and_what_is_not() {
    let server = Server::new();
    for (check, key, value) in [
        ("port-listener/5672", "port", json!(5672)),
        ("port-listener/1", "missing", json!(1)),
        ("port-listener/1", "ports", json!([5672, 25672, 15672])),
        ("protocol-listener/mqtt,amqp", "missing", json!(["mqtt"])),
        (
            "protocol-listener/mqtt",
            "protocols",
            json!(["amqp", "clustering", "http"]),
        ),
        ("reached-target-cluster-size", "online", json!(2)),
        ("reached-target-cluster-size", "target", json!(3)),
    ] {
        let reply = server.get(&format!("/api/health/checks/{check}")).await;
        assert_eq!(reply.body[key], value, "{check}: {}", reply.text);
    }
}

#[tokio::test]
async fn nodes_say_what_tools_read() {
    let server = Server::new();
    let node = server.get("/api/nodes/warren@1").await.body;
    assert_eq!(node["os_pid"], "77");
    assert_eq!(node["applications"][0]["name"], "rabbit");
    let memory = server.get("/api/nodes/warren@1/memory").await.body;
    let memory = &memory["memory"];
    assert_eq!(memory["total"]["rss"], 1 << 20);
    assert_eq!(memory["other_system"], 1 << 20);
    assert_eq!(memory["queue_procs"], 0);
    let relative = server.get("/api/nodes/warren@1/memory/relative").await.body;
    assert_eq!(relative["memory"]["total"], 100);
    assert_eq!(relative["memory"]["connection_readers"], 0);
    for path in ["/api/shovels", "/api/federation-links/%2F"] {
        assert_eq!(server.get(path).await.body, json!([]), "{path}");
    }
    let deprecated = server.get("/api/deprecated-features").await.body;
    assert!(column(&deprecated, "name").contains(&"transient_nonexcl_queues"));
    let used = "/api/deprecated-features/used";
    assert_eq!(server.get(used).await.body, json!([]));
    let transient = json!({ "durable": false });
    server.put("/api/queues/%2F/t", transient, 201).await;
    let used = server.get(used).await.body;
    assert_eq!(column(&used, "name"), ["transient_nonexcl_queues"]);
}

#[tokio::test]
async fn queries_that_make_no_sense_and_other_methods() {
    let server = Server::new();
    server.put("/api/queues/%2F/q", json!({}), 201).await;
    for path in [
        "/api/queues?page=one",
        "/api/queues?page=-1",
        "/api/queues?lengths_age=60&lengths_incr=0",
    ] {
        let reply = server.get(path).await;
        assert_eq!(reply.status, 400, "{path}");
        assert_eq!(reply.body["error"], "bad_request", "{path}");
    }
    let first = server.get("/api/queues?columns=name&columns=vhost").await;
    assert_eq!(first.body, json!([{ "name": "q" }]));
    let reply = server.send("", "OPTIONS", "/api/queues", Value::Null).await;
    assert_eq!(reply.status, 200);
    assert!(reply.headers["allow"].to_str().unwrap().contains("GET"));
    let range = "lengths_age=60&lengths_incr=5&msg_rates_age=60&msg_rates_incr=5";
    for path in ["/api/queues/%2F/q", "/api/overview"] {
        let row = server.get(&format!("{path}?{range}")).await.body;
        let row = row.get("queue_totals").unwrap_or(&row);
        let samples = &row["messages_details"]["samples"];
        assert_eq!(samples[0]["sample"], 0, "{path}: {row}");
    }
}

#[tokio::test]
async fn nodes_are_taken_out_of_service_and_back() {
    let server = Server::new();
    for (method, node, expected) in [
        ("PUT", "warren@2", 204),
        ("DELETE", "warren@2", 204),
        // It does not answer.
        ("PUT", "warren@3", 503),
        ("PUT", "warren@9", 404),
        ("PUT", "nobody", 404),
    ] {
        let path = format!("/api/nodes/{node}/maintenance");
        server.expect(method, &path, Value::Null, expected).await;
    }
    let told = server.fake.maintained.lock().clone();
    assert_eq!(told, [(NodeId(2), true), (NodeId(2), false)]);
}

/// Seen by scripts that ask as soon as they have asked for it.
#[tokio::test]
async fn a_node_in_maintenance_fails_the_checks_that_are_about_clients() {
    let server = Server::new();
    for (method, expected) in [("PUT", 503), ("DELETE", 200)] {
        let path = "/api/nodes/warren@1/maintenance";
        server.expect(method, path, Value::Null, 204).await;
        for (check, expected) in [
            ("is-in-service", expected),
            ("ready-to-serve-clients", expected),
            ("virtual-hosts", 200),
        ] {
            let path = format!("/api/health/checks/{check}");
            server.expect("GET", &path, Value::Null, expected).await;
        }
    }
    *server.fake.readiness.lock() = Readiness::Maintenance;
    let path = "/api/health/checks/virtual-hosts";
    server.expect("GET", path, Value::Null, 200).await;
}

#[tokio::test]
async fn one_virtual_host_takes_the_query_of_a_list() {
    let server = Server::new();
    let columns = server.get("/api/vhosts/%2F?columns=name").await;
    assert_eq!(columns.body, json!({ "name": "/" }));
    let ranges = "/api/vhosts/%2F?lengths_age=6000&lengths_incr=1";
    server.expect("GET", ranges, Value::Null, 400).await;
}

#[tokio::test]
async fn a_node_that_is_cut_off_does_not_say_what_is_missing() {
    let server = Server::new();
    server.put("/api/queues/%2F/here", json!({}), 201).await;
    for (cut_off, expected) in [(false, 404), (true, 503)] {
        *server.fake.cut_off.lock() = cut_off;
        for (method, path) in [
            ("GET", "/api/queues/%2F/none"),
            ("DELETE", "/api/queues/%2F/none"),
            ("GET", "/api/exchanges/%2F/none"),
            ("GET", "/api/users/none"),
            ("GET", "/api/policies/%2F/none"),
            ("GET", "/api/queues/none"),
            ("DELETE", "/api/exchanges/%2F/none"),
        ] {
            server.expect(method, path, Value::Null, expected).await;
        }
        assert_eq!(server.get("/api/queues/%2F/here").await.status, 200);
    }
}

#[tokio::test]
async fn the_overview_tells_what_tools_read() {
    let server = Server::new();
    let overview = server.get("/api/overview").await.body;
    assert_eq!(overview["cluster_tags"], json!({}));
    assert_eq!(overview["node_tags"], json!({}));
    assert_eq!(overview["crypto_lib_version"], "");
    assert_eq!(overview["default_queue_type"], "classic");
    for (value, expected) in [
        (json!({ "region": "eu" }), json!({ "region": "eu" })),
        (json!("eu"), json!({})),
    ] {
        let body = json!({ "value": value });
        let path = "/api/global-parameters/cluster_tags";
        server.send("guest:guest", "PUT", path, body).await;
        let overview = server.get("/api/overview").await.body;
        assert_eq!(overview["cluster_tags"], expected);
    }
    let vhost = server.get("/api/vhosts/%2F").await.body;
    assert_eq!(vhost["default_queue_type"], "classic");
    assert_eq!(vhost["metadata"]["default_queue_type"], "classic");
}

/// Node 3 does not answer.
#[tokio::test]
async fn listeners_of_all_nodes_are_told() {
    let server = Server::new();
    let overview = server.get("/api/overview").await.body;
    let listeners = &overview["listeners"];
    assert_eq!(
        column(listeners, "protocol"),
        ["amqp", "amqp", "clustering", "clustering", "http", "http"]
    );
    let nodes = ["warren@1", "warren@2"];
    assert_eq!(column(listeners, "node"), [nodes, nodes, nodes].concat());
    assert_eq!(listeners[1]["port"], 5672);
    assert_eq!(column(&overview["contexts"], "node"), nodes);
    let node = server.get("/api/nodes/warren@2").await.body;
    assert_eq!(column(&node["listeners"], "node"), ["warren@2"; 3]);
}

/// Consumers are their connections' users', and go with them.
#[tokio::test]
async fn consumers_of_others_are_not_shown() {
    let server = Server::new();
    for (user, tags) in [("ann", "management"), ("watcher", "monitoring")] {
        let body = json!({ "password": "p", "tags": tags });
        server.put(&format!("/api/users/{user}"), body, 201).await;
    }
    let all = json!({ "configure": ".*", "write": ".*", "read": ".*" });
    server.put("/api/permissions/%2F/ann", all, 201).await;
    server.put("/api/queues/%2F/jobs", json!({}), 201).await;
    server.fake.count("jobs", 1, 0);
    for (login, shown) in [("ann:p", 0), ("watcher:p", 1), ("guest:guest", 1)] {
        for path in ["/api/consumers", "/api/consumers/%2F"] {
            let rows = server.send(login, "GET", path, Value::Null).await.body;
            assert_eq!(rows.as_array().unwrap().len(), shown, "{login} {path}");
        }
    }
    // Its connection has been closed since the queue's leader was asked.
    for report in server.fake.counts.lock().values_mut() {
        report.consumers[0].connection = 8;
    }
    assert_eq!(server.get("/api/consumers").await.body, json!([]));
    let queue = server.get("/api/queues/%2F/jobs").await.body;
    assert_eq!(queue["consumer_details"], json!([]));
}
