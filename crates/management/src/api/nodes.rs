//! `/api/nodes`.

use super::{JsonResult, StatusResult, cluster, overview};
use crate::App;
use crate::auth::{Need, Operator};
use crate::error::ApiError;
use crate::list::{ListQuery, pick};
use crate::query::Query;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use node::Config;
use node::broker_model::ids::NodeId;
use node::queries::NodeReport;
use serde_json::{Map, Value, json};
use std::sync::Arc;

pub(super) async fn list(
    State(app): State<Arc<App>>,
    operator: Operator,
    Query(query): Query<ListQuery>,
) -> JsonResult {
    operator.need(Need::Monitoring)?;
    let reports = app.backend().reports().await;
    Ok(Json(
        query.serve(
            reports
                .iter()
                .map(|(node, report)| row(&app, *node, report.as_ref()))
                .collect(),
        )?,
    ))
}

pub(super) async fn one(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path(name): Path<String>,
    Query(query): Query<ListQuery>,
) -> JsonResult {
    operator.need(Need::Monitoring)?;
    let node = cluster::node_id(&app, &name)?;
    let reports = app.backend().reports().await;
    let report = reports
        .iter()
        .find(|(id, _)| *id == node)
        .and_then(|(_, report)| report.as_ref());
    pick(&query, row(&app, node, report))
}

pub(super) async fn memory(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path(name): Path<String>,
) -> JsonResult {
    let used = memory_used(&app, &operator, &name).await?;
    let mut parts = memory_parts(used);
    let total = json!({ "rss": used, "allocated": used, "erlang": used });
    parts.insert("strategy".into(), "rss".into());
    parts.insert("total".into(), total);
    Ok(Json(json!({ "memory": parts })))
}

/// What RabbitMQ tells the memory of. Here the whole is all that is known, and it is none of the others.
const MEMORY_PARTS: [&str; 26] = [
    "connection_readers",
    "connection_writers",
    "connection_channels",
    "connection_other",
    "queue_procs",
    "quorum_queue_procs",
    "quorum_queue_dlx_procs",
    "stream_queue_procs",
    "stream_queue_replica_reader_procs",
    "stream_queue_coordinator_procs",
    "plugins",
    "metadata_store",
    "other_proc",
    "metrics",
    "mgmt_db",
    "mnesia",
    "quorum_ets",
    "metadata_store_ets",
    "other_ets",
    "binary",
    "msg_index",
    "code",
    "atom",
    "other_system",
    "allocated_unused",
    "reserved_unallocated",
];

fn memory_parts(whole: u64) -> Map<String, Value> {
    let parts = MEMORY_PARTS.into_iter();
    parts
        .map(|part| {
            let known = if part == "other_system" { whole } else { 0 };
            (part.to_owned(), known.into())
        })
        .collect()
}

/// In percent of the whole.
pub(super) async fn memory_relative(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path(name): Path<String>,
) -> JsonResult {
    memory_used(&app, &operator, &name).await?;
    let mut parts = memory_parts(100);
    parts.insert("total".into(), 100.into());
    Ok(Json(json!({ "memory": parts })))
}

/// `GET /api/auth/attempts/N`.
pub(super) async fn auth_attempts(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path(name): Path<String>,
) -> JsonResult {
    operator.need(Need::Monitoring)?;
    let node = cluster::node_id(&app, &name)?;
    let attempts = app.backend().auth_attempts(node).await;
    let attempts = attempts.ok_or_else(|| silent(&name))?;
    let rows: Vec<Value> = attempts
        .iter()
        .map(|attempts| {
            json!({
                "protocol": attempts.protocol,
                "auth_attempts": attempts.succeeded + attempts.failed,
                "auth_attempts_failed": attempts.failed,
                "auth_attempts_succeeded": attempts.succeeded,
            })
        })
        .collect();
    Ok(Json(rows.into()))
}

/// Those by address and user, which RabbitMQ counts only where it is told to.
pub(super) async fn auth_attempts_by_source(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path(name): Path<String>,
) -> JsonResult {
    operator.need(Need::Monitoring)?;
    cluster::node_id(&app, &name)?;
    Ok(Json(json!([])))
}

