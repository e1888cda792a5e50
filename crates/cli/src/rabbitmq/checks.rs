//! Health checks.

use super::arguments::{number, text as text_option};
use super::cluster::readiness;
use super::columns::text;
use super::command::{Answer, Call, Command, DIAGNOSTICS, LOOK, QUEUES, command};
use super::format::Output;
use super::trouble::{SOFTWARE, Trouble};
use crate::client::Failure;
use serde_json::json;
use ureq::http::StatusCode;

pub(super) const COMMANDS: &[Command] = &[
    command(
        "ping",
        LOOK,
        "",
        (0, 0),
        |call| {
            let (node, timeout) = (call.node(), call.timeout_or(60).saturating_mul(1000));
            format!(
                "Will ping {node}. This only checks if the process is running. Timeout: {timeout} ms."
            )
        },
        |call| {
            call.client.get("/health/live")?;
            let text = "Ping succeeded";
            Ok(Output::Both(text.into(), json!({ "message": text })))
        },
    ),
    command(
        "check_running",
        LOOK,
        "",
        (0, 0),
        |call| {
            format!(
                "Checking if RabbitMQ is running on node {} ...",
                call.node()
            )
        },
        |call| match readiness(call)? {
            None => {
                let text = running(call);
                let answer = json!({ "message": text });
                Ok(Output::Both(text, answer))
            }
            Some(reason) => Err(Trouble::error(
                super::trouble::UNAVAILABLE,
                format!("{} ({reason})", not_running(call)),
            )),
        },
    ),
    command(
        "is_running",
        DIAGNOSTICS,
        "",
        (0, 0),
        |call| format!("Asking node {} for its status ...", call.node()),
        |call| {
            let is_ready = readiness(call)?.is_none();
            let text = if is_ready {
                running(call)
            } else {
                not_running(call)
            };
            let answer = json!({ "message": text, "result": is_ready });
            Ok(Output::Both(text, answer))
        },
    ),
    command(
        "is_booting",
        DIAGNOSTICS,
        "",
        (0, 0),
        |call| format!("Asking node {} for its boot status ...", call.node()),
        |call| {
            let is_booting = readiness(call)?.is_some();
            let node = call.node();
            let text = if is_booting {
                format!("RabbitMQ on node {node} is booting")
            } else {
                format!(
                    "RabbitMQ on node {node} is fully booted (check with is_running), stopped or has not started booting yet"
                )
            };
            let answer = json!({ "message": text, "result": is_booting });
            Ok(Output::Both(text, answer))
        },
    ),
    command(
        "node_health_check",
        LOOK,
        "",
        (0, 0),
        |call| format!("Checking health of node {} ...", call.node()),
        |call| {
            let answer = call.client.get("/api/healthchecks/node")?;
            if text(&answer, "status") == "ok" {
                return Ok(Output::Text("Health check passed".into()));
            }
            let reason = text(&answer, "reason");
            let text = format!("Error: health check failed. Message: {reason}");
            Err(Trouble::error(SOFTWARE, text))
        },
    ),
    command(
        "check_local_alarms",
        DIAGNOSTICS,
        "",
        (0, 0),
        |call| {
            format!(
                "Asking node {} to report any local resource alarms ...",
                call.node()
            )
        },
        |call| {
            let text = format!("Node {} reported no local alarms", call.node());
            check(call, "local-alarms", text)
        },
    ),
    command(
        "check_alarms",
        DIAGNOSTICS,
        "",
        (0, 0),
        |call| {
            format!(
                "Asking node {} to report any local resource alarms ...",
                call.node()
            )
        },
        |call| {
            let text = format!(
                "Node {} reported no alarms, local or clusterwide",
                call.node()
            );
            check(call, "alarms", text)
        },
    ),
    command(
        "alarms",
        DIAGNOSTICS,
        "",
        (0, 0),
        |call| {
            format!(
                "Asking node {} to report any known resource alarms ...",
                call.node()
            )
        },
        alarms,
    ),
    command(
        "check_virtual_hosts",
        DIAGNOSTICS,
        "",
        (0, 0),
        |call| {
            format!(
                "Checking if all vhosts are running on node {} ...",
                call.node()
            )
        },
        |call| {
            let text = format!("Node {} reported all vhosts as running", call.node());
            check(call, "virtual-hosts", text)
        },
    ),
    command(
        "check_if_node_is_quorum_critical",
        DIAGNOSTICS | QUEUES,
        "",
        (0, 0),
        |call| {
            format!(
                "Checking if node {} is critical for quorum of any quorum queues ...",
                call.node()
            )
        },
        |call| {
            let text = format!(
                "Node {} reported no quorum queues with minimum quorum",
                call.node()
            );
            check(call, "node-is-quorum-critical", text)
        },
    ),
    command(
        "check_certificate_expiration",
        DIAGNOSTICS,
        "[--within <period>] [--unit <unit>]",
        (0, 0),
        |call| {
            format!(
                "Checking certificate expiration on node {} ...",
                call.node()
            )
        },
        certificates,
    )
    .with(&[number("within"), text_option("unit")]),
];

