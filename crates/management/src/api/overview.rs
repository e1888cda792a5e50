//! `/api/overview` and what else describes the whole.

use super::{JsonResult, StatusResult, cluster};
use crate::App;
use crate::auth::{Need, Operator};
use crate::list::{ListQuery, pick};
use crate::query::Query;
use crate::rates::Rates;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use node::Config;
use node::broker_model::ids::{NodeId, Placement};
use node::broker_model::routing::ExchangeKind;
use node::host::QueueReport;
use node::queries::{ListenerReport, NodeReport};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Instant;

/// Parts of `message_stats`, and the counters that make them.
const MESSAGE_STATS: &[(&str, &[&str])] = &[
    ("publish", &["published"]),
    ("confirm", &["confirmed"]),
    ("ack", &["acknowledged"]),
    ("deliver", &["delivered_consume_manual_ack"]),
    ("deliver_no_ack", &["delivered_consume_auto_ack"]),
    ("get", &["delivered_get_manual_ack"]),
    ("get_no_ack", &["delivered_get_auto_ack"]),
    ("get_empty", &["get_empty"]),
    (
        "deliver_get",
        &[
            "delivered_consume_manual_ack",
            "delivered_consume_auto_ack",
            "delivered_get_manual_ack",
            "delivered_get_auto_ack",
        ],
    ),
    ("redeliver", &["redelivered"]),
    ("return_unroutable", &["unroutable_returned"]),
    ("drop_unroutable", &["unroutable_dropped"]),
];

/// Parts of `churn_rates`, and their counters.
const CHURN: &[(&str, &str)] = &[
    ("connection_created", "connections_opened"),
    ("connection_closed", "connections_closed"),
    ("channel_created", "channels_opened"),
    ("channel_closed", "channels_closed"),
    ("queue_declared", "queues_declared"),
    ("queue_created", "queues_created"),
    ("queue_deleted", "queues_deleted"),
];

pub(super) async fn overview(
    State(app): State<Arc<App>>,
    operator: Operator,
    Query(query): Query<ListQuery>,
) -> JsonResult {
    let backend = app.backend();
    let config = backend.config();
    let (reports, queues, connections) = futures::join!(
        backend.reports(),
        all_queue_reports(&app),
        backend.connections()
    );
    let mut counters: BTreeMap<String, u64> = BTreeMap::new();
    for report in reports.iter().filter_map(|(_, report)| report.as_ref()) {
        for (name, value) in &report.counts {
            *counters.entry(name.clone()).or_default() += value;
        }
    }
    let rates = app.rates.lock().update(Instant::now(), &counters);
    let sum = |names: &[&str]| {
        names
            .iter()
            .filter_map(|name| counters.get(*name))
            .sum::<u64>()
    };
    let rate = |names: &[&str]| {
        names
            .iter()
            .filter_map(|name| rates.get(*name))
            .sum::<f64>()
    };
    let mut message_stats = Map::new();
    for (name, parts) in MESSAGE_STATS {
        message_stats.insert((*name).into(), sum(parts).into());
        message_stats.insert(format!("{name}_details"), json!({ "rate": rate(parts) }));
    }
    let mut churn = Map::new();
    for (name, counter) in CHURN {
        churn.insert((*name).into(), sum(&[counter]).into());
        churn.insert(
            format!("{name}_details"),
            json!({ "rate": rate(&[counter]) }),
        );
    }

    let vhosts = operator.vhosts(&app);
    let visible: BTreeSet<u64> = app.read(|catalog| {
        let ids = vhosts
            .iter()
            .flat_map(|vhost| catalog.declared_queues(vhost))
            .map(|queue| queue.id.0);
        ids.collect()
    });
    let exchanges: usize = app.read(|catalog| {
        vhosts
            .iter()
            .map(|vhost| catalog.exchanges(vhost).count())
            .sum()
    });
    let mine = || {
        queues
            .iter()
            .filter(|report| visible.contains(&report.queue))
    };
    let ready: u64 = mine().map(|report| report.ready).sum();
    let unacked: u64 = mine().map(|report| report.unacked).sum();
    let messages: u64 = mine().map(QueueReport::messages).sum();
    // Sums of what the user sees, whose rates are therefore the user's own.
    let growth = app.rates_of.totals.lock().update(
        Instant::now(),
        operator.name.to_string(),
        [ready, unacked],
    );
    let consumers: usize = mine().map(|report| report.consumers.len()).sum();
    let open = || {
        connections
            .iter()
            .filter(|connection| vhosts.iter().any(|vhost| **vhost == *connection.vhost))
    };
    let channels: usize = open().map(|connection| connection.channels.len()).sum();

    let row = json!({
        "management_version": config.product_version,
        "rates_mode": "basic",
        "product_name": config.product,
        "product_version": config.product_version,
        "rabbitmq_version": config.product_version,
        "warren_version": env!("CARGO_PKG_VERSION"),
        "cluster_name": cluster_name(&app),
        "erlang_version": "",
        "erlang_full_version": "",
        "crypto_lib_version": "",
        "cluster_tags": cluster_tags(&app),
        "node_tags": {},
        "default_queue_type": config.declarations.default_queue_type.as_str(),
        "node": Config::node_name(config.node_id),
        "exchange_types": exchange_types(),
        "message_stats": message_stats,
        "churn_rates": churn,
        "queue_totals": {
            "messages": messages,
            "messages_ready": ready,
            "messages_unacknowledged": unacked,
            "messages_details": { "rate": growth.iter().sum::<f64>() },
            "messages_ready_details": { "rate": growth[0] },
            "messages_unacknowledged_details": { "rate": growth[1] },
        },
        "object_totals": {
            "connections": open().count(),
            "channels": channels,
            "exchanges": exchanges,
            "queues": visible.len(),
            "consumers": consumers,
        },
        "listeners": all_listeners(&reports),
        "contexts": contexts(&reports),
        "sample_retention_policies": { "global": [], "basic": [], "detailed": [] },
        "statistics_db_event_queue": 0,
        "disable_stats": false,
        "enable_queue_totals": false,
        "is_op_policy_updating_enabled": true,
        "require_definition_json_extension": false,
    });
    pick(&query, row)
}

