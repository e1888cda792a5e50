//! Virtual hosts.

use super::arguments::{flag, text};
use super::columns::{Column, From, chosen, rows, same, text as field};
use super::command::{Answer, CTL, Call, Command, LOOK, command};
use super::format::Output;
use super::trouble::{DATA, OrMissing, Trouble, USAGE, is_missing};
use crate::client::Failure;
use serde_json::{Map, Value, json};

pub(super) const COMMANDS: &[Command] = &[
    command(
        "list_vhosts",
        LOOK,
        "[--no-table-headers] [<column> ...]",
        (0, usize::MAX),
        |_| "Listing vhosts ...".into(),
        list,
    ),
    command(
        "add_vhost",
        CTL,
        "<vhost> [--description <description> --tags \"<tag1>,<tag2>,<...>\" --default-queue-type \
         <quorum|classic|stream>]",
        (1, 1),
        |call| format!("Adding vhost \"{}\" ...", call.word(0)),
        add,
    )
    .with(&[
        text("description").or('d'),
        text("tags"),
        text("default-queue-type"),
    ]),
    command(
        "update_vhost_metadata",
        CTL,
        "<vhost> [--description=<description>] [--tags=\"<tag1>,<tag2>,<...>\"] \
         [--default-queue-type=<quorum|classic|stream>] [--protected-from-deletion=<true|false>]",
        (1, 1),
        |call| format!("Updating metadata of vhost \"{}\" ...", call.word(0)),
        update,
    )
    .with(&[
        text("description").or('d'),
        text("tags"),
        text("default-queue-type"),
        flag("protected-from-deletion"),
    ]),
    command(
        "set_vhost_tags",
        CTL,
        "<vhost> <tag> [...]",
        (1, usize::MAX),
        |call| {
            let tags = call.words.get(1..).unwrap_or_default().join(", ");
            format!(
                "Setting tags for virtual host \"{}\" to [{tags}] ...",
                call.word(0)
            )
        },
        set_tags,
    ),
    command(
        "trace_on",
        CTL,
        "[--vhost <vhost>]",
        (0, 0),
        |call| format!("Starting tracing for vhost \"{}\" ...", call.vhost()),
        |call| trace(call, true),
    ),
    command(
        "trace_off",
        CTL,
        "[--vhost <vhost>]",
        (0, 0),
        |call| format!("Stopping tracing for vhost \"{}\" ...", call.vhost()),
        |call| trace(call, false),
    ),
    command(
        "delete_vhost",
        CTL,
        "<vhost>",
        (1, 1),
        |call| format!("Deleting vhost \"{}\" ...", call.word(0)),
        delete,
    ),
    command(
        "enable_vhost_deletion_protection",
        CTL,
        "<vhost>",
        (1, 1),
        |call| {
            format!(
                "Protecting virtual host '{}' from deletion...",
                call.word(0)
            )
        },
        |call| protect(call, true),
    ),
    command(
        "disable_vhost_deletion_protection",
        CTL,
        "<vhost>",
        (1, 1),
        |call| {
            format!(
                "Removing deletion protection from virtual host '{}'...",
                call.word(0)
            )
        },
        |call| protect(call, false),
    ),
];

const COLUMNS: &[Column] = &[
    same("name"),
    same("description"),
    same("tags"),
    same("default_queue_type"),
    same("protected_from_deletion"),
    same("tracing"),
    same("cluster_state"),
    same("metadata"),
    ("dir", From::Nothing),
];

fn list(call: &Call) -> Answer {
    let columns = chosen(call, COLUMNS, &["name"])?;
    let found = call.client.list("/api/vhosts?disable_stats=true")?;
    Ok(Output::Rows(rows(&columns, &found)))
}

fn add(call: &Call) -> Answer {
    let vhost = call.word(0);
    match call.get(&["vhosts", vhost]) {
        // It stays as it is, which is no failure.
        Ok(_) => return Ok(Output::Done),
        Err(failure) if is_missing(&failure) => {}
        Err(failure) => return Err(failure.into()),
    }
    let mut body = metadata(call)?;
    for key in ["description", "tags"] {
        body.entry(key).or_insert_with(|| "".into());
    }
    call.put(&["vhosts", vhost], &Value::Object(body))?;
    // Over HTTP whoever makes a vhost may use it at once. Here nobody may until it is said.
    let own = call.client.get("/api/whoami")?;
    match call.delete(&["permissions", vhost, field(&own, "name")]) {
        Err(failure) if !is_missing(&failure) => Err(failure.into()),
        _ => Ok(Output::Done),
    }
}

/// What the options say of a vhost.
fn metadata(call: &Call) -> Result<Map<String, Value>, Trouble> {
    let mut body = Map::new();
    for (option, key) in [
        ("description", "description"),
        ("tags", "tags"),
        ("default-queue-type", "default_queue_type"),
    ] {
        if let Some(value) = call.options.text(option) {
            body.insert(key.into(), value.into());
        }
    }
    match body.get("default_queue_type").and_then(Value::as_str) {
        None | Some("classic" | "quorum" | "stream") => Ok(body),
        Some(other) => {
            let text =
                format!("Unsupported default queue type '{other}': use quorum, classic or stream");
            Err(Trouble::error(USAGE, text))
        }
    }
}

fn update(call: &Call) -> Answer {
    let vhost = call.word(0);
    let body = metadata(call)?;
    let on = call.options.flag_or("protected-from-deletion", false);
    // The flag has three states: on, off and not given.
    let given = on == call.options.flag_or("protected-from-deletion", true);
    if body.is_empty() && !given {
        return Err(call.misused(USAGE, "not enough arguments."));
    }
    call.need_vhost(vhost)?;
    if !body.is_empty() {
        call.put(&["vhosts", vhost], &Value::Object(body))?;
    }
    if given {
        return protect(call, on);
    }
    Ok(Output::Done)
}

fn set_tags(call: &Call) -> Answer {
    let vhost = call.word(0);
    let missing = || Trouble::error(DATA, format!("Virtual host \"{vhost}\" does not exist"));
    call.get(&["vhosts", vhost]).or_missing(missing)?;
    let tags = call.words.get(1..).unwrap_or_default();
    call.put(&["vhosts", vhost], &json!({ "tags": tags }))?;
    Ok(Output::Done)
}

fn delete(call: &Call) -> Answer {
    let vhost = call.word(0);
    call.delete(&["vhosts", vhost])
        .or_missing(|| Trouble::no_vhost(vhost))?;
    Ok(Output::Done)
}

fn protect(call: &Call, on: bool) -> Answer {
    let vhost = call.word(0);
    let at = ["vhosts", vhost, "deletion", "protection"];
    let answer: Result<Value, Failure> = if on {
        let path = crate::client::path(at);
        call.client.post(&path, &json!({}))
    } else {
        call.delete(&at)
    };
    answer.or_missing(|| Trouble::no_vhost(vhost))?;
    Ok(Output::Done)
}

fn trace(call: &Call, on: bool) -> Answer {
    let vhost = call.vhost();
    call.need_vhost(vhost)?;
    call.put(&["vhosts", vhost], &json!({ "tracing": on }))?;
    let done = if on { "enabled" } else { "disabled" };
    Ok(Output::Text(format!("Trace {done} for vhost {vhost}")))
}
