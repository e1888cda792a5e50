//! What users may do.

use super::columns::{Column, rows, same};
use super::command::{Answer, CTL, Call, Command, LOOK, command};
use super::format::Output;
use super::trouble::{NO_USER, OrMissing, Trouble, UNAVAILABLE, is_missing};
use crate::client::Failure;
use serde_json::{Value, json};

pub(super) const COMMANDS: &[Command] = &[
    command(
        "list_permissions",
        LOOK,
        "[--vhost <vhost>] [--no-table-headers]",
        (0, 0),
        |call| format!("Listing permissions for vhost \"{}\" ...", call.vhost()),
        |call| of_vhost(call, "permissions", &[USER, CONFIGURE, WRITE, READ]),
    ),
    command(
        "list_user_permissions",
        LOOK,
        "[--no-table-headers] <username>",
        (1, 1),
        |call| format!("Listing permissions for user \"{}\" ...", call.word(0)),
        |call| of_user(call, "permissions", &[VHOST, CONFIGURE, WRITE, READ]),
    ),
    command(
        "list_topic_permissions",
        LOOK,
        "[--vhost <vhost>] [--no-table-headers]",
        (0, 0),
        |call| {
            format!(
                "Listing topic permissions for vhost \"{}\" ...",
                call.vhost()
            )
        },
        |call| of_vhost(call, "topic-permissions", &[USER, EXCHANGE, WRITE, READ]),
    ),
    command(
        "list_user_topic_permissions",
        LOOK,
        "[--no-table-headers] <username>",
        (1, 1),
        |call| {
            format!(
                "Listing topic permissions for user \"{}\" ...",
                call.word(0)
            )
        },
        |call| of_user(call, "topic-permissions", &[VHOST, EXCHANGE, WRITE, READ]),
    )
    .bare(),
    command(
        "set_permissions",
        CTL,
        "[--vhost <vhost>] <username> <conf> <write> <read>",
        (4, 4),
        |call| {
            let vhost = call.vhost();
            format!(
                "Setting permissions for user \"{}\" in vhost \"{vhost}\" ...",
                call.word(0)
            )
        },
        set,
    ),
    command(
        "clear_permissions",
        CTL,
        "[--vhost <vhost>] <username>",
        (1, 1),
        |call| {
            let vhost = call.vhost();
            format!(
                "Clearing permissions for user \"{}\" in vhost \"{vhost}\" ...",
                call.word(0)
            )
        },
        clear,
    ),
    command(
        "set_topic_permissions",
        CTL,
        "[--vhost <vhost>] <username> <exchange> <write> <read>",
        (4, 4),
        |call| {
            format!(
                "Setting topic permissions on \"{}\" for user \"{}\" in vhost \"{}\" ...",
                call.word(1),
                call.word(0),
                call.vhost()
            )
        },
        set_topic,
    ),
    command(
        "clear_topic_permissions",
        CTL,
        "[--vhost <vhost>] <username> [<exchange>]",
        (1, 2),
        |call| {
            let exchange = call.words.get(1);
            let on = exchange.map_or_else(String::new, |name| format!(" on \"{name}\""));
            format!(
                "Clearing topic permissions{on} for user \"{}\" in vhost \"{}\" ...",
                call.word(0),
                call.vhost()
            )
        },
        clear_topic,
    ),
];

const USER: Column = same("user");
const VHOST: Column = same("vhost");
const EXCHANGE: Column = same("exchange");
const CONFIGURE: Column = same("configure");
const WRITE: Column = same("write");
const READ: Column = same("read");

/// How the API begins to tell that there is no such exchange.
const NO_EXCHANGE: &str = "no_such_exchange";

fn of_vhost(call: &Call, kind: &str, columns: &[Column]) -> Answer {
    let vhost = call.vhost();
    let found = call
        .rows(&["vhosts", vhost, kind])
        .or_missing(|| Trouble::no_vhost(vhost))?;
    Ok(Output::Whole(rows(columns, &found)))
}

fn of_user(call: &Call, kind: &str, columns: &[Column]) -> Answer {
    let user = call.word(0);
    let missing = || Trouble::error(UNAVAILABLE, format!("{{:no_such_user, \"{user}\"}}"));
    let found = call.rows(&["users", user, kind]).or_missing(missing)?;
    Ok(Output::Whole(rows(columns, &found)))
}

/// Which of user and vhost is not there, if one is not.
fn blame(call: &Call) -> Option<Trouble> {
    let (user, vhost) = (call.word(0), call.vhost());
    let absent =
        |segments: &[&str]| matches!(call.get(segments), Err(failure) if is_missing(&failure));
    if absent(&["users", user]) {
        return Some(Trouble::error(
            NO_USER,
            format!("User {user} does not exist"),
        ));
    }
    absent(&["vhosts", vhost])
        .then(|| Trouble::error(UNAVAILABLE, format!("Virtual host {vhost} does not exist")))
}

fn done(call: &Call, answer: Result<Value, Failure>) -> Answer {
    match answer {
        Ok(_) => Ok(Output::Done),
        Err(failure @ Failure::Refused { .. }) => {
            Err(blame(call).unwrap_or_else(|| failure.into()))
        }
        Err(failure) => Err(failure.into()),
    }
}

/// Where there is nothing to take away that is no failure.
fn cleared(call: &Call, answer: Result<Value, Failure>) -> Answer {
    match answer {
        Err(failure) if is_missing(&failure) => blame(call).map_or(Ok(Output::Done), Err),
        answer => done(call, answer),
    }
}

fn set(call: &Call) -> Answer {
    let body = json!({ "configure": call.word(1), "write": call.word(2), "read": call.word(3) });
    done(
        call,
        call.put(&["permissions", call.vhost(), call.word(0)], &body),
    )
}

fn clear(call: &Call) -> Answer {
    cleared(
        call,
        call.delete(&["permissions", call.vhost(), call.word(0)]),
    )
}

fn set_topic(call: &Call) -> Answer {
    let (vhost, exchange) = (call.vhost(), call.word(1));
    let body = json!({ "exchange": exchange, "write": call.word(2), "read": call.word(3) });
    let answer = call.put(&["topic-permissions", vhost, call.word(0)], &body);
    match &answer {
        Err(Failure::Refused { reason, .. }) if reason.starts_with(NO_EXCHANGE) => {
            let text = format!("Exchange {exchange} does not exist");
            Err(Trouble::error(UNAVAILABLE, text))
        }
        _ => done(call, answer),
    }
}

fn clear_topic(call: &Call) -> Answer {
    let (user, vhost) = (call.word(0), call.vhost());
    let mut at = vec!["topic-permissions", vhost, user];
    at.extend(call.words.get(1).map(String::as_str));
    cleared(call, call.delete(&at))
}
