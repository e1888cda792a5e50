//! `/api/connections`, `/api/channels`, `/api/consumers`: clients of all nodes.

use super::{JsonResult, StatusResult, stats};
use crate::App;
use crate::auth::{Need, Operator};
use crate::error::ApiError;
use crate::fields::client_properties;
use crate::list::{ListQuery, pick};
use crate::query::Query;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use node::Config;
use node::broker_model::catalog::{Name, QueueRecord};
use node::broker_model::ids::{NodeId, QueueId};
use node::host::ConsumerReport;
use node::queries::{ChannelReport, ConnectionReport};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;

/// Told to clients where the operator gives no reason.
const CLOSED: &str = "Closed via management plugin";

/// The connections that an operator sees: its own, or with more rights those of all.
async fn visible(app: &App, operator: &Operator) -> Vec<ConnectionReport> {
    let mut connections = app.backend().connections().await;
    if !operator.sees_all() {
        connections.retain(|connection| *connection.user == *operator.name);
    }
    connections
}

pub(super) async fn list(
    State(app): State<Arc<App>>,
    operator: Operator,
    Query(query): Query<ListQuery>,
) -> JsonResult {
    let connections = visible(&app, &operator).await;
    page(&app, &query, &connections)
}

pub(super) async fn of_vhost(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path(vhost): Path<String>,
    Query(query): Query<ListQuery>,
) -> JsonResult {
    operator.enter(&app, &vhost).await?;
    let mut connections = visible(&app, &operator).await;
    connections.retain(|connection| connection.vhost == vhost);
    page(&app, &query, &connections)
}

pub(super) async fn of_user(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path(user): Path<String>,
    Query(query): Query<ListQuery>,
) -> JsonResult {
    may_see(&operator, &user)?;
    let mut connections = visible(&app, &operator).await;
    connections.retain(|connection| connection.user == user);
    page(&app, &query, &connections)
}

fn page(app: &App, query: &ListQuery, connections: &[ConnectionReport]) -> JsonResult {
    let rows = connections.iter().map(|row| connection_row(app, row));
    Ok(Json(query.serve(rows.collect())?))
}

/// Who may not see all sees only what is the user's own.
fn may_see(operator: &Operator, user: &str) -> Result<(), ApiError> {
    if operator.sees_all() || *operator.name == *user {
        return Ok(());
    }
    let text = "User not authorised to access object";
    Err(ApiError::Unauthorized(text.into()))
}

async fn find(app: &App, operator: &Operator, name: &str) -> Result<ConnectionReport, ApiError> {
    let connections = app.backend().connections().await;
    let found = connections
        .into_iter()
        .find(|connection| connection.name == name)
        .ok_or(ApiError::NotFound)?;
    may_see(operator, &found.user)?;
    Ok(found)
}

pub(super) async fn one(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path(name): Path<String>,
    Query(query): Query<ListQuery>,
) -> JsonResult {
    let connection = find(&app, &operator, &name).await?;
    pick(&query, connection_row(&app, &connection))
}