/// `DELETE` of either: the node counts anew.
pub(super) async fn reset_auth_attempts(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path(name): Path<String>,
) -> StatusResult {
    operator.need(Need::Monitoring)?;
    let node = cluster::node_id(&app, &name)?;
    if app.backend().reset_auth_attempts(node).await {
        return Ok(StatusCode::NO_CONTENT);
    }
    Err(silent(&name))
}

fn silent(name: &str) -> ApiError {
    ApiError::Unavailable(format!("{name} does not answer"))
}

/// Takes a node out of service: others lead what it leads, and its clients are sent to them.
pub(super) async fn drain(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path(name): Path<String>,
) -> StatusResult {
    set_maintenance(&app, &operator, &name, true).await
}

/// Takes it back.
pub(super) async fn revive(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path(name): Path<String>,
) -> StatusResult {
    set_maintenance(&app, &operator, &name, false).await
}

async fn set_maintenance(app: &App, operator: &Operator, name: &str, on: bool) -> StatusResult {
    operator.need(Need::Administrator)?;
    let node = cluster::node_id(app, name)?;
    if app.backend().set_maintenance(node, on).await {
        return Ok(StatusCode::NO_CONTENT);
    }
    Err(silent(name))
}

async fn memory_used(app: &App, operator: &Operator, name: &str) -> Result<u64, ApiError> {
    operator.need(Need::Monitoring)?;
    let node = cluster::node_id(app, name)?;
    let reports = app.backend().reports().await;
    let report = reports
        .into_iter()
        .find(|(id, _)| *id == node)
        .and_then(|(_, report)| report);
    Ok(report.ok_or(ApiError::NotFound)?.memory_used)
}

fn row(app: &App, node: NodeId, report: Option<&NodeReport>) -> Value {
    let name = Config::node_name(node);
    let Some(report) = report else {
        return json!({ "name": name, "type": "disc", "running": false, "partitions": [], "cluster_links": [] });
    };
    let own = app.backend().config().node_id == node;
    let partitions: Vec<String> = if own {
        app.read(|catalog| {
            catalog
                .nodes()
                .map(|record| record.node)
                .collect::<Vec<_>>()
        })
        .into_iter()
        .filter(|other| *other != node && !app.backend().is_alive(*other))
        .map(Config::node_name)
        .collect()
    } else {
        Vec::new()
    };
    let leads = report
        .groups
        .iter()
        .filter(|group| group.leader == Some(node.0))
        .count();
    let product = &app.backend().config().product_version;
    // As text, as RabbitMQ has it. A node of an older version does not say.
    let pid = match report.pid {
        0 => String::new(),
        pid => pid.to_string(),
    };
    json!({
        "name": name,
        "os_pid": pid,
        "rabbitmq_version": product,
        "erlang_version": "",
        "erlang_full_version": "",
        "crypto_lib_version": "",
        "type": "disc",
        "running": true,
        "being_drained": report.maintenance,
        "mem_used": report.memory_used,
        "mem_limit": report.memory_limit,
        "mem_alarm": report.memory_alarm,
        "mem_calculation_strategy": "rss",
        "disk_free": report.disk_free,
        "disk_free_limit": report.disk_free_limit,
        "disk_free_alarm": report.disk_alarm,
        "fd_used": report.fd_used,
        "fd_total": report.fd_total,
        "sockets_used": report.connections,
        "sockets_total": report.fd_total,
        "proc_used": report.connections,
        "proc_total": report.fd_total,
        "uptime": report.uptime_ms,
        "run_queue": 0,
        "processors": std::thread::available_parallelism().map_or(1, usize::from),
        "partitions": partitions,
        "cluster_links": [],
        "rates_mode": "basic",
        "net_ticktime": 1,
        "enabled_plugins": ["rabbitmq_management", "rabbitmq_prometheus"],
        "applications": [
            { "name": "rabbit", "description": "The RabbitMQ that it speaks like", "version": product },
            { "name": "warren", "description": "Warren", "version": report.version },
        ],
        "config_files": [],
        "log_files": [],
        "listeners": overview::listeners(report),
        "leads": leads,
        "version": report.version,
    })
}
