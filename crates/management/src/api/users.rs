//! `/api/users`.

use super::{Body, JsonResult, StatusResult, put_status};
use crate::App;
use crate::auth::{Need, Operator};
use crate::error::ApiError;
use crate::list::ListQuery;
use crate::query::Query;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use node::broker_model::catalog::{
    CatalogCommand, Limits, Name, PasswordAlgorithm, PasswordHash, PermissionSpec, UserRecord,
    UserSpec,
};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// Tags of a user, at most: as many as RabbitMQ takes.
const TAGS_MAX: usize = 32;

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
    let permissions = permissions(&name, &body)?;
    let limits = added_limits(&app, &name, &body)?;
    let spec = spec(&app, &name, &body).await?;
    // Before anything is written: what is done by halves is not mended by doing it again.
    for vhost in permissions.iter().map(|spec| &*spec.vhost) {
        super::permissions::is_there(&app, vhost).await?;
    }
    let created = app.created(CatalogCommand::PutUser(spec)).await?;
    if let Some(limits) = limits {
        let user = name.into();
        let command = CatalogCommand::SetUserLimits { user, limits };
        app.change(command).await?;
    }
    // Those of a user who was there before stay as they are, as with RabbitMQ.
    if created {
        for spec in permissions {
            let set = app.change(CatalogCommand::SetPermissions(spec)).await;
            set.map_err(super::permissions::missing_is_a_mistake)?;
        }
    }
    Ok(put_status(created))
}

/// Permissions that a new user comes with, by vhost.
fn permissions(user: &str, body: &Body) -> Result<Vec<PermissionSpec>, ApiError> {
    let given = body.object("permissions")?.into_iter().flatten();
    let specs = given.map(|(vhost, patterns)| {
        let Value::Object(patterns) = patterns else {
            let text = format!("permissions in vhost '{vhost}' must be an object");
            return Err(ApiError::BadRequest(text));
        };
        let patterns = Body(patterns.clone());
        Ok(PermissionSpec {
            user: user.into(),
            vhost: vhost.as_str().into(),
            configure: patterns.text("configure")?.into(),
            write: patterns.text("write")?.into(),
            read: patterns.text("read")?.into(),
        })
    });
    specs.collect()
}

/// The user's limits with those that are given, if any are.
fn added_limits(app: &App, user: &str, body: &Body) -> Result<Option<Limits>, ApiError> {
    let given = match body.object("limits")? {
        Some(given) if !given.is_empty() => given,
        _ => return Ok(None),
    };
    let limits = app.read(|catalog| catalog.user(user).map(|user| user.limits));
    let mut limits = limits.unwrap_or_default();
    super::limits::add(super::limits::Of::User, &mut limits, given)?;
    Ok(Some(limits))
}

/// A user as described by a request or a definition file.
pub(crate) async fn spec(app: &App, name: &str, body: &Body) -> Result<UserSpec, ApiError> {
    // First what is cheap: a hash is not.
    let tags = tags(body)?;
    let password = match (
        body.optional_text("password")?,
        body.optional_text("password_hash")?,
    ) {
        (Some(_), Some(_)) => {
            return Err(ApiError::BadRequest(
                "give either password or password_hash, not both".into(),
            ));
        }
        // Nobody logs in with an empty password; RabbitMQ takes it all the same.
        (Some("") | None, None) | (None, Some("")) => PasswordHash::disabled(),
        (Some(password), None) => app.backend().hash_password(password.to_owned()).await,
        (None, Some(encoded)) => hashed(encoded, body.optional_text("hashing_algorithm")?)?,
    };
    Ok(UserSpec {
        name: name.into(),
        password,
        tags: tags.into_iter().map(Name::from).collect(),
    })
}

/// What older requests say with one flag is a tag.
fn tags(body: &Body) -> Result<Vec<String>, ApiError> {
    if let Some(tags) = body.words("tags")? {
        if tags.len() > TAGS_MAX {
            let text = format!("a user has {TAGS_MAX} tags at most");
            return Err(ApiError::BadRequest(text));
        }
        return Ok(tags);
    }
    if !body.0.contains_key("administrator") {
        let text = "tags must be given, if only as an empty text";
        return Err(ApiError::BadRequest(text.into()));
    }
    let is_administrator = body.flag("administrator", false)?;
    Ok(is_administrator
        .then(|| "administrator".to_owned())
        .into_iter()
        .collect())
}

/// A password that was hashed before; which way its form tells, where nothing else does.
fn hashed(encoded: &str, algorithm: Option<&str>) -> Result<PasswordHash, ApiError> {
    let hash = STANDARD
        .decode(encoded)
        .map_err(|error| ApiError::BadRequest(format!("password_hash is not base64: {error}")))?;
    let algorithm = match algorithm {
        None => PasswordAlgorithm::of_hash(&hash).unwrap_or(PasswordAlgorithm::RabbitSha256),
        Some(name) => PasswordAlgorithm::parse(name)
            .ok_or_else(|| ApiError::BadRequest(format!("unknown hashing_algorithm '{name}'")))?,
    };
    Ok(PasswordHash {
        algorithm,
        hash: hash.into(),
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
