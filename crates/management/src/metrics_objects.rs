//! `/metrics/per-object` and `/metrics/detailed`: numbers of single queues, connections and channels.
//!
//! Families are RabbitMQ's, as far as there is data. As there, a node shows what it serves: the queues
//! that it leads or hosts and the connections that clients have to it. Sums over nodes are right.

use crate::App;
use crate::backend::Backend;
use crate::error::ApiError;
use crate::list::bounded_regex;
use crate::metrics::{Page, answer, identity, render_without_objects};
use axum::extract::{Query, State};
use axum::response::Response;
use node::broker_model::catalog::QueueRecord;
use node::broker_model::ids::{Placement, QueueId, ShardId};
use node::host::QueueReport;
use node::queries::ConnectionReport;
use regex::Regex;
use std::collections::HashSet;
use std::sync::Arc;

/// Samples written before others have a turn.
const SAMPLES_AT_ONCE: usize = 1000;

/// Bytes of an expression for names of queues, at most.
const NAME_BYTES_MAX: usize = 2000;
/// Prefix of `/metrics/per-object`, the same as that of sums.
const PLAIN: &str = "rabbitmq_";
/// Prefix of `/metrics/detailed`.
const DETAILED: &str = "rabbitmq_detailed_";
/// Prefix there of what concerns the whole cluster.
const CLUSTER: &str = "rabbitmq_cluster_";

/// One name: without prefix, type, help, and where the value is.
type Series<T> = (&'static str, &'static str, &'static str, fn(&T) -> f64);

/// Families of queues.
const QUEUES: &[(&str, &[Series<QueueReport>])] = &[
    (
        "queue_coarse_metrics",
        &[
            (
                "queue_messages_ready",
                "gauge",
                "Messages ready to be delivered to consumers",
                |queue| queue.ready as f64,
            ),
            (
                "queue_messages_unacked",
                "gauge",
                "Messages delivered to consumers but not yet acknowledged",
                |queue| queue.unacked as f64,
            ),
            (
                "queue_messages",
                "gauge",
                "Sum of ready and unacknowledged messages",
                |queue| queue.messages() as f64,
            ),
        ],
    ),
    ("queue_consumer_count", &[CONSUMERS]),
    (
        "queue_metrics",
        &[
            CONSUMERS,
            (
                "queue_messages_ready_bytes",
                "gauge",
                "Size in bytes of ready messages",
                |queue| queue.ready_bytes as f64,
            ),
        ],
    ),
    (
        "queue_delivery_metrics",
        &[
            (
                "queue_messages_published_total",
                "counter",
                "Messages that the queue took",
                |queue| queue.tally.published as f64,
            ),
            (
                "queue_get_ack_total",
                "counter",
                "Messages got that need an acknowledgement",
                |queue| queue.tally.got as f64,
            ),
            (
                "queue_get_total",
                "counter",
                "Messages got that need none",
                |queue| queue.tally.got_no_ack as f64,
            ),
            (
                "queue_messages_delivered_ack_total",
                "counter",
                "Deliveries to consumers that acknowledge",
                |queue| queue.tally.delivered as f64,
            ),
            (
                "queue_messages_delivered_total",
                "counter",
                "Deliveries to consumers that do not acknowledge",
                |queue| queue.tally.delivered_no_ack as f64,
            ),
            (
                "queue_messages_redelivered_total",
                "counter",
                "Deliveries flagged as redelivered",
                |queue| queue.tally.redelivered as f64,
            ),
            (
                "queue_messages_acked_total",
                "counter",
                "Messages acknowledged",
                |queue| queue.tally.acknowledged as f64,
            ),
        ],
    ),
];

const CONSUMERS: Series<QueueReport> = (
    "queue_consumers",
    "gauge",
    "Consumers on a queue",
    |queue| queue.consumers.len() as f64,
);

/// Families of connections.
const CONNECTIONS: &[(&str, &[Series<ConnectionReport>])] = &[
    (
        "connection_coarse_metrics",
        &[
            (
                "connection_incoming_bytes_total",
                "counter",
                "Bytes received on a connection",
                |connection| connection.received as f64,
            ),
            (
                "connection_outgoing_bytes_total",
                "counter",
                "Bytes sent on a connection",
                |connection| connection.sent as f64,
            ),
        ],
    ),
    (
        "connection_metrics",
        &[(
            "connection_channels",
            "gauge",
            "Channels on a connection",
            |connection| connection.channels.len() as f64,
        )],
    ),
];

/// A channel with its connection.
type Channel<'a> = (&'a ConnectionReport, &'a node::queries::ChannelReport);

/// Families of channels.
const CHANNELS: &[(&str, &[Series<node::queries::ChannelReport>])] = &[(
    "channel_metrics",
    &[
        (
            "channel_consumers",
            "gauge",
            "Consumers on a channel",
            |channel| channel.consumers as f64,
        ),
        (
            "channel_messages_unacked",
            "gauge",
            "Delivered but not yet acknowledged messages",
            |channel| channel.unacked as f64,
        ),
        (
            "channel_messages_unconfirmed",
            "gauge",
            "Published but not yet confirmed messages",
            |channel| channel.unconfirmed as f64,
        ),
        (
            "channel_prefetch_global",
            "gauge",
            "Limit of unacknowledged messages of all consumers on a channel",
            |channel| channel.prefetch as f64,
        ),
    ],
)];

/// Names of `/metrics` that `/metrics/per-object` has for each object instead.
pub(crate) const SUMS: &[&str] = &[
    "rabbitmq_queue_messages_ready",
    "rabbitmq_queue_messages_unacked",
    "rabbitmq_queue_messages",
    "rabbitmq_queue_consumers",
    "rabbitmq_connection_incoming_bytes_total",
    "rabbitmq_connection_outgoing_bytes_total",
];

/// `GET /metrics/per-object`
pub(crate) async fn per_object(State(app): State<Arc<App>>) -> Response {
    let Ok(backend) = app.open_backend() else {
        return answer(Page::not_ready());
    };
    let backend = &**backend;
    let _turn = app.large_lists.acquire().await.ok();
    let mut page = render_without_objects(backend, &backend.numbers().await);
    let wanted = Wanted {
        prefix: PLAIN,
        // Part of `queue_metrics`.
        family: |family: &str| family != "queue_consumer_count",
    };
    queues(&mut page, backend, &wanted, &Only::default()).await;
    connections(&mut page, backend, &wanted).await;
    answer(page)
}

/// `GET /metrics/detailed?family=…&vhost=…&queue=…`; the first two may be repeated, the last is an expression that is
/// looked for in queues' names.
pub(crate) async fn detailed(
    State(app): State<Arc<App>>,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Response, ApiError> {
    let Ok(backend) = app.open_backend() else {
        return Ok(answer(Page::not_ready()));
    };
    let backend = &**backend;
    let values = |key: &str| -> Vec<&str> {
        let pairs = query.iter().filter(|(name, _)| name == key);
        pairs.map(|(_, value)| value.as_str()).collect()
    };
    let (families, vhosts) = (values("family"), values("vhost"));
    let only = Only {
        name: expression(&values("queue"))?,
        vhosts: &vhosts,
    };
    let _turn = app.large_lists.acquire().await.ok();
    let mut page = Page::default();
    identity(&mut page, backend, "detailed");
    // Consumers are part of both families, and a name stands once only.
    let both = families.contains(&"queue_metrics");
    let wanted = Wanted {
        prefix: DETAILED,
        family: |family: &str| {
            families.contains(&family) && !(both && family == "queue_consumer_count")
        },
    };
    queues(&mut page, backend, &wanted, &only).await;
    connections(&mut page, backend, &wanted).await;
    cluster(&mut page, backend, &families, &vhosts);
    Ok(answer(page))
}

/// Which queues are asked for.
#[derive(Default)]
struct Only<'a> {
    /// Those in whose names this is found.
    name: Option<Regex>,
    /// Those of these virtual hosts; of all, if there are none.
    vhosts: &'a [&'a str],
}

