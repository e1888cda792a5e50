//! `/api/queues`.

use super::{Body, JsonResult, StatusResult, put_status};
use crate::App;
use crate::auth::{Need, Operator};
use crate::error::ApiError;
use crate::fields::{json_to_table, table_to_json};
use crate::list::{ListQuery, Total, pick};
use crate::query::Query;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use node::Config;
use node::amqp_codec::{FieldTable, FieldValue, TableBuilder};
use node::broker_model::catalog::{
    CatalogAnswer, CatalogCommand, CatalogError, DelayedRetry, DeliveryLimit, Name, Permission,
    QueueRecord, QueueSpec, QueueType, Resource, ResourceKind, merged_definition,
};
use node::broker_model::ids::{NodeId, Placement, QueueId};
use node::host::QueueReport;
use node::queries::GroupReport;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// Columns that are known without asking the queues' leaders.
const CATALOG_COLUMNS: &[&str] = &[
    "name",
    "vhost",
    "type",
    "durable",
    "auto_delete",
    "exclusive",
    "node",
    "leader",
    "policy",
];

/// A list of so many queues waits for others as large.
const LARGE: usize = 1000;
/// Rows made before others have a turn.
const ROWS_AT_ONCE: usize = 200;

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

/// Only the queues of the page are asked for their counts, unless the order depends on them.
async fn rows(app: &App, vhosts: Vec<Name>, query: &ListQuery) -> JsonResult {
    let filter = query.filter()?;
    let (all, mut records) = app.read(|catalog| {
        let mut all = 0;
        let mut records = Vec::new();
        for queue in vhosts
            .iter()
            .flat_map(|vhost| catalog.declared_queues(vhost))
        {
            all += 1;
            if filter(&queue.name) {
                records.push(Arc::clone(queue));
            }
        }
        (all, records)
    });
    records.sort_unstable_by(|a, b| (&a.vhost, &a.name).cmp(&(&b.vhost, &b.name)));
    let total = Total {
        all,
        filtered: records.len(),
    };
    let known = query
        .sort()
        .is_none_or(|sort| CATALOG_COLUMNS.contains(&sort));
    if query.paged() && known {
        if let Some(sort) = query.sort() {
            let members = Members::now(app);
            records.sort_by_cached_key(|queue| {
                describe(app, &members, queue)
                    .get(sort)
                    .map(ToString::to_string)
                    .unwrap_or_default()
            });
        }
        if query.reversed() {
            records.reverse();
        }
        let page = query.cut(records)?;
        let reports = reports_for(app, &page, query).await;
        let rows = rows_of(app, &page, &reports, query).await;
        return Ok(Json(query.answer(rows, total)?));
    }
    // Some seconds of waiting are better than the memory of many such lists at once.
    let _turn = match records.len() {
        LARGE.. => app.large_lists.acquire().await.ok(),
        _ => None,
    };
    let reports = reports_for(app, &records, query).await;
    if query.paged()
        && let Some(figure) = query.sort().and_then(figure)
    {
        // Rows are made of those that are shown only: they cost many times what their figures do.
        records.sort_by_cached_key(|queue| reports.get(&queue.id).map_or(0, figure));
        if query.reversed() {
            records.reverse();
        }
        let page = query.cut(records)?;
        let rows = rows_of(app, &page, &reports, query).await;
        return Ok(Json(query.answer(rows, total)?));
    }
    let mut rows = rows_of(app, &records, &reports, query).await;
    query.sort_rows(&mut rows);
    let rows = query.cut(rows)?;
    Ok(Json(query.answer(rows, total)?))
}

/// What the figures of a queue are taken from, for columns that people sort by.
fn figure(column: &str) -> Option<fn(&QueueReport) -> u64> {
    Some(match column {
        "messages" => QueueReport::messages,
        "messages_ready" => |report| report.ready,
        "messages_unacknowledged" => |report| report.unacked,
        "message_bytes" => |report| report.waiting_bytes() + report.unacked_bytes,
        "message_bytes_ready" => QueueReport::waiting_bytes,
        "message_bytes_unacknowledged" => |report| report.unacked_bytes,
        "consumers" => |report| report.consumers.len() as u64,
        _ => return None,
    })
}

