//! `/api/users`.

use super::{Body, JsonResult, StatusResult, put_status};
use crate::App;
use crate::auth::{Need, Operator};
use crate::error::ApiError;
use crate::list::ListQuery;
use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use node::broker_model::catalog::{
    CatalogCommand, Limits, Name, PasswordAlgorithm, PasswordHash, UserRecord, UserSpec,
};
use serde_json::{Map, Value, json};
use std::sync::Arc;

pub(super) async fn list(
    State(app): State<Arc<App>>,
    operator: Operator,
    Query(query): Query<ListQuery>,
) -> JsonResult {
    operator.need(Need::Administrator)?;
    Ok(Json(query.serve(
        app.read(|catalog| catalog.users().map(row).collect()),
    )?))
}

pub(super) async fn without_permissions(
    State(app): State<Arc<App>>,
    operator: Operator,
) -> JsonResult {
    operator.need(Need::Administrator)?;
    let rows: Vec<Value> = app.read(|catalog| {
        let without = catalog
            .users()
            .filter(|user| catalog.permissions_of(&user.name).next().is_none());
        without.map(row).collect()
    });
    Ok(Json(Value::Array(rows)))
}

pub(super) async fn one(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path(name): Path<String>,
) -> JsonResult {
    operator.need(Need::Administrator)?;
    Ok(Json(row(&find(&app, &name).await?)))
}

/// The user, after asking the catalog's leader if it is not known here.
pub(super) async fn find(app: &App, name: &str) -> Result<UserRecord, ApiError> {
    let look = || app.read(|catalog| catalog.user(name).cloned());
    if let Some(user) = look() {
        return Ok(user);
    }
    app.be_up_to_date().await?;
    look().ok_or(ApiError::NotFound)
}

/// A user as in lists and definition files.
pub(crate) fn row(user: &UserRecord) -> Value {
    json!({
        "name": &*user.name,
        "password_hash": STANDARD.encode(&user.password.hash),
        "hashing_algorithm": user.password.algorithm.as_str(),
        "tags": user.tags.iter().map(|tag| &**tag).collect::<Vec<_>>(),
        "limits": limits(&user.limits),
    })
}

/// Limits that are set, under their names.
pub(crate) fn limits(limits: &Limits) -> Map<String, Value> {
    [
        ("max-connections", limits.max_connections),
        ("max-queues", limits.max_queues),
        ("max-channels", limits.max_channels),
    ]
    .into_iter()
    .filter_map(|(name, limit)| Some((name.to_owned(), limit?.into())))
    .collect()
}

pub(super) async fn put(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path(name): Path<String>,
    body: Body,
) -> StatusResult {
    operator.need(Need::Administrator)?;
    let spec = spec(&app, &name, &body).await?;
    Ok(put_status(
        app.created(CatalogCommand::PutUser(spec)).await?,
    ))
}

/// A user as described by a request or a definition file.
pub(crate) async fn spec(app: &App, name: &str, body: &Body) -> Result<UserSpec, ApiError> {
    let tags = body
        .words("tags")?
        .or(body
            .words("administrator")?
            .map(|_| vec!["administrator".into()]))
        .ok_or_else(|| {
            ApiError::BadRequest("tags must be given, if only as an empty text".into())
        })?;
    let password = match (
        body.optional_text("password")?,
        body.optional_text("password_hash")?,
    ) {
        (Some(_), Some(_)) => {
            return Err(ApiError::BadRequest(
                "give either password or password_hash, not both".into(),
            ));
        }
        (Some(""), None) => return Err(ApiError::BadRequest("the password is empty".into())),
        (Some(password), None) => app.backend().hash_password(password.to_owned()).await,
        (None, Some("")) | (None, None) => PasswordHash::disabled(),
        (None, Some(encoded)) => {
            let algorithm = match body.optional_text("hashing_algorithm")? {
                // Files from before algorithms had names.
                None => PasswordAlgorithm::RabbitSha256,
                Some(name) => PasswordAlgorithm::parse(name).ok_or_else(|| {
                    ApiError::BadRequest(format!("unknown hashing_algorithm '{name}'"))
                })?,
            };
            let hash = STANDARD.decode(encoded).map_err(|error| {
                ApiError::BadRequest(format!("password_hash is not base64: {error}"))
            })?;
            PasswordHash {
                algorithm,
                hash: hash.into(),
            }
        }
    };
    Ok(UserSpec {
        name: name.into(),
        password,
        tags: tags.into_iter().map(Name::from).collect(),
    })
}

pub(super) async fn delete(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path(name): Path<String>,
) -> StatusResult {
    operator.need(Need::Administrator)?;
    find(&app, &name).await?;
    app.change(CatalogCommand::DeleteUser { name: name.into() })
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn bulk_delete(
    State(app): State<Arc<App>>,
    operator: Operator,
    body: Body,
) -> StatusResult {
    operator.need(Need::Administrator)?;
    let users = body
        .words("users")?
        .ok_or_else(|| ApiError::BadRequest("users must be given".into()))?;
    for name in users {
        app.change(CatalogCommand::DeleteUser { name: name.into() })
            .await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn hash(
    State(app): State<Arc<App>>,
    _: Operator,
    Path(password): Path<String>,
) -> JsonResult {
    let hashed = app.backend().hash_password(password).await;
    Ok(Json(
        json!({ "ok": STANDARD.encode(&hashed.hash), "hashing_algorithm": hashed.algorithm.as_str() }),
    ))
}
