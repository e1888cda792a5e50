//! Policies and parameters.

use super::arguments::{number, text};
use super::columns::{Column, From, rows, same};
use super::command::{Answer, CTL, Call, Command, LOOK, command, json_word};
use super::format::Output;
use super::trouble::{OrMissing, Trouble, UNAVAILABLE};
use serde_json::json;

const POLICY: &str = "[--vhost <vhost>] [--priority <priority>] [--apply-to <apply-to>] <name> <pattern> <definition>";

pub(super) const COMMANDS: &[Command] = &[
    command(
        "list_policies",
        LOOK,
        "[--vhost <vhost>] [--no-table-headers]",
        (0, 0),
        |call| format!("Listing policies for vhost \"{}\" ...", call.vhost()),
        |call| of_vhost(call, "policies"),
    ),
    command(
        "list_operator_policies",
        LOOK,
        "[--vhost <vhost>] [--no-table-headers]",
        (0, 0),
        |call| {
            format!(
                "Listing operator policy overrides for vhost \"{}\" ...",
                call.vhost()
            )
        },
        |call| of_vhost(call, "operator-policies"),
    ),
    command(
        "set_policy",
        CTL,
        POLICY,
        (3, 3),
        |call| setting(call, "policy"),
        |call| set_policy(call, "policies"),
    )
    .with(&[number("priority"), text("apply-to")]),
    command(
        "set_operator_policy",
        CTL,
        POLICY,
        (3, 3),
        |call| setting(call, "operator policy override"),
        |call| set_policy(call, "operator-policies"),
    )
    .with(&[number("priority"), text("apply-to")]),
    command(
        "clear_policy",
        CTL,
        "[--vhost <vhost>] <name>",
        (1, 1),
        |call| {
            format!(
                "Clearing policy \"{}\" on vhost \"{}\" ...",
                call.word(0),
                call.vhost()
            )
        },
        |call| clear(call, &["policies", call.vhost(), call.word(0)]),
    ),
    command(
        "clear_operator_policy",
        CTL,
        "[--vhost <vhost>] <name>",
        (1, 1),
        |call| {
            let vhost = call.vhost();
            format!(
                "Clearing operator policy \"{}\" on vhost \"{vhost}\" ...",
                call.word(0)
            )
        },
        |call| clear(call, &["operator-policies", call.vhost(), call.word(0)]),
    ),
    command(
        "list_parameters",
        LOOK,
        "[--vhost <vhost>] [--no-table-headers]",
        (0, 0),
        |call| {
            format!(
                "Listing runtime parameters for vhost \"{}\" ...",
                call.vhost()
            )
        },
        list_parameters,
    ),
    command(
        "set_parameter",
        CTL,
        "[--vhost <vhost>] <component_name> <name> <value>",
        (3, 3),
        |call| {
            format!(
                "Setting runtime parameter \"{}\" for component \"{}\" to \"{}\" in vhost \"{}\" ...",
                call.word(1),
                call.word(0),
                call.word(2),
                call.vhost()
            )
        },
        set_parameter,
    ),
    command(
        "clear_parameter",
        CTL,
        "[--vhost <vhost>] <component_name> <name>",
        (2, 2),
        |call| {
            format!(
                "Clearing runtime parameter \"{}\" for component \"{}\" on vhost \"{}\" ...",
                call.word(1),
                call.word(0),
                call.vhost()
            )
        },
        |call| {
            clear(
                call,
                &["parameters", call.word(0), call.vhost(), call.word(1)],
            )
        },
    ),
    command(
        "list_global_parameters",
        LOOK,
        "[--no-table-headers]",
        (0, 0),
        |_| "Listing global runtime parameters ...".into(),
        |call| {
            let found = call.client.list("/api/global-parameters")?;
            Ok(Output::Whole(rows(
                &[same("name"), ("value", From::Json("value"))],
                &found,
            )))
        },
    ),
    command(
        "set_global_parameter",
        CTL,
        "<name> <value>",
        (2, 2),
        |call| {
            let (name, value) = (call.word(0), call.word(1));
            format!("Setting global runtime parameter \"{name}\" to \"{value}\" ...")
        },
        |call| {
            let body = json!({ "value": json_word(call.word(1))? });
            call.put(&["global-parameters", call.word(0)], &body)?;
            Ok(Output::Done)
        },
    ),
    command(
        "clear_global_parameter",
        CTL,
        "<name>",
        (1, 1),
        |call| format!("Clearing global runtime parameter \"{}\" ...", call.word(0)),
        |call| clear(call, &["global-parameters", call.word(0)]),
    ),
];

const POLICIES: &[Column] = &[
    same("vhost"),
    same("name"),
    same("pattern"),
    same("apply-to"),
    ("definition", From::Json("definition")),
    same("priority"),
];

const PARAMETERS: &[Column] = &[
    same("component"),
    same("name"),
    ("value", From::Json("value")),
];

fn of_vhost(call: &Call, kind: &str) -> Answer {
    let vhost = call.vhost();
    let found = call
        .rows(&[kind, vhost])
        .or_missing(|| Trouble::no_vhost(vhost))?;
    Ok(Output::Whole(rows(POLICIES, &found)))
}

fn priority(call: &Call) -> i64 {
    call.options.number("priority").unwrap_or(0)
}

fn setting(call: &Call, what: &str) -> String {
    format!(
        "Setting {what} \"{}\" for pattern \"{}\" to \"{}\" with priority \"{}\" for vhost \"{}\" ...",
        call.word(0),
        call.word(1),
        call.word(2),
        priority(call),
        call.vhost()
    )
}

fn set_policy(call: &Call, kind: &str) -> Answer {
    let vhost = call.vhost();
    let body = json!({
        "pattern": call.word(1),
        "definition": json_word(call.word(2))?,
        "priority": priority(call),
        "apply-to": call.options.text("apply-to").unwrap_or("all"),
    });
    call.put(&[kind, vhost, call.word(0)], &body)
        .or_missing(|| Trouble::no_vhost(vhost))?;
    Ok(Output::Done)
}

fn clear(call: &Call, at: &[&str]) -> Answer {
    call.delete(at)
        .or_missing(|| Trouble::error(UNAVAILABLE, "Parameter does not exist"))?;
    Ok(Output::Done)
}

fn list_parameters(call: &Call) -> Answer {
    let vhost = call.vhost();
    call.need_vhost(vhost)?;
    let mut found = call.client.list("/api/parameters")?;
    found.retain(|row| super::columns::text(row, "vhost") == vhost);
    Ok(Output::Whole(rows(PARAMETERS, &found)))
}

fn set_parameter(call: &Call) -> Answer {
    let vhost = call.vhost();
    let body = json!({ "value": json_word(call.word(2))? });
    call.put(&["parameters", call.word(0), vhost, call.word(1)], &body)
        .or_missing(|| Trouble::no_vhost(vhost))?;
    Ok(Output::Done)
}
