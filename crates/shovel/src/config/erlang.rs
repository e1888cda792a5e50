//! JSON as Erlang's `~tp` prints it: RabbitMQ's error texts have it in them, and tools look for them.

use serde_json::Value;
use std::fmt::Write as _;

/// More of a value is not shown.
const SHOWN_MAX: usize = 2048;

/// The value.
pub(super) fn term(value: &Value) -> String {
    let mut out = String::new();
    write(value, &mut out);
    shortened(out)
}

/// Members of an object, as a list of pairs.
pub(super) fn pairs<'a>(pairs: impl Iterator<Item = (&'a String, &'a Value)>) -> String {
    let mut out = String::from("[");
    for (nth, (key, value)) in pairs.enumerate() {
        if nth > 0 {
            out.push(',');
        }
        out.push('{');
        binary(key, &mut out);
        out.push(',');
        write(value, &mut out);
        out.push('}');
    }
    out.push(']');
    shortened(out)
}

/// A list of texts.
pub(super) fn binaries(texts: &[&str]) -> String {
    let texts = texts.iter().map(|text| Value::from(*text)).collect();
    term(&Value::Array(texts))
}

fn shortened(mut out: String) -> String {
    if out.len() > SHOWN_MAX {
        let end = (0..=SHOWN_MAX).rev().find(|at| out.is_char_boundary(*at));
        out.truncate(end.unwrap_or(0));
        out.push_str("...");
    }
    out
}

fn binary(text: &str, out: &mut String) {
    out.push_str("<<\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
    out.push('"');
    if !text.is_ascii() {
        out.push_str("/utf8");
    }
    out.push_str(">>");
}

fn write(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
        Value::Number(number) => {
            let _ = write!(out, "{number}");
        }
        Value::String(text) => binary(text, out),
        Value::Array(values) => {
            out.push('[');
            for (nth, value) in values.iter().enumerate() {
                if nth > 0 {
                    out.push(',');
                }
                write(value, out);
            }
            out.push(']');
        }
        Value::Object(members) => {
            out.push_str("#{");
            for (nth, (key, value)) in members.iter().enumerate() {
                if nth > 0 {
                    out.push(',');
                }
                binary(key, out);
                out.push_str(" => ");
                write(value, out);
            }
            out.push('}');
        }
    }
}
