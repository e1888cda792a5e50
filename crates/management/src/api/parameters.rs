//! `/api/parameters` and `/api/global-parameters`: JSON that tools keep in the cluster.

use super::{Body, JsonResult, StatusResult, limits, policies, put_status, shovels, users};
use crate::App;
use crate::auth::{Need, Operator};
use crate::error::ApiError;
use crate::list::ListQuery;
use crate::query::Query;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use node::broker_model::catalog::{Catalog, CatalogCommand, Limits, Name, Policy};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// What has a place of its own in the catalog, and is a parameter for RabbitMQ.
pub(crate) const OPERATOR_POLICY: &str = "operator_policy";
pub(crate) const VHOST_LIMITS: &str = "vhost-limits";
const POLICY: &str = "policy";
pub(crate) const SHOVEL: &str = node::shovels::COMPONENT;
/// The name of the parameter that holds a vhost's limits.
const LIMITS: &str = "limits";
pub(crate) const CLUSTER_NAME: &str = "cluster_name";
pub(crate) const CLUSTER_ID: &str = "internal_cluster_id";
/// Bytes of the cluster's name, at most.
const NAME_MAX: usize = 255;

/// Parameters of a vhost, with its operator policies and limits.
pub(crate) fn rows(catalog: &Catalog, vhost: &str) -> Vec<Value> {
    // Earlier versions kept those as they came, without effect.
    let own_place = |component: &str| [OPERATOR_POLICY, VHOST_LIMITS, POLICY].contains(&component);
    let kept = catalog
        .parameters(vhost)
        .filter(|(component, ..)| !own_place(component));
    let mut rows: Vec<Value> = kept
        .map(|(component, name, value)| row(vhost, component, name, parsed(value)))
        .collect();
    rows.extend(
        catalog
            .operator_policies(vhost)
            .map(|policy| row(vhost, OPERATOR_POLICY, &policy.name, policy_value(policy))),
    );
    let limits = catalog
        .vhost(vhost)
        .map(|vhost| users::limits(&vhost.limits))
        .unwrap_or_default();
    if !limits.is_empty() {
        rows.push(row(vhost, VHOST_LIMITS, LIMITS, limits.into()));
    }
    rows
}

fn row(vhost: &str, component: &str, name: &str, value: Value) -> Value {
    json!({ "vhost": vhost, "component": component, "name": name, "value": value })
}

fn policy_value(policy: &Policy) -> Value {
    json!({
        "pattern": &**policy.pattern.source(),
        "apply-to": policy.apply_to.as_str(),
        "definition": policies::definition(policy),
        "priority": policy.priority,
    })
}

/// Policies are parameters for those only who ask for them.
fn policy_rows(catalog: &Catalog, vhost: &str) -> Vec<Value> {
    let policies = catalog.policies(vhost);
    policies
        .map(|policy| row(vhost, POLICY, &policy.name, policy_value(policy)))
        .collect()
}

/// Global parameters, with the cluster's name and identity.
pub(crate) fn global_rows(catalog: &Catalog) -> Vec<Value> {
    let own_place = |name: &str| [CLUSTER_NAME, CLUSTER_ID].contains(&name);
    let kept = catalog
        .global_parameters()
        .filter(|(name, _)| !own_place(name));
    let mut rows: Vec<Value> = kept
        .map(|(name, value)| json!({ "name": &**name, "value": parsed(value) }))
        .collect();
    for (name, value) in [
        (CLUSTER_NAME, catalog.cluster_name()),
        (CLUSTER_ID, catalog.cluster_id()),
    ] {
        rows.extend(value.map(|value| json!({ "name": name, "value": &**value })));
    }
    rows
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
    let of = if component == Some(POLICY) {
        policy_rows
    } else {
        rows
    };
    let rows: Vec<Value> =
        app.read(|catalog| vhosts.iter().flat_map(|vhost| of(catalog, vhost)).collect());
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
    match component.as_str() {
        POLICY => Err(mistake("policies may not be set using this method")),
        OPERATOR_POLICY => {
            operator.need(Need::Administrator)?;
            policies::put_spec(&app, &vhost, &name, true, &Body(fields(&body)?)).await
        }
        VHOST_LIMITS => {
            operator.need(Need::Administrator)?;
            named_limits(&name)?;
            let limits = limits::read(limits::Of::Vhost, &fields(&body)?)
                .map_err(ApiError::into_validation)?;
            Ok(put_status(
                set_limits(&app, vhost, limits).await?.is_empty(),
            ))
        }
        component_name => {
            if component_name == SHOVEL {
                let value = body.0.get("value");
                let value = value.ok_or_else(|| mistake("value must be given"))?;
                shovels::check(&app, &operator, &name, value).await?;
            }
            let command = CatalogCommand::PutParameter {
                vhost: vhost.into(),
                component: component.into(),
                name: name.into(),
                value: value(&body)?,
            };
            Ok(put_status(app.created(command).await?))
        }
    }
}