impl Only<'_> {
    fn has(&self, queue: &QueueRecord) -> bool {
        let of_vhost = self.vhosts.is_empty() || self.vhosts.contains(&&*queue.vhost);
        of_vhost
            && self
                .name
                .as_ref()
                .is_none_or(|name| name.is_match(&queue.name))
    }
}

/// The one expression for names, if there is any.
fn expression(given: &[&str]) -> Result<Option<Regex>, ApiError> {
    match given {
        [] | [""] => Ok(None),
        [name] if name.len() > NAME_BYTES_MAX => {
            Err(ApiError::BadRequest("'queue' regex too long".into()))
        }
        [name] => bounded_regex(name, false)
            .map(Some)
            .map_err(|error| ApiError::BadRequest(format!("Invalid 'queue' regex: {error}"))),
        _ => {
            let text = "Only one 'queue' query parameter is allowed";
            Err(ApiError::BadRequest(text.into()))
        }
    }
}

/// What is asked for.
struct Wanted<F> {
    prefix: &'static str,
    family: F,
}

impl<F: Fn(&str) -> bool> Wanted<F> {
    /// The wanted ones of some families.
    fn of<T: 'static>(
        &self,
        families: &'static [(&'static str, &'static [Series<T>])],
    ) -> Vec<&'static Series<T>> {
        families
            .iter()
            .filter(|(family, _)| (self.family)(family))
            .flat_map(|(_, series)| series.iter())
            .collect()
    }
}