/// The cluster's display name.
pub(super) fn cluster_name(app: &App) -> String {
    app.read(|catalog| catalog.cluster_name().map(ToString::to_string))
        .unwrap_or_else(|| app.backend().config().cluster_name.clone())
}

/// What operators have written on the cluster: the global parameter of that name.
fn cluster_tags(app: &App) -> Value {
    let tags = app.read(|catalog| {
        let mut parameters = catalog.global_parameters();
        parameters
            .find(|(name, _)| &***name == "cluster_tags")
            .and_then(|(_, value)| serde_json::from_str(value).ok())
    });
    match tags {
        Some(Value::Object(tags)) => tags.into(),
        _ => json!({}),
    }
}

fn exchange_types() -> Vec<Value> {
    ExchangeKind::ALL
        .iter()
        .map(|kind| json!({ "name": kind.as_str(), "description": "", "enabled": true }))
        .collect()
}

/// Where clients and operators reach a node.
pub(super) fn listeners(report: &NodeReport) -> Vec<Value> {
    let node = Config::node_name(NodeId(report.node));
    let row = |listener: &ListenerReport| {
        json!({
            "node": node,
            "protocol": listener.protocol,
            "ip_address": listener.address.ip().to_string(),
            "port": listener.address.port(),
            "socket_opts": {},
        })
    };
    report.listeners.iter().map(row).collect()
}

/// Those of all nodes that answer, sorted as RabbitMQ sorts them.
fn all_listeners(reports: &[(NodeId, Option<NodeReport>)]) -> Vec<Value> {
    let answered = || reports.iter().filter_map(|(_, report)| report.as_ref());
    let mut rows: Vec<Value> = answered().flat_map(listeners).collect();
    let text = |row: &Value, key: &str| row.get(key).map(ToString::to_string);
    let port = |row: &Value| row.get("port").and_then(Value::as_u64);
    rows.sort_by_cached_key(|row| (text(row, "protocol"), port(row), text(row, "node")));
    rows
}

/// Where browsers reach the nodes that answer.
fn contexts(reports: &[(NodeId, Option<NodeReport>)]) -> Vec<Value> {
    let answered = reports.iter().filter_map(|(_, report)| report.as_ref());
    let of = |report: &NodeReport| {
        let node = Config::node_name(NodeId(report.node));
        let pages = report.listeners.clone().into_iter();
        pages
            .filter(|listener| listener.protocol == "http")
            .map(move |listener| {
                json!({
                    "node": node,
                    "description": "Warren management",
                    "path": "/",
                    "ip": listener.address.ip().to_string(),
                    "port": listener.address.port().to_string(),
                })
            })
    };
    answered.flat_map(of).collect()
}

/// Reports of all queues of the cluster, from all that serve them.
pub(crate) async fn all_queue_reports(app: &App) -> Vec<QueueReport> {
    let backend = app.backend();
    let placements: BTreeSet<Placement> =
        app.read(|catalog| catalog.all_queues().map(|queue| queue.placement).collect());
    let asked = placements.into_iter().filter_map(|placement| {
        let host: NodeId = backend.leader_of(placement)?;
        Some(backend.queue_reports(host, placement, Vec::new()))
    });
    let mut reports: Vec<QueueReport> = futures::future::join_all(asked)
        .await
        .into_iter()
        .flatten()
        .collect();
    // What the broker keeps for exchanges is in no queue.
    let stores: HashSet<u64> =
        app.read(|catalog| catalog.stores().map(|store| store.id.0).collect());
    reports.retain(|report| !stores.contains(&report.queue));
    reports
}

pub(super) async fn whoami(operator: Operator) -> JsonResult {
    let tags: Vec<&str> = operator.tags().iter().map(|tag| &**tag).collect();
    Ok(Json(
        json!({ "name": &*operator.name, "tags": tags, "is_internal_user": operator.user.is_stored() }),
    ))
}

pub(super) async fn version(State(app): State<Arc<App>>, _: Operator) -> JsonResult {
    Ok(Json(json!(app.backend().config().product_version)))
}

/// How a web page would log in: by name and password.
pub(super) async fn auth() -> Json<Value> {
    Json(json!({ "oauth_enabled": false }))
}

/// The samples that rates are taken from begin anew. They are those of the node that is asked: others have their own.
pub(super) async fn reset(State(app): State<Arc<App>>, operator: Operator) -> StatusResult {
    operator.need(Need::Administrator)?;
    *app.rates.lock() = Rates::default();
    app.rates_of.reset();
    Ok(StatusCode::NO_CONTENT)
}

/// The same, of a node that must be this one to have any effect.
pub(super) async fn reset_node(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path(name): Path<String>,
) -> StatusResult {
    if cluster::node_id(&app, &name)? == app.backend().config().node_id {
        return reset(State(app), operator).await;
    }
    operator.need(Need::Administrator)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lists of what does not exist here: federation links.
pub(super) async fn nothing(_: Operator) -> JsonResult {
    Ok(Json(json!([])))
}

/// The same, of one virtual host.
pub(super) async fn nothing_in(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path(vhost): Path<String>,
) -> JsonResult {
    operator.enter(&app, &vhost).await?;
    Ok(Json(json!([])))
}
