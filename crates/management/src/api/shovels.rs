//! `/api/shovels`: how the shovels are doing. Their definitions are parameters of the component `shovel`.

use super::{JsonResult, StatusResult};
use crate::App;
use crate::auth::{Need, Operator};
use crate::error::ApiError;
use crate::list::ListQuery;
use crate::query::Query;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use node::Config;
use node::broker_model::catalog::{CatalogCommand, Name};
use node::broker_model::ids::NodeId;
use node::shovel::config::{Access, closed_vhost, is_internal, redacted, validate};
use node::shovels::{COMPONENT, ShovelReport};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use time::UtcDateTime;

/// What is wrong with a definition that somebody wants to store. Of this cluster it may name only virtual hosts that they may
/// open, whatever else they administer.
pub(super) async fn check(
    app: &App,
    operator: &Operator,
    name: &str,
    value: &Value,
) -> Result<(), ApiError> {
    let errors = || {
        let may_open = |vhost: &str| app.read(|catalog| operator.user.may_open(catalog, vhost));
        let access = Access::User {
            name: &operator.name,
            may_open: &may_open,
        };
        validate(name, value, &access)
    };
    if errors().is_empty() {
        return Ok(());
    }
    // A virtual host, or a permission, may have just been made elsewhere.
    app.be_up_to_date().await?;
    match errors() {
        errors if errors.is_empty() => Ok(()),
        errors => Err(ApiError::BadRequest(errors.join("\n")).into_validation()),
    }
}

/// Refuses a definition that comes with others and would reach a virtual host that is not open to whoever brings it.
pub(crate) async fn check_reach(
    app: &App,
    operator: &Operator,
    value: &Value,
) -> Result<(), ApiError> {
    let closed = || {
        let may_open = |vhost: &str| app.read(|catalog| operator.user.may_open(catalog, vhost));
        closed_vhost(value, &may_open)
    };
    if closed().is_none() {
        return Ok(());
    }
    app.be_up_to_date().await?;
    match closed() {
        None => Ok(()),
        Some(vhost) => Err(ApiError::BadRequest(format!(
            "user \"{}\" may not connect to vhost \"{vhost}\"",
            operator.name
        ))),
    }
}

/// Why a definition that comes with others would not run; `None`: it would.
pub(crate) fn trouble(name: &str, value: &Value) -> Option<String> {
    validate(name, value, &Access::Everything)
        .into_iter()
        .next()
}

fn row(report: ShovelReport) -> Value {
    let mut row = Map::new();
    let mut put = |key: &str, value: Value| {
        row.insert(key.to_owned(), value);
    };
    put("node", Config::node_name(NodeId(report.node)).into());
    put("timestamp", moment(report.since_s).into());
    put("name", report.name.into());
    put("vhost", report.vhost.into());
    put("type", "dynamic".into());
    if report.state == "running" {
        let limit = |count: Option<u64>| count.map_or("unlimited".into(), Value::from);
        put("remaining", limit(report.remaining));
        put("remaining_unacked", limit(report.remaining_unacked));
        put("pending", report.pending.into());
        put("forwarded", report.forwarded.into());
        put("state", report.blocked.clone().into());
        put("blocked_status", report.blocked.into());
        for (key, text) in report.ends {
            put(&key, text.into());
        }
    } else {
        put("state", report.state.into());
        if let Some(reason) = report.reason {
            put("reason", reason.into());
        }
    }
    row.into()
}

/// Seconds since the Unix epoch as RabbitMQ shows times of shovels. Here in UTC.
fn moment(seconds: u64) -> String {
    let at = i64::try_from(seconds)
        .ok()
        .and_then(|seconds| UtcDateTime::from_unix_timestamp(seconds).ok())
        .unwrap_or(UtcDateTime::UNIX_EPOCH);
    let (year, month, day) = (at.year(), u8::from(at.month()), at.day());
    let (hour, minute, second) = at.as_hms();
    format!("{year}-{month:02}-{day:02} {hour}:{minute:02}:{second:02}")
}

