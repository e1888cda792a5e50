//! `/api/vhost-limits` and `/api/user-limits`.

use super::{Body, JsonResult, StatusResult, users};
use crate::App;
use crate::auth::{Need, Operator};
use crate::error::ApiError;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use node::broker_model::catalog::{CatalogCommand, Limits};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// What has limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Of {
    Vhost,
    User,
}

/// Changes the limit of that name; a negative number is no limit, as in RabbitMQ.
pub(crate) fn apply(
    of: Of,
    limits: &mut Limits,
    name: &str,
    value: Option<i64>,
) -> Result<(), ApiError> {
    let (not_of_these, these) = match of {
        Of::Vhost => ("max-channels", "limits"),
        Of::User => ("max-queues", "user-limits"),
    };
    let unknown = || {
        Err(ApiError::BadRequest(match value {
            Some(value) => format!("Unrecognised terms [{{<<\"{name}\">>,{value}}}] in {these}"),
            None => format!("unknown limit '{name}'"),
        }))
    };
    // Earlier versions let them be set; they can be taken away.
    if name == not_of_these && value.is_some() {
        return unknown();
    }
    let value = value.and_then(|value| u64::try_from(value).ok());
    match name {
        "max-connections" => limits.max_connections = value,
        "max-queues" => limits.max_queues = value,
        "max-channels" => limits.max_channels = value,
        _ => return unknown(),
    }
    Ok(())
}

/// All limits of a definition.
pub(crate) fn read(of: Of, values: &Map<String, Value>) -> Result<Limits, ApiError> {
    let mut limits = Limits::default();
    add(of, &mut limits, values)?;
    Ok(limits)
}

/// Changes those that are named.
pub(crate) fn add(
    of: Of,
    limits: &mut Limits,
    values: &Map<String, Value>,
) -> Result<(), ApiError> {
    for (name, value) in values {
        apply(of, limits, name, Some(number(name, value)?))?;
    }
    Ok(())
}

/// What a request wants to set a limit to.
fn given(body: &Body) -> Result<&Value, ApiError> {
    let value = body.0.get("value");
    value.ok_or_else(|| ApiError::BadRequest("value must be given".into()))
}

fn number(name: &str, value: &Value) -> Result<i64, ApiError> {
    value.as_i64().ok_or_else(|| {
        ApiError::BadRequest(format!("{name} should be a number, actually was {value}"))
    })
}

fn row(key: &str, name: &str, limits: Map<String, Value>) -> Option<Value> {
    (!limits.is_empty()).then(|| json!({ key: name, "value": limits }))
}

pub(super) async fn vhosts(State(app): State<Arc<App>>, operator: Operator) -> JsonResult {
    let names = operator.vhosts(&app);
    let rows: Vec<Value> = app.read(|catalog| {
        let records = names.iter().filter_map(|name| catalog.vhost(name));
        records
            .filter_map(|vhost| row("vhost", &vhost.name, users::limits(&vhost.limits)))
            .collect()
    });
    Ok(Json(Value::Array(rows)))
}

pub(super) async fn vhost(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path(name): Path<String>,
) -> JsonResult {
    operator.enter(&app, &name).await?;
    let limits = app
        .read(|catalog| catalog.vhost(&name).map(|vhost| vhost.limits))
        .unwrap_or_default();
    Ok(Json(Value::Array(
        row("vhost", &name, users::limits(&limits))
            .into_iter()
            .collect(),
    )))
}

pub(super) async fn set_vhost(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path((name, limit)): Path<(String, String)>,
    body: Body,
) -> StatusResult {
    let value = number(&limit, given(&body)?).map_err(ApiError::into_validation)?;
    change_vhost(&app, &operator, name, &limit, Some(value)).await
}

pub(super) async fn clear_vhost(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path((name, limit)): Path<(String, String)>,
) -> StatusResult {
    change_vhost(&app, &operator, name, &limit, None).await
}

async fn change_vhost(
    app: &App,
    operator: &Operator,
    name: String,
    limit: &str,
    value: Option<i64>,
) -> StatusResult {
    operator.need(Need::Administrator)?;
    operator.enter(app, &name).await?;
    let mut limits = app
        .read(|catalog| catalog.vhost(&name).map(|vhost| vhost.limits))
        .unwrap_or_default();
    apply(Of::Vhost, &mut limits, limit, value).map_err(ApiError::into_validation)?;
    app.change(CatalogCommand::SetVhostLimits {
        vhost: name.into(),
        limits,
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn users(State(app): State<Arc<App>>, operator: Operator) -> JsonResult {
    operator.need(Need::Administrator)?;
    let rows: Vec<Value> = app.read(|catalog| {
        catalog
            .users()
            .filter_map(|user| row("user", &user.name, users::limits(&user.limits)))
            .collect()
    });
    Ok(Json(Value::Array(rows)))
}

pub(super) async fn user(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path(name): Path<String>,
) -> JsonResult {
    if *operator.name != *name && !operator.sees_all() {
        operator.need(Need::Administrator)?;
    }
    let limits = users::find(&app, &name).await?.limits;
    Ok(Json(Value::Array(
        row("user", &name, users::limits(&limits))
            .into_iter()
            .collect(),
    )))
}

pub(super) async fn set_user(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path((name, limit)): Path<(String, String)>,
    body: Body,
) -> StatusResult {
    let value = number(&limit, given(&body)?)?;
    change_user(&app, &operator, name, &limit, Some(value)).await
}

pub(super) async fn clear_user(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path((name, limit)): Path<(String, String)>,
) -> StatusResult {
    change_user(&app, &operator, name, &limit, None).await
}

async fn change_user(
    app: &App,
    operator: &Operator,
    name: String,
    limit: &str,
    value: Option<i64>,
) -> StatusResult {
    operator.need(Need::Administrator)?;
    let mut limits = users::find(app, &name).await?.limits;
    apply(Of::User, &mut limits, limit, value)?;
    app.change(CatalogCommand::SetUserLimits {
        user: name.into(),
        limits,
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}
