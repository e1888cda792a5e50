//! Lists of queues, exchanges, bindings, consumers.

use super::arguments::{flag, number};
use super::columns::{Column, From, chosen, rows, same, text};
use super::command::{Answer, Call, Command, LOOK, command};
use super::format::Output;
use super::trouble::is_missing;
use crate::client::{Failure, path};
use serde_json::Value;

pub(super) const COMMANDS: &[Command] = &[
    command(
        "list_queues",
        LOOK,
        "[--vhost <vhost>] [--online] [--offline] [--local] [--no-table-headers] [<column>, ...]",
        (0, usize::MAX),
        |call| {
            let seconds = call.timeout_or(60);
            format!(
                "Timeout: {seconds}.0 seconds ...\nListing queues for vhost {} ...",
                call.vhost()
            )
        },
        queues,
    )
    .with(&[flag("online"), flag("offline"), flag("local")]),
    command(
        "list_unresponsive_queues",
        LOOK,
        "[--local] [--queue-timeout <milliseconds>] [<column> ...] [--no-table-headers]",
        (0, usize::MAX),
        |call| format!("Listing unresponsive queues for vhost {} ...", call.vhost()),
        unresponsive,
    )
    .with(&[flag("local"), number("queue-timeout")]),
    command(
        "list_exchanges",
        LOOK,
        "[--vhost <vhost>] [--no-table-headers] [<column> ...]",
        (0, usize::MAX),
        |call| format!("Listing exchanges for vhost {} ...", call.vhost()),
        |call| {
            let columns = chosen(call, EXCHANGES, &["name", "type"])?;
            let path = path(["exchanges", call.vhost()]);
            Ok(Output::Rows(rows(&columns, &listed(call, &path)?)))
        },
    ),
    command(
        "list_bindings",
        LOOK,
        "[--vhost <vhost>] [--no-table-headers] [<column> ...]",
        (0, usize::MAX),
        |call| format!("Listing bindings for vhost {}...", call.vhost()),
        bindings,
    ),
    command(
        "list_consumers",
        LOOK,
        "[--vhost <vhost>] [--no-table-headers] [<column> ...]",
        (0, usize::MAX),
        |call| format!("Listing consumers in vhost {} ...", call.vhost()),
        consumers,
    ),
];

const QUEUES: &[Column] = &[
    same("name"),
    same("durable"),
    same("auto_delete"),
    ("arguments", From::Arguments("arguments")),
    ("policy", From::At("policy")),
    ("operator_policy", From::At("operator_policy")),
    (
        "effective_policy_definition",
        From::At("effective_policy_definition"),
    ),
    ("pid", From::With(pid)),
    ("owner_pid", From::Nothing),
    same("exclusive"),
    ("exclusive_consumer_pid", From::Nothing),
    ("exclusive_consumer_tag", From::Nothing),
    (
        "single_active_consumer_tag",
        From::At("single_active_consumer_tag"),
    ),
    same("messages_ready"),
    same("messages_unacknowledged"),
    same("messages"),
    ("messages_ready_ram", From::At("messages_ready")),
    (
        "messages_unacknowledged_ram",
        From::At("messages_unacknowledged"),
    ),
    same("messages_ram"),
    same("messages_persistent"),
    same("message_bytes"),
    same("message_bytes_ready"),
    same("message_bytes_unacknowledged"),
    same("message_bytes_ram"),
    ("message_bytes_persistent", From::With(persistent_bytes)),
    ("head_message_timestamp", From::Nothing),
    ("disk_reads", From::With(|_| 0.into())),
    ("disk_writes", From::With(|_| 0.into())),
    same("consumers"),
    ("consumer_utilisation", From::At("consumer_capacity")),
    same("consumer_capacity"),
    // A queue has no process of its own: what its messages take.
    ("memory", From::At("message_bytes_ready")),
    same("state"),
    same("type"),
    same("leader"),
    same("members"),
    same("online"),
    ("slave_pids", From::Nothing),
    ("synchronised_slave_pids", From::Nothing),
    same("vhost"),
    same("node"),
];

