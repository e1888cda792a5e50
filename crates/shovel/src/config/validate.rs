//! Which definitions are refused, in RabbitMQ's words and order.

use super::erlang::{binaries, pairs, term};
use crate::uri::{Uri, without_credentials};
use serde_json::{Map, Value};

/// What may be named where a short string is meant.
const NAME_MAX: usize = 255;
/// Times that a queue can count.
const SECONDS_MAX: u64 = 4_294_967;

/// Whoever defines the shovel.
pub enum Access<'a> {
    /// Nobody who has to be asked: the definition is stored already, or an administrator brings it from elsewhere.
    Everything,
    /// A user. Within this cluster a shovel may do everything in the virtual hosts of its URIs: so they have to be open to
    /// whoever defines it.
    User {
        /// Name.
        name: &'a str,
        /// Whether a virtual host exists and the user may open it.
        may_open: &'a dyn Fn(&str) -> bool,
    },
}

/// What is wrong with a definition; nothing if it can be stored.
#[must_use]
pub fn validate(name: &str, value: &Value, access: &Access<'_>) -> Vec<String> {
    let Some(fields) = value.as_object() else {
        return vec![format!("{name} not a list {}", term(value))];
    };
    let mut errors = unsupported(fields);
    if !errors.is_empty() {
        return errors;
    }
    errors.extend(ends(fields));
    let is_local = |key: &str| fields.get(key).and_then(Value::as_str) == Some("local");
    let (source_is_local, destination_is_local) =
        (is_local("src-protocol"), is_local("dest-protocol"));
    let mut rules: Vec<Rule<'_>> = Vec::new();
    shovel_rules(&mut rules);
    source_rules(&mut rules, access, source_is_local);
    destination_rules(&mut rules, access, destination_is_local);
    errors.extend(check(name, fields, &rules));
    errors
}

/// A virtual host of this cluster that a definition names, sound or not, and that is not open to whoever brings it.
#[must_use]
pub fn closed_vhost(value: &Value, may_open: &dyn Fn(&str) -> bool) -> Option<String> {
    let texts = ["src-uri", "dest-uri"]
        .into_iter()
        .flat_map(|key| match value.get(key) {
            Some(Value::Array(values)) => values.iter().collect(),
            Some(value) => vec![value],
            None => Vec::new(),
        });
    texts
        .filter_map(|text| Uri::parse(text.as_str()?).ok())
        .filter(|uri| uri.host.is_none())
        .map(|uri| uri.vhost)
        .find(|vhost| !may_open(vhost))
}

/// AMQP 1.0 is not spoken here.
fn unsupported(fields: &Map<String, Value>) -> Vec<String> {
    ["src-protocol", "dest-protocol"]
        .into_iter()
        .filter(|key| fields.get(*key).and_then(Value::as_str) == Some("amqp10"))
        .map(|key| format!("{key} amqp10 is not supported: Warren's shovels speak amqp091"))
        .collect()
}

/// Rules about several keys.
fn ends(fields: &Map<String, Value>) -> Vec<String> {
    let has = |key: &str| fields.contains_key(key);
    let mut errors = Vec::new();
    match (has("src-exchange"), has("src-queue")) {
        (false, false) => errors.push("Must specify 'src-exchange' or 'src-queue'".to_owned()),
        (true, true) => errors.push("Cannot specify 'src-exchange' and 'src-queue'".to_owned()),
        _ => {}
    }
    let delete_after = fields
        .get("src-delete-after")
        .or_else(|| fields.get("delete-after"));
    let no_ack = fields.get("ack-mode").and_then(Value::as_str) == Some("no-ack");
    if no_ack && delete_after.is_some_and(|after| after.is_i64() || after.is_u64()) {
        errors.push("Cannot specify 'no-ack' and numerical 'delete-after'".to_owned());
    }
    if has("dest-exchange") && has("dest-queue") {
        errors.push("Cannot specify 'dest-exchange' and 'dest-queue'".to_owned());
    }
    errors
}

type Check<'a> = Box<dyn Fn(&str, &Value) -> Vec<String> + 'a>;

struct Rule<'a> {
    key: &'static str,
    check: Check<'a>,
    mandatory: bool,
}

