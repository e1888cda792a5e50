//! `/metrics`: this node's numbers in Prometheus' text format.
//!
//! Names are RabbitMQ's where they exist, so that its dashboards work; the rest is `warren_*`.

use crate::App;
use crate::backend::{Backend, Numbers};
use crate::metrics_objects::SUMS;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use node::Config;
use node::broker_model::ids::NodeId;
use node::measured::Distribution;
use node::queries::NodeReport;
use std::fmt::Write as _;
use std::sync::Arc;

/// Format 0.0.4, which everything that scrapes reads.
const CONTENT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Counters under RabbitMQ's names: ours, theirs, labels, help.
const COUNTERS: &[(&str, &str, &str, &str)] = &[
    (
        "connections_opened",
        "rabbitmq_connections_opened_total",
        "",
        "Connections opened",
    ),
    (
        "connections_closed",
        "rabbitmq_connections_closed_total",
        "",
        "Connections closed",
    ),
    (
        "channels_opened",
        "rabbitmq_channels_opened_total",
        "",
        "Channels opened",
    ),
    (
        "channels_closed",
        "rabbitmq_channels_closed_total",
        "",
        "Channels closed",
    ),
    (
        "queues_declared",
        "rabbitmq_queues_declared_total",
        "",
        "Queues declared",
    ),
    (
        "queues_created",
        "rabbitmq_queues_created_total",
        "",
        "Queues created",
    ),
    (
        "queues_deleted",
        "rabbitmq_queues_deleted_total",
        "",
        "Queues deleted",
    ),
    (
        "published",
        "rabbitmq_global_messages_received_total",
        AMQP,
        "Messages published",
    ),
    (
        "published_confirm",
        "rabbitmq_global_messages_received_confirm_total",
        AMQP,
        "Messages published with confirms",
    ),
    (
        "routed",
        "rabbitmq_global_messages_routed_total",
        AMQP,
        "Messages routed to a queue",
    ),
    (
        "confirmed",
        "rabbitmq_global_messages_confirmed_total",
        AMQP,
        "Publishes confirmed",
    ),
    (
        "unroutable_dropped",
        "rabbitmq_global_messages_unroutable_dropped_total",
        AMQP,
        "Unroutable messages dropped",
    ),
    (
        "unroutable_returned",
        "rabbitmq_global_messages_unroutable_returned_total",
        AMQP,
        "Unroutable messages returned",
    ),
    (
        "delivered_consume_manual_ack",
        "rabbitmq_global_messages_delivered_consume_manual_ack_total",
        QUEUE,
        "Deliveries to consumers that acknowledge",
    ),
    (
        "delivered_consume_auto_ack",
        "rabbitmq_global_messages_delivered_consume_auto_ack_total",
        QUEUE,
        "Deliveries to consumers that do not acknowledge",
    ),
    (
        "delivered_get_manual_ack",
        "rabbitmq_global_messages_delivered_get_manual_ack_total",
        QUEUE,
        "Messages got that need an acknowledgement",
    ),
    (
        "delivered_get_auto_ack",
        "rabbitmq_global_messages_delivered_get_auto_ack_total",
        QUEUE,
        "Messages got that need none",
    ),
    (
        "get_empty",
        "rabbitmq_global_messages_get_empty_total",
        QUEUE,
        "Gets that found nothing",
    ),
    (
        "redelivered",
        "rabbitmq_global_messages_redelivered_total",
        QUEUE,
        "Deliveries flagged as redelivered",
    ),
    (
        "acknowledged",
        "rabbitmq_global_messages_acknowledged_total",
        QUEUE,
        "Messages acknowledged",
    ),
    (
        "died_rejected",
        "rabbitmq_global_messages_dead_lettered_rejected_total",
        DEAD,
        "Messages that were rejected",
    ),
    (
        "died_expired",
        "rabbitmq_global_messages_dead_lettered_expired_total",
        DEAD,
        "Messages whose time was over",
    ),
    (
        "died_maxlen",
        "rabbitmq_global_messages_dead_lettered_maxlen_total",
        DEAD,
        "Messages dropped from full queues",
    ),
    (
        "died_delivery_limit",
        "rabbitmq_global_messages_dead_lettered_delivery_limit_total",
        DEAD,
        "Messages that failed too often",
    ),
    (
        "auth_attempts",
        "rabbitmq_auth_attempts_total",
        "",
        "Logins tried",
    ),
    (
        "auth_failed",
        "rabbitmq_auth_attempts_failed_total",
        "",
        "Logins refused",
    ),
    (
        "bytes_received",
        "rabbitmq_connection_incoming_bytes_total",
        "",
        "Bytes read from clients",
    ),
    (
        "bytes_sent",
        "rabbitmq_connection_outgoing_bytes_total",
        "",
        "Bytes written to clients",
    ),
];

