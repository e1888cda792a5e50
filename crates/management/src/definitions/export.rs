//! Writing definitions.

use crate::App;
use crate::api::{JsonResult, parameters, permissions, policies, users};
use crate::auth::{Need, Operator};
use crate::fields::table_to_json;
use axum::Json;
use axum::extract::{Path, State};
use node::broker_model::catalog::{
    BindingRecord, Catalog, Destination, ExchangeRecord, Policy, QueueRecord,
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
    let parts = app.read(|catalog| {
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
        json!({
            "original_cluster_name": catalog.cluster_name().map(ToString::to_string),
            "users": catalog.users().map(users::row).collect::<Vec<_>>(),
            "vhosts": vhost_rows(catalog),
            "permissions": permissions::rows(catalog),
            "topic_permissions": permissions::topic_rows(catalog),
            "global_parameters": global_rows(catalog),
            "parameters": each(&|vhost| parameter_rows(catalog, vhost)),
            "policies": each(&|vhost| policies::rows(catalog, vhost, false)),
            "queues": each(&|vhost| queue_rows(catalog, vhost)),
            "exchanges": each(&|vhost| exchange_rows(catalog, vhost)),
            "bindings": each(&|vhost| binding_rows(catalog, vhost)),
        })
    });
    merge(&mut all, parts);
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
    let parts = app.read(|catalog| {
        json!({
            "parameters": without_vhost(parameter_rows(catalog, &vhost)),
            "policies": without_vhost(policies::rows(catalog, &vhost, false)),
            "queues": without_vhost(queue_rows(catalog, &vhost)),
            "exchanges": without_vhost(exchange_rows(catalog, &vhost)),
            "bindings": without_vhost(binding_rows(catalog, &vhost)),
        })
    });
    merge(&mut all, parts);
    Ok(Json(all))
}

fn merge(into: &mut Value, parts: Value) {
    if let (Value::Object(into), Value::Object(parts)) = (into, parts) {
        into.extend(parts);
    }
}

fn without_vhost(rows: Vec<Value>) -> Vec<Value> {
    rows.into_iter()
        .map(|mut row| {
            if let Value::Object(object) = &mut row {
                object.remove("vhost");
            }
            row
        })
        .collect()
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

/// The cluster's name travels as a global parameter.
fn global_rows(catalog: &Catalog) -> Vec<Value> {
    let mut rows = parameters::global_rows(catalog);
    if let Some(name) = catalog.cluster_name() {
        rows.push(json!({ "name": "cluster_name", "value": &**name }));
    }
    rows
}

/// Operator policies and vhost limits travel as parameters.
fn parameter_rows(catalog: &Catalog, vhost: &str) -> Vec<Value> {
    let mut rows = parameters::rows(catalog, vhost);
    let operator = |policy: &Policy| {
        json!({
            "vhost": vhost,
            "component": "operator_policy",
            "name": &*policy.name,
            "value": {
                "pattern": &**policy.pattern.source(),
                "apply-to": policy.apply_to.as_str(),
                "definition": policies::definition(policy),
                "priority": policy.priority,
            },
        })
    };
    rows.extend(catalog.operator_policies(vhost).map(operator));
    let limits = catalog
        .vhost(vhost)
        .map(|vhost| users::limits(&vhost.limits))
        .unwrap_or_default();
    if !limits.is_empty() {
        rows.push(json!({ "vhost": vhost, "component": "vhost-limits", "name": "limits", "value": limits }));
    }
    rows
}

fn queue_rows(catalog: &Catalog, vhost: &str) -> Vec<Value> {
    let mut queues: Vec<&Arc<QueueRecord>> = catalog
        .queues(vhost)
        .filter(|queue| queue.durable && queue.exclusive.is_none())
        .collect();
    queues.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    let row = |queue: &&Arc<QueueRecord>| {
        json!({
            "name": &*queue.name,
            "vhost": &*queue.vhost,
            "durable": queue.durable,
            "auto_delete": queue.auto_delete,
            "type": queue.queue_type.as_str(),
            "arguments": table_to_json(&queue.arguments),
        })
    };
    queues.iter().map(row).collect()
}

fn exchange_rows(catalog: &Catalog, vhost: &str) -> Vec<Value> {
    let own = |exchange: &&Arc<ExchangeRecord>| {
        exchange.durable && !exchange.name.is_empty() && !exchange.name.starts_with("amq.")
    };
    let mut exchanges: Vec<&Arc<ExchangeRecord>> = catalog.exchanges(vhost).filter(own).collect();
    exchanges.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    let row = |exchange: &&Arc<ExchangeRecord>| {
        json!({
            "name": &*exchange.name,
            "vhost": &*exchange.vhost,
            "type": exchange.kind.as_str(),
            "durable": exchange.durable,
            "auto_delete": exchange.auto_delete,
            "internal": exchange.internal,
            "arguments": table_to_json(&exchange.arguments),
        })
    };
    exchanges.iter().map(row).collect()
}

/// Bindings between what is exported; those of the default exchange come by themselves.
fn binding_rows(catalog: &Catalog, vhost: &str) -> Vec<Value> {
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
    let mut bindings: Vec<BindingRecord> = catalog.bindings(vhost).filter(kept).collect();
    bindings.sort_unstable_by(|a, b| {
        (&a.source, &a.destination, &a.routing_key).cmp(&(
            &b.source,
            &b.destination,
            &b.routing_key,
        ))
    });
    let row = |binding: &BindingRecord| -> Value {
        let kind = match binding.destination {
            Destination::Queue(_) => "queue",
            Destination::Exchange(_) => "exchange",
        };
        Value::Object(Map::from_iter([
            ("source".to_owned(), Value::from(&*binding.source)),
            ("vhost".to_owned(), Value::from(&*binding.vhost)),
            (
                "destination".to_owned(),
                Value::from(&**binding.destination.name()),
            ),
            ("destination_type".to_owned(), Value::from(kind)),
            ("routing_key".to_owned(), Value::from(&*binding.routing_key)),
            ("arguments".to_owned(), table_to_json(&binding.arguments)),
        ]))
    };
    bindings.iter().map(row).collect()
}
