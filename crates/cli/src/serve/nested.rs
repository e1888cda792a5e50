//! Keys of the file that have dots in RabbitMQ's, as TOML understands those: `auth_oauth2.https.cacertfile` is a table in a
//! table, and means `auth_oauth2_https_cacertfile`; `….1`, `….2` are the items of a list.

use toml::{Table, Value};

/// Where such keys begin.
const ROOTS: [&str; 2] = ["auth_oauth2", "auth_backends"];
/// Tables with names of the operator's.
const NAMED: [&str; 3] = [
    "auth_oauth2_signing_keys",
    "auth_oauth2_scope_aliases",
    "auth_oauth2_discovery_endpoint_params",
];

/// The keys of a file as options are named.
pub(super) fn flat(table: Table) -> Vec<(String, Value)> {
    let mut keys = Vec::new();
    for (key, value) in table {
        if ROOTS.iter().any(|root| key.starts_with(root)) {
            flatten(key, value, &mut keys);
        } else {
            keys.push((key, value));
        }
    }
    keys
}

fn flatten(key: String, value: Value, keys: &mut Vec<(String, Value)>) {
    match value {
        Value::Table(table) if NAMED.contains(&&*key) => {
            let named = table.into_iter().map(named).collect();
            keys.push((key, Value::Table(named)));
        }
        Value::Table(table) => match items(&table) {
            Some(items) => keys.push((key, Value::Array(items))),
            None => {
                for (inner, value) in table {
                    flatten(format!("{key}_{inner}"), value, keys);
                }
            }
        },
        value => keys.push((key, value)),
    }
}

/// `1 = "a", 2 = "b"` as a list, in the order of the numbers.
fn items(table: &Table) -> Option<Vec<Value>> {
    let numbered = table
        .iter()
        .map(|(number, value)| Some((number.parse::<u32>().ok()?, value.clone())));
    let mut items: Vec<(u32, Value)> = numbered.collect::<Option<_>>()?;
    if items.is_empty() {
        return None;
    }
    items.sort_by_key(|(number, _)| *number);
    Some(items.into_iter().map(|(_, value)| value).collect())
}

/// What stands behind a name: a text, words in a list, or an alias beside its scopes.
fn named((name, value): (String, Value)) -> (String, Value) {
    match value {
        Value::Array(words) => {
            let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
            (name, words.join(" ").into())
        }
        Value::Table(mut pair) => match (pair.remove("alias"), pair.remove("scope")) {
            (Some(Value::String(alias)), Some(scope)) => named((alias, scope)),
            _ => (name, Value::Table(pair)),
        },
        value => (name, value),
    }
}
