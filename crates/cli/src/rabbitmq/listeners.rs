//! Where nodes listen, and whether somebody answers there.

use super::arguments::text as text_option;
use super::checks::{failed, not_running, passed};
use super::cluster::readiness;
use super::cluster_status::members;
use super::columns::text;
use super::command::{Answer, Call, Command, DIAGNOSTICS, command};
use super::format::Output;
use super::trouble::{Trouble, UNAVAILABLE};
use crate::client::Failure;
use serde_json::{Map, Value, json};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

pub(super) const COMMANDS: &[Command] = &[
    command(
        "listeners",
        DIAGNOSTICS,
        "",
        (0, 0),
        |call| {
            format!(
                "Asking node {} to report its protocol listeners ...",
                call.node()
            )
        },
        |call| {
            let found = listeners(call)?;
            let lines: Vec<String> = found.iter().map(listener_line).collect();
            let maps: Vec<Value> = found.iter().map(listener_map).collect();
            let answer = json!({ "listeners": maps, "node": call.node(), "result": "ok" });
            Ok(Output::Both(lines.join("\n"), answer))
        },
    ),
    command(
        "check_port_connectivity",
        DIAGNOSTICS,
        "[--address <address>]",
        (0, 0),
        |call| {
            format!(
                "Testing TCP connections to all active listeners on node {} ...",
                call.node()
            )
        },
        connectivity,
    )
    .with(&[text_option("address")]),
    command(
        "check_port_listener",
        DIAGNOSTICS,
        "<port>",
        (1, 1),
        |call| {
            let port = call.word(0);
            format!(
                "Asking node {} if there's an active listener on port {port} ...",
                call.node()
            )
        },
        port_listener,
    ),
    command(
        "check_protocol_listener",
        DIAGNOSTICS,
        "<protocol>",
        (1, 1),
        |call| {
            format!(
                "Asking node {} if there's an active listener for protocol {} ...",
                call.node(),
                protocol(call.word(0))
            )
        },
        protocol_listener,
    ),
];

/// Where the node that is asked listens.
pub(super) fn listeners(call: &Call) -> Result<Vec<Value>, Failure> {
    let overview = call.client.get("/api/overview")?;
    Ok(listeners_of(&overview, text(&overview, "node")))
}

/// Where a node listens; the overview tells it of all that answer.
fn listeners_of(overview: &Value, node: &str) -> Vec<Value> {
    let all = overview.get("listeners").and_then(Value::as_array);
    let all = all.into_iter().flatten();
    all.filter(|row| text(row, "node") == node)
        .cloned()
        .collect()
}

fn purpose(protocol: &str) -> &'static str {
    match protocol {
        "amqp" => "AMQP 0-9-1",
        "amqp/ssl" => "AMQP 0-9-1 over TLS",
        "http" => "HTTP API",
        "https" => "HTTP API over TLS (HTTPS)",
        "http/prometheus" => "Prometheus exporter API over HTTP",
        "clustering" => "inter-node communication",
        _ => "",
    }
}

/// A listener as RabbitMQ's tools show it.
pub(super) fn listener_map(listener: &Value) -> Value {
    let protocol = text(listener, "protocol");
    let interface = match text(listener, "ip_address") {
        "::" => "[::]",
        address => address,
    };
    json!({
        "interface": interface,
        "node": text(listener, "node"),
        "port": listener.get("port"),
        "protocol": protocol,
        "purpose": purpose(protocol),
    })
}

/// A listener in one line.
pub(super) fn listener_line(listener: &Value) -> String {
    let map = listener_map(listener);
    let port = map.get("port").unwrap_or(&Value::Null);
    format!(
        "Interface: {}, port: {port}, protocol: {}, purpose: {}",
        text(&map, "interface"),
        text(&map, "protocol"),
        text(&map, "purpose")
    )
}

/// Listeners by node; of those that do not tell theirs what the cluster knows.
pub(super) fn by_node(overview: &Value, status: &Value) -> Map<String, Value> {
    let mut nodes = Map::new();
    for member in members(status) {
        let name = text(member, "node");
        let known = [
            ("amqp", "amqp_address"),
            ("http", "management_address"),
            ("clustering", "address"),
        ];
        let told: Vec<Value> = listeners_of(overview, name)
            .iter()
            .map(listener_map)
            .collect();
        let others = known.iter().filter_map(|(protocol, key)| {
            let (host, port) = text(member, key).rsplit_once(':')?;
            let port: u16 = port.parse().ok()?;
            Some(listener_map(
                &json!({ "node": name, "protocol": protocol, "ip_address": host, "port": port }),
            ))
        });
        let listed = if told.is_empty() {
            others.collect()
        } else {
            told
        };
        nodes.insert(name.to_owned(), listed.into());
    }
    nodes
}

