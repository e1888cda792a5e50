//! `/api/vhosts`.

use super::{Body, JsonResult, StatusResult, cluster, put_status, stats};
use crate::App;
use crate::auth::{Need, Operator};
use crate::error::ApiError;
use crate::list::{ListQuery, pick};
use crate::query::Query;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use node::Config;
use node::broker_model::catalog::{
    Catalog, CatalogCommand, Name, PermissionSpec, VhostRecord, VhostSpec,
};
use node::broker_model::ids::QueueId;
use node::host::QueueReport;
use node::queries::VhostReport;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::sync::Arc;

pub(super) async fn list(
    State(app): State<Arc<App>>,
    operator: Operator,
    Query(query): Query<ListQuery>,
) -> JsonResult {
    let names = operator.vhosts(&app);
    let figures = Figures::of(&app, &query).await;
    let records: Vec<VhostRecord> = app.read(|catalog| {
        let records = names.iter().filter_map(|name| catalog.vhost(name));
        records.cloned().collect()
    });
    let rows = records
        .iter()
        .map(|vhost| row(&app, vhost, &figures))
        .collect();
    Ok(Json(query.serve(rows)?))
}

pub(super) async fn one(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path(name): Path<String>,
    Query(query): Query<ListQuery>,
) -> JsonResult {
    operator.enter(&app, &name).await?;
    let figures = Figures::of(&app, &query).await;
    let record = app
        .read(|catalog| catalog.vhost(&name).cloned())
        .ok_or(ApiError::NotFound)?;
    pick(&query, row(&app, &record, &figures))
}

/// What is counted in vhosts.
#[derive(Default)]
struct Figures {
    /// Ready, unacknowledged and all messages.
    messages: HashMap<Name, (u64, u64, u64)>,
    flows: HashMap<String, VhostReport>,
    /// Whether anybody wanted any.
    wanted: bool,
}

impl Figures {
    async fn of(app: &App, query: &ListQuery) -> Self {
        if query.disable_stats {
            return Self::default();
        }
        let (queues, flows) = futures::join!(
            super::overview::all_queue_reports(app),
            app.backend().vhosts()
        );
        let flows = flows.into_iter();
        Self {
            messages: app.read(|catalog| messages(catalog, &queues)),
            flows: flows.map(|flow| (flow.vhost.clone(), flow)).collect(),
            wanted: true,
        }
    }
}

fn messages(catalog: &Catalog, reports: &[QueueReport]) -> HashMap<Name, (u64, u64, u64)> {
    let mut counts: HashMap<Name, (u64, u64, u64)> = HashMap::new();
    for report in reports {
        let Some(queue) = catalog.queue_by_id(QueueId(report.queue)) else {
            continue;
        };
        let sums = counts.entry(queue.vhost.clone()).or_default();
        sums.0 += report.ready;
        sums.1 += report.unacked;
        sums.2 += report.messages();
    }
    counts
}

fn row(app: &App, vhost: &VhostRecord, figures: &Figures) -> Value {
    let counts = figures.messages.get(&vhost.name).copied();
    let (ready, unacked, messages) = counts.unwrap_or_default();
    let config = app.backend().config();
    let queue_type = vhost
        .default_queue_type
        .as_deref()
        .unwrap_or(config.declarations.default_queue_type.as_str());
    let node = Config::node_name(config.node_id);
    let mut metadata = json!({
        "description": &*vhost.description,
        "tags": vhost.tags.iter().map(|tag| &**tag).collect::<Vec<_>>(),
        "default_queue_type": queue_type,
    });
    if let (true, Some(metadata)) = (vhost.protected, metadata.as_object_mut()) {
        metadata.insert("protected_from_deletion".into(), true.into());
    }
    let mut row = json!({
        "name": &*vhost.name,
        "description": &*vhost.description,
        "tags": vhost.tags.iter().map(|tag| &**tag).collect::<Vec<_>>(),
        "default_queue_type": queue_type,
        "metadata": metadata,
        "tracing": vhost.tracing,
        "protected_from_deletion": vhost.protected,
        "cluster_state": Map::from_iter([(node, Value::from("running"))]),
        "messages": messages,
        "messages_ready": ready,
        "messages_unacknowledged": unacked,
    });
    if let (true, Some(row)) = (figures.wanted, row.as_object_mut()) {
        stats::add_of_vhost(app, row, figures.flows.get(&*vhost.name), [ready, unacked]);
    }
    row
}

pub(super) async fn put(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path(name): Path<String>,
    body: Body,
) -> StatusResult {
    operator.need(Need::Administrator)?;
    let text = |key: &str| body.optional_text(key).map(|text| text.map(Name::from));
    let spec = VhostSpec {
        name: name.as_str().into(),
        description: text("description")?,
        tags: body
            .words("tags")?
            .map(|tags| tags.into_iter().map(Name::from).collect()),
        // The other name was that of RabbitMQ 3.11.
        default_queue_type: text("default_queue_type")?.or(text("defaultqueuetype")?),
        protected: None,
        tracing: body
            .0
            .contains_key("tracing")
            .then(|| body.flag("tracing", false))
            .transpose()?,
    };
    let created = app.created(CatalogCommand::PutVhost(spec)).await?;
    // What a token allows stands in the token.
    if created && operator.user.is_stored() {
        // As RabbitMQ does: who makes a vhost may use it.
        let all = || Name::from(".*");
        let permissions = PermissionSpec {
            user: operator.name.clone(),
            vhost: name.into(),
            configure: all(),
            write: all(),
            read: all(),
        };
        app.change(CatalogCommand::SetPermissions(permissions))
            .await?;
    }
    Ok(put_status(created))
}

/// A vhost is on every node, and never stopped there.
pub(super) async fn start(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path((name, node)): Path<(String, String)>,
) -> StatusResult {
    operator.need(Need::Administrator)?;
    operator.enter(&app, &name).await?;
    cluster::node_id(&app, &node)?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn delete(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path(name): Path<String>,
) -> StatusResult {
    operator.need(Need::Administrator)?;
    operator.enter(&app, &name).await?;
    app.change(CatalogCommand::DeleteVhost { name: name.into() })
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /api/vhosts/V/deletion/protection`.
pub(super) async fn protect(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path(name): Path<String>,
) -> StatusResult {
    set_protected(&app, &operator, name, true).await
}

/// `DELETE /api/vhosts/V/deletion/protection`.
pub(super) async fn unprotect(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path(name): Path<String>,
) -> StatusResult {
    set_protected(&app, &operator, name, false).await
}

async fn set_protected(
    app: &App,
    operator: &Operator,
    name: String,
    protected: bool,
) -> StatusResult {
    operator.need(Need::Administrator)?;
    operator.enter(app, &name).await?;
    let spec = VhostSpec {
        protected: Some(protected),
        ..VhostSpec::named(name)
    };
    app.change(CatalogCommand::PutVhost(spec)).await?;
    Ok(StatusCode::NO_CONTENT)
}