const AMQP: &str = "protocol=\"amqp091\"";
/// Whether or not there is a dead letter exchange.
const DEAD: &str = "queue_type=\"rabbit_quorum_queue\"";
const QUEUE: &str = "protocol=\"amqp091\",queue_type=\"rabbit_quorum_queue\"";

/// `GET /metrics`
pub(crate) async fn text(State(app): State<Arc<App>>) -> Response {
    answer(match app.open_backend() {
        Ok(backend) => render(
            &**backend,
            &backend.numbers().await,
            Page::default(),
            "aggregated",
        ),
        Err(_) => Page::not_ready(),
    })
}

/// The response.
pub(crate) fn answer(page: Page) -> Response {
    ([(CONTENT_TYPE, CONTENT)], page.text).into_response()
}

/// Everything but what `/metrics/per-object` shows for each object.
pub(crate) fn render_without_objects(backend: &dyn Backend, numbers: &Numbers) -> Page {
    let page = Page {
        left_out: SUMS,
        ..Page::default()
    };
    let mut page = render(backend, numbers, page, "per-object");
    page.left_out = &[];
    page
}

fn render(backend: &dyn Backend, numbers: &Numbers, mut page: Page, endpoint: &str) -> Page {
    let report = backend.report();
    identity(&mut page, backend, endpoint);
    page.gauge(
        "warren_ready",
        "Whether clients are served",
        f64::from(u8::from(backend.readiness().is_ready())),
    );
    counters(&mut page, numbers);
    objects(&mut page, backend, numbers);
    resources(&mut page, backend, &report);
    groups(&mut page, &report);
    for (name, help, value) in &numbers.gauges {
        page.gauge(name, help, *value);
    }
    for histogram in &numbers.histograms {
        page.histogram(histogram);
    }
    page
}

/// Which node this is; `endpoint` says what the page holds.
pub(crate) fn identity(page: &mut Page, backend: &dyn Backend, endpoint: &str) {
    let config = backend.config();
    let (cluster, id) = crate::backend::read(backend, |catalog| {
        let text = |name: Option<&Arc<str>>| name.map(ToString::to_string).unwrap_or_default();
        (text(catalog.cluster_name()), text(catalog.cluster_id()))
    })
    .unwrap_or_default();
    page.head("rabbitmq_identity_info", "gauge", "Node and cluster");
    page.sample(
        "rabbitmq_identity_info",
        &[
            ("rabbitmq_node", &Config::node_name(config.node_id)),
            ("rabbitmq_cluster", &cluster),
            ("rabbitmq_cluster_permanent_id", &id),
            ("rabbitmq_endpoint", endpoint),
        ],
        1.0,
    );
    page.head("rabbitmq_build_info", "gauge", "Versions");
    page.sample(
        "rabbitmq_build_info",
        &[
            ("rabbitmq_version", &config.product_version),
            ("product_name", "Warren"),
            ("product_version", env!("CARGO_PKG_VERSION")),
            ("erlang_version", ""),
        ],
        1.0,
    );
}

