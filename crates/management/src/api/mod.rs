//! `/api`: routes of RabbitMQ's HTTP API, and a few of our own below `/api/cluster`.

mod binding_key;
mod bindings;
mod certificates;
pub(crate) mod closed;
mod cluster;
mod connections;
mod exchanges;
mod features;
mod health_checks;
mod leaderless;
pub(crate) mod limits;
mod messages;
mod nodes;
pub(crate) mod overview;
pub(crate) mod parameters;
pub(crate) mod permissions;
pub(crate) mod policies;
pub(crate) mod queues;
pub(crate) mod shovels;
mod stats;
pub(crate) mod users;
mod vhosts;

use crate::bodies::{BODY_WITHIN, SMALL};
use crate::error::{ApiError, aside};
use crate::{App, definitions, form};
use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, FromRequest, Request};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::routing::{delete, get, post, put};
use axum::{Json, Router};
use serde_json::{Map, Value};
use std::sync::Arc;
use tokio::time::timeout;

pub(crate) fn router(body_max: usize) -> Router<Arc<App>> {
    Router::new()
        .route("/overview", get(overview::overview))
        .route("/whoami", get(overview::whoami))
        .route("/version", get(overview::version))
        .route("/extensions", get(features::extensions))
        .route("/feature-flags", get(features::flags))
        .route("/feature-flags/{name}/enable", put(features::enable))
        .route("/deprecated-features", get(features::deprecated))
        .route("/deprecated-features/used", get(features::deprecated_used))
        .route("/federation-links", get(overview::nothing))
        .route("/federation-links/{vhost}", get(overview::nothing_in))
        .route("/shovels", get(shovels::list))
        .route("/shovels/{vhost}", get(shovels::list_in))
        .route(
            "/shovels/vhost/{vhost}/{name}",
            get(shovels::one).delete(shovels::delete),
        )
        .route(
            "/shovels/vhost/{vhost}/{name}/restart",
            delete(shovels::restart),
        )
        .route("/auth", get(overview::auth))
        .route("/reset", delete(overview::reset))
        .route("/reset/{node}", delete(overview::reset_node))
        .route("/cluster-name", get(cluster::name).put(cluster::set_name))
        .route("/cluster/status", get(cluster::status))
        .route("/cluster/nodes/{node}", delete(cluster::forget))
        .route("/rebalance/queues", post(cluster::rebalance))
        .route("/nodes", get(nodes::list))
        .route("/nodes/{node}", get(nodes::one))
        .route(
            "/nodes/{node}/maintenance",
            put(nodes::drain).delete(nodes::revive),
        )
        .route("/nodes/{node}/memory", get(nodes::memory))
        .route("/nodes/{node}/memory/relative", get(nodes::memory_relative))
        .route("/connections", get(connections::list))
        .route(
            "/connections/{name}",
            get(connections::one).delete(connections::close),
        )
        .route(
            "/connections/{name}/channels",
            get(connections::channels_of),
        )
        .route(
            "/connections/{name}/sessions",
            get(connections::sessions_of),
        )
        .route(
            "/connections/username/{user}",
            get(connections::of_user).delete(connections::close_of_user),
        )
        .route("/channels", get(connections::channels))
        .route("/channels/{name}", get(connections::channel))
        .route("/consumers", get(connections::consumers))
        .route("/consumers/{vhost}", get(connections::consumers_in))
        .route("/exchanges", get(exchanges::list))
        .route("/exchanges/{vhost}", get(exchanges::list_in))
        .route(
            "/exchanges/{vhost}/{name}",
            get(exchanges::one)
                .put(exchanges::declare)
                .delete(exchanges::delete),
        )
        .route("/exchanges/{vhost}/{name}/publish", post(messages::publish))
        .route("/exchanges/{vhost}/{name}/delayed", get(messages::delayed))
        .route(
            "/exchanges/{vhost}/{name}/bindings/source",
            get(bindings::from_exchange),
        )
        .route(
            "/exchanges/{vhost}/{name}/bindings/destination",
            get(bindings::to_exchange),
        )
        .route("/queues", get(queues::list))
        // RabbitMQ leaves out of the list without `detailed` what is dear to it.
        .route("/queues/detailed", get(queues::list))
        .route("/queues/{vhost}", get(queues::list_in))
        .route(
            "/queues/{vhost}/{name}",
            get(queues::one).put(queues::declare).delete(queues::delete),
        )
        .route("/queues/{vhost}/{name}/contents", delete(queues::purge))
        .route("/queues/{vhost}/{name}/actions", post(queues::act))
        .route("/queues/{vhost}/{name}/get", post(messages::get))
        .route("/queues/{vhost}/{name}/bindings", get(bindings::to_queue))
        .route("/queues/quorum/{vhost}/{name}/status", get(queues::status))
        .route("/bindings", get(bindings::list))
        .route("/bindings/{vhost}", get(bindings::list_in))
        .route(
            "/bindings/{vhost}/e/{source}/{kind}/{destination}",
            get(bindings::between).post(bindings::bind),
        )
        .route(
            "/bindings/{vhost}/e/{source}/{kind}/{destination}/{props}",
            get(bindings::one).delete(bindings::unbind),
        )
        .route("/vhosts", get(vhosts::list))
        .route(
            "/vhosts/{name}",
            get(vhosts::one).put(vhosts::put).delete(vhosts::delete),
        )
        .route(
            "/vhosts/{name}/deletion/protection",
            post(vhosts::protect).delete(vhosts::unprotect),
        )
        .route("/vhosts/{name}/permissions", get(permissions::of_vhost))
        .route(
            "/vhosts/{name}/topic-permissions",
            get(permissions::topics_of_vhost),
        )
        .route("/vhosts/{name}/connections", get(connections::of_vhost))
        .route(
            "/vhosts/{name}/channels",
            get(connections::channels_of_vhost),
        )
        .route("/vhosts/{name}/start/{node}", post(vhosts::start))
        .route("/vhost-limits", get(limits::vhosts))
        .route("/vhost-limits/{vhost}", get(limits::vhost))
        .route(
            "/vhost-limits/{vhost}/{limit}",
            put(limits::set_vhost).delete(limits::clear_vhost),
        )
        .route("/users", get(users::list))
        .route(
            "/users/without-permissions",
            get(users::without_permissions),
        )
        .route("/users/bulk-delete", post(users::bulk_delete))
        .route(
            "/users/{name}",
            get(users::one).put(users::put).delete(users::delete),
        )
        .route("/users/{name}/permissions", get(permissions::of_user))
        .route(
            "/users/{name}/topic-permissions",
            get(permissions::topics_of_user),
        )
        .route("/user-limits", get(limits::users))
        .route("/user-limits/{user}", get(limits::user))
        .route(
            "/user-limits/{user}/{limit}",
            put(limits::set_user).delete(limits::clear_user),
        )
        .route(
            "/auth/attempts/{node}",
            get(nodes::auth_attempts).delete(nodes::reset_auth_attempts),
        )
        .route(
            "/auth/attempts/{node}/source",
            get(nodes::auth_attempts_by_source).delete(nodes::reset_auth_attempts),
        )
        .route("/auth/hash_password/{password}", get(users::hash))
        .route("/permissions", get(permissions::list))
        .route(
            "/permissions/{vhost}/{user}",
            get(permissions::one)
                .put(permissions::put)
                .delete(permissions::delete),
        )
        .route("/topic-permissions", get(permissions::topics))
        .route(
            "/topic-permissions/{vhost}/{user}",
            get(permissions::topic)
                .put(permissions::put_topic)
                .delete(permissions::delete_topics),
        )
        .route(
            "/topic-permissions/{vhost}/{user}/{exchange}",
            delete(permissions::delete_topic),
        )
        .route("/policies", get(policies::list))
        .route("/policies/{vhost}", get(policies::list_in))
        .route(
            "/policies/{vhost}/{name}",
            get(policies::one)
                .put(policies::put)
                .delete(policies::delete),
        )
        .route("/operator-policies", get(policies::operator_list))
        .route(
            "/operator-policies/{vhost}",
            get(policies::operator_list_in),
        )
        .route(
            "/operator-policies/{vhost}/{name}",
            get(policies::operator_one)
                .put(policies::operator_put)
                .delete(policies::operator_delete),
        )
        .route("/parameters", get(parameters::list))
        .route("/parameters/{component}", get(parameters::list_of))
        .route("/parameters/{component}/{vhost}", get(parameters::list_in))
        .route(
            "/parameters/{component}/{vhost}/{name}",
            get(parameters::one)
                .put(parameters::put)
                .delete(parameters::delete),
        )
        .route("/global-parameters", get(parameters::globals))
        .route(
            "/global-parameters/{name}",
            get(parameters::global)
                .put(parameters::put_global)
                .delete(parameters::delete_global),
        )
        .route(
            "/definitions",
            get(definitions::export).post(definitions::import),
        )
        .route(
            "/definitions/{vhost}",
            get(definitions::export_vhost).post(definitions::import_vhost),
        )
        .route(
            "/health/checks/certificate-expiration/{within}/{unit}",
            get(certificates::check),
        )
        .route(
            "/health/checks/quorum-queues-without-elected-leaders/all-vhosts",
            get(leaderless::everywhere),
        )
        .route(
            "/health/checks/quorum-queues-without-elected-leaders/all-vhosts/pattern/{pattern}",
            get(leaderless::everywhere_named),
        )
        .route(
            "/health/checks/quorum-queues-without-elected-leaders/vhost/{vhost}",
            get(leaderless::in_vhost),
        )
        .route(
            "/health/checks/quorum-queues-without-elected-leaders/vhost/{vhost}/pattern/{pattern}",
            get(leaderless::in_vhost_named),
        )
        .route("/health/checks/{check}", get(health_checks::check))
        .route(
            "/health/checks/metadata-store/initialized/with-data",
            get(health_checks::with_data),
        )
        .route(
            "/health/checks/{check}/{argument}",
            get(health_checks::check_with),
        )
        .route("/healthchecks/node", get(health_checks::node))
        .route("/healthchecks/node/{node}", get(health_checks::node))
        .route("/aliveness-test/{vhost}", get(health_checks::aliveness))
        .layer(DefaultBodyLimit::max(body_max))
}

