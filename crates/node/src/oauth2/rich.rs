//! Rich authorization requests: what `authorization_details` allows, written as scopes.

use super::claims::{Claims, words};
use super::wildcard::{Variable, Wildcard};
use crate::config::OAuth2;
use serde_json::Value;

/// What may be done to queues and exchanges.
const PERMISSIONS: [&str; 3] = ["read", "write", "configure"];
/// What makes a tag.
const TAGS: [&str; 4] = ["monitoring", "administrator", "management", "policymaker"];

/// The scopes, with the name that we are known by before them.
pub(super) fn scopes(claims: &Claims, config: &OAuth2) -> Vec<String> {
    let Some(Value::Array(details)) = claims.get("authorization_details") else {
        return Vec::new();
    };
    details
        .iter()
        .filter(|detail| {
            let kind = detail.get("type").and_then(Value::as_str);
            kind.is_some() && kind == config.resource_server_type.as_deref()
        })
        .flat_map(|detail| of_detail(detail, config))
        .collect()
}

fn of_detail(detail: &Value, config: &OAuth2) -> Vec<String> {
    let id = &config.resource_server_id;
    let places: Vec<String> = list(detail.get("locations"))
        .iter()
        .filter_map(|location| place(location, id))
        .collect();
    if places.is_empty() {
        return Vec::new();
    }
    let mut scopes = Vec::new();
    for action in list(detail.get("actions")) {
        if TAGS.contains(&&*action) {
            scopes.push(format!("{id}.tag:{action}"));
        } else if PERMISSIONS.contains(&&*action) {
            let scope = |place| format!("{id}.{action}:{place}");
            scopes.extend(places.iter().map(scope));
        }
    }
    scopes
}

/// One text, or a list of them.
fn list(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::String(text)) => vec![text.clone()],
        Some(list) => words(list),
        None => Vec::new(),
    }
}

/// `vhost/name/routing key` of a location of ours: `cluster:…[/vhost:…][/queue:…|/exchange:…][/routing-key:…]`.
fn place(location: &str, id: &str) -> Option<String> {
    let mut place = Place::default();
    for part in location.split('/') {
        let mut words = part.split(':').filter(|word| !word.is_empty());
        let (Some(key), Some(value)) = (words.next(), words.next()) else {
            continue;
        };
        let field = match key {
            "cluster" => &mut place.cluster,
            "vhost" => &mut place.vhost,
            "queue" => &mut place.queue,
            "exchange" => &mut place.exchange,
            "routing-key" => &mut place.routing_key,
            _ => continue,
        };
        *field = Some(value);
    }
    let cluster = Wildcard::new(place.cluster?, &Variable::Text)?;
    // A queue or an exchange, not both.
    let both = place.queue.is_some() && place.exchange.is_some();
    if !cluster.matches(id, "") || both && place.queue != place.exchange {
        return None;
    }
    let any = |part: Option<&str>| part.unwrap_or("*").to_owned();
    Some(format!(
        "{}/{}/{}",
        any(place.vhost),
        any(place.queue.or(place.exchange)),
        any(place.routing_key)
    ))
}

#[derive(Default)]
struct Place<'a> {
    cluster: Option<&'a str>,
    vhost: Option<&'a str>,
    queue: Option<&'a str>,
    exchange: Option<&'a str>,
    routing_key: Option<&'a str>,
}

#[cfg(test)]
mod tests {
    use super::super::tests::{claims, config};
    use super::*;
    use serde_json::json;

    #[test]
    fn locations() {
        for (location, expected) in [
            ("cluster:finance", Some("*/*/*")),
            ("cluster:fin*", Some("*/*/*")),
            ("cluster:*", Some("*/*/*")),
            ("cluster:other", None),
            ("vhost:a", None),
            ("", None),
            ("cluster:finance/vhost:prod-*", Some("prod-*/*/*")),
            ("cluster:finance/queue:q", Some("*/q/*")),
            ("cluster:finance/exchange:x/routing-key:k*", Some("*/x/k*")),
            ("cluster:finance/queue:q/exchange:x", None),
            ("cluster:finance/queue:q/exchange:q", Some("*/q/*")),
            ("vrn/cluster:finance/unknown:a/vhost:", Some("*/*/*")),
        ] {
            let found = place(location, "finance");
            assert_eq!(found.as_deref(), expected, "{location}");
        }
    }

    #[test]
    fn details() {
        let value = json!({"authorization_details": [
            {"type": "rabbitmq", "locations": ["cluster:rabbitmq/vhost:primary-*"], "actions": ["read", "write", "dance"]},
            {"type": "rabbitmq", "locations": ["cluster:other", "cluster:rabbitmq"], "actions": "administrator"},
            {"type": "rabbitmq", "locations": "cluster:other", "actions": ["monitoring"]},
            {"type": "mail", "locations": "cluster:rabbitmq", "actions": ["configure"]},
            {"locations": "cluster:rabbitmq", "actions": ["configure"]},
            {"type": "rabbitmq", "actions": ["configure"]},
            "nonsense",
        ]});
        let claims = claims(value);
        let mut config = config();
        assert!(scopes(&claims, &config).is_empty());
        config.resource_server_type = Some("rabbitmq".into());
        let expected = [
            "rabbitmq.read:primary-*/*/*",
            "rabbitmq.write:primary-*/*/*",
            "rabbitmq.tag:administrator",
        ];
        assert_eq!(scopes(&claims, &config), expected);
    }
}