fn counters(page: &mut Page, numbers: &Numbers) {
    let value = |wanted: &str| {
        numbers
            .counts
            .iter()
            .find(|(name, _)| *name == wanted)
            .map(|(_, value)| *value)
    };
    for (ours, theirs, labels, help) in COUNTERS {
        page.head(theirs, "counter", help);
        page.raw(theirs, labels, value(ours).unwrap_or(0) as f64);
    }
    let sum = |names: &[&str]| names.iter().filter_map(|name| value(name)).sum::<u64>() as f64;
    page.head(
        "rabbitmq_global_messages_delivered_total",
        "counter",
        "Messages delivered",
    );
    let delivered = [
        "delivered_consume_manual_ack",
        "delivered_consume_auto_ack",
        "delivered_get_manual_ack",
        "delivered_get_auto_ack",
    ];
    page.raw(
        "rabbitmq_global_messages_delivered_total",
        QUEUE,
        sum(&delivered),
    );
    page.head(
        "rabbitmq_auth_attempts_succeeded_total",
        "counter",
        "Logins that were right",
    );
    page.raw(
        "rabbitmq_auth_attempts_succeeded_total",
        "",
        sum(&["auth_attempts"]) - sum(&["auth_failed"]),
    );
    // What RabbitMQ has no name for.
    for (name, value) in &numbers.counts {
        if !COUNTERS.iter().any(|(ours, ..)| ours == name) {
            let full = format!("warren_{name}_total");
            page.head(&full, "counter", &name.replace('_', " "));
            page.raw(&full, "", *value as f64);
        }
    }
}

fn objects(page: &mut Page, backend: &dyn Backend, numbers: &Numbers) {
    let (queues, exchanges) = crate::backend::read(backend, |catalog| {
        let exchanges = catalog
            .vhosts()
            .iter()
            .map(|vhost| catalog.exchanges(&vhost.name).count())
            .sum::<usize>();
        (catalog.all_queues().len(), exchanges)
    })
    .unwrap_or_default();
    let served = numbers.served;
    for (name, help, value) in [
        (
            "rabbitmq_connections",
            "Connections open on this node",
            numbers.connections,
        ),
        (
            "rabbitmq_channels",
            "Channels open on this node",
            numbers.channels,
        ),
        (
            "rabbitmq_consumers",
            "Consumers of clients of this node",
            numbers.consumers,
        ),
        // As with RabbitMQ a node counts its own, so that sums over nodes are right.
        (
            "rabbitmq_queues",
            "Queues that this node leads or hosts",
            served.queues,
        ),
        ("warren_queues", "Queues of the cluster", queues as u64),
        (
            "warren_exchanges",
            "Exchanges of the cluster",
            exchanges as u64,
        ),
        (
            "warren_queues_served",
            "Queues that this node leads or hosts",
            served.queues,
        ),
        (
            "rabbitmq_queue_messages_ready",
            "Ready messages of the queues served here",
            served.ready,
        ),
        (
            "rabbitmq_queue_messages_unacked",
            "Unacknowledged messages of the queues served here",
            served.unacked,
        ),
        (
            "rabbitmq_queue_messages",
            "Messages of the queues served here",
            served.messages,
        ),
        (
            "rabbitmq_queue_consumers",
            "Consumers of the queues served here",
            served.consumers,
        ),
    ] {
        page.gauge(name, help, value as f64);
    }
    for (name, help, value) in [
        (
            "rabbitmq_global_publishers",
            "Channels of clients of this node that have published",
            numbers.publishers,
        ),
        (
            "rabbitmq_global_consumers",
            "Consumers of clients of this node",
            numbers.consumers,
        ),
    ] {
        page.head(name, "gauge", help);
        page.raw(name, AMQP, value as f64);
    }
}

fn resources(page: &mut Page, backend: &dyn Backend, report: &NodeReport) {
    let alarm = |raised: bool| u64::from(raised);
    let unreachable = crate::backend::read(backend, |catalog| {
        catalog
            .nodes()
            .filter(|node| !backend.is_alive(node.node))
            .count()
    })
    .unwrap_or_default();
    for (name, help, value) in [
        (
            "rabbitmq_process_resident_memory_bytes",
            "Memory used",
            report.memory_used,
        ),
        (
            "process_resident_memory_bytes",
            "Memory used",
            report.memory_used,
        ),
        (
            "rabbitmq_resident_memory_limit_bytes",
            "Memory above which publishers are blocked",
            report.memory_limit,
        ),
        (
            "rabbitmq_disk_space_available_bytes",
            "Free disk space",
            report.disk_free,
        ),
        (
            "rabbitmq_disk_space_available_limit_bytes",
            "Free disk space below which publishers are blocked",
            report.disk_free_limit,
        ),
        (
            "rabbitmq_process_open_fds",
            "Open files and sockets",
            report.fd_used,
        ),
        (
            "rabbitmq_process_max_fds",
            "Files and sockets that may be open",
            report.fd_total,
        ),
        (
            "rabbitmq_alarms_memory_used_watermark",
            "1 while memory is short here",
            alarm(report.memory_alarm),
        ),
        (
            "rabbitmq_alarms_free_disk_space_watermark",
            "1 while disk space is short here",
            alarm(report.disk_alarm),
        ),
        (
            "rabbitmq_unreachable_cluster_peers_count",
            "Nodes that do not answer",
            unreachable as u64,
        ),
    ] {
        page.gauge(name, help, value as f64);
    }
    page.gauge(
        "rabbitmq_erlang_uptime_seconds",
        "Time since the start of this node",
        report.uptime_ms as f64 / 1000.0,
    );
}

