//! `/api/health/checks`: RabbitMQ's checks, for the scripts that call them.

use super::{JsonResult, cluster};
use crate::App;
use crate::auth::{Need, Operator};
use crate::error::ApiError;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
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
        ("alarms", None) => backend.alarms().reason().map(str::to_owned),
        ("local-alarms", None) => {
            let report = backend.report();
            (report.memory_alarm || report.disk_alarm)
                .then(|| "this node is short of memory or disk space".into())
        }
        ("ready-to-serve-clients" | "is-in-service" | "virtual-hosts", None) => {
            backend.readiness().reason().map(str::to_owned)
        }
        ("metadata-store", Some("initialized" | "initialized-with-data")) => app
            .read(|catalog| catalog.cluster_id().is_none())
            .then(|| "the cluster is not formed".into()),
        ("node-is-quorum-critical", None) => critical(app),
        ("below-node-connection-limit", None) => {
            let open = backend.report().connections;
            let reached = config
                .limits
                .connections
                .is_some_and(|limit| open >= u64::from(limit));
            reached.then(|| "the connection limit of this node is reached".into())
        }
        ("port-listener", Some(port)) => {
            let tls = config.amqps.as_ref().map(|tls| tls.listen);
            let mut ours = [
                config.amqp_listen,
                config.management_listen,
                config.cluster_listen,
            ]
            .into_iter()
            .chain(tls)
            .chain(config.prometheus_listen);
            let port: u16 = port
                .parse()
                .map_err(|_| ApiError::BadRequest("not a port".into()))?;
            (!ours.any(|address| address.port() == port)).then(|| "No active listener".into())
        }
        ("protocol-listener", Some(protocol)) => {
            let known = match protocol.to_ascii_lowercase().as_str() {
                "amqp" | "amqp091" | "amqp0-9-1" | "amqp 0-9-1" | "http" | "clustering" => true,
                "amqps" | "amqp/ssl" => config.amqps.is_some(),
                "http/prometheus" => config.prometheus_listen.is_some(),
                _ => false,
            };
            (!known).then(|| "No active listener".into())
        }
        _ => return Err(ApiError::NotFound),
    };
    Ok(match failed {
        None => passed(),
        Some(reason) => refused(json!({ "status": "failed", "reason": reason })),
    })
}

/// All is well.
pub(super) fn passed() -> Response {
    Json(json!({ "status": "ok" })).into_response()
}

/// It is not; `body` says why.
pub(super) fn refused(body: Value) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
}

/// Groups that would be left without a majority if this node stopped.
fn critical(app: &App) -> Option<String> {
    let backend = app.backend();
    let groups = backend.report().groups;
    let own = backend.config().node_id.0;
    let critical = groups.iter().filter(|group| {
        let alive = |id: &u64| *id != own && backend.is_alive(node::broker_model::ids::NodeId(*id));
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