/// RabbitMQ's `rabbit_parameter_validation:proplist`: what is left over first, then the last rule's error first.
fn check(name: &str, fields: &Map<String, Value>, rules: &[Rule<'_>]) -> Vec<String> {
    let mut errors = Vec::new();
    let left: Vec<(&String, &Value)> = fields
        .iter()
        .filter(|(key, _)| !rules.iter().any(|rule| rule.key == key.as_str()))
        .collect();
    if !left.is_empty() {
        let left = pairs(left.into_iter());
        errors.push(format!("Unrecognised terms {left} in {name}"));
    }
    for rule in rules.iter().rev() {
        match fields.get(rule.key) {
            Some(value) => errors.extend((rule.check)(rule.key, value)),
            None if rule.mandatory => {
                errors.push(format!("Key \"{}\" not found in {name}", rule.key));
            }
            None => {}
        }
    }
    errors
}

fn add<'a>(
    rules: &mut Vec<Rule<'a>>,
    key: &'static str,
    check: impl Fn(&str, &Value) -> Vec<String> + 'a,
) {
    rules.push(Rule {
        key,
        check: Box::new(check),
        mandatory: false,
    });
}

fn shovel_rules(rules: &mut Vec<Rule<'_>>) {
    const PROTOCOLS: &[&str] = &["amqp091", "amqp10", "local"];
    add(rules, "internal", boolean);
    add(rules, "internal_owner", owner);
    add(rules, "reconnect-delay", number);
    add(rules, "ack-mode", |key, value| {
        one_of(&["no-ack", "on-publish", "on-confirm"], key, value)
    });
    add(rules, "src-protocol", |key, value| {
        one_of(PROTOCOLS, key, value)
    });
    add(rules, "dest-protocol", |key, value| {
        one_of(PROTOCOLS, key, value)
    });
}

fn source_rules<'a>(rules: &mut Vec<Rule<'a>>, access: &'a Access<'a>, is_local: bool) {
    rules.push(uri_rule("src-uri", access));
    add(rules, "src-exchange", text);
    add(rules, "src-exchange-key", text);
    add(rules, "src-queue", text);
    add(rules, "src-queue-args", object);
    add(rules, "src-consumer-args", object);
    add(rules, "src-consumer-name", text);
    if !is_local {
        add(rules, "prefetch-count", number);
    }
    // RabbitMQ does not take it for a local source; its management pages send it all the same.
    add(rules, "src-prefetch-count", number);
    if !is_local {
        add(rules, "delete-after", delete_after);
    }
    add(rules, "src-delete-after", delete_after);
    add(rules, "src-delete-after-duration", duration);
    add(rules, "src-predeclared", boolean);
}

fn destination_rules<'a>(rules: &mut Vec<Rule<'a>>, access: &'a Access<'a>, is_local: bool) {
    rules.push(uri_rule("dest-uri", access));
    add(rules, "dest-exchange", text);
    add(rules, "dest-exchange-key", text);
    add(rules, "dest-queue", text);
    add(rules, "dest-queue-args", object);
    if !is_local {
        add(rules, "add-forward-headers", boolean);
        add(rules, "add-timestamp-header", boolean);
    }
    add(rules, "dest-add-forward-headers", boolean);
    add(rules, "dest-add-timestamp-header", boolean);
    if !is_local {
        add(rules, "publish-properties", properties);
        add(rules, "dest-publish-properties", properties);
    }
    add(rules, "dest-predeclared", boolean);
}

fn one_of(options: &[&str], key: &str, value: &Value) -> Vec<String> {
    match value.as_str() {
        Some(text) if options.contains(&text) => Vec::new(),
        Some(_) => vec![format!(
            "{key} should be one of {}, actually was {}",
            binaries(options),
            term(value)
        )],
        None => not_binary(key, value),
    }
}

fn not_binary(key: &str, value: &Value) -> Vec<String> {
    vec![format!(
        "{key} should be binary, actually was {}",
        term(value)
    )]
}

fn boolean(key: &str, value: &Value) -> Vec<String> {
    match value {
        Value::Bool(_) => Vec::new(),
        _ => vec![format!(
            "{key} should be boolean, actually was {}",
            term(value)
        )],
    }
}

