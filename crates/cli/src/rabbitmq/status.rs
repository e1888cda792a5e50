//! `status`, `cluster_status` and versions.

use super::arguments::text as text_option;
use super::cluster::{
    alarm_line, alarms, listener_line, listener_map, listeners, listeners_by_node, members,
};
use super::columns::text;
use super::command::{Answer, Call, Command, DIAGNOSTICS, LOOK, command, no_banner};
use super::format::Output;
use serde_json::{Map, Value, json};

const ALL: u8 = u8::MAX;

pub(super) const COMMANDS: &[Command] = &[
    command(
        "status",
        LOOK,
        "[--unit <unit>]",
        (0, 0),
        |call| format!("Status of node {} ...", call.node()),
        status,
    )
    .with(&[text_option("unit")]),
    command(
        "cluster_status",
        LOOK,
        "",
        (0, 0),
        |call| format!("Cluster status of node {} ...", call.node()),
        cluster_status,
    ),
    command("version", ALL, "", (0, 0), no_banner, |call| {
        let version = super::version();
        let answer =
            json!({ "node": call.node(), "result": "ok", "value": { "version": version } });
        Ok(Output::Both(version, answer))
    }),
    command(
        "server_version",
        DIAGNOSTICS,
        "",
        (0, 0),
        |call| format!("Asking node {} for its RabbitMQ version...", call.node()),
        |call| {
            let overview = call.client.get("/api/overview")?;
            let version = text(&overview, "rabbitmq_version");
            let answer = json!({ "result": "ok", "value": version });
            Ok(Output::Both(version.into(), answer))
        },
    ),
    command(
        "product_info",
        DIAGNOSTICS,
        "",
        (0, 0),
        |call| format!("Asking node {} for its product info...", call.node()),
        |call| {
            let overview = call.client.get("/api/overview")?;
            let row = ["product_name", "product_version", "warren_version"]
                .map(|name| (name, text(&overview, name).into()));
            Ok(Output::Rows(vec![row.into()]))
        },
    ),
    command(
        "memory_breakdown",
        DIAGNOSTICS,
        "[--unit <unit>]",
        (0, 0),
        |call| format!("Reporting memory breakdown on node {}...", call.node()),
        |call| {
            let used = number(&own(call)?, "mem_used");
            let answer = json!({ "total": { "bytes": used, "percentage": 100.0 } });
            Ok(Output::Both(
                format!("total: {} (100.0%)", gigabytes(used)),
                answer,
            ))
        },
    )
    .with(&[text_option("unit")]),
];

/// The node that is asked.
fn own(call: &Call) -> Result<Value, crate::client::Failure> {
    let overview = call.client.get("/api/overview")?;
    call.get(&["nodes", text(&overview, "node")])
}

fn number(value: &Value, key: &str) -> u64 {
    value.get(key).and_then(Value::as_u64).unwrap_or_default()
}

fn gigabytes(bytes: u64) -> String {
    format!("{:.4} gb", bytes as f64 / 1e9)
}

/// Titles and the lines below them.
fn sections(sections: &[(&str, Vec<String>)]) -> String {
    let section = |(title, lines): &(&str, Vec<String>)| {
        let body = if lines.is_empty() {
            "(none)".into()
        } else {
            lines.join("\n")
        };
        format!("{title}\n\n{body}")
    };
    sections
        .iter()
        .map(section)
        .collect::<Vec<_>>()
        .join("\n\n")
}

