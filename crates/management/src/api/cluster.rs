//! The cluster as a whole: name, status, leaving.

use super::{Body, JsonResult, StatusResult, overview};
use crate::App;
use crate::auth::{Need, Operator};
use crate::error::ApiError;
use crate::metrics::group_name;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use node::Config;
use node::broker_model::catalog::CatalogCommand;
use node::broker_model::ids::NodeId;
use node::queries::{GroupReport, NodeReport};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) async fn name(State(app): State<Arc<App>>, _: Operator) -> JsonResult {
    Ok(Json(json!({ "name": overview::cluster_name(&app) })))
}

pub(super) async fn set_name(
    State(app): State<Arc<App>>,
    operator: Operator,
    body: Body,
) -> StatusResult {
    operator.need(Need::Administrator)?;
    let name = super::parameters::cluster_name(body.text("name")?)?;
    app.backend()
        .change(CatalogCommand::SetClusterName { name })
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Members, leaders and what is wrong.
pub(super) async fn status(State(app): State<Arc<App>>, operator: Operator) -> JsonResult {
    operator.need(Need::Monitoring)?;
    let backend = app.backend();
    let reports: BTreeMap<NodeId, Option<NodeReport>> =
        backend.reports().await.into_iter().collect();
    let groups = groups(&reports);
    let mut warnings = Vec::new();
    let readiness = backend.readiness();
    if let Some(reason) = readiness.reason() {
        let node = Config::node_name(backend.config().node_id);
        warnings.push(format!("{node} is not ready: {reason}"));
    }
    let members = members(&app, &reports, &groups, &mut warnings);
    for (group, report) in &groups {
        if report.leader.is_none() {
            warnings.push(format!("{} has no leader", group_name(*group)));
        }
    }
    if let Some(reason) = backend.alarms().reason() {
        warnings.push(format!("publishers are blocked: {reason}"));
    }
    let rows: Vec<Value> = groups.values().map(group_row).collect();
    let config = backend.config();
    Ok(Json(json!({
        "cluster_name": overview::cluster_name(&app),
        "cluster_id": app.read(|catalog| catalog.cluster_id().map(ToString::to_string)),
        "node": Config::node_name(config.node_id),
        "version": env!("CARGO_PKG_VERSION"),
        "ready": readiness.is_ready(),
        "healthy": warnings.is_empty(),
        "warnings": warnings,
        "members": members,
        "groups": rows,
    })))
}

/// Each group as its leader sees it, else as the one who knows most.
fn groups(reports: &BTreeMap<NodeId, Option<NodeReport>>) -> BTreeMap<u32, GroupReport> {
    let mut groups: BTreeMap<u32, GroupReport> = BTreeMap::new();
    for (node, report) in reports {
        for group in report.iter().flat_map(|report| &report.groups) {
            let leads = |group: &GroupReport, node: NodeId| group.leader == Some(node.0);
            let better = groups.get(&group.group).is_none_or(|known| {
                (group.term, leads(group, *node), group.committed)
                    > (known.term, false, known.committed)
            });
            if better {
                groups.insert(group.group, group.clone());
            }
        }
    }
    groups
}

fn group_row(group: &GroupReport) -> Value {
    let names = |ids: &[u64]| {
        ids.iter()
            .map(|id| Config::node_name(NodeId(*id)))
            .collect::<Vec<_>>()
    };
    json!({
        "group": group.group,
        "name": group_name(group.group),
        "leader": group.leader.map(|leader| Config::node_name(NodeId(leader))),
        "term": group.term,
        "commit_index": group.committed,
        "applied_index": group.applied,
        "last_log_index": group.last_log,
        "checkpoint_index": group.checkpoint,
        "purged_index": group.purged,
        "members": names(&group.voters),
        "learners": names(&group.learners),
    })
}

fn members(
    app: &App,
    reports: &BTreeMap<NodeId, Option<NodeReport>>,
    groups: &BTreeMap<u32, GroupReport>,
    warnings: &mut Vec<String>,
) -> Vec<Value> {
    let records = app.read(|catalog| catalog.nodes().cloned().collect::<Vec<_>>());
    let mut rows = Vec::new();
    for record in records {
        let report = reports.get(&record.node).and_then(Option::as_ref);
        let name = Config::node_name(record.node);
        if report.is_none() {
            warnings.push(format!("{name} does not answer"));
        }
        let in_maintenance = report.is_some_and(|report| report.maintenance);
        if in_maintenance {
            warnings.push(format!("{name} is in maintenance"));
        }
        let mut alarms = Vec::new();
        if report.is_some_and(|report| report.memory_alarm) {
            alarms.push("memory");
        }
        if report.is_some_and(|report| report.disk_alarm) {
            alarms.push("disk");
        }
        rows.push(json!({
            "node": name,
            "id": record.node.0,
            "alive": report.is_some(),
            "state": record.state.as_str(),
            "maintenance": in_maintenance,
            "address": &*record.cluster_address,
            "amqp_address": &*record.amqp_address,
            "management_address": &*record.management_address,
            "version": report.map(|report| &report.version),
            "leads": groups.values().filter(|group| group.leader == Some(record.node.0)).count(),
            "uptime": report.map(|report| report.uptime_ms),
            "connections": report.map(|report| report.connections),
            "mem_used": report.map(|report| report.memory_used),
            "disk_free": report.map(|report| report.disk_free),
            "alarms": alarms,
        }));
    }
    rows
}

pub(super) async fn forget(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path(name): Path<String>,
) -> StatusResult {
    operator.need(Need::Administrator)?;
    let node = match node_id(&app, &name) {
        Ok(node) => node,
        Err(unknown) => named(&name)
            .filter(|node| app.backend().is_member(*node))
            .ok_or(unknown)?,
    };
    app.backend().forget_node(node).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn rebalance(State(app): State<Arc<App>>, operator: Operator) -> StatusResult {
    operator.need(Need::Administrator)?;
    app.backend().rebalance().await;
    Ok(StatusCode::NO_CONTENT)
}

fn named(name: &str) -> Option<NodeId> {
    let id = name.strip_prefix("warren@")?;
    id.parse().ok().map(NodeId)
}

/// The node of that name, if it is a member.
pub(super) fn node_id(app: &App, name: &str) -> Result<NodeId, ApiError> {
    named(name)
        .filter(|node| app.read(|catalog| catalog.node(*node).is_some()))
        .ok_or(ApiError::NotFound)
}
