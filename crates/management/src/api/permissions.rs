//! `/api/permissions` and `/api/topic-permissions`.

use super::{Body, JsonResult, StatusResult, put_status, users};
use crate::App;
use crate::auth::{Need, Operator};
use crate::error::ApiError;
use crate::list::ListQuery;
use crate::query::Query;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use node::broker_model::catalog::{Catalog, CatalogCommand, PermissionSpec, TopicPermissionSpec};
use serde_json::{Value, json};
use std::sync::Arc;

/// All permissions, as in lists and definition files.
pub(crate) fn rows(catalog: &Catalog) -> Vec<Value> {
    let mut rows = Vec::new();
    for user in catalog.users() {
        for (vhost, permissions) in catalog.permissions_of(&user.name) {
            rows.push(json!({
                "user": &*user.name,
                "vhost": &**vhost,
                "configure": &**permissions.configure.source(),
                "write": &**permissions.write.source(),
                "read": &**permissions.read.source(),
            }));
        }
    }
    rows
}

/// All topic permissions, as in lists and definition files.
pub(crate) fn topic_rows(catalog: &Catalog) -> Vec<Value> {
    let mut rows = Vec::new();
    for user in catalog.users() {
        for (vhost, permissions) in catalog.topic_permissions_of(&user.name) {
            rows.push(json!({
                "user": &*user.name,
                "vhost": &**vhost,
                "exchange": &*permissions.exchange,
                "write": &**permissions.write.source(),
                "read": &**permissions.read.source(),
            }));
        }
    }
    rows
}

fn only(rows: Vec<Value>, wanted: &[(&str, &str)]) -> Vec<Value> {
    let matches = |row: &Value| {
        wanted
            .iter()
            .all(|(key, value)| row.get(*key).and_then(Value::as_str) == Some(*value))
    };
    rows.into_iter().filter(matches).collect()
}

pub(super) async fn list(
    State(app): State<Arc<App>>,
    operator: Operator,
    Query(query): Query<ListQuery>,
) -> JsonResult {
    operator.need(Need::Administrator)?;
    Ok(Json(query.serve(app.read(rows))?))
}

pub(super) async fn of_vhost(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path(vhost): Path<String>,
    Query(query): Query<ListQuery>,
) -> JsonResult {
    operator.need(Need::Administrator)?;
    operator.enter(&app, &vhost).await?;
    let rows = only(app.read(rows), &[("vhost", &vhost)]);
    Ok(Json(query.serve(rows)?))
}

pub(super) async fn of_user(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path(user): Path<String>,
    Query(query): Query<ListQuery>,
) -> JsonResult {
    operator.need(Need::Administrator)?;
    users::find(&app, &user).await?;
    let rows = only(app.read(rows), &[("user", &user)]);
    Ok(Json(query.serve(rows)?))
}

async fn known(app: &App, operator: &Operator, vhost: &str, user: &str) -> Result<(), ApiError> {
    operator.need(Need::Administrator)?;
    operator.enter(app, vhost).await?;
    users::find(app, user).await.map(drop)
}

/// Where something is set, a user or vhost that is not there is a mistake of the request, as with RabbitMQ.
async fn known_to_set(
    app: &App,
    operator: &Operator,
    vhost: &str,
    user: &str,
) -> Result<(), ApiError> {
    let known = known(app, operator, vhost, user).await;
    known.map_err(missing_is_a_mistake)
}

/// Permissions are for a vhost that there is.
pub(super) async fn is_there(app: &App, vhost: &str) -> Result<(), ApiError> {
    let look = || app.read(|catalog| catalog.vhost(vhost).is_some());
    if look() {
        return Ok(());
    }
    app.be_up_to_date().await?;
    match look() {
        true => Ok(()),
        false => Err(missing_is_a_mistake(ApiError::NotFound)),
    }
}

pub(super) fn missing_is_a_mistake(error: ApiError) -> ApiError {
    match error {
        ApiError::NotFound => ApiError::BadRequest("vhost_or_user_not_found".into()),
        other => other,
    }
}

/// The rows of one user in one vhost, which must be some.
async fn granted(
    app: &App,
    operator: &Operator,
    vhost: &str,
    user: &str,
    rows: fn(&Catalog) -> Vec<Value>,
) -> Result<Vec<Value>, ApiError> {
    known(app, operator, vhost, user).await?;
    let look = || only(app.read(rows), &[("vhost", vhost), ("user", user)]);
    let mut found = look();
    if found.is_empty() {
        app.be_up_to_date().await?;
        found = look();
    }
    if found.is_empty() {
        return Err(ApiError::NotFound);
    }
    Ok(found)
}

