//! The cluster: who is in it, where it listens, waiting for it.

use super::arguments::{flag, number};
use super::cell::Cell;
use super::columns::{Column, chosen, rows, same};
use super::command::{Answer, CTL, Call, Command, LOOK, command, no_banner, wrong};
use super::format::Output;
use super::trouble::{DATA, OrMissing, SOFTWARE, Trouble, UNAVAILABLE};
use crate::client::Failure;
use serde_json::{Value, json};
use std::thread::sleep;
use std::time::{Duration, Instant};
use ureq::http::StatusCode;

pub(super) const COMMANDS: &[Command] = &[
    command(
        "set_cluster_name",
        CTL,
        "<name>",
        (1, 1),
        |call| format!("Setting cluster name to {} ...", call.word(0)),
        |call| {
            call.put(&["cluster-name"], &json!({ "name": call.word(0) }))?;
            Ok(Output::Done)
        },
    ),
    command(
        "forget_cluster_node",
        CTL,
        "[--offline] <existing_cluster_member_node>",
        (1, 1),
        |call| format!("Removing node {} from the cluster", call.word(0)),
        forget,
    )
    .with(&[flag("offline")]),
    command("await_startup", LOOK, "", (0, 0), no_banner, |call| {
        await_startup(call)
    }),
    command(
        "wait",
        LOOK,
        "[<pidfile>] [--pid|-P <pid>]",
        (0, 1),
        no_banner,
        await_startup,
    )
    .with(&[number("pid").or('P')]),
    command(
        "await_online_nodes",
        CTL,
        "<count>",
        (1, 1),
        |call| {
            format!(
                "Will wait for at least {} nodes to join the cluster of {}. Timeout: {} seconds.",
                call.word(0),
                call.node(),
                call.timeout_or(LONG)
            )
        },
        await_nodes,
    ),
    command(
        "list_feature_flags",
        LOOK,
        "[<column> ...]",
        (0, usize::MAX),
        |_| "Listing feature flags ...".into(),
        |call| {
            let columns = chosen(call, FLAGS, &["name", "state"])?;
            Ok(Output::Rows(rows(
                &columns,
                &call.client.list("/api/feature-flags")?,
            )))
        },
    ),
    command(
        "list_deprecated_features",
        LOOK,
        "[--used] [<column> ...]",
        (0, usize::MAX),
        |_| "Listing deprecated features ...".into(),
        |call| {
            let columns = chosen(call, DEPRECATED, &["name", "deprecation_phase", "state"])?;
            let all = ["deprecated-features", "used"];
            let asked = if call.options.flag("used") { 2 } else { 1 };
            let found = call.rows(all.get(..asked).unwrap_or_default())?;
            Ok(Output::Rows(rows(&columns, &found)))
        },
    )
    .with(&[flag("used")]),
    command(
        "enable_feature_flag",
        CTL,
        "<all | feature_flag>",
        (1, 1),
        |call| match call.word(0) {
            "all" => "Enabling all feature flags ...".into(),
            name => format!("Enabling feature flag \"{name}\" ..."),
        },
        enable_flag,
    )
    .with(&[flag("experimental"), flag("opt-in")]),
];

const FLAGS: &[Column] = &[
    same("name"),
    same("state"),
    same("stability"),
    same("provided_by"),
    same("desc"),
    same("doc_url"),
];

const DEPRECATED: &[Column] = &[
    same("name"),
    same("deprecation_phase"),
    same("state"),
    same("provided_by"),
    same("desc"),
    same("doc_url"),
];

/// Seconds that waiting takes at most, where nothing is said.
const LONG: u64 = 300;
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(500);

/// Why the node serves no clients yet; none if it does. Needs no login.
pub(super) fn readiness(call: &Call) -> Result<Option<String>, Failure> {
    match call.client.get("/health/ready") {
        Ok(_) => Ok(None),
        Err(Failure::Refused { status, reason }) if status == StatusCode::SERVICE_UNAVAILABLE => {
            Ok(Some(reason))
        }
        Err(failure) => Err(failure),
    }
}

fn await_startup(call: &Call) -> Answer {
    let seconds = call.timeout_or(LONG);
    wait_until(call, seconds, || matches!(readiness(call), Ok(None)))
        .map(|()| Output::Done)
        .map_err(|()| call.late(seconds))
}

/// Looks until it is so, or the time is up.
pub(super) fn wait_until(
    _: &Call,
    seconds: u64,
    mut is_so: impl FnMut() -> bool,
) -> Result<(), ()> {
    let until = Instant::now() + Duration::from_secs(seconds);
    loop {
        if is_so() {
            return Ok(());
        }
        if Instant::now() + PAUSE > until {
            return Err(());
        }
        sleep(PAUSE);
    }
}

fn await_nodes(call: &Call) -> Answer {
    let count = call.number(0, "Argument must be a positive integer")?;
    if count == 0 {
        return Err(call.misused(DATA, "Bad argument: Argument must be a positive integer"));
    }
    let enough = || {
        let nodes = call.client.list("/api/nodes").unwrap_or_default();
        let running = nodes
            .iter()
            .filter(|node| node.get("running").and_then(Value::as_bool) == Some(true));
        running.count() as u64 >= count
    };
    wait_until(call, call.timeout_or(LONG), enough)
        .map(|()| Output::Done)
        .map_err(|()| {
            let text = format!(
                "Error: timed out while waiting. Not enough nodes joined {}'s cluster.",
                call.node()
            );
            Trouble::error(SOFTWARE, text)
        })
}

fn forget(call: &Call) -> Answer {
    let name = call.word(0);
    let missing = || {
        let text = format!(
            "{{:not_a_cluster_node, 'The node selected is not in the cluster.'}}: nodes are called warren@1 and so on, see \
             `rabbitmqctl cluster_status`; {} is none of them",
            Cell::from(name).text()
        );
        Trouble::error(UNAVAILABLE, text)
    };
    call.delete(&["cluster", "nodes", name])
        .or_missing(missing)?;
    Ok(Output::Done)
}

/// Everything that has a flag elsewhere is always there.
fn enable_flag(call: &Call) -> Answer {
    let name = call.word(0);
    if name == "all" {
        call.client.get("/api/feature-flags")?;
        return Ok(Output::Done);
    }
    match call.put(&["feature-flags", name, "enable"], &json!({})) {
        Ok(_) => Ok(Output::Done),
        Err(Failure::Refused { status, .. }) if status == StatusCode::BAD_REQUEST => Err(wrong(
            &format!("This feature flag is not supported by node {}", call.node()),
        )),
        Err(failure) => Err(failure.into()),
    }
}