fn status(call: &Call) -> Answer {
    let overview = call.client.get("/api/overview")?;
    let cluster = call.client.get("/api/cluster/status")?;
    let vhosts = call.client.list("/api/vhosts?disable_stats=true")?.len();
    let name = text(&overview, "node");
    let node = call.get(&["nodes", name])?;
    let found = listeners(call)?;
    let local: Vec<&str> = alarms(&cluster)
        .into_iter()
        .filter(|(at, _)| *at == name)
        .map(|(_, kind)| kind)
        .collect();
    let totals = overview.get("object_totals").unwrap_or(&Value::Null);
    let (used, limit) = (number(&node, "mem_used"), number(&node, "mem_limit"));
    let (free, free_limit) = (number(&node, "disk_free"), number(&node, "disk_free_limit"));
    let version = text(&overview, "rabbitmq_version");
    let uptime = number(&node, "uptime") / 1000;
    let plugins = node.get("enabled_plugins").cloned().unwrap_or_default();
    if call.wants_json() {
        let answer = json!({
            "active_plugins": plugins,
            "alarms": local,
            "config_files": [],
            "disk_free": free,
            "disk_free_limit": free_limit,
            "erlang_version": "",
            "file_descriptors": {
                "sockets_limit": node.get("sockets_total"),
                "sockets_used": node.get("sockets_used"),
                "total_limit": node.get("fd_total"),
                "total_used": node.get("fd_used"),
            },
            "is_under_maintenance": false,
            "listeners": found.iter().map(listener_map).collect::<Vec<_>>(),
            "log_files": [],
            "memory": { "strategy": "rss", "total": { "allocated": used, "erlang": used, "rss": used } },
            "node": name,
            "os": std::env::consts::OS,
            "product_name": text(&overview, "product_name"),
            "product_version": text(&overview, "product_version"),
            "rabbitmq_version": version,
            "run_queue": 0,
            "totals": {
                "connection_count": totals.get("connections"),
                "queue_count": totals.get("queues"),
                "virtual_host_count": vhosts,
            },
            "uptime": uptime,
            "vm_memory_calculation_strategy": "rss",
            "vm_memory_high_watermark_limit": limit,
            "vm_memory_high_watermark_setting": { "absolute": limit },
            "warren_version": text(&overview, "warren_version"),
        });
        return Ok(Output::Both(String::new(), answer));
    }
    let plugins = plugins.as_array().cloned().unwrap_or_default();
    let text = sections(&[
        (
            "Runtime",
            vec![
                format!("OS: {}", std::env::consts::OS),
                format!("Uptime (seconds): {uptime}"),
                "Is under maintenance?: false".into(),
                format!("RabbitMQ version: {version}"),
                format!("Warren version: {}", text(&overview, "warren_version")),
                format!("Node name: {name}"),
            ],
        ),
        (
            "Plugins",
            plugins
                .iter()
                .filter_map(Value::as_str)
                .map(|plugin| format!(" * {plugin}"))
                .collect(),
        ),
        (
            "Alarms",
            local.iter().map(|kind| alarm_line(name, kind)).collect(),
        ),
        (
            "Memory",
            vec![
                format!("Total memory used: {}", gigabytes(used)),
                "Calculation strategy: rss".into(),
                format!("Memory high watermark setting: {}", gigabytes(limit)),
            ],
        ),
        (
            "File Descriptors",
            vec![
                format!(
                    "Total: {}, limit: {}",
                    number(&node, "fd_used"),
                    number(&node, "fd_total")
                ),
                format!(
                    "Sockets: {}, limit: {}",
                    number(&node, "sockets_used"),
                    number(&node, "sockets_total")
                ),
            ],
        ),
        (
            "Free Disk Space",
            vec![
                format!("Low free disk space watermark: {}", gigabytes(free_limit)),
                format!("Free disk space: {}", gigabytes(free)),
            ],
        ),
        (
            "Totals",
            vec![
                format!("Connection count: {}", number(totals, "connections")),
                format!("Queue count: {}", number(totals, "queues")),
                format!("Virtual host count: {vhosts}"),
            ],
        ),
        ("Listeners", found.iter().map(listener_line).collect()),
    ]);
    Ok(Output::Text(text))
}

fn cluster_status(call: &Call) -> Answer {
    let status = call.client.get("/api/cluster/status")?;
    let flags = call.client.list("/api/feature-flags")?;
    let overview = call.client.get("/api/overview")?;
    let product = text(&overview, "rabbitmq_version");
    let by_node = listeners_by_node(call, &status)?;
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
            "listeners": by_node,
            "maintenance_status": each(&|_| "not under maintenance".into()),
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
    let listeners = by_node.iter().flat_map(|(node, found)| {
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
                .map(|name| format!("Node: {name}, status: not under maintenance"))
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

fn is_alive(member: &Value) -> bool {
    member.get("alive").and_then(Value::as_bool) == Some(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_have_titles() {
        let shown = sections(&[
            ("Basics", vec!["a".into(), "b".into()]),
            ("Alarms", Vec::new()),
        ]);
        assert_eq!(shown, "Basics\n\na\nb\n\nAlarms\n\n(none)");
    }
}
