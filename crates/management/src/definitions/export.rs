//! Writing definitions.

use crate::App;
use crate::api::{JsonResult, parameters, permissions, policies, users};
use crate::auth::{Need, Operator};
use crate::error::aside;
use crate::fields::table_to_json;
use axum::Json;
use axum::extract::{Path, State};
use node::broker_model::catalog::{
    BindingRecord, Catalog, Destination, ExchangeRecord, QueueRecord,
};
use serde_json::{Map, Value, json};
use std::sync::Arc;

pub(crate) async fn export(State(app): State<Arc<App>>, operator: Operator) -> JsonResult {
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
    let (parts, durable) = app.read(|catalog| {
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
        let durable = vhosts
            .iter()
            .map(|vhost| Durable::of(catalog, vhost))
            .collect();
        (parts, durable)
    });
    merge(&mut all, parts);
    merge(&mut all, aside(|| write(durable)).await?);
    Ok(Json(all))
}

pub(crate) async fn export_vhost(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path(vhost): Path<String>,
) -> JsonResult {
    operator.need(Need::Policymaker)?;
    operator.enter(&app, &vhost).await?;
    let config = app.backend().config();
    let mut all = json!({
        "rabbit_version": config.product_version,
        "rabbitmq_definition_format": "single_virtual_host",
        "original_vhost_name": vhost,
        "explanation": "Definitions of one virtual host of a Warren cluster",
    });
    let (parts, durable) = app.read(|catalog| {
        let parts = json!({
            "parameters": without_vhost(parameters::rows(catalog, &vhost)),
            "policies": without_vhost(policies::rows(catalog, &vhost, false)),
        });
        (parts, Durable::of(catalog, &vhost))
    });
    merge(&mut all, parts);
    let written = aside(|| {
        let mut written = write(vec![durable]);
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
    Ok(Json(all))
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
    let row = |vhost: &&node::broker_model::catalog::VhostRecord| {
        let tags: Vec<&str> = vhost.tags.iter().map(|tag| &**tag).collect();
        let mut metadata = json!({ "description": &*vhost.description, "tags": tags });
        let mut row = json!({
            "name": &*vhost.name,
            "description": &*vhost.description,
            "tags": tags,
            "limits": users::limits(&vhost.limits),
        });
        if let Some(kind) = vhost.default_queue_type.as_deref() {
            merge(&mut row, json!({ "default_queue_type": kind }));
            merge(&mut metadata, json!({ "default_queue_type": kind }));
        }
        if vhost.protected {
            merge(&mut metadata, json!({ "protected_from_deletion": true }));
        }
        merge(&mut row, json!({ "metadata": metadata }));
        row
    };
    catalog.vhosts().iter().map(row).collect()
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
struct Durable {
    queues: Vec<Arc<QueueRecord>>,
    exchanges: Vec<Arc<ExchangeRecord>>,
    bindings: Vec<BindingRecord>,
}

impl Durable {
    fn of(catalog: &Catalog, vhost: &str) -> Self {
        let is_kept = |queue: &&Arc<QueueRecord>| queue.durable && queue.exclusive.is_none();
        let own = |exchange: &&Arc<ExchangeRecord>| {
            exchange.durable && !exchange.name.is_empty() && !exchange.name.starts_with("amq.")
        };
        Self {
            queues: catalog.queues(vhost).filter(is_kept).cloned().collect(),
            exchanges: catalog.exchanges(vhost).filter(own).cloned().collect(),
            bindings: durable_bindings(catalog, vhost),
        }
    }
}

/// Bindings between what is exported; those of the default exchange come by themselves.
fn durable_bindings(catalog: &Catalog, vhost: &str) -> Vec<BindingRecord> {
    let durable_exchange = |name: &str| {
        catalog
            .exchange(vhost, name)
            .is_some_and(|exchange| exchange.durable)
    };
    let kept = |binding: &BindingRecord| {
        let destination = match &binding.destination {
            Destination::Queue(name) => catalog
                .queue(vhost, name)
                .is_some_and(|queue| queue.durable && queue.exclusive.is_none()),
            Destination::Exchange(name) => durable_exchange(name),
        };
        !binding.source.is_empty() && durable_exchange(&binding.source) && destination
    };
    catalog.bindings(vhost).filter(kept).collect()
}

/// The rows of all virtual hosts, each sorted.
fn write(durable: Vec<Durable>) -> Value {
    let (mut queues, mut exchanges, mut bindings) = (Vec::new(), Vec::new(), Vec::new());
    for mut of in durable {
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
