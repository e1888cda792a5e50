//! `message_stats`: totals, and rates between looks.

use crate::App;
use node::host::QueueReport;
use node::queries::{ChannelReport, ConnectionReport, ExchangeReport, VhostReport};
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
        tally.got_nothing,
        tally.redelivered,
        tally.acknowledged,
        report.ready,
        report.unacked,
    ];
    let now = Instant::now();
    let [p, d, dn, g, gn, ge, r, a, ready, unacked] =
        app.rates_of.queues.lock().update(now, report.queue, sample);
    for (key, rate) in [
        ("messages_details", ready + unacked),
        ("messages_ready_details", ready),
        ("messages_unacknowledged_details", unacked),
    ] {
        row.insert(key.to_owned(), json!({ "rate": rate }));
    }
    let handed_out = tally.delivered + tally.delivered_no_ack + tally.got + tally.got_no_ack;
    if tally.published + handed_out + tally.got_nothing == 0 {
        return;
    }
    let stats = message_stats([
        ("publish", tally.published, p),
        ("deliver", tally.delivered, d),
        ("deliver_no_ack", tally.delivered_no_ack, dn),
        ("get", tally.got, g),
        ("get_no_ack", tally.got_no_ack, gn),
        ("get_empty", tally.got_nothing, ge),
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
    let rates = &app.rates_of.channels;
    let rates = rates.lock().update(Instant::now(), key, counts);
    row.insert("message_stats".to_owned(), of_channels(counts, rates));
}

/// Adds `message_stats` and bytes of a virtual host, where anything has happened, and the growth of what waits.
pub(super) fn add_of_vhost(
    app: &App,
    row: &mut Map<String, Value>,
    report: Option<&VhostReport>,
    [ready, unacked]: [u64; 2],
) {
    let Some(name) = row.get("name").and_then(Value::as_str).map(str::to_owned) else {
        return;
    };
    let now = Instant::now();
    let (received, sent) = report.map_or((0, 0), |report| (report.received, report.sent));
    let totals = &app.rates_of.vhost_totals;
    let sample = [received, sent, ready, unacked];
    let [r, s, growing, held] = totals.lock().update(now, name.clone(), sample);
    for (key, rate) in [
        ("messages_details", growing + held),
        ("messages_ready_details", growing),
        ("messages_unacknowledged_details", held),
    ] {
        row.insert(key.to_owned(), json!({ "rate": rate }));
    }
    let Some(report) = report else {
        return;
    };
    row.insert("recv_oct".to_owned(), received.into());
    row.insert("recv_oct_details".to_owned(), details(r));
    row.insert("send_oct".to_owned(), sent.into());
    row.insert("send_oct_details".to_owned(), details(s));
    if report.counts.is_empty() {
        return;
    }
    let counts = CHANNEL.map(|name| report.counts.get(name).copied().unwrap_or(0));
    let rates = app.rates_of.vhosts.lock().update(now, name, counts);
    row.insert("message_stats".to_owned(), of_channels(counts, rates));
}

/// `message_stats` of what is counted as [`CHANNEL`] says.
fn of_channels(counts: [u64; CHANNEL.len()], rates: [f64; CHANNEL.len()]) -> Value {
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
    message_stats(
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
    )
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
