//! `/api/health/checks`: RabbitMQ's checks, for the scripts that call them.

use super::{JsonResult, cluster};
use crate::App;
use crate::auth::{Need, Operator};
use crate::error::ApiError;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use node::broker_model::catalog::NodeRecord;
use node::broker_model::ids::NodeId;
use node::queries::NodeReport;
use node::{Config, Readiness};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;

pub(super) async fn check(
    State(app): State<Arc<App>>,
    _: Operator,
    Path(check): Path<String>,
) -> Result<Response, ApiError> {
    run(&app, &check, None).await
}

pub(super) async fn check_with(
    State(app): State<Arc<App>>,
    _: Operator,
    Path((check, argument)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    run(&app, &check, Some(&argument)).await
}

/// `/api/healthchecks/node`: the one check of older RabbitMQ, still what some clients offer.
///
/// Always 200; the body says `ok`, or `failed` and why.
pub(super) async fn node(
    State(app): State<Arc<App>>,
    operator: Operator,
    name: Option<Path<String>>,
) -> JsonResult {
    operator.need(Need::Monitoring)?;
    let backend = app.backend();
    let own = backend.config().node_id;
    let node = match name {
        Some(Path(name)) => cluster::node_id(&app, &name)?,
        None => own,
    };
    let reports = backend.reports().await;
    let report = reports
        .iter()
        .find(|(id, _)| *id == node)
        .and_then(|(_, report)| report.as_ref());
    let failed = match report {
        None => Some("the node does not answer"),
        Some(_) if node == own && !backend.readiness().is_ready() => {
            Some("the node does not serve clients now")
        }
        Some(report) if report.memory_alarm || report.disk_alarm => {
            Some("the node is short of memory or disk space")
        }
        Some(_) => None,
    };
    Ok(Json(match failed {
        None => json!({ "status": "ok" }),
        Some(reason) => json!({ "status": "failed", "reason": reason }),
    }))
}

async fn run(app: &App, check: &str, argument: Option<&str>) -> Result<Response, ApiError> {
    let backend = app.backend();
    let config = backend.config();
    let failed = match (check, argument) {
        ("alarms", None) => return Ok(alarms(app).await),
        ("local-alarms", None) => {
            let own = backend.report();
            let rows = alarm_rows(config.node_id, &own);
            return Ok(alarmed("this node is short of memory or disk space", rows));
        }
        // What an operator has just asked for is seen at once, before the node's readiness follows.
        ("ready-to-serve-clients" | "is-in-service", None) if backend.report().maintenance => {
            Readiness::Maintenance.reason().map(str::to_owned)
        }
        ("ready-to-serve-clients" | "is-in-service", None) => {
            backend.readiness().reason().map(str::to_owned)
        }
        // They are there in maintenance too.
        ("virtual-hosts", None) => {
            let readiness = backend.readiness();
            let reason = readiness.reason().map(str::to_owned);
            reason.filter(|_| readiness != Readiness::Maintenance)
        }
        ("metadata-store", Some("initialized" | "initialized-with-data")) => uninitialized(app),
        ("node-is-quorum-critical", None) if is_alone(app) => {
            let reason = "single node cluster";
            return Ok(Json(json!({ "status": "ok", "reason": reason })).into_response());
        }
        ("node-is-quorum-critical", None) => critical(app),
        ("below-node-connection-limit", None) => {
            let open = backend.report().connections;
            let reached = config
                .limits
                .connections
                .is_some_and(|limit| open >= u64::from(limit));
            reached.then(|| "the connection limit of this node is reached".into())
        }
        ("reached-target-cluster-size", None) => return Ok(cluster_size(app)),
        ("port-listener", Some(port)) => return port_listener(app, port),
        ("protocol-listener", Some(protocols)) => return Ok(protocol_listener(app, protocols)),
        _ => return Err(ApiError::NotFound),
    };
    Ok(match failed {
        None => passed(),
        Some(reason) => refused(json!({ "status": "failed", "reason": reason })),
    })
}

/// `/api/health/checks/metadata-store/initialized/with-data`: a cluster that is formed has a virtual host.
pub(super) async fn with_data(
    State(app): State<Arc<App>>,
    _: Operator,
) -> Result<Response, ApiError> {
    run(&app, "metadata-store", Some("initialized-with-data")).await
}

fn uninitialized(app: &App) -> Option<String> {
    app.read(|catalog| catalog.cluster_id().is_none())
        .then(|| "the cluster is not formed".into())
}

/// What this node's publishers are blocked for. Of nodes that answer it is told which they are; of others it is known that
/// there is an alarm somewhere.
async fn alarms(app: &App) -> Response {
    let backend = app.backend();
    if backend.alarms().reason().is_none() {
        return passed();
    }
    let reports = backend.reports().await;
    let rows = reports
        .iter()
        .filter_map(|(node, report)| Some(alarm_rows(*node, report.as_ref()?)));
    let mut rows: Vec<Value> = rows.flatten().collect();
    let raised = backend.alarms();
    for (resource, raised) in [("memory", raised.memory), ("disk", raised.disk)] {
        let told = |row: &Value| row.get("resource").and_then(Value::as_str) == Some(resource);
        if raised && !rows.iter().any(told) {
            rows.push(json!({ "node": "", "resource": resource }));
        }
    }
    let reason = raised
        .reason()
        .unwrap_or("a node is short of memory or disk space");
    alarmed(reason, rows)
}

fn alarm_rows(node: NodeId, report: &NodeReport) -> Vec<Value> {
    let alarms = [("memory", report.memory_alarm), ("disk", report.disk_alarm)];
    let raised = alarms.into_iter().filter(|(_, raised)| *raised);
    let name = Config::node_name(node);
    raised
        .map(|(resource, _)| json!({ "node": name, "resource": resource }))
        .collect()
}

fn alarmed(reason: &str, alarms: Vec<Value>) -> Response {
    if alarms.is_empty() {
        return passed();
    }
    refused(json!({ "status": "failed", "reason": reason, "alarms": alarms }))
}

/// Whether all members are there: the size that the cluster was formed with, or has come to since.
fn cluster_size(app: &App) -> Response {
    let backend = app.backend();
    let (online, target) = app.read(|catalog| {
        let alive = |node: &&NodeRecord| backend.is_alive(node.node);
        (
            catalog.nodes().filter(alive).count(),
            catalog.nodes().count(),
        )
    });
    if online >= target && target > 0 {
        return passed();
    }
    let reason = format!("target cluster size not reached: {online} of {target} nodes are online");
    refused(json!({ "status": "failed", "reason": reason, "online": online, "target": target }))
}

fn port_listener(app: &App, port: &str) -> Result<Response, ApiError> {
    let port: u16 = port
        .parse()
        .map_err(|_| ApiError::BadRequest("Invalid port".into()))?;
    let listeners = app.backend().config().listeners();
    let ours: Vec<u16> = listeners
        .into_iter()
        .map(|(_, address)| address.port())
        .collect();
    Ok(if ours.contains(&port) {
        Json(json!({ "status": "ok", "port": port })).into_response()
    } else {
        let reason = "No active listener";
        refused(json!({ "status": "failed", "reason": reason, "missing": port, "ports": ours }))
    })
}

/// Several, separated by commas, must all be served.
fn protocol_listener(app: &App, protocols: &str) -> Response {
    let listeners = app.backend().config().listeners();
    let ours: Vec<&str> = listeners
        .into_iter()
        .map(|(protocol, _)| protocol)
        .collect();
    let wanted: BTreeSet<String> = protocols.split(',').map(protocol).collect();
    let missing: Vec<&String> = wanted
        .iter()
        .filter(|protocol| !ours.contains(&protocol.as_str()))
        .collect();
    if missing.is_empty() {
        return Json(json!({ "status": "ok", "protocols": ours })).into_response();
    }
    refused(json!({
        "status": "failed",
        "reason": "No active listener",
        "missing": missing,
        "protocols": ours,
    }))
}

/// A protocol by the name of its listener. Unlike RabbitMQ's, that of AMQP does not serve AMQP 1.0.
fn protocol(name: &str) -> String {
    let name = name.trim().to_ascii_lowercase();
    match name.as_str() {
        "amqp091" | "amqp0.9.1" | "amqp0-9-1" | "amqp0_9_1" | "amqp 0-9-1" => "amqp",
        "amqps" | "amqp+tls" | "amqp+ssl" => "amqp/ssl",
        "http1" | "http1.1" | "http_api" | "management" | "management_ui" | "ui" => "http",
        "prometheus" => "http/prometheus",
        "cli" | "distribution" => "clustering",
        other => other,
    }
    .to_owned()
}

/// All is well.
pub(super) fn passed() -> Response {
    Json(json!({ "status": "ok" })).into_response()
}

/// It is not; `body` says why.
pub(super) fn refused(body: Value) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
}

/// Whether this node is the whole cluster.
fn is_alone(app: &App) -> bool {
    app.read(|catalog| catalog.nodes().count() == 1)
}

/// Groups that would be left without a majority if this node stopped.
fn critical(app: &App) -> Option<String> {
    let backend = app.backend();
    let groups = backend.report().groups;
    let own = backend.config().node_id.0;
    let critical = groups.iter().filter(|group| {
        let alive = |id: &u64| *id != own && backend.is_alive(NodeId(*id));
        let left = group.voters.iter().filter(|id| alive(id)).count();
        group.voters.len() > 1 && group.voters.contains(&own) && left <= group.voters.len() / 2
    });
    match critical.count() {
        0 => None,
        count => Some(format!("{count} groups would be without a majority")),
    }
}

pub(super) async fn aliveness(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path(vhost): Path<String>,
) -> JsonResult {
    operator.enter(&app, &vhost).await?;
    match app.backend().readiness().reason() {
        None => Ok(Json(json!({ "status": "ok" }))),
        Some(reason) => Err(ApiError::Unavailable(reason.into())),
    }
}
