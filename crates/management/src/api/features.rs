//! `/api/feature-flags`, `/api/deprecated-features`, `/api/extensions`: what tools look up before they use something.

use super::{JsonResult, StatusResult};
use crate::App;
use crate::auth::{Need, Operator};
use crate::error::ApiError;
use crate::list::ListQuery;
use crate::query::Query;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use node::broker_model::catalog::Catalog;
use serde_json::{Value, json};
use std::sync::Arc;

/// The flag of RabbitMQ's series that is not required by it yet; nor does it say so of itself.
const STABLE: &str = "rabbitmq_4.3.0";

/// RabbitMQ's flags for what is there: name, description, where it is described. All are enabled, always.
const FLAGS: &[(&str, &str, &str)] = &[
    (
        "classic_queue_type_delivery_support",
        "Bug fix for classic queue deliveries using mixed versions",
        "https://github.com/rabbitmq/rabbitmq-server/issues/5931",
    ),
    (
        "detailed_queues_endpoint",
        "Add a detailed queues HTTP API endpoint",
        "",
    ),
    (
        "direct_exchange_routing_v2",
        "v2 direct exchange routing implementation",
        "",
    ),
    (
        "implicit_default_bindings",
        "Default bindings are implicit, instead of being stored in the database",
        "",
    ),
    (
        "khepri_db",
        "Raft-based metadata store",
        "https://www.rabbitmq.com/docs/metadata-store",
    ),
    ("maintenance_mode_status", "Maintenance mode status", ""),
    ("message_containers", "Message containers", ""),
    (
        "message_containers_deaths_v2",
        "Bug fix for dead letter cycle detection",
        "https://github.com/rabbitmq/rabbitmq-server/issues/11159",
    ),
    (
        "quorum_queue",
        "Support queues of type `quorum`",
        "https://www.rabbitmq.com/docs/quorum-queues",
    ),
    (
        "rabbitmq_4.0.0",
        "Allows rolling upgrades from 3.13.x to 4.0.x",
        "",
    ),
    ("rabbitmq_4.1.0", "Allows rolling upgrades to 4.1.x", ""),
    ("rabbitmq_4.2.0", "Allows rolling upgrades to 4.2.x", ""),
    ("rabbitmq_4.3.0", "Allows rolling upgrades to 4.3.x", ""),
    (
        "stream_filtering",
        "Support for stream filtering",
        "https://www.rabbitmq.com/docs/stream-filtering",
    ),
    (
        "stream_queue",
        "Support queues of type `stream`",
        "https://www.rabbitmq.com/docs/stream",
    ),
    (
        "user_limits",
        "Configure connection and channel limits for a user",
        "",
    ),
    (
        "virtual_host_metadata",
        "Virtual host metadata (description, tags, etc)",
        "",
    ),
];

pub(super) async fn flags(_: Operator, Query(query): Query<ListQuery>) -> JsonResult {
    let rows = FLAGS.iter().map(|(name, desc, doc_url)| {
        let (stability, require_level) = match *name {
            STABLE => ("stable", "none"),
            _ => ("required", "hard"),
        };
        json!({
            "name": name,
            "desc": desc,
            "doc_url": doc_url,
            "state": "enabled",
            "stability": stability,
            "require_level": require_level,
            "experiment_level": "unsupported",
            "callbacks": [],
            "provided_by": "warren",
        })
    });
    Ok(Json(query.serve(rows.collect())?))
}

/// Enabling what is always enabled succeeds; what is not known here cannot be enabled.
pub(super) async fn enable(operator: Operator, Path(name): Path<String>) -> StatusResult {
    operator.need(Need::Administrator)?;
    if FLAGS.iter().any(|(known, ..)| *known == name) {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(ApiError::BadRequest("unsupported".into()))
    }
}

/// What RabbitMQ gives up, and how it stands here.
struct Deprecated {
    name: &'static str,
    /// RabbitMQ's.
    phase: &'static str,
    /// Whether it works here.
    works: bool,
    /// Where RabbitMQ describes it.
    doc_url: &'static str,
    /// What it is here.
    desc: &'static str,
    /// Whether it is in use, where that can be told.
    used: Option<fn(&Catalog) -> bool>,
}