async fn reports_for(
    app: &App,
    records: &[Arc<QueueRecord>],
    query: &ListQuery,
) -> HashMap<QueueId, QueueReport> {
    match query.disable_stats && !query.enable_queue_totals {
        true => HashMap::new(),
        false => reports(app, records).await,
    }
}

async fn rows_of(
    app: &App,
    records: &[Arc<QueueRecord>],
    reports: &HashMap<QueueId, QueueReport>,
    query: &ListQuery,
) -> Vec<Value> {
    let members = Members::now(app);
    let mut rows = Vec::with_capacity(records.len());
    for queue in records {
        let mut row = describe(app, &members, queue);
        let report = reports.get(&queue.id);
        if !query.disable_stats {
            count(app, &mut row, queue, report);
        } else if query.enable_queue_totals {
            totals(&mut row, report);
        }
        rows.push(Value::Object(row));
        if rows.len().is_multiple_of(ROWS_AT_ONCE) {
            tokio::task::yield_now().await;
        }
    }
    rows
}

/// The members of all shards, looked up once for all rows of an answer: a report looks at the whole node.
struct Members(HashMap<u32, Vec<NodeId>>);

impl Members {
    fn now(app: &App) -> Self {
        let groups = app.backend().report().groups;
        let voters = |group: GroupReport| {
            let voters = group.voters.into_iter().map(NodeId).collect();
            (group.group, voters)
        };
        Self(groups.into_iter().map(voters).collect())
    }

    fn of(&self, placement: Placement) -> Vec<NodeId> {
        match placement {
            Placement::Host(node) => vec![node],
            Placement::Shard(shard) => self.0.get(&shard.0).cloned().unwrap_or_default(),
        }
    }
}

/// Reports of these queues, asked from each placement's leader at once.
pub(super) async fn reports(
    app: &App,
    records: &[Arc<QueueRecord>],
) -> HashMap<QueueId, QueueReport> {
    let mut wanted: BTreeMap<Placement, Vec<QueueId>> = BTreeMap::new();
    for queue in records {
        wanted.entry(queue.placement).or_default().push(queue.id);
    }
    let asked = wanted.into_iter().filter_map(|(placement, queues)| {
        let leader = app.backend().leader_of(placement)?;
        Some(app.backend().queue_reports(leader, placement, queues))
    });
    let answers = futures::future::join_all(asked).await;
    answers
        .into_iter()
        .flatten()
        .map(|report| (QueueId(report.queue), report))
        .collect()
}

/// What the catalog and the groups here say about a queue.
fn describe(app: &App, members: &Members, queue: &QueueRecord) -> Map<String, Value> {
    let backend = app.backend();
    let leader = backend.leader_of(queue.placement);
    let name = |node: NodeId| Config::node_name(node);
    let alive = leader.is_some_and(|leader| backend.is_alive(leader));
    let state = match (queue.placement, alive) {
        (_, true) => "running",
        (Placement::Shard(_), false) => "minority",
        (Placement::Host(_), false) => "down",
    };
    let members = members.of(queue.placement);
    let online: Vec<String> = members
        .iter()
        .filter(|node| backend.is_alive(**node))
        .map(|node| name(*node))
        .collect();
    let members: Vec<String> = members.into_iter().map(name).collect();
    let effective = &queue.effective;
    let mut row = Map::new();
    let mut put = |key: &str, value: Value| row.insert(key.to_owned(), value);
    put("name", queue.name.to_string().into());
    put("vhost", queue.vhost.to_string().into());
    put("type", queue.queue_type.as_str().into());
    put("durable", queue.durable.into());
    put("auto_delete", queue.auto_delete.into());
    put("exclusive", queue.exclusive.is_some().into());
    put("arguments", table_to_json(&queue.arguments));
    // Tools want a node in any case. The state tells that nobody leads there.
    let node = leader.map(name).or_else(|| members.first().cloned());
    put(
        "node",
        node.unwrap_or_else(|| name(backend.config().node_id))
            .into(),
    );
    put("leader", leader.map(name).into());
    put("members", members.into());
    put("online", online.into());
    put("state", state.into());
    put(
        "replicated",
        matches!(queue.placement, Placement::Shard(_)).into(),
    );
    put("policy", effective.policy.as_deref().into());
    put(
        "operator_policy",
        effective.operator_policy.as_deref().into(),
    );
    put(
        "effective_policy_definition",
        effective_definition(app, queue),
    );
    put(
        "delivery_limit",
        match effective.settings.delivery_limit {
            Some(DeliveryLimit::Failures(limit)) => limit.into(),
            Some(DeliveryLimit::Unlimited) => "unlimited".into(),
            // All nodes are told the same.
            None => backend
                .config()
                .limits
                .delivery_limit
                .map_or("unlimited".into(), Value::from),
        },
    );
    let retry = effective.settings.delayed_retry;
    if queue.queue_type == QueueType::Quorum || retry.is_some() {
        put("delayed_retry", delayed_retry(retry).into());
    }
    row
}

