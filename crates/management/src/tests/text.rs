//! The Prometheus text.

use super::Server;
use std::collections::HashSet;

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

/// What a scraper insists on: each family is introduced once, directly before its samples.
#[tokio::test]
async fn families_are_well_formed() {
    let text = Server::new().get("/metrics").await.text;
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
