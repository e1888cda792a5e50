//! Values in lists: how RabbitMQ's tools print them as text and as JSON.

use serde_json::{Map, Value, json};

/// A value of a row.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell {
    /// A text, number, truth or list.
    Plain(Value),
    /// Arguments: a table of AMQP.
    Arguments(Map<String, Value>),
}

impl From<Value> for Cell {
    fn from(value: Value) -> Self {
        Self::Plain(value)
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Plain(text.into())
    }
}

impl Cell {
    /// Arguments as the HTTP API gives them; none where there are none.
    pub(super) fn arguments(value: &Value) -> Self {
        Self::Arguments(value.as_object().cloned().unwrap_or_default())
    }

    /// As in a table. Control characters of names chosen by clients must not reach the terminal, nor part columns.
    pub(super) fn text(&self) -> String {
        let text = match self {
            Self::Plain(value) => plain(value),
            Self::Arguments(table) => term_of_table(table),
        };
        safe(&text)
    }

    /// As JSON: arguments are lists of name, type and value.
    pub(super) fn json(&self) -> Value {
        match self {
            Self::Plain(Value::Null) => "".into(),
            Self::Plain(value) => value.clone(),
            Self::Arguments(table) => typed_table(table),
        }
    }
}

/// Without control characters.
pub(super) fn safe(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(plain).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(map) => {
            let pair = |(key, value): (&String, &Value)| format!("{key} => {}", plain(value));
            format!(
                "#{{{}}}",
                map.iter().map(pair).collect::<Vec<_>>().join(", ")
            )
        }
        other => other.to_string(),
    }
}

/// A term of Erlang: `[{"x-max-length",100}]`.
fn term(value: &Value) -> String {
    match value {
        Value::Null => "undefined".into(),
        Value::String(text) => {
            format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
        }
        Value::Array(items) => {
            format!("[{}]", items.iter().map(term).collect::<Vec<_>>().join(","))
        }
        Value::Object(table) => term_of_table(table),
        other => other.to_string(),
    }
}

fn term_of_table(table: &Map<String, Value>) -> String {
    let pair = |(key, value): (&String, &Value)| {
        format!("{{{},{}}}", term(&key.as_str().into()), term(value))
    };
    format!("[{}]", table.iter().map(pair).collect::<Vec<_>>().join(","))
}

fn typed_table(table: &Map<String, Value>) -> Value {
    let entry = |(key, value): (&String, &Value)| {
        let (kind, value) = typed(value);
        json!([key, kind, value])
    };
    table.iter().map(entry).collect()
}

/// The API does not tell widths of numbers; these are the names of the widest.
fn typed(value: &Value) -> (&'static str, Value) {
    match value {
        Value::Null => ("void", Value::Null),
        Value::Bool(_) => ("bool", value.clone()),
        Value::Number(number) if number.is_f64() => ("double", value.clone()),
        Value::Number(_) => ("long", value.clone()),
        Value::String(_) => ("longstr", value.clone()),
        Value::Array(items) => {
            let item = |item: &Value| {
                let (kind, value) = typed(item);
                json!([kind, value])
            };
            ("array", items.iter().map(item).collect())
        }
        Value::Object(table) => ("table", typed_table(table)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        for (value, expected) in [
            (json!("a"), "a"),
            (json!(null), ""),
            (json!(true), "true"),
            (json!(3), "3"),
            (json!(["a", "b"]), "[a, b]"),
            (json!([]), "[]"),
            (json!({"a": 1}), "#{a => 1}"),
            (json!("a\tb\u{1b}[31m"), "a\u{fffd}b\u{fffd}[31m"),
        ] {
            assert_eq!(Cell::Plain(value).text(), expected);
        }
    }

    #[test]
    fn arguments() {
        let value = json!({"x-max-length": 100, "x": {"a": [1, "b", true]}, "t": "q\"\n"});
        let cell = Cell::arguments(&value);
        assert_eq!(
            cell.text(),
            "[{\"t\",\"q\\\"\u{fffd}\"},{\"x\",[{\"a\",[1,\"b\",true]}]},{\"x-max-length\",100}]"
        );
        assert_eq!(
            cell.json(),
            json!([
                ["t", "longstr", "q\"\n"],
                [
                    "x",
                    "table",
                    [[
                        "a",
                        "array",
                        [["long", 1], ["longstr", "b"], ["bool", true]]
                    ]]
                ],
                ["x-max-length", "long", 100]
            ])
        );
        assert_eq!(Cell::arguments(&json!({})).text(), "[]");
        assert_eq!(Cell::arguments(&Value::Null).json(), json!([]));
    }
}
