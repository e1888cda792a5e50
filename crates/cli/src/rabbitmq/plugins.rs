//! `rabbitmq-plugins`: what is a plugin elsewhere is built in here, or missing.

use super::arguments::flag;
use super::command::{Answer, Call, Command, PLUGINS, command};
use super::format::Output;
use super::trouble::{Trouble, UNAVAILABLE};
use serde_json::{Value, json};

pub(super) const COMMANDS: &[Command] = &[
    command(
        "list",
        PLUGINS,
        "[pattern] [--verbose] [--minimal] [--enabled] [--implicitly-enabled]",
        (0, 1),
        |call| {
            let pattern = call.words.first().map_or(".*", String::as_str);
            format!("Listing plugins with pattern \"{pattern}\" ...")
        },
        list,
    )
    .with(&[
        flag("verbose").or('v'),
        flag("minimal").or('m'),
        flag("enabled").or('e'),
        flag("implicitly-enabled").or('E'),
    ]),
    command(
        "is_enabled",
        PLUGINS,
        "<plugin1> [ <plugin2>] [--offline] [--online]",
        (1, usize::MAX),
        |call| {
            let (noun, verb) = plural(call.words.len());
            let names = call.words.join(", ");
            format!(
                "Asking node {} if {noun} {names} {verb} enabled...",
                call.node()
            )
        },
        is_enabled,
    )
    .with(&[flag("online"), flag("offline")]),
    command(
        "enable",
        PLUGINS,
        "<plugin1> [ <plugin2>] [--offline] [--online]",
        (0, usize::MAX),
        |call| {
            format!(
                "Enabling plugins on node {}:\n{}",
                call.node(),
                call.words.join("\n")
            )
        },
        enable,
    )
    .with(&[flag("online"), flag("offline"), flag("all")]),
    command(
        "set",
        PLUGINS,
        "[<plugin1> [ <plugin2>]] [--offline] [--online]",
        (0, usize::MAX),
        |call| {
            format!(
                "Enabling plugins on node {}:\n{}",
                call.node(),
                call.words.join("\n")
            )
        },
        enable,
    )
    .with(&[flag("online"), flag("offline")]),
    command(
        "disable",
        PLUGINS,
        "<plugin1> [ <plugin2>] [--offline] [--online]",
        (0, usize::MAX),
        |call| {
            format!(
                "Disabling plugins on node {}:\n{}",
                call.node(),
                call.words.join("\n")
            )
        },
        disable,
    )
    .with(&[flag("online"), flag("offline"), flag("all")]),
];

/// What Warren has.
const BUILT_IN: &[&str] = &[
    "rabbitmq_auth_backend_oauth2",
    "rabbitmq_auth_mechanism_ssl",
    "rabbitmq_consistent_hash_exchange",
    "rabbitmq_delayed_message_exchange",
    "rabbitmq_management",
    "rabbitmq_management_agent",
    "rabbitmq_prometheus",
    "rabbitmq_random_exchange",
    "rabbitmq_recent_history_exchange",
    "rabbitmq_sharding",
    "rabbitmq_shovel",
    "rabbitmq_shovel_management",
];

/// What it has not, although people know it.
const ABSENT: &[&str] = &[
    "rabbitmq_amqp1_0",
    "rabbitmq_auth_backend_cache",
    "rabbitmq_auth_backend_http",
    "rabbitmq_auth_backend_ldap",
    "rabbitmq_event_exchange",
    "rabbitmq_federation",
    "rabbitmq_federation_management",
    "rabbitmq_jms_topic_exchange",
    "rabbitmq_message_timestamp",
    "rabbitmq_mqtt",
    "rabbitmq_peer_discovery_k8s",
    "rabbitmq_stomp",
    "rabbitmq_stream",
    "rabbitmq_stream_management",
    "rabbitmq_top",
    "rabbitmq_tracing",
    "rabbitmq_web_mqtt",
    "rabbitmq_web_stomp",
];

fn is_built_in(name: &str) -> bool {
    BUILT_IN.contains(&name)
}

