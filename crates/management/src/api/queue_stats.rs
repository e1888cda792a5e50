//! `message_stats` of queues: totals since the queue's leader leads, and rates between looks.

use crate::App;
use node::host::QueueReport;
use serde_json::{Map, Value, json};
use std::time::Instant;

/// Adds `message_stats`, as RabbitMQ only to queues that have been used, and the growth of what waits.
pub(super) fn add(app: &App, row: &mut Map<String, Value>, report: &QueueReport) {
    let rate = app.queue_rates.lock().update(Instant::now(), report);
    for (key, rate) in [
        ("messages_details", rate.ready + rate.unacked),
        ("messages_ready_details", rate.ready),
        ("messages_unacknowledged_details", rate.unacked),
    ] {
        row.insert(key.to_owned(), json!({ "rate": rate }));
    }
    let tally = &report.tally;
    let handed_out = tally.delivered + tally.delivered_no_ack + tally.got + tally.got_no_ack;
    if tally.published + handed_out == 0 {
        return;
    }
    let handed_out_rate = rate.delivered + rate.delivered_no_ack + rate.got + rate.got_no_ack;
    let mut stats = Map::new();
    for (key, total, rate) in [
        ("publish", tally.published, rate.published),
        ("deliver", tally.delivered, rate.delivered),
        (
            "deliver_no_ack",
            tally.delivered_no_ack,
            rate.delivered_no_ack,
        ),
        ("get", tally.got, rate.got),
        ("get_no_ack", tally.got_no_ack, rate.got_no_ack),
        ("deliver_get", handed_out, handed_out_rate),
        ("redeliver", tally.redelivered, rate.redelivered),
        ("ack", tally.acknowledged, rate.acknowledged),
    ] {
        stats.insert(key.to_owned(), total.into());
        stats.insert(format!("{key}_details"), json!({ "rate": rate }));
    }
    row.insert("message_stats".to_owned(), stats.into());
}