fn number(key: &str, value: &Value) -> Vec<String> {
    match value {
        Value::Number(_) => Vec::new(),
        _ => vec![format!(
            "{key} should be a number, actually was {}",
            term(value)
        )],
    }
}

/// A text that has to go into a short string.
fn text(key: &str, value: &Value) -> Vec<String> {
    match value.as_str() {
        Some(text) if text.len() <= NAME_MAX => Vec::new(),
        Some(text) => vec![format!(
            "{key} should be less than 255 bytes, actually was {}",
            text.len()
        )],
        None => not_binary(key, value),
    }
}

fn object(key: &str, value: &Value) -> Vec<String> {
    match value {
        Value::Object(_) => Vec::new(),
        // How Erlang writes an object without members.
        Value::Array(values) if values.is_empty() => Vec::new(),
        _ => vec![format!(
            "{key} should be a map, actually was {}",
            term(value)
        )],
    }
}

fn delete_after(key: &str, value: &Value) -> Vec<String> {
    let good = match value {
        Value::String(text) => text == "never" || text == "queue-length",
        _ => value.is_u64(),
    };
    if good {
        return Vec::new();
    }
    vec![format!(
        "{key} should be a number greater than or equal to 0, \"never\" or \"queue-length\", actually was {}",
        term(value)
    )]
}

fn duration(key: &str, value: &Value) -> Vec<String> {
    match value.as_u64() {
        Some(1..=SECONDS_MAX) => Vec::new(),
        Some(above) if above > SECONDS_MAX => vec![format!(
            "{key} is {} seconds, which exceeds the maximum supported duration",
            term(value)
        )],
        _ => vec![format!(
            "{key} should be a positive integer (seconds), actually was {}",
            term(value)
        )],
    }
}

fn owner(key: &str, value: &Value) -> Vec<String> {
    let Some(fields) = value.as_object() else {
        return vec![format!("{key} not a list {}", term(value))];
    };
    let mut rules = Vec::new();
    add(&mut rules, "name", text);
    add(&mut rules, "kind", |key, value| {
        one_of(&["exchange", "queue"], key, value)
    });
    add(&mut rules, "virtual_host", text);
    check(key, fields, &rules)
}

fn properties(key: &str, value: &Value) -> Vec<String> {
    let empty = Map::new();
    let fields = match value {
        Value::Object(fields) => fields,
        Value::Array(values) if values.is_empty() => &empty,
        _ => return vec![format!("{key} not a list {}", term(value))],
    };
    let mut rules = Vec::new();
    for property in [
        "content_type",
        "content_encoding",
        "correlation_id",
        "reply_to",
        "expiration",
        "message_id",
        "type",
        "user_id",
        "app_id",
        "cluster_id",
    ] {
        add(&mut rules, property, text);
    }
    for property in ["delivery_mode", "priority", "timestamp"] {
        add(&mut rules, property, number);
    }
    check(key, fields, &rules)
}

fn uri_rule<'a>(key: &'static str, access: &'a Access<'a>) -> Rule<'a> {
    Rule {
        key,
        check: Box::new(move |key, value| match value {
            Value::String(text) => uri(text, access).into_iter().collect(),
            Value::Array(values) => {
                let wrong = values.iter().find_map(|value| match value.as_str() {
                    Some(text) => uri(text, access),
                    None => Some(format!(
                        "{key} should be list, actually was {}",
                        term(value)
                    )),
                });
                wrong.into_iter().collect()
            }
            _ => vec![format!(
                "{key} should be list, actually was {}",
                term(value)
            )],
        }),
        mandatory: true,
    }
}

fn uri(text: &str, access: &Access<'_>) -> Option<String> {
    let parsed = match Uri::parse(text) {
        Ok(parsed) => parsed,
        Err(error) => {
            let shown = without_credentials(text);
            return Some(format!(
                "\"{shown}\" not a valid URI: {{{error},\"{shown}\"}}"
            ));
        }
    };
    match access {
        Access::User { name, may_open } if parsed.host.is_none() && !may_open(&parsed.vhost) => {
            Some(format!(
                "user \"{name}\" may not connect to vhost \"{}\"",
                parsed.vhost
            ))
        }
        _ => None,
    }
}
