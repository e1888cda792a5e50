//! Connections and channels: lists, and closing.

use super::arguments::{flag, number};
use super::columns::{Column, From, chosen, rows, same, text};
use super::command::{Answer, CTL, Call, Command, LOOK, command};
use super::format::Output;
use super::trouble::{Trouble, is_missing};
use crate::client::path;
use serde_json::Value;
use std::time::Duration;
use ureq::http::Method;

pub(super) const COMMANDS: &[Command] = &[
    command(
        "list_connections",
        LOOK,
        "[--no-table-headers] [<column> ...]",
        (0, usize::MAX),
        |_| "Listing connections ...".into(),
        |call| {
            let columns =
                chosen(call, CONNECTIONS, &["user", "peer_host", "peer_port", "state"])?;
            Ok(Output::Rows(rows(&columns, &call.client.list("/api/connections")?)))
        },
    ),
    command(
        "list_channels",
        LOOK,
        "[--no-table-headers] [<column> ...]",
        (0, usize::MAX),
        |_| "Listing channels ...".into(),
        |call| {
            let otherwise = ["pid", "user", "consumer_count", "messages_unacknowledged"];
            let columns = chosen(call, CHANNELS, &otherwise)?;
            Ok(Output::Rows(rows(&columns, &call.client.list("/api/channels")?)))
        },
    ),
    command(
        "close_connection",
        CTL,
        "<connection pid> <explanation>",
        (2, 2),
        |call| format!("Closing connection {}, reason: {}...", call.word(0), call.word(1)),
        close,
    ),
    command(
        "close_all_connections",
        CTL,
        "[--vhost <vhost> --limit <limit>] [-n <node> --global] [--per-connection-delay <delay>] <explanation>",
        (1, 1),
        |call| {
            let reason = call.word(0);
            if call.options.flag("global") {
                let node = call.node();
                return format!(
                    "Closing all connections to node {node} (across all vhosts), reason: {reason}..."
                );
            }
            format!("Closing all connections in vhost {}, reason: {reason}...", call.vhost())
        },
        close_all,
    )
    .with(&[flag("global"), number("limit"), number("per-connection-delay")]),
    command(
        "close_all_user_connections",
        CTL,
        "<username> <explanation>",
        (2, 2),
        |call| {
            format!("Closing connections of user {}, reason: {}...", call.word(0), call.word(1))
        },
        |call| {
            let user = call.word(0);
            let found = call.client.list("/api/connections")?;
            let own: Vec<Value> =
                found.into_iter().filter(|row| text(row, "user") == user).collect();
            close_these(call, &own, call.word(1))?;
            Ok(Output::Done)
        },
    ),
];

const CONNECTIONS: &[Column] = &[
    ("pid", From::With(connection_pid)),
    same("name"),
    same("port"),
    same("host"),
    same("peer_port"),
    same("peer_host"),
    same("ssl"),
    ("ssl_protocol", From::Nothing),
    ("ssl_key_exchange", From::Nothing),
    ("ssl_cipher", From::Nothing),
    ("ssl_hash", From::Nothing),
    ("peer_cert_subject", From::Nothing),
    ("peer_cert_issuer", From::Nothing),
    ("peer_cert_validity", From::Nothing),
    same("state"),
    same("channels"),
    ("protocol", From::With(|_| "{0,9,1}".into())),
    same("auth_mechanism"),
    same("user"),
    same("vhost"),
    same("timeout"),
    same("frame_max"),
    same("channel_max"),
    ("client_properties", From::Arguments("client_properties")),
    ("connection_name", From::At("user_provided_name")),
    ("user_provided_name", From::At("user_provided_name")),
    same("recv_oct"),
    ("recv_cnt", From::With(|_| 0.into())),
    same("send_oct"),
    ("send_cnt", From::With(|_| 0.into())),
    ("send_pend", From::With(|_| 0.into())),
    same("connected_at"),
    same("node"),
];

const CHANNELS: &[Column] = &[
    (
        "pid",
        From::With(|row| pid(text(row, "node"), text(row, "name")).into()),
    ),
    (
        "connection",
        From::With(|row| {
            let details = row.get("connection_details").unwrap_or(&Value::Null);
            pid(text(row, "node"), text(details, "name")).into()
        }),
    ),
    same("name"),
    same("number"),
    same("user"),
    same("vhost"),
    same("transactional"),
    same("confirm"),
    same("consumer_count"),
    same("messages_unacknowledged"),
    same("messages_uncommitted"),
    same("acks_uncommitted"),
    same("messages_unconfirmed"),
    same("prefetch_count"),
    same("global_prefetch_count"),
    same("state"),
    same("node"),
];

