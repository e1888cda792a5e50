//! The Prometheus text.

use super::Server;
use crate::Management;
use serde_json::json;
use std::collections::HashSet;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[tokio::test]
async fn metrics_text() {
    let server = Server::new();
    let reply = server
        .send("", "GET", "/metrics", serde_json::Value::Null)
        .await;
    assert_eq!(reply.status, 200);
    assert!(
        reply.headers["content-type"]
            .to_str()
            .unwrap()
            .starts_with("text/plain; version=0.0.4")
    );
    for line in [
        "rabbitmq_identity_info{rabbitmq_node=\"warren@1\",rabbitmq_cluster=\"test\",rabbitmq_cluster_permanent_id=\"cluster-id\",rabbitmq_endpoint=\"aggregated\"} 1",
        "# TYPE rabbitmq_global_messages_received_total counter",
        "rabbitmq_global_messages_received_total{protocol=\"amqp091\"} 5",
        "warren_nacked_total 2",
        "rabbitmq_auth_attempts_succeeded_total 2",
        "rabbitmq_connections 1",
        "rabbitmq_queue_messages 11",
        "rabbitmq_unreachable_cluster_peers_count 1",
        "rabbitmq_erlang_uptime_seconds 5",
        "rabbitmq_raft_commit_index{group=\"shard-1\",node=\"warren@1\"} 10",
        "warren_raft_leader{group=\"shard-2\",node=\"warren@1\"} 0",
        "warren_log_fsync_seconds_bucket{le=\"0.001\"} 3",
        "warren_log_fsync_seconds_bucket{le=\"+Inf\"} 5",
        "warren_log_fsync_seconds_sum 0.5",
        "rabbitmq_message_size_bytes_bucket{protocol=\"amqp091\",le=\"100\"} 1",
        "rabbitmq_message_size_bytes_bucket{protocol=\"amqp091\",le=\"+Inf\"} 2",
        "rabbitmq_message_size_bytes_sum{protocol=\"amqp091\"} 1010",
        "warren_log_bytes 12",
        "warren_ready 1",
    ] {
        assert!(
            reply.text.lines().any(|have| have == line),
            "{line} is missing in\n{}",
            reply.text
        );
    }
}

/// With a queue that this node hosts and one that another leads.
async fn with_queues() -> Server {
    let server = Server::new();
    for (name, durable) in [("own\"", false), ("other", true)] {
        let path = format!("/api/queues/%2F/{}", name.replace('"', "%22"));
        server.put(&path, json!({ "durable": durable }), 201).await;
        server.fake.count(name, 4, 3);
    }
    server
}

#[tokio::test]
async fn numbers_of_single_objects() {
    let server = with_queues().await;
    const QUEUE: &str = "{vhost=\"/\",queue=\"own\\\"\"}";
    const CONNECTION: &str = "{connection=\"127.0.0.1:4000 -> 127.0.0.1:5672\",vhost=\"/\"}";
    const CHANNEL: &str = "{channel=\"127.0.0.1:4000 -> 127.0.0.1:5672 (1)\",vhost=\"/\"}";
    let per_object = server.get("/metrics/per-object").await.text;
    let all = "family=queue_coarse_metrics&family=queue_metrics&family=queue_consumer_count\
               &family=queue_delivery_metrics&family=connection_coarse_metrics\
               &family=connection_metrics&family=channel_metrics";
    let detailed = server.get(&format!("/metrics/detailed?{all}")).await.text;
    for (name, labels, value) in [
        ("queue_messages_ready", QUEUE, 4),
        ("queue_messages_unacked", QUEUE, 3),
        ("queue_messages", QUEUE, 7),
        ("queue_consumers", QUEUE, 1),
        ("queue_messages_ready_bytes", QUEUE, 40),
        ("queue_messages_published_total", QUEUE, 9),
        ("queue_messages_delivered_ack_total", QUEUE, 5),
        ("queue_get_ack_total", QUEUE, 1),
        ("queue_messages_acked_total", QUEUE, 2),
        ("connection_incoming_bytes_total", CONNECTION, 1),
        ("connection_channels", CONNECTION, 1),
        ("channel_messages_unacked", CHANNEL, 3),
        ("channel_messages_unconfirmed", CHANNEL, 4),
    ] {
        for (text, prefix) in [
            (&per_object, "rabbitmq_"),
            (&detailed, "rabbitmq_detailed_"),
        ] {
            let line = format!("{prefix}{name}{labels} {value}");
            assert!(
                text.lines().any(|have| have == line),
                "{line} is missing in\n{text}"
            );
        }
    }
    for text in [&per_object, &detailed] {
        assert!(!text.contains("queue=\"other\""), "another node shows it");
    }
    assert!(per_object.contains("rabbitmq_endpoint=\"per-object\""));
    assert!(
        per_object
            .lines()
            .any(|line| line == "rabbitmq_connections 1")
    );
    assert!(detailed.contains("rabbitmq_endpoint=\"detailed\""));
}