/// What a handler with a JSON answer returns.
pub(crate) type JsonResult = Result<Json<Value>, ApiError>;

/// What a handler returns that only does something.
pub(crate) type StatusResult = Result<StatusCode, ApiError>;

/// 201 for something new, 204 for what was there.
pub(crate) fn put_status(created: bool) -> StatusCode {
    if created {
        StatusCode::CREATED
    } else {
        StatusCode::NO_CONTENT
    }
}

/// A JSON object as body, or as the file of a form. Another content type does not matter: RabbitMQ's does not either.
pub(crate) struct Body(pub(crate) Map<String, Value>);

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let content_type = request.headers().get(CONTENT_TYPE).cloned();
        let read = axum::body::Bytes::from_request(request, state);
        let bytes = timeout(BODY_WITHIN, read)
            .await
            .map_err(|_| ApiError::BadRequest("the body did not come in time".into()))?
            .map_err(|rejection| ApiError::BadRequest(rejection.body_text()))?;
        // It takes a second or more, in which nothing else would run on this thread.
        let is_large = bytes.len() as u64 > SMALL;
        let parse = move || {
            let content_type = content_type.as_ref().and_then(|kind| kind.to_str().ok());
            Self::parse(content_type, &bytes)
        };
        match is_large {
            true => aside(parse).await?,
            false => parse(),
        }
    }
}

