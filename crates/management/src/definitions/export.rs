//! Writing definitions.

use crate::App;
use crate::api::{parameters, permissions, policies, users};
use crate::auth::{Need, Operator};
use crate::error::{ApiError, aside};
use crate::fields::table_to_json;
use crate::query::Query;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::HeaderValue;
use axum::http::header::CONTENT_DISPOSITION;
use axum::response::{IntoResponse, Response};
use node::broker_model::catalog::{
    BindingRecord, Catalog, Destination, ExchangeRecord, QueueRecord, VhostRecord,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// The query of an export.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct ExportQuery {
    download: Option<String>,
}

pub(crate) async fn export(
    State(app): State<Arc<App>>,
    operator: Operator,
    Query(query): Query<ExportQuery>,
) -> Result<Response, ApiError> {
    operator.need(Need::Administrator)?;
    app.backend().sync().await;
    let config = app.backend().config();
    let mut all = json!({
        "rabbit_version": config.product_version,
        "rabbitmq_version": config.product_version,
        "product_name": config.product,
        "product_version": config.product_version,
        "rabbitmq_definition_format": "cluster",
        "explanation": "Definitions of a Warren cluster",
    });
    let (parts, contents) = app.read(|catalog| {
        let vhosts: Vec<_> = catalog
            .vhosts()
            .iter()
            .map(|vhost| vhost.name.clone())
            .collect();
        let each = |rows: &dyn Fn(&str) -> Vec<Value>| {
            vhosts
                .iter()
                .flat_map(|vhost| rows(vhost))
                .collect::<Vec<_>>()
        };
        let parts = json!({
            "original_cluster_name": catalog.cluster_name().map(ToString::to_string),
            "users": catalog.users().map(users::row).collect::<Vec<_>>(),
            "vhosts": vhost_rows(catalog),
            "permissions": permissions::rows(catalog),
            "topic_permissions": permissions::topic_rows(catalog),
            "global_parameters": global_rows(catalog),
            "parameters": each(&|vhost| parameters::rows(catalog, vhost)),
            "policies": each(&|vhost| policies::rows(catalog, vhost, false)),
        });
        let contents = vhosts
            .iter()
            .map(|vhost| Contents::of(catalog, vhost))
            .collect();
        (parts, contents)
    });
    merge(&mut all, parts);
    merge(&mut all, aside(|| write(contents)).await?);
    Ok(answer(all, query))
}

pub(crate) async fn export_vhost(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path(vhost): Path<String>,
    Query(query): Query<ExportQuery>,
) -> Result<Response, ApiError> {
    operator.need(Need::Policymaker)?;
    operator.enter(&app, &vhost).await?;
    let config = app.backend().config();
    let mut all = json!({
        "rabbit_version": config.product_version,
        "rabbitmq_version": config.product_version,
        "product_name": config.product,
        "product_version": config.product_version,
        "rabbitmq_definition_format": "single_virtual_host",
        "original_vhost_name": vhost,
        "explanation": "Definitions of one virtual host of a Warren cluster",
    });
    let (parts, contents) = app.read(|catalog| {
        let mut parts = json!({
            "parameters": without_vhost(parameters::rows(catalog, &vhost)),
            "policies": without_vhost(policies::rows(catalog, &vhost, false)),
        });
        if let Some(vhost) = catalog.vhost(&vhost) {
            merge(
                &mut parts,
                json!({
                    "metadata": metadata(vhost),
                    "description": &*vhost.description,
                    "limits": users::limits(&vhost.limits),
                }),
            );
        }
        (parts, Contents::of(catalog, &vhost))
    });
    merge(&mut all, parts);
    let written = aside(|| {
        let mut written = write(vec![contents]);
        for rows in written
            .as_object_mut()
            .into_iter()
            .flat_map(Map::values_mut)
        {
            rows.as_array_mut()
                .into_iter()
                .flatten()
                .for_each(leave_out_vhost);
        }
        written
    });
    merge(&mut all, written.await?);
    Ok(answer(all, query))
}

/// The definitions, for a browser under the name that it wants to keep them by: a token, so that it needs no quotes.
fn answer(all: Value, query: ExportQuery) -> Response {
    let mut response = Json(all).into_response();
    let is_token = |name: &String| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        !name.is_empty() && name.bytes().all(allowed)
    };
    let header = query
        .download
        .filter(is_token)
        .and_then(|name| HeaderValue::try_from(format!("attachment; filename={name}")).ok());
    if let Some(header) = header {
        response.headers_mut().insert(CONTENT_DISPOSITION, header);
    }
    response
}

fn merge(into: &mut Value, parts: Value) {
    if let (Value::Object(into), Value::Object(parts)) = (into, parts) {
        into.extend(parts);
    }
}

fn without_vhost(mut rows: Vec<Value>) -> Vec<Value> {
    rows.iter_mut().for_each(leave_out_vhost);
    rows
}

fn leave_out_vhost(row: &mut Value) {
    if let Value::Object(object) = row {
        object.remove("vhost");
    }
}

