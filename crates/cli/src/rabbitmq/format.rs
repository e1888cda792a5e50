//! What a command answers, written as `--formatter` asks: tab separated columns, JSON, CSV or a table with lines.

use super::cell::{Cell, safe};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// A row: columns in the order asked for.
pub(super) type Row = Vec<(&'static str, Cell)>;

/// What a command answers.
#[derive(Debug)]
pub(super) enum Output {
    /// Nothing to say, also as JSON.
    Silent,
    /// Done.
    Done,
    /// A text; as JSON it is the value of an object.
    Text(String),
    /// A text, and another form of it as JSON.
    Both(String, Value),
    /// Rows that come one by one: none, no heading.
    Rows(Vec<Row>),
    /// Rows that come at once: where there are none, an empty line says so.
    Whole(Vec<Row>),
}

/// The form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Formatter {
    Table,
    Json,
    Csv,
    Pretty,
}

impl Formatter {
    /// The one of that name.
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "table" | "string" => Self::Table,
            "json" | "json_stream" => Self::Json,
            "csv" => Self::Csv,
            "pretty_table" => Self::Pretty,
            _ => return None,
        })
    }

    /// Whether programs read it: then nothing else is printed.
    pub(super) fn for_programs(self) -> bool {
        matches!(self, Self::Json | Self::Csv)
    }
}

/// Writes the answer; `headings` over columns, `node` for answers as JSON.
pub(super) fn write(output: &Output, formatter: Formatter, headings: bool, node: &str) -> String {
    match (output, formatter) {
        (Output::Silent, _) => String::new(),
        (Output::Done, Formatter::Json) => {
            line(&json!({ "node": node, "result": "ok" }).to_string())
        }
        (Output::Done, _) => String::new(),
        (Output::Text(text), Formatter::Json) => {
            line(&json!({ "node": node, "result": "ok", "value": text }).to_string())
        }
        (Output::Both(_, value), Formatter::Json) => line(&value.to_string()),
        (Output::Text(text) | Output::Both(text, _), _) => line(text),
        (Output::Rows(rows), formatter) => table(rows, formatter, headings, false),
        (Output::Whole(rows), formatter) => table(rows, formatter, headings, true),
    }
}

fn line(text: &str) -> String {
    format!("{}\n", text.trim_end_matches('\n'))
}

fn table(rows: &[Row], formatter: Formatter, headings: bool, whole: bool) -> String {
    match formatter {
        Formatter::Json if rows.is_empty() && whole => "[]\n".into(),
        Formatter::Json => json_rows(rows),
        Formatter::Table | Formatter::Csv if rows.is_empty() => {
            if whole { "\n" } else { "" }.into()
        }
        Formatter::Table => {
            let mut out = String::new();
            if let (true, Some(first)) = (headings, rows.first()) {
                out.push_str(&joined(first.iter().map(|(name, _)| (*name).to_owned())));
            }
            for row in rows {
                out.push_str(&joined(row.iter().map(|(_, cell)| cell.text())));
            }
            out
        }
        Formatter::Csv => {
            let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
            let mut out = String::new();
            let heading = rows.first().map(|first| {
                let names: Vec<String> = first.iter().map(|(name, _)| quoted(name)).collect();
                names.join(",")
            });
            for line in heading.into_iter().chain(rows.iter().map(|row| {
                let cells: Vec<String> = row.iter().map(|(_, cell)| quoted(&cell.text())).collect();
                cells.join(",")
            })) {
                out.push_str(&line);
                out.push('\n');
            }
            out
        }
        Formatter::Pretty => pretty(rows),
    }
}

fn joined(cells: impl Iterator<Item = String>) -> String {
    let cells: Vec<String> = cells.collect();
    format!("{}\n", cells.join("\t"))
}

/// One row to a line, columns in their order.
fn json_rows(rows: &[Row]) -> String {
    let mut out = String::from("[\n");
    for (index, row) in rows.iter().enumerate() {
        let fields: Vec<String> = row
            .iter()
            .map(|(name, cell)| format!("{}:{}", Value::from(*name), cell.json()))
            .collect();
        let comma = if index == 0 { "" } else { "," };
        let _ = writeln!(out, "{comma}{{{}}}", fields.join(","));
    }
    out.push_str("]\n");
    out
}

fn pretty(rows: &[Row]) -> String {
    let Some(first) = rows.first() else {
        return String::new();
    };
    let titles = first.iter().map(|(name, _)| safe(name)).collect();
    let cells = rows
        .iter()
        .map(|row| row.iter().map(|(_, cell)| cell.text()).collect());
    let lines: Vec<Vec<String>> = std::iter::once(titles).chain(cells).collect();
    let width = |column: usize| {
        let lengths = lines
            .iter()
            .filter_map(|line| line.get(column).map(|text| text.chars().count()));
        lengths.max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..first.len()).map(width).collect();
    let rule = |left: &str, middle: &str, right: &str| {
        let parts: Vec<String> = widths.iter().map(|width| "─".repeat(width + 2)).collect();
        format!("{left}{}{right}\n", parts.join(middle))
    };
    let mut out = rule("┌", "┬", "┐");
    for (index, line) in lines.iter().enumerate() {
        if index > 0 {
            out.push_str(&rule("├", "┼", "┤"));
        }
        for (text, width) in line.iter().zip(&widths) {
            let _ = write!(out, "│ {text:width$} ");
        }
        out.push_str("│\n");
    }
    out.push_str(&rule("└", "┴", "┘"));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Row> {
        vec![
            vec![("user", "a".into()), ("tags", json!(["x", "y"]).into())],
            vec![("user", "b\"".into()), ("tags", json!([]).into())],
        ]
    }

    #[test]
    fn forms_of_rows() {
        for (formatter, headings, expected) in [
            (Formatter::Table, true, "user\ttags\na\t[x, y]\nb\"\t[]\n"),
            (Formatter::Table, false, "a\t[x, y]\nb\"\t[]\n"),
            (
                Formatter::Json,
                true,
                "[\n{\"user\":\"a\",\"tags\":[\"x\",\"y\"]}\n,{\"user\":\"b\\\"\",\"tags\":[]}\n]\n",
            ),
            (
                Formatter::Csv,
                true,
                "\"user\",\"tags\"\n\"a\",\"[x, y]\"\n\"b\"\"\",\"[]\"\n",
            ),
            (
                Formatter::Pretty,
                true,
                "┌──────┬────────┐\n│ user │ tags   │\n├──────┼────────┤\n│ a    │ [x, y] │\n\
                 ├──────┼────────┤\n│ b\"   │ []     │\n└──────┴────────┘\n",
            ),
        ] {
            assert_eq!(
                write(&Output::Rows(rows()), formatter, headings, "n"),
                expected
            );
        }
    }

    #[test]
    fn nothing() {
        for (output, formatter, expected) in [
            (Output::Rows(Vec::new()), Formatter::Table, ""),
            (Output::Whole(Vec::new()), Formatter::Table, "\n"),
            (Output::Rows(Vec::new()), Formatter::Json, "[\n]\n"),
            (Output::Whole(Vec::new()), Formatter::Json, "[]\n"),
            (Output::Done, Formatter::Table, ""),
            (
                Output::Done,
                Formatter::Json,
                "{\"node\":\"n\",\"result\":\"ok\"}\n",
            ),
            (Output::Silent, Formatter::Json, ""),
        ] {
            assert_eq!(write(&output, formatter, true, "n"), expected);
        }
    }
}