/// Columns for which nobody has to be asked.
const KNOWN: &[&str] = &[
    "name",
    "durable",
    "auto_delete",
    "arguments",
    "policy",
    "operator_policy",
    "exclusive",
    "state",
    "type",
    "leader",
    "members",
    "online",
    "vhost",
    "node",
    "pid",
];

/// Scripts read the node from it.
fn pid(queue: &Value) -> Value {
    format!("<{}>", text(queue, "leader")).into()
}

fn persistent_bytes(queue: &Value) -> Value {
    let durable = queue.get("durable").and_then(Value::as_bool) == Some(true);
    let bytes = queue.get("message_bytes").cloned();
    bytes.filter(|_| durable).unwrap_or_else(|| 0.into())
}

const EXCHANGES: &[Column] = &[
    same("name"),
    same("type"),
    same("durable"),
    same("auto_delete"),
    same("internal"),
    ("arguments", From::Arguments("arguments")),
    ("policy", From::At("policy")),
    ("user_who_performed_action", From::Nothing),
    same("vhost"),
];

const BINDINGS: &[Column] = &[
    ("source_name", From::At("source")),
    ("source_kind", From::With(|_| "exchange".into())),
    ("destination_name", From::At("destination")),
    ("destination_kind", From::At("destination_type")),
    same("routing_key"),
    ("arguments", From::Arguments("arguments")),
    same("vhost"),
];

const CONSUMERS: &[Column] = &[
    ("queue_name", From::At("queue.name")),
    ("channel_pid", From::With(channel_pid)),
    same("consumer_tag"),
    same("ack_required"),
    same("prefetch_count"),
    same("active"),
    ("activity_status", From::At("activity_status")),
    ("arguments", From::Arguments("arguments")),
    same("exclusive"),
];

fn channel_pid(consumer: &Value) -> Value {
    let Some(details) = consumer.get("channel_details") else {
        return Value::Null;
    };
    super::sessions::pid(text(details, "node"), text(details, "name")).into()
}

/// The rows; none where the vhost does not exist, as with RabbitMQ.
fn listed(call: &Call, path: &str) -> Result<Vec<Value>, Failure> {
    match call.client.list(path) {
        Err(failure) if is_missing(&failure) => Ok(Vec::new()),
        other => other,
    }
}

fn queues(call: &Call) -> Answer {
    let columns = chosen(call, QUEUES, &["name", "messages"])?;
    let counted = columns.iter().any(|(name, _)| !KNOWN.contains(name));
    let stats = if counted { "" } else { "?disable_stats=true" };
    let path = path(["queues", call.vhost()]);
    let mut found = listed(call, &format!("{path}{stats}"))?;
    let (online, offline) = match (call.options.flag("online"), call.options.flag("offline")) {
        (false, false) => (true, true),
        given => given,
    };
    if call.options.flag("local") {
        let own = call.client.get("/api/overview")?;
        found.retain(|queue| text(queue, "node") == text(&own, "node"));
    } else {
        found.retain(|queue| {
            if text(queue, "state") == "running" {
                online
            } else {
                offline
            }
        });
    }
    Ok(Output::Rows(rows(&columns, &found)))
}

/// Queues do not block: those without a leader are `list_queues --offline`.
fn unresponsive(call: &Call) -> Answer {
    chosen(call, QUEUES, &["name"])?;
    Ok(Output::Rows(Vec::new()))
}

fn bindings(call: &Call) -> Answer {
    let columns = chosen(
        call,
        BINDINGS,
        &[
            "source_name",
            "source_kind",
            "destination_name",
            "destination_kind",
            "routing_key",
            "arguments",
        ],
    )?;
    let found = listed(call, &path(["bindings", call.vhost()]))?;
    Ok(Output::Rows(rows(&columns, &found)))
}

fn consumers(call: &Call) -> Answer {
    let columns = chosen(
        call,
        CONSUMERS,
        &[
            "queue_name",
            "channel_pid",
            "consumer_tag",
            "ack_required",
            "prefetch_count",
            "active",
            "arguments",
        ],
    )?;
    let found = listed(call, &path(["consumers", call.vhost()]))?;
    Ok(Output::Rows(rows(&columns, &found)))
}
