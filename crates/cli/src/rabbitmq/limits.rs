//! Limits of vhosts and users.

use super::arguments::{flag, text};
use super::cell::Cell;
use super::columns::{Column, From, rows, same};
use super::command::{Answer, CTL, Call, Command, LOOK, command, json_word};
use super::format::Output;
use super::trouble::{OrMissing, Trouble, UNAVAILABLE};
use crate::client::path;
use serde_json::{Value, json};

pub(super) const COMMANDS: &[Command] = &[
    command(
        "list_vhost_limits",
        LOOK,
        "[--vhost <vhost>] [--global] [--no-table-headers]",
        (0, 0),
        |call| {
            if call.options.flag("global") {
                return "Listing limits for all vhosts ...".into();
            }
            format!("Listing limits for vhost \"{}\" ...", call.vhost())
        },
        of_vhosts,
    )
    .with(&[flag("global")]),
    command(
        "set_vhost_limits",
        CTL,
        "[--vhost <vhost>] <definition>",
        (1, 1),
        |call| {
            let vhost = call.vhost();
            format!(
                "Setting vhost limits to \"{}\" for vhost \"{vhost}\" ...",
                call.word(0)
            )
        },
        set_vhost,
    ),
    command(
        "clear_vhost_limits",
        CTL,
        "[--vhost <vhost>]",
        (0, 0),
        |call| format!("Clearing vhost \"{}\" limits ...", call.vhost()),
        clear_vhost,
    ),
    command(
        "list_user_limits",
        LOOK,
        "[--user <username>] [--global]",
        (0, 0),
        |call| {
            if call.options.flag("global") {
                return "Listing limits for all users ...".into();
            }
            format!("Listing limits for user \"{}\" ...", user(call))
        },
        of_users,
    )
    .with(&[flag("global"), text("user")]),
    command(
        "set_user_limits",
        CTL,
        "<username> <definition>",
        (2, 2),
        |call| {
            let user = call.word(0);
            format!(
                "Setting user limits to \"{}\" for user \"{user}\" ...",
                call.word(1)
            )
        },
        set_user,
    ),
    command(
        "clear_user_limits",
        CTL,
        "<username> <limit_type> | all",
        (2, 2),
        |call| match (call.word(1), call.word(0)) {
            ("all", user) => format!("Clearing all limits for user \"{user}\" ..."),
            (limit, user) => format!("Clearing \"{limit}\" limit for user \"{user}\" ..."),
        },
        clear_user,
    ),
];

const VHOSTS: &[&str] = &["max-connections", "max-queues"];
const USERS: &[&str] = &["max-connections", "max-channels"];

const OF_VHOSTS: &[Column] = &[same("vhost"), ("limits", From::Json("value"))];
const OF_USERS: &[Column] = &[same("user"), ("limits", From::Json("value"))];

fn user(call: &Call) -> &str {
    call.options.text("user").unwrap_or("guest")
}

fn of_vhosts(call: &Call) -> Answer {
    if call.options.flag("global") {
        let found = call.client.list("/api/vhost-limits")?;
        return Ok(Output::Whole(rows(OF_VHOSTS, &found)));
    }
    let vhost = call.vhost();
    let found = call
        .rows(&["vhost-limits", vhost])
        .or_missing(|| Trouble::no_vhost(vhost))?;
    match found.first().and_then(|row| row.get("value")) {
        Some(limits) => Ok(Output::Text(limits.to_string())),
        None => Ok(Output::Whole(Vec::new())),
    }
}

fn of_users(call: &Call) -> Answer {
    if call.options.flag("global") {
        let found = call.client.list("/api/user-limits")?;
        return Ok(Output::Whole(rows(OF_USERS, &found)));
    }
    let user = user(call);
    let found = call
        .rows(&["user-limits", user])
        .or_missing(|| no_such_user(user))?;
    let limits = found.first().and_then(|row| row.get("value")).cloned();
    let text = limits.unwrap_or_else(|| json!({})).to_string();
    let answer = json!({ "message": text });
    Ok(Output::Both(text, answer))
}

fn no_such_user(user: &str) -> Trouble {
    Trouble::error(UNAVAILABLE, format!("{{:no_such_user, \"{user}\"}}"))
}

/// Limits as they are written, checked before any of them is set.
fn read(definition: &str, known: &[&str], what: &str) -> Result<Vec<(String, Value)>, Trouble> {
    let value = json_word(definition)?;
    let refused = |text: String| Err(Trouble::error(UNAVAILABLE, text));
    let Value::Object(limits) = value else {
        return refused("Validation failed\n\nlimits should be a JSON object".into());
    };
    for (name, value) in &limits {
        if !known.contains(&name.as_str()) {
            let value = Cell::Plain(value.clone()).text();
            return refused(format!(
                "Unrecognised terms [{{<<\"{name}\">>,{value}}}] in {what}"
            ));
        }
        if value.as_i64().is_none() {
            return refused(format!(
                "Validation failed\n\n{name} should be a number, actually was {value}"
            ));
        }
    }
    Ok(limits.into_iter().collect())
}

/// Sets the limits that are given and takes away the others, as RabbitMQ does with a vhost's.
fn set_vhost(call: &Call) -> Answer {
    let vhost = call.vhost();
    let limits = read(call.word(0), VHOSTS, "limits")?;
    call.need_vhost(vhost)?;
    for (name, value) in &limits {
        call.put(&["vhost-limits", vhost, name], &json!({ "value": value }))?;
    }
    for name in VHOSTS {
        if !limits.iter().any(|(given, _)| given == name) {
            call.delete(&["vhost-limits", vhost, name])?;
        }
    }
    Ok(Output::Done)
}

fn clear_vhost(call: &Call) -> Answer {
    let vhost = call.vhost();
    for name in VHOSTS {
        call.delete(&["vhost-limits", vhost, name])
            .or_missing(|| Trouble::error(UNAVAILABLE, "Parameter does not exist"))?;
    }
    Ok(Output::Done)
}

/// Sets the limits that are given; a user's others stay.
fn set_user(call: &Call) -> Answer {
    let user = call.word(0);
    let limits = read(call.word(1), USERS, "user-limits")?;
    for (name, value) in &limits {
        let at = path(["user-limits", user, name]);
        call.client
            .put(&at, &json!({ "value": value }))
            .or_missing(|| no_such_user(user))?;
    }
    Ok(Output::Done)
}

fn clear_user(call: &Call) -> Answer {
    let (user, limit) = (call.word(0), call.word(1));
    let names = if limit == "all" { USERS } else { &[limit] };
    for name in names {
        call.delete(&["user-limits", user, name])
            .or_missing(|| no_such_user(user))?;
    }
    Ok(Output::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions() {
        for (definition, expected) in [
            (r#"{"max-queues": 3, "max-connections": -1}"#, Ok(2)),
            ("{}", Ok(0)),
            (
                r#"{"bogus": 3}"#,
                Err("Unrecognised terms [{<<\"bogus\">>,3}] in limits"),
            ),
            (
                r#"{"max-queues": "x"}"#,
                Err("max-queues should be a number, actually was \"x\""),
            ),
            ("{", Err("JSON decoding error")),
            ("[]", Err("should be a JSON object")),
        ] {
            match (read(definition, VHOSTS, "limits"), expected) {
                (Ok(limits), Ok(count)) => assert_eq!(limits.len(), count),
                (Err(Trouble::Told(69, text)), Err(part)) => assert!(text.contains(part), "{text}"),
                (other, _) => panic!("{definition}: {other:?}"),
            }
        }
    }
}