const DEPRECATED: &[Deprecated] = &[
    Deprecated {
        name: "amqp_address_v1",
        phase: "denied_by_default",
        works: false,
        doc_url: "https://www.rabbitmq.com/docs/amqp#addresses",
        desc: "There is no AMQP 1.0",
        used: None,
    },
    Deprecated {
        name: "amqp_filter_set_bug",
        phase: "denied_by_default",
        works: false,
        doc_url: "https://docs.oasis-open.org/amqp/core/v1.0/os/amqp-core-messaging-v1.0-os.html#type-filter-set",
        desc: "There is no AMQP 1.0",
        used: None,
    },
    Deprecated {
        name: "classic_queue_mirroring",
        phase: "removed",
        works: false,
        doc_url: "https://www.rabbitmq.com/docs/3.13/ha",
        desc: "Policies for it are without effect: durable queues are replicated anyway",
        used: None,
    },
    Deprecated {
        name: "global_qos",
        phase: "denied_by_default",
        works: true,
        doc_url: "https://blog.rabbitmq.com/posts/2021/08/4.0-deprecation-announcements/#removal-of-global-qos",
        desc: "A prefetch that all consumers of a channel share",
        used: None,
    },
    Deprecated {
        name: "management_metrics_collection",
        phase: "permitted_by_default",
        works: true,
        doc_url: "https://blog.rabbitmq.com/posts/2021/08/4.0-deprecation-announcements/#disable-metrics-delivery-via-the-management-api--ui",
        desc: "Statistics in the HTTP API",
        used: None,
    },
    Deprecated {
        name: "queue_master_locator",
        phase: "denied_by_default",
        works: true,
        doc_url: "",
        desc: "Accepted, without effect: leaders are moved by shard",
        used: None,
    },
    Deprecated {
        name: "ram_node_type",
        phase: "removed",
        works: false,
        doc_url: "https://blog.rabbitmq.com/posts/2021/08/4.0-deprecation-announcements/#removal-of-ram-nodes",
        desc: "All nodes keep what they know on disk",
        used: None,
    },
    Deprecated {
        name: "transient_nonexcl_queues",
        phase: "denied_by_default",
        works: true,
        doc_url: "https://blog.rabbitmq.com/posts/2021/08/4.0-deprecation-announcements/#removal-of-transient-non-exclusive-queues",
        desc: "Queues that are neither durable nor exclusive",
        used: Some(has_transient),
    },
];

fn has_transient(catalog: &Catalog) -> bool {
    let vhosts = catalog.vhosts();
    let mut queues = vhosts
        .iter()
        .flat_map(|vhost| catalog.declared_queues(&vhost.name));
    queues.any(|queue| !queue.durable && queue.exclusive.is_none())
}

pub(super) async fn deprecated(_: Operator, Query(query): Query<ListQuery>) -> JsonResult {
    let rows = DEPRECATED.iter().map(Deprecated::row);
    Ok(Json(query.serve(rows.collect())?))
}

pub(super) async fn deprecated_used(
    State(app): State<Arc<App>>,
    _: Operator,
    Query(query): Query<ListQuery>,
) -> JsonResult {
    let used = |feature: &&Deprecated| feature.used.is_some_and(|used| app.read(used));
    let rows = DEPRECATED.iter().filter(used).map(Deprecated::row);
    Ok(Json(query.serve(rows.collect())?))
}

impl Deprecated {
    fn row(&self) -> Value {
        json!({
            "name": self.name,
            "desc": self.desc,
            "deprecation_phase": self.phase,
            "doc_url": self.doc_url,
            "state": if self.works { "permitted" } else { "denied" },
            "provided_by": "warren",
        })
    }
}

/// As RabbitMQ, the one of the management plugin itself; some tools take an empty list for an API that is not there.
pub(super) async fn extensions(_: Operator) -> JsonResult {
    Ok(Json(json!([{ "javascript": "dispatcher.js" }])))
}