/// In RabbitMQ's words.
fn delayed_retry(retry: Option<DelayedRetry>) -> String {
    retry.map_or_else(
        || "disabled".to_owned(),
        |retry| {
            let DelayedRetry {
                kind,
                min_ms,
                max_ms,
            } = retry;
            format!("{} (min: {min_ms}ms, max: {max_ms}ms)", kind.as_str())
        },
    )
}

fn effective_definition(app: &App, queue: &QueueRecord) -> Value {
    let effective = &queue.effective;
    if effective.policy.is_none() && effective.operator_policy.is_none() {
        return json!({});
    }
    app.read(|catalog| {
        let user = catalog
            .policies(&queue.vhost)
            .find(|policy| Some(&policy.name) == effective.policy.as_ref());
        let operator = catalog
            .operator_policies(&queue.vhost)
            .find(|policy| Some(&policy.name) == effective.operator_policy.as_ref());
        let definition = merged_definition(user, operator);
        let definition = definition
            .into_iter()
            .map(|(key, value)| (key.to_owned(), super::policies::value_to_json(value)));
        Value::Object(definition.collect())
    })
}

/// Adds what the queue's leader counts; zeros while it does not answer or has none.
/// The counts that RabbitMQ shows where statistics are switched off.
fn totals(row: &mut Map<String, Value>, report: Option<&QueueReport>) {
    let empty = QueueReport::default();
    let report = report.unwrap_or(&empty);
    for (key, count) in [
        ("messages", report.messages()),
        ("messages_ready", report.ready),
        ("messages_unacknowledged", report.unacked),
    ] {
        row.insert(key.to_owned(), count.into());
    }
}

fn count(
    app: &App,
    row: &mut Map<String, Value>,
    queue: &QueueRecord,
    report: Option<&QueueReport>,
) {
    let empty = QueueReport::default();
    let report = report.unwrap_or(&empty);
    let single = report
        .consumers
        .iter()
        .find(|consumer| consumer.active)
        .map(|consumer| consumer.tag.clone());
    let is_single = row
        .get("arguments")
        .and_then(|arguments| arguments.get("x-single-active-consumer"))
        .and_then(Value::as_bool)
        == Some(true);
    let durable = row.get("durable").and_then(Value::as_bool) == Some(true);
    let mut put = |key: &str, value: Value| row.insert(key.to_owned(), value);
    let messages = report.messages();
    put("messages", messages.into());
    put("messages_ready", report.ready.into());
    put("messages_unacknowledged", report.unacked.into());
    put(
        "messages_persistent",
        if durable { messages } else { 0 }.into(),
    );
    let bytes = report.waiting_bytes() + report.unacked_bytes;
    put("message_bytes", bytes.into());
    // As RabbitMQ, with those that wait before they are handed out again.
    put("message_bytes_ready", report.waiting_bytes().into());
    put("message_bytes_unacknowledged", report.unacked_bytes.into());
    put(
        "message_bytes_persistent",
        if durable { bytes } else { 0 }.into(),
    );
    if let Some((messages, bytes)) = report.in_memory {
        put("messages_ram", messages.into());
        put("message_bytes_ram", bytes.into());
    }
    if queue.queue_type == QueueType::Quorum || report.delayed > 0 {
        put("messages_delayed", report.delayed.into());
    }
    if let Some((next_ms, last_ms)) = report.delayed_ms {
        put("next_delayed_at", next_ms.into());
        put("last_delayed_at", last_ms.into());
    }
    // They are neither ready nor handed out.
    if queue.settings().dead_letter_exchange.is_some() {
        put("messages_dlx", report.dying.into());
        put("message_bytes_dlx", report.dying_bytes.into());
    }
    put("consumers", report.consumers.len().into());
    let exclusive = report.consumers.iter().find(|consumer| consumer.exclusive);
    put(
        "exclusive_consumer_tag",
        exclusive.map(|consumer| consumer.tag.as_str()).into(),
    );
    // As there, no share at all is a whole number.
    let capacity = if report.consumers.is_empty() || report.ready > 0 {
        Value::from(0)
    } else {
        Value::from(1.0)
    };
    put("consumer_capacity", capacity.clone());
    put("consumer_utilisation", capacity);
    put(
        "single_active_consumer_tag",
        if is_single {
            single.into()
        } else {
            Value::Null
        },
    );
    super::stats::add_of_queue(app, row, report);
}