fn connectivity(call: &Call) -> Answer {
    // A node listens on its ports when it is ready, and not before.
    if let Some(reason) = readiness(call)? {
        return Err(failed(call, &format!("{} ({reason})", not_running(call))));
    }
    let found = listeners(call)?;
    let mut ports = Vec::new();
    let mut lost = Vec::new();
    for listener in &found {
        let port = listener
            .get("port")
            .and_then(Value::as_u64)
            .unwrap_or_default();
        let host = match (call.options.text("address"), text(listener, "ip_address")) {
            (Some(address), _) => address,
            (None, "0.0.0.0" | "::") => "127.0.0.1",
            (None, address) => address,
        };
        let port = u16::try_from(port).unwrap_or_default();
        let wait = Duration::from_secs(call.timeout_or(30).clamp(1, 30));
        let reached = (host, port).to_socket_addrs().is_ok_and(|mut addresses| {
            addresses.any(|address| TcpStream::connect_timeout(&address, wait).is_ok())
        });
        if reached {
            ports.push(port);
        } else {
            lost.push(listener_line(listener));
        }
    }
    if !lost.is_empty() {
        let text = format!(
            "Connection to ports of the following listeners on node {} failed: \n{}",
            call.node(),
            lost.join("\n")
        );
        return Err(failed(call, &text));
    }
    ports.sort_unstable();
    let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
    let text = format!(
        "Successfully connected to ports {} on node {}.",
        ports.join(", "),
        call.node()
    );
    Ok(passed(call, text))
}

fn port_listener(call: &Call) -> Answer {
    let port = call.number(0, "port must be a whole number")?;
    let well = format!(
        "A listener for port {port} is running on node {}.",
        call.node()
    );
    let found = listeners(call)?;
    let mut ports: Vec<u64> = found
        .iter()
        .filter_map(|row| row.get("port")?.as_u64())
        .collect();
    if ports.contains(&port) {
        let answer = json!({ "node": call.node(), "port": port, "result": "ok" });
        return Ok(Output::Both(well, answer));
    }
    if call.wants_json() {
        let maps: Vec<Value> = found.iter().map(listener_map).collect();
        let answer =
            json!({ "listeners": maps, "missing": port, "ports": ports, "result": "error" });
        return Err(Trouble::check(answer.to_string()));
    }
    ports.sort_unstable();
    let ports: Vec<String> = ports.iter().map(u64::to_string).collect();
    Err(Trouble::check(format!(
        "No listener for port {port} is active on node {}. Found listeners that use the following ports: {}",
        call.node(),
        ports.join(", ")
    )))
}

/// Names that RabbitMQ takes for its protocols.
fn protocol(name: &str) -> &str {
    match name.to_ascii_lowercase().as_str() {
        "amqp" | "amqp091" | "amqp0.9.1" | "amqp0-9-1" | "amqp10" | "amqp1.0" => "amqp",
        "amqps" | "amqp/ssl" | "amqp over tls" => "amqp/ssl",
        "prometheus" | "http/prometheus" => "http/prometheus",
        "http" | "management" => "http",
        "cli" | "distribution" | "clustering" => "clustering",
        _ => name,
    }
}

fn protocol_listener(call: &Call) -> Answer {
    let wanted = protocol(call.word(0));
    let found = listeners(call)?;
    let mut known: Vec<&str> = found.iter().map(|row| text(row, "protocol")).collect();
    if known.contains(&wanted) {
        let well = format!(
            "A listener for protocol {wanted} is running on node {}.",
            call.node()
        );
        let answer = json!({ "node": call.node(), "protocol": wanted, "result": "ok" });
        return Ok(Output::Both(well, answer));
    }
    known.sort_unstable();
    if call.wants_json() {
        let answer = json!({ "missing": wanted, "protocols": known, "result": "error" });
        return Err(Trouble::check(answer.to_string()));
    }
    let text = format!(
        "No listener for protocol {wanted} is active on node {}. Found listeners for the following protocols: {}",
        call.node(),
        known.join(", ")
    );
    Err(Trouble::error(UNAVAILABLE, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_in_one_line() {
        let listener =
            json!({ "node": "warren@1", "protocol": "amqp", "ip_address": "::", "port": 5672 });
        assert_eq!(
            listener_line(&listener),
            "Interface: [::], port: 5672, protocol: amqp, purpose: AMQP 0-9-1"
        );
    }

    #[test]
    fn listeners_of_each_node() {
        let listener = |node: &str, port: u16| json!({ "node": node, "protocol": "amqp", "ip_address": "127.0.0.1", "port": port });
        let overview = json!({ "listeners": [listener("warren@1", 1), listener("warren@2", 2)] });
        let member = |node: &str| json!({ "node": node, "amqp_address": "10.0.0.9:9" });
        let members = ["warren@1", "warren@2", "warren@3"].map(member);
        let found = by_node(&overview, &json!({ "members": members }));
        let ports: Vec<_> = found
            .values()
            .map(|rows| (rows[0]["interface"].clone(), rows[0]["port"].clone()))
            .collect();
        let expected = [("127.0.0.1", 1), ("127.0.0.1", 2), ("10.0.0.9", 9)];
        assert_eq!(
            ports,
            expected.map(|(host, port)| (json!(host), json!(port)))
        );
        assert_eq!(
            listeners_of(&overview, "warren@2"),
            [listener("warren@2", 2)]
        );
    }

    #[test]
    fn protocols_have_several_names() {
        for (name, expected) in [
            ("amqp091", "amqp"),
            ("AMQP", "amqp"),
            ("amqps", "amqp/ssl"),
            ("https", "https"),
            ("http", "http"),
            ("mqtt", "mqtt"),
        ] {
            assert_eq!(protocol(name), expected);
        }
    }
}