/// What stands for the process of a connection or channel: its node and name, as one word that scripts can cut out.
pub(super) fn pid(node: &str, name: &str) -> String {
    let name: String = name.chars().filter(|c| !c.is_whitespace()).collect();
    format!("<{node}.{name}>")
}

/// Whether a word has the form of a pid, whether there is such a connection or not.
fn is_pid(word: &str) -> bool {
    let inner = word.strip_prefix('<').and_then(|w| w.strip_suffix('>'));
    inner.is_some_and(|inner| {
        let parts = inner.split_once('.');
        parts.is_some_and(|(node, name)| !node.is_empty() && !name.is_empty())
            && !inner.chars().any(char::is_whitespace)
    })
}

fn connection_pid(row: &Value) -> Value {
    pid(text(row, "node"), text(row, "name")).into()
}

fn close(call: &Call) -> Answer {
    let wanted = call.word(0);
    let found = call.client.list("/api/connections")?;
    let is_wanted =
        |row: &&Value| text(row, "name") == wanted || connection_pid(row).as_str() == Some(wanted);
    let Some(row) = found.iter().find(is_wanted) else {
        // As with RabbitMQ, what has closed meanwhile is closed: scripts go through lists of pids.
        if is_pid(wanted) {
            return Ok(Output::Done);
        }
        let text = format!(
            "there is no connection {wanted}: give a pid or a name of `rabbitmqctl list_connections pid name`"
        );
        return Err(Trouble::refused(text));
    };
    close_these(call, std::slice::from_ref(row), call.word(1))?;
    Ok(Output::Done)
}

fn close_all(call: &Call) -> Answer {
    let mut found = call.client.list("/api/connections")?;
    if call.options.flag("global") {
        // RabbitMQ closes those of the node that is asked.
        let own = call.client.get("/api/overview")?;
        found.retain(|row| text(row, "node") == text(&own, "node"));
    } else {
        found.retain(|row| text(row, "vhost") == call.vhost());
        match call.options.number("limit").map(usize::try_from) {
            Some(Ok(limit)) if limit > 0 => found.truncate(limit),
            _ => {}
        }
    }
    let closed = close_these(call, &found, call.word(0))?;
    Ok(Output::Text(format!("Closed {closed} connections")))
}

/// Closes the connections; tells how many were there still.
fn close_these(call: &Call, rows: &[Value], reason: &str) -> Result<usize, Trouble> {
    let delay = call.options.number("per-connection-delay").unwrap_or(0);
    let mut closed = 0;
    for row in rows {
        let at = path(["connections", text(row, "name")]);
        let header = [("X-Reason", reason)];
        match call.client.send(Method::DELETE, &at, None, &header) {
            Ok(_) => closed += 1,
            Err(failure) if is_missing(&failure) => {}
            Err(failure) => return Err(failure.into()),
        }
        std::thread::sleep(Duration::from_millis(u64::try_from(delay).unwrap_or(0)));
    }
    Ok(closed)
}

#[cfg(test)]
mod tests {
    use super::{is_pid, pid};

    #[test]
    fn words_that_are_pids() {
        for word in [
            "<warren@1.127.0.0.1:5000->127.0.0.1:5672>",
            "<warren@1.[::1]:5000->[::1]:5672>",
            "<rabbit@host.1700000000.1999.0>",
            &pid("warren@3", "127.0.0.1:1 -> 127.0.0.1:2"),
        ] {
            assert!(is_pid(word), "{word}");
        }
        for word in [
            "",
            "nonsense",
            "127.0.0.1:5000 -> 127.0.0.1:5672",
            "<>",
            "<warren@1>",
            "<.x>",
            "<warren@1.>",
            "<warren@1.a b>",
            "<warren@1.x",
        ] {
            assert!(!is_pid(word), "{word}");
        }
    }

    #[test]
    fn pids_are_one_word() {
        assert_eq!(
            pid("warren@1", "127.0.0.1:5 -> 127.0.0.2:6 (1)"),
            "<warren@1.127.0.0.1:5->127.0.0.2:6(1)>"
        );
    }
}