fn mistake(text: &str) -> ApiError {
    ApiError::BadRequest(text.into())
}

/// The value, where it must be an object.
fn fields(body: &Body) -> Result<Map<String, Value>, ApiError> {
    let fields = body.object("value")?.cloned();
    fields.ok_or_else(|| mistake("value must be given"))
}

fn named_limits(name: &str) -> Result<(), ApiError> {
    match name {
        LIMITS => Ok(()),
        _ => Err(mistake("the limits of a vhost have the name 'limits'")),
    }
}

/// Sets a vhost's limits; returns those that it had.
async fn set_limits(
    app: &App,
    vhost: String,
    limits: Limits,
) -> Result<Map<String, Value>, ApiError> {
    let before = app.read(|catalog| catalog.vhost(&vhost).map(|vhost| vhost.limits));
    let vhost = vhost.into();
    app.change(CatalogCommand::SetVhostLimits { vhost, limits })
        .await?;
    Ok(users::limits(&before.unwrap_or_default()))
}

pub(super) async fn delete(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path((component, vhost, name)): Path<(String, String, String)>,
) -> StatusResult {
    operator.need(Need::Policymaker)?;
    operator.enter(&app, &vhost).await?;
    let was_there = match component.as_str() {
        POLICY => return Err(mistake("policies may not be cleared using this method")),
        OPERATOR_POLICY => return policies::remove(&app, &operator, &vhost, &name, true).await,
        VHOST_LIMITS => {
            operator.need(Need::Administrator)?;
            let before = if name == LIMITS {
                set_limits(&app, vhost, Limits::default()).await?
            } else {
                Map::new()
            };
            !before.is_empty()
        }
        _ => {
            let command = CatalogCommand::DeleteParameter {
                vhost: vhost.into(),
                component: component.into(),
                name: name.into(),
            };
            app.created(command).await?
        }
    };
    if was_there {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(ApiError::NotFound)
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

/// A name for the cluster: every client is told it before it logs in.
pub(crate) fn cluster_name(name: &str) -> Result<Name, ApiError> {
    if name.len() > NAME_MAX {
        let text = format!("the name of a cluster has {NAME_MAX} bytes at most");
        return Err(ApiError::BadRequest(text));
    }
    Ok(name.into())
}

pub(super) async fn put_global(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path(name): Path<String>,
    body: Body,
) -> StatusResult {
    operator.need(Need::Policymaker)?;
    let command = match name.as_str() {
        CLUSTER_NAME => {
            // As at its own path.
            operator.need(Need::Administrator)?;
            let name = cluster_name(body.text("value")?)?;
            CatalogCommand::SetClusterName { name }
        }
        CLUSTER_ID => return Err(mistake("the identity of a cluster stays as it is")),
        _ => CatalogCommand::PutGlobalParameter {
            name: name.as_str().into(),
            value: value(&body)?,
        },
    };
    let created = app.created(command).await?;
    Ok(put_status(created && name != CLUSTER_NAME))
}

pub(super) async fn delete_global(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path(name): Path<String>,
) -> StatusResult {
    operator.need(Need::Policymaker)?;
    if [CLUSTER_NAME, CLUSTER_ID].contains(&name.as_str()) {
        return Err(mistake("every cluster has a name and an identity"));
    }
    match app
        .created(CatalogCommand::DeleteGlobalParameter { name: name.into() })
        .await?
    {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(ApiError::NotFound),
    }
}