#[tokio::test]
async fn only_what_is_asked_for() {
    let server = with_queues().await;
    server.put("/api/vhosts/shop", json!({}), 201).await;
    for (query, holds, lacks) in [
        ("", "rabbitmq_identity_info{", "rabbitmq_detailed_"),
        (
            "family=nothing",
            "rabbitmq_identity_info{",
            "rabbitmq_detailed_",
        ),
        (
            "family=queue_consumer_count",
            "rabbitmq_detailed_queue_consumers{",
            "rabbitmq_detailed_queue_messages",
        ),
        (
            "family=queue_coarse_metrics&vhost=shop",
            "# TYPE rabbitmq_detailed_queue_messages gauge",
            "rabbitmq_detailed_queue_messages{",
        ),
        (
            "family=queue_coarse_metrics&vhost=shop&vhost=%2F",
            "rabbitmq_detailed_queue_messages{",
            "rabbitmq_detailed_queue_consumers",
        ),
        (
            "family=vhost_status&vhost=shop",
            "rabbitmq_cluster_vhost_status{vhost=\"shop\"} 1",
            "vhost=\"/\"",
        ),
        (
            "family=exchange_names",
            "rabbitmq_cluster_exchange_name{vhost=\"shop\",exchange=\"amq.topic\",type=\"topic\"} 1",
            "rabbitmq_detailed_",
        ),
    ] {
        let text = server.get(&format!("/metrics/detailed?{query}")).await.text;
        assert!(
            text.contains(holds),
            "{query}: {holds} is missing in\n{text}"
        );
        assert!(!text.contains(lacks), "{query}: {lacks} is in\n{text}");
    }
}

#[tokio::test]
async fn queues_by_their_names() {
    let server = with_queues().await;
    server.put("/api/queues/%2F/owner", json!({}), 201).await;
    let path = |query: &str| format!("/metrics/detailed?family=queue_coarse_metrics&{query}");
    for (query, shown) in [
        ("queue=%5Eow", true),
        ("queue=wn", true),
        ("queue=", true),
        ("queue=%5Ewn", false),
        ("queue=OWN", false),
        ("queue=own&vhost=none", false),
    ] {
        let text = server.get(&path(query)).await.text;
        let has = text.contains("rabbitmq_detailed_queue_messages{vhost=\"/\",queue=\"own");
        assert_eq!(has, shown, "{query}: {text}");
    }
    for query in [
        "queue=a&queue=b",
        "queue=(",
        &format!("queue={}", "a".repeat(2001)),
    ] {
        assert_eq!(server.get(&path(query)).await.status, 400, "{query}");
    }
}

#[tokio::test]
async fn the_port_for_metrics_has_nothing_else() {
    let fake = Server::new().fake;
    let mut management = Management::start(([127, 0, 0, 1], 0).into(), true, u64::MAX)
        .await
        .unwrap();
    management.open(fake);
    let address = management
        .serve_metrics(([127, 0, 0, 1], 0).into())
        .await
        .unwrap();
    for (path, expected) in [
        ("/metrics", "200"),
        ("/metrics/per-object", "200"),
        ("/metrics/detailed?family=queue_coarse_metrics", "200"),
        ("/api/overview", "404"),
        ("/health/live", "404"),
    ] {
        let mut client = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        client.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer.split(' ').nth(1), Some(expected), "{path}");
    }
    management.shutdown().await;
    assert!(TcpStream::connect(address).await.is_err());
}

/// What a scraper insists on: each family is introduced once, directly before its samples.
#[tokio::test]
async fn families_are_well_formed() {
    let server = with_queues().await;
    for path in [
        "/metrics",
        "/metrics/per-object",
        "/metrics/detailed?family=queue_metrics&family=queue_consumer_count&family=exchange_names",
    ] {
        well_formed(&server.get(path).await.text);
    }
}

fn well_formed(text: &str) {
    let mut introduced = HashSet::new();
    let mut current = "";
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            current = rest.split(' ').next().unwrap();
            assert!(introduced.insert(current), "{current} twice");
        } else if !line.starts_with('#') {
            let name = line.split(['{', ' ']).next().unwrap();
            let family = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|suffix| name.strip_suffix(suffix));
            assert!(
                name == current || family == Some(current),
                "{line} below {current}"
            );
            assert!(
                line.rsplit(' ').next().unwrap().parse::<f64>().is_ok(),
                "{line}"
            );
        }
    }
}