fn vhost_rows(catalog: &Catalog) -> Vec<Value> {
    let row = |vhost: &&VhostRecord| {
        let mut row = json!({
            "name": &*vhost.name,
            "description": &*vhost.description,
            "tags": tags(vhost),
            "limits": users::limits(&vhost.limits),
            "metadata": metadata(vhost),
        });
        if let Some(kind) = vhost.default_queue_type.as_deref() {
            merge(&mut row, json!({ "default_queue_type": kind }));
        }
        row
    };
    catalog.vhosts().iter().map(row).collect()
}

fn tags(vhost: &VhostRecord) -> Vec<&str> {
    vhost.tags.iter().map(|tag| &**tag).collect()
}

fn metadata(vhost: &VhostRecord) -> Value {
    let mut metadata = json!({ "description": &*vhost.description, "tags": tags(vhost) });
    if let Some(kind) = vhost.default_queue_type.as_deref() {
        merge(&mut metadata, json!({ "default_queue_type": kind }));
    }
    if vhost.protected {
        merge(&mut metadata, json!({ "protected_from_deletion": true }));
    }
    metadata
}

/// The cluster's name travels as a global parameter; its identity does not.
fn global_rows(catalog: &Catalog) -> Vec<Value> {
    let mut rows = parameters::global_rows(catalog);
    rows.retain(|row| row.get("name").and_then(Value::as_str) != Some(parameters::CLUSTER_ID));
    rows
}

/// What of one virtual host there may be very much of. Taken out of the catalog in a moment and written elsewhere:
/// everybody waits for whoever looks into the catalog for long.
#[derive(Default)]
struct Contents {
    queues: Vec<Arc<QueueRecord>>,
    exchanges: Vec<Arc<ExchangeRecord>>,
    bindings: Vec<BindingRecord>,
}

impl Contents {
    fn of(catalog: &Catalog, vhost: &str) -> Self {
        let shared = |queue: &&Arc<QueueRecord>| queue.exclusive.is_none();
        let own = |exchange: &&Arc<ExchangeRecord>| {
            !exchange.name.is_empty() && !exchange.name.starts_with("amq.")
        };
        Self {
            queues: catalog
                .declared_queues(vhost)
                .filter(shared)
                .cloned()
                .collect(),
            exchanges: catalog.exchanges(vhost).filter(own).cloned().collect(),
            bindings: bindings(catalog, vhost),
        }
    }
}

/// Bindings between what is exported; those of the default exchange come by themselves, and exclusive queues go with
/// their connections.
fn bindings(catalog: &Catalog, vhost: &str) -> Vec<BindingRecord> {
    let kept = |binding: &BindingRecord| {
        let stays = match &binding.destination {
            Destination::Queue(name) => catalog
                .queue(vhost, name)
                .is_some_and(|queue| queue.exclusive.is_none()),
            Destination::Exchange(_) => true,
        };
        !binding.source.is_empty() && stays
    };
    catalog.bindings(vhost).filter(kept).collect()
}

/// The rows of all virtual hosts, each sorted.
fn write(contents: Vec<Contents>) -> Value {
    let (mut queues, mut exchanges, mut bindings) = (Vec::new(), Vec::new(), Vec::new());
    for mut of in contents {
        of.queues.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        queues.extend(of.queues.iter().map(|queue| queue_row(queue)));
        of.exchanges.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        exchanges.extend(of.exchanges.iter().map(|exchange| exchange_row(exchange)));
        of.bindings.sort_unstable_by(|a, b| {
            (&a.source, &a.destination, &a.routing_key).cmp(&(
                &b.source,
                &b.destination,
                &b.routing_key,
            ))
        });
        bindings.extend(of.bindings.iter().map(binding_row));
    }
    json!({ "queues": queues, "exchanges": exchanges, "bindings": bindings })
}

fn queue_row(queue: &QueueRecord) -> Value {
    json!({
        "name": &*queue.name,
        "vhost": &*queue.vhost,
        "durable": queue.durable,
        "auto_delete": queue.auto_delete,
        "type": queue.queue_type.as_str(),
        "arguments": table_to_json(&queue.arguments),
    })
}

fn exchange_row(exchange: &ExchangeRecord) -> Value {
    json!({
        "name": &*exchange.name,
        "vhost": &*exchange.vhost,
        "type": exchange.kind.as_str(),
        "durable": exchange.durable,
        "auto_delete": exchange.auto_delete,
        "internal": exchange.internal,
        "arguments": table_to_json(&exchange.arguments),
    })
}

fn binding_row(binding: &BindingRecord) -> Value {
    let kind = match binding.destination {
        Destination::Queue(_) => "queue",
        Destination::Exchange(_) => "exchange",
    };
    json!({
        "source": &*binding.source,
        "vhost": &*binding.vhost,
        "destination": &**binding.destination.name(),
        "destination_type": kind,
        "routing_key": &*binding.routing_key,
        "arguments": table_to_json(&binding.arguments),
    })
}
