//! `/api/exchanges`.

use super::queues::{Conditions, arguments, reports};
use super::{Body, JsonResult, StatusResult, put_status, stats};
use crate::App;
use crate::auth::Operator;
use crate::error::ApiError;
use crate::fields::table_to_json;
use crate::list::{ListQuery, pick};
use crate::query::Query;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use node::amqp_codec::FieldValue;
use node::broker_model::catalog::{
    CatalogCommand, ExchangeRecord, ExchangeSpec, Name, Permission, QueueRecord, ResourceKind,
    Store,
};
use node::queries::ExchangeReport;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;

/// How the default exchange is written in paths, where it would be an empty segment.
pub(super) const DEFAULT: &str = "amq.default";

/// The name of an exchange in a path.
pub(super) fn from_path(name: &str) -> &str {
    if name == DEFAULT { "" } else { name }
}

pub(super) async fn list(
    State(app): State<Arc<App>>,
    operator: Operator,
    Query(query): Query<ListQuery>,
) -> JsonResult {
    rows(&app, operator.vhosts(&app), &query).await
}

pub(super) async fn list_in(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path(vhost): Path<String>,
    Query(query): Query<ListQuery>,
) -> JsonResult {
    operator.enter(&app, &vhost).await?;
    rows(&app, vec![vhost.into()], &query).await
}

async fn rows(app: &App, vhosts: Vec<Name>, query: &ListQuery) -> JsonResult {
    let mut exchanges: Vec<Arc<ExchangeRecord>> = app.read(|catalog| {
        vhosts
            .iter()
            .flat_map(|vhost| catalog.exchanges(vhost))
            .cloned()
            .collect()
    });
    exchanges.sort_unstable_by(|a, b| (&a.vhost, &a.name).cmp(&(&b.vhost, &b.name)));
    let flows = if query.disable_stats {
        HashMap::new()
    } else {
        flows(app).await
    };
    Ok(Json(
        query.serve(with_counts(app, &exchanges, &flows).await)?,
    ))
}

/// What went through exchanges, by virtual host and name.
async fn flows(app: &App) -> HashMap<(Name, Name), ExchangeReport> {
    let reports = app.backend().exchanges().await.into_iter();
    let named = reports.map(|report| {
        let name = (report.vhost.as_str().into(), report.name.as_str().into());
        (name, report)
    });
    named.collect()
}

/// Rows with what went through them, and the numbers of messages that wait for their time.
async fn with_counts(
    app: &App,
    exchanges: &[Arc<ExchangeRecord>],
    flows: &HashMap<(Name, Name), ExchangeReport>,
) -> Vec<Value> {
    let stores: Vec<_> = exchanges
        .iter()
        .filter_map(|exchange| delay_store(exchange))
        .collect();
    let reports = if stores.is_empty() {
        HashMap::new()
    } else {
        reports(app, &stores).await
    };
    let count = |exchange: &ExchangeRecord| {
        let store = delay_store(exchange)?;
        let report = reports.get(&store.id);
        Some(report.map_or(0, |report| report.ready + report.unacked))
    };
    exchanges
        .iter()
        .map(|exchange| {
            let mut row = row(exchange);
            if let Some(object) = row.as_object_mut() {
                if let Some(count) = count(exchange) {
                    object.insert("messages_delayed".into(), count.into());
                }
                let name = (Arc::clone(&exchange.vhost), Arc::clone(&exchange.name));
                if let Some(report) = flows.get(&name) {
                    stats::add_of_exchange(app, object, report);
                }
            }
            row
        })
        .collect()
}

/// Where messages of this exchange wait for their time.
pub(super) fn delay_store(exchange: &ExchangeRecord) -> Option<Arc<QueueRecord>> {
    let store = exchange.store.as_ref()?;
    (store.settings().store == Some(Store::Delay)).then(|| Arc::clone(store))
}

