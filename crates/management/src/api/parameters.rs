//! `/api/parameters` and `/api/global-parameters`: JSON that tools keep in the cluster.

use super::{Body, JsonResult, StatusResult, put_status};
use crate::App;
use crate::auth::{Need, Operator};
use crate::error::ApiError;
use crate::list::ListQuery;
use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use node::broker_model::catalog::{Catalog, CatalogCommand, Name};
use serde_json::{Value, json};
use std::sync::Arc;

/// Parameters of a vhost.
pub(crate) fn rows(catalog: &Catalog, vhost: &str) -> Vec<Value> {
    let row = |(component, name, value): (&Name, &Name, &Name)| json!({ "vhost": vhost, "component": &**component, "name": &**name, "value": parsed(value) });
    catalog.parameters(vhost).map(row).collect()
}

/// Global parameters.
pub(crate) fn global_rows(catalog: &Catalog) -> Vec<Value> {
    catalog
        .global_parameters()
        .map(|(name, value)| json!({ "name": &**name, "value": parsed(value) }))
        .collect()
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| text.into())
}

fn value(body: &Body) -> Result<Name, ApiError> {
    let value = body
        .0
        .get("value")
        .ok_or_else(|| ApiError::BadRequest("value must be given".into()))?;
    Ok(value.to_string().into())
}

fn matching(app: &App, vhosts: &[Name], component: Option<&str>) -> Vec<Value> {
    let rows: Vec<Value> = app.read(|catalog| {
        vhosts
            .iter()
            .flat_map(|vhost| rows(catalog, vhost))
            .collect()
    });
    let wanted = |row: &Value| {
        component.is_none_or(|name| row.get("component").and_then(Value::as_str) == Some(name))
    };
    rows.into_iter().filter(wanted).collect()
}

pub(super) async fn list(
    State(app): State<Arc<App>>,
    operator: Operator,
    Query(query): Query<ListQuery>,
) -> JsonResult {
    operator.need(Need::Policymaker)?;
    Ok(Json(query.serve(matching(
        &app,
        &operator.vhosts(&app),
        None,
    ))?))
}

pub(super) async fn list_of(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path(component): Path<String>,
    Query(query): Query<ListQuery>,
) -> JsonResult {
    operator.need(Need::Policymaker)?;
    Ok(Json(query.serve(matching(
        &app,
        &operator.vhosts(&app),
        Some(&component),
    ))?))
}

pub(super) async fn list_in(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path((component, vhost)): Path<(String, String)>,
    Query(query): Query<ListQuery>,
) -> JsonResult {
    operator.need(Need::Policymaker)?;
    operator.enter(&app, &vhost).await?;
    Ok(Json(query.serve(matching(
        &app,
        &[vhost.into()],
        Some(&component),
    ))?))
}

pub(super) async fn one(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path((component, vhost, name)): Path<(String, String, String)>,
) -> JsonResult {
    operator.need(Need::Policymaker)?;
    operator.enter(&app, &vhost).await?;
    let rows = matching(&app, &[vhost.into()], Some(&component));
    let found = rows
        .into_iter()
        .find(|row| row.get("name").and_then(Value::as_str) == Some(&name));
    found.map(Json).ok_or(ApiError::NotFound)
}

pub(super) async fn put(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path((component, vhost, name)): Path<(String, String, String)>,
    body: Body,
) -> StatusResult {
    operator.need(Need::Policymaker)?;
    operator.enter(&app, &vhost).await?;
    let command = CatalogCommand::PutParameter {
        vhost: vhost.into(),
        component: component.into(),
        name: name.into(),
        value: value(&body)?,
    };
    Ok(put_status(app.created(command).await?))
}

pub(super) async fn delete(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path((component, vhost, name)): Path<(String, String, String)>,
) -> StatusResult {
    operator.need(Need::Policymaker)?;
    operator.enter(&app, &vhost).await?;
    let command = CatalogCommand::DeleteParameter {
        vhost: vhost.into(),
        component: component.into(),
        name: name.into(),
    };
    match app.created(command).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(ApiError::NotFound),
    }
}

pub(super) async fn globals(
    State(app): State<Arc<App>>,
    operator: Operator,
    Query(query): Query<ListQuery>,
) -> JsonResult {
    operator.need(Need::Policymaker)?;
    Ok(Json(query.serve(app.read(global_rows))?))
}

pub(super) async fn global(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path(name): Path<String>,
) -> JsonResult {
    operator.need(Need::Policymaker)?;
    let rows = app.read(global_rows);
    let found = rows
        .into_iter()
        .find(|row| row.get("name").and_then(Value::as_str) == Some(&name));
    found.map(Json).ok_or(ApiError::NotFound)
}

pub(super) async fn put_global(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path(name): Path<String>,
    body: Body,
) -> StatusResult {
    operator.need(Need::Administrator)?;
    let command = CatalogCommand::PutGlobalParameter {
        name: name.into(),
        value: value(&body)?,
    };
    Ok(put_status(app.created(command).await?))
}

pub(super) async fn delete_global(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path(name): Path<String>,
) -> StatusResult {
    operator.need(Need::Administrator)?;
    match app
        .created(CatalogCommand::DeleteGlobalParameter { name: name.into() })
        .await?
    {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(ApiError::NotFound),
    }
}