/// Without the byte order mark that some editors put before a text.
pub(crate) fn without_mark(text: &[u8]) -> &[u8] {
    text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text)
}

fn not_json(rejection: &JsonRejection) -> String {
    format!("the body is not JSON: {}", rejection.body_text())
}

impl Body {
    fn parse(content_type: Option<&str>, bytes: &[u8]) -> Result<Self, ApiError> {
        let bytes = match content_type.and_then(|kind| form::file(kind, bytes)) {
            Some(file) => file.map_err(ApiError::BadRequest)?,
            None => bytes,
        };
        let bytes = without_mark(bytes);
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(Self(Map::new()));
        }
        match Json::<Value>::from_bytes(bytes) {
            Ok(Json(Value::Object(object))) => Ok(Self(object)),
            Ok(Json(_)) => Err(ApiError::BadRequest("the body is not a JSON object".into())),
            Err(rejection) => Err(ApiError::BadRequest(not_json(&rejection))),
        }
    }

    /// A text that must be there.
    pub(crate) fn text(&self, key: &str) -> Result<&str, ApiError> {
        self.0
            .get(key)
            .and_then(Value::as_str)
            .ok_or_else(|| ApiError::BadRequest(format!("{key} must be given as text")))
    }

    /// A text that may be missing or null.
    pub(crate) fn optional_text(&self, key: &str) -> Result<Option<&str>, ApiError> {
        match self.0.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(ApiError::BadRequest(format!("{key} must be text"))),
        }
    }

    /// A truth value, also written as text.
    pub(crate) fn flag(&self, key: &str, default: bool) -> Result<bool, ApiError> {
        match self.0.get(key) {
            None | Some(Value::Null) => Ok(default),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(Value::String(text)) if text == "true" => Ok(true),
            Some(Value::String(text)) if text == "false" => Ok(false),
            Some(_) => Err(ApiError::BadRequest(format!("{key} must be true or false"))),
        }
    }

    /// An object that may be missing.
    pub(crate) fn object(&self, key: &str) -> Result<Option<&Map<String, Value>>, ApiError> {
        match self.0.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(object)) => Ok(Some(object)),
            // Empty Erlang property lists are written so.
            Some(Value::Array(items)) if items.is_empty() => Ok(None),
            Some(_) => Err(ApiError::BadRequest(format!("{key} must be an object"))),
        }
    }

    /// Words, as an array or separated by commas.
    pub(crate) fn words(&self, key: &str) -> Result<Option<Vec<String>>, ApiError> {
        match self.0.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => words(value)
                .map(Some)
                .ok_or_else(|| ApiError::BadRequest(format!("{key} must be a list of words"))),
        }
    }
}

/// An array of texts, or one text with commas.
pub(crate) fn words(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(text) => Some(
            text.split(',')
                .map(str::trim)
                .filter(|word| !word.is_empty())
                .map(str::to_owned)
                .collect(),
        ),
        Value::Array(items) => items
            .iter()
            .map(|item| item.as_str().map(str::to_owned))
            .collect(),
        _ => None,
    }
}
