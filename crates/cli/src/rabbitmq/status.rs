//! `status`, `cluster_status` and versions.

use super::arguments::text as text_option;
use super::cluster_status::{alarm_line, alarms};
use super::columns::text;
use super::command::{Answer, Call, Command, DIAGNOSTICS, LOOK, command, no_banner};
use super::format::Output;
use super::listeners::{listener_line, listener_map, listeners};
use serde_json::{Value, json};

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
pub(super) fn sections(sections: &[(&str, Vec<String>)]) -> String {
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
    let drained = node.get("being_drained").and_then(Value::as_bool) == Some(true);
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
            "is_under_maintenance": drained,
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
                format!("Is under maintenance?: {drained}"),
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
