//! `cluster_status`: members, alarms, listeners.

use super::columns::text;
use super::command::{Answer, Call, Command, LOOK, command};
use super::format::Output;
use super::listeners::by_node;
use super::status::sections;
use serde_json::{Map, Value, json};

pub(super) const COMMANDS: &[Command] = &[command(
    "cluster_status",
    LOOK,
    "",
    (0, 0),
    |call| format!("Cluster status of node {} ...", call.node()),
    cluster_status,
)];

fn cluster_status(call: &Call) -> Answer {
    let status = call.client.get("/api/cluster/status")?;
    let flags = call.client.list("/api/feature-flags")?;
    let overview = call.client.get("/api/overview")?;
    let product = text(&overview, "rabbitmq_version");
    let listening = by_node(&overview, &status);
    let names = |wanted: fn(&Value) -> bool| -> Vec<String> {
        let those = members(&status).iter().filter(|member| wanted(member));
        those
            .map(|member| text(member, "node").to_owned())
            .collect()
    };
    let all = names(|_| true);
    let running = names(is_alive);
    let found = alarms(&status);
    if call.wants_json() {
        let each = |value: &dyn Fn(&str) -> Value| -> Map<String, Value> {
            running
                .iter()
                .map(|name| (name.clone(), value(name)))
                .collect()
        };
        let alarm = |(node, kind): &(&str, &str)| {
            let resource = if *kind == "disk" { "disk" } else { "memory" };
            json!({ "node": node, "resource": resource, "type": "resource_limit" })
        };
        let answer = json!({
            "alarms": found.iter().map(alarm).collect::<Vec<_>>(),
            "cluster_name": text(&status, "cluster_name"),
            "disk_nodes": all,
            "feature_flags": flags,
            "listeners": listening,
            "maintenance_status": each(&|name| maintenance(&status, name).into()),
            "partitions": {},
            "ram_nodes": [],
            "running_nodes": running,
            "versions": each(&|_| json!({
                "erlang_version": "",
                "rabbitmq_name": "RabbitMQ",
                "rabbitmq_version": product,
            })),
        });
        return Ok(Output::Both(String::new(), answer));
    }
    let listeners = listening.iter().flat_map(|(node, found)| {
        let found = found.as_array().into_iter().flatten();
        found.map(move |map| {
            format!(
                "Node: {node}, interface: {}, port: {}, protocol: {}, purpose: {}",
                text(map, "interface"),
                map.get("port").unwrap_or(&Value::Null),
                text(map, "protocol"),
                text(map, "purpose")
            )
        })
    });
    let version = |member: &Value| {
        let own = text(member, "version");
        format!(
            "{}: RabbitMQ {product} (Warren {own})",
            text(member, "node")
        )
    };
    let lines = sections(&[
        (
            "Basics",
            vec![format!("Cluster name: {}", text(&status, "cluster_name"))],
        ),
        ("Disk Nodes", all.clone()),
        ("Running Nodes", running.clone()),
        (
            "Versions",
            members(&status)
                .iter()
                .filter(|member| is_alive(member))
                .map(version)
                .collect(),
        ),
        (
            "Maintenance status",
            running
                .iter()
                .map(|name| format!("Node: {name}, status: {}", maintenance(&status, name)))
                .collect(),
        ),
        (
            "Alarms",
            found
                .iter()
                .map(|(node, kind)| alarm_line(node, kind))
                .collect(),
        ),
        ("Network Partitions", Vec::new()),
        ("Listeners", listeners.collect()),
        (
            "Feature flags",
            flags
                .iter()
                .map(|flag| {
                    format!(
                        "Flag: {}, state: {}",
                        text(flag, "name"),
                        text(flag, "state")
                    )
                })
                .collect(),
        ),
    ]);
    Ok(Output::Text(lines))
}

/// Whether a member is out of service for a while, in RabbitMQ's words.
fn maintenance(status: &Value, name: &str) -> &'static str {
    let drained = |member: &Value| {
        text(member, "node") == name
            && member.get("maintenance").and_then(Value::as_bool) == Some(true)
    };
    match members(status).iter().any(drained) {
        true => "marked for maintenance",
        false => "not under maintenance",
    }
}

fn is_alive(member: &Value) -> bool {
    member.get("alive").and_then(Value::as_bool) == Some(true)
}

/// The members of `/api/cluster/status`.
pub(super) fn members(status: &Value) -> &[Value] {
    let members = status.get("members").and_then(Value::as_array);
    members.map_or(&[], Vec::as_slice)
}

/// Alarms with their nodes: `memory` or `disk`.
pub(super) fn alarms(status: &Value) -> Vec<(&str, &str)> {
    members(status)
        .iter()
        .flat_map(|member| {
            let kinds = member.get("alarms").and_then(Value::as_array);
            let kinds = kinds.into_iter().flatten().filter_map(Value::as_str);
            kinds.map(|kind| (text(member, "node"), kind))
        })
        .collect()
}

/// An alarm in one line.
pub(super) fn alarm_line(node: &str, kind: &str) -> String {
    match kind {
        "memory" => format!("Memory alarm on node {node}"),
        "disk" => format!("Free disk space alarm on node {node}"),
        other => format!("{other} alarm on node {node}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maintenance_is_told_of_each_node() {
        let status = json!({ "members": [
            { "node": "warren@1", "maintenance": false },
            { "node": "warren@2", "maintenance": true },
        ] });
        let told = ["warren@1", "warren@2", "warren@3"].map(|name| maintenance(&status, name));
        let not = "not under maintenance";
        assert_eq!(told, [not, "marked for maintenance", not]);
    }

    #[test]
    fn alarms_name_their_node() {
        let status = json!({ "members": [
            { "node": "warren@1", "alarms": ["memory"] },
            { "node": "warren@2", "alarms": [] },
            { "node": "warren@3", "alarms": ["disk"] },
        ] });
        let lines: Vec<String> = alarms(&status)
            .into_iter()
            .map(|(node, kind)| alarm_line(node, kind))
            .collect();
        assert_eq!(
            lines,
            [
                "Memory alarm on node warren@1",
                "Free disk space alarm on node warren@3"
            ]
        );
    }
}