/// Those of the virtual hosts that the user may open: also administrators see no others.
async fn visible(app: &App, operator: &Operator) -> Vec<ShovelReport> {
    let mut reports = app.backend().shovels().await;
    let known: Vec<bool> = app.read(|catalog| {
        let may_open = |report: &ShovelReport| operator.user.may_open(catalog, &report.vhost);
        reports.iter().map(may_open).collect()
    });
    let mut known = known.into_iter();
    reports.retain(|_| known.next() == Some(true));
    reports.sort_by(|a, b| (&a.vhost, &a.name).cmp(&(&b.vhost, &b.name)));
    // While the leader changes, two nodes may show the same one: the one that it has just begun on counts.
    reports.dedup_by(|new, old| {
        let same = (&new.vhost, &new.name) == (&old.vhost, &old.name);
        if same && new.since_s > old.since_s {
            std::mem::swap(new, old);
        }
        same
    });
    reports
}

pub(super) async fn list(
    State(app): State<Arc<App>>,
    operator: Operator,
    Query(query): Query<ListQuery>,
) -> JsonResult {
    operator.need(Need::Monitoring)?;
    let rows = visible(&app, &operator).await;
    Ok(Json(query.serve(rows.into_iter().map(row).collect())?))
}

pub(super) async fn list_in(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path(vhost): Path<String>,
    Query(query): Query<ListQuery>,
) -> JsonResult {
    operator.need(Need::Monitoring)?;
    operator.enter(&app, &vhost).await?;
    let mut rows = visible(&app, &operator).await;
    rows.retain(|report| report.vhost == vhost);
    Ok(Json(query.serve(rows.into_iter().map(row).collect())?))
}

fn definition(app: &App, vhost: &str, name: &str) -> Option<Value> {
    let text: Option<Name> = app.read(|catalog| {
        let mut parameters = catalog.parameters(vhost);
        let found =
            parameters.find(|(component, have, _)| ***component == *COMPONENT && ***have == *name);
        found.map(|(.., value)| value.clone())
    });
    text.map(|text| serde_json::from_str(&text).unwrap_or_default())
}

/// A definition, without what its URIs have of credentials.
pub(super) async fn one(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path((vhost, name)): Path<(String, String)>,
) -> JsonResult {
    operator.need(Need::Monitoring)?;
    operator.enter(&app, &vhost).await?;
    let value = definition(&app, &vhost, &name).ok_or(ApiError::NotFound)?;
    Ok(Json(json!({
        "vhost": vhost,
        "component": COMPONENT,
        "name": name,
        "value": redacted(&value),
    })))
}

/// Deletes a definition. As with RabbitMQ, one that is not there is no mistake.
pub(super) async fn delete(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path((vhost, name)): Path<(String, String)>,
) -> StatusResult {
    operator.need(Need::Policymaker)?;
    operator.enter(&app, &vhost).await?;
    if definition(&app, &vhost, &name).is_some_and(|value| is_internal(&value)) {
        return Err(ApiError::MethodNotAllowed);
    }
    let command = CatalogCommand::DeleteParameter {
        vhost: vhost.into(),
        component: COMPONENT.into(),
        name: name.into(),
    };
    app.change(command).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Runs a shovel anew.
pub(super) async fn restart(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path((vhost, name)): Path<(String, String)>,
) -> StatusResult {
    operator.need(Need::Policymaker)?;
    operator.enter(&app, &vhost).await?;
    if app.backend().restart_shovel(vhost, name).await {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(ApiError::NotFound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments() {
        for (seconds, expected) in [
            (0, "1970-01-01 0:00:00"),
            (951_782_400, "2000-02-29 0:00:00"),
            (1_709_251_199, "2024-02-29 23:59:59"),
            (1_709_251_200, "2024-03-01 0:00:00"),
            (1_796_083_437, "2026-12-01 0:03:57"),
        ] {
            assert_eq!(moment(seconds), expected);
        }
    }
}