pub(super) async fn close(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> StatusResult {
    let connection = find(&app, &operator, &name).await?;
    // Users may close their own; others' only administrators.
    if *connection.user != *operator.name {
        operator.need(Need::Administrator)?;
    }
    close_one(&app, &connection, &headers).await
}

pub(super) async fn close_of_user(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path(user): Path<String>,
    headers: HeaderMap,
) -> StatusResult {
    if user != *operator.name {
        operator.need(Need::Administrator)?;
    }
    for connection in app
        .backend()
        .connections()
        .await
        .iter()
        .filter(|connection| connection.user == user)
    {
        close_one(&app, connection, &headers).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

async fn close_one(app: &App, connection: &ConnectionReport, headers: &HeaderMap) -> StatusResult {
    let reason = headers
        .get("x-reason")
        .and_then(|value| value.to_str().ok())
        .unwrap_or(CLOSED);
    app.backend()
        .close_connection(
            NodeId(connection.node),
            connection.serial,
            reason.to_owned(),
        )
        .await;
    Ok(StatusCode::NO_CONTENT)
}

fn connection_row(app: &App, connection: &ConnectionReport) -> Value {
    let [received, sent] = stats::octets(app, connection);
    json!({
        "name": connection.name,
        "node": Config::node_name(NodeId(connection.node)),
        "type": "network",
        "state": connection.state,
        "user": connection.user,
        "user_who_performed_action": connection.user,
        "vhost": connection.vhost,
        "protocol": "AMQP 0-9-1",
        "auth_mechanism": connection.mechanism,
        "ssl": connection.tls,
        "peer_host": connection.peer_host,
        "peer_port": connection.peer_port,
        "host": connection.host,
        "port": connection.port,
        "channels": connection.channels.len(),
        "channel_max": connection.channel_max,
        "frame_max": connection.frame_max,
        "timeout": connection.heartbeat,
        "connected_at": connection.connected_at_ms,
        "recv_oct": connection.received,
        "send_oct": connection.sent,
        "recv_oct_details": received,
        "send_oct_details": sent,
        "client_properties": client_properties(&connection.client_properties),
        "user_provided_name": connection.client_name,
    })
}

pub(super) async fn channels_of(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path(name): Path<String>,
    Query(query): Query<ListQuery>,
) -> JsonResult {
    let connection = find(&app, &operator, &name).await?;
    Ok(Json(query.serve(channel_rows(&app, &[connection]))?))
}

/// Sessions are AMQP 1.0's: no connection here has any.
pub(super) async fn sessions_of(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path(name): Path<String>,
) -> JsonResult {
    find(&app, &operator, &name).await?;
    let text = "sessions are of AMQP 1.0, this connection speaks AMQP 0-9-1";
    Err(ApiError::BadRequest(text.into()))
}

pub(super) async fn channels(
    State(app): State<Arc<App>>,
    operator: Operator,
    Query(query): Query<ListQuery>,
) -> JsonResult {
    Ok(Json(query.serve(channel_rows(
        &app,
        &visible(&app, &operator).await,
    ))?))
}

pub(super) async fn channels_of_vhost(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path(vhost): Path<String>,
    Query(query): Query<ListQuery>,
) -> JsonResult {
    operator.enter(&app, &vhost).await?;
    let mut connections = visible(&app, &operator).await;
    connections.retain(|connection| connection.vhost == vhost);
    Ok(Json(query.serve(channel_rows(&app, &connections))?))
}

pub(super) async fn channel(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path(name): Path<String>,
    Query(query): Query<ListQuery>,
) -> JsonResult {
    let connections = app.backend().connections().await;
    let found = connections.iter().find_map(|connection| {
        let mut channels = connection.channels.iter();
        let channel = channels.find(|c| channel_name(connection, c.number) == name)?;
        Some((connection, channel))
    });
    let (connection, channel) = found.ok_or(ApiError::NotFound)?;
    may_see(&operator, &connection.user)?;
    let mut row = channel_row(&app, connection, channel);
    if !query.disable_stats
        && let Some(row) = row.as_object_mut()
    {
        let consumers = match channel.consumers {
            0 => Vec::new(),
            _ => consumers_of(&app, connection, channel.number).await,
        };
        row.insert("consumer_details".into(), consumers.into());
    }
    pick(&query, row)
}

/// The consumers of one channel. The leaders of all queues are asked, for nobody else knows them: whoever looks again
/// and again had better say `disable_stats`.
async fn consumers_of(app: &App, connection: &ConnectionReport, number: u16) -> Vec<Value> {
    let reports = super::overview::all_queue_reports(app).await;
    let connections = by_serial(std::slice::from_ref(connection));
    let of = (connection.node, connection.serial, number);
    let mut rows = Vec::new();
    for report in &reports {
        let consumers = report.consumers.iter();
        let mut mine = consumers
            .filter(|consumer| (consumer.node, consumer.connection, consumer.channel) == of)
            .peekable();
        if mine.peek().is_none() {
            continue;
        }
        let queue = app.read(|catalog| catalog.queue_by_id(QueueId(report.queue)).cloned());
        if let Some(queue) = queue {
            rows.extend(
                mine.filter_map(|consumer| consumer_row(app, &queue, consumer, &connections)),
            );
        }
    }
    rows
}

fn channel_rows(app: &App, connections: &[ConnectionReport]) -> Vec<Value> {
    let pairs = connections
        .iter()
        .flat_map(|connection| connection.channels.iter().map(move |c| (connection, c)));
    pairs
        .map(|(connection, channel)| channel_row(app, connection, channel))
        .collect()
}

fn channel_name(connection: &ConnectionReport, number: u16) -> String {
    format!("{} ({number})", connection.name)
}

fn channel_row(app: &App, connection: &ConnectionReport, channel: &ChannelReport) -> Value {
    let mut row = json!({
        "name": channel_name(connection, channel.number),
        "number": channel.number,
        "node": Config::node_name(NodeId(connection.node)),
        "user": connection.user,
        "vhost": connection.vhost,
        "connection_details": {
            "name": connection.name,
            "peer_host": connection.peer_host,
            "peer_port": connection.peer_port,
        },
        "consumer_count": channel.consumers,
        "prefetch_count": channel.prefetch_each,
        "global_prefetch_count": channel.prefetch,
        "messages_unacknowledged": channel.unacked,
        "messages_unconfirmed": channel.unconfirmed,
        "messages_uncommitted": 0,
        "acks_uncommitted": 0,
        "confirm": channel.confirms,
        "transactional": channel.transactional,
        "state": "running",
    });
    if let Some(row) = row.as_object_mut() {
        stats::add_of_channel(app, row, connection, channel);
    }
    row
}

pub(super) async fn consumers(
    State(app): State<Arc<App>>,
    operator: Operator,
    Query(query): Query<ListQuery>,
) -> JsonResult {
    consumer_rows(&app, &operator, operator.vhosts(&app), &query).await
}

pub(super) async fn consumers_in(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path(vhost): Path<String>,
    Query(query): Query<ListQuery>,
) -> JsonResult {
    operator.enter(&app, &vhost).await?;
    consumer_rows(&app, &operator, vec![vhost.into()], &query).await
}

async fn consumer_rows(
    app: &App,
    operator: &Operator,
    vhosts: Vec<Name>,
    query: &ListQuery,
) -> JsonResult {
    let (connections, reports) = futures::join!(
        visible(app, operator),
        super::overview::all_queue_reports(app)
    );
    let queues: HashMap<QueueId, Arc<QueueRecord>> = app.read(|catalog| {
        let queues = vhosts
            .iter()
            .flat_map(|vhost| catalog.declared_queues(vhost));
        queues.map(|queue| (queue.id, Arc::clone(queue))).collect()
    });
    let connections = by_serial(&connections);
    let mut rows = Vec::new();
    for report in &reports {
        let Some(queue) = queues.get(&QueueId(report.queue)) else {
            continue;
        };
        let consumers = report.consumers.iter();
        rows.extend(
            consumers.filter_map(|consumer| consumer_row(app, queue, consumer, &connections)),
        );
    }
    Ok(Json(query.serve(rows)?))
}

/// The consumers of one queue.
pub(super) async fn consumer_details(
    app: &App,
    queue: &QueueRecord,
    consumers: &[ConsumerReport],
) -> Vec<Value> {
    let of = |consumer: &ConsumerReport| (consumer.node, consumer.connection);
    let connections = app
        .backend()
        .connections_of(consumers.iter().map(of).collect())
        .await;
    let connections = by_serial(&connections);
    let consumers = consumers.iter();
    consumers
        .filter_map(|consumer| consumer_row(app, queue, consumer, &connections))
        .collect()
}

/// By node and serial.
type Connections<'a> = HashMap<(u64, u64), &'a ConnectionReport>;

fn by_serial(connections: &[ConnectionReport]) -> Connections<'_> {
    let connections = connections.iter();
    connections
        .map(|connection| ((connection.node, connection.serial), connection))
        .collect()
}

/// A consumer, with its connection; none where that is not to be seen, or has just been closed.
fn consumer_row(
    app: &App,
    queue: &QueueRecord,
    consumer: &ConsumerReport,
    connections: &Connections<'_>,
) -> Option<Value> {
    let connection = connections.get(&(consumer.node, consumer.connection))?;
    let mut channels = connection.channels.iter();
    let channel = channels.find(|channel| channel.number == consumer.channel);
    let arguments = channel.and_then(|channel| channel.arguments.get(&consumer.tag));
    let arguments = match (arguments, consumer.priority) {
        (Some(arguments), _) => client_properties(arguments),
        (None, 0) => json!({}),
        // A node that does not tell, or arguments too long to be kept.
        (None, priority) => json!({ "x-priority": priority }),
    };
    let status = match (consumer.active, queue.settings().single_active_consumer) {
        (true, true) => "single_active",
        (true, false) => "up",
        (false, _) => "waiting",
    };
    Some(json!({
        "consumer_tag": consumer.tag,
        "queue": { "name": &*queue.name, "vhost": &*queue.vhost },
        "channel_details": {
            "name": channel_name(connection, consumer.channel),
            "number": consumer.channel,
            "node": Config::node_name(NodeId(consumer.node)),
            "connection_name": connection.name,
            "peer_host": connection.peer_host,
            "peer_port": connection.peer_port,
            "user": connection.user,
        },
        "ack_required": consumer.ack_required,
        "prefetch_count": consumer.prefetch,
        "exclusive": consumer.exclusive,
        "active": consumer.active,
        "activity_status": status,
        "consumer_timeout": consumer_timeout(app, queue, &arguments),
        "arguments": arguments,
    }))
}

/// How long a consumer may keep a message, in ms: its own time, its queue's, or all's. 0 is for ever.
fn consumer_timeout(app: &App, queue: &QueueRecord, arguments: &Value) -> u64 {
    let own = arguments.get("x-consumer-timeout").and_then(Value::as_u64);
    let of_all = || {
        let timeout = app.backend().config().timing.consumer_timeout?;
        u64::try_from(timeout.as_millis()).ok()
    };
    own.or(queue.settings().consumer_timeout_ms)
        .or_else(of_all)
        .unwrap_or(0)
}