async fn queues<F: Fn(&str) -> bool>(
    page: &mut Page,
    backend: &dyn Backend,
    wanted: &Wanted<F>,
    only: &Only<'_>,
) {
    let series = wanted.of(QUEUES);
    if series.is_empty() {
        return;
    }
    let rows = served(backend, only).await;
    for (name, kind, help, value) in series {
        let name = format!("{}{name}", wanted.prefix);
        page.head(&name, kind, help);
        for (at, (queue, report)) in rows.iter().enumerate() {
            let labels = [("vhost", &*queue.vhost), ("queue", &*queue.name)];
            page.sample(&name, &labels, value(report));
            rest(at).await;
        }
    }
}

/// Queues that this node leads or hosts, with what they count, by name.
async fn served(backend: &dyn Backend, only: &Only<'_>) -> Vec<(Arc<QueueRecord>, QueueReport)> {
    let own = backend.config().node_id;
    let shards = crate::backend::read(backend, |catalog| catalog.shards()).unwrap_or_default();
    let placements = (1..=shards)
        .map(|shard| Placement::Shard(ShardId(shard)))
        .chain([Placement::Host(own)])
        .filter(|placement| backend.leader_of(*placement) == Some(own));
    let asked = placements.map(|placement| backend.queue_reports(own, placement, Vec::new()));
    let reports = futures::future::join_all(asked).await;
    let mut rows: Vec<_> = crate::backend::read(backend, |catalog| {
        // What the broker keeps for exchanges is in no queue.
        let stores: HashSet<QueueId> = catalog.stores().map(|store| store.id).collect();
        let rows = reports.into_iter().flatten().filter_map(|report| {
            let id = QueueId(report.queue);
            let queue = catalog.queue_by_id(id).filter(|_| !stores.contains(&id))?;
            only.has(queue).then(|| (Arc::clone(queue), report))
        });
        rows.collect()
    })
    .unwrap_or_default();
    rows.sort_unstable_by(|(a, _), (b, _)| (&a.vhost, &a.name).cmp(&(&b.vhost, &b.name)));
    rows
}

async fn connections<F: Fn(&str) -> bool>(
    page: &mut Page,
    backend: &dyn Backend,
    wanted: &Wanted<F>,
) {
    let (of_connections, of_channels) = (wanted.of(CONNECTIONS), wanted.of(CHANNELS));
    if of_connections.is_empty() && of_channels.is_empty() {
        return;
    }
    let rows = backend.own_connections();
    for (name, kind, help, value) in of_connections {
        let name = format!("{}{name}", wanted.prefix);
        page.head(&name, kind, help);
        for (at, connection) in rows.iter().enumerate() {
            let labels = [
                ("connection", connection.name.as_str()),
                ("vhost", &connection.vhost),
            ];
            page.sample(&name, &labels, value(connection));
            rest(at).await;
        }
    }
    let channels: Vec<Channel<'_>> = rows
        .iter()
        .flat_map(|connection| connection.channels.iter().map(move |c| (connection, c)))
        .collect();
    for (name, kind, help, value) in of_channels {
        let name = format!("{}{name}", wanted.prefix);
        page.head(&name, kind, help);
        for (at, (connection, channel)) in channels.iter().enumerate() {
            let of = format!("{} ({})", connection.name, channel.number);
            let labels = [("channel", of.as_str()), ("vhost", &connection.vhost)];
            page.sample(&name, &labels, value(channel));
            rest(at).await;
        }
    }
}

/// What all nodes show alike.
fn cluster(page: &mut Page, backend: &dyn Backend, families: &[&str], vhosts: &[&str]) {
    let wanted = |vhost: &str| vhosts.is_empty() || vhosts.contains(&vhost);
    if families.contains(&"vhost_status") {
        let name = format!("{CLUSTER}vhost_status");
        page.head(&name, "gauge", "Whether a given vhost is running");
        crate::backend::read(backend, |catalog| {
            for vhost in catalog.vhosts() {
                if wanted(&vhost.name) {
                    page.sample(&name, &[("vhost", &vhost.name)], 1.0);
                }
            }
        });
    }
    if families.contains(&"exchange_names") {
        let name = format!("{CLUSTER}exchange_name");
        page.head(&name, "gauge", "Exchanges");
        crate::backend::read(backend, |catalog| {
            for vhost in catalog.vhosts() {
                for exchange in catalog.exchanges(&vhost.name) {
                    if wanted(&vhost.name) {
                        let labels = [
                            ("vhost", &*vhost.name),
                            ("exchange", &*exchange.name),
                            ("type", exchange.kind.as_str()),
                        ];
                        page.sample(&name, &labels, 1.0);
                    }
                }
            }
        });
    }
}

async fn rest(at: usize) {
    if (at + 1).is_multiple_of(SAMPLES_AT_ONCE) {
        tokio::task::yield_now().await;
    }
}
