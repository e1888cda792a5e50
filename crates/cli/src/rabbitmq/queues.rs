//! What is done with queues: `rabbitmqctl` empties and deletes, `rabbitmq-queues` looks at replicas.

use super::arguments::{Switch, flag, text as text_option};
use super::columns::text;
use super::command::{
    Answer, CTL, Call, Command, DIAGNOSTICS, QUEUES, STREAMS, command, no_banner, wrong,
};
use super::format::{Output, Row};
use super::trouble::{OrMissing, Trouble, UNAVAILABLE, USAGE};
use crate::client::{Failure, path};
use serde_json::{Value, json};

pub(super) const COMMANDS: &[Command] = &[
    command(
        "purge_queue",
        CTL,
        "<queue>",
        (1, 1),
        |call| format!("Purging queue '{}' in vhost '{}' ...", call.word(0), call.vhost()),
        |call| {
            call.delete(&["queues", call.vhost(), call.word(0), "contents"])
                .or_missing(|| Trouble::error(UNAVAILABLE, "not_found"))?;
            Ok(Output::Done)
        },
    ),
    command(
        "delete_queue",
        CTL,
        "[--vhost <vhost>] <queue_name> [--if-empty|-e] [--if-unused|-u]",
        (1, 1),
        |call| {
            let at = format!("Deleting queue '{}' on vhost '{}'", call.word(0), call.vhost());
            match (call.options.flag("if-empty"), call.options.flag("if-unused")) {
                (false, false) => format!("{at} ..."),
                (true, false) => format!("{at} if queue is empty ..."),
                (false, true) => format!("{at} if queue is unused ..."),
                (true, true) => format!("{at} if queue is empty and if queue is unused ..."),
            }
        },
        delete,
    )
    .with(&[
        flag("if-empty").or('e'),
        flag("if-unused").or('u'),
        flag("force"),
    ]),
    command(
        "quorum_status",
        QUEUES,
        "[--vhost <vhost>] <queue>",
        (1, 1),
        |call| format!("Status of quorum queue {} on node {} ...", call.word(0), call.node()),
        status,
    )
    .pretty(),
    command(
        "stream_status",
        STREAMS,
        "[--vhost <vhost>] <stream> [--tracking]",
        (1, 1),
        |call| {
            format!(
                "Status of stream {} on node {} ...",
                call.word(0),
                call.node()
            )
        },
        status,
    )
    .with(&[flag("tracking")])
    .pretty(),
    command(
        "peek",
        QUEUES,
        "[--vhost <vhost>] <queue> <position>",
        (2, 2),
        |call| {
            format!(
                "Peeking at quorum queue {} at position {} on node {} ...",
                call.word(0),
                call.word(1),
                call.node()
            )
        },
        peek,
    )
    .pretty(),
    command(
        "rebalance",
        QUEUES,
        "< all | classic | quorum | stream > [--vhost-pattern <pattern>] [--queue-pattern <pattern>]",
        (1, 1),
        |call| format!("Re-balancing leaders of {} queues...", call.word(0)),
        rebalance,
    )
    .with(&[text_option("vhost-pattern"), text_option("queue-pattern")])
    .pretty(),
    command(
        "check_if_node_is_mirror_sync_critical",
        QUEUES | DIAGNOSTICS,
        "",
        (0, 0),
        |call| {
            let node = call.node();
            format!("Checking if node {node} is critical for data safety of any classic mirrored queues ...")
        },
        |call| {
            let text = format!(
                "Node {} reported no classic mirrored queues without online synchronised mirrors",
                call.node()
            );
            Ok(super::checks::passed(call, text))
        },
    ),
    refused("grow"),
    refused("shrink"),
    refused("add_member"),
    refused("delete_member"),
    refused("reclaim_quorum_memory"),
    refused("add_replica"),
    refused("delete_replica"),
];

/// Options of commands about replicas.
const REPLICAS: &[Switch] = &[
    text_option("vhost-pattern"),
    text_option("queue-pattern"),
    flag("errors-only"),
    text_option("membership"),
];