/// The queue, after asking the catalog's leader if it is not known here.
pub(super) async fn find(app: &App, vhost: &str, name: &str) -> Result<Arc<QueueRecord>, ApiError> {
    let look = || app.read(|catalog| catalog.queue(vhost, name).cloned());
    if let Some(queue) = look() {
        return Ok(queue);
    }
    app.be_up_to_date().await?;
    look().ok_or(ApiError::NotFound)
}

pub(super) async fn one(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path((vhost, name)): Path<(String, String)>,
    Query(query): Query<ListQuery>,
) -> JsonResult {
    operator.enter(&app, &vhost).await?;
    let queue = find(&app, &vhost, &name).await?;
    let mut row = describe(&app, &Members::now(&app), &queue);
    if !query.disable_stats || query.enable_queue_totals {
        let report = reports(&app, &[Arc::clone(&queue)]).await.remove(&queue.id);
        count(&app, &mut row, &queue, report.as_ref());
        let consumers = report.map(|report| report.consumers).unwrap_or_default();
        let details = super::connections::consumer_details(&app, &queue, &consumers).await;
        row.insert("consumer_details".into(), details.into());
        row.insert("deliveries".into(), json!([]));
        row.insert("incoming".into(), json!([]));
    }
    pick(&query, Value::Object(row))
}

pub(super) async fn status(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path((vhost, name)): Path<(String, String)>,
) -> JsonResult {
    operator.enter(&app, &vhost).await?;
    let queue = find(&app, &vhost, &name).await?;
    let Placement::Shard(shard) = queue.placement else {
        return Err(ApiError::BadRequest("not a replicated queue".into()));
    };
    let reports = app.backend().reports().await;
    let rows: Vec<Value> = reports
        .iter()
        .map(|(node, report)| {
            let group = report
                .iter()
                .flat_map(|report| &report.groups)
                .find(|group| group.group == shard.0);
            let role = match group {
                None => "noproc",
                Some(group) if group.leader == Some(node.0) => "leader",
                Some(_) => "follower",
            };
            json!({
                "Node Name": Config::node_name(*node),
                "Raft State": role,
                "Membership": "voter",
                "Term": group.map_or(0, |group| group.term),
                "Commit Index": group.map_or(0, |group| group.committed),
                "Last Applied": group.map_or(0, |group| group.applied),
                "Last Log Index": group.map_or(0, |group| group.last_log),
                "Snapshot Index": group.map_or(0, |group| group.checkpoint),
            })
        })
        .collect();
    Ok(Json(Value::Array(rows)))
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
        ResourceKind::Queue,
        &name,
    )?;
    let durable = body.flag("durable", true)?;
    let arguments = arguments(&body)?;
    let spec = QueueSpec {
        arguments,
        vhost: vhost.as_str().into(),
        name: name.as_str().into(),
        durable,
        server_named: false,
        exclusive: None,
        auto_delete: body.flag("auto_delete", false)?,
        placement: app.backend().place_queue(durable),
    };
    let rules = app.backend().config().declarations;
    let arguments = app.read(|catalog| catalog.arguments_to_declare(&spec, rules));
    let spec = QueueSpec { arguments, ..spec };
    if app
        .read(|catalog| catalog.check_declare_queue(&spec).ok().flatten())
        .is_some()
    {
        return Ok(StatusCode::NO_CONTENT);
    }
    let dead_letters = spec.arguments.get("x-dead-letter-exchange");
    if let Some(exchange) = dead_letters.as_ref().and_then(FieldValue::as_text) {
        // As over AMQP, of who makes a queue that leads elsewhere.
        let (read, write) = (Permission::Read, Permission::Write);
        operator.permitted(&app, &vhost, read, ResourceKind::Queue, &name)?;
        operator.permitted(&app, &vhost, write, ResourceKind::Exchange, exchange)?;
    }
    let created = match app.change(CatalogCommand::DeclareQueue(spec)).await? {
        CatalogAnswer::Queue { created, .. } | CatalogAnswer::Done { created } => created,
    };
    Ok(put_status(created))
}