fn groups(page: &mut Page, report: &NodeReport) {
    type Value = fn(&node::queries::GroupReport) -> f64;
    let families: [(&str, &str, Value); 8] = [
        ("rabbitmq_raft_term", "Raft term", |group| group.term as f64),
        (
            "rabbitmq_raft_commit_index",
            "Highest committed entry",
            |group| group.committed as f64,
        ),
        (
            "rabbitmq_raft_last_applied",
            "Highest applied entry",
            |group| group.applied as f64,
        ),
        (
            "rabbitmq_raft_last_written_index",
            "Last entry of the log",
            |group| group.last_log as f64,
        ),
        (
            "rabbitmq_raft_snapshot_index",
            "Entry of the last checkpoint",
            |group| group.checkpoint as f64,
        ),
        (
            "warren_raft_purged_index",
            "Highest entry that the log no longer has",
            |group| group.purged as f64,
        ),
        (
            "warren_raft_leader",
            "Id of the leading node, 0 if unknown",
            |group| group.leader.unwrap_or(0) as f64,
        ),
        (
            "warren_raft_ready",
            "1 where this node leads and serves",
            |group| f64::from(u8::from(group.ready)),
        ),
    ];
    let own = Config::node_name(NodeId(report.node));
    for (name, help, value) in families {
        page.head(name, "gauge", help);
        for group in &report.groups {
            let id = group_name(group.group);
            page.sample(name, &[("group", &id), ("node", &own)], value(group));
        }
    }
}

/// `catalog` or `shard-N`.
pub(crate) fn group_name(group: u32) -> String {
    if group == 0 {
        "catalog".into()
    } else {
        format!("shard-{group}")
    }
}

/// A page that grows.
#[derive(Default)]
pub(crate) struct Page {
    text: String,
    /// Names that are not written.
    left_out: &'static [&'static str],
}

impl Page {
    /// Of a node that has not started.
    pub(crate) fn not_ready() -> Self {
        let mut page = Self::default();
        page.gauge("warren_ready", "Whether clients are served", 0.0);
        page
    }

    /// Introduces a name.
    pub(crate) fn head(&mut self, name: &str, kind: &str, help: &str) {
        if !self.left_out.contains(&name) {
            let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        }
    }

    fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.head(name, "gauge", help);
        self.raw(name, "", value);
    }

    /// A sample with labels that need no escaping.
    fn raw(&mut self, name: &str, labels: &str, value: f64) {
        if self.left_out.contains(&name) {
            return;
        }
        let _ = match labels {
            "" => writeln!(self.text, "{name} {value}"),
            labels => writeln!(self.text, "{name}{{{labels}}} {value}"),
        };
    }

    /// A sample; the values of labels are escaped.
    pub(crate) fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let labels: Vec<String> = labels
            .iter()
            .map(|(key, text)| format!("{key}=\"{}\"", escaped(text)))
            .collect();
        self.raw(name, &labels.join(","), value);
    }

    fn histogram(&mut self, histogram: &Distribution) {
        let name = histogram.name;
        self.head(name, "histogram", histogram.help);
        let labels = histogram.labels;
        let comma = if labels.is_empty() { "" } else { "," };
        let bounds = histogram.buckets.iter();
        let bounds = bounds.map(|(bound, count)| (bound.to_string(), *count));
        for (bound, count) in bounds.chain([("+Inf".to_owned(), histogram.count)]) {
            let labels = format!("{labels}{comma}le=\"{bound}\"");
            self.raw(&format!("{name}_bucket"), &labels, count as f64);
        }
        self.raw(&format!("{name}_sum"), labels, histogram.sum);
        self.raw(&format!("{name}_count"), labels, histogram.count as f64);
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}