fn list(call: &Call) -> Answer {
    let only_enabled = call.options.flag("enabled") || call.options.flag("implicitly-enabled");
    let absent: &[&str] = if only_enabled { &[] } else { ABSENT };
    let wanted = call.word(0);
    let version = &super::version();
    let mut names: Vec<&str> = BUILT_IN.iter().chain(absent).copied().collect();
    names.retain(|name| name.contains(wanted));
    names.sort_unstable();
    if call.wants_json() {
        let plugin = |name: &&str| {
            let enabled = if is_built_in(name) {
                "enabled"
            } else {
                "not_enabled"
            };
            json!({ "enabled": enabled, "name": name, "running": is_built_in(name), "version": version })
        };
        let plugins: Vec<Value> = names.iter().map(plugin).collect();
        let answer = json!({ "format": "normal", "plugins": plugins, "status": "running" });
        return Ok(Output::Both(String::new(), answer));
    }
    let mut lines = Vec::new();
    if call.options.flag("minimal") {
        lines.extend(names.iter().map(|name| (*name).to_owned()));
        return Ok(listing(&lines));
    }
    if !call.is_quiet() {
        lines.push(" Configured: E = explicitly enabled; e = implicitly enabled".into());
        lines.push(format!(" | Status: * = running on {}", call.node()));
        lines.push(" |/".into());
    }
    let width = names
        .iter()
        .map(|name| name.len())
        .max()
        .unwrap_or_default();
    for name in names {
        let (mark, shown) = if is_built_in(name) {
            ("[E*]", version.as_str())
        } else {
            ("[  ]", "not in Warren")
        };
        lines.push(format!("{mark} {name:width$} {shown}"));
    }
    Ok(listing(&lines))
}

fn listing(lines: &[String]) -> Output {
    if lines.is_empty() {
        Output::Silent
    } else {
        Output::Text(lines.join("\n"))
    }
}

/// Those that are not built in.
fn lacking(call: &Call) -> Vec<&str> {
    let words = call.words.iter().map(String::as_str);
    words.filter(|name| !is_built_in(name)).collect()
}

fn plural(count: usize) -> (&'static str, &'static str) {
    if count == 1 {
        ("plugin", "is")
    } else {
        ("plugins", "are")
    }
}

fn is_enabled(call: &Call) -> Answer {
    let node = call.node();
    let lacking = lacking(call);
    if lacking.is_empty() {
        let (noun, verb) = plural(call.words.len());
        let noun = noun.replacen('p', "P", 1);
        let names = call.words.join(", ");
        return Ok(Output::Text(format!(
            "{noun} {names} {verb} enabled on node {node}"
        )));
    }
    let (noun, verb) = plural(lacking.len());
    let noun = noun.replacen('p', "P", 1);
    let text = format!(
        "{noun} {} {verb} not enabled on node {node}. Enabled plugins and dependencies: {}",
        lacking.join(", "),
        BUILT_IN.join(", ")
    );
    Err(Trouble::error(UNAVAILABLE, text))
}

fn enable(call: &Call) -> Answer {
    if call.words.is_empty() && call.command.name == "enable" && !call.options.flag("all") {
        return Err(call.misused(super::trouble::USAGE, "not enough arguments."));
    }
    let lacking = lacking(call);
    if !lacking.is_empty() {
        let text = format!(
            "{{:plugins_not_found, [{}]}}: Warren has no plugins, and what these do is not built in. `rabbitmq-plugins list` \
             shows what is",
            lacking.join(", ")
        );
        return Err(Trouble::error(UNAVAILABLE, text));
    }
    told(call, "is built in and always enabled")
}

fn disable(call: &Call) -> Answer {
    if call.words.is_empty() && !call.options.flag("all") {
        return Err(call.misused(super::trouble::USAGE, "not enough arguments."));
    }
    told(call, "is built in and stays enabled")
}

fn told(call: &Call, text: &str) -> Answer {
    if call.is_quiet() || call.words.is_empty() {
        return Ok(Output::Silent);
    }
    let line = |name: &String| {
        if is_built_in(name) {
            format!("{name} {text}")
        } else {
            format!("{name} is not in Warren")
        }
    };
    let mut lines: Vec<String> = call.words.iter().map(line).collect();
    lines.push("Plugin configuration unchanged.".into());
    Ok(listing(&lines))
}
