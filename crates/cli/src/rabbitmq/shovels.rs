//! Shovels.

use super::arguments::flag;
use super::columns::{Column, From, rows, same, text};
use super::command::{Answer, CTL, Call, Command, LOOK, command};
use super::format::Output;
use super::trouble::{OrMissing, Trouble, UNAVAILABLE};
use serde_json::Value;

pub(super) const COMMANDS: &[Command] = &[
    command(
        "shovel_status",
        LOOK,
        "",
        (0, 0),
        |call| format!("Shovel status on node {}", call.node()),
        status,
    ),
    command(
        "restart_shovel",
        CTL,
        "[--vhost <vhost>] <name>",
        (1, 1),
        |call| {
            format!(
                "Restarting dynamic Shovel {} in virtual host {} on node {}",
                call.word(0),
                call.vhost(),
                call.node()
            )
        },
        restart,
    ),
    command(
        "delete_shovel",
        CTL,
        "[--vhost <vhost>] [--force] <name>",
        (1, 1),
        |call| format!("Deleting shovel {} in vhost {}", call.word(0), call.vhost()),
        delete,
    )
    .with(&[flag("force")]),
];

const COLUMNS: &[Column] = &[
    same("name"),
    same("vhost"),
    same("type"),
    same("state"),
    ("source_protocol", From::At("src_protocol")),
    ("source", From::At("src_uri")),
    ("source_queue", From::At("src_queue")),
    ("source_exchange", From::At("src_exchange")),
    ("source_exchange_key", From::At("src_exchange_key")),
    ("destination_protocol", From::At("dest_protocol")),
    ("destination", From::At("dest_uri")),
    ("destination_queue", From::At("dest_queue")),
    ("destination_exchange", From::At("dest_exchange")),
    ("destination_exchange_key", From::At("dest_exchange_key")),
    ("termination_reason", From::At("reason")),
    same("remaining"),
    same("remaining_unacked"),
    same("pending"),
    same("forwarded"),
    ("last_changed", From::At("timestamp")),
];

fn status(call: &Call) -> Answer {
    let found = call.client.list("/api/shovels")?;
    Ok(Output::Whole(rows(COLUMNS, &found)))
}

fn not_found(call: &Call) -> Trouble {
    Trouble::error(
        UNAVAILABLE,
        format!(
            "Shovel with the given name was not found on the target node '{}' and / or virtual host '{}'",
            call.node(),
            call.vhost()
        ),
    )
}

fn restart(call: &Call) -> Answer {
    call.delete(&["shovels", "vhost", call.vhost(), call.word(0), "restart"])
        .or_missing(|| not_found(call))?;
    Ok(Output::Done)
}

fn delete(call: &Call) -> Answer {
    let (vhost, name) = (call.vhost(), call.word(0));
    call.need_vhost(vhost)?;
    let mut parameters = call.client.list("/api/parameters")?.into_iter();
    let is_it = |row: &Value| {
        (
            text(row, "component"),
            text(row, "vhost"),
            text(row, "name"),
        ) == ("shovel", vhost, name)
    };
    if !parameters.any(|row| is_it(&row)) {
        return Err(not_found(call));
    }
    let protected = ["shovels", "vhost", vhost, name];
    let parameter = ["parameters", "shovel", vhost, name];
    let path: &[&str] = if call.options.flag("force") {
        &parameter
    } else {
        &protected
    };
    call.delete(path).or_missing(|| not_found(call))?;
    Ok(Output::Done)
}