pub(super) async fn one(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path((vhost, user)): Path<(String, String)>,
) -> JsonResult {
    let mut found = granted(&app, &operator, &vhost, &user, rows).await?;
    found.pop().map(Json).ok_or(ApiError::NotFound)
}

pub(super) async fn put(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path((vhost, user)): Path<(String, String)>,
    body: Body,
) -> StatusResult {
    known_to_set(&app, &operator, &vhost, &user).await?;
    let spec = PermissionSpec {
        configure: body.text("configure")?.into(),
        write: body.text("write")?.into(),
        read: body.text("read")?.into(),
        user: user.into(),
        vhost: vhost.into(),
    };
    Ok(put_status(
        app.created(CatalogCommand::SetPermissions(spec)).await?,
    ))
}

pub(super) async fn delete(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path((vhost, user)): Path<(String, String)>,
) -> StatusResult {
    granted(&app, &operator, &vhost, &user, rows).await?;
    app.change(CatalogCommand::ClearPermissions {
        user: user.into(),
        vhost: vhost.into(),
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn topics(
    State(app): State<Arc<App>>,
    operator: Operator,
    Query(query): Query<ListQuery>,
) -> JsonResult {
    operator.need(Need::Administrator)?;
    Ok(Json(query.serve(app.read(topic_rows))?))
}

pub(super) async fn topics_of_vhost(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path(vhost): Path<String>,
    Query(query): Query<ListQuery>,
) -> JsonResult {
    operator.need(Need::Administrator)?;
    operator.enter(&app, &vhost).await?;
    let rows = only(app.read(topic_rows), &[("vhost", &vhost)]);
    Ok(Json(query.serve(rows)?))
}

pub(super) async fn topics_of_user(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path(user): Path<String>,
    Query(query): Query<ListQuery>,
) -> JsonResult {
    operator.need(Need::Administrator)?;
    users::find(&app, &user).await?;
    let rows = only(app.read(topic_rows), &[("user", &user)]);
    Ok(Json(query.serve(rows)?))
}

pub(super) async fn topic(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path((vhost, user)): Path<(String, String)>,
) -> JsonResult {
    let found = granted(&app, &operator, &vhost, &user, topic_rows).await?;
    Ok(Json(Value::Array(found)))
}

pub(super) async fn put_topic(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path((vhost, user)): Path<(String, String)>,
    body: Body,
) -> StatusResult {
    known_to_set(&app, &operator, &vhost, &user).await?;
    let exchange = super::exchanges::from_path(body.text("exchange")?);
    super::exchanges::find(&app, &vhost, exchange)
        .await
        .map_err(|error| match error {
            ApiError::NotFound => {
                ApiError::BadRequest(format!("no_such_exchange: '{exchange}' in vhost '{vhost}'"))
            }
            other => other,
        })?;
    let spec = TopicPermissionSpec {
        exchange: exchange.into(),
        write: body.text("write")?.into(),
        read: body.text("read")?.into(),
        user: user.into(),
        vhost: vhost.into(),
    };
    Ok(put_status(
        app.created(CatalogCommand::SetTopicPermissions(spec))
            .await?,
    ))
}

pub(super) async fn delete_topics(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path((vhost, user)): Path<(String, String)>,
) -> StatusResult {
    clear_topics(&app, &operator, &vhost, &user, None).await
}

pub(super) async fn delete_topic(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path((vhost, user, exchange)): Path<(String, String, String)>,
) -> StatusResult {
    clear_topics(
        &app,
        &operator,
        &vhost,
        &user,
        Some(super::exchanges::from_path(&exchange)),
    )
    .await
}

async fn clear_topics(
    app: &App,
    operator: &Operator,
    vhost: &str,
    user: &str,
    exchange: Option<&str>,
) -> StatusResult {
    granted(app, operator, vhost, user, topic_rows).await?;
    let command = CatalogCommand::ClearTopicPermissions {
        user: user.into(),
        vhost: vhost.into(),
        exchange: exchange.map(Into::into),
    };
    app.change(command).await?;
    Ok(StatusCode::NO_CONTENT)
}
