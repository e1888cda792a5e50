//! Publishing and getting by hand.

use super::exchanges::{self, from_path};
use super::{Body, JsonResult, queues};
use crate::App;
use crate::auth::Operator;
use crate::backend::{Got, Publish, Then};
use crate::error::ApiError;
use crate::fields::{json_to_properties, properties_to_json, text};
use axum::Json;
use axum::extract::{Path, State};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use node::broker_model::catalog::{Permission, ResourceKind};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// Messages taken by one request at most.
const COUNT_MAX: u64 = 10_000;

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
        user: operator.name.clone(),
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
    let auto = match body.optional_text("encoding")?.unwrap_or("auto") {
        "auto" => true,
        "base64" => false,
        other => return Err(ApiError::BadRequest(format!("unknown encoding '{other}'"))),
    };
    let truncate = number("truncate").and_then(|bytes| usize::try_from(bytes).ok());
    let count = u32::try_from(count.min(COUNT_MAX)).unwrap_or(u32::MAX);
    let got = app
        .backend()
        .get(vhost.into(), name.into(), count, then)
        .await?;
    Ok(Json(
        got.iter().map(|got| row(got, auto, truncate)).collect(),
    ))
}

fn row(got: &Got, auto: bool, truncate: Option<usize>) -> Value {
    let body = &got.message.body;
    let shown = body
        .get(..truncate.unwrap_or(body.len()).min(body.len()))
        .unwrap_or_default();
    let (encoding, payload) = match std::str::from_utf8(shown) {
        Ok(text) if auto => ("string", text.to_owned()),
        _ => ("base64", STANDARD.encode(shown)),
    };
    json!({
        "payload": payload,
        "payload_bytes": body.len(),
        "payload_encoding": encoding,
        "properties": properties_to_json(&got.message.properties),
        "redelivered": got.redelivered,
        "exchange": text(&got.message.exchange),
        "routing_key": text(&got.message.routing_key),
        "message_count": got.remaining,
    })
}
