//! `message_stats`: totals, and rates between looks.

use crate::App;
use node::host::QueueReport;
use node::queries::{ChannelReport, ConnectionReport, ExchangeReport};
use serde_json::{Map, Value, json};
use std::time::Instant;

/// What of a channel's counts stands where in its sample.
const CHANNEL: [&str; 11] = [
    "published",
    "confirmed",
    "unroutable_returned",
    "unroutable_dropped",
    "delivered",
    "delivered_no_ack",
    "got",
    "got_no_ack",
    "get_empty",
    "redelivered",
    "acknowledged",
];

/// A counter that fell belongs to somebody who counts anew: it has no rate yet.
fn details(rate: f64) -> Value {
    json!({ "rate": rate.max(0.0) })
}

fn message_stats<const N: usize>(parts: [(&str, u64, f64); N]) -> Value {
    let mut stats = Map::new();
    for (key, total, rate) in parts {
        stats.insert(key.to_owned(), total.into());
        stats.insert(format!("{key}_details"), details(rate));
    }
    stats.into()
}

/// Adds `message_stats` of a queue since its leader leads, as RabbitMQ only where it has been used, and the growth of what waits.
pub(super) fn add_of_queue(app: &App, row: &mut Map<String, Value>, report: &QueueReport) {
    let tally = &report.tally;
    let sample = [
        tally.published,
        tally.delivered,
        tally.delivered_no_ack,
        tally.got,
        tally.got_no_ack,
        tally.redelivered,
        tally.acknowledged,
        report.ready,
        report.unacked,
    ];
    let now = Instant::now();
    let [p, d, dn, g, gn, r, a, ready, unacked] =
        app.rates_of.queues.lock().update(now, report.queue, sample);
    for (key, rate) in [
        ("messages_details", ready + unacked),
        ("messages_ready_details", ready),
        ("messages_unacknowledged_details", unacked),
    ] {
        row.insert(key.to_owned(), json!({ "rate": rate }));
    }
    let handed_out = tally.delivered + tally.delivered_no_ack + tally.got + tally.got_no_ack;
    if tally.published + handed_out == 0 {
        return;
    }
    let stats = message_stats([
        ("publish", tally.published, p),
        ("deliver", tally.delivered, d),
        ("deliver_no_ack", tally.delivered_no_ack, dn),
        ("get", tally.got, g),
        ("get_no_ack", tally.got_no_ack, gn),
        ("deliver_get", handed_out, d + dn + g + gn),
        ("redeliver", tally.redelivered, r),
        ("ack", tally.acknowledged, a),
    ]);
    row.insert("message_stats".to_owned(), stats);
}

/// Adds `message_stats` of a channel, where anything has happened on it.
pub(super) fn add_of_channel(
    app: &App,
    row: &mut Map<String, Value>,
    connection: &ConnectionReport,
    channel: &ChannelReport,
) {
    if channel.counts.is_empty() {
        return;
    }
    let counts = CHANNEL.map(|name| channel.counts.get(name).copied().unwrap_or(0));
    let key = (connection.node, connection.serial, channel.number);
    let mut rates = app.rates_of.channels.lock();
    let rates = rates.update(Instant::now(), key, counts);
    let [
        publish,
        confirm,
        returned,
        dropped,
        d,
        dn,
        g,
        gn,
        empty,
        redeliver,
        ack,
    ] = std::array::from_fn(|at| (counts[at], rates[at]));
    let handed_out = [d, dn, g, gn]
        .into_iter()
        .fold((0, 0.0), |sum, part| (sum.0 + part.0, sum.1 + part.1));
    let stats = message_stats(
        [
            ("publish", publish),
            ("confirm", confirm),
            ("return_unroutable", returned),
            ("drop_unroutable", dropped),
            ("deliver", d),
            ("deliver_no_ack", dn),
            ("get", g),
            ("get_no_ack", gn),
            ("get_empty", empty),
            ("deliver_get", handed_out),
            ("redeliver", redeliver),
            ("ack", ack),
        ]
        .map(|(key, (total, rate))| (key, total, rate)),
    );
    row.insert("message_stats".to_owned(), stats);
}

/// Adds `message_stats` of an exchange, where anything was published to it.
pub(super) fn add_of_exchange(app: &App, row: &mut Map<String, Value>, report: &ExchangeReport) {
    let counts = [report.published, report.routed];
    let key = (report.vhost.clone(), report.name.clone());
    let mut rates = app.rates_of.exchanges.lock();
    let [published, routed] = rates.update(Instant::now(), key, counts);
    let stats = message_stats([
        ("publish_in", report.published, published),
        ("publish_out", report.routed, routed),
    ]);
    row.insert("message_stats".to_owned(), stats);
}

/// Bytes that a connection receives and sends in a second.
pub(super) fn octets(app: &App, connection: &ConnectionReport) -> [Value; 2] {
    let key = (connection.node, connection.serial);
    let sample = [connection.received, connection.sent];
    let mut rates = app.rates_of.connections.lock();
    rates.update(Instant::now(), key, sample).map(details)
}