/// Commands about replicas of single queues.
const fn refused(name: &'static str) -> Command {
    command(name, QUEUES | STREAMS, "...", (0, usize::MAX), no_banner, |_| {
        Err(Trouble::refused(
            "every queue has a replica on every node of the cluster, and gets one on a node that joins: replicas of single \
             queues are not added or removed. `rabbitmqctl forget_cluster_node` takes those of a node away",
        ))
    })
    .with(REPLICAS)
}

fn delete(call: &Call) -> Answer {
    let mut query = Vec::new();
    for name in ["if-empty", "if-unused"] {
        if call.options.flag(name) {
            query.push(format!("{name}=true"));
        }
    }
    let at = path(["queues", call.vhost(), call.word(0)]);
    let answer = call.client.delete(&format!("{at}?{}", query.join("&")));
    match answer {
        Err(Failure::Refused { reason, .. }) if reason.contains("not empty") => {
            Err(wrong("Queue is not empty"))
        }
        Err(Failure::Refused { reason, .. }) if reason.contains("in use") => {
            Err(wrong("Queue is in use"))
        }
        other => {
            other.or_missing(|| wrong("Queue not found"))?;
            Ok(Output::Done)
        }
    }
}

/// Columns of `quorum_status`, in their order.
const STATUS: &[&str] = &[
    "Node Name",
    "Raft State",
    "Membership",
    "Last Log Index",
    "Last Applied",
    "Commit Index",
    "Snapshot Index",
    "Term",
];

fn status(call: &Call) -> Answer {
    let at = ["queues", "quorum", call.vhost(), call.word(0), "status"];
    let found = call
        .rows(&at)
        .or_missing(|| Trouble::error(UNAVAILABLE, "not_found"))?;
    let row = |member: &Value| -> Row {
        let cell = |name: &&'static str| {
            let value = member.get(*name).cloned().unwrap_or_default();
            (*name, value.into())
        };
        STATUS.iter().map(cell).collect()
    };
    Ok(Output::Rows(found.iter().map(row).collect()))
}

/// How far into a queue one may look.
const PEEK_MAX: usize = 1000;

fn peek(call: &Call) -> Answer {
    let position: usize = match call.word(1).parse() {
        Ok(position) if position > 0 => position,
        _ => {
            let text = "\"position value must be a positive integer\"";
            return Err(call.misused(USAGE, text));
        }
    };
    // All that stand before it are read too.
    if position > PEEK_MAX {
        let text = format!("Warren looks at the first {PEEK_MAX} messages only");
        return Err(Trouble::refused(text));
    }
    let body = json!({ "count": position, "ackmode": "ack_requeue_true", "encoding": "auto", "truncate": 50_000 });
    let at = path(["queues", call.vhost(), call.word(0), "get"]);
    let missing = || {
        let text = format!(
            "Target queue was not found in virtual host '{}'",
            call.vhost()
        );
        Trouble::error(UNAVAILABLE, text)
    };
    let answer = call.client.post(&at, &body).or_missing(missing)?;
    let Some(message) = answer.get(position - 1) else {
        let text = "Target queue does not have a message at that position";
        return Err(Trouble::error(UNAVAILABLE, text));
    };
    if call.wants_json() {
        let answer = json!({ "message": message, "result": "ok" });
        return Ok(Output::Both(String::new(), answer));
    }
    let fields = message.as_object().into_iter().flatten();
    let rows = fields.map(|(name, value)| {
        vec![
            ("keys", name.as_str().into()),
            ("values", value.clone().into()),
        ]
    });
    Ok(Output::Rows(rows.collect()))
}

fn rebalance(call: &Call) -> Answer {
    let kind = call.word(0);
    if !matches!(kind, "all" | "classic" | "quorum" | "stream") {
        let text =
            format!("type {kind} is not supported. Try one of all, classic, quorum, stream.");
        return Err(Trouble::error(UNAVAILABLE, text));
    }
    call.client.post("/api/rebalance/queues", &json!({}))?;
    let status = call.client.get("/api/cluster/status")?;
    let members = status.get("members").and_then(Value::as_array);
    let row = |member: &Value| -> Row {
        let leads = member.get("leads").cloned().unwrap_or_default();
        vec![
            ("Node name", text(member, "node").into()),
            ("Number of shard leaders", leads.into()),
        ]
    };
    Ok(Output::Rows(
        members.into_iter().flatten().map(row).collect(),
    ))
}
