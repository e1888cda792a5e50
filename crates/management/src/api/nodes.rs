//! `/api/nodes`.

use super::{JsonResult, StatusResult, cluster, overview};
use crate::App;
use crate::auth::{Need, Operator};
use crate::error::ApiError;
use crate::list::{ListQuery, pick};
use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use node::Config;
use node::broker_model::ids::NodeId;
use node::queries::NodeReport;
use serde_json::{Value, json};
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
    Ok(Json(pick(&query, row(&app, node, report))))
}

pub(super) async fn memory(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path(name): Path<String>,
) -> JsonResult {
    let used = memory_used(&app, &operator, &name).await?;
    Ok(Json(
        json!({ "memory": { "total": { "rss": used, "allocated": used, "erlang": used }, "strategy": "rss" } }),
    ))
}

/// Percentages of the whole, which is all that is known.
pub(super) async fn memory_relative(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path(name): Path<String>,
) -> JsonResult {
    memory_used(&app, &operator, &name).await?;
    Ok(Json(json!({ "memory": { "total": 100 } })))
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
    Err(ApiError::Unavailable(format!("{name} does not answer")))
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
    json!({
        "name": name,
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
        "applications": [{ "name": "warren", "description": "Warren", "version": report.version }],
        "config_files": [],
        "log_files": [],
        "listeners": if own { overview::listeners(app) } else { Vec::new() },
        "leads": leads,
        "version": report.version,
    })
}