/// A check's answer where all is well.
pub(super) fn passed(call: &Call, text: String) -> Output {
    if call.options.flag("silent") && !call.wants_json() {
        return Output::Silent;
    }
    Output::Both(text, json!({ "result": "ok" }))
}

fn running(call: &Call) -> String {
    format!(
        "RabbitMQ on node {} is fully booted and running",
        call.node()
    )
}

pub(super) fn not_running(call: &Call) -> String {
    format!(
        "RabbitMQ on node {} is not running or has not fully booted yet (check with is_booting)",
        call.node()
    )
}

/// Asks one of the API's checks, which answer 503 where something is wrong.
fn check(call: &Call, name: &str, well: String) -> Answer {
    check_at(call, &["health", "checks", name], well)
}

fn check_at(call: &Call, at: &[&str], well: String) -> Answer {
    match call.get(at) {
        Ok(_) => Ok(passed(call, well)),
        Err(Failure::Refused { status, reason }) if status == StatusCode::SERVICE_UNAVAILABLE => {
            Err(failed(call, &reason))
        }
        Err(failure) => Err(failure.into()),
    }
}

pub(super) fn failed(call: &Call, reason: &str) -> Trouble {
    if call.wants_json() {
        return Trouble::check(json!({ "message": reason, "result": "error" }).to_string());
    }
    if call.options.flag("silent") {
        return Trouble::check("");
    }
    Trouble::check(format!("Error:\n{reason}"))
}

fn alarms(call: &Call) -> Answer {
    let status = call.client.get("/api/cluster/status")?;
    let found = super::cluster_status::alarms(&status);
    let node = call.node();
    if found.is_empty() {
        let text = format!("Node {node} reported no alarms, local or clusterwide");
        let answer = json!({ "alarms": [], "node": node, "result": "ok" });
        return Ok(Output::Both(text, answer));
    }
    let own = text(&status, "node");
    let lines = |wanted: fn(&str, &str) -> bool| -> Vec<String> {
        let those = found.iter().filter(|(node, _)| wanted(node, own));
        those
            .map(|(node, kind)| super::cluster_status::alarm_line(node, kind))
            .collect()
    };
    let all = lines(|_, _| true).join("\n");
    let answer = json!({
        "global": lines(|node, own| node != own),
        "local": lines(|node, own| node == own),
        "message": format!("Node {node} reported alarms"),
        "result": "ok",
    });
    Ok(Output::Both(all, answer))
}

fn certificates(call: &Call) -> Answer {
    let within = call.options.number("within").unwrap_or(4);
    let unit = call.options.text("unit").unwrap_or("weeks");
    if !matches!(unit, "days" | "weeks" | "months" | "years") {
        let text = format!(
            "unit '{unit}' is not supported. Please use one of: days, weeks, months, years"
        );
        return Err(call.misused(super::trouble::USAGE, &text));
    }
    let well = format!("No certificates are expiring within {within} {unit}.");
    let count = within.to_string();
    let at = ["health", "checks", "certificate-expiration", &count, unit];
    check_at(call, &at, well)
}