/// Arguments, with the type that newer tools give beside them.
pub(crate) fn arguments(body: &Body) -> Result<FieldTable, ApiError> {
    let table = match body.object("arguments")? {
        Some(object) => json_to_table(object)
            .map_err(|error| ApiError::BadRequest(format!("arguments: {error}")))?,
        None => FieldTable::empty(),
    };
    match body
        .optional_text("queue_type")?
        .or(body.optional_text("type")?)
    {
        Some(kind) if !table.contains_key("x-queue-type") && kind != "classic" => {
            Ok(TableBuilder::from_table(&table)
                .push("x-queue-type", &FieldValue::text(kind))
                .finish())
        }
        _ => Ok(table),
    }
}

/// Conditions of a deletion.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Conditions {
    if_unused: Option<String>,
    if_empty: Option<String>,
}

impl Conditions {
    pub(super) fn unused(&self) -> bool {
        self.if_unused.as_deref() == Some("true")
    }
}

pub(super) async fn delete(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path((vhost, name)): Path<(String, String)>,
    Query(conditions): Query<Conditions>,
) -> StatusResult {
    operator.enter(&app, &vhost).await?;
    let queue = find(&app, &vhost, &name).await?;
    operator.permitted(
        &app,
        &vhost,
        Permission::Configure,
        ResourceKind::Queue,
        &name,
    )?;
    refuse_exclusive(&app, &queue).await?;
    let if_empty = conditions.if_empty.as_deref() == Some("true");
    app.backend()
        .delete_queue(vhost.into(), name.into(), conditions.unused(), if_empty)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// As over AMQP: an exclusive queue is its connection's alone, as long as that is open.
async fn refuse_exclusive(app: &App, queue: &QueueRecord) -> Result<(), ApiError> {
    let Some(owner) = queue.exclusive else {
        return Ok(());
    };
    let owner = BTreeSet::from([(owner.origin.node.0, owner.serial)]);
    if app.backend().connections_of(owner).await.is_empty() {
        return Ok(());
    }
    Err(CatalogError::Locked(Resource::queue(&queue.vhost, &queue.name)).into())
}

/// `POST /api/queues/V/Q/actions`: RabbitMQ has no action left that it knows.
pub(super) async fn act(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path((vhost, name)): Path<(String, String)>,
    body: Body,
) -> StatusResult {
    operator.need(Need::Administrator)?;
    operator.enter(&app, &vhost).await?;
    find(&app, &vhost, &name).await?;
    let action = body.text("action")?;
    Err(ApiError::BadRequest(format!("unknown action '{action}'")))
}

pub(super) async fn purge(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path((vhost, name)): Path<(String, String)>,
) -> StatusResult {
    operator.enter(&app, &vhost).await?;
    let queue = find(&app, &vhost, &name).await?;
    operator.permitted(&app, &vhost, Permission::Read, ResourceKind::Queue, &name)?;
    refuse_exclusive(&app, &queue).await?;
    app.backend().purge(vhost.into(), name.into()).await?;
    Ok(StatusCode::NO_CONTENT)
}