fn row(exchange: &ExchangeRecord) -> Value {
    let predeclared = exchange.name.is_empty() || exchange.name.starts_with("amq.");
    json!({
        "name": &*exchange.name,
        "vhost": &*exchange.vhost,
        "type": exchange.kind.as_str(),
        "durable": exchange.durable,
        "auto_delete": exchange.auto_delete,
        "internal": exchange.internal,
        "arguments": table_to_json(&exchange.arguments),
        "policy": exchange.policy.as_deref(),
        "user_who_performed_action": if predeclared { "rmq-internal" } else { "" },
    })
}

pub(super) async fn one(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path((vhost, name)): Path<(String, String)>,
    Query(query): Query<ListQuery>,
) -> JsonResult {
    operator.enter(&app, &vhost).await?;
    let exchange = find(&app, &vhost, from_path(&name)).await?;
    let mut row = with_counts(&app, &[exchange], &flows(&app).await)
        .await
        .pop()
        .unwrap_or_default();
    if let Some(object) = row.as_object_mut() {
        object.insert("incoming".into(), json!([]));
        object.insert("outgoing".into(), json!([]));
    }
    pick(&query, row)
}

/// The exchange, after asking the catalog's leader if it is not known here.
pub(super) async fn find(
    app: &App,
    vhost: &str,
    name: &str,
) -> Result<Arc<ExchangeRecord>, ApiError> {
    let look = || app.read(|catalog| catalog.exchange(vhost, name).cloned());
    if let Some(exchange) = look() {
        return Ok(exchange);
    }
    app.be_up_to_date().await?;
    look().ok_or(ApiError::NotFound)
}

pub(super) async fn declare(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path((vhost, name)): Path<(String, String)>,
    body: Body,
) -> StatusResult {
    operator.enter(&app, &vhost).await?;
    operator.permitted(
        &app,
        &vhost,
        Permission::Configure,
        ResourceKind::Exchange,
        from_path(&name),
    )?;
    let kind = body.optional_text("type")?.unwrap_or("direct").to_owned();
    // The type of an exchange is no queue type.
    let mut rest = Body(body.0);
    rest.0.remove("type");
    let spec = ExchangeSpec {
        vhost: vhost.into(),
        name: from_path(&name).into(),
        kind: kind.into(),
        durable: rest.flag("durable", true)?,
        auto_delete: rest.flag("auto_delete", false)?,
        internal: rest.flag("internal", false)?,
        arguments: arguments(&rest)?,
    };
    if app
        .read(|catalog| catalog.check_declare_exchange(&spec).ok().flatten())
        .is_some()
    {
        return Ok(StatusCode::NO_CONTENT);
    }
    let is_new = app.read(|catalog| catalog.exchange(&spec.vhost, &spec.name).is_none());
    let alternate = spec.arguments.get("alternate-exchange");
    if let (true, Some(alternate)) = (is_new, alternate.as_ref().and_then(FieldValue::as_text)) {
        // As over AMQP, of who makes an exchange that leads elsewhere.
        let kind = ResourceKind::Exchange;
        operator.permitted(&app, &spec.vhost, Permission::Read, kind, &spec.name)?;
        operator.permitted(&app, &spec.vhost, Permission::Write, kind, alternate)?;
    }
    Ok(put_status(
        app.created(CatalogCommand::DeclareExchange(spec)).await?,
    ))
}

pub(super) async fn delete(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path((vhost, name)): Path<(String, String)>,
    Query(conditions): Query<Conditions>,
) -> StatusResult {
    operator.enter(&app, &vhost).await?;
    let name = from_path(&name);
    find(&app, &vhost, name).await?;
    operator.permitted(
        &app,
        &vhost,
        Permission::Configure,
        ResourceKind::Exchange,
        name,
    )?;
    let command = CatalogCommand::DeleteExchange {
        vhost: vhost.into(),
        name: name.into(),
        if_unused: conditions.unused(),
    };
    app.change(command).await?;
    Ok(StatusCode::NO_CONTENT)
}
