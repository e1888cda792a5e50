//! `/api/policies` and `/api/operator-policies`.

use super::{Body, JsonResult, StatusResult, put_status};
use crate::App;
use crate::auth::{Need, Operator};
use crate::error::ApiError;
use crate::list::ListQuery;
use crate::query::Query;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use node::broker_model::catalog::{Catalog, CatalogCommand, Name, Policy, PolicySpec, PolicyValue};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// A value of a definition.
pub(crate) fn value_to_json(value: &PolicyValue) -> Value {
    match value {
        PolicyValue::Integer(number) => (*number).into(),
        PolicyValue::Text(text) => text.to_string().into(),
        PolicyValue::Bool(flag) => (*flag).into(),
        PolicyValue::Json(text) => serde_json::from_str(text).unwrap_or(Value::Null),
    }
}

fn json_to_value(value: &Value) -> PolicyValue {
    match value {
        Value::Bool(flag) => PolicyValue::Bool(*flag),
        Value::String(text) => PolicyValue::Text(text.as_str().into()),
        Value::Number(number) => match number.as_i64() {
            Some(integer) => PolicyValue::Integer(integer),
            None => PolicyValue::Json(number.to_string().into()),
        },
        other => PolicyValue::Json(other.to_string().into()),
    }
}

/// A definition as JSON.
pub(crate) fn definition(policy: &Policy) -> Map<String, Value> {
    policy
        .definition
        .iter()
        .map(|(key, value)| (key.to_string(), value_to_json(value)))
        .collect()
}

/// Policies of a vhost, as in lists and definition files.
pub(crate) fn rows(catalog: &Catalog, vhost: &str, operator: bool) -> Vec<Value> {
    let row = |policy: &Policy| {
        json!({
            "vhost": vhost,
            "name": &*policy.name,
            "pattern": &**policy.pattern.source(),
            "apply-to": policy.apply_to.as_str(),
            "definition": definition(policy),
            "priority": policy.priority,
        })
    };
    if operator {
        catalog.operator_policies(vhost).map(row).collect()
    } else {
        catalog.policies(vhost).map(row).collect()
    }
}

/// A policy as described by a request or a definition file.
pub(crate) fn spec(
    vhost: &str,
    name: &str,
    operator: bool,
    body: &Body,
) -> Result<PolicySpec, ApiError> {
    let definition = body
        .object("definition")?
        .ok_or_else(|| ApiError::BadRequest("definition must be given".into()))?;
    let priority = match body.0.get("priority") {
        None | Some(Value::Null) => 0,
        Some(value) => value
            .as_i64()
            .or_else(|| value.as_str()?.parse().ok())
            .ok_or_else(|| ApiError::BadRequest("priority must be a number".into()))?,
    };
    Ok(PolicySpec {
        vhost: vhost.into(),
        name: name.into(),
        operator,
        pattern: body.text("pattern")?.into(),
        apply_to: body
            .optional_text("apply-to")?
            .filter(|word| !word.is_empty())
            .unwrap_or("all")
            .into(),
        priority,
        definition: definition
            .iter()
            .map(|(key, value)| (key.as_str().into(), json_to_value(value)))
            .collect(),
    })
}

fn serve(app: &App, vhosts: &[Name], operator: bool, query: &ListQuery) -> JsonResult {
    let rows = app.read(|catalog| {
        vhosts
            .iter()
            .flat_map(|vhost| rows(catalog, vhost, operator))
            .collect()
    });
    Ok(Json(query.serve(rows)?))
}

/// Who may change policies of this kind.
fn maker(operator: bool) -> Need {
    if operator {
        Need::Administrator
    } else {
        Need::Policymaker
    }
}

/// As RabbitMQ, shows a single one only to those who may change it; lists are shown to all.
async fn find(app: &App, operator: &Operator, vhost: &str, name: &str, kind: bool) -> JsonResult {
    operator.need(maker(kind))?;
    operator.enter(app, vhost).await?;
    let look = || {
        let rows = app.read(|catalog| rows(catalog, vhost, kind));
        rows.into_iter()
            .find(|row| row.get("name").and_then(Value::as_str) == Some(name))
    };
    if let Some(row) = look() {
        return Ok(Json(row));
    }
    app.be_up_to_date().await?;
    look().map(Json).ok_or(ApiError::NotFound)
}

async fn set(
    app: &App,
    operator: &Operator,
    vhost: &str,
    name: &str,
    kind: bool,
    body: &Body,
) -> StatusResult {
    operator.need(maker(kind))?;
    operator.enter(app, vhost).await?;
    put_spec(app, vhost, name, kind, body).await
}

/// Sets a policy; what is wrong with it is told as RabbitMQ tells it, but for a part that is missing.
pub(super) async fn put_spec(
    app: &App,
    vhost: &str,
    name: &str,
    kind: bool,
    body: &Body,
) -> StatusResult {
    for key in ["pattern", "definition"] {
        if !body.0.contains_key(key) {
            return Err(ApiError::BadRequest(format!("{key} must be given")));
        }
    }
    let spec = spec(vhost, name, kind, body).map_err(ApiError::into_validation)?;
    let created = app.created(CatalogCommand::PutPolicy(spec)).await;
    Ok(put_status(created.map_err(ApiError::into_validation)?))
}

pub(super) async fn remove(
    app: &App,
    operator: &Operator,
    vhost: &str,
    name: &str,
    kind: bool,
) -> StatusResult {
    let _found = find(app, operator, vhost, name, kind).await?;
    let command = CatalogCommand::DeletePolicy {
        vhost: vhost.into(),
        name: name.into(),
        operator: kind,
    };
    app.change(command).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The five handlers of one kind of policy.
macro_rules! handlers {
    ($operator:literal: $list:ident, $list_in:ident, $one:ident, $put:ident, $delete:ident) => {
        pub(super) async fn $list(
            State(app): State<Arc<App>>,
            operator: Operator,
            Query(query): Query<ListQuery>,
        ) -> JsonResult {
            serve(&app, &operator.vhosts(&app), $operator, &query)
        }

        pub(super) async fn $list_in(
            State(app): State<Arc<App>>,
            operator: Operator,
            Path(vhost): Path<String>,
            Query(query): Query<ListQuery>,
        ) -> JsonResult {
            operator.enter(&app, &vhost).await?;
            serve(&app, &[vhost.into()], $operator, &query)
        }

        pub(super) async fn $one(
            State(app): State<Arc<App>>,
            operator: Operator,
            Path((vhost, name)): Path<(String, String)>,
        ) -> JsonResult {
            find(&app, &operator, &vhost, &name, $operator).await
        }

        pub(super) async fn $put(
            State(app): State<Arc<App>>,
            operator: Operator,
            Path((vhost, name)): Path<(String, String)>,
            body: Body,
        ) -> StatusResult {
            set(&app, &operator, &vhost, &name, $operator, &body).await
        }

        pub(super) async fn $delete(
            State(app): State<Arc<App>>,
            operator: Operator,
            Path((vhost, name)): Path<(String, String)>,
        ) -> StatusResult {
            remove(&app, &operator, &vhost, &name, $operator).await
        }
    };
}

handlers!(false: list, list_in, one, put, delete);
handlers!(true: operator_list, operator_list_in, operator_one, operator_put, operator_delete);
