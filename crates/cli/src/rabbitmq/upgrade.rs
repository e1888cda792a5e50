//! `rabbitmq-upgrade`: what stands around the restart of a node.

use super::checks::passed;
use super::cluster::wait_until;
use super::columns::text;
use super::command::{Answer, Call, Command, UPGRADE, command};
use super::format::Output;
use super::trouble::{Trouble, UNAVAILABLE};
use serde_json::json;

/// Seconds that are waited where nothing is said.
const TIMEOUT: u64 = 120;

pub(super) const COMMANDS: &[Command] = &[
    command(
        "await_online_quorum_plus_one",
        UPGRADE,
        "",
        (0, 0),
        |call| {
            format!(
                "Will wait for a quorum + 1 of nodes to be online for all quorum queues for {} seconds...",
                call.timeout_or(TIMEOUT)
            )
        },
        await_quorum,
    ),
    command(
        "await_online_synchronized_mirror",
        UPGRADE,
        "",
        (0, 0),
        |call| {
            format!(
                "Will wait for a synchronised mirror be online for all classic mirrored queues for {} seconds...",
                call.timeout_or(TIMEOUT)
            )
        },
        await_quorum,
    ),
    command(
        "post_upgrade",
        UPGRADE,
        "",
        (0, 0),
        |_| "Executing post upgrade tasks...\nRebalancing queue masters...".into(),
        |call| {
            call.client.post("/api/rebalance/queues", &json!({}))?;
            Ok(Output::Done)
        },
    ),
    command(
        "drain",
        UPGRADE,
        "",
        (0, 0),
        |call| {
            format!(
                "Will put node {} into maintenance mode. The node will no longer serve any client traffic!",
                call.node()
            )
        },
        |call| set_maintenance(call, true),
    ),
    command(
        "revive",
        UPGRADE,
        "",
        (0, 0),
        |call| {
            format!(
                "Will put node {} back into regular operation. The node will serve client traffic again.",
                call.node()
            )
        },
        |call| set_maintenance(call, false),
    ),
];

/// Takes the node that is asked out of service, or back.
fn set_maintenance(call: &Call, on: bool) -> Answer {
    let status = call.get(&["overview"])?;
    let node = text(&status, "node");
    let at = ["nodes", node, "maintenance"];
    if on {
        call.put(&at, &json!({}))?;
    } else {
        call.delete(&at)?;
    }
    Ok(Output::Done)
}

/// Until all shards keep a majority without this node. Classic queues are replicated the same way.
fn await_quorum(call: &Call) -> Answer {
    // A login that is refused now will be refused later.
    if call.client.list("/api/nodes")?.len() == 1 {
        let text = "Target node seems to be the only one in a single node cluster, the command does not apply";
        return Ok(if call.is_quiet() && !call.wants_json() {
            Output::Silent
        } else {
            Output::Both(text.into(), json!({ "message": text, "result": "ok" }))
        });
    }
    let safe = || {
        call.get(&["health", "checks", "node-is-quorum-critical"])
            .is_ok()
    };
    match wait_until(call, call.timeout_or(TIMEOUT), safe) {
        Ok(()) => Ok(if call.wants_json() {
            passed(call, String::new())
        } else {
            Output::Done
        }),
        Err(()) => Err(Trouble::error(
            UNAVAILABLE,
            "time is up, no quorum + 1 online replicas came online for at least some quorum queues",
        )),
    }
}
