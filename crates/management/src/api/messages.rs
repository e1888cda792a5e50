//! Publishing and getting by hand.

use super::exchanges::{self, from_path};
use super::{Body, JsonResult, queues};
use crate::App;
use crate::auth::Operator;
use crate::backend::{Got, Publish, Then};
use crate::error::ApiError;
use crate::fields::{json_to_properties, properties_to_json, text};
use crate::query::Query;
use axum::Json;
use axum::extract::{Path, State};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use node::broker_model::catalog::{Permission, ResourceKind};
use node::broker_model::message::Message;
use node::broker_model::wire::StoredMessage;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// Messages taken or shown by one request at most.
const COUNT_MAX: u64 = 10_000;
/// Delayed messages shown where the request does not say how many.
const DELAYED_COUNT: u64 = 100;

pub(super) async fn publish(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path((vhost, name)): Path<(String, String)>,
    body: Body,
) -> JsonResult {
    operator.enter(&app, &vhost).await?;
    let exchange = from_path(&name);
    exchanges::find(&app, &vhost, exchange).await?;
    operator.permitted(
        &app,
        &vhost,
        Permission::Write,
        ResourceKind::Exchange,
        exchange,
    )?;
    let payload = body.text("payload")?;
    let bytes = match body.optional_text("payload_encoding")?.unwrap_or("string") {
        "string" => Bytes::copy_from_slice(payload.as_bytes()),
        "base64" => STANDARD
            .decode(payload)
            .map_err(|error| ApiError::BadRequest(format!("payload is not base64: {error}")))?
            .into(),
        other => {
            return Err(ApiError::BadRequest(format!(
                "unknown payload_encoding '{other}'"
            )));
        }
    };
    let limit = app.backend().config().limits.message_size;
    if bytes.len() as u64 > limit {
        let reason = format!(
            "message size {} is larger than configured max size {limit}",
            bytes.len()
        );
        return Err(ApiError::BadRequest(reason));
    }
    let no_properties = Map::new();
    let properties = body.object("properties")?.unwrap_or(&no_properties);
    if let Some(user) = properties.get("user_id").and_then(Value::as_str)
        && user != &*operator.name
    {
        let reason = format!(
            "user_id property set to '{user}' but authenticated user was '{}'",
            operator.name
        );
        return Err(ApiError::BadRequest(reason));
    }
    let routing_key = body.text("routing_key")?;
    if routing_key.len() > 255 {
        return Err(ApiError::BadRequest(
            "routing_key is longer than 255 bytes".into(),
        ));
    }
    let publish = Publish {
        user: operator.user.clone(),
        vhost: vhost.into(),
        exchange: exchange.into(),
        routing_key: routing_key.into(),
        properties: json_to_properties(properties).map_err(ApiError::BadRequest)?,
        body: bytes,
    };
    let routed = app.backend().publish(publish).await?;
    Ok(Json(json!({ "routed": routed })))
}

pub(super) async fn get(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path((vhost, name)): Path<(String, String)>,
    body: Body,
) -> JsonResult {
    operator.enter(&app, &vhost).await?;
    queues::find(&app, &vhost, &name).await?;
    operator.permitted(&app, &vhost, Permission::Read, ResourceKind::Queue, &name)?;
    let number = |key: &str| {
        body.0
            .get(key)
            .and_then(|v| v.as_u64().or_else(|| v.as_str()?.parse().ok()))
    };
    let count =
        number("count").ok_or_else(|| ApiError::BadRequest("count must be a number".into()))?;
    let then = match body.text("ackmode")? {
        "ack_requeue_true" => Then::Requeue,
        "reject_requeue_true" => Then::RejectRequeue,
        "ack_requeue_false" => Then::Ack,
        "reject_requeue_false" => Then::Reject,
        other => return Err(ApiError::BadRequest(format!("unknown ackmode '{other}'"))),
    };
    let shown = Shown {
        auto: is_auto(body.optional_text("encoding")?)?,
        truncate: number("truncate"),
    };
    let count = u32::try_from(count.min(COUNT_MAX)).unwrap_or(u32::MAX);
    let got = app
        .backend()
        .get(vhost.into(), name.into(), count, then)
        .await?;
    let row = |got: &Got| {
        let mut row = shown.row(&got.message);
        row.insert("redelivered".into(), got.redelivered.into());
        row.insert("message_count".into(), got.remaining.into());
        Value::Object(row)
    };
    Ok(Json(got.iter().map(row).collect()))
}

/// What is to be seen of messages that wait.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Look {
    count: Option<u64>,
    truncate: Option<u64>,
    encoding: Option<String>,
}

/// Messages that wait for their time in an exchange: the last that came, what is due first first.
pub(super) async fn delayed(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path((vhost, name)): Path<(String, String)>,
    Query(look): Query<Look>,
) -> JsonResult {
    operator.enter(&app, &vhost).await?;
    let name = from_path(&name);
    let exchange = exchanges::find(&app, &vhost, name).await?;
    operator.permitted(&app, &vhost, Permission::Read, ResourceKind::Exchange, name)?;
    let store = exchanges::delay_store(&exchange).ok_or(ApiError::NotFound)?;
    let shown = Shown {
        auto: is_auto(look.encoding.as_deref())?,
        truncate: look.truncate,
    };
    let count = look.count.unwrap_or(DELAYED_COUNT).min(COUNT_MAX);
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    let _turn = app.large_lists.acquire().await.ok();
    let waiting = app.backend().delayed(store, count).await?;
    let row = |stored: &StoredMessage| {
        let mut row = shown.row(&stored.message);
        row.insert("due_at".into(), stored.expires_at_ms.into());
        Value::Object(row)
    };
    Ok(Json(waiting.iter().map(row).collect()))
}

/// Whether payloads that are text come as such.
fn is_auto(encoding: Option<&str>) -> Result<bool, ApiError> {
    match encoding.unwrap_or("auto") {
        "auto" => Ok(true),
        "base64" => Ok(false),
        other => Err(ApiError::BadRequest(format!("unknown encoding '{other}'"))),
    }
}

/// How messages are shown.
struct Shown {
    /// Payloads that are text come as such.
    auto: bool,
    /// Bytes of each payload at most.
    truncate: Option<u64>,
}

impl Shown {
    fn row(&self, message: &Message) -> Map<String, Value> {
        let body = &message.body;
        let length = self
            .truncate
            .and_then(|bytes| usize::try_from(bytes).ok())
            .map_or(body.len(), |bytes| bytes.min(body.len()));
        let shown = body.get(..length).unwrap_or_default();
        let (encoding, payload) = match std::str::from_utf8(shown) {
            Ok(text) if self.auto => ("string", text.to_owned()),
            _ => ("base64", STANDARD.encode(shown)),
        };
        let mut row = Map::new();
        let mut put = |key: &str, value: Value| row.insert(key.to_owned(), value);
        put("payload", payload.into());
        put("payload_bytes", body.len().into());
        put("payload_encoding", encoding.into());
        put("properties", properties_to_json(&message.properties));
        put("exchange", text(&message.exchange));
        put("routing_key", text(&message.routing_key));
        row
    }
}
